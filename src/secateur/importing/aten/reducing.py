"""Many numbers in one: means, sums, extremes, deviations and norms over dimensions."""

from __future__ import annotations

import math
from typing import Any

from secateur.importing.aten.calls import Call, Conversion
from secateur.importing.aten.reading import ACROSS, anywhere, pair_of_values, removed
from secateur.network import composites
from secateur.network.graph import Shape
from secateur.network.sizes import is_whole


def _axes(call: Call, value: str) -> Shape:
    """Those named, else all of them."""
    given = call.get("dim")
    if given is None or given == []:
        given = range(call.dims(value))
    dims = given if isinstance(given, (list, tuple, range)) else [given]
    return tuple(sorted(call.axis(dim, value) for dim in dims))


def _keeps(call: Call) -> bool:
    return bool(call.get("keepdim", False))


def _reduced(op: str) -> Conversion:
    def convert(call: Call) -> str:
        value = call.value("self")
        return call.emit(op, value, axes=_axes(call, value), keepdims=_keeps(call))

    return convert


def _sum(call: Call) -> str:
    value = call.operand(call["self"], call.element)
    return composites.sum_over(call.build, value, _axes(call, value), keepdims=_keeps(call))


def _extreme(op: str, other: str) -> Conversion:
    """Of a dimension its largest or smallest number, and where that is; of all; or of two values."""

    def convert(call: Call) -> Any:
        if "other" in call.arguments:
            return pair_of_values(call, other, call["self"], call["other"])
        value = call.value("self")
        axes = _axes(call, value)
        made = call.emit(f"a{op}", value, axes=axes, keepdims=_keeps(call))
        if "dim" not in call.arguments:
            return made
        return [made, call.emit(f"arg{op}", value, axis=axes[0], keepdims=_keeps(call))]

    return convert


def _place(op: str) -> Conversion:
    def convert(call: Call) -> str:
        value = call.value("self")
        if call["dim"] is None:
            raise call.error(ACROSS)
        return call.emit(op, value, axis=call.axis(call["dim"], value), keepdims=_keeps(call))

    return convert


def _top(call: Call) -> Any:
    """So many, or all, numbers along a dimension in their order, and where they stand."""
    value = call.value("self")
    axis, largest = call.axis(call.get("dim", -1), value), bool(call.get("largest", call.get("descending", True)))
    count = call["k"] if "k" in call.arguments else call.size(value)[axis - 1]
    places = call.emit("topk", value, axis=axis, count=count, largest=largest)
    if call.name == "argsort":
        return places
    return [call.emit("gather", value, places, axis=axis), places]


def _ranked(call: Call) -> list[str]:
    """The number of a rank along a dimension, the median where none is given, and where it stands."""
    value = call.value("self")
    axis = call.axis(call["dim"], value)
    size = call.size(value)[axis - 1]
    rank = call["k"] if "k" in call.arguments else (size + 1) // 2
    places = call.emit("topk", value, axis=axis, count=rank, largest=False)
    place = composites.cut(call.build, places, axis, rank - 1, rank)
    found = [call.emit("gather", value, place, axis=axis), place]
    shape = call.size(place)
    shape = shape if _keeps(call) else (*shape[: axis - 1], *shape[axis:])
    return [composites.reshape(call.build, each, shape) for each in found]


def _deviation(call: Call) -> Any:
    """Variance or its root, alone or with the mean; of n numbers less the correction."""
    value = call.value("self")
    axes = _axes(call, value)
    count = math.prod(call.size(value)[axis - 1] for axis in axes)
    if not is_whole((count,)):
        raise call.error(f"takes a length ({count}) as a number, which is not known before it runs")
    less = call.get("correction", int(bool(call.get("unbiased", True))))
    less = 1 if less is None else less
    mean = call.emit("mean", value, axes=axes, keepdims=True)
    apart = call.emit("sub", value, mean)
    made = call.emit("mean", call.emit("mul", apart, apart), axes=axes, keepdims=_keeps(call))
    made = made if less == 0 else call.emit("mul", made, count / max(count - less, 0) if count > less else math.inf)
    made = call.emit("sqrt", made) if call.name.startswith("std") else made
    if not call.name.endswith("_mean"):
        return made
    return [made, mean if _keeps(call) else call.emit("mean", value, axes=axes, keepdims=False)]


def _norm(call: Call) -> str:
    value = call.value("self")
    order = call["ord"] if "ord" in call.arguments else call["p"]
    return composites.norm_over(
        call.build, value, _axes(call, value), 2.0 if order is None else float(order), keepdims=_keeps(call)
    )


def _cosine_similarity(call: Call) -> str:
    """Of two values along a dimension; lengths are eps at least."""
    left, right = (call.value_of(call[name], call.rank + 1) for name in ("x1", "x2"))
    longest = max((left, right), key=lambda value: len(call.size(value)))
    axis = call.axis(call["dim"], longest) - len(call.size(longest))
    parts = []
    for value in (left, right):
        own = axis + len(call.size(value))
        length = composites.norm_over(call.build, value, (own,), 2.0, keepdims=True)
        parts.append(call.emit("div", value, call.emit("maximum", length, float(call["eps"]))))
    made = call.emit("mul", *parts)
    return composites.sum_over(call.build, made, (axis + len(call.size(made)),), keepdims=False)


def _pairwise_distance(call: Call) -> str:
    left, right = (call.value_of(call[name], call.rank + (not _keeps(call))) for name in ("x1", "x2"))
    apart = call.emit("add", call.emit("sub", left, right), float(call["eps"]))
    axis = call.axis(-1, apart)
    return composites.norm_over(call.build, apart, (axis,), float(call["p"]), keepdims=_keeps(call))


def _over_axes(conversion: Conversion) -> Conversion:
    return anywhere(conversion, lambda call: 0 if _keeps(call) or "other" in call.arguments else removed(call))


CONVERSIONS: dict[str, Conversion] = {
    **{
        name: _over_axes(conversion)
        for name, conversion in {
            "mean": _reduced("mean"),
            "sum": _sum,
            "prod": _reduced("prod"),
            "amax": _reduced("amax"),
            "amin": _reduced("amin"),
            "max": _extreme("max", "maximum"),
            "min": _extreme("min", "minimum"),
            "argmax": _place("argmax"),
            "argmin": _place("argmin"),
            **dict.fromkeys(("median", "kthvalue"), _ranked),
            **dict.fromkeys(("std", "var", "std_mean", "var_mean"), _deviation),
            **dict.fromkeys(("linalg_vector_norm", "norm"), _norm),
        }.items()
    },
    **dict.fromkeys(("topk", "sort", "argsort"), anywhere(_top)),
    "pairwise_distance": anywhere(_pairwise_distance, lambda call: 0 if _keeps(call) else -1),
    "cosine_similarity": anywhere(_cosine_similarity, removed),
}
