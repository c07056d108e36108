"""Where the batch stands in a traced tensor: in front, between other dimensions, or folded into one with them.

A Graph's values are one image each, with the batch in front of all. So a tensor (T, N, C), or (N·m, C), is not another
value: it is (T, C) or (m, C) for each image, and only where the batch stands has to be known to whoever reads it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from secateur.network.graph import Shape


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

    def own(self, shape: Sequence[Any], share: Callable[[Any], Any]) -> tuple[Any, ...]:
        """What of a traced shape is each image's. share: a dimension as a multiple of the batch."""
        axis = self.axis(len(shape))
        middle = (share(shape[axis]),) if self.fold else ()
        return (*shape[:axis], *middle, *shape[axis + 1 :])

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


def permuted(place: Place, dims: Sequence[int]) -> tuple[Place, tuple[int, ...]]:
    """Where the batch is after dimensions were permuted, and how the axes of what each image is are permuted."""
    rank = len(dims)
    axis = place.axis(rank)
    order = range(1, 1 + rank) if place.fold else [dim + 1 if dim < axis else dim for dim in range(rank)]
    axes = tuple(order[dim] for dim in dims if place.fold or dim != axis)
    return Place(rank - list(dims).index(axis), place.fold), axes


def reshaped(place: Place, old: Shape, new: Shape, share: Callable[[Any], Any]) -> Place | None:
    """Where the batch is after a reshape, None where it is nowhere as a whole. old, new: traced shapes.

    share: how many times the batch a dimension is, 0 where it is no multiple.
    """
    axis = place.axis(len(old))
    shared = share(old[axis])
    before = math.prod(old[:axis]) * (shared if place.fold == "inner" else 1)
    behind = math.prod(old[axis + 1 :]) * (shared if place.fold == "outer" else 1)
    for at, size in enumerate(new):
        count, above, below = share(size), math.prod(new[:at]), math.prod(new[at + 1 :])
        if count and (above, below * count) == (before, behind):
            return Place(len(new) - at, "" if count == 1 else "outer")
        if count and (above * count, below) == (before, behind):
            return Place(len(new) - at, "inner")
    return None
