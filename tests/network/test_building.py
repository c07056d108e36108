"""A graph in the making: how values and weights are named, and what is stored once."""

from __future__ import annotations

import numpy as np
import pytest

from secateur.errors import GraphError
from secateur.network.building import DERIVED, Builder, filled
from secateur.network.graph import Weight


def matrix(value: float = 1.0) -> Weight:
    return Weight.of(np.full((3, 3), value, np.float32))


def started(*entries: str) -> Builder:
    build = Builder.with_entries(entries)
    build.input("x", (3,))
    return build


def test_a_node_is_named_after_its_layer_and_the_next_after_its_operation_too() -> None:
    build = started().at("body.fc", is_layer=True)
    made = build.emit("linear", "x", weights={"weight": matrix()})
    second, third = build.emit("relu", made), build.emit("relu", made)
    assert (made, second, third) == ("body.fc", "body.fc.relu", "body.fc.relu_1")
    assert {node.source for node in build.graph([second, third]).nodes} == {"body.fc"}


def test_a_weight_has_an_entrys_name_only_where_it_is_that_entry() -> None:
    build = started("fc.weight").at("fc", is_layer=True)
    entry = build.entry("fc.weight", matrix())
    first = build.emit("linear", "x", weights={"weight": entry})
    second = build.emit("linear", first, weights={"weight": matrix(2.0)})
    graph = build.graph([second])
    assert [node.weights["weight"] for node in graph.nodes] == ["fc.weight", f"fc.weight{DERIVED}"]
    assert [each.values()[0, 0] for each in graph.weights.values()] == [1.0, 2.0]


def test_a_name_of_the_state_dict_is_left_to_its_entry_though_that_is_never_used() -> None:
    build = started("fc.weight").at("fc")
    graph = build.graph([build.emit("linear", "x", weights={"weight": matrix()})])
    assert list(graph.weights) == [f"fc.weight{DERIVED}"]


def test_an_entry_given_twice_has_to_be_the_same_bits() -> None:
    build = started("w")
    held = build.entry("w", matrix())
    assert build.entry("w", matrix()) is held
    with pytest.raises(GraphError, match=r"weight 'w': the name stands for another weight already"):
        build.entry("w", matrix(-0.0))


def test_an_entry_that_comes_late_finds_its_name_taken() -> None:
    build = started()
    build.at("fc").emit("linear", "x", weights={"weight": matrix()})
    with pytest.raises(GraphError, match=r"weight 'fc\.weight'"):
        build.entry("fc.weight", matrix(2.0))


def test_a_weight_at_work_twice_is_stored_once() -> None:
    build, shared = started(), matrix()
    inner = build.at("one").emit("linear", "x", weights={"weight": shared})
    graph = build.graph([build.at("two").emit("linear", inner, weights={"weight": shared})])
    assert {node.weights["weight"] for node in graph.nodes} == {"one.weight"}


def test_equal_numbers_are_one_constant_but_zeros_of_different_signs_are_two() -> None:
    build = started()
    sums = [build.at(path).emit("add", "x", number) for path, number in (("a", 2.5), ("b", 2.5), ("c", 0.0))]
    sums.append(build.at("d").emit("add", "x", -0.0))
    graph = build.graph(sums)
    constants = [node.name for node in graph.nodes if node.op == "constant"]
    assert constants == ["a.add.constant", "c.add.constant", "d.add.constant"]
    assert [weight.bits.item() for weight in graph.weights.values()] == [0x40200000, 0, 0x80000000]


def test_what_no_output_needs_is_left_out() -> None:
    build = started()
    build.emit("linear", "x", weights={"weight": matrix()})
    graph = build.graph([build.emit("relu", "x")])
    assert ([node.op for node in graph.nodes], dict(graph.weights)) == (["relu"], {})


def test_shapes_are_worked_out_and_checked_as_nodes_are_added() -> None:
    build = started()
    assert build.shape(build.emit("reshape", "x", shape=(3, 1))) == (3, 1)
    with pytest.raises(GraphError, match=r"node 'add' \(add\): expected shapes that broadcast"):
        build.emit("add", "x", filled((2,), 1.0))
