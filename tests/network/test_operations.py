"""An operation is declared once: its line in the table is all that checks, simplification, files and tests need."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph_strategies import Draw, Drawing, add, inputs, layers
from secateur import packfile
from secateur.errors import FormatError, GraphError
from secateur.network.graph import Attribute, Graph, Node, Weight
from secateur.network.operations import OPERATIONS, Choice, Real, elementwise, pairwise
from secateur.network.simplification import simplify
from secateur.runtime import reference


@pytest.fixture
def cubed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPERATIONS, "cubed", elementwise(lambda x, factor: x**3 * factor, factor=Real(above=0)))


def weight(*rows: list[float]) -> Weight:
    return Weight.of(np.array(rows, np.float32))


def two_layers(op: str, **attributes: Attribute) -> Graph:
    """x (2) → linear (3), whose last output is 2 whatever x is → op → linear (2)."""
    weights = {
        "first": weight([1, -2], [0.5, 1], [0, 0]),
        "bias": Weight.of(np.array([0, 1, 2], np.float32)),
        "second": weight([1, 2, 3], [-1, 0, 0.5]),
    }
    nodes = (
        Node("a", "linear", ("x",), {"weight": "first", "bias": "bias"}, {}, (3,)),
        Node("b", op, ("a",), {}, attributes, (3,)),
        Node("c", "linear", ("b",), {"weight": "second"}, {}, (2,)),
    )
    return Graph({"x": (2,)}, ("c",), nodes, weights)


@pytest.mark.usefixtures("cubed")
def test_one_line_makes_an_operation_that_is_checked_run_simplified_and_packed(tmp_path: Path) -> None:
    graph = two_layers("cubed", factor=0.25)
    x = inputs(graph, 4)
    hidden = x @ np.array([[1, 0.5, 0], [-2, 1, 0]]) + [0, 1, 2]
    expected = hidden**3 / 4 @ np.array([[1, -1], [2, 0], [3, 0.5]])
    np.testing.assert_allclose(reference.run(graph, x), expected, rtol=1e-5)
    small = simplify(graph)
    assert [node.shape for node in small.nodes] == [(2,), (2,), (2,)]
    np.testing.assert_allclose(small.weights["second.bias"].values(), [6, 1])  # 2³ / 4 times 3 and 0.5
    np.testing.assert_allclose(reference.run(small, x), expected, rtol=1e-5)
    packfile.write(graph, tmp_path / "net.secateur")
    assert packfile.read(tmp_path / "net.secateur").nodes == graph.nodes


@pytest.mark.usefixtures("cubed")
@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"attributes": {"factor": 0.0}}, r"node 'b' \(cubed\): expected factor above 0, got 0.0"),
        ({"attributes": {"factor": True}}, "expected factor to be a finite number, got True"),
        ({"attributes": {}}, r"expected attributes \['factor'\], got \[\]"),
        ({"inputs": ("a", "x")}, "expected 1 inputs, got 2"),
        ({"shape": (2,)}, r"its shape is given as \(2,\) but is \(3,\)"),
        ({"weights": {"weight": "first"}}, r"expected weights \[\]"),
    ],
)
def test_one_line_makes_its_checks(changes: dict[str, object], text: str) -> None:
    graph = two_layers("cubed", factor=0.25)
    first, node, last = graph.nodes
    with pytest.raises(GraphError, match=text):
        dataclasses.replace(graph, nodes=(first, dataclasses.replace(node, **changes), last))  # type: ignore[arg-type]


@pytest.mark.usefixtures("cubed")
def test_one_line_is_enough_to_draw_an_operation() -> None:
    @given(graph=layers("cubed"), batch=st.integers(1, 3))
    @settings(max_examples=10, deadline=None, database=None)
    def check(graph: Graph, batch: int) -> None:
        (node,) = graph.nodes
        x = inputs(graph, batch)
        np.testing.assert_allclose(reference.run(graph, x), x.astype(np.float64) ** 3 * node.number("factor"), 1e-6)

    check()


def test_a_function_of_two_numbers_broadcasts_behind_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPERATIONS, "hypot", pairwise(np.hypot))
    graph = Graph({"x": (2, 3), "y": (3,)}, ("z",), (Node("z", "hypot", ("x", "y"), shape=(2, 3)),), {})
    x, y = np.full((5, 2, 3), 3.0), np.full((5, 3), 4.0)
    np.testing.assert_array_equal(reference.run_all(graph, {"x": x, "y": y})[0], np.full((5, 2, 3), 5.0))


FUNCTIONS = [name for name, each in OPERATIONS.items() if not each.weights and each.inputs in (1, 2) and each.steady]


@pytest.mark.parametrize("op", FUNCTIONS)
def test_a_constant_channel_leaves_through_every_function_of_numbers(op: str) -> None:
    """What it becomes goes into the next layer's bias: the smaller network computes the same."""

    @st.composite
    def chains(draw: Draw) -> Graph:
        build = Drawing(draw, (3,), dead=0.6, width=4)
        hidden = build.add(
            "linear", "x", weights={"weight": build.sparse(6, 3), "bias": build.random.uniform(0.5, 2, 6)}
        )
        return build.graph(build.add("linear", add(build, op, hidden), weights={"weight": build.normal(2, 6)}))

    @given(graph=chains())
    @settings(max_examples=12, deadline=None, database=None)
    def check(graph: Graph) -> None:
        small, x = simplify(graph), inputs(graph, 3)
        np.testing.assert_allclose(reference.run(small, x), reference.run(graph, x), rtol=1e-4, atol=1e-4)

    check()


def test_a_product_with_nothing_is_nothing_whatever_the_other_factor() -> None:
    weights = {"left": weight([1, -2], [0, 0]), "right": weight([0.5, 1], [2, 1]), "last": weight([1, 3])}
    nodes = (
        Node("a", "linear", ("x",), {"weight": "left"}, {}, (2,)),
        Node("b", "linear", ("x",), {"weight": "right"}, {}, (2,)),
        Node("c", "mul", ("a", "b"), {}, {}, (2,)),
        Node("d", "linear", ("c",), {"weight": "last"}, {}, (1,)),
    )
    graph = Graph({"x": (2,)}, ("d",), nodes, weights)
    small, x = simplify(graph), inputs(graph, 3)
    assert [node.shape for node in small.nodes] == [(1,), (1,), (1,), (1,)]
    np.testing.assert_allclose(reference.run(small, x), reference.run(graph, x), rtol=1e-6)


def test_what_is_read_together_stays() -> None:
    for op, attributes in (("softmax", {"axis": 1}), ("layer_norm", {"axes": 1, "eps": 1e-5})):
        assert simplify(two_layers(op, **attributes)).nodes[1].shape == (3,)


def test_matrices_and_vectors_are_rounded_and_statistics_are_not(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    names = {"weight": (8, 3, 3, 3), "bias": (8,), "mean": (8,), "variance": (8,), "scale": (8,), "value": (8, 1, 1)}
    weights = {name: Weight.of(random.uniform(0.5, 1, shape).astype(np.float32)) for name, shape in names.items()}
    same: dict[str, Attribute] = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1}
    shape = (8, 4, 4)
    roles = {"mean": "mean", "variance": "variance", "weight": "scale"}
    nodes = (
        Node("a", "conv2d", ("x",), {"weight": "weight", "bias": "bias"}, same, shape),
        Node("b", "batch_norm", ("a",), roles, {"eps": 1e-5}, shape),
        Node("c", "constant", (), {"value": "value"}, {}, (8, 1, 1)),
        Node("d", "mul", ("b", "c"), {}, {}, shape),
    )
    graph = Graph({"x": (3, 6, 6)}, ("d",), nodes, weights)
    packfile.write(graph, tmp_path / "net.secateur", bits=4)
    found = packfile.read(tmp_path / "net.secateur").weights
    changed = {name for name, each in weights.items() if not np.array_equal(found[name].bits, each.bits)}
    assert changed == {"weight"} or changed == {"weight", "bias"}
    assert len(np.unique(found["weight"].bits)) <= 16


def test_a_file_says_the_version_that_has_its_operations_and_others_refuse_it_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = tmp_path / "old.secateur", tmp_path / "new.secateur"
    packfile.write(two_layers("sigmoid"), old)
    packfile.write(two_layers("softplus", beta=1.0, threshold=20.0), new)
    assert [packfile.describe(path).version for path in (old, new)] == ["1.0", "1.1"]
    assert [path.read_bytes()[8:].startswith(start) for path, start in ((old, V0), (new, V1))] == [True, True]
    former = {name: operation for name, operation in OPERATIONS.items() if name != "softplus"}
    monkeypatch.setattr("secateur.network.graph.OPERATIONS", former)
    with pytest.raises(FormatError, match="its graph cannot be used: node 'b': unknown operation 'softplus'"):
        packfile.read(new)


V0, V1 = (b'{"__metadata__":{"secateur":"1.%d ' % minor for minor in (0, 1))


@pytest.mark.parametrize(
    ("op", "attributes", "text"),
    [
        ("softplus", {"beta": 0, "threshold": 20}, "expected beta above 0, got 0"),
        ("softplus", {"beta": 1, "threshold": float("inf")}, "expected threshold to be a finite number, got inf"),
        ("pow", {"exponent": "2"}, "expected exponent to be a finite number, got '2'"),
        ("elu", {"alpha": float("nan")}, "expected alpha to be a finite number, got nan"),
        ("gelu", {"approximate": "erf"}, "expected approximate to be 'none' or 'tanh', got 'erf'"),
    ],
)
def test_attributes_out_of_their_range_are_refused(op: str, attributes: dict[str, Attribute], text: str) -> None:
    with pytest.raises(GraphError, match=text):
        two_layers(op, **attributes)


def test_every_choice_and_every_typical_number_is_one_of_its_range() -> None:
    for operation in OPERATIONS.values():
        for name, wanted in operation.attributes.items():
            values = wanted.typical if isinstance(wanted, Real) else wanted.texts if isinstance(wanted, Choice) else ()
            assert not any(wanted.expected(name, value) for value in values)
