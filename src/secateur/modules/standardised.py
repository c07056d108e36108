"""Layers whose forward computes another weight from their own, as standardisation does: do zeros survive it?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from secateur.errors import ModelError
from secateur.modules.dataflow import follow, share_of_zeros
from secateur.modules.heads import unwrapped
from secateur.modules.inputs import Example, Inputs, as_inputs
from secateur.modules.layers import sources, weighted_layers
from secateur.modules.matrices import WEIGHTED, Matrix, parameter_of


def zeros_undone(network: nn.Module, names: Iterable[str], example: Example | None) -> tuple[str, ...]:
    """Those of some layers that work with a weight in which most of their zeros are none.

    With an example the network is run, without each layer that has a forward of its own.
    """
    layers = {name: layer for name, layer in weighted_layers(network).items() if name in set(names)}
    if example is None:
        used: Mapping[str, float] = shares_used(layers)
    else:
        whole = unwrapped(network)
        used = follow(whole, as_inputs(example, whole), sources(layers)).derived
    return tuple(name for name in layers if name in used and used[name] < share_of_zeros(layers[name].weight) / 2)


def shares_used(layers: Mapping[str, Matrix]) -> dict[str, float]:
    """The share of zeros in what a layer works with in the place of its weight, where an input alone shows it."""
    found: dict[str, float] = {}
    for name, layer in layers.items():
        if _has_own_forward(layer):
            found |= _used_alone(layer, name)
    return found


def _has_own_forward(layer: Matrix) -> bool:
    plain = next((kind for kind in WEIGHTED if isinstance(layer.module, kind)), None)
    return plain is not None and type(layer.module).forward is not plain.forward


def _used_alone(layer: Matrix, name: str) -> Mapping[str, float]:
    try:
        return follow(layer.module, Inputs((_noise(layer.module),)), sources({name: layer})).derived
    except ModelError:  # its forward takes more than one tensor
        return {}


def _noise(layer: nn.Module) -> Tensor:
    """An input of a linear or convolution layer: as large as its kernel."""
    weight = parameter_of(layer, "weight")
    if isinstance(layer, nn.Linear):
        shape: tuple[int, ...] = (1, layer.in_features)
    else:
        reach = zip(layer.kernel_size, layer.dilation, strict=True)  # type: ignore[arg-type]
        shape = (2, int(layer.in_channels), *(1 + (kernel - 1) * step for kernel, step in reach))  # type: ignore[arg-type]
    return torch.ones(shape, dtype=weight.dtype, device=weight.device)
