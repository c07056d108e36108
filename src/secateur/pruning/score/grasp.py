"""GraSP, Wang, Zhang & Grosse 2020: keep what the gradient's norm depends on."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from secateur.pruning.score.context import Context
from secateur.pruning.score.gradient import gradients, mean_gradients
from secateur.pruning.score.losses import cross_entropy
from secateur.pruning.score.scores import Scores

TEMPERATURE = 200.0


def _cooled(logits: Any, labels: Tensor) -> Tensor:
    return cross_entropy(logits / TEMPERATURE if isinstance(logits, Tensor) else logits, labels)


def grasp(context: Context) -> Scores:
    """w·(H g): minus the first-order change of ½‖g‖² when the weight becomes zero (equations 6 to 8).

    The weights that go are those without which the gradient's norm grows most, or falls least. Logits are divided by a
    temperature of 200, as in the paper's code, which keeps the softmax of a confident network from vanishing; the
    outputs that another loss is taken of are not.
    Scores may be negative. The paper takes initial weights; here the network is scored as it is.
    """
    cooled = dataclasses.replace(context, loss=_cooled) if context.loss is cross_entropy else context
    mean = mean_gradients(cooled)
    parameters = cooled.parameters()
    sums = {name: torch.zeros_like(weight) for name, weight in context.weights.items()}
    seen = 0
    with sdpa_kernel(SDPBackend.MATH):  # the one whose second derivative PyTorch knows
        for loss, count in cooled.losses():
            flow = sum(
                (g * mean[name]).sum() for name, g in zip(parameters, gradients(loss, parameters, True), strict=True)
            )
            assert isinstance(flow, torch.Tensor)
            for total, product in zip(sums.values(), gradients(flow, parameters), strict=True):
                total.add_(product, alpha=count)
            seen += count
    return Scores({name: total.mul_(context.weights[name]).div_(max(1, seen)) for name, total in sums.items()})
