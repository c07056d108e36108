"""Layers refitted each by itself, to what it gives on the inputs that it has in the dense network.

Reconstruction shows each layer what the pruned ones before it make of the images, and so runs every pruned network
over all of them. Here the sums of all layers come from one pass of the dense network, and what a layer's weights become
depends on nothing but its own zeros: networks that share the zeros of a layer share its weights. That is less exact,
and far less work for hundreds of networks of which only the harm is asked. (As in the database of layers of Frantar &
Alistarh 2022, "Optimal Brain Compression".)
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from secateur.errors import PruneError, UsageError
from secateur.modules.guarding import run, watched
from secateur.modules.inputs import Example, as_inputs
from secateur.modules.layers import executed_layers, tied, weighted_layers
from secateur.modules.matrices import Matrix
from secateur.modules.uses import Use, listening, oriented
from secateur.modules.weight_norms import plain_weights
from secateur.pruning.moments import check_supported
from secateur.pruning.reconstruction import Regression, Sums, solve, with_bias, write_fitted

HELD_BYTES = 1 << 30
"""Of refitted weights that are kept for the next network."""


class Refits:
    """Refits layers of networks that are cut from a dense one; inputs: batches of examples, gone through once, on the
    dense network's device. Held on the CPU: a float32 matrix of a layer's inputs squared for each layer.

    Layers that share a weight, and whole ones of a kind that forms no matrix, stay as they are. Raises UsageError where
    there are no inputs. include: as in weighted_layers.
    """

    def __init__(self, dense: nn.Module, inputs: Iterable[Example], include: tuple[str, ...] = ()) -> None:
        self._include = include
        self._held: OrderedDict[tuple[str, bytes], Tensor] = OrderedDict()
        self._bytes = 0
        with plain_weights(dense):
            self._layers, sums = _gathered(dense, inputs, include)
            self._before = {
                name: with_bias(layer, layer.weight, sums[name].biased).detach().cpu().clone()
                for name, layer in self._layers.items()
            }
        self._sums = {name: _regression(each, self._before[name]) for name, each in sums.items()}

    @torch.no_grad()
    def refit(self, network: nn.Module) -> None:
        """Refit each layer that has more zeros than in the dense network, in place, on the CPU; zeros stay zero."""
        with plain_weights(network):
            for name, other in weighted_layers(network, self._include).items():
                if name in self._layers:
                    self._refit(name, replace(other, kind=self._layers[name].kind))

    def _refit(self, name: str, layer: Matrix) -> None:
        sums, before = self._sums[name], self._before[name]
        weight = with_bias(layer, layer.weight, sums.biased)
        if torch.equal(weight, before):
            return
        keep = weight != 0
        if sums.biased:
            keep[..., -1] = True
        key = name, hashlib.blake2b(keep.numpy().tobytes(), digest_size=16).digest()
        if key not in self._held:
            self._keep(key, solve(before, sums, keep))
        self._held.move_to_end(key)
        write_fitted(layer, self._held[key], sums.biased)

    def _keep(self, key: tuple[str, bytes], fitted: Tensor) -> None:
        self._held[key] = fitted
        self._bytes += fitted.nbytes
        while self._bytes > HELD_BYTES and len(self._held) > 1:
            self._bytes -= self._held.popitem(last=False)[1].nbytes


def _gathered(
    dense: nn.Module, inputs: Iterable[Example], include: tuple[str, ...]
) -> tuple[dict[str, Matrix], dict[str, Sums]]:
    """The layers that can be refitted, and the sums over what they are given."""
    layers: dict[str, Matrix] = {}
    sums: dict[str, Sums] = {}

    def add(name: str, use: Use) -> None:
        if name not in sums:
            sums[name] = Sums.empty(layers[name], use.biased)
        sums[name].add_given(use)

    seen = False
    for batch in inputs:
        given = as_inputs(batch, dense, "calibration batch")
        if not seen:
            seen, first = True, given.first(2)
            order = [each.name for each in executed_layers(dense, first, include)]
            found = oriented(dense, weighted_layers(dense, include), first)
            layers = {name: found[name] for name in order if _can_be_refitted(dense, name, found[name])}
        with watched(dense), listening(dense, layers, add):
            run(dense, given)
    if not seen:
        raise UsageError("refitting: expected at least one batch of calibration images, got none")
    return {name: layers[name] for name in sums}, sums


def _can_be_refitted(dense: nn.Module, name: str, layer: Matrix) -> bool:
    try:
        check_supported(name, layer)
    except PruneError:
        return False
    return len(tied(dense, layer)) == 1


def _regression(sums: Sums, before: Tensor) -> Regression:
    """On the dense network's own inputs the outputs aimed at are those of the weights before."""
    gram = sums.mean_gram.float().cpu()
    return Regression(gram, before.float() @ gram, sums.biased)
