"""What `analyze` says of a network is what can be counted by hand, and what plans predict."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from secateur import packfile
from secateur.errors import FormatError, ModelError, RunError, UsageError
from secateur.exporting.onnx import to_onnx
from secateur.measure.analysis import Analysis, analyse
from secateur.measure.foreseen import Change, cycles_of, planner
from secateur.network.graph import Attribute, Graph, Node, Weight
from secateur.network.sizes import named
from secateur.network.zeros import cut
from secateur.records.kept import Kept
from secateur.report.analysis import AnalysisResult, analyze
from secateur.runtime import Session
from secateur.runtime.opening import open_network

OTHER = "onnxruntime"
QUICK = 0.01


def convolution(name: str, value: str, channels: int, outputs: int, groups: int = 1, side: int = 3) -> Node:
    attributes: dict[str, Attribute] = {
        "stride": (1, 1),
        "padding": (side // 2,) * 4,
        "dilation": (1, 1),
        "groups": groups,
    }
    weights = {"weight": f"{name}.weight"}
    return Node(name, "conv2d", (value,), weights, attributes, (outputs, 16, 16))


@pytest.fixture(scope="module")
def graph() -> Graph:
    """A 3×3 layer, one of single channels, a 1×1 layer with three quarters of its words zero, a linear layer."""
    random = np.random.default_rng(0)
    shapes = {"first": (16, 3, 3, 3), "deep": (16, 1, 3, 3), "point": (32, 16, 1, 1), "last": (10, 32)}
    weights = {f"{name}.weight": random.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    weights["point.weight"].reshape(32, 4, 4)[np.arange(4) != np.arange(32)[:, None] % 4] = 0
    nodes = (
        convolution("first", "x", 3, 16),
        Node("relu", "relu", ("first",), {}, {}, (16, 16, 16)),
        convolution("deep", "relu", 16, 16, groups=16),
        convolution("point", "deep", 16, 32, side=1),
        Node("mean", "mean", ("point",), {}, {"axes": (2, 3), "keepdims": False}, (32,)),
        Node("last", "linear", ("mean",), {"weight": "last.weight"}, {}, (10,)),
    )
    return Graph({"x": (3, 16, 16)}, ("last",), nodes, {name: Weight.of(each) for name, each in weights.items()})


@pytest.fixture(scope="module")
def found(graph: Graph) -> Analysis:
    return analyse(graph, peers=(OTHER,), seconds=QUICK)


def test_layers_are_what_can_be_counted(found: Analysis) -> None:
    layers = {each.name: each for each in found.layers if each.layer}
    assert list(layers) == ["first", "deep", "point", "last"]
    assert [each.multiply_adds for each in layers.values()] == [16 * 27 * 256, 16 * 9 * 256, 512 * 256, 320]
    assert [each.weights for each in layers.values()] == [432, 144, 512, 320]
    assert layers["point"].zeros == 0.75
    assert layers["point"].pattern == "1×4"
    assert layers["point"].done <= layers["point"].multiply_adds
    assert found.zeros == pytest.approx(384 / 1408)
    assert found.multiply_adds == sum(each.multiply_adds for each in layers.values())
    assert layers["deep"].reason.kind == "depthwise"
    assert layers["deep"].moved_bytes >= 2 * 4 * 16 * 256 + 4 * 144
    assert layers["first"].operations == "conv2d+relu"


def test_times_are_measured_and_add_up(found: Analysis) -> None:
    assert all(each.milliseconds > 0 for each in found.layers)
    assert found.milliseconds == pytest.approx(sum(each.milliseconds for each in found.layers))
    first = found.layers[next(place for place, each in enumerate(found.layers) if each.name == "first")]
    seconds = first.milliseconds / 1e3
    assert first.peak_share == pytest.approx(first.done / seconds / found.peaks["float32"])


def test_what_runs_sparse_is_what_skips_zeros(graph: Graph, found: Analysis) -> None:
    kernels = {each.name: each.kernel for each in Session(graph).plan().steps}
    expected = sum(
        each.multiply_adds
        for each in found.layers
        if each.zeros and any(word in kernels[each.name] for word in ("sparse", "paired"))
    )
    assert found.sparse_share == pytest.approx(expected / found.multiply_adds)


def test_estimates_are_the_plans_of_a_network_that_is_cut(graph: Graph, found: Analysis) -> None:
    plan = planner(found.kernel, 1)
    now, then = (cycles_of(plan(each).plan()) for each in (graph, cut(graph, 0.9)))
    change = Change(0.9, "float32")
    for layer in found.layers:
        if layer.layer:
            assert layer.foreseen[change] == pytest.approx(layer.milliseconds * then[layer.name] / now[layer.name])
            assert Change(0.8, "float32") in layer.foreseen
            assert Change(0.0, "int8") in layer.foreseen
    assert found.foreseen(Change(0.5, "float32")) is None
    assert (found.foreseen(change) or 0) <= found.milliseconds * 1.001


def test_the_whole_is_timed_beside_another_engine(found: Analysis) -> None:
    assert found.rows[0].engine == "secateur"
    if importlib.util.find_spec(OTHER) is None:
        assert OTHER in found.missing
    else:
        assert [row.engine for row in found.rows[1:]] == [OTHER]
        assert found.rows[1].max_abs_diff < 1e-4


@pytest.mark.parametrize(("batch", "threads"), [(3, 1), (32, 2)])
def test_more_images_and_threads(graph: Graph, batch: int, threads: int) -> None:
    found = analyse(graph, batch=batch, threads=threads, peers=(), seconds=QUICK)
    assert [each.name for each in found.layers if each.layer] == ["first", "deep", "point", "last"]
    assert (found.batch, found.threads, found.rows[0].batch) == (batch, threads, batch)
    assert all(each.milliseconds > 0 for each in found.layers)


def test_steps_that_threads_share_are_timed_too(graph: Graph) -> None:
    for batch in (1, 2, 64):
        steps = Session(graph, threads=2).plan(batch, rounds=2).steps
        assert all(step.seconds is not None and 0 <= step.seconds < 10 for step in steps)
        assert {step.threads for step in steps} <= {1, 2}
    assert {step.threads for step in Session(graph, threads=2).plan(1).steps} == {2}


def test_networks_of_other_kinds_are_analysed() -> None:
    """Two inputs, one of them tokens, and a free length."""
    length = named("length")
    nodes = (
        Node("rows", "embedding", ("tokens",), {"weight": "table"}, {}, (length, 4)),
        Node("sum", "add", ("rows", "x"), {}, {}, (length, 4)),
    )
    weights = {"table": Weight.of(np.ones((7, 4), np.float32))}
    graph = Graph({"tokens": (length,), "x": (length, 4)}, ("sum",), nodes, weights, {"tokens": "int64"})
    with pytest.raises(UsageError, match="lengths not given; expected length: give them as in --lengths length=16"):
        analyse(graph)
    found = analyse(graph, lengths={"length": 5}, peers=(OTHER,), seconds=QUICK)
    assert found.multiply_adds == 0
    assert found.sparse_share == 0
    assert found.changes == ()
    assert found.missing == {}
    assert [row.engine for row in found.rows] == ["secateur", OTHER]
    assert AnalysisResult("tokens", None, found).summary()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({"batch": 0}, "batch 0: expected a whole number from 1 on"),
        ({"batch": 2.5}, "batch 2.5: expected a whole number from 1 on"),
        ({"lengths": {"height": 4}}, "lengths height; expected none"),
        ({"peers": ("abacus",)}, "peers ['abacus']: expected some of"),
        ({"threads": 0}, "threads: expected a whole number from 1 to 1024"),
        ({"kernel": "abacus"}, "kernel=abacus"),
    ],
)
def test_what_makes_no_sense_is_refused(graph: Graph, words: dict[str, object], text: str) -> None:
    with pytest.raises((UsageError, RunError)) as raised:
        analyse(graph, **{"seconds": QUICK, **words})  # type: ignore[arg-type]
    assert text in str(raised.value)


def test_tables_fit_into_120_columns(found: Analysis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    result = AnalysisResult("net.secateur", 1234, found)
    for grid in result.grids():
        assert all(len(line) == len(grid.columns) for line in grid.lines)
    lines = str(result).splitlines()
    assert max(map(len, lines[: 1 + next(i for i, line in enumerate(lines) if line.startswith("×"))])) <= 120
    assert "No room" not in str(result)
    assert all(any(layer in line for line in lines) for layer in ("first", "deep", "point", "last"))
    record = json.loads(json.dumps(result.to_json()))
    assert [each["name"] for each in record["layers"]] == [each.name for each in found.layers]
    assert record["layers"][1]["estimates"]
    assert all(each["estimate"] for each in record["estimates"])


def test_a_file_says_what_each_weight_takes(graph: Graph, tmp_path: Path) -> None:
    path = tmp_path / "net.secateur"
    packfile.write(graph, path)
    result = analyze(path, peers=(), seconds=QUICK)
    stored = {each.name: each.size for each in packfile.read_packed(path).stored}
    assert result.file_bytes == path.stat().st_size
    named_so = {each.name: each.file_bytes for each in result.analysis.layers if each.layer}
    assert named_so == {name: stored[f"{name}.weight"] for name in named_so}


def test_a_file_of_onnx_is_analysed_as_its_graph(graph: Graph, found: Analysis, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    path = tmp_path / "net.onnx"
    path.write_bytes(to_onnx(graph))
    result = analyze(path, peers=(), seconds=QUICK)
    assert result.file_bytes is None
    assert result.analysis.multiply_adds == found.multiply_adds
    assert result.analysis.zeros == found.zeros
    assert any("Bytes are those" in line for line in result.summary())


def test_a_run_stands_for_its_best_network(graph: Graph, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a folder without a best network"):
        open_network(tmp_path)
    with pytest.raises(FormatError, match="cannot be read"):
        open_network(tmp_path / "none.secateur")
    kept = Kept(tmp_path / "best" / "net-digits.json")
    kept.packed.parent.mkdir()
    packfile.write(graph, kept.packed)
    kept.write_card({"model": "net", "data": "digits"})
    opened = open_network(tmp_path)
    assert (opened.name, opened.graph.outputs, opened.file_bytes) == (
        "net on digits",
        ("last",),
        kept.packed.stat().st_size,
    )
    with pytest.raises(ModelError, match="kept no best network of model 'other', but: net"):
        open_network(tmp_path, model="other")
    kept.packed.write_bytes(b"else")
    with pytest.raises(ModelError, match="is missing or damaged"):
        open_network(tmp_path)
