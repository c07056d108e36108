"""Normalisations, softmax among them."""

from __future__ import annotations

from collections.abc import Callable

from secateur.importing.onnx.aligning import together
from secateur.importing.onnx.calls import Call, Conversion, Made, Refused, product
from secateur.importing.onnx.tensors import Constant
from secateur.importing.onnx.values import Held, Tensor
from secateur.network import composites
from secateur.network.graph import Weight

_TINY = 2.0**-126
"""What vectors of zeros are divided by: the smallest number that is no less precise than others."""


def _batch_norm(call: Call) -> Made:
    if call.flag("training_mode") or (call.version < 9 and not call.flag("spatial", 1)):
        raise Refused("uses the statistics of the batch, or of each place, which a graph does not")
    tensor = call.tensor(0)
    roles = ("weight", "bias", "mean", "variance")
    weights = {role: call.weight(at, f"a {role}") for at, role in enumerate(roles, 1)}
    axis, rank = (call.axis(1, tensor), len(call.own(tensor))) if tensor.rank > 1 else (1, 1)
    order = (axis, *(each for each in range(1, rank + 1) if each != axis))
    eps = float(call.attribute("epsilon", 1e-5))
    made = call.emit("batch_norm", composites.permute(call.build, tensor.base, order), weights=weights, eps=eps)
    back = tuple(order.index(each) + 1 for each in range(1, rank + 1))
    return call.like(tensor, composites.permute(call.build, made, back))


def _scales(call: Call, count: int) -> dict[str, Weight]:
    return {
        role: call.weight(at, f"a {role}")
        for at, role in enumerate(("weight", "bias"), 1)
        if at <= count and call.has(at)
    }


def _instance_norm(call: Call) -> Made:
    tensor, eps = call.tensor(0), float(call.attribute("epsilon", 1e-5))
    return _by_groups(call, tensor, tensor.shape[1], eps, _scales(call, 2))


def _group_norm(call: Call) -> Made:
    """Before operator set 21 scale and bias are of groups."""
    tensor, groups = call.tensor(0), int(call.attribute("num_groups", 1))
    weights = _scales(call, 2)
    channels = tensor.shape[1]
    if call.version < 21 and isinstance(channels, int) and groups and channels % groups == 0:
        each = channels // groups
        weights = {
            role: call.build.variant(weight, ("groups", each), lambda bits: bits.repeat(each))
            for role, weight in weights.items()
        }
    return _by_groups(call, tensor, groups, float(call.attribute("epsilon", 1e-5)), weights)


def _by_groups(call: Call, tensor: Tensor, groups: object, eps: float, weights: dict[str, Weight]) -> Tensor:
    axis = call.axis(1, tensor)
    if tensor.batch_axis > 1:
        raise Refused("has the batch among what it normalises")
    return call.like(tensor, composites.group_norm(call.build, tensor.base, axis, groups, eps, weights))  # type: ignore[arg-type]


def _layer_norm(call: Call) -> Made:
    tensor = call.tensor(0)
    count = _count(call, tensor)
    made = _over_last(call, tensor, count, call.held[1], call.held[2] if call.has(2) else None)
    return [made, *_moments(call, tensor, count)] if any(call.node.output[1:]) else made


def _moments(call: Call, tensor: Tensor, count: int) -> list[Tensor]:
    """The mean of what is normalised, and what it is multiplied by."""
    rank = len(call.own(tensor))
    over = tuple(range(rank - count + 1, rank + 1))
    mean = call.emit("mean", tensor.base, axes=over, keepdims=True)
    apart = call.emit("sub", tensor.base, mean)
    variance = call.emit("mean", call.emit("mul", apart, apart), axes=over, keepdims=True)
    factor = call.emit("rsqrt", call.emit("add", variance, float(call.attribute("epsilon", 1e-5))))
    return [call.like(tensor, mean), call.like(tensor, factor)]


def _count(call: Call, tensor: Tensor) -> int:
    """How many last dimensions are normalised."""
    dim = call.dim(call.attribute("axis", -1), tensor.rank)
    if tensor.batch_axis >= dim:
        raise Refused("has the batch among what it normalises")
    return tensor.rank - dim


def _over_last(call: Call, tensor: Tensor, count: int, scale: Held | None, bias: Held | None) -> Tensor:
    eps = float(call.attribute("epsilon", 1e-5))
    own = call.own(tensor)[len(call.own(tensor)) - count :]
    held = {"weight": scale, "bias": bias}
    weights = {
        role: call.weight_of(each) for role, each in held.items() if isinstance(each, Constant) and each.shape == own
    }
    weights = weights if "weight" in weights or scale is None else {}
    made = call.like(tensor, call.emit("layer_norm", tensor.base, weights=weights, axes=count, eps=eps))
    for op, role in (("mul", "weight"), ("add", "bias")):
        each = held[role]
        if each is not None and role not in weights:
            pair = together(call, [made, each])
            made = call.made(call.emit(op, *pair.values), pair.place, tensor.format)
    return made


def _rms_norm(call: Call) -> Made:
    tensor = call.tensor(0)
    return _by_squares(call, tensor, _count(call, tensor), call.held[1] if call.has(1) else None)


def _by_squares(call: Call, tensor: Tensor, count: int, scale: Held | None) -> Tensor:
    made = call.like(
        tensor, composites.rms_norm(call.build, tensor.base, count, float(call.attribute("epsilon", 1e-5)))
    )
    if scale is None:
        return made
    pair = together(call, [made, scale])
    return call.made(call.emit("mul", *pair.values), pair.place, tensor.format)


def _skip_layer_norm(call: Call) -> Made:
    """Of the sum of two values and a bias (com.microsoft)."""
    total = _summed(call, (0, 1, 4))
    made = _over_last(call, total, 1, call.held[2], call.held[3] if call.has(3) else None)
    return [made, None, None, total][: max(1, len(call.node.output))]


def _skip_rms_norm(call: Call) -> Made:
    total = _summed(call, (0, 1, 3))
    return [_by_squares(call, total, 1, call.held[2]), None, None, total][: max(1, len(call.node.output))]


def _summed(call: Call, places: tuple[int, ...]) -> Tensor:
    made = call.tensor(places[0])
    for place in places[1:]:
        if call.has(place):
            pair = together(call, [made, call.held[place]])  # type: ignore[list-item]
            made = call.made(call.emit("add", *pair.values), pair.place, made.format)
    return made


def _local_response(call: Call) -> Made:
    """Krizhevsky et al. 2012: by the squares of channels nearby, whose mean over a window along channels they are."""
    tensor, size = call.tensor(0), int(call.attribute("size", 1))
    alpha, beta, bias = (
        float(call.attribute(name, default)) for name, default in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))
    )
    if tensor.batch_axis > 0 or call.axis(1, tensor) != len(call.own(tensor)) - tensor.rank + 2:
        raise Refused("has the batch elsewhere than in front")
    own = call.own(tensor)
    axis = call.axis(1, tensor)
    squares = call.emit("mul", tensor.base, tensor.base)
    flat = composites.reshape(call.build, squares, (product(own[: axis - 1]), own[axis - 1], product(own[axis:])))
    padding = ((size - 1) // 2, size - 1 - (size - 1) // 2, 0, 0)
    mean = composites.avg_pool2d(call.build, flat, kernel=(size, 1), stride=(1, 1), padding=padding)
    mean = composites.reshape(call.build, mean, own)
    below = call.emit("pow", call.emit("add", call.emit("mul", mean, alpha), bias), exponent=-beta)
    return call.like(tensor, call.emit("mul", tensor.base, below))


def _lp_norm(call: Call) -> Made:
    tensor, order = call.tensor(0), float(call.attribute("p", 2))
    axis = call.axis(call.attribute("axis", -1), tensor)
    length = composites.norm_over(call.build, tensor.base, (axis,), order, keepdims=True)
    return call.like(tensor, call.emit("div", tensor.base, call.emit("maximum", length, _TINY)))


def _along(spell: Callable[[Call, str, int], str]) -> Conversion:
    """Before operator set 13 of all dimensions from one on, as if they were one."""

    def convert(call: Call) -> Made:
        tensor = call.tensor(0)
        if call.version >= 13:
            return call.like(tensor, spell(call, tensor.base, call.axis(call.attribute("axis", -1), tensor)))
        dim = call.dim(call.attribute("axis", 1), tensor.rank)
        axis = call.axis(dim, tensor)
        if tensor.batch_axis > dim:
            raise Refused("has the batch among what it normalises")
        own = call.own(tensor)
        if len(own) == axis:
            return call.like(tensor, spell(call, tensor.base, axis))
        flat = composites.reshape(call.build, tensor.base, (*own[: axis - 1], product(own[axis - 1 :])))
        return call.like(tensor, composites.reshape(call.build, spell(call, flat, axis), own))

    return convert


def _softmax(call: Call, value: str, axis: int) -> str:
    return call.emit("softmax", value, axis=axis)


def _log_softmax(call: Call, value: str, axis: int) -> str:
    return composites.log_softmax(call.build, value, axis)


def _hardmax(call: Call, value: str, axis: int) -> str:
    """1 where the first of the largest numbers is."""
    shape = call.build.shape(value)
    count = call.emit("range", start=0.0, step=1.0, length=shape[axis - 1])
    count = call.emit("cast", count, element="int64")
    count = composites.reshape(call.build, count, (shape[axis - 1], *(1,) * (len(shape) - axis)))
    place = call.emit("argmax", value, axis=axis, keepdims=True)
    return call.emit("cast", call.emit("equal", place, count), element="float32")


CONVERSIONS: dict[str, Conversion] = {
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm,
    "LayerNormalization": _layer_norm,
    "RMSNormalization": _rms_norm,
    "SimplifiedLayerNormalization": _rms_norm,
    "LRN": _local_response,
    "LpNormalization": _lp_norm,
    "Softmax": _along(_softmax),
    "LogSoftmax": _along(_log_softmax),
    "Hardmax": _along(_hardmax),
}
MICROSOFT: dict[str, Conversion] = {
    "LayerNormalization": _layer_norm,
    "SimplifiedLayerNormalization": _rms_norm,
    "SkipLayerNormalization": _skip_layer_norm,
    "SkipSimplifiedLayerNormalization": _skip_rms_norm,
}
