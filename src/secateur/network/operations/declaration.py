"""What an operation declares, and what its shape rule is given."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from numpy.typing import NDArray

from secateur.errors import GraphError
from secateur.network.formats import FLOAT_FORMATS
from secateur.network.nodes import Attribute, Node, Shape
from secateur.network.operations.elements import FLOAT, Elements, Stated
from secateur.network.operations.ranges import Extent, Range, Whole, Wholes
from secateur.network.operations.units import Passing
from secateur.network.sizes import Dimension

Array = NDArray[Any]
"""float64, or integers as they are: of a value that holds such, or of a weight."""
Weights = Mapping[str, Array]
"""By role."""
Meaning = Callable[[Node, Sequence[Array], Weights], Array]
"""The output (N, …) of a node for its inputs, (N, …) each and 1 in place of N for a constant."""


class Role(Enum):
    """What a weight is to an operation, and so what may be done to it."""

    MATRIX = "multiplied and summed over: pruned, and rounded to few values"
    TABLE = "whose rows are looked up: rounded as a matrix is, where that is asked for"
    VECTOR = "added beside a matrix: rounded to 256 values"
    STATISTIC = "of a normalisation, or a value in itself: kept as it is"


@dataclass(frozen=True, slots=True)
class Held:
    """A weight that an operation takes. shape: in the words of docs/format.md. optional: it may be absent.

    formats: those that it may have.
    """

    role: Role
    shape: str = ""
    optional: bool = False
    formats: Collection[str] = tuple(FLOAT_FORMATS)


@dataclass(frozen=True, slots=True)
class Operation:
    """All there is to say of an operation that does not depend on an engine or another format.

    rule: the output's shape. meaning: what is computed, in float64, or in integers where values hold such. inputs: how
    many; None: any number from 1 on. more: how many may follow. element: what inputs and output hold. weights,
    attributes: by name. demands: what was expected of its weights' numbers, by role, and its inputs' shapes,
    nothing where all is well. units:
    how it hands them on; None: it reads them together. axis: of one with a matrix, along which it sums units and makes
    others, from 1; -1 is the last, 0 that its outputs come back to the matrix. steady: per input, numbers between which
    a small error stays a small error; None: everywhere. formula: what is computed, in words for people. minor: the
    minor version of the file format that it came with. ordinary: of one that says itself whether its output is an
    ordinary value, which no image has a part in, and whose input is then of the other kind; None: the output is
    ordinary where all inputs are.
    """

    rule: Callable[[Arguments], Shape]
    meaning: Meaning
    inputs: int | None = 1
    more: int = 0
    element: Elements = FLOAT
    weights: Mapping[str, Held] = field(default_factory=dict)
    attributes: Mapping[str, Range] = field(default_factory=dict)
    units: Passing | None = None
    axis: int = -1
    steady: tuple[tuple[float, float] | None, ...] = ()
    formula: str = ""
    minor: int = 0
    ordinary: bool | None = None
    demands: Callable[[Node, Weights, Sequence[Shape]], str] | None = None

    @property
    def quantised(self) -> bool:
        """Whether it takes or makes integers that stand for others."""
        return isinstance(self.element, Stated)

    @property
    def is_layer(self) -> bool:
        """Whether it is a convolution or fully connected layer of floating point."""
        return bool(self.matrix) and self.axis != 0 and not self.quantised

    @property
    def matrix(self) -> str:
        """The name of its weight that is a matrix, or kernels; "" for an operation without one."""
        return next((name for name, held in self.weights.items() if held.role is Role.MATRIX), "")

    def axis_of(self, shape: Shape) -> int:
        """The axis of units in a value of a shape, from 1."""
        return self.axis if self.axis > 0 else len(shape)

    def shape(self, node: Node, inputs: Sequence[Shape], weights: Mapping[str, Shape]) -> Shape:
        """Of a node's output, without the batch. weights: by name here. Raises GraphError."""
        given = Arguments(self, node, inputs, weights)
        many = len(inputs) >= 1 if self.inputs is None else 0 <= len(inputs) - self.inputs <= self.more
        expected = f"{self.inputs} to {self.inputs + self.more}" if self.inputs and self.more else self.inputs
        given.demand(many, f"{expected or 'one or more'} inputs", len(inputs))
        needed = sorted(name for name, held in self.weights.items() if not held.optional)
        allowed = sorted(self.weights.keys() - needed)
        fits = set(needed) <= weights.keys() <= self.weights.keys()
        given.demand(fits, f"weights {needed} (and {allowed})", sorted(weights))
        named = node.attributes.keys() == self.attributes.keys()
        given.demand(named, f"attributes {sorted(self.attributes)}", sorted(node.attributes))
        return self.rule(given)

    def check_formats(self, node: Node, formats: Mapping[str, str]) -> None:
        """That weights have formats which it takes. formats: by role. Raises GraphError."""
        for role, came in formats.items():
            wanted = self.weights[role].formats
            if came not in wanted:
                raise GraphError(
                    f"node {node.name!r} ({node.op}): expected {role} of {' or '.join(wanted)}, got {came}"
                )


class Arguments:
    """What a shape rule is given: input shapes, weight shapes and attributes, all of them checked for being there.

    Reading an attribute checks it against its range. Everything here raises GraphError.
    """

    def __init__(self, operation: Operation, node: Node, shapes: Sequence[Shape], weights: Mapping[str, Shape]) -> None:
        self.operation, self.node, self.shapes, self.weights = operation, node, shapes, weights

    def demand(self, holds: bool, expected: str, came: object) -> None:
        if not holds:
            raise GraphError(f"node {self.node.name!r} ({self.node.op}): expected {expected}, got {came}")

    def check_attributes(self) -> None:
        for name in self.operation.attributes:
            self.read(name)

    def read(self, name: str, wanted: Range | None = None) -> Any:
        """An attribute. wanted: a narrower range than the one declared."""
        value: Attribute = self.node.attributes[name]
        expected = (wanted or self.operation.attributes[name]).expected(name, value)
        self.demand(not expected, expected, repr(value))
        return value

    def numbers(self, name: str, length: int | None = None) -> Shape:
        """A list of whole numbers. length: where the shapes at hand say it."""
        declared = self.operation.attributes[name]
        assert isinstance(declared, Wholes)
        found: Shape = self.read(name, declared if length is None else replace(declared, length=length))
        return found

    def whole(self, name: str, *, least: int | None = None, most: int) -> int:
        """A whole number between bounds that the shapes at hand say."""
        declared = self.operation.attributes[name]
        assert isinstance(declared, Whole)
        found: int = self.read(name, Whole(declared.least if least is None else least, most))
        return found

    def extent(self, name: str, *, least: Dimension = 0, most: Dimension) -> Any:
        """A size between bounds that the shapes at hand say."""
        return self.read(name, Extent(least, most))

    def planes(self) -> tuple[int, int, int]:
        shape = self.shapes[0]
        self.demand(len(shape) == 3, "an input (C, H, W)", shape)
        return shape[0], shape[1], shape[2]

    def weight(self, role: str, shape: Shape) -> None:
        if role in self.weights:
            self.demand(self.weights[role] == shape, f"{role} of shape {shape}", self.weights[role])
