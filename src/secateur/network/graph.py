"""A network without PyTorch: nodes in order of execution, weights by name, every shape checked.

Dimension 0 of every value is the batch: it is free, and shapes here leave it out. A value is named after the node
that makes it, or is one of the graph's inputs. `operations` declares each operation, docs/format.md lists them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secateur.errors import GraphError
from secateur.network.nodes import Attribute as Attribute
from secateur.network.nodes import Node as Node
from secateur.network.nodes import Shape as Shape
from secateur.network.operations import OPERATIONS

Bits = NDArray[np.unsignedinteger]

DTYPES: Mapping[str, np.dtype[np.unsignedinteger]] = {
    "float32": np.dtype("<u4"),
    "float16": np.dtype("<u2"),
    "bfloat16": np.dtype("<u2"),
}
"""Number formats of weights, with the unsigned integers that hold their bits."""


@dataclass(frozen=True, slots=True, eq=False)
class Weight:
    """A tensor by its bit patterns, so that -0.0, denormals and NaN payloads survive whatever handles it.

    bits: C-contiguous unsigned integers as wide as dtype, shaped as the tensor. A weight is zero where its bits are.
    """

    dtype: str
    bits: Bits

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise GraphError(f"dtype {self.dtype!r}: expected one of {', '.join(DTYPES)}")
        if self.bits.dtype != DTYPES[self.dtype] or not self.bits.flags.c_contiguous:
            raise GraphError(f"{self.dtype} weight: expected contiguous {DTYPES[self.dtype]}, got {self.bits.dtype}")

    @staticmethod
    def of(values: NDArray[np.floating]) -> Weight:
        """A float32 or float16 array as a Weight, without a copy where it is contiguous."""
        name = values.dtype.name
        if name not in ("float32", "float16"):
            raise GraphError(f"a weight from an array of {name}: expected float32 or float16")
        return Weight(name, np.ascontiguousarray(values).view(DTYPES[name]))

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
        """As float32, exactly: a view for float32, a copy for the narrower formats."""
        if self.dtype == "float32":
            return self.bits.view("<f4")
        if self.dtype == "float16":
            return self.bits.view("<f2").astype(np.float32)
        return (self.bits.astype("<u4") << np.uint32(16)).view("<f4")


@dataclass(frozen=True, slots=True)
class Graph:
    """A whole network. inputs: name → shape without the batch; outputs: names of values.

    Raises GraphError where a name is unknown or used twice, an operation, attribute, weight or shape is wrong: a
    Graph that exists can be run.
    """

    inputs: Mapping[str, Shape]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    weights: Mapping[str, Weight]

    def __post_init__(self) -> None:
        check(self)

    def shape_of(self, value: str) -> Shape:
        if value in self.inputs:
            return self.inputs[value]
        return next(node.shape for node in self.nodes if node.name == value)

    @property
    def output_shapes(self) -> tuple[Shape, ...]:
        shapes = {**self.inputs, **{node.name: node.shape for node in self.nodes}}
        return tuple(shapes[name] for name in self.outputs)

    def consumers(self) -> dict[str, list[Node]]:
        """Value → the nodes that read it."""
        found: dict[str, list[Node]] = {name: [] for name in (*self.inputs, *(node.name for node in self.nodes))}
        for node in self.nodes:
            for value in dict.fromkeys(node.inputs):
                found[value].append(node)
        return found


def infer_shape(node: Node, inputs: Sequence[Shape], weights: Mapping[str, Shape]) -> Shape:
    """The output shape of a node, without the batch. weights: role → shape. Raises GraphError as Graph does."""
    operation = OPERATIONS.get(node.op)
    if operation is None:
        raise GraphError(f"node {node.name!r}: unknown operation {node.op!r}")
    return operation.shape(node, inputs, weights)


def check(graph: Graph) -> None:
    """Raises GraphError where the graph could not be run; its time is linear in the number of nodes."""
    check_shapes(graph.inputs, graph.outputs, graph.nodes, {name: each.shape for name, each in graph.weights.items()})


def check_shapes(
    inputs: Mapping[str, Shape], outputs: Sequence[str], nodes: Sequence[Node], weights: Mapping[str, Shape]
) -> None:
    """As check, of a graph whose weights are not there yet: their shapes by name."""
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
        found = infer_shape(node, [shapes[name] for name in node.inputs], held)
        if found != node.shape:
            raise GraphError(f"node {node.name!r} ({node.op}): its shape is given as {node.shape} but is {found}")
        shapes[node.name] = found
    lost = [name for name in outputs if name not in shapes] or sorted(weights.keys() - used)
    if lost or not inputs or not outputs:
        raise GraphError(f"a graph needs inputs, outputs that are values and no unused weights; wrong: {lost}")
