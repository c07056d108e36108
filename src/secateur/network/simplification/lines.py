"""Lines that stand upright in their planes lie down, as what computes with vectors goes along rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from secateur.network.building import unused_name
from secateur.network.graph import Attribute, Graph, Node, Shape, Weight
from secateur.network.operations import OPERATIONS, shapes
from secateur.network.simplification.tidying import rebuilt


def lay_down(graph: Graph) -> Graph:
    """With convolutions of planes one column wide, by kernels as wide, as those of planes one row high, and what goes
    through their values number by number after them.

    A weight lies otherwise afterwards, under its name; one that others use too stays, with all who use it.
    """
    lying = _Lying(graph)
    if not lying.matrices:
        return graph
    for node in graph.nodes:
        lying.take(node)
    weights = {name: _turned(weight) if name in lying.matrices else weight for name, weight in graph.weights.items()}
    return rebuilt(graph, lying.nodes, weights)


class _Lying:
    """nodes so far. laid: value (C, H, 1) → the same numbers as (C, 1, H). matrices: of convolutions that lie down."""

    def __init__(self, graph: Graph) -> None:
        self.shapes = {**graph.inputs, **{node.name: node.shape for node in graph.nodes}}
        self.taken = {*self.shapes}
        self.nodes: list[Node] = []
        self.laid: dict[str, str] = {}
        upright = {node.name for node in graph.nodes if self._is_upright(node, graph)}
        others = {name for node in graph.nodes if node.name not in upright for name in node.weights.values()}
        self.matrices = {node.weights["weight"] for node in graph.nodes if node.name in upright} - others

    def _is_upright(self, node: Node, graph: Graph) -> bool:
        if node.op != "conv2d":
            return False
        _, height, width = self.shapes[node.inputs[0]]
        *_, columns = graph.weights[node.weights["weight"]].shape
        *_, left, right = node.numbers("padding")
        return bool(width == columns == 1 and height != 1 and left == right == 0)

    def take(self, node: Node) -> None:
        if node.op == "conv2d" and node.weights["weight"] in self.matrices:
            top, bottom, *_ = node.numbers("padding")
            turned = {name: node.numbers(name)[::-1] for name in ("stride", "dilation")}
            self._lie(node, {**node.attributes, **turned, "padding": (0, 0, top, bottom)})
        elif self._goes_along(node):
            self._lie(node, node.attributes)
        else:
            self.nodes.append(node)

    def _goes_along(self, node: Node) -> bool:
        """Whether a node works number by number on values some of which lie."""
        if OPERATIONS[node.op].rule not in (shapes.same, shapes.broadcast) or self.laid.keys().isdisjoint(node.inputs):
            return False
        return all(self.shapes[name] == node.shape or self._is_even(name) for name in node.inputs)

    def _is_even(self, name: str) -> bool:
        """Whether a value is the same along and across a line."""
        return all(size == 1 for size in self.shapes[name][-2:])

    def _lie(self, node: Node, attributes: Mapping[str, Attribute]) -> None:
        """The node among values that lie, and its value as it was for whoever reads that."""
        inputs = tuple(name if self._is_even(name) else self._down(name, node) for name in node.inputs)
        outputs, rows, _ = node.shape
        made = self._fresh(f"{node.name}.line")
        self.laid[node.name] = made
        self.nodes.append(replace(node, name=made, inputs=inputs, attributes=attributes, shape=(outputs, 1, rows)))
        self.nodes.append(_reshaped(node.name, made, node, node.shape))

    def _down(self, name: str, node: Node) -> str:
        if name not in self.laid:
            channels, rows, _ = self.shapes[name]
            self.laid[name] = self._fresh(f"{name}.line")
            self.nodes.append(_reshaped(self.laid[name], name, node, (channels, 1, rows)))
        return self.laid[name]

    def _fresh(self, wanted: str) -> str:
        made = unused_name(wanted, self.taken)
        self.taken.add(made)
        return made


def _reshaped(name: str, value: str, like: Node, shape: Shape) -> Node:
    return Node(name, "reshape", (value,), {}, {"shape": shape}, shape, like.source)


def _turned(weight: Weight) -> Weight:
    outputs, inputs, rows, columns = weight.shape
    return Weight(weight.dtype, weight.bits.reshape(outputs, inputs, columns, rows))
