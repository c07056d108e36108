"""Layers under weight normalisation, w = g·v/‖v‖ (Salimans & Kingma 2016): pruned through it, in either of its forms.

While they are pruned their weight is an ordinary parameter; afterwards v and g are such that they give it. A weight
that is zero in v is zero in w, whatever is learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.weight_norm import WeightNorm


@dataclass(frozen=True, slots=True)
class Normed:
    """direction: v. scale: g, the norm over all axes but `dim`, over all of them where that is -1."""

    direction: nn.Parameter
    scale: nn.Parameter
    dim: int

    @property
    def weight(self) -> Tensor:
        return torch._weight_norm(self.direction.detach(), self.scale.detach(), self.dim)

    @torch.no_grad()
    def store(self, weight: Tensor) -> None:
        """Let v and g give this weight. Where all that one norm is over is zero, g is, and v stays as it is."""
        norms = torch.norm_except_dim(weight, 2, self.dim)
        self.scale.copy_(norms)
        self.direction.copy_(torch.where(norms > 0, weight, self.direction))


def normed(layer: nn.Module) -> Normed | None:
    """A layer's weight normalisation; None where its weight is another one."""
    hook = _hook(layer)
    if hook is not None:
        return Normed(layer.get_parameter("weight_v"), layer.get_parameter("weight_g"), hook.dim)
    held = layer._modules.get("parametrizations")
    if not isinstance(held, nn.ModuleDict) or list(held) != ["weight"]:
        return None
    steps = held["weight"]
    if not isinstance(steps, ParametrizationList) or len(steps) != 1 or not isinstance(steps[0], _WeightNorm):
        return None
    return Normed(steps.get_parameter("original1"), steps.get_parameter("original0"), steps[0].dim)


@contextmanager
def plain_weights(network: nn.Module) -> Iterator[None]:
    """Inside the block the weight of every weight-normalised layer is an ordinary parameter; what it is after the block
    is stored in v and g, unless the block raises."""
    with ExitStack() as stack:
        for layer in list(network.modules()):
            if found := normed(layer):
                stack.enter_context(_plain(layer, found))
        yield


def remove_weight_norms(network: nn.Module) -> None:
    """Make the weight of every weight-normalised layer an ordinary parameter, for good."""
    for layer in list(network.modules()):
        if found := normed(layer):
            _exchange(layer, nn.Parameter(found.weight.clone(), found.direction.requires_grad))


@contextmanager
def _plain(layer: nn.Module, found: Normed) -> Iterator[None]:
    before = found.weight
    weight = nn.Parameter(before.clone(), found.direction.requires_grad)
    put_back = _exchange(layer, weight)
    try:
        yield
    finally:
        now = weight.detach()
        put_back()
    if not torch.equal(now, before):
        found.store(now)
        if _hook(layer) is not None:
            layer.weight = found.weight


def _exchange(layer: nn.Module, weight: nn.Parameter) -> Callable[[], None]:
    """Give the layer an ordinary weight; what is returned gives it its own back."""
    kind = type(layer)
    places: list[dict[Any, Any]] = [layer._parameters, layer._modules, layer._forward_pre_hooks]
    held = [dict(place) for place in places]
    kept = vars(layer).pop("weight", None)
    if (hook := _hook(layer)) is not None:
        for key in [key for key, each in layer._forward_pre_hooks.items() if each is hook]:
            del layer._forward_pre_hooks[key]
        for name in ("weight_g", "weight_v"):
            del layer._parameters[name]
    else:
        layer.__class__ = kind.__mro__[1]  # parametrizations make a class of each module's own
        del layer._modules["parametrizations"]
    layer._parameters["weight"] = weight

    def put_back() -> None:
        layer.__class__ = kind
        for place, values in zip(places, held, strict=True):
            place.clear()
            place.update(values)
        if kept is not None:
            vars(layer)["weight"] = kept

    return put_back


def _hook(layer: nn.Module) -> WeightNorm | None:
    """The older form: a hook that computes the weight before each forward."""
    hooks = (each for each in layer._forward_pre_hooks.values() if isinstance(each, WeightNorm))
    return next((each for each in hooks if each.name == "weight"), None)
