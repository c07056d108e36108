"""What may follow pruning without retraining: statistics and weights set right from calibration images."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from secateur.errors import UsageError
from secateur.modules.candidates import check_network
from secateur.modules.guarding import in_turn, run, watched
from secateur.modules.habits import nature
from secateur.modules.inputs import Example, Inputs, as_inputs
from secateur.modules.layers import executed_layers, tied, weighted_layers
from secateur.modules.layouts import bears_such_inputs, with_channels_last
from secateur.modules.matrices import Matrix
from secateur.modules.uses import Use, listening, oriented
from secateur.modules.weight_norms import plain_weights
from secateur.pruning.distillation import distill
from secateur.pruning.moments import as_matrices, from_matrices, outputs_by_position
from secateur.pruning.reconstruction import reconstruct
from secateur.pruning.score import Batch, gone_through
from secateur.records.spec import check_repair
from secateur.support.progress import Reporter
from secateur.training.data import Calibration


def repair(
    network: nn.Module,
    how: str,
    calibration: Iterable[Batch],
    dense: nn.Module | None = None,
    reporter: Reporter | None = None,
    *,
    include: Sequence[str] = (),
) -> None:
    """Repair a pruned network in place, by steps joined by +, in their order. Zeros stay zero, as many in each layer.

    batchnorm: the statistics of every BatchNorm become those over the calibration images, which a Calibration shifts
    and mirrors as training did: those that a network knows by heart have other statistics.
    moments: each channel gets the mean and variance that it has in the dense network, by its weights' scale and bias.
    reconstruct: layer by layer, the weights that stay are refitted to what the layer gives in the dense network, whose
    BatchNorm statistics therefore fit: no batchnorm is needed after it.
    joint: likewise, and which weights stay is chosen anew together with their values; patterns are not kept.
    distill: all weights that stay, biases and normalisations learn together to give what the dense network and each of
    its layers gives, in a few hundred steps; a Calibration shifts and mirrors its images anew each time. Best after
    reconstruct.

    calibration: batches of images and labels (not looked at), or a Task; gone through several times. dense: the
    network before pruning, on the same device, for all steps but batchnorm. include: what was pruned beside layers, as
    prune has it, is repaired as they are where it is multiplied with something. Raises UsageError for an unknown step,
    or without dense, its layers as they are here, or images where they are needed; PruneError where a layer cannot be
    reconstructed, or has no values.
    """
    check_repair(how)
    check_network(network)
    steps = how.split("+")
    for step in steps:
        if step not in ("batchnorm", "none"):
            if dense is None:
                raise UsageError(f"repair {step!r} aims at the dense network: expected it as dense=…, got None")
            check_network(dense)
            _check_same_layers(network, dense, step, include)
    with in_turn(network, dense or network), plain_weights(network):
        for step in steps:
            _take(step, network, calibration, dense or network, reporter, include)


def _take(
    step: str,
    network: nn.Module,
    calibration: Iterable[Batch],
    dense: nn.Module,
    reporter: Reporter | None,
    include: Sequence[str],
) -> None:
    if step == "none":
        return
    inputs = Shown(network, calibration, like=dense, augmented=step in ("batchnorm", "distill"))
    if step == "batchnorm":
        recalibrate(network, inputs)
    elif step == "moments":
        correct_moments(network, dense, inputs, include)
    elif step == "distill":
        distill(network, dense, inputs, include=include, reporter=reporter)
    else:
        reconstruct(network, dense, inputs, joint=step == "joint", include=include, reporter=reporter)


def _check_same_layers(network: nn.Module, dense: nn.Module, step: str, include: Sequence[str]) -> None:
    """Raises UsageError where a layer of the network is missing in the dense one, or has another shape there."""
    others = weighted_layers(dense, include)
    for name, layer in weighted_layers(network, include).items():
        own, other = tuple(layer.weight.shape), tuple(others[name].weight.shape) if name in others else None
        if own != other:
            raise UsageError(
                f"repair {step!r}: expected layer {name!r} in the dense network as it is here, {own}, got "
                f"{other or 'none'}; repair a network before it is shrunk or packed"
            )


class Shown:
    """The inputs of calibration batches, on the device of a network, on a CPU with channels innermost where the network
    bears that, or what it is like, which may have been asked before; augmented, otherwise each time that they are gone
    through, where a Calibration makes them."""

    def __init__(
        self,
        network: nn.Module,
        calibration: Iterable[Batch],
        augmented: bool = False,
        like: nn.Module | None = None,
    ) -> None:
        self._network = network
        self._device = next(network.parameters()).device
        self._calibration = calibration
        self._augmented = augmented
        self._turns = itertools.count()
        self._last = self._device.type == "cpu" and self._bears(like or network)

    def __iter__(self) -> Iterator[Inputs]:
        batches = self._calibration
        if self._augmented and isinstance(batches, Calibration):
            shown = batches.augmented(next(self._turns))
        else:
            shown = gone_through(batches)
        return (self._placed(self._inputs(images)) for images, _ in shown)

    def _bears(self, like: nn.Module) -> bool:
        """Whether the network bears channels innermost: asked of what it is like, and of itself if it is not."""
        first = self._first()
        asked = [like] if nature(like) == nature(self._network) else [like, self._network]
        return all(bears_such_inputs(each, first) for each in asked)

    def _first(self) -> Inputs:
        """The first batch, as it is."""
        images, _ = next(gone_through(self._calibration))
        return self._inputs(images)

    def _inputs(self, images: Example) -> Inputs:
        return as_inputs(images, self._network, "calibration batch")

    def _placed(self, batch: Inputs) -> Inputs:
        return with_channels_last(batch) if self._last else batch.to(self._device)


def correct_moments(
    network: nn.Module, dense: nn.Module, inputs: Iterable[Example], include: Sequence[str] = ()
) -> None:
    """Layer by layer, in the order of execution: give each output channel the mean and standard deviation over all
    inputs that it has in the dense network, by scaling its weights and setting its bias.

    For networks without BatchNorm. A layer without a bias is scaled only, and so is nothing that never varies. Modules
    that share a weight are corrected as one, by all that they give; with biases of their own, or where the weight is
    looked up in, too, they stay as they are. Nagel et al. 2019, §4.2, for the means; the variances likewise. Raises
    UsageError where there are no inputs.
    """
    batch = next(iter(inputs), None)
    if batch is None:
        raise UsageError("moments correction: expected at least one batch of calibration images, got none")
    first = as_inputs(batch, network).first(2)
    order = executed_layers(network, first, include)
    layers = oriented(network, {each.name: each.matrix for each in order}, first)
    others = weighted_layers(dense, include)
    for name, layer in layers.items():
        together = tied(network, layer)
        if len({(id(each.module._parameters.get("bias")), each.kind.role) for each in together}) > 1:
            continue
        mean, deviation, _ = _channel_moments(network, layer, inputs)
        aim, aimed, biased = _channel_moments(dense, replace(others[name], kind=layer.kind), inputs)
        scale = torch.where((deviation > 0) & (aimed > 0), aimed / deviation, 1.0)
        with torch.no_grad():
            matrices = as_matrices(layer, layer.weight)
            scaled = matrices * scale.to(matrices.dtype).view(*matrices.shape[:2], 1)
            layer.weight.copy_(from_matrices(layer, scaled))
            if layer.bias is not None and biased:
                layer.bias.copy_(aim - scale * (mean - layer.bias))


def _channel_moments(network: nn.Module, layer: Matrix, inputs: Iterable[Example]) -> tuple[Tensor, Tensor, bool]:
    """Mean and standard deviation of a layer's outputs over all images and positions, in double precision, and whether
    its bias is in them."""
    shape = (3, *as_matrices(layer, layer.weight).shape[:2])
    sums = torch.zeros(shape, dtype=torch.float64, device=layer.weight.device)
    biased: list[bool] = []

    def add(_: str, use: Use) -> None:
        biased.append(use.biased)
        values = outputs_by_position(use).double()
        counts = torch.full_like(values[:, 0], values.shape[1])
        sums[:, slice(*use.groups)] += torch.stack([counts, values.sum(1), values.square().sum(1)])

    with watched(network), listening(network, {layer.name: layer}, add):
        for batch in inputs:
            run(network, as_inputs(batch, network))
    count, first, second = sums.flatten(1)
    mean = first / count
    return mean, (second / count - mean.square()).clamp(min=0).sqrt(), all(biased)


def recalibrate(network: nn.Module, inputs: Iterable[Example]) -> None:
    """Set the running mean and variance of every BatchNorm to the averages over the batches, weighted by size, of what
    each one sees while those before it use their batch's (Li et al. 2020). A network without BatchNorm stays as it is.

    Batches of a single image join another. Raises UsageError where there are no two images. Nothing but the statistics
    changes, and where anything raises not they either.
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    if not norms:
        return
    seen = 0
    with watched(network):
        for norm in norms:
            norm.train()
        for batch in _of_several(as_inputs(each, network) for each in inputs):
            seen += len(batch)
            for norm in norms:
                norm.momentum = len(batch) / seen
            run(network, batch)
        found = [{name: value.clone() for name, value in norm.named_buffers()} for norm in norms]
    for norm, statistics in zip(norms, found, strict=True):
        for name, value in statistics.items():
            norm.get_buffer(name).copy_(value)


def _of_several(inputs: Iterable[Inputs]) -> Iterator[Inputs]:
    """The batches, those of a single image joined with the next or, at the end, the one before: a single image's maps
    of one pixel have no variance. Raises UsageError where there are no two images."""
    ready: Inputs | None = None
    single: Inputs | None = None
    for batch in inputs:
        batch = batch if single is None else single.joined(batch)
        if len(batch) < 2:
            single = batch
            continue
        if ready is not None:
            yield ready
        ready, single = batch, None
    if ready is None:
        raise UsageError(
            "BatchNorm recalibration: expected two calibration images at least, as statistics are over a batch, got "
            f"{'none' if single is None else len(single)}"
        )
    yield ready if single is None else ready.joined(single)
