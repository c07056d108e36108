"""A Graph in the parts that can run at once: some image by image, some once with what all images came to."""

from __future__ import annotations

from dataclasses import dataclass

from secateur.errors import GraphError
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
    return any(map(_crosses, graph.nodes))


def stages_of(graph: Graph) -> list[Stage | Node]:
    """A graph bound to a number of images, in an order in which it can be run.

    A Node stands for itself: it gathers or scatters, which moves no number, as (N, …) and (1, N, …) lie alike.
    Constants that are scattered, or are outputs, are made by no stage. Raises GraphError for a quantised value that one
    stage makes and another reads: stages hand on numbers.
    """
    return _Division(graph).steps()


def constants_of(graph: Graph) -> frozenset[str]:
    """Ordinary values that no input has a part in."""
    found: set[str] = set()
    for node in graph.nodes:
        if not _crosses(node) and found.issuperset(node.inputs):
            found.add(node.name)
    return frozenset(found)


class _Division:
    """depths: value → how often what it is made of was gathered or scattered; odd for ordinary values.

    Its time is linear in the number of nodes, and in the constants that each stage is made with.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph, self.constants, self.elements = graph, constants_of(graph), graph.value_elements
        self.quantised = graph.quantisations
        nodes = without_dead_nodes(graph.nodes, graph.outputs)
        self.places = {node.name: place for place, node in enumerate(nodes)}
        self.nodes = nodes
        self.shapes = {**graph.inputs, **{node.name: node.shape for node in nodes}}
        self.depths = self._depths(graph.ordinary)
        self.handed_on = self._handed_on()

    def steps(self) -> list[Stage | Node]:
        crossing: dict[int, list[Node]] = {}
        within: dict[int, list[Node]] = {}
        for node in self.nodes:
            if node.name in self.depths:
                (crossing if _crosses(node) else within).setdefault(self.depths[node.name], []).append(node)
        found: list[Stage | Node] = []
        for depth in sorted({*crossing, *within}):
            found += crossing.get(depth, [])
            found += [Stage(self._part(within[depth]), depth % 2 == 1)] if depth in within else []
        return found

    def _depths(self, ordinary: frozenset[str]) -> dict[str, int]:
        """Of all values but constants."""
        depths = dict.fromkeys(self.graph.inputs, 0)
        for node in self.nodes:
            if node.name not in self.constants:
                own = int(node.name in ordinary)
                most = max((depths[name] for name in node.inputs if name in depths), default=own)
                depths[node.name] = most + (most - own) % 2
        return depths

    def _handed_on(self) -> set[str]:
        """Values that something outside of their stage reads."""
        return {*self.graph.outputs} | {
            name
            for node in self.nodes
            for name in node.inputs
            if _crosses(node) or self.depths.get(name) != self.depths.get(node.name)
        }

    def _part(self, own: list[Node]) -> Graph:
        """These nodes, and the constants that they are made with."""
        places = {self.places[node.name] for node in own}
        waiting = [name for node in own for name in node.inputs]
        while waiting:
            name = waiting.pop()
            if name in self.constants and self.places[name] not in places:
                places.add(self.places[name])
                waiting += self.nodes[self.places[name]].inputs
        nodes = tuple(self.nodes[place] for place in sorted(places))
        made = {node.name for node in nodes}
        inputs = {name: self.shapes[name] for node in nodes for name in node.inputs if name not in made}
        for name in inputs.keys() & self.quantised.keys():
            raise GraphError(f"value {name!r} is quantised, and not all who read it run image by image: dequantise it")
        outputs = tuple(node.name for node in own if node.name in self.handed_on)
        weights = {name: self.graph.weights[name] for node in nodes for name in node.weights.values()}
        elements = {name: self.elements[name] for name in inputs if self.elements[name] != "float32"}
        return Graph(inputs, outputs, nodes, weights, elements)


def _crosses(node: Node) -> bool:
    return OPERATIONS[node.op].ordinary is not None
