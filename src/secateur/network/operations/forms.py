"""Operations that a function of numbers says all about."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from secateur.network.nodes import Node
from secateur.network.operations import shapes, units
from secateur.network.operations.declaration import Array, Operation, Weights
from secateur.network.operations.elements import FLOAT, Elements
from secateur.network.operations.meanings import aligned
from secateur.network.operations.ranges import Range

Interval = tuple[float, float] | None


def elementwise(
    function: Callable[..., Array],
    formula: str = "",
    *,
    steady: Interval = None,
    element: Elements = FLOAT,
    **attributes: Range,
) -> Operation:
    """The operation that does to each number x what function(x, **attributes) does to arrays of them.

    formula: what that is, in words for people. steady: as an Operation's, for x. element: what x may be.
    """

    def meaning(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
        return function(inputs[0], **node.attributes)

    passing = units.Passing(units.along, units.of_numbers(function))
    return Operation(
        shapes.same,
        meaning,
        element=element,
        attributes=attributes,
        units=passing,
        steady=(steady,),
        formula=formula,
    )


def pairwise(
    function: Callable[[Array, Array], Array],
    formula: str = "",
    *,
    absorbing: float | None = None,
    steady: tuple[Interval, Interval] = (None, None),
    element: Elements = FLOAT,
) -> Operation:
    """The operation that does to each two numbers what a function does to arrays of them.

    Shapes behind the batch are aligned at their last axes, and axes of length 1 are repeated. absorbing: the number
    that makes itself of any other, as 0 in a product. steady, element: as an Operation's.
    """

    def meaning(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
        left, right = aligned(inputs, len(node.shape))
        return function(left, right)

    passing = units.Passing(units.pairwise, units.of_pairs(function, absorbing))
    return Operation(
        shapes.broadcast, meaning, inputs=2, element=element, units=passing, steady=steady, formula=formula
    )
