"""|g|, |w·g| and their squares: first-order methods.

g is the gradient of the loss by the weight, the mean over all calibration images unless said otherwise.
"""

from __future__ import annotations

import torch
from torch import Tensor

from secateur.errors import PruneError
from secateur.modules.guarding import first_line
from secateur.pruning.score.context import Context
from secateur.pruning.score.scores import Scores


def mean_gradients(context: Context) -> dict[str, Tensor]:
    """The gradient of the mean loss over all calibration images, by layer."""
    parameters = context.parameters()
    sums = {name: torch.zeros_like(weight) for name, weight in context.weights.items()}
    seen = 0
    for loss, count in context.losses():
        for total, gradient in zip(sums.values(), gradients(loss, parameters), strict=True):
            total.add_(gradient, alpha=count)
        seen += count
    return {name: total.div_(max(1, seen)) for name, total in sums.items()}


def gradients(loss: Tensor, parameters: dict[str, Tensor], create_graph: bool = False) -> list[Tensor]:
    """The gradient of a loss by each parameter; zero by those that the loss does not depend on.

    Raises PruneError where an operation of the network has no derivative (of the order that is asked for).
    """
    held = list(parameters.values())
    try:
        return list(
            torch.autograd.grad(loss, held, create_graph=create_graph, allow_unused=True, materialize_grads=True)
        )
    except RuntimeError as error:
        raise PruneError(
            f"the gradients by which weights are to be scored cannot be worked out: {first_line(error)}; "
            "take another method"
        ) from error


def gradient(context: Context) -> Scores:
    """|g|: how steeply the loss changes with the weight."""
    return Scores({name: g.abs_() for name, g in mean_gradients(context).items()})


def taylor(context: Context) -> Scores:
    """|w·g|: the change of the loss, to first order, when the weight becomes zero (Mozer & Smolensky 1988;
    Molchanov et al. 2017, equation 7)."""
    return Scores({name: g.mul_(context.weights[name]).abs_() for name, g in mean_gradients(context).items()})


def taylor_squared(context: Context) -> Scores:
    """The mean over batches of (w·g)², g being the batch's gradient (Molchanov et al. 2019, equation 8)."""
    parameters = context.parameters()
    sums = {name: torch.zeros_like(weight) for name, weight in context.weights.items()}
    seen = 0
    for loss, count in context.losses():
        for name, g in zip(parameters, gradients(loss, parameters), strict=True):
            sums[name].add_(g.mul_(context.weights[name]).square_(), alpha=count)
        seen += count
    return Scores({name: total.div_(max(1, seen)) for name, total in sums.items()})
