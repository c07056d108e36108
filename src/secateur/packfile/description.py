"""What a .secateur file holds, weight by weight, for people and tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from secateur.network.formats import WEIGHT_FORMATS
from secateur.network.graph import Graph, Node, Shape, Weight
from secateur.network.limits import Limits
from secateur.network.operations import OPERATIONS
from secateur.network.quantisation import Quantisation
from secateur.packfile import container
from secateur.packfile.codecs import NAMES
from secateur.packfile.document import Metadata, Stored, minor_version
from secateur.packfile.reading import LIMIT, read_packed


@dataclass(frozen=True, slots=True)
class WeightDescription:
    """One weight. bytes: in the file, checksum included. bound: see bound_bytes. error: 0 where every bit is kept."""

    name: str
    shape: Shape
    dtype: str
    density: float
    codec: str
    bytes: int
    bound: float
    error: float

    @property
    def share(self) -> float:
        """bytes ÷ bound; below 1 is better than zeros and values that know nothing of each other would allow."""
        return self.bytes / self.bound if self.bound else math.inf


@dataclass(frozen=True, slots=True)
class QuantisedDescription:
    """An operation in eight bits. name: the module that it came from, else the node's.

    output: what its integers stand for, None where it gives floats. extent: the least and the largest number that they
    can stand for. weight_scales: the least and the largest scale of a layer's weights.
    """

    name: str
    operation: str
    output: Quantisation | None
    extent: tuple[float, float] | None
    weight_scales: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class ValueDescription:
    """An input or output. shape: the batch, N or a number, and what follows. element: its number format."""

    name: str
    shape: tuple[str, ...]
    element: str

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(self.shape)}) {self.element}"


@dataclass(frozen=True, slots=True)
class Description:
    """A whole file, every checksum verified. bytes: of the file, headers and graph included. quantised: what of it is
    in eight bits, in the order in which it runs. images: how many the network takes, None where that is any number."""

    version: str
    metadata: Metadata
    nodes: int
    weights: tuple[WeightDescription, ...]
    bytes: int
    quantised: tuple[QuantisedDescription, ...] = ()
    inputs: tuple[ValueDescription, ...] = ()
    outputs: tuple[ValueDescription, ...] = ()
    images: int | None = None

    @property
    def dense_bytes(self) -> int:
        return sum(math.prod(each.shape) * WEIGHT_FORMATS[each.dtype].carrier.itemsize for each in self.weights)

    @property
    def bound(self) -> float:
        return sum(each.bound for each in self.weights)

    @property
    def share(self) -> float:
        return self.bytes / self.bound if self.bound else math.inf

    @property
    def error(self) -> float:
        return max((each.error for each in self.weights), default=0.0)


def describe(path: str | Path, *, limit: int | None = LIMIT, limits: Limits | None = None) -> Description:
    """Read a file whole to say what is in it. Raises FormatError as read does."""
    packed = read_packed(path, limit=limit, limits=limits)
    weights = tuple(_described(each, packed.graph.weights[each.name]) for each in packed.stored)
    version = f"{container.MAJOR}.{minor_version(packed.graph)}"
    quantised = _in_eight_bits(packed.graph)
    graph = packed.graph
    inputs, outputs = values_of(graph)
    nodes, images = len(graph.nodes), graph.images
    return Description(version, packed.metadata, nodes, weights, packed.size, quantised, inputs, outputs, images)


def values_of(graph: Graph) -> tuple[tuple[ValueDescription, ...], tuple[ValueDescription, ...]]:
    """What goes in and what comes out."""
    inputs, outputs = zip(graph.inputs, graph.inputs, strict=True), zip(graph.output_names, graph.outputs, strict=True)
    return _values(graph, tuple(inputs)), _values(graph, tuple(outputs))


def _values(graph: Graph, names: Sequence[tuple[str, str]]) -> tuple[ValueDescription, ...]:
    """names: what each is called, and which value it is."""
    images, elements = str(graph.images or "N"), graph.value_elements
    shapes = {**graph.inputs, **{node.name: node.shape for node in graph.nodes}}
    return tuple(ValueDescription(name, (images, *map(str, shapes[value])), elements[value]) for name, value in names)


def _in_eight_bits(graph: Graph) -> tuple[QuantisedDescription, ...]:
    values = graph.quantisations
    nodes = [node for node in graph.nodes if OPERATIONS[node.op].quantised]
    return tuple(_described_node(node, values.get(node.name), graph.weights) for node in nodes)


def _described_node(node: Node, output: Quantisation | None, weights: Mapping[str, Weight]) -> QuantisedDescription:
    scales = weights[node.weights["scale"]].numbers() if "scale" in node.weights else np.zeros(0)
    among = (float(scales.min()), float(scales.max())) if scales.size else None
    return QuantisedDescription(node.source or node.name, node.op, output, _extent(node, output), among)


def _extent(node: Node, output: Quantisation | None) -> tuple[float, float] | None:
    if output is None:
        return None
    low, high = (
        (node.whole(name) if name in node.attributes else end) - output.zero_point
        for name, end in (("low", output.least), ("high", output.most))
    )
    return low * output.scale, high * output.scale


def _described(stored: Stored, weight: Weight) -> WeightDescription:
    density = weight.nonzero / weight.count if weight.count else 0.0
    name, codec = stored.name, NAMES[stored.codec]
    size, bound = stored.size + 4, bound_bytes(weight)
    return WeightDescription(name, stored.shape, stored.dtype, density, codec, size, bound, stored.error)


def bound_bytes(weight: Weight) -> float:
    """n · (H(density) + density · bits of a value) / 8: what zeros at random places and values at random would take."""
    if weight.count == 0:
        return 0.0
    density = weight.nonzero / weight.count
    entropy = -sum(p * math.log2(p) for p in (density, 1 - density) if p > 0)
    return weight.count * (entropy + density * weight.bits.itemsize * 8) / 8
