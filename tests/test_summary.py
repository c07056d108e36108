from __future__ import annotations

import dataclasses

import pytest

from samples import make_row
from secateur.intervals import spread
from secateur.report.summary import Run, curve_name, curves, pareto_front
from secateur.spec import Recipe


def test_the_interval_is_students_t() -> None:
    # mean 5, standard deviation 1, t(0.975, 2) = 4.303, so half the width is 4.303 / sqrt(3)
    measured = spread([4.0, 5.0, 6.0])
    assert (measured.mean, measured.n) == (5, 3)
    assert measured.low == pytest.approx(5 - 2.4843, abs=1e-4)
    assert measured.high == pytest.approx(5 + 2.4843, abs=1e-4)
    assert spread([0.5]).low is None


def test_seeds_become_points_and_ratios_curves() -> None:
    rows = tuple(make_row(ratio, seed, accuracy=0.9 - seed / 10) for seed in (0, 1) for ratio in (0.9, 0.5))
    (curve,) = curves([Run("a", rows, (), ())])
    assert [point.ratio for point in curve.points] == [0.5, 0.9]
    assert curve.points[0].accuracy.mean == pytest.approx(0.85)
    assert curve.dense.n == 2
    assert [each.run for each in curves([Run("b", rows, (), ()), Run("a", rows, (), ())])] == ["b", "a"]


def test_different_recipes_are_different_curves() -> None:
    row = make_row(0.5)
    longer = dataclasses.replace(row, cell=dataclasses.replace(row.cell, recipe=Recipe(epochs=40)))
    both = curves([Run("a", (row, longer), (), ())])
    assert [curve_name(curve, both) for curve in both] == ["epochs 20", "epochs 40"]


def test_the_front_holds_what_nothing_beats() -> None:
    rows = [make_row(ratio, accuracy=accuracy) for ratio, accuracy in ((0.1, 0.9), (0.5, 0.95), (0.6, 0.8), (0.9, 0.7))]
    front = pareto_front(rows, cost=lambda row: row.nonzero_macs)
    assert [row.cell.ratio for row in front] == [0.9, 0.6, 0.5]
