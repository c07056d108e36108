"""Where the batch stands in a traced tensor: in front, between other dimensions, or folded into one with them.

A Graph's values are one image each, with the batch in front of all. So a tensor (T, N, C), or (N·m, C), is not another
value: it is (T, C) or (m, C) for each image, and only where the batch stands has to be known to whoever reads it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from secateur.network.graph import Shape
from secateur.network.sizes import Dimension


@dataclass(frozen=True, slots=True)
class Extent:
    """A dimension of a traced tensor. size: None where it depends on the batch, or is none that a Graph holds.

    share: how many times the batch it is, 0 where it is no multiple.
    """

    size: Dimension | None
    share: Dimension


@dataclass(frozen=True, slots=True)
class Place:
    """The batch is in the dimension that is `right` from the end, the last being 1.

    fold: what it shares that dimension with: "" nothing, "outer" N·m (each image's m side by side), "inner" m·N.
    """

    right: int
    fold: str = ""

    def axis(self, rank: int) -> int:
        """The batch's dimension of `rank`, from 0 on."""
        return rank - self.right

    def own(self, extents: Sequence[Extent]) -> tuple[Dimension | None, ...]:
        """What of a tensor's shape is each image's."""
        axis = self.axis(len(extents))
        sizes = [each.share if at == axis else each.size for at, each in enumerate(extents)]
        return tuple(sizes if self.fold else sizes[:axis] + sizes[axis + 1 :])

    def axis_of(self, dim: int, rank: int) -> int:
        """A dimension of `rank` as an axis of the value that each image is, from 1 on; 0 for the batch's own."""
        axis = self.axis(rank)
        if dim == axis:
            return 0
        return dim + 1 if self.fold or dim < axis else dim

    def rank(self, shape: Shape) -> int:
        """Dimensions of a tensor of which each image is of this shape."""
        return len(shape) + (0 if self.fold else 1)

    def wider(self, by: int) -> Place:
        """With so many more dimensions behind the batch."""
        return Place(self.right + by, self.fold)


@dataclass(frozen=True, slots=True)
class Placed:
    """Stands for a tensor that has the batch elsewhere than in front, alone. base: what each image is."""

    base: str
    place: Place

    def is_rows(self, rank: int) -> bool:
        """Whether it is (N·m, …), which lies in memory as (N, m, …) does."""
        return self.place == Place(rank, "outer")


@dataclass(frozen=True, slots=True)
class Ordinary:
    """Stands for a tensor made of sizes, which no image has a part in. base: its value, each dimension an axis."""

    base: str


@dataclass(frozen=True, slots=True)
class Mixed(Ordinary):
    """Stands for a tensor of all images at once: the batch is a length like others, in as many dimensions as it is."""


def permuted(place: Place, dims: Sequence[int]) -> tuple[Place, tuple[int, ...]]:
    """Where the batch is after dimensions were permuted, and how the axes of what each image is are permuted."""
    rank = len(dims)
    axis = place.axis(rank)
    order = range(1, 1 + rank) if place.fold else [dim + 1 if dim < axis else dim for dim in range(rank)]
    axes = tuple(order[dim] for dim in dims if place.fold or dim != axis)
    return Place(rank - list(dims).index(axis), place.fold), axes


def reshaped(place: Place, old: Sequence[Extent], new: Sequence[Extent]) -> Place | None:
    """Where the batch is after a reshape, None where it is nowhere as a whole."""
    axis = place.axis(len(old))
    share = old[axis].share
    before, behind = _product(old[:axis]), _product(old[axis + 1 :])
    if before is None or behind is None:
        return None
    before, behind = before * (share if place.fold == "inner" else 1), behind * (share if place.fold == "outer" else 1)
    for at, each in enumerate(new):
        above, below = _product(new[:at]), _product(new[at + 1 :])
        if each.share == 0 or above is None or below is None:
            continue
        if (above, below * each.share) == (before, behind):
            return Place(len(new) - at, "" if each.share == 1 else "outer")
        if (above * each.share, below) == (before, behind):
            return Place(len(new) - at, "inner")
    return None


def _product(extents: Sequence[Extent]) -> Any:
    return None if any(each.size is None for each in extents) else math.prod(each.size for each in extents)
