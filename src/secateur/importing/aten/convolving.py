"""Convolutions and linear layers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from secateur.importing.aten.calls import Call, Conversion, PlacedCall
from secateur.importing.aten.held import Batch, Constant
from secateur.importing.aten.reading import ACROSS, along_last, anywhere, numbers, planes
from secateur.importing.placing import Place, Placed
from secateur.network import composites
from secateur.network.composites import Axis, Padded
from secateur.network.graph import Weight


def _convolution(call: Call) -> str:
    weight = call["weight"]
    if not isinstance(weight, Constant):
        raise call.error("is supported with constant weights, or with kernels of each image's own in groups")
    rank, groups = weight.tensor.ndim - 2, int(call["groups"])
    value = planes(call, "input")
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

    return _over_space(call, value, weights, rank, spell)


def _with_own_kernels(call: Call) -> Placed:
    """Of planes (1, N·C, H, W) and kernels (N·O, C/groups, kh, kw), as many times the groups as there are images.

    For each image a product of its kernels with what its windows see; transposed, of its kernels with its pixels, what
    windows say of a pixel being summed up. Yang et al. 2019; Karras et al. 2020.
    """
    planes, kernels, groups = call["input"], call["weight"], call["groups"].share
    places = [held.place if isinstance(held, Placed) else None for held in (planes, kernels)]
    if places != [Place(3, "outer"), Place(4, "outer")]:
        raise call.error(ACROSS)
    spell = _transposed_product if call.get("transposed", "transpose" in call.name) else _product_of_windows
    made = spell(call, planes.base, kernels.base, groups)
    if isinstance(bias := call["bias"], Placed):
        made = call.emit("add", made, composites.reshape(call.build, bias.base, (*call.size(bias.base), 1, 1)))
    elif bias is not None:
        raise call.error("has a bias that is not each image's own")
    return Placed(composites.reshape(call.build, made, (1, *call.size(made))), Place(3, "outer"))


def _product_of_windows(call: Call, planes: str, kernels: str, groups: int) -> str:
    _, channels, *size = call.size(planes)
    outputs, inner, *kernel = call.size(kernels)
    axes = _axes(call, kernel)
    window: dict[str, Any] = {
        "kernel": tuple(kernel),
        "stride": tuple(axis.stride for axis in axes),
        "padding": tuple(each for axis in axes for each in (axis.before, axis.after)),
        "dilation": tuple(axis.dilation for axis in axes),
    }
    found = tuple(axis.count(each) for axis, each in zip(axes, size, strict=True))
    seen = composites.im2col(call.build, composites.reshape(call.build, planes, (channels, *size)), **window)
    seen = composites.reshape(call.build, seen, (groups, inner * math.prod(kernel), math.prod(found)))
    matrices = composites.reshape(call.build, kernels, (groups, outputs // groups, inner * math.prod(kernel)))
    made = call.emit("matmul", matrices, seen, transposed=False)
    return composites.reshape(call.build, made, (outputs, *found))


def _transposed_product(call: Call, planes: str, kernels: str, groups: int) -> str:
    _, channels, *size = call.size(planes)
    _, outputs, *kernel = call.size(kernels)
    axes, area = _axes(call, kernel), math.prod(kernel)
    matrices = composites.reshape(call.build, kernels, (groups, channels // groups, outputs * area))
    matrices = composites.permute(call.build, matrices, (1, 3, 2))
    pixels = composites.reshape(call.build, planes, (groups, channels // groups, math.prod(size)))
    said = call.emit("matmul", matrices, pixels, transposed=False)
    return composites.fold(
        call.build,
        composites.reshape(call.build, said, (groups * outputs * area, math.prod(size))),
        size=call.shape_at(Place(3, "outer"))[2:],
        kernel=tuple(kernel),
        stride=tuple(axis.stride for axis in axes),
        padding=tuple(each for axis in axes for each in (axis.before, axis.after)),
        dilation=tuple(axis.dilation for axis in axes),
    )


def _by_groups(call: Call) -> Any:
    return _with_own_kernels(call) if isinstance(call["groups"], Batch) else _ANYWHERE(call)


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


def _over_space(call: Call, value: str | Padded, weights: dict[str, Weight], rank: int, spell: Any) -> str:
    """What is spelled over (C, *space); what lies in front, as the frames of a video, is one more axis of space."""
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
    value = call.value("input")
    return call.emit("linear", value, weights={**call.weight("weight", "weight"), **call.weight("bias", "bias")})


def _bilinear(call: Call) -> str:
    """A linear layer of the products of every number of one value with every number of the other."""
    left, right = call.value("input1"), call.value("input2")
    one, other = call.size(left), call.size(right)
    left = composites.reshape(call.build, left, (*one, 1))
    right = composites.reshape(call.build, right, (*other[:-1], 1, other[-1]))
    made = composites.reshape(call.build, call.emit("mul", left, right), (*one[:-1], one[-1] * other[-1]))
    weight = call.weight("weight", "weight")["weight"]
    matrix = call.build.reshaped(weight, (weight.shape[0], one[-1] * other[-1]))
    return call.emit("linear", made, weights={"weight": matrix, **call.weight("bias", "bias")})


_ANYWHERE = anywhere(_convolution)

CONVERSIONS: dict[str, Conversion] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "convolution"), _by_groups),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _by_groups),
    "linear": along_last(_linear),
    "bilinear": along_last(_bilinear),
}
