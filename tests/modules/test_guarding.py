from __future__ import annotations

import gc
import random
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import weight_norm

from secateur.errors import ModelError
from secateur.modules.guarding import check_values, copied, outputs, run, untouched, watched
from secateur.modules.inputs import as_inputs


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


class Given(nn.Module):
    """Changes what it was given in its forward, by a function of anyone's."""

    def __init__(self, held: object, change: Callable[[Any], object]) -> None:
        super().__init__()
        self.held, self.change, self.layer = held, change, nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.change(self.held)
        return self.layer(x)


@dataclass(slots=True)
class Slots:
    count: int = 0
    last: object = None


class Fields(OrderedDict[str, int]):
    """Cannot be made without arguments, updated or copied, as the outputs of some libraries."""

    def __init__(self, note: str) -> None:
        super().__init__()
        self.note = note

    def update(self, *_: object) -> None:  # type: ignore[override]
        raise RuntimeError("no updates")

    def copy(self) -> Fields:
        raise RuntimeError("no copies")


def fill(fields: Fields) -> None:
    fields["a"], fields.note = 1, "changed"


def count_up(slots: Slots) -> None:
    slots.count, slots.last = slots.count + 1, torch.ones(1)


HELD: dict[str, tuple[Callable[[], Any], Callable[[Any], object], Callable[[Any], object]]] = {
    "a generator of PyTorch's": (
        lambda: torch.Generator().manual_seed(3),
        lambda held: torch.rand(1, generator=held),
        lambda held: held.get_state().tolist(),
    ),
    "a generator of Python's": (lambda: random.Random(3), random.Random.random, random.Random.getstate),
    "a generator of NumPy's": (
        lambda: np.random.default_rng(3),
        lambda held: held.random(),
        lambda held: repr(held.bit_generator.state),
    ),
    "an old generator of NumPy's": (
        lambda: np.random.RandomState(3),
        lambda held: held.rand(),
        lambda held: repr(held.get_state()),
    ),
    "an object with slots": (Slots, count_up, lambda held: (held.count, held.last)),
    "a mapping of a class of its own": (
        lambda: Fields("new"),
        fill,
        lambda held: (list(held.items()), held.note),
    ),
    "bytes": (lambda: bytearray(b"ab"), lambda held: held.append(1), bytes),
    "an order": (
        lambda: OrderedDict(a=1, b=2),
        lambda held: held.move_to_end("a"),
        list,
    ),
    "of a thread": (threading.local, lambda held: setattr(held, "x", 1), lambda held: dict(vars(held))),
}


@pytest.mark.parametrize("what", HELD)
def test_whatever_a_network_holds_is_as_it_was(what: str) -> None:
    make, change, look = HELD[what]
    held = make()
    network, before = Given(held, change), look(held)
    with watched(network):
        run(network, as_inputs(torch.ones(2, 3), network))
        assert look(held) != before
    assert look(held) == before
    assert network.held is held


def resized(network: nn.Module) -> None:
    network.get_buffer("table").resize_(9).fill_(2)


def hooked(network: nn.Module) -> None:
    network.get_parameter("weight").register_hook(lambda gradient: gradient)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("change", [resized, hooked])
def test_buffers_that_grow_and_hooks_on_parameters_are_taken_back(change: Callable[[nn.Module], None]) -> None:
    network = nn.Linear(2, 2)
    network.register_buffer("table", torch.zeros(0))
    network.register_forward_pre_hook(lambda module, _: change(module))
    with untouched(network):
        run(network, as_inputs(torch.ones(2, 2), network))
    assert network.get_buffer("table").shape == (0,)
    assert not network.weight._backward_hooks


ODD_BUFFERS: dict[str, Callable[[], Tensor]] = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "CSR": lambda: torch.eye(3).to_sparse_csr(),
    "expanded, NaN": lambda: torch.full((1,), float("nan")).expand(3),
    "float8": lambda: torch.zeros(3).to(torch.float8_e4m3fn),
    "conjugate": lambda: torch.ones(3, dtype=torch.complex64).conj(),
    "empty": lambda: torch.zeros(0, 3),
    "meta": lambda: torch.zeros(3, device="meta"),
}


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("kind", ODD_BUFFERS)
def test_buffers_of_every_kind_are_guarded(kind: str) -> None:
    network = nn.Linear(2, 2)
    network.register_buffer("held", ODD_BUFFERS[kind]())
    before = repr(network.get_buffer("held"))
    with watched(network):
        run(network, as_inputs(torch.ones(2, 2), network))
    assert repr(network.get_buffer("held")) == before


def test_a_buffer_of_inference_mode_that_holds_nan_is_put_back() -> None:
    network = nn.Linear(2, 2)
    with torch.inference_mode():
        network.register_buffer("held", torch.full((2,), float("nan")))

    def write(*_: object) -> None:
        with torch.inference_mode():
            network.get_buffer("held").zero_()

    network.register_forward_pre_hook(write)
    with watched(network):
        run(network, as_inputs(torch.ones(2, 2), network))
    assert network.get_buffer("held").isnan().all()


class Kind(type):
    """Its classes have no hash."""

    def __eq__(cls, other: object) -> bool:
        return cls is other


class Counter(metaclass=Kind):
    count = 0


def test_what_lies_behind_a_proxy_or_has_a_class_without_a_hash_is_guarded_too() -> None:
    helper: Any = nn.BatchNorm1d(2)
    network: Any = nn.Linear(2, 2)
    network.helper, network.counter = [weakref.proxy(helper)], Counter()
    with watched(network):
        network.helper[0].seen = 1
        network.helper[0].running_mean += 1
        network.counter.count += 1
    assert not hasattr(helper, "seen")
    assert float(helper.running_mean.sum()) == network.counter.count == 0


def test_a_class_that_was_guarded_is_not_kept() -> None:
    def guarded() -> weakref.ref[type]:
        class Passing(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return x

        with watched(Passing()):
            return weakref.ref(Passing)

    gone = guarded()
    gc.collect()
    assert gone() is None


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
