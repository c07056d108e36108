"""Tokens, masks, states and lengths: what PyTorch computes, a packed network does, called as forward is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur
from secateur.errors import SecateurError
from secateur.importing.aten import to_graph
from secateur.network.graph import Graph
from secateur.network.simplification import simplify
from secateur.runtime import Session


class Written(nn.Module):
    def __init__(self, function: Callable[..., Any], *modules: nn.Module) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(modules)

    def forward(self, x: Tensor, *others: Tensor) -> Any:
        return self.function(x, *others, *self.layers)


def tensors(value: Any) -> Iterator[Any]:
    """Whatever is in containers, in order."""
    held = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else [value]
    for each in held:
        yield from tensors(each) if isinstance(each, (dict, tuple, list)) else [each]


def agrees(graph: Graph, network: nn.Module, *inputs: Tensor, **named: Tensor) -> None:
    found = Session(graph, calibrate=False)(
        *(each.numpy() for each in inputs), **{name: each.numpy() for name, each in named.items()}
    )
    with torch.no_grad():
        expected = list(tensors(network(*inputs, **named)))
    for made, wanted in zip(tensors(found), expected, strict=True):
        assert made.shape == wanted.shape
        np.testing.assert_allclose(made, wanted.numpy(), rtol=1e-4, atol=1e-5)


def states(x: Tensor, h: Tensor, c: Tensor, lstm: nn.Module) -> Any:
    made, last = lstm(x, (h, c))
    return {"steps": made, "last": last}


FLOATS: dict[str, tuple[nn.Module, tuple[tuple[int, ...], ...]]] = {
    "an LSTM in both directions": (
        Written(lambda x, rnn: rnn(x)[0][:, -1], nn.LSTM(4, 6, 2, batch_first=True, bidirectional=True)),
        ((3, 5, 4),),
    ),
    "a GRU with the sequence first inside": (
        Written(lambda x, rnn: rnn(x.transpose(0, 1)), nn.GRU(4, 6)),
        ((3, 5, 4),),
    ),
    "an RNN without biases": (
        Written(lambda x, rnn: rnn(x)[1], nn.RNN(4, 6, bias=False, nonlinearity="relu", batch_first=True)),
        ((2, 5, 4),),
    ),
    "an LSTM that projects its state": (
        Written(lambda x, rnn: rnn(x), nn.LSTM(4, 6, 2, batch_first=True, bidirectional=True, proj_size=3)),
        ((3, 2, 4),),
    ),
    "an LSTM that projects states that are given": (
        Written(states, nn.LSTM(4, 6, bias=False, batch_first=True, proj_size=2)),
        ((3, 2, 4), (1, 3, 2), (1, 3, 6)),
    ),
    "states that are given": (Written(states, nn.LSTM(4, 6, 2, batch_first=True)), ((3, 5, 4), (2, 3, 6), (2, 3, 6))),
    "rows folded into the batch": (
        Written(lambda x, rnn: rnn(x.flatten(0, 1))[0].unflatten(0, x.shape[:2]), nn.GRU(4, 3, batch_first=True)),
        ((2, 3, 5, 4),),
    ),
    "cells": (Written(lambda x, one, other: other(one(x)[0]), nn.LSTMCell(4, 6), nn.GRUCell(6, 3)), ((3, 4),)),
    "attention over fewer heads of keys": (
        Written(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3, enable_gqa=True)),
        ((2, 4, 5, 6), (2, 2, 5, 6), (2, 2, 5, 3)),
    ),
    "attention without heads, a mask added": (
        Written(lambda x, mask: F.scaled_dot_product_attention(x, x, x, attn_mask=mask)),
        ((2, 5, 6), (2, 5, 5)),
    ),
    "an encoder and a decoder": (
        Written(
            lambda x, y, net: net(x, y, tgt_mask=net.generate_square_subsequent_mask(y.shape[1]), tgt_is_causal=True),
            nn.Transformer(8, 2, 1, 1, 16, batch_first=True),
        ),
        ((2, 5, 8), (2, 3, 8)),
    ),
    "comparisons and choices": (
        Written(
            lambda x: torch.where((x > 0.2) & ~(x >= 1) | (x == x.round()), x.floor(), x.masked_fill(x < -0.5, 3.0))
        ),
        ((2, 3, 4),),
    ),
    "numbers rounded and divided": (
        Written(lambda x: torch.div(x, x * x + 1, rounding_mode="floor") + (x * 5) // 2 + (x * 5) % 3 + x.sign()),
        ((2, 3, 4),),
    ),
    "running sums and differences": (Written(lambda x: x.cumsum(1)[:, 1:] * x.diff(dim=1)), ((2, 4, 3),)),
    "triangles": (Written(lambda x: x.triu(1) - x.tril(-1)), ((2, 3, 4),)),
    "rows of all images": (Written(lambda x: x.reshape(-1, 4)), ((2, 3, 4),)),
    "the batch moved": (Written(lambda x: x.permute(1, 0, 2)), ((2, 3, 4),)),
}


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("case", FLOATS)
def test_a_network_of_sequences_computes_what_pytorch_does(case: str) -> None:
    network, shapes = FLOATS[case]
    inputs = [torch.randn(shape) for shape in shapes]
    agrees(simplify(to_graph(network.eval(), tuple(inputs))), network, *inputs)


TOKENS: dict[str, Callable[..., Any]] = {
    "numbers of images": lambda ids, table: table(ids)[torch.arange(len(ids)), ids.argmax(1)],
    "the last that is no padding": lambda ids, table: table(ids)[
        torch.arange(ids.shape[0]), (ids != 3).int().cumsum(1).argmax(-1)
    ],
    "constant places": lambda ids, table: (
        table(ids)[:, [0, -1, 2]] + table(ids).index_select(1, torch.tensor([1, 1, 0]))
    ),
    "gathered numbers": lambda ids, table: table(ids).gather(1, (ids % 4)[:, :, None].expand(-1, -1, 5)),
    "truth as numbers": lambda ids, table: ((ids > 2).float() @ table.weight[:6], (ids == 1).any(1), ids + 1),
}


@pytest.mark.parametrize("case", TOKENS)
def test_whole_numbers_are_looked_up_and_compared_as_pytorch_does(case: str) -> None:
    network, ids = Written(TOKENS[case], nn.Embedding(9, 5)).eval(), torch.randint(0, 9, (3, 6))
    agrees(simplify(to_graph(network, ids)), network, ids)


class Classifier(nn.Module):
    """Tokens and places embedded, a layer of attention with what is padding masked, and the mean of the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(9, 8), nn.Embedding(12, 8)
        self.layer, self.head = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Linear(8, 3)
        self.register_buffer("ids", torch.arange(12)[None])

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, hidden: bool = False) -> Any:
        assert attention_mask is not None
        x = self.tokens(input_ids) + self.places(self.ids[:, : input_ids.shape[1]])  # type: ignore[index]
        x = self.layer(x, src_key_padding_mask=attention_mask == 0)
        kept = attention_mask.unsqueeze(-1).float()
        return {"logits": self.head((x * kept).sum(1) / kept.sum(1)), "loss": None}


def sentences(count: int, length: int) -> dict[str, Tensor]:
    mask = torch.ones(count, length, dtype=torch.int64)
    mask[0, length // 2 :] = 0
    return {"input_ids": torch.randint(0, 9, (count, length)), "attention_mask": mask}


def test_a_packed_network_of_tokens_is_called_by_name_at_any_length(tmp_path: Path) -> None:
    network = Classifier().eval()
    secateur.pack(network, tmp_path / "net", example=sentences(2, 7), dynamic="length")
    packed = secateur.load(tmp_path / "net", calibrate=False)
    for count, length in ((1, 5), (3, 12)):
        given = sentences(count, length)
        found = packed(**{name: each.numpy() for name, each in given.items()})
        assert list(found) == ["logits", "loss"]
        assert found["loss"] is None
        np.testing.assert_allclose(found["logits"], network(**given)["logits"].detach(), rtol=1e-4, atol=1e-5)
    with pytest.raises(SecateurError, match="length 13: expected 12 at most"):
        packed(**{name: each.numpy() for name, each in sentences(1, 13).items()})
    with pytest.raises(SecateurError, match="input 'attention_mask' is missing: expected input_ids, attention_mask"):
        packed(input_ids=given["input_ids"].numpy())


def test_a_network_for_one_batch_size_is_packed_for_that(tmp_path: Path) -> None:
    network, x = (
        Written(lambda x, fc: fc(x.reshape(3, -1, 4)).sum(1) / len(x), nn.Linear(4, 2)).eval(),
        torch.randn(3, 2, 4),
    )
    secateur.pack(network, tmp_path / "net", example=x)
    packed = secateur.load(tmp_path / "net")
    np.testing.assert_allclose(packed(x.numpy()), network(x).detach(), rtol=1e-5, atol=1e-6)
    with pytest.raises(SecateurError, match="2 images: expected 3, as the network was packed for batches of that size"):
        packed(x.numpy()[:2])


@pytest.mark.parametrize(
    ("dynamic", "message"),
    [
        ({"x": {3: "length"}}, "dynamic: 'x' has no dimension 3"),
        ({"y": {1: "length"}}, "dynamic: 'y': expected one of the inputs x"),
        ("length", "dynamic: no input of whole numbers has a second dimension"),
    ],
)
def test_dimensions_that_an_input_has_not_are_refused(dynamic: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(SecateurError, match=message):
        secateur.pack(Written(lambda x: x + 1), tmp_path / "net", example=torch.randn(2, 3, 4), dynamic=dynamic)


def test_the_batch_may_be_said_to_stand_elsewhere(tmp_path: Path) -> None:
    network, x = nn.LSTM(4, 3), torch.randn(5, 2, 4)
    secateur.pack(network, tmp_path / "net", example=x, dynamic={"input": {1: "batch"}})
    x = torch.randn(5, 4, 4)
    found, (last, _) = secateur.load(tmp_path / "net")(x.numpy())
    expected, (state, _) = network(x)
    np.testing.assert_allclose(found, expected.detach(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(last, state.detach(), rtol=1e-4, atol=1e-5)


def test_what_a_recurrent_layer_cannot_be_is_refused_in_one_line() -> None:
    network = nn.LSTM(4, 6, proj_size=2, batch_first=True)
    with pytest.raises(SecateurError, match=r"lstm .* along a length"):
        to_graph(network, torch.randn(2, 5, 4), sizes={"input": ("batch", "length", 4)})
