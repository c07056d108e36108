"""Values have an element type: float32 unless an input says otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from secateur import packfile
from secateur.errors import FormatError, GraphError, RunError
from secateur.network import composites
from secateur.network.building import Builder
from secateur.network.formats import FORMATS
from secateur.network.graph import Graph
from secateur.network.simplification import simplify
from secateur.runtime import Session, reference


def shuffled(element: str) -> Graph:
    """Channels of a plane in another order, a part of them, and twice: operations that move bits."""
    build = Builder()
    x = build.input("x", (4, 2, 2), element)
    parts = composites.split(build, composites.channel_shuffle(build, x, 2), 1, [1, 3])
    return build.graph([build.emit("concat", *parts, parts[0], axis=1)])


@pytest.mark.parametrize("element", [name for name, held in FORMATS.items() if held.numbers is not None])
def test_operations_that_move_numbers_take_any_and_give_them_back(element: str) -> None:
    graph = simplify(shuffled(element))
    assert set(graph.value_elements.values()) == {element}
    x = np.random.default_rng(0).integers(0, 2, (3, 4, 2, 2)).astype(element)
    found = reference.run(graph, x)
    assert found.dtype == x.dtype
    assert (found == x[:, [0, 2, 1, 3, 0]]).all()


def test_operations_that_compute_take_float32() -> None:
    build = Builder()
    flat = build.emit("reshape", build.input("x", (2, 2), "int8"), shape=(4,))
    with pytest.raises(GraphError, match=r"node 'relu' \(relu\): expected inputs of float32, got int8"):
        build.graph([build.emit("relu", flat)])


def test_inputs_of_different_elements_are_not_put_together() -> None:
    build = Builder()
    left, right = build.input("left", (2,), "int8"), build.input("right", (2,), "uint8")
    with pytest.raises(GraphError, match="expected inputs of int8, got uint8"):
        build.graph([build.emit("concat", left, right, axis=1)])


@pytest.mark.parametrize("elements", [{"x": "int7"}, {"y": "int8"}])
def test_elements_are_a_known_inputs_and_of_a_known_format(elements: dict[str, str]) -> None:
    with pytest.raises(GraphError, match="expected an input's, one of float32, float16"):
        Graph({"x": (2,)}, ("x",), (), {}, elements)


def test_the_runtime_refuses_other_elements_in_one_line() -> None:
    with pytest.raises(
        RunError, match=r"input 'x' is int8: the runtime takes float32, int64, int32 and bool only; convert it before"
    ):
        Session(shuffled("int8"))


def test_a_file_says_elements_only_where_they_are_not_float32(tmp_path: Path) -> None:
    for element in ("float32", "uint8"):
        packfile.write(shuffled(element), tmp_path / element)
        assert packfile.read(tmp_path / element).value_elements == shuffled(element).value_elements
    one, other = ((tmp_path / name).read_bytes() for name in ("float32", "uint8"))
    assert (b'"secateur":"1.0 ' in one, b'"secateur":"1.1 ' in other) == (True, True)


def test_a_file_that_says_what_goes_without_saying_is_refused(tmp_path: Path) -> None:
    from secateur.packfile import document

    graph = shuffled("uint8")
    made = document.document_of(graph, (), packfile.Metadata())
    spelt = document.to_bytes(
        document.Document(made.metadata, made.inputs, made.outputs, made.nodes, (), {"x": "float32"})
    )
    with pytest.raises(FormatError, match="which goes without saying"):
        document.from_bytes(spelt)


def test_an_onnx_model_has_inputs_and_outputs_of_the_same_elements() -> None:
    onnx = pytest.importorskip("onnx")
    from secateur.exporting.onnx import to_onnx

    model = onnx.load_from_string(to_onnx(shuffled("int64")))
    ends = [*model.graph.input, *model.graph.output]
    assert {each.type.tensor_type.elem_type for each in ends} == {onnx.TensorProto.INT64}
