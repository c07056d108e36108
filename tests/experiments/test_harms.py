from __future__ import annotations

import math

import pytest

from secateur.experiments.searching.harms import harms_of_levels


def test_a_layer_shows_its_harm_at_a_few_levels() -> None:
    asked: list[int] = []

    def harm(level: int) -> float:
        asked.append(level)
        return 1e-4 * 2.0**level if level < makeable else math.inf

    makeable = 99
    found = harms_of_levels(13, harm)
    assert asked == [2, 4, 8, 12]
    assert found[2:] == pytest.approx([1e-4 * 2.0**level for level in range(2, 13)])
    assert found[:2] == [0.0, found[2] / 2]
    for makeable in range(1, 13):  # from there on it cannot be made
        found = harms_of_levels(13, harm)
        assert all(math.isinf(each) for each in found[makeable:])
        assert all(math.isfinite(each) for each in found[:makeable])
    assert [len(harms_of_levels(count, lambda _: 0.0)) for count in range(1, 8)] == list(range(1, 8))
    assert harms_of_levels(9, lambda level: 0.6 * level)[5:] == [math.inf] * 4  # hopeless at the second already
