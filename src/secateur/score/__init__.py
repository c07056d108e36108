"""How important is each weight? One method a file; a method only scores, pruning decides how many go.

A method takes the weights to score, by layer name, and returns Scores. To add one: a file here and a line in
METHODS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from secateur.errors import UsageError
from secateur.score.magnitude import magnitude
from secateur.score.scores import PART, Scores

__all__ = ["METHODS", "PART", "Scores", "check_method", "score"]

METHODS: dict[str, Callable[[Mapping[str, Tensor]], Scores]] = {"magnitude": magnitude}


def check_method(method: str) -> None:
    """Raises UsageError for a method that is not in the table."""
    if method not in METHODS:
        raise UsageError(f"method {method!r}: expected one of {', '.join(METHODS)}")


def score(weights: Mapping[str, Tensor], method: str = "magnitude") -> Scores:
    """The scores of weights by layer name. Raises UsageError for an unknown method."""
    check_method(method)
    return METHODS[method](weights)
