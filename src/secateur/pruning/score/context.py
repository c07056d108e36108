"""What a method may look at: the network, the weights to score, calibration data, a loss."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree

from secateur.errors import UsageError
from secateur.modules.candidates import scored_layers
from secateur.modules.guarding import run
from secateur.modules.inputs import Example, Inputs, as_inputs, copied_to
from secateur.modules.matrices import Matrix
from secateur.pruning.score.losses import Loss, checked, cross_entropy

Batch = tuple[Example, Any]


@dataclass(frozen=True, slots=True)
class Context:
    """weights: layer name → the weight to score, outside of autograd; the network holds the same memory.

    calibration: batches of images (N, C, H, W) and labels (N,), which can be gone through several times; in place of
    images whatever inputs.as_inputs takes. loss: (outputs, labels) → the mean over a batch. seed: of whatever a method
    draws. The network is in evaluation mode while a method runs, and is as it was afterwards, whatever the method or a
    forward keeps in it.
    """

    network: nn.Module
    weights: Mapping[str, Tensor]
    calibration: Iterable[Batch] | None = None
    loss: Loss = cross_entropy
    seed: int = 0

    @property
    def device(self) -> torch.device:
        return next(iter(self.weights.values())).device

    def batches(self) -> Iterator[Batch]:
        """Copies of the calibration batches on the network's device. Raises UsageError as gone_through does."""
        for images, labels in gone_through(self.calibration):
            if not any(isinstance(each, (Tensor, np.ndarray)) for each in _pytree.tree_leaves(labels)):
                raise UsageError(f"calibration labels: expected a tensor (N,), got {type(labels).__name__}")
            yield copied_to(images, self.device), copied_to(labels, self.device)

    @property
    def layers(self) -> dict[str, Matrix]:
        """Layer name → which parameter of which module its weights are."""
        known = scored_layers(self.network, norms=True, include=[*self.weights])
        return {name: known[name] for name in self.weights}

    def parameters(self) -> dict[str, Tensor]:
        """Layer name → the parameter itself, as autograd takes it, of the weights to score."""
        return {name: getattr(layer.module, layer.parameter) for name, layer in self.layers.items()}

    def losses(self) -> Iterator[tuple[Tensor, int]]:
        """(mean loss, number of images) of each batch, with the graph that autograd needs."""
        with torch.enable_grad():
            for images, labels in self.batches():
                yield self.loss_of(images, labels), len(as_inputs(images, self.network, "calibration batch"))

    def loss_of(self, images: Example, labels: Any) -> Tensor:
        """The loss of a batch. Raises UsageError where it fails, or does not depend on a weight."""
        found = checked(self.loss)(self.run(images), labels)
        if not found.requires_grad:
            raise UsageError(
                "loss: does not depend on the network's weights, as after detach(); its gradients are none"
            )
        return found

    def run(self, images: Example) -> Any:
        """What the network gives for the images of a batch, or parts of them."""
        return run(self.network, as_inputs(images, self.network, "calibration batch"))


def gone_through(calibration: Iterable[Batch] | None) -> Iterator[Batch]:
    """Calibration batches, one after the other. Raises UsageError where there are none, where they could not be gone
    through again (a generator), and for anything but pairs of images and labels."""
    if isinstance(calibration, Iterator):
        raise UsageError(
            f"calibration can be gone through only once, as a {type(calibration).__name__}: expected a list of "
            "batches or a data loader; make it with list(…)"
        )
    if calibration is not None and (isinstance(calibration, Tensor) or not isinstance(calibration, Iterable)):
        raise UsageError(f"calibration {type(calibration).__name__}: {_EXPECTED_BATCHES}")
    number = 0
    for number, batch in enumerate(calibration or (), 1):
        if not isinstance(batch, tuple | list) or len(batch) != 2 or not _are_inputs(batch[0]):
            raise UsageError(f"calibration batch {number} is a {type(batch).__name__}: {_EXPECTED_BATCHES}")
        yield batch[0], batch[1]
    if not number:
        raise UsageError(NEEDS_CALIBRATION)


def _are_inputs(held: object) -> bool:
    return isinstance(held, (Tensor, np.ndarray, tuple, list, Mapping, Inputs))


_EXPECTED_BATCHES = "expected some batches of images and labels, as in calibration=[(images, labels), …]"
NEEDS_CALIBRATION = f"no calibration batches: {_EXPECTED_BATCHES}"
