"""Channels lie in another order: the network computes the same, and blocks of 1×4 keep more of it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import secateur
from networks import make_example, make_network, run_network
from secateur.errors import ModelError
from secateur.modules.layers import weight_of, weighted_layers


def with_lively_channels(network: nn.Module, seed: int = 0) -> nn.Module:
    """Some inputs of each layer matter much more than others."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in weighted_layers(network).values():
            weight = weight_of(layer)
            scale = torch.exp(torch.randn(weight.shape[1], generator=generator))
            weight *= scale.view(1, -1, *[1] * (weight.dim() - 2))
    return network


def kept(network: nn.Module, ratio: float) -> float:
    """What blocks of 1×4 leave of the sum of all magnitudes."""
    cut = copy.deepcopy(network)
    secateur.prune(cut, ratio, pattern="1x4")
    return sum(float(weight_of(layer).abs().sum()) for layer in weighted_layers(cut).values())


@pytest.mark.parametrize(("name", "scope"), [("vgg", "global"), ("mobilenet-v3", "layer"), ("resnext", "layer")])
def test_an_arranged_network_computes_the_same_and_its_blocks_keep_more(name: str, scope: str) -> None:
    network = with_lively_channels(make_network(name))
    x = make_example(name)
    before, expected, state = kept(network, 0.8), run_network(network, x), copy.deepcopy(network.state_dict())
    gain = secateur.arrange(network, x, 0.8, scope=scope)
    found = run_network(network, x)
    assert float((found - expected).abs().max()) <= 1e-4 * float(expected.abs().max())
    assert kept(network, 0.8) > 1.01 * before
    assert gain.after < gain.before
    for entry, tensor in network.state_dict().items():  # only the order is another
        assert torch.equal(tensor.flatten().sort().values, state[entry].flatten().sort().values)


class Heads(nn.Module):
    """A second head that only training uses."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.other = nn.Linear(6, 16), nn.Linear(16, 4), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.first(x))
        return self.second(hidden) + (self.other(hidden) if self.training else 0)


def test_a_network_whose_training_reads_more_is_refused_and_left_alone() -> None:
    network = Heads().eval()
    state = copy.deepcopy(network.state_dict())
    with pytest.raises(ModelError, match=r"parameter 'other\.weight' is not used as it is in evaluation mode"):
        secateur.arrange(network, torch.randn(2, 6), 0.5)
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
