"""Chance: the control that every other method has to beat (Blalock et al. 2020)."""

from __future__ import annotations

import torch

from secateur.pruning.score.context import Context
from secateur.pruning.score.scores import Scores


def random(context: Context) -> Scores:
    """Uniform in [0, 1), drawn by the context's seed, the same on every device."""
    generator = torch.Generator().manual_seed(context.seed)
    return Scores({name: torch.rand(w.shape, generator=generator).to(w.device) for name, w in context.weights.items()})
