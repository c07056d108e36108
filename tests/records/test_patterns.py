"""Blocks and N:M, counted."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from samples import build
from secateur.errors import UsageError
from secateur.modules.layers import weight_of, weighted_layers
from secateur.pruning.pruning import layer_sparsity, prune
from secateur.records.patterns import Blocks, KeepNOfM, parse_pattern


def groups(weight: Tensor, m: int) -> list[Tensor]:
    """Every run of m inputs of one output and one tap, the last one shorter."""
    lines = weight.movedim(1, -1).reshape(-1, weight.shape[1])
    return [part for line in lines for part in torch.split(line, m)]


@pytest.mark.parametrize("pattern", ["2:4", "4:8", "1:4", "1:16"])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_no_group_keeps_more_than_n_and_the_best_stay(pattern: str, scope: str) -> None:
    n, m = map(int, pattern.split(":"))
    network = nn.Sequential(nn.Conv2d(16, 8, 3), nn.Flatten(), nn.Linear(32, 16), nn.Linear(16, 4))
    before = copy.deepcopy(network)
    log = prune(network, 1 - n / m, pattern=pattern, scope=scope)
    assert log.sparsity == pytest.approx(1 - n / m)
    for name, layer in weighted_layers(network).items():
        if name == "3":
            continue
        dense = weight_of(before.get_submodule(name))
        for kept, was in zip(groups(weight_of(layer), m), groups(dense, m), strict=True):
            assert int(kept.count_nonzero()) == n
            assert kept.abs().sum() == pytest.approx(float(was.abs().topk(n).values.sum()))


def test_groups_that_do_not_come_out_even_hold_the_limit_too() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(30, 7))
    prune(network, 0.5, pattern="2:4", keep_output=False)
    for layer in weighted_layers(network).values():
        assert max(int(group.count_nonzero()) for group in groups(weight_of(layer), 4)) <= 2


def test_layers_that_erk_would_leave_dense_hold_the_limit_too() -> None:
    network = nn.Sequential(nn.Linear(4, 64), nn.Linear(64, 256), nn.Linear(256, 256))
    prune(network, 0.5, pattern="2:4", scope="erk", keep_output=False)
    for layer in weighted_layers(network).values():
        assert max(int(group.count_nonzero()) for group in groups(weight_of(layer), 4)) <= 2


def test_beyond_its_own_ratio_n_of_m_goes_on_unstructured() -> None:
    network = nn.Sequential(nn.Linear(64, 64))
    prune(network, 0.8, pattern="2:4", keep_output=False)
    weight = weight_of(network.get_submodule("0"))
    assert int((weight == 0).sum()) == round(0.8 * 4096)
    assert max(int(group.count_nonzero()) for group in groups(weight, 4)) <= 2


@settings(max_examples=20, deadline=None)
@given(
    outputs=st.integers(1, 13), inputs=st.integers(1, 13), taps=st.integers(1, 3),
    block=st.tuples(st.integers(1, 5), st.integers(1, 5)), ratio=st.floats(0, 0.95),
)  # fmt: skip
def test_blocks_go_whole_and_weakest_first(
    outputs: int, inputs: int, taps: int, block: tuple[int, int], ratio: float
) -> None:
    layer = nn.Conv1d(inputs, outputs, taps)
    dense = weight_of(layer).clone()
    prune(nn.Sequential(layer), ratio, pattern=f"{block[0]}x{block[1]}", keep_output=False, allow_empty=True)
    kept_means: list[float] = []
    cut_means: list[float] = []
    for tap in range(taps):
        for rows in torch.split(torch.arange(outputs), block[0]):
            for columns in torch.split(torch.arange(inputs), block[1]):
                part = weight_of(layer)[rows[:, None], columns, tap]
                assert int(part.count_nonzero()) in (0, part.numel())
                mean = float(dense[rows[:, None], columns, tap].abs().mean())
                (kept_means if part.any() else cut_means).append(mean)
    assert len(cut_means) == round(ratio * (len(kept_means) + len(cut_means)))
    if kept_means and cut_means:
        assert max(cut_means) <= min(kept_means) + 1e-7


@pytest.mark.parametrize("pattern", ["1x4", "4x1", "2x2"])
def test_block_pruning_twice_does_not_compound(pattern: str) -> None:
    network = build("resnet-18")
    chosen: dict[str, Any] = {"pattern": pattern, "exclude": ["conv1", "layer[234].*"]}
    prune(network, 0.5, **chosen)
    once = layer_sparsity(network)
    prune(network, 0.3, **chosen)
    prune(network, 0.5, **chosen)
    assert layer_sparsity(network) == once
    assert once["layer1.0.conv1"] == pytest.approx(0.5)


@pytest.mark.parametrize("groups_of_channels", [1, 2])
@pytest.mark.parametrize("pattern", ["2:4", "1x4", "4x1", "1x1", "2x2"])
def test_a_transposed_convolution_is_cut_as_the_convolution_of_the_same_weights(
    pattern: str, groups_of_channels: int
) -> None:
    """Its outputs are the second axis of its weight, and in groups those of one group."""
    layer = nn.ConvTranspose2d(8, 8, 3, groups=groups_of_channels)
    expected = nn.Conv2d(8, 8, 3, groups=groups_of_channels)
    for mine, its in zip(weight_of(layer).chunk(groups_of_channels), weight_of(expected).chunk(groups_of_channels),
                         strict=True):  # fmt: skip
        its.copy_(mine.transpose(0, 1))
    for each in (layer, expected):
        prune(nn.Sequential(each), 0.5, pattern=pattern, keep_output=False)
    for mine, its in zip(weight_of(layer).chunk(groups_of_channels), weight_of(expected).chunk(groups_of_channels),
                         strict=True):  # fmt: skip
        assert torch.equal(its, mine.transpose(0, 1))


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("pattern", ["2:4", "1x4"])
def test_memory_layout_does_not_change_a_pattern(layout: torch.memory_format, pattern: str) -> None:
    expected, network = (nn.Sequential(nn.Conv2d(8, 8, 3)) for _ in range(2))
    network.load_state_dict(expected.state_dict())
    network.to(memory_format=layout)  # type: ignore[call-overload]
    for each in (expected, network):
        prune(each, 0.5, pattern=pattern, keep_output=False)
    assert torch.equal(weight_of(expected.get_submodule("0")), weight_of(network.get_submodule("0")))


def test_patterns_by_name() -> None:
    assert parse_pattern("unstructured") is None
    assert parse_pattern("4x1") == Blocks(4, 1)
    assert parse_pattern("2:4") == KeepNOfM(2, 4)
    for text in ("4:2", "4:4", "0x4", "2-4", "1x4x4", "", "x4", "00001x4"):
        with pytest.raises(UsageError, match="expected unstructured, blocks"):
            parse_pattern(text)
    with pytest.raises(UsageError, match=r"ratio 0.4 with pattern 2:4: expected 0, or at least the 0.5"):
        prune(build("lenet-5"), 0.4, pattern="2:4")
