"""Ways of pruning beside each other: which lines, over what, with which intervals."""

from __future__ import annotations

import dataclasses
import statistics
from pathlib import Path

import pytest

from samples import make_row
from secateur.experiments.sweeping import plan_sweep
from secateur.measure.intervals import spread
from secateur.records.results import Row
from secateur.records.selection import Selection
from secateur.records.spec import expand
from secateur.report.comparison import MEASURES, accuracy_grid, compared, line_of
from secateur.report.summary import Run, curves

RATIOS = (0.0, 0.5, 0.9)


def rows_of(method: str, scope: str = "global") -> list[Row]:
    rows = [make_row(ratio, seed, accuracy=0.95 - ratio / 10 - seed / 100) for ratio in RATIOS for seed in range(3)]
    return [dataclasses.replace(row, cell=dataclasses.replace(row.cell, method=method, scope=scope)) for row in rows]


def run_of(*methods: str) -> Run:
    return Run("run", tuple(row for method in methods for row in rows_of(method)), (), ())


def test_controls_stand_last_and_one_way_alone_is_no_comparison() -> None:
    found = compared(curves([run_of("random", "magnitude", "taylor")]))
    assert [curve.method for curve in found] == ["magnitude", "taylor", "random"]
    assert compared(curves([run_of("magnitude")])) == []


def test_a_line_is_the_mean_over_seeds_with_its_interval() -> None:
    (curve,) = curves([run_of("magnitude")])
    lines = [line_of(curve, measure) for measure in MEASURES]
    compression, speedup, size, latency = (line[-1] for line in lines)
    assert compression.accuracy == spread([0.86, 0.85, 0.84])
    assert compression.below == pytest.approx(compression.above) == pytest.approx(compression.accuracy.half)
    wide = dataclasses.replace(compression, accuracy=spread([0.1, 0.9]))
    assert (wide.below, wide.above) == (0.5, 0.5), "an accuracy lies between 0 and 1"
    assert compression.x == pytest.approx(110 / 20)
    assert speedup.x == pytest.approx(410 / 50)
    assert (size.x, latency.x) == (900, 0.25)
    assert [at.ratio for at in lines[0]] == list(RATIOS), "the extremes are there"


def test_what_some_seed_lacks_is_not_averaged_over_the_others() -> None:
    rows = [dataclasses.replace(row, latencies=() if row.cell.seed == 1 else row.latencies) for row in rows_of("snip")]
    (curve,) = curves([Run("run", tuple(rows), (), ())])
    assert line_of(curve, MEASURES[3]) == []
    assert len(line_of(curve, MEASURES[2])) == 3


def test_every_way_at_every_ratio_as_a_table() -> None:
    own = run_of("magnitude", "random")
    lacking = dataclasses.replace(own, rows=own.rows[:-3])
    grid = accuracy_grid(compared(curves([lacking])))
    assert grid.columns == ("way", "0 %", "50 %", "90 %")
    half = 4.303 * statistics.stdev([85, 86, 84]) / 3**0.5
    assert grid.lines[0] == ("magnitude", "94.00 ± 2.48 (3)", "89.00 ± 2.48 (3)", f"85.00 ± {half:.2f} (3)")
    assert grid.lines[1][3] == "–"


def test_the_page_and_the_figures_hold_the_comparison(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    pytest.importorskip("matplotlib")
    from secateur.report.page import render_page
    from secateur.report.plates import write_plates

    text = render_page([run_of("magnitude", "random")], Selection())
    assert "Ways of pruning compared" in text
    assert "every way at every ratio" in text
    assert "Ways of pruning compared" not in render_page([run_of("magnitude")], Selection())
    written = write_plates([run_of("magnitude", "random")], tmp_path, Selection())
    assert tmp_path / "net-data-comparison.svg" in written


def test_all_methods_bring_random_in_magnitudes_proportions() -> None:
    plan = plan_sweep(
        ["lenet-5"], ["digits"], methods=["all"], scopes=["layer", "global"], ratios=[0.5], seeds=[0], exclude=[],
        allow_empty=False, weights=None, recipe={},
    )  # fmt: skip
    ways = [(cell.method, cell.scope) for cell in expand(plan)]
    assert len(ways) == len(set(ways)) == 2 * 11 + 1
    assert ("random", "like:magnitude/global") in ways
    whole = plan_sweep(
        ["lenet-5"], ["digits"], methods=["all"], scopes=["global"], ratios=[0.5], seeds=[0], exclude=[],
        allow_empty=False, weights=None, recipe={}, patterns=["channel-l1"],
    )  # fmt: skip
    assert whole.controls == ()
