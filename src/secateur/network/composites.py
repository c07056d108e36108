"""What other formats have as one operation and a Graph spells with several, or with another's attributes.

Each function adds nodes to a Builder and gives the value that it made, or several. Axes are counted from 1, and shapes
leave out the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from secateur.errors import GraphError
from secateur.network.building import Builder, filled
from secateur.network.graph import Shape, Weight
from secateur.network.sizes import Dimension, is_whole

_NO_PADDING = (0, 0, 0, 0)


class CompositeError(GraphError):
    """No operations of a Graph make this. The text goes on where the operation's name ends."""


@dataclass(frozen=True, slots=True)
class Padded:
    """Planes with zeros around them, (top, bottom, left, right), which a convolution takes into its own padding."""

    base: str
    padding: Shape


def conv2d(
    build: Builder, planes: str | Padded, weights: dict[str, Weight], *, padding: Shape, stride: Shape,
    dilation: Shape, groups: int,
) -> str:  # fmt: skip
    """A convolution, with the zeros that already lie around its input in its padding."""
    base, around = (planes.base, planes.padding) if isinstance(planes, Padded) else (planes, _NO_PADDING)
    padding = _sum_of(padding, around)
    return build.emit("conv2d", base, weights=weights, stride=stride, padding=padding, dilation=dilation, groups=groups)


def same_padding(kernel: Shape, dilation: Shape) -> Shape:
    """What keeps planes their size at a stride of 1: the odd row and column below and to the right."""
    totals = [step * (size - 1) for step, size in zip(dilation, kernel, strict=True)]
    return tuple(each for total in totals for each in (total // 2, total - total // 2))


def matrix_product(build: Builder, value: str, matrix: Weight, bias: Weight | None = None) -> str:
    """x @ W + b with W (I, O) and b (O): a linear layer of W transposed."""
    transposed = Weight(matrix.dtype, np.ascontiguousarray(matrix.bits.T))
    return build.emit("linear", value, weights={"weight": transposed, **({} if bias is None else {"bias": bias})})


def clamp(build: Builder, value: str, low: float | None, high: float | None) -> str:
    """From 0 up, or from 0 to 6."""
    op = {(0, None): "relu", (0, 6): "relu6"}.get((low, high))  # type: ignore[arg-type]
    if op is None:
        raise CompositeError(f"between {low} and {high} is not supported: only from 0 (ReLU) or from 0 to 6 (ReLU6)")
    return build.emit(op, value)


def prelu(build: Builder, value: str, slope: Weight) -> str:
    """x, or the slope times x where x < 0."""
    if slope.count != 1:
        raise CompositeError("is supported with one slope for all channels only")
    return build.emit("leaky_relu", value, negative_slope=float(slope.values().reshape(-1)[0]))


def glu(build: Builder, value: str, axis: int) -> str:
    """The first half along an axis, times the sigmoid of the second."""
    half = build.shape(value)[axis - 1] // 2
    gate = build.emit("sigmoid", cut(build, value, axis, half, 2 * half))
    return build.emit("mul", cut(build, value, axis, 0, half), gate)


def max_pool2d(
    build: Builder, value: str, *, kernel: Shape, stride: Shape, padding: Shape = _NO_PADDING,
    dilation: Shape = (1, 1), ceil: bool = False,
) -> str:  # fmt: skip
    """ceil: windows that reach beyond the padding count too."""
    if ceil:
        padding = _ceiling(build.shape(value)[1:], kernel, stride, padding, dilation)
    return build.emit("max_pool2d", value, kernel=kernel, stride=stride, padding=padding, dilation=dilation)


def avg_pool2d(
    build: Builder, value: str, *, kernel: Shape, stride: Shape, padding: Shape = _NO_PADDING,
    counted: bool = True, ceil: bool = False,
) -> str:  # fmt: skip
    """counted: padding is part of a mean. ceil: as in max_pool2d; what is beyond the padding is part of no mean."""
    if ceil:
        more = _ceiling(build.shape(value)[1:], kernel, stride, padding, (1, 1))
        if more != padding and counted and any(padding):
            raise CompositeError("with ceil_mode, padding and count_include_pad is not supported")
        counted, padding = counted and more == padding, more
    return build.emit("avg_pool2d", value, kernel=kernel, stride=stride, padding=padding, count_include_pad=counted)


def adaptive_max_pool2d(build: Builder, value: str, size: Shape) -> str:
    """The maxima of size[0] × size[1] windows that cover the planes."""
    _, *have = build.shape(value)
    if any(each % want for each, want in zip(have, size, strict=True)):
        raise CompositeError(f"from {tuple(have)} to {size} is not supported: windows have to be of one size")
    kernel = (have[0] // size[0], have[1] // size[1])
    return max_pool2d(build, value, kernel=kernel, stride=kernel)


def sum_over(build: Builder, value: str, axes: Shape, *, keepdims: bool) -> str:
    """The mean times how many numbers it is of."""
    count = math.prod(build.shape(value)[axis - 1] for axis in axes)
    if not is_whole((count,)):
        raise CompositeError(f"takes a length ({count}) as a number, which is not known before it runs")
    return build.emit("mul", build.emit("mean", value, axes=axes, keepdims=keepdims), count)


def _ceiling(size: Shape, kernel: Shape, stride: Shape, padding: Shape, dilation: Shape) -> Shape:
    """padding with what rounding up the number of windows adds below and to the right, as PyTorch counts them."""
    found = list(padding)
    for axis in (0, 1):
        before, after = padding[2 * axis : 2 * axis + 2]
        reach = dilation[axis] * (kernel[axis] - 1) + 1
        room = size[axis] + before + after - reach
        windows = -(-room // stride[axis]) + 1
        if (windows - 1) * stride[axis] >= size[axis] + before:
            windows -= 1  # the last window may not start in the padding
        found[2 * axis + 1] = max(after, (windows - 1) * stride[axis] + reach - size[axis] - before)
    return tuple(found)


def reshape(build: Builder, value: str, shape: Shape) -> str:
    """The value itself where it has that shape."""
    return value if build.shape(value) == shape else build.emit("reshape", value, shape=shape)


def permute(build: Builder, value: str, axes: Shape) -> str:
    """The value itself where each axis stays."""
    kept = axes == tuple(range(1, 1 + len(axes)))
    return value if kept else build.emit("permute", value, axes=axes)


def channel_shuffle(build: Builder, value: str, groups: int) -> str:
    """(groups · n, …): the first of each group, the second of each group."""
    channels, *plane = build.shape(value)
    apart = build.emit("reshape", value, shape=(groups, channels // groups, *plane))
    turned = build.emit("permute", apart, axes=(2, 1, *range(3, 3 + len(plane))))
    return build.emit("reshape", turned, shape=(channels, *plane))


def pixel_shuffle(build: Builder, value: str, factor: int) -> str:
    """(C·r², H, W) → (C, H·r, W·r)."""
    channels, height, width = build.shape(value)
    apart = build.emit("reshape", value, shape=(channels // factor**2, factor, factor, height, width))
    turned = build.emit("permute", apart, axes=(1, 4, 2, 5, 3))
    return build.emit("reshape", turned, shape=(channels // factor**2, height * factor, width * factor))


def pixel_unshuffle(build: Builder, value: str, factor: int) -> str:
    """(C, H·r, W·r) → (C·r², H, W)."""
    channels, height, width = build.shape(value)
    apart = build.emit("reshape", value, shape=(channels, height // factor, factor, width // factor, factor))
    turned = build.emit("permute", apart, axes=(1, 3, 5, 2, 4))
    return build.emit("reshape", turned, shape=(channels * factor**2, height // factor, width // factor))


def broadcast(build: Builder, value: str, shape: Shape) -> str:
    """Axes of length 1 repeated: a product with ones."""
    if build.shape(value) == shape:
        return value
    return build.emit("mul", value, _of_one_number(build, shape, 1))


def _of_one_number(build: Builder, shape: Shape, number: float) -> str | Weight:
    """A constant that is this number everywhere."""
    return filled(shape, number) if is_whole(shape) else build.emit("fill", value=float(number), shape=shape)


def cut(build: Builder, value: str, axis: int, start: Dimension, stop: Dimension) -> str:
    """From start up to stop along an axis: the value itself where that is all of it."""
    whole = (start, stop) == (0, build.shape(value)[axis - 1])
    return value if whole else build.emit("slice", value, axis=axis, start=start, stop=stop)


def split(build: Builder, value: str, axis: int, sizes: Sequence[Dimension]) -> list[str]:
    """One part after another, of these sizes."""
    ends = list(accumulate(sizes))
    return [cut(build, value, axis, end - size, end) for end, size in zip(ends, sizes, strict=True)]


def select(build: Builder, value: str, axis: int, index: Dimension) -> str:
    """One index of an axis, which is gone then."""
    shape = build.shape(value)
    part = cut(build, value, axis, index, index + 1)
    return build.emit("reshape", part, shape=shape[: axis - 1] + shape[axis:])


def unbind(build: Builder, value: str, axis: int) -> list[str]:
    """Each index of an axis, without that axis."""
    shape = build.shape(value)
    parts = split(build, value, axis, [1] * shape[axis - 1])
    return [build.emit("reshape", part, shape=shape[: axis - 1] + shape[axis:]) for part in parts]


def every(build: Builder, value: str, axis: int, step: int) -> str:
    """Each step-th row or column of planes, from the first on: a max pooling of windows of one."""
    if step == 1:
        return value
    if len(build.shape(value)) != 3 or axis == 1:
        raise CompositeError(f"with step {step} is supported on the rows and columns of planes only")
    return max_pool2d(build, value, kernel=(1, 1), stride=(step, 1) if axis == 2 else (1, step))


def stack(build: Builder, values: Sequence[str], axis: int) -> str:
    """Values of one shape, one after another along a new axis."""
    shape = build.shape(values[0])
    longer = [build.emit("reshape", value, shape=(*shape[: axis - 1], 1, *shape[axis - 1 :])) for value in values]
    return build.emit("concat", *longer, axis=axis)


def pad(build: Builder, value: str | Padded, pairs: Sequence[tuple[int, int]]) -> str | Padded:
    """Zeros (before, after) along the last axes, the last one first: around planes for a convolution to take in."""
    base, around = (value.base, value.padding) if isinstance(value, Padded) else (value, _NO_PADDING)
    if len(build.shape(base)) == 3 and len(pairs) <= 2:
        (left, right), (top, bottom) = [*pairs, (0, 0)][:2]
        return Padded(base, _sum_of(around, (top, bottom, left, right)))
    made = laid_out(build, value)
    for axis, (before, after) in zip(range(len(build.shape(base)), 0, -1), pairs, strict=False):
        made = _with_zeros(build, made, axis, before, after)
    return made


def laid_out(build: Builder, value: str | Padded) -> str:
    """The value with its zeros, where nothing takes them into its own padding."""
    if isinstance(value, str):
        return value
    top, bottom, left, right = value.padding
    return _with_zeros(build, _with_zeros(build, value.base, 2, top, bottom), 3, left, right)


def _with_zeros(build: Builder, value: str, axis: int, before: int, after: int) -> str:
    """Zeros before and after along one axis, by concatenation."""
    shape = build.shape(value)

    def zeros(count: int) -> list[str | Weight]:
        return [_of_one_number(build, (*shape[: axis - 1], count, *shape[axis:]), 0)] if count else []

    parts: list[str | Weight] = [*zeros(before), value, *zeros(after)]
    return value if len(parts) == 1 else build.emit("concat", *parts, axis=axis)


def _sum_of(left: Shape, right: Shape) -> Shape:
    return tuple(a + b for a, b in zip(left, right, strict=True))
