"""Layers refitted by themselves: what they become, which ones, and that zeros and the dense network stay."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import secateur
from secateur.errors import PruneError, UsageError
from secateur.pruning.reconstruction import reconstruct
from secateur.pruning.refitting import Refits

NAMES = ("first", "second", "third", "last")


class Layers(nn.Module):
    """A grouped convolution, and linear layers, of which one runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, groups=3)
        self.second = nn.Linear(6 * 16, 20)
        self.third = nn.Linear(20, 20, bias=False)
        self.last = nn.Linear(20, 5)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.second(self.first(x).relu().flatten(1)).relu()
        found: Tensor = self.last(self.third(self.third(hidden).relu()))
        return found


@pytest.fixture
def dense() -> Layers:
    torch.manual_seed(0)
    return Layers().eval()


@pytest.fixture
def batches() -> list[Tensor]:
    torch.manual_seed(1)
    mixed = torch.randn(3, 3)
    return [torch.einsum("nchw,cd->ndhw", torch.randn(40, 3, 6, 6), mixed) for _ in range(4)]


@pytest.mark.parametrize("name", ["first", "second", "last"])
def test_a_layer_that_is_pruned_alone_becomes_what_reconstruction_makes_of_it(
    name: str, dense: Layers, batches: list[Tensor]
) -> None:
    pruned = copy.deepcopy(dense)
    weight = pruned.get_parameter(f"{name}.weight")
    with torch.no_grad():
        weight[weight.abs() < weight.abs().median()] = 0
    cut, expected = copy.deepcopy(pruned), copy.deepcopy(pruned)
    reconstruct(expected, dense, batches)
    Refits(dense, NAMES, batches).refit(pruned)
    for key, value in pruned.state_dict().items():
        torch.testing.assert_close(value, (expected if key.startswith(name) else cut).state_dict()[key],
                                   rtol=1e-3, atol=1e-4)  # fmt: skip
    assert torch.equal(weight == 0, cut.get_parameter(f"{name}.weight") == 0)


def test_networks_come_closer_and_those_with_the_same_zeros_are_the_same(dense: Layers, batches: list[Tensor]) -> None:
    refits, found = Refits(dense, NAMES, batches), []
    before = {name: each.clone() for name, each in dense.state_dict().items()}
    for _ in range(2):
        pruned = copy.deepcopy(dense)
        secateur.prune(pruned, 0.5, keep_output=False, example=batches[0])
        cut = (pruned(batches[0]) - dense(batches[0])).square().mean()
        refits.refit(pruned)
        assert (pruned(batches[0]) - dense(batches[0])).square().mean() < cut
        assert secateur.sparsity(pruned) == pytest.approx(0.5, abs=0.01)
        found.append(pruned.state_dict())
    assert all(torch.equal(each, found[1][name]) for name, each in found[0].items())
    assert all(torch.equal(each, before[name]) for name, each in dense.state_dict().items())


def test_a_shared_weight_and_an_embedding_stay_as_they_are() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Embedding(30, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 30, bias=False)).eval()
    network[2].weight = network[1].weight
    network[3].weight = network[0].weight
    pruned = copy.deepcopy(network)
    with torch.no_grad():
        for weight in (pruned.get_parameter("1.weight"), pruned.get_parameter("0.weight")):
            weight[weight.abs() < weight.abs().median()] = 0
    cut = copy.deepcopy(pruned)
    Refits(network, ["0", "1", "2", "3"], [torch.arange(30)[None]]).refit(pruned)
    assert all(torch.equal(each, cut.state_dict()[name]) for name, each in pruned.state_dict().items())


def test_no_inputs_are_refused(dense: Layers) -> None:
    with pytest.raises(UsageError, match="expected at least one batch"):
        Refits(dense, NAMES, [])


def test_a_layer_that_reconstruction_refuses_is_refused_alike() -> None:
    network = nn.Sequential(nn.Linear(16_400, 2), nn.Linear(2, 2)).eval()
    with pytest.raises(PruneError, match=r"layer '0': expected .* at most 16384 inputs .*exclude"):
        Refits(network, ["0", "1"], [torch.randn(3, 16_400)])
    Refits(network, ["1"], [torch.randn(3, 16_400)])


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e15])
def test_inputs_of_any_size_refit_alike(scale: float) -> None:
    torch.manual_seed(0)
    network = nn.Linear(30, 5, bias=False).eval()
    given = torch.randn(200, 30) @ torch.randn(30, 30)
    pruned = copy.deepcopy(network)
    with torch.no_grad():
        pruned.weight[:, ::2] = 0
    expected = copy.deepcopy(pruned)
    Refits(network, [""], [given]).refit(expected)
    Refits(network.double(), [""], [given.double() * scale]).refit(pruned.double())
    torch.testing.assert_close(pruned.weight.float(), expected.weight, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sums_of_half_precision_are_exact_enough(dtype: torch.dtype) -> None:
    """Of large numbers: their products are beyond float16, and rounded they are no sums of squares."""
    torch.manual_seed(0)
    network = nn.Linear(64, 8).eval()
    given = 300 * torch.randn(2000, 3) @ torch.randn(3, 64)
    pruned = copy.deepcopy(network)
    with torch.no_grad():
        pruned.weight[pruned.weight.abs() < 0.06] = 0
    half = copy.deepcopy(pruned).to(dtype)
    reconstruct(half, copy.deepcopy(network).to(dtype), [given.to(dtype)])
    Refits(copy.deepcopy(network).to(dtype), [""], [given.to(dtype)]).refit(pruned.to(dtype))
    for found in (half, pruned):
        apart = (found.float()(given) - network(given)).square().mean()
        assert apart < 0.01 * network(given).square().mean()
