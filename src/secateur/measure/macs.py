"""Multiply-adds of one image, dense and of the non-zero weights, layer by layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from secateur.modules.layers import executed_layers, norm_layers
from secateur.records.results import Layer


def layer_table(network: nn.Module, example: Tensor, norms: bool = False) -> tuple[Layer, ...]:
    """One Layer per linear or convolution module, in the order of execution; after them, if asked, the norms.

    A weight counts once for every output position it serves, on padding too: weights × positions, as is
    usual for convolutions (biases, normalisation and activations are not counted).
    """
    weighted = [
        Layer(each.name, kept, total, total * each.uses, kept * each.uses)
        for each in executed_layers(network, example)
        for kept, total in [_kept_and_total(each.module)]
    ]
    scales = norm_layers(network) if norms else {}
    return (*weighted, *(Layer(name, *_kept_and_total(module), 0, 0) for name, module in scales.items()))


def _kept_and_total(module: nn.Module) -> tuple[int, int]:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return int(torch.count_nonzero(weight.detach())), weight.numel()
