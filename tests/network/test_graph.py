"""A Graph that exists can be run: everything else is refused with the node and what was expected."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from secateur.errors import GraphError
from secateur.network.graph import Attribute, Graph, Node, Weight


def weight(*shape: int) -> Weight:
    return Weight.of(np.ones(shape, np.float32))


CONV = Node(
    "conv",
    "conv2d",
    ("x",),
    {"weight": "conv.weight"},
    {"stride": (2, 2), "padding": (1, 1, 1, 1), "dilation": (1, 1), "groups": 1},
    (4, 4, 3),
)
FLAT = Node("flat", "reshape", ("conv",), {}, {"shape": (48,)}, (48,))


def graph(*nodes: Node, outputs: tuple[str, ...] = ("flat",)) -> Graph:
    return Graph({"x": (3, 8, 6)}, outputs, nodes, {"conv.weight": weight(4, 3, 3, 3)})


def test_a_consistent_graph_knows_its_shapes_and_consumers() -> None:
    made = graph(CONV, FLAT)
    assert (made.shape_of("x"), made.shape_of("conv")) == ((3, 8, 6), (4, 4, 3))
    assert made.consumers() == {"x": [CONV], "conv": [FLAT], "flat": []}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"op": "conv9d"}, "unknown operation 'conv9d'"),
        ({"inputs": ("y",)}, "'y' is no value before it"),
        ({"inputs": ("x", "x")}, "expected 1 inputs, got 2"),
        ({"weights": {}}, r"expected weights \['weight'\]"),
        ({"weights": {"weight": "other"}}, "'other' is no value before it and no weight"),
        ({"attributes": {}}, "expected attributes"),
        ({"attributes": {**CONV.attributes, "stride": (0, 1)}}, "expected stride to be 2 whole numbers from 1 on"),
        ({"attributes": {**CONV.attributes, "stride": (1, 2**24 + 1)}}, "expected a stride and a dilation of at most"),
        ({"attributes": {**CONV.attributes, "dilation": (2**32, 1)}}, "expected a stride and a dilation of at most"),
        ({"attributes": {**CONV.attributes, "groups": 2}}, "expected a weight for 3 channels in 2 groups"),
        ({"attributes": {**CONV.attributes, "dilation": (9, 9)}}, "expected a window no larger than the padded input"),
        ({"shape": (4, 4, 4)}, r"its shape is given as \(4, 4, 4\) but is \(4, 4, 3\)"),
        ({"name": "x"}, "the name stands twice"),
    ],
)
def test_an_inconsistent_node_is_refused(changes: dict[str, object], text: str) -> None:
    with pytest.raises(GraphError, match=text):
        graph(dataclasses.replace(CONV, **changes), FLAT)  # type: ignore[arg-type]


def test_lost_outputs_and_unused_weights_are_refused() -> None:
    with pytest.raises(GraphError, match=r"wrong: \['nowhere'\]"):
        graph(CONV, FLAT, outputs=("nowhere",))
    with pytest.raises(GraphError, match=r"wrong: \['conv.weight'\]"):
        Graph({"x": (3,)}, ("x",), (), {"conv.weight": weight(4, 3, 3, 3)})


def test_narrow_formats_widen_exactly_and_minus_zero_is_not_zero() -> None:
    half = Weight.of(np.array([1.5, -0.0, 0.0], np.float16))
    brain = Weight("bfloat16", np.array([0x3FC0, 0x8000, 0], np.uint16))
    for narrow in (half, brain):
        assert narrow.values().tolist() == [1.5, 0.0, 0.0]
        assert np.signbit(narrow.values()).tolist() == [False, True, False]
        assert (narrow.nonzero, narrow.count) == (2, 3)
    with pytest.raises(GraphError, match="float64"):
        Weight.of(np.ones(3))


def test_padding_without_end_is_refused() -> None:
    weights = {"w": Weight.of(np.ones((1, 1, 1, 1), np.float32))}
    attributes: dict[str, Attribute] = {
        "stride": (1, 1 << 40),
        "padding": (0, 0, 0, 1 << 39),
        "dilation": (1, 1),
        "groups": 1,
    }
    node = Node("y", "conv2d", ("x",), {"weight": "w"}, attributes, (1, 4, 1))
    with pytest.raises(GraphError, match="expected padding of at most 4096"):
        Graph({"x": (1, 4, 4)}, ("y",), (node,), weights)


def test_a_number_beyond_floats_is_refused() -> None:
    for slope in (10**400, float("inf"), float("nan")):
        node = Node("y", "leaky_relu", ("x",), {}, {"negative_slope": slope}, (4,))
        with pytest.raises(GraphError, match="expected negative_slope to be a finite number"):
            Graph({"x": (4,)}, ("y",), (node,), {})
