"""Rows as a terminal table, JSON, CSV, Markdown or LaTeX."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Collection, Sequence
from typing import Any

from rich.console import Group

from secateur.records.patterns import UNSTRUCTURED
from secateur.records.results import Latency, Row
from secateur.records.scores import TOP1, Metric, Score
from secateur.report.grid import Grid, as_latex, as_markdown, as_rich, sparkline
from secateur.report.records import COLUMNS, record
from secateur.report.summary import Run, curves, machine_notes, settings_apart, timing_host
from secateur.support.quantities import percent
from secateur.support.references import short

TIMED_ON = "latency on"
SCORE = "accuracy"
SHOWN: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("model", lambda row: short(row.cell.model)),
    ("data", lambda row: short(row.cell.data)),
    ("method", lambda row: row.cell.method),
    ("scope", lambda row: f"{row.cell.scope} and norms" if row.cell.norms else row.cell.scope),
    ("pattern", lambda row: row.cell.patterns_told or UNSTRUCTURED),
    ("repair", lambda row: row.cell.repair),
    ("retraining", lambda row: row.cell.retraining.way if row.cell.retraining else "none"),
    ("precision", lambda row: row.cell.element_told),
    ("training", lambda row: training_text(row)),
    (TIMED_ON, timing_host),
    ("seed", lambda row: str(row.cell.seed)),
    ("ratio", lambda row: percent(row.cell.ratio)),
    (SCORE, lambda row: score_text(row.test)),
    ("± dense", lambda row: f"{-row.test.lost_from(row.trained.test) + 0.0:+.2f}"),
    ("sparsity", lambda row: f"{100 * row.sparsity:.1f} %"),
    ("non-zero MACs", lambda row: f"{count_text(row.nonzero_macs)} of {count_text(row.macs)}"),
    ("file", lambda row: size_text(row.bytes)),
    ("PyTorch's file", lambda row: size_text(row.pytorch.file_bytes) if row.pytorch else "–"),
    ("memory", lambda row: size_text(row.ours.peak_memory)),
    ("PyTorch's", lambda row: size_text(row.pytorch.peak_memory) if row.pytorch else "–"),
    ("latency", lambda row: milliseconds_text(row.our_latency())),
    ("dense", lambda row: milliseconds_text(row.latency("dense"))),
    ("PyTorch's way", lambda row: milliseconds_text(row.latency("masked"))),
)
TEXT_COLUMNS = 10
RANKS = (
    "ratio", SCORE, "± dense", "latency", "file", "sparsity", "dense", "non-zero MACs", "PyTorch's way",
    "PyTorch's", "memory", "PyTorch's file",
)  # fmt: skip
"""Columns in the order in which a narrow terminal keeps them, after those that name a cell."""

CSV = "secateur show RUN --format csv"
_LEGEND = (
    "{score} on test data; file: .secateur; memory: what pruning took at most beside the network; latency: "
    "batch 1, one thread, medians of runs in turns, the pruned network in Secateur's runtime, dense in PyTorch. "
    "PyTorch's: torch.nn.utils.prune.l1_unstructured on the same cut."
)


def render(rows: Sequence[Row], form: str, runs: Sequence[str] = ()) -> str:
    """Rows in one of FORMATS, as text that ends with a newline; runs, if given, names the run of each row."""
    return FORMATS[form](rows, runs)


def rows_grid(rows: Sequence[Row], best: Sequence[Row] = (), elsewhere: str = CSV) -> Grid:
    """Rows for people; `best` ones are marked. Columns that say the same in every row become the title."""
    constant, varying = split_columns(rows)
    chosen = {row.cell.id for row in best}
    names = [name for name, _ in varying]
    metrics = {row.test.metric for row in rows}
    ranked = sorted(range(len(names)), key=lambda position: _rank(names[position]))
    return Grid(
        title=said_once(constant),
        columns=tuple(_called(name, metrics) for name in names),
        lines=tuple(tuple(show(row) for _, show in varying) for row in rows),
        texts=sum(name in dict(SHOWN[:TEXT_COLUMNS]) for name in names),
        notes=(legend(rows), *machine_notes(rows)),
        ranks=tuple(ranked),
        elsewhere=elsewhere,
        marked=tuple(number for number, row in enumerate(rows) if row.cell.id in chosen),
        mark="← best",
    )


def _called(name: str, metrics: Collection[Metric]) -> str:
    """The heading of a column: that of scores is their metric, where all have one."""
    return next(iter(metrics)).name if name == SCORE and len(metrics) == 1 else name


def legend(rows: Sequence[Row]) -> str:
    """What the columns of rows mean."""
    metrics = {row.test.metric for row in rows}
    told = [", ".join(filter(None, (f"{each.name}: {_better(each)}", each.a_point))) for each in metrics]
    return _LEGEND.format(score="; ".join(sorted(told)) or "accuracy: top-1")


def _better(metric: Metric) -> str:
    if metric == TOP1:
        return "top-1"
    return "higher is better" if metric.higher else "lower is better"


def _rank(name: str) -> int:
    return RANKS.index(name) if name in RANKS else -1


def rich_table(rows: Sequence[Row], best: Sequence[Row] = (), width: int | None = None) -> Group:
    """rows_grid for a terminal, of a width if one is given."""
    return as_rich(rows_grid(rows, best), width)


def said_once(constant: Sequence[tuple[str, str]]) -> str:
    """What is the same in all rows, as one line; that nothing was patterned, repaired, retrained or
    quantised goes unsaid, and so
    does the one machine that measured latencies."""
    told = [(name, value) for name, value in constant if name != TIMED_ON and (name, value) not in _USUAL]
    return ", ".join(f"{name} {value}" if name in ("repair", "retraining", "seed") else value for name, value in told)


_USUAL = (("pattern", UNSTRUCTURED), ("repair", "none"), ("retraining", "none"), ("precision", "float32"))


def curve_lines(rows: Sequence[Row]) -> list[str]:
    """A small drawing of accuracy over ratio for each way of pruning each network, seeds averaged."""
    drawn = []
    every = curves([Run("", tuple(rows), (), ())])
    for curve in every:
        accuracies = [point.accuracy.mean for point in curve.points]
        if len(accuracies) > 1:
            ends = (
                f"{curve.metric.text(each.accuracy.mean)} at {percent(each.ratio)}"
                for each in (curve.points[0], curve.points[-1])
            )
            beside = [each for each in every if (each.model, each.data) == (curve.model, curve.data)]
            way = ", ".join(
                [
                    f"{short(curve.model)} on {short(curve.data)}",
                    f"{curve.method}/{curve.scope}",
                    *settings_apart(curve, beside),
                ]
            )
            drawn.append(f"{sparkline(accuracies)}  {way}: {' to '.join(ends)}")
    return drawn


def split_columns(
    rows: Sequence[Row],
) -> tuple[list[tuple[str, str]], list[tuple[str, Callable[[Row], str]]]]:
    """(constant, varying): what is the same in all rows, of the columns that name a cell, and the others."""
    constant, varying = [], []
    for position, (name, show) in enumerate(SHOWN):
        values = {show(row) for row in rows}
        if position <= TEXT_COLUMNS and len(values) == 1:
            constant.append((name, values.pop()))
        else:
            varying.append((name, show))
    return constant, varying


def _as_json(rows: Sequence[Row], runs: Sequence[str]) -> str:
    return json.dumps(_records(rows, runs), indent=2) + "\n"


def _as_csv(rows: Sequence[Row], runs: Sequence[str]) -> str:
    out = io.StringIO()
    columns = [*(["run"] if runs else []), *COLUMNS]
    writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for flat in _records(rows, runs):
        flat["versions"] = " ".join(f"{name}={version}" for name, version in flat["versions"].items())
        writer.writerow({name: _in_a_field(value) for name, value in flat.items()})
    return out.getvalue()


def _in_a_field(value: Any) -> Any:
    """Lists and mappings as JSON, nothing where they are empty."""
    return (json.dumps(value) if value else "") if isinstance(value, (list, dict)) else value


def _records(rows: Sequence[Row], runs: Sequence[str]) -> list[dict[str, Any]]:
    if not runs:
        return [record(row) for row in rows]
    return [{"run": run} | record(row) for run, row in zip(runs, rows, strict=True)]


def _as_markdown(rows: Sequence[Row], runs: Sequence[str]) -> str:
    return as_markdown(_whole(rows, runs))


def _as_latex(rows: Sequence[Row], runs: Sequence[str]) -> str:
    return as_latex(_whole(rows, runs))


def _whole(rows: Sequence[Row], runs: Sequence[str]) -> Grid:
    names, lines = [name for name, _ in SHOWN], [[show(row) for _, show in SHOWN] for row in rows]
    if runs:
        names, lines = ["run", *names], [[run, *line] for run, line in zip(runs, lines, strict=True)]
    return Grid("", tuple(names), tuple(map(tuple, lines)), TEXT_COLUMNS + bool(runs))


FORMATS: dict[str, Callable[[Sequence[Row], Sequence[str]], str]] = {
    "json": _as_json,
    "csv": _as_csv,
    "markdown": _as_markdown,
    "latex": _as_latex,
}


def training_text(row: Row) -> str:
    """How the dense network came to be, as far as sweeps tend to differ in it."""
    if row.cell.weights:
        return f"weights {row.cell.weights.path}"
    return f"{row.cell.recipe.epochs} epochs, decay {row.cell.recipe.weight_decay:g}"


def score_text(score: Score) -> str:
    """As the table has it: an accuracy in per cent, another metric as it is told."""
    return f"{100 * score.value:.2f} %" if score.is_accuracy else score.text


def count_text(number: float) -> str:
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


def milliseconds_text(latency: Latency | None) -> str:
    return f"{latency.median_ms:.3g} ms" if latency else "–"
