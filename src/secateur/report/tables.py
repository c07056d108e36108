"""Rows as a terminal table, JSON, CSV, Markdown or LaTeX."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence

from rich.table import Table

from secateur.report.records import COLUMNS, record
from secateur.results import Row

SHOWN: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("model", lambda row: row.cell.model),
    ("data", lambda row: row.cell.data),
    ("method", lambda row: row.cell.method),
    ("scope", lambda row: row.cell.scope),
    ("seed", lambda row: str(row.cell.seed)),
    ("ratio", lambda row: f"{100 * row.cell.ratio:g} %"),
    ("accuracy", lambda row: f"{100 * row.test.top1:.2f} %"),
    ("± dense", lambda row: f"{100 * (row.test.top1 - row.trained.test.top1):+.2f}"),
    ("sparsity", lambda row: f"{100 * row.sparsity:.1f} %"),
    ("non-zero MACs", lambda row: f"{_count(row.nonzero_macs)} of {_count(row.macs)}"),
    ("file", lambda row: size_text(row.ours.file_bytes)),
    ("PyTorch's file", lambda row: size_text(row.pytorch.file_bytes) if row.pytorch else "–"),
    ("memory", lambda row: size_text(row.ours.peak_memory)),
    ("PyTorch's", lambda row: size_text(row.pytorch.peak_memory) if row.pytorch else "–"),
    ("latency", lambda row: _latency(row, "pruned")),
    ("dense", lambda row: _latency(row, "dense")),
    ("PyTorch's way", lambda row: _latency(row, "masked")),
)
_TEXT_COLUMNS = 4
_LEGEND = (
    "accuracy: top-1 on test data; memory: what pruning took at most beside the network; latency: batch 1, one "
    "thread, in PyTorch, medians of runs in turns. PyTorch's: torch.nn.utils.prune.l1_unstructured on the same cut."
)


def render(rows: Sequence[Row], form: str) -> str:
    """Rows in one of FORMATS but "table", as text that ends with a newline."""
    return FORMATS[form](rows)


def rich_table(rows: Sequence[Row], best: Sequence[Row] = ()) -> Table:
    """Rows for a terminal; columns that say the same in every row become the title, `best` rows are marked."""
    constant, varying = _split_columns(rows)
    title = ", ".join(f"{name} {value}" if name == "seed" else value for name, value in constant)
    table = Table(title=title or None, title_justify="left", caption=_LEGEND, caption_justify="left")
    for name, _ in varying:
        text = name in dict(SHOWN[:_TEXT_COLUMNS])
        table.add_column(name, justify="left" if text else "right", overflow="fold")
    if best:
        table.add_column("")
    marked = {row.cell.id for row in best}
    for row in rows:
        chosen = row.cell.id in marked
        cells = [show(row) for _, show in varying] + (["← best" if chosen else ""] if best else [])
        table.add_row(*cells, style="bold green" if chosen else None)
    return table


def _split_columns(
    rows: Sequence[Row],
) -> tuple[list[tuple[str, str]], list[tuple[str, Callable[[Row], str]]]]:
    """(constant, varying): what is the same in all rows, of the columns that name a cell, and the others."""
    constant, varying = [], []
    for position, (name, show) in enumerate(SHOWN):
        values = {show(row) for row in rows}
        if position <= _TEXT_COLUMNS and len(values) == 1:
            constant.append((name, values.pop()))
        else:
            varying.append((name, show))
    return constant, varying


def _as_json(rows: Sequence[Row]) -> str:
    return json.dumps([record(row) for row in rows], indent=2) + "\n"


def _as_csv(rows: Sequence[Row]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        flat = record(row)
        flat["versions"] = " ".join(f"{name}={version}" for name, version in flat["versions"].items())
        writer.writerow(flat)
    return out.getvalue()


def _as_markdown(rows: Sequence[Row]) -> str:
    names = [name for name, _ in SHOWN]
    rule = ["---" if position < _TEXT_COLUMNS else "---:" for position in range(len(names))]
    body = [[show(row).replace("|", "\\|") for _, show in SHOWN] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in [names, rule, *body])


def _as_latex(rows: Sequence[Row]) -> str:
    """A booktabs table: needs \\usepackage{booktabs}."""
    alignment = "l" * _TEXT_COLUMNS + "r" * (len(SHOWN) - _TEXT_COLUMNS)
    lines = [
        f"\\begin{{tabular}}{{{alignment}}}",
        "\\toprule",
        _latex_line([name for name, _ in SHOWN]),
        "\\midrule",
        *(_latex_line([show(row) for _, show in SHOWN]) for row in rows),
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


_LATEX = {"\\": r"\textbackslash{}", "%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#", "±": r"$\pm$", "–": "--",
          "{": r"\{", "}": r"\}", "$": r"\$", "^": r"\^{}", "~": r"\~{}"}  # fmt: skip


def _latex_line(values: Sequence[str]) -> str:
    return " & ".join("".join(_LATEX.get(each, each) for each in value) for value in values) + r" \\"


FORMATS: dict[str, Callable[[Sequence[Row]], str]] = {
    "json": _as_json,
    "csv": _as_csv,
    "markdown": _as_markdown,
    "latex": _as_latex,
}


def _count(number: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:g}"


def size_text(count: float | None) -> str:
    if count is None:
        return "–"
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:g} B"


def _latency(row: Row, engine: str) -> str:
    latency = row.latency(engine)
    return f"{latency.median_ms:.3g} ms" if latency else "–"
