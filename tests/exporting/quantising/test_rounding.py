"""Scales of values and whole numbers of weights, against formulas and brute force."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from secateur.exporting.quantising.moments import Given, gather_moments, layer_of
from secateur.exporting.quantising.ranges import STEPS, Histogram, choose_scale
from secateur.exporting.quantising.rounding import largest_scale, refine, round_layer
from secateur.network.graph import Node


def histogram(values: np.ndarray) -> Histogram:
    found = Histogram()
    for part in np.array_split(values.astype(np.float32), 3):
        found.add(part)
    return found


def squared_error(values: np.ndarray, scale: float, zero_point: int) -> float:
    """Of the numbers themselves, one by one."""
    steps = np.clip(np.round(values / scale) + zero_point, 0, STEPS) - zero_point
    return float(((steps * scale - values) ** 2).mean())


@pytest.mark.parametrize("values", ["normal", "relu", "laplace", "uniform"])
def test_a_scale_is_nearly_the_best_of_all(values: str) -> None:
    random = np.random.default_rng(0)
    drawn = {"normal": random.normal(0.3, 1, 20_000), "relu": np.maximum(random.normal(0, 1, 20_000), 0)}
    drawn |= {"laplace": random.laplace(0, 1, 20_000), "uniform": random.uniform(-1, 2, 20_000)}
    x = drawn[values].astype(np.float32)
    found = choose_scale(histogram(x))
    assert found.error == pytest.approx(squared_error(x, found.scale, found.zero_point), rel=0.05)
    ends = [(x.min() * share, x.max() * other) for share, other in itertools.product(np.linspace(1, 0.3, 15), repeat=2)]
    best = min(
        squared_error(x, (high - low) / STEPS, round(-low * STEPS / (high - low))) for low, high in ends if low <= 0
    )
    assert squared_error(x, found.scale, found.zero_point) <= 1.1 * best
    assert (found.zero_point == 0) == (values == "relu")


@pytest.mark.parametrize(("constant", "scale"), [(0.0, 1.0), (3.0, 3 / 255), (-3.0, 3 / 255)])
def test_a_value_that_never_changes_is_one_of_its_numbers(constant: float, scale: float) -> None:
    found = choose_scale(histogram(np.full(9, constant)))
    assert found.scale == pytest.approx(scale)
    assert (found.number(constant) - found.zero_point) * found.scale == pytest.approx(constant)


def test_weights_one_after_another_are_rounded_nearly_as_well_as_can_be() -> None:
    """Against every choice of neighbouring whole numbers of eight weights, two of which are zero and stay so."""
    random = np.random.default_rng(0)
    x = random.normal(0, 1, (200, 3)) @ random.normal(0, 1, (3, 8)) + random.normal(0, 0.2, (200, 8))
    gram = (x.T @ x / 200).astype(np.float32)
    weight = random.normal(0, 1, 8).astype(np.float32)
    weight[[2, 5]] = 0
    scale = np.float32(0.3)

    def error(numbers: np.ndarray) -> float:
        apart = numbers * scale - weight
        return float(apart @ gram @ apart)

    nearest = np.rint(weight / scale)
    found = refine(
        nearest[None, None], np.full((1, 1), scale), gram[None], (weight @ gram)[None, None], (weight != 0)[None, None]
    )[0, 0]
    choices = [(-1, 0, 1) if each else (0,) for each in weight]
    best = min(error(nearest + np.array(change)) for change in itertools.product(*choices))
    assert best - 1e-6 <= error(found) <= best + 0.25 * (error(nearest) - best)
    assert found[2] == found[5] == 0


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_a_rounded_convolution_gives_what_it_gave_better_than_by_rounding_to_the_nearest(groups: int) -> None:
    torch.manual_seed(0)
    weight, bias = torch.randn(12, 6 // groups, 3, 2) * (torch.rand(12, 6 // groups, 3, 2) < 0.5), torch.randn(12)
    x = torch.randn(64, 1, 9, 9) + 0.3 * torch.randn(64, 6, 9, 9)
    window: dict[str, Any] = {"stride": (2, 1), "padding": (1, 0, 2, 1), "dilation": (1, 2), "groups": groups}

    def outputs(weight: torch.Tensor, bias: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(F.pad(x, (2, 1, 1, 0)), weight, bias, (2, 1), 0, (1, 2), groups)

    expected = outputs(weight, bias, x)
    node = Node("conv", "conv2d", ("x",), {}, window, tuple(expected.shape[1:]))
    layer = layer_of(node, weight.numpy(), bias.numpy())
    found = round_layer([layer], [gather_moments([Given(layer, x.numpy(), x.numpy())])])
    scale = torch.from_numpy(largest_scale(layer.weight).reshape(-1, 1, 1, 1))
    nearest = outputs((weight / scale).round() * scale, bias, x)
    numbers = torch.from_numpy(found.numbers * found.scale[..., None]).reshape(weight.shape)
    rounded = outputs(numbers, torch.from_numpy(found.biases[0].reshape(-1)), x)
    gain = 0.8 if groups < 6 else 1.0  # channels alike make good for each other's errors
    assert (rounded - expected).square().mean() < gain * (nearest - expected).square().mean()
    assert not numbers[weight == 0].any()
    signal = 12 * float((rounded - expected)[56:].square().mean())
    assert found.error == pytest.approx(signal, rel=0.2)


def test_moments_are_those_of_what_each_position_sees() -> None:
    torch.manual_seed(0)
    weight, x = torch.randn(4, 3, 3, 3), torch.randn(32, 3, 5, 5)
    node = Node("c", "conv2d", ("x",), {}, {"stride": (1, 1), "padding": (1, 1, 1, 1), "dilation": (1, 1), "groups": 1})
    node = Node(node.name, node.op, node.inputs, {}, node.attributes, (4, 5, 5))
    found = gather_moments([Given(layer_of(node, weight.numpy(), None), x.numpy(), x.numpy())])
    rows = F.unfold(x[:28], 3, padding=1).transpose(1, 2).reshape(-1, 27)
    centred = rows - rows.mean(0)
    assert found.gram is not None
    assert found.slope is not None
    assert np.allclose(found.gram[0], centred.T @ centred / len(rows), atol=1e-4)
    assert np.allclose(found.slope[0], weight.reshape(4, 27) @ (centred.T @ centred) / len(rows), atol=1e-3)
