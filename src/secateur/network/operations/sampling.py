"""Operations that read planes between their pixels: shape rules, and meanings in NumPy.

Where a pixel lies, and so which are read and how much each counts, is as PyTorch has it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from secateur.network.nodes import Node, Shape
from secateur.network.operations.declaration import Arguments, Array, Weights
from secateur.network.sizes import at_least

MODES = ("nearest", "nearest_exact", "linear", "cubic")
PADDINGS = ("zeros", "border", "reflection")
_MOST_AXES = 3
_MOST_PIXELS = 1 << 22
"""Along a new axis: where each lies takes memory that nothing in a file pays for."""
_SHARPNESS = -0.75
"""Keys 1981: a, of the cubic convolution."""


def resize_shape(given: Arguments) -> Shape:
    shape, size = given.shapes[0], given.read("size")
    given.check_attributes()
    given.demand(1 <= len(size) <= min(_MOST_AXES, len(shape)), f"sizes for the last axes of {shape}", size)
    old, steps = shape[-len(size) :], given.read("steps")
    given.demand(all(at_least(each, 1) for each in old), "axes that are not empty", shape)
    given.demand(len(steps) in (0, len(size)), f"no steps, or {len(size)}", steps)
    given.demand(all(at_least(_MOST_PIXELS, each) for each in size), f"at most {_MOST_PIXELS} pixels an axis", size)
    aligned, exact = given.read("aligned"), given.read("mode") in ("linear", "cubic")
    given.demand(exact or not aligned, "aligned corners in modes linear and cubic only", given.read("mode"))
    given.demand(not (aligned and steps), "no steps where corners are aligned", steps)
    return (*shape[: -len(size)], *size)


def resize(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    x, size = inputs[0], node.numbers("size")
    for place, new in enumerate(size):
        axis = x.ndim - len(size) + place
        sources, shares = taps(node, place, x.shape[axis], new)
        spread = (-1, *(1,) * (x.ndim - 1 - axis))
        x = sum(x.take(at, axis) * share.reshape(spread) for at, share in zip(sources, shares, strict=True))
    return x


def taps(node: Node, place: int, old: int, new: int) -> tuple[Array, Array]:
    """Which pixels a resized axis is made of, and how much each counts: (taps, new) each.

    place: which of the node's sizes it is. old, new: pixels along it.
    """
    mode, steps = str(node.attributes["mode"]), node.numbers("steps")
    step = steps[place] if steps else old / max(new, 1)
    if mode.startswith("nearest"):
        return _nearest(np.float32(step), old, new, np.float32(0.5 if mode == "nearest_exact" else 0))
    aligned = bool(node.attributes["aligned"])
    places = np.arange(new) * ((old - 1) / max(new - 1, 1)) if aligned else (np.arange(new) + 0.5) * step - 0.5
    return _linear(np.maximum(places, 0), old) if mode == "linear" else _cubic(places, old)


def _nearest(step: np.float32, old: int, new: int, offset: np.float32) -> tuple[Array, Array]:
    """In float32, which decides where a place is a pixel's border."""
    places = np.floor((np.arange(new, dtype=np.float32) + offset) * step)
    return np.minimum(places, old - 1).astype(np.intp)[None], np.ones((1, new))


def _linear(places: Array, old: int) -> tuple[Array, Array]:
    left = np.minimum(np.floor(places), old - 1)
    share = np.clip(places - left, 0, 1)
    return np.stack([left, np.minimum(left + 1, old - 1)]).astype(np.intp), np.stack([1 - share, share])


def _cubic(places: Array, old: int) -> tuple[Array, Array]:
    left = np.floor(places)
    around = left + np.arange(-1, 3)[:, None]
    away, a = np.abs(places - around), _SHARPNESS
    near = ((a + 2) * away - (a + 3)) * away**2 + 1
    far = ((away - 5) * away + 8) * away * a - 4 * a
    return np.clip(around, 0, old - 1).astype(np.intp), np.where(away <= 1, near, far)


def grid_sample_shape(given: Arguments) -> Shape:
    channels, height, width = given.planes()
    given.check_attributes()
    grid = given.shapes[1]
    given.demand(len(grid) == 3 and grid[2] == 2, "a grid (H, W, 2)", grid)
    given.demand(at_least(height, 1) and at_least(width, 1), "planes that are not empty", (height, width))
    return (channels, *grid[:2])


def grid_sample(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    """The grid's numbers are (x, y), −1 to 1 from one side of a plane to the other."""
    planes, grid = inputs
    images = max(len(planes), len(grid)) if len(planes) and len(grid) else 0
    planes, grid = (np.broadcast_to(each, (images, *each.shape[1:])) for each in (planes, grid))
    height, width = planes.shape[2:]
    x, y = (_place(node, grid[..., axis], size) for axis, size in enumerate((width, height)))
    if node.attributes["mode"] == "nearest":
        return _pixel(planes, np.rint(y), np.rint(x))
    top, left = np.floor(y), np.floor(x)
    total = np.zeros((images, *node.shape))
    for row, down in ((top, top + 1 - y), (top + 1, y - top)):
        for column, across in ((left, left + 1 - x), (left + 1, x - left)):
            total += _pixel(planes, row, column) * (down * across)[:, None]
    return total


def _place(node: Node, along: Array, size: int) -> Array:
    """In pixels, inside of the plane as the padding has it; outside of it with zeros around."""
    aligned = bool(node.attributes["aligned"])
    place = (along + 1) / 2 * (size - 1) if aligned else ((along + 1) * size - 1) / 2
    padding = node.attributes["padding"]
    if padding == "reflection":
        place = _reflected(place, 0, size - 1) if aligned else _reflected(place, -0.5, size - 0.5)
    return place if padding == "zeros" else np.clip(place, 0, size - 1)


def _reflected(place: Array, low: float, high: float) -> Array:
    """Between bounds, by as many reflections at them as that takes."""
    if low == high:
        return np.zeros_like(place)
    span = high - low
    along = np.abs(place - low)
    turns = np.floor(along / span)
    within = along - turns * span
    return np.where(turns % 2 == 0, within + low, high - within)


def _pixel(planes: Array, row: Array, column: Array) -> Array:
    """(N, C, H', W') of planes (N, C, H, W) at rows and columns (N, H', W'); zero outside."""
    height, width = planes.shape[2:]
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    at = [np.where(inside, each, 0).astype(np.intp) for each in (row, column)]
    found = planes[np.arange(len(planes))[:, None, None], :, at[0], at[1]]
    return np.where(inside[..., None], found, 0).transpose(0, 3, 1, 2)
