"""A mean, a share and a difference of shares with their confidence intervals. Needs no PyTorch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from secateur.records.scores import Score

_Z = 1.959963984540054
"""The 97.5 % point of the normal distribution."""

TELLING = 6
"""Images lost, none gained, that an exact sign test tells from chance: 2 / 2⁶ is 3 %, 2 / 2⁵ would be 6 %."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A mean over n values with its 95 % confidence interval (Student's t); low and high are None for one value."""

    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def half(self) -> float | None:
        """Half the width of the interval: what stands after ±."""
        return None if self.high is None else self.high - self.mean


# The 97.5 % points of Student's t for 1 to 30 degrees of freedom (Fisher & Yates 1938, table III).
_T975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


def spread(values: Sequence[float]) -> Spread:
    """Mean and 95 % confidence interval of at least one value."""
    mean, n = statistics.fmean(values), len(values)
    if n == 1:
        return Spread(mean, None, None, 1)
    t = _T975[n - 2] if n - 1 <= len(_T975) else 1.96
    half = t * statistics.stdev(values) / math.sqrt(n)
    return Spread(mean, mean - half, mean + half, n)


def wilson(accuracy: Score) -> tuple[float, float]:
    """The 95 % interval of a top-1 accuracy, shares in [0, 1] (Wilson 1927): never beyond them, unlike p ± z·σ."""
    p, n = accuracy.value, accuracy.n
    middle, wide = p + _Z**2 / (2 * n), _Z * math.sqrt(p * (1 - p) / n + (_Z / (2 * n)) ** 2)
    return max(0.0, (middle - wide) / (1 + _Z**2 / n)), min(1.0, (middle + wide) / (1 + _Z**2 / n))


def lost_interval(own: Score, dense: Score) -> tuple[float, float]:
    """The 95 % interval of the points lost against dense, from both Wilson intervals (Newcombe 1998, method 10).

    As if the two had seen different images: where they saw the same ones it is rather too wide than too narrow.
    """
    (own_low, own_high), (low, high) = wilson(own), wilson(dense)
    lost = dense.value - own.value
    return (
        100 * (lost - math.hypot(dense.value - low, own_high - own.value)),
        100 * (lost + math.hypot(high - dense.value, own.value - own_low)),
    )


def smallest_loss(images: int) -> float:
    """Points: no smaller loss on so many images can be told from none at 95 %, whatever the test."""
    return min(100.0, 100 * TELLING / images)
