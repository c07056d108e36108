"""One operation in a graph, by what it is called and what it is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from secateur.network.sizes import Size

Shape = tuple[Any, ...]
"""Of sizes.Dimension: whole numbers, and expressions of lengths in a graph that has some free. What needs numbers takes
them for such: a size that is none says so where it is counted with."""
Attribute = int | float | str | bool | Size | tuple[int | Size, ...] | tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """One operation. weights: role → name in Graph.weights. shape: of its output, without the batch.

    source: the module path in the network that it was exported from, for messages.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    weights: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    shape: Shape = ()
    source: str = ""

    def numbers(self, name: str) -> Shape:
        """An attribute that is a list of whole numbers."""
        value = self.attributes[name]
        assert isinstance(value, tuple)
        return value

    def number(self, name: str) -> float:
        """An attribute that is one number."""
        value = self.attributes[name]
        assert isinstance(value, (int, float))
        return value

    def whole(self, name: str) -> int:
        """An attribute that is a whole number."""
        value = self.attributes[name]
        assert isinstance(value, int)
        return value
