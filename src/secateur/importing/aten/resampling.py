"""Lines, planes and volumes in another size, and planes read at places of a grid."""

from __future__ import annotations

from secateur.importing.aten.calls import Call, Conversion
from secateur.importing.aten.reading import along_last, anywhere
from secateur.network import composites

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
        return composites.resize(call.build, value, size, mode, aligned=aligned, steps=steps)

    return along_last(convert, lambda call: rank)


def _steps(call: Call, rank: int) -> tuple[float, ...]:
    """Old pixels per new one where factors were given, which need not be the sizes' own ratio."""
    given = call.get("scale_factors") or [call.get(name) for name in ("scales_d", "scales_h", "scales_w", "scales")]
    found = [float(each) for each in given if each is not None]
    return tuple(1 / each for each in found) if len(found) == rank else ()


def _grid_sample(call: Call) -> str:
    value, grid = call.value("input"), call.value("grid")
    mode, padding = int(call["interpolation_mode"]), int(call["padding_mode"])
    if mode > 1 or len(call.size(value)) != 3:
        raise call.error("is supported on planes, bilinear or nearest only")
    return call.emit(
        "grid_sample",
        value,
        grid,
        mode=("linear", "nearest")[mode],
        padding=("zeros", "border", "reflection")[padding],
        aligned=bool(call["align_corners"]),
    )


CONVERSIONS: dict[str, Conversion] = {
    **{
        f"{'_' * name.startswith('_')}upsample_{name.lstrip('_')}{rank}d": _resizing(mode, rank)
        for name, (mode, ranks) in _MODES.items()
        for rank in ranks
    },
    **dict.fromkeys(("grid_sampler", "grid_sampler_2d"), anywhere(_grid_sample)),
}
