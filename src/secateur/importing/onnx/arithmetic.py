"""Functions of each number, and of several at one place."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np

from secateur.importing.onnx.aligning import together
from secateur.importing.onnx.calls import Call, Conversion, Made, Refused
from secateur.importing.onnx.integers import codes
from secateur.importing.onnx.tensors import ELEMENTS, Constant, format_of
from secateur.importing.onnx.values import Tensor
from secateur.network import composites
from secateur.network.building import Builder

_NEVER = 1e30
"""A threshold above which a softplus is x itself, that nothing reaches."""
_SELU = (1.6732632423543772, 1.0507009873554805)


def of_one(function: Callable[[Call, str], str]) -> Conversion:
    """Of a function of the value of the first input, that leaves every number where it is."""

    def convert(call: Call) -> Made:
        tensor = call.tensor(0)
        return call.like(tensor, function(call, tensor.base))

    return convert


def _named(op: str) -> Conversion:
    return of_one(lambda call, x: call.emit(op, x))


def _relu(call: Call, x: str) -> str:
    return composites.clamp(call.build, x, 0, None)


def _scaled(op: str, factor: float = 1.0, before: float = 0.0, after: float = 0.0) -> Conversion:
    """factor · op(x + before) + after."""

    def function(call: Call, x: str) -> str:
        made = call.emit(op, call.emit("add", x, before) if before else x)
        made = call.emit("mul", made, factor) if factor != 1 else made
        return call.emit("add", made, after) if after else made

    return of_one(function)


def _with_alpha(op: str, ours: str, default: float) -> Conversion:
    return of_one(lambda call, x: call.emit(op, x, **{ours: float(call.attribute("alpha", default))}))


def _selu(call: Call, x: str) -> str:
    alpha, gamma = (float(call.attribute(name, value)) for name, value in zip(("alpha", "gamma"), _SELU, strict=True))
    if math.isclose(alpha, _SELU[0], rel_tol=1e-6) and math.isclose(gamma, _SELU[1], rel_tol=1e-6):
        return call.emit("selu", x)
    return call.emit("mul", call.emit("elu", x, alpha=alpha), gamma)


def _celu(call: Call, x: str) -> str:
    alpha = float(call.attribute("alpha", 1.0))
    return call.emit("mul", call.emit("elu", call.emit("mul", x, 1 / alpha), alpha=1.0), alpha)


def _hardsigmoid(call: Call, x: str) -> str:
    alpha, beta = float(call.attribute("alpha", 0.2)), float(call.attribute("beta", 0.5))
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return call.emit("hardsigmoid", x)
    return composites.clamp(call.build, call.emit("add", call.emit("mul", x, alpha), beta), 0.0, 1.0)


def _gelu(call: Call, x: str) -> str:
    return call.emit("gelu", x, approximate=str(call.attribute("approximate", "none")))


def _fast_gelu(call: Call) -> Made:
    """The approximation by tanh, of x plus a bias where there is one (com.microsoft)."""
    return _with_bias(call, lambda x: call.emit("gelu", x, approximate="tanh"))


def _bias_gelu(call: Call) -> Made:
    return _with_bias(call, lambda x: call.emit("gelu", x, approximate="none"))


def _with_bias(call: Call, function: Callable[[str], str]) -> Made:
    held = [each for each in call.held if each is not None]
    pair = together(call, held)
    x = pair.values[0] if len(held) == 1 else call.emit("add", *pair.values)
    return call.made(function(x), pair.place, pair.format)


def _quick_gelu(call: Call, x: str) -> str:
    return call.emit("mul", x, call.emit("sigmoid", call.emit("mul", x, float(call.attribute("alpha", 1.702)))))


def _swish(call: Call, x: str) -> str:
    alpha = float(call.attribute("alpha", 1.0))
    return call.emit("silu", x) if alpha == 1 else call.emit("mul", x, call.emit("sigmoid", call.emit("mul", x, alpha)))


def _softplus(call: Call, x: str) -> str:
    return call.emit("softplus", x, beta=1.0, threshold=_NEVER)


def _softsign(call: Call, x: str) -> str:
    return call.emit("div", x, call.emit("add", call.emit("abs", x), 1.0))


def _thresholded(call: Call, x: str) -> str:
    above = call.emit("less", float(call.attribute("alpha", 1.0)), x)
    return call.emit("where", above, x, 0.0)


def _shrink(call: Call, x: str) -> str:
    most, bias = float(call.attribute("lambd", 0.5)), float(call.attribute("bias", 0.0))
    above, below = call.emit("less", most, x), call.emit("less", x, -most)
    upper = call.emit("where", above, call.emit("sub", x, bias), 0.0)
    return call.emit("where", below, call.emit("add", x, bias), upper)


def _tan(call: Call, x: str) -> str:
    return call.emit("div", call.emit("sin", x), call.emit("cos", x))


def _spelled(composite: Callable[[Builder, str], str]) -> Conversion:
    return of_one(lambda call, x: composite(call.build, x))


def _isnan(call: Call) -> Made:
    tensor = call.tensor(0)
    return call.made(call.emit("logical_not", call.emit("equal", tensor.base, tensor.base)), tensor.place)


def _isinf(call: Call) -> Made:
    tensor = call.tensor(0)
    signs = [sign for sign, name in ((1, "detect_positive"), (-1, "detect_negative")) if call.flag(name, 1)]
    found = [call.emit("equal", tensor.base, sign * math.inf) for sign in signs]
    none = call.emit("less", tensor.base, -math.inf)
    return call.made(reduce(lambda left, right: call.emit("logical_or", left, right), found, none), tensor.place)


def _clip(call: Call) -> Made:
    """Bounds are attributes before operator set 11."""
    tensor = call.tensor(0)
    bounds: list[str | float | None] = [_bound(call, tensor, name, at) for at, name in enumerate(("min", "max"), 1)]
    return call.like(tensor, composites.clamp(call.build, tensor.base, *bounds))


def _bound(call: Call, tensor: Tensor, name: str, at: int) -> str | float | None:
    if name in call.attributes:
        found = float(call.attribute(name))
        return None if abs(found) >= 3.4e38 else found
    if not call.has(at):
        return None
    held = call.held[at]
    if isinstance(held, Constant) and held.array.dtype != object and held.array.size == 1:
        number = held.array.reshape(-1)[0].item()
        if isinstance(number, float) and not math.isfinite(number):
            return None if math.isinf(number) and (number < 0) == (name == "min") else number
        return number
    return together(call, [tensor, held]).values[1]  # type: ignore[list-item]


def _prelu(call: Call) -> Made:
    """Before operator set 7 slopes are of channels, whatever lies behind them."""
    held = call.held[1] if call.has(1) else None
    if isinstance(held, Constant) and held.array.ndim == 1 and call.version < 7:
        behind = (1,) * max(0, call.tensor(0).rank - 2)
        held = Constant(held.array.reshape(-1, *behind), held.format)
    if isinstance(held, Constant) and held.array.size == 1:
        slope = float(call.number(1, "a slope"))
        tensor = call.tensor(0)
        return call.like(tensor, call.emit("leaky_relu", tensor.base, negative_slope=slope))
    pair = together(call, [call.tensor(0), held])  # type: ignore[list-item]
    x, slopes = pair.values
    below = call.emit("mul", call.emit("minimum", x, 0.0), slopes)
    return call.made(call.emit("add", call.emit("relu", x), below), pair.place, pair.format)


def of_several(op: str) -> Conversion:
    """The first with the second, that with the third, and so on."""

    def convert(call: Call) -> Made:
        some = [each for each in call.held if each is not None]
        found = together(call, some)
        if op in ("add", "sub", "mul"):
            call.refuse_narrow(found.format)
        made = reduce(lambda left, right: call.emit(op, left, right), found.values)
        return call.made(made, found.place, found.format)

    return convert


def _mean(call: Call) -> Made:
    found = together(call, [each for each in call.held if each is not None])
    total = reduce(lambda left, right: call.emit("add", left, right), found.values)
    return call.made(call.emit("mul", total, 1 / len(found.values)), found.place, found.format)


def _div(call: Call) -> Made:
    pair = together(call, [each for each in call.held if each is not None])
    if ELEMENTS[pair.format] == "float32":
        return call.made(_quotient(call, *pair.values), pair.place, pair.format)
    return call.made(_truncated(call, *pair.values), pair.place, pair.format)


def _quotient(call: Call, x: str, y: str) -> str:
    """A constant divisor becomes a factor where that is exact, or where it is one of many sums and products."""
    held = call.held[1]
    if isinstance(held, Constant) and held.array.dtype.kind == "f" and bool((held.array != 0).all()):
        with np.errstate(over="ignore", under="ignore"):
            inverse = Constant((1 / held.array.astype(np.float64)).astype(np.float32), "float32")
        if bool(np.isfinite(inverse.array).all()):
            return call.emit("mul", x, together(call, [call.held[0], inverse]).values[1])  # type: ignore[list-item]
    return call.emit("div", x, y)


def _truncated(call: Call, x: str, y: str) -> str:
    """Of whole numbers, towards zero."""
    signs = call.emit("mul", call.emit("sign", x), call.emit("sign", y))
    return call.emit("mul", signs, call.emit("floor_div", call.emit("abs", x), call.emit("abs", y)))


def _mod(call: Call) -> Made:
    pair = together(call, [each for each in call.held if each is not None])
    x, y = pair.values
    if not call.flag("fmod"):
        return call.made(call.emit("remainder", x, y), pair.place, pair.format)
    left = call.emit("remainder", call.emit("abs", x), call.emit("abs", y))
    return call.made(call.emit("mul", call.emit("sign", x), left), pair.place, pair.format)


def _pow(call: Call) -> Made:
    base, exponent = call.held[0], call.held[1]
    number = _one_number(exponent)
    if number is not None:
        tensor = call.tensor(0)
        return call.like(tensor, _power(call, tensor, number))
    pair = together(call, [base, exponent], "float32")  # type: ignore[list-item]
    made = _raised(call, *pair.values)
    format = base.format if isinstance(base, (Constant, Tensor)) else "float32"
    if ELEMENTS[format] != "float32":
        made = call.emit("cast", call.emit("round", made), element=ELEMENTS[format])
    return call.made(made, pair.place, format)


def _one_number(held: object) -> float | None:
    if isinstance(held, Constant) and held.array.size and held.array.dtype != object:
        flat = held.array.reshape(-1)
        return float(flat[0]) if (bool((flat == flat[0]).all()) and held.array.ndim == 0) or flat.size == 1 else None
    return None


def _power(call: Call, tensor: Tensor, exponent: float) -> str:
    x, element = tensor.base, ELEMENTS[tensor.format]
    if exponent == 2:
        call.refuse_narrow(tensor.format)
        return call.emit("mul", x, x)
    if element != "float32":
        made = call.emit("pow", call.emit("cast", x, element="float32"), exponent=exponent)
        return call.emit("cast", call.emit("round", made), element=element)
    plain = {0.5: "sqrt", -0.5: "rsqrt", -1.0: "reciprocal"}.get(exponent)
    return call.emit(plain, x) if plain else call.emit("pow", x, exponent=exponent)


def _raised(call: Call, x: str, y: str) -> str:
    """x to the power of y by logarithms; below 0 for whole exponents only."""
    size = call.emit("exp", call.emit("mul", y, call.emit("log", call.emit("abs", x))))
    odd = call.emit("equal", call.emit("remainder", y, 2.0), 1.0)
    whole = call.emit("equal", call.emit("floor", y), y)
    below = call.emit("where", odd, call.emit("neg", size), size)
    below = call.emit("where", whole, below, math.nan)
    made = call.emit("where", call.emit("less", x, 0.0), below, size)
    return call.emit("where", call.emit("equal", y, 0.0), 1.0, made)


def _compared(op: str, *, swapped: bool = False) -> Conversion:
    def convert(call: Call) -> Made:
        held: Sequence[object] = [each for each in call.held if each is not None]
        pair = together(call, held, "int32" if _are_truth(held) else None)  # type: ignore[arg-type]
        values = pair.values[::-1] if swapped else pair.values
        return call.made(call.emit(op, *values), pair.place, "bool")

    return convert


def _are_truth(held: Sequence[object]) -> bool:
    return all(isinstance(each, (Constant, Tensor)) and each.format == "bool" for each in held)


def _xor(call: Call) -> Made:
    pair = together(call, [each for each in call.held if each is not None])
    either, both = call.emit("logical_or", *pair.values), call.emit("logical_and", *pair.values)
    return call.made(call.emit("logical_and", either, call.emit("logical_not", both)), pair.place, "bool")


def _where(call: Call) -> Made:
    three = together(call, [each for each in call.held if each is not None])
    chosen = [each for each in call.held[1:] if isinstance(each, (Constant, Tensor))]
    return call.made(call.emit("where", *three.values), three.place, chosen[0].format)


def _cast(call: Call) -> Made:
    """Before operator set 6 to what it calls by a name."""
    kind = call.attribute("to", 0)
    kind = call.translation.onnx.TensorProto.DataType.Value(kind) if isinstance(kind, str) else int(kind)
    return cast_to(call, call.tensor(0), format_of(kind, "what it casts to"))


def _cast_like(call: Call) -> Made:
    like = call.held[1]
    if not isinstance(like, (Constant, Tensor)):
        raise Refused("takes the format of what is no tensor")
    given = call.held[0]
    if isinstance(given, Constant):
        return call.translation.folding.cast(given, like.format, call.version)
    return cast_to(call, call.tensor(0), like.format)


def cast_to(call: Call, tensor: Tensor, format: str) -> Tensor:
    """The tensor in another format."""
    if format not in ELEMENTS or format in ("int4", "uint4"):
        raise Refused(f"makes {format} of numbers, which a graph does not hold")
    element, tensor = ELEMENTS[format], codes(call, tensor)
    if call.build.element(tensor.base) == element:
        return call.made(tensor.base, tensor.place, format)
    return call.made(call.emit("cast", tensor.base, element=element), tensor.place, format)


CONVERSIONS: dict[str, Conversion] = {
    **{
        name: _named(op)
        for name, op in {
            **{name: name.lower() for name in ("Sigmoid", "Tanh", "Exp", "Log", "Sqrt", "Abs", "Neg", "Floor", "Ceil")},
            **{
                name: name.lower() for name in ("Round", "Erf", "Sin", "Cos", "Reciprocal", "Sign", "Mish", "HardSwish")
            },
            "Not": "logical_not",
        }.items()
    },
    "Relu": of_one(_relu),
    "LeakyRelu": _with_alpha("leaky_relu", "negative_slope", 0.01),
    "Elu": _with_alpha("elu", "alpha", 1.0),
    "Selu": of_one(_selu),
    "Celu": of_one(_celu),
    "HardSigmoid": of_one(_hardsigmoid),
    "Gelu": of_one(_gelu),
    "Swish": of_one(_swish),
    "Softplus": of_one(_softplus),
    "Softsign": of_one(_softsign),
    "ThresholdedRelu": of_one(_thresholded),
    "Shrink": of_one(_shrink),
    "Tan": of_one(_tan),
    "Sinh": _spelled(composites.hyperbolic_sine),
    "Cosh": _spelled(composites.hyperbolic_cosine),
    "Asinh": _spelled(composites.inverse_hyperbolic_sine),
    "Acosh": _spelled(composites.inverse_hyperbolic_cosine),
    "Atanh": _spelled(composites.inverse_hyperbolic_tangent),
    "Asin": _spelled(composites.arcsine),
    "Acos": _spelled(composites.arccosine),
    "Atan": _spelled(composites.arctangent),
    "IsNaN": _isnan,
    "IsInf": _isinf,
    "Clip": _clip,
    "PRelu": _prelu,
    "Add": of_several("add"),
    "Sub": of_several("sub"),
    "Mul": of_several("mul"),
    "Sum": of_several("add"),
    "Max": of_several("maximum"),
    "Min": of_several("minimum"),
    "Mean": _mean,
    "Div": _div,
    "Mod": _mod,
    "Pow": _pow,
    "Equal": _compared("equal"),
    "Less": _compared("less"),
    "LessOrEqual": _compared("less_equal"),
    "Greater": _compared("less", swapped=True),
    "GreaterOrEqual": _compared("less_equal", swapped=True),
    "And": of_several("logical_and"),
    "Or": of_several("logical_or"),
    "Xor": _xor,
    "Where": _where,
    "Cast": _cast,
    "CastLike": _cast_like,
}

MICROSOFT: dict[str, Conversion] = {
    "Gelu": of_one(lambda call, x: call.emit("gelu", x, approximate="none")),
    "FastGelu": _fast_gelu,
    "BiasGelu": _bias_gelu,
    "QuickGelu": of_one(_quick_gelu),
}
