"""What operations on quantised values mean: sums in whole numbers, exact, and then what `network.quantisation` says.

float64 holds every whole number up to 2⁵³, so that sums of fewer than 2³¹ are exact in it, in whatever order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from secateur.network import quantisation
from secateur.network.formats import FORMATS
from secateur.network.nodes import Node, Shape
from secateur.network.operations import meanings
from secateur.network.operations.declaration import Array, Meaning, Weights
from secateur.network.quantisation import Integers, Quantisation, Single, multiplier, rescaled, saturated


def quantise(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    return quantisation.quantise(_single(inputs[0]), _output(node, ""))


def dequantise(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    return rescaled(_centred(node, "", inputs[0]), node.number("scale")).astype(np.float64)


def conv2d(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    return _layer(meanings.conv2d, (-1, 1, 1), node, inputs, weights)


def linear(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    return _layer(meanings.linear, (-1,), node, inputs, weights)


def _layer(sums: Meaning, per_output: tuple[int, ...], node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    """sums: of the layer in float64. per_output: the shape in which numbers of each output broadcast."""
    total = sums(node, [_centred(node, "input_", inputs[0]).astype(np.float64)], weights).astype(np.int64)
    numbers = rescaled(total, _multipliers(node, weights).reshape(per_output))
    if len(inputs) > 1:
        numbers = numbers + _residual(node, inputs[1])
    if node.attributes["element"] == "float32":
        return numbers.astype(np.float64)
    return saturated(numbers, _output(node), node.whole("low"), node.whole("high"))


def _multipliers(node: Node, weights: Weights) -> Single:
    """(O,)."""
    scales = weights["scale"].astype(np.float32)
    return quantisation.output_multipliers(node.number("input_scale"), scales, node.number("output_scale"))


def _residual(node: Node, residual: Array) -> Single:
    if node.attributes["element"] == "float32":
        return _single(residual)
    return rescaled(_centred(node, "residual_", residual), _ratio(node, "residual_scale"))


def add(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    left, right = (
        rescaled(_centred(node, prefix, x), _ratio(node, f"{prefix}scale"))
        for prefix, x in zip(("left_", "right_"), inputs, strict=True)
    )
    return saturated(left + right, _output(node), node.whole("low"), node.whole("high"))


def mul(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    rank = 1 + len(node.shape)
    left, right = (
        _centred(node, prefix, x).reshape(len(x), *(1,) * (rank - x.ndim), *x.shape[1:])
        for prefix, x in zip(("left_", "right_"), inputs, strict=True)
    )
    numbers = rescaled(left * right, _ratio(node, "left_scale", "right_scale"))
    return saturated(numbers, _output(node), node.whole("low"), node.whole("high"))


def avg_pool2d(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    return _mean(node, *meanings.window_sums(node, _centred(node, "input_", inputs[0])))


def adaptive_avg_pool2d(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    return _mean(node, *meanings.adaptive_sums(node, _centred(node, "input_", inputs[0])))


def mean(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    x, axes = _centred(node, "input_", inputs[0]), node.numbers("axes")
    count = np.array(math.prod(x.shape[axis] for axis in axes))
    return _mean(node, x.sum(axes, keepdims=bool(node.attributes["keepdims"])), count)


def _mean(node: Node, total: Array, count: Array) -> Array:
    scales = (np.float64(np.float32(node.number(f"{each}_scale"))) for each in ("input", "output"))
    given, made = scales
    return saturated(rescaled(total, multiplier(given, made * count)), _output(node))


def table(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    (x,), made = inputs, _output(node)
    least = np.iinfo(x.dtype).min
    return weights["table"].astype(FORMATS[made.element].numbers)[x.astype(np.int64) - least]


def _ratio(node: Node, *scales: str) -> Single:
    """The product of scales over that of the output."""
    product = math.prod(np.float64(np.float32(node.number(name))) for name in scales)
    return multiplier(product, np.float64(np.float32(node.number("output_scale"))))


def _centred(node: Node, prefix: str, x: Array) -> Integers:
    """How far integers are from the zero point."""
    return x.astype(np.int64) - node.whole(f"{prefix}zero_point")


def _output(node: Node, prefix: str = "output_") -> Quantisation:
    element = str(node.attributes["element"])
    return Quantisation(element, node.number(f"{prefix}scale"), node.whole(f"{prefix}zero_point"))


def _single(x: Array) -> Single:
    return x.astype(np.float32)


def demands_of_layers(node: Node, weights: Weights, inputs: Sequence[Shape]) -> str:
    """What was expected of a layer's numbers: scales that are some, and sums that 32 bits hold."""
    scales = weights["scale"]
    if not (np.isfinite(scales) & (scales > 0)).all():
        return "scales of weights above 0, and finite"
    if not np.isfinite(_multipliers(node, weights)).all():
        return "scales whose product, over the output's, is a number of float32"
    most = _most(weights["weight"], weights.get("bias"))
    if most > quantisation.LARGEST_SUM:
        return f"weights and biases whose sums stay below 2³¹ whatever the input, where one may be {most:,}"
    return ""


def demands_of_tables(node: Node, weights: Weights, inputs: Sequence[Shape]) -> str:
    """What was expected of a table's numbers."""
    low, high = quantisation.bounds(str(node.attributes["element"]))
    held = weights["table"]
    return "" if low <= held.min() and held.max() <= high else f"a table of numbers from {low} to {high}"


def _most(weight: Array, bias: Array | None) -> int:
    """How large a sum may be. Weights are looked at only where not even the largest of all would be safe."""
    rows = weight.reshape(len(weight), math.prod(weight.shape[1:]))
    added = np.zeros(len(rows), np.int64) if bias is None else np.abs(bias.astype(np.int64))
    safe = quantisation.FARTHEST * 128 * rows.shape[1] + int(added.max(initial=0))
    if safe <= quantisation.LARGEST_SUM:
        return safe
    sums = np.zeros(len(rows), np.int64)
    for part in meanings.pieces(*rows.shape):
        sums[part] = np.abs(rows[part].astype(np.int16)).sum(axis=1, dtype=np.int64)
    return int((quantisation.FARTHEST * sums + added).max(initial=0))
