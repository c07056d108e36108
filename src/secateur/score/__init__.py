"""How important is each weight? One method a file; a method only scores, pruning decides how many go.

A method takes a network and the layers to score, and returns Scores. To add one: a file here and a line in
METHODS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from secateur.errors import UsageError
from secateur.score.magnitude import magnitude

Scores = Mapping[str, Tensor]
"""Layer name → a score per weight, shaped as the weight; higher means keep. May compute on each access."""

METHODS: dict[str, Callable[[Mapping[str, nn.Module]], Scores]] = {"magnitude": magnitude}


def check_method(method: str) -> None:
    """Raises UsageError for a method that is not in the table."""
    if method not in METHODS:
        raise UsageError(f"method {method!r}: expected one of {', '.join(METHODS)}")


def score(layers: Mapping[str, nn.Module], method: str = "magnitude") -> Scores:
    """The scores of some weighted layers. Raises UsageError for an unknown method."""
    check_method(method)
    return METHODS[method](layers)
