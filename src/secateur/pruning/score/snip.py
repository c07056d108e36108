"""SNIP, Lee, Ajanthan & Torr 2019: how much the loss depends on each connection being there."""

from __future__ import annotations

import torch
from torch.func import functional_call

from secateur.modules.inputs import as_inputs
from secateur.pruning.score.context import Context
from secateur.pruning.score.gradient import gradients
from secateur.pruning.score.scores import Scores


def snip(context: Context) -> Scores:
    """|∂L/∂c| / Σ|∂L/∂c| at c = 1, c multiplying the weights (equations 4 to 6).

    As ∂L/∂c = w·g, the order is that of first-order Taylor over the same images; the shares differ. The paper
    takes initial weights and one batch; here the network is scored as it is, over all calibration images.
    """
    paths = {name: layer.path for name, layer in context.layers.items()}
    gates = {name: torch.ones_like(weight, requires_grad=True) for name, weight in context.weights.items()}
    sums = {name: torch.zeros_like(weight) for name, weight in context.weights.items()}
    with torch.enable_grad():
        for images, labels in context.batches():
            gated = {paths[name]: context.weights[name] * gate for name, gate in gates.items()}
            inputs = as_inputs(images, context.network, "calibration batch")
            told = functional_call(context.network, gated, inputs.arguments, dict(inputs.named or {}))
            loss = context.loss(told, labels)
            for total, g in zip(sums.values(), gradients(loss, gates), strict=True):
                total.add_(g, alpha=len(labels))
    whole = sum(float(total.abs_().sum(dtype=torch.float64)) for total in sums.values())
    return Scores({name: total.div_(whole or 1.0) for name, total in sums.items()})
