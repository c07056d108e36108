"""Lines, planes and volumes in another size, and planes read at places of a grid."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from secateur.importing.aten.calls import Call, Conversion
from secateur.importing.aten.held import Constant
from secateur.importing.aten.reading import along_last, anywhere
from secateur.network import composites
from secateur.network.sizes import Dimension, is_whole

_MODES = {
    "nearest": ("nearest", (1, 2, 3)),
    "_nearest_exact": ("nearest_exact", (1, 2, 3)),
    "linear": ("linear", (1,)),
    "bilinear": ("linear", (2,)),
    "trilinear": ("linear", (3,)),
    "bicubic": ("cubic", (2,)),
}


def _resizing(mode: str, rank: int) -> Conversion:
    def convert(call: Call) -> str:
        value, size = call.value("self" if "self" in call.arguments else "input"), call.shape()[-rank:]
        aligned = bool(call.get("align_corners", False))
        steps = _steps(call, rank)
        if rank == 2 and steps and mode in ("nearest", "linear"):
            sizes = zip(steps, call.size(value)[-rank:], size, strict=True)
            steps = tuple(_of_planes(step, old, new, mode) for step, old, new in sizes)
        return composites.resize(call.build, value, size, mode, aligned=aligned, steps=steps)

    return along_last(convert, lambda call: rank)


def _steps(call: Call, rank: int) -> tuple[float, ...]:
    """Old pixels per new one where factors were given, which need not be the sizes' own ratio."""
    given = call.get("scale_factors") or [call.get(name) for name in ("scales_d", "scales_h", "scales_w", "scales")]
    found = [float(each) for each in given if each is not None]
    return tuple(1 / each for each in found) if len(found) == rank else ()


def _of_planes(step: float, old: Dimension, new: Dimension, mode: str) -> float:
    """PyTorch leaves an axis of planes that keeps its size as it is, and doubles one exactly, whatever the factor."""
    if new == old:
        return 1.0
    return 0.5 if mode == "nearest" and new == 2 * old else step


def _averaging(mode: str) -> Conversion:
    """Planes in another size, each new pixel of all old ones that it covers: a product of matrices along each axis."""

    def convert(call: Call) -> str:
        value, size = call.value("self" if "self" in call.arguments else "input"), call.shape()[-2:]
        *_, height, width = call.size(value)
        if not is_whole((height, width, *size)):
            raise call.error("with antialias is not supported of a length that is not known before it runs")
        steps = _steps(call, 2) or (None, None)
        along, down = (
            call.bits(Constant(_shares(mode, old, new, step, bool(call["align_corners"]))), "shares")
            for old, new, step in ((width, size[1], steps[1]), (height, size[0], steps[0]))
        )
        return composites.product_from_left(call.build, down, call.emit("linear", value, weights={"weight": along}))

    return along_last(convert, lambda call: 2)


def _shares(mode: str, old: int, new: int, step: float | None, aligned: bool) -> torch.Tensor:
    """(new, old): how much each new pixel of a line has of each old one."""
    ones = torch.eye(old, dtype=torch.float64)[None, None]
    resize = getattr(torch.ops.aten, f"_upsample_{mode}2d_aa")
    found: torch.Tensor = resize(ones, [new, old], aligned, step and 1 / step, None)[0, 0]
    return found.float()


def _grid_sample(call: Call) -> str:
    value, grid = call.value("input"), call.value("grid")
    mode = ("linear", "nearest", "cubic")[int(call["interpolation_mode"])]
    padding = ("zeros", "border", "reflection")[int(call["padding_mode"])]
    aligned = bool(call["align_corners"])
    if (call.size(grid)[-1], len(call.size(value))) == (2, 3) and mode != "cubic":
        return call.emit("grid_sample", value, grid, mode=mode, padding=padding, aligned=aligned)
    if not is_whole((*call.size(value), *call.size(grid))):
        raise call.error(
            "is supported on planes of each image; of volumes, of rows, and cubic, at sizes that are known"
        )
    return composites.sample_space(call.build, value, grid, mode=mode, padding=padding, aligned=aligned)


def _affine_grid(call: Call) -> str:
    """Where each pixel comes from, of a matrix (2, 3) or (3, 4) for each image: its places, and a one, times that."""
    theta, space = call.value("theta"), [int(each) for each in call["size"][2:]]
    rank = len(space)
    if call.size(theta) != (rank, rank + 1):
        raise call.error(f"is supported with one matrix ({rank}, {rank + 1}) for each image")
    places = F.affine_grid(torch.eye(rank, rank + 1)[None], [1, 1, *space], bool(call["align_corners"]))
    with_ones = F.pad(places.reshape(-1, rank), (0, 1), value=1.0)
    made = call.emit("matmul", call.bits(Constant(with_ones), "places"), theta, transposed=True)
    return composites.reshape(call.build, made, (*space, rank))


CONVERSIONS: dict[str, Conversion] = {
    **{
        f"{'_' * name.startswith('_')}upsample_{name.lstrip('_')}{rank}d": _resizing(mode, rank)
        for name, (mode, ranks) in _MODES.items()
        for rank in ranks
    },
    **{f"_upsample_{mode}2d_aa": _averaging(mode) for mode in ("bilinear", "bicubic")},
    "affine_grid_generator": _affine_grid,
    **dict.fromkeys(("grid_sampler", "grid_sampler_2d", "grid_sampler_3d"), anywhere(_grid_sample)),
}
