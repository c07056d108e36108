"""How one image lies where it is cut into parts side by side: whole planes go on as they are."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from kernels import float_kernels
from secateur.importing.aten import to_graph
from secateur.runtime import Session
from secateur.runtime.calibration import Costs

KERNELS = float_kernels()
FOLDING = Costs(2 * (1.1, 0.15, 2.9, 3.2, 2.4, 1e6, 5.2, 1, 1.03, 1.16, 1.4, 1.6, 1.8), "made up")
"""By which convolutions of rows cost so much that whatever can be folded is."""

SHAPE = (8, 16, 24)


class Drawn(nn.Module):
    """Convolutions, slices, concatenations and functions of numbers, each of values drawn from those before."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.random = np.random.default_rng(seed)
        self.layers = nn.ModuleList()
        self.steps: list[Callable[[list[Tensor]], Tensor]] = []
        self.sizes = [SHAPE]
        for _ in range(14):
            step, shape = self.draw()
            self.steps.append(step)
            self.sizes.append(shape)

    def draw(self) -> tuple[Callable[[list[Tensor]], Tensor], tuple[int, int, int]]:
        at = int(self.random.integers(max(0, len(self.sizes) - 4), len(self.sizes)))
        channels, height, width = self.sizes[at]
        kind = self.random.choice(
            ["convolution"] * 3 + ["slice", "concat", "concat", "silu", "sigmoid", "add", "resize"]
        )
        if kind == "slice" and channels > 1:
            start = int(self.random.integers(0, channels - 1))
            count = int(self.random.integers(1, channels - start + 1))
            return lambda values: values[at].narrow(1, start, count), (count, height, width)
        if kind == "concat":
            alike = [i for i, size in enumerate(self.sizes) if size[1:] == (height, width)]
            chosen = [int(self.random.choice(alike)) for _ in range(self.random.integers(1, 4))]
            total = sum(self.sizes[i][0] for i in chosen)
            if total <= 40:
                return lambda values: torch.cat([values[i] for i in chosen], 1), (total, height, width)
        if kind == "silu":
            return lambda values: functional.silu(values[at]), self.sizes[at]
        if kind == "sigmoid":
            return lambda values: values[at].sigmoid(), self.sizes[at]
        if kind == "add":
            other = max(i for i, size in enumerate(self.sizes) if size == self.sizes[at])
            return lambda values: values[at] + values[other], self.sizes[at]
        if kind == "resize" and height <= 16:
            return lambda values: functional.interpolate(values[at], scale_factor=2), (channels, 2 * height, 2 * width)
        size, stride = int(self.random.choice([1, 3, 3])), 2 if height > 16 else 1
        layer = nn.Conv2d(channels, int(self.random.integers(2, 12)), size, stride, size // 2)
        self.layers.append(layer)
        return lambda values: layer(values[at]), (layer.out_channels, height // stride, width // stride)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        values = [x]
        for step in self.steps:
            values.append(step(values))
        return values[-1], values[-3], values[-6]


class Stages(nn.Module):
    """What detectors are made of: halves of channels, one of which goes through layers, and all joined again."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.down = nn.Conv2d(8, 16, 3, padding=1), nn.Conv2d(16, 16, 3, 2, 1)
        self.inner = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(4))
        self.last = nn.Conv2d(48, 8, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = functional.silu(self.first(x))
        parts = list(functional.silu(self.down(x)).chunk(2, 1))
        for one, other in zip(self.inner[::2], self.inner[1::2], strict=True):
            parts.append(parts[-1] + functional.silu(other(functional.silu(one(parts[-1])))))
        joined = functional.interpolate(torch.cat(parts, 1), scale_factor=2)
        last = functional.silu(self.last(torch.cat([joined, x], 1)))
        return last, torch.cat([last.flatten(2), last.flatten(2)], 2).softmax(1)


def settled(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return build().eval()


def outputs_of(session: Session, x: Tensor) -> tuple[np.ndarray, ...]:
    found = session(x.numpy())
    return found if isinstance(found, tuple) else (found,)


@pytest.mark.parametrize("seed", range(6))
def test_planes_sliced_and_joined_while_folded_are_pytorchs(seed: int) -> None:
    network = settled(lambda: Drawn(seed))
    x = torch.randn(17, *SHAPE)
    graph = to_graph(network, x[:2])
    with torch.no_grad():
        expected = network(x)
    for kernel in KERNELS:
        session = Session(graph, kernel=kernel, costs=FOLDING, threads=2)
        for images in (1, 17):
            for mine, right in zip(outputs_of(session, x[:images]), expected, strict=True):
                scale = max(1.0, right.abs().max().item())
                np.testing.assert_allclose(mine, right[:images], rtol=2e-5, atol=1e-5 * scale, err_msg=kernel)


def test_halves_of_channels_are_folded_once_and_nothing_is_joined_by_copies() -> None:
    network = settled(Stages)
    x = torch.randn(1, *SHAPE)
    graph = to_graph(network, torch.randn(2, *SHAPE))
    session = Session(graph, costs=FOLDING)
    with torch.no_grad():
        expected = network(x)
    for mine, right in zip(outputs_of(session, x), expected, strict=True):
        np.testing.assert_allclose(mine, right, rtol=1e-4, atol=1e-5)
    moved = [step.operations for step in session.plan(1).steps if step.operations in ("fold", "unfold", "concat")]
    assert moved == ["fold", "unfold", "concat"]


@pytest.mark.parametrize("images", [1, 16])
def test_what_is_joined_is_written_in_its_place(images: int) -> None:
    class Joining(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Conv2d(4 * i, 4, 3, padding=1) for i in range(1, 5))

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = torch.cat([x, layer(x)], 1)
            return x

    network = settled(Joining)
    x = torch.randn(images, 4, 9, 11)
    session = Session(to_graph(network, torch.randn(2, 4, 9, 11)))
    with torch.no_grad():
        np.testing.assert_allclose(session(x.numpy()), network(x), rtol=1e-4, atol=1e-5)
    assert not [step for step in session.plan(images).steps if step.operations == "concat"]
