"""Attention: softmax(scale · q kᵀ + mask) v."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from secateur.importing.aten.calls import Call, Conversion, OrdinaryCall, PlacedCall
from secateur.importing.aten.held import Constant
from secateur.importing.aten.reading import anywhere
from secateur.importing.placing import Ordinary
from secateur.network import composites


def _attention(call: Call) -> str:
    """Of queries (N, …, L, E); those without heads get one for a while."""
    if isinstance(call, PlacedCall) and call.place.right < 3:
        raise call.error("works across the batch; a graph treats each image on its own")
    query, key, value = (_headed(call, call[name]) for name in ("query", "key", "value"))
    mask, causal = _mask(call, call["attn_mask"]), bool(call["is_causal"])
    if isinstance(mask, Constant) and _is_causal(mask.tensor):
        mask, causal = None, True
    size = call.size(query)[-1]
    scale = call["scale"] if call["scale"] is not None else 1 / math.sqrt(size)
    masks = () if mask is None else (_broadcast_over_heads(call, mask),)
    made = call.emit("attention", query, key, value, *masks, scale=float(scale), causal=causal)
    return composites.reshape(call.build, made, call.shape())


def _headed(call: Call, held: Any) -> str:
    """(…, H, L, E) of each image."""
    value = call.operand(held, "float32", call.rank if isinstance(held, (Constant, Ordinary)) else None)
    shape = call.size(value)
    return value if len(shape) > 2 else composites.reshape(call.build, value, (1, *shape))


def _mask(call: Call, held: Any) -> Any:
    """None where it changes nothing; of a constant, truth values where it is only ever 0 or -inf."""
    if not isinstance(held, Constant):
        return held
    tensor = held.tensor
    if tensor.is_floating_point() and bool(((tensor == 0) | (tensor == -torch.inf)).all()):
        tensor = tensor == 0
    if tensor.dtype is torch.bool and bool(tensor.all()):
        return None
    return held if tensor is held.tensor else Constant(tensor)


def _is_causal(mask: Tensor) -> bool:
    """Whether query i sees the keys up to i, in all of a constant mask."""
    if mask.dtype is not torch.bool or mask.ndim < 2 or mask.shape[-1] == 1:
        return False
    return bool((mask == torch.ones(mask.shape[-2:], dtype=torch.bool).tril()).all())


def _broadcast_over_heads(call: Call, held: Any) -> str:
    element = "bool" if _holds_truth(call, held) else "float32"
    value = call.operand(held, element, call.rank)
    if isinstance(held, str) and not isinstance(call, OrdinaryCall) and not call.fits(value):
        raise call.error("broadcasts a mask of other dimensions over the batch: expected one with as many as queries")
    return value


def _holds_truth(call: Call, held: Any) -> bool:
    if isinstance(held, Constant):
        return held.tensor.dtype is torch.bool
    return call.build.element(held.base if isinstance(held, Ordinary) else held) == "bool"


CONVERSIONS: dict[str, Conversion] = {"scaled_dot_product_attention": anywhere(_attention)}
