"""Values with others around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from secateur.network.building import Builder
from secateur.network.composites.moves import cut, flip, of_one_number, take
from secateur.network.graph import Shape, Weight
from secateur.network.sizes import Dimension

NO_PADDING = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Padded:
    """A value (C, *space) with zeros around it, which a convolution takes into its own padding.

    padding: before and after along each axis of space, one axis after another; of planes (top, bottom, left, right).
    """

    base: str
    padding: Shape


def pad(build: Builder, value: str | Padded, pairs: Sequence[tuple[int, int]], number: float = 0) -> str | Padded:
    """A number (before, after) along the last axes, the last one first; fewer than none are cut off.

    Zeros behind the first axis are for a convolution to take in.
    """
    base, around = apart_from_zeros(build, value)
    plain = number == 0 and min(map(min, pairs)) >= 0
    if plain and 2 * len(pairs) <= len(around):
        more = [(0, 0)] * (len(around) // 2 - len(pairs))
        return Padded(base, sum_of(around, tuple(each for pair in reversed([*pairs, *more]) for each in pair)))
    made = laid_out(build, value)
    for axis, pair in _by_axis(build, base, pairs):
        made = with_number(build, _trimmed(build, made, axis, pair), axis, pair, number)
    return made


def apart_from_zeros(build: Builder, value: str | Padded) -> tuple[str, Shape]:
    """A value (C, *space), and how many zeros lie around it, as Padded says it."""
    if isinstance(value, Padded):
        return value.base, value.padding
    return value, (0, 0) * (len(build.shape(value)) - 1)


def laid_out(build: Builder, value: str | Padded) -> str:
    """The value with its zeros, where nothing takes them into its own padding."""
    if isinstance(value, str):
        return value
    made = value.base
    for axis, pair in enumerate(zip(value.padding[::2], value.padding[1::2], strict=True), 2):
        made = with_number(build, made, axis, pair, 0)
    return made


def reflection_pad(build: Builder, value: str, pairs: Sequence[tuple[int, int]]) -> str:
    """What lies inside of the first and the last number along an axis, mirrored at them. pairs: as in pad."""

    def around(value: str, axis: int, size: Dimension, before: int, after: int) -> tuple[str, str]:
        left, right = cut(build, value, axis, 1, 1 + before), cut(build, value, axis, size - 1 - after, size - 1)
        return flip(build, left, (axis,)), flip(build, right, (axis,))

    return _extended(build, value, pairs, around)


def replication_pad(build: Builder, value: str, pairs: Sequence[tuple[int, int]]) -> str:
    """The first and the last number along an axis, again and again. pairs: as in pad."""

    def around(value: str, axis: int, size: Dimension, before: int, after: int) -> tuple[str, str]:
        first, last = cut(build, value, axis, 0, 1), cut(build, value, axis, size - 1, size)
        return take(build, first, axis, [0] * before), take(build, last, axis, [0] * after)

    return _extended(build, value, pairs, around)


def circular_pad(build: Builder, value: str, pairs: Sequence[tuple[int, int]]) -> str:
    """Before the first number along an axis the last ones, behind the last the first. pairs: as in pad."""

    def around(value: str, axis: int, size: Dimension, before: int, after: int) -> tuple[str, str]:
        return cut(build, value, axis, size - before, size), cut(build, value, axis, 0, after)

    return _extended(build, value, pairs, around)


_Around = Callable[[str, int, Dimension, int, int], tuple[str, str]]


def _extended(build: Builder, value: str, pairs: Sequence[tuple[int, int]], around: _Around) -> str:
    """With what lies around it, axis by axis. around: of a value, an axis and its size, so many before and after."""
    for axis, pair in _by_axis(build, value, pairs):
        value = _trimmed(build, value, axis, pair)
        before, after = (max(0, each) for each in pair)
        made = around(value, axis, build.shape(value)[axis - 1], before, after)
        parts = [*[made[0]] * (before > 0), value, *[made[1]] * (after > 0)]
        value = build.emit("concat", *parts, axis=axis) if len(parts) > 1 else value
    return value


def _by_axis(build: Builder, value: str, pairs: Sequence[tuple[int, int]]) -> Iterator[tuple[int, tuple[int, int]]]:
    return zip(range(len(build.shape(value)), 0, -1), pairs, strict=False)


def _trimmed(build: Builder, value: str, axis: int, pair: tuple[int, int]) -> str:
    """Without what fewer than no numbers around it cut off."""
    size = build.shape(value)[axis - 1]
    return cut(build, value, axis, max(0, -pair[0]), size - max(0, -pair[1]))


def with_number(build: Builder, value: str, axis: int, pair: tuple[int, int], number: float) -> str:
    """A number before and after along one axis, by concatenation."""
    shape, element = build.shape(value), build.element(value)

    def numbers(count: int) -> list[str | Weight]:
        around = (*shape[: axis - 1], count, *shape[axis:])
        return [of_one_number(build, around, number, element)] if count > 0 else []

    parts: list[str | Weight] = [*numbers(pair[0]), value, *numbers(pair[1])]
    return value if len(parts) == 1 else build.emit("concat", *parts, axis=axis)


def sum_of(left: Shape, right: Shape) -> Shape:
    return tuple(a + b for a, b in zip(left, right, strict=True))
