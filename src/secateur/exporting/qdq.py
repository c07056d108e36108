"""Eight bits as ONNX has them: DequantizeLinear, an operation on numbers, QuantizeLinear (QDQ).

Engines recognise that form and compute with the integers. What they give is within a step of what the graph means:
their roundings of scales differ, and where they compute in float32 so do sums. Those that multiply uint8 with int8 in
pairs of 16 bits saturate (`vpmaddubsw`: processors with AVX2 or AVX-512 and no VNNI); with weights beyond ±64 ONNX
Runtime is further off there, unless its setting session.x64quantprecision is 1 (judging.WHOLE_SUMS).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from secateur.network.formats import FORMATS
from secateur.network.graph import Node
from secateur.network.quantisation import Quantisation

if TYPE_CHECKING:
    from secateur.exporting.onnx import Translation

Convert = Callable[["Translation", Node], None]


def quantise(made: Translation, node: Node) -> None:
    _quantised(made, node, node.inputs[0])


def dequantise(made: Translation, node: Node) -> None:
    made.add("DequantizeLinear", _with_scale(made, node.inputs[0]), node.name)


def in_numbers(convert: Convert) -> Convert:
    """The conversion of an operation on numbers, made one of operations on integers that stand for them.

    Each reader has a DequantizeLinear of its own, as engines expect.
    """

    def converted(made: Translation, node: Node) -> None:
        inputs = tuple(_dequantised(made, node, name) for name in node.inputs)
        if node.name not in made.quantised:
            convert(made, replace(node, inputs=inputs))
            return
        numbers = made.fresh(f"{node.name}.numbers")
        convert(made, replace(node, name=numbers, inputs=inputs))
        _quantised(made, node, numbers)

    return converted


def layer(convert: Callable[[Translation, Node, str, str], None]) -> Convert:
    """A layer of integer weights, with a residual if there is one. convert: with the names of weight and bias."""

    def converted(made: Translation, node: Node) -> None:
        x, *residual = node.inputs
        product = made.fresh(f"{node.name}.product") if residual else node.name
        convert(made, replace(node, name=product, inputs=(x,)), _weight(made, node), _bias(made, node))
        if residual:
            made.add("Add", [product, *residual], node.name)

    return converted


def _weight(made: Translation, node: Node) -> str:
    """A scale for each output, zero points of 0."""
    weight, scale = (made.stored(node.weights[role]) for role in ("weight", "scale"))
    zeros = made.tensor(f"{weight}.zero_points", np.zeros(len(_scales(made, node)), np.int8))
    return made.step("DequantizeLinear", [weight, scale, zeros], node, axis=0)


def _bias(made: Translation, node: Node) -> str:
    """Its scale is that of the sums that it is added to."""
    if "bias" not in node.weights:
        return ""
    bias, scales = made.stored(node.weights["bias"]), _scales(made, node)
    scale = made.tensor(f"{bias}.scale", np.float32(node.number("input_scale")) * scales)
    zeros = made.tensor(f"{bias}.zero_points", np.zeros(len(scales), np.int32))
    return made.step("DequantizeLinear", [bias, scale, zeros], node, axis=0)


def _scales(made: Translation, node: Node) -> np.ndarray:
    return made.graph.weights[node.weights["scale"]].values()


def _dequantised(made: Translation, node: Node, name: str) -> str:
    if name not in made.quantised:
        return name
    found = made.step("DequantizeLinear", _with_scale(made, name), node)
    made.shapes[found] = made.shapes[name]
    if name in made.fixed:
        made.fixed.add(found)
    return found


def _quantised(made: Translation, node: Node, numbers: str) -> None:
    """Numbers as the integers that the node gives. Bounds that the format does not set are set on the integers."""
    to = made.quantised[node.name]
    low, high = (node.attributes.get(name, bound) for name, bound in (("low", to.least), ("high", to.most)))
    if (low, high) == (to.least, to.most):
        made.add("QuantizeLinear", [numbers, *_scale_of(made, to)], node.name)
        return
    whole = made.step("QuantizeLinear", [numbers, *_scale_of(made, to)], node)
    kind = FORMATS[to.element].numbers
    bounds = [
        made.tensor(f"{node.name}.{name}", np.array(bound, kind)) for name, bound in (("low", low), ("high", high))
    ]
    made.add("Clip", [whole, *bounds], node.name)


def _with_scale(made: Translation, name: str) -> list[str]:
    return [name, *_scale_of(made, made.quantised[name])]


def _scale_of(made: Translation, quantisation: Quantisation) -> tuple[str, str]:
    """The names of the scale and the zero point, stored once for all values that share them."""
    if quantisation not in made.scales:
        scale = made.number("scale", quantisation.scale)
        zero_point = np.array(quantisation.zero_point, FORMATS[quantisation.element].numbers)
        made.scales[quantisation] = scale, made.tensor("zero_point", zero_point)
    return made.scales[quantisation]
