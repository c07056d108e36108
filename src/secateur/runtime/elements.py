"""Whole numbers and truth values on their way into the native core and out of it: there they are float32."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.errors import RunError
from secateur.network.formats import FORMATS, INTEGERS

MOST = 1 << 24
"""Up to which float32 has every whole number."""
HELD = ("float32", *INTEGERS, "bool")
"""What inputs and outputs may be."""


def fits(x: NDArray[Any], element: str) -> bool:
    """Whether an array is of an element, or for whole numbers of another format of these."""
    return x.dtype.kind in "iu" if element in INTEGERS else bool(x.dtype == FORMATS[element].numbers)


def as_floats(x: NDArray[Any], what: str) -> NDArray[np.float32]:
    """Whole numbers, or truth values, exactly. what: whose they are. Raises RunError for those that are too large."""
    if x.dtype != np.bool_ and x.size and (int(x.max()) > MOST or int(x.min()) < -MOST):
        far = max(int(x.max()), int(x.min()), key=abs)
        raise RunError(f"{what}: expected whole numbers from -{MOST} to {MOST}, which float32 has, got {far}")
    return np.ascontiguousarray(x, np.float32)


def from_floats(x: NDArray[np.float32], element: str, what: str) -> NDArray[Any]:
    """As an element again. Raises RunError for numbers that came out as none of it, or beyond what float32 has."""
    if element == "float32":
        return x
    with np.errstate(invalid="ignore"):
        if element != "bool" and not (np.abs(x) <= MOST).all():
            raise RunError(f"{what}: whole numbers came out beyond {MOST}, up to which the runtime has them exactly")
        return x.astype(FORMATS[element].numbers)
