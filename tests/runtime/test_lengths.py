"""A Graph with lengths that are free, run at several: PyTorch computes the same on tensors of that size."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch import Tensor

from graph_strategies import graphs
from kernels import float_kernels
from secateur.errors import GraphError, RunError
from secateur.network.graph import Attribute, Graph, Node, Weight, infer_shape
from secateur.network.limits import Limits
from secateur.network.simplification import simplify
from secateur.network.sizes import named
from secateur.runtime import Session, reference
from secateur.runtime.session import MOST_LENGTHS

HEIGHT, WIDTH, LENGTH = named("height"), named("width"), named("length")
RANDOM = np.random.default_rng(0)
WEIGHTS = {
    "kernel": RANDOM.normal(0, 0.3, (8, 3, 3, 3)),
    "mean": RANDOM.normal(0, 0.1, 8),
    "variance": RANDOM.uniform(0.5, 1.5, 8),
    "matrix": RANDOM.normal(0, 0.3, (5, 8)),
}


def weights(*names: str) -> dict[str, Weight]:
    return {name: Weight.of(WEIGHTS[name].astype(np.float32)) for name in names}


def planes() -> Graph:
    """A convolution of stride 2, its norm, a pooling, and each channel's mean into a linear layer."""
    down, pooled = [(size + 1) // 2 for size in (HEIGHT, WIDTH)], [(size + 1) // 4 for size in (HEIGHT, WIDTH)]
    conv: dict[str, Attribute] = {"stride": (2, 2), "padding": (1, 1, 1, 1), "dilation": (1, 1), "groups": 1}
    pool = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0, 0, 0), "dilation": (1, 1)}
    nodes = (
        Node("conv", "conv2d", ("x",), {"weight": "kernel"}, conv, (8, *down)),
        Node("norm", "batch_norm", ("conv",), {"mean": "mean", "variance": "variance"}, {"eps": 1e-5}, (8, *down)),
        Node("relu", "relu", ("norm",), {}, {}, (8, *down)),
        Node("pool", "max_pool2d", ("relu",), {}, pool, (8, *pooled)),
        Node("mean", "mean", ("pool",), {}, {"axes": (2, 3), "keepdims": False}, (8,)),
        Node("out", "linear", ("mean",), {"weight": "matrix"}, {}, (5,)),
    )
    return Graph({"x": (3, HEIGHT, WIDTH)}, ("out", "pool"), nodes, weights("kernel", "mean", "variance", "matrix"))


def on_planes(x: Tensor) -> list[Tensor]:
    kernel, mean, variance, matrix = (torch.tensor(each, dtype=torch.float32) for each in WEIGHTS.values())
    pooled = F.max_pool2d(F.batch_norm(F.conv2d(x, kernel, None, 2, 1), mean, variance).relu(), 2)
    return [pooled.mean((2, 3)) @ matrix.T, pooled]


def tokens() -> Graph:
    """Tokens beside those before them, all but the first of a pair in one row."""
    both = 2 * LENGTH
    nodes = (
        Node("softmax", "softmax", ("x",), {}, {"axis": 1}, (both, 8)),
        Node("rows", "reshape", ("softmax",), {}, {"shape": (LENGTH, 16)}, (LENGTH, 16)),
        Node("turned", "permute", ("rows",), {}, {"axes": (2, 1)}, (16, LENGTH)),
        Node("cut", "slice", ("turned",), {}, {"axis": 2, "start": 1, "stop": LENGTH}, (16, LENGTH - 1)),
        Node("joined", "concat", ("turned", "cut"), {}, {"axis": 2}, (16, both - 1)),
        Node("sum", "mul", ("joined", "row"), {}, {}, (16, both - 1)),
    )
    return Graph({"x": (both, 8), "row": (both - 1,)}, ("sum",), nodes, {})


def on_tokens(x: Tensor, row: Tensor) -> list[Tensor]:
    turned = x.softmax(1).reshape(len(x), -1, 16).transpose(1, 2)
    return [torch.cat([turned, turned[:, :, 1:]], 2) * row[:, None]]


CASES: dict[str, tuple[Graph, Any, list[tuple[tuple[int, ...], ...]]]] = {
    "planes": (planes(), on_planes, [((3, height, width),) for height, width in ((12, 9), (5, 31), (3, 3))]),
    "tokens": (tokens(), on_tokens, [((2 * length, 8), (2 * length - 1,)) for length in (7, 1, 32)]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_graph_with_free_lengths_computes_what_pytorch_does_at_each(case: str) -> None:
    graph, expected, shapes = CASES[case]
    sessions = [Session(graph, kernel=kernel) for kernel in float_kernels()]
    for batch, shape in zip((2, 17, 1), shapes, strict=True):
        given = [torch.randn(batch, *each) for each in shape]
        arrays = [each.numpy() for each in given]
        wanted = [each.numpy() for each in expected(*given)]
        for each in (graph, simplify(graph)):
            for found, want in zip(
                reference.run_all(each, dict(zip(graph.inputs, arrays, strict=True))), wanted, strict=True
            ):
                np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5)
        for session in sessions:
            made = session(*arrays)
            for found, want in zip(made if isinstance(made, tuple) else (made,), wanted, strict=True):
                np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)


def test_a_bound_graph_is_one_of_whole_numbers() -> None:
    bound = planes().bind({"height": 12, "width": 9})
    assert (bound.inputs, bound.lengths) == ({"x": (3, 12, 9)}, ())
    assert [node.shape for node in bound.nodes][2:4] == [(8, 6, 5), (8, 3, 2)]
    assert bound.bind({}) is bound
    assert planes().lengths == ("height", "width")
    assert planes().bind({"height": np.int64(12), "width": np.int32(9)}).nodes == bound.nodes  # type: ignore[dict-item]
    cut = tokens().bind({"length": 4}).nodes[3]
    assert (cut.attributes["stop"], cut.shape) == (4, (16, 3))


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ({"height": 4}, r"lengths \['height'\]: expected \['height', 'width'\]"),
        ({"height": 4, "width": 4, "depth": 1}, r"expected \['height', 'width'\]"),
        ({"height": 2, "width": 1}, "node 'pool' .*: expected a window no larger than the padded input"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(lengths: dict[str, int], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        planes().bind(lengths)
    with pytest.raises(RunError, match=message):
        Session(planes()).bind(lengths)


@pytest.mark.parametrize("length", [2.5, "3", None])
def test_a_length_that_is_no_whole_number_is_refused(length: Any) -> None:
    with pytest.raises(GraphError, match=f"^height {length!r}: expected a whole number$"):
        planes().bind({"height": length, "width": 4})


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, 7, 8), (2, 6)), r"input 'x', dimension 1: expected 2·length of a whole length, got 7"),
        (((2, 8, 9), (2, 7)), r"input 'x', dimension 2: expected 8, got 9"),
        (((2, 8, 8), (2, 6)), r"input 'row', dimension 1: expected 2·length - 1 = 7 where length is 4, got 6"),
        (((2, 8), (2, 7)), r"input 'x': expected .*\(N, 2·length, 8\), got"),
    ],
)
def test_an_input_of_a_size_that_cannot_be_is_named(shapes: tuple[tuple[int, ...], ...], message: str) -> None:
    x, row = (np.zeros(shape, np.float32) for shape in shapes)
    session = Session(tokens())
    with pytest.raises(RunError, match=message):
        session(x, row)
    with pytest.raises(RunError, match="input"):
        reference.run_all(tokens(), {"x": x, "row": row})


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (Node("y", "reshape", ("x",), {}, {"shape": (8, 8)}, (8, 8)), "expected as many elements as"),
        (
            Node("y", "linear", ("t",), {"weight": "matrix"}, {}, (8, 5)),
            r"expected a weight \(O, I\) for an input \(8, length\)",
        ),
        (Node("y", "add", ("x", "t"), {}, {}, (8, LENGTH)), "expected shapes that broadcast"),
        (Node("y", "reshape", ("x",), {}, {"shape": (named("other"), 8)}, (named("other"), 8)), "as many elements"),
        (
            Node("y", "slice", ("x",), {}, {"axis": 1, "start": 0, "stop": LENGTH + 1}, (LENGTH + 1, 8)),
            r"stop in \[0, length\]",
        ),
        (Node("y", "concat", ("x",), {}, {"axis": LENGTH}, (LENGTH, 8)), "axis in"),
    ],
)
def test_what_a_rule_cannot_say_of_a_length_is_refused(node: Node, message: str) -> None:
    turned = Node("t", "permute", ("x",), {}, {"axes": (2, 1)}, (8, LENGTH))
    with pytest.raises(GraphError, match=message):
        Graph({"x": (LENGTH, 8)}, ("y",), (turned, node), weights(*node.weights.values()))


def test_every_length_is_told_by_an_input() -> None:
    with pytest.raises(GraphError, match="no input tells the length 'height'"):
        Graph({"x": (HEIGHT * WIDTH,)}, ("x",), (), {})
    cut = Node("y", "slice", ("x",), {}, {"axis": 1, "start": 0, "stop": WIDTH}, (WIDTH,))
    with pytest.raises(GraphError, match=r"node 'y' \(slice\): no input tells the length 'width'"):
        Graph({"x": (HEIGHT,)}, ("y",), (cut,), {})


def test_a_session_keeps_what_it_made_for_the_lengths_last_used() -> None:
    session = Session(tokens())
    first = session.bind({"length": 3})
    for length in range(4, 3 + MOST_LENGTHS):
        session.bind({"length": length})
    assert session.bind({"length": 3}) is first
    session.bind({"length": 40})
    assert session.bind({"length": 3}) is first
    assert session.bind({"length": 4}) is not session.bind({"length": 5})
    for length in range(50, 50 + MOST_LENGTHS):
        session.bind({"length": length})
    assert session.bind({"length": 3}) is not first


def test_a_plan_is_for_lengths() -> None:
    session = Session(planes())
    assert (8, 3, 2) in [step.shape for step in session.plan(4, lengths={"height": 12, "width": 9}).steps]
    assert session.plan(4, lengths={"height": 12, "width": 9}) == session.bind({"height": 12, "width": 9}).plan(4)
    with pytest.raises(RunError, match=r"^lengths None: expected a mapping of names to whole numbers$"):
        session.bind(None)  # type: ignore[arg-type]
    with pytest.raises(RunError, match=r"lengths \[\]: expected \['height', 'width'\]"):
        session.plan(4)
    with pytest.raises(RunError, match=r"lengths \['height'\]: expected none"):
        session.bind({"height": 12, "width": 9}).plan(4, lengths={"height": 12})


def test_limits_hold_for_what_is_bound() -> None:
    session = Session(planes(), limits=Limits(memory=1 << 20))
    assert session(np.zeros((1, 3, 16, 16), np.float32))[0].shape == (1, 5)
    with pytest.raises(RunError, match="bytes of values for one image: more than the limit"):
        session(np.zeros((1, 3, 400, 400), np.float32))


def test_a_copy_of_a_session_runs_at_other_lengths() -> None:
    session = copy.copy(Session(planes()))
    x = np.ones((2, 3, 8, 9), np.float32)
    np.testing.assert_array_equal(session(x)[1], Session(planes())(x)[1])


def freed(graph: Graph) -> Graph | None:
    """A graph with names for the sizes of its input that are no channels, as far as its operations allow."""
    ((name, shape),) = graph.inputs.items()
    axes = range(1, 3) if len(shape) == 3 else range(len(shape) - 1)
    shapes = {name: tuple(named(f"size{axis}") if axis in axes else size for axis, size in enumerate(shape))}
    nodes: list[Node] = []
    for node in graph.nodes:
        held = {role: graph.weights[each].shape for role, each in node.weights.items()}
        try:
            found = infer_shape(node, [shapes[each] for each in node.inputs], held)
        except (GraphError, KeyError):
            continue
        shapes[node.name] = found
        nodes.append(replace(node, shape=found))
    used = {each for node in nodes for each in node.weights.values()}
    made = [node.name for node in nodes if node.op != "constant"]
    if not made:
        return None
    return Graph({name: shapes[name]}, (made[-1],), tuple(nodes), {each: graph.weights[each] for each in used})


@given(graphs())
@settings(max_examples=20, deadline=None)
def test_names_in_place_of_numbers_change_nothing(graph: Graph) -> None:
    free = freed(graph)
    if free is None:
        return
    (shape,) = graph.inputs.values()
    lengths = {f"size{axis}": size for axis, size in enumerate(shape) if f"size{axis}" in free.lengths}
    kept = {node.name for node in free.nodes}
    assert free.bind(lengths).nodes == tuple(node for node in graph.nodes if node.name in kept)
    session = Session(free)
    for more in (0, 1):
        try:
            bound = free.bind({name: size + more for name, size in lengths.items()})
        except GraphError:
            continue
        x = np.random.default_rng(more).normal(size=(3, *bound.inputs["x"])).astype(np.float32)
        found, expected = session(x), reference.run(free, x)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * max(1, np.abs(expected).max(initial=0)))
