"""Wanda, Sun et al. 2024: a weight matters as much as what it is multiplied by."""

from __future__ import annotations

from secateur.pruning.moments import as_matrices, check_supported, gather_moments
from secateur.pruning.score.context import Context
from secateur.pruning.score.scores import Scores


def wanda(context: Context) -> Scores:
    """|w|·‖x‖: ‖x‖ is the root mean square, over calibration images and positions, of the weight's input
    (equation 1, with a mean in place of the sum so that layers compare)."""
    layers = {name: context.network.get_submodule(name) for name in context.weights}
    for name, layer in layers.items():
        check_supported(name, layer)
    moments = gather_moments(context.network, list(layers), (images for images, _ in context.batches()), products=False)
    scores = {}
    for name, layer in layers.items():
        weight = context.weights[name]
        norms = moments[name].mean_squares.sqrt().to(weight.dtype)[:, None, :]
        scores[name] = (as_matrices(layer, weight).abs() * norms).reshape(weight.shape)
    return Scores(scores)
