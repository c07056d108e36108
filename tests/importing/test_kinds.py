from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from secateur.importing.aten.kinds import kind_of
from secateur.pruning.pruning import prune


class Config:
    def __init__(self, slope: float) -> None:
        self.slope = slope


class Network(nn.Module):
    mask: Tensor

    def __init__(self, slope: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 4), nn.LayerNorm(4, eps=eps)
        self.config, self.table, self.numbers = Config(slope), [torch.ones(2)], np.ones(3)
        self.function = lambda x: x * slope
        self.register_buffer("mask", torch.ones(4), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_networks_that_differ_in_their_weights_alone_are_of_one_kind() -> None:
    network = Network()
    kind = kind_of(network)
    assert kind is not None
    assert kind_of(Network()) == kind
    assert kind_of(copy.deepcopy(network)) == kind
    prune(network, 0.5, keep_output=False)
    assert kind_of(network.train()) == kind


def change(network: Network, name: str) -> None:
    changes: dict[str, Callable[[], object]] = {
        "an attribute of a layer": lambda: setattr(network.norm, "eps", 1e-3),
        "an object": lambda: setattr(network.config, "slope", 0.2),
        "a list": lambda: network.table.append(torch.ones(2)),
        "a tensor in a list": lambda: network.table[0].mul_(2),
        "an array": lambda: network.numbers.__setitem__(0, 2.0),
        "a function's closure": lambda: setattr(network, "function", Network(0.2).function),
        "a buffer that is not saved": lambda: network.mask.mul_(2),
        "a layer's class": lambda: setattr(network.linear, "__class__", nn.Bilinear),
        "a hook": lambda: network.linear.register_forward_hook(lambda *_: None),
        "a shape": lambda: setattr(network, "linear", nn.Linear(4, 5)),
        "weights that are tied": lambda: setattr(network.norm, "weight", network.linear.bias),
        "weights of another type": lambda: network.linear.half(),
    }
    changes[name]()


@pytest.mark.parametrize(
    "name",
    [
        *("an attribute of a layer", "an object", "a list", "a tensor in a list", "an array", "a function's closure"),
        *("a buffer that is not saved", "a layer's class", "a hook", "a shape", "weights that are tied"),
        "weights of another type",
    ],
)
def test_everything_else_makes_another_kind(name: str) -> None:
    network = Network()
    kind = kind_of(network)
    change(network, name)
    assert kind_of(network) != kind


def test_what_cannot_be_compared_has_no_kind() -> None:
    network = Network()
    network.table.append(network.linear.weight.data)  # changes with an entry, without being one
    assert kind_of(network) is None
    network = Network()
    network.config = (each for each in (1, 2))  # type: ignore[assignment]
    assert kind_of(network) is None
