"""Functions of each number, and of two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from secateur.importing.aten.calls import Call, Constant, Conversion
from secateur.importing.aten.reading import anywhere, pair_of_values
from secateur.importing.aten.wholes import HELD
from secateur.network import composites


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


def _scaled(call: Call, held: Any, factor: float) -> Any:
    if factor == 1:
        return held
    if isinstance(held, (int, float)):
        return held * factor
    if isinstance(held, Constant):
        return Constant(held.tensor * factor)
    return pair_of_values(call, "mul", held, factor)


def _add(call: Call) -> str:
    return pair_of_values(call, "add", call["self"], _scaled(call, call["other"], call["alpha"]))


def _sub(call: Call) -> str:
    return _difference(call, call["self"], call["other"])


def _rsub(call: Call) -> str:
    return _difference(call, call["other"], call["self"])


def _difference(call: Call, left: Any, right: Any) -> str:
    """A sum with what is taken away times -1, where either is constant."""
    if any(isinstance(held, (Constant, int, float)) for held in (left, right)):
        return pair_of_values(call, "add", left, _scaled(call, right, -call["alpha"]))
    return pair_of_values(call, "sub", left, _scaled(call, right, call["alpha"]))


def _mul(call: Call) -> str:
    return pair_of_values(call, "mul", call["self"], call["other"])


def _div(call: Call) -> str:
    divisor = call["other"]
    if divisor == 0 or call.get("rounding_mode") is not None:
        raise call.error("is supported by what is not zero, and without rounding")
    if not isinstance(divisor, (Constant, int, float)):
        return pair_of_values(call, "div", call["self"], divisor)
    inverse = Constant(1 / divisor.tensor) if isinstance(divisor, Constant) else 1 / divisor
    return pair_of_values(call, "mul", call["self"], inverse)


def _neg(call: Call) -> str:
    return pair_of_values(call, "mul", call["self"], -1.0)


def _pow(call: Call) -> str:
    base, exponent = call["self"], call["exponent"]
    if isinstance(exponent, Constant) and exponent.tensor.numel() == 1:
        exponent = float(exponent.tensor)
    if not isinstance(exponent, (int, float)):
        raise call.error("is supported with an exponent that is one constant number only")
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


def _of_two(op: str) -> Conversion:
    def convert(call: Call) -> str:
        if "other" not in call.arguments:
            raise call.error(f"is not supported along a dimension; {HELD}")
        return pair_of_values(call, op, call["self"], call["other"])

    return convert


def _glu(call: Call) -> str:
    value = call.value("self")
    return composites.glu(call.build, value, call.axis(call["dim"], value))


_FUNCTIONS = (
    *("relu", "relu6", "hardswish", "hardsigmoid", "silu", "sigmoid", "tanh", "selu", "mish"),
    *("abs", "exp", "log", "sqrt", "rsqrt", "sin", "cos", "erf", "reciprocal"),
)

_WITH_BATCH_ANYWHERE: dict[str, Conversion] = {
    **{op: _activation(op) for op in _FUNCTIONS},
    "leaky_relu": _leaky_relu,
    "hardtanh": _clamp,
    "clamp": _clamp,
    "clamp_min": _clamp,
    "gelu": _gelu,
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
    "glu": _glu,
}

CONVERSIONS: dict[str, Conversion] = {
    **{name: anywhere(each) for name, each in _WITH_BATCH_ANYWHERE.items()},
    "prelu": _prelu,
    "_prelu_kernel": _prelu,
}
