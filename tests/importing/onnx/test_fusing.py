"""What files have written out becomes one operation, and stays what ONNX Runtime makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnx_models import by_graph, by_runtime, model_of, saved
from secateur.importing.onnx import read
from secateur.network.simplification import simplify

ROWS = "float[N,6,8] x"
MOMENTS = """
    m = ReduceMean<axes=[-1]>(x) d = Sub(x, m) two = Constant<value_float=2.0>() s = Pow(d, two)
    v = ReduceMean<axes=[-1]>(s) e = Add(v, eps) r = Sqrt(e)
"""
NUMBERS = {"eps": 1e-5, "half": 0.5, "one": 1.0, "root": 2**0.5, "cubed": 0.044715, "slope": (2 / np.pi) ** 0.5}
QUERIES = """
    q2 = MatMul(x, wq) q1 = Reshape(q2, split) q = Transpose<perm=[0,2,1,3]>(q1)
    k2 = MatMul(x, wk) k1 = Reshape(k2, split) k = Transpose<perm=[0,2,3,1]>(k1)
    v2 = MatMul(x, wv) v1 = Reshape(v2, split) v = Transpose<perm=[0,2,1,3]>(v1)
"""
ATTENDED = "o = MatMul(p, v) t = Transpose<perm=[0,2,1,3]>(o) y = Reshape(t, joined)"
WEIGHTS = {"wq": (8, 8), "wk": (8, 8), "wv": (8, 8), "split": np.array([0, 0, 2, 4]), "joined": np.array([0, 0, 8])}
CAUSAL = np.tril(np.ones((1, 1, 6, 6), bool))

WRITTEN_OUT: dict[str, tuple[str, str]] = {
    "layer norm": (MOMENTS + "n = Div(d, r) g = Mul(n, scale) y = Add(g, shift)", "layer_norm"),
    "layer norm without a scale": (MOMENTS + "y = Div(d, r)", "layer_norm"),
    "layer norm, subtracted twice": (
        "m = ReduceMean<axes=[-1]>(x) d = Sub(x, m) d2 = Sub(x, m) s = Mul(d2, d2) v = ReduceMean<axes=[-1]>(s) "
        "e = Add(eps, v) r = Sqrt(e) n = Div(d, r) g = Mul(scale, n) y = Add(shift, g)",
        "layer_norm",
    ),
    "layer norm as TensorFlow has it": (
        MOMENTS + "i = Reciprocal(r) f = Mul(i, scale) a = Mul(x, f) b = Mul(m, f) c = Sub(shift, b) y = Add(a, c)",
        "layer_norm",
    ),
    "gelu": ("a = Div(x, root) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, half)", "gelu"),
    "gelu, halved first": ("h = Mul(x, half) a = Div(x, root) b = Erf(a) c = Add(one, b) y = Mul(h, c)", "gelu"),
    "gelu by tanh": (
        "three = Constant<value_float=3.0>() p = Pow(x, three) a = Mul(cubed, p) b = Add(x, a) c = Mul(slope, b) "
        "d = Tanh(c) e = Add(one, d) h = Mul(half, x) y = Mul(h, e)",
        "gelu",
    ),
    "gelu by tanh of a product": (
        "s = Mul(x, x) a = Mul(s, cubed) b = Add(a, one) c = Mul(x, slope) d = Mul(c, b) e = Tanh(d) f = Add(e, one) "
        "g = Mul(f, half) y = Mul(x, g)",
        "gelu",
    ),
    "attention": (QUERIES + "s = MatMul(q, k) z = Div(s, root) p = Softmax<axis=-1>(z)" + ATTENDED, "attention"),
    "attention, scaled before": (
        QUERIES + "a = Mul(q, half) b = Mul(k, half) s = MatMul(a, b) p = Softmax<axis=-1>(s)" + ATTENDED,
        "attention",
    ),
    "attention with a mask that is added": (
        QUERIES + "s = MatMul(q, k) z = Mul(s, half) m = Add(z, bias) p = Softmax<axis=-1>(m)" + ATTENDED,
        "attention",
    ),
    "attention to what came before": (
        QUERIES + "s = MatMul(q, k) z = Mul(s, half) m = Where(seen, z, low) p = Softmax<axis=-1>(m)" + ATTENDED,
        "attention",
    ),
    "attention, guarded": (
        QUERIES + "s = MatMul(q, k) w = Softmax<axis=-1>(s) n = IsNaN(w) zero = Constant<value_float=0.0>() "
        "p = Where(n, zero, w)" + ATTENDED,
        "attention",
    ),
    "attention of one head": (
        "q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv) t = Transpose<perm=[0,2,1]>(k) s = MatMul(q, t) "
        "p = Softmax<axis=-1>(s) y = MatMul(p, v)",
        "attention",
    ),
}


@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_a_formula_that_is_written_out_is_one_operation(name: str, tmp_path: Path) -> None:
    body, op = WRITTEN_OUT[name]
    numbers = {key: np.float32(value) for key, value in NUMBERS.items()}
    more = {"scale": (8,), "shift": (1, 1, 8), "bias": (2, 6, 6), "seen": CAUSAL, "low": np.float32(-1e9)}
    held: dict[str, Any] = {key: each for key, each in {**numbers, **more, **WEIGHTS}.items() if key in body}
    model = model_of(ROWS, body, 13, **held)
    graph = simplify(read(saved(model, tmp_path)))
    left = {node.op for node in graph.nodes} - {"linear", "reshape", "permute"}
    assert left <= {op, "constant"}
    x = np.random.default_rng(1).normal(size=(3, 6, 8)).astype(np.float32)
    np.testing.assert_allclose(by_graph(graph, {"x": x})[0], by_runtime(model, {"x": x})[0], rtol=1e-4, atol=1e-5)
