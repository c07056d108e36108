"""Planes, lines and volumes at other sizes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from secateur.network.building import Builder, Operand
from secateur.network.composites.arithmetic import clamp
from secateur.network.composites.moves import broadcast, reshape, select
from secateur.network.graph import Shape


def resize(
    build: Builder, value: str, size: Shape, mode: str, *, aligned: bool = False, steps: Sequence[float] = ()
) -> str:
    """The last axes at other sizes, as PyTorch's interpolate has them.

    mode: "nearest", "nearest_exact", "linear" or "cubic". aligned: corners stay corners. steps: of the input's pixels
    from one of the output's to the next, where a scale was given and it is not what the sizes say.
    """
    old = build.shape(value)[-len(size) :]
    steps = () if aligned else tuple(map(float, steps))
    if old == size and all(step == 1 for step in steps):
        return value
    return build.emit("resize", value, size=size, mode=mode, aligned=aligned, steps=steps)


def sample_space(build: Builder, value: str, grid: str, *, mode: str, padding: str, aligned: bool) -> str:
    """Planes or a volume (C, *space) at places (*shape, rank) between -1 and 1, width first: (C, *shape).

    Both may be several, each with places of its own: (…, C, *space) and (…, *shape, rank). mode: "nearest", "linear" or
    "cubic", of which each axis has one, two or four numbers. padding: what lies outside: "zeros", the "border", or its
    "reflection". As PyTorch's grid_sample.
    """
    rank = build.shape(grid)[-1]
    *several, channels = build.shape(value)[:-rank]
    space, shape = build.shape(value)[-rank:], build.shape(grid)[len(several) : -1]
    flat = reshape(build, grid, (*several, 1, math.prod(shape), rank))
    axis = len(several) + 3
    axes = [
        _neighbours(build, select(build, flat, axis, rank - 1 - at), _Line(size, mode, padding, aligned))
        for at, size in enumerate(space)
    ]
    numbers, found = reshape(build, value, (*several, channels, math.prod(space))), ""
    for corner in itertools.product(*axes):
        place, share = "", ""
        for (index, part), size in zip(corner, space, strict=True):
            place = build.emit("add", build.emit("mul", place, float(size)), index) if place else index
            share = build.emit("mul", share, part) if share else part
        index = broadcast(build, build.emit("cast", place, element="int64"), (*several, channels, math.prod(shape)))
        seen = build.emit("mul", build.emit("gather", numbers, index, axis=axis - 1), share)
        found = build.emit("add", found, seen) if found else seen
    return reshape(build, found, (*several, channels, *shape))


@dataclass(frozen=True, slots=True)
class _Line:
    """How an axis of so many numbers is read, as for sample_space."""

    size: int
    mode: str
    padding: str
    aligned: bool


def _neighbours(build: Builder, place: str, line: _Line) -> list[tuple[str, str]]:
    """The whole places around a place between -1 and 1, and how much the number at each counts."""
    last = line.size - 1
    pixel = build.emit("add", build.emit("mul", place, last / 2 if line.aligned else line.size / 2), last / 2)
    pixel = pixel if line.mode == "cubic" else _inside(build, pixel, line)
    low = build.emit("round" if line.mode == "nearest" else "floor", pixel)
    found = []
    for step, share in _shares(build, build.emit("sub", pixel, low), line.mode):
        index = build.emit("add", low, float(step))
        held = clamp(build, _inside(build, index, line), 0.0, float(last))
        if line.padding == "zeros":
            share = build.emit("where", build.emit("equal", held, index), share, 0.0)
        found.append((held, share))
    return found


def _inside(build: Builder, pixel: str, line: _Line) -> str:
    """Moved to the border, or to where it is reflected: at the last numbers, or half a pixel beyond."""
    last = line.size - 1.0
    if line.padding == "zeros":
        return pixel
    if line.padding == "reflection":
        low, span = (0.0, last) if line.aligned else (-0.5, line.size)
        turn = build.emit("remainder", build.emit("sub", pixel, low), 2 * span or 1.0)
        apart = build.emit("abs", build.emit("sub", turn, float(span)))
        pixel = build.emit("sub", low + span, apart)
    return clamp(build, pixel, 0.0, last)


def _shares(build: Builder, over: str, mode: str) -> list[tuple[int, str]]:
    """Steps from the place below, and how much each counts, `over` of a pixel behind it."""
    if mode == "nearest":
        return [(0, build.emit("add", build.emit("mul", over, 0.0), 1.0))]
    rest = build.emit("sub", 1.0, over)
    if mode == "linear":
        return [(0, rest), (1, over)]
    return [
        (-1, _cubic(build, build.emit("add", over, 1.0), *_FAR)),
        (0, _cubic(build, over, *_NEAR)),
        (1, _cubic(build, rest, *_NEAR)),
        (2, _cubic(build, build.emit("add", rest, 1.0), *_FAR)),
    ]


_NEAR, _FAR = (1.25, -2.25, 0.0, 1.0), (-0.75, 3.75, -6.0, 3.0)
"""Keys' cubic convolution (1981) with a = −0.75: factors of d³, d², d and 1 within a pixel, and within two."""


def _cubic(build: Builder, apart: str, *factors: float) -> str:
    total: Operand = factors[0]
    for factor in factors[1:]:
        total = build.emit("add", build.emit("mul", apart, total), factor)
    return str(total)
