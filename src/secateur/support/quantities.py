"""Numbers as people hand them over (NumPy's, fractions, decimals, tensors of one number) as Python's own."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from decimal import Decimal
from numbers import Real
from typing import Any


def as_float(value: Any) -> Any:
    """Any real number as a float; what is none as it is, for whoever checks it.

    A NumPy number of lower precision becomes what it is written as: np.float32(0.9) is 0.9, not 0.8999999761581421.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, Real | Decimal):
        return float(str(value)) if _is_narrow(value) else float(value)
    if getattr(value, "shape", None) != () or not hasattr(value, "item"):
        return value
    narrow = str(getattr(value, "dtype", "")) in ("torch.float32", "torch.float16")
    return as_float(value.detach().cpu().numpy()[()] if narrow else value.item())


def as_number(value: Any) -> Any:
    """Likewise, but an int stays one: it gives what it is part of another identity than a float does."""
    return value if type(value) is int else as_float(value)


def as_floats(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(as_float(each) for each in values)


def as_whole(value: Any) -> Any:
    """Any whole number as an int; what is none as it is, for whoever checks it."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        return value
    try:
        return operator.index(value)
    except TypeError:  # a tensor or an array of other numbers, or of several
        return value


def is_share(value: Any) -> bool:
    """Whether it is a float, or an int, from 0 up to but not 1."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1


def _is_narrow(value: Any) -> bool:
    """A NumPy float of 16 or 32 bits."""
    return getattr(getattr(value, "dtype", None), "kind", "") == "f" and value.dtype.itemsize < 8


def percent(share: float) -> str:
    """A share as text, with as many digits as tell it from none and from all: 25 %, 62.5 %, 99.9955 %."""
    return f"{round(100 * share, 9):.10g} %"
