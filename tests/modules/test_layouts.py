"""Channels innermost where a network bears it, and nowhere else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur
from secateur.modules.habits import habit
from secateur.modules.inputs import Inputs
from secateur.modules.layouts import bears_channels_last, bears_such_inputs, with_channels_last


class Small(nn.Module):
    """Two convolutions; `ending` makes of their maps what the last layer takes."""

    def __init__(self, ending: Callable[[Any, Tensor], Tensor], outputs: int = 16 * 4 * 4) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.last = nn.Linear(outputs, 4)
        self.ending = ending

    def forward(self, images: Tensor) -> Tensor:
        maps = F.max_pool2d(F.relu(self.second(F.relu(self.first(images)))), 2)
        return self.ending(self, maps)


def by_view(network: Any, maps: Tensor) -> Tensor:
    return network.last(maps.view(maps.size(0), -1))


def by_flatten(network: Any, maps: Tensor) -> Tensor:
    return network.last(maps.flatten(1))


def by_view_when_learning(network: Any, maps: Tensor) -> Tensor:
    return by_view(network, maps) if network.training else by_flatten(network, maps)


def by_strides(network: Any, maps: Tensor) -> Tensor:
    """Another thing where the maps lie in memory otherwise."""
    flat = maps.as_strided((len(maps), 256), (256, 1))
    return network.last(flat)


def maps_when_learning(network: Any, maps: Tensor) -> Tensor:
    """As detectors do: raw maps for the loss."""
    return maps if network.training else by_flatten(network, maps)


class Backwards(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, maps: Tensor) -> Tensor:
        context.shape = maps.shape
        return maps.clone(memory_format=torch.contiguous_format)

    @staticmethod
    def backward(context: Any, slope: Tensor) -> Tensor:
        return slope.view(-1).view(context.shape)


class TwoMore(Small):
    """With what goes back by view between two convolutions."""

    def forward(self, images: Tensor) -> Tensor:
        maps = F.relu(self.second(Backwards.apply(self.first(images))))  # type: ignore[no-untyped-call]
        return by_flatten(self, F.max_pool2d(maps, 2))


def by_view_of_many(network: Any, maps: Tensor) -> Tensor:
    return by_view(network, maps) if len(maps) > 4 else by_flatten(network, maps)


def maps_themselves(network: Any, maps: Tensor) -> Tensor:
    return maps


def images(count: int = 2) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("ending", "bears"),
    [
        (by_flatten, True),
        (by_view, False),
        (by_view_when_learning, False),
        (by_strides, False),
        (maps_themselves, False),
        (maps_when_learning, False),
    ],
)
def test_only_networks_that_bear_it_run_with_channels_innermost(ending: Any, bears: bool) -> None:
    network = Small(ending).eval()
    before = copy.deepcopy(network.state_dict())
    assert bears_channels_last(network, Inputs((images(),))) is bears
    after = network.state_dict()
    assert all(torch.equal(after[name], value) and after[name].is_contiguous() for name, value in before.items())
    assert not network.training


def test_the_way_back_is_tried_too() -> None:
    assert not bears_channels_last(TwoMore(by_flatten), Inputs((images(),)))


@pytest.mark.parametrize("ending", ["other attributes", "of many", "another network"])
def test_repair_is_asked_of_whole_batches_and_of_what_the_network_is_now(ending: str) -> None:
    batches = [(images(16), torch.zeros(16))]
    dense = Small(by_view_of_many if ending == "of many" else by_choice)
    dense.flat = False  # type: ignore[assignment]
    for flat in (False, True):
        network = copy.deepcopy(dense)
        network.flat = flat and ending != "of many"  # type: ignore[assignment]
        if ending == "other attributes":
            dense.flat = network.flat
        secateur.prune(network, 0.5, example=images())
        secateur.repair(network, "reconstruct", batches, dense=dense)
        assert bool((network.second.weight == 0).any())


def by_choice(network: Any, maps: Tensor) -> Tensor:
    return by_view(network, maps) if network.flat else by_flatten(network, maps)


def test_networks_without_images_are_not_tried() -> None:
    asked: list[int] = []

    class Counting(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            asked.append(1)
            return super().forward(x)

    assert not bears_channels_last(Counting(3, 3), Inputs((torch.ones(2, 3),)))
    assert not asked


def test_inputs_alone_are_tried_once_for_a_network_and_its_hooks() -> None:
    network = Small(by_flatten).eval()
    runs: list[int] = []
    given = Inputs((images(),))
    network.first.register_forward_hook(lambda *_: runs.append(1))
    assert bears_such_inputs(network, given)
    tried = len(runs)
    assert tried
    assert bears_such_inputs(network, given)
    assert len(runs) == tried
    network.second.register_forward_hook(lambda *_: runs.append(1))
    assert bears_such_inputs(network, given)
    assert len(runs) > tried
    network.last = nn.Linear(256, 3)
    network.ending = by_view
    assert not bears_such_inputs(network, given)


def test_what_was_found_goes_with_the_network() -> None:
    found: list[int] = []

    def find() -> bool:
        found.append(1)
        return True

    for _ in range(2):  # another network each time, though perhaps at the same place
        assert habit(nn.Linear(2, 2), "anything", find)
    assert len(found) == 2


def test_only_images_are_moved() -> None:
    moved = with_channels_last(Inputs((images(), torch.ones(2, 5)), {"mask": torch.ones(2, 1, 3, 4)}))
    assert [each.shape for each in moved.tensors] == [(2, 3, 8, 8), (2, 5), (2, 1, 3, 4)]
    assert torch.equal(moved.tensors[0], images())
    assert moved.tensors[0].is_contiguous(memory_format=torch.channels_last)
    assert moved.tensors[1].is_contiguous()


def flat_loss(told: Tensor, target: Tensor) -> Tensor:
    """As people write it for maps: by view."""
    return F.mse_loss(told.view(len(told), -1), target)


@pytest.mark.parametrize(
    ("ending", "repair"),
    [
        (by_view, "none"),
        (by_view, "reconstruct+distill"),
        (by_view, "moments"),
        (by_view_when_learning, "batchnorm"),
        (maps_themselves, "reconstruct"),
    ],
)
def test_networks_taken_apart_by_view_are_swept(ending: Any, repair: str, tmp_path: Path) -> None:
    network = Small(ending)
    target = torch.randn(48, 256 if ending is maps_themselves else 4, generator=torch.Generator().manual_seed(1))
    batches = [(images(48)[at : at + 16], target[at : at + 16]) for at in range(0, 48, 16)]
    task = secateur.Task(batches, batches, loss=flat_loss, metric=_mean_error)
    result = secateur.sweep(network, task, ratios=(0.0, 0.5), repairs=repair, out=tmp_path / "run", latency_on="none")
    assert not result.failures, [each.error for each in result.failures]
    assert len(result.rows) == 2


def _mean_error(predict: Callable[[Any], Tensor], batches: Any) -> float:
    return 1 / (1 + float(torch.stack([flat_loss(predict(inputs), target) for inputs, target in batches]).mean()))


def test_one_taken_apart_by_view_is_retrained_and_timed(tmp_path: Path) -> None:
    batches = [(images(16), torch.arange(16) % 4)] * 2
    task = secateur.Task(batches, batches, loss=F.cross_entropy, metric="top-1")
    retrained = secateur.Retraining(epochs=1)
    result = secateur.sweep(
        Small(by_view), task, ratios=(0.0, 0.5), retrainings=[None, retrained], out=tmp_path / "run"
    )
    assert not result.failures, [each.error for each in result.failures]
    assert {latency.engine for row in result.rows for latency in row.latencies} >= {"dense", "pruned"}


def test_a_printed_sweep_tells_what_failed(tmp_path: Path) -> None:
    def refuse(network: Any, maps: Tensor) -> Tensor:
        if network.second.weight.eq(0).any():
            raise RuntimeError("no zeros\nare liked")
        return by_flatten(network, maps)

    batches = [(images(16), torch.arange(16) % 4)] * 2
    task = secateur.Task(batches, batches, loss=F.cross_entropy, metric="top-1")
    network = Small(refuse)
    told = str(secateur.sweep(network, task, ratios=(0.5,), repairs="none", out=tmp_path / "run"))
    assert "failed: " in told
    assert "no zeros" in told
    assert "allow more" not in told
