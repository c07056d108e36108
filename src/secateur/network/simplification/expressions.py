"""Values as sums of products of others: what arithmetic comes to, in whatever order it was written out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from secateur.network.graph import Node, Weight

Terms = dict[tuple[str, ...], float]
"""Product of values, by their names in order → the factor that it is added with. () is the number 1."""
_MOST, _DEPTH = 8, 10
"""Terms of a sum, and operations on the way to one, up to which it is multiplied out."""
_PACE = 200
"""Operations that are looked at for each of the graph, on the average: more are left as they are."""
_CLOSE = 1e-3
"""What a file in half precision makes of a factor."""
_INVERSE = "\0"


def inverse(name: str) -> str:
    """Stands for 1 / a value."""
    return f"{_INVERSE}{name}"


def agree(found: Terms, expected: Terms) -> bool:
    return found.keys() == expected.keys() and all(
        math.isclose(factor, expected[product], rel_tol=_CLOSE) for product, factor in found.items()
    )


class Expressions:
    """Of the nodes so far: whoever reads on adds to them. count: how many there will be."""

    def __init__(self, nodes: Mapping[str, Node], weights: Mapping[str, Weight], count: int) -> None:
        self.nodes, self.weights, self.left = nodes, weights, _PACE * count

    def number(self, name: str) -> float | None:
        """Of a constant that is one number; None for other values."""
        node = self.nodes.get(name)
        if node is None or node.op != "constant" or math.prod(node.shape) != 1:
            return None
        return float(self.weights[node.weights["value"]].numbers().reshape(-1)[0])

    def terms(self, name: str, atoms: frozenset[str], depth: int = _DEPTH) -> Terms:
        """A value in terms of atoms, of values that are no arithmetic, and of what would be too many terms."""
        node, number = self.nodes.get(name), self.number(name)
        self.left -= 1
        if number is not None and name not in atoms:
            return {(): number}
        if node is None or node.op not in ARITHMETIC or name in atoms or not depth or self.left < 0:
            return {(name,): 1.0}
        parts = [self.terms(each, atoms, depth - 1) for each in node.inputs]
        made = self._combined(node, parts)
        return made if made is not None and len(made) <= _MOST else {(name,): 1.0}

    def _combined(self, node: Node, parts: Sequence[Terms]) -> Terms | None:
        if node.op == "neg":
            return _times(parts[0], {(): -1.0})
        if node.op == "pow":
            return self._power(node, parts[0])
        one, other = parts
        if node.op == "mul":
            return _times(one, other)
        if node.op == "div":
            divisor = other.get(()) if other.keys() == {()} else None
            return _times(one, {(inverse(node.inputs[1]),): 1.0} if not divisor else {(): 1 / divisor})
        return _plus(one, other if node.op == "add" else _times(other, {(): -1.0}))

    def _power(self, node: Node, base: Terms) -> Terms | None:
        exponent = node.number("exponent")
        if exponent not in (2.0, 3.0) or len(base) > 2:
            return None
        square = _times(base, base)
        return square if exponent == 2 else _times(square, base)


ARITHMETIC = ("add", "sub", "mul", "div", "neg", "pow")


def _times(one: Terms, other: Terms) -> Terms:
    made: Counter[tuple[str, ...]] = Counter()
    for left, first in one.items():
        for right, second in other.items():
            made[tuple(sorted((*left, *right)))] += first * second  # type: ignore[assignment]
    return _plus(dict(made), {})


def _plus(one: Terms, other: Terms) -> Terms:
    made = {product: one.get(product, 0.0) + other.get(product, 0.0) for product in (*one, *other)}
    return {product: factor for product, factor in made.items() if factor}
