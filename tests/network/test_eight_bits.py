"""Quantised operations, held against whole numbers added one by one and floats rounded one by one."""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph_strategies import inputs
from quantised_strategies import quantised_graphs
from secateur.errors import GraphError
from secateur.network import quantisation
from secateur.network.building import Builder
from secateur.network.graph import Graph, Node, Shape, Weight
from secateur.network.quantisation import Quantisation
from secateur.network.simplification import simplify
from secateur.network.sizes import named
from secateur.network.stages import stages_of
from secateur.network.tabulating import as_function, function_of, table_of
from secateur.runtime import reference


def f32(number: float) -> float:
    """Rounded to float32 by the C library's own conversion."""
    return float(struct.unpack("<f", struct.pack("<f", number))[0])


def settled(t: float, low: int, high: int, zero_point: int) -> int:
    if not t >= low - zero_point:
        return low
    return round(t) + zero_point if t <= high - zero_point else high  # Python rounds ties to even


U8, I8 = Quantisation("uint8", 0.05, 13), Quantisation("int8", 0.031, -7)
SAME: dict[str, Any] = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1)}


def stated(prefix: str, of: Quantisation) -> dict[str, Any]:
    return of.stated(prefix)


def made(of: Quantisation) -> dict[str, Any]:
    return {"element": of.element, **stated("output_", of)}


def as_are(of: Quantisation, shape: Shape, name: str, build: Builder) -> tuple[str, str]:
    """A float input and its quantisation: 8-bit integers come in as the numbers that they stand for."""
    x = build.input(name, shape)
    return x, build.emit("quantise", x, element=of.element, scale=of.scale, zero_point=of.zero_point)


def out(build: Builder, value: str, of: Quantisation) -> str:
    return build.emit("dequantise", value, scale=of.scale, zero_point=of.zero_point)


def codes(of: Quantisation, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(of.least, of.most + 1, shape)


def run(graph: Graph, *inputs: tuple[np.ndarray, Quantisation]) -> np.ndarray:
    """The integers of the last quantised value, whose dequantised numbers the graph gives."""
    held = dict(zip(graph.inputs, (quantisation.dequantise(x, of) for x, of in inputs), strict=True))
    found = reference.run_all(graph, held)[0]
    last = graph.nodes[-1]
    return np.rint(found / np.float32(last.number("scale"))).astype(int) + last.whole("zero_point")


@pytest.mark.parametrize(("element", "zero_point"), [("uint8", 0), ("uint8", 200), ("int8", -128), ("int8", 5)])
def test_quantising_rounds_ties_to_even_and_saturates(element: str, zero_point: int) -> None:
    of = Quantisation(element, 0.5, zero_point)
    x = np.array([0, 0.25, 0.75, 1.25, -0.25, -0.75, 0.26, 1e30, -1e30, np.inf, -np.inf, np.nan, -0.0], np.float32)
    build = Builder()
    value = build.emit("quantise", build.input("x", x.shape), element=element, scale=0.5, zero_point=zero_point)
    graph = build.graph([value])
    steps = [0, 0, 2, 2, 0, -2, 1, 1000, -1000, 1000, -1000, -1000, 0]
    expected = [min(max(step + zero_point, of.least), of.most) for step in steps]
    (found,) = reference.run_all(graph, {"x": x[None]})
    assert found.dtype == element
    assert found[0].tolist() == expected
    assert graph.value_elements[value] == element
    assert graph.quantisations == {value: of}


def test_a_float_is_rounded_to_float32_before_it_is_quantised() -> None:
    """2.5 − 2⁻⁴⁰ is no tie, but float32 has it as 2.5."""
    build = Builder()
    x = build.input("x", (1,))
    graph = build.graph([build.emit("quantise", x, element="uint8", scale=1.0, zero_point=0)])
    assert reference.run(graph, np.array([[2.5 - 2**-40]]))[0, 0] == 2


def test_dequantising_multiplies_the_distance_from_the_zero_point() -> None:
    for of in (U8, I8):
        x = np.arange(of.least, of.most + 1)
        found = quantisation.dequantise(x, of)
        assert found.tolist() == [f32((each - of.zero_point) * f32(of.scale)) for each in x.tolist()]


CONVOLUTIONS = [
    {"groups": 1, "padding": (1, 0, 2, 1), "stride": (2, 1)},
    {"groups": 3, "dilation": (2, 1), "padding": (2, 2, 0, 0)},
    {"groups": 6, "padding": (1, 1, 1, 1)},
]


def convolved(x: np.ndarray, weight: np.ndarray, at: Any, zero_point: int) -> np.ndarray:
    """Sums of one image (C, H, W), a product at a time; what lies in the padding adds nothing."""
    (top, bottom, left, right), groups = at["padding"], at["groups"]
    (tall, wide), (down, across), (out, inner, kh, kw) = at["stride"], at["dilation"], weight.shape
    rows = (x.shape[1] + top + bottom - down * (kh - 1) - 1) // tall + 1
    columns = (x.shape[2] + left + right - across * (kw - 1) - 1) // wide + 1
    sums = np.zeros((out, rows, columns), object)
    for o, r, c, i, ky, kx in itertools.product(*map(range, (out, rows, columns, inner, kh, kw))):
        y, z = r * tall + ky * down - top, c * wide + kx * across - left
        if 0 <= y < x.shape[1] and 0 <= z < x.shape[2]:
            sums[o, r, c] += int(weight[o, i, ky, kx]) * (int(x[o // (out // groups) * inner + i, y, z]) - zero_point)
    return sums


def scaled(total: int, given: float, scale: float, output: float) -> float:
    return f32(f32(float(total)) * f32(f32(given) * f32(scale) / f32(output)))


@pytest.mark.parametrize("changes", CONVOLUTIONS)
@pytest.mark.parametrize("residual", [None, I8])
@pytest.mark.parametrize(("given", "to"), [(U8, I8), (I8, U8), (U8, Quantisation("uint8", 0.4, 0))])
def test_a_convolution_is_its_sums_rescaled_and_rounded(
    changes: dict[str, Any], residual: Quantisation | None, given: Quantisation, to: Quantisation
) -> None:
    random = np.random.default_rng(5)
    at = SAME | changes
    weight = random.integers(-128, 128, (6, 6 // at["groups"], 3, 2)).astype(np.int8)
    bias, scale = random.integers(-9000, 9000, 6).astype(np.int32), random.uniform(1e-3, 9e-3, 6).astype(np.float32)
    x = codes(given, 6, 5, 4)
    sums = convolved(x, weight, at, given.zero_point)
    beside = codes(I8, *sums.shape, seed=1)
    build = Builder()
    _, value = as_are(given, x.shape, "x", build)
    more = [as_are(residual, sums.shape, "y", build)[1]] if residual else []
    low, high = to.zero_point, to.most - 50
    weights = {"weight": Weight.of(weight), "scale": Weight.of(scale), "bias": Weight.of(bias)}
    step = stated("residual_", residual) if residual else {"residual_scale": 1.0, "residual_zero_point": 0}
    value = build.emit(
        "quantised_conv2d",
        *(value, *more),
        weights=weights,
        **{**at, **step, **stated("input_", given), **made(to), "low": low, "high": high},
    )
    graph = build.graph([out(build, value, to)])
    assert graph.quantisations[value] == to
    found = run(graph, (x[None], given), *([(beside[None], residual)] if residual else []))[0]
    for place in itertools.product(*map(range, sums.shape)):
        t = scaled(sums[place] + int(bias[place[0]]), given.scale, float(scale[place[0]]), to.scale)
        if residual:
            ratio = f32(residual.scale / to.scale)
            t = f32(t + f32(f32(float(beside[place] - residual.zero_point)) * ratio))
        assert found[place] == settled(t, low, high, to.zero_point)


@pytest.mark.parametrize("shape", [(7,), (3, 7)])
@pytest.mark.parametrize("residual", [False, True])
def test_a_layer_of_floats_gives_its_rescaled_sums(shape: tuple[int, ...], residual: bool) -> None:
    random = np.random.default_rng(6)
    weight, scale = random.integers(-127, 128, (5, 7)).astype(np.int8), np.full(5, 0.01, np.float32)
    x = codes(U8, 2, *shape)
    build = Builder()
    _, value = as_are(U8, shape, "x", build)
    more = [build.input("y", (*shape[:-1], 5))] if residual else []
    weights = {"weight": Weight.of(weight), "scale": Weight.of(scale)}
    settings = stated("input_", U8) | FLOAT_OUTPUT
    graph = build.graph([build.emit("quantised_linear", value, *more, weights=weights, **settings)])
    assert graph.value_elements[graph.outputs[0]] == "float32"
    beside = random.normal(size=(2, *shape[:-1], 5)).astype(np.float32)
    held = {"x": quantisation.dequantise(x, U8)} | ({"y": beside} if residual else {})
    found = reference.run_all(graph, held)[0]
    assert found.dtype == np.float32
    sums = (x - U8.zero_point) @ weight.astype(int).T
    for place in itertools.product(*map(range, sums.shape)):
        t = scaled(int(sums[place]), U8.scale, float(scale[0]), 1.0)
        assert found[place] == (f32(t + float(beside[place])) if residual else t)


FLOAT_OUTPUT: dict[str, Any] = {
    "element": "float32",
    "output_scale": 1.0,
    "output_zero_point": 0,
    "low": 0,
    "high": 0,
    "residual_scale": 1.0,
    "residual_zero_point": 0,
}


@pytest.mark.parametrize("op", ["quantised_add", "quantised_mul"])
def test_sums_and_products_of_two_are_rescaled_to_the_output(op: str) -> None:
    to = Quantisation("uint8", 0.07, 31)
    x, y = codes(U8, 1, 300), codes(I8, 1, 300, seed=1)
    build = Builder()
    (_, left), (_, right) = as_are(U8, (300,), "x", build), as_are(I8, (300,), "y", build)
    settings = {**stated("left_", U8), **stated("right_", I8), **made(to), "low": 20, "high": 240}
    value = build.emit(op, left, right, **settings)
    found = run(build.graph([out(build, value, to)]), (x, U8), (y, I8))[0]
    for a, b, mine in zip((x - U8.zero_point)[0].tolist(), (y - I8.zero_point)[0].tolist(), found, strict=True):
        if op == "quantised_add":
            t = f32(f32(a * f32(U8.scale / to.scale)) + f32(b * f32(I8.scale / to.scale)))
        else:
            t = f32(a * b * f32(U8.scale * I8.scale / to.scale))
        assert mine == settled(t, 20, 240, to.zero_point)


@pytest.mark.parametrize(
    ("op", "attributes", "by_hand"),
    [
        ("silu", {}, lambda x: x / (1 + math.exp(-x))),
        ("gelu", {"approximate": "none"}, lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2),
        (
            "softplus",
            {"beta": 2.0, "threshold": 1.53},
            lambda x: x if 2 * x > 1.53 else math.log1p(math.exp(2 * x)) / 2,
        ),
        ("log", {}, lambda x: math.log(x) if x > 0 else -math.inf),
    ],
)
@pytest.mark.parametrize(("of", "to"), [(U8, I8), (I8, Quantisation("uint8", 0.011, 40))])
def test_a_table_has_what_a_function_makes_of_every_integer(
    op: str, attributes: dict[str, Any], by_hand: Any, of: Quantisation, to: Quantisation
) -> None:
    build = Builder()
    function = Node("", op, ("x",), {}, attributes)
    name, parameters = function_of(function) or ("", ())
    value = build.emit(
        "quantised_table",
        as_are(of, (256,), "x", build)[1],
        weights={"table": Weight.of(table_of(function, of, to))},
        function=name,
        parameters=parameters,
        **stated("input_", of),
        **made(to),
    )
    x = np.arange(of.least, of.most + 1)[None]
    found = run(build.graph([out(build, value, to)]), (x, of))[0]
    for integer, mine in zip(x[0].tolist(), found, strict=True):
        exact = by_hand((integer - of.zero_point) * of.scale) / to.scale
        assert settled(exact - 1e-3, to.least, to.most, to.zero_point) <= mine
        assert mine <= settled(exact + 1e-3, to.least, to.most, to.zero_point)
    assert (
        as_function(Node("", "quantised_table", ("x",), {}, {"function": name, "parameters": parameters})) == function
    )


def test_a_table_whose_numbers_its_format_does_not_hold_or_whose_function_is_none_is_refused() -> None:
    def make(table: np.ndarray, *parameters: float) -> None:
        build = Builder()
        x, attributes = as_are(U8, (3,), "x", build)[1], {**stated("input_", U8), **made(I8)}
        weights = {"table": Weight.of(table.astype(np.int32))}
        value = build.emit("quantised_table", x, weights=weights, function="elu", parameters=parameters, **attributes)
        build.graph([out(build, value, I8)])

    with pytest.raises(GraphError, match="expected a table of numbers from -128 to 127"):
        make(np.arange(256), 1.0)
    with pytest.raises(GraphError, match="expected 1 parameters of elu, got "):
        make(np.arange(-128, 128))


def test_products_broadcast_behind_the_batch() -> None:
    x, y = codes(U8, 2, 3, 4), codes(I8, 2, 3, 1)
    build = Builder()
    (_, left), (_, right) = as_are(U8, (3, 4), "x", build), as_are(I8, (3, 1), "y", build)
    settings = {**stated("left_", U8), **stated("right_", I8), **made(U8), "low": 0, "high": 255}
    found = run(build.graph([out(build, build.emit("quantised_mul", left, right, **settings), U8)]), (x, U8), (y, I8))
    ratio = f32(U8.scale * I8.scale / U8.scale)
    for place in itertools.product(range(2), range(3), range(4)):
        product = int(x[place] - U8.zero_point) * int(y[place[0], place[1], 0] - I8.zero_point)
        assert found[place] == settled(f32(product * ratio), 0, 255, U8.zero_point)


POOLS: dict[str, tuple[dict[str, Any], list[list[list[tuple[int, int]]]]]] = {
    "quantised_adaptive_avg_pool2d": (
        {"size": (2, 1)},
        [[[(r, c) for r in rows for c in range(4)]] for rows in ((0, 1, 2), (2, 3, 4))],
    ),
    "quantised_mean": ({"axes": (2, 3), "keepdims": True}, [[[(r, c) for r in range(5) for c in range(4)]]]),
    "quantised_avg_pool2d": (
        {"kernel": (2, 2), "stride": (3, 2), "padding": (0, 0, 1, 1), "count_include_pad": False},
        [[[(r, c) for r in (y, y + 1) for c in (z, z + 1) if 0 <= c < 4] for z in (-1, 1, 3)] for y in (0, 3)],
    ),
}


@pytest.mark.parametrize("op", POOLS)
@pytest.mark.parametrize(("given", "to"), [(U8, I8), (I8, U8)])
def test_means_divide_exact_sums_once(op: str, given: Quantisation, to: Quantisation) -> None:
    attributes, windows = POOLS[op]
    x = codes(given, 1, 3, 5, 4)
    build = Builder()
    _, value = as_are(given, (3, 5, 4), "x", build)
    value = build.emit(op, value, **attributes, **stated("input_", given), **made(to))
    found = run(build.graph([out(build, value, to)]), (x, given))[0]
    assert found.shape == (3, len(windows), len(windows[0]))
    for channel, (r, row) in itertools.product(range(3), enumerate(windows)):
        for c, window in enumerate(row):
            total = sum(int(x[0, channel, y, z]) - given.zero_point for y, z in window)
            t = f32(total * f32(given.scale / (to.scale * len(window))))
            assert found[channel, r, c] == settled(t, to.least, to.most, to.zero_point)


def test_a_mean_may_count_its_padding() -> None:
    build = Builder()
    _, value = as_are(U8, (1, 1, 1), "x", build)
    settings: dict[str, Any] = {"kernel": (2, 2), "stride": (1, 1), "padding": (1, 1, 1, 1), "count_include_pad": True}
    value = build.emit("quantised_avg_pool2d", value, **settings, **stated("input_", U8), **made(U8))
    found = run(build.graph([out(build, value, U8)]), (np.full((1, 1, 1, 1), 113), U8))
    assert (found == 13 + 25).all()


@pytest.mark.parametrize("of", [U8, I8])
def test_the_largest_of_a_window_is_one_of_the_plane(of: Quantisation) -> None:
    """Below the zero point too, which padding does not hold."""
    x = np.full((1, 1, 2, 2), of.least)
    build = Builder()
    _, value = as_are(of, (1, 2, 2), "x", build)
    pool: dict[str, Any] = {"kernel": (2, 2), "stride": (1, 1), "padding": (1, 1, 1, 1), "dilation": (1, 1)}
    graph = build.graph([out(build, build.emit("max_pool2d", value, **pool), of)])
    assert (run(graph, (x, of)) == of.least).all()
    assert len(graph.quantisations) == 2


def test_what_moves_numbers_hands_on_what_they_stand_for() -> None:
    build = Builder()
    (_, x), (_, y) = as_are(U8, (2, 3), "x", build), as_are(U8, (4, 3), "y", build)
    value = build.emit("concat", x, y, axis=1)
    value = build.emit("slice", build.emit("permute", value, axes=(2, 1)), axis=2, start=1, stop=5)
    value = build.emit("reshape", value, shape=(12,))
    graph = build.graph([out(build, value, U8)])
    assert set(graph.quantisations.values()) == {U8}
    a, b = codes(U8, 2, 2, 3), codes(U8, 2, 4, 3)
    expected = np.concatenate([a, b], 1).transpose(0, 2, 1)[:, :, 1:5].reshape(2, 12)
    assert (run(graph, (a, U8), (b, U8)) == expected).all()


def test_a_quantised_graph_survives_simplification() -> None:
    """A weight of −128 has the bits of a float's −0.0; a layer without weights is no dead one here."""
    build = Builder()
    _, value = as_are(U8, (4, 3, 3), "x", build)
    weight = np.zeros((4, 4, 1, 1), np.int8)
    weight[0] = -128
    weights = {"weight": Weight.of(weight), "scale": Weight.of(np.full(4, 0.01, np.float32))}
    settings = {**SAME, "groups": 1, **stated("input_", U8), **made(I8), "low": -128, "high": 127}
    settings |= {"residual_scale": 1.0, "residual_zero_point": 0}
    value = build.emit("quantised_conv2d", value, weights=weights, **settings)
    value = build.emit("max_pool2d", value, **SAME, kernel=(1, 1))
    value = build.emit("reshape", build.emit("reshape", value, shape=(4, 9)), shape=(36,))
    graph = build.graph([out(build, value, I8)])
    small = simplify(graph, widen=True)
    assert [node.op for node in small.nodes] == ["quantise", "quantised_conv2d", "reshape", "dequantise"]
    x = codes(U8, 3, 4, 3, 3)
    np.testing.assert_array_equal(run(small, (x, U8)), run(graph, (x, U8)))
    assert (run(graph, (x, U8)).reshape(3, 4, 9)[:, 1:] == I8.zero_point).all()


@given(graph=quantised_graphs(), batch=st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_simplified_or_image_by_image_it_is_the_same_bits(graph: Graph, batch: int) -> None:
    x = inputs(graph, batch)
    found = reference.run_all(graph, {"x": x})
    for mine, small in zip(found, reference.run_all(simplify(graph), {"x": x}), strict=True):
        np.testing.assert_array_equal(mine, small)
    for image in range(batch):
        for mine, alone in zip(found, reference.run_all(graph, {"x": x[image : image + 1]}), strict=True):
            np.testing.assert_array_equal(mine[image : image + 1], alone)


def layer(changes: dict[str, Any], weights: dict[str, np.ndarray] | None = None, width: int = 4) -> Graph:
    """x (width) → quantise → quantised_linear → dequantise, changed."""
    build = Builder()
    _, value = as_are(U8, (width,), "x", build)
    held: dict[str, np.ndarray] = {"weight": np.ones((2, width), np.int8), "scale": np.ones(2, np.float32)}
    settings = {**stated("input_", U8), **made(I8), "low": -128, "high": 127}
    settings |= {"residual_scale": 1.0, "residual_zero_point": 0, **changes}
    given = {role: Weight.of(each) for role, each in (held | (weights or {})).items()}
    return build.graph([build.emit("quantised_linear", value, weights=given, **settings)])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"input_scale": 0.06}, "expected an input of scale 0.06, zero point 13, got uint8 .scale 0.05, zero point 13"),
        ({"input_zero_point": 12}, "expected an input of scale 0.05, zero point 12, got uint8 .scale 0.05, zero"),
        ({"output_scale": 0.0}, "expected output_scale of at least 1.17549e-38, got 0.0"),
        ({"output_scale": -1.0}, "expected output_scale of at least 1.17549e-38, got -1.0"),
        ({"output_scale": math.inf}, "expected output_scale to be a finite number, got inf"),
        ({"output_scale": 1e38}, "expected output_scale of at most 8.50706e"),
        ({"output_zero_point": -129}, r"expected output_zero_point in \[-128, 255\], got -129"),
        ({"output_zero_point": 128}, r"expected output_zero_point in \[-128, 127\], got 128"),
        ({"low": 3, "high": 2}, "expected low up to high, got 3 and 2"),
        ({"high": 200}, r"expected high in \[-128, 127\], got 200"),
        ({"element": "int16"}, "expected element to be 'uint8' or 'int8' or 'float32', got 'int16'"),
        ({"element": "float32"}, "expected output_scale of at most 1, got|expected output_scale of at least 1, got"),
        ({"input_scale": 1e30, "output_scale": 1e-9}, "expected an input of scale 1e.30"),
        ({"residual_scale": 2.0}, "expected residual_scale of at most 1, got 2.0"),
    ],
)
def test_attributes_that_mean_nothing_are_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(GraphError, match=text):
        layer(changes)


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        ({"weight": np.ones((2, 4), np.float32)}, "expected weight of int8, got float32"),
        ({"bias": np.ones(2, np.float32)}, "expected bias of int32, got float32"),
        ({"scale": np.ones(3, np.float32)}, r"expected scale of shape \(2,\), got \(3,\)"),
        ({"scale": np.array([1, 0], np.float32)}, "expected scales of weights above 0, and finite"),
        ({"scale": np.array([1, -1], np.float32)}, "expected scales of weights above 0, and finite"),
        ({"scale": np.array([1, np.inf], np.float32)}, "expected scales of weights above 0, and finite"),
        ({"scale": np.array([np.nan, 1], np.float32)}, "expected scales of weights above 0, and finite"),
        ({"scale": np.array([1, 3e38], np.float32)}, "expected scales whose product, over the output's, is a number"),
        ({"bias": np.array([0, 2**31 - 4 * 255], np.int32)}, "stay below 2³¹ .* where one may be 2,147,483,648"),
        ({"bias": np.array([-(2**31), 0], np.int32)}, "stay below 2³¹ .* where one may be 2,147,484,668"),
    ],
)
def test_weights_that_mean_nothing_are_refused(weights: dict[str, np.ndarray], text: str) -> None:
    with pytest.raises(GraphError, match=text):
        layer({"output_scale": 0.001}, weights)


def test_sums_may_come_as_near_as_32_bits_allow() -> None:
    """Where they could reach further they are refused, whatever most inputs would give."""
    row = np.zeros(70_000, np.int8)
    row[: (2**31 - 1) // (127 * 255)] = 127
    left = 2**31 - 1 - 255 * int(row.astype(int).sum())
    weight = np.stack([row, np.zeros_like(row)])
    good = layer({}, {"weight": weight, "bias": np.array([left, 0], np.int32)}, 70_000)
    x = np.full((1, 70_000), 255)
    found = reference.run(good, quantisation.dequantise(x, U8))
    assert found.tolist() == [[127, I8.zero_point]]
    with pytest.raises(GraphError, match=r"where one may be 2,147,483,648"):
        layer({}, {"weight": weight, "bias": np.array([left + 1, 0], np.int32)}, 70_000)


def test_integers_without_a_scale_are_not_taken_for_quantised_ones() -> None:
    build = Builder()
    x = build.input("x", (4,), "uint8")
    with pytest.raises(GraphError, match=r"expected an input of scale 1\.0, zero point 0, got uint8"):
        build.graph([build.emit("dequantise", x, scale=1.0, zero_point=0)])
    (_, y), (_, z) = as_are(U8, (4,), "y", build), as_are(replace(U8, zero_point=4), (4,), "z", build)
    with pytest.raises(GraphError, match=r"expected inputs of uint8 \(scale 0.05, zero point 13\), got uint8 \(scale"):
        build.graph([build.emit("concat", y, z, axis=1)])
    with pytest.raises(GraphError, match="expected inputs of float32, got uint8"):
        build.graph([build.emit("relu", y)])


def test_numbers_of_all_images_meet_those_of_each_as_floats_only() -> None:
    """The reference knows how; what runs a graph in stages hands on floats."""
    build = Builder()
    x = build.input("x", (4,))
    mean = build.emit("mean", build.emit("gather_images", x, images=named("batch")), axes=(1,), keepdims=False)
    values = [build.emit("quantise", each, element="uint8", **U8.stated()) for each in (x, mean)]
    settings = {**stated("left_", U8), **stated("right_", U8), **made(U8), "low": 0, "high": 255}
    graph = build.graph([out(build, build.emit("quantised_add", *values, **settings), U8)])
    np.testing.assert_allclose(reference.run(graph, np.ones((3, 4), np.float32)), np.full((3, 4), 2), rtol=1e-6)
    with pytest.raises(GraphError, match="is quantised, and not all who read it run image by image: dequantise it"):
        stages_of(graph.bind({"batch": 3}))
    with pytest.raises(GraphError, match="expected inputs of float32, got uint8"):
        build.graph([build.emit("gather_images", values[0], images=named("batch"))])


@pytest.mark.parametrize("size", [(4, 5), (7, 3)])
def test_lengths_may_be_free(size: tuple[int, int]) -> None:
    build = Builder()
    _, x = as_are(U8, (3, named("height"), named("width")), "x", build)
    settings = {**stated("input_", U8), **made(U8)}
    pooled = build.emit("quantised_adaptive_avg_pool2d", x, size=(2, 1), **settings)
    mean = build.emit("quantised_mean", x, axes=(2, 3), keepdims=True, **settings)
    settings = {**stated("left_", U8), **stated("right_", U8), **made(U8), "low": 0, "high": 255}
    graph = build.graph([out(build, build.emit("quantised_mul", pooled, mean, **settings), U8)])
    images = codes(U8, 2, 3, *size)
    bound = graph.bind({"height": size[0], "width": size[1]})
    assert (run(graph, (images, U8)) == run(bound, (images, U8))).all()
    assert run(graph, (images, U8)).shape == (2, 3, 2, 1)


def test_a_residual_has_the_shape_of_the_output() -> None:
    build = Builder()
    (_, x), (_, y) = as_are(U8, (4,), "x", build), as_are(U8, (3,), "y", build)
    settings = {**stated("input_", U8), **made(I8), **stated("residual_", U8), "low": 0, "high": 1}
    weights = {"weight": Weight.of(np.ones((2, 4), np.int8)), "scale": Weight.of(np.ones(2, np.float32))}
    with pytest.raises(GraphError, match=r"expected a residual of shape \(2,\), got \(3,\)"):
        build.emit("quantised_linear", x, y, weights=weights, **settings)


@pytest.mark.parametrize(("left", "right", "output"), [(2.0**-90, 2.0**80, 2.0**-50), (8.0, 2.0**-60, 2.0**-126)])
def test_scales_whose_ratio_is_no_number_of_float32_are_refused(left: float, right: float, output: float) -> None:
    build = Builder()
    one, other, to = (Quantisation("uint8", scale, 0) for scale in (left, right, output))
    (_, x), (_, y) = as_are(one, (4,), "x", build), as_are(other, (4,), "y", build)
    settings = {**stated("left_", one), **stated("right_", other), **made(to), "low": 0, "high": 255}
    with pytest.raises(GraphError, match="expected scales whose ratio is a number of float32, got"):
        build.emit("quantised_add", x, y, **settings)


def test_means_of_too_many_are_refused() -> None:
    build = Builder()
    _, x = as_are(U8, (3000, 3000), "x", build)
    with pytest.raises(GraphError, match="expected at most 8421504 numbers a mean, got 9000000"):
        build.emit("quantised_mean", x, axes=(1, 2), keepdims=False, **stated("input_", U8), **made(U8))


@pytest.mark.parametrize(("scale", "zero_point"), [(0.0, 0), (math.nan, 0), (math.inf, 0), (-1.0, 0), (1.0, 256)])
def test_a_quantisation_that_no_value_can_have_is_none(scale: float, zero_point: int) -> None:
    with pytest.raises(GraphError, match="expected one from"):
        Quantisation("uint8", scale, zero_point)


def test_a_scale_is_stated_in_few_digits_that_mean_the_same() -> None:
    for number in np.random.default_rng(0).uniform(1e-4, 1, 100).astype(np.float32):
        stated = Quantisation("int8", float(number), 3).stated("left_")
        assert stated["left_zero_point"] == 3
        assert f32(stated["left_scale"]) == number
        assert len(str(stated["left_scale"])) < 14


def test_weights_give_their_integers() -> None:
    for values in (np.array([-128, 0, 127], np.int8), np.array([-(2**31), 0, 2**31 - 1], np.int32)):
        held = Weight.of(values)
        assert held.numbers().tolist() == values.tolist()
        assert held.nonzero == 2
    assert Weight.of(np.array([-3, 5], np.int8)).values().tolist() == [-3.0, 5.0]
    with pytest.raises(GraphError, match=r"expected its numbers\(\) to be asked for"):
        Weight.of(np.array([2**24 + 1], np.int32)).values()


def single_values(values: Sequence[float]) -> np.ndarray:
    return np.array(values, np.float32)


def test_sums_are_rounded_to_float32_before_they_are_scaled() -> None:
    """2²⁴ + 1 becomes 2²⁴."""
    total = np.array([2**24 + 1, 2**24 + 3, -(2**31) + 1])
    assert quantisation.rescaled(total, single_values([1, 1, 1])).tolist() == [2.0**24, 2.0**24 + 4, -(2.0**31)]
