"""Intervals, against the examples that their papers print."""

from __future__ import annotations

import math

import pytest

from secateur.measure.intervals import TELLING, lost_interval, smallest_loss, wilson
from secateur.records.scores import Score


@pytest.mark.parametrize(
    ("right", "images", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_is_the_one_that_newcombe_prints(right: int, images: int, low: float, high: float) -> None:
    found = wilson(Score(right / images, images))
    assert found == pytest.approx((low, high), abs=5e-5)  # Newcombe 1998, Statistics in Medicine 17, 857, table I


@pytest.mark.parametrize(
    ("dense", "own", "low", "high"),
    [((56, 70), (48, 80), 0.0524, 0.3339), ((9, 10), (3, 10), 0.1705, 0.8090), ((10, 10), (0, 10), 0.6075, 1.0)],
)
def test_the_interval_of_a_loss_is_the_one_that_newcombe_prints(
    dense: tuple[int, int], own: tuple[int, int], low: float, high: float
) -> None:
    found = lost_interval(*(Score(right / images, images) for right, images in (own, dense)))
    assert found == pytest.approx((100 * low, 100 * high), abs=5e-3)  # the same volume, 873, table II, method 10


def test_fewer_images_lost_than_telling_could_be_chance() -> None:
    chance = [2 * math.comb(lost, 0) / 2**lost for lost in range(1, 10)]
    assert next(lost for lost, p in enumerate(chance, 1) if p <= 0.05) == TELLING
    assert smallest_loss(240) == 2.5
    assert smallest_loss(2) == 100.0
