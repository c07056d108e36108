"""Numbers computed from others at the same place, or along axes."""

from __future__ import annotations

import math
from collections.abc import Callable

from secateur.network.building import Builder
from secateur.network.composites.failing import CompositeError
from secateur.network.composites.moves import cut
from secateur.network.graph import Shape, Weight
from secateur.network.sizes import is_whole


def matrix_product(build: Builder, value: str, matrix: Weight, bias: Weight | None = None) -> str:
    """x @ W + b with W (I, O) and b (O): a linear layer of W transposed."""
    transposed = build.variant(matrix, "transposed", lambda bits: bits.T)
    return build.emit("linear", value, weights={"weight": transposed, **({} if bias is None else {"bias": bias})})


def number_like(build: Builder, value: str, number: float) -> Weight:
    """A number in the format of a value's elements."""
    return build.number(number, build.element(value))


def clamp(build: Builder, value: str, low: str | float | None, high: str | float | None) -> str:
    """No less than low and no more than high, numbers or values: from 0 up, or from 0 to 6, as one operation."""
    op = {(0, None): "relu", (0, 6): "relu6"}.get((low, high))  # type: ignore[arg-type]
    if op is not None and build.element(value) == "float32":
        return build.emit(op, value)
    for op, bound in (("maximum", low), ("minimum", high)):
        if bound is not None:
            value = build.emit(op, value, bound if isinstance(bound, str) else number_like(build, value, bound))
    return value


def prelu(build: Builder, value: str, slope: Weight) -> str:
    """x, or the slope times x where x < 0: one slope for all, or one a channel."""
    if slope.count == 1:
        return build.emit("leaky_relu", value, negative_slope=float(slope.values().reshape(-1)[0]))
    spread = build.reshaped(slope, (slope.count, *(1,) * (len(build.shape(value)) - 1)))
    below = build.emit("mul", build.emit("minimum", value, 0.0), spread)
    return build.emit("add", build.emit("relu", value), below)


def masked_fill(build: Builder, value: str, mask: str, number: float) -> str:
    """The number where the mask, of truth values, says so."""
    return build.emit("where", mask, number_like(build, value, number), value)


def addcmul(build: Builder, value: str, left: str, right: str, scale: float = 1) -> str:
    """value + scale · left · right."""
    product = build.emit("mul", left, right)
    return build.emit("add", value, product if scale == 1 else build.emit("mul", product, scale))


def log_softmax(build: Builder, value: str, axis: int) -> str:
    """x − log Σ eˣ along an axis, with numbers that are never too large."""
    shifted, total = _risen(build, value, (axis,))
    return build.emit("sub", shifted, build.emit("log", total))


def log_sum_exp(build: Builder, value: str, axes: Shape, *, keepdims: bool) -> str:
    """log Σ eˣ over axes, with numbers that are never too large."""
    _, total = _risen(build, value, axes)
    made = build.emit("add", build.emit("log", total), build.emit("amax", value, axes=axes, keepdims=True))
    shape = build.shape(value)
    kept = tuple(size for axis, size in enumerate(shape, 1) if axis not in axes)
    return made if keepdims else build.emit("reshape", made, shape=kept)


def _risen(build: Builder, value: str, axes: Shape) -> tuple[str, str]:
    """How far numbers are from the largest over axes, and the sum of e to that."""
    shifted = build.emit("sub", value, build.emit("amax", value, axes=axes, keepdims=True))
    return shifted, build.emit("sum", build.emit("exp", shifted), axes=axes, keepdims=True)


def any_of(build: Builder, value: str, axes: Shape, *, keepdims: bool) -> str:
    """Whether any of the numbers, or truth values, over axes is not 0."""
    return _reduced_truth(build, value, "amax", axes, keepdims)


def all_of(build: Builder, value: str, axes: Shape, *, keepdims: bool) -> str:
    """Whether none of the numbers, or truth values, over axes is 0."""
    return _reduced_truth(build, value, "amin", axes, keepdims)


def _reduced_truth(build: Builder, value: str, op: str, axes: Shape, keepdims: bool) -> str:
    truth = value if build.element(value) == "bool" else build.emit("cast", value, element="bool")
    whole = build.emit("cast", truth, element="int32")
    return build.emit("cast", build.emit(op, whole, axes=axes, keepdims=keepdims), element="bool")


def glu(build: Builder, value: str, axis: int) -> str:
    """The first half along an axis, times the sigmoid of the second."""
    half = build.shape(value)[axis - 1] // 2
    gate = build.emit("sigmoid", cut(build, value, axis, half, 2 * half))
    return build.emit("mul", cut(build, value, axis, 0, half), gate)


def sum_over(build: Builder, value: str, axes: Shape, *, keepdims: bool) -> str:
    """Of numbers with fractions the mean times how many they are, where that is known."""
    count = math.prod(build.shape(value)[axis - 1] for axis in axes)
    if not is_whole((count,)) or build.element(value) != "float32":
        return build.emit("sum", value, axes=axes, keepdims=keepdims)
    return build.emit("mul", build.emit("mean", value, axes=axes, keepdims=keepdims), count)


def running(build: Builder, value: str, axis: int, combine: Callable[[str, str], str]) -> str:
    """What an axis' numbers up to each come to: of one number, two, four and so on, until all are in.

    combine: of what is there with what is earlier.
    """
    size = build.shape(value)[axis - 1]
    if not is_whole((size,)):
        raise CompositeError(f"is not supported along a length ({size})")
    reach = 1
    while reach < size:
        earlier = cut(build, value, axis, 0, size - reach)
        first, later = (cut(build, value, axis, *ends) for ends in ((0, reach), (reach, size)))
        value = build.emit("concat", first, combine(later, earlier), axis=axis)
        reach *= 2
    return value
