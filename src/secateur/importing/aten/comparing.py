"""Whole numbers and truth values: comparisons, logic, choices, rounding and what one type becomes in another."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor, fx

from secateur.importing.aten.calls import Call, Conversion
from secateur.importing.aten.held import Constant
from secateur.importing.aten.reading import anywhere, pair_of_values, removed
from secateur.importing.aten.wholes import common_element
from secateur.network import composites
from secateur.network.graph import Shape, Weight


def _compared(op: str, *, swapped: bool = False, negated: bool = False) -> Conversion:
    """swapped: the second with the first. negated: whether that is not so."""

    def convert(call: Call) -> str:
        element = common_element(*(_operand(call, name) for name in ("self", "other")))
        element = "int32" if element == "bool" else element
        pair = (call["other"], call["self"]) if swapped else (call["self"], call["other"])
        made = pair_of_values(call, op, *pair, element)
        return call.emit("logical_not", made) if negated else made

    return convert


def _operand(call: Call, name: str) -> Tensor | float:
    """An argument as it was traced, or a number."""
    held = call.arguments[name]
    value = held.meta["val"] if isinstance(held, fx.Node) else held
    return value if isinstance(value, (Tensor, bool, float)) else 0


def _logical(op: str) -> Conversion:
    return lambda call: pair_of_values(call, op, call["self"], call["other"], "bool")


def _bitwise(op: str) -> Conversion:
    """Of truth values."""

    def convert(call: Call) -> str:
        if call.element != "bool":
            raise call.error("is supported on truth values only")
        return pair_of_values(call, op, call["self"], call["other"], "bool")

    return convert


def _exclusive(call: Call) -> str:
    """Whether one of two truth values is true and the other is not."""
    left, right = (call.cast(call.operand(call[name], "bool", call.rank), "int32") for name in ("self", "other"))
    return call.emit("logical_not", call.emit("equal", left, right))


def _not(call: Call) -> str:
    if call.name == "bitwise_not" and call.element != "bool":
        raise call.error("is supported on truth values only")
    return call.emit("logical_not", call.operand(call["self"], "bool"))


def _where(call: Call) -> str:
    if "self" not in call.arguments:
        raise call.error("without the two to choose from is not supported: how many places there are is not known")
    condition = call.operand(call["condition"], "bool", call.rank)
    return call.emit("where", condition, *_chosen(call, call["self"], call["other"]))


def _masked_fill(call: Call) -> str:
    mask = call.operand(call["mask"], "bool", call.rank)
    return call.emit("where", mask, *_chosen(call, call["value"], call["self"]))


def _chosen(call: Call, *held: Any) -> list[str]:
    made = []
    for each in held:
        name = call.operand(each, call.element, call.rank)
        if isinstance(each, str) and not call.fits(name):
            raise call.error("broadcasts values of different numbers of dimensions, the batch against another")
        made.append(name)
    return made


def _rounding(op: str) -> Conversion:
    """Of whole numbers: what they are."""
    return lambda call: call.value("self") if call.element != "float32" else call.emit(op, call.value("self"))


def _truncated(call: Call) -> str:
    return call.cast(call.cast(call.value("self"), "int64"), call.element)


def _whole_pair(op: str) -> Conversion:
    return lambda call: pair_of_values(call, op, call["self"], call["other"])


def _cumulated(call: Call) -> str:
    value = call.operand(call["self"], call.element)
    return call.emit("cumsum", value, axis=call.axis(call["dim"], value))


Combined = Callable[[Call, str, str], str]


def _running(op: Combined) -> Conversion:
    """What a dimension's numbers up to each come to."""

    def convert(call: Call) -> str:
        value = call.operand(call["self"], call.element)
        return _accumulated(call, value, call.axis(call["dim"], value), op)

    return convert


def _accumulated(call: Call, value: str, axis: int, op: Combined) -> str:
    return composites.running(call.build, value, axis, lambda later, earlier: op(call, later, earlier))


def _running_extreme(op: str) -> Conversion:
    """With where it stands, the last of equal ones."""

    def convert(call: Call) -> list[str]:
        value = call.value("self")
        axis = call.axis(call["dim"], value)
        made = _accumulated(call, value, axis, _emitted(op))
        shape = call.size(value)
        places = call.emit("range", start=0.0, step=1.0, length=shape[axis - 1])
        places = composites.reshape(call.build, places, (shape[axis - 1], *(1,) * (len(shape) - axis)))
        here = call.emit("where", call.emit("equal", value, made), places, -1.0)
        return [made, call.cast(_accumulated(call, here, axis, _emitted("maximum")), "int64")]

    return convert


def _emitted(op: str) -> Combined:
    return lambda call, left, right: call.emit(op, left, right)


def _sum_of_powers(call: Call, left: str, right: str) -> str:
    """ln(eˣ + eʸ), with numbers that are never too large."""
    apart = call.emit("neg", call.emit("abs", call.emit("sub", left, right)))
    rest = call.emit("log", call.emit("add", call.emit("exp", apart), 1.0))
    return call.emit("add", call.emit("maximum", left, right), rest)


def _infinite(*signs: int) -> Conversion:
    """Whether a number is infinite with one of these signs."""

    def convert(call: Call) -> str:
        value = call.value("self")
        value = call.emit("abs", value) if len(signs) > 1 else value
        return call.emit("equal", value, _infinity(call, signs[0]))

    return convert


_INFINITIES = {"isinf": (1, -1), "isposinf": (1,), "isneginf": (-1,)}


def _infinity(call: Call, sign: int) -> Weight:
    return call.build.number(sign * math.inf, "float32")


def _bucket(call: Call) -> str:
    """How many of some constant bounds, which rise, are below a number, or with `right` no larger than it."""
    bounds = call["boundaries" if "boundaries" in call.arguments else "sorted_sequence"]
    if not isinstance(bounds, Constant) or bounds.tensor.ndim != 1 or call.get("sorter") is not None:
        raise call.error("is supported with one row of constant bounds only")
    value = call.operand(call["self"], "float32")
    value = composites.reshape(call.build, value, (*call.size(value), 1))
    row = call.bits(Constant(bounds.tensor.float()), "bounds")
    op = "less_equal" if call["right"] or call.get("side") == "right" else "less"
    below = call.cast(call.emit(op, row, value), "int64")
    return call.cast(call.emit("sum", below, axes=(len(call.size(below)),), keepdims=False), call.element)


def _differences(call: Call) -> str:
    """Of neighbours along a dimension, once or several times."""
    value = call.value("self")
    for name, front in (("prepend", True), ("append", False)):
        if call.get(name) is not None:
            beside = call.operand(call[name], call.build.element(value), call.dims(value))
            parts = (beside, value) if front else (value, beside)
            value = call.emit("concat", *parts, axis=call.axis(call["dim"], value))
    for _ in range(int(call["n"])):
        axis = call.axis(call["dim"], value)
        size = call.size(value)[axis - 1]
        later, earlier = (composites.cut(call.build, value, axis, at, size - 1 + at) for at in (1, 0))
        value = call.emit("sub", later, earlier)
    return value


def _reduced_truth(composite: Callable[..., str]) -> Conversion:
    def convert(call: Call) -> str:
        value = call.value("self")
        return composite(call.build, value, _axes(call, value), keepdims=bool(call.get("keepdim", False)))

    return convert


def _axes(call: Call, value: str) -> Shape:
    given = call.get("dim")
    given = range(call.dims(value)) if given is None or given == [] else given
    dims = given if isinstance(given, (list, tuple, range)) else [given]
    return tuple(sorted(call.axis(dim, value) for dim in dims))


def _triangle(*, upper: bool) -> Conversion:
    """Zeros below or above a diagonal of the last two dimensions."""

    def convert(call: Call) -> str:
        value = call.value("self")
        rows, columns = call.size(value)[-2:]
        if min(call.own_axis(call.dim(dim, value), value) for dim in (-1, -2)) == 0:
            raise call.error("works across the batch; a graph treats each image on its own")
        down, along = (call.emit("range", start=0.0, step=1.0, length=size) for size in (rows, columns))
        down = call.emit("add", call.emit("reshape", down, shape=(rows, 1)), float(call["diagonal"]))
        kept = call.emit("less_equal", *((down, along) if upper else (along, down)))
        return call.emit("where", kept, value, composites.number_like(call.build, value, 0))

    return convert


_COMPARISONS: dict[str, Conversion] = {
    "eq": _compared("equal"),
    "ne": _compared("equal", negated=True),
    "lt": _compared("less"),
    "le": _compared("less_equal"),
    "gt": _compared("less", swapped=True),
    "ge": _compared("less_equal", swapped=True),
    **{name: _infinite(*bounds) for name, bounds in _INFINITIES.items()},
    "isfinite": lambda call: call.emit("less", call.emit("abs", call.value("self")), _infinity(call, 1)),
    **dict.fromkeys(("bucketize", "searchsorted"), _bucket),
    "isnan": lambda call: call.emit("logical_not", call.emit("equal", call.value("self"), call.value("self"))),
    "logical_and": _logical("logical_and"),
    "logical_or": _logical("logical_or"),
    **dict.fromkeys(("bitwise_and", "__and__", "__iand__"), _bitwise("logical_and")),
    **dict.fromkeys(("bitwise_or", "__or__", "__ior__"), _bitwise("logical_or")),
    **dict.fromkeys(("logical_xor", "bitwise_xor", "__xor__"), _exclusive),
    **dict.fromkeys(("logical_not", "bitwise_not"), _not),
    "where": _where,
    "masked_fill": _masked_fill,
    **{op: _rounding(op) for op in ("floor", "ceil", "round")},
    **dict.fromkeys(("trunc", "fix"), _truncated),
    "sign": lambda call: call.emit("sign", call.value("self")),
    "floor_divide": _whole_pair("floor_div"),
    "remainder": _whole_pair("remainder"),
    "cumsum": _cumulated,
    "cumprod": _running(_emitted("mul")),
    "logcumsumexp": _running(_sum_of_powers),
    **{f"cum{op}": _running_extreme(f"{op}imum") for op in ("max", "min")},
    "diff": _differences,
    "triu": _triangle(upper=True),
    "tril": _triangle(upper=False),
}

CONVERSIONS: dict[str, Conversion] = {
    **{name: anywhere(each) for name, each in _COMPARISONS.items()},
    **{
        name: anywhere(_reduced_truth(each), lambda call: 0 if call.get("keepdim") else removed(call))
        for name, each in (("any", composites.any_of), ("all", composites.all_of))
    },
}
