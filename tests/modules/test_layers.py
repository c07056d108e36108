from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import secateur
from samples import Backwards, Tied
from secateur.modules.layers import evaluating, executed_layers, weighted_layers


def test_layers_come_in_the_order_in_which_they_ran() -> None:
    executed = executed_layers(Backwards(), torch.zeros(3, 1, 10, 10))
    assert [(each.name, each.uses) for each in executed] == [("body", 64), ("again", 2), ("head", 1)]


def test_tied_layers_count_as_one_that_runs_twice() -> None:
    assert list(weighted_layers(Tied())) == ["first", "out"]
    executed = executed_layers(Tied(), torch.zeros(5, 6))
    assert [(each.name, each.uses) for each in executed] == [("first", 2), ("out", 1)]


def test_uses_of_transposed_and_grouped_convolutions_and_token_wise_layers() -> None:
    network = nn.Sequential(
        nn.ConvTranspose2d(2, 4, 2, stride=2), nn.Conv2d(4, 8, 3, groups=2, padding=1), nn.Linear(6, 5)
    )
    executed = executed_layers(network, torch.zeros(2, 2, 3, 3))
    # 9 input positions, 36 output positions, 8 × 6 rows
    assert [each.uses for each in executed] == [9, 36, 48]


def test_evaluating_gives_every_module_its_mode_back() -> None:
    network = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout())
    network[0].eval()
    with evaluating(network):
        assert not any(module.training for module in network.modules())
    assert [module.training for module in network.modules()] == [True, False, True]


@pytest.mark.filterwarnings("ignore:Initializing zero-element:UserWarning")
@pytest.mark.parametrize("pattern", ["unstructured", "1x4", "2:4", "filter-l1"])
def test_a_layer_of_no_outputs_is_nobodys_concern(pattern: str) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4), nn.Linear(4, 0))
    x = torch.randn(2, 8)
    assert [each.name for each in executed_layers(network, x)] == ["0", "2"]
    log = secateur.prune(network, 0.5, pattern=pattern, example=x)
    assert (dict(log.kept), dict(log.total)) == ({"0": 32}, {"0": 64})
    secateur.repair(network, "reconstruct", [(x, torch.zeros(2, 0))], dense=copy.deepcopy(network))
    assert secateur.sparsity(network) == pytest.approx(32 / 96)
