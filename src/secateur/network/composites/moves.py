"""Numbers in other places: other shapes, other orders, parts, several in a row."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import accumulate

import numpy as np

from secateur.network.building import Builder, filled
from secateur.network.composites.failing import CompositeError
from secateur.network.formats import FORMATS
from secateur.network.graph import Shape, Weight
from secateur.network.sizes import Dimension, is_whole


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
    if build.element(value) == "bool":
        return build.emit("logical_and", value, of_one_number(build, shape, 1, "bool"))
    return build.emit("mul", value, of_one_number(build, shape, 1, build.element(value)))


def of_one_number(build: Builder, shape: Shape, number: float, element: str = "float32") -> str | Weight:
    """A constant that is this number everywhere."""
    if is_whole(shape):
        numbers = FORMATS[element].numbers
        return filled(shape, number) if element == "float32" else Weight.of(np.full(shape, number, numbers))
    if not math.isfinite(number):
        return build.emit("add", build.emit("fill", value=0.0, shape=shape), number)
    made = build.emit("fill", value=float(number), shape=shape)
    return made if element == "float32" else build.emit("cast", made, element=element)


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
    """Each step-th index of an axis, from the first on: in planes a max pooling of windows of one."""
    if step == 1:
        return value
    size = build.shape(value)[axis - 1]
    if len(build.shape(value)) == 3 and axis > 1 and build.element(value) == "float32":
        steps = (step, 1) if axis == 2 else (1, step)
        return build.emit("max_pool2d", value, kernel=(1, 1), stride=steps, padding=(0, 0, 0, 0), dilation=(1, 1))
    if not is_whole(size):
        raise CompositeError(f"with step {step} is not supported along a length ({size})")
    return take(build, value, axis, range(0, size, step))


def take(build: Builder, value: str, axis: int, indices: Iterable[int]) -> str:
    """These indices of an axis, in this order: the value itself where that is all of it."""
    places = np.fromiter(indices, np.int32)
    if np.array_equal(places, np.arange(build.shape(value)[axis - 1])):
        return value
    return build.emit("take", value, weights={"indices": Weight.of(places)}, axis=axis)


def roll(build: Builder, value: str, shifts: Sequence[int], axes: Sequence[int]) -> str:
    """Each index of an axis moved on by a shift; what leaves at the end comes in at the beginning."""
    for shift, axis in zip(shifts, axes, strict=True):
        size = build.shape(value)[axis - 1]
        ahead = shift % size if is_whole(size) and size else shift
        middle = size - ahead if ahead > 0 else -ahead
        if ahead:
            parts = cut(build, value, axis, middle, size), cut(build, value, axis, 0, middle)
            value = build.emit("concat", *parts, axis=axis)
    return value


def flip(build: Builder, value: str, axes: Sequence[int]) -> str:
    """The indices of axes in reverse."""
    for axis in axes:
        size = build.shape(value)[axis - 1]
        if not is_whole(size):
            raise CompositeError(f"is not supported along a length ({size})")
        value = take(build, value, axis, range(size - 1, -1, -1))
    return value


def repeat(build: Builder, value: str, times: Sequence[int]) -> str:
    """The value so many times along each axis, one after the other. Missing axes are leading ones."""
    shape = build.shape(value)
    value = reshape(build, value, (*(1,) * (len(times) - len(shape)), *shape))
    for axis, count in enumerate(times, 1):
        if count == 0:
            value = cut(build, value, axis, 0, 0)
        elif count > 1:
            value = build.emit("concat", *[value] * count, axis=axis)
    return value


def repeat_each(build: Builder, value: str, axis: int, times: int) -> str:
    """Each index of an axis so many times."""
    shape = build.shape(value)
    apart = build.emit("reshape", value, shape=(*shape[:axis], 1, *shape[axis:]))
    longer = repeat(build, apart, (*(1,) * axis, times, *(1,) * (len(shape) - axis)))
    return build.emit("reshape", longer, shape=(*shape[: axis - 1], shape[axis - 1] * times, *shape[axis:]))


def stack(build: Builder, values: Sequence[str], axis: int) -> str:
    """Values of one shape, one after another along a new axis."""
    shape = build.shape(values[0])
    longer = [build.emit("reshape", value, shape=(*shape[: axis - 1], 1, *shape[axis - 1 :])) for value in values]
    return build.emit("concat", *longer, axis=axis)


def put(build: Builder, value: str, other: str, axis: int, start: Dimension, stop: Dimension, step: int = 1) -> str:
    """The value with another in place of every step-th index of an axis from start up to stop."""
    size = build.shape(value)[axis - 1]
    if step == 1:
        parts = [cut(build, value, axis, 0, start), other, cut(build, value, axis, stop, size)]
        held = [each for each in parts if build.shape(each)[axis - 1] != 0]
        return held[0] if len(held) == 1 else build.emit("concat", *held, axis=axis)
    if not is_whole((size, start, stop)):
        raise CompositeError(f"with step {step} is not supported along a length ({size})")
    places = np.arange(size)
    places[start:stop:step] = size + np.arange(len(places[start:stop:step]))
    return take(build, build.emit("concat", value, other, axis=axis), axis, places)
