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
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from secateur.errors import UsageError
from secateur.modules.guarding import run, watched
from secateur.modules.inputs import Example, Inputs, as_inputs
from secateur.modules.layers import tied, weighted_layers
from secateur.modules.matrices import Matrix
from secateur.modules.uses import Use, listening, oriented
from secateur.modules.weight_norms import plain_weights
from secateur.pruning.reconstruction import Regression, Sums, check_refittable, solve, with_bias, write_fitted

HELD_BYTES = 1 << 30
"""Of refitted weights that are kept for the next network."""
GATHERED_BYTES = 1 << 30
"""Of sums that are gathered in one pass."""


class Refits:
    """Refits layers of networks that are cut from a dense one.

    names: of the layers that will be cut. inputs: batches of examples on the dense network's device, gone through once,
    or as often as it takes to hold GATHERED_BYTES of sums there. Held on the CPU: a float32 matrix of a layer's inputs
    squared for each layer. Layers that share a weight, and such as do not run, stay as they are. include: as in
    weighted_layers. Raises PruneError for a layer that reconstruction refuses, UsageError where there are no inputs.
    """

    def __init__(
        self, dense: nn.Module, names: Collection[str], inputs: Iterable[Example], include: Sequence[str] = ()
    ) -> None:
        self._include = include
        self._held: OrderedDict[tuple[str, bytes], Tensor] = OrderedDict()
        self._bytes = 0
        batch = next(iter(inputs), None)
        if batch is None:
            raise UsageError("refitting: expected at least one batch of calibration images, got none")
        with plain_weights(dense):
            self._layers, biased = _surveyed(dense, names, as_inputs(batch, dense, "calibration batch"), include)
            self._before = {
                name: with_bias(layer, layer.weight, biased[name]).detach().cpu().clone()
                for name, layer in self._layers.items()
            }
            self._sums: dict[str, Regression] = {}
            for some in _batched(self._layers):
                for name, sums in _gathered(dense, some, biased, inputs).items():
                    self._sums[name] = _regression(sums, self._before[name])

    @torch.no_grad()
    def refit(self, network: nn.Module) -> None:
        """Refit each layer whose weights are others than the dense network's, in place, on the CPU; zeros stay zero."""
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


def _surveyed(
    dense: nn.Module, names: Collection[str], given: Inputs, include: Sequence[str]
) -> tuple[dict[str, Matrix], dict[str, bool]]:
    """Those of the layers that run and share no weight, and whether every use of one adds its bias."""
    biased: dict[str, bool] = {}

    def note(name: str, use: Use) -> None:
        biased[name] = use.biased and biased.get(name, True)

    first = given.first(2)
    every = oriented(dense, weighted_layers(dense, include), first)
    wanted = {name: layer for name, layer in every.items() if name in names and len(tied(dense, layer)) == 1}
    with watched(dense), listening(dense, wanted, note):
        run(dense, first)
    layers = {name: wanted[name] for name in biased}
    for name, layer in layers.items():
        check_refittable(name, layer)
    return layers, biased


def _batched(layers: Mapping[str, Matrix]) -> Iterator[dict[str, Matrix]]:
    """The layers in groups whose sums take GATHERED_BYTES at most, or one that takes more alone."""
    some: dict[str, Matrix] = {}
    taken = 0
    for name, layer in layers.items():
        size = Sums.size(layer)
        if some and taken + size > GATHERED_BYTES:
            yield some
            some, taken = {}, 0
        some[name], taken = layer, taken + size
    if some:
        yield some


def _gathered(
    dense: nn.Module, layers: Mapping[str, Matrix], biased: Mapping[str, bool], inputs: Iterable[Example]
) -> dict[str, Sums]:
    """The sums over what some layers are given."""
    sums = {name: Sums(layer, biased[name]) for name, layer in layers.items()}
    for batch in inputs:
        with watched(dense), listening(dense, layers, lambda name, use: sums[name].add(use)):
            run(dense, as_inputs(batch, dense, "calibration batch"))
    return sums


def _regression(sums: Sums, before: Tensor) -> Regression:
    """On the dense network's own inputs the outputs aimed at are those of the weights before. Of one size for all
    layers, which changes no solution."""
    gram = sums.regression().gram
    level = gram.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
    gram = (gram / torch.where(level > 0, level, torch.ones_like(level))).float().cpu()
    return Regression(gram, before.float() @ gram, sums.biased)
