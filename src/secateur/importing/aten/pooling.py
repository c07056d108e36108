"""Windows of which the largest number or the mean is taken, along one to three last dimensions."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from secateur.importing.aten.calls import Call, Conversion
from secateur.importing.aten.reading import along_last, numbers
from secateur.network import composites
from secateur.network.composites import Axis
from secateur.network.graph import Shape


def _axes(call: Call, rank: int) -> list[Axis]:
    kernel = numbers(call["kernel_size"], rank)
    stride = numbers(call["stride"], rank) if call["stride"] else kernel
    padding, dilation = numbers(call["padding"], rank), numbers(call.get("dilation", 1), rank)
    return [
        Axis(size, step, around, around, spread)
        for size, step, around, spread in zip(kernel, stride, padding, dilation, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Picked:
    """Stands for where the largest number of each window was. which: of the window's numbers, (C, *windows).

    space: what the windows lay in.
    """

    which: str
    kernel: Shape
    space: Shape


def _max_pool(call: Call, rank: int) -> Any:
    axes, value = _axes(call, rank), call.value("self")
    made = composites.max_pool(call.build, value, axes, ceil=bool(call["ceil_mode"]))
    return [made, _picked(call, value, axes)] if call.name.endswith("with_indices") else made


def _picked(call: Call, value: str, axes: Sequence[Axis]) -> Picked | None:
    """None where nobody asks, or windows are not side by side."""
    asked = any(user.target is operator.getitem and user.args[1] == 1 for user in call.node.users)
    kernel = tuple(axis.kernel for axis in axes)
    beside = all(axis == Axis(axis.kernel, axis.kernel, 0, 0, 1) for axis in axes) and not call["ceil_mode"]
    if not asked or not beside or type(call) is not Call or len(call.size(value)) != 1 + len(axes):
        return None
    return Picked(composites.picks(call.build, value, kernel), kernel, call.size(value)[1:])


def _max_unpool(call: Call, rank: int) -> str:
    value, picked = call.value("self"), call["indices"]
    if not isinstance(picked, Picked) or call.size(picked.which) != call.size(value):
        raise call.error("is supported behind a max pooling, the windows of which touch and do not overlap, only")
    if tuple(call["output_size"][-rank:]) != picked.space:
        raise call.error(f"is supported back to what was pooled only: expected output_size={picked.space}")
    return composites.unpool(call.build, value, picked.which, picked.kernel, picked.space)


def _avg_pool(call: Call, rank: int) -> str:
    axes, divisor = _axes(call, rank), call.get("divisor_override")
    counted, ceil = bool(call["count_include_pad"]) or divisor is not None, bool(call["ceil_mode"])
    if ceil and divisor is not None:
        raise call.error("with divisor_override and ceil_mode is not supported")
    made = composites.avg_pool(call.build, call.value("self"), axes, counted=counted, ceil=ceil)
    if divisor is None:
        return made
    return call.emit("mul", made, math.prod(axis.kernel for axis in axes) / int(divisor))


def _adaptive_avg_pool(call: Call, rank: int) -> str:
    return composites.adaptive_avg_pool(call.build, call.value("self"), _sizes(call, rank))


def _adaptive_max_pool(call: Call, rank: int) -> Any:
    return [composites.adaptive_max_pool(call.build, call.value("self"), _sizes(call, rank)), None]


def _sizes(call: Call, rank: int) -> list[Any]:
    size = call["output_size"]
    return list(size) if isinstance(size, (list, tuple)) else [size] * rank


def _over_last(conversion: Callable[[Call, int], Any], rank: int) -> Conversion:
    return along_last(lambda call: conversion(call, rank), lambda call: rank)


CONVERSIONS: dict[str, Conversion] = {
    f"{name}{rank}d{ending}": _over_last(conversion, rank)
    for rank in (1, 2, 3)
    for name, ending, conversion in (
        ("max_pool", "", _max_pool),
        ("max_pool", "_with_indices", _max_pool),
        ("avg_pool", "", _avg_pool),
        ("adaptive_avg_pool", "", _adaptive_avg_pool),
        ("_adaptive_avg_pool", "", _adaptive_avg_pool),
        ("adaptive_max_pool", "", _adaptive_max_pool),
        ("max_unpool", "", _max_unpool),
    )
}
