"""A float graph becomes one in eight bits: what it computes, what it looks like, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from networks import make_example, make_graph
from secateur.errors import QuantiseError
from secateur.exporting.quantising import Report, quantise
from secateur.exporting.quantising.reporting import MOST_ERROR
from secateur.exporting.quantising.sketching import sketch
from secateur.network.building import Builder
from secateur.network.dequantising import to_floats
from secateur.network.graph import Graph, Shape, Weight
from secateur.network.sizes import named
from secateur.runtime import reference

SAME: dict[str, Any] = {"stride": (1, 1), "padding": (1, 1, 1, 1), "dilation": (1, 1), "groups": 1}


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def weights(**values: np.ndarray) -> dict[str, Weight]:
    return {role: Weight.of(np.asarray(value, np.float32)) for role, value in values.items()}


def conv(build: Builder, x: str, out: int, seed: int, bias: bool = True, **changes: Any) -> str:
    attributes = {**SAME, **changes}
    inner = build.shape(x)[0] // attributes["groups"]
    held = {"weight": normal(out, inner, 3, 3, seed=seed, scale=(9 * inner) ** -0.5)}
    held |= {"bias": normal(out, seed=seed + 1, scale=0.3)} if bias else {}
    return build.at(f"conv{seed}", is_layer=True).emit("conv2d", x, weights=weights(**held), **attributes)


def linear(build: Builder, x: str, out: int, seed: int) -> str:
    inner = build.shape(x)[-1]
    held = weights(weight=normal(out, inner, seed=seed, scale=inner**-0.5), bias=normal(out, seed=seed + 1))
    return build.at(f"fc{seed}", is_layer=True).emit("linear", x, weights=held)


def graph_of(make: Callable[[Builder, str], str | list[str]], shape: Shape = (4, 8, 8)) -> Graph:
    build = Builder()
    found = make(build, build.input("x", shape))
    return build.graph([found] if isinstance(found, str) else found)


def apart(
    graph: Graph, quantised: Graph, x: np.ndarray | Mapping[str, np.ndarray], around_images: bool = False
) -> float:
    """Squared error of all outputs, as a share of their variance over images, or of that among an image's outputs."""
    given = x if isinstance(x, Mapping) else {next(iter(graph.inputs)): x}
    axis = 1 if around_images else 0
    pairs = zip(reference.run_all(quantised, given), reference.run_all(graph, given), strict=True)
    return max(
        float(((one - other) ** 2).sum() / ((other - other.mean(axis, keepdims=True)) ** 2).sum())
        for one, other in pairs
    )


def ops(graph: Graph) -> list[str]:
    return [node.op for node in graph.nodes]


def checked(graph: Graph, within: float = 1e-3, **changes: Any) -> tuple[Graph, Report]:
    """Quantised by random data, and compared on other data."""
    (shape,) = graph.inputs.values()
    quantised, report = quantise(graph, [normal(48, *shape)], **changes)
    assert apart(graph, quantised, normal(16, *shape, seed=9)) < within
    assert (quantised.inputs, quantised.outputs) == (graph.inputs, graph.outputs)
    return quantised, report


@pytest.mark.parametrize("family", ["vgg", "mobilenet-v2", "mixer"])
def test_networks_of_all_families_change_little(family: str) -> None:
    graph = make_graph(family, 0.5)
    data = make_example(family, 8).numpy()
    quantised, report = quantise(graph, [data])
    between = apart(graph, quantised, data, around_images=True)
    assert between < 1e-4
    assert sum(layer.element == "int8" for layer in report.layers) >= 0.9 * len(report.layers)


def test_a_residual_block_is_one_operation_for_each_convolution() -> None:
    def block(build: Builder, x: str) -> str:
        first = build.emit("relu", conv(build, x, 8, 1))
        inner = build.emit("relu", conv(build, first, 8, 2))
        after = build.emit("relu", build.emit("add", conv(build, inner, 8, 3, bias=False), first))
        return conv(build, after, 3, 4)

    quantised, report = checked(graph_of(block))
    assert ops(quantised) == ["quantise", *["quantised_conv2d"] * 4]
    assert [layer.operations for layer in report.layers] == ["conv2d+relu", "conv2d+relu", "conv2d+add+relu", "conv2d"]
    nodes = {node.name: node for node in quantised.nodes}
    assert nodes["conv3"].inputs == ("conv2", "conv1")
    assert (nodes["conv3"].attributes["low"], nodes["conv3"].attributes["output_zero_point"]) == (0, 0)
    assert nodes[quantised.outputs[0]].attributes["element"] == "float32"


def test_clamps_become_bounds_of_what_makes_the_value() -> None:
    def clamped(build: Builder, x: str) -> str:
        most, least = (build.value(Weight.of(np.array(each, np.float32))) for each in (0.5, -0.25))
        some = build.emit("maximum", build.emit("minimum", conv(build, x, 8, 1), most), least)
        return conv(build, build.emit("relu6", conv(build, some, 8, 2)), 3, 3)

    quantised, _ = checked(graph_of(clamped))
    assert ops(quantised) == ["quantise", *["quantised_conv2d"] * 3]
    made = quantised.nodes[1]
    zero, scale = made.whole("output_zero_point"), made.number("output_scale")
    low, high = ((made.whole(end) - zero) * scale for end in ("low", "high"))
    assert [low, high] == [pytest.approx(-0.25, abs=scale), pytest.approx(0.5, abs=scale)]


def test_activations_behind_pooling_and_flattening_go_into_the_layer_before() -> None:
    def make(build: Builder, x: str) -> str:
        window: dict[str, Any] = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0, 0, 0), "dilation": (1, 1)}
        pooled = build.emit("max_pool2d", conv(build, x, 8, 1), **window)
        flat = build.emit("relu", build.emit("reshape", pooled, shape=(128,)))
        return linear(build, flat, 5, 2)

    quantised, report = checked(graph_of(make))
    assert ops(quantised) == ["quantise", "quantised_conv2d", "max_pool2d", "quantised_conv2d", "reshape"]
    assert report.layers[0].operations == "conv2d+relu"


def test_pooling_concatenation_and_sums_stay_in_eight_bits() -> None:
    def make(build: Builder, x: str) -> str:
        window: dict[str, Any] = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0, 0, 0)}
        left = build.emit("max_pool2d", build.emit("relu", conv(build, x, 8, 1)), **window, dilation=(1, 1))
        right = build.emit("avg_pool2d", conv(build, x, 8, 2), **window, count_include_pad=True)
        both = build.emit("concat", left, right, axis=1)
        part = build.emit("slice", both, axis=1, start=0, stop=8)
        total = build.emit("mul", build.emit("add", part, left), right)
        mean = build.emit(
            "mean", conv(build, build.emit("concat", both, total, axis=1), 8, 3), axes=(2, 3), keepdims=False
        )
        return linear(build, mean, 5, 4)

    quantised, _ = checked(graph_of(make), within=0.01)  # a mean of noise leaves little signal
    assert {element for name, element in quantised.value_elements.items()} == {"float32", "uint8"}
    assert [op for op in ops(quantised) if op in ("quantise", "dequantise")] == ["quantise"]
    shared = [quantised.quantisations[name] for node in quantised.nodes if node.op == "concat" for name in node.inputs]
    assert len(set(shared)) == 1


def test_flattened_planes_are_read_by_a_convolution_of_them() -> None:
    def make(build: Builder, x: str) -> str:
        planes = build.emit("relu", conv(build, x, 8, 1))
        return linear(build, build.emit("reshape", planes, shape=(512,)), 5, 2)

    quantised, _ = checked(graph_of(make))
    assert ops(quantised) == ["quantise", "quantised_conv2d", "quantised_conv2d", "reshape"]
    assert quantised.nodes[2].weights["weight"] == "fc2.weight"
    assert quantised.weights["fc2.weight"].shape == (5, 8, 8, 8)


def test_flattened_planes_whose_zeros_lie_in_blocks_along_pixels_are_read_as_they_lie() -> None:
    blocks = np.repeat(np.random.default_rng(0).random((5, 128)) < 0.2, 4, axis=1)

    def make(build: Builder, x: str) -> str:
        flat = build.emit("reshape", build.emit("relu", conv(build, x, 8, 1)), shape=(512,))
        return build.emit("linear", flat, weights=weights(weight=normal(5, 512, seed=2) * blocks))

    quantised, _ = checked(graph_of(make))
    assert ops(quantised) == ["quantise", "quantised_conv2d", "reshape", "quantised_linear"]


def test_what_has_no_eight_bits_is_an_island_and_a_value_is_quantised_once() -> None:
    def make(build: Builder, x: str) -> str:
        hidden = build.emit("softmax", linear(build, x, 16, 1), axis=2)
        added = build.emit("add", linear(build, hidden, 12, 2), x)
        both = [linear(build, added, 8, seed) for seed in (3, 4)]
        return build.emit("softmax", build.emit("add", *both), axis=2)

    quantised, _ = checked(graph_of(make, (6, 12)))
    assert (ops(quantised).count("quantise"), ops(quantised).count("dequantise")) == (2, 0)  # x and what softmax makes
    elements = [node.attributes["element"] for node in quantised.nodes if node.op == "quantised_linear"]
    assert elements == ["float32", "uint8", "float32", "float32"]


def test_layers_over_more_than_two_axes_work_on_tokens() -> None:
    quantised, _ = checked(graph_of(lambda build, x: linear(build, build.emit("relu", linear(build, x, 8, 1)), 5, 2)))
    assert ops(quantised).count("quantised_linear") == 2
    assert quantised.output_shapes == ((4, 8, 5),)


@pytest.mark.parametrize("groups", [2, 8])
def test_grouped_and_depthwise_convolutions(groups: int) -> None:
    graph = graph_of(lambda build, x: conv(build, conv(build, x, 8, 1), 8, 2, bias=False, groups=groups))
    _, report = checked(graph)
    assert [layer.element for layer in report.layers] == ["int8", "int8"]


def test_zero_weights_stay_zero() -> None:
    build = Builder()
    held = np.where(np.random.default_rng(0).random((8, 4, 3, 3)) < 0.9, 0, normal(8, 4, 3, 3))
    held[2] = 0  # a dead output, whose bias is all that it says
    x = build.input("x", (4, 8, 8))
    made = build.emit("conv2d", x, weights=weights(weight=held, bias=normal(8)), **SAME)
    graph = build.graph([made])
    quantised, _ = checked(graph)
    (name,) = [name for name, weight in quantised.weights.items() if weight.shape == held.shape]
    assert not quantised.weights[name].bits[held == 0].any()
    assert np.abs(quantised.weights[name].bits.view(np.int8).astype(int)).max() == 127
    found, expected = (reference.run(each, normal(4, 4, 8, 8)) for each in (quantised, graph))
    assert np.allclose(found[:, 2], expected[:, 2], rtol=1e-5)


def test_weights_at_work_in_two_places_are_stored_once() -> None:
    build = Builder()
    x, tied = build.input("x", (4, 8, 8)), weights(weight=normal(4, 4, 3, 3, scale=0.2), bias=normal(4))
    inner = build.emit("relu", build.emit("conv2d", x, weights=tied, **SAME))
    quantised, _ = checked(build.graph([build.emit("conv2d", inner, weights=tied, **SAME)]))
    layers = [node for node in quantised.nodes if node.op == "quantised_conv2d"]
    assert layers[0].weights["weight"] == layers[1].weights["weight"]
    assert layers[0].weights["bias"] != layers[1].weights["bias"]


def test_values_that_never_change_are_exact() -> None:
    def make(build: Builder, x: str) -> str:
        dead = conv(build, x, 4, 1)
        nothing = build.emit("relu", build.emit("sub", dead, build.value(Weight.of(np.array(99, np.float32)))))
        return linear(build, build.emit("add", conv(build, nothing, 4, 2), dead), 5, 3)

    checked(graph_of(make))
    constant = np.full((9, 4, 8, 8), 3.3, np.float32)
    graph = graph_of(lambda build, x: conv(build, x, 4, 1))
    quantised, _ = quantise(graph, [constant])
    assert np.allclose(reference.run(quantised, constant), reference.run(graph, constant), atol=0.02)


def test_an_output_may_be_read_too_and_there_may_be_several_inputs() -> None:
    build = Builder()
    x, y = build.input("x", (4, 8, 8)), build.input("y", (4, 8, 8))
    first = build.emit("relu", build.emit("add", conv(build, x, 4, 1), conv(build, y, 4, 2)))
    graph = build.graph([first, conv(build, first, 3, 3), y])
    batches = [{"y": normal(20, 4, 8, 8, seed=3), "x": normal(20, 4, 8, 8)}, (normal(9, 4, 8, 8), normal(9, 4, 8, 8))]
    quantised, _ = quantise(graph, batches)
    assert quantised.outputs == graph.outputs
    given = {"x": normal(8, 4, 8, 8, seed=5), "y": normal(8, 4, 8, 8, seed=6)}
    assert apart(graph, quantised, given) < 1e-3
    assert {quantised.value_elements[name] for name in quantised.outputs} == {"float32"}


def test_outliers_do_not_take_the_steps_from_all_others() -> None:
    data = normal(64, 4, 8, 8)
    data[0, 0, 0, 0] = 1e4
    graph = graph_of(lambda build, x: conv(build, x, 4, 1))
    quantised, report = quantise(graph, [data])
    assert quantised.nodes[0].number("scale") * 255 < 20
    assert report.error < 1e-3
    assert apart(graph, quantised, data[1:]) < 1e-3


def test_layers_stay_in_float_where_asked_and_the_report_says_so() -> None:
    graph = graph_of(lambda build, x: conv(build, build.emit("relu", conv(build, x, 8, 1)), 3, 2))
    quantised, report = checked(graph, keep_float=["conv1"])
    assert ops(quantised) == ["conv2d", "relu", "quantise", "quantised_conv2d"]
    assert [(layer.name, layer.element, layer.reason) for layer in report.left_float] == [
        ("conv1", "float32", "as asked")
    ]
    assert "conv1" in str(report)
    assert json.loads(json.dumps(report.to_json()))["layers"][1]["element"] == "int8"
    with pytest.raises(
        QuantiseError, match=r"^layer 'conv9' to keep in float32: no such layer; there are conv1, conv2$"
    ):
        quantise(graph, [normal(8, 4, 8, 8)], keep_float=["conv9"])
    with pytest.raises(QuantiseError, match=r"^keep_float=None: expected a list of names$"):
        quantise(graph, [normal(8, 4, 8, 8)], keep_float=None)  # type: ignore[arg-type]


def test_layers_that_do_most_harm_stay_in_float_until_the_outputs_are_near_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def make(build: Builder, x: str) -> str:
        first = build.emit("relu", conv(build, x, 8, 1))
        summed = build.emit("relu", build.emit("add", conv(build, first, 8, 2), first))
        return conv(build, build.emit("concat", summed, conv(build, summed, 4, 3), axis=1), 3, 4)

    graph, data = graph_of(make), normal(48, 4, 8, 8)
    errors = []
    for most in (1.0, 3e-4, 1e-4, 0.0):
        monkeypatch.setattr("secateur.exporting.quantising.reporting.MOST_ERROR", most)
        quantised, report = quantise(graph, [data])
        assert apart(graph, quantised, data) < 1e-3
        assert report.error <= most or len(report.left_float) == 3
        assert all("it alone lets the outputs' error rise to" in layer.reason for layer in report.left_float)
        errors.append(len(report.left_float))
    assert errors == sorted(errors)
    assert errors[-1] == 3


def test_a_network_that_eight_bits_do_not_fit_says_so() -> None:
    """Its inputs differ by far less than a step of their range."""
    graph = graph_of(lambda build, x: linear(build, x, 3, 1), (8,))
    report = quantise(graph, [1000 + 0.1 * normal(64, 8)])[1]
    assert report.summary[1].startswith("that is an error of ")
    assert report.summary[1].endswith("compare accuracies before you use it")
    assert len(quantise(graph, [normal(64, 8)])[1].summary) == 1


def test_classes_that_hardly_differ_from_image_to_image_need_not_be_nearer_than_they_are_apart() -> None:
    """The steps of inputs around a thousand are as large as what the images differ by."""

    def make(build: Builder, x: str) -> str:
        return linear(build, build.emit("relu", linear(build, x, 16, 1)), 3, 2)

    report = quantise(graph_of(make, (8,)), [1000 + normal(64, 8)])[1]
    assert (report.left_float, report.agreement) == ((), 1.0)
    assert report.error > MOST_ERROR
    assert "of their variance over the images, which is small" in report.summary[1]


def test_layers_whose_numbers_do_not_fit_stay_in_float() -> None:
    build = Builder()
    x = build.input("x", (70_000,))
    wide = build.at("wide", is_layer=True).emit("linear", x, weights=weights(weight=np.ones((1, 70_000))))
    bad = build.at("bad", is_layer=True).emit("linear", wide, weights=weights(weight=np.full((2, 1), np.nan)))
    with pytest.raises(
        QuantiseError,
        match=r"no layer to quantise: .* wide: its sums may not fit into 32 bits; bad: its weights are not finite",
    ):
        quantise(build.graph([wide, bad]), [np.abs(normal(4, 70_000))])


@pytest.mark.parametrize("op", ["hardswish", "silu", "tanh"])
def test_functions_between_layers_are_tables(op: str) -> None:
    graph = graph_of(lambda build, x: conv(build, build.emit(op, conv(build, x, 8, 1)), 3, 3))
    quantised, _ = checked(graph)
    assert ops(quantised) == ["quantise", "quantised_conv2d", "quantised_table", "quantised_conv2d"]
    assert ops(to_floats(quantised)) == ["conv2d", op, "conv2d"]
    assert ops(sketch(graph)) == ops(quantised)


def test_functions_that_change_much_where_a_number_does_stay_in_float() -> None:
    graph = graph_of(lambda build, x: conv(build, build.emit("exp", conv(build, x, 8, 1)), 3, 3))
    assert ops(checked(graph, within=0.01)[0]) == [
        "quantise",
        "quantised_conv2d",
        "exp",
        "quantise",
        "quantised_conv2d",
    ]


def test_layers_whose_outputs_cannot_be_squared_stay_in_float() -> None:
    """In float32 their errors would be infinite, and no way of rounding better than another."""
    build = Builder()
    huge = build.at("huge", is_layer=True).emit(
        "linear", build.input("x", (4,)), weights=weights(weight=np.full((4, 4), 1e30))
    )
    graph = build.graph([linear(build, build.emit("sigmoid", huge), 3, 1)])
    report = quantise(graph, [normal(9, 4)])[1]
    assert [layer.reason for layer in report.left_float] == ["squares of what it makes are not numbers of float32"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "expected at least one batch of inputs, got none"),
        ([np.zeros((0, 4, 8, 8))], "expected at least one batch of inputs, got none"),
        ([np.full((2, 4, 8, 8), np.nan)], "batch 0, input 'x': holds NaN or infinite numbers"),
        ([np.full((2, 4, 8, 8), np.inf)], "batch 0, input 'x': holds NaN or infinite numbers"),
        ([np.zeros((2, 4, 8, 8)), np.zeros((2, 4, 8))], r"batch 1, input 'x': expected shape \(N, 4, 8, 8\), got \(2"),
        ([(np.zeros((2, 4, 8, 8)), np.zeros(2))], r"batch 0: expected inputs \['x'\], got 2 arrays"),
        ([{"z": np.zeros((2, 4, 8, 8))}], r"batch 0: expected inputs \['x'\], got \['z'\]"),
        ([np.full((2, 4, 8, 8), "a")], "expected numbers, got <U1"),
    ],
)  # fmt: skip
def test_calibration_data_that_does_not_fit_is_refused(data: list[Any], message: str) -> None:
    with pytest.raises(QuantiseError, match=message):
        quantise(graph_of(lambda build, x: conv(build, x, 4, 1)), data)


def test_values_that_are_not_finite_are_named() -> None:
    def make(build: Builder, x: str) -> str:
        return linear(build, build.at("root").emit("log", x), 3, 1)

    with pytest.raises(QuantiseError, match=r"value 'root.log' is not finite on the calibration data: mend"):
        quantise(graph_of(make, (4,)), [-np.ones((2, 4))])


def test_graphs_with_nothing_to_quantise_or_values_of_all_images_are_refused() -> None:
    done, _ = quantise(graph_of(lambda build, x: conv(build, x, 4, 1)), [normal(9, 4, 8, 8)])
    with pytest.raises(QuantiseError, match=r"^the network is in eight bits already: expected one in float32$"):
        quantise(done, [normal(9, 4, 8, 8)])
    with pytest.raises(QuantiseError, match=r"^no layer to quantise: expected a convolution or .*, got none$"):
        quantise(graph_of(lambda build, x: build.emit("relu", x)), [normal(2, 4, 8, 8)])
    mixed = Builder()
    x = linear(mixed, mixed.input("x", (4,)), 3, 1)
    every = mixed.emit("scatter_images", mixed.emit("gather_images", x, images=named("batch")), images=named("batch"))
    with pytest.raises(QuantiseError, match=r"values of all images cannot be quantised with the number of images free"):
        quantise(mixed.graph([every]), [normal(2, 4)])


def small(build: Builder, x: str) -> str:
    first = build.emit("relu", conv(build, x, 8, 1))
    after = build.emit("relu", build.emit("add", conv(build, first, 8, 2), first))
    return linear(build, build.emit("reshape", after, shape=(512,)), 5, 3)


def test_a_sketch_has_the_operations_and_sizes_of_what_is_quantised() -> None:
    graph = graph_of(small)
    made = (sketch(graph), checked(graph)[0])
    one, other = ([(node.op, node.shape, len(node.weights)) for node in each.nodes] for each in made)
    assert one == other
    shapes = [{name: (each.dtype, each.shape) for name, each in graph.weights.items()} for graph in made]
    assert shapes[0] == shapes[1]
