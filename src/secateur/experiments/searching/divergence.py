"""How far the outputs of one network are from another's, on the same examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils import _pytree

from secateur.training.metrics import class_axis, tensor_of

_CLASSIFYING = ("accuracy", "top-5 accuracy", "cross-entropy", "perplexity", "mean IoU")
"""Metrics of logits."""


def told_by(made: Any, target: Any, metric: str) -> list[Tensor]:
    """What counts of a network's outputs for a batch, in double precision: by a metric of logits their log
    probabilities (M, classes), else every number, a tensor for each that it gives."""
    if metric in _CLASSIFYING and isinstance(target, Tensor):
        logits = tensor_of(made)
        axis = class_axis(logits, target)
        if axis is not None:
            return [F.log_softmax(logits.double().movedim(axis, -1).reshape(-1, logits.shape[axis]), 1)]
    tensors = (each for each in _pytree.tree_leaves(made) if isinstance(each, Tensor))
    return [each.double().reshape(-1) for each in tensors if each.is_floating_point()]


def divergence(told: Sequence[Sequence[Tensor]], dense: Sequence[Sequence[Tensor]]) -> float:
    """Of batches, as told_by has them: of logits the mean Kullback-Leibler divergence from the dense network's, in
    nats; of numbers Σ(own - dense)² / Σ(dense - mean)², each output's share alike."""
    if told[0] and told[0][0].dim() == 2:
        own, other = (torch.cat([batch[0] for batch in each]) for each in (told, dense))
        return float(F.kl_div(own, other, reduction="batchmean", log_target=True))
    parts = [
        (torch.cat([batch[place] for batch in told]), torch.cat([batch[place] for batch in dense]))
        for place in range(len(told[0]))
    ]
    return sum(_share(*part) for part in parts) / max(1, len(parts))


def _share(own: Tensor, dense: Tensor) -> float:
    spread = float((dense - dense.mean()).square().sum())
    return float((own - dense).square().sum()) / max(spread, 1e-30)
