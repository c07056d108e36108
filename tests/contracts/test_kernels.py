"""What every kernel owes: the reference's outputs, for any graph, any batch size and any number of threads."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from graph_strategies import FLOATING, Draw, Drawing, graphs, inputs, layers
from kernels import float_kernels
from secateur.exporting.rebuilding import GraphNetwork
from secateur.network.graph import Attribute, Graph, Node, Shape, Weight, infer_shape
from secateur.network.operations import OPERATIONS
from secateur.runtime import Session, reference
from secateur.runtime.calibration import Costs

KERNELS = float_kernels()
BATCHES = st.sampled_from([0, 1, 2, 3, 7, 15, 16, 17, 33, 64, 70])


def outputs_of(session: Session, x: np.ndarray) -> tuple[np.ndarray, ...]:
    found = session(x)
    return found if isinstance(found, tuple) else (found,)


def check_against_reference(graph: Graph, batch: int, threads: int = 1, costs: Costs | None = None) -> None:
    """In every kernel: to draw a graph and to compute it by the reference take longer than they do."""
    x = inputs(graph, batch)
    expected = reference.run_all(graph, {"x": x})
    for kernel in KERNELS:
        found = outputs_of(Session(graph, threads=threads, kernel=kernel, costs=costs), x)
        for name, mine, right in zip(graph.outputs, found, expected, strict=True):
            assert mine.shape == right.shape, (kernel, name)
            scale = max(1.0, float(np.abs(right).max(initial=0)))
            np.testing.assert_allclose(mine, right, rtol=2e-5, atol=1e-5 * scale, err_msg=f"{kernel}, {name}")


@pytest.mark.parametrize("operation", FLOATING)
def test_each_operation_is_the_references(operation: str) -> None:
    @given(graph=layers(operation), batch=BATCHES)
    @settings(max_examples=15, deadline=None, database=None)
    def check(graph: Graph, batch: int) -> None:
        check_against_reference(graph, batch)

    check()


@given(graph=graphs(dtype="mixed"), batch=BATCHES, threads=st.integers(1, 3))
@settings(max_examples=40, deadline=None, database=None)
def test_whole_graphs_are_the_references(graph: Graph, batch: int, threads: int) -> None:
    check_against_reference(graph, batch, threads)


# By which a tile of any other convolution, and packing rows, would take for ever (native/include/secateur/costs.hpp).
WINOGRAD = Costs(2 * (1e6, 0.15, 2.9, 3.2, 2.4, 1e9, 5.2, *6 * (1e6,)), "made up")


@st.composite
def residual_blocks(draw: Draw) -> Graph:
    """Two dense 3×3 convolutions of stride 1, the second onto its own input, with what is fused into them."""
    size = st.integers(1, 14) | st.sampled_from([8, 16, 24])
    build = Drawing(draw, (draw(st.integers(1, 9)), draw(size), draw(size)), dtype="mixed")
    width = draw(st.integers(1, 35))

    def convolution(value: str, padding: tuple[int, ...]) -> str:
        fan_in = build.shapes[value][0]
        weights = {"weight": build.normal(width, fan_in, 3, 3, scale=(9 * fan_in) ** -0.5), "bias": build.normal(width)}
        return build.add("conv2d", value, weights=weights, stride=(1, 1), padding=padding, dilation=(1, 1), groups=1)

    edges = [draw(st.integers(2 if build.shapes["x"][axis] < 3 else 0, 2)) for axis in (1, 1, 2, 2)]
    inner = build.add(draw(st.sampled_from(["relu", "relu6", "tanh"])), convolution("x", tuple(edges)))
    total = build.add("add", *draw(st.permutations([inner, convolution(inner, (1, 1, 1, 1))])))
    return build.graph(build.add("relu6", total) if draw(st.booleans()) else total)


@given(graph=residual_blocks(), batch=BATCHES, threads=st.integers(1, 3))
@settings(max_examples=30, deadline=None, database=None)
def test_convolutions_by_winograds_transform_are_the_references(graph: Graph, batch: int, threads: int) -> None:
    check_against_reference(graph, batch, threads, WINOGRAD)
    if batch >= 16 and np.prod(graph.nodes[0].shape[1:]) > 4:  # fewer pixels may be a matrix times a vector
        for kernel in KERNELS:
            steps = Session(graph, kernel=kernel, costs=WINOGRAD).plan(batch).steps
            assert sum(step.kernel.startswith("Winograd") for step in steps) >= 2, kernel


@pytest.mark.parametrize("kernel", KERNELS)
def test_an_infinity_spreads_over_its_tile_at_most(kernel: str) -> None:
    random = np.random.default_rng(0)
    weight = Weight.of(random.normal(0, 0.2, (5, 3, 3, 3)).astype(np.float32))
    same: dict[str, Attribute] = {"stride": (1, 1), "padding": (1, 1, 1, 1), "dilation": (1, 1), "groups": 1}
    node = Node("y", "conv2d", ("x",), {"weight": "w"}, same, (5, 20, 20))
    graph = Graph({"x": (3, 20, 20)}, ("y",), (node,), {"w": weight})
    session = Session(graph, kernel=kernel, costs=WINOGRAD)
    assert any(step.kernel.startswith("Winograd") for step in session.plan(16).steps)
    x = random.normal(size=(16, 3, 20, 20)).astype(np.float32)
    expected = reference.run(graph, x)
    x[7, 1, 9, 10] = np.inf
    found = session(x)
    lost = ~np.isfinite(found)
    assert lost[7, :, 8:11, 9:12].all()
    assert not np.delete(lost, 7, axis=0).any()
    assert not lost[7][:, [*range(4), *range(16, 20)]].any()
    assert not lost[7][:, :, [*range(5), *range(16, 20)]].any()
    np.testing.assert_allclose(found[~lost], expected[~lost], rtol=1e-4, atol=1e-5)


TOO_LARGE: dict[str, tuple[Shape, Shape, dict[str, Attribute]]] = {
    "a long kernel": ((1, 1, 8400), (2, 1, 1, 8193), {}),
    "a large kernel": ((2, 130, 131), (3, 2, 128, 128), {"padding": (1, 0, 2, 1)}),
    "wide dilation": ((1, 3000, 300), (2, 1, 3, 3), {"dilation": (1400, 140), "padding": (700, 700, 70, 70)}),
    "depthwise, strided": ((4, 150, 149), (8, 1, 140, 140), {"groups": 4, "stride": (2, 3), "padding": (9, 0, 0, 8)}),
    "no channels": ((0, 4, 4), (3, 0, 3, 3), {}),
}


@pytest.mark.parametrize("case", TOO_LARGE)
def test_convolutions_that_no_tile_can_hold_are_the_references(case: str) -> None:
    shape, weight_shape, given_attributes = TOO_LARGE[case]
    random = np.random.default_rng(0)
    attributes: dict[str, Attribute] = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1}
    weight = np.asarray(random.normal(0, max(1, math.prod(weight_shape[1:])) ** -0.5, weight_shape))
    weights = {
        "weight": Weight.of(np.where(random.random(weight_shape) < 0.1, weight, 0).astype(np.float32)),
        "bias": Weight.of(random.normal(size=weight_shape[:1]).astype(np.float32)),
    }
    first = Node("first", "conv2d", ("x",), {role: role for role in weights}, attributes | given_attributes)
    out = infer_shape(first, [shape], {role: weight.shape for role, weight in weights.items()})
    nodes = (
        replace(first, shape=out),
        Node("sum", "add", ("other", "first"), {}, {}, out),
        Node("y", "relu6", ("sum",), {}, {}, out),
    )
    graph = Graph({"x": shape, "other": out}, ("y",), nodes, weights)
    for batch in (1, 17):
        x, other = (random.normal(size=(batch, *size)).astype(np.float32) for size in (shape, out))
        (right,) = reference.run_all(graph, {"x": x, "other": other})
        for kernel in KERNELS:
            found = Session(graph, threads=2, kernel=kernel)(x, other)
            np.testing.assert_allclose(found, right, rtol=2e-5, atol=1e-5, err_msg=f"{kernel}, batch {batch}")


def pooled(op: str, shape: Shape, attributes: dict[str, Attribute], to: Shape) -> Graph:
    return Graph({"x": shape}, ("n",), (Node("n", op, ("x",), {}, attributes, to),), {})


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("batch", [1, 3, 17, 40])
@pytest.mark.parametrize("shape", [(3, 9, 9), (2, 16, 16), (1, 4, 70), (5, 2, 2)])
def test_nan_goes_through_pooling_and_activations_as_in_pytorch(shape: Shape, batch: int, kernel: str) -> None:
    """Planar, folded and interleaved; in the first image everything is NaN, in the second all is -inf."""
    random = np.random.default_rng(0)
    x = random.normal(size=(batch, *shape)).astype(np.float32)
    x[random.random(x.shape) < 0.1] = np.nan
    x[0], x[1:2] = np.nan, -np.inf
    tensor = torch.from_numpy(x)
    for size, stride, padding in ((2, 2, 0), (3, 2, 1), (3, 1, 1), (2, 1, 1)):
        if min(shape[1:]) + 2 * padding < size:
            continue
        window: dict[str, Attribute] = {
            "kernel": (size, size),
            "stride": (stride, stride),
            "padding": (padding,) * 4,
        }
        largest = functional.max_pool2d(tensor, size, stride, padding)
        mean = functional.avg_pool2d(tensor, size, stride, padding)
        agree("max_pool2d", x, {**window, "dilation": (1, 1)}, largest, kernel)
        agree("avg_pool2d", x, {**window, "count_include_pad": True}, mean, kernel)
    agree("adaptive_avg_pool2d", x, {"size": (2, 3)}, functional.adaptive_avg_pool2d(tensor, (2, 3)), kernel)
    agree("relu", x, {}, functional.relu(tensor), kernel)
    agree("relu6", x, {}, functional.relu6(tensor), kernel)
    agree("leaky_relu", x, {"negative_slope": 0.1}, functional.leaky_relu(tensor, 0.1), kernel)
    agree("hardswish", x, {}, functional.hardswish(tensor), kernel)
    agree("softmax", x, {"axis": 1}, tensor.softmax(1), kernel)


def agree(op: str, x: np.ndarray, attributes: dict[str, Attribute], expected: torch.Tensor, kernel: str) -> None:
    graph = pooled(op, x.shape[1:], attributes, tuple(expected.shape[1:]))
    for found in (Session(graph, kernel=kernel)(x), reference.run(graph, x)):
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5, err_msg=op)


NO_ORDINARY_NUMBERS = np.array(
    [np.nan, np.inf, 0, 1e-40, 1e-30, 0.5, 1, 2, 20, 88, 104, 1e5, 1e19, 3e38], np.float32
) * np.array([[1], [-1]], np.float32)
EXPONENTS = (2.0, 3.0, -1.0, 1.7, 0.0, -2.0)


def of_no_ordinary_numbers() -> Iterator[Graph]:
    """Every function of numbers that version 1.1 brought, of one such number or of each two of them."""
    size = NO_ORDINARY_NUMBERS.size
    drawn: dict[str, list[dict[str, Attribute]]] = {
        "elu": [{"alpha": 0.7}],
        "softplus": [{"beta": 1.0, "threshold": 20.0}, {"beta": 2.5, "threshold": 5.0}],
        "pow": [{"exponent": exponent} for exponent in EXPONENTS],
    }
    for op, operation in OPERATIONS.items():
        shapes = {"x": (size,)} if operation.inputs == 1 else {"x": (size, 1), "y": (size,)}
        shape = (size,) * len(shapes)
        for attributes in drawn.get(op, [{}]) if operation.minor == 1 and operation.steady else []:
            yield Graph(shapes, ("z",), (Node("z", op, tuple(shapes), {}, attributes, shape),), {})


@pytest.mark.parametrize("kernel", KERNELS)
def test_functions_of_what_is_no_ordinary_number_are_pytorchs(kernel: str) -> None:
    for graph in of_no_ordinary_numbers():
        x = [NO_ORDINARY_NUMBERS.reshape(1, *shape) for shape in graph.inputs.values()]
        expected = GraphNetwork(graph)(*map(torch.from_numpy, x)).numpy()
        for found in (Session(graph, kernel=kernel)(*x), reference.run_all(graph, dict(zip("xy", x, strict=False)))[0]):
            np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-30, err_msg=str(graph.nodes))
