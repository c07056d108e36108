"""What gradients are taken of: the loss, and whether targets and scores go with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from secateur.errors import SecateurError, UsageError
from secateur.modules.guarding import first_line

Loss = Callable[[Any, Any], Tensor]
_NEXT = "give the loss that the network was trained with, as in loss=torch.nn.functional.mse_loss"

_IGNORED = -100


def cross_entropy(outputs: Any, targets: Tensor) -> Tensor:
    """The mean cross-entropy of logits (N, classes, …) and classes (N, …), or probabilities shaped as the logits.

    Raises UsageError where outputs or targets are something else, as in regression, where it would say nothing.
    """
    got = _misfit(outputs, targets)
    if got:
        raise UsageError(f"calibration targets do not fit cross-entropy: {got}; {_NEXT}")
    return F.cross_entropy(outputs, targets if targets.is_floating_point() else targets.long())


def _misfit(outputs: Any, targets: Tensor) -> str | None:
    if not isinstance(outputs, Tensor):
        return f"the network gives a {type(outputs).__name__}, no tensor of logits"
    shapes = f"outputs {tuple(outputs.shape)}, targets {tuple(targets.shape)} of {targets.dtype}"
    if outputs.dim() < 2 or outputs.shape[1] < 2:
        return f"{shapes}; expected two classes at least"
    if targets.is_floating_point():
        return None if targets.shape == outputs.shape and _are_probabilities(targets) else f"{shapes}; expected classes"
    if targets.dtype is torch.bool or targets.is_complex() or targets.shape != (len(outputs), *outputs.shape[2:]):
        return f"{shapes}; expected classes (N, …)"
    classes = targets[targets != _IGNORED]
    if classes.numel() and (int(classes.min()) < 0 or int(classes.max()) >= outputs.shape[1]):
        return f"{shapes}, {int(classes.min())} to {int(classes.max())}; expected 0 to {outputs.shape[1] - 1}"
    return None


def _are_probabilities(targets: Tensor) -> bool:
    sums = targets.sum(1)
    return bool((targets >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-2)


def checked(loss: Loss) -> Loss:
    """The same loss; UsageError where it fails on what the network gives, or gives no single number."""

    def mean(outputs: Any, targets: Any) -> Tensor:
        try:
            found = loss(outputs, targets)
        except SecateurError:
            raise
        except Exception as error:
            raise UsageError(f"loss fails on the calibration batch: {first_line(error)}; {_NEXT}") from error
        if not isinstance(found, Tensor) or found.numel() != 1:
            got = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise UsageError(f"loss: expected the mean over a batch, a tensor of one number, got {got}")
        return found.reshape(())

    return mean
