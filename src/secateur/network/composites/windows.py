"""What slides over planes: convolutions, poolings, and windows as values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from secateur.network.building import Builder, filled
from secateur.network.composites.failing import CompositeError
from secateur.network.composites.moves import cut, permute, reshape, take
from secateur.network.composites.padding import NO_PADDING, Padded, apart_from_zeros, laid_out, pad, sum_of
from secateur.network.graph import Shape, Weight
from secateur.network.sizes import is_whole


def conv2d(
    build: Builder, planes: str | Padded, weights: dict[str, Weight], *, padding: Shape, stride: Shape,
    dilation: Shape, groups: int,
) -> str:  # fmt: skip
    """A convolution, with the zeros that already lie around its input in its padding."""
    base, around = apart_from_zeros(build, planes)
    padding = sum_of(padding, around)
    return build.emit("conv2d", base, weights=weights, stride=stride, padding=padding, dilation=dilation, groups=groups)


def same_padding(kernel: Shape, dilation: Shape) -> Shape:
    """What keeps planes their size at a stride of 1: the odd row and column below and to the right."""
    totals = [step * (size - 1) for step, size in zip(dilation, kernel, strict=True)]
    return tuple(each for total in totals for each in (total // 2, total - total // 2))


def max_pool2d(
    build: Builder, value: str, *, kernel: Shape, stride: Shape, padding: Shape = NO_PADDING,
    dilation: Shape = (1, 1), ceil: bool = False,
) -> str:  # fmt: skip
    """ceil: windows that reach beyond the padding count too."""
    if ceil:
        padding = _ceiling(build.shape(value)[1:], kernel, stride, padding, dilation)
    return build.emit("max_pool2d", value, kernel=kernel, stride=stride, padding=padding, dilation=dilation)


def avg_pool2d(
    build: Builder, value: str, *, kernel: Shape, stride: Shape, padding: Shape = NO_PADDING,
    counted: bool = True, ceil: bool = False,
) -> str:  # fmt: skip
    """counted: padding is part of a mean. ceil: as in max_pool2d; what is beyond the padding is part of no mean."""
    if ceil:
        more = _ceiling(build.shape(value)[1:], kernel, stride, padding, (1, 1))
        if more != padding and counted and any(padding):
            value = laid_out(build, Padded(value, padding))
            more, padding = tuple(a - b for a, b in zip(more, padding, strict=True)), NO_PADDING
        counted, padding = counted and more == padding, more
    return build.emit("avg_pool2d", value, kernel=kernel, stride=stride, padding=padding, count_include_pad=counted)


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


def unfold(build: Builder, value: str, axis: int, size: int, step: int) -> str:
    """Windows of a size along an axis, each `step` behind the one before: their numbers along a new last axis."""
    shape = build.shape(value)
    if not is_whole(shape[axis - 1]):
        raise CompositeError(f"is not supported along a length ({shape[axis - 1]})")
    starts = np.arange(0, shape[axis - 1] - size + 1, step)
    taken = take(build, value, axis, (starts[:, None] + np.arange(size)).reshape(-1))
    apart = reshape(build, taken, (*shape[: axis - 1], len(starts), size, *shape[axis:]))
    rank = len(shape)
    return permute(build, apart, (*range(1, axis + 1), *range(axis + 2, rank + 2), axis + 1))


def im2col(
    build: Builder, value: str, *, kernel: Shape, stride: Shape, padding: Shape = NO_PADDING,
    dilation: Shape = (1, 1),
) -> str:  # fmt: skip
    """(C, H, W) → (C·kh·kw, L): what each of L windows sees, the first row of windows first."""
    top, bottom, left, right = padding
    padded = laid_out(build, pad(build, value, [(left, right), (top, bottom)]))
    channels, *size = build.shape(padded)
    rows, columns = _places(tuple(size), kernel, stride, dilation)
    seen = take(build, take(build, padded, 2, rows.reshape(-1)), 3, columns.reshape(-1))
    apart = reshape(build, seen, (channels, *rows.shape, *columns.shape))
    together = permute(build, apart, (1, 2, 4, 3, 5))
    return reshape(build, together, (channels * kernel[0] * kernel[1], rows.shape[1] * columns.shape[1]))


def fold(
    build: Builder, value: str, *, size: Shape, kernel: Shape, stride: Shape, padding: Shape = NO_PADDING,
    dilation: Shape = (1, 1),
) -> str:  # fmt: skip
    """(C·kh·kw, L) → (C, *size): of each pixel the sum of what the windows that see it say of it."""
    area, windows = kernel[0] * kernel[1], build.shape(value)[1]
    channels = build.shape(value)[0] // area
    flat = reshape(build, value, (channels, area * windows))
    with_zero = build.emit("concat", flat, filled((channels, 1), 0), axis=2)
    top, bottom, left, right = padding
    padded = (size[0] + top + bottom, size[1] + left + right)
    terms = _terms(padded, _places(padded, kernel, stride, dilation))
    terms = terms[:, top : top + size[0], left : left + size[1]]
    apart = reshape(build, take(build, with_zero, 2, terms.reshape(-1)), (channels, len(terms), *size))
    return build.emit("sum", apart, axes=(2,), keepdims=False)


def _places(size: Shape, kernel: Shape, stride: Shape, dilation: Shape) -> list[NDArray[np.intp]]:
    """Of rows and of columns (taps, windows): which of them each window's tap sees."""
    if not is_whole(size):
        raise CompositeError(f"is not supported on planes of lengths {size}")
    found = []
    for have, taps, step, apart in zip(size, kernel, stride, dilation, strict=True):
        windows = (have - apart * (taps - 1) - 1) // step + 1
        found.append(apart * np.arange(taps)[:, None] + step * np.arange(windows))
    return found


def _terms(size: Shape, places: Sequence[NDArray[np.intp]]) -> NDArray[np.intp]:
    """(n, *size): for each pixel which of (taps, windows), flat, are about it; the one behind all is zero."""
    rows, columns = places
    pixels = rows[:, None, :, None] * size[1] + columns[:, None, :]
    order = np.argsort(pixels.reshape(-1), kind="stable")
    counts = np.bincount(pixels.reshape(-1), minlength=size[0] * size[1])
    found = np.full((counts.max(initial=1), size[0] * size[1]), pixels.size)
    places_of_pixel = np.arange(pixels.size) - np.repeat(np.cumsum(counts) - counts, counts)
    found[places_of_pixel, np.repeat(np.arange(len(counts)), counts)] = order
    return found.reshape(-1, *size)


def picks(build: Builder, value: str, kernel: Shape) -> str:
    """Which number of each window is the largest, (C, *space) → (C, *windows); windows touch and do not overlap."""
    channels, *space = build.shape(value)
    rank, windows = len(kernel), tuple(size // each for size, each in zip(space, kernel, strict=True))
    for axis, (count, each) in enumerate(zip(windows, kernel, strict=True), 2):
        value = cut(build, value, axis, 0, count * each)
    apart = reshape(build, value, (channels, *(each for pair in zip(windows, kernel, strict=True) for each in pair)))
    order = (1, *range(2, 2 + 2 * rank, 2), *range(3, 3 + 2 * rank, 2))
    together = reshape(build, permute(build, apart, order), (channels, *windows, math.prod(kernel)))
    return build.emit("argmax", together, axis=rank + 2, keepdims=False)


def unpool(build: Builder, value: str, picked: str, kernel: Shape, size: Shape) -> str:
    """Numbers (C, *windows) back where picks found them, zeros elsewhere: (C, *size)."""
    shape = build.shape(value)
    channels, *windows = shape
    rank = len(kernel)
    places = build.emit("cast", build.emit("range", start=0.0, step=1.0, length=math.prod(kernel)), element="int64")
    hit = build.emit("equal", reshape(build, picked, (*shape, 1)), places)
    spread = build.emit("where", hit, reshape(build, value, (*shape, 1)), 0.0)
    order = (1, *(each for axis in range(2, 2 + rank) for each in (axis, axis + rank)))
    turned = permute(build, reshape(build, spread, (*shape, *kernel)), order)
    whole = tuple(count * each for count, each in zip(windows, kernel, strict=True))
    made = reshape(build, turned, (channels, *whole))
    beyond = [(0, end - each) for end, each in zip(size, whole, strict=True)]
    return laid_out(build, pad(build, made, beyond[::-1]))
