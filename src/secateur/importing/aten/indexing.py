"""Rows and numbers that are looked up: by constants, by computed whole numbers, by the number of each image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from secateur.importing.aten.calls import Call, Conversion, OrdinaryCall
from secateur.importing.aten.held import Constant, Masked, Numbers, Shifted, Starts
from secateur.importing.aten.reading import anywhere
from secateur.importing.placing import Ordinary, Place, Placed
from secateur.network import composites
from secateur.network.graph import Shape
from secateur.network.sizes import is_whole

_SCATTERED = "is supported with whole numbers for neighbouring dimensions only"


def _embedding(call: Call) -> str:
    """A row of a table for each whole number."""
    weight = call.weight("weight", "weight")
    return call.emit("embedding", call.operand(call["indices"], _whole(call, "indices")), weights=weight)


def _bag(call: Call) -> list[Any]:
    """Rows of a table for each image's whole numbers, added up, their mean, or the largest number of each column."""
    held, size = call["indices"], _bag_size(call, call["offsets"])
    index = held.base if isinstance(held, Placed) and held.is_rows(1) else held
    if not isinstance(index, str) or call.size(index) not in ((), (size,)):
        raise call.error("is supported of bags of one size: expected indices (N, L), without offsets")
    if call.get("include_last_offset"):
        raise call.error("with include_last_offset is not supported")
    index = call.operand(composites.reshape(call.build, index, (size,)), _whole(call, "indices"))
    rows = call.emit("embedding", index, weights=call.weight("weight", "weight"))
    if (share := call["per_sample_weights"]) is not None:
        share = share.base if isinstance(share, Placed) else call.value_of(share)
        rows = call.emit("mul", rows, composites.reshape(call.build, share, (size, 1)))
    mode, padding = ("sum", "mean", "amax")[int(call["mode"])], call.get("padding_idx")
    if padding is not None and padding >= 0:
        return [_without(call, rows, index, padding, mode), None, None, None]
    return [call.emit(mode, rows, axes=(1,), keepdims=False), None, None, None]


def _without(call: Call, rows: str, index: str, padding: int, mode: str) -> str:
    """As a bag of those rows whose number is not the padding's; zeros where there is none."""
    number = call.build.number(padding, call.build.element(index))
    hidden = composites.reshape(call.build, call.emit("equal", index, number), (*call.size(index), 1))
    held = call.cast(call.emit("logical_not", hidden), "float32")
    count = call.emit("sum", held, axes=(1,), keepdims=False)
    if mode == "amax":
        most = call.emit("amax", call.emit("where", hidden, -math.inf, rows), axes=(1,), keepdims=False)
        return call.emit("where", call.emit("less", 0.0, count), most, 0.0)
    total = call.emit("sum", call.emit("where", hidden, 0.0, rows), axes=(1,), keepdims=False)
    return total if mode == "sum" else call.emit("div", total, call.emit("maximum", count, 1.0))


def _bag_size(call: Call, starts: Any) -> Any:
    """How many numbers each image's bag has, 0 where that is not one number."""
    images = call.translation.images
    if not isinstance(starts, Constant) or not isinstance(images, int) or not 1 < images == len(starts.tensor):
        return starts.step if isinstance(starts, Starts) else 0
    size = int(starts.tensor[1])
    return size if torch.equal(starts.tensor, size * torch.arange(images, dtype=starts.tensor.dtype)) else 0


def _whole(call: Call, name: str) -> str:
    """The format of an argument that holds whole numbers."""
    dtype = call.arguments[name].meta["val"].dtype
    return "int32" if dtype is torch.int32 else "int64"


def _gather(call: Call) -> str:
    """What stands at the place, along a dimension, that an index of the same rank says."""
    value = call.operand(call["self"], call.element, call.rank)
    axis, index = call.axis(call["dim"], value), call.operand(call["index"], "int64", call.rank)
    wanted = list(call.shape())
    for at, size in enumerate(wanted, 1):
        if at != axis:
            value = composites.cut(call.build, value, at, 0, size) if call.size(value)[at - 1] != 1 else value
    around = (*wanted[: axis - 1], call.size(value)[axis - 1], *wanted[axis:])
    value = composites.broadcast(call.build, value, around)
    return call.emit("gather", value, composites.broadcast(call.build, index, tuple(wanted)), axis=axis)


def _select(call: Call) -> Any:
    if isinstance(call["index"], Shifted) and int(call["dim"]) % call.rank == 0:
        return _among_all(call, call["index"])
    return anywhere(_index_select)(call)


def _index_select(call: Call) -> str:
    value = call.value("self")
    return _looked_up(call, value, call.axis(call["dim"], value), [call["index"]])


def _index(call: Call) -> Any:
    """Numbers of images in front leave each image its own part; what follows is looked up in that."""
    given = list(call["indices"])
    if len(given) == 1 and isinstance(given[0], Shifted):
        return _among_all(call, given[0])
    if _are_numbers(call, given[0]):
        return _own(call, given)
    if isinstance(call["self"], Constant) and len(given) == 1 and isinstance(given[0], str):
        return _rows(call, call["self"], given[0])
    if len(given) == 1 and all(isinstance(each, str) for each in (call["self"], *given)) and _is_truth(call, given[0]):
        return Masked(call["self"], call.arguments["indices"][0], call.arguments["self"].meta["val"])
    inner = call.where_placed()
    held = [place for place, each in enumerate(given) if each is not None]
    if any(isinstance(each, str) for each in given) or held != list(range(held[0], held[-1] + 1)):
        raise call.error(_SCATTERED)
    made = _looked_up(
        inner, inner.value("self"), inner.axis(held[0], inner.value("self")), given[held[0] : held[-1] + 1]
    )
    return Ordinary(made) if isinstance(inner, OrdinaryCall) else made


def _among_all(call: Call, index: Shifted) -> str | Placed:
    """Of rows of all images, (N·m, …), each image's own, at its places plus m times its number."""
    held, places = call["self"], index.base
    rank = call.arguments["self"].meta["val"].ndim
    if not isinstance(held, Placed) or not held.is_rows(rank) or call.size(held.base)[0] != index.step:
        raise call.error("depends on the number of images, which is free")
    base, place = (
        (places.base, places.place) if isinstance(places, Placed) else (places, Place(1 + len(call.size(places))))
    )
    made = _found(call, held.base, 1, call.cast(base, "int64"))
    return call.placed(made, place.wider(rank - 1))


def _rows(call: Call, table: Constant, index: str) -> str:
    """Of a constant what stands at each image's own places along the first dimension."""
    if table.tensor.ndim != 2 or not table.tensor.is_floating_point() or call.build.element(index) == "bool":
        raise call.error(_SCATTERED)
    return call.emit("embedding", index, weights={"weight": call.bits(table, "weight")})


def _are_numbers(call: Call, held: Any) -> bool:
    """Whether an index names each image, in their order."""
    images = call.translation.images
    if isinstance(held, Numbers) or not isinstance(held, Constant) or not isinstance(images, int):
        return isinstance(held, Numbers)
    return images > 1 and torch.equal(held.tensor.reshape(-1), torch.arange(images, dtype=held.tensor.dtype))


def _own(call: Call, given: Sequence[Any]) -> Any:
    """Of each image its own: x[arange(N), i, j]."""
    held = call["self"]
    others = [each for each in given[1:] if each is not None]
    if len(others) < len(given) - 1 or any(isinstance(each, Numbers) for each in others):
        raise call.error(_SCATTERED)
    plain = isinstance(held, (Constant, Ordinary)) and all(isinstance(each, (Constant, Ordinary)) for each in others)
    if plain and not isinstance(held, Constant):
        inner = OrdinaryCall(call.translation, call.node)
        first = composites.select(call.build, inner.value("self"), 1, 0)
        indices = [each.base if isinstance(each, Ordinary) else each for each in others]
        return Ordinary(_shaped(call, inner, _looked_up(inner, first, 1, indices), inner.shape()))
    value = call.value("self")
    if not others:
        return value
    return _shaped(
        call, call, _looked_up(call, value, 1, others, behind=len(call.node.meta["val"].shape)), call.shape()
    )


def _shaped(call: Call, inner: Call, value: str, shape: Shape) -> str:
    return composites.reshape(call.build, value, shape)


def _looked_up(call: Call, value: str, axis: int, indices: Sequence[Any], behind: int | None = None) -> str:
    """Axes from one on, as many as there are indices, replaced by what these say together.

    behind: the rank of what the indices broadcast to with the batch, where they have one.
    """
    count = len(indices)
    shape = call.size(value)
    sizes = shape[axis - 1 : axis - 1 + count]
    if not is_whole(sizes) and count > 1:
        raise call.error("looks up along several lengths that are not known before it runs")
    if any(_is_truth(call, each) for each in indices):
        raise call.error("by truth values is not supported: how many there are is not known before it runs")
    joined = composites.reshape(call.build, value, (*shape[: axis - 1], math.prod(sizes), *shape[axis - 1 + count :]))
    strides = [math.prod(sizes[place + 1 :]) for place in range(count)]
    if all(isinstance(each, Constant) for each in indices):
        return _taken(call, joined, axis, _places(indices, sizes, strides))
    return _found(call, joined, axis, _computed(call, indices, sizes, strides, behind))


def _is_truth(call: Call, held: Any) -> bool:
    if isinstance(held, Constant):
        return held.tensor.dtype in (torch.bool, torch.uint8)
    return call.build.element(held.base if isinstance(held, Ordinary) else held) == "bool"


def _places(indices: Sequence[Constant], sizes: Shape, strides: Sequence[int]) -> np.ndarray[Any, Any]:
    """Constant indices as places along the joined axis."""
    found = [
        torch.where(each.tensor < 0, each.tensor + size, each.tensor) for each, size in zip(indices, sizes, strict=True)
    ]
    return np.asarray(sum(each * stride for each, stride in zip(found, strides, strict=True)))


def _taken(call: Call, value: str, axis: int, places: np.ndarray[Any, Any]) -> str:
    shape = call.size(value)
    made = composites.take(call.build, value, axis, places.reshape(-1))
    return composites.reshape(call.build, made, (*shape[: axis - 1], *places.shape, *shape[axis:]))


def _computed(call: Call, indices: Sequence[Any], sizes: Shape, strides: Sequence[int], behind: int | None) -> str:
    """As _places, of indices that are values."""
    places = ""
    for held, size, stride in zip(indices, sizes, strides, strict=True):
        index = call.operand(held, "int64", behind)
        beyond = call.emit("less", index, call.build.number(0, "int64"))
        index = call.emit("where", beyond, call.emit("add", index, _size(call, size)), index)
        index = index if stride == 1 else call.emit("mul", index, call.build.number(stride, "int64"))
        places = call.emit("add", places, index) if places else index
    return places


def _size(call: Call, size: Any) -> str:
    return call.operand(size, "int64")


def _found(call: Call, value: str, axis: int, index: str) -> str:
    """What stands at computed places along an axis: that of the index in its stead."""
    shape, own = call.size(value), call.size(index)
    count = math.prod(own)
    flat = composites.reshape(call.build, index, (*(1,) * (axis - 1), count, *(1,) * (len(shape) - axis)))
    wide = composites.broadcast(call.build, flat, (*shape[: axis - 1], count, *shape[axis:]))
    made = call.emit("gather", value, wide, axis=axis)
    return composites.reshape(call.build, made, (*shape[: axis - 1], *own, *shape[axis:]))


CONVERSIONS: dict[str, Conversion] = {
    "embedding": anywhere(_embedding, lambda call: 1),
    **dict.fromkeys(("embedding_bag", "_embedding_bag", "_embedding_bag_forward_only"), _bag),
    "gather": anywhere(_gather),
    "index_select": _select,
    "index": _index,
}
