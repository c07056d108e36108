"""ONNX Runtime computes from our QDQ what the reference computes in whole numbers, to within a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from conftest import RunCli
from graph_strategies import inputs
from quantised_strategies import quantised_graphs
from secateur import packfile
from secateur.errors import ExportError
from secateur.exporting.judging import session_of
from secateur.exporting.onnx import to_onnx, write_onnx
from secateur.network.building import Builder
from secateur.network.graph import Graph, Node, Weight
from secateur.network.quantisation import Quantisation
from secateur.network.tabulating import function_of, table_of
from secateur.runtime import reference

onnx: Any = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'secateur[onnx]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'secateur[bench]'")

U8, I8 = Quantisation("uint8", 0.05, 13), Quantisation("int8", 0.031, -7)
COARSE, RECTIFIED = Quantisation("uint8", 0.4, 100), Quantisation("uint8", 0.3, 0)
SHAPE = (6, 7, 5)
AT: dict[str, Any] = {"stride": (1, 1), "padding": (1, 1, 1, 1), "dilation": (1, 1), "groups": 1}


def stated(prefix: str, of: Quantisation) -> dict[str, Any]:
    return {f"{prefix}scale": of.scale, f"{prefix}zero_point": of.zero_point}


def quantised(build: Builder, value: str, to: Quantisation) -> str:
    return build.emit("quantise", value, element=to.element, **stated("", to))


def layer(
    build: Builder,
    value: str,
    shape: tuple[int, ...],
    *residual: str,
    given: Quantisation,
    to: Quantisation | None,
    beside: Quantisation | None = None,
    low: int | None = None,
    high: int | None = None,
    **at: Any,
) -> str:
    """A layer of random weights (O, …), half of them zero; to None: its results are float32."""
    random = np.random.default_rng(len(build.draft.nodes))
    held = {
        "weight": Weight.of((random.integers(-127, 128, shape) * (random.random(shape) < 0.5)).astype(np.int8)),
        "scale": Weight.of((random.uniform(0.2, 1, shape[0]) / (30 * np.sqrt(np.prod(shape[1:])))).astype(np.float32)),
        "bias": Weight.of(random.integers(-3000, 3000, shape[0]).astype(np.int32)),
    }  # fmt: skip
    bounds = {"low": 0, "high": 0} if to is None else {
        "low": to.least if low is None else low, "high": to.most if high is None else high
    }  # fmt: skip
    out = {"element": "float32", "output_scale": 1.0, "output_zero_point": 0} if to is None else {
        "element": to.element, **stated("output_", to)
    }  # fmt: skip
    none = {"residual_scale": 1.0, "residual_zero_point": 0}
    more = stated("residual_", beside) if beside else none
    op = "quantised_conv2d" if len(shape) == 4 else "quantised_linear"
    return build.emit(op, value, *residual, weights=held, **stated("input_", given), **out, **bounds, **more, **at)


def check(graph: Graph, batch: int, same: float = 0.99) -> None:
    """Outputs in integers differ by a step at most, and but few do; those in float32 by rounding."""
    model = to_onnx(graph)
    onnx.checker.check_model(model, full_check=True)
    random = np.random.default_rng(batch)
    x = {name: random.normal(size=(batch, *shape)).astype(np.float32) for name, shape in graph.inputs.items()}
    for found, expected in zip(session_of(model).run(None, x), reference.run_all(graph, x), strict=True):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        if found.dtype == np.float32:
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
        else:
            apart = np.abs(found.astype(int) - expected.astype(int))
            assert apart.max() <= 1
            assert (apart == 0).mean() >= same
            assert len(np.unique(expected)) > 5, "the test says little"


def convolution(**changes: Any) -> Callable[[Builder, str], str]:
    return lambda build, value: layer(
        build, value, (12, 6 // changes.get("groups", 1), 3, 3), given=U8, to=COARSE, **AT | changes
    )


def with_residual(build: Builder, value: str) -> str:
    x = layer(build, value, (6, 6, 3, 3), given=U8, to=I8, **AT)
    return layer(build, x, (6, 6, 1, 1), value, given=I8, beside=U8, to=RECTIFIED, **AT | {"padding": (0, 0, 0, 0)})


def between_bounds(build: Builder, value: str) -> str:
    return layer(build, value, (12, 6, 3, 3), given=U8, to=COARSE, low=95, high=140, **AT)


def pair(op: str, to: Quantisation, high: int) -> Callable[[Builder, str], str]:
    def made(build: Builder, value: str) -> str:
        other = layer(build, value, (6, 6, 1, 1), given=U8, to=I8, **AT | {"padding": (0, 0, 0, 0)})
        out = {"element": to.element, **stated("output_", to), "low": to.zero_point, "high": high}
        return build.emit(op, value, other, **stated("left_", U8), **stated("right_", I8), **out)

    return made


def mean(op: str, **at: Any) -> Callable[[Builder, str], str]:
    return lambda build, value: build.emit(
        op, value, **at, **stated("input_", U8), element="int8", output_scale=0.00371, output_zero_point=3
    )


def moved(build: Builder, value: str) -> str:
    window: dict[str, Any] = {"kernel": (3, 2), "stride": (2, 1), "padding": (1, 1, 0, 1), "dilation": (1, 1)}
    pooled = build.emit("max_pool2d", value, **window)
    both = build.emit("concat", pooled, build.emit("slice", pooled, axis=1, start=1, stop=4), axis=1)
    turned = build.emit("permute", both, axes=(2, 3, 1))
    return build.emit("reshape", turned, shape=(int(np.prod(build.shape(turned))),))


def with_a_constant_read_twice(build: Builder, value: str) -> str:
    """In int8, which ONNX Runtime without dot products of bytes converts to uint8, and fails at the second time."""
    held = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    constant = quantised(build, build.emit("constant", weights={"value": Weight.of(held)}), I8)
    out = {"element": "uint8", **stated("output_", COARSE), "low": 0, "high": 255}
    once = build.emit("quantised_add", value, constant, **stated("left_", U8), **stated("right_", I8), **out)
    return build.emit("quantised_add", once, constant, **stated("left_", COARSE), **stated("right_", I8), **out)


def of_tokens(build: Builder, value: str) -> str:
    return layer(build, value, (9, 5), given=U8, to=COARSE)


def table(op: str, **attributes: Any) -> Callable[[Builder, str], str]:
    def make(build: Builder, value: str) -> str:
        node = Node("", op, (value,), {}, attributes)
        name, parameters = function_of(node) or ("", ())
        made = build.emit(
            "quantised_table",
            value,
            weights={"table": Weight.of(table_of(node, U8, COARSE))},
            function=name,
            parameters=parameters,
            element=COARSE.element,
            **U8.stated("input_"),
            **COARSE.stated("output_"),
        )
        return build.emit("dequantise", made, **COARSE.stated())

    return make


OPERATIONS: dict[str, Callable[[Builder, str], str]] = {
    "convolution": convolution(),
    "strided": convolution(stride=(2, 1), padding=(0, 2, 1, 0)),
    "grouped": convolution(groups=3, dilation=(2, 1)),
    "depthwise": convolution(groups=6),
    "residual": with_residual,
    "bounds": between_bounds,
    "linear over the last of several axes": of_tokens,
    "add": pair("quantised_add", RECTIFIED, 200),
    "mul": pair("quantised_mul", U8, 255),
    "avg_pool2d": mean(
        "quantised_avg_pool2d", kernel=(3, 2), stride=(2, 1), padding=(1, 1, 0, 1), count_include_pad=False
    ),
    "padded avg_pool2d": mean(
        "quantised_avg_pool2d", kernel=(3, 2), stride=(2, 1), padding=(1, 1, 0, 1), count_include_pad=True
    ),
    "one window": mean("quantised_adaptive_avg_pool2d", size=(1, 1)),
    "windows of several sizes": mean("quantised_adaptive_avg_pool2d", size=(3, 2)),
    "mean": mean("quantised_mean", axes=(2, 3), keepdims=False),
    "moved": moved,
    "constant read twice": with_a_constant_read_twice,
    "gelu": table("gelu", approximate="tanh"),
    "elu": table("elu", alpha=0.7),
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_each_operation_is_within_a_step_in_onnx_runtime(name: str, batch: int) -> None:
    build = Builder()
    value = OPERATIONS[name](build, quantised(build, build.input("x", SHAPE), U8))
    check(build.graph([value]), batch)


def network() -> Graph:
    """A stem, a residual block, branches that are joined, means, a layer whose results are float32."""
    build = Builder()
    x = quantised(build, build.input("x", (3, 8, 8)), U8)
    stem = layer(build, x, (8, 3, 3, 3), given=U8, to=RECTIFIED, **AT)
    inner = layer(build, stem, (8, 8, 3, 3), given=RECTIFIED, to=I8, **AT)
    block = layer(build, inner, (8, 8, 3, 3), stem, given=I8, beside=RECTIFIED, to=RECTIFIED, **AT)
    pooled = build.emit("max_pool2d", block, kernel=(2, 2), stride=(2, 2), padding=(0, 0, 0, 0), dilation=(1, 1))
    narrow: dict[str, Any] = AT | {"padding": (0, 0, 0, 0)}
    branch = layer(build, pooled, (4, 8, 1, 1), given=RECTIFIED, to=RECTIFIED, **narrow)
    both = build.emit("concat", pooled, branch, axis=1)
    last = layer(build, both, (10, 12, 4, 4), given=RECTIFIED, to=None, **narrow)
    return build.graph([build.emit("reshape", last, shape=(10,))])


def test_a_network_is_within_a_step_of_its_last_scale_in_onnx_runtime() -> None:
    """Of the last layer's input: one step of that, times the largest weight, is what a step is there."""
    graph = network()
    last = graph.nodes[-2]
    weights, scales = (graph.weights[last.weights[role]].values() for role in ("weight", "scale"))
    step = last.number("input_scale") * float((np.abs(weights).max((1, 2, 3)) * scales).max())
    for batch in (1, 2, 5):
        x = np.random.default_rng(batch).normal(size=(batch, 3, 8, 8)).astype(np.float32)
        (found,), expected = session_of(to_onnx(graph)).run(None, {"x": x}), reference.run(graph, x)
        assert np.abs(found - expected).max() < step < 0.1 * np.abs(expected).max()


def test_onnx_runtime_computes_with_the_integers(tmp_path: Path) -> None:
    """All layers but those with a residual, which it adds in float32, and those whose results are float32."""
    model = to_onnx(network())
    session_of(model, optimised=tmp_path / "made.onnx")
    ops = [node.op_type for node in onnx.load(tmp_path / "made.onnx").graph.node]
    assert ops.count("QLinearConv") == 3
    weights = [onnx.numpy_helper.to_array(each) for each in onnx.load_from_string(model).graph.initializer]
    assert {each.dtype.name for each in weights if each.ndim == 4} == {"int8"}


def test_a_file_is_written_where_onnx_runtime_agrees(tmp_path: Path) -> None:
    assert 0 <= (write_onnx(network(), tmp_path / "net.onnx") or 0) < 0.01
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    (found,) = session_of((tmp_path / "net.onnx").read_bytes()).run(None, {"x": x})
    np.testing.assert_allclose(found, reference.run(network(), x), atol=0.01 * np.abs(found).max())


def test_the_command_line_exports_a_file_of_integers(tmp_path: Path, run_cli: RunCli) -> None:
    graph = network()
    packfile.write(graph, tmp_path / "net.secateur")
    done = run_cli("export", "net.secateur", "-o", "net.onnx")
    assert (done.returncode, done.stderr) == (0, "")
    assert "ONNX Runtime agrees within" in done.stdout
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    (found,) = session_of((tmp_path / "net.onnx").read_bytes()).run(None, {"x": x})
    np.testing.assert_allclose(found, reference.run(graph, x), atol=0.01 * np.abs(found).max())


def test_an_engine_that_is_far_off_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "secateur.exporting.onnx.to_onnx", lambda graph, **options: to_onnx(_with_other_weights(graph), **options)
    )
    with pytest.raises(ExportError, match="ONNX Runtime's results are off by"):
        write_onnx(network(), tmp_path / "net.onnx")
    assert not [*tmp_path.iterdir()]


def _with_other_weights(graph: Graph) -> Graph:
    turned = {name: Weight(each.dtype, np.ascontiguousarray(each.bits[::-1])) for name, each in graph.weights.items()}
    return replace(graph, weights=turned)


def check_each_node(graph: Graph, batch: int) -> None:
    """Each is given what ONNX Runtime gave for what it reads, so that a step is not made more of."""
    shown = replace(graph, outputs=tuple(dict.fromkeys((*graph.quantisations, *graph.outputs))))
    model = to_onnx(shown)
    onnx.checker.check_model(model, full_check=True)
    x = inputs(graph, batch)
    values = dict(zip(shown.outputs, session_of(model).run(None, {"x": x}), strict=True)) | {"x": x}
    for node in graph.nodes:
        read = [values[name] if values[name].dtype.kind in "iu" else values[name].astype(float) for name in node.inputs]
        weights = {role: graph.weights[name].numbers() for role, name in node.weights.items()}
        with np.errstate(all="ignore"):
            meant = reference.run_node(node, read, weights)
        expected, found = np.broadcast_arrays(meant, values.setdefault(node.name, meant))
        if found.dtype.kind == "f":
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * max(1, np.abs(expected).max(initial=0)))
        else:
            assert np.abs(found.astype(int) - expected.astype(int)).max(initial=0) <= 1, node


@given(graph=quantised_graphs(), batch=st.sampled_from([1, 2, 5]))
@settings(max_examples=20, deadline=None)
def test_every_node_of_a_random_graph_is_within_a_step(graph: Graph, batch: int) -> None:
    """Where scales are no billions apart: ONNX Runtime's sums wrap where they are 2³¹ steps from zero."""
    assume(all(1e-5 < of.scale < 1e5 for of in graph.quantisations.values()))
    check_each_node(graph, batch)
