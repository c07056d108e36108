"""JSON from strangers: no key twice, no NaN, no endless numbers or nesting; every value of the type expected."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from secateur.errors import FormatError

Shape = tuple[int, ...]

MOST_DIMENSIONS = 8
MOST_SIZE = 1 << 40
_MOST_DIGITS = 19
_MOST_PARTS = 1 << 20
"""Objects and lists, and commas, in one text: its values take memory that its bytes hardly show."""


def parse(text: bytes) -> Any:
    """The value of a JSON text in UTF-8. Raises FormatError for anything that RFC 8259 or good sense does not allow."""
    for marks in (b"{[", b","):
        if sum(text.count(mark) for mark in marks) > _MOST_PARTS:
            raise FormatError(f"its description has more than {_MOST_PARTS} parts")
    try:
        return json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=_no_constant,
        )
    except RecursionError as error:
        raise FormatError("its description is nested too deeply") from error
    except (ValueError, UnicodeDecodeError) as error:
        raise FormatError(f"its description is not JSON: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise FormatError("its description has the same key twice")
    for key in found:
        text(key)
    return found


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise FormatError(f"its description has a number of {len(digits)} digits")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise FormatError("its description has a number beyond all bounds")
    return value


def _no_constant(name: str) -> NoReturn:
    raise FormatError(f"its description has {name} for a number")


def mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise FormatError(f"its description has {_short(value)} where an object is expected")
    return value


def fields(value: Any, *names: str, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """An object that has these keys, perhaps the optional ones, and no others."""
    found = mapping(value)
    if not set(names) <= found.keys() <= {*names, *optional}:
        raise FormatError(f"its description has the keys {_short(sorted(found))} where {list(names)} are expected")
    return found


def items(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise FormatError(f"its description has {_short(value)} where a list is expected")
    return value


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise FormatError(f"its description has {_short(value)} where a text is expected")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise FormatError("its description has a text with half a character in it") from error
    return value


def texts(value: Any) -> tuple[str, ...]:
    return tuple(text(each) for each in items(value))


def number(value: Any) -> float:
    if type(value) not in (int, float):
        raise FormatError(f"its description has {_short(value)} where a number is expected")
    return float(value)


def whole(value: Any, most: int = MOST_SIZE, least: int = 0) -> int:
    if type(value) is not int or not least <= value <= most:
        raise FormatError(
            f"its description has {_short(value)} where a whole number from {least} to {most} is expected"
        )
    return int(value)


def shape(value: Any, dimensions: int | None = None) -> Shape:
    """Sizes; their product, zeros left out, is bounded too, so that nothing that is computed with it overflows."""
    found = tuple(whole(each) for each in items(value))
    if len(found) > MOST_DIMENSIONS or (dimensions is not None and len(found) != dimensions):
        raise FormatError(f"its description has {len(found)} sizes where {dimensions or 'at most 8'} are expected")
    if dimensions is None and math.prod(size for size in found if size) > MOST_SIZE:
        raise FormatError(f"its description has a shape {found}: larger than anything that could be meant")
    return found


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "…"
