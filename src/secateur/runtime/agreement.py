"""How far two engines' outputs are apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Outputs = Sequence[NDArray[np.floating]]


def largest_difference(found: Outputs, expected: Outputs, least: Sequence[float] = ()) -> float:
    """Of the finite numbers of all outputs, as a share of each output's largest; infinite where one side alone is NaN
    or infinite, and where shapes differ. least: what each output's largest counts as at least; by default nothing."""
    pairs = zip(found, expected, least or [0.0] * len(expected), strict=True)
    return max((_apart(np.asarray(one), np.asarray(other), size) for one, other, size in pairs), default=0.0)


def _apart(found: NDArray[np.floating], expected: NDArray[np.floating], least: float) -> float:
    known = np.isfinite(expected)
    if found.shape != expected.shape or not np.array_equal(known, np.isfinite(found)):
        return float("inf")
    right = expected[known].astype(np.float64)
    difference = np.abs(found[known] - right).max(initial=0.0)
    return float(difference / np.abs(right).max(initial=max(least, np.finfo(float).tiny))) if difference else 0.0
