from __future__ import annotations

import dataclasses
import re

import pytest

from samples import contender, make_row, on_host, search_record
from secateur.measure.intervals import spread
from secateur.records.recipes import Recipe
from secateur.records.results import RIVALS, Latency, Row
from secateur.records.selection import Selection
from secateur.report.figures import time_chart
from secateur.report.page import render_page
from secateur.report.searches import search_grid
from secateur.report.summary import (
    Run,
    chosen_rows,
    curve_name,
    curves,
    fronts,
    machine_notes,
    pareto_front,
    rivals_about,
)


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


def test_labels_say_settings_in_an_order_that_stays() -> None:
    (curve,) = curves([Run("a", (make_row(),), (), ())])
    order = ["excluded", "included", "empty layers", "norms", "weights", "pattern", "repair", "retraining", "in"]
    assert [name for name, _ in curve.settings][-11:] == [*order, "calibration images", "calibration seed"]


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


def test_the_page_opens_with_the_network_that_was_chosen_and_says_what_came() -> None:
    rows = [make_row(ratio, accuracy=0.945) for ratio in (0.0, 0.5, 0.9)]
    contenders = [
        dataclasses.replace(contender(name, time, 0.945), cell=row.cell.id)
        for name, time, row in zip(("dense", "search", "uniform"), (2.0, 1.0, 1.5), rows, strict=True)
    ]
    searches = (search_record("search", *contenders),)
    kept = ((rows[1].cell.id, "fastest, by search"),)
    page = render_page([Run("run", tuple(rows), (), (), searches=searches, kept=kept)])
    tiles = page[: page.index("Pareto front")]
    assert "<b>49.1%</b>" not in tiles  # 60 of 110 weights are left at 50 %
    assert "<b>45.5%</b>of the weights are zero" in tiles
    assert "<b>2.0 ×</b>faster than the dense network in the same runtime" in tiles
    assert "fastest, by search" in tiles
    assert "Asked for 50 % zeros, came to 45.5%: fc2, left whole, holds 9.1% of the weights" in tiles
    assert "too few for a budget of 1 point" in tiles
    assert len(re.findall(r'<tr class="best"><td class="text">search</td>', tiles)) == 1
    body = page[page.index('id="results"') :]
    assert [row.split("</td>")[0][-4:] for row in body.split('class="best"')[1:]] == ["50 %"]


def test_what_a_run_kept_is_its_best_unless_another_is_asked_for() -> None:
    rows = tuple(make_row(ratio, accuracy=0.945) for ratio in (0.0, 0.5, 0.9))
    kept = Run("run", rows, (), (), kept=((rows[1].cell.id, "within 7 points"), ("gone", "")))
    assert [(each.row.cell.ratio, each.rule) for each in chosen_rows([kept], None)] == [(0.5, "within 7 points")]
    assert [each.row.cell.ratio for each in chosen_rows([kept], Selection())] == [0.9]
    assert [each.row.cell.ratio for each in chosen_rows([Run("run", rows, (), ())], None)] == [0.9]


def test_best_that_is_no_faster_than_dense_is_no_faster() -> None:
    times = tuple(Latency(name, 1, 1, 0.5, 0.4, 0.6, 9) for name in ("dense", "pruned", "secateur"))
    rows = tuple(dataclasses.replace(make_row(ratio, accuracy=0.945), latencies=times) for ratio in (0.0, 0.9))
    page = render_page([Run("run", rows, (), ())])
    assert "faster than the dense network" not in page.replace("no faster than", "")
    assert "<b>1.0 ×</b>the speed of, so no faster than, the dense network in the same runtime" in page
    assert "No faster than dense in the same runtime: 0.5 ms for one image" in page


def timed(engine: str, milliseconds: float) -> Latency:
    return Latency(engine, 1, 1, milliseconds, 0.99 * milliseconds, 1.01 * milliseconds, 9)


def in_eight_bits(row: Row, ours: float) -> Row:
    cell = dataclasses.replace(row.cell, quantize="int8")
    return dataclasses.replace(row, cell=cell, latencies=(*row.latencies, timed("secateur", ours)))


def test_networks_in_float32_and_in_eight_bits_are_curves_of_their_own() -> None:
    rows = [make_row(ratio) for ratio in (0.0, 0.5)]
    both = curves([Run("", (*rows, *(in_eight_bits(row, 0.1) for row in rows)), (), ())])
    assert [curve_name(each, both) for each in both] == ["in float32", "in int8"]


RIVAL_TIMES = {"onnxruntime": 0.8, "openvino": 0.6, "onnxruntime-int8": 0.2, "openvino-int8": 0.4}


def test_latency_stands_beside_the_best_that_people_would_run_the_dense_network_in() -> None:
    assert RIVAL_TIMES.keys() == RIVALS.keys()
    dense, pruned = in_eight_bits(make_row(0.0), 0.3), in_eight_bits(make_row(0.9, accuracy=0.945), 0.1)
    rivals = tuple(timed(name, each) for name, each in RIVAL_TIMES.items())
    rows = [dataclasses.replace(dense, latencies=(*dense.latencies, *rivals)), pruned]
    chart = time_chart("key", "title", rows, 1)
    assert chart is not None
    told = [each.text for each in chart.figure.layout.annotations]
    assert told[1:] == ["dense in openvino, float32 0.6 ms", "dense in onnxruntime-int8, int8 0.2 ms"]
    page = render_page([Run("run", tuple(rows), (), ())])
    assert "<b>6.0 ×</b>faster than the dense network in openvino (float32)" in page
    assert "<b>2.0 ×</b>faster than the dense network in onnxruntime-int8 (int8)" in page
    some = [dataclasses.replace(dense, latencies=(*dense.latencies, *rivals[:2])), pruned]
    assert rivals_about(some, 1).endswith("of onnxruntime, openvino; not timed: onnxruntime-int8, openvino-int8.")
    assert rivals_about([pruned], 1) == "The dense network was timed in no other engine."


def test_a_search_says_what_its_choice_stands_beside_and_what_was_not_timed() -> None:
    record = search_record("search, int8", contender("dense", 2.0), contender("search, int8", 0.1))
    assert record.outcome is not None
    rivals = tuple(timed(name, RIVAL_TIMES[name]) for name in ("onnxruntime", "openvino", "onnxruntime-int8"))
    outcome = dataclasses.replace(record.outcome, rivals=rivals, absent=(("openvino-int8", "it is not installed"),))
    notes = " ".join(search_grid(dataclasses.replace(record, outcome=outcome)).notes)
    assert "6.00 times as fast as the best in float32 (onnxruntime 0.8 ms, openvino 0.6 ms)" in notes
    assert "2.00 times as fast as the best in int8 (onnxruntime-int8 0.2 ms)" in notes
    assert "Not timed: openvino-int8 (it is not installed)." in notes
