"""The harm of a layer at all of its levels, from that of a few."""

from __future__ import annotations

import math
from collections.abc import Callable

HOPELESS = 1.0
"""Nats. A layer that moves the outputs so far on its own is not asked to lose more."""


def harms_of_levels(count: int, harm: Callable[[int], float]) -> list[float]:
    """The harm of each of a layer's levels, none at the first; infinite from where it is hopeless.

    harm: measures that of a level, infinite where it cannot be made. The second level, every fourth and the last are
    measured, and where such a one cannot be made, those that show where that begins. Between two measured levels the
    logarithm of the harm changes as if on a line.
    """
    row = [0.0] + [math.inf] * (count - 1)
    last = 0
    for aim in sorted({2, *range(4, count, 4), count - 1} & set(range(1, count))):
        level = aim
        row[level] = harm(level)
        while math.isinf(row[level]) and level - last > 1:
            middle = (last + level) // 2
            row[middle] = harm(middle)
            if math.isinf(row[middle]):
                level = middle
            else:
                row[last + 1 : middle] = _between(row[last], row[middle], middle - last)
                last = middle
        row[last + 1 : level] = _between(row[last], row[level], level - last)
        if not row[level] <= HOPELESS:
            break
        last = level
    return row


def _between(one: float, other: float, steps: int) -> list[float]:
    """What lies between two harms, 0 or more, that are so many steps apart; where there is no harm in the one, the harm
    itself changes as if on a line."""
    shares = [step / steps for step in range(1, steps)]
    if one > 0 and math.isfinite(other):
        return [one ** (1 - share) * other**share for share in shares]
    return [one + other * share for share in shares]
