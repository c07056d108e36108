"""Functions of each number, and of two."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from secateur.importing.aten.calls import Call, Conversion
from secateur.importing.aten.held import Constant, Numbers, Shifted
from secateur.importing.aten.reading import anywhere, pair_of_values, scaled
from secateur.importing.placing import Ordinary, Place, Placed
from secateur.network import composites
from secateur.network.building import Builder


def _activation(op: str) -> Callable[[Call], str]:
    return lambda call: call.emit(op, call.operand(call["self"], call.element))


def _leaky_relu(call: Call) -> str:
    return call.emit("leaky_relu", call.value("self"), negative_slope=float(call["negative_slope"]))


def _prelu(call: Call) -> str:
    slope = call["weight"]
    if not isinstance(slope, Constant):
        raise call.error("is supported with constant slopes only")
    return composites.prelu(call.build, call.value("self"), call.bits(slope, "weight"))


def _clamp(call: Call) -> str:
    low, high = (
        next((call[name] for name in names if name in call.arguments), None)
        for names in (("min", "min_val"), ("max", "max_val"))
    )
    bounds = [each if each is None or isinstance(each, (int, float)) else _bound(call, each) for each in (low, high)]
    return composites.clamp(call.build, call.value("self"), *bounds)


def _bound(call: Call, held: Any) -> str:
    return call.value_of(held, call.rank)


def _gelu(call: Call) -> str:
    return call.emit("gelu", call.value("self"), approximate=str(call["approximate"]))


def _add(call: Call) -> str:
    return pair_of_values(call, "add", call["self"], scaled(call, call["other"], call["alpha"]))


def _sum(call: Call) -> Any:
    """Whole numbers plus the numbers of images stand for themselves until rows of all images are looked up by them."""
    held, numbers = call["self"], call["other"]
    if isinstance(held, Numbers):
        held, numbers = numbers, held
    if not isinstance(numbers, Numbers) or not isinstance(held, (str, Placed)) or call["alpha"] != 1:
        return anywhere(_add)(call)
    value, place = (held.base, held.place) if isinstance(held, Placed) else (held, Place(call.dims(held)))
    return Shifted(call.placed(composites.broadcast(call.build, value, call.shape_at(place)), place), numbers.step)


def _sub(call: Call) -> str:
    return _difference(call, call["self"], call["other"])


def _rsub(call: Call) -> str:
    return _difference(call, call["other"], call["self"])


def _difference(call: Call, left: Any, right: Any) -> str:
    """A sum with what is taken away times -1, where either is constant."""
    if any(isinstance(held, (Constant, int, float)) for held in (left, right)):
        return pair_of_values(call, "add", left, scaled(call, right, -call["alpha"]))
    return pair_of_values(call, "sub", left, scaled(call, right, call["alpha"]))


def _mul(call: Call) -> str:
    return pair_of_values(call, "mul", call["self"], call["other"])


def _div(call: Call) -> str:
    divisor = call["other"]
    if divisor == 0:
        raise call.error("is supported by what is not zero")
    if (rounding := call.get("rounding_mode")) is not None:
        return _rounded_quotient(call, str(rounding))
    if not isinstance(divisor, (Constant, int, float)) or isinstance(call["self"], Ordinary) or call.is_ordinary:
        return pair_of_values(call, "div", call["self"], divisor)
    inverse = Constant(1 / divisor.tensor) if isinstance(divisor, Constant) else 1 / divisor
    return pair_of_values(call, "mul", call["self"], inverse)


def _rounded_quotient(call: Call, rounding: str) -> str:
    if rounding == "floor":
        return pair_of_values(call, "floor_div", call["self"], call["other"])
    quotient = pair_of_values(call, "div", call["self"], call["other"], "float32")
    return call.cast(call.cast(quotient, "int64"), call.element)


def _remainder_of_truncated(call: Call) -> str:
    """What is left of a division without fractions, with the sign of what is divided."""
    quotient = pair_of_values(call, "div", call["self"], call["other"], "float32")
    whole = call.cast(call.cast(quotient, "int64"), call.element)
    return pair_of_values(call, "sub", call["self"], pair_of_values(call, "mul", whole, call["other"]))


def _neg(call: Call) -> str:
    return pair_of_values(call, "mul", call["self"], -1.0)


def _pow(call: Call) -> str:
    base, exponent = call["self"], call["exponent"]
    if isinstance(exponent, Constant) and exponent.tensor.numel() == 1:
        exponent = float(exponent.tensor)
    if isinstance(base, (int, float)) and base > 0:
        powers = call.value_of(exponent)
        return call.emit("exp", call.emit("mul", powers, math.log(base)))
    if isinstance(exponent, Constant) and not bool((exponent.tensor == exponent.tensor.floor()).any()):
        powers = pair_of_values(call, "mul", call.emit("log", call.value_of(base)), exponent)
        return call.emit("exp", powers)  # of what is below zero these have no power either
    if not isinstance(exponent, (int, float)):
        return _spelled_of_two(composites.power, "exponent")(call)
    if exponent == 2:
        return pair_of_values(call, "mul", base, base)
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


def _square(call: Call) -> str:
    value = call.value("self")
    return call.emit("mul", value, value)


def _add_product(op: str) -> Conversion:
    """x + factor · (a op b)."""

    def convert(call: Call) -> str:
        made = pair_of_values(call, op, call["tensor1"], call["tensor2"])
        return pair_of_values(call, "add", call["self"], scaled(call, made, call["value"]))

    return convert


def _lerp(call: Call) -> str:
    """From one value on, so much of the way to the other."""
    way = pair_of_values(call, "sub", call["end"], call["self"])
    return pair_of_values(call, "add", call["self"], pair_of_values(call, "mul", way, call["weight"]))


def _celu(call: Call) -> str:
    """alpha · ELU(x / alpha)."""
    alpha = float(call["alpha"])
    made = call.emit("elu", call.emit("mul", call.value("self"), 1 / alpha), alpha=1.0)
    return call.emit("mul", made, alpha)


def _log_sigmoid(call: Call) -> Any:
    made = call.emit("softplus", call.emit("neg", call.value("self")), beta=1.0, threshold=_NEVER)
    made = call.emit("neg", made)
    return made if call.name == "log_sigmoid" else [made, None]


_NEVER = 1e30
"""A threshold above which a softplus is x itself, that nothing reaches."""


def _softshrink(call: Call) -> str:
    """x less what of it lies within ±λ."""
    value, most = call.value("self"), float(call["lambd"])
    return call.emit("sub", value, composites.clamp(call.build, value, -most, most))


def _threshold(call: Call) -> str:
    """x where it is above a number, else another."""
    value = call.value("self")
    above = call.emit("less", float(call["threshold"]), value)
    return call.emit("where", above, value, float(call["value"]))


def _scaled_function(op: str, factor: float = 1.0, before: float = 0.0, after: float = 0.0) -> Conversion:
    """factor · op(x + before) + after."""

    def convert(call: Call) -> str:
        value = call.value("self")
        made = call.emit(op, call.emit("add", value, before) if before else value)
        made = call.emit("mul", made, factor) if factor != 1 else made
        return call.emit("add", made, after) if after else made

    return convert


def _tangent(call: Call) -> str:
    value = call.value("self")
    return call.emit("div", call.emit("sin", value), call.emit("cos", value))


def _spelled(composite: Callable[[Builder, str], str]) -> Conversion:
    return lambda call: composite(call.build, call.operand(call["self"], call.element))


def _spelled_of_two(composite: Callable[[Builder, str, str], str], other: str = "other") -> Conversion:
    def convert(call: Call) -> str:
        left, right = (call.operand(call[name], call.element, call.rank) for name in ("self", other))
        if not all(
            isinstance(call[name], Constant) or call.fits(value) for name, value in (("self", left), (other, right))
        ):
            raise call.error("broadcasts values of different numbers of dimensions, the batch against another")
        return composite(call.build, left, right)

    return convert


def _number_rather(op: str) -> Callable[[Builder, str, str], str]:
    """The larger or smaller of two; of a number and none the number."""

    def composite(build: Builder, left: str, right: str) -> str:
        made = build.emit(op, left, right)
        for each, other in ((left, right), (right, left)):
            made = build.emit("where", build.emit("equal", each, each), made, other)
        return made

    return composite


def _with_sign(build: Builder, size: str, sign: str) -> str:
    size = build.emit("abs", size)
    return build.emit("where", build.emit("less", sign, 0.0), build.emit("neg", size), size)


def _times_power_of_two(build: Builder, value: str, exponent: str) -> str:
    return build.emit("mul", value, build.emit("exp", build.emit("mul", exponent, math.log(2))))


def _random_slope(call: Call) -> str:
    """Without training the mean of what the slope may be."""
    slope = (float(call["lower"]) + float(call["upper"])) / 2
    return call.emit("leaky_relu", call.value("self"), negative_slope=slope)


def _of_two(op: str) -> Conversion:
    return lambda call: pair_of_values(call, op, call["self"], call["other"])


def _glu(call: Call) -> str:
    value = call.value("self")
    return composites.glu(call.build, value, call.axis(call["dim"], value))


_FUNCTIONS = (
    *("relu", "relu6", "hardswish", "hardsigmoid", "silu", "sigmoid", "tanh", "selu", "mish"),
    *("abs", "exp", "log", "sqrt", "rsqrt", "sin", "cos", "erf", "reciprocal"),
)

_COMPOSITES = {
    "atan": composites.arctangent,
    "asin": composites.arcsine,
    "acos": composites.arccosine,
    "sinh": composites.hyperbolic_sine,
    "cosh": composites.hyperbolic_cosine,
    "asinh": composites.inverse_hyperbolic_sine,
    "acosh": composites.inverse_hyperbolic_cosine,
    "atanh": composites.inverse_hyperbolic_tangent,
}

_WITH_BATCH_ANYWHERE: dict[str, Conversion] = {
    **{op: _activation(op) for op in _FUNCTIONS},
    "leaky_relu": _leaky_relu,
    "hardtanh": _clamp,
    "clamp": _clamp,
    "clamp_min": _clamp,
    "clamp_max": _clamp,
    "gelu": _gelu,
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
    "square": _square,
    "addcmul": _add_product("mul"),
    "addcdiv": _add_product("div"),
    "lerp": _lerp,
    "glu": _glu,
    "celu": _celu,
    **dict.fromkeys(("log_sigmoid", "log_sigmoid_forward"), _log_sigmoid),
    "softshrink": _softshrink,
    "threshold": _threshold,
    "tan": _tangent,
    "fmod": _remainder_of_truncated,
    "rrelu": _random_slope,
    "atan2": _spelled_of_two(composites.angle_of),
    "hypot": _spelled_of_two(composites.hypotenuse),
    "copysign": _spelled_of_two(_with_sign),
    "ldexp": _spelled_of_two(_times_power_of_two),
    "fmax": _spelled_of_two(_number_rather("maximum")),
    "fmin": _spelled_of_two(_number_rather("minimum")),
    "signbit": lambda call: call.emit("less", call.value("self"), 0.0),
    **{name: _spelled(composite) for name, composite in _COMPOSITES.items()},
    "exp2": lambda call: call.emit("exp", call.emit("mul", call.value("self"), math.log(2))),
    "log1p": _scaled_function("log", before=1.0),
    "expm1": _scaled_function("exp", after=-1.0),
    "log2": _scaled_function("log", 1 / math.log(2)),
    "log10": _scaled_function("log", 1 / math.log(10)),
    "erfc": _scaled_function("erf", -1.0, after=1.0),
}

CONVERSIONS: dict[str, Conversion] = {
    **{name: anywhere(each) for name, each in _WITH_BATCH_ANYWHERE.items()},
    "add": _sum,
    "prelu": _prelu,
    "_prelu_kernel": _prelu,
}
