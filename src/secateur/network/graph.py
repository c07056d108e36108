"""A network without PyTorch: nodes in order of execution, weights by name, every shape checked.

Dimension 0 of every value is the batch: it is free, and shapes here leave it out. Other dimensions are whole numbers,
or expressions of lengths with names (`sizes`), which inputs tell; bound to lengths, all are numbers.

An ordinary value is one that no image has a part in: a constant, the values of all images as one (`gather_images`), and
what is made of such alone. It has no batch, meets values of images as a constant does, and where the number of images
is one of its sizes, that is the length `batch`.

A value is named after the node that makes it, or is one of the graph's inputs. `operations` declares each operation,
docs/format.md lists them.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from secateur.errors import GraphError
from secateur.network.formats import FORMATS, INTEGERS, WEIGHT_FORMATS
from secateur.network.nodes import Attribute as Attribute
from secateur.network.nodes import Node as Node
from secateur.network.nodes import Shape as Shape
from secateur.network.operations import OPERATIONS
from secateur.network.operations.elements import Element, format_of
from secateur.network.quantisation import Quantisation
from secateur.network.signature import Signature
from secateur.network.sizes import BATCH, Dimension, Size, at_least, bind, lengths_in, names_of

Bits = NDArray[np.unsignedinteger]


class Described(Protocol):
    """What a weight is, whether or not its numbers are there."""

    @property
    def dtype(self) -> str: ...

    @property
    def shape(self) -> Shape: ...


@dataclass(frozen=True, slots=True, eq=False)
class Weight:
    """A tensor by its bit patterns, so that -0.0, denormals and NaN payloads survive whatever handles it.

    bits: C-contiguous unsigned integers as wide as dtype, shaped as the tensor. A weight is zero where its bits are.
    """

    dtype: str
    bits: Bits

    def __post_init__(self) -> None:
        if self.dtype not in WEIGHT_FORMATS:
            raise GraphError(f"dtype {self.dtype!r}: expected one of {', '.join(WEIGHT_FORMATS)}")
        carrier = WEIGHT_FORMATS[self.dtype].carrier
        if self.bits.dtype != carrier or not self.bits.flags.c_contiguous:
            raise GraphError(f"{self.dtype} weight: expected contiguous {carrier}, got {self.bits.dtype}")

    @staticmethod
    def of(values: NDArray[np.number[Any] | np.bool_]) -> Weight:
        """An array of float32, float16, int8, int32, int64 or bool as a Weight, without a copy where contiguous."""
        name = values.dtype.name
        if name not in WEIGHT_FORMATS:
            raise GraphError(f"a weight from an array of {name}: expected float32, float16, int8, int32, int64 or bool")
        held = np.ascontiguousarray(values).reshape(values.shape)  # of one number, NumPy makes a list
        return Weight(name, held.view(WEIGHT_FORMATS[name].carrier))

    @property
    def shape(self) -> Shape:
        return self.bits.shape

    @property
    def count(self) -> int:
        return self.bits.size

    @property
    def nonzero(self) -> int:
        return int(np.count_nonzero(self.bits))

    def values(self) -> NDArray[np.float32]:
        """As float32, exactly: a view for float32, a copy for others.

        Raises GraphError for whole numbers that float32 has not.
        """
        numbers = self.numbers()
        made = numbers.astype(np.float32, copy=False)
        if self.dtype in INTEGERS and not np.array_equal(made, numbers):
            raise GraphError(
                f"an {self.dtype} weight has numbers that float32 has not: expected its numbers() to be asked for"
            )
        return made

    def numbers(self) -> NDArray[Any]:
        """In the type of its own: a view, but for bfloat16, which NumPy has not and which comes as float32."""
        numbers = WEIGHT_FORMATS[self.dtype].numbers
        if numbers is not None:
            return self.bits.view(numbers)
        return (self.bits.astype("<u4") << np.uint32(16)).view("<f4")


@dataclass(frozen=True, slots=True)
class Graph:
    """A whole network. inputs: name → shape without the batch; outputs: names of values.

    elements: the number format of an input's elements where that is not float32; those of other values follow.
    signature: how it is called, where that is not with its inputs one by one for its outputs alone or in a tuple.

    Raises GraphError where a name is unknown or used twice, an operation, attribute, weight or shape is wrong: a
    Graph that exists can be run.
    """

    inputs: Mapping[str, Shape]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    weights: Mapping[str, Weight]
    elements: Mapping[str, str] = field(default_factory=dict)
    signature: Signature | None = None

    def __post_init__(self) -> None:
        check(self)

    @property
    def called(self) -> Signature:
        """How it is called, said or not."""
        return self.signature or Signature.plain(self.inputs, len(self.outputs))

    @property
    def output_names(self) -> tuple[str, ...]:
        """Of each output where it is in what the network gives, as in `heads.boxes`; else the value's own name."""
        said = self.called.output_names(len(self.outputs))
        names = [own or f"output_{place}" for place, own in enumerate(said)]
        plain = [own if self.outputs.count(own) == 1 else "" for own in self.outputs]
        return tuple(found if own else beside or found for found, own, beside in zip(names, said, plain, strict=True))

    @property
    def lengths(self) -> tuple[str, ...]:
        """Names of the lengths that are free, in alphabetical order; `batch` only where a size depends on it."""
        told = names_of(size for shape in self.inputs.values() for size in shape)
        return tuple(sorted(told.union(*(names_of(_sizes(node)) for node in self.nodes))))

    @property
    def ordinary(self) -> frozenset[str]:
        """Names of the values that no image has a part in."""
        return _ordinary_values(self.nodes)

    @property
    def images(self) -> int | None:
        """How many images it is bound to, None where it takes any number of them."""
        if self.signature is not None and self.signature.images is not None:
            return self.signature.images
        counts = (node.attributes["images"] for node in self.nodes if OPERATIONS[node.op].ordinary is not None)
        return next((count for count in counts if isinstance(count, int)), None)

    def lengths_of(self, came: Mapping[str, Sequence[int]], images: int) -> dict[str, int]:
        """The lengths that inputs of these shapes have. came: input → shape without the batch, of the right rank.

        Raises GraphError where sizes came that cannot be, or do not go together.
        """
        found = lengths_in(
            [
                (f"input {name!r}, dimension {axis}", size, came[name][axis - 1])
                for name, shape in self.inputs.items()
                for axis, size in enumerate(shape, 1)
            ]
        )
        return found | ({BATCH: images} if BATCH in self.lengths else {})

    def bind(self, lengths: Mapping[str, int]) -> Graph:
        """The graph of whole numbers that this one is at lengths, all of them given by name.

        Raises GraphError where a length is missing or unknown, or an operation has no result at these.
        """
        if not isinstance(lengths, Mapping):
            raise GraphError(f"lengths {lengths!r}: expected a mapping of names to whole numbers")
        if lengths.keys() != set(self.lengths):
            raise GraphError(f"lengths {sorted(map(str, lengths))}: expected {list(self.lengths) or 'none'}")
        if not lengths:
            return self
        wrong = [f"{name} {length!r}" for name, length in lengths.items() if not isinstance(length, SupportsIndex)]
        if wrong:
            raise GraphError(f"{', '.join(wrong)}: expected a whole number")
        lengths = {name: operator.index(length) for name, length in lengths.items()}
        self.called.check_lengths(lengths)
        inputs = {name: _bound_shape(name, shape, lengths) for name, shape in self.inputs.items()}
        nodes = tuple(_bound_node(node, lengths) for node in self.nodes)
        return replace(self, inputs=inputs, nodes=nodes)

    def shape_of(self, value: str) -> Shape:
        if value in self.inputs:
            return self.inputs[value]
        return next(node.shape for node in self.nodes if node.name == value)

    @property
    def output_shapes(self) -> tuple[Shape, ...]:
        shapes = {**self.inputs, **{node.name: node.shape for node in self.nodes}}
        return tuple(shapes[name] for name in self.outputs)

    @property
    def value_elements(self) -> dict[str, str]:
        """Value → the number format of its elements."""
        return {name: format_of(each) for name, each in self._contents().items()}

    @property
    def quantisations(self) -> dict[str, Quantisation]:
        """Value → what its integers stand for, of those that stand for others."""
        return {name: each for name, each in self._contents().items() if isinstance(each, Quantisation)}

    def _contents(self) -> dict[str, Element]:
        return _value_elements(self.inputs, self.nodes, self.weights, self.elements)

    def consumers(self) -> dict[str, list[Node]]:
        """Value → the nodes that read it."""
        found: dict[str, list[Node]] = {name: [] for name in (*self.inputs, *(node.name for node in self.nodes))}
        for node in self.nodes:
            for value in dict.fromkeys(node.inputs):
                found[value].append(node)
        return found


def _bound_shape(value: str, shape: Shape, lengths: Mapping[str, int]) -> Shape:
    found = tuple(bind(size, lengths) for size in shape)
    if not all(at_least(size, 0) for size in found):
        given = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise GraphError(f"value {value!r} of shape {shape} would be {found} with {given}: expected longer ones")
    return found


def _bound_node(node: Node, lengths: Mapping[str, int]) -> Node:
    attributes = {name: _bound_attribute(value, lengths) for name, value in node.attributes.items()}
    return replace(node, attributes=attributes, shape=_bound_shape(node.name, node.shape, lengths))


def _bound_attribute(value: Attribute, lengths: Mapping[str, int]) -> Attribute:
    if isinstance(value, tuple):
        return tuple(bind(each, lengths) if isinstance(each, Size) else each for each in value)  # type: ignore[return-value]
    return bind(value, lengths) if isinstance(value, Size) else value


def infer_shape(node: Node, inputs: Sequence[Shape], weights: Mapping[str, Shape]) -> Shape:
    """The output shape of a node, without the batch. weights: role → shape. Raises GraphError as Graph does."""
    operation = OPERATIONS.get(node.op)
    if operation is None:
        raise GraphError(f"node {node.name!r}: unknown operation {node.op!r}")
    return operation.shape(node, inputs, weights)


def check(graph: Graph) -> None:
    """Raises GraphError where the graph could not be run; its time is linear in the number of nodes and in what
    integers its weights hold."""
    check_shapes(graph.inputs, graph.outputs, graph.nodes, graph.weights, graph.elements)
    shapes = {**graph.inputs, **{node.name: node.shape for node in graph.nodes}}
    if graph.signature is not None:
        graph.signature.check(len(graph.inputs), len(graph.outputs))
    for node in graph.nodes:
        _check_numbers(node, [shapes[name] for name in node.inputs], graph.weights)


def _check_numbers(node: Node, inputs: Sequence[Shape], weights: Mapping[str, Weight]) -> None:
    demands = OPERATIONS[node.op].demands
    if demands is None:
        return
    expected = demands(node, {role: weights[name].numbers() for role, name in node.weights.items()}, inputs)
    if expected:
        raise GraphError(f"node {node.name!r} ({node.op}): expected {expected}")


def check_shapes(
    inputs: Mapping[str, Shape],
    outputs: Sequence[str],
    nodes: Sequence[Node],
    weights: Mapping[str, Described],
    elements: Mapping[str, str] | None = None,
) -> None:
    """As check, of a graph whose weights need not be there yet. elements: as in Graph."""
    shapes: dict[str, Shape] = dict(inputs)
    used: set[str] = set()
    for node in nodes:
        if node.name in shapes:
            raise GraphError(f"node {node.name!r}: the name stands twice")
        missing = [name for name in node.inputs if name not in shapes]
        missing += [name for name in node.weights.values() if name not in weights]
        if missing:
            raise GraphError(f"node {node.name!r} ({node.op}): {missing[0]!r} is no value before it and no weight")
        used.update(node.weights.values())
        held = {role: weights[name] for role, name in node.weights.items()}
        found = infer_shape(
            node, [shapes[name] for name in node.inputs], {role: each.shape for role, each in held.items()}
        )
        if found != node.shape:
            raise GraphError(f"node {node.name!r} ({node.op}): its shape is given as {node.shape} but is {found}")
        OPERATIONS[node.op].check_formats(node, {role: each.dtype for role, each in held.items()})
        shapes[node.name] = found
    _check_lengths(inputs, nodes)
    _ordinary_values(nodes)
    _value_elements(inputs, nodes, weights, elements or {})
    lost = [name for name in outputs if name not in shapes] or sorted(weights.keys() - used)
    if lost or not inputs or not outputs:
        raise GraphError(f"a graph needs inputs, outputs that are values and no unused weights; wrong: {lost}")


def _value_elements(
    inputs: Mapping[str, Shape], nodes: Sequence[Node], weights: Mapping[str, Described], elements: Mapping[str, str]
) -> dict[str, Element]:
    """Value → what it holds. Raises GraphError where an operation takes others."""
    for name, element in elements.items():
        if name not in inputs or element not in FORMATS:
            expected = ", ".join(FORMATS)
            raise GraphError(f"elements of {name!r}: expected an input's, one of {expected}; got {element!r}")
    found: dict[str, Element] = {name: elements.get(name, "float32") for name in inputs}
    for node in nodes:
        formats = {role: weights[name].dtype for role, name in node.weights.items()}
        found[node.name] = OPERATIONS[node.op].element.made(node, [found[name] for name in node.inputs], formats)
    return found


def _ordinary_values(nodes: Sequence[Node]) -> frozenset[str]:
    """Those that no image has a part in. Raises GraphError where an operation takes the other kind."""
    found: set[str] = set()
    for node in nodes:
        declared, given = OPERATIONS[node.op].ordinary, found.issuperset(node.inputs)
        if declared is not None and declared == given:
            expected, came = (
                ("values of images", "an ordinary one") if given else ("an ordinary value", "one per image")
            )
            raise GraphError(f"node {node.name!r} ({node.op}): expected {expected}, got {came}")
        if given if declared is None else declared:
            found.add(node.name)
    return frozenset(found)


def _check_lengths(inputs: Mapping[str, Shape], nodes: Sequence[Node]) -> None:
    """That the inputs' shapes tell every length that is in use, but for the batch, which they leave out."""
    told = {name for shape in inputs.values() for size in shape for name in _told(size)} | {BATCH}
    for node in nodes:
        lost = sorted(names_of(_sizes(node)) - told)
        if lost:
            raise GraphError(f"node {node.name!r} ({node.op}): no input tells the length {lost[0]!r}")
    used = names_of(size for shape in inputs.values() for size in shape)
    if BATCH in used:
        raise GraphError(f"inputs with a size of {BATCH}: expected none, as shapes leave the batch out")
    lost = sorted(used - told)
    if lost:
        raise GraphError(f"no input tells the length {lost[0]!r}: expected one of a shape with {lost[0]} in it alone")
    counts = {node.attributes["images"] for node in nodes if OPERATIONS[node.op].ordinary is not None}
    if len(counts) > 1:
        raise GraphError(f"a graph for {' and '.join(sorted(map(str, counts)))} images: expected one number of them")


def _told(size: Dimension) -> tuple[str, ...]:
    line = size.line if isinstance(size, Size) else None
    return () if line is None else (line[1],)


def _sizes(node: Node) -> list[Dimension]:
    """Those of a node's output and among its attributes."""
    return [*node.shape, *(part for value in node.attributes.values() for part in _parts(value))]


def _parts(value: Attribute) -> tuple[Dimension, ...]:
    several = value if isinstance(value, tuple) else (value,)
    return tuple(each for each in several if isinstance(each, Size))
