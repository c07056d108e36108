"""The float network that one in eight bits approximates, held against it and against NumPy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from secateur.errors import GraphError
from secateur.network.building import Builder
from secateur.network.dequantising import dequantised_weights, to_floats
from secateur.network.graph import Graph, Weight
from secateur.runtime import reference

NOTHING: dict[str, Any] = {"residual_scale": 1.0, "residual_zero_point": 0}


def linear(bounds: tuple[int, int], zero_point: int, *, residual: bool = False) -> Graph:
    """Of (3) to (2), quantised to a five-hundredth, so that what rounding does is little."""
    build = Builder()
    x = build.emit("quantise", build.input("x", (3,)), element="int8", scale=0.02, zero_point=-3)
    held = {
        "weight": Weight.of(np.array([[100, 0, -50], [0, 7, 127]], np.int8)),
        "scale": Weight.of(np.array([0.01, 0.02], np.float32)),
        "bias": Weight.of(np.array([1000, -2000], np.int32)),
    }
    beside: dict[str, Any] = {"residual_scale": 0.03, "residual_zero_point": 9} if residual else NOTHING
    more = []
    if residual:
        more = [build.emit("quantise", build.input("y", (2,)), element="uint8", scale=0.03, zero_point=9)]
    made = build.emit(
        "quantised_linear", x, *more, weights=held, input_scale=0.02, input_zero_point=-3, element="uint8",
        output_scale=0.02, output_zero_point=zero_point, low=bounds[0], high=bounds[1], **beside,
    )  # fmt: skip
    out = build.emit("dequantise", made, scale=0.02, zero_point=zero_point)
    return build.graph([build.emit("neg", out)])


def test_weights_keep_their_names_and_scales_are_in_them() -> None:
    graph = linear((0, 255), 0)
    made = dequantised_weights(graph)
    assert set(made) == set(to_floats(graph).weights) == {"weight", "bias"}
    np.testing.assert_allclose(made["weight"].values(), [[1.0, 0, -0.5], [0, 0.14, 2.54]], rtol=1e-6)
    np.testing.assert_allclose(made["bias"].values(), [1000 * 0.02 * 0.01, -2000 * 0.02 * 0.02], rtol=1e-6)


def test_integers_that_stand_for_different_numbers_are_not_one_weight() -> None:
    graph = linear((0, 255), 0)
    (first, layer, *_) = graph.nodes
    again = replace(layer, name="again", weights={**layer.weights, "scale": "other"})
    weights = {**graph.weights, "other": Weight.of(np.array([1, 2], np.float32))}
    two = Graph(graph.inputs, (layer.name, "again"), (first, layer, again), weights)
    with pytest.raises(GraphError, match="weight 'weight' stands for other numbers in node 'again' than before it"):
        dequantised_weights(two)
    made = to_floats(two)
    found = [made.weights[node.weights["weight"]].values() for node in made.nodes if node.op == "linear"]
    assert found[0].tolist() != found[1].tolist()


def by_hand(x: np.ndarray) -> np.ndarray:
    weight = np.array([[1.0, 0, -0.5], [0, 0.14, 2.54]])
    return x @ weight.T + np.array([1000 * 0.02 * 0.01, -2000 * 0.02 * 0.02])


@pytest.mark.parametrize(
    ("bounds", "zero_point", "low", "high"),
    [
        ((0, 255), 0, 0, np.inf),
        ((0, 60), 0, 0, 1.2),
        ((0, 255), 128, -np.inf, np.inf),
        ((128, 255), 128, 0, np.inf),
        ((100, 150), 128, -0.56, 0.44),
    ],
)
def test_a_layer_is_that_of_the_numbers_that_integers_stand_for(
    bounds: tuple[int, int], zero_point: int, low: float, high: float
) -> None:
    graph = to_floats(linear(bounds, zero_point))
    x = np.random.default_rng(0).uniform(-2, 2, (9, 3)).astype(np.float32)
    np.testing.assert_allclose(reference.run(graph, x), -np.clip(by_hand(x), low, high), rtol=1e-5, atol=1e-6)
    assert {weight.dtype for weight in graph.weights.values()} == {"float32"}
    assert not graph.quantisations


def test_a_residual_is_added_and_zeros_stay_zeros() -> None:
    graph = to_floats(linear((0, 255), 0, residual=True))
    random = np.random.default_rng(0)
    x, y = (random.uniform(-2, 2, (9, n)).astype(np.float32) for n in (3, 2))
    (found,) = reference.run_all(graph, {"x": x, "y": y})
    np.testing.assert_allclose(found, -np.maximum(by_hand(x) + y, 0), rtol=1e-5, atol=1e-6)
    (weight,) = (each for each in graph.weights.values() if len(each.shape) == 2)
    assert weight.nonzero == 4


def test_what_is_not_quantised_stays_as_it_is() -> None:
    build = Builder()
    graph = build.graph([build.emit("relu", build.input("x", (3,)))])
    assert to_floats(graph) is graph
