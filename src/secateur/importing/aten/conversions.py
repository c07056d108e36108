"""What each ATen operation becomes. A conversion is given a call and returns a value's name, a constant, or a list."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from secateur.importing.aten.calls import Call, Constant, Conversion, OrdinaryCall, PlacedCall
from secateur.importing.aten.placing import Ordinary, Place, Placed, permuted, reshaped
from secateur.importing.aten.wholes import HELD
from secateur.network import composites
from secateur.network.building import Builder
from secateur.network.composites import Padded
from secateur.network.graph import Shape
from secateur.network.sizes import Dimension, Size, is_whole


def _pair(value: Any) -> tuple[int, int]:
    numbers = [int(each) for each in value] if isinstance(value, (list, tuple)) else [int(value)]
    return (numbers[0], numbers[-1])


def _around(padding: Any) -> Shape:
    height, width = _pair(padding)
    return (height, height, width, width)


def _conv2d(call: Call) -> str:
    weight, padding, dilation = call["weight"], call["padding"], _pair(call["dilation"])
    if not isinstance(weight, Constant) or weight.tensor.ndim != 4 or call.get("transposed"):
        raise call.error("is not supported: only two-dimensional convolutions with constant weights are")
    if padding == "same":
        padding = composites.same_padding(tuple(weight.tensor.shape[2:]), dilation)
    else:
        padding = (0, 0, 0, 0) if padding == "valid" else _around(padding)
    return composites.conv2d(
        call.build,
        _planes(call, "input"),
        {**call.weight("weight", "weight"), **call.weight("bias", "bias")},
        padding=padding,
        stride=_pair(call["stride"]),
        dilation=dilation,
        groups=int(call["groups"]),
    )


def _planes(call: Call, argument: str) -> str | Padded:
    """A value as it is, with the zeros that may lie around it."""
    held = call[argument]
    return held if isinstance(held, Padded) else call.value_of(held)


def _linear(call: Call) -> str:
    weights = {**call.weight("weight", "weight"), **call.weight("bias", "bias")}
    return call.emit("linear", call.value("input"), weights=weights)


def _matrix_product(call: Call) -> str:
    """x @ W with a constant W (I, O): a linear layer of W transposed."""
    left, right = call.first, call["mat2" if call.name == "mm" else "other"]
    if isinstance(left, Constant) or not isinstance(right, Constant) or right.tensor.ndim != 2:
        raise call.error("is supported with a constant matrix on the right only")
    return composites.matrix_product(call.build, call.value_of(left), call.bits(right, "weight"))


def _addmm(call: Call) -> str:
    """bias + x @ W."""
    bias, matrix = call["self"], call["mat2"]
    if not isinstance(matrix, Constant) or not isinstance(bias, Constant) or (call["beta"], call["alpha"]) != (1, 1):
        raise call.error("is supported with a constant matrix, a constant vector and no factors only")
    weight, vector = call.bits(matrix, "weight"), call.bits(bias, "bias")
    return composites.matrix_product(call.build, call.value("mat1"), weight, vector)


def _batch_norm(call: Call) -> Any:
    if call.get("training"):
        raise call.error("uses the statistics of the batch (track_running_stats=False?), which a graph cannot")
    names = {"mean": "running_mean", "variance": "running_var", "weight": "weight", "bias": "bias"}
    weights = {role: bits for role, argument in names.items() for bits in call.weight(argument, role).values()}
    if "mean" not in weights:
        raise call.error("uses the statistics of the batch (track_running_stats=False?), which a graph cannot")
    made = call.emit("batch_norm", call.value("input"), weights=weights, eps=float(call["eps"]))
    return made if call.name in ("batch_norm", "cudnn_batch_norm") else [made, None, None]


def _layer_norm(call: Call) -> Any:
    value, over = call.value("input"), call["normalized_shape"]
    if tuple(over) != call.size(value)[-len(over) :]:
        raise call.error("works across the batch; a graph treats each image on its own")
    weights = {**call.weight("weight", "weight"), **call.weight("bias", "bias")}
    made = call.emit("layer_norm", value, weights=weights, axes=len(over), eps=float(call["eps"]))
    return made if call.name == "layer_norm" else [made, None, None]


def _activation(op: str) -> Callable[[Call], str]:
    return lambda call: call.emit(op, call.value("self"))


def _leaky_relu(call: Call) -> str:
    return call.emit("leaky_relu", call.value("self"), negative_slope=float(call["negative_slope"]))


def _prelu(call: Call) -> str:
    slope = call["weight"]
    if not isinstance(slope, Constant):
        raise call.error("is supported with one slope for all channels only")
    return composites.prelu(call.build, call.value("self"), call.bits(slope, "weight"))


def _clamp(call: Call) -> str:
    low = next((call[name] for name in ("min", "min_val") if name in call.arguments), None)
    high = next((call[name] for name in ("max", "max_val") if name in call.arguments), None)
    return composites.clamp(call.build, call.value("self"), low, high)


def _gelu(call: Call) -> str:
    return call.emit("gelu", call.value("self"), approximate=str(call["approximate"]))


def _softmax(call: Call) -> str:
    value = call.value("self")
    return call.emit("softmax", value, axis=call.axis(call["dim"], value))


def _pair_of_values(call: Call, op: str, left: Any, right: Any) -> str:
    values = []
    for held in (left, right):
        name = call.value_of(held, call.rank)
        if not isinstance(held, (Constant, Ordinary, int, float)) and not call.fits(name):
            raise call.error("broadcasts values of different numbers of dimensions, the batch against another")
        values.append(name)
    return call.emit(op, *values)


def _scaled(call: Call, held: Any, factor: float) -> Any:
    if factor == 1:
        return held
    if isinstance(held, (int, float)):
        return held * factor
    if isinstance(held, Constant):
        return Constant(held.tensor * factor)
    return _pair_of_values(call, "mul", held, factor)


def _add(call: Call) -> str:
    return _pair_of_values(call, "add", call["self"], _scaled(call, call["other"], call["alpha"]))


def _sub(call: Call) -> str:
    return _difference(call, call["self"], call["other"])


def _rsub(call: Call) -> str:
    return _difference(call, call["other"], call["self"])


def _difference(call: Call, left: Any, right: Any) -> str:
    """A sum with what is taken away times -1, where either is constant."""
    if any(isinstance(held, (Constant, int, float)) for held in (left, right)):
        return _pair_of_values(call, "add", left, _scaled(call, right, -call["alpha"]))
    return _pair_of_values(call, "sub", left, _scaled(call, right, call["alpha"]))


def _mul(call: Call) -> str:
    return _pair_of_values(call, "mul", call["self"], call["other"])


def _div(call: Call) -> str:
    divisor = call["other"]
    if divisor == 0 or call.get("rounding_mode") is not None:
        raise call.error("is supported by what is not zero, and without rounding")
    if not isinstance(divisor, (Constant, int, float)):
        return _pair_of_values(call, "div", call["self"], divisor)
    inverse = Constant(1 / divisor.tensor) if isinstance(divisor, Constant) else 1 / divisor
    return _pair_of_values(call, "mul", call["self"], inverse)


def _neg(call: Call) -> str:
    return _pair_of_values(call, "mul", call["self"], -1.0)


def _pow(call: Call) -> str:
    base, exponent = call["self"], call["exponent"]
    if isinstance(exponent, Constant) and exponent.tensor.numel() == 1:
        exponent = float(exponent.tensor)
    if not isinstance(exponent, (int, float)):
        raise call.error("is supported with an exponent that is one constant number only")
    if exponent == 2:
        return _pair_of_values(call, "mul", base, base)
    return call.emit("pow", call.value_of(base), exponent=float(exponent))


def _elu(call: Call) -> str:
    """ELU, or SELU, which is written as one with a scale."""
    alpha, *scales = (float(call[name]) for name in ("alpha", "scale", "input_scale"))
    if (alpha, *scales) == _SELU:
        return call.emit("selu", call.value("self"))
    if scales != [1, 1]:
        raise call.error("with scales is not supported, but for those of SELU")
    return call.emit("elu", call.value("self"), alpha=alpha)


_SELU = (1.6732632423543772848170429916717, 1.0507009873554804934193349852946, 1.0)


def _softplus(call: Call) -> str:
    beta, threshold = float(call["beta"]), float(call["threshold"])
    return call.emit("softplus", call.value("self"), beta=beta, threshold=threshold)


def _of_two(op: str) -> Conversion:
    def convert(call: Call) -> str:
        if "other" not in call.arguments:
            raise call.error(f"is not supported along a dimension; {HELD}")
        return _pair_of_values(call, op, call["self"], call["other"])

    return convert


def _max_pool2d(call: Call) -> Any:
    kernel = _pair(call["kernel_size"])
    made = composites.max_pool2d(
        call.build,
        call.value("self"),
        kernel=kernel,
        stride=_pair(call["stride"]) if call["stride"] else kernel,
        padding=_around(call["padding"]),
        dilation=_pair(call["dilation"]),
        ceil=bool(call["ceil_mode"]),
    )
    return made if call.name == "max_pool2d" else [made, None]


def _avg_pool2d(call: Call) -> str:
    kernel = _pair(call["kernel_size"])
    if call["divisor_override"] is not None:
        raise call.error("with divisor_override is not supported")
    return composites.avg_pool2d(
        call.build,
        call.value("self"),
        kernel=kernel,
        stride=_pair(call["stride"]) if call["stride"] else kernel,
        padding=_around(call["padding"]),
        counted=bool(call["count_include_pad"]),
        ceil=bool(call["ceil_mode"]),
    )


def _adaptive_avg_pool2d(call: Call) -> str:
    return call.emit("adaptive_avg_pool2d", call.value("self"), size=_pair(call["output_size"]))


def _adaptive_max_pool2d(call: Call) -> Any:
    return [composites.adaptive_max_pool2d(call.build, call.value("self"), _pair(call["output_size"])), None]


def _axes(call: Call, value: str) -> Shape:
    """Of a reduction: those named, else all of them."""
    dims = call["dim"] if call.get("dim") else range(call.dims(value))
    return tuple(sorted(call.axis(dim, value) for dim in dims))


def _mean(call: Call) -> str:
    value = call.value("self")
    return call.emit("mean", value, axes=_axes(call, value), keepdims=bool(call["keepdim"]))


def _sum(call: Call) -> str:
    value = call.value("self")
    return composites.sum_over(call.build, value, _axes(call, value), keepdims=bool(call["keepdim"]))


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


def _anywhere(conversion: Conversion, wider: Callable[[PlacedCall], int] | None = None) -> Conversion:
    """The conversion of an operation on values with the batch at any place, which is to stay what it is.

    wider: how many more dimensions behind the batch the result has.
    """

    def convert(call: Call) -> Any:
        inner = call.where_placed()
        made = conversion(inner)
        if isinstance(inner, OrdinaryCall):
            return [Ordinary(each) for each in made] if isinstance(made, list) else Ordinary(made)
        if not isinstance(inner, PlacedCall):
            return made
        place = inner.place.wider(wider(inner) if wider else 0)
        if isinstance(made, list):
            return [each and call.placed(each, place) for each in made]
        return call.placed(made, place)

    return convert


def _along_last(conversion: Conversion, count: Callable[[Call], int] = lambda call: 1) -> Conversion:
    """The conversion of an operation along so many last dimensions, with the batch anywhere before them."""

    def convert(call: Call) -> Any:
        if isinstance(call, PlacedCall) and call.place.right <= count(call):
            raise call.error("works across the batch; a graph treats each image on its own")
        return conversion(call)

    return _anywhere(convert)


def _removed(call: PlacedCall) -> int:
    """How many dimensions less there are behind the batch, as a negative number."""
    value = call.value_of(call.first)
    given = call["dim"] if call.get("dim") is not None and call["dim"] != [] else range(call.dims(value))
    dims = given if isinstance(given, (list, tuple, range)) else [given]
    return -sum(call.dim(dim, value) > call.place.axis(call.dims(value)) for dim in dims)


def _by_factor(composite: Callable[[Builder, str, int], str], factor: str) -> Conversion:
    """factor: the argument that says how far."""
    return lambda call: composite(call.build, call.value("self"), int(call[factor]))


def _glu(call: Call) -> str:
    value = call.value("self")
    return composites.glu(call.build, value, call.axis(call["dim"], value))


def _log_softmax(call: Call) -> str:
    raise call.error("is not supported: let the network return its logits and leave that to the loss (cross_entropy)")


def _concat(call: Call) -> str:
    values = [call.value_of(each, call.rank) for each in call["tensors"]]
    return call.emit("concat", *values, axis=call.axis(call["dim"], values[0]))


def _stack(call: Call) -> str | Placed | Ordinary:
    inner, dim = call.where_placed(), int(call["dim"]) % call.rank
    if isinstance(inner, OrdinaryCall):
        tensors = [inner.value_of(each) for each in inner["tensors"]]
        return Ordinary(composites.stack(call.build, tensors, dim + 1))
    place = inner.place if isinstance(inner, PlacedCall) else Place(call.rank - 1)
    after = place.wider(int(dim > place.axis(call.rank - 1)))
    values = [inner.value_of(each, call.rank - 1) for each in inner["tensors"]]
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


def _pad(call: Call) -> str | Padded:
    """Zeros around: of planes, for the convolution that follows to take in; else by concatenation."""
    pads = [int(each) for each in call["pad"]]
    if call.get("mode", "constant") != "constant" or (call["value"] or 0) != 0 or min(pads) < 0:
        raise call.error("is supported with zeros only, and none taken away")
    held = _planes(call, call.schema[0].name)
    pairs = list(zip(pads[::2], pads[1::2], strict=True))
    base = held.base if isinstance(held, Padded) else held
    for dim, pair in enumerate(pairs, 1):
        if any(pair):
            call.axis(-dim, base)  # raises where it is the batch
    return composites.pad(call.build, held, pairs)


def _expand(call: Call) -> str:
    return composites.broadcast(call.build, call.value("self"), call.shape())


def _identity(call: Call) -> Any:
    return call.first


def _dropout(call: Call) -> Any:
    if call.get("train"):
        raise call.error("is random in eval mode too; give it training=self.training")
    return call.first


def _to(call: Call) -> Any:
    value = call.node.meta["val"]
    if not value.is_floating_point():
        raise call.error(f"to {value.dtype} is not supported: values are floating-point")
    return _identity(call)


CONVERSIONS: dict[str, Conversion] = {
    "conv2d": _conv2d,
    "convolution": _conv2d,
    "linear": _linear,
    "matmul": _matrix_product,
    "mm": _matrix_product,
    "addmm": _addmm,
    "batch_norm": _batch_norm,
    "_native_batch_norm_legit": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "layer_norm": _layer_norm,
    "native_layer_norm": _layer_norm,
    **{op: _activation(op) for op in ("relu", "relu6", "hardswish", "hardsigmoid", "silu", "sigmoid", "tanh")},
    **{op: _activation(op) for op in ("selu", "mish", "abs", "exp", "log", "sqrt", "rsqrt", "sin", "cos", "erf")},
    "reciprocal": _activation("reciprocal"),
    "leaky_relu": _leaky_relu,
    "prelu": _prelu,
    "_prelu_kernel": _prelu,
    "hardtanh": _clamp,
    "clamp": _clamp,
    "clamp_min": _clamp,
    "gelu": _gelu,
    "softmax": _softmax,
    "_softmax": _softmax,
    "add": _add,
    "sub": _sub,
    "rsub": _rsub,
    "mul": _mul,
    "div": _div,
    "neg": _neg,
    "pow": _pow,
    "elu": _elu,
    "softplus": _softplus,
    "maximum": _of_two("maximum"),
    "minimum": _of_two("minimum"),
    "max": _of_two("maximum"),
    "min": _of_two("minimum"),
    "max_pool2d": _max_pool2d,
    "max_pool2d_with_indices": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "_adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "adaptive_max_pool2d": _adaptive_max_pool2d,
    "mean": _mean,
    "sum": _sum,
    **dict.fromkeys(
        ("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as"), _reshape
    ),
    "permute": _permute,
    "transpose": _transpose,
    "channel_shuffle": _by_factor(composites.channel_shuffle, "groups"),
    "native_channel_shuffle": _by_factor(composites.channel_shuffle, "groups"),
    "pixel_shuffle": _by_factor(composites.pixel_shuffle, "upscale_factor"),
    "pixel_unshuffle": _by_factor(composites.pixel_unshuffle, "downscale_factor"),
    "glu": _glu,
    "log_softmax": _log_softmax,
    "cat": _concat,
    "stack": _stack,
    "split": _split,
    "split_with_sizes": _split,
    "chunk": _split,
    "tensor_split": _split,
    "unbind": _unbind,
    "slice": _slice,
    "select": _select,
    "pad": _pad,
    "constant_pad_nd": _pad,
    "expand": _expand,
    **dict.fromkeys(("clone", "contiguous", "alias", "detach", "lift_fresh_copy"), _identity),
    **dict.fromkeys(("dropout", "native_dropout", "feature_dropout", "alpha_dropout"), _dropout),
    "to": _to,
    "_to_copy": _to,
    "type_as": _to,
}


def _where_placed(names: str) -> dict[str, Conversion]:
    """Of what leaves each dimension where it is."""
    return {name: _anywhere(CONVERSIONS[name]) for name in names.split()}


CONVERSIONS |= _where_placed(
    "relu relu6 leaky_relu hardtanh clamp clamp_min hardswish hardsigmoid silu sigmoid tanh gelu"
)
CONVERSIONS |= _where_placed("elu selu softplus mish abs exp log sqrt rsqrt sin cos erf reciprocal")
CONVERSIONS |= _where_placed("add sub rsub mul div neg pow maximum minimum max min softmax _softmax glu")
CONVERSIONS |= _where_placed("cat split split_with_sizes chunk tensor_split slice expand")
CONVERSIONS |= {name: _along_last(CONVERSIONS[name]) for name in ("linear", "mm", "addmm", "matmul")}
CONVERSIONS |= {
    name: _along_last(_layer_norm, lambda call: len(call["normalized_shape"]))
    for name in ("layer_norm", "native_layer_norm")
}
CONVERSIONS |= {name: _anywhere(CONVERSIONS[name], _removed) for name in ("select", "unbind")}
CONVERSIONS |= {
    name: _anywhere(CONVERSIONS[name], lambda call: 0 if call["keepdim"] else _removed(call))
    for name in ("mean", "sum")
}
