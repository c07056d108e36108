"""How conversions read arguments of one kind, and where the batch stands in what they make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from secateur.importing.aten.calls import Call, Conversion, OrdinaryCall, PlacedCall
from secateur.importing.aten.held import Constant
from secateur.importing.placing import Ordinary
from secateur.network.composites import Padded
from secateur.network.graph import Shape
from secateur.network.sizes import Size

ACROSS = "works across the batch; a graph treats each image on its own"


def numbers(value: Any, count: int) -> Shape:
    """A number for each axis, or one for all of them."""
    found = [int(each) for each in value] if isinstance(value, (list, tuple)) else [int(value)]
    return tuple(found * count if len(found) == 1 else found)


def planes(call: Call, argument: str) -> str | Padded:
    """A value as it is, with the zeros that may lie around it."""
    held = call[argument]
    return held if isinstance(held, Padded) else call.value_of(held)


def scaled(call: Call, held: Any, factor: float) -> Any:
    """An operand times a number: a constant stays one."""
    if factor == 1:
        return held
    if isinstance(held, (int, float)):
        return held * factor
    if isinstance(held, Constant):
        return Constant(held.tensor * factor)
    return pair_of_values(call, "mul", held, factor)


def pair_of_values(call: Call, op: str, left: Any, right: Any, element: str = "") -> str:
    """element: what both are to hold, where that is not what the result does."""
    element, values = element or call.element, []
    op = _OF_TRUTH.get(op, op) if element == "bool" else op
    for held in (left, right):
        name = call.operand(held, element, call.rank)
        if not isinstance(held, (Constant, Ordinary, Size, int, float)) and not call.fits(name):
            raise call.error("broadcasts values of different numbers of dimensions, the batch against another")
        values.append(name)
    return call.emit(op, *values)


_OF_TRUTH = {"add": "logical_or", "maximum": "logical_or", "mul": "logical_and", "minimum": "logical_and"}


def anywhere(conversion: Conversion, wider: Callable[[PlacedCall], int] | None = None) -> Conversion:
    """The conversion of an operation on values with the batch at any place, which is to stay what it is.

    wider: how many more dimensions behind the batch the result has.
    """

    def convert(call: Call) -> Any:
        inner = call.where_placed()
        made = conversion(inner)
        if isinstance(inner, OrdinaryCall):
            return [Ordinary(each) for each in made] if isinstance(made, list) else Ordinary(made)
        if not isinstance(inner, PlacedCall):
            return made
        place = inner.place.wider(wider(inner) if wider else 0)
        if isinstance(made, list):
            return [each and call.placed(each, place) for each in made]
        return call.placed(made, place)

    return convert


def along_last(conversion: Conversion, count: Callable[[Call], int] = lambda call: 1) -> Conversion:
    """The conversion of an operation along so many last dimensions, with the batch anywhere before them."""

    def convert(call: Call) -> Any:
        if isinstance(call, PlacedCall) and call.place.right <= count(call):
            raise call.error(ACROSS)
        return conversion(call)

    return anywhere(convert)


def removed(call: PlacedCall) -> int:
    """How many dimensions less there are behind the batch, as a negative number."""
    value = call.value_of(call.first)
    given = call["dim"] if call.get("dim") is not None and call["dim"] != [] else range(call.dims(value))
    dims = given if isinstance(given, (list, tuple, range)) else [given]
    return -sum(call.dim(dim, value) > call.place.axis(call.dims(value)) for dim in dims)
