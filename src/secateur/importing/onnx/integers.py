"""Eight bits as ONNX files have them, recognised as the quantised operations that they mean.

What a file says with DequantizeLinear, an operation on numbers and QuantizeLinear is looked up from its end: where the
numbers come from integers, the operation becomes one on these, with the file's own scales and zero points. What a Graph
has no such operation for stays between a `dequantise` and a `quantise`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.importing.onnx.calls import Call, Refused
from secateur.importing.onnx.tensors import Constant, Integers
from secateur.importing.onnx.values import Tensor
from secateur.network import quantisation
from secateur.network.graph import Node, Shape, Weight
from secateur.network.operations import OPERATIONS
from secateur.network.quantisation import ELEMENTS, Quantisation
from secateur.network.tabulating import function_of, table_of

_MOVES = ("max_pool2d", "reshape", "permute", "slice", "concat")
_MEANS = ("avg_pool2d", "adaptive_avg_pool2d", "mean")
_NO_RESIDUAL: dict[str, Any] = {"residual_scale": 1.0, "residual_zero_point": 0}
_FLOAT: dict[str, Any] = {"element": "float32", "output_scale": 1.0, "output_zero_point": 0, "low": 0, "high": 0}


def numbers_of(constant: Constant, scale: NDArray[Any], zero: NDArray[Any] | None, axis: int, block: int) -> Constant:
    """What integers stand for, which is kept beside the numbers where these are of eight bits, or 32 without zero."""
    array = constant.array
    scales, zeros = (
        spread_along(each, array.shape, axis, block) for each in (scale, np.zeros(1) if zero is None else zero)
    )
    centred = array.astype(np.int64) - zeros.astype(np.int64)
    made = (centred * scales.astype(np.float32)).astype(np.float32)
    own = Integers(centred, scale.astype(np.float32).reshape(-1), axis, constant) if not block else None
    return Constant(made, "float32", integers=own)


def spread_along(values: NDArray[Any], shape: Shape, axis: int, block: int) -> NDArray[Any]:
    """Scales or zero points as numbers of a shape meet them: one, or several along an axis, each of a block of it."""
    if values.size == 1:
        return values.reshape((1,) * len(shape))
    if not block:
        return values.reshape([-1 if at == axis else 1 for at in range(len(shape))])
    size = shape[axis]
    if not isinstance(size, int) or values.ndim != len(shape) or values.shape[axis] != -(-size // block):
        raise Refused(f"has scales of shape {values.shape} for blocks of {block} along {size}")
    return values.take(np.arange(size) // block, axis)


def real(call: Call, tensor: Tensor, scale: float, zero: int) -> Tensor:
    """What the integers of a tensor stand for."""
    held = call.translation.quantisation_of(tensor.base)
    if held is not None:
        return call.made(call.emit("dequantise", tensor.base, **held.stated()), tensor.place, "float32")
    numbers = call.emit("cast", tensor.base, element="float32")
    numbers = call.emit("add", numbers, float(-zero)) if zero else numbers
    numbers = call.emit("mul", numbers, scale)
    if tensor.format not in ELEMENTS:
        return call.made(numbers, tensor.place, "float32")
    to = Quantisation(tensor.format, scale, zero)
    held_now = call.emit("quantise", numbers, element=to.element, **to.stated())
    return call.made(call.emit("dequantise", held_now, **to.stated()), tensor.place, "float32")


def codes(call: Call, tensor: Tensor) -> Tensor:
    """The integers of a quantised tensor as numbers; others as they are."""
    held = call.translation.quantisation_of(tensor.base)
    if held is None:
        return tensor
    numbers = call.emit("mul", call.emit("dequantise", tensor.base, **held.stated()), 1 / held.scale)
    whole = call.emit("round", call.emit("add", numbers, float(held.zero_point)))
    return call.made(call.emit("cast", whole, element="int32"), tensor.place, tensor.format)


def whole(call: Call, tensor: Tensor, to: Quantisation) -> Tensor:
    """A tensor in eight bits."""
    made = _Looking(call).integers_made(tensor.base, to)
    made = made or call.emit("quantise", tensor.base, element=to.element, **to.stated())
    return call.made(made, tensor.place, to.element)


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Between which a result is clamped, as integers."""

    low: int
    high: int

    def is_plain(self, to: Quantisation) -> bool:
        return (self.low, self.high) == (to.least, to.most)


class _Looking:
    """From a value of numbers back to what it was made of."""

    def __init__(self, call: Call) -> None:
        self.call, self.translation = call, call.translation

    def integers_made(self, value: str, to: Quantisation) -> str | None:
        """The integers that stand for a value, where they can be computed from integers."""
        moved = self.integers(value, to)
        if moved is not None:
            return moved
        node, bounds = self._without_clamps(value, to)
        if node is None:
            return None
        if node.op in ("quantised_conv2d", "quantised_linear") and node.attributes["element"] == "float32":
            return self._layer(node, to, bounds)
        if node.op in ("add", "mul"):
            return self._pair(node, to, bounds)
        if node.op in _MEANS and bounds.is_plain(to):
            return self._mean(node, to)
        return self._table(value, to)

    def integers(self, value: str, of: Quantisation) -> str | None:
        """Integers that a value stands for as they are, perhaps in another shape or order."""
        node = self.translation.node_of(value)
        if node is None:
            return None
        if node.op == "dequantise":
            return node.inputs[0] if self.translation.quantisation_of(node.inputs[0]) == of else None
        if node.op not in _MOVES:
            return None
        given = [self.integers(each, of) for each in node.inputs]
        if any(each is None for each in given):
            return None
        return self.call.emit(node.op, *(each for each in given if each is not None), **node.attributes)

    def quantisation(self, value: str) -> Quantisation | None:
        """Of the integers that a value stands for."""
        node = self.translation.node_of(value)
        while node is not None and node.op in _MOVES:
            node = self.translation.node_of(node.inputs[0])
        return (
            self.translation.quantisation_of(node.inputs[0]) if node is not None and node.op == "dequantise" else None
        )

    def of_any(self, value: str) -> tuple[str, Quantisation] | None:
        found = self.quantisation(value)
        held = None if found is None else self.integers(value, found)
        return None if found is None or held is None else (held, found)

    def _without_clamps(self, value: str, to: Quantisation) -> tuple[Node | None, _Bounds]:
        low, high = to.least, to.most
        node = self.translation.node_of(value)
        while node is not None and node.op in ("relu", "relu6", "maximum", "minimum"):
            limits = self._limits(node)
            if limits is None:
                break
            least, most = (int(quantisation.quantise(np.array([each], np.float32), to)[0]) for each in limits)
            low, high = max(low, least), min(high, most)
            node = self.translation.node_of(node.inputs[0])
        return node, _Bounds(low, max(low, high))

    def _limits(self, node: Node) -> tuple[float, float] | None:
        if node.op in ("relu", "relu6"):
            return 0.0, 6.0 if node.op == "relu6" else math.inf
        bound = self.translation.node_of(node.inputs[1])
        if bound is None or bound.op != "constant" or bound.shape:
            return None
        number = float(self.translation.build.draft.weights[bound.weights["value"]].values())
        return (number, math.inf) if node.op == "maximum" else (-math.inf, number)

    def _layer(self, node: Node, to: Quantisation, bounds: _Bounds) -> str:
        attributes = {**node.attributes, "element": to.element, **to.stated("output_")}
        attributes |= {"low": bounds.low, "high": bounds.high}
        weights = {role: self.translation.build.draft.weights[name] for role, name in node.weights.items()}
        return self.call.emit(node.op, *node.inputs, weights=weights, **attributes)

    def _pair(self, node: Node, to: Quantisation, bounds: _Bounds) -> str | None:
        both = [self.of_any(each) for each in node.inputs]
        left, right = both[0], both[1]
        shapes = [self.call.build.shape(each) for each in node.inputs]
        if left is None or right is None or (node.op == "add" and shapes[0] != shapes[1]):
            return None
        scales = left[1].stated("left_") | right[1].stated("right_") | to.stated("output_")
        attributes = {"element": to.element, **scales, "low": bounds.low, "high": bounds.high}
        return self.call.emit(f"quantised_{node.op}", left[0], right[0], **attributes)

    def _mean(self, node: Node, to: Quantisation) -> str | None:
        given = self.of_any(node.inputs[0])
        if given is None:
            return None
        scales = {"element": to.element, **given[1].stated("input_"), **to.stated("output_")}
        return self.call.emit(f"quantised_{node.op}", given[0], **{**node.attributes, **scales})

    def _table(self, value: str, to: Quantisation) -> str | None:
        node = self.translation.node_of(value)
        function = None if node is None or len(node.inputs) != 1 else function_of(node)
        given = None if node is None or function is None else self.of_any(node.inputs[0])
        if node is None or function is None or given is None:
            return None
        table = Weight.of(table_of(node, given[1], to))
        scales = {"element": to.element, **given[1].stated("input_"), **to.stated("output_")}
        said = {"function": function[0], "parameters": function[1], **scales}
        return self.call.emit("quantised_table", given[0], weights={"table": table}, **said)


def layer(
    call: Call, op: str, value: str, weight: Constant, bias: Constant | None, turned: bool = False, **attributes: Any
) -> str | None:
    """A layer of integers that gives numbers; None where the file's are none, or do not fit.

    op: conv2d or linear. turned: the weight is (I, O).
    """
    held, own = _Looking(call).of_any(value), weight.integers
    if held is None or own is None or own.scale.size not in (1, weight.shape[1 if turned else 0]):
        return None
    if own.scale.size > 1 and own.axis != (1 if turned else 0):
        return None
    matrix = own.array.T if turned else own.array
    if matrix.min(initial=0) < -128 or matrix.max(initial=0) > 127:
        return None
    scale = np.ascontiguousarray(np.broadcast_to(own.scale, len(matrix)), np.float32)
    weights = {"weight": _stored(call, own, turned), "scale": Weight.of(scale)}
    added = None if bias is None else _summed(bias, np.float32(held[1].scale) * scale)
    if added is not None:
        weights["bias"] = Weight.of(added)
    said = {**attributes, **held[1].stated("input_"), **_FLOAT, **_NO_RESIDUAL}
    if not _fits(call, f"quantised_{op}", held[0], weights, said):
        return None
    made = call.emit(f"quantised_{op}", held[0], weights=weights, **said)
    if bias is None or added is not None:
        return made
    behind = (1,) * (len(call.build.shape(made)) - 1) if op == "conv2d" else ()
    return call.emit("add", made, call.build.reshaped(call.weight_of(bias), (bias.array.size, *behind)))


def _stored(call: Call, own: Integers, turned: bool) -> Weight:
    """The file's own weight where it is the one that is meant."""
    if own.source.format == "int8" and np.array_equal(own.source.array, own.array):
        weight = call.weight_of(own.source)
        return call.build.variant(weight, "transposed", lambda bits: bits.T) if turned else weight
    array = own.array.astype(np.int8)
    return Weight.of(np.ascontiguousarray(array.T if turned else array))


def _summed(bias: Constant, steps: NDArray[np.float32]) -> NDArray[np.int32] | None:
    """A bias as sums are counted, where the file has it so."""
    own = bias.integers
    if own is None or own.array.size != steps.size:
        return None
    alike = np.allclose(np.broadcast_to(own.scale, steps.shape), steps, rtol=1e-5, atol=0)
    small = np.abs(own.array).max(initial=0) < 1 << 31
    return own.array.reshape(-1).astype(np.int32) if alike and small else None


def _fits(call: Call, op: str, value: str, weights: dict[str, Weight], attributes: dict[str, Any]) -> bool:
    node = Node("", op, (value,), {role: role for role in weights}, attributes, (), "")
    shapes: Sequence[Shape] = [call.build.shape(value)]
    demands = OPERATIONS[op].demands
    return demands is None or not demands(node, {role: each.numbers() for role, each in weights.items()}, shapes)


def scale_of(call: Call, place: int) -> tuple[float, int]:
    """A scale, and the zero point behind it, of one number each."""
    scale = float(call.number(place, "a scale"))
    zero = int(call.number(place + 1, "a zero point", 0)) if call.has(place + 1) else 0
    if not scale > 0:
        raise Refused(f"has a scale of {scale}: expected one above 0")
    return scale, zero
