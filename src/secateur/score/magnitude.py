"""|w|: the paper's score, Han et al. 2015."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from secateur.score.scores import Scores


def magnitude(weights: Mapping[str, Tensor]) -> Scores:
    """The absolute value of every weight."""
    return Scores(weights, torch.abs)
