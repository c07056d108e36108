"""Operations that change nothing leave, neighbours become one, equal weights are stored once."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from secateur.network.building import without_dead_nodes
from secateur.network.formats import WEIGHT_FORMATS
from secateur.network.graph import Graph, Node, Shape, Weight
from secateur.network.operations import OPERATIONS

Nodes = Mapping[str, Node]


def rebuilt(graph: Graph, nodes: Sequence[Node], weights: Mapping[str, Weight]) -> Graph:
    """A graph with other nodes and weights; what no output depends on is left out."""
    kept = without_dead_nodes(nodes, graph.outputs)
    used = {name: weights[name] for node in kept for name in node.weights.values()}
    return Graph(graph.inputs, graph.outputs, tuple(kept), used, graph.elements, graph.signature)


def tidy(graph: Graph) -> Graph:
    """Without operations that change nothing, with x·sigmoid(x) as one, with weights' -0.0 as 0."""
    by_name: dict[str, Node] = {}
    aliases: dict[str, str] = {}
    for node in graph.nodes:
        node = replace(node, inputs=tuple(aliases.get(name, name) for name in node.inputs))
        node = _joined(node, by_name, graph)
        if node.name not in graph.outputs and _changes_nothing(node, by_name, graph):
            aliases[node.name] = _passed_on(node, by_name)
        else:
            by_name[node.name] = node
    return rebuilt(graph, list(by_name.values()), _with_plain_zeros(graph))


def _passed_on(node: Node, by_name: Nodes) -> str:
    """The input that a node which changes nothing hands on: the one that is no constant."""
    return next((name for name in node.inputs if name not in by_name or by_name[name].op != "constant"), node.inputs[0])


def _changes_nothing(node: Node, by_name: Nodes, graph: Graph) -> bool:
    shapes = [by_name[name].shape if name in by_name else graph.inputs[name] for name in node.inputs]
    if node.op in ("add", "mul"):
        return _is_neutral(node, shapes, by_name, graph)
    if not shapes or shapes[0] != node.shape:
        return False
    attributes = node.attributes
    if node.op in ("max_pool2d", "avg_pool2d"):
        return attributes["kernel"] == attributes["stride"] == (1, 1) and not any(node.numbers("padding"))
    if node.op == "permute":
        return attributes["axes"] == tuple(range(1, len(node.shape) + 1))
    return node.op in ("reshape", "slice", "concat", "adaptive_avg_pool2d", "mean")


def _is_neutral(node: Node, shapes: Sequence[Shape], by_name: Nodes, graph: Graph) -> bool:
    """Adding a constant 0 or multiplying by a constant 1."""
    for name, other in zip(node.inputs, shapes[::-1], strict=True):
        if name in by_name and by_name[name].op == "constant" and other == node.shape:
            value = graph.weights[by_name[name].weights["value"]].numbers()
            return bool(np.all(value == (0 if node.op == "add" else 1)))
    return False


def _joined(node: Node, by_name: Nodes, graph: Graph) -> Node:
    """A node that takes over what the nodes before it do, where together they are one operation."""
    if node.op == "mul":
        return _hard_gate(_swish(node, by_name), by_name, graph)
    before = by_name.get(node.inputs[0]) if node.inputs else None
    if before is None or before.op != node.op:
        return node
    if node.op == "reshape":
        return replace(node, inputs=before.inputs)
    if node.op == "permute":
        first = before.numbers("axes")
        axes = tuple(first[axis - 1] for axis in node.numbers("axes"))
        return replace(node, inputs=before.inputs, attributes={"axes": axes})
    return replace(node, inputs=before.inputs) if node.op in ("relu", "relu6") else node


_GATES = {"sigmoid": "silu", "hardsigmoid": "hardswish"}


def _swish(node: Node, by_name: Nodes) -> Node:
    """x · sigmoid(x) and x · hardsigmoid(x)."""
    for value, gate in (node.inputs, node.inputs[::-1]):
        made = by_name.get(gate)
        if made is not None and made.op in _GATES and made.inputs == (value,):
            return replace(node, op=_GATES[made.op], inputs=(value,))
    return node


def _hard_gate(node: Node, by_name: Nodes, graph: Graph) -> Node:
    """relu6(x + 3) / 6 and x · relu6(x + 3) / 6, as they were written before they had names."""
    scaled = _with_constant(node, 1 / 6, by_name, graph)
    if node.op != "mul" or scaled is None:
        return node
    x = _risen(scaled, by_name, graph)
    if x is not None:
        return replace(node, op="hardsigmoid", inputs=(x,))
    product = by_name.get(scaled)
    if product is not None and product.op == "mul":
        for value, gate in (product.inputs, product.inputs[::-1]):
            if _risen(gate, by_name, graph) == value:
                return replace(node, op="hardswish", inputs=(value,))
    return node


def _risen(name: str, by_name: Nodes, graph: Graph) -> str | None:
    """x, where the named value is relu6(x + 3)."""
    gate = by_name.get(name)
    rise = by_name.get(gate.inputs[0]) if gate is not None and gate.op == "relu6" else None
    return _with_constant(rise, 3, by_name, graph) if rise is not None and rise.op == "add" else None


def _with_constant(node: Node, number: float, by_name: Nodes, graph: Graph) -> str | None:
    """The other input of a node of two, where one is a constant of just that number and no more axes."""
    if len(node.inputs) != 2:
        return None
    for name, constant in (node.inputs, node.inputs[::-1]):
        held = by_name.get(constant)
        if held is not None and held.op == "constant" and math.prod(held.shape) == 1:
            shape = by_name[name].shape if name in by_name else graph.inputs[name]
            value = float(graph.weights[held.weights["value"]].numbers().reshape(-1)[0])
            if shape == node.shape and math.isclose(value, number, rel_tol=1e-6):
                return name
    return None


def _with_plain_zeros(graph: Graph) -> dict[str, Weight]:
    """The weights; a -0.0 in a convolution or linear layer adds as much as a 0, and 0 needs no bits."""
    layers = [node for node in graph.nodes if OPERATIONS[node.op].is_layer]
    matrices = {node.weights[OPERATIONS[node.op].matrix] for node in layers}
    return {name: _plain(weight) if name in matrices else weight for name, weight in graph.weights.items()}


def _plain(weight: Weight) -> Weight:
    kind = WEIGHT_FORMATS[weight.dtype].carrier.type
    negative = weight.bits == kind(1 << (8 * weight.bits.dtype.itemsize - 1))
    return Weight(weight.dtype, np.where(negative, kind(0), weight.bits)) if negative.any() else weight


def share_equal_weights(graph: Graph) -> Graph:
    """Every weight once, under the name that comes first."""
    first: dict[tuple[str, Shape, bytes], str] = {}
    names = {
        name: first.setdefault((weight.dtype, weight.shape, _digest(weight)), name)
        for name, weight in graph.weights.items()
    }
    nodes = [replace(node, weights={role: names[name] for role, name in node.weights.items()}) for node in graph.nodes]
    return rebuilt(graph, nodes, graph.weights)


def _digest(weight: Weight) -> bytes:
    return hashlib.sha256(weight.bits.data).digest()
