"""Distillation against what it promises: nearer to the dense network than before, zeros held, all else as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree

from samples import Keeping, Plain, Tied
from secateur.errors import PruneError, UsageError
from secateur.pruning.distillation import apart, course, distill
from secateur.pruning.pruning import prune, zero_counts
from secateur.pruning.repairing import Shown, repair
from secateur.support.progress import SilentReporter
from secateur.training.data import Calibration, load_data


class Two(nn.Module):
    """Two inputs by name; a dictionary of a regression, a map with a hole, and whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.told = nn.Conv2d(1, 8, 3, padding=1), nn.Linear(4, 8)
        self.norm, self.drop, self.value = nn.BatchNorm2d(8), nn.Dropout(0.5), nn.Linear(8, 1)

    def forward(self, image: Tensor, facts: Tensor) -> dict[str, Any]:
        x = torch.relu_(self.norm(self.seen(image)) + self.told(facts)[..., None, None])
        value = self.value(self.drop(x.mean((2, 3))))
        return {"value": value, "maps": (x.masked_fill(torch.eye(8).bool(), -torch.inf), 1), "which": value.argmax(1)}


def images(count: int = 200) -> Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(count))


def facts(count: int = 200) -> Tensor:
    return torch.rand(count, 4, generator=torch.Generator().manual_seed(count))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "keeps and changes what it is given": (Keeping, images()),
    "tied": (Tied, facts().repeat(1, 2)[:, :6]),
    "two inputs, many outputs": (Two, {"facts": facts(), "image": images()}),
    "recurrent": (lambda: nn.LSTM(4, 8, batch_first=True), facts().view(20, 10, 4)),
    "attention": (lambda: nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), facts().view(20, 10, 4)),
    "weight norm": (
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 16)), nn.ReLU(), nn.Linear(16, 3)),
        facts(),
    ),
    "sixteen bits": (
        lambda: nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 3)).bfloat16(),
        facts().bfloat16(),
    ),
    "complex": (lambda: nn.Linear(4, 16, dtype=torch.complex64), torch.complex(facts(), facts().flip(0))),
    "learns nothing": (lambda: Plain().requires_grad_(False), images()),
}


def numbers(network: nn.Module, given: Any) -> list[Tensor]:
    """What a network gives in evaluation mode, as finite real numbers."""
    network, given = copy.deepcopy(network).eval(), copy.deepcopy(given)
    with torch.no_grad():
        out = network(**given) if isinstance(given, dict) else network(given)
    leaves = [each for each in _pytree.tree_leaves(out) if isinstance(each, Tensor) and each.dtype != torch.int64]
    return [(torch.view_as_real(each) if each.is_complex() else each).float().nan_to_num(neginf=0.0) for each in leaves]


def error(network: nn.Module, dense: nn.Module, given: Any) -> float:
    pairs = zip(numbers(network, given), numbers(dense, given), strict=True)
    return sum(float((one - other).square().mean() / other.var()) for one, other in pairs)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_comes_nearer_to_the_dense_one_and_nothing_else_of_it_changes(name: str) -> None:
    make, given = NETWORKS[name]
    torch.manual_seed(0)
    dense = make().train()
    network = copy.deepcopy(dense)
    prune(network, 0.6, example=given, keep_output=False)
    zeros, buffers = zero_counts(network), {name: each.clone() for name, each in network.named_buffers()}
    learning = [each.requires_grad for each in network.parameters()]
    before, whole = error(network, dense, given), copy.deepcopy(dense.state_dict())
    state = torch.get_rng_state()
    distill(network, dense, [given], steps=30, rate=1e-2)
    assert error(network, dense, given) < 0.7 * before
    assert zero_counts(network) == zeros
    assert torch.equal(torch.get_rng_state(), state)
    for key, each in network.named_buffers():
        assert torch.equal(each, buffers[key]), key
    assert [each.requires_grad for each in network.parameters()] == learning
    assert all(each.grad is None for each in network.parameters())
    assert all(module.training and not module._forward_hooks for module in network.modules())
    assert all(torch.equal(value, dense.state_dict()[key]) for key, value in whole.items())


def test_repairs_by_weight_normalisation_and_include_hold_the_zeros() -> None:
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Embedding(30, 8), nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(24, 5)))
    network, words = copy.deepcopy(dense), torch.randint(0, 30, (100, 3))
    prune(network, 0.5, include=["0"], keep_output=False)
    zeros, before = zero_counts(network, include=["0"]), error(network, dense, words)
    repair(network, "reconstruct+distill", [(words, None)], dense, include=["0"])
    assert zero_counts(network, include=["0"]) == zeros
    assert error(network, dense, words) < 0.7 * before
    assert list(network.state_dict()) == list(dense.state_dict())


def test_the_same_images_give_the_same_weights_and_each_turn_shows_them_otherwise() -> None:
    data = load_data("digits")
    calibration = Calibration(data, 100, 3, augment="crop-flip")
    first, again, other = (torch.cat([x for x, _ in calibration.augmented(turn)]) for turn in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    found: list[dict[str, Tensor]] = []
    for _ in range(2):
        torch.manual_seed(0)
        dense = Plain()
        network = copy.deepcopy(dense)
        prune(network, 0.7)
        torch.rand(len(found) + 1)  # what else is drawn does not count
        distill(network, dense, Shown(network, calibration, augmented=True), steps=15)
        found.append(network.state_dict())
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_apart_is_the_squared_error_over_the_variance_of_what_is_known() -> None:
    wanted = torch.tensor([1.0, 3.0, -torch.inf, 5.0, 7.0])
    found = torch.tensor([2.0, 3.0, 9.0, 5.0, 5.0], requires_grad=True)
    loss = apart(found, wanted)
    assert float(loss.detach()) == pytest.approx(((1 + 4) / 4) / 5)
    loss.backward()  # type: ignore[no-untyped-call]
    assert found.grad is not None
    torch.testing.assert_close(found.grad, torch.tensor([2.0, 0, 0, 0, -4]) / 4 / 5)
    assert float(apart(torch.tensor([2.0, 4.0]), torch.tensor([3.0, 3.0]))) == 1.0


def test_the_rate_rises_in_a_line_and_falls_as_a_cosine() -> None:
    rates = [course(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 5)
    assert max(rates) == pytest.approx(rates[4])
    assert rates[50] == pytest.approx(0.5)
    assert rates[99] < 1e-3


class Saying(SilentReporter):
    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def say(self, line: str, *, loud: bool = False) -> None:
        self._lines.append(line)


def test_what_cannot_be_distilled_is_said_and_stays_as_it_was() -> None:
    torch.manual_seed(0)
    dense = Plain()
    network = copy.deepcopy(dense)
    prune(network, 0.5)
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(UsageError, match="distillation: expected at least one batch of calibration images, got none"):
        distill(network, dense, [])
    with pytest.raises(PruneError, match="distillation: the distance of Plain from the dense network is not a number"):
        distill(network, dense, [torch.full((4, 1, 8, 8), torch.nan)])
    said: list[str] = []
    distill(network, dense, [images(20)], steps=20, rate=1e6, reporter=Saying(said))
    assert said == ["distilling brought the network no nearer to the dense one: it stays as it was before that"]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_rate_that_leads_away_is_followed_by_a_tenth_of_it() -> None:
    torch.manual_seed(0)
    dense = Plain()
    network = copy.deepcopy(dense)
    prune(network, 0.5)
    slower = copy.deepcopy(network)
    distill(network, dense, [images(20)], steps=30, rate=0.1)
    distill(slower, dense, [images(20)], steps=30, rate=0.01)
    torch.testing.assert_close(network.state_dict(), slower.state_dict(), rtol=0, atol=0)


def test_a_network_that_hides_its_weights_from_autograd_is_refused() -> None:
    class Hiding(Plain):
        @torch.no_grad()
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)

    dense = Hiding()
    network = copy.deepcopy(dense)
    prune(network, 0.5, keep_output="out")
    with pytest.raises(PruneError, match="Hiding cannot be trained in evaluation mode: element 0 of tensors does not"):
        distill(network, dense, [images(20)])
