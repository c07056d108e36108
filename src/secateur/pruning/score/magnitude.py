"""|w|: the paper's score, Han et al. 2015."""

from __future__ import annotations

import torch

from secateur.pruning.score.context import Context
from secateur.pruning.score.scores import Scores


def magnitude(context: Context) -> Scores:
    """The absolute value of every weight, without a copy."""
    return Scores(context.weights, torch.abs)
