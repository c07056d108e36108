from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Sequence

from rich.console import Console

from samples import make_row, on_host
from secateur.report import COLUMNS, curve_lines, record, render, rich_table
from secateur.report.grid import sparkline
from secateur.results import Row


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
    assert set(fields) == {*COLUMNS, "layers", "latencies"}


def test_text_formats_escape_what_would_break_them() -> None:
    row = make_row(0.5, model="a_b|c")
    assert r"a\_b|c" in render([row], "latex")
    assert r"| a_b\|c |" in render([row], "markdown")
    assert json.loads(render([row], "json"))[0]["model"] == "a_b|c"
