"""Wanda, Sun et al. 2024: a weight matters as much as what it is multiplied by."""

from __future__ import annotations

from secateur.pruning.moments import as_matrices, from_matrices, gather_moments
from secateur.pruning.score.context import Context
from secateur.pruning.score.scores import Scores
from secateur.pruning.score.seen import seen_by


def wanda(context: Context) -> Scores:
    """|w|·‖x‖: ‖x‖ is the root mean square, over calibration images and positions, of the weight's input
    (equation 1, with a mean in place of the sum so that layers compare)."""
    layers = seen_by(context)
    moments = gather_moments(context.network, layers, (images for images, _ in context.batches()), products=False)
    scores = {}
    for name, layer in layers.items():
        weight = context.weights[name]
        norms = moments[name].mean_squares.sqrt().to(weight.dtype)[:, None, :]
        scores[name] = from_matrices(layer, as_matrices(layer, weight).abs() * norms)
    return Scores(scores)
