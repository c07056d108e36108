"""Patterns of zeros are recognised, and cuts take what is smallest."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.utils import prune

from secateur.network.graph import Graph, Node, Weight
from secateur.network.zeros import cut, pattern_of

Numbers = NDArray[np.float32]


def drawn(*shape: int) -> Numbers:
    return np.random.default_rng(0).standard_normal(shape, np.float32) + np.float32(9)


def without(values: Numbers, gone: NDArray[np.bool_]) -> Numbers:
    return np.where(gone, np.float32(0), values)


def words(values: Numbers) -> Numbers:
    """Of every three words of four consecutive inputs two, the last word of each output being shorter."""
    number = np.arange(values.shape[1])[None, :, None] // 4 + np.arange(len(values))[:, None, None]
    return without(values, number % 3 != 0)


@pytest.mark.parametrize(
    ("weight", "pattern"),
    [
        (drawn(8, 16), "none"),
        (np.zeros((4, 8), np.float32), "channels"),
        (without(drawn(32, 16, 9), np.random.default_rng(1).random((32, 16, 9)) < 0.5), "unstructured"),
        (without(drawn(64, 64), np.random.default_rng(1).random((64, 64)) < 0.98), "unstructured"),
        (words(drawn(16, 22, 9)), "1×4"),
        (without(drawn(8, 16), np.add.outer(np.arange(8), np.arange(16)) % 4 < 2), "2:4"),
        (without(drawn(8, 16), np.add.outer(np.arange(8), np.arange(16)) % 4 < 3), "1:4"),
        (without(drawn(8, 16, 9), (np.arange(8) % 2 == 0)[:, None, None]), "channels"),
        (without(drawn(8, 12, 9), np.arange(12)[None, :, None] < 5), "channels"),
        (without(drawn(16, 1, 9), np.random.default_rng(1).random((16, 1, 9)) < 0.5), "unstructured"),
        (without(drawn(200, 1), np.arange(200)[:, None] < 1), "none"),
        (np.zeros((0, 4), np.float32), "none"),
    ],
)
def test_the_pattern_that_zeros_lie_in_is_named(weight: Numbers, pattern: str) -> None:
    assert pattern_of(weight != 0) == pattern


def linear(weight: Numbers) -> Graph:
    outputs, inputs = weight.shape
    node = Node("fc", "linear", ("x",), {"weight": "w"}, {}, (outputs,))
    return Graph({"x": (inputs,)}, ("fc",), (node,), {"w": Weight.of(weight)})


def test_single_weights_go_as_pytorch_takes_them() -> None:
    layer = torch.nn.Linear(24, 10)
    weight = layer.weight.detach().numpy().copy()
    prune.l1_unstructured(layer, "weight", amount=0.8)  # type: ignore[no-untyped-call]
    found = cut(linear(weight), 0.8).weights["w"].values()
    np.testing.assert_array_equal(found, layer.weight.detach().numpy())


def test_whole_words_go_by_the_sum_of_their_magnitudes() -> None:
    weight = np.array([[1, -1, 1, 1, 5, 0, 0], [0, 9, 0, 0, 2, 2, 2]], np.float32)  # words of 4 and 3: 4, 5, 9, 6
    found = cut(linear(weight), 0.5, whole_words=True).weights["w"].values()
    assert found.tolist() == [[0] * 7, weight[1].tolist()]


def test_a_graph_that_is_cut_stays_as_it_was() -> None:
    graph = linear(drawn(4, 8))
    assert cut(graph, 1.0).weights["w"].nonzero == 0
    assert graph.weights["w"].nonzero == 32
