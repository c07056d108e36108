"""Units of a graph's values, followed from the layers that write them to those that read them.

A unit is one index of a value's channels (or features): the axis that a convolution or linear layer produces.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from secateur.network.formats import FLOAT_FORMATS
from secateur.network.graph import Graph, Node
from secateur.network.operations import OPERATIONS
from secateur.network.operations.units import Indices, Known, Link, Numbers, Passing, Units


class Followed(Known):
    """units: of each value that has some. links: of each node that hands them on one by one.

    shared: names of the weights at work in two places. Whoever asks for more than where units come from says in
    `made` and `passed` which of them are one number whatever the input.
    """

    def __init__(self, graph: Graph) -> None:
        shapes = {**graph.inputs, **{node.name: node.shape for node in graph.nodes}}
        constants = {
            node.name: node
            for node in graph.nodes
            if node.op == "constant" and graph.weights[node.weights["value"]].dtype in FLOAT_FORMATS
        }
        super().__init__(shapes, constants, lambda name: graph.weights[name].values())
        self.graph = graph
        uses = Counter(name for node in graph.nodes for name in node.weights.values())
        self.shared = {name for name, count in uses.items() if count > 1}

    def follow(self) -> None:
        """Through all nodes, in their order."""
        for node in self.graph.nodes:
            if OPERATIONS[node.op].is_layer:
                self.units[node.name] = Units(OPERATIONS[node.op].axis_of(node.shape), self.made(node))
            else:
                self._link(node)

    def _link(self, node: Node) -> None:
        """As the operation declares; units that are read together have no link, and all stay."""
        passing = OPERATIONS[node.op].units
        link = passing.link(self, node) if passing is not None else None
        if passing is not None and link is not None:
            self.links[node.name] = link
            self.units[node.name] = Units(link.axis, self.passed(node, passing, link))

    def made(self, node: Node) -> Numbers:
        """(units,), the number that each output unit of a layer is whatever the input, NaN where it is none."""
        return np.full(node.shape[OPERATIONS[node.op].axis_of(node.shape) - 1], np.nan)

    def passed(self, node: Node, passing: Passing, link: Link) -> Numbers:
        """The same of a node that hands units on."""
        return np.full(link.size, np.nan)

    def reads(self, node: Node) -> Units | None:
        """The units of a convolution's or linear layer's input, where they lie along the axis that it sums over."""
        units = self.units.get(node.inputs[0])
        return units if units is not None and units.axis == self.axis(node) else None

    def axis(self, node: Node) -> int:
        """Along which a convolution or linear layer sums over its input."""
        return OPERATIONS[node.op].axis_of(self.shapes[node.inputs[0]])


def is_mixing(node: Node) -> bool:
    """Whether each output unit is a sum over all input units."""
    return OPERATIONS[node.op].is_layer and node.attributes.get("groups", 1) == 1


def group_of(node: Node, size: int) -> Indices:
    """The group of each of a grouped convolution's input or output units."""
    groups = node.whole("groups")
    return np.repeat(np.arange(groups), size // groups)
