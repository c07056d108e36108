"""w²·E[g²]: the diagonal of the empirical Fisher information in the place of the Hessian's."""

from __future__ import annotations

import torch

from secateur.errors import UsageError
from secateur.modules.inputs import Inputs, as_inputs
from secateur.pruning.score.context import Context
from secateur.pruning.score.gradient import gradients
from secateur.pruning.score.scores import Scores


def fisher(context: Context) -> Scores:
    """½·w²·E[g²] with g the gradient of a single image's loss by its true label (Theis et al. 2018, equation 5)."""
    parameters = context.parameters()
    sums = {name: torch.zeros_like(weight) for name, weight in context.weights.items()}
    seen = 0
    with torch.enable_grad():
        for images, labels in context.batches():
            inputs = as_inputs(images, context.network, "calibration batch")
            targets = Inputs((labels,))
            if len(targets) != len(inputs):
                raise UsageError(
                    f"calibration targets: expected one for each of {len(inputs)} inputs, got {len(targets)}"
                )
            for image, label in zip(inputs.singly(), targets.singly(), strict=True):
                loss = context.loss_of(image, *label.arguments)
                for total, g in zip(sums.values(), gradients(loss, parameters), strict=True):
                    total.addcmul_(g, g)
            seen += len(inputs)
    for name, total in sums.items():
        total.mul_(context.weights[name]).mul_(context.weights[name]).div_(2 * max(1, seen))
    return Scores(sums)
