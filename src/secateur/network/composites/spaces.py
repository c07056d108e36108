"""Convolutions and pooling over any number of axes, spelled with those of planes.

A value is (C, *space), its windows an Axis for each axis of space.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from secateur.network.building import Bits, Builder
from secateur.network.composites.moves import cut, every, reshape, stack
from secateur.network.composites.padding import Padded, apart_from_zeros, with_number
from secateur.network.composites.windows import avg_pool2d, max_pool2d
from secateur.network.graph import Shape, Weight
from secateur.network.sizes import Dimension


@dataclass(frozen=True, slots=True)
class Axis:
    """How windows slide along one axis of space."""

    kernel: int = 1
    stride: int = 1
    before: int = 0
    after: int = 0
    dilation: int = 1

    @property
    def is_pointwise(self) -> bool:
        """Whether each place is a window of its own."""
        return (self.kernel, self.stride, self.before, self.after) == (1, 1, 0, 0)

    @property
    def reach(self) -> int:
        """Places that a window spans."""
        return self.dilation * (self.kernel - 1) + 1

    def count(self, size: Dimension) -> Dimension:
        """Windows along so many places."""
        return (size + self.before + self.after - self.reach) // self.stride + 1


@dataclass(frozen=True, slots=True)
class _Convolution:
    """What is left to be done of one: over which value, with which weights, the kernels' axes, groups."""

    value: str
    weights: Mapping[str, Weight]
    axes: tuple[Axis, ...]
    groups: int


def convolution(
    build: Builder, value: str | Padded, weights: Mapping[str, Weight], axes: Sequence[Axis], groups: int = 1
) -> str:
    """Of a weight (O, I/groups, *kernel) over (I, *space), with the zeros that already lie around it in its padding.

    Neighbouring axes along which windows do not slide are joined. Of three that are left, what a window sees along the
    first becomes channels, and planes are put one under the other with zeros between them, so that there is always one
    convolution of planes with the whole weight.
    """
    base, around = apart_from_zeros(build, value)
    found = tuple(
        replace(axis, before=axis.before + before, after=axis.after + after)
        for axis, before, after in zip(axes, around[::2], around[1::2], strict=True)
    )
    space = [axis.count(size) for axis, size in zip(found, build.shape(base)[1:], strict=True)]
    made = _of_axes(build, _Convolution(base, weights, found, groups))
    return reshape(build, made, (weights["weight"].shape[0], *space))


def _of_axes(build: Builder, asked: _Convolution) -> str:
    asked = _joined(build, asked)
    if len(asked.axes) == 2:
        return _of_planes(build, asked)
    if len(asked.axes) == 3 and asked.axes[0].is_pointwise:
        return _one_under_the_other(build, asked)
    return _of_axes(build, _as_channels(build, asked, [axis.is_pointwise for axis in asked.axes].index(False)))


def _of_planes(build: Builder, asked: _Convolution) -> str:
    rows, columns = asked.axes
    return build.emit(
        "conv2d",
        asked.value,
        weights=asked.weights,
        stride=(rows.stride, columns.stride),
        padding=(rows.before, rows.after, columns.before, columns.after),
        dilation=(rows.dilation, columns.dilation),
        groups=asked.groups,
    )


def _over(build: Builder, asked: _Convolution, value: str, axes: Sequence[Axis]) -> _Convolution:
    """The same numbers over a value (channels, *space) that is seen otherwise."""
    outputs, channels = asked.weights["weight"].shape[0], build.shape(value)[0]
    shape = (outputs, channels // asked.groups, *(axis.kernel for axis in axes))
    weight = build.reshaped(asked.weights["weight"], shape)
    return _Convolution(value, {**asked.weights, "weight": weight}, tuple(axes), asked.groups)


def _joined(build: Builder, asked: _Convolution) -> _Convolution:
    """With neighbouring pointwise axes in one, down to two axes; a line becomes a plane of one row."""
    channels, *space = build.shape(asked.value)
    axes = list(asked.axes)
    for at in range(len(axes) - 1, 0, -1):
        if len(axes) > 2 and axes[at].is_pointwise and axes[at - 1].is_pointwise:
            space[at - 1 : at + 1] = [space[at - 1] * space[at]]
            del axes[at]
    lines = 2 - len(axes)
    value = reshape(build, asked.value, (channels, *[1] * lines, *space))
    return _over(build, asked, value, [*[Axis()] * lines, *axes])


def _as_channels(build: Builder, asked: _Convolution, at: int) -> _Convolution:
    """What windows see along an axis of space as channels, (C · kernel, …, windows, …): the axis is pointwise then."""
    axis, (channels, *space) = asked.axes[at], build.shape(asked.value)
    space[at] = axis.count(space[at])
    padded = with_number(build, asked.value, at + 2, (axis.before, axis.after), 0)
    seen = [_places(build, padded, at + 2, tap * axis.dilation, axis.stride, space[at]) for tap in range(axis.kernel)]
    value = reshape(build, stack(build, seen, 2), (channels * axis.kernel, *space))
    return _over(build, asked, value, [*asked.axes[:at], Axis(), *asked.axes[at + 1 :]])


def _places(build: Builder, value: str, axis: int, first: int, step: int, count: Dimension) -> str:
    """So many places along an axis, `step` apart."""
    part = cut(build, value, axis, first, first + (count - 1) * step + 1)
    return every(build, part, axis, step)


def _one_under_the_other(build: Builder, asked: _Convolution) -> str:
    """Over (C, planes, H, W) as (C, planes · rows, W), with so many zeros between planes that no window sees two."""
    _, rows, columns = asked.axes
    channels, planes, height, width = build.shape(asked.value)
    count = rows.count(height)
    least = max(height + max(rows.before, rows.after), count * rows.stride)
    distance = -(-least // rows.stride)
    padded = with_number(build, asked.value, 3, (0, distance * rows.stride - height), 0)
    value = reshape(build, padded, (channels, planes * distance * rows.stride, width))
    below = max(0, rows.reach - rows.stride - rows.before)
    made = _of_planes(build, _over(build, asked, value, [replace(rows, after=below), columns]))
    outputs, _, across = build.shape(made)
    made = cut(build, made, 2, 0, planes * distance)
    made = reshape(build, made, (outputs, planes, distance, across))
    return cut(build, made, 3, 0, count)


def transposed_convolution(
    build: Builder, value: str, weights: Mapping[str, Weight], axes: Sequence[Axis], more: Shape, groups: int = 1
) -> str:
    """Of a weight (I, O/groups, *kernel) over (I, *space): what a convolution's gradient by its input is.

    axes: before and after say what the output loses on either side; more: what it gains behind. Every stride-th output
    is a convolution with every stride-th row of the kernel: one convolution makes all of these as channels, and they
    are shuffled into place.
    """
    space = build.shape(value)[1:]
    phases = [_Phases(axis, size, gained) for axis, size, gained in zip(axes, space, more, strict=True)]
    steps = tuple(axis.stride for axis in axes)
    key = ("phases", *axes, groups)
    kernel = build.variant(weights["weight"], key, lambda held: _by_phase(held, phases, groups))
    found = {"weight": kernel}
    if "bias" in weights:
        times = math.prod(steps)
        found["bias"] = build.variant(weights["bias"], ("phases", times), lambda held: np.repeat(held, times))
    made = convolution(build, value, found, [each.window for each in phases], groups)
    made = space_shuffle(build, made, steps)
    for at, each in enumerate(phases, 2):
        made = cut(build, made, at, each.first, each.first + each.outputs)
    return made


@dataclass(frozen=True, slots=True)
class _Phases:
    """The outputs along one axis of a transposed convolution, those that are stride apart together: its phases.

    Tap k of the kernel gives output stride · i + dilation · k (less what is lost) a part of input i.
    """

    axis: Axis
    size: Dimension
    more: int

    @property
    def spread(self) -> int:
        """The dilation of the kernels of phases."""
        return self.axis.dilation // self.axis.stride if self.axis.dilation % self.axis.stride == 0 else 1

    @property
    def kernel(self) -> int:
        return max(row for _, row in self.taps) + 1

    @property
    def taps(self) -> list[tuple[int, int]]:
        """Of each tap of the kernel its phase, and its row in the kernel of that phase, counted from its end."""
        reached = [self.axis.dilation * tap for tap in range(self.axis.kernel)]
        return [(each % self.axis.stride, each // self.axis.stride // self.spread) for each in reached]

    @property
    def outputs(self) -> Dimension:
        whole = (self.size - 1) * self.axis.stride + self.axis.reach
        return whole - self.axis.before - self.axis.after + self.more

    @property
    def skipped(self) -> int:
        """Windows that would only make what is lost in front."""
        return min(self.axis.before // self.axis.stride, self.spread * (self.kernel - 1))

    @property
    def first(self) -> int:
        """The first output that is not lost, of those that are made."""
        return self.axis.before - self.skipped * self.axis.stride

    @property
    def window(self) -> Axis:
        """Of the convolution that makes all phases."""
        reach = self.spread * (self.kernel - 1)
        before = reach - self.skipped
        windows = -(-(self.first + self.outputs) // self.axis.stride)
        after = int(windows - self.size) + reach - before
        return Axis(self.kernel, 1, before, max(0, after), self.spread)


_ALL = (slice(None),) * 3


def _by_phase(weight: Bits, phases: Sequence[_Phases], groups: int) -> Bits:
    """(I, O/groups, *kernel) as (O · phases, I/groups, *kernel of a phase), the phases of an output side by side."""
    inputs, outputs, *kernel = weight.shape
    apart: Any = weight.reshape(groups, inputs // groups, outputs, *kernel).swapaxes(1, 2)
    steps, sizes = [each.axis.stride for each in phases], [each.kernel for each in phases]
    made: Any = np.zeros((groups, outputs, *steps, inputs // groups, *sizes), weight.dtype)
    for tap in itertools.product(*(range(size) for size in kernel)):
        places = [each.taps[at] for each, at in zip(phases, tap, strict=True)]
        phase = tuple(each for each, _ in places)
        row = tuple(size - 1 - each for (_, each), size in zip(places, sizes, strict=True))
        there, here = (*_ALL[:2], *phase, *_ALL[:1], *row), (*_ALL, *tap)
        made[there] = apart[here]
    found: Bits = made.reshape(groups * outputs * math.prod(steps), inputs // groups, *sizes)
    return found


def space_shuffle(build: Builder, value: str, steps: Shape) -> str:
    """(C · steps, *space) → (C, *space · steps): of each channel the parts of every step, in place."""
    channels, *space = build.shape(value)
    if math.prod(steps) == 1:
        return value
    count, rank = channels // math.prod(steps), len(steps)
    apart = build.emit("reshape", value, shape=(count, *steps, *space))
    axes = [axis for at in range(rank) for axis in (2 + rank + at, 2 + at)]
    turned = build.emit("permute", apart, axes=(1, *axes))
    longer = [size * step for size, step in zip(space, steps, strict=True)]
    return build.emit("reshape", turned, shape=(count, *longer))


def max_pool(build: Builder, value: str, axes: Sequence[Axis], *, ceil: bool = False) -> str:
    """The largest number in each window of (…, *space). ceil: windows that reach beyond the padding count too."""

    def pool(planes: str, rows: Axis, columns: Axis) -> str:
        if rows.is_pointwise and columns.is_pointwise:
            return planes
        return max_pool2d(
            build, planes, **_window(rows, columns), dilation=(rows.dilation, columns.dilation), ceil=ceil
        )

    return _by_planes(build, value, axes, pool, Axis())


def avg_pool(build: Builder, value: str, axes: Sequence[Axis], *, counted: bool = True, ceil: bool = False) -> str:
    """The mean of each window of (…, *space). counted, ceil: as in avg_pool2d."""

    def pool(planes: str, rows: Axis, columns: Axis) -> str:
        return avg_pool2d(build, planes, **_window(rows, columns), counted=counted, ceil=ceil)

    return _by_planes(build, value, axes, pool, Axis())


def adaptive_avg_pool(build: Builder, value: str, size: Sequence[Dimension | None]) -> str:
    """The means of so many windows along each last axis, None: of each place."""

    def pool(planes: str, *size: Dimension | None) -> str:
        have = build.shape(planes)[1:]
        found = tuple(own if want is None else want for own, want in zip(have, size, strict=True))
        return planes if found == have else build.emit("adaptive_avg_pool2d", planes, size=found)

    return _by_planes(build, value, size, pool, None)


def adaptive_max_pool(build: Builder, value: str, size: Sequence[Dimension | None]) -> str:
    """The maxima of so many windows along each last axis, None: of each place. Windows of one size are a pooling."""
    have = build.shape(value)[len(build.shape(value)) - len(size) :]
    counts = [own if want is None else want for own, want in zip(have, size, strict=True)]
    steps = [own // count if own % count == 0 else 1 for own, count in zip(have, counts, strict=True)]
    made = max_pool(build, value, [Axis(step, step) for step in steps])
    for axis, count in enumerate(counts, len(build.shape(value)) - len(size) + 1):
        made = _maxima(build, made, axis, count)
    return made


def _maxima(build: Builder, value: str, axis: int, count: Dimension) -> str:
    """Of so many windows along an axis, which may overlap by one."""
    have = build.shape(value)[axis - 1]
    if have == count:
        return value
    ends = [(at * have // count, -(-(at + 1) * have // count)) for at in range(int(count))]
    parts = [cut(build, value, axis, *each) for each in ends]
    found = [build.emit("amax", part, axes=(axis,), keepdims=True) for part in parts]
    return found[0] if count == 1 else build.emit("concat", *found, axis=axis)


def _window(rows: Axis, columns: Axis) -> dict[str, Shape]:
    return {
        "kernel": (rows.kernel, columns.kernel),
        "stride": (rows.stride, columns.stride),
        "padding": (rows.before, rows.after, columns.before, columns.after),
    }


def _by_planes(build: Builder, value: str, axes: Sequence[Any], pool: Callable[..., str], alone: Any) -> str:
    """Pooling of the last one to three axes, the last two of them first. pool: of planes; alone: an axis that stays."""
    shape = build.shape(value)
    around, space = shape[: len(shape) - len(axes)], shape[len(shape) - len(axes) :]
    lines, count = [alone] * (2 - len(axes)), math.prod(around)
    planes = reshape(build, value, (count * math.prod(space[:-2]), *(space[-2:] if not lines else (1, *space))))
    made = pool(planes, *lines, *axes[-2:])
    found = list(build.shape(made)[len(lines) + 1 :])
    if len(axes) == 3:
        made = pool(reshape(build, made, (count, space[0], math.prod(found))), axes[0], alone)
        found.insert(0, build.shape(made)[1])
    return reshape(build, made, (*around, *found))
