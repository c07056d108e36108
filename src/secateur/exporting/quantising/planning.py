"""Which nodes of a float graph become one operation in eight bits, and which values are held in eight bits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

import numpy as np

from secateur.network.graph import Graph, Node, Shape
from secateur.network.tabulating import function_of


class Kind(Enum):
    """What a unit can be in eight bits."""

    LAYER = "a convolution or fully connected layer"
    PAIR = "a sum or product of two values"
    POOL = "an average"
    TABLE = "a function of one number"
    MOVE = "numbers moved as they are"
    FLOAT = "float32 alone"


_POOLS = ("avg_pool2d", "adaptive_avg_pool2d", "mean")
_MOVES = ("max_pool2d", "reshape", "permute", "concat", "slice")
_LAYERS = ("conv2d", "linear")
_TABLES = (
    *("relu", "relu6", "leaky_relu", "elu", "selu", "softplus", "silu", "mish", "gelu", "hardswish", "hardsigmoid"),
    *("sigmoid", "tanh", "erf", "abs", "neg"),
)
"""Functions that change little where a number does; others stay in float32, where steps near 0 are finer."""
_FREE = (-math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class Unit:
    """Nodes of the float graph that are one operation in eight bits.

    nodes: in order; the first is what the unit is, the others add a residual to it or clamp it. residual: the value
    that is added. bounds: what the result is clamped to. reason: of a layer that stays in float, why.
    """

    kind: Kind
    nodes: tuple[Node, ...]
    residual: str | None = None
    bounds: tuple[float, float] = _FREE
    reason: str = ""

    @property
    def node(self) -> Node:
        return self.nodes[0]

    @property
    def value(self) -> str:
        """What it makes."""
        return self.nodes[-1].name

    @property
    def reads(self) -> tuple[str, ...]:
        return self.node.inputs if self.residual is None else (*self.node.inputs, self.residual)

    @property
    def operations(self) -> str:
        return "+".join(node.op for node in self.nodes)


@dataclass(frozen=True, slots=True)
class Plan:
    """A float graph as units, by the value that each makes, in order of execution.

    whole: the values that a unit makes in eight bits. read: those that one is given in eight bits.
    """

    graph: Graph
    units: Mapping[str, Unit]
    whole: frozenset[str] = frozenset()
    read: frozenset[str] = frozenset()

    @property
    def layers(self) -> tuple[Unit, ...]:
        """Every convolution and fully connected layer, those that stay in float32 among them."""
        return tuple(unit for unit in self.units.values() if unit.node.op in _LAYERS)

    def groups(self) -> list[list[str]]:
        """Values that are held in eight bits, together with those that have to have the same scale."""
        leaders = {name: name for name in (*self.whole, *self.read)}

        def leader(name: str) -> str:
            while leaders[name] != name:
                name = leaders[name]
            return name

        for unit in self.units.values():
            if unit.kind is Kind.MOVE and unit.value in self.whole:
                for name in unit.reads:
                    leaders[leader(name)] = leader(unit.value)
        found: dict[str, list[str]] = {}
        for name in (*self.graph.inputs, *self.units):
            if name in leaders:
                found.setdefault(leader(name), []).append(name)
        return list(found.values())

    def ends(self, group: Iterable[str]) -> list[str]:
        """Those of tied values that are computed with, rather than moved on only; all where there are none."""
        names = list(group)
        moved = {name for unit in self.units.values() if unit.kind is Kind.MOVE for name in unit.reads}
        used = {name for unit in self.units.values() if unit.kind is not Kind.MOVE for name in unit.reads}
        return [name for name in names if name in used or name not in moved] or names


def plan(graph: Graph, floats: Mapping[str, str]) -> Plan:
    """How a simplified graph is held in eight bits. floats: layers that stay in float32, and why."""
    joining = _Joining(graph, floats)
    for node in graph.nodes:
        joining.take(node)
    whole, read = _held(list(joining.units.values()))
    return Plan(graph, joining.units, whole, read)


def clamps_first(graph: Graph) -> Graph:
    """With activations that follow numbers moved as they are (pooling of maxima, flattening) before these instead, so
    that they become part of the layer that makes the numbers."""
    nodes = {node.name: node for node in graph.nodes}
    reads = Counter([*graph.outputs, *(name for node in graph.nodes for name in node.inputs)])
    for node in reversed(graph.nodes):
        clamp = nodes[node.name]
        moved = nodes.get(clamp.inputs[0]) if clamp.op in ("relu", "relu6") else None
        while moved is not None and moved.op in _MOVES and len(moved.inputs) == 1 and moved.inputs[0] in nodes:
            before = nodes[moved.inputs[0]]
            if reads[moved.name] != 1 or reads[before.name] != 1:
                break
            nodes[clamp.name] = replace(moved, name=clamp.name, inputs=(moved.name,))
            clamp = nodes[moved.name] = replace(clamp, name=moved.name, inputs=(before.name,), shape=before.shape)
            moved = before
    return replace(graph, nodes=tuple(nodes.values()))


@dataclass(slots=True)
class _Joining:
    """The units so far."""

    graph: Graph
    floats: Mapping[str, str]
    units: dict[str, Unit] = field(default_factory=dict)
    reads: Counter[str] = field(init=False)
    shapes: dict[str, Shape] = field(init=False)
    elements: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        graph = self.graph
        self.reads = Counter([*graph.outputs, *(name for node in graph.nodes for name in node.inputs)])
        self.shapes = {**graph.inputs, **{node.name: node.shape for node in graph.nodes}}
        self.elements = graph.value_elements

    def take(self, node: Node) -> None:
        unit = self._clamped(node) or self._summed(node) or Unit(*self._alone(node))
        self.units[unit.value] = unit

    def _alone(self, node: Node) -> tuple[Kind, tuple[Node, ...], None, tuple[float, float], str]:
        reason = self.floats.get(node.name, "")
        if not reason and node.op in _LAYERS and self.graph.ordinary.intersection(node.inputs):
            reason = "it is given a constant, or a value of all images"
        kind = Kind.FLOAT if reason else self._kind(node)
        return kind, (node,), None, _FREE, reason

    def _kind(self, node: Node) -> Kind:
        if self.graph.ordinary.intersection((node.name, *node.inputs)) or not node.inputs:
            return Kind.FLOAT
        if self.elements[node.name] != "float32":  # whole numbers and truth values are themselves
            return Kind.FLOAT
        if node.op in _LAYERS:
            return Kind.LAYER
        if node.op == "mul" or (node.op == "add" and all(self.shapes[name] == node.shape for name in node.inputs)):
            return Kind.PAIR
        if node.op in _POOLS:
            return Kind.POOL
        if node.op in _TABLES and function_of(node) is not None:
            return Kind.TABLE
        return Kind.MOVE if node.op in _MOVES else Kind.FLOAT

    def _clamped(self, node: Node) -> Unit | None:
        """A clamp of what a layer, a sum or a product makes for it alone."""
        found = self._bounds(node)
        before = self.units.get(found[0]) if found else None
        if found is None or before is None or before.kind not in (Kind.LAYER, Kind.PAIR) or not self._is_alone(before):
            return None
        low, high = (float(np.clip(bound, *found[1])) for bound in before.bounds)
        return self._extended(before, node, bounds=(low, high))

    def _bounds(self, node: Node) -> tuple[str, tuple[float, float]] | None:
        """What a node clamps, and to what."""
        if node.op in ("relu", "relu6"):
            return node.inputs[0], (0.0, math.inf if node.op == "relu" else 6.0)
        if node.op not in ("maximum", "minimum"):
            return None
        for name, other in (node.inputs, node.inputs[::-1]):
            number = self._number(other)
            if number is not None and self.shapes[name] == node.shape:
                return name, (number, math.inf) if node.op == "maximum" else (-math.inf, number)
        return None

    def _number(self, name: str) -> float | None:
        """That which a constant is of alone, where it is one."""
        unit = self.units.get(name)
        if unit is None or unit.node.op != "constant":
            return None
        value = self.graph.weights[unit.node.weights["value"]].numbers()
        return float(value.flat[0]) if value.size == 1 and np.isfinite(value).all() else None

    def _summed(self, node: Node) -> Unit | None:
        """The sum of a layer's output with another value, as part of the layer that comes last."""
        if node.op != "add" or self.graph.ordinary.intersection(node.inputs):
            return None
        places = {name: place for place, name in enumerate(self.units)}
        left, right = sorted(node.inputs, key=lambda name: places.get(name, -1))
        for name, other in ((right, left), (left, right)):
            unit = self.units.get(name)
            if unit is not None and self._takes_residual(unit) and self.shapes[other] == node.shape:
                return self._extended(unit, node, residual=other)
        return None

    def _takes_residual(self, unit: Unit) -> bool:
        plain = unit.residual is None and unit.bounds == _FREE
        return unit.kind is Kind.LAYER and plain and self._is_alone(unit)

    def _is_alone(self, unit: Unit) -> bool:
        return self.reads[unit.value] == 1

    def _extended(
        self, unit: Unit, node: Node, residual: str | None = None, bounds: tuple[float, float] | None = None
    ) -> Unit:
        del self.units[unit.value]
        return replace(
            unit,
            nodes=(*unit.nodes, node),
            residual=residual or unit.residual,
            bounds=bounds or unit.bounds,
        )


def _held(units: Sequence[Unit]) -> tuple[frozenset[str], frozenset[str]]:
    """(values that a unit makes in eight bits, values that one is given in eight bits).

    A layer makes what some reader wants in eight bits so, and float32 else; whatever can be computed either way is
    computed in eight bits between layers, and in float32 before the first of them.
    """
    wanted: set[str] = set()
    for unit in reversed(units):
        if unit.kind is Kind.LAYER:
            wanted.update(unit.node.inputs)
        if unit.kind is not Kind.FLOAT and unit.value in wanted:
            wanted.update(unit.reads)
    whole: set[str] = set()
    read: set[str] = set()
    for unit in units:
        if unit.kind is Kind.LAYER:
            read.update(unit.node.inputs)
        ready = unit.kind is Kind.LAYER or (unit.kind is not Kind.FLOAT and bool(whole.intersection(unit.reads)))
        if ready and unit.value in wanted:
            whole.add(unit.value)
            read.update(unit.reads)
    return frozenset(whole), frozenset(read)
