"""Which numbers a value of eight bits stands for, by what it was on the calibration data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

STEPS = 255
PERCENTILES = (99.9, 99.99, 99.999)
ORDINARY = 0.9999
_SHARES = np.linspace(1.0, 0.2, 33)
_SLOTS = 1 << 16
_PARTS = 4
_SMALLEST = 2.0**-100
"""What it is divided by, and its quotient by a scale of weights, are normal numbers of float32 still."""


@dataclass(frozen=True, slots=True)
class Scale:
    """What the numbers 0 to 255 stand for: (number − zero_point) · scale.

    way: how it was found. error: mean squared, of the calibration data.
    """

    scale: float
    zero_point: int
    way: str = ""
    error: float = 0.0

    def quantised(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """The numbers 0 to 255 for values, less the zero point."""
        low, high = np.float32(-self.zero_point), np.float32(STEPS - self.zero_point)
        return np.rint(np.clip(x * (np.float32(1) / np.float32(self.scale)), low, high))

    def number(self, x: float) -> int:
        """What a value becomes."""
        return int(np.clip(np.rint(x / self.scale) + self.zero_point, 0, STEPS))


@dataclass(slots=True)
class Histogram:
    """How often a value's numbers fell into each of the bins that bfloat16 tells apart: of 0.8 % of a number at most,
    so that outliers take nothing from the rest.

    counts: by a number's upper sixteen bits. low, high: the least and the largest number, and 0.
    """

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_SLOTS, np.int64))
    low: float = 0.0
    high: float = 0.0

    def add(self, values: NDArray[np.float32]) -> None:
        flat = np.ascontiguousarray(values, np.float32).ravel()
        if flat.size:
            self.low, self.high = float(np.minimum(self.low, flat.min())), float(np.maximum(self.high, flat.max()))
            self.counts += np.bincount((flat.view(np.uint32) >> np.uint32(16)).astype(np.uint16), minlength=_SLOTS)

    @property
    def is_finite(self) -> bool:
        return bool(np.isfinite(self.low) and np.isfinite(self.high))

    def points(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(numbers in rising order, how many of the value's each stands for): some in every bin, as its numbers are
        nearly spread evenly."""
        slots = np.flatnonzero(self.counts)
        bits = slots.astype(np.uint32) << np.uint32(16)
        nearer, farther = bits.view(np.float32).astype(np.float64), (bits + np.uint32(0xFFFF)).view(np.float32)
        shares = (np.arange(_PARTS) + 0.5) / _PARTS
        spread = nearer[:, None] + (farther.astype(np.float64) - nearer)[:, None] * shares
        spread = np.clip(spread, self.low, self.high)
        weights = np.repeat(self.counts[slots] / _PARTS, _PARTS)
        order = np.argsort(spread, axis=None)
        return spread.ravel()[order], weights[order]


def joined(histograms: Iterable[Histogram]) -> Histogram:
    """That of all their numbers."""
    total = Histogram()
    for each in histograms:
        total.counts += each.counts
        total.low, total.high = min(total.low, each.low), max(total.high, each.high)
    return total


def choose_scale(histogram: Histogram) -> Scale:
    """Of the scales by minimum and maximum, by percentiles and by shrinking either end, the one with the least squared
    error; 0 is always one of the numbers. A value that is always 0 has the scale 1.

    No number counts as more wrong than if it were lost and no larger than 99.99 % are: one in ten thousand or fewer do
    not take the steps from all others, however far out they lie.
    """
    low, high = histogram.low, histogram.high
    if low == high:
        return Scale(1.0, 0, "always 0")
    numbers, counts = histogram.points()
    most = _within(np.abs(numbers), counts, ORDINARY)
    found = [_scored(each, numbers, counts, most) for each in _candidates(low, high, numbers, counts)]
    return min(found, key=lambda each: each.error)


def _candidates(low: float, high: float, numbers: NDArray[np.float64], counts: NDArray[np.float64]) -> Iterator[Scale]:
    yield scale_between(low, high, "minimum and maximum")
    below = np.cumsum(counts) / counts.sum()
    for percentile in PERCENTILES:
        tail = (1 - percentile / 100) / 2
        first, last = (min(int(np.searchsorted(below, share)), len(numbers) - 1) for share in (tail, 1 - tail))
        yield scale_between(min(float(numbers[first]), 0.0), max(float(numbers[last]), 0.0), f"{percentile} %")
    for share in _SHARES if low < 0 < high else ():
        yield scale_between(low * share, high, "least squares")
        yield scale_between(low, high * share, "least squares")
    for share in _SHARES:
        yield scale_between(low * share, high * share, "least squares")


def scale_between(low: float, high: float, way: str = "") -> Scale:
    """The scale of 255 steps from low (0 or less) to high (0 or more), moved so that 0 is one of its numbers."""
    width = float(np.float32(max((high - low) / STEPS, _SMALLEST)))
    return Scale(width, int(np.clip(np.rint(-low / width), 0, STEPS)), way)


def _within(sizes: NDArray[np.float64], counts: NDArray[np.float64], share: float) -> float:
    """The size that a share of the numbers does not exceed."""
    order = np.argsort(sizes)
    below = np.cumsum(counts[order])
    return float(sizes[order][np.searchsorted(below, share * below[-1])])


def _scored(scale: Scale, numbers: NDArray[np.float64], counts: NDArray[np.float64], most: float) -> Scale:
    steps = np.clip(np.rint(numbers / scale.scale) + scale.zero_point, 0, STEPS) - scale.zero_point
    wrong = np.minimum(np.abs(steps * scale.scale - numbers), max(most, scale.scale / 2))
    error = float((counts * wrong**2).sum() / counts.sum())
    return Scale(scale.scale, scale.zero_point, scale.way, error)
