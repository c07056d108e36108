from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from secateur.modules.guarding import run, watched
from secateur.modules.inputs import Inputs
from secateur.modules.layers import executed_layers, weighted_layers
from secateur.modules.uses import Use, listening, oriented
from secateur.pruning.moments import as_matrices, from_matrices, outputs_by_position, rows


class Crossed(nn.Module):
    """Attention to something else, whose keys and values are wider, or not."""

    def __init__(self, wider: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, kdim=wider, vdim=wider, batch_first=True)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        given: Tensor = self.attention(x, y, y)[0]
        return given


class Past(nn.Module):
    """Reads a layer's weight past its call, and has a matrix (inputs, outputs) of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.mix = nn.Linear(6, 5), nn.Parameter(torch.randn(5, 4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(nn.functional.linear(x, self.layer.weight, self.layer.bias)) @ self.mix


def sequence(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


LAYERS: dict[str, tuple[nn.Module, tuple[Tensor, ...]]] = {
    "lstm, two layers, both ways": (nn.LSTM(4, 3, 2, batch_first=True, bidirectional=True), (sequence(2, 5, 4),)),
    "lstm that projects": (nn.LSTM(4, 6, proj_size=3), (sequence(5, 2, 4),)),
    "gru": (nn.GRU(4, 3), (sequence(5, 2, 4),)),
    "rnn without biases": (nn.RNN(4, 3, bias=False), (sequence(5, 2, 4),)),
    "cell": (nn.GRUCell(4, 3), (sequence(2, 4),)),
    "self-attention": (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (sequence(2, 5, 8),)),
    "cross-attention": (Crossed(8), (sequence(2, 5, 8), sequence(2, 3, 8))),
    "cross-attention of other widths": (Crossed(6), (sequence(2, 5, 8), sequence(2, 3, 6))),
    "bilinear": (nn.Bilinear(3, 4, 5), (sequence(2, 7, 3), sequence(2, 7, 4))),
    "transposed, 1-d": (nn.ConvTranspose1d(4, 6, 3, 2, 1, 1, groups=2), (sequence(2, 4, 5),)),
    "transposed, 2-d": (nn.ConvTranspose2d(2, 3, (3, 2), (2, 1), dilation=(1, 2)), (sequence(2, 2, 4, 3),)),
    "transposed, 3-d": (nn.ConvTranspose3d(2, 3, 2, 2), (sequence(1, 2, 2, 3, 2),)),
    "3-d": (nn.Conv3d(4, 6, (1, 3, 2), 2, 1, groups=2), (sequence(2, 4, 3, 5, 4),)),
    "read past": (Past(), (sequence(3, 6),)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_rows_times_a_matrix_are_what_the_layer_gives(name: str) -> None:
    """Of convolutions and bilinear layers what PyTorch gave; of products every matrix is found."""
    network, given = LAYERS[name]
    matrices = oriented(network, weighted_layers(network, ["mix"]), Inputs(given))
    heard: dict[str, list[tuple[Use, Tensor, Tensor]]] = {}

    def keep(key: str, use: Use) -> None:
        heard.setdefault(key, []).append((use, torch.cat(list(rows(use)), 1), outputs_by_position(use)))

    with watched(network), listening(network, matrices, keep):
        run(network, Inputs(given))
    assert set(heard) == set(matrices)
    assert {each.name for each in executed_layers(network, given, ["mix"])} == set(matrices)
    for key, uses in heard.items():
        matrix = matrices[key]
        weight = as_matrices(matrix, matrix.weight)
        assert torch.equal(from_matrices(matrix, weight), matrix.weight)
        for use, x, y in uses:
            found = x @ weight[slice(*use.groups)].transpose(1, 2)
            if matrix.bias is not None and use.biased:
                found += matrix.bias.view(len(weight), 1, -1)[slice(*use.groups)]
            torch.testing.assert_close(found, y, atol=1e-5, rtol=1e-5)


def test_hidden_states_are_what_a_recurrent_matrix_is_given() -> None:
    network, (x,) = LAYERS["gru"]
    assert isinstance(network, nn.GRU)
    hidden, states = torch.zeros(1, 2, 3), []
    with torch.no_grad():
        for step in x:
            states.append(hidden[0])
            hidden = network(step[None], hidden)[1]
    found: dict[str, list[Tensor]] = {}
    with (
        watched(network),
        listening(network, weighted_layers(network), lambda key, use: found.setdefault(key, []).append(use.given[0])),
    ):
        run(network, Inputs((x,)))
    torch.testing.assert_close(torch.cat(found["weight_hh_l0"]), torch.cat(states))
    assert torch.equal(torch.cat(found["weight_ih_l0"]), x.flatten(0, 1))


def test_products_are_counted_as_multiply_adds_are() -> None:
    network, given = LAYERS["cross-attention"]
    counts = {each.name: each.uses * each.matrix.weight.numel() for each in executed_layers(network, given)}
    assert counts == {"attention.in_proj_weight": pytest.approx(64 * (5 + 3 + 3)), "attention.out_proj": 64 * 5}


def test_listening_leaves_attention_and_recurrent_layers_as_fast_as_they_were() -> None:
    before = torch.backends.mha.get_fastpath_enabled(), torch._C._get_mkldnn_enabled()
    network, given = LAYERS["lstm, two layers, both ways"]
    expected = copy.deepcopy(network)(*given)[0]
    executed_layers(network, given)
    assert (torch.backends.mha.get_fastpath_enabled(), torch._C._get_mkldnn_enabled()) == before
    assert torch.equal(network(*given)[0], expected)
