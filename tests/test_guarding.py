from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import weight_norm

from secateur.errors import ModelError
from secateur.guarding import check_values, copied, outputs, run, untouched, watched
from secateur.inputs import as_inputs


class Keeper(nn.Module):
    """Its forward keeps, counts and changes all that a forward can."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 4)
        self.norm = nn.BatchNorm1d(4)
        self.words = nn.Embedding(5, 4, max_norm=0.1)  # renormalises its own weight in forward
        self.register_buffer("mean", torch.ones(4))
        self.table: Tensor | None = None
        self.last: Tensor | None = None
        self.late: nn.Module | None = None
        self.seen: list[Any] = []
        self.counts = {"calls": 0}
        self.state = SimpleNamespace(step=0)
        self.array = np.zeros(3)
        self.plain = torch.zeros(4)

    def forward(self, x: Tensor) -> Tensor:
        x.sub_(1)
        if self.table is None:
            self.table = torch.linspace(0.5, 1.5, 4)
        h = (self.a(x) + self.words(torch.arange(len(x)) % 5)) * self.table
        self.mean.mul_(0.9).add_(0.1 * h.detach().mean(0))
        self.last, self.state.step = h, self.state.step + 1
        self.seen.append(h)
        self.counts["calls"] += 1
        self.array += 1
        self.plain.add_(1)
        with torch.no_grad():
            self.a.weight.clamp_(-0.1, 0.1)
            self.a.bias.data.mul_(2)
            self.norm.weight.data = torch.zeros(4)
        self.a.weight.requires_grad_(False)
        if self.late is None:
            self.late = nn.Linear(4, 4)
        self.register_forward_hook(lambda *_: None)
        random.random(), np.random.rand(), torch.rand(1)
        return self.norm(self.late(h))


def picture(network: Keeper) -> dict[str, Any]:
    """Everything about a Keeper that its forward changes, as values that compare."""
    return {
        "state": {name: each.tolist() for name, each in network.state_dict().items()},
        "attributes": {name: each for name, each in vars(network).items() if not name.startswith("_")
                       and isinstance(each, (bool, type(None)))},
        "names": list(vars(network)),
        "modules": list(network._modules),
        "kept": (list(network.seen), dict(network.counts), network.state.step, network.array.tolist(),
                 network.plain.tolist()),
        "flags": [each.requires_grad for each in network.parameters()],
        "grads": [None if each.grad is None else each.grad.tolist() for each in network.parameters()],
        "modes": [each.training for each in network.modules()],
        "hooks": len(network._forward_hooks),
        "random": (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()),  # type: ignore[index]
        "identities": [id(each) for each in network.parameters()],
    }  # fmt: skip


def fails(network: Keeper, x: Tensor) -> None:
    run(network, as_inputs(x, network))
    raise KeyboardInterrupt


@pytest.mark.parametrize("guard", [watched, untouched])
def test_a_network_is_as_it_was_whatever_its_forward_keeps(guard: Callable[[nn.Module], Any]) -> None:
    network, x = Keeper(), torch.randn(3, 6)
    network.a.weight.grad = torch.ones(4, 6)
    network.norm.eval()
    before, given = picture(network), x.clone()
    with guard(network):
        run(network, as_inputs(x, network))
        run(network, as_inputs(x, network))
        assert network.counts["calls"] == 2
        assert network.a.weight.grad is None
    assert picture(network) == before
    with pytest.raises(KeyboardInterrupt), guard(network):
        fails(network, x)
    assert picture(network) == before
    assert torch.equal(x, given)


def test_what_ran_under_guard_can_be_trained() -> None:
    network, x = Keeper(), torch.randn(3, 6)
    with torch.inference_mode(), watched(network):  # a caller's own inference mode
        run(network, as_inputs(x, network))
        assert network.table is not None
        assert not network.table.is_inference()
    network(x.clone()).sum().backward()
    assert network.words.weight.grad is not None


def test_outputs_are_those_of_evaluation_mode_in_order() -> None:
    class Several(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x: Tensor) -> dict[str, Any]:
            return {"a": self.drop(x), "b": [x + 1, None]}

    first, second = outputs(Several(), as_inputs(torch.ones(2, 3), nn.Identity()))
    assert torch.equal(first, torch.ones(2, 3))
    assert torch.equal(second, torch.full((2, 3), 2.0))


def test_what_a_forward_raises_becomes_one_line() -> None:
    network = nn.Sequential(nn.Linear(3, 2))
    with pytest.raises(ModelError, match=r"^Sequential fails on inputs of shape \(2, 4\): mat1 and mat2 .*$"):
        outputs(network, as_inputs(torch.ones(2, 4), network))


def test_parameters_without_values_are_refused() -> None:
    with torch.device("meta"):
        meta = nn.Linear(2, 2)
    with pytest.raises(ModelError, match="'weight' is on the meta device"):
        check_values(meta)
    with pytest.raises(ModelError, match="'weight' is lazy"), watched(nn.LazyLinear(2)):
        pass


def test_a_network_that_holds_results_can_be_copied() -> None:
    network = Keeper()
    network(torch.randn(3, 6))
    assert network.last is not None
    assert not network.last.is_leaf
    twin = copied(network)
    assert isinstance(twin, Keeper)
    assert twin.last is not None
    assert torch.equal(twin.last, network.last)
    assert twin.a.weight is not network.a.weight
    with pytest.warns(FutureWarning, match="weight_norm"):
        old = weight_norm(nn.Linear(3, 3))
    old(torch.ones(1, 3))
    assert torch.equal(copied(old).state_dict()["weight_v"], old.state_dict()["weight_v"])
    network.seen = iter([])  # type: ignore[assignment]
    network.table = (x for x in "abc")  # type: ignore[assignment]
    with pytest.raises(ModelError, match="Keeper cannot be copied: cannot pickle 'generator' object"):
        copied(network)


def test_parameters_spread_over_processes_are_refused() -> None:
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    try:
        network = nn.Sequential(nn.Linear(4, 2))
        fully_shard(network, mesh=init_device_mesh("cpu", (1,)))
        with pytest.raises(
            ModelError, match=r"'0.weight' is spread over processes .*: take a network that holds it whole"
        ):
            check_values(network)
    finally:
        dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("make", [torch.jit.script, nn.DataParallel, torch.optim.swa_utils.AveragedModel])
def test_wrapped_networks_are_run_and_left_as_they_were(make: Callable[[nn.Module], nn.Module]) -> None:
    plain = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4))
    network, x = make(plain), torch.randn(4, 6)
    before = {name: each.clone() for name, each in network.state_dict().items()}
    (found,) = outputs(network, as_inputs(x, network))
    plain.eval()
    torch.testing.assert_close(found, plain(x))
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
