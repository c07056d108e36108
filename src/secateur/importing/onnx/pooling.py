"""Windows of which the largest number, the mean or a norm is taken."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.importing.onnx.calls import Call, Conversion, Made, Refused
from secateur.importing.onnx.tensors import Constant
from secateur.importing.onnx.values import Tensor
from secateur.importing.onnx.windows import axes_of, space_of
from secateur.network import composites
from secateur.network.composites import Axis
from secateur.network.sizes import is_whole


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
        return call.like(tensor, _dilated_mean(call, tensor.base, axes, counted, ceil))
    return call.like(tensor, composites.avg_pool(call.build, tensor.base, axes, counted=counted, ceil=ceil))


def _dilated_mean(call: Call, value: str, axes: list[Axis], counted: bool, ceil: bool) -> str:
    """Sums of what windows see, over how many numbers that is along each axis."""
    space = call.build.shape(value)[-len(axes) :]
    if not is_whole(space):
        raise Refused("with dilations is of sizes which are free: give them with --shape")
    value = _sums(call, value, axes, ceil)
    for behind, (axis, size) in enumerate(zip(axes[::-1], space[::-1], strict=True)):
        call.translation.folding.count(_windows_along(axis, int(size), ceil) * axis.kernel)
        shares = 1 / _seen(axis, int(size), counted, ceil)
        spread = shares.astype(np.float32).reshape(-1, *(1,) * behind)
        value = call.emit("mul", value, call.weight_of(Constant(spread, "float32")))
    return value


def _seen(axis: Axis, size: int, counted: bool, ceil: bool) -> NDArray[Any]:
    """How many numbers each window along an axis is the mean of, padding counted or not."""
    begins = np.arange(_windows_along(axis, size, ceil)) * axis.stride - axis.before
    taps = begins[:, None] + np.arange(axis.kernel) * axis.dilation
    low, high = (-axis.before, size + axis.after) if counted else (0, size)
    return ((taps >= low) & (taps < high)).sum(axis=1)


def _windows_along(axis: Axis, size: int, ceil: bool) -> int:
    """With ceil, one more that begins before the padding behind and ends beyond it."""
    count, left = divmod(size + axis.before + axis.after - axis.reach, axis.stride)
    more = ceil and left and (count + 1) * axis.stride < size + axis.before
    return count + 1 + bool(more)


def _sums(call: Call, value: str, axes: list[Axis], ceil: bool) -> str:
    """Of what windows see, over each axis in turn; padding is zeros."""
    rank = len(call.build.shape(value))
    call.translation.count(3 * sum(axis.kernel for axis in axes))
    for at, axis in enumerate(axes, rank - len(axes) + 1):
        size = call.build.shape(value)[at - 1]
        count = _windows_along(axis, int(size), ceil) if is_whole(size) else axis.count(size)
        beyond = max(0, (count - 1) * axis.stride + axis.reach - size - axis.before) if is_whole(size) else axis.after
        padded = composites.pad(call.build, value, [*[(0, 0)] * (rank - at), (axis.before, beyond)])
        laid = composites.laid_out(call.build, padded)
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
    return value


def _lp_pool(call: Call) -> Made:
    """(Σ |x|^p)^(1/p): the mean times how many they are."""
    tensor, order = call.tensor(0), float(call.attribute("p", 2))
    axes = _windows(call, tensor)
    raised, ceil = _raised(call, tensor.base, order), call.flag("ceil_mode")
    if ceil or any(axis.dilation > 1 for axis in axes):
        total = _sums(call, raised, axes, ceil)
    else:
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
