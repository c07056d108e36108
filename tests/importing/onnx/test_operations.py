# ruff: noqa: E501 - a model a line
"""Every operation of ONNX that is read gives what ONNX Runtime makes of it, with the batch free wherever it can be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnx_models import assert_reads_as_it_runs, by_definition, by_graph, model_of, saved
from secateur.importing.onnx import read

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'secateur[bench]'")

X = "float[N,4,6,5] x"
ROWS = "float[N,7,8] x"


def noise(*shape: int) -> Any:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def whole(*numbers: Any) -> Any:
    return np.array(numbers, np.int64)


CASES: dict[str, tuple[str, str, int, dict[str, Any]]] = {
    "a convolution": (X, "y = Conv<pads=[1,0,2,1], strides=[2,1], group=2>(x, w, b)", 11, {"w": (6, 2, 3, 3), "b": (6,)}),
    "padding by a rule": (X, 'y = Conv<auto_pad="SAME_LOWER", strides=[2,2]>(x, w)', 11, {"w": (3, 4, 3, 2)}),
    "a line": ("float[N,3,9] x", "y = Conv<dilations=[2], pads=[1,2]>(x, w)", 7, {"w": (5, 3, 3)}),
    "a volume": ("float[N,2,4,5,6] x", "y = Conv<pads=[1,1,1,0,0,0]>(x, w)", 13, {"w": (3, 2, 2, 3, 2)}),
    "a transposed convolution": (
        X,
        "y = ConvTranspose<strides=[2,3], pads=[1,0,0,1], output_padding=[1,0], group=2>(x, w, b)",
        11,
        {"w": (4, 3, 3, 2), "b": (6,)},
    ),
    "a transposed one of a shape": (X, "y = ConvTranspose<strides=[2,2], output_shape=[13,10]>(x, w)", 11, {"w": (4, 3, 3, 2)}),
    "planes padded before": (X, "p = Pad(x, around) y = Conv(p, w)", 13, {"around": whole(0, 0, 1, 0, 0, 0, 2, 1), "w": (3, 4, 3, 3)}),
    "padding as it was an attribute": (X, 'y = Pad<pads=[0,0,1,2,0,0,0,1], mode="reflect">(x)', 7, {}),
    "the edge around": (X, 'y = Pad<mode="edge">(x, around)', 13, {"around": whole(0, 1, 1, 0, 0, 0, 2, 1)}),
    "pooling": (X, "y = MaxPool<kernel_shape=[3,2], strides=[2,2], pads=[1,0,1,1], ceil_mode=1>(x)", 11, {}),
    "means": (X, "y = AveragePool<kernel_shape=[3,2], pads=[1,1,0,0], count_include_pad=1>(x)", 11, {}),
    "means of what is there": (X, 'y = AveragePool<kernel_shape=[3,3], auto_pad="SAME_UPPER">(x)', 11, {}),
    "all of a plane": (X, "a = GlobalAveragePool(x) b = GlobalMaxPool(x) y = Concat<axis=1>(a, b)", 11, {}),
    "a batch norm": (
        X,
        "y = BatchNormalization<epsilon=0.01>(x, s, b, m, v)",
        9,
        {"s": (4,), "b": (4,), "m": (4,), "v": np.array([1, 2, 0.5, 3], np.float32)},
    ),
    "an instance norm": (X, "y = InstanceNormalization(x, s, b)", 7, {"s": (4,), "b": (4,)}),
    "a layer norm": (ROWS, "y = LayerNormalization<axis=-1>(x, s, b)", 17, {"s": (8,), "b": (8,)}),
    "a local response": (X, "y = LRN<size=3, alpha=0.1, beta=0.7, bias=1.5>(x)", 13, {}),
    "softmax of one axis": (ROWS, "y = Softmax<axis=1>(x)", 13, {}),
    "softmax of all that follows": (ROWS, "y = Softmax<axis=1>(x)", 11, {}),
    "log-softmax": (ROWS, "y = LogSoftmax(x)", 13, {}),
    "hardmax": (ROWS, "y = Hardmax<axis=1>(x)", 13, {}),
    "a product with weights": (ROWS, "p = MatMul(x, w) y = Add(p, b)", 13, {"w": (8, 5), "b": (5,)}),
    "a product from the left": (ROWS, "y = MatMul(w, x)", 13, {"w": (3, 7)}),
    "a product with a vector": (ROWS, "y = MatMul(x, w)", 13, {"w": (8,)}),
    "a product of values": (ROWS, "t = Transpose<perm=[0,2,1]>(x) y = MatMul(x, t)", 13, {}),
    "gemm": ("float[N,6] x", "y = Gemm<alpha=0.5, beta=2.0, transB=1>(x, w, b)", 13, {"w": (4, 6), "b": (4,)}),
    "gemm of one bias": ("float[N,6] x", "y = Gemm(x, w, b)", 9, {"w": (6, 4), "b": (1,)}),
    "einsum": (ROWS, 'y = Einsum<equation="nld,dhk->nhlk">(x, w)', 13, {"w": (8, 2, 3)}),
    "functions": (
        ROWS,
        "a = Selu(x) b = HardSigmoid<alpha=0.2>(a) c = Softsign(b) d = Elu<alpha=0.5>(c) e = Mish(d) y = Celu(e)",
        18,
        {},
    ),
    "more functions": (ROWS, "a = Shrink<lambd=0.3, bias=0.1>(x) b = Sinh(a) c = ThresholdedRelu<alpha=0.2>(b) d = Erf(c) y = Softplus(d)", 13, {}),
    "bounds as attributes": (ROWS, "y = Clip<min=-0.5, max=0.5>(x)", 7, {}),
    "bounds as inputs": (ROWS, "y = Clip(x, , most)", 12, {"most": np.array(0.3, np.float32)}),
    "a slope a channel": (X, "y = PRelu(x, s)", 9, {"s": (4, 1, 1)}),
    "powers": (ROWS, "a = Abs(x) b = Pow(a, half) c = Pow(x, two) d = Pow(x, some) e = Add(b, c) y = Add(d, e)", 13, {"half": np.array(0.5, np.float32), "two": np.array(2, np.float32), "some": np.array([0, 1, 2, 3, 0, 1, 2, 3], np.float32)}),
    "several at once": (ROWS, "y = Max(x, one, row)", 13, {"one": np.array(0.1, np.float32), "row": (8,)}),
    "choices": (ROWS, "l = Less(x, zero) g = GreaterOrEqual(x, one) o = Xor(l, g) y = Where(o, x, one)", 16, {"zero": np.array(0, np.float32), "one": np.array(0.5, np.float32)}),
    "whole numbers": (
        "int64[N,6] x",
        "q = Div(x, three) r = Mod(x, three) e = Equal(q, r) c = Cast<to=7>(e) y = Concat<axis=1>(q, r, c)",
        13,
        {"three": whole(3)},
    ),
    "reductions": (ROWS, "a = ReduceMean<axes=[1]>(x) b = ReduceSum<keepdims=1>(x, one) c = ReduceMax<axes=[1]>(x) d = ReduceL2<axes=[1]>(x) y = Sum(a, b, c, d)", 13, {"one": whole(1)}),
    "reduced dimensions that leave": (X, "a = ReduceLogSumExp<axes=[1,-1], keepdims=0>(x) b = ReduceProd<axes=[3,1], keepdims=0>(x) y = Sub(a, b)", 13, {}),
    "places": (ROWS, "a = ArgMax<axis=1, keepdims=0>(x) b = ArgMin<axis=-1, keepdims=0, select_last_index=1>(x) y = Concat<axis=1>(a, b)", 13, {}),
    "the largest three": (ROWS, "v, i = TopK<axis=1>(x, three) f = Cast<to=1>(i) y = Add(v, f)", 13, {"three": whole(3)}),
    "sums on the way": (ROWS, "y = CumSum<exclusive=1, reverse=1>(x, axis)", 14, {"axis": np.array(1, np.int64)}),
    "shapes that follow from the input": (
        X,
        "s = Shape(x) z = Constant<value=int64[1] {0}>() n = Gather(s, z) r = Constant<value=int64[1] {-1}>() "
        "t = Concat<axis=0>(n, r) y = Reshape(x, t)",
        13,
        {},
    ),
    "rows of all images and back": (ROWS, "r = Reshape(x, rows) p = MatMul(r, w) y = Reshape(p, back)", 13, {"rows": whole(-1, 8), "back": whole(-1, 7, 3), "w": (8, 3)}),
    "flattened": (X, "y = Flatten<axis=2>(x)", 13, {}),
    "dimensions of one": (ROWS, "u = Unsqueeze(x, at) s = Squeeze(u, at) t = Unsqueeze(s, first) y = Squeeze(t, first)", 13, {"at": whole(1, -1), "first": whole(0)}),
    "the batch elsewhere": (ROWS, "t = Transpose<perm=[1,0,2]>(x) r = Relu(t) p = MatMul(r, w) y = Transpose<perm=[1,0,2]>(p)", 13, {"w": (8, 4)}),
    "channels last": ("float[N,6,5,4] x", "t = Transpose<perm=[0,3,1,2]>(x) c = Conv(t, w) y = Transpose<perm=[0,2,3,1]>(c)", 9, {"w": (3, 4, 2, 2)}),
    "parts": (ROWS, "a, b, c = Split<axis=1, split=[2,2,3]>(x) y = Concat<axis=1>(c, a, b)", 11, {}),
    "slices": (ROWS, "y = Slice(x, starts, ends, axes, steps)", 13, {"starts": whole(-1, 1), "ends": whole(-(2**62), 7), "axes": whole(1, 2), "steps": whole(-2, 3)}),
    "each image's own by its number": (
        ROWS,
        "s = Shape<start=0, end=1>(x) n = Squeeze(s) r = Range(zero, n, one) u = Unsqueeze(r, last) h = Mul(u, size) "
        "p = Add(h, within) f = Reshape(x, flat) g = Gather(f, p) b = Unsqueeze(r, two) e = Expand(b, wide) "
        "k = Concat<axis=0>(s, tail) a = Expand(at, k) i = Concat<axis=-1>(e, a) y0 = GatherND(x, i) c = Concat<axis=1>(g, y0) y = Neg(c)",
        18,
        {
            "zero": np.array(0),
            "one": np.array(1),
            "last": whole(1),
            "size": whole(56),
            "flat": whole(-1),
            "within": whole([3, 0, 55]),
            "two": whole(1, 2),
            "wide": whole(1, 2, 1),
            "tail": whole(2, 2),
            "at": whole([[1, 7], [6, 0]]),
        },
    ),
    "windows added up": (
        "float[N,12,9] x",
        "y = Col2Im<strides=[1,2], pads=[0,1,1,0]>(x, size, block)",
        18,
        {"size": whole(3, 5), "block": whole(2, 2)},
    ),
    "a GRU that resets first": (
        "float[5,N,4] x",
        'a, b = GRU<hidden_size=3, direction="bidirectional">(x, w, r, c) a4 = ReduceSum<keepdims=0>(a, first) y = Concat<axis=0>(a4, b)',
        14,
        {"w": (2, 9, 4), "r": (2, 9, 3), "c": (2, 18), "first": whole(0)},
    ),
    "steps along a dimension": (
        ROWS,
        "z = ReduceSum<keepdims=0>(x, first) l, y = Scan<num_scan_inputs=1, scan_input_axes=[1], scan_input_directions=[1], "
        "scan_output_axes=[-2], scan_output_directions=[1], body = b (h, r) => (n, o) { n = Add(h, r) o = Relu(n) }>(z, x)",
        13,
        {"first": whole(1)},
    ),
    "a token in front of every image's": (
        ROWS,
        "s = Shape<start=0, end=1>(x) w = Concat<axis=0>(s, rest) t = Expand(token, w) y = Concat<axis=1>(t, x)",
        18,
        {"rest": whole(1, 8), "token": (1, 1, 8)},
    ),
    "picked of constants": (ROWS, "t = GatherElements<axis=1>(table, places) y = Add(x, t)", 13, {"table": (1, 9), "places": whole([1, 0, 8, -1, 3, 3, 5, 2])}),
    "repeated": (ROWS, "t = Tile(x, times) e = Expand(one, wide) y = Mul(t, e)", 13, {"times": whole(1, 2, 1), "one": np.array([[[2.0]]], np.float32), "wide": whole(1, 14, 8)}),
    "depth to space": (X, 'd = DepthToSpace<blocksize=2, mode="CRD">(x) s = SpaceToDepth<blocksize=2>(d) y = DepthToSpace<blocksize=2>(s)', 13, {}),
    "rows of a table": ("int64[N,5] x", "y = Gather(table, x)", 13, {"table": (9, 6)}),
    "columns of a table": ("int64[N,5] x", "y = Gather<axis=1>(table, x)", 13, {"table": (3, 9)}),
    "known places": (ROWS, "a = Gather<axis=1>(x, two) i = Gather<axis=2>(a, last) y = Gather<axis=1>(i, one)", 13, {"two": whole(3, -1), "last": np.array(-1, np.int64), "one": np.array([[1, 0]], np.int64)}),
    "places of its own": (ROWS, "v, i = TopK<axis=1>(x, k) y = GatherElements<axis=1>(x, i)", 13, {"k": whole(2)}),
    "one-hot": ("int64[N,5] x", "y = OneHot<axis=1>(x, depth, values)", 13, {"depth": np.array(9, np.int64), "values": np.array([-1, 2], np.float32)}),
    "a triangle": (ROWS, "y = Trilu<upper=0>(x, k)", 14, {"k": np.array(-1, np.int64)}),
    "twice as large": (X, 'y = Upsample<mode="nearest">(x, by)', 9, {"by": np.array([1, 1, 2, 2], np.float32)}),
    "halfway pixels": ("float[1,4,6,5] x", 'y = Resize<mode="linear", coordinate_transformation_mode="half_pixel">(x, , , to)', 13, {"to": whole(1, 4, 9, 7)}),
    "corners": (X, 'y = Resize<mode="linear", coordinate_transformation_mode="align_corners">(x, , by)', 13, {"by": np.array([1, 1, 2, 3], np.float32)}),
    "from corners on": (X, 'y = Resize<mode="linear", coordinate_transformation_mode="asymmetric">(x, , by)', 13, {"by": np.array([1, 1, 2, 1.5], np.float32)}),
    "the nearest by a rule": (X, 'y = Resize<mode="nearest", nearest_mode="ceil", coordinate_transformation_mode="half_pixel">(x, , by)', 13, {"by": np.array([1, 1, 0.6, 1.7], np.float32)}),
    "cubic": (X, 'y = Resize<mode="cubic", cubic_coeff_a=-0.5>(x, , by)', 13, {"by": np.array([1, 1, 2, 0.8], np.float32)}),
    "a constant of a free shape": (ROWS, "s = Shape(x) z = ConstantOfShape<value=float[1] {1.5}>(s) y = Mul(z, x)", 13, {}),
    "a grid": ("float[N,3,5,5] x, float[N,4,4,2] g", 'y = GridSample<mode="bilinear", padding_mode="border">(x, g)', 16, {}),
    "gelu of another": (ROWS, "y = com.microsoft.BiasGelu(x, b)", 13, {"b": (8,)}),
    "a sum that is normalised": (ROWS, "y = com.microsoft.SkipLayerNormalization(x, x, s, b)", 13, {"s": (8,), "b": (8,)}),
    "means of windows with holes": (X, "y = AveragePool<kernel_shape=[2,3], dilations=[2,1], pads=[1,0,1,1], strides=[2,2], ceil_mode=1>(x)", 19, {}),
    "norms of windows with holes": (X, "y = LpPool<kernel_shape=[2,2], dilations=[2,2], pads=[1,0,0,1], p=3>(x)", 18, {}),
    "einsum of dimensions without a letter": (ROWS, 'y = Einsum<equation="...d,kd->...k">(x, w)', 13, {"w": (3, 8)}),
    "einsum without an output": (ROWS, 'y = Einsum<equation="bca,ad">(x, w)', 13, {"w": (8, 2)}),
    "a cubic grid": ("float[N,3,5,4] x, float[N,4,4,2] g", 'y = GridSample<mode="bicubic", padding_mode="zeros", align_corners=1>(x, g)', 16, {}),
    "a grid in a volume": ("float[N,2,3,5,4] x, float[N,2,4,3,3] g", 'y = GridSample<mode="linear", padding_mode="border">(x, g)', 20, {}),
    "a part that is cut out and resized": ("float[1,4,6,5] x", 'y = Resize<mode="linear", coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=7.0>(x, part, , to)', 13, {"part": np.array([0, 0, 0.2, -0.3, 1, 1, 0.9, 1.2], np.float32), "to": whole(1, 4, 5, 6)}),
    "frequencies": ("float[N,9,1] x", "h = DFT<onesided=1>(x) w = DFT(x, long) i = DFT<inverse=1>(w) y = Concat<axis=1>(h, w, i)", 17, {"long": np.array(8)}),
    "frequencies of another dimension": ("float[N,3,6,2] x", "y = DFT(x, , axis)", 20, {"axis": np.array(-3)}),
    "frequencies of frames": ("float[N,21,1] x", "y = STFT(x, step, window)", 17, {"step": np.array(3), "window": (8,)}),
    "integers with a scale a channel": (X, "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)", 13, {"s": np.array([0.1, 0.2, 0.03, 0.4], np.float32), "z": np.array([1, 2, 128, 255], np.uint8)}),
    "integers of sixteen bits": (X, "q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)", 21, {"s": np.array(0.001, np.float32), "z": np.array(-3, np.int16)}),
    "weights in blocks, the last one short": (ROWS, "w = DequantizeLinear<axis=0, block_size=3>(c, s) y = MatMul(x, w)", 21, {"c": np.arange(-12, 12).reshape(8, 3).astype(np.int8), "s": (3, 3)}),
    "a function of its own parts": (ROWS, "y = MeanVarianceNormalization<axes=[1,2]>(x)", 13, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_is_read_is_what_onnx_runtime_runs(name: str, tmp_path: Path) -> None:
    inputs, body, opset, weights = CASES[name]
    model = model_of(inputs, body, opset, **weights)
    feeds = {}
    for each in model.graph.input:
        shape = [dim.dim_value or 3 for dim in each.type.tensor_type.shape.dim]
        whole_numbers = each.type.tensor_type.elem_type != 1
        feeds[each.name] = np.arange(np.prod(shape)).reshape(shape) % 9 if whole_numbers else noise(*shape)
    assert_reads_as_it_runs(model, feeds, tmp_path)


BY_DEFINITION: dict[str, tuple[str, str, int, dict[str, Any]]] = {
    "a slope a channel before others broadcast": (X, "y = PRelu(x, s)", 6, {"s": (4,)}),
    "running products": (ROWS, "y = CumProd<exclusive=1, reverse=1>(x, axis)", 26, {"axis": np.array(1, np.int64)}),
    "attention to what was before": (
        "float[N,2,3,8] x, float[N,2,4,8] k, float[N,2,4,8] v",
        "y, a, b = Attention<is_causal=1>(x, x, x, , k, v)",
        24,
        {},
    ),
    "attention whose scores a graph changes": (
        "float[N,2,3,8] x",
        "y = ai.onnx.preview.FlexAttention<score_mod = s (float[B,H,L,S] a) => (float[B,H,L,S] c) { half = Constant<value=float {0.5}>() c = Mul(a, half) }>(x, x, x)",
        26,
        {},
    ),
    "attention step by step": (
        "float[N,4,8] x, float[N,4,2] d",
        'y, s = LinearAttention<q_num_heads=2, kv_num_heads=2, update_rule="gated">(x, x, x, , d)',
        27,
        {},
    ),
    "places of an affine map": ("float[3,2,3] x", "y = AffineGrid(x, size)", 20, {"size": whole(3, 2, 4, 5)}),
}  # fmt: skip


@pytest.mark.parametrize("name", BY_DEFINITION)
def test_what_is_read_is_what_onnx_defines(name: str, tmp_path: Path) -> None:
    inputs, body, opset, weights = BY_DEFINITION[name]
    model = model_of(inputs, body, opset, **weights)
    feeds = {
        each.name: noise(*(dim.dim_value or 3 for dim in each.type.tensor_type.shape.dim)) for each in model.graph.input
    }
    assert_reads_as_it_runs(model, feeds, tmp_path, by=by_definition)


COMBINED = {
    "sums of elements": ("float[3,4] x, float[3,2] u", 'y = ScatterElements<axis=1, reduction="add">(x, at, u)', whole([1, 1], [0, -1], [2, 2])),
    "products of rows": ("float[3,4] x, float[3,4] u", 'y = ScatterND<reduction="mul">(x, at, u)', whole([0], [2], [0])),
    "largest of whole numbers": ("int64[3,4] x, int64[3] u", 'y = ScatterND<reduction="max">(x, at, u)', whole([0, 1], [2, 3], [0, 1])),
}  # fmt: skip


@pytest.mark.parametrize("name", COMBINED)
def test_what_is_written_is_combined_where_it_meets(name: str, tmp_path: Path) -> None:
    inputs, body, places = COMBINED[name]
    model = model_of(inputs, body, 18, at=places)
    feeds = {}
    for each in model.graph.input:
        shape = [dim.dim_value for dim in each.type.tensor_type.shape.dim]
        feeds[each.name] = (
            noise(*shape) if each.type.tensor_type.elem_type == 1 else np.arange(np.prod(shape)).reshape(shape) % 5
        )
    assert_reads_as_it_runs(model, feeds, tmp_path, batch_free=False)


def test_integers_come_with_the_scale_that_was_found_for_them(tmp_path: Path) -> None:
    model = model_of("float[3,4] x", "y, s, z = DynamicQuantizeLinear(x)", 11, "y, s, z")
    assert_reads_as_it_runs(model, {"x": noise(3, 4)}, tmp_path, batch_free=False)


def test_numbers_of_sixteen_bits_are_bound(tmp_path: Path) -> None:
    import ml_dtypes

    model = model_of("bfloat16[N,4] x, bfloat16[4] b", "y = Add(x, b)", 13)
    bound = np.array([1, 2, 0.5, -3], ml_dtypes.bfloat16)
    feeds = {"x": noise(2, 4).astype(ml_dtypes.bfloat16)}
    graph = read(saved(model, tmp_path), bind={"b": bound})
    (found,) = by_graph(graph, {"x": feeds["x"].astype(np.float32)})
    np.testing.assert_allclose(found, (feeds["x"] + bound).astype(np.float32), rtol=1e-2)


RECURRENT = {
    "LSTM that sees its cell": (
        4,
        "y, h, c = LSTM<hidden_size=5, direction={d}>(x, w, r, b, , h0, c0, p)",
        "y, h, c",
    ),
    "LSTM": (4, "y, h, c = LSTM<hidden_size=5, direction={d}>(x, w, r, b, , h0, c0)", "y, h, c"),
    "GRU": (3, "y, h = GRU<hidden_size=5, direction={d}, linear_before_reset=1>(x, w, r, b, , h0)", "y, h"),
    "RNN": (1, "y, h = RNN<hidden_size=5, direction={d}>(x, w, r, b, , h0)", "y, h"),
}


@pytest.mark.parametrize("kind", RECURRENT)
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_recurrent_layers_keep_their_states(kind: str, direction: str, tmp_path: Path) -> None:
    gates, body, outputs = RECURRENT[kind]
    count = 2 if direction == "bidirectional" else 1
    states = f"float[6,N,3] x, float[{count},N,5] h0" + (f", float[{count},N,5] c0" if gates == 4 else "")
    weights = {"w": (count, gates * 5, 3), "r": (count, gates * 5, 5), "b": (count, gates * 10)}
    weights |= {"p": (count, 15)} if ", p)" in body else {}
    model = model_of(states, body.format(d=f'"{direction}"'), 14, outputs, **weights)
    feeds = {"x": noise(6, 2, 3), "h0": noise(count, 2, 5), "c0": noise(count, 2, 5)}
    feeds = {name: each for name, each in feeds.items() if name in states}
    assert_reads_as_it_runs(model, feeds, tmp_path)


def test_a_network_that_mixes_its_images_is_held_as_one_whole(tmp_path: Path) -> None:
    model = model_of(
        "float[3,4] x, float[4,2] w", "p = MatMul(x, w) y = ReduceSum<keepdims=0>(p, first)", 13, first=whole(0)
    )
    assert_reads_as_it_runs(model, {"x": noise(3, 4), "w": noise(4, 2)}, tmp_path, batch_free=False)


def test_a_branch_is_taken_once_its_condition_is_known(tmp_path: Path) -> None:
    body = (
        "c = Equal(rate, wanted) "
        "y = If (c) <then_branch = a () => (t) { t = Relu(x) }, else_branch = b () => (e) { e = Neg(x) }>"
    )
    model = model_of("float[N,4] x, int64 rate", body, 13, wanted=np.array(16000, np.int64))
    for rate in (16000, 8000):
        assert_reads_as_it_runs(model, {"x": noise(2, 4)}, tmp_path, bind={"rate": np.int64(rate)})


def test_a_loop_of_known_turns_is_laid_out(tmp_path: Path) -> None:
    body = (
        "y, s = Loop (turns, going, x) <body = b (int64 i, bool c, float[N,4] h) => (bool d, float[N,4] n, float[N,4] o) "
        "{ d = Identity(c) n = Mul(h, half) o = Add(n, half) }>"
    )
    weights = {"turns": np.array(3, np.int64), "going": np.array(True), "half": np.array(0.5, np.float32)}
    model = model_of("float[N,4] x", body, 13, "y, s", **weights)
    assert_reads_as_it_runs(model, {"x": noise(2, 4)}, tmp_path)
