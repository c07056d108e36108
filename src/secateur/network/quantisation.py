"""Numbers in eight bits: what they stand for, and arithmetic that gives the same bits wherever it is done.

Sums are whole numbers of 32 bits, exact in any order. Every other step is one rounding to float32 (to nearest, ties to
even), no two of them at once (no fused multiply-add), so that any machine can follow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from secateur.errors import GraphError
from secateur.network.formats import FORMATS

Single = NDArray[np.float32]
Integers = NDArray[np.integer[Any]]

ELEMENTS = ("uint8", "int8")
SMALLEST_SCALE, LARGEST_SCALE = 2.0**-126, 2.0**126
"""Between these, a scale and what it is divided by are normal numbers of float32."""
LARGEST_SUM = 2**31 - 1
FARTHEST = 255
"""How far a number is from the zero point at most."""


@dataclass(frozen=True, slots=True)
class Quantisation:
    """What integers stand for: x for (x − zero_point) · scale. element: "uint8" or "int8".

    The scale is rounded to float32. Raises GraphError for what no value can have.
    """

    element: str
    scale: float
    zero_point: int

    def __post_init__(self) -> None:
        if self.element not in ELEMENTS:
            raise GraphError(f"a quantised value of {self.element!r}: expected {' or '.join(ELEMENTS)}")
        if not SMALLEST_SCALE <= self.scale <= LARGEST_SCALE:
            raise GraphError(f"scale {self.scale}: expected one from {SMALLEST_SCALE:g} to {LARGEST_SCALE:g}")
        if not self.least <= self.zero_point <= self.most:
            raise GraphError(f"zero point {self.zero_point}: expected one from {self.least} to {self.most}")
        object.__setattr__(self, "scale", in_single(self.scale))

    @property
    def least(self) -> int:
        return bounds(self.element)[0]

    @property
    def most(self) -> int:
        return bounds(self.element)[1]

    def stated(self, prefix: str = "") -> dict[str, Any]:
        """As attributes of a node, the scale in the fewest digits that float32 tells apart."""
        return {f"{prefix}scale": float(str(np.float32(self.scale))), f"{prefix}zero_point": self.zero_point}

    def __str__(self) -> str:
        return f"{self.element} ({described(self.scale, self.zero_point)})"


def described(scale: float, zero_point: int) -> str:
    return f"scale {np.float32(scale)!s}, zero point {zero_point}"


def bounds(element: str) -> tuple[int, int]:
    """The least and the most that an integer format holds."""
    held = np.iinfo(FORMATS[element].numbers)  # type: ignore[type-var, arg-type]
    return int(held.min), int(held.max)


def in_single(number: float) -> float:
    """A number as float32 has it."""
    return float(np.float32(number))


def multiplier(numerator: ArrayLike, denominator: ArrayLike) -> Single:
    """What takes one scale to another: numerator / denominator in float64, rounded to float32; it may be infinite."""
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(np.asarray(numerator, np.float64) / np.asarray(denominator, np.float64)).astype(np.float32)


def output_multipliers(input_scale: float, scales: NDArray[np.float32], output_scale: float) -> Single:
    """(O,): what a layer's sums are multiplied with, one for each of its outputs. scales: (O,), of its weights."""
    products = np.float64(np.float32(input_scale)) * scales.astype(np.float64)
    return multiplier(products, np.float64(np.float32(output_scale)))


def rescaled(integers: Integers, factor: ArrayLike) -> Single:
    """Integers, rounded to float32, times a factor."""
    return integers.astype(np.float32) * np.asarray(factor, np.float32)


def saturated(numbers: Single, to: Quantisation, low: int | None = None, high: int | None = None) -> Integers:
    """Rounded to whole numbers, ties to even, and no further than from low to high; the zero point is added last.

    low, high: of the result, the element's own where there are none. NaN becomes the lowest.
    """
    low, high = (to.least if low is None else low), (to.most if high is None else high)
    least, most = np.float32(low - to.zero_point), np.float32(high - to.zero_point)
    within = np.where(numbers > most, most, np.where(numbers >= least, numbers, least))
    return (np.rint(within).astype(np.int64) + to.zero_point).astype(FORMATS[to.element].numbers)


def quantise(numbers: Single, to: Quantisation) -> Integers:
    """The integers that stand for numbers, as near as they can."""
    return saturated(numbers * (np.float32(1) / np.float32(to.scale)), to)


def dequantise(integers: Integers, of: Quantisation) -> Single:
    """The numbers that integers stand for."""
    return rescaled(integers.astype(np.int64) - of.zero_point, of.scale)
