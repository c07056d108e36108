"""Several tensors that one operation combines number by number: with the batch at one place in all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from secateur.importing.onnx.calls import MIXED, Call, Refused
from secateur.importing.onnx.tensors import ELEMENTS, Constant
from secateur.importing.onnx.values import Held, Tensor
from secateur.importing.placing import Place
from secateur.network.composites import reshape


@dataclass(frozen=True, slots=True)
class Together:
    """values: in the graph, so that they broadcast as the tensors do. place: where the batch is in what they make."""

    values: tuple[str, ...]
    place: Place | None
    format: str


def together(call: Call, held: Sequence[Held], format: str | None = None, rank: int = 0) -> Together:
    """Tensors and constants whose last dimensions are aligned. format: what each is to hold, in place of its own.

    rank: dimensions of what they make, where there are more than any of them has.
    """
    held = _aligned_by_axis(call, held)
    tensors = [each for each in held if isinstance(each, Tensor)]
    places = {each.place for each in tensors if each.place is not None}
    if len(places) > 1:
        raise Refused(f"{MIXED}: it combines values that have it in different ones")
    place = next(iter(places), None)
    if format is None and any(ELEMENTS[each.format] != "float32" == call.build.element(each.base) for each in tensors):
        format = "float32"  # whole sums of products, which are numbers here
    own = format or next((each.format for each in (*tensors, *held) if isinstance(each, (Tensor, Constant))), "float32")
    values = [without_batch(call, each, place) for each in held]
    cast = [_cast(call, value, ELEMENTS[own]) if format else value for value in values]
    return Together(tuple(cast), place, own)


def _aligned_by_axis(call: Call, held: Sequence[Held]) -> Sequence[Held]:
    """Before operator set 7 an attribute says which dimension of the first the second begins at."""
    if "axis" not in call.attributes or not call.flag("broadcast") or len(held) != 2:
        return held
    ranks = [len(each.shape) if isinstance(each, (Constant, Tensor)) else 0 for each in held]
    behind = ranks[0] - ranks[1] - call.dim(call.attribute("axis"), ranks[0])
    other = held[1]
    if not isinstance(other, Constant):
        raise Refused("aligns a value that depends on the input at one of the other's dimensions")
    return [held[0], Constant(other.array.reshape(*other.shape, *(1,) * behind), other.format)]


def _cast(call: Call, value: str, element: str) -> str:
    return value if call.build.element(value) == element else call.emit("cast", value, element=element)


def without_batch(call: Call, held: Held, place: Place | None) -> str:
    """The value of a tensor as what has the batch at a place meets it."""
    if isinstance(held, Constant):
        shape = _shape_at(held, place, call)
        first = _is_one_for_all(held, place, call)
        return call.translation.constant_in(held, shape, call.build, first=first)
    tensor = call.as_tensor(held)
    if tensor.place is not None or place is None:
        return tensor.base
    axis = place.axis(tensor.rank)
    if axis < 0:
        return tensor.base
    if tensor.shape[axis] != 1:
        raise Refused(f"{MIXED}: a value of shape {tensor.shape} would have it in dimension {axis}")
    own = tensor.shape if place.fold else (*tensor.shape[:axis], *tensor.shape[axis + 1 :])
    return reshape(call.build, tensor.base, own)


def _shape_at(constant: Constant, place: Place | None, call: Call) -> tuple[int, ...]:
    shape = constant.shape
    axis = -1 if place is None else place.axis(len(shape))
    if place is None or axis < 0:
        return shape
    if shape[axis] != 1 and _is_one_for_all(constant, place, call) < 0:
        raise Refused(f"{MIXED}: a constant of shape {shape} would have it in dimension {axis}")
    return (*shape[:axis], 1, *shape[axis + 1 :]) if place.fold else (*shape[:axis], *shape[axis + 1 :])


def _is_one_for_all(constant: Constant, place: Place | None, call: Call) -> int:
    """The dimension of a constant as long as a batch of a fixed size, all images' parts being the same; else -1."""
    axis = -1 if place is None else place.axis(len(constant.shape))
    if place is None or place.fold or axis < 0 or constant.shape[axis] == 1 or constant.shape[axis] != call.images:
        return -1
    array = constant.array
    return axis if bool((array == array.take([0], axis)).all()) else -1
