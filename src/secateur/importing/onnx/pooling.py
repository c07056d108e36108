"""Windows of which the largest number, the mean or a norm is taken."""

from __future__ import annotations

import math
from collections.abc import Callable

from secateur.importing.onnx.calls import Call, Conversion, Made, Refused
from secateur.importing.onnx.values import Tensor
from secateur.importing.onnx.windows import axes_of, space_of
from secateur.network import composites
from secateur.network.composites import Axis


def _windows(call: Call, tensor: Tensor) -> list[Axis]:
    kernel = call.whole("kernel_shape")
    if not kernel:
        raise Refused("lacks its kernel_shape")
    return axes_of(call, kernel, space_of(call, tensor))


def _max_pool(call: Call) -> Made:
    if len(call.node.output) > 1 and call.node.output[1]:
        raise Refused("gives the places of its largest numbers, which is not supported")
    tensor = call.tensor(0)
    axes, ceil = _windows(call, tensor), call.flag("ceil_mode")
    element, base = call.build.element(tensor.base), tensor.base
    plain = element == "float32" or call.translation.quantisation_of(base) is not None
    base = base if plain else call.emit("cast", base, element="float32")
    made = composites.max_pool(call.build, base, _within(call, axes, base), ceil=ceil)
    return call.like(tensor, made if plain else call.emit("cast", made, element=element))


def _within(call: Call, axes: list[Axis], base: str) -> list[Axis]:
    wide = [axis for axis in axes if max(axis.before, axis.after) >= axis.kernel]
    if wide:
        raise Refused(f"pads by {max(wide[0].before, wide[0].after)} for windows of {wide[0].kernel}")
    return axes


def _average_pool(call: Call) -> Made:
    tensor = call.tensor(0)
    axes, ceil = _within(call, _windows(call, tensor), tensor.base), call.flag("ceil_mode")
    counted = call.flag("count_include_pad")
    if any(axis.dilation > 1 for axis in axes):
        return _dilated(call, tensor, axes, counted, ceil)
    return call.like(tensor, composites.avg_pool(call.build, tensor.base, axes, counted=counted, ceil=ceil))


def _dilated(call: Call, tensor: Tensor, axes: list[Axis], counted: bool, ceil: bool) -> Tensor:
    """Sums over each axis in turn, of what windows see there."""
    if ceil or (not counted and any(axis.before or axis.after for axis in axes)):
        raise Refused("with dilations and padding that does not count is not supported")
    value = tensor.base
    rank = len(call.build.shape(value))
    for at, axis in enumerate(axes, rank - len(axes) + 1):
        padded = composites.pad(call.build, value, [*[(0, 0)] * (rank - at), (axis.before, axis.after)])
        laid = composites.laid_out(call.build, padded)
        count = axis.count(call.build.shape(value)[at - 1])
        parts = [
            composites.every(
                call.build,
                composites.cut(call.build, laid, at, start, start + (count - 1) * axis.stride + 1),
                at,
                axis.stride,
            )
            for start in (tap * axis.dilation for tap in range(axis.kernel))
        ]
        value = parts[0]
        for part in parts[1:]:
            value = call.emit("add", value, part)
    return call.like(tensor, call.emit("mul", value, 1 / math.prod(axis.kernel for axis in axes)))


def _lp_pool(call: Call) -> Made:
    """(Σ |x|^p)^(1/p): the mean times how many they are."""
    tensor, order = call.tensor(0), float(call.attribute("p", 2))
    axes = _windows(call, tensor)
    if call.flag("ceil_mode") or any(axis.dilation > 1 for axis in axes):
        raise Refused("with ceil_mode or dilations is not supported")
    raised = _raised(call, tensor.base, order)
    made = composites.avg_pool(call.build, raised, axes, counted=True)
    total = call.emit("mul", made, float(math.prod(axis.kernel for axis in axes)))
    return call.like(tensor, call.emit("pow", total, exponent=1 / order))


def _raised(call: Call, value: str, order: float) -> str:
    size = call.emit("abs", value)
    return size if order == 1 else call.emit("pow", size, exponent=order)


def _over_space(reduce: Callable[[Call, str, tuple[int, ...]], str]) -> Conversion:
    """Of all that lies behind the channels, which is one number then."""

    def convert(call: Call) -> Made:
        tensor = call.tensor(0)
        space = space_of(call, tensor)
        rank = len(call.build.shape(tensor.base))
        return call.like(tensor, reduce(call, tensor.base, tuple(range(rank - len(space) + 1, rank + 1))))

    return convert


def _mean(call: Call, value: str, axes: tuple[int, ...]) -> str:
    if len(call.build.shape(value)) == 3 and len(axes) == 2:
        return call.emit("adaptive_avg_pool2d", value, size=(1, 1))
    return call.emit("mean", value, axes=axes, keepdims=True)


def _largest(call: Call, value: str, axes: tuple[int, ...]) -> str:
    return call.emit("amax", value, axes=axes, keepdims=True)


def _norm(call: Call, value: str, axes: tuple[int, ...]) -> str:
    return composites.norm_over(call.build, value, axes, float(call.attribute("p", 2)), keepdims=True)


CONVERSIONS: dict[str, Conversion] = {
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "LpPool": _lp_pool,
    "GlobalAveragePool": _over_space(_mean),
    "GlobalMaxPool": _over_space(_largest),
    "GlobalLpPool": _over_space(_norm),
}
