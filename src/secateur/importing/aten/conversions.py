"""What each ATen operation becomes. A conversion is given a call and returns a value's name, a constant, or a list."""

from __future__ import annotations

from secateur.importing.aten import (
    arithmetic,
    attending,
    comparing,
    convolving,
    fused,
    indexing,
    normalising,
    pooling,
    products,
    recurring,
    reducing,
    resampling,
    scattering,
    shaping,
)
from secateur.importing.aten.calls import Conversion

CONVERSIONS: dict[str, Conversion] = {
    name: conversion
    for module in (
        *(convolving, products, attending, fused, recurring, normalising, pooling, resampling),
        *(arithmetic, comparing, reducing, indexing, scattering, shaping),
    )
    for name, conversion in module.CONVERSIONS.items()
}
