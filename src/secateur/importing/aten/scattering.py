"""Numbers put into the places of others: by indices, constant or computed, and by truth values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from secateur.importing.aten.calls import Call, Conversion
from secateur.importing.aten.held import Constant, Masked
from secateur.importing.aten.nodes import are_alike
from secateur.importing.aten.reading import anywhere, pair_of_values, scaled
from secateur.network import composites
from secateur.network.graph import Shape
from secateur.network.sizes import is_whole

_PUT = "is supported by truth values, or by one row of constant whole numbers, without adding up"


def _scattered(call: Call) -> str:
    """A value in which numbers of another, or one number, stand at the places along a dimension that an index says.

    Of several for one place the last one stands there.
    """
    value, axis, hits, index = _hits(call)
    count = call.size(index)[axis - 1]
    order = call.emit("range", start=1.0, step=1.0, length=count)
    order = composites.reshape(call.build, order, (count, *(1,) * (len(call.size(hits)) - axis)))
    last = call.emit("amax", call.emit("where", hits, order, 0.0), axes=(axis,), keepdims=False)
    given = call.operand(_source(call), call.element, call.rank)
    if call.size(given):
        place = call.cast(call.emit("relu", call.emit("add", last, -1.0)), "int64")
        given = composites.broadcast(call.build, given, call.size(index))
        given = call.emit("gather", given, place, axis=axis)
    return call.emit("where", call.emit("less", 0.0, last), given, value)


def _source(call: Call) -> Any:
    return call["src"] if "src" in call.arguments else call["value"]


def _added(call: Call) -> str:
    """A value with numbers of another added at the places along a dimension that an index says."""
    value, axis, hits, index = _hits(call)
    given = composites.broadcast(call.build, call.operand(call["src"], call.element, call.rank), call.size(index))
    shape = call.size(given)
    apart = composites.reshape(call.build, given, (*shape[:axis], 1, *shape[axis:]))
    nothing = composites.number_like(call.build, given, 0)
    total = call.emit("sum", call.emit("where", hits, apart, nothing), axes=(axis,), keepdims=False)
    return call.emit("add", value, total)


def _reduced(call: Call) -> str:
    """As _added, with what numbers of one place come to otherwise, with the value's own number or without."""
    how = str(call["reduce"])
    if how not in _NEUTRAL:
        raise call.error(f"is supported with reduce one of {', '.join(_NEUTRAL)}, not {how!r}")
    value, axis, hits, index = _hits(call)
    given = composites.broadcast(call.build, call.operand(call["src"], call.element, call.rank), call.size(index))
    shape = call.size(given)
    apart = composites.reshape(call.build, given, (*shape[:axis], 1, *shape[axis:]))
    made = call.emit("where", hits, apart, composites.number_like(call.build, given, _NEUTRAL[how]))
    made = call.emit({"mean": "sum"}.get(how, how), made, axes=(axis,), keepdims=False)
    count = call.emit("sum", call.cast(hits, "float32"), axes=(axis,), keepdims=False)
    if call["include_self"]:
        made, count = call.emit(_JOINED[how], made, value), call.emit("add", count, 1.0)
    made = call.emit("div", made, call.emit("maximum", count, 1.0)) if how == "mean" else made
    return call.emit("where", call.emit("less", 0.0, count), made, value)


_NEUTRAL = {"sum": 0, "mean": 0, "prod": 1, "amax": -math.inf, "amin": math.inf}
"""What changes nothing in a reduction."""
_JOINED = {"sum": "add", "mean": "add", "prod": "mul", "amax": "maximum", "amin": "minimum"}


def _added_rows(call: Call) -> str:
    """A value with parts of another added at constant places along a dimension: those times ones and zeros."""
    index = call["index"]
    if not isinstance(index, Constant):
        raise call.error("is supported with constant indices only")
    value = call.operand(call["self"], call.element, call.rank)
    axis, size = call.axis(call["dim"], value), call.size(value)[call.axis(call["dim"], value) - 1]
    if not is_whole((size,)):
        raise call.error(f"is not supported along a length ({size})")
    places = index.tensor.reshape(-1)
    given = composites.broadcast(
        call.build,
        call.operand(call["source"], call.element, call.rank),
        (*call.size(value)[: axis - 1], len(places), *call.size(value)[axis:]),
    )
    letters = "abcdefghij"[: len(call.size(given))]
    target = letters.replace(letters[axis - 1], "z")
    hits = call.bits(Constant(F.one_hot(places % size, size).T.float()), "places")
    moved = composites.contraction(call.build, [(given, letters), (hits, f"z{letters[axis - 1]}")], target)
    return pair_of_values(call, "add", value, scaled(call, moved, call["alpha"]))


def _hits(call: Call) -> tuple[str, int, str, str]:
    """What is written into, along which axis, whether an index means a place (…, index, place, …), and the index."""
    if call.name == "scatter" and call.get("reduce") is not None:
        raise call.error("with a reduction is not supported, but for scatter_add and scatter_reduce")
    wide = composites.broadcast(call.build, call.operand(call["self"], call.element, call.rank), call.shape())
    index, axis = call.operand(call["index"], "int64", call.rank), call.axis(call["dim"], wide)
    shape, own = call.size(wide), call.size(index)
    if len(own) != len(shape) or any(own[at] not in (1, shape[at]) for at in range(len(shape)) if at != axis - 1):
        raise call.error("is supported with indices as long as the value in all other dimensions")
    own = tuple(own[axis - 1] if at == axis else size for at, size in enumerate(shape, 1))
    index = composites.broadcast(call.build, index, own)
    places = call.cast(call.emit("range", start=0.0, step=1.0, length=shape[axis - 1]), "int64")
    places = composites.reshape(call.build, places, (shape[axis - 1], *(1,) * (len(shape) - axis)))
    apart = composites.reshape(call.build, index, (*own[:axis], 1, *own[axis:]))
    return wide, axis, call.emit("equal", apart, places), index


def _put(call: Call) -> str:
    """x[mask] = number, or x[:, places] = value."""
    indices = list(call["indices"])
    held = [at for at, each in enumerate(indices) if each is not None]
    if call["accumulate"] or len(held) != 1:
        raise call.error(_PUT)
    (dim,) = held
    index = indices[dim]
    dtype = call.arguments["indices"][dim].meta["val"].dtype
    if dtype in (torch.bool, torch.uint8):
        return _where_true(call, dim, index)
    if not isinstance(index, Constant) or index.tensor.ndim != 1:
        raise call.error(_PUT)
    return _placed(call, call["values"], dim, index.tensor)


def _where_true(call: Call, dim: int, mask: Any) -> str:
    """One number, or what the same mask picks of another value, wherever the mask is true."""
    value = call.operand(call["self"], call.element, call.rank)
    given, node = call["values"], call.arguments["indices"][dim]
    mask_rank = node.meta["val"].ndim
    fits = are_alike(given.mask, node) if isinstance(given, Masked) else _is_one_number(call)
    if dim != 0 or not fits:
        raise call.error("by truth values is supported with one number, or with what the same mask picks, only")
    mask = call.operand(mask, "bool", mask_rank)
    mask = composites.reshape(call.build, mask, (*call.size(mask), *(1,) * (call.rank - mask_rank)))
    if isinstance(given, Masked):
        return call.emit("where", mask, call.cast(given.base, call.element), value)
    number = composites.reshape(
        call.build, call.operand(given, call.element, call.rank + 1), (1,) * len(call.size(value))
    )
    return call.emit("where", mask, number, value)


def _is_one_number(call: Call) -> bool:
    traced = call.arguments["values"].meta["val"]
    return not call.translation.is_beyond(traced.shape) and bool(traced.numel() == 1)


def _copied(call: Call) -> str:
    index = call["index"]
    if not isinstance(index, Constant):
        raise call.error("is supported with constant indices only")
    return _placed(call, call["source"], call["dim"], index.tensor.reshape(-1))


def _placed(call: Call, given: Any, dim: int, index: torch.Tensor) -> str:
    """The value with parts of another at constant places along a dimension."""
    value = call.operand(call["self"], call.element, call.rank)
    axis = call.axis(dim, value)
    shape: Shape = call.size(value)
    size = shape[axis - 1]
    if not is_whole((size,)):
        raise call.error(f"is not supported along a length ({size})")
    parts = (*shape[: axis - 1], len(index), *shape[axis:])
    other = composites.broadcast(call.build, call.operand(given, call.element, call.rank), parts)
    return composites.take(
        call.build, call.emit("concat", value, other, axis=axis), axis, _places(size, index.tolist())
    )


def _places(size: int, index: Sequence[int]) -> np.ndarray[Any, Any]:
    """Which of a row of so many, and of others behind them, stand where the others were put."""
    places = np.arange(size)
    places[list(index)] = size + np.arange(len(index))
    return places


CONVERSIONS: dict[str, Conversion] = {
    "scatter": anywhere(_scattered),
    "scatter_add": anywhere(_added),
    "scatter_reduce": anywhere(_reduced),
    "index_add": anywhere(_added_rows),
    "index_put": anywhere(_put),
    "index_copy": anywhere(_copied),
}
