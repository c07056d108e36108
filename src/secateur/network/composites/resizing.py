"""Planes, lines and volumes at other sizes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from secateur.network.building import Builder
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


def sample_volume(build: Builder, value: str, grid: str, *, nearest: bool, border: bool, aligned: bool) -> str:
    """A volume (C, D, H, W) at places (*shape, 3) between -1 and 1, width first: (C, *shape).

    Of the eight numbers around a place, or the nearest; what lies outside is 0, or with `border` what is next to it.
    """
    channels, *space = build.shape(value)
    *shape, _ = build.shape(grid)
    flat = reshape(build, grid, (math.prod(shape), 3))
    axes = [
        _neighbours(build, select(build, flat, 2, 2 - axis), size, nearest=nearest, border=border, aligned=aligned)
        for axis, size in enumerate(space)
    ]
    numbers, found = reshape(build, value, (channels, math.prod(space))), ""
    for corner in itertools.product(*axes):
        place, share = "", ""
        for (index, part), size in zip(corner, space, strict=True):
            place = build.emit("add", build.emit("mul", place, float(size)), index) if place else index
            share = build.emit("mul", share, part) if share else part
        index = broadcast(build, build.emit("cast", place, element="int64"), (channels, math.prod(shape)))
        seen = build.emit("mul", build.emit("gather", numbers, index, axis=2), share)
        found = build.emit("add", found, seen) if found else seen
    return reshape(build, found, (channels, *shape))


def _neighbours(
    build: Builder, place: str, size: int, *, nearest: bool, border: bool, aligned: bool
) -> list[tuple[str, str]]:
    """Along one axis: the whole places that a place between -1 and 1 lies between, and how much each counts."""
    scale, shift = ((size - 1) / 2, (size - 1) / 2) if aligned else (size / 2, (size - 1) / 2)
    pixel = build.emit("add", build.emit("mul", place, scale), shift)
    pixel = clamp(build, pixel, 0.0, size - 1.0) if border else pixel
    low = build.emit("round" if nearest else "floor", pixel)
    over = build.emit("sub", pixel, low)
    found = []
    for step in (0,) if nearest else (0, 1):
        index = build.emit("add", low, float(step))
        part = over if step else build.emit("add", build.emit("neg", over), 1.0)
        part = build.emit("add", build.emit("mul", over, 0.0), 1.0) if nearest else part
        held = clamp(build, index, 0.0, size - 1.0)
        inside = build.emit("cast", build.emit("equal", held, index), element="float32")
        found.append((held, part if border else build.emit("mul", part, inside)))
    return found
