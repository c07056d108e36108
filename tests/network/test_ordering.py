"""Channels in another order compute the same, and their zeros meet in words of four."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph_strategies import dead_graphs, inputs
from networks import make_example, make_graph
from secateur.network.building import Builder
from secateur.network.graph import Graph, Weight
from secateur.network.operations import OPERATIONS
from secateur.network.simplification import order_channels, simplify
from secateur.network.simplification.ordering import Ties, reordered
from secateur.network.words import count_words
from secateur.runtime import reference

_PLAIN = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1)}


def shuffled(graph: Graph, seed: int) -> Graph:
    """With every set of channels that may change places in a random order."""
    ties, random = Ties(graph), np.random.default_rng(seed)
    order = np.arange(ties.count)
    for family in ties.families():
        order[family] = family[random.permutation(len(family))]
    return reordered(ties, order)


def with_whole_weights(graph: Graph) -> Graph:
    """Weights of layers become small whole numbers, so that no order of sums matters."""
    matrices = {node.weights[role] for node in graph.nodes if (role := OPERATIONS[node.op].matrix)}
    weights = {
        name: Weight.of(np.rint(8 * weight.values()) + np.float32(0)) if name in matrices else weight
        for name, weight in graph.weights.items()
    }
    return replace(graph, weights=weights)


@given(graph=dead_graphs(dead=0.2), seed=st.integers(0, 99))
@settings(max_examples=75, deadline=None)
def test_channels_may_lie_in_any_order_that_is_offered(graph: Graph, seed: int) -> None:
    found, expected = shuffled(graph, seed), graph
    x = {name: inputs(graph, 2) for name in graph.inputs}
    assert (found.inputs, found.outputs) == (expected.inputs, expected.outputs)
    for mine, theirs in zip(reference.run_all(found, x), reference.run_all(expected, x), strict=True):
        scale = max(1.0, float(np.abs(theirs).max(initial=0)))
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize(
    ("name", "families"), [("mobilenet-v3", 4), ("densenet", 8), ("resnext", 19), ("mixer", 4), ("slim-resnet-18", 12)]
)
def test_networks_compute_the_same_in_another_order(name: str, families: int) -> None:
    """families: sums tie what they add, squeeze-and-excitation its factor; in a group channels have its own places."""
    graph = simplify(make_graph(name))
    assert len(Ties(graph).families()) == families
    x = make_example(name).numpy()
    expected = reference.run(graph, x)
    assert np.abs(reference.run(shuffled(graph, 0), x) - expected).max() <= 1e-5 * np.abs(expected).max()


def mask(*shape: int, density: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < density


def conv(build: Builder, x: str, weight: np.ndarray, groups: int = 1) -> str:
    return build.emit("conv2d", x, weights={"weight": Weight.of(weight.astype(np.float32))}, groups=groups, **_PLAIN)


def linear(build: Builder, x: str, weight: np.ndarray) -> str:
    return build.emit("linear", x, weights={"weight": Weight.of(weight.astype(np.float32))})


def words_by_hand(weight: np.ndarray, pixels: int = 1) -> int:
    """(O, I, …): words of four inputs of one tap, or four channels of one pixel, in which something is not zero."""
    outputs, given = weight.shape[:2]
    planes = weight.reshape(outputs, given // pixels, -1)
    return sum(
        bool(planes[o, first : first + 4, tap].any())
        for o, first, tap in itertools.product(range(outputs), range(0, planes.shape[1], 4), range(planes.shape[2]))
    )


def weights_of(graph: Graph, names: Sequence[str]) -> list[np.ndarray]:
    by_name = {node.name: graph.weights[node.weights["weight"]].values() for node in graph.nodes if node.weights}
    return [by_name[name] for name in names]


def convolutional() -> Graph:
    """A first layer, a 3×3 one, a grouped one, flattening and two linear layers; whole numbers everywhere."""
    build = Builder()
    x = build.input("x", (3, 7, 7))
    a = build.emit("relu", conv(build, x, np.rint(8 * np.random.default_rng(1).normal(size=(24, 3, 3, 3)))))
    b = build.emit("relu", conv(build, a, mask(16, 24, 3, 3, density=0.15)))
    c = build.emit("relu", conv(build, b, mask(22, 8, 2, 2, density=0.2, seed=1), groups=2))
    flat = build.emit("reshape", c, shape=(22 * 4,))
    d = build.emit("relu", linear(build, flat, mask(30, 88, density=0.2, seed=2)))
    return build.graph([linear(build, d, mask(5, 30, density=0.3, seed=3))])


def test_words_are_counted_as_the_runtime_multiplies_them_and_fewer_are_left() -> None:
    graph = convolutional()
    found, gain = order_channels(graph)
    names = [layer.node for layer in gain.layers]
    for side, counts in ((graph, [each.before for each in gain.layers]), (found, [each.after for each in gain.layers])):
        first, second, grouped, flat, last = weights_of(side, names)
        assert [count_words(each != 0) for each in (first, second, grouped, last)] == [
            counts[at] for at in (0, 1, 2, 4)
        ]
        assert min(count_words(flat != 0, pixels) for pixels in (1, 4)) == counts[3]
        assert counts == [
            words_by_hand(first),
            words_by_hand(second),
            words_by_hand(grouped),
            min(words_by_hand(flat), words_by_hand(flat, pixels=4)),
            words_by_hand(last),
        ]
    assert [layer.words for layer in gain.layers] == [24 * 9, 16 * 6 * 9, 22 * 2 * 4, 30 * 6 * 4, 5 * 8]
    assert [layer.uses for layer in gain.layers] == [25, 9, 4, 1, 1]
    assert all(layer.after < layer.before for layer in gain.layers[1:])
    total = sum(layer.words * layer.uses for layer in gain.layers)
    assert gain.before == sum(layer.before * layer.uses for layer in gain.layers) / total
    assert gain.after == sum(layer.after * layer.uses for layer in gain.layers) / total
    x = np.rint(4 * np.random.default_rng(0).normal(size=(2, 3, 7, 7))).astype(np.float32)
    np.testing.assert_array_equal(reference.run(found, x), reference.run(graph, x))


@pytest.mark.parametrize("groups", [2, 3, 6])
def test_features_that_a_grouped_convolution_reads_as_its_pixels_stay(groups: int) -> None:
    """A linear layer over the last axis, of a number of features that no group of channels has to do with."""
    build, random = Builder(), np.random.default_rng(0)
    features = linear(build, build.input("x", (6, 2, 4)), random.normal(size=(4, 4)))
    made = conv(build, features, random.normal(size=(6, 6 // groups, 1, 1)), groups=groups)
    graph = build.graph([linear(build, made, random.normal(size=(3, 4)) * mask(3, 4, density=0.4))])
    found, _ = order_channels(graph)
    x = random.normal(size=(2, 6, 2, 4)).astype(np.float32)
    np.testing.assert_allclose(reference.run(found, x), reference.run(graph, x), rtol=1e-5)


@given(graph=dead_graphs(dtype="float32", dead=0.2))
@settings(max_examples=50, deadline=None)
def test_no_graph_takes_more_words_and_whole_weights_give_the_same_bits(graph: Graph) -> None:
    graph = with_whole_weights(graph)
    found, gain = order_channels(graph)
    assert sum(each.after * each.uses for each in gain.layers) <= sum(each.before * each.uses for each in gain.layers)
    if all(node.op in ("conv2d", "linear", "relu", "max_pool2d", "concat", "slice", "reshape") for node in graph.nodes):
        x = {name: np.rint(4 * inputs(graph, 2)) for name in graph.inputs}
        for mine, theirs in zip(reference.run_all(found, x), reference.run_all(graph, x), strict=True):
            np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("channels", [8, 32, 30])
def test_blocks_that_were_shuffled_are_found_again(channels: int) -> None:
    """Two convolutions read the same sum; of every four channels all weights are zero together, or none."""
    random = np.random.default_rng(0)
    taken = np.repeat(mask(16, -(-channels // 4), 3, 3, density=0.3), 4, axis=1)[:, random.permutation(channels)]
    build = Builder()
    x = build.input("x", (channels, 6, 6))
    left, right = (conv(build, x, random.normal(size=(channels, channels, 1, 1))) for _ in range(2))
    both = build.emit("relu", build.emit("add", left, right))
    graph = build.graph([conv(build, both, taken), conv(build, both, taken[::2])])
    _, gain = order_channels(graph)
    fewest = [int(-(-np.count_nonzero(each[o, :, i, j]) // 4)) for each in (taken, taken[::2]) for o in range(len(each))
              for i in range(3) for j in range(3)]  # fmt: skip
    assert sum(layer.before for layer in gain.layers[2:]) > sum(fewest)
    assert sum(layer.after for layer in gain.layers[2:]) == sum(fewest)


def test_a_network_in_blocks_already_comes_back_as_it_is() -> None:
    build = Builder()
    x = build.input("x", (3, 6, 6))
    a = conv(build, x, np.random.default_rng(0).normal(size=(16, 3, 1, 1)))
    graph = build.graph([conv(build, a, np.repeat(mask(8, 4, 3, 3, density=0.3), 4, axis=1))])
    found, gain = order_channels(graph)
    assert found is graph
    assert gain.before == gain.after


def test_what_is_read_together_keeps_its_order() -> None:
    """Inputs, outputs, what a normalisation or a softmax reads, and the halves of a value that is sliced."""
    build = Builder()
    x = build.input("x", (8, 4, 4))
    a = conv(build, x, mask(8, 8, 1, 1, density=0.5))
    halves = [build.emit("slice", a, axis=1, start=start, stop=start + 4) for start in (0, 4)]
    out = conv(build, build.emit("mul", *halves), mask(8, 4, 1, 1, density=0.5))
    graph = build.graph([build.emit("softmax", out, axis=1)])
    ties = Ties(graph)
    assert [family.shape[0] for family in ties.families()] == [4]
    held = {name for family in ties.families() for name, span in ties.spans.items() if span.start in family}
    assert held == {a, *halves, out_of(graph, "mul")}


def out_of(graph: Graph, op: str) -> str:
    return next(node.name for node in graph.nodes if node.op == op)


@pytest.mark.parametrize("side", [2, 3])
def test_blocks_along_flattened_pixels_are_left_to_be_read_as_they_lie(side: int) -> None:
    """Four pixels of a channel in a block: as a convolution of planes the layer would take over three times as many."""
    pixels = side * side
    build = Builder()
    a = conv(build, build.input("x", (3, side, side)), np.random.default_rng(0).normal(size=(16, 3, 1, 1)))
    blocks = np.repeat(mask(24, 4 * pixels, density=0.1), 4, axis=1)
    graph = build.graph([linear(build, build.emit("reshape", a, shape=(16 * pixels,)), blocks)])
    found, gain = order_channels(graph)
    assert gain.layers[1].before == gain.layers[1].after == np.count_nonzero(blocks) // 4
    assert words_by_hand(blocks, pixels) > 3 * gain.layers[1].after
    assert found is graph
