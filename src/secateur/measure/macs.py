"""Multiply-adds of one image, dense and of the non-zero weights, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from secateur.modules.layers import executed_layers, norm_layers, weighted_layers
from secateur.modules.matrices import NAMED, Matrix
from secateur.records.results import Layer


def layer_table(
    network: nn.Module, example: Tensor, norms: bool = False, include: Sequence[str] = ()
) -> tuple[Layer, ...]:
    """One Layer per matrix, in the order of execution; after them what is included but multiplied with nothing, and, if
    asked, the norms. include: as in weighted_layers.

    A weight counts once for every output position it serves, on padding too: weights × positions, as is
    usual for convolutions (biases, normalisation and activations are not counted).
    """
    weighted = [
        Layer(each.name, kept, total, round(total * each.uses), round(kept * each.uses))
        for each in executed_layers(network, example, include)
        for kept, total in [_kept_and_total(each.matrix)]
    ]
    known = {layer.name for layer in weighted}
    looked_up = {name: each for name, each in weighted_layers(network, include).items() if each.kind.role == NAMED}
    rest = {name: each for name, each in looked_up.items() if name not in known} | (
        norm_layers(network) if norms else {}
    )
    return (*weighted, *(Layer(name, *_kept_and_total(each), 0, 0) for name, each in rest.items()))


def _kept_and_total(layer: Matrix) -> tuple[int, int]:
    return int(torch.count_nonzero(layer.weight)), layer.weight.numel()
