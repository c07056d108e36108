"""Convolutions, and their transposes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from secateur.importing.onnx.calls import ACROSS, Call, Conversion, Made, Refused
from secateur.importing.onnx.integers import layer
from secateur.importing.onnx.tensors import Constant
from secateur.importing.onnx.values import Tensor
from secateur.importing.onnx.windows import axes_of, space_of
from secateur.importing.placing import Place
from secateur.network import composites
from secateur.network.composites import Axis, Padded
from secateur.network.graph import Weight

Weights = dict[str, Weight]
Spelled = Callable[[str | Padded, Weights, int], str]
"""The value over (C, *space) for weights, with so many more pointwise axes of space in front."""


def _conv(call: Call) -> Made:
    bias = call.constant(2, "a bias") if call.has(2) else None
    return convolved(call, call.tensor(0), call.constant(1, "a weight"), bias)


def convolved(call: Call, tensor: Tensor, weight: Constant, bias: Constant | None) -> Tensor:
    """A convolution with the attributes of a Conv: of integers where those are what is meant."""
    if len(weight.shape) < 3:
        raise Refused(f"has a weight {weight.shape}: expected kernels over channels")
    kernel = list(weight.shape[2:])
    groups, axes = int(call.attribute("group", 1)), axes_of(call, kernel, space_of(call, tensor))
    if len(kernel) == 2 and tensor.place == Place(4):
        made = layer(call, "conv2d", tensor.base, weight, bias, **_window(axes), groups=groups)
        if made is not None:
            return call.like(tensor, made)
    weights = {"weight": call.weight_of(weight), **({} if bias is None else {"bias": call.weight_of(bias)})}

    def spell(value: str | Padded, held: Weights, more: int) -> str:
        return composites.convolution(call.build, value, held, [*[Axis()] * more, *axes], groups)

    return over_images(call, tensor, weights, spell)


def _window(axes: Sequence[Axis]) -> dict[str, Any]:
    return {
        "stride": tuple(axis.stride for axis in axes),
        "padding": tuple(each for axis in axes for each in (axis.before, axis.after)),
        "dilation": tuple(axis.dilation for axis in axes),
    }


def weights_of(call: Call) -> Weights:
    found = {"weight": call.weight(1, "a weight")}
    if len(found["weight"].shape) < 3:
        raise Refused(f"has a weight {found['weight'].shape}: expected kernels over channels")
    return {**found, "bias": call.weight(2, "a bias")} if call.has(2) else found


def over_images(call: Call, tensor: Tensor, weights: Weights, spell: Spelled) -> Tensor:
    """What is spelled over (C, *space) of each image; of several in one, these are one more axis of space."""
    if tensor.place == Place(tensor.rank):
        value = call.translation.padded.get(tensor.base, tensor.base)
        return call.like(tensor, spell(value, weights, 0))
    if tensor.batch_axis > 0:
        raise Refused(ACROSS)
    shape = call.own(tensor)
    if shape[0] == 1:
        made = spell(composites.reshape(call.build, tensor.base, shape[1:]), weights, 0)
        return call.like(tensor, composites.reshape(call.build, made, (1, *call.build.shape(made))))
    weight = weights["weight"]
    longer = call.build.reshaped(weight, (*weight.shape[:2], 1, *weight.shape[2:]))
    order = (2, 1, *range(3, len(shape) + 1))
    made = spell(composites.permute(call.build, tensor.base, order), {**weights, "weight": longer}, 1)
    return call.like(tensor, composites.permute(call.build, made, order))


def _conv_transpose(call: Call) -> Made:
    tensor, weights = call.tensor(0), weights_of(call)
    kernel, groups = list(weights["weight"].shape[2:]), int(call.attribute("group", 1))
    rank = len(kernel)
    more = call.whole("output_padding") or [0] * rank
    axes = _lost(call, axes_without_rule(call, kernel, tensor), more, tensor)

    def spell(value: str | Padded, held: Weights, pointwise: int) -> str:
        gained = (*(0,) * pointwise, *(each for _, each in axes))
        around = [*[Axis()] * pointwise, *(axis for axis, _ in axes)]
        made = composites.laid_out(call.build, value)
        return composites.transposed_convolution(call.build, made, held, around, gained, groups)

    return over_images(call, tensor, weights, spell)


def axes_without_rule(call: Call, kernel: Sequence[int], tensor: Tensor) -> list[Axis]:
    space = space_of(call, tensor)
    rule = str(call.attribute("auto_pad", "NOTSET"))
    if rule.startswith("SAME") or call.whole("output_shape"):
        strides, dilations = (call.whole(name) or [1] * len(kernel) for name in ("strides", "dilations"))
        return [Axis(k, step, 0, 0, spread) for k, step, spread in zip(kernel, strides, dilations, strict=True)]
    return axes_of(call, kernel, space)


def _lost(call: Call, axes: Sequence[Axis], more: Sequence[int], tensor: Tensor) -> list[tuple[Axis, int]]:
    """Each axis with what its outputs lose on either side, and gain behind: an output shape says it otherwise."""
    rule = str(call.attribute("auto_pad", "NOTSET"))
    wanted = call.whole("output_shape")
    space = space_of(call, tensor)
    if wanted is None and not rule.startswith("SAME"):
        return list(zip(axes, more, strict=True))
    found = []
    for at, (axis, size, gained) in enumerate(zip(axes, space, more, strict=True)):
        if not isinstance(size, int):
            raise Refused(f"has an output that depends on a size ({size}) which is free: give it one with --shape")
        target = (wanted or [])[at - len(axes)] if wanted else size * axis.stride
        total = axis.stride * (size - 1) + gained + axis.reach - target
        less, rest = max(0, total) // 2, max(0, total) - max(0, total) // 2
        before, after = (less, rest) if rule == "SAME_UPPER" else (rest, less)
        found.append((replace(axis, before=before, after=after), gained + max(0, -total)))
    return found


def _fused(call: Call) -> Made:
    """A convolution with its activation (com.microsoft)."""
    tensor = call.tensor(0)
    made = convolved(call, tensor, call.constant(1, "a weight"), call.constant(2, "a bias") if call.has(2) else None)
    if call.has(3):
        other = call.tensor(3)
        made = call.like(made, call.emit("add", made.base, other.base))
    return activated(call, made)


def activated(call: Call, tensor: Tensor) -> Tensor:
    name = str(call.attribute("activation", ""))
    params = [float(each) for each in call.attribute("activation_params", [])]
    plain = {"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh"}
    if name in plain:
        return call.like(tensor, call.emit(plain[name], tensor.base))
    if name == "LeakyRelu":
        return call.like(tensor, call.emit("leaky_relu", tensor.base, negative_slope=params[0]))
    if name == "Clip":
        return call.like(tensor, composites.clamp(call.build, tensor.base, params[0], params[1]))
    if name == "HardSigmoid":
        made = call.emit("add", call.emit("mul", tensor.base, params[0]), params[1])
        return call.like(tensor, composites.clamp(call.build, made, 0.0, 1.0))
    if name:
        raise Refused(f"has activation {name!r}, which is not supported")
    return tensor


def _fold(call: Call) -> Made:
    """Col2Im: what windows hold, (N, C·kh·kw, L), added up where they overlap."""
    tensor, size, kernel = call.tensor(0), call.whole("image_shape", 1) or [], call.whole("block_shape", 2) or []
    if len(size) != 2 or len(kernel) != 2 or tensor.place != Place(3):
        raise Refused("is supported with the batch in front and planes behind it")
    top, left, bottom, right = call.whole("pads") or [0] * 4
    stride, dilation = (tuple(call.whole(name) or (1, 1)) for name in ("strides", "dilations"))
    windows = {"kernel": tuple(kernel), "stride": stride, "padding": (top, bottom, left, right), "dilation": dilation}
    made = composites.fold(call.build, tensor.base, size=tuple(size), **windows)
    return call.made(made, Place(4), tensor.format)


CONVERSIONS: dict[str, Conversion] = {"Conv": _conv, "ConvTranspose": _conv_transpose, "Col2Im": _fold}
MICROSOFT: dict[str, Conversion] = {"FusedConv": _fused}
