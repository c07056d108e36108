"""Random small networks out of a grammar of what people's networks hold, for tests of every public verb.

A network is a chain of blocks, each of which takes and gives (N, 8, H, W) with even H and W, and a head.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor, nn

WIDTH = 8
Block = Callable[[], nn.Module]


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(WIDTH, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12)
        self.conv2, self.bn2 = nn.Conv2d(12, WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))


class Standardised(nn.Conv2d):
    """Qiao et al. 2019."""

    def forward(self, x: Tensor) -> Tensor:
        spread, mean = torch.std_mean(self.weight, (1, 2, 3), keepdim=True)
        return F.conv2d(x, (self.weight - mean) / (spread + 1e-5), self.bias, self.stride, self.padding)


class Masked(nn.Module):
    """A square matrix over the channels, its upper triangle masked away, times a learnt scalar."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(WIDTH, WIDTH) * WIDTH**-0.5)
        self.scale = nn.Parameter(torch.full((1, 1), 0.7))

    def forward(self, x: Tensor) -> Tensor:
        return (x.movedim(1, -1) @ self.weight.tril() * self.scale).movedim(-1, 1)


class ChannelGate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(WIDTH, 4, 1), nn.Conv2d(4, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.up(torch.relu(self.down(x.mean((2, 3), keepdim=True)))))


class SpatialGate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Conv2d(WIDTH, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.gate(x))


class Split(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide, self.left = nn.Conv2d(WIDTH, 10, 1), nn.Conv2d(6, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.wide(x).split([6, 4], 1)
        return torch.cat([torch.relu(self.left(left)), right], 1)


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(WIDTH, 2 * WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.glu(self.wide(x), 1)


class Shuffled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Conv2d(WIDTH, 16, 1), nn.Conv2d(16, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.pixel_unshuffle(torch.relu(F.pixel_shuffle(self.up(x), 2)), 2))


class Shared(nn.Module):
    """One convolution at work twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.conv(torch.relu(self.conv(x))))


class Counting(nn.Module):
    """A running statistic of its own, moved at every call, and not used."""

    level: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("level", torch.ones(WIDTH))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.level.mul_(0.9).add_(0.1 * x.detach().mean((0, 2, 3)))
        self.calls += 1
        return x


class Caching(nn.Module):
    """A table made at the first call, as positions and masks are."""

    def __init__(self) -> None:
        super().__init__()
        self.table: Tensor | None = None
        self.last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.table is None:
            self.table = torch.linspace(0.5, 1.5, x.shape[1]).view(1, -1, 1, 1)
        self.last = x * self.table
        return self.last


class Scaled(nn.Module):
    """Bare parameters along the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.rand(WIDTH, 1, 1) + 0.5), nn.Parameter(torch.randn(WIDTH, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma + self.beta


def conv() -> nn.Module:
    return nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH), nn.ReLU(inplace=True))


def depthwise() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH), nn.ReLU6(), nn.Conv2d(WIDTH, WIDTH, 1, groups=2)
    )


BLOCKS: Mapping[str, Block] = {
    "conv": conv,
    "prelu": lambda: nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 1), nn.PReLU()),
    "prelu by channel": lambda: nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 1), nn.PReLU(WIDTH)),
    "residual": Residual,
    "standardised": lambda: Standardised(WIDTH, WIDTH, 3, padding=1),
    "masked matrix": Masked,
    "channel gate": ChannelGate,
    "spatial gate": SpatialGate,
    "split": Split,
    "glu": Gated,
    "pixel shuffle": Shuffled,
    "shared": Shared,
    "counting": Counting,
    "caching": Caching,
    "bare parameters": Scaled,
    "depthwise": depthwise,
    "group norm": lambda: nn.GroupNorm(2, WIDTH),
    "dropout": lambda: nn.Sequential(nn.Dropout2d(0.3), nn.Conv2d(WIDTH, WIDTH, 1)),
}
HEADS = ("mean", "flatten", "two", "named", "training only")


class Grown(nn.Module):
    """blocks: names out of BLOCKS. head: one of HEADS. shifts: whether it normalises its input in place. Takes
    (N, 3, 4, 4); gives logits (N, 5), or several outputs where the head has several."""

    def __init__(self, blocks: tuple[str, ...], head: str, shifts: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.blocks = nn.ModuleList(BLOCKS[name]() for name in blocks)
        self.head, self.shifts = head, shifts
        self.fc = nn.Linear(WIDTH * 16 if head == "flatten" else WIDTH, 5)
        self.other = nn.Linear(WIDTH, 3) if head in ("two", "named", "training only") else None

    def forward(self, x: Tensor) -> Any:
        if self.shifts:
            x.sub_(0.25)
        x = torch.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        if self.head == "flatten":
            return self.fc(x.flatten(1))
        pooled = x.mean((2, 3))
        if self.other is None or (self.head == "training only" and not self.training):
            return self.fc(pooled)
        if self.head == "named":
            return {"logits": self.fc(pooled), "other": self.other(pooled)}
        return self.fc(pooled), self.other(pooled)


@st.composite
def networks(draw: st.DrawFn, heads: tuple[str, ...] = HEADS) -> Grown:
    blocks = tuple(draw(st.lists(st.sampled_from(sorted(BLOCKS)), min_size=1, max_size=3)))
    torch.manual_seed(draw(st.integers(0, 99)))
    network = Grown(blocks, draw(st.sampled_from(heads)), draw(st.booleans()))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.get_buffer("running_mean"), 0.0, 0.2)
            nn.init.uniform_(module.get_buffer("running_var"), 0.5, 2.0)
    if draw(st.booleans()):
        network(torch.randn(2, 3, 4, 4))  # it has been at work: something is kept already
    return network.train(draw(st.booleans()))


def images(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))


def plain_outputs(network: nn.Module, x: Tensor) -> list[Tensor]:
    """What PyTorch says in evaluation mode, of a copy that nobody else has touched."""
    twin = _twin(network).eval()
    with torch.no_grad():
        found = twin(x.clone())
    held = list(found.values()) if isinstance(found, dict) else list(found) if isinstance(found, tuple) else [found]
    return [each.clone() for each in held]


def _twin(network: nn.Module) -> nn.Module:
    kept = [each for each in network.modules() if isinstance(each, Caching)]
    memo: dict[int, Any] = {id(each.last): each.last.detach() for each in kept if each.last is not None}
    return copy.deepcopy(network, memo)


@dataclass(frozen=True)
class Picture:
    """Everything that a network is, bit for bit, such that two pictures compare."""

    state: Mapping[str, bytes]
    identities: tuple[int, ...]
    flags: tuple[bool, ...]
    grads: tuple[bytes | None, ...]
    modes: tuple[bool, ...]
    attributes: tuple[tuple[str, object], ...]
    hooks: int
    random: tuple[bytes, bytes]


def picture(network: nn.Module, without: frozenset[str] = frozenset()) -> Picture:
    """without: entries of the state dict that may have changed."""
    parameters = list(network.parameters())
    return Picture(
        {name: _bits(each) for name, each in network.state_dict().items() if name not in without},
        tuple(map(id, parameters)),
        tuple(each.requires_grad for each in parameters),
        tuple(None if each.grad is None else _bits(each.grad) for each in parameters),
        tuple(each.training for each in network.modules()),
        tuple(_attributes(network)),
        sum(len(each._forward_hooks) + len(each._forward_pre_hooks) for each in network.modules()),
        (torch.get_rng_state().numpy().tobytes(), np.random.get_state()[1].tobytes()),  # type: ignore[index]
    )


def _attributes(network: nn.Module) -> list[tuple[str, object]]:
    return [
        (f"{path}.{name}", id(value) if isinstance(value, Tensor) else value)
        for path, module in network.named_modules()
        for name, value in vars(module).items()
        if not name.startswith("_") and isinstance(value, (int, float, str, bool, tuple, type(None), Tensor))
    ]


def _bits(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().numpy().tobytes()
