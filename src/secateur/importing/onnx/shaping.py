"""Numbers that stay what they are: in other shapes, orders and parts; and shapes as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from secateur.importing.onnx.aligning import together
from secateur.importing.onnx.calls import ACROSS, MIXED, Call, Conversion, Made, Refused, plain, product
from secateur.importing.onnx.folding import of_sizes
from secateur.importing.onnx.numbering import numbered
from secateur.importing.onnx.reducing import without
from secateur.importing.onnx.tensors import Constant, constant_of
from secateur.importing.onnx.values import FREE, Held, Tensor, extents_of
from secateur.importing.placing import Place, permuted, reshaped
from secateur.network import composites
from secateur.network.composites import Padded
from secateur.network.graph import Shape
from secateur.network.sizes import BATCH, Dimension, Size, is_whole, names_of, quotient

_MOST_TIMES = 1 << 12
"""Of what is put behind itself, each time by an operand of its own."""
_MOST_PADDING = 1 << 16
_FAR = 10**8
"""A bound of a slice from here on is the end."""


def _reshape(call: Call) -> Made:
    tensor = call.tensor(0)
    wanted = call.sizes("shape", 1) or []
    return to_shape(call, tensor, _target(call, tensor, wanted))


def _target(call: Call, tensor: Tensor, wanted: Sequence[Any]) -> Shape:
    """A shape whose 0 is the input's own size, and whose -1 is what is left."""
    copied = not call.flag("allowzero")
    if copied and any(size == 0 and at >= tensor.rank for at, size in enumerate(wanted)):
        raise Refused(f"takes the size of a dimension that a shape of {tensor.rank} has not")
    sizes = [tensor.shape[at] if copied and _is(size, 0) else size for at, size in enumerate(wanted)]
    if sum(_is(size, -1) for size in sizes) > 1:
        raise Refused("leaves more than one size open")
    others = product([size for size in sizes if not _is(size, -1)])
    total = product(tensor.shape)
    return tuple(_left(total, others) if _is(size, -1) else size for size in sizes)


def _is(size: Any, number: int) -> bool:
    return not isinstance(size, Size) and size == number


def _left(total: Dimension, others: Dimension) -> Dimension:
    if isinstance(total, Size) or isinstance(others, Size):
        return quotient(total, others, exact=True)
    if others == 0 or total % others:
        raise Refused(f"puts {total} numbers into rows of {others}")
    return total // others


def to_shape(call: Call, tensor: Tensor, shape: Shape) -> Tensor:
    """The same numbers in another shape."""
    if tensor.place is None:
        return call.made(composites.reshape(call.build, tensor.base, shape), None, tensor.format)
    assert call.images is not None
    new = extents_of(shape, call.images)
    place = reshaped(tensor.place, extents_of(tensor.shape, call.images), new)
    own = None if place is None else place.own(new)
    if place is None or own is None or any(size is None for size in own):
        raise Refused(f"{MIXED}: it makes {_written(shape)} of {_written(tensor.shape)}")
    return call.made(composites.reshape(call.build, tensor.base, own), place, tensor.format)


def _written(shape: Shape) -> str:
    return f"({', '.join(map(str, shape))})"


def _flatten(call: Call) -> Made:
    tensor = call.tensor(0)
    axis = int(call.attribute("axis", 1))
    axis += tensor.rank if axis < 0 else 0
    return to_shape(call, tensor, (product(tensor.shape[:axis]), product(tensor.shape[axis:])))


def _unsqueeze(call: Call) -> Made:
    tensor = call.tensor(0)
    given = call.whole("axes", 1) or []
    rank = tensor.rank + len(given)
    dims = {call.dim(dim, rank) for dim in given}
    if len(dims) < len(given):
        raise Refused(f"names a dimension twice in {given}")
    return unsqueezed(call, tensor, dims)


def unsqueezed(call: Call, tensor: Tensor, dims: set[int]) -> Tensor:
    """With new dimensions of 1 at these places."""
    rank = tensor.rank + len(dims)
    old = [dim for dim in range(rank) if dim not in dims]
    place = tensor.place
    if place is None:
        shape = [1 if dim in dims else tensor.shape[old.index(dim)] for dim in range(rank)]
        return call.made(composites.reshape(call.build, tensor.base, tuple(shape)), None, tensor.format)
    batch = old[tensor.batch_axis]
    waiting = iter(call.own(tensor))
    kept = [dim for dim in range(rank) if place.fold or dim != batch]
    own = tuple(1 if dim in dims else next(waiting) for dim in kept)
    return call.made(composites.reshape(call.build, tensor.base, own), Place(rank - batch, place.fold), tensor.format)


def _squeeze(call: Call) -> Made:
    tensor = call.tensor(0)
    given = call.whole("axes", 1)
    if given is None:
        given = [dim for dim, size in enumerate(tensor.shape) if size == 1 and dim != tensor.batch_axis]
    return squeezed(call, tensor, sorted({call.dim(dim, tensor.rank) for dim in given}))


def squeezed(call: Call, tensor: Tensor, dims: list[int]) -> Tensor:
    """Without dimensions of 1."""
    gone = [call.axis(dim, tensor) for dim in dims]
    if any(tensor.shape[dim] != 1 for dim in dims):
        raise Refused(f"takes away dimensions {dims} of {_written(tensor.shape)}, which are not all 1")
    own = tuple(size for axis, size in enumerate(call.own(tensor), 1) if axis not in gone)
    return call.made(composites.reshape(call.build, tensor.base, own), without(tensor, dims), tensor.format)


def _transpose(call: Call) -> Made:
    held = call.held[0]
    if isinstance(held, Constant) and held.integers is not None and len(held.shape) == 2:
        own = held.integers.turned() if (call.whole("perm") or [1, 0]) == [1, 0] else held.integers
        return (
            Constant(np.ascontiguousarray(held.array.T), "float32", integers=own) if own is not held.integers else held
        )
    tensor = call.tensor(0)
    order = call.whole("perm") or list(range(tensor.rank))[::-1]
    if sorted(order) != list(range(tensor.rank)):
        raise Refused(f"has perm {order} of {tensor.rank} dimensions")
    return transposed(call, tensor, order)


def transposed(call: Call, tensor: Tensor, order: Sequence[int]) -> Tensor:
    """With its dimensions in another order."""
    if tensor.place is None:
        made = composites.permute(call.build, tensor.base, tuple(dim + 1 for dim in order))
        return call.made(made, None, tensor.format)
    place, axes = permuted(tensor.place, order)
    return call.made(composites.permute(call.build, tensor.base, axes), place, tensor.format)


def _expand(call: Call) -> Made:
    return expanded_to(call, call.tensor(0), call.sizes("shape", 1) or [])


def expanded_to(call: Call, tensor: Tensor, wanted: Sequence[Any]) -> Tensor:
    """Repeated along dimensions of 1, and new ones in front."""
    rank = max(tensor.rank, len(wanted))
    own = (*(1,) * (rank - tensor.rank), *tensor.shape)
    asked = (*(1,) * (rank - len(wanted)), *wanted)
    shape = tuple(new if _is(old, 1) else _agreed(old, new) for old, new in zip(own, asked, strict=True))
    place = tensor.place
    if place is None and call.images is not None and BATCH in names_of(shape):
        return _for_images(call, tensor, own, shape)
    if place is None:
        return call.made(composites.broadcast(call.build, tensor.base, shape), None, tensor.format)
    assert call.images is not None
    at = place.axis(rank)
    if shape[at] != own[at]:
        raise Refused(f"repeats the images of a batch, {_written(own)} to {_written(shape)}")
    target = place.own(extents_of(shape, call.images))
    if any(size is None for size in target):
        raise Refused(f"{MIXED}: it repeats it to {_written(shape)}")
    return call.made(composites.broadcast(call.build, tensor.base, target), place, tensor.format)


def _agreed(old: Dimension, new: Any) -> Dimension:
    if _is(new, 1) or old == new:
        return old
    raise Refused(f"repeats a dimension of {old} to {new}")


def _for_images(call: Call, tensor: Tensor, own: Shape, shape: Shape) -> Tensor:
    """What no image has a part in, once for each image."""
    dims = [dim for dim, size in enumerate(shape) if size == call.images]
    if len(dims) != 1 or own[dims[0]] != 1:
        raise Refused(f"{MIXED}: it repeats it to {_written(shape)}")
    rest = [tuple(size for dim, size in enumerate(each) if dim != dims[0]) for each in (own, shape)]
    base = composites.broadcast(call.build, composites.reshape(call.build, tensor.base, rest[0]), rest[1])
    return call.made(base, Place(len(shape) - dims[0]), tensor.format)


def _tile(call: Call) -> Made:
    tensor, times = call.tensor(0), call.sizes("repeats", 1) or []
    if len(times) != tensor.rank:
        raise Refused(f"repeats {len(times)} dimensions of {tensor.rank}")
    if all(_is(size, 1) or _is(count, 1) for size, count in zip(tensor.shape, times, strict=True)):
        return expanded_to(call, tensor, times)
    if not is_whole(tuple(times)):
        raise Refused("repeats as often as a size says which is free: give it one with --shape")
    at = tensor.batch_axis
    if at >= 0 and times[at] != 1:
        raise Refused(ACROSS)
    if max(times, default=0) > _MOST_TIMES or min(times, default=0) < 0:
        raise Refused(f"repeats {times} times: expected up to {_MOST_TIMES}")
    own = times if tensor.place is None or tensor.place.fold else [*times[:at], *times[at + 1 :]]
    return call.like(tensor, composites.repeat(call.build, tensor.base, own))


def _concat(call: Call) -> Made:
    held = [each for each in call.held if each is not None]
    found = together(call, held)
    shapes = [each.shape for each in held if isinstance(each, (Constant, Tensor))]
    like = Tensor(found.values[0], found.place, shapes[0])
    axis = call.axis(call.attribute("axis", 1), like)
    return call.made(call.emit("concat", *found.values, axis=axis), found.place, found.format)


def _split(call: Call) -> Made:
    tensor, count = call.tensor(0), len(call.node.output)
    axis = call.axis(call.attribute("axis", 0), tensor)
    size = call.own(tensor)[axis - 1]
    sizes = call.sizes("split", 1)
    if sizes is None:
        count = int(call.attribute("num_outputs", count))
        each = -(-size // count) if isinstance(size, int) else quotient(size, count, exact=True)
        sizes = [each] * (count - 1) + [size - each * (count - 1)]
    return [call.like(tensor, part) for part in composites.split(call.build, tensor.base, axis, sizes)]


def _slice(call: Call) -> Made:
    tensor = call.tensor(0)
    starts, ends = call.sizes("starts", 1) or [], call.sizes("ends", 2) or []
    dims = call.whole("axes", 3)
    steps = call.whole("steps", 4) or [1] * len(starts)
    made = tensor
    for dim, start, end, step in zip(dims or range(len(starts)), starts, ends, steps, strict=True):
        made = _cut(call, made, call.dim(dim, tensor.rank), (start, end), step)
    return made


def _cut(call: Call, tensor: Tensor, dim: int, bounds: tuple[Any, Any], step: int) -> Tensor:
    if step == 0:
        raise Refused("has a step of 0")
    if dim == tensor.batch_axis and step == 1 and _is_all(bounds, tensor.shape[dim]):
        return tensor
    axis = call.axis(dim, tensor)
    size = call.own(tensor)[axis - 1]
    if is_whole((size, *bounds)):
        return call.like(tensor, _part(call, tensor.base, axis, range(*slice(*bounds, step).indices(int(size)))))
    if step < 0:
        raise Refused(f"goes backwards along a size ({size}) which is free: give it one with --shape")
    made = composites.cut(call.build, tensor.base, axis, *(_bound(each, size) for each in bounds))
    return call.like(tensor, composites.every(call.build, made, axis, step))


def _part(call: Call, value: str, axis: int, places: range) -> str:
    if places.step < 0:
        return composites.take(call.build, value, axis, places)
    made = composites.cut(call.build, value, axis, places.start, max(places.start, places.stop))
    return composites.every(call.build, made, axis, places.step)


def _is_all(bounds: tuple[Any, Any], size: Dimension) -> bool:
    start, end = bounds
    return _is(start, 0) and (end == size or (not isinstance(end, Size) and end >= _FAR))


def _bound(given: Any, size: Dimension) -> Dimension:
    """A bound from the front, along a size that is free: what lies beyond it is seen when it is bound."""
    if isinstance(given, Size):
        return given
    if abs(given) >= _FAR:
        return size if given > 0 else 0
    return given + size if given < 0 else int(given)


def _pad(call: Call) -> Made:
    tensor = call.tensor(0)
    pads = call.whole("pads", 1) or []
    dims = [call.dim(dim, tensor.rank) for dim in (call.whole("axes", 3) or range(tensor.rank))]
    if len(pads) != 2 * len(dims):
        raise Refused(f"has {len(pads)} pads for {len(dims)} dimensions")
    if max(map(abs, pads), default=0) > _MOST_PADDING:
        raise Refused(f"pads by {max(map(abs, pads)):,}: expected up to {_MOST_PADDING:,}")
    around = {dim: (pads[at], pads[at + len(dims)]) for at, dim in enumerate(dims) if pads[at] or pads[at + len(dims)]}
    by_axis = {call.axis(dim, tensor): pair for dim, pair in around.items()}
    rank = len(call.own(tensor))
    pairs = [by_axis.get(axis, (0, 0)) for axis in range(rank, min(by_axis, default=rank) - 1, -1)]
    if not by_axis:
        return tensor
    return _padded(call, tensor, pairs)


def _padded(call: Call, tensor: Tensor, pairs: list[tuple[int, int]]) -> Tensor:
    mode = str(call.attribute("mode", "constant"))
    if mode != "constant":
        pad = {
            "reflect": composites.reflection_pad,
            "edge": composites.replication_pad,
            "wrap": composites.circular_pad,
        }.get(mode)
        if pad is None:
            raise Refused(f"has mode {mode!r}, which is not supported")
        return call.like(tensor, pad(call.build, tensor.base, pairs))
    number = float(call.attribute("value", 0.0)) if not call.has(2) else call.number(2, "a number around it")
    inner = call.translation.padded.get(tensor.base, tensor.base)
    floats = call.build.element(tensor.base) == "float32" and len(call.own(tensor)) > 1
    made = composites.pad(call.build, inner if floats else tensor.base, pairs, number)
    laid = composites.laid_out(call.build, made) if floats or isinstance(made, Padded) else made
    if isinstance(made, Padded) and floats:
        call.translation.padded[laid] = made
    return call.like(tensor, laid)


def _planes(call: Call) -> tuple[Tensor, Any, Any, Any]:
    """A tensor (N, C, H, W) and what each image has of it."""
    tensor = call.tensor(0)
    own = call.own(tensor)
    if len(own) == 4 and own[0] == 1 and tensor.place is None:
        return tensor, *own[1:]
    if len(own) != 3 or tensor.batch_axis != 0:
        raise Refused("is supported with the batch in front of (C, H, W)")
    return tensor, *own


def _depth_to_space(call: Call) -> Made:
    tensor, channels, height, width = _planes(call)
    step = int(call.attribute("blocksize", 1))
    inner = channels // (step * step)
    if str(call.attribute("mode", "DCR")) == "CRD":
        shape, order = (inner, step, step, height, width), (1, 4, 2, 5, 3)
    else:
        shape, order = (step, step, inner, height, width), (3, 4, 1, 5, 2)
    return _rearranged(call, tensor, shape, order, (inner, height * step, width * step))


def _space_to_depth(call: Call) -> Made:
    tensor, channels, height, width = _planes(call)
    step = int(call.attribute("blocksize", 1))
    shape = (channels, height // step, step, width // step, step)
    order = (1, 3, 5, 2, 4) if str(call.attribute("mode", "DCR")) == "CRD" else (3, 5, 1, 2, 4)
    return _rearranged(call, tensor, shape, order, (channels * step * step, height // step, width // step))


def _rearranged(call: Call, tensor: Tensor, apart: Shape, order: Shape, shape: Shape) -> Tensor:
    made = call.emit("permute", call.emit("reshape", tensor.base, shape=apart), axes=order)
    front = (1,) if tensor.place is None else ()
    return call.like(tensor, call.emit("reshape", made, shape=(*front, *shape)))


def _shape(call: Call) -> Made:
    held = call.held[0]
    shape: Sequence[Any] = held.shape if isinstance(held, (Constant, Tensor)) else ()
    start, end = int(call.attribute("start", 0)), call.attribute("end")
    return of_sizes(list(shape)[start : None if end is None else int(end)])


def _size(call: Call) -> Made:
    held = call.held[0]
    return of_sizes(np.array(product(held.shape if isinstance(held, (Constant, Tensor)) else ()), object))


def _constant_of_shape(call: Call) -> Made:
    """Of sizes that are free: a constant in each place of which is one number."""
    found = call.attributes.get("value")
    value = constant_of(found.t) if found is not None else Constant(np.zeros(1, np.float32), "float32")
    one = Constant(value.array.reshape(()), value.format)
    return expanded_to(call, call.as_tensor(one), [plain(each) for each in call.constant(0, "a shape").array])


def _range(call: Call) -> Made:
    """Up to a size that is free."""
    start, stop, step = (plain(call.constant(at, "a bound").array.reshape(-1)[0]) for at in range(3))
    if stop == FREE == call.images and (start, step) == (0, 1):
        return numbered(call, stop)
    if isinstance(start, Size) or isinstance(step, Size) or BATCH in names_of([stop]):
        raise Refused("counts from or by a size which is free: give it one with --shape")
    count = -(-(stop - start) // step) if not isinstance(stop, Size) else -((start - stop) // step)
    made = call.emit("range", start=float(start), step=float(step), length=count)
    format = call.constant(0, "a bound").format
    return call.as_tensor(call.made(made, None), format)


def _identity(call: Call) -> Made:
    return [call.held[0]]


def _dropout(call: Call) -> Made:
    if call.has(2) and bool(call.number(2, "whether it trains")):
        ratio = float(call.number(1, "a ratio", 0.5))
        if ratio:
            raise Refused("draws random numbers, which a graph cannot")
    held: Held = call.held[0] if call.held[0] is not None else call.tensor(0)
    if len(call.node.output) > 1 and call.node.output[1]:
        tensor = call.as_tensor(held)
        mask = call.as_tensor(Constant(np.array(True), "bool"))
        return [held, expanded_to(call, mask, tensor.shape)]
    return [held]


CONVERSIONS: dict[str, Conversion] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Expand": _expand,
    "Tile": _tile,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Pad": _pad,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "Shape": _shape,
    "Size": _size,
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
    "Identity": _identity,
    "Dropout": _dropout,
}
