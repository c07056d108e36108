"""Channels of random networks: what leaves them leaves nothing else changed, or the refusal is one line."""

from __future__ import annotations

import copy
import io
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import secateur
from grown import BLOCKS, WIDTH, picture

HEADS = ("flatten", "mean", "training only", "large images only", "bright images only", "two")


class Recurrent(nn.Module):
    """A GRU cell along the rows, whose states are new channels."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.cell, self.leave = nn.Linear(WIDTH, 6), nn.GRUCell(6, 7), nn.Linear(7, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), 7)
        for row in x.mean(3).unbind(2):
            state = self.cell(torch.relu(self.enter(row)), state)
        return x + self.leave(state)[:, :, None, None]


class Attentive(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.wide, self.narrow = nn.Linear(WIDTH, 12), nn.Linear(12, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return self.narrow(F.gelu(self.wide(tokens))).transpose(1, 2).unflatten(2, x.shape[2:])


class Halves(nn.Module):
    """Two writers of one stream, one of which is switched by a gate of one channel."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other, self.gate = nn.Conv2d(WIDTH, 10, 1), nn.Conv2d(WIDTH, 10, 1), nn.Conv2d(WIDTH, 1, 1)
        self.slopes = nn.PReLU(10)
        self.back = nn.Conv2d(10, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.gate(x))
        return self.back(self.slopes(gate * self.one(x) + (1 - gate) * self.other(x)))


class Flows(nn.Module):
    """Concatenates what it was given with what it makes of it, by position and scaled by bare parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.make, self.take = nn.Conv2d(WIDTH, 6, 3, padding=1), nn.Conv2d(WIDTH + 6, WIDTH, 1)
        self.scale, self.shift = nn.Parameter(torch.rand(WIDTH + 6, 1, 1) + 0.5), nn.Parameter(torch.randn(1, 6, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        made = torch.relu(self.make(x)) / self.shift.exp()
        return self.take(torch.cat([made, x], 1) * self.scale)


OWN: dict[str, Callable[[], nn.Module]] = {
    "recurrent": Recurrent,
    "attentive": Attentive,
    "halves": Halves,
    "flows": Flows,
    "grouped": lambda: nn.Sequential(
        nn.Conv2d(WIDTH, 12, 1),
        nn.InstanceNorm2d(12),
        nn.Conv2d(12, 16, 3, padding=1, groups=4),
        nn.Conv2d(16, WIDTH, 1),
    ),
    "resized": lambda: nn.Sequential(
        nn.Upsample(scale_factor=2),
        nn.Conv2d(WIDTH, 10, 3, padding=1),
        nn.ELU(),
        nn.AvgPool2d(2),
        nn.Conv2d(10, WIDTH, 1),
    ),
    "shuffled": lambda: nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 1), nn.ChannelShuffle(2), nn.Conv2d(WIDTH, WIDTH, 1)),
    "layer norm": lambda: nn.Sequential(nn.LayerNorm((WIDTH, 4, 4)), nn.Conv2d(WIDTH, WIDTH, 1)),
}
ALL = {**BLOCKS, **OWN}


class Chain(nn.Module):
    """Takes (N, 3, 4, 4), and larger images where there is a head for them."""

    def __init__(self, blocks: tuple[str, ...], head: str) -> None:
        super().__init__()
        self.stem, self.blocks = nn.Conv2d(3, WIDTH, 3, padding=1), nn.ModuleList(ALL[name]() for name in blocks)
        self.last, self.head = nn.Conv2d(WIDTH, 10, 1), head
        self.fc = nn.Linear(10 * 16 if head == "flatten" else 10, 5)
        self.other = nn.Conv2d(WIDTH, 3, 1)

    def forward(self, x: Tensor) -> Any:
        hidden = torch.relu(self.stem(x))
        for block in self.blocks:
            hidden = block(hidden)
        if (self.head == "large images only" and x.shape[-1] > 4) or (
            self.head == "bright images only" and x.mean() > 1
        ):
            return self.other(hidden).mean((2, 3))
        last = torch.relu(self.last(hidden))
        logits = self.fc(last.flatten(1) if self.head == "flatten" else last.mean((2, 3)))
        if self.head == "two" or (self.head == "training only" and self.training):
            return logits, self.other(hidden)
        return logits


@st.composite
def chains(draw: st.DrawFn) -> Chain:
    blocks = tuple(draw(st.lists(st.sampled_from(sorted(ALL)), min_size=1, max_size=2)))
    torch.manual_seed(draw(st.integers(0, 99)))
    return Chain(blocks, draw(st.sampled_from(HEADS))).double()


def images(seed: int, count: int = 3, size: int = 4) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def told(network: Any, x: Tensor) -> tuple[Tensor, ...]:
    """What PyTorch gives."""
    found = network(x.clone())
    return found if isinstance(found, tuple) else (found,)


def refused(act: Callable[[], Any]) -> str:
    refusal = ""
    try:
        act()
    except secateur.SecateurError as error:
        refusal = str(error)
    assert "\n" not in refusal
    return refusal


def layers(network: nn.Module) -> list[Tensor]:
    return [each.get_parameter("weight") for each in network.modules() if isinstance(each, (nn.Conv2d, nn.Linear))]


def check_alike(network: Chain, small: nn.Module) -> None:
    """In evaluation mode as PyTorch says, also where a branch is taken that the example did not take; in training mode
    outputs and gradients of the same shapes, and something is learnt."""
    network.eval()
    small.eval()
    others = [images(7, size=6)] if network.head == "large images only" else [images(7) + 3]
    for x in (images(6), *others):
        if refused_by_pytorch(network, x):
            continue
        for one, other in zip(told(small, x), told(network, x), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    network.train()
    small.train()
    found = told(small, images(8))
    assert [each.shape for each in found] == [each.shape for each in told(network, images(8))]
    torch.stack([each.square().sum() for each in found]).sum().backward()  # type: ignore[no-untyped-call]
    assert all(each.grad is None or each.grad.shape == each.shape for each in small.parameters())
    torch.optim.SGD(small.parameters(), 0.01).step()
    saved = io.BytesIO()
    torch.save(small.state_dict(), saved)
    saved.seek(0)
    small.load_state_dict(torch.load(saved))


def refused_by_pytorch(network: nn.Module, x: Tensor) -> bool:
    try:
        told(network, x)
    except RuntimeError:
        return True
    return False


@pytest.mark.filterwarnings("ignore::secateur.errors.PruneWarning")
def test_whole_channels_leave_random_networks_as_promised() -> None:
    counts: Counter[bool] = Counter()

    @given(network=chains(), norm=st.sampled_from([1, 2]), training=st.booleans())
    @settings(max_examples=12, deadline=None, database=None, derandomize=True)
    def check(network: Chain, norm: int, training: bool) -> None:
        x = images(1)
        network.train(training)
        pattern = f"channel-l{norm}"
        refusal = refused(lambda: secateur.prune(network, 0.4, pattern=pattern, example=x, allow_empty=True))
        before, held = picture(network), []
        assert not refused(lambda: held.append(secateur.shrink(network, x)))
        assert picture(network) == before
        (small,) = held
        counts[not refusal] += 1
        if not refusal:
            assert sum(each.numel() for each in layers(small)) == sum(
                int(each.count_nonzero()) for each in layers(network)
            )
        check_alike(copy.deepcopy(network), small)

    check()
    assert counts[True] > counts[False]


def test_what_single_zeros_leave_dead_goes_out_of_random_networks() -> None:
    @given(network=chains())
    @settings(max_examples=6, deadline=None, database=None, derandomize=True)
    def check(network: Chain) -> None:
        with torch.no_grad():
            for each in layers(network):
                each[torch.rand(each.shape[:2]) < 0.8] = 0
        before, held = picture(network), []
        assert not refused(lambda: held.append(secateur.shrink(network, images(2))))
        assert picture(network) == before
        check_alike(copy.deepcopy(network), held[0])

    check()
