"""Functions of each number, or of two, spelled with those that a Graph has."""

from __future__ import annotations

import math

from secateur.network.building import Builder, Operand

_ARCTANGENT = (1, -0.3333314528, 0.1999355085, -0.1420889944, 0.1065626393, -0.0752896400, 0.0429096138, -0.0161657367)
_LAST = 0.0028662257
"""arctan t = t · Σ aₖ t²ᵏ within 2e-8 for 0 ≤ t ≤ 1: Abramowitz & Stegun 4.4.49."""


def arctangent(build: Builder, value: str) -> str:
    """Beyond 1 it is a quarter of a turn less that of the reciprocal."""
    size = build.emit("abs", value)
    beyond = build.emit("less", 1.0, size)
    inner = build.emit("where", beyond, build.emit("reciprocal", size), size)
    square = build.emit("mul", inner, inner)
    total: Operand = _LAST
    for factor in reversed(_ARCTANGENT):
        total = build.emit("add", build.emit("mul", square, total), float(factor))
    angle = build.emit("mul", inner, total)
    return build.emit(
        "mul", build.emit("sign", value), build.emit("where", beyond, build.emit("sub", math.pi / 2, angle), angle)
    )


def angle_of(build: Builder, up: str, along: str) -> str:
    """Of points of a plane, from −π to π; 0 in the origin."""
    nowhere = build.emit("logical_and", build.emit("equal", up, 0.0), build.emit("equal", along, 0.0))
    half = arctangent(build, build.emit("div", up, build.emit("where", nowhere, 1.0, along)))
    turn = build.emit("where", build.emit("less", up, 0.0), -math.pi, math.pi)
    return build.emit("add", half, build.emit("where", build.emit("less", along, 0.0), turn, 0.0))


def arcsine(build: Builder, value: str) -> str:
    below, above = build.emit("sub", 1.0, value), build.emit("add", value, 1.0)
    return arctangent(build, build.emit("div", value, build.emit("sqrt", build.emit("mul", below, above))))


def arccosine(build: Builder, value: str) -> str:
    below, above = build.emit("sub", 1.0, value), build.emit("add", value, 1.0)
    return build.emit("mul", arctangent(build, build.emit("sqrt", build.emit("div", below, above))), 2.0)


def hyperbolic_sine(build: Builder, value: str) -> str:
    return _of_two_exponentials(build, "sub", value)


def hyperbolic_cosine(build: Builder, value: str) -> str:
    return _of_two_exponentials(build, "add", value)


def _of_two_exponentials(build: Builder, op: str, value: str) -> str:
    pair = build.emit("exp", value), build.emit("exp", build.emit("neg", value))
    return build.emit("mul", build.emit(op, *pair), 0.5)


def inverse_hyperbolic_sine(build: Builder, value: str) -> str:
    size = build.emit("abs", value)
    root = build.emit("sqrt", build.emit("add", build.emit("mul", value, value), 1.0))
    return build.emit("mul", build.emit("sign", value), build.emit("log", build.emit("add", size, root)))


def inverse_hyperbolic_cosine(build: Builder, value: str) -> str:
    root = build.emit("sqrt", build.emit("add", build.emit("mul", value, value), -1.0))
    return build.emit("log", build.emit("add", value, root))


def inverse_hyperbolic_tangent(build: Builder, value: str) -> str:
    ratio = build.emit("div", build.emit("add", value, 1.0), build.emit("sub", 1.0, value))
    return build.emit("mul", build.emit("log", ratio), 0.5)


def hypotenuse(build: Builder, along: Operand, up: Operand) -> str:
    """√(x² + y²)."""
    return build.emit("sqrt", build.emit("add", build.emit("mul", along, along), build.emit("mul", up, up)))


def power(build: Builder, base: Operand, exponent: Operand) -> str:
    """Of numbers that may have any sign: one below zero has powers of whole exponents only."""
    size = build.emit("exp", build.emit("mul", build.emit("log", build.emit("abs", base)), exponent))
    half = build.emit("mul", exponent, 0.5)
    whole = build.emit("equal", exponent, build.emit("floor", exponent))
    odd = build.emit("logical_not", build.emit("equal", half, build.emit("floor", half)))
    signed = build.emit("where", odd, build.emit("neg", size), size)
    below = build.emit("where", whole, signed, math.nan)
    made = build.emit("where", build.emit("less", base, 0.0), below, size)
    return build.emit("where", build.emit("equal", exponent, 0.0), 1.0, made)
