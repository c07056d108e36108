"""ONNX Runtime computes from our ONNX what the reference computes from the graph."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import RunCli
from graph_strategies import FLOATING, graphs, inputs, layers
from networks import FAMILIES, make_graph
from secateur import packfile
from secateur.errors import ExportError
from secateur.exporting.judging import LEAST_SHARE, least_sizes
from secateur.exporting.onnx import to_onnx, write_onnx
from secateur.network.building import Builder
from secateur.network.graph import Graph, Node, Weight
from secateur.network.operations import FUNCTIONS
from secateur.network.simplification import simplify
from secateur.runtime import reference
from secateur.runtime.agreement import largest_difference

onnx: Any = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'secateur[onnx]'")
onnxruntime: Any = pytest.importorskip(
    "onnxruntime", reason="onnxruntime is not installed: pip install 'secateur[bench]'"
)


def run_onnx(model: bytes, x: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(None, x)


def assert_onnx_agrees(graph: Graph, batch: int, tolerance: float = 1e-5) -> None:
    model = to_onnx(graph)
    onnx.checker.check_model(model, full_check=True)
    (name,) = graph.inputs
    x = {name: inputs(graph, batch)}
    for found, expected in zip(run_onnx(model, x), reference.run_all(graph, x), strict=True):
        assert found.shape == expected.shape
        scale = max(1.0, float(np.abs(expected).max(initial=0)))
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("name", [*FAMILIES, "lenet-5", "slim-resnet-18"])
def test_networks_run_in_onnx_runtime(name: str) -> None:
    graph = make_graph(name, 0.9)
    assert_onnx_agrees(graph, 3)
    assert_onnx_agrees(simplify(graph), 1)


@pytest.mark.parametrize("operation", FLOATING)
def test_each_operation_runs_in_onnx_runtime(operation: str) -> None:
    @given(graph=layers(operation), batch=st.integers(1, 3))
    @settings(max_examples=15 if operation not in FUNCTIONS else 6, deadline=None, database=None)
    def check(graph: Graph, batch: int) -> None:
        assert_onnx_agrees(graph, batch, 2e-5)

    check()


@given(graph=graphs(dtype="mixed"), batch=st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_whole_graphs_run_in_onnx_runtime(graph: Graph, batch: int) -> None:
    assert_onnx_agrees(graph, batch, 1e-4)


def test_where_nothing_is_found_anywhere_a_sigmoid_is_as_good_as_onnx_runtimes(tmp_path: Path) -> None:
    """Whose least is some 1e-8: of outputs of that size its share is large, of 1 it is nothing."""
    build = Builder()
    weights = {"weight": Weight.of(np.eye(4, dtype=np.float32)), "bias": Weight.of(np.full(4, -22, np.float32))}
    found = build.emit("sigmoid", build.emit("linear", build.input("x", (4,)), weights=weights))
    graph = build.graph([build.emit("reshape", found, shape=(2, 2))])
    assert least_sizes(graph) == [LEAST_SHARE]
    both = build.graph([build.emit("concat", found, found, axis=1), build.emit("concat", found, "x", axis=1)])
    assert least_sizes(both) == [LEAST_SHARE, 0.0]
    assert (write_onnx(graph, tmp_path / "net.onnx") or 0) < 1e-5
    little, other = np.full((1, 4), 1e-8), np.full((1, 4), 3e-8)
    assert largest_difference([other], [little]) == pytest.approx(2)
    assert largest_difference([other], [little], [LEAST_SHARE]) == pytest.approx(2e-6)
    assert largest_difference([1.1 * np.ones(2)], [np.ones(2)], [LEAST_SHARE]) == pytest.approx(0.1)


def test_the_same_graph_gives_the_same_bytes() -> None:
    graph = make_graph("shufflenet", 0.9)
    assert to_onnx(graph) == to_onnx(graph)


def test_inputs_outputs_and_weights_keep_their_names() -> None:
    graph = make_graph("lenet-5")
    model = onnx.load_from_string(to_onnx(graph))
    assert [each.name for each in model.graph.input] == ["x"]
    assert [each.name for each in model.graph.output] == [*graph.outputs]
    assert {each.name for each in model.graph.initializer} >= graph.weights.keys()
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_narrow_weights_stay_narrow() -> None:
    graph = make_graph("vgg")
    narrow = {
        name: Weight("bfloat16", (weight.bits >> np.uint32(16)).astype("<u2")) for name, weight in graph.weights.items()
    }
    model = to_onnx(replace(graph, weights=narrow))
    assert len(model) < 0.6 * len(to_onnx(graph))
    assert_onnx_agrees(replace(graph, weights=narrow), 2)


@pytest.mark.parametrize("op", [("pow", {"exponent": 1e300}), ("softplus", {"beta": 2.0, "threshold": 1e300})])
def test_a_number_beyond_float32_is_infinite_there_without_a_warning(op: tuple[str, dict[str, float]]) -> None:
    onnx = pytest.importorskip("onnx")
    graph = Graph({"x": (4,)}, ("y",), (Node("y", op[0], ("x",), attributes=op[1], shape=(4,)),), {})
    made = onnx.load_from_string(to_onnx(graph)).graph.initializer
    assert np.inf in [number for each in made for number in onnx.numpy_helper.to_array(each).flat]


def test_what_onnx_cannot_hold_is_refused() -> None:
    empty = Graph(
        {"x": (2,)}, ("cut",), (Node("cut", "slice", ("x",), {}, {"axis": 1, "start": 1, "stop": 1}, (0,)),), {}
    )
    with pytest.raises(ExportError, match=r"value 'cut' has shape \(0,\)"):
        to_onnx(empty)


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a net.onnx"
    assert (write_onnx(make_graph("lenet-5"), path) or 0) < 1e-5
    before = path.read_bytes()
    with pytest.raises(ExportError, match=r"a net\.onnx exists: choose another name, or replace it with --force"):
        write_onnx(make_graph("vgg"), path)
    with pytest.raises(ExportError, match="cannot be written"):
        write_onnx(make_graph("vgg"), tmp_path / "nowhere" / "net.onnx")
    assert (path.read_bytes(), [*tmp_path.glob("*.tmp")]) == (before, [])
    write_onnx(make_graph("vgg"), path, force=True)
    assert path.read_bytes() != before


def test_the_command_line_exports_a_packed_network(tmp_path: Path, run_cli: RunCli) -> None:
    graph = make_graph("vgg", 0.99)
    packfile.write(graph, tmp_path / "net.secateur")
    done = run_cli("export", "net.secateur", "-o", "small.onnx")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"small.onnx \([\d,]+ bytes; ONNX Runtime agrees within \S+\)\n", done.stdout)
    assert run_cli("export", "net.secateur", "--as-is").returncode == 0
    small, whole = (tmp_path / "small.onnx").read_bytes(), (tmp_path / "net.onnx").read_bytes()
    assert len(small) < 0.5 * len(whole)
    x = inputs(graph, 2)
    for model in (small, whole):
        np.testing.assert_allclose(run_onnx(model, {"x": x})[0], reference.run(graph, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("net.secateur", "-o", "net.txt"), "expected a name that ends in .onnx"),
        (("nothing.secateur",), "nothing.secateur"),
        (("net.secateur", "-o", "there.onnx"), "there.onnx exists"),
    ],
)
def test_what_cannot_be_exported_is_said_in_one_line(
    words: tuple[str, ...], text: str, tmp_path: Path, run_cli: RunCli
) -> None:
    packfile.write(make_graph("lenet-5"), tmp_path / "net.secateur")
    (tmp_path / "there.onnx").touch()
    done = run_cli("export", *words)
    assert done.returncode in (1, 2)
    assert text in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_onnx_the_error_names_the_extra() -> None:
    code = """
import sys; sys.modules['onnx'] = None; sys.modules['torch'] = None
from secateur.errors import MissingExtraError
from secateur.network.graph import Graph
from secateur.exporting.onnx import to_onnx
try:
    to_onnx(Graph({"x": (2,)}, ("x",), (), {}))
except MissingExtraError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "writing ONNX needs the package onnx: pip install 'secateur[onnx]'\n", done.stderr


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("op", "gates"), [("lstm", 4), ("gru", 3), ("rnn", 1)])
def test_recurrent_layers_whose_cells_nobody_reads_are_onnxs_own(op: str, gates: int, reverse: bool) -> None:
    random, build = np.random.default_rng(0), Builder()

    def weight(*shape: int) -> Weight:
        return Weight.of(random.normal(size=shape).astype(np.float32))

    x = build.input("x", (5, 3))
    given = build.emit("linear", x, weights={"weight": weight(4 * gates, 3), "bias": weight(4 * gates)})
    chosen = {"activation": "relu"} if op == "rnn" else {}
    weights = {"weight": weight(4 * gates, 4), "bias": weight(4 * gates)}
    made = build.emit(op, given, weights=weights, reverse=reverse, **chosen)
    graph = build.graph([build.emit("slice", made, axis=2, start=0, stop=4)])
    model = onnx.load_from_string(to_onnx(graph))
    (layer,) = (node for node in model.graph.node if node.op_type == op.upper())
    shapes = {each.name: tuple(each.dims) for each in model.graph.initializer}
    assert shapes[layer.input[1]] == (1, 4 * gates, 3)  # the layer before it is part of it
    assert shapes.keys() <= {name for node in model.graph.node for name in node.input}  # ONNX Runtime warns of others
    assert_onnx_agrees(graph, 3)
