"""Scores: what a method says about every weight, and what pruning reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor

PART = 1 << 14


def _as_they_are(values: Tensor) -> Tensor:
    return values


@dataclass(frozen=True, slots=True)
class Scores(Mapping[str, Tensor]):
    """Layer name → a score per weight, shaped as the weight; higher means keep.

    rank is applied, element by element, where values are read: magnitude hands over the weights themselves
    and torch.abs, so that no copy of them is ever made.
    """

    values_by_layer: Mapping[str, Tensor]
    rank: Callable[[Tensor], Tensor] = field(default=_as_they_are)

    def __getitem__(self, layer: str) -> Tensor:
        return self.rank(self.values_by_layer[layer])

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_by_layer)

    def __len__(self) -> int:
        return len(self.values_by_layer)

    def parts(self, layer: str) -> Iterator[Tensor]:
        """The layer's scores in flat order, 16,384 at a time."""
        flat = self.values_by_layer[layer].reshape(-1)
        return (self.rank(flat[start : start + PART]) for start in range(0, flat.numel(), PART))
