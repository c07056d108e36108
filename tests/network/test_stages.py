"""Values of all images in a Graph: what is such a value, what is refused, and which parts can run at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from secateur import packfile
from secateur.errors import GraphError
from secateur.network.building import Builder
from secateur.network.graph import Graph, Node, Weight
from secateur.network.simplification import simplify
from secateur.network.sizes import named
from secateur.network.stages import Stage, crosses_images, stages_of

BATCH = named("batch")


def centred() -> Graph:
    """Features less their mean over all images, both of them outputs."""
    build = Builder()
    features = build.emit("linear", build.input("x", (3,)), weights={"weight": Weight.of(np.eye(4, 3, dtype="f4"))})
    mean = build.emit("mean", build.emit("gather_images", features, images=BATCH), axes=(1,), keepdims=False)
    return build.graph([build.emit("sub", features, mean), mean])


def test_what_is_made_of_ordinary_values_alone_is_one() -> None:
    graph = centred()
    assert graph.ordinary == {"gather_images", "mean"}
    assert (graph.lengths, graph.images) == (("batch",), None)
    assert graph.output_shapes == ((4,), (4,))
    bound = graph.bind({"batch": 7})
    assert (bound.lengths, bound.images, bound.shape_of("gather_images")) == ((), 7, (7, 4))


def test_what_is_of_each_image_runs_by_itself() -> None:
    first, gather, middle, last = stages_of(centred().bind({"batch": 2}))
    assert isinstance(gather, Node)
    stages = [each for each in (first, middle, last) if isinstance(each, Stage)]
    assert [each.ordinary for each in stages] == [False, True, False]
    assert [[node.op for node in each.graph.nodes] for each in stages] == [["linear"], ["mean"], ["sub"]]
    assert [dict(each.graph.inputs) for each in stages] == [
        {"x": (3,)},
        {"gather_images": (2, 4)},
        {"linear": (4,), "mean": (4,)},
    ]


def test_constants_go_where_they_are_read() -> None:
    build = Builder()
    x = build.input("x", (3,))
    one = build.constant(Weight.of(np.ones(3, np.float32)), "one")
    more = build.emit("mul", build.emit("gather_images", build.emit("add", x, one), images=BATCH), one)
    graph = build.graph([build.emit("scatter_images", more, images=BATCH)]).bind({"batch": 2})
    stages = [each for each in stages_of(graph) if isinstance(each, Stage)]
    assert [[node.op for node in each.graph.nodes] for each in stages] == [["constant", "add"], ["constant", "mul"]]


def test_a_graph_of_each_image_alone_has_one_stage() -> None:
    build = Builder()
    graph = build.graph([build.emit("relu", build.input("x", (3,)))])
    assert not crosses_images(graph)
    (only,) = stages_of(graph)
    assert isinstance(only, Stage)
    assert only.graph == graph


GATHER = Node("all", "gather_images", ("x",), {}, {"images": BATCH}, (BATCH, 3))
MEAN = Node("mean", "mean", ("all",), {}, {"axes": (1,), "keepdims": False}, (3,))


@pytest.mark.parametrize(
    ("nodes", "text"),
    [
        ([GATHER, Node("b", "gather_images", ("all",), {}, {"images": BATCH}, (BATCH, BATCH, 3))],
         r"node 'b' \(gather_images\): expected values of images, got an ordinary one"),
        ([Node("b", "scatter_images", ("x",), {}, {"images": 3}, ())],
         r"node 'b' \(scatter_images\): expected an ordinary value, got one per image"),
        ([GATHER, MEAN, Node("b", "scatter_images", ("mean",), {}, {"images": BATCH}, ())],
         r"expected an ordinary value \(batch, …\), got \(3,\)"),
        ([replace(GATHER, attributes={"images": named("length")}, shape=(named("length"), 3))],
         "expected images to be batch, or a whole number, got length"),
        ([replace(GATHER, attributes={"images": 2 * BATCH}, shape=(2 * BATCH, 3))], "got 2·batch"),
        ([GATHER, replace(GATHER, name="b", attributes={"images": 5}, shape=(5, 3))],
         "a graph for 5 and batch images: expected one number of them"),
        ([Node("b", "range", (), {}, {"start": 0, "step": 1, "length": named("length")}, (named("length"),))],
         r"node 'b' \(range\): no input tells the length 'length'"),
        ([Node("b", "fill", (), {}, {"value": 0, "shape": (-1,)}, (-1,))], "expected shape to be some whole numbers"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(nodes: list[Node], text: str) -> None:
    with pytest.raises(GraphError, match=text):
        Graph({"x": (3,)}, (nodes[-1].name,), tuple(nodes), {})


def test_no_input_has_a_size_of_the_batch() -> None:
    with pytest.raises(GraphError, match="inputs with a size of batch: expected none, as shapes leave the batch out"):
        Graph({"x": (BATCH,)}, ("x",), (), {})


def test_a_batch_that_is_missing_is_asked_for() -> None:
    with pytest.raises(GraphError, match=r"lengths \[\]: expected \['batch'\]"):
        centred().bind({})


def test_simplified_it_keeps_what_mixes_images() -> None:
    assert [node.op for node in simplify(centred()).nodes] == [node.op for node in centred().nodes]


def test_a_file_has_it_from_version_1_1_on(tmp_path: Path) -> None:
    packfile.write(centred(), tmp_path / "net.secateur")
    assert b'"secateur":"1.1 ' in (tmp_path / "net.secateur").read_bytes()
    assert packfile.read(tmp_path / "net.secateur").nodes == centred().nodes
