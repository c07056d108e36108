"""What each ATen operation becomes. A conversion is given a call and returns a value's name, a constant, or a list."""

from __future__ import annotations

from secateur.importing.aten import (
    arithmetic,
    convolving,
    normalising,
    pooling,
    products,
    reducing,
    resampling,
    shaping,
)
from secateur.importing.aten.calls import Conversion

CONVERSIONS: dict[str, Conversion] = {
    name: conversion
    for module in (convolving, products, normalising, pooling, resampling, arithmetic, reducing, shaping)
    for name, conversion in module.CONVERSIONS.items()
}
