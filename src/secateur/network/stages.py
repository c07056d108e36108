"""A Graph in the parts that can run at once: some image by image, some once with what all images came to."""

from __future__ import annotations

from dataclasses import dataclass

from secateur.network.building import without_dead_nodes
from secateur.network.graph import Graph, Node
from secateur.network.operations import OPERATIONS


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """A part that runs at once: inputs and outputs have the names that they have in the whole.

    ordinary: it runs once, its values as those of one image; else it may be cut into blocks of images.
    """

    graph: Graph
    ordinary: bool

    @property
    def kind(self) -> str:
        return "once for all images" if self.ordinary else "image by image"


def crosses_images(graph: Graph) -> bool:
    """Whether any value is of all images."""
    return any(OPERATIONS[node.op].ordinary is not None for node in graph.nodes)


def stages_of(graph: Graph) -> list[Stage | Node]:
    """A graph bound to a number of images, in an order in which it can be run.

    A Node stands for itself: it gathers or scatters, which moves no number, as (N, …) and (1, N, …) lie alike.
    Constants that are scattered, or are outputs, are made by no stage.
    """
    return _Division(graph).steps()


def constants_of(graph: Graph) -> frozenset[str]:
    """Ordinary values that no input has a part in."""
    found: set[str] = set()
    for node in graph.nodes:
        if OPERATIONS[node.op].ordinary is None and found.issuperset(node.inputs):
            found.add(node.name)
    return frozenset(found)


class _Division:
    """depths: value → how often what it is made of was gathered or scattered; odd for ordinary values."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.constants = graph, constants_of(graph)
        self.nodes = without_dead_nodes(graph.nodes, graph.outputs)
        self.shapes = {**graph.inputs, **{node.name: node.shape for node in graph.nodes}}
        self.depths = dict.fromkeys(graph.inputs, 0)
        ordinary = graph.ordinary
        for node in self.nodes:
            own = int(node.name in ordinary)
            most = max((self.depths[name] for name in node.inputs if name not in self.constants), default=own)
            self.depths[node.name] = most + (most - own) % 2

    def steps(self) -> list[Stage | Node]:
        found: list[Stage | Node] = []
        for depth in sorted({*self.depths.values()}):
            here = [node for node in self.nodes if self.depths[node.name] == depth and node.name not in self.constants]
            within = [node for node in here if OPERATIONS[node.op].ordinary is None]
            found += [node for node in here if OPERATIONS[node.op].ordinary is not None]
            found += [Stage(self._part({node.name for node in within}), depth % 2 == 1)] if within else []
        return found

    def _part(self, own: set[str]) -> Graph:
        """These nodes, and the constants that they are made with."""
        read = {name for node in self.nodes if node.name not in own for name in node.inputs} | {*self.graph.outputs}
        outputs = tuple(node.name for node in self.nodes if node.name in own & read)
        among = [node for node in self.nodes if node.name in own | self.constants]
        nodes = tuple(without_dead_nodes(among, outputs))
        made = {node.name for node in nodes}
        inputs = {name: self.shapes[name] for node in nodes for name in node.inputs if name not in made}
        held = self.graph.value_elements
        weights = {name: self.graph.weights[name] for node in nodes for name in node.weights.values()}
        elements = {name: held[name] for name in inputs if held[name] != "float32"}
        return Graph(inputs, outputs, nodes, weights, elements)
