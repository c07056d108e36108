"""A method as a line of the table: its function, what it needs, and where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from secateur.pruning.score.context import Context
from secateur.pruning.score.scores import Scores

NOTHING, SHAPE, INPUTS, GRADIENTS = "nothing", "input shape", "inputs", "inputs, labels, gradients"


@dataclass(frozen=True, slots=True)
class Method:
    """score may return plain tensors by layer name. rounds: how often it scores anew on the way to the ratio. source
    identifies the code of a user's own."""

    score: Callable[[Context], Scores | Mapping[str, Tensor]]
    needs: str
    equation: str
    paper: str
    rounds: int = 1
    source: str = ""

    @property
    def needs_calibration(self) -> bool:
        return self.needs != NOTHING

    def __call__(self, context: Context) -> Scores | Mapping[str, Tensor]:
        return self.score(context)
