"""A plan becomes a graph with whole numbers in it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from secateur.exporting.quantising.planning import Kind, Plan, Unit
from secateur.exporting.quantising.ranges import STEPS, Scale
from secateur.network.building import unused_name, without_dead_nodes
from secateur.network.graph import Attribute, Graph, Node, Shape, Weight, infer_shape
from secateur.network.quantisation import Quantisation
from secateur.network.tabulating import function_of, table_of
from secateur.network.words import count_words

ELEMENT = "uint8"
MOST_BIAS = 1 << 30
_DEAD_BIAS = 1 << 20
_FEW = 0.9
"""So few words, of those that a convolution of planes takes, are worth laying them out anew."""


@dataclass(frozen=True, slots=True, eq=False)
class Numbers:
    """The weights of one layer in whole numbers: numbers shaped as its weight, scale (O), bias (O) or None."""

    numbers: NDArray[np.int8]
    scale: NDArray[np.float32]
    bias: NDArray[np.int32] | None

    @property
    def largest_sum(self) -> int:
        """That an output can come to on any input."""
        sums = STEPS * np.abs(self.numbers.astype(np.int64)).reshape(len(self.scale), -1).sum(1)
        return int((sums + (0 if self.bias is None else np.abs(self.bias.astype(np.int64)))).max(initial=0))


def whole_numbers(
    numbers: NDArray[np.int8], scale: NDArray[np.float32], bias: NDArray[np.float32] | None, input_scale: float
) -> Numbers:
    """bias: (O) as it is added in float32. A scale is raised where the bias would not fit into 31 bits beside it; an
    output of zeros alone gets one in which the bias is exact to six digits, or 1."""
    if bias is None or not bias.any():
        return Numbers(numbers, scale, None)
    needed = np.abs(bias.astype(np.float64)) / (np.float64(np.float32(input_scale)) * MOST_BIAS)
    dead = ~numbers.reshape(len(scale), -1).any(1) & (bias != 0)
    wide = np.where(dead, needed * (MOST_BIAS // _DEAD_BIAS), np.maximum(scale, needed)).astype(np.float32)
    if np.array_equal(wide, scale):
        moved, wide = numbers, scale  # the arrays themselves: weights that layers share are stored once
    else:
        moved = np.rint(numbers * (scale / wide).reshape(-1, *(1,) * (numbers.ndim - 1))).astype(np.int8)
    steps = np.rint(bias / (np.float64(np.float32(input_scale)) * wide.astype(np.float64)))
    return Numbers(moved, wide, steps.astype(np.int32))


def write(plan: Plan, scales: Mapping[str, Scale], layers: Mapping[str, Numbers]) -> Graph:
    """scales: of every value in eight bits, by name. layers: of every layer in eight bits, by its node's name."""
    writing = _Writing(plan, scales, layers)
    for unit in plan.units.values():
        writing.take(unit)
    return writing.graph()


@dataclass(slots=True)
class _Writing:
    """The graph so far.

    real, whole: value of the float graph → what it is called in float32, in eight bits. own: names that only values of
    the float graph may have. kept: those of weights that are copied.
    """

    plan: Plan
    scales: Mapping[str, Scale]
    layers: Mapping[str, Numbers]
    nodes: list[Node] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    weights: dict[str, Weight] = field(default_factory=dict)
    stored: dict[tuple[int, Shape], str] = field(default_factory=dict)
    real: dict[str, str] = field(default_factory=dict)
    whole: dict[str, str] = field(default_factory=dict)
    own: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        source = self.plan.graph
        self.shapes.update(source.inputs)
        self.real.update({name: name for name in source.inputs})
        copied = [unit.node for unit in self.plan.units.values() if unit.kind is not Kind.LAYER]
        self.kept.update(name for node in copied for name in node.weights.values())
        self.own.update(source.inputs, (node.name for node in source.nodes))

    @property
    def outputs(self) -> tuple[str, ...]:
        return self.plan.graph.outputs

    def graph(self) -> Graph:
        source = self.plan.graph
        for name in self.outputs:
            self.as_real(name)
        nodes = without_dead_nodes(self.nodes, self.outputs)
        used = {name: self.weights[name] for node in nodes for name in node.weights.values()}
        return Graph(source.inputs, self.outputs, tuple(nodes), used, source.elements, source.signature)

    def take(self, unit: Unit) -> None:
        if unit.kind is Kind.LAYER:
            self._layer(unit)
        elif unit.value not in self.plan.whole:
            for node in unit.nodes:
                self._copy(node)
        elif unit.kind is Kind.PAIR:
            self._pair(unit)
        elif unit.kind is Kind.POOL:
            self._pool(unit)
        elif unit.kind is Kind.TABLE:
            self._table(unit)
        else:
            inputs = [self.as_whole(name) for name in unit.node.inputs]
            self._made(unit, self._add(self._name(unit), unit.node.op, inputs, unit.node.attributes, unit.node))

    def as_real(self, value: str) -> str:
        if value not in self.real:
            name = value if value in self.outputs else f"{value}.dequantised"
            attributes = self._of(value, "")
            self.real[value] = self._add(name, "dequantise", [self.whole[value]], attributes)
        return self.real[value]

    def as_whole(self, value: str) -> str:
        if value not in self.whole:
            self.whole[value] = self._quantised(f"{value}.quantised", self.real[value], value)
        return self.whole[value]

    def _quantised(self, name: str, real: str, value: str) -> str:
        return self._add(name, "quantise", [real], {"element": ELEMENT, **self._of(value, "")})

    def _copy(self, node: Node) -> None:
        for name in node.weights.values():
            self.weights[name] = self.plan.graph.weights[name]
        inputs = [self.as_real(name) for name in node.inputs]
        self.real[node.name] = self._add(node.name, node.op, inputs, node.attributes, node, node.weights)

    def _pool(self, unit: Unit) -> None:
        (value,) = unit.node.inputs
        scales = self._of(value, "input_") | self._of(unit.value, "output_")
        attributes = {**unit.node.attributes, "element": ELEMENT, **scales}
        inputs = [self.as_whole(value)]
        self._made(unit, self._add(self._name(unit), f"quantised_{unit.node.op}", inputs, attributes, unit.node))

    def _pair(self, unit: Unit) -> None:
        left, right = unit.node.inputs
        scales = self._of(left, "left_") | self._of(right, "right_") | self._of(unit.value, "output_")
        attributes = {"element": ELEMENT, **scales, **self._bounds(unit)}
        inputs = [self.as_whole(left), self.as_whole(right)]
        self._made(unit, self._add(self._name(unit), f"quantised_{unit.node.op}", inputs, attributes, unit.node))

    def _table(self, unit: Unit) -> None:
        node, (value,) = unit.node, unit.node.inputs
        function, parameters = function_of(node) or ("", ())
        scales = self._of(value, "input_") | self._of(unit.value, "output_")
        attributes = {"function": function, "parameters": parameters, "element": ELEMENT, **scales}
        of, to = (
            Quantisation(ELEMENT, self.scales[name].scale, self.scales[name].zero_point) for name in (value, unit.value)
        )
        weights = {"table": self._stored(table_of(node, of, to), f"{node.name}.table")}
        inputs = [self.as_whole(value)]
        self._made(unit, self._add(self._name(unit), "quantised_table", inputs, attributes, node, weights))

    def _layer(self, unit: Unit) -> None:
        """In eight bits where a reader wants it so, else in float32, and then clamped by nodes of their own."""
        whole, node, planes = unit.value in self.plan.whole, unit.node, self._planes(unit)
        summed = unit.nodes[1] if unit.residual is not None else node
        wanted = self._name(unit) if whole else summed.name if summed.name in self.outputs else node.name
        operation, attributes = f"quantised_{node.op}", dict(node.attributes)
        if planes:
            operation = "quantised_conv2d"
            attributes = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1}
        attributes |= self._layer_attributes(unit, whole)
        weights = self._layer_weights(unit, planes[1] if planes else None)
        shape = _layer_shape(node, planes is not None)
        inner = wanted if shape == node.shape else f"{wanted}.layer"
        made = self._add(inner, operation, self._layer_inputs(unit, planes, whole), attributes, node, weights)
        if shape != node.shape:
            made = self._add(wanted, "reshape", [made], {"shape": node.shape}, node)
        (self.whole if whole else self.real)[unit.value if whole else summed.name] = made
        for clamp in unit.nodes[1 + (summed is not node) :] if not whole else ():
            self._copy(clamp)

    def _layer_inputs(self, unit: Unit, planes: tuple[str, Shape] | None, whole: bool) -> list[str]:
        if planes:
            return [self.as_whole(planes[0])]
        held = self._tokens if unit.node.op == "linear" else self._either
        residual = [] if unit.residual is None else [held(unit.residual, whole)]
        return [held(unit.node.inputs[0], True), *residual]

    def _planes(self, unit: Unit) -> tuple[str, Shape] | None:
        """(value, its shape) of the planes that a fully connected layer, a convolution of these, reads flattened.

        None where it rather reads pixels in words (`network.words`): its zeros lie in blocks along these.
        """
        before = self.plan.units.get(unit.node.inputs[0])
        if unit.node.op != "linear" or unit.residual is not None or before is None or before.node.op != "reshape":
            return None
        (value,) = before.node.inputs
        shape = self.plan.graph.shape_of(value)
        flat = len(before.node.shape) == 1 and len(shape) == 3 and math.prod(shape[1:]) > 1
        if not flat or before.value not in self.plan.whole:
            return None
        nonzero = self.layers[unit.node.name].numbers != 0
        by_pixels, by_channels = count_words(nonzero), count_words(nonzero, math.prod(shape[1:]))
        return None if by_pixels < _FEW * by_channels else (value, shape)

    def _either(self, value: str, whole: bool) -> str:
        return self.as_whole(value) if whole else self.as_real(value)

    def _tokens(self, value: str, whole: bool) -> str:
        """A value of more than two axes as (tokens, features)."""
        shape = self.plan.graph.shape_of(value)
        if len(shape) <= 2:
            return self._either(value, whole)
        flat = {"shape": (math.prod(shape[:-1]), shape[-1])}
        if whole and value not in self.whole:
            return self._quantised(
                f"{value}.quantised", self._add(f"{value}.tokens", "reshape", [self.real[value]], flat), value
            )
        return self._add(f"{value}.tokens", "reshape", [self._either(value, whole)], flat)

    def _layer_attributes(self, unit: Unit, whole: bool) -> dict[str, Attribute]:
        own = self._of(unit.node.inputs[0], "input_")
        residual: dict[str, Attribute] = {"residual_scale": 1.0, "residual_zero_point": 0}
        if whole:
            residual = self._of(unit.residual, "residual_") if unit.residual is not None else residual
            return {"element": ELEMENT, **own, **self._of(unit.value, "output_"), **self._bounds(unit), **residual}
        return {
            "element": "float32",
            **own,
            "output_scale": 1.0,
            "output_zero_point": 0,
            "low": 0,
            "high": 0,
            **residual,
        }

    def _layer_weights(self, unit: Unit, planes: Shape | None) -> dict[str, str]:
        found, held = self.layers[unit.node.name], unit.node.weights
        stem = held["weight"].removesuffix(".weight")
        shape = (len(found.scale), *planes) if planes else found.numbers.shape
        names = {
            "weight": self._stored(found.numbers, held["weight"], shape),
            "scale": self._stored(found.scale, f"{stem}.scale"),
        }
        if found.bias is not None:
            names["bias"] = self._stored(found.bias, held.get("bias", f"{stem}.bias"))
        return names

    def _stored(self, values: NDArray[np.generic], wanted: str, shape: Shape | None = None) -> str:
        """The name of a weight; the same array in the same shape is stored once."""
        key = id(values), values.shape if shape is None else shape
        if key not in self.stored:
            name = unused_name(wanted, self.weights, self.plan.graph.weights.keys() - {wanted}, self.kept)
            bits = np.ascontiguousarray(values).view(f"<u{values.dtype.itemsize}").reshape(key[1])
            self.weights[name] = Weight(values.dtype.name, bits)
            self.stored[key] = name
        return self.stored[key]

    def _of(self, value: str, prefix: str) -> dict[str, Attribute]:
        scale = self.scales[value]
        return {f"{prefix}scale": scale.scale, f"{prefix}zero_point": scale.zero_point}

    def _bounds(self, unit: Unit) -> dict[str, Attribute]:
        scale, (low, high) = self.scales[unit.value], unit.bounds
        return {
            "low": 0 if low == -math.inf else scale.number(low),
            "high": STEPS if high == math.inf else scale.number(high),
        }

    def _name(self, unit: Unit) -> str:
        """Of the value that a unit makes in eight bits: its layer's, but for what an output is called."""
        return f"{unit.node.name}.quantised" if unit.node.name in self.outputs else unit.node.name

    def _made(self, unit: Unit, name: str) -> None:
        self.whole[unit.value] = name

    def _add(
        self,
        wanted: str,
        op: str,
        inputs: list[str],
        attributes: Mapping[str, Attribute],
        origin: Node | None = None,
        weights: Mapping[str, str] | None = None,
    ) -> str:
        name = unused_name(wanted, self.shapes, self.own - {wanted})
        node = Node(name, op, tuple(inputs), dict(weights or {}), dict(attributes), (), origin.source if origin else "")
        held = {role: self.weights[each].shape for role, each in node.weights.items()}
        shape = infer_shape(node, [self.shapes[each] for each in inputs], held)
        self.nodes.append(Node(name, op, node.inputs, node.weights, node.attributes, shape, node.source))
        self.shapes[name] = shape
        return name


def _layer_shape(node: Node, planes: bool) -> Shape:
    """What the operation of a layer makes: of flattened planes (O, 1, 1), of more than two axes (tokens, O)."""
    shape = node.shape
    if planes:
        return (shape[0], 1, 1)
    return (math.prod(shape[:-1]), shape[-1]) if node.op == "linear" and len(shape) > 2 else shape
