"""Windows and axes of which the largest number or the mean is taken."""

from __future__ import annotations

from typing import Any

from secateur.importing.aten.calls import Call, Conversion
from secateur.importing.aten.reading import anywhere, around, pair, removed
from secateur.network import composites
from secateur.network.graph import Shape


def _max_pool2d(call: Call) -> Any:
    kernel = pair(call["kernel_size"])
    made = composites.max_pool2d(
        call.build,
        call.value("self"),
        kernel=kernel,
        stride=pair(call["stride"]) if call["stride"] else kernel,
        padding=around(call["padding"]),
        dilation=pair(call["dilation"]),
        ceil=bool(call["ceil_mode"]),
    )
    return made if call.name == "max_pool2d" else [made, None]


def _avg_pool2d(call: Call) -> str:
    kernel = pair(call["kernel_size"])
    if call["divisor_override"] is not None:
        raise call.error("with divisor_override is not supported")
    return composites.avg_pool2d(
        call.build,
        call.value("self"),
        kernel=kernel,
        stride=pair(call["stride"]) if call["stride"] else kernel,
        padding=around(call["padding"]),
        counted=bool(call["count_include_pad"]),
        ceil=bool(call["ceil_mode"]),
    )


def _adaptive_avg_pool2d(call: Call) -> str:
    return call.emit("adaptive_avg_pool2d", call.value("self"), size=pair(call["output_size"]))


def _adaptive_max_pool2d(call: Call) -> Any:
    return [composites.adaptive_max_pool2d(call.build, call.value("self"), pair(call["output_size"])), None]


def _axes(call: Call, value: str) -> Shape:
    """Of a reduction: those named, else all of them."""
    dims = call["dim"] if call.get("dim") else range(call.dims(value))
    return tuple(sorted(call.axis(dim, value) for dim in dims))


def _mean(call: Call) -> str:
    value = call.value("self")
    return call.emit("mean", value, axes=_axes(call, value), keepdims=bool(call["keepdim"]))


def _sum(call: Call) -> str:
    value = call.value("self")
    return composites.sum_over(call.build, value, _axes(call, value), keepdims=bool(call["keepdim"]))


def _over_axes(conversion: Conversion) -> Conversion:
    return anywhere(conversion, lambda call: 0 if call["keepdim"] else removed(call))


CONVERSIONS: dict[str, Conversion] = {
    "max_pool2d": _max_pool2d,
    "max_pool2d_with_indices": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "_adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "adaptive_max_pool2d": _adaptive_max_pool2d,
    "mean": _over_axes(_mean),
    "sum": _over_axes(_sum),
}
