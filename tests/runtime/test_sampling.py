"""Planes read between their pixels, as PyTorch reads them: on every kernel, at any lengths, within limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from kernels import float_kernels
from secateur.errors import GraphError, RunError
from secateur.network.building import Builder
from secateur.network.graph import Graph
from secateur.network.sizes import named
from secateur.runtime import Session, reference

RANDOM = np.random.default_rng(5)


def resized(shape: tuple[int, ...], size: tuple[int, ...], mode: str, **attributes: Any) -> Graph:
    build = Builder()
    given: dict[str, Any] = {"aligned": False, "steps": ()} | attributes
    return build.graph([build.emit("resize", build.input("x", shape), size=size, mode=mode, **given)])


@pytest.mark.parametrize("mode", ["nearest", "nearest_exact"])
def test_the_nearest_pixel_is_the_one_that_pytorch_takes(mode: str) -> None:
    """Where a place is on a border between two, float32 decides."""
    x = np.arange(64, dtype=np.float32)[None]
    for old in range(1, 65, 3):
        for new in (*range(1, 20), 31, 49, 64, 100, 129):
            expected = functional.interpolate(torch.from_numpy(x[:, None, :old]), new, mode=mode.replace("_", "-"))
            found = reference.run(resized((old,), (new,), mode), x[:, :old])
            np.testing.assert_array_equal(found, expected[:, 0].numpy(), err_msg=f"{old} to {new}")


@pytest.mark.parametrize("kernel", float_kernels())
@pytest.mark.parametrize(
    ("mode", "theirs", "aligned"),
    [
        ("nearest", "nearest", None),
        ("linear", "bilinear", False),
        ("linear", "bilinear", True),
        ("cubic", "bicubic", False),
        ("cubic", "bicubic", True),
    ],
)
def test_planes_are_resized_as_pytorch_does_whatever_their_lengths(
    mode: str, theirs: str, aligned: bool | None, kernel: str
) -> None:
    build, rows, columns = Builder(), named("rows"), named("columns")
    x = build.input("x", (3, rows, columns))
    made = build.emit("resize", x, size=(2 * rows, columns + 3), mode=mode, aligned=bool(aligned), steps=())
    session = Session(build.graph([made]), kernel=kernel)
    for images, height, width in ((1, 5, 40), (3, 9, 7), (17, 4, 6)):
        x_ = RANDOM.normal(size=(images, 3, height, width)).astype(np.float32)
        size = (2 * height, width + 3)
        expected = functional.interpolate(torch.from_numpy(x_).double(), size, mode=theirs, align_corners=aligned)
        np.testing.assert_allclose(session(x_), expected.numpy(), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("kernel", float_kernels())
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_a_grid_that_comes_as_an_input_is_read_as_pytorch_reads_it(
    mode: str, padding: str, aligned: bool, kernel: str
) -> None:
    build = Builder()
    planes, grid = build.input("planes", (2, 5, 7)), build.input("grid", (3, 4, 2))
    made = build.emit("grid_sample", planes, grid, mode=mode, padding=padding, aligned=aligned)
    session = Session(build.graph([made]), kernel=kernel)
    for images in (1, 17):
        x = RANDOM.normal(size=(images, 2, 5, 7)).astype(np.float32)
        places = RANDOM.uniform(-2.5, 2.5, (images, 3, 4, 2)).astype(np.float32)
        both = torch.from_numpy(x).double(), torch.from_numpy(places).double()
        expected = functional.grid_sample(*both, mode.replace("linear", "bilinear"), padding, aligned)
        np.testing.assert_allclose(session(x, places), expected.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "changes", "message"),
    [
        ((1 << 23,), {}, "expected at most 4194304 pixels an axis"),
        ((2, 2, 2), {}, r"expected sizes for the last axes of \(4, 4\)"),
        ((2, 2), {"steps": (0.5,)}, "expected no steps, or 2"),
        ((2, 2), {"steps": (0.5, 0.0)}, "expected steps to be some finite numbers above 0"),
        ((2, 2), {"mode": "nearest", "aligned": True}, "expected aligned corners in modes linear and cubic only"),
        ((2, 2), {"steps": (0.5, 0.5), "aligned": True}, "expected no steps where corners are aligned"),
    ],
)
def test_what_is_no_size_is_no_graph(size: tuple[int, ...], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        resized((4, 4), size, **{"mode": "linear"} | changes)


def test_a_small_file_may_not_ask_for_planes_of_any_size() -> None:
    with pytest.raises(RunError, match=r"more than the limit of .*limits=Limits\(growth=…\)"):
        Session(resized((1, 1, 1), (1 << 14, 1 << 8), "nearest"))
