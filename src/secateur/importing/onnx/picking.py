"""Numbers picked by their places: lookups, gathering, scattering, one-hot vectors, triangles."""

from __future__ import annotations

from typing import Any

import numpy as np

from secateur.importing.onnx.aligning import together, without_batch
from secateur.importing.onnx.calls import ACROSS, MIXED, Call, Conversion, Made, Refused, product
from secateur.importing.onnx.numbering import own_part, own_rows
from secateur.importing.onnx.reducing import without
from secateur.importing.onnx.shaping import expanded_to
from secateur.importing.onnx.tensors import Constant
from secateur.importing.onnx.values import Tensor
from secateur.importing.placing import Place
from secateur.network import composites
from secateur.network.graph import Shape
from secateur.network.sizes import is_whole


def _gather(call: Call) -> Made:
    data, indices = call.held[0], call.held[1]
    if isinstance(indices, Constant):
        return _known(call, call.tensor(0), call.numbers(1, "indices"))
    if isinstance(data, Constant) and data.array.dtype != object:
        return _looked_up(call, data, call.tensor(1))
    own = own_part(call, call.tensor(0), call.tensor(1))
    return _by_values(call, call.tensor(0), call.tensor(1)) if own is None else own


def _known(call: Call, tensor: Tensor, indices: Any) -> Tensor:
    dim = call.dim(call.attribute("axis", 0), tensor.rank)
    axis = call.axis(dim, tensor)
    size = call.own(tensor)[axis - 1]
    if indices.ndim == 0:
        index = int(indices)
        made = composites.select(call.build, tensor.base, axis, index + size if index < 0 else index)
        return call.made(made, without(tensor, [dim]), tensor.format)
    flat = indices.reshape(-1)
    if not is_whole(size) and (flat < 0).any():
        raise Refused(f"counts from the end of a size ({size}) which is free: give it one with --shape")
    places = np.where(flat < 0, flat + (size if is_whole(size) else 0), flat)
    made = composites.take(call.build, tensor.base, axis, places)
    own = call.own(tensor)
    made = composites.reshape(call.build, made, (*own[: axis - 1], *indices.shape, *own[axis:]))
    more = (indices.ndim - 1) * (dim > tensor.batch_axis)
    return call.made(made, tensor.place and tensor.place.wider(more), tensor.format)


def _looked_up(call: Call, data: Constant, indices: Tensor) -> Tensor:
    """Rows of a table, along whatever dimension they are."""
    dim = call.dim(call.attribute("axis", 0), len(data.shape))
    if data.array.dtype.kind not in "f" and data.format != "bfloat16":
        return _of_whole_table(call, data, indices, dim)
    weight = call.weight_of(data)
    before, behind = data.shape[:dim], data.shape[dim + 1 :]
    width = product(before) * product(behind)
    if dim:
        order = (dim, *(each for each in range(len(data.shape)) if each != dim))
        weight = call.build.variant(weight, ("table", dim), lambda bits: np.ascontiguousarray(bits.transpose(order)))
    table = call.build.reshaped(weight, (data.shape[dim], width))
    made = call.emit("embedding", indices.base, weights={"weight": table})
    own = call.own(indices)
    made = composites.reshape(call.build, made, (*own, *before, *behind))
    if before:
        axes = (*range(len(own) + 1, len(own) + 1 + len(before)), *range(1, len(own) + 1))
        rest = range(len(own) + 1 + len(before), len(own) + 1 + len(before) + len(behind))
        made = composites.permute(call.build, made, (*axes, *rest))
    return call.made(made, indices.place and indices.place.wider(len(behind)), data.format)


def _of_whole_table(call: Call, data: Constant, indices: Tensor, dim: int) -> Tensor:
    """Of whole numbers or truth values, which are floats on the way."""
    if data.array.size and np.abs(data.array.astype(np.int64)).max() > 1 << 24:
        raise Refused("looks up whole numbers beyond 2²⁴")
    floats = Constant(data.array.astype(np.float32), "float32")
    made = _looked_up(call, floats, indices)
    element = call.build.element(call.as_tensor(data).base)
    return call.made(call.emit("cast", made.base, element=element), made.place, data.format)


def _by_values(call: Call, data: Tensor, indices: Tensor) -> Tensor:
    """Both decided by inputs: along the first axis, each index for all numbers behind it."""
    dim = call.dim(call.attribute("axis", 0), data.rank)
    axis = call.axis(dim, data)
    own, shape = call.own(data), call.own(indices)
    count = product(shape)
    order = (axis, *(each for each in range(1, len(own) + 1) if each != axis))
    rest = [own[each - 1] for each in order[1:]]
    rows = composites.reshape(
        call.build, composites.permute(call.build, data.base, order), (own[axis - 1], product(rest))
    )
    flat = composites.reshape(call.build, indices.base, (count, 1))
    flat = composites.broadcast(call.build, flat, (count, product(rest)))
    made = composites.reshape(call.build, call.emit("gather", rows, flat, axis=1), (*shape, *rest))
    front = len(shape)
    axes = (*range(front + 1, front + axis), *range(1, front + 1), *range(front + axis, front + len(rest) + 1))
    made = composites.permute(call.build, made, axes)
    return call.made(made, _place_of_both(data, indices, dim), data.format)


def _place_of_both(data: Tensor, indices: Tensor, dim: int) -> Place | None:
    if data.place is not None and indices.place is not None:
        raise Refused(f"{MIXED}: it picks values of each image by those of each")
    if indices.place is not None:
        return indices.place.wider(data.rank - 1 - dim)
    return data.place and data.place.wider((indices.rank - 1) * (dim > data.batch_axis))


def _gather_elements(call: Call) -> Made:
    tensor = call.tensor(0)
    axis = call.axis(call.attribute("axis", 0), tensor)
    held = call.held[1]
    assert held is not None
    pair = together(call, [tensor, held])
    data, indices = pair.values
    shape = call.build.shape(indices)
    for at, (have, want) in enumerate(zip(call.build.shape(data), shape, strict=True), 1):
        if at != axis and have != want:
            data = composites.cut(call.build, data, at, 0, want)
    size = call.build.shape(data)[axis - 1]
    indices = _from_front(call, indices, size, held)
    return call.made(call.emit("gather", data, indices, axis=axis), pair.place, tensor.format)


def _from_front(call: Call, indices: str, size: Any, held: object) -> str:
    if isinstance(held, Constant) and held.array.size and (held.array >= 0).all():
        return indices
    element = call.build.element(indices)
    below = call.emit("less", indices, call.build.number(0, element))
    risen = call.emit("add", indices, call.build.number(int(size), element)) if is_whole(size) else indices
    return call.emit("where", below, risen, indices)


def _gather_nd(call: Call) -> Made:
    """By known places: the dimensions that they are of as one; or by the image's number and known ones."""
    tensor, given = call.tensor(0), call.held[1]
    by_number = own_rows(call, tensor, given) if isinstance(given, Tensor) and not call.flag("batch_dims") else None
    if by_number is not None:
        return by_number
    indices = call.numbers(1, "indices")
    if int(call.attribute("batch_dims", 0)):
        raise Refused("with batch_dims is not supported")
    depth = indices.shape[-1]
    dims = [call.axis(dim, tensor) for dim in range(depth)]
    own = call.own(tensor)
    sizes = own[: len(dims)]
    if dims != list(range(1, depth + 1)) or not is_whole(sizes):
        raise Refused(ACROSS)
    wrapped = np.where(indices < 0, indices + np.array(sizes), indices)
    places = np.ravel_multi_index(tuple(np.moveaxis(wrapped, -1, 0)), sizes)
    rows = composites.reshape(call.build, tensor.base, (product(sizes), *own[depth:]))
    made = composites.take(call.build, rows, 1, places.reshape(-1))
    return call.made(composites.reshape(call.build, made, (*places.shape, *own[depth:])), tensor.place, tensor.format)


def _scatter_elements(call: Call) -> Made:
    tensor, indices = call.tensor(0), call.numbers(1, "indices")
    dim = call.dim(call.attribute("axis", 0), tensor.rank)
    at = np.indices(indices.shape)
    size = tensor.shape[dim]
    at[dim] = np.where(indices < 0, indices + (size if is_whole(size) else 0), indices)
    return _scattered(call, tensor, np.moveaxis(at, 0, -1).reshape(-1, indices.ndim), tensor.rank)


def _scatter_nd(call: Call) -> Made:
    tensor, indices = call.tensor(0), call.numbers(1, "indices")
    depth = indices.shape[-1]
    sizes = tensor.shape[:depth]
    if not is_whole(sizes):
        raise Refused("writes along a size which is free: give it one with --shape")
    at = np.where(indices < 0, indices + np.array(sizes), indices).reshape(-1, depth)
    return _scattered(call, tensor, at, depth)


def _scattered(call: Call, tensor: Tensor, at: Any, depth: int) -> Tensor:
    """The value with others at known places (n, depth) of its first dimensions: all flat, one behind the other."""
    reduction = str(call.attribute("reduction", "none"))
    if reduction not in ("none", *_COMBINED):
        raise Refused(f"combines what it writes by {reduction!r}, which is not supported")
    sizes = tensor.shape[:depth]
    if tensor.place is not None or not is_whole(tensor.shape):
        return _scattered_of_images(call, tensor, at, depth)
    count = product(sizes)
    rest = tensor.shape[depth:]
    flat = np.ravel_multi_index(tuple(at.T), sizes) if depth else np.zeros(len(at), np.int64)
    update = call.held[2]
    assert update is not None
    values = composites.reshape(call.build, without_batch(call, update, None), (len(flat), *rest))
    rows = composites.reshape(call.build, tensor.base, (count, *rest))
    made = _replaced(call, rows, values, flat) if reduction == "none" else _combined(call, rows, values, flat)
    return call.made(composites.reshape(call.build, made, tensor.shape), None, tensor.format)


def _replaced(call: Call, rows: str, values: str, flat: Any) -> str:
    count = call.build.shape(rows)[0]
    places = np.arange(count)
    places[flat] = count + np.arange(len(flat))
    return composites.take(call.build, call.emit("concat", rows, values, axis=1), 1, places)


_COMBINED = {"add": ("add", 0.0), "mul": ("mul", 1.0), "max": ("maximum", -np.inf), "min": ("minimum", np.inf)}
"""What combines two numbers, and the number that changes none."""
_MOST_WRITTEN = 1 << 6
"""Times that one place may be written to where what is written is combined."""


def _combined(call: Call, rows: str, values: str, flat: Any) -> str:
    """Rows with values that are written to them, once to each in a turn: to others what changes nothing."""
    op, idle = _COMBINED[str(call.attribute("reduction"))]
    element, (count, *rest) = call.build.element(values), call.build.shape(rows)
    if element != "float32" and not np.isfinite(idle):
        idle = float(np.iinfo(element).min if idle < 0 else np.iinfo(element).max)
    order = np.argsort(flat, kind="stable")
    turns = np.arange(len(flat)) - np.searchsorted(flat[order], flat[order])
    if turns.max(initial=0) >= _MOST_WRITTEN:
        raise Refused(f"writes to one place {turns.max() + 1} times: expected {_MOST_WRITTEN} at most")
    nothing = composites.broadcast(call.build, call.build.value(call.build.number(idle, element)), (1, *rest))
    both = call.emit("concat", values, nothing, axis=1)
    for turn in range(turns.max(initial=-1) + 1):
        places = np.full(count, len(flat))
        places[flat[order[turns == turn]]] = order[turns == turn]
        rows = call.emit(op, rows, composites.take(call.build, both, 1, places))
    return rows


def _scattered_of_images(call: Call, tensor: Tensor, at: Any, depth: int) -> Tensor:
    """Where each image is written to alike: places that name all of the batch, once each."""
    raise Refused("writes to places of images, which is not supported")


def _one_hot(call: Call) -> Made:
    indices, depth = call.tensor(0), int(call.number(1, "a depth"))
    off, on = (call.numbers(2, "its values").reshape(-1)[at] for at in (0, 1))
    format = call.constant(2, "its values").format
    rank = indices.rank + 1
    dim = call.dim(call.attribute("axis", -1), rank)
    at = indices.batch_axis
    place = indices.place and Place(rank - at - (dim <= at), indices.place.fold)
    base = indices.base
    if call.build.element(base) not in ("int32", "int64"):
        base = call.emit("cast", base, element="int64")
    element = call.build.element(base)
    base = _from_front(call, base, depth, call.held[0])
    own = call.build.shape(base)
    axis = dim + 1 if place is None or place.fold or dim < place.axis(rank) else dim
    apart = composites.reshape(call.build, base, (*own[: axis - 1], 1, *own[axis - 1 :]))
    count = Constant(np.arange(depth).reshape(depth, *(1,) * (len(own) - axis + 1)).astype(element), element)
    truth = call.emit("equal", apart, call.weight_of(count))
    values = [call.as_tensor(Constant(np.array(each), format)).base for each in (on, off)]
    return call.made(call.emit("where", truth, *values), place, format)


def _trilu(call: Call) -> Made:
    tensor, upper = call.tensor(0), call.flag("upper", 1)
    offset = int(call.number(1, "an offset", 0))
    if 0 <= tensor.batch_axis >= tensor.rank - 2:
        raise Refused(ACROSS)
    rows, columns = call.own(tensor)[-2:]
    if not is_whole((rows, columns)):
        raise Refused(f"keeps a triangle of sizes ({rows}, {columns}) which are free: give them with --shape")
    kept = np.tri(int(rows), int(columns), offset - 1 if upper else offset, dtype=bool)
    mask = call.weight_of(Constant(~kept if upper else kept, "bool"))
    if call.build.element(tensor.base) == "bool":
        return call.like(tensor, call.emit("logical_and", tensor.base, mask))
    zero = call.build.number(0, call.build.element(tensor.base))
    return call.like(tensor, call.emit("where", mask, tensor.base, zero))


def _reverse_sequence(call: Call) -> Made:
    """Of known lengths."""
    tensor, lengths = call.tensor(0), call.numbers(1, "lengths")
    batch, time = int(call.attribute("batch_axis", 1)), int(call.attribute("time_axis", 0))
    if tensor.place is not None or not is_whole(tensor.shape):
        raise Refused(ACROSS)
    parts = []
    for at, length in enumerate(lengths.tolist()):
        part = composites.cut(call.build, tensor.base, batch + 1, at, at + 1)
        order = [*range(length - 1, -1, -1), *range(length, int(tensor.shape[time]))]
        parts.append(composites.take(call.build, part, time + 1, order))
    made = parts[0] if len(parts) == 1 else call.emit("concat", *parts, axis=batch + 1)
    return call.like(tensor, made)


def _eye_like(call: Call) -> Made:
    from secateur.importing.onnx.tensors import format_of

    tensor = call.tensor(0)
    kind = call.attribute("dtype")
    format = tensor.format if kind is None else format_of(int(kind), "what it makes")
    if not is_whole(tensor.shape):
        raise Refused("is of sizes which are free: give them with --shape")
    rows, columns = (int(each) for each in tensor.shape)
    made = np.eye(rows, columns, int(call.attribute("k", 0)), dtype=np.dtype(format))
    return Constant(made, format)


def masked(call: Call, tensor: Tensor, shape: Shape) -> Tensor:
    return expanded_to(call, tensor, shape)


CONVERSIONS: dict[str, Conversion] = {
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "ScatterElements": _scatter_elements,
    "Scatter": _scatter_elements,
    "ScatterND": _scatter_nd,
    "OneHot": _one_hot,
    "Trilu": _trilu,
    "ReverseSequence": _reverse_sequence,
    "EyeLike": _eye_like,
}
