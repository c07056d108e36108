"""What no input changes is computed once; masks that hide nothing or the future, and states of zeros, are left out.

Each operation is rounded to float32, as networks compute it that choose by what comes out: places become buckets.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.network.building import unused_name
from secateur.network.formats import FORMATS
from secateur.network.graph import Graph, Node, Weight
from secateur.network.operations import OPERATIONS
from secateur.network.simplification.tidying import rebuilt
from secateur.network.sizes import is_whole

MOST_NUMBERS = 1 << 20
"""Of a value that is computed beforehand: a mask for a thousand places."""
_RECURRENT = ("lstm", "gru", "rnn")
Array = NDArray[Any]


def settle(graph: Graph) -> Graph:
    """Constants instead of operations on constants, unless these are large or their sizes are not known yet."""
    if not any(_may_change(node) for node in graph.nodes):
        return graph
    return _Settling(graph).made()


def _may_change(node: Node) -> bool:
    return node.op in ("constant", "fill", "range", "attention", *_RECURRENT)


class _Settling:
    """known: values (1, …) that no input has a part in. weights: of the graph, and of what was computed."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.elements = graph, graph.value_elements
        self.weights = dict(graph.weights)
        self.nodes = {node.name: node for node in graph.nodes}
        self.known: dict[str, Array] = {}

    def made(self) -> Graph:
        with np.errstate(all="ignore"):
            nodes = [self._settled(node) for node in self.graph.nodes]
        return rebuilt(self.graph, nodes, self.weights)

    def _settled(self, node: Node) -> Node:
        if not self._is_known(node):
            return self._without_what_says_nothing(self._with_mask_alone(node))
        self.known[node.name] = self._value(node)
        return node if not node.inputs else self._constant(node, self.known[node.name][0])

    def _is_known(self, node: Node) -> bool:
        operation = OPERATIONS[node.op]
        small = is_whole(node.shape) and math.prod(map(int, node.shape)) <= MOST_NUMBERS
        plain = operation.ordinary is None and not operation.quantised and self.elements[node.name] in FORMATS
        return small and plain and all(name in self.known for name in node.inputs)

    def _value(self, node: Node) -> Array:
        weights = {role: _widened(self.weights[name].numbers()) for role, name in node.weights.items()}
        made = OPERATIONS[node.op].meaning(node, [self.known[name] for name in node.inputs], weights)
        held = FORMATS[self.elements[node.name]]
        return made.astype(np.float32).astype(np.float64) if held.mantissa else made.astype(held.numbers)

    def _constant(self, node: Node, value: Array) -> Node:
        element = self.elements[node.name]
        name = unused_name(node.name, self.weights)
        self.weights[name] = Weight.of(np.asarray(value, FORMATS[element].numbers))
        return replace(node, op="constant", inputs=(), weights={"value": name}, attributes={})

    def _with_mask_alone(self, node: Node) -> Node:
        """Attention with a mask as it was before it was joined with one that hides nothing."""
        if node.op != "attention" or len(node.inputs) < 4:
            return node
        name = node.inputs[3]
        while (other := self._joined_with_all(name)) is not None:
            name = other
        return replace(node, inputs=(*node.inputs[:3], name))

    def _joined_with_all(self, mask: str) -> str | None:
        joined = self.nodes.get(mask)
        if joined is None or joined.op != "logical_and":
            return None
        rank, (left, right) = len(joined.shape), joined.inputs
        for one, other in ((left, right), (right, left)):
            if one in self.known and self.known[one].all() and len(self.graph.shape_of(other)) == rank:
                return other
        return None

    def _without_what_says_nothing(self, node: Node) -> Node:
        beside = node.inputs[3 if node.op == "attention" else 1 :]
        if not beside or not all(name in self.known for name in beside):
            return node
        values = [self.known[name] for name in beside]
        if node.op in _RECURRENT and not any(value.any() for value in values):
            return replace(node, inputs=node.inputs[:1])
        return _without_mask(node, values[0]) if node.op == "attention" else node


def _widened(numbers: Array) -> Array:
    return numbers.astype(np.float64) if np.issubdtype(numbers.dtype, np.floating) else numbers


def _without_mask(node: Node, mask: Array) -> Node:
    """Attention that sees all keys, or those up to the query, where the mask says just that."""
    seen = mask if mask.dtype == bool else ~np.isneginf(mask)
    if mask.dtype != bool and not np.all(np.isneginf(mask) | (mask == 0)):
        return node
    if seen.all():
        return replace(node, inputs=node.inputs[:3])
    causal = seen.ndim > 2 and seen.shape[-1] > 1 and bool(np.all(seen == np.tri(*seen.shape[-2:], dtype=np.bool_)))
    return replace(node, inputs=node.inputs[:3], attributes={**node.attributes, "causal": True}) if causal else node
