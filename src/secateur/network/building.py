"""A Graph in the making: nodes are named, shapes worked out and constants stored as they come."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from secateur.errors import GraphError
from secateur.network.formats import FORMATS
from secateur.network.graph import Attribute, Graph, Node, Shape, Weight, infer_shape
from secateur.network.operations import OPERATIONS
from secateur.network.operations.elements import Element, format_of
from secateur.network.signature import Signature

DERIVED = ".derived"
"""Ends the names of weights that were computed from the state dict's and would have a name of it otherwise."""
Bits = NDArray[np.unsignedinteger]
Operand = str | float | Weight
"""What a node reads: a value by its name, or a number or a weight, which becomes a constant."""


@dataclass(slots=True, eq=False)
class Draft:
    """Everything that was added so far. reserved: names that only an entry of the state dict may have.

    elements: as in Graph. contents: what values hold, as far as somebody asked. names, constants: of a weight, the
    name under which it is stored and the value that it is. variants: what was made of it, by what was done. most:
    numbers that a value may have for each image, where what is read is a stranger's.
    """

    reserved: set[str] = field(default_factory=set)
    inputs: dict[str, Shape] = field(default_factory=dict)
    elements: dict[str, str] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    weights: dict[str, Weight] = field(default_factory=dict)
    entries: dict[str, Weight] = field(default_factory=dict)
    names: dict[Weight, str] = field(default_factory=dict)
    constants: dict[Weight, str] = field(default_factory=dict)
    scalars: dict[tuple[str, bytes], Weight] = field(default_factory=dict)
    contents: dict[str, Element] = field(default_factory=dict)
    variants: dict[tuple[Weight, Hashable], Weight] = field(default_factory=dict)
    most: int | None = None

    def take_in(self, name: str, shape: Shape) -> None:
        """Remember a value's shape. Raises GraphError where it has more numbers than it may, free sizes left out."""
        count = math.prod(size for size in shape if isinstance(size, int))
        if self.most is not None and count > self.most:
            raise GraphError(
                f"{name!r} has {count:,} numbers an image, more than the limit of {self.most:,}: give "
                "inputs fewer with --shape"
            )
        self.shapes[name] = shape


@dataclass(frozen=True, slots=True, eq=False)
class Builder:
    """Adds to a draft what comes from one place in a network.

    path: of the module there, which names the nodes: by itself where it is a layer and has no node yet, else with the
    operation behind it. Names that are taken get a number. what: names constants, in place of the operation that reads
    them. A weight is known by its identity: wherever it is used again, it is stored once. All raise GraphError for
    what a Graph cannot hold.
    """

    draft: Draft = field(default_factory=Draft)
    path: str = ""
    is_layer: bool = False
    what: str = ""

    @classmethod
    def with_entries(cls, names: Iterable[str]) -> Builder:
        """An empty one for a network whose state dict has entries of these names."""
        return cls(Draft(set(names)))

    def at(self, path: str, *, is_layer: bool = False, what: str = "") -> Builder:
        """What adds to the same draft from another place."""
        return replace(self, path=path, is_layer=is_layer, what=what)

    def input(self, wanted: str, shape: Shape, element: str = "float32") -> str:
        """Another input of the graph, its shape without the batch. element: what it holds."""
        name = unused_name(wanted, self.draft.shapes)
        self.draft.take_in(name, shape)
        self.draft.inputs[name] = shape
        if element != "float32":
            self.draft.elements[name] = element
        return name

    def shape(self, value: str) -> Shape:
        """Of a value, without the batch."""
        return self.draft.shapes[value]

    def element(self, value: str) -> str:
        """The number format of a value's elements."""
        draft = self.draft
        for name in draft.inputs.keys() - draft.contents.keys():
            draft.contents[name] = draft.elements.get(name, "float32")
        for node in draft.nodes[len(draft.contents) - len(draft.inputs) :]:
            formats = {role: draft.weights[name].dtype for role, name in node.weights.items()}
            held = [draft.contents[name] for name in node.inputs]
            draft.contents[node.name] = OPERATIONS[node.op].element.made(node, held, formats)
        return format_of(draft.contents[value])

    def number(self, number: float, element: str = "float32") -> Weight:
        """A weight () of one number: one for all who ask."""
        held = filled((), number) if element == "float32" else Weight.of(np.array(number, FORMATS[element].numbers))
        return self.draft.scalars.setdefault((element, held.bits.tobytes()), held)

    def entry(self, name: str, weight: Weight) -> Weight:
        """The weight that is this entry of the state dict, bit for bit, and so is stored under its name."""
        draft = self.draft
        held = draft.entries.get(name) or draft.weights.get(name, weight)
        if not _are_same(held, weight):
            raise GraphError(f"weight {name!r}: the name stands for another weight already")
        draft.reserved.add(name)
        draft.entries[name] = held
        draft.names[held] = name
        return held

    def emit(
        self, op: str, *inputs: Operand, weights: Mapping[str, Weight] | None = None, **attributes: Attribute
    ) -> str:
        """Add a node; returns the name of its value. weights: by role."""
        values = tuple(self.value(each, op) for each in inputs)
        names = {role: self._stored(weight, self.label(role)) for role, weight in (weights or {}).items()}
        wanted = self.path if self._names_its_layer() else self.label(op)
        return self.add(Node(unused_name(wanted, self.draft.shapes), op, values, names, attributes, (), self.path))

    def value(self, operand: Operand, reader: str = "") -> str:
        """The value that an operand is. reader: the operation that asks, which a new constant is named after."""
        if isinstance(operand, str):
            return operand
        return self.constant(operand if isinstance(operand, Weight) else self.number(operand), reader=reader)

    def constant(self, weight: Weight, wanted: str = "", *, reader: str = "") -> str:
        """The value of a weight: one for all who ask. wanted: its name, in place of the entry's or the place's."""
        draft = self.draft
        if weight not in draft.constants:
            own = self.label(".".join(filter(None, (self.what or reader, "constant"))))
            name = unused_name(wanted or draft.names.get(weight) or own, draft.shapes)
            stored = self._stored(weight, wanted or name)
            draft.constants[weight] = self.add(Node(name, "constant", (), {"value": stored}, source=self.path))
        return draft.constants[weight]

    def variant(self, weight: Weight, key: Hashable, make: Callable[[Bits], Bits]) -> Weight:
        """What is made of a weight's bits; for all who ask with the same key the same."""
        found = self.draft.variants
        if (weight, key) not in found:
            bits = make(weight.bits)
            found[weight, key] = Weight(weight.dtype, np.ascontiguousarray(bits).reshape(bits.shape))
        return found[weight, key]

    def reshaped(self, weight: Weight, shape: Shape) -> Weight:
        """The weight itself where it has that shape."""
        return weight if weight.shape == shape else self.variant(weight, shape, lambda bits: bits.reshape(shape))

    def add(self, node: Node) -> str:
        """Add a node whose name is free, and whose weights are stored; its shape is worked out here."""
        draft = self.draft
        held = {role: draft.weights[name].shape for role, name in node.weights.items()}
        shape = infer_shape(node, [draft.shapes[value] for value in node.inputs], held)
        draft.take_in(node.name, shape)
        draft.nodes.append(replace(node, shape=shape))
        return node.name

    def label(self, what: str) -> str:
        """A name for something at this place."""
        return f"{self.path}.{what}" if self.path else what

    def derived_name(self, wanted: str) -> str:
        """A name for a weight that is no entry of the state dict."""
        draft = self.draft
        wanted = f"{wanted}{DERIVED}" if wanted in draft.reserved else wanted
        return unused_name(wanted, draft.reserved, draft.weights)

    def graph(self, outputs: Iterable[str], signature: Signature | None = None) -> Graph:
        """Of what these values depend on; all inputs stay. signature: kept where it says more than goes without."""
        draft, ends = self.draft, tuple(outputs)
        nodes = without_dead_nodes(draft.nodes, ends)
        used = {name for node in nodes for name in node.weights.values()}
        weights = {name: weight for name, weight in draft.weights.items() if name in used}
        said = signature is not None and signature.says_more_than(draft.inputs, len(ends))
        return Graph(draft.inputs, ends, tuple(nodes), weights, draft.elements, signature if said else None)

    def _stored(self, weight: Weight, wanted: str) -> str:
        draft = self.draft
        name = draft.names.get(weight) or self.derived_name(wanted)
        draft.names[weight] = name
        draft.weights[name] = weight
        return name

    def _names_its_layer(self) -> bool:
        return self.is_layer and self.path != "" and self.path not in self.draft.shapes


def filled(shape: Shape, number: float) -> Weight:
    """A float32 weight of one number."""
    with np.errstate(over="ignore"):
        return Weight("float32", np.full(shape, number, "<f4").view("<u4"))


def without_dead_nodes(nodes: Sequence[Node], outputs: Iterable[str]) -> list[Node]:
    """Those nodes that an output depends on, in their order."""
    wanted = set(outputs)
    kept = []
    for node in reversed(nodes):
        if node.name in wanted:
            kept.append(node)
            wanted.update(node.inputs)
    return kept[::-1]


def unused_name(wanted: str, *taken: Container[str]) -> str:
    """A name that is not taken: the one wanted, or with a number behind it."""
    found, count = wanted, 1
    while any(found in each for each in taken):
        found, count = f"{wanted}_{count}", count + 1
    return found


def _are_same(one: Weight, other: Weight) -> bool:
    return one is other or (
        (one.dtype, one.shape) == (other.dtype, other.shape) and np.array_equal(one.bits, other.bits)
    )
