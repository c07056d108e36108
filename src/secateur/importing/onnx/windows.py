"""How windows slide, as ONNX says it: kernel, strides, dilations, padding by numbers or by a rule."""

from __future__ import annotations

from collections.abc import Sequence

from secateur.importing.onnx.calls import ACROSS, Call, Refused
from secateur.importing.onnx.values import Tensor
from secateur.network.composites import Axis
from secateur.network.graph import Shape
from secateur.network.sizes import Dimension


def axes_of(call: Call, kernel: Sequence[int], space: Shape) -> list[Axis]:
    """Of each axis of space. Padding by a rule needs its sizes where the stride is not 1."""
    rank = len(kernel)
    strides, dilations = (_each(call, name, rank) for name in ("strides", "dilations"))
    if len(space) != rank:
        raise Refused(f"has a kernel of {rank} dimensions over {len(space)}")
    plain = [Axis(size, step, 0, 0, spread) for size, step, spread in zip(kernel, strides, dilations, strict=True)]
    pads = _pads(call, plain, space)
    return [Axis(axis.kernel, axis.stride, *around, axis.dilation) for axis, around in zip(plain, pads, strict=True)]


def _each(call: Call, name: str, rank: int) -> list[int]:
    found = call.whole(name) or [1] * rank
    if len(found) != rank or min(found) < 1:
        raise Refused(f"has {name} {found}: expected {rank} from 1 on")
    return found


def _pads(call: Call, axes: Sequence[Axis], space: Shape) -> list[tuple[int, int]]:
    rule = str(call.attribute("auto_pad", "NOTSET"))
    if rule in ("SAME_UPPER", "SAME_LOWER"):
        return [_same(axis, size, rule) for axis, size in zip(axes, space, strict=True)]
    found = (call.whole("pads") if rule == "NOTSET" else None) or [0] * 2 * len(axes)
    if len(found) != 2 * len(axes) or min(found) < 0:
        raise Refused(f"has pads {found}: expected {2 * len(axes)} from 0 on")
    return list(zip(found[: len(axes)], found[len(axes) :], strict=True))


def _same(axis: Axis, size: Dimension, rule: str) -> tuple[int, int]:
    """So that there are as many windows as the size holds strides, the last begun one counted."""
    if axis.stride == 1:
        total = axis.reach - 1
    elif isinstance(size, int):
        total = max(0, (-(-size // axis.stride) - 1) * axis.stride + axis.reach - size)
    else:
        raise Refused(f"pads by a rule that depends on a size ({size}) which is free: give it one with --shape")
    less, more = total // 2, total - total // 2
    return (less, more) if rule == "SAME_UPPER" else (more, less)


def space_of(call: Call, tensor: Tensor) -> Shape:
    """The sizes behind the batch and the channels. Raises Refused where the batch is among them."""
    if tensor.rank < 3 or tensor.batch_axis > 1:
        raise Refused(ACROSS if tensor.batch_axis > 1 else f"takes {tensor.rank} dimensions: expected 3 at least")
    return tensor.shape[2:]
