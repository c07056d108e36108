"""Planes, lines and volumes at other sizes."""

from __future__ import annotations

from collections.abc import Sequence

from secateur.network.building import Builder
from secateur.network.graph import Shape


def resize(
    build: Builder, value: str, size: Shape, mode: str, *, aligned: bool = False, steps: Sequence[float] = ()
) -> str:
    """The last axes at other sizes, as PyTorch's interpolate has them.

    mode: "nearest", "nearest_exact", "linear" or "cubic". aligned: corners stay corners. steps: of the input's pixels
    from one of the output's to the next, where a scale was given and it is not what the sizes say.
    """
    old = build.shape(value)[-len(size) :]
    steps = () if aligned else tuple(map(float, steps))
    if old == size and all(step == 1 for step in steps):
        return value
    return build.emit("resize", value, size=size, mode=mode, aligned=aligned, steps=steps)
