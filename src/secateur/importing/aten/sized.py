"""Constants made of lengths that are not known before a network is called: what a traced call becomes, if anything."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from secateur.network import composites

if TYPE_CHECKING:
    from secateur.importing.aten.calls import OrdinaryCall

_NUMBERS = {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32, torch.int64}
"""Held as float32, in which whole numbers up to 2²⁴ are what they are."""


def made_of_sizes(call: OrdinaryCall) -> str | None:
    """The value that a call on constants and sizes gives, each dimension an axis; None for what a Graph cannot say."""
    known = call.name in _MAKERS and call.node.meta["val"].dtype in _NUMBERS
    return _MAKERS[call.name](call) if known else None


def _filled(number: Callable[[OrdinaryCall], Any]) -> Callable[[OrdinaryCall], str | None]:
    def make(call: OrdinaryCall) -> str | None:
        value = number(call)
        return call.emit("fill", value=float(value), shape=call.shape()) if _is_number(value) else None

    return make


def _arange(call: OrdinaryCall) -> str | None:
    start, step = call.get("start", 0), call.get("step", 1)
    if not _is_number(start) or not _is_number(step):
        return None
    return call.emit("range", start=float(start), step=float(step), length=call.shape()[0])


def _expand(call: OrdinaryCall) -> str:
    return composites.broadcast(call.build, call.value("self"), call.shape())


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


_MAKERS: Mapping[str, Callable[[OrdinaryCall], str | None]] = {
    "arange": _arange,
    "expand": _expand,
    **dict.fromkeys(("zeros", "new_zeros", "zeros_like"), _filled(lambda call: 0)),
    **dict.fromkeys(("ones", "new_ones", "ones_like"), _filled(lambda call: 1)),
    **dict.fromkeys(("full", "new_full", "full_like"), _filled(lambda call: call["fill_value"])),
    "fill": _filled(lambda call: call["value"]),
}
