"""Many numbers in one, places of extremes, and sums on the way."""

from __future__ import annotations

from collections.abc import Callable

from secateur.importing.onnx.calls import Call, Conversion, Made, Refused
from secateur.importing.onnx.tensors import ELEMENTS
from secateur.importing.onnx.values import Tensor
from secateur.importing.placing import Place
from secateur.network import composites
from secateur.network.graph import Shape

Reduce = Callable[[Call, str, Shape, bool], str]
"""What is left of a value over axes; whether these stay, of length 1."""


def _over(reduce: Reduce) -> Conversion:
    def convert(call: Call) -> Made:
        tensor, keep = call.tensor(0), call.flag("keepdims", 1)
        given = call.whole("axes", 1)
        if not given and call.flag("noop_with_empty_axes"):
            return tensor
        dims = sorted({call.dim(dim, tensor.rank) for dim in given or range(tensor.rank)})
        if not dims:
            return tensor
        axes = tuple(call.axis(dim, tensor) for dim in dims)
        made = reduce(call, tensor.base, axes, keep)
        return call.made(made, tensor.place if keep else without(tensor, dims), _format(call, tensor, made))

    return convert


def _format(call: Call, tensor: Tensor, made: str) -> str:
    return tensor.format if ELEMENTS[tensor.format] == call.build.element(made) else call.build.element(made)


def without(tensor: Tensor, dims: list[int]) -> Place | None:
    """Where the batch is once dimensions are gone."""
    if tensor.place is None:
        return None
    return tensor.place.wider(-sum(dim > tensor.batch_axis for dim in dims))


def _plain(op: str) -> Reduce:
    return lambda call, value, axes, keep: call.emit(op, value, axes=axes, keepdims=keep)


def _sum(call: Call, value: str, axes: Shape, keep: bool) -> str:
    return composites.sum_over(call.build, value, axes, keepdims=keep)


def _extreme(op: str, of_truth: Callable[..., str]) -> Reduce:
    def reduce(call: Call, value: str, axes: Shape, keep: bool) -> str:
        if call.build.element(value) == "bool":
            return of_truth(call.build, value, axes, keepdims=keep)
        return call.emit(op, value, axes=axes, keepdims=keep)

    return reduce


def _norm(order: float) -> Reduce:
    return lambda call, value, axes, keep: composites.norm_over(call.build, value, axes, order, keepdims=keep)


def _sum_square(call: Call, value: str, axes: Shape, keep: bool) -> str:
    return _sum(call, call.emit("mul", value, value), axes, keep)


def _log_sum(call: Call, value: str, axes: Shape, keep: bool) -> str:
    return call.emit("log", _sum(call, value, axes, keep))


def _log_sum_exp(call: Call, value: str, axes: Shape, keep: bool) -> str:
    return composites.log_sum_exp(call.build, value, axes, keepdims=keep)


def _place_of(op: str) -> Conversion:
    def convert(call: Call) -> Made:
        tensor, keep = call.tensor(0), call.flag("keepdims", 1)
        dim = call.dim(call.attribute("axis", 0), tensor.rank)
        axis = call.axis(dim, tensor)
        base, last = tensor.base, call.flag("select_last_index")
        count = call.build.shape(base)[axis - 1]
        base = composites.flip(call.build, base, (axis,)) if last else base
        made = call.emit(op, base, axis=axis, keepdims=keep)
        if last:
            made = call.emit("sub", call.build.number(int(count) - 1, "int64"), made)
        return call.made(made, tensor.place if keep else without(tensor, [dim]))

    return convert


def _top(call: Call) -> Made:
    tensor = call.tensor(0)
    axis = call.axis(call.attribute("axis", -1), tensor)
    count = (call.whole("k") or call.whole("k", 1) or [0])[0]
    places = call.emit("topk", tensor.base, axis=axis, count=count, largest=call.flag("largest", 1))
    return [call.like(tensor, call.emit("gather", tensor.base, places, axis=axis)), call.made(places, tensor.place)]


def _cumsum(call: Call) -> Made:
    tensor = call.tensor(0)
    call.refuse_narrow(tensor.format)
    axis = call.axis(call.number(1, "an axis"), tensor)
    backwards = call.flag("reverse")
    base = composites.flip(call.build, tensor.base, (axis,)) if backwards else tensor.base
    made = call.emit("cumsum", base, axis=axis)
    if call.flag("exclusive"):
        made = call.emit("sub", made, base)
    return call.like(tensor, composites.flip(call.build, made, (axis,)) if backwards else made)


def _cumprod(call: Call) -> Made:
    tensor = call.tensor(0)
    call.refuse_narrow(tensor.format)
    axis = call.axis(call.number(1, "an axis"), tensor)
    base = composites.flip(call.build, tensor.base, (axis,)) if call.flag("reverse") else tensor.base
    made = composites.running(call.build, base, axis, lambda later, earlier: call.emit("mul", later, earlier))
    if call.flag("exclusive"):
        shape = call.build.shape(made)
        earlier = composites.cut(call.build, made, axis, 0, shape[axis - 1] - 1)
        one = call.build.value(call.build.number(1, call.build.element(made)))
        first = composites.broadcast(call.build, one, (*shape[: axis - 1], 1, *shape[axis:]))
        made = call.emit("concat", first, earlier, axis=axis)
    return call.like(tensor, composites.flip(call.build, made, (axis,)) if call.flag("reverse") else made)


def _unsupported_count(call: Call) -> Made:
    raise Refused("gives as many numbers as its input decides, which a graph cannot")


CONVERSIONS: dict[str, Conversion] = {
    "ReduceMean": _over(_plain("mean")),
    "ReduceSum": _over(_sum),
    "ReduceProd": _over(_plain("prod")),
    "ReduceMax": _over(_extreme("amax", composites.any_of)),
    "ReduceMin": _over(_extreme("amin", composites.all_of)),
    "ReduceL1": _over(_norm(1)),
    "ReduceL2": _over(_norm(2)),
    "ReduceSumSquare": _over(_sum_square),
    "ReduceLogSum": _over(_log_sum),
    "ReduceLogSumExp": _over(_log_sum_exp),
    "ArgMax": _place_of("argmax"),
    "ArgMin": _place_of("argmin"),
    "TopK": _top,
    "CumSum": _cumsum,
    "CumProd": _cumprod,
    **dict.fromkeys(("NonZero", "Unique", "NonMaxSuppression", "Compress"), _unsupported_count),
}
