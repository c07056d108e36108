"""What each operation of ONNX becomes, by domain and name. A conversion is given a call, and returns what it made."""

from __future__ import annotations

from secateur.importing.onnx import (
    arithmetic,
    controlling,
    convolving,
    normalising,
    picking,
    pooling,
    products,
    quantising,
    recurring,
    reducing,
    resampling,
    shaping,
    transforming,
)
from secateur.importing.onnx.calls import Conversion

CONVERSIONS: dict[tuple[str, str], Conversion] = {
    **{
        ("", name): conversion
        for module in (
            *(convolving, products, quantising, recurring, normalising, pooling, resampling),
            *(arithmetic, reducing, picking, shaping, controlling, transforming),
        )
        for name, conversion in module.CONVERSIONS.items()
    },
    **{
        ("com.microsoft", name): conversion
        for module in (arithmetic, convolving, normalising, products, quantising)
        for name, conversion in module.MICROSOFT.items()
    },
}
