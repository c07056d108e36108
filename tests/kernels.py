"""Which kernels tests run on."""

from __future__ import annotations

from secateur.runtime import available_kernels

DOT_PRODUCTS = ("vnni", "dot")


def float_kernels() -> list[str]:
    """Those that differ in float32: a kernel with a dot product of bytes has the floats of its sibling without."""
    return [name for name in available_kernels() if not name.endswith(DOT_PRODUCTS)]
