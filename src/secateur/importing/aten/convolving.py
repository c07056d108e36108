"""Convolutions and linear layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from secateur.importing.aten.calls import Call, Constant, Conversion, PlacedCall
from secateur.importing.aten.placing import Place
from secateur.importing.aten.reading import ACROSS, along_last, anywhere, numbers, planes
from secateur.network import composites
from secateur.network.composites import Axis, Padded
from secateur.network.graph import Weight


def _convolution(call: Call) -> str:
    weight = call["weight"]
    if not isinstance(weight, Constant):
        raise call.error("is supported with constant weights only")
    rank, groups = weight.tensor.ndim - 2, call["groups"]
    if not isinstance(groups, int):
        raise call.error("has as many groups as there are images, which is free")
    weights = {**call.weight("weight", "weight"), **call.weight("bias", "bias")}
    transposed = bool(call.get("transposed", "transpose" in call.name))
    axes = _axes(call, weight.tensor.shape[2:])
    more = numbers(call["output_padding"], rank) if transposed else (0,) * rank

    def spell(value: str | Padded, weights: Mapping[str, Weight], lead: int) -> str:
        found = [*[Axis()] * lead, *axes]
        if not transposed:
            return composites.convolution(call.build, value, weights, found, groups)
        base = composites.laid_out(call.build, value)
        return composites.transposed_convolution(call.build, base, weights, found, (*[0] * lead, *more), groups)

    return _over_space(call, weights, rank, spell)


def _axes(call: Call, kernel: Sequence[int]) -> list[Axis]:
    rank, padding = len(kernel), call["padding"]
    stride, dilation = numbers(call["stride"], rank), numbers(call["dilation"], rank)
    if padding == "same":
        pairs = [(total // 2, total - total // 2) for total in map(_total, kernel, dilation)]
    else:
        pairs = [(each, each) for each in numbers(0 if padding == "valid" else padding, rank)]
    return [
        Axis(size, step, *around, spread)
        for size, step, around, spread in zip(kernel, stride, pairs, dilation, strict=True)
    ]


def _total(kernel: int, dilation: int) -> int:
    """Padding that keeps an axis as long as it is at a stride of 1."""
    return dilation * (kernel - 1)


def _over_space(call: Call, weights: dict[str, Weight], rank: int, spell: Any) -> str:
    """What is spelled over (C, *space); what lies in front, as the frames of a video, is one more axis of space."""
    value = planes(call, "input")
    shape = call.size(composites.apart_from_zeros(call.build, value)[0])
    if isinstance(call, PlacedCall) and call.place != Place(rank + 2, call.place.fold):
        raise call.error(ACROSS)
    if len(shape) == rank + 1:
        made: str = spell(value, weights, 0)
        return made
    if len(shape) != rank + 2:
        raise call.error(ACROSS)
    weight = weights["weight"]
    longer = call.build.reshaped(weight, (*weight.shape[:2], 1, *weight.shape[2:]))
    order = (2, 1, *range(3, rank + 3))
    turned = composites.permute(call.build, composites.laid_out(call.build, value), order)
    return composites.permute(call.build, spell(turned, {**weights, "weight": longer}, 1), order)


def _linear(call: Call) -> str:
    weights = {**call.weight("weight", "weight"), **call.weight("bias", "bias")}
    return call.emit("linear", call.value("input"), weights=weights)


CONVERSIONS: dict[str, Conversion] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "convolution"), anywhere(_convolution)),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), anywhere(_convolution)),
    "linear": along_last(_linear),
}
