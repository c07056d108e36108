"""Operations that PyTorch fuses where no gradients are asked for: attention with its projections, encoder layers."""

from __future__ import annotations

import math
from typing import Any

import torch

from secateur.importing.aten.calls import Call, Conversion
from secateur.importing.aten.held import Constant
from secateur.network import composites


def _encoder_layer(call: Call) -> str:
    """nn.TransformerEncoderLayer's: (N, T, C) → the same."""
    value = call.value("src")
    if call["norm_first"]:
        value = call.emit("add", value, _attended(call, _normalised(call, value, "1")))
        return call.emit("add", value, _fed_forward(call, _normalised(call, value, "2")))
    value = _normalised(call, call.emit("add", value, _attended(call, value)), "1")
    return _normalised(call, call.emit("add", value, _fed_forward(call, value)), "2")


def _normalised(call: Call, value: str, which: str) -> str:
    weights = {**call.weight(f"norm_weight_{which}", "weight"), **call.weight(f"norm_bias_{which}", "bias")}
    return call.emit("layer_norm", value, weights=weights, axes=1, eps=float(call["eps"]))


def _fed_forward(call: Call, value: str) -> str:
    wide = _projected(call, value, "ffn_weight_1", "ffn_bias_1")
    shown = call.emit("gelu", wide, approximate="none") if call["use_gelu"] else call.emit("relu", wide)
    return _projected(call, shown, "ffn_weight_2", "ffn_bias_2")


def _projected(call: Call, value: str, weight: str, bias: str) -> str:
    return call.emit("linear", value, weights={**call.weight(weight, "weight"), **call.weight(bias, "bias")})


def _self_attention(call: Call) -> list[Any]:
    """nn.MultiheadAttention's, of one sequence with itself; what each looked at only where nobody asks for it."""
    names = [call.node.args[place] for place in range(3)]
    if len(set(names)) > 1:
        raise call.error("is supported of a sequence with itself only: expected query, key and value to be one tensor")
    if call["need_weights"]:
        raise call.error("gives what each position looked at: expected need_weights=False")
    return [_attended(call, call.value("query")), None]


def _attended(call: Call, value: str) -> str:
    length, width = call.size(value)
    heads = int(call.get("num_heads") or call.get("num_head"))
    joint = _projected(call, value, "qkv_weight", "qkv_bias")
    parts = composites.split(call.build, joint, 2, (width, width, width))
    query, key, seen = (_by_heads(call, part, heads) for part in parts)
    mask = _mask(call)
    masks = () if mask is None else (mask,)
    made = call.emit("attention", query, key, seen, *masks, scale=1 / math.sqrt(width / heads), causal=False)
    rows = composites.reshape(call.build, composites.permute(call.build, made, (2, 1, 3)), (length, width))
    return _projected(call, rows, "proj_weight", "proj_bias")


def _by_heads(call: Call, value: str, heads: int) -> str:
    """(T, C) as (heads, T, C / heads)."""
    length, width = call.size(value)
    apart = composites.reshape(call.build, value, (length, heads, int(width) // heads))
    return composites.permute(call.build, apart, (2, 1, 3))


def _mask(call: Call) -> str | None:
    """Which keys are seen, where any are not. PyTorch's says which are not: (T, T), or (N, T) of padding (type 1)."""
    held = call.get("mask")
    if held is None:
        return None
    if call.get("mask_type") == 1:
        padding = call.emit("logical_not", call.operand(held, "bool"))
        return composites.reshape(call.build, padding, (1, 1, *call.size(padding)))
    if not isinstance(held, Constant) or held.tensor.ndim != 2 or held.tensor.dtype is not torch.bool:
        raise call.error("is supported with a mask of padding (N, T), or a constant one (T, T) of truth values")
    return call.operand(Constant(~held.tensor), "bool", 4)


CONVERSIONS: dict[str, Conversion] = {
    "_transformer_encoder_layer_fwd": _encoder_layer,
    "_native_multi_head_attention": _self_attention,
}
