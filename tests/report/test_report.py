from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from typing import Any

import pytest
import rich.console
from rich.console import Console, RenderableType

from samples import contender, make_row, on_host, search_record
from secateur.records.recipes import Retraining
from secateur.records.results import Latency, Layer, Row
from secateur.records.spec import Cell, WeightsFile
from secateur.report import (
    COLUMNS,
    Grid,
    Printed,
    as_rich,
    curve_lines,
    record,
    remarks,
    render,
    rich_table,
    rows_grid,
    search_grid,
)
from secateur.report.figures import front_chart
from secateur.report.fronts import fronts_of
from secateur.report.grid import sparkline


def printed(*ratios: float, **options: object) -> str:
    return printed_rows([make_row(ratio) for ratio in ratios], **options)


def printed_rows(rows: Sequence[Row], **options: object) -> str:
    console = Console(file=io.StringIO(), width=250)
    console.print(rich_table(rows, **options))  # type: ignore[arg-type]
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_what_is_the_same_in_all_rows_is_said_once() -> None:
    text = printed(0.0, 0.9)
    assert "net, data, magnitude, layer, 20 epochs, decay 0.0005, seed 0" in text
    assert text.count("magnitude") == 1


def test_several_seeds_get_a_column() -> None:
    assert "seed" in printed_rows([make_row(0.5, seed=seed) for seed in (0, 1)])


def test_rows_timed_on_several_machines_say_on_which() -> None:
    here, there = make_row(0.5), on_host(make_row(0.9), "there")
    assert "latency on" not in printed_rows([here, make_row(0.9)])
    told = printed_rows([here, there])
    assert "latency on" in told
    assert "latencies were measured on 2 machines" in told
    assert record(there)["latency_host"] == "there"


def test_best_rows_are_marked() -> None:
    assert printed(0.5, 0.9, best=[make_row(0.9)]).count("← best") == 1


def test_a_narrow_terminal_gets_whole_columns_and_hears_what_is_left_out() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(rich_table([make_row(0.5), make_row(0.9)], [make_row(0.9)], width=80))
    text = str(console.file.getvalue())  # type: ignore[attr-defined]
    assert "│  90 % │  90.00 % │" in text
    assert "No room for: PyTorch's file" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("width", [80, 100, 120])
def test_latency_is_shown_at_every_width_and_what_is_left_out_has_a_place(width: int) -> None:
    rows = [dataclasses.replace(make_row(ratio), packed_bytes=900) for ratio in (0.5, 0.9)]
    told = text_of(rich_table(rows, [rows[1]], width), width)
    assert "latency" in told
    assert "0.25 ms" in told
    assert ("No room for" in told) == ("secateur show RUN --format csv)" in " ".join(told.split()))
    searched = search_record("search", contender("dense", 2.0), contender("uniform", 1.5), contender("search", 1.0))
    shown = text_of(as_rich(search_grid(searched), width), width)
    for text in ("latency", "1 ms", "2.00 ×", "← chosen", "+0.00", "96.00%"):
        assert text in shown
    assert "--format csv" not in shown
    assert max(len(line) for line in (told + shown).splitlines()) <= width


def text_of(shown: RenderableType, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(shown)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_results_print_as_tables_on_terminals_and_in_notebooks(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shown(Printed):
        notes = ("dense 12 %",)

        def grids(self) -> list[Grid]:
            rows = [make_row(ratio, model="<net>") for ratio in (0.5, 0.9)]
            return [rows_grid(rows, rows[1:])]

        def summary(self) -> list[str]:
            return ["run folder: [bold] & <b>"]

    for text in (str(Shown()), repr(Shown()), text_of(Shown(), 100)):
        assert text.startswith("dense 12 %\n")
        assert "│  90 % │  90.00 % │" in text
        assert text.rstrip().endswith("run folder: [bold] & <b>")
    told = str(Shown())
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)
    assert str(Shown()) == told
    page = Shown()._repr_html_()
    assert '<td style="text-align:right">90.00 %</td>' in page
    assert page.count("font-weight:bold") == 1
    assert "run folder: [bold] &amp; &lt;b&gt;" in page
    assert "&lt;net&gt;" in page
    assert "<net>" not in page


def test_what_was_asked_and_what_came_is_said_of_the_best() -> None:
    head = (Layer("fc1", 20, 100, 100, 20), Layer("head", 400, 400, 400, 400))
    row = dataclasses.replace(make_row(0.8), layers=head)
    assert "asked for 80 % zeros, came to 16.0%: head, left whole, holds 80.0% of the weights" in remarks(row, [row])
    whole = dataclasses.replace(row, layers=head[:1])
    assert not any("asked" in line for line in remarks(whole, []))
    times = (Latency("dense", 1, 1, 0.5, 0.4, 0.6, 9), Latency("pruned", 1, 1, 0.5, 0.45, 0.55, 9))
    slow = dataclasses.replace(row, latencies=times)
    assert "no faster than dense in PyTorch: 0.5 ms for one image, dense 0.5 ms" in remarks(slow, [slow])
    assert not any("faster" in line for line in remarks(row, [row]))
    dense = dataclasses.replace(make_row(0.0), latencies=(Latency("secateur", 1, 1, 0.2, 0.19, 0.21, 9),))
    ours = dataclasses.replace(row, latencies=(*row.latencies, Latency("secateur", 1, 1, 0.2, 0.19, 0.21, 9)))
    assert any(line.startswith("no faster than dense in the same runtime") for line in remarks(ours, [dense, ours]))
    assert "caution: 100 validation images are too few for a budget of 1 point" in remarks(row, [row], 1.0)[-1]


def test_curves_are_drawn_in_blocks() -> None:
    assert sparkline([0.0, 0.5, None, 1.0]) == "▁▅ █"
    (line,) = curve_lines([make_row(0.5, seed, accuracy=0.9) for seed in (0, 1)] + [make_row(0.9, accuracy=0.2)])
    assert line == "▇▂  net on data, magnitude/layer: 90.00% at 50 % to 20.00% at 90 %"
    rows = [make_row(0.5), make_row(0.9)]
    fitted = [dataclasses.replace(row, cell=dataclasses.replace(row.cell, repair="reconstruct")) for row in rows]
    ways = [each.partition(":")[0].partition("magnitude/")[2] for each in curve_lines(rows + fitted)]
    assert ways == ["layer, repair none", "layer, repair reconstruct"]


def test_a_record_holds_the_numbers_of_the_row() -> None:
    fields = record(make_row(0.9))
    assert (fields["accuracy"], fields["sparsity"], fields["bytes"]) == (0.9, 1 - 20 / 110, 900)
    assert (fields["macs"], fields["nonzero_macs"], fields["latency_ms"], fields["pytorch_bytes"]) == (
        410,
        50,
        0.25,
        1990,
    )
    assert fields["layers"][0] == {
        "name": "fc1", "kept": 10, "total": 100, "macs": 400, "nonzero_macs": 40, "milliseconds": None, "sparsity": 0.9
    }  # fmt: skip
    assert record(make_row(0.0))["pytorch_bytes"] is None
    assert set(fields) == {*COLUMNS, "layers", "latencies", "left"}


def other(value: object) -> object:
    """Another value of an option, of the same kind."""
    others: dict[type, object] = {
        bool: not value, str: f"{value}x", int: 8, float: 0.625, type(None): 5, tuple: ("a",)
    }  # fmt: skip
    return others[type(value)]


CELL = make_row(0.5).cell
ITERATIVE = Retraining("iterative")
RETRAINED = dataclasses.replace(CELL, retraining=ITERATIVE)
WEIGHTS = dataclasses.replace(CELL, weights=WeightsFile("a.pt", "1"))
NESTED = {"recipe", "retraining", "weights", "layer_ratios", "layer_patterns"}
BY_LAYER = dataclasses.replace(CELL, layer_ratios=(("fc1", 0.25), ("fc2", 0.5)))
WORDS = {"augment": "none", "precision": "bf16", "schedule": "gradual", "rounds": 5, "quantize": "int8"}
"""Options of which not every value will do."""


def changed(options: Any) -> list[Any]:
    """The options with another value of each, one at a time."""
    names = [field.name for field in dataclasses.fields(options) if field.name not in NESTED]
    return [dataclasses.replace(options, **{name: WORDS.get(name) or other(getattr(options, name))}) for name in names]


CHANGED = [
    *((CELL, cell) for cell in changed(CELL)),
    *((CELL, dataclasses.replace(CELL, recipe=recipe)) for recipe in changed(CELL.recipe)),
    *((RETRAINED, dataclasses.replace(CELL, retraining=retraining)) for retraining in changed(ITERATIVE)),
    *((WEIGHTS, dataclasses.replace(CELL, weights=weights)) for weights in changed(WEIGHTS.weights)),
    *((CELL, cell) for cell in (WEIGHTS, RETRAINED, dataclasses.replace(CELL, layer_ratios=(("fc1", 0.25),)))),
    (BY_LAYER, dataclasses.replace(BY_LAYER, layer_patterns=(("fc1", "1x4"),))),
]


@pytest.mark.parametrize(("before", "after"), CHANGED)
def test_every_option_of_a_cell_can_be_told_from_csv(before: Cell, after: Cell) -> None:
    rows = [dataclasses.replace(make_row(0.5), cell=cell) for cell in (before, after)]
    one, two = csv.DictReader(io.StringIO(render(rows, "csv")))
    apart = {name for name in one if one[name] != two[name]} - {"cell"}
    assert apart, "the same but for the id"


def test_layers_ratios_and_exclusions_are_readable_in_csv() -> None:
    cell = dataclasses.replace(CELL, layer_ratios=(("fc1", 0.25),), exclude=("a,b", "c"))
    (line,) = csv.DictReader(io.StringIO(render([dataclasses.replace(make_row(0.5), cell=cell)], "csv")))
    assert json.loads(line["layer_ratios"]) == {"fc1": 0.25}
    assert json.loads(line["exclude"]) == ["a,b", "c"]
    assert (line["recipe_momentum"], line["retraining_schedule"], line["weights"]) == ("0.9", "", "")


def test_text_formats_escape_what_would_break_them() -> None:
    row = make_row(0.5, model="a_b|c")
    assert r"a\_b|c" in render([row], "latex")
    assert r"| a_b\|c |" in render([row], "markdown")
    assert json.loads(render([row], "json"))[0]["model"] == "a_b|c"


def test_the_front_of_a_search_has_every_kind_the_chosen_one_and_the_dense_elsewhere() -> None:
    record = search_record("search", contender("dense", 2.0, 0.95), contender("search", 0.5, 0.94))
    assert record.outcome is not None
    rivals = (Latency("openvino", 1, 1, 1.7, 1.6, 1.8, 9), Latency("onnxruntime-int8", 1, 1, 1.5, 1.4, 1.6, 9))
    (front,) = fronts_of(dataclasses.replace(record, outcome=dataclasses.replace(record.outcome, rivals=rivals)))
    assert [(each.name, each.cost, each.score) for each in front.kinds] == [("dense", 2.0, 0.95), ("search", 0.5, 0.94)]
    assert front.chosen == front.kinds[1]
    beside = [(each.name, each.cost, each.score) for each in front.elsewhere]
    assert beside == [("onnxruntime-int8", 1.5, 0.95), ("openvino", 1.7, 0.95)]  # labels stand above and below in turns
    assert "not measured" in front.elsewhere[0].about
    assert front_chart("key", "title", front).figure.layout.xaxis.tickformat == "~g"  # 0.02 ms, not 20 m of them
    assert front.low < 0.94 < 0.95 < front.high
    assert front.hidden == 0
    assert fronts_of(search_record("search", contender("dense", 2.0), minimize="macs")) == []
