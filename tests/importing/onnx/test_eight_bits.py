# ruff: noqa: E501 - a model a line
"""Files in eight bits are read as the quantised Graph that they mean, their integers, scales and zero points kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnx_models import by_graph, by_runtime, model_of, saved
from secateur.importing.onnx import read, read_whole

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'secateur[bench]'")


def integers(kind: Any, low: int, high: int, *shape: int) -> Any:
    return np.random.default_rng(len(shape)).integers(low, high, shape).astype(kind)


def noise(*shape: int) -> Any:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


STEPS: dict[str, Any] = {
    **{f"{name}s": np.array(scale, np.float32) for name, scale in (("x", 0.02), ("r", 0.05), ("q", 0.04), ("p", 0.03))},
    **{f"{name}z": np.array(zero, np.uint8) for name, zero in (("x", 128), ("r", 0), ("q", 3), ("p", 0))},
}
PLANES: dict[str, Any] = {
    "w": integers(np.int8, -60, 60, 4, 3, 3, 3),
    "ws": np.array([0.01, 0.02, 0.005, 0.03], np.float32),
    "wz": np.zeros(4, np.int8),
    "b": integers(np.int32, -500, 500, 4),
    "bs": np.array(0.02, np.float32) * np.array([0.01, 0.02, 0.005, 0.03], np.float32),
    "bz": np.zeros(4, np.int32),
}
ROWS: dict[str, Any] = {
    "m": integers(np.int8, -60, 60, 5, 4),
    "ms": np.array([0.01, 0.02, 0.005, 0.03, 0.01], np.float32),
    "mz": np.zeros(5, np.int8),
}
QDQ = (
    "x0 = QuantizeLinear(x, xs, xz) x1 = DequantizeLinear(x0, xs, xz) w1 = DequantizeLinear<axis=0>(w, ws, wz) "
    "b1 = DequantizeLinear<axis=0>(b, bs, bz) c = Conv<pads=[1,1,1,1]>(x1, w1, b1) r = Relu(c) "
    "r0 = QuantizeLinear(r, rs, rz) r1 = DequantizeLinear(r0, rs, rz) s = Sigmoid(r1) s0 = QuantizeLinear(s, qs, qz) "
    "s1 = DequantizeLinear(s0, qs, qz) a = Add(s1, r1) a0 = QuantizeLinear(a, qs, qz) a1 = DequantizeLinear(a0, qs, qz) "
    "p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a1) p0 = QuantizeLinear(p, qs, qz) p1 = DequantizeLinear(p0, qs, qz) "
    "g = GlobalAveragePool(p1) g0 = QuantizeLinear(g, ps, pz) g1 = DequantizeLinear(g0, ps, pz) f = Flatten(g1) "
    "m1 = DequantizeLinear<axis=0>(m, ms, mz) y = Gemm<transB=1>(f, m1)"
)


def test_what_is_said_with_numbers_is_computed_with_integers(tmp_path: Path) -> None:
    model = model_of("float[N,3,8,8] x", QDQ, 13, **STEPS, **PLANES, **ROWS)
    graph = read(saved(model, tmp_path))
    assert [node.op for node in graph.nodes] == [
        *("quantise", "quantised_conv2d", "quantised_table", "quantised_add", "max_pool2d"),
        *("quantised_adaptive_avg_pool2d", "reshape", "quantised_linear"),
    ]
    for name in ("w", "m"):
        np.testing.assert_array_equal(graph.weights[name].numbers(), {**PLANES, **ROWS}[name])
    held = {(each.scale, each.zero_point) for each in graph.quantisations.values()}
    assert held == {(float(STEPS[f"{name}s"]), int(STEPS[f"{name}z"])) for name in "xrqp"}
    x = noise(3, 3, 8, 8)
    (wanted,), (found,) = by_runtime(model, {"x": x}), by_graph(graph, {"x": x})
    step = float(STEPS["ps"]) * np.abs(PLANES["w"]).max() * 0.03 * 4
    np.testing.assert_allclose(found, wanted, atol=step)


OPERATORS: dict[str, tuple[str, str, dict[str, Any], list[str]]] = {
    "QLinearConv": (
        "float[N,3,8,8] x",
        "x0 = QuantizeLinear(x, xs, xz) y0 = QLinearConv<pads=[1,1,1,1]>(x0, xs, xz, w, ws, wz, rs, rz, b) "
        "y = DequantizeLinear(y0, rs, rz)",
        PLANES,
        ["quantise", "quantised_conv2d", "dequantise"],
    ),
    "QLinearMatMul": (
        "float[N,6,4] x",
        "x0 = QuantizeLinear(x, xs, xz) y0 = QLinearMatMul(x0, xs, xz, v, vs, vz, rs, rz) y = DequantizeLinear(y0, rs, rz)",
        {"v": integers(np.int8, -60, 60, 4, 5), "vs": np.array(0.01, np.float32), "vz": np.array(0, np.int8)},
        ["quantise", "quantised_linear", "dequantise"],
    ),
    "integers that no byte holds once they are centred": (
        "float[N,6,4] x",
        "x0 = QuantizeLinear(x, xs, xz) y0 = QLinearMatMul(x0, xs, xz, v, vs, vz, rs, rz) y = DequantizeLinear(y0, rs, rz)",
        {"v": integers(np.uint8, 0, 255, 4, 5), "vs": np.array(0.01, np.float32), "vz": np.array(3, np.uint8)},
        ["quantise", "dequantise", "linear", "quantise", "dequantise"],
    ),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_of_integers_are_within_a_step_of_onnx_runtime(name: str, tmp_path: Path) -> None:
    inputs, body, weights, operations = OPERATORS[name]
    model = model_of(inputs, body, 13, **STEPS, **weights)
    graph = read(saved(model, tmp_path))
    assert [node.op for node in graph.nodes] == operations
    x = noise(*([2, 3, 8, 8] if "8,8" in inputs else [2, 6, 4]))
    (wanted,), (found,) = by_runtime(model, {"x": x}), by_graph(graph, {"x": x})
    np.testing.assert_allclose(found, wanted, atol=1.001 * float(STEPS["rs"]))


def test_scales_that_are_found_as_it_runs_are_told_and_computed_in_float32(tmp_path: Path) -> None:
    body = (
        "x0, s, z = DynamicQuantizeLinear(x) i = MatMulInteger(x0, v, z) f = Cast<to=1>(i) t = Mul(s, vs) y = Mul(f, t)"
    )
    weights = {"v": integers(np.int8, -60, 60, 4, 5), "vs": np.array(0.01, np.float32)}
    model = model_of("float[N,4] x", body, 13, **weights)
    reading = read_whole(saved(model, tmp_path))
    assert reading.notes == ("what is quantised by scales found as it runs is computed in float32",)
    x = noise(6, 4)
    (found,) = by_graph(reading.graph, {"x": x})
    np.testing.assert_allclose(found, x @ (weights["v"] * np.array(0.01, np.float32)), atol=1e-5)
    (near,) = by_runtime(model, {"x": x})
    assert np.abs(near - found).max() < 0.02 * np.abs(found).max()


def test_a_model_of_integers_gives_integers(tmp_path: Path) -> None:
    model = model_of(
        "float[N,4] x", "y = QuantizeLinear(x, xs, xz)", 13, **{name: STEPS[name] for name in ("xs", "xz")}
    )
    (found,), (wanted,) = (run(each, {"x": noise(6, 4)}) for run, each in (
        (by_graph, read(saved(model, tmp_path))), (by_runtime, model)))  # fmt: skip
    np.testing.assert_array_equal(found, wanted)
