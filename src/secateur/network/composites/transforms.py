"""Fourier transforms along an axis, as products with tables: complex numbers are two values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.network.building import Builder
from secateur.network.composites.failing import CompositeError
from secateur.network.composites.moves import permute
from secateur.network.graph import Weight
from secateur.network.sizes import is_whole

Table = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fourier:
    """A discrete Fourier transform. size: of how many numbers, None for as many as there are; others are left out or 0.

    half: of real numbers, whose spectrum is half as long; inverse: back from it. norm: which is divided by the size,
    "forward" or "backward", or each by its root, "ortho".
    """

    size: int | None = None
    inverse: bool = False
    half: bool = False
    norm: str = "backward"


def transform(build: Builder, real: str, imaginary: str | None, axis: int, asked: Fourier) -> tuple[str, str | None]:
    """Along an axis. imaginary: None for real numbers, of which an inverse half transform gives such."""
    given = build.shape(real)[axis - 1]
    if not is_whole((given,)):
        raise CompositeError(f"along a length ({given}) is not supported")
    cosine, sine = map(_stored, _tables(int(given), asked))

    def times(value: str, table: Weight) -> str:
        return along_axis(build, value, axis, table)

    if asked.half and asked.inverse:
        found = times(real, cosine)
        return (found if imaginary is None else build.emit("add", found, times(imaginary, sine))), None
    if imaginary is None:
        return times(real, cosine), times(real, sine)
    back = build.emit("sub", times(real, cosine), times(imaginary, sine))
    return back, build.emit("add", times(real, sine), times(imaginary, cosine))


def along_axis(build: Builder, value: str, axis: int, table: Weight) -> str:
    """A linear layer (O, I) along an axis."""
    rank = len(build.shape(value))
    order = (*(each for each in range(1, rank + 1) if each != axis), axis)
    turned = build.emit("linear", permute(build, value, order), weights={"weight": table})
    return permute(build, turned, tuple(order.index(each) + 1 for each in range(1, rank + 1)))


def _stored(table: Table) -> Weight:
    return Weight.of(table.astype(np.float32))


def _tables(given: int, asked: Fourier) -> tuple[Table, Table]:
    """(made, given): what a transform multiplies with; numbers beyond its size count nothing."""
    back = 2 * (given - 1) if asked.half and asked.inverse else given
    size = back if asked.size is None else asked.size
    made = size // 2 + 1 if asked.half and not asked.inverse else size
    angle = (np.outer(np.arange(made), np.arange(given)) % size) * (2 * math.pi / size)
    cosine, sine = np.cos(angle), (1 if asked.inverse else -1) * np.sin(angle)
    if asked.half and asked.inverse:
        counted = _of_half(given, size)
        cosine, sine = cosine * counted, -sine * counted
    else:
        cosine[:, size:], sine[:, size:] = 0, 0
    factor = _factor(asked, size)
    return cosine * factor, sine * factor


def _of_half(given: int, size: int) -> NDArray[Any]:
    """How often each number of half a spectrum stands in the whole one."""
    kept = size // 2 + 1
    counted = np.full(given, 2.0)
    counted[0] = 1
    if size % 2 == 0 and given >= kept:
        counted[kept - 1] = 1
    counted[kept:] = 0
    return counted


def _factor(asked: Fourier, size: int) -> float:
    if asked.norm == "ortho":
        return float(size**-0.5)
    return 1 / size if (asked.norm == "forward") != asked.inverse else 1.0
