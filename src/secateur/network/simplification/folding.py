"""Batch norm, and products and sums with constants, move into the convolution or linear layer before them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from secateur.network.building import unused_name
from secateur.network.graph import Graph, Node, Weight
from secateur.network.operations import OPERATIONS
from secateur.network.operations.meanings import pieces
from secateur.network.operations.units import per_unit
from secateur.network.simplification.tidying import rebuilt

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class _Scale:
    """What a node does to each unit of its input: factor · x + offset, both (units,)."""

    factor: Array
    offset: Array


def fold_scales(graph: Graph, *, widen: bool = False) -> Graph:
    """With factors in the weights and offsets in the bias, worked out in float64 and rounded once.

    Zeros stay zeros. Left alone: a layer that something else reads too, a matrix at work in two places, narrow
    weights unless widen, factors that are not finite.
    """
    folding = _Folding(graph, widen)
    for node in graph.nodes:
        folding.take(node)
    return rebuilt(graph, list(folding.nodes.values()), folding.weights)


class _Folding:
    """The graph so far. aliases: a folded node's name → the name of the layer that it went into."""

    def __init__(self, graph: Graph, widen: bool) -> None:
        self.graph, self.widen = graph, widen
        self.weights = dict(graph.weights)
        self.nodes: dict[str, Node] = {}
        self.aliases: dict[str, str] = {}
        self.reads = Counter([*graph.outputs, *(name for node in graph.nodes for name in node.inputs)])
        self.uses = Counter(name for node in graph.nodes for name in node.weights.values())

    def take(self, node: Node) -> None:
        read = tuple(self.aliases.get(name, name) for name in node.inputs)
        known = [self.nodes[name] for name in read if name in self.nodes and self.nodes[name].op != "constant"]
        layer = known[0] if len(known) == 1 else None
        scale = self._scale(node, read, layer) if layer is not None and self._may_change(layer) else None
        if layer is None or scale is None:
            self.nodes[node.name] = replace(node, inputs=read)
            return
        folded = self._fold(layer, scale)
        del self.nodes[layer.name]
        name = node.name if node.name in self.graph.outputs else layer.name
        self.nodes[name] = replace(folded, name=name)
        self.aliases[node.name] = name
        self.reads[name] = self.reads[node.name]

    def _may_change(self, layer: Node) -> bool:
        if not OPERATIONS[layer.op].is_layer or self.reads[layer.name] != 1:
            return False
        matrix = layer.weights["weight"]
        wide = all(self.weights[name].dtype == "float32" for name in layer.weights.values())
        return self.uses[matrix] == 1 and (wide or self.widen)

    def _scale(self, node: Node, read: tuple[str, ...], layer: Node) -> _Scale | None:
        axis = OPERATIONS[layer.op].axis_of(layer.shape)
        if node.shape != layer.shape:
            return None
        if node.op == "batch_norm" and axis == 1:
            scale = self._of_batch_norm(node)
        elif node.op in ("add", "mul"):
            found = self._of_constant(node, read, axis)
            if found is None:
                return None
            scale = found
        else:
            return None
        return scale if np.isfinite(scale.factor).all() and np.isfinite(scale.offset).all() else None

    def _values(self, name: str) -> Array:
        return self.weights[name].values().astype(np.float64)

    def _of_batch_norm(self, node: Node) -> _Scale:
        held = {role: self._values(name) for role, name in node.weights.items()}
        with np.errstate(all="ignore"):
            factor = held.get("weight", np.ones(node.shape[0])) / np.sqrt(held["variance"] + node.number("eps"))
            return _Scale(factor, held.get("bias", np.zeros(node.shape[0])) - held["mean"] * factor)

    def _of_constant(self, node: Node, read: tuple[str, ...], axis: int) -> _Scale | None:
        constants = [self.nodes[name] for name in read if name in self.nodes and self.nodes[name].op == "constant"]
        units = per_unit(self._values(constants[0].weights["value"]), len(node.shape), axis) if constants else None
        if units is None:
            return None
        spread = np.broadcast_to(units, node.shape[axis - 1])
        if node.op == "add":
            return _Scale(np.ones_like(spread), spread)
        return _Scale(spread, np.zeros_like(spread))

    def _fold(self, layer: Node, scale: _Scale) -> Node:
        matrix = layer.weights["weight"]
        self.weights[matrix] = _scaled(self.weights[matrix], scale.factor)
        held = layer.weights.get("bias")
        bias = self._values(held) if held else np.zeros(self.weights[matrix].shape[0])
        name = held if held and self.uses[held] == 1 else bias_name(layer, self.weights)
        self.weights[name] = single(bias * scale.factor + scale.offset)
        self.uses[name] = 1
        return replace(layer, weights={**layer.weights, "bias": name})


def _scaled(matrix: Weight, factor: Array) -> Weight:
    """Each row (of a matrix or of kernels) times its factor, some at a time: float64 takes twice the memory."""
    rows = matrix.values().reshape(matrix.shape[0], math.prod(matrix.shape[1:]))
    made = np.empty(rows.shape, np.float32)
    factors = np.broadcast_to(factor.reshape(-1, 1), (len(rows), 1))
    for part in pieces(len(rows), rows.shape[1]):
        made[part] = rows[part].astype(np.float64) * factors[part] + 0.0
    return Weight.of(made.reshape(matrix.shape))


def single(values: Array) -> Weight:
    """Rounded to float32."""
    return Weight.of((values + 0.0).astype(np.float32))  # 0.0: a factor below zero makes -0.0 of a zero


def bias_name(layer: Node, taken: Mapping[str, Weight]) -> str:
    """A name for a bias that a layer has not had."""
    matrix = layer.weights["weight"]
    return unused_name(f"{matrix.removesuffix('.weight')}.bias", taken)
