from __future__ import annotations

import dataclasses

import pytest

from samples import make_row, on_host
from secateur.intervals import spread
from secateur.report.summary import Run, curve_name, curves, fronts, machine_notes, pareto_front
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


def test_latencies_of_two_machines_have_a_front_each_and_a_note() -> None:
    here, there = on_host(make_row(0.5), "here"), on_host(make_row(0.9), "there")
    assert list(fronts([there, here], "latency")) == ["Pareto front on here", "Pareto front on there"]
    assert list(fronts([here, there], "bytes")) == ["Pareto front"]
    assert list(fronts([here, here], "latency")) == ["Pareto front"]
    (note,) = machine_notes([here, there])
    assert note.startswith("latencies were measured on 2 machines: ")
    assert "there" in note
    assert note.endswith("compare them within one only")
    timed_here = dataclasses.replace(there, timed_on=here.environment)
    assert machine_notes([here, timed_here]) == []


def test_versions_that_differ_are_named_with_their_machines() -> None:
    row = on_host(make_row(0.5), "there")
    versions = dict(row.environment.versions) | {"torch": "0.1"}
    other = dataclasses.replace(row, environment=dataclasses.replace(row.environment, versions=versions), latencies=())
    here = make_row(0.9)
    (note,) = machine_notes([here, other])
    assert note.startswith("torch was not the same for all rows: 0.1 (there); ")
    assert note.endswith(f"({here.environment.host})")
