"""A Graph in eight bits → the float network that it approximates, for engines that know no such Graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from secateur.errors import GraphError
from secateur.network.building import Builder
from secateur.network.graph import Graph, Node, Weight
from secateur.network.operations import OPERATIONS
from secateur.network.quantisation import Quantisation
from secateur.network.tabulating import as_function

_PREFIX = "quantised_"
_LAYERS = ("quantised_conv2d", "quantised_linear")


def to_floats(graph: Graph) -> Graph:
    """The same operations on float32: weights are the numbers that their integers stand for, and nothing is rounded.

    A layer's bounds are kept where they are no mere ends of the format: its lower one at the zero point is a ReLU.
    Inputs and weights keep their names; outputs may have others. A graph that is not quantised comes back as it is.
    """
    quantisations = graph.quantisations
    return _Floats(graph, quantisations).made() if quantisations else graph


def dequantised_weights(graph: Graph) -> dict[str, Weight]:
    """The weights by name, those of quantised layers as the numbers that they stand for; their scales are left out.

    Raises GraphError for one that stands for different numbers in two layers.
    """
    made: dict[str, Weight] = {}
    scales: set[str] = set()
    for node in graph.nodes:
        for role, weight in _numbers(graph, node).items():
            name = node.weights[role]
            if not _are_same(made.setdefault(name, weight), weight):
                raise GraphError(f"weight {name!r} stands for other numbers in node {node.name!r} than before it")
        scales |= {node.weights["scale"]} if node.op in _LAYERS else set()
    return {name: made[name] for name in graph.weights if name in made and name not in scales}


def _numbers(graph: Graph, node: Node) -> dict[str, Weight]:
    """A node's weights by role; of a quantised layer what they stand for, without their scales."""
    weights = {role: graph.weights[name] for role, name in node.weights.items()}
    if node.op not in _LAYERS:
        return weights
    held = {role: weight.numbers() for role, weight in weights.items()}
    scale = held["scale"].astype(np.float32)
    per_output = scale.reshape(-1, *(1,) * (held["weight"].ndim - 1))
    found = {"weight": Weight.of(held["weight"].astype(np.float32) * per_output)}
    if "bias" in held:
        steps = np.float64(np.float32(node.number("input_scale"))) * scale
        found["bias"] = Weight.of((held["bias"] * steps).astype(np.float32))
    return found


def _are_same(one: Weight, other: Weight) -> bool:
    return one is other or (one.dtype == other.dtype and np.array_equal(one.bits, other.bits))


@dataclass(slots=True)
class _Floats:
    """values: of the graph in eight bits → what they are called here."""

    graph: Graph
    quantisations: Mapping[str, Quantisation]
    build: Builder = field(default_factory=Builder)
    values: dict[str, str] = field(default_factory=dict)

    def made(self) -> Graph:
        for name, shape in self.graph.inputs.items():
            self.values[name] = self.build.input(name, shape, self.graph.elements.get(name, "float32"))
        for node in self.graph.nodes:
            self.values[node.name] = self._value(node)
        return self.build.graph((self.values[name] for name in self.graph.outputs), self.graph.signature)

    def _value(self, node: Node) -> str:
        inputs = [self.values[name] for name in node.inputs]
        if node.op in ("quantise", "dequantise"):
            return inputs[0]
        build = self.build.at(node.source or node.name, is_layer=True)
        if node.op == "quantised_table":
            function = as_function(node)
            attributes: dict[str, Any] = dict(function.attributes)
            return build.emit(function.op, *inputs, **attributes)
        if node.op in _LAYERS:
            return self._bounded(build, node, self._layer(build, node, inputs))
        made = build.emit(node.op.removeprefix(_PREFIX), *inputs, weights=self._weights(node), **_attributes(node))
        return self._bounded(build, node, made)

    def _layer(self, build: Builder, node: Node, inputs: list[str]) -> str:
        x, *residual = inputs
        made = build.emit(node.op.removeprefix(_PREFIX), x, weights=self._weights(node), **_attributes(node))
        return build.emit("add", made, *residual) if residual else made

    def _weights(self, node: Node) -> dict[str, Weight]:
        return {role: self._named(node.weights[role], weight) for role, weight in _numbers(self.graph, node).items()}

    def _named(self, name: str, weight: Weight) -> Weight:
        """Under the name that it has, unless that stands for other numbers already."""
        held = self.build.draft.entries.get(name)
        return self.build.entry(name, weight) if held is None or _are_same(held, weight) else weight

    def _bounded(self, build: Builder, node: Node, value: str) -> str:
        if "low" not in node.attributes or node.attributes["element"] == "float32":
            return value
        low, high = _bounds(node, self.quantisations[node.name])
        if low == 0:
            value, low = build.emit("relu", value), None
        for op, bound in (("maximum", low), ("minimum", high)):
            value = value if bound is None else build.emit(op, value, bound)
        return value


def _attributes(node: Node) -> dict[str, Any]:
    """Those that the float operation takes."""
    known = OPERATIONS[node.op.removeprefix(_PREFIX)].attributes
    return {name: value for name, value in node.attributes.items() if name in known}


def _bounds(node: Node, of: Quantisation) -> tuple[float | None, float | None]:
    """What values are confined to, beyond what the format does; values without negative ones are to have none."""
    low, high = node.whole("low"), node.whole("high")
    confined = low > of.least or of.zero_point == of.least
    return (low - of.zero_point) * of.scale if confined else None, (
        (high - of.zero_point) * of.scale if high < of.most else None
    )
