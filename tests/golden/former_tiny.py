"""A network, a method and a network that cannot be pruned: what the stored runs of the former version are of.

Its text is part of their cells' identity: leave it as it is.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.out = nn.Linear(64, 16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.out(self.body(x.flatten(1)).relu())
        return logits


class Fragile(Tiny):
    """Its weights are not numbers, so they cannot be ranked."""

    def __init__(self) -> None:
        super().__init__()
        nn.init.constant_(self.body.weight, float("nan"))


def largest(context: Any) -> dict[str, Tensor]:
    return {name: weight.abs() for name, weight in context.weights.items()}
