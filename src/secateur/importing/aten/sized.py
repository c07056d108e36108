"""Constants made of sizes, or with the shape of a value: what a traced call becomes, if anything."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from secateur.network import composites

if TYPE_CHECKING:
    from secateur.importing.aten.calls import OrdinaryCall


def made_of_sizes(call: OrdinaryCall) -> str | None:
    """The value that a call on constants and sizes gives, each dimension an axis; None for what a Graph cannot say."""
    made = _MAKERS[call.name](call) if call.name in _MAKERS else None
    return None if made is None else call.cast(made, call.element)


def _filled(number: Callable[[OrdinaryCall], Any]) -> Callable[[OrdinaryCall], str | None]:
    def make(call: OrdinaryCall) -> str | None:
        value = number(call)
        if isinstance(value, (int, float)) and math.isfinite(value):
            return call.emit("fill", value=float(value), shape=call.shape())
        return None if not isinstance(value, float) else _beyond(call, value)

    return make


def _beyond(call: OrdinaryCall, number: float) -> str:
    """Infinity or NaN in every place, which no attribute may be."""
    return composites.broadcast(call.build, call.build.value(number), call.shape())


def _arange(call: OrdinaryCall) -> str | None:
    start, step = call.get("start", 0), call.get("step", 1)
    step = 1 if step is None else step
    count = call.shape()[0]
    if isinstance(step, (int, float)) and isinstance(start, (int, float)):
        return call.emit("range", start=float(start), step=float(step), length=count)
    places = call.emit("range", start=0.0, step=1.0, length=count)
    along = call.emit("mul", places, call.operand(step, "float32"))
    return call.emit("add", along, call.operand(start, "float32"))


def _expand(call: OrdinaryCall) -> str:
    return composites.broadcast(call.build, call.value("self"), call.shape())


def _number(call: OrdinaryCall) -> str:
    return call.operand(call["s"], call.element)


_FULL_OF: Mapping[str, Callable[[OrdinaryCall], Any]] = {
    **dict.fromkeys(("zeros", "new_zeros", "zeros_like", "empty", "new_empty", "empty_like"), lambda call: 0),
    **dict.fromkeys(("ones", "new_ones", "ones_like"), lambda call: 1),
    **dict.fromkeys(("full", "new_full", "full_like"), lambda call: call["fill_value"]),
    "fill": lambda call: call["value"],
}
"""What number a tensor is full of."""

_MAKERS: Mapping[str, Callable[[OrdinaryCall], str | None]] = {
    "arange": _arange,
    "expand": _expand,
    "scalar_tensor": _number,
    **{name: _filled(number) for name, number in _FULL_OF.items()},
}
MADE_OF_SIZES = frozenset(_MAKERS)
"""Names of the operations that made_of_sizes reads."""
