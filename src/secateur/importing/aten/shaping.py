"""Numbers that stay what they are: in other shapes, orders and parts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch

from secateur.importing.aten.calls import Call, Conversion, OrdinaryCall, PlacedCall
from secateur.importing.aten.held import Batch, Constant
from secateur.importing.aten.reading import anywhere, numbers, planes, removed
from secateur.importing.aten.wholes import element_of
from secateur.importing.placing import Ordinary, Place, Placed, permuted, reshaped
from secateur.network import composites
from secateur.network.building import Builder
from secateur.network.composites import Padded
from secateur.network.graph import Shape
from secateur.network.sizes import Dimension, Size, is_whole


def _reshape(call: Call) -> str | Placed | Ordinary:
    if isinstance(call.first, Ordinary):
        inner = call.where_placed()
        return Ordinary(composites.reshape(call.build, inner.first, inner.shape()))
    value, place = call.anywhere()
    old, new = (call.translation.extents(each.meta["val"]) for each in (call.node.all_input_nodes[0], call.node))
    found = reshaped(place, old, new)
    if found is None:
        raise call.mixed()
    return call.placed(composites.reshape(call.build, value, call.shape_at(found)), found)


def _rearranged(call: Call, dims: Sequence[int]) -> str | Placed | Ordinary:
    """The first argument with its dimensions in another order."""
    if isinstance(call.first, Ordinary):
        return Ordinary(composites.permute(call.build, call.first.base, tuple(dim + 1 for dim in dims)))
    value, place = call.anywhere()
    found, axes = permuted(place, dims)
    return call.placed(composites.permute(call.build, value, axes), found)


def _permute(call: Call) -> str | Placed | Ordinary:
    return _rearranged(call, [int(dim) % call.rank for dim in call["dims"]])


def _transpose(call: Call) -> str | Placed | Ordinary:
    dims = list(range(call.rank))
    first, second = (int(call[name]) % call.rank for name in ("dim0", "dim1"))
    dims[first], dims[second] = second, first
    return _rearranged(call, dims)


def _by_factor(composite: Callable[[Builder, str, int], str], factor: str) -> Conversion:
    """factor: the argument that says how far."""
    return lambda call: composite(call.build, call.value("self"), int(call[factor]))


def _joined(call: Call) -> Any:
    """Batches one under the other are parts of each image's own, one behind the other."""
    tensors = call["tensors"]
    held = [each.base if isinstance(each, Placed) else each for each in tensors]
    under = Place(call.rank, "inner")
    whole = all(isinstance(each, str) or (isinstance(each, Placed) and each.place == under) for each in tensors)
    if int(call["dim"]) % call.rank != 0 or not whole or len(tensors) < 2:
        return anywhere(_concat)(call)
    parts = [
        value if isinstance(each, Placed) else composites.reshape(call.build, value, (1, *call.size(value)))
        for each, value in zip(tensors, (call.cast(each, call.element) for each in held), strict=True)
    ]
    return call.placed(call.emit("concat", *parts, axis=1), under)


def _apart(call: Call) -> Any:
    """Parts of batches that stand one under the other, else parts along another dimension."""
    held = call.first
    if not _is_along_batches(call, held):
        return anywhere(_split)(call)
    start, made = 0, []
    for each in call.node.meta["val"]:
        share = call.translation.extents(each)[0].share
        if not isinstance(share, int) or share < 1:
            raise call.mixed(each)
        made.append(_batches(call, held, start, start + share))
        start += share
    return made


def _is_along_batches(call: Call, held: Any) -> bool:
    """Whether it is about the first dimension, in which batches stand one under the other."""
    if not isinstance(held, Placed) or held.place.fold != "inner":
        return False
    rank = held.place.rank(call.size(held.base))
    return held.place.axis(rank) == 0 == int(call["dim"]) % rank


def _batches(call: Call, held: Placed, start: int, stop: int) -> str | Placed:
    """Some of the batches that stand one under the other: one alone is what each image is."""
    part = composites.cut(call.build, held.base, 1, start, stop)
    if stop - start > 1:
        return Placed(part, held.place)
    return call.placed(composites.select(call.build, part, 1, 0), Place(held.place.right))


def _concat(call: Call) -> str:
    """One after another along a dimension; PyTorch joins tensor([]), as caches begin with, to values of any rank."""
    traced = [each.meta["val"].shape for each in call.arguments["tensors"]]
    held = [each for each, shape in zip(call["tensors"], traced, strict=True) if call.rank == 1 or tuple(shape) != (0,)]
    values = [call.operand(each, call.element, call.rank) for each in held]
    if len(values) == 1:
        return values[0]
    return call.emit("concat", *values, axis=call.axis(call["dim"], values[0]))


def _stack(call: Call) -> str | Placed | Ordinary:
    inner, dim = call.where_placed(), int(call["dim"]) % call.rank
    if isinstance(inner, OrdinaryCall):
        tensors = [inner.operand(each, call.element) for each in inner["tensors"]]
        return Ordinary(composites.stack(call.build, tensors, dim + 1))
    place = inner.place if isinstance(inner, PlacedCall) else Place(call.rank - 1)
    after = place.wider(int(dim > place.axis(call.rank - 1)))
    values = [inner.operand(each, call.element, call.rank - 1) for each in inner["tensors"]]
    return call.placed(composites.stack(call.build, values, after.axis_of(dim, call.rank)), after)


def _split(call: Call) -> list[str]:
    value = call.value("self")
    axis = call.axis(call["dim"], value)
    sizes = [call.shape(each)[axis - 1] for each in call.node.meta["val"]]
    return composites.split(call.build, value, axis, sizes)


def _unbind(call: Call) -> list[str]:
    value = call.value("self")
    return composites.unbind(call.build, value, call.axis(call["dim"], value))


def _slice(call: Call) -> str:
    call.shape()  # raises where the batch decides about a bound
    value = call.value("self")
    length, axis = call.size(value), call.own_axis(call.dim(call["dim"], value), value)
    step = call["step"]
    if axis == 0:
        return value  # of the batch, only all can be taken: its shape was looked at
    size = length[axis - 1]
    start, stop = _bound(call["start"], 0, size), _bound(call["end"], size, size)
    cut = composites.cut(call.build, value, axis, start, max(start, stop) if is_whole((start, stop)) else stop)
    return composites.every(call.build, cut, axis, step)


def _cut(call: Call) -> Any:
    """Batches of those that stand one under the other, else a part along another dimension."""
    held = call.first
    if not _is_along_batches(call, held) or call["step"] != 1:
        return anywhere(_slice)(call)
    begin, share = call["start"], call.translation.extents(call.node.meta["val"])[0].share
    start = begin.share if isinstance(begin, Batch) else begin or 0
    if not is_whole((start, share)) or share < 1 or (start > 0 and not isinstance(begin, Batch)):
        raise call.mixed()
    return _batches(call, held, int(start), int(start + share))


def _bound(given: Any, default: Dimension, size: Dimension) -> Dimension:
    """A bound of a slice of a dimension, from the front; what it comes to is compared with PyTorch's result."""
    if given is None or isinstance(given, Size):
        return default if given is None else given
    if isinstance(size, Size):
        return size if given == sys.maxsize else given + (size if given < 0 else 0)
    return slice(given, None).indices(size)[0]


def _select(call: Call) -> str:
    value = call.value("self")
    axis = call.axis(call["dim"], value)
    index = call["index"] + (call.size(value)[axis - 1] if int(call["index"]) < 0 else 0)
    return composites.select(call.build, value, axis, index)


def _diagonal(call: Call) -> str:
    """Of two dimensions what lies on their diagonal, or some places above it, as the last dimension."""
    value = call.value("self")
    axes = [call.axis(call[name], value) for name in ("dim1", "dim2")]
    others = [axis for axis in range(1, 1 + len(call.size(value))) if axis not in axes]
    turned = composites.permute(call.build, value, (*others, *axes))
    *around, rows, columns = call.size(turned)
    if not is_whole((rows, columns)):
        raise call.error(f"is not supported of lengths ({rows}, {columns})")
    offset = int(call["offset"])
    places = [row * columns + row + offset for row in range(rows) if 0 <= row + offset < columns]
    flat = composites.reshape(call.build, turned, (*around, rows * columns))
    return composites.take(call.build, flat, len(around) + 1, places)


def _is_behind(call: PlacedCall, name: str) -> bool:
    """Whether a dimension that an argument names is behind the batch."""
    value = call.value_of(call.first)
    return call.dim(call[name], value) > call.place.axis(call.dims(value))


def _pad(call: Call) -> str | Padded:
    """Zeros around space, for the convolution that follows to take in; all else is laid out."""
    pads = [int(each) for each in call["pad"]]
    pairs = list(zip(pads[::2], pads[1::2], strict=True))
    mode = str(call.get("mode", "constant"))
    held = planes(call, call.schema[0].name)
    base, _ = composites.apart_from_zeros(call.build, held)
    for dim, pair in enumerate(pairs, 1):
        if any(pair):
            call.axis(-dim, base)  # raises where it is the batch
    if mode == "constant":
        made = composites.pad(call.build, held, pairs, float(call["value"] or 0))
        return made if type(call) is Call else composites.laid_out(call.build, made)
    return _PADS[mode](call.build, composites.laid_out(call.build, held), pairs)


_PADS = {
    "reflect": composites.reflection_pad,
    "replicate": composites.replication_pad,
    "circular": composites.circular_pad,
}


def _pad_by(pad: Callable[..., str], argument: str = "padding") -> Conversion:
    def convert(call: Call) -> str:
        pads = [int(each) for each in call[argument]]
        value = call.value("self")
        for dim in range(1, len(pads) // 2 + 1):
            call.axis(-dim, value)  # raises where it is the batch
        return pad(call.build, value, list(zip(pads[::2], pads[1::2], strict=True)))

    return convert


def _roll(call: Call) -> str:
    value, shifts = call.value("self"), call["shifts"]
    if not call["dims"]:
        raise call.error("is supported along dimensions only")
    return composites.roll(call.build, value, list(shifts), [call.axis(dim, value) for dim in call["dims"]])


def _flip(call: Call) -> str:
    value = call.value("self")
    return composites.flip(call.build, value, [call.axis(dim, value) for dim in call["dims"]])


def _repeat(call: Call) -> str | Placed | Ordinary:
    if isinstance(call.first, Ordinary):
        return Ordinary(composites.repeat(call.build, call.first.base, list(call["repeats"])))
    if any(not isinstance(each, int) for each in call["repeats"]):
        raise call.error("repeats as often as a length says, which is free: expected expand, or a number")
    (value, place), times = call.anywhere(), list(call["repeats"])
    axis = place.axis(len(times))
    if times[axis] != 1 and place.fold != "inner":
        value, place = _in_parts(call, value, place, "inner"), Place(place.right, "inner")
    own = times if place.fold else times[:axis] + times[axis + 1 :]
    return call.placed(composites.repeat(call.build, value, own), place)


def _in_parts(call: Call, value: str, place: Place, fold: str) -> str:
    """Of each image a part, one so far, in the dimension of the batch."""
    if place.fold == fold:
        return value
    if place.fold:
        raise call.error("mixes the batch with other dimensions: it repeats images between their parts")
    shape = call.size(value)
    at = len(shape) + 1 - place.right
    return composites.reshape(call.build, value, (*shape[:at], 1, *shape[at:]))


def _repeat_each(call: Call) -> str | Placed | Ordinary:
    """Repeated images are parts of each, side by side."""
    dim, times = call["dim"], call["repeats"]
    if dim is None or not isinstance(times, (int, Constant)):
        raise call.error("is supported along a dimension, as often as constant numbers say, only")
    if isinstance(call.first, (str, Placed)) and isinstance(times, int):
        value, place = call.anywhere()
        if int(dim) % call.rank == place.axis(call.rank):
            parts = _in_parts(call, value, place, "outer")
            made = composites.repeat_each(call.build, parts, place.axis(call.rank) + 1, times)
            return call.placed(made, Place(place.right, "outer"))
    found: str | Placed | Ordinary = anywhere(_repeat_along)(call)
    return found


def _repeat_along(call: Call) -> str:
    value, times = call.value("self"), call["repeats"]
    axis = call.axis(call["dim"], value)
    if isinstance(times, int):
        return composites.repeat_each(call.build, value, axis, times)
    places = torch.arange(call.size(value)[axis - 1]).repeat_interleave(times.tensor)
    return composites.take(call.build, value, axis, places.tolist())


def _unfold(call: Call) -> str:
    """Windows along a dimension, what each holds in a new last dimension."""
    value = call.value("self")
    axis = call.axis(call["dimension"], value)
    return composites.unfold(call.build, value, axis, int(call["size"]), int(call["step"]))


def _im2col(call: Call) -> str:
    names = {"kernel_size": "kernel", "stride": "stride", "dilation": "dilation"}
    window = {role: numbers(call[name], 2) for name, role in names.items()}
    value = _of_images(call, 3)
    return composites.im2col(call.build, value, padding=_around(call), **window)


def _col2im(call: Call) -> str:
    names = {"kernel_size": "kernel", "stride": "stride", "dilation": "dilation", "output_size": "size"}
    window = {role: numbers(call[name], 2) for name, role in names.items()}
    return composites.fold(call.build, _of_images(call, 2), padding=_around(call), **window)


def _around(call: Call) -> Shape:
    return tuple(each for each in numbers(call["padding"], 2) for _ in range(2))


def _of_images(call: Call, rank: int) -> str:
    value = call.value("self")
    if len(call.size(value)) != rank:
        raise call.error("is supported with the batch in front, alone")
    return value


def _expand(call: Call) -> str | Placed | Ordinary:
    if isinstance(call.first, Ordinary):
        inner = call.where_placed()
        return Ordinary(composites.broadcast(call.build, inner.value("self"), inner.shape()))
    value, place = call.anywhere()
    return call.placed(composites.broadcast(call.build, value, call.shape_at(place)), place)


def _scatter(call: Call) -> str:
    """Every step-th place of a dimension from a start on replaced by another value."""
    value, source = (call.value_of(call[name], call.rank) for name in ("self", "src"))
    if call.own_axis(call.dim(call["dim"], value), value) == 0 and call["end"] in (None, sys.maxsize):
        return composites.broadcast(call.build, source, call.size(value))  # of all images, as it is of each
    axis = call.axis(call["dim"], value)
    size = call.size(value)[axis - 1]
    start, stop = _bound(call["start"], 0, size), _bound(call["end"], size, size)
    return composites.put(call.build, value, source, axis, start, stop, int(call["step"]))


def _select_scatter(call: Call) -> str:
    value = call.value_of(call["self"], call.rank)
    axis = call.axis(call["dim"], value)
    shape = call.size(value)
    index = int(call["index"]) % shape[axis - 1]
    source = call.value_of(call["src"], call.rank - 1)
    source = composites.reshape(call.build, source, (*shape[: axis - 1], 1, *shape[axis:]))
    return composites.put(call.build, value, source, axis, index, index + 1, 1)


def _copy(call: Call) -> str | Placed | Ordinary:
    """The second argument in the shape of the first."""
    inner = call.where_placed()
    value = inner.value_of(inner["src"], call.rank)
    made = composites.broadcast(call.build, value, inner.shape())
    if isinstance(inner, OrdinaryCall):
        return Ordinary(made)
    return call.placed(made, inner.place) if isinstance(inner, PlacedCall) else made


def _identity(call: Call) -> Any:
    return call.first


def _dropout(call: Call) -> Any:
    if call.get("train"):
        raise call.error("is random in eval mode too; give it training=self.training")
    return call.first


def _to(call: Call) -> Any:
    """Floating-point numbers of another precision stay what they are."""
    source = call.node.all_input_nodes[0].meta["val"]
    if element_of(source.dtype) == call.element:
        return call.first
    return anywhere(lambda inner: inner.operand(inner.first, inner.element))(call)


CONVERSIONS: dict[str, Conversion] = {
    **dict.fromkeys(
        ("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "reshape_as"),
        _reshape,
    ),
    "permute": _permute,
    "transpose": _transpose,
    "channel_shuffle": _by_factor(composites.channel_shuffle, "groups"),
    "native_channel_shuffle": _by_factor(composites.channel_shuffle, "groups"),
    "pixel_shuffle": _by_factor(composites.pixel_shuffle, "upscale_factor"),
    "pixel_unshuffle": _by_factor(composites.pixel_unshuffle, "downscale_factor"),
    "cat": _joined,
    "stack": _stack,
    **dict.fromkeys(("split", "split_with_sizes", "chunk", "tensor_split"), _apart),
    "unbind": anywhere(_unbind, removed),
    "slice": _cut,
    "select": anywhere(_select, removed),
    "diagonal": anywhere(_diagonal, lambda call: 1 - sum(_is_behind(call, name) for name in ("dim1", "dim2"))),
    "pad": anywhere(_pad),
    "constant_pad_nd": anywhere(_pad),
    **{f"reflection_pad{rank}d": anywhere(_pad_by(composites.reflection_pad)) for rank in (1, 2, 3)},
    **{f"replication_pad{rank}d": anywhere(_pad_by(composites.replication_pad)) for rank in (1, 2, 3)},
    "roll": anywhere(_roll),
    "flip": anywhere(_flip),
    "repeat_interleave": _repeat_each,
    "unfold": anywhere(_unfold, lambda call: 1),
    "im2col": _im2col,
    "col2im": _col2im,
    **dict.fromkeys(("expand", "expand_as"), _expand),
    "repeat": _repeat,
    "slice_scatter": anywhere(_scatter),
    "select_scatter": anywhere(_select_scatter),
    "copy": _copy,
    **dict.fromkeys(("clone", "contiguous", "alias", "detach", "lift_fresh_copy"), _identity),
    **dict.fromkeys(("dropout", "native_dropout", "feature_dropout", "alpha_dropout"), _dropout),
    **dict.fromkeys(("to", "_to_copy", "type_as"), _to),
}
