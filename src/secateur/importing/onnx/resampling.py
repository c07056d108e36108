"""Planes, lines and volumes at other sizes, and planes read at places of a grid.

ONNX has many ways to say which pixels a new one is made of. Where they are those of a Graph's `resize` for the sizes at
hand, that it is; else each axis is taken pixel by pixel, times how much each counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.importing.onnx.calls import Call, Conversion, Made, Refused
from secateur.importing.onnx.tensors import Constant
from secateur.importing.onnx.values import Tensor
from secateur.network import composites
from secateur.network.graph import Node, Shape, Weight
from secateur.network.operations.sampling import taps
from secateur.network.sizes import Dimension, is_whole

Array = NDArray[Any]
_MOST_TAPS = 64
_MOST_PIXELS = 1 << 14
"""Along an axis: each is looked at by itself."""


@dataclass(frozen=True, slots=True)
class Rule:
    """mode: nearest, linear or cubic. placed: coordinate_transformation_mode. rounded: nearest_mode.

    outside: of what is cut from beyond the pixels.
    """

    mode: str
    placed: str
    rounded: str = "round_prefer_floor"
    sharpness: float = -0.75
    smoothed: bool = False
    inside: bool = False
    outside: float = 0.0


@dataclass(frozen=True, slots=True)
class Resized:
    """One axis. scale: new pixels per old one, as the file says it; None where it follows from the sizes.

    part: from where to where it is cut out, as shares of the way from the first pixel to the last.
    """

    axis: int
    old: Dimension
    new: Dimension
    scale: float | None
    part: tuple[float, float] | None = None

    @property
    def factor(self) -> float:
        return float(self.new) / float(self.old) if self.scale is None else self.scale


def _resize(call: Call) -> Made:
    """Before operator set 11 by scales, from corners, the nearest one before."""
    if call.version < 11:
        return _resized(call, call.tensor(0), Rule(_mode(call), "asymmetric", "floor"), scales=_scales(call, 1))
    rule = Rule(
        _mode(call),
        str(call.attribute("coordinate_transformation_mode", "half_pixel")),
        str(call.attribute("nearest_mode", "round_prefer_floor")),
        float(call.attribute("cubic_coeff_a", -0.75)),
        call.flag("antialias"),
        call.flag("exclude_outside"),
        float(call.attribute("extrapolation_value", 0.0)),
    )
    sizes = call.sizes("sizes", 3)
    return _resized(call, call.tensor(0), rule, scales=_scales(call, 2), sizes=sizes or None)


def _upsample(call: Call) -> Made:
    return _resized(call, call.tensor(0), Rule(_mode(call), "asymmetric", "floor"), scales=_scales(call, 1))


def _mode(call: Call, default: str = "nearest") -> str:
    mode = str(call.attribute("mode", default))
    return {"bilinear": "linear", "trilinear": "linear", "bicubic": "cubic"}.get(mode, mode)


def _scales(call: Call, place: int) -> list[float] | None:
    if "scales" in call.attributes:
        return [float(each) for each in call.attribute("scales")]
    if not call.has(place):
        return None
    found = call.numbers(place, "scales").reshape(-1)
    return [float(each) for each in found] if found.size else None


def _resized(
    call: Call, tensor: Tensor, rule: Rule, *, scales: list[float] | None, sizes: list[Any] | None = None
) -> Tensor:
    dims = [call.dim(dim, tensor.rank) for dim in (call.whole("axes") or range(tensor.rank))]
    if (scales is None) == (sizes is None) or len(scales or sizes or []) != len(dims):
        raise Refused("needs either scales or sizes, one for each dimension")
    parts = _parts(call, len(dims)) if rule.placed == "tf_crop_and_resize" else [None] * len(dims)
    axes = []
    for at, dim in enumerate(dims):
        old = tensor.shape[dim]
        if scales is not None:
            new, scale = _times(old, scales[at]), scales[at]
        else:
            assert sizes is not None
            new, scale = sizes[at], None
        if new == old and scale in (None, 1.0) and parts[at] in (None, (0.0, 1.0)):
            continue
        if isinstance(new, int) and not 0 < new <= _MOST_PIXELS:
            raise Refused(f"makes {new:,} pixels of {old}: expected up to {_MOST_PIXELS:,}")
        axes.append(Resized(call.axis(dim, tensor), old, new, scale, parts[at]))
    if sizes is not None and call.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        axes = _in_proportion(call, axes)
    return call.like(tensor, _spelled(call, tensor.base, rule, axes)) if axes else tensor


def _parts(call: Call, count: int) -> list[tuple[float, float] | None]:
    """Where the part of each axis that is kept begins and ends."""
    found = call.numbers(1, "a part to keep").reshape(-1).tolist()
    if len(found) != 2 * count:
        raise Refused(f"keeps a part of {len(found)} numbers: expected {2 * count}")
    return list(zip(found[:count], found[count:], strict=True))


def _in_proportion(call: Call, axes: list[Resized]) -> list[Resized]:
    """One scale for all: the smallest, or the largest."""
    choose = min if call.attribute("keep_aspect_ratio_policy") == "not_larger" else max
    scale = choose(axis.factor for axis in axes)
    return [Resized(each.axis, each.old, math.floor(scale * float(each.old) + 0.5), scale) for each in axes]


def _times(size: Dimension, scale: float) -> Dimension:
    if isinstance(size, int):
        return math.floor(size * np.float32(scale))
    if scale == int(scale):
        return size * int(scale)
    inverse = 1 / scale
    if abs(inverse - round(inverse)) < 1e-6:
        return size // round(inverse)
    raise Refused(f"scales a size ({size}) which is free by {scale}: give it one with --shape")


def _spelled(call: Call, value: str, rule: Rule, axes: Sequence[Resized]) -> str:
    shape = call.build.shape(value)
    own = _as_ours(rule, axes, shape)
    if own is not None:
        first = min(axis.axis for axis in axes)
        size = [*shape[first - 1 :]]
        for axis in axes:
            size[axis.axis - first] = axis.new
        while len(size) < 2 <= len(shape):
            size.insert(0, shape[-len(size) - 1])
        return composites.resize(call.build, value, tuple(size), own, aligned=rule.placed == "align_corners")
    for axis in axes:
        value = _by_pixels(call, value, rule, axis)
    return value


def _as_ours(rule: Rule, axes: Sequence[Resized], shape: Shape) -> str | None:
    """The mode of a Graph's resize that does the same, None where none does, or there are too many axes."""
    if len(shape) - min(axis.axis for axis in axes) > 2:
        return None
    aligned = rule.placed == "align_corners" and rule.mode != "nearest"
    if (
        rule.smoothed
        or rule.inside
        or rule.placed == "tf_crop_and_resize"
        or (rule.mode == "cubic" and rule.sharpness != -0.75)
    ):
        return None
    modes = ["nearest", "nearest_exact"] if rule.mode == "nearest" else [rule.mode]
    return next((mode for mode in modes if all(_is_same(mode, rule, axis, aligned) for axis in axes)), None)


def _is_same(mode: str, rule: Rule, axis: Resized, aligned: bool) -> bool:
    if not is_whole((axis.old, axis.new)):
        return (mode, rule.placed, rule.rounded) in _NAMED or (
            mode != "nearest" and (rule.placed == "half_pixel" or aligned)
        )
    old, new = int(axis.old), int(axis.new)
    node = Node("", "resize", (), {}, {"mode": mode, "aligned": aligned, "steps": (), "size": (new,)}, (), "")
    return _dense(*taps(node, 0, old, new), old, new) == _dense(*_taps(rule, axis), old, new)


_NAMED = {
    *((("nearest", "asymmetric", "floor"),)),
    *(("nearest_exact", "half_pixel", rounded) for rounded in ("round_prefer_ceil", "round_prefer_floor")),
}


def _dense(sources: Array, shares: Array, old: int, new: int) -> list[tuple[Any, ...]]:
    """For each new pixel what it is made of, alike however that was said."""
    found = []
    for at in range(new):
        parts: dict[int, float] = {}
        for source, share in zip(sources[:, at].tolist(), shares[:, at].tolist(), strict=True):
            parts[source] = parts.get(source, 0.0) + share
        found.append(tuple(sorted((source, round(share, 5)) for source, share in parts.items() if abs(share) > 1e-6)))
    return found


def _by_pixels(call: Call, value: str, rule: Rule, axis: Resized) -> str:
    if not is_whole((axis.old, axis.new)):
        raise Refused(
            f"resizes a size ({axis.old}) which is free by a rule that a graph has not: give it one with --shape"
        )
    sources, shares = _taps(rule, axis)
    if len(sources) > _MOST_TAPS:
        raise Refused(f"makes each pixel of {len(sources)} others")
    behind = len(call.build.shape(value)) - axis.axis
    made = ""
    for at, share in zip(sources, shares, strict=True):
        if not share.any():
            continue
        part = composites.take(call.build, value, axis.axis, at)
        if not (share == 1).all():
            part = call.emit("mul", part, _along(call, share, behind))
        made = call.emit("add", made, part) if made else part
    beyond = _beyond(axis) * rule.outside
    return call.emit("add", made, _along(call, beyond, behind)) if beyond.any() else made


def _along(call: Call, numbers: Array, behind: int) -> Weight:
    return call.weight_of(Constant(numbers.astype(np.float32).reshape(-1, *(1,) * behind), "float32"))


def _beyond(axis: Resized) -> Array:
    """Which new pixels are cut from beyond the old ones."""
    if axis.part is None:
        return np.zeros(int(axis.new))
    places = _cut_places(axis, np.float64)
    return ((places < 0) | (places > int(axis.old) - 1)).astype(np.float64)


def _cut_places(axis: Resized, kind: Any) -> Array:
    assert axis.part is not None
    (start, end), last, new = map(kind, axis.part), kind(int(axis.old) - 1), int(axis.new)
    if new == 1:
        return np.array([(start + end) / 2 * last])
    return start * last + np.arange(new, dtype=kind) * (end - start) * last / kind(new - 1)


def _taps(rule: Rule, axis: Resized) -> tuple[Array, Array]:
    """Which pixels of an axis each new one is made of, and how much each counts: (taps, new) each."""
    old, new, scale = int(axis.old), int(axis.new), axis.factor
    kind = np.float32 if rule.mode == "nearest" else np.float64
    places = _places(rule, old, new, kind(scale), kind) if axis.part is None else _cut_places(axis, kind)
    if rule.mode == "nearest":
        sources = np.clip(_ROUNDED[rule.rounded](places), 0, old - 1).astype(np.intp)[None]
        shares = np.ones((1, new))
    else:
        sources, shares = _around(rule, places, old, scale)
    return sources, shares * (1 - _beyond(axis))


_ROUNDED: dict[str, Any] = {
    "round_prefer_floor": lambda x: np.ceil(x - np.float32(0.5)),
    "round_prefer_ceil": lambda x: np.floor(x + np.float32(0.5)),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _places(rule: Rule, old: int, new: int, scale: Any, kind: Any) -> Array:
    at, half = np.arange(new, dtype=kind), kind(0.5)
    if rule.placed == "align_corners":
        if round(float(scale) * old, 4) != new:
            raise Refused(
                f"aligns corners of {new} pixels, and scales to {scale * old:.4g}: engines differ in which counts"
            )
        return at * kind(0) if new == 1 else at * kind(old - 1) / kind(new - 1)
    if rule.placed == "asymmetric":
        return at / scale
    if rule.placed == "tf_half_pixel_for_nn":
        return (at + half) / scale
    if rule.placed == "pytorch_half_pixel" and new == 1:
        return at * kind(0)
    if rule.placed == "half_pixel_symmetric":
        offset = kind(old) / 2 * (1 - kind(new) / kind(scale * old))
        return offset + (at + half) / scale - half
    if rule.placed not in ("half_pixel", "pytorch_half_pixel"):
        raise Refused(f"places pixels by {rule.placed!r}, which is not supported")
    return (at + half) / scale - half


def _around(rule: Rule, places: Array, old: int, scale: float) -> tuple[Array, Array]:
    """The pixels around each place, by a filter that is as wide as new pixels are where it smooths."""
    narrow = min(scale, 1.0) if rule.smoothed else 1.0
    reach = (1 if rule.mode == "linear" else 2) / narrow
    span = np.arange(-math.ceil(reach) + 1, math.ceil(reach) + 1)[:, None]
    around = np.floor(places) + span
    away = np.abs(places - around) * narrow
    shares = np.maximum(1 - away, 0) if rule.mode == "linear" else _cubic(away, rule.sharpness)
    if rule.inside:
        shares = np.where((around >= 0) & (around < old), shares, 0)
    if rule.inside or rule.smoothed:
        shares = shares / shares.sum(axis=0)
    return np.clip(around, 0, old - 1).astype(np.intp), shares


def _cubic(away: Array, a: float) -> Array:
    """Keys 1981."""
    near = ((a + 2) * away - (a + 3)) * away**2 + 1
    far = ((away - 5) * away + 8) * away * a - 4 * a
    return np.where(away <= 1, near, np.where(away < 2, far, 0))


def _grid_sample(call: Call) -> Made:
    tensor, grid = call.tensor(0), call.tensor(1)
    mode = _mode(call, "linear")
    if mode not in ("linear", "nearest", "cubic") or tensor.rank not in (4, 5):
        raise Refused(
            f"is supported on planes and volumes, linear, nearest or cubic: got {mode} in {tensor.rank - 2}-d"
        )
    padding = str(call.attribute("padding_mode", "zeros"))
    values, places = [tensor.base, grid.base], {tensor.place, grid.place}
    if places == {None}:
        values = [composites.reshape(call.build, each, call.build.shape(each)[1:]) for each in values]
    elif any(each.batch_axis != 0 for each in (tensor, grid)):
        raise Refused("is supported with the batch in front of both")
    aligned = call.flag("align_corners")
    if tensor.rank == 4 and mode != "cubic":
        made = call.emit("grid_sample", *values, mode=mode, padding=padding, aligned=aligned)
    elif all(is_whole(call.build.shape(each)) for each in values):
        made = composites.sample_space(call.build, *values, mode=mode, padding=padding, aligned=aligned)
    else:
        raise Refused("of volumes, and cubic, is of sizes which are free: give them with --shape")
    if places == {None}:
        made = composites.reshape(call.build, made, (1, *call.build.shape(made)))
    return call.made(made, tensor.place)


CONVERSIONS: dict[str, Conversion] = {"Resize": _resize, "Upsample": _upsample, "GridSample": _grid_sample}
