"""Convolutions, linear layers and products with a constant matrix."""

from __future__ import annotations

from secateur.importing.aten.calls import Call, Constant, Conversion
from secateur.importing.aten.reading import along_last, around, pair, planes
from secateur.network import composites


def _conv2d(call: Call) -> str:
    weight, padding, dilation = call["weight"], call["padding"], pair(call["dilation"])
    if not isinstance(weight, Constant) or weight.tensor.ndim != 4 or call.get("transposed"):
        raise call.error("is not supported: only two-dimensional convolutions with constant weights are")
    if padding == "same":
        padding = composites.same_padding(tuple(weight.tensor.shape[2:]), dilation)
    else:
        padding = (0, 0, 0, 0) if padding == "valid" else around(padding)
    return composites.conv2d(
        call.build,
        planes(call, "input"),
        {**call.weight("weight", "weight"), **call.weight("bias", "bias")},
        padding=padding,
        stride=pair(call["stride"]),
        dilation=dilation,
        groups=int(call["groups"]),
    )


def _linear(call: Call) -> str:
    weights = {**call.weight("weight", "weight"), **call.weight("bias", "bias")}
    return call.emit("linear", call.value("input"), weights=weights)


def _matrix_product(call: Call) -> str:
    """x @ W with a constant W (I, O): a linear layer of W transposed."""
    left, right = call.first, call["mat2" if call.name == "mm" else "other"]
    if isinstance(left, Constant) or not isinstance(right, Constant) or right.tensor.ndim != 2:
        raise call.error("is supported with a constant matrix on the right only")
    return composites.matrix_product(call.build, call.value_of(left), call.bits(right, "weight"))


def _addmm(call: Call) -> str:
    """bias + x @ W."""
    bias, matrix = call["self"], call["mat2"]
    if not isinstance(matrix, Constant) or not isinstance(bias, Constant) or (call["beta"], call["alpha"]) != (1, 1):
        raise call.error("is supported with a constant matrix, a constant vector and no factors only")
    weight, vector = call.bits(matrix, "weight"), call.bits(bias, "bias")
    return composites.matrix_product(call.build, call.value("mat1"), weight, vector)


CONVERSIONS: dict[str, Conversion] = {
    "conv2d": _conv2d,
    "convolution": _conv2d,
    "linear": along_last(_linear),
    "matmul": along_last(_matrix_product),
    "mm": along_last(_matrix_product),
    "addmm": along_last(_addmm),
}
