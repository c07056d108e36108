"""QuantizeLinear and DequantizeLinear, operations on integers with their scales, and those whose scales are found as
they run: these are computed in float32, of the numbers before they would be rounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from secateur.importing.onnx.aligning import together
from secateur.importing.onnx.calls import Call, Conversion, Made, Refused
from secateur.importing.onnx.convolving import convolved
from secateur.importing.onnx.integers import codes, numbers_of, real, scale_of, spread_along, whole
from secateur.importing.onnx.products import multiplied, of_integers
from secateur.importing.onnx.tensors import ELEMENTS as INTEGERS
from secateur.importing.onnx.tensors import WIDER, Constant, format_of
from secateur.importing.onnx.values import Held, Tensor
from secateur.network import composites
from secateur.network.graph import Shape
from secateur.network.quantisation import ELEMENTS, Quantisation


def _dequantize(call: Call) -> Made:
    return _numbers(call, 0)


def _numbers(call: Call, place: int, axis: int = 1) -> Constant | Tensor:
    """What an input, with its scale and zero point behind it, stands for."""
    held = call.held[place]
    if isinstance(held, Constant):
        scale = call.numbers(place + 1, "a scale")
        zero = call.numbers(place + 2, "a zero point") if call.has(place + 2) else None
        dim = _axis(call, scale, len(held.shape), axis)
        return numbers_of(held, scale, zero, dim, int(call.attribute("block_size", 0)))
    if _is_one_number(call, place + 1):
        return real(call, call.tensor(place), *scale_of(call, place + 1))
    return _real_along(call, place, axis)


def _is_one_number(call: Call, place: int) -> bool:
    """Whether a scale, and the zero point behind it, are known and one number each."""
    both = [call.held[at] for at in (place, place + 1) if call.has(at)]
    return all(isinstance(each, Constant) and each.array.size == 1 for each in both)


def _axis(call: Call, scale: Any, rank: int, default: int = 1) -> int:
    """Along which scales lie, where they are several."""
    return call.dim(call.attribute("axis", default), max(1, rank)) if scale.size > 1 else 0


def _real_along(call: Call, place: int, axis: int) -> Tensor:
    """What integers with a scale for each place along an axis, for each block of it, or one that inputs decide, are."""
    tensor = codes(call, call.tensor(place))
    found = together(call, [tensor, *_along(call, tensor, place + 1, axis)], "float32")
    base, scale, *zero = found.values
    base = call.emit("sub", base, *zero) if zero else base
    return call.made(call.emit("mul", base, scale), found.place, "float32")


def _along(call: Call, tensor: Tensor, place: int, axis: int = 1) -> list[Held]:
    """A scale and the zero point behind it, if there is one, as what they are of meets them."""
    return [_spread(call, each, tensor.shape, axis) for each in call.held[place : place + 2] if each is not None]


def _spread(call: Call, held: Held, shape: Shape, axis: int) -> Held:
    if isinstance(held, Constant):
        block, along = int(call.attribute("block_size", 0)), _axis(call, held.array, len(shape), axis)
        call.translation.folding.count(held.array.size * max(1, block))
        spread = spread_along(held.array, shape, along, block)
        return Constant(spread.astype(np.float32), "float32")
    tensor = call.as_tensor(held)
    if tensor.rank > 1 or tensor.shape not in ((), (1,)):
        raise Refused(f"takes a scale of shape {tensor.shape} that depends on the input: expected one number")
    return tensor


def _quantize(call: Call) -> Made:
    held = call.held[0]
    if isinstance(held, Constant):
        return _rounded(call, held)
    format = _format(call, 2)
    if format in ELEMENTS and _is_one_number(call, 1):
        return whole(call, call.tensor(0), Quantisation(format, *scale_of(call, 1)))
    return _whole_along(call, format)


def _whole_along(call: Call, format: str) -> Tensor:
    """Integers as numbers: of other widths than eight bits, or with other scales than one that is known."""
    tensor = call.tensor(0)
    found = together(call, [tensor, *_along(call, tensor, 1)], "float32")
    base, scale, *zero = found.values
    made = call.emit("round", call.emit("div", base, scale))
    made = call.emit("add", made, *zero) if zero else made
    made = call.emit("cast", composites.clamp(call.build, made, *_bounds(format)), element=INTEGERS[format])
    return call.made(made, found.place, format)


def _format(call: Call, place: int) -> str:
    """Of a zero point, or what is asked for; uint8 where nothing says it."""
    asked = int(call.attribute("output_dtype", 0))
    held = call.held[place] if call.has(place) else None
    if isinstance(held, (Constant, Tensor)):
        format = held.format
    else:
        format = format_of(asked, "what it makes") if asked else "uint8"
    if format not in INTEGERS or INTEGERS[format] != "int32" or format == "int32":
        raise Refused(f"makes {format}: expected integers of up to sixteen bits")
    return format


def _bounds(format: str) -> tuple[float, float]:
    """The least and the most of what up to sixteen bits hold."""
    bits = int(format.removeprefix("u").removeprefix("int"))
    return (0.0, 2.0**bits - 1) if format[0] == "u" else (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1)


def _rounded(call: Call, held: Constant) -> Constant:
    """A constant as integers."""
    scale, format = call.numbers(1, "a scale"), _format(call, 2)
    zero = call.numbers(2, "a zero point") if call.has(2) else np.zeros(1, np.uint8)
    block, dim = int(call.attribute("block_size", 0)), _axis(call, scale, len(held.shape))
    scales, zeros = (spread_along(each, held.shape, dim, block) for each in (scale, zero))
    made = np.clip(np.rint(held.array / scales) + zeros.astype(np.float64), *_bounds(format))
    return Constant(made.astype(WIDER.get(format, format)), format)


def _output(call: Call, tensor: Tensor, place: int) -> Tensor:
    format = _format(call, place + 1)
    if format not in ELEMENTS:
        raise Refused(f"makes {format}, where a graph has integers of eight bits only")
    return whole(call, tensor, Quantisation(format, *scale_of(call, place)))


def _conv(call: Call) -> Made:
    """QLinearConv: x, w and y with scale and zero point each, and a bias that is counted as sums are."""
    x, w = _numbers(call, 0), _numbers(call, 3, 0)
    if not isinstance(w, Constant):
        raise Refused("has a weight that depends on the input")
    return _output(call, convolved(call, call.as_tensor(x), w, _bias(call, 8, w)), 6)


def _bias(call: Call, place: int, weight: Constant) -> Constant | None:
    if not call.has(place):
        return None
    steps = np.float32(call.number(1, "a scale")) * call.numbers(4, "a scale").reshape(-1)
    return numbers_of(call.constant(place, "a bias"), steps, None, 0, 0)


def _matmul(call: Call) -> Made:
    x, w = _numbers(call, 0), _numbers(call, 3)
    return _output(call, multiplied(call, x, w), 6)


def _gemm(call: Call) -> Made:
    """QGemm (com.microsoft): gives numbers where no scale is said for its output."""
    weight = _numbers(call, 3, 0 if call.flag("transB") else 1)
    tensor = call.as_tensor(_numbers(call, 0))
    if call.flag("transA") or float(call.attribute("alpha", 1.0)) != 1 or not isinstance(weight, Constant):
        raise Refused("turns or scales its input, which is not supported")
    turned = not call.flag("transB")
    bias = _bias(call, 6, weight)
    made = of_integers(call, tensor, weight, bias, turned=turned)
    if made is None:
        matrix = weight if turned else Constant(np.ascontiguousarray(weight.array.T), "float32")
        made = multiplied(call, tensor, matrix)
        made = made if bias is None else call.like(made, call.emit("add", made.base, call.weight_of(bias)))
    return _output(call, made, 7) if call.has(7) else made


def _pair(op: str) -> Conversion:
    def convert(call: Call) -> Made:
        found = together(call, [_numbers(call, 0), _numbers(call, 3)])
        return _output(call, call.made(call.emit(op, *found.values), found.place), 6)

    return convert


def _of_one(function: Callable[[Call, Tensor], str]) -> Conversion:
    def convert(call: Call) -> Made:
        tensor = call.as_tensor(_numbers(call, 0))
        return _output(call, call.like(tensor, function(call, tensor)), 3)

    return convert


def _sigmoid(call: Call, tensor: Tensor) -> str:
    return call.emit("sigmoid", tensor.base)


def _leaky_relu(call: Call, tensor: Tensor) -> str:
    return call.emit("leaky_relu", tensor.base, negative_slope=float(call.attribute("alpha", 0.01)))


def _softmax(call: Call, tensor: Tensor) -> str:
    return call.emit("softmax", tensor.base, axis=call.axis(call.attribute("axis", -1), tensor))


def _global_mean(call: Call, tensor: Tensor) -> str:
    if call.flag("channels_last") or len(call.own(tensor)) != 3:
        raise Refused("is supported on planes with channels in front")
    return call.emit("adaptive_avg_pool2d", tensor.base, size=(1, 1))


def _mean(call: Call, tensor: Tensor) -> str:
    from secateur.importing.onnx.windows import axes_of, space_of

    axes = axes_of(call, call.whole("kernel_shape") or [], space_of(call, tensor))
    counted, ceil = call.flag("count_include_pad"), call.flag("ceil_mode")
    return composites.avg_pool(call.build, tensor.base, axes, counted=counted, ceil=ceil)


def _concat(call: Call) -> Made:
    """QLinearConcat: the output's scale and zero point first."""
    found = together(call, [_numbers(call, at) for at in range(2, len(call.held), 3)])
    like = Tensor(found.values[0], found.place, call.made(found.values[0], found.place).shape)
    made = call.emit("concat", *found.values, axis=call.axis(call.attribute("axis", 1), like))
    return _output(call, call.made(made, found.place), 0)


def _dynamic(call: Call) -> Made:
    """A scale of what comes: numbers stay what they are, with a scale of 1, unless the file gives the integers."""
    if {*call.node.output} & {each.name for each in call.translation.model.graph.output}:
        return call.translation.spelled_out(call.node, call.held)
    call.translation.notes.add("what is quantised by scales found as it runs is computed in float32")
    one, zero = Constant(np.array(1, np.float32), "float32"), Constant(np.array(0, np.uint8), "uint8")
    return [call.tensor(0), one, zero]


def _centred(call: Call, place: int, zero: int) -> Constant | Tensor:
    """Integers counted from their zero point, as numbers."""
    held = call.held[place]
    if isinstance(held, Constant):
        zeros = call.numbers(zero, "a zero point") if call.has(zero) else np.zeros(1)
        spread = zeros.reshape(-1, *(1,) * (held.array.ndim - 1)) if zeros.size > 1 else zeros.reshape(())
        return Constant((held.array.astype(np.float32) - spread).astype(np.float32), "float32")
    tensor = call.tensor(place)
    less = float(call.number(zero, "a zero point", 0)) if call.has(zero) else 0.0
    base = codes(call, tensor).base
    base = base if call.build.element(base) == "float32" else call.emit("cast", base, element="float32")
    return call.made(call.emit("add", base, -less) if less else base, tensor.place)


def _conv_integer(call: Call) -> Made:
    weight = _centred(call, 1, 3)
    if not isinstance(weight, Constant):
        raise Refused("has a weight that depends on the input")
    made = convolved(call, call.as_tensor(_centred(call, 0, 2)), weight, None)
    return call.made(made.base, made.place, "int32")


def _matmul_integer(call: Call) -> Made:
    made = multiplied(call, _centred(call, 0, 2), _centred(call, 1, 3))
    return call.made(made.base, made.place, "int32")


def _dynamic_matmul(call: Call) -> Made:
    """DynamicQuantizeMatMul: x, integers of a weight, its scale and zero point, a bias."""
    call.translation.notes.add("what is quantised by scales found as it runs is computed in float32")
    return _with_bias(call, call.tensor(0), call.held[1], (2, 3), 4)


def _matmul_to_float(call: Call) -> Made:
    """MatMulIntegerToFloat: both with scales and zero points behind."""
    held, scale = call.tensor(0), call.held[2]
    left = _centred(call, 0, 4)
    found = together(call, [left, scale])  # type: ignore[list-item]
    return _with_bias(call, call.made(call.emit("mul", *found.values), held.place), call.held[1], (3, 5), 6)


def _with_bias(call: Call, tensor: Tensor, weight: object, places: tuple[int, int], bias: int) -> Tensor:
    if not isinstance(weight, Constant):
        raise Refused("has a weight that depends on the input")
    zero = call.numbers(places[1], "a zero point") if call.has(places[1]) else None
    numbers = numbers_of(weight, call.numbers(places[0], "a scale"), zero, len(weight.shape) - 1, 0)
    made = multiplied(call, tensor, numbers)
    if not call.has(bias):
        return made
    found = together(call, [made, call.held[bias]])  # type: ignore[list-item]
    return call.made(call.emit("add", *found.values), found.place)


CONVERSIONS: dict[str, Conversion] = {
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "QLinearConv": _conv,
    "QLinearMatMul": _matmul,
    "DynamicQuantizeLinear": _dynamic,
    "ConvInteger": _conv_integer,
    "MatMulInteger": _matmul_integer,
}
MICROSOFT: dict[str, Conversion] = {
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "QLinearAdd": _pair("add"),
    "QLinearMul": _pair("mul"),
    "QLinearSigmoid": _of_one(_sigmoid),
    "QLinearLeakyRelu": _of_one(_leaky_relu),
    "QLinearSoftmax": _of_one(_softmax),
    "QLinearAveragePool": _of_one(_mean),
    "QLinearGlobalAveragePool": _of_one(_global_mean),
    "QLinearConcat": _concat,
    "QGemm": _gemm,
    "DynamicQuantizeMatMul": _dynamic_matmul,
    "MatMulIntegerToFloat": _matmul_to_float,
}
