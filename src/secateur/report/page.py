"""A run, or several side by side, as one HTML file that needs no network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import jinja2
from plotly.offline import get_plotlyjs

from secateur.report.figures import Chart, accuracy_chart, cost_chart, layers_chart, macs_chart, pytorch_chart
from secateur.report.summary import Run, curves
from secateur.report.tables import SHOWN, TEXT_COLUMNS, size_text
from secateur.report.writing import write_text
from secateur.results import Row
from secateur.selection import Selection, select_best


@dataclass(frozen=True, slots=True)
class Card:
    """One headline: a number, and what it says."""

    value: str
    label: str
    detail: str


@dataclass(frozen=True, slots=True)
class Section:
    """Everything about one network on one data set."""

    title: str
    subtitle: str
    cards: tuple[Card, ...]
    charts: tuple[Chart, ...]


def write_page(runs: Sequence[Run], path: Path, selection: Selection) -> None:
    """Write the report of at least one row to `path`; a failure leaves what was there."""
    write_text(path, render_page(runs, selection))


def render_page(runs: Sequence[Run], selection: Selection) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("secateur.report", "."), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    rows = [row for run in runs for row in run.rows]
    best = {row.cell.id for row in select_best(rows, selection)}
    return environment.get_template("page.html.j2").render(
        title="Secateur: " + ", ".join(run.name for run in runs),
        runs=runs,
        sections=_sections(runs, selection),
        columns=[name for name, _ in SHOWN],
        text_columns=TEXT_COLUMNS,
        table=[
            {"run": run.name, "cells": [show(row) for _, show in SHOWN], "best": row.cell.id in best}
            for run in runs
            for row in run.rows
        ],
        sources=sorted({f"{row.cell.data}: {row.trained.data_source}" for row in rows}),
        machines=_machines(rows),
        repetitions=_repetitions(rows),
        selection=selection.describe(),
        plotly=get_plotlyjs(),
    )


def _sections(runs: Sequence[Run], selection: Selection) -> list[Section]:
    def network(row: Row) -> tuple[str, str]:
        return row.cell.model, row.cell.data

    rows = sorted((row for run in runs for row in run.rows), key=network)
    return [
        _section(model, data, list(members), runs, selection) for (model, data), members in groupby(rows, key=network)
    ]


def _section(model: str, data: str, rows: list[Row], runs: Sequence[Run], selection: Selection) -> Section:
    key = re.sub(r"[^a-z0-9]+", "-", f"{model}-{data}".lower())
    own = [curve for curve in curves(runs) if (curve.model, curve.data) == (model, data)]
    best = next(iter(select_best(rows, selection)), None)
    shown = best or max(rows, key=lambda row: (row.cell.ratio > 0, row.test.top1))
    first = rows[0].trained
    charts = [accuracy_chart(f"{key}-accuracy", "Accuracy over ratio", own)]
    if shown.cell.ratio > 0:
        alike = [row for row in rows if _same_curve(row, shown)]
        charts += [
            cost_chart(f"{key}-bytes", "Accuracy against bytes", rows, "bytes"),
            cost_chart(f"{key}-latency", "Accuracy against latency", rows, "latency"),
            pytorch_chart(f"{key}-pytorch", "PyTorch's way against ours", shown),
            layers_chart(f"{key}-layers", "Sparsity of each layer", alike),
            macs_chart(f"{key}-macs", "Where the multiply-adds are", shown),
        ]
    subtitle = f"{first.parameters:,} parameters, {first.epochs} epochs, dense accuracy {first.test.top1:.2%}"
    return Section(f"{model} on {data}", subtitle, _cards(best), tuple(charts))


def _same_curve(row: Row, other: Row) -> bool:
    fields = ("model", "data", "method", "scope", "seed", "recipe", "exclude", "allow_empty", "norms", "weights")
    return all(getattr(row.cell, name) == getattr(other.cell, name) for name in fields)


def _cards(best: Row | None) -> tuple[Card, ...]:
    if best is None:
        return (Card("none", "no pruned network qualifies", "allow a larger loss with --tolerance"),)
    lost = 100 * (best.trained.test.top1 - best.test.top1)
    cards = [
        Card(f"{best.sparsity:.1%}", "of the weights are zero", f"ratio {best.cell.ratio:g}, scope {best.cell.scope}"),
        Card(f"{best.test.top1:.2%}", "accuracy on test data", f"{-lost:+.2f} points against dense"),
        Card(f"{best.macs / max(1, best.nonzero_macs):.1f} ×", "fewer multiply-adds", "those of non-zero weights"),
    ]
    if best.pytorch:
        share = best.pytorch.file_bytes / best.ours.file_bytes
        about = f"{size_text(best.ours.file_bytes)} instead of {size_text(best.pytorch.file_bytes)}"
        cards.append(Card(f"{share:.1f} ×", "smaller file than PyTorch's pruning", about))
    return tuple(cards)


def _machines(rows: Sequence[Row]) -> list[str]:
    found = {
        f"{row.environment.cpu}, {row.environment.cores} cores, {row.environment.machine}; "
        + ", ".join(f"{name} {version}" for name, version in row.environment.versions.items())
        for row in rows
    }
    return sorted(found)


def _repetitions(rows: Sequence[Row]) -> str:
    seeds = len({row.cell.seed for row in rows})
    tests = sorted({row.test.n for row in rows})
    times = sorted({latency.n for row in rows for latency in row.latencies})
    timed = f"; latencies are medians of {times[0]} to {times[-1]} runs in turns" if times else ""
    return f"{seeds} seed(s); accuracies over {' or '.join(map(str, tests))} test images{timed}"
