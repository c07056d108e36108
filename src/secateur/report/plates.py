"""The report's figures for papers: vector files (SVG and PDF), made with matplotlib, a column's width or two."""

from __future__ import annotations

import itertools
import math
import re
import statistics
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, PercentFormatter, StrMethodFormatter

from secateur.records.results import Row
from secateur.records.selection import Selection
from secateur.report.break_even import BreakEven, break_evens
from secateur.report.comparison import MEASURES, compared, line_of
from secateur.report.fronts import AXES, Front, fronts_of
from secateur.report.paper import Comparison
from secateur.report.study import networks_compared, recipe_text
from secateur.report.summary import (
    ALL_BUT_GONE,
    COSTS,
    DASHES,
    ENGINES,
    PALETTE,
    PAPER,
    Chosen,
    Curve,
    Run,
    against_pytorch,
    chosen_rows,
    curve_name,
    curves,
    fronts,
    representative,
    rivals_beside,
    same_curve,
    timed_together,
)
from secateur.report.writing import write_whole
from secateur.support.quantities import percent

FORMATS = ("svg", "pdf")
COLUMN, PAGE = 3.4, 6.9
"""Inches: one column of a two-column page, and both."""

_STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "lines.markersize": 3,
    "lines.linewidth": 1.2,
    "pdf.fonttype": 42,
    "svg.hashsalt": "secateur",
    "savefig.bbox": "tight",
}
_LINES = dict(zip(DASHES, ("-", "--", ":", "-."), strict=True))
_HEADROOM = 0.3
"""Of a drawing's height: what slanting names above its points take."""
_NO_DATE = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}


def write_plates(runs: Sequence[Run], folder: Path, selection: Selection | None = None) -> list[Path]:
    """Every figure of the report as SVG and PDF in a folder; the same rows give the same bytes.

    Raises ReportError where the folder cannot be written.
    """
    written = []
    with matplotlib.rc_context(_STYLE):
        for name, figure in _plates(runs, chosen_rows(runs, selection)).items():
            for form in FORMATS:
                path = folder / f"{name}.{form}"
                write_whole(path, _saver(figure, form))
                written.append(path)
    return written


def _saver(figure: Figure, form: str) -> Callable[[Path], object]:
    return lambda path: figure.savefig(path, format=form, metadata=_NO_DATE[form])


def _plates(runs: Sequence[Run], chosen: Sequence[Chosen]) -> dict[str, Figure]:
    plates: dict[str, Figure] = {}
    for run in runs:
        compared = networks_compared(run.rows)
        suffix = f"-{_file_name(run.name)}" if len(runs) > 1 else ""
        if compared:
            plates[f"paper-figure-4{suffix}"] = _paper_plate(compared)
        flat = [each for members in compared for each in members]
        for model, readings in groupby(flat, key=lambda each: each.published.model):
            plates[f"paper-readings-{model}{suffix}"] = _readings_plate(list(readings))
        for number, record in enumerate(run.searches):
            for front in (drawn := fronts_of(record)):
                over = f"-{front.target}" if len(drawn) > 1 else ""
                plates[f"search-front-{number}{over}{suffix}"] = _front_plate(front)
    for (model, data), own in groupby(curves(runs), key=lambda curve: (curve.model, curve.data)):
        plates |= _network_plates(_file_name(f"{model}-{data}"), list(own), chosen)
    return plates


def _file_name(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _network_plates(key: str, own: Sequence[Curve], chosen: Sequence[Chosen]) -> dict[str, Figure]:
    rows = [row for curve in own for point in curve.points for row in point.rows]
    shown = representative(rows, chosen)
    plates = {f"{key}-accuracy": _accuracy_plate(own)}
    if shown.cell.ratio == 0:
        return plates
    if ways := compared(own):
        plates[f"{key}-comparison"] = _comparison_plate(ways)
    plates |= {f"{key}-{cost}": _cost_plate(rows, cost) for cost in COSTS}
    ordered = timed_together([row for row in rows if same_curve(row, shown)])
    batches = sorted({latency.batch for row in ordered for latency in row.latencies})
    plates |= {f"{key}-time-{batch}": _time_plate(ordered, batch) for batch in batches}
    if lines := break_evens(ordered):
        plates[f"{key}-break-even"] = _break_even_plate(lines)
    plates[f"{key}-layers"] = _layers_plate([row for row in rows if same_curve(row, shown)])
    plates[f"{key}-macs"] = _macs_plate(shown)
    if shown.pytorch:
        plates[f"{key}-pytorch"] = _pytorch_plate(shown)
    return plates


def _axes(width: float, height: float, x: str, y: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height))
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def _front_plate(front: Front) -> Figure:
    """What networks of a search cost and score, the chosen one marked, and the dense one in other engines."""
    figure, axes = _axes(COLUMN, 2.8, AXES[front.target][0], f"{front.metric.name} on validation data")
    axes.step(
        [each.cost for each in front.found], [each.score for each in front.found], where="post", color="#2b9a66",
        marker="o", label="the front",
    )  # fmt: skip
    for label, spots, colour, marker, size in (
        ("best of its kind", front.kinds, "#3b7dd8", "o", 14),
        ("dense elsewhere", front.elsewhere, "#d9622b", "D", 14),
        ("chosen", (front.chosen,), "#2b9a66", "*", 90),
    ):
        axes.scatter(
            [each.cost for each in spots], [each.score for each in spots], c=colour, marker=marker, s=size, label=label,
            zorder=3,
        )  # fmt: skip
    for each in front.elsewhere:
        axes.annotate(
            each.name, (each.cost, each.score), textcoords="offset points", xytext=(1, 5), rotation=35, fontsize=6
        )
    for each in front.kinds:
        axes.annotate(each.name, (each.cost, each.score), textcoords="offset points", xytext=(5, -2), fontsize=6)
    axes.set_xscale("log")
    axes.set_ylim(front.low, front.high + _HEADROOM * (front.high - front.low))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(EngFormatter(sep="") if front.target == "bytes" else StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    if front.metric.in_per_cent:
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    axes.legend(loc="lower right")
    return figure


def _shares(axes: Any, *names: str) -> None:
    for name in names:
        getattr(axes, f"{name}axis").set_major_formatter(PercentFormatter(1, decimals=0))


def _accuracy_plate(own: Sequence[Curve]) -> Figure:
    figure, axes = _axes(COLUMN, 2.5, "pruned share of each layer's weights", "accuracy on test data")
    for number, curve in enumerate(own):
        colour, line = PALETTE[number % len(PALETTE)], _LINES[DASHES[number // len(PALETTE) % len(DASHES)]]
        ratios = [point.ratio for point in curve.points]
        spreads = [point.accuracy for point in curve.points]
        axes.plot(ratios, [each.mean for each in spreads], line, marker="o", color=colour, label=curve_name(curve, own))
        if all(each.low is not None for each in spreads):
            low, high = (
                [max(0.0, each.low or 0.0) for each in spreads],
                [min(1.0, each.high or 0.0) for each in spreads],
            )
            axes.fill_between(ratios, low, high, color=colour, alpha=0.18, linewidth=0)
    for dense in sorted({curve.dense.mean for curve in own}):
        axes.axhline(dense, color="#888888", linewidth=0.7, linestyle=":")
    axes.set_ylim(0, 1.02)
    _shares(axes, "x", "y")
    axes.legend(loc="lower left")
    return figure


def _comparison_plate(ways: Sequence[Curve]) -> Figure:
    """Accuracy over compression, theoretical speed-up, bytes and latency, a line for each way of pruning."""
    figure = Figure(figsize=(PAGE, 5.2), layout="constrained")
    panels = figure.subplots(2, 2, sharey=True)
    for measure, axes in zip(MEASURES, panels.flat, strict=True):
        for number, curve in enumerate(ways):
            line = line_of(curve, measure)
            axes.errorbar(
                [at.x for at in line],
                [at.accuracy.mean for at in line],
                yerr=([at.below for at in line], [at.above for at in line]),
                fmt=f"o{_LINES[DASHES[number // len(PALETTE) % len(DASHES)]]}",
                color=PALETTE[number % len(PALETTE)],
                elinewidth=0.6,
                capsize=1.5,
                markersize=2,
                label=curve_name(curve, ways),
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if not measure.prefixed else (1,)))
        axes.xaxis.set_major_formatter(EngFormatter(sep="") if measure.prefixed else StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(measure.axis)
        axes.set_ylim(0, 1.02)
        _shares(axes, "y")
    for axes in panels[:, 0]:
        axes.set_ylabel("accuracy on test data")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _cost_plate(rows: Sequence[Row], cost: str) -> Figure:
    value, label = COSTS[cost]
    known = [row for row in rows if value(row) is not None]
    figure, axes = _axes(COLUMN, 2.5, label, "accuracy on test data")
    points = axes.scatter(
        [value(row) for row in known], [row.test.value for row in known], c=[row.sparsity for row in known],
        s=10, vmin=0, vmax=1, cmap="viridis",
    )  # fmt: skip
    for (name, front), style in zip(fronts(rows, cost).items(), itertools.cycle(_LINES.values()), strict=False):
        axes.step(
            [value(row) for row in front], [row.test.value for row in front], where="post", color="#d9622b",
            marker="o", markerfacecolor="none", markersize=6, label=name, linestyle=style,
        )  # fmt: skip
    figure.colorbar(points, ax=axes, label="zeros", format=PercentFormatter(1, decimals=0))
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1.02)
    _shares(axes, "y")
    axes.legend(loc="lower left")
    return figure


def _time_plate(rows: Sequence[Row], batch: int) -> Figure:
    images = "one image" if batch == 1 else f"{batch} images"
    figure, axes = _axes(COLUMN, 2.5, "pruned share of the weights", f"milliseconds, {images}, one thread")
    for colour, (engine, name) in zip(("#2b9a66", "#3b7dd8", "#d9622b"), ENGINES.items(), strict=True):
        known = [(row.cell.ratio, latency) for row in rows if (latency := row.latency(engine, batch))]
        if not known:
            continue
        spans = (
            [each.median_ms - each.low_ms for _, each in known],
            [each.high_ms - each.median_ms for _, each in known],
        )
        axes.errorbar(
            [ratio for ratio, _ in known], [each.median_ms for _, each in known], yerr=spans, fmt="o-", color=colour,
            elinewidth=0.6, capsize=1.5, label=name,
        )  # fmt: skip
    dense = [latency.median_ms for row in rows if (latency := row.latency("dense", batch))]
    if dense:
        level = statistics.median(dense)
        axes.axhline(level, color="#888888", linewidth=0.7, linestyle=":", label="dense in PyTorch")
    for (element, each), line in zip(rivals_beside(rows, batch).items(), ("--", "-."), strict=False):
        label = f"dense in {each.engine}, {element}"
        axes.axhline(each.median_ms, color="#888888", linewidth=0.7, linestyle=line, label=label)
    axes.set_ylim(bottom=0)
    _shares(axes, "x")
    axes.legend()
    return figure


def _break_even_plate(lines: Sequence[BreakEven]) -> Figure:
    """Log₂ of times faster than dense, as a map; the ratio of 0, where it is 1 by definition, is left out."""
    places = [place for place, ratio in enumerate(lines[0].ratios) if ratio > 0]
    figure, axes = _axes(PAGE, 0.9 + 0.16 * len(lines), "ratio", "")
    times = [[line.times[place] or math.nan for place in places] for line in lines]
    image = axes.imshow(
        [[math.log2(each) for each in line] for line in times], vmin=-3, vmax=3, cmap="RdYlGn", aspect="auto"
    )
    for y, line in enumerate(times):
        for x, each in enumerate(line):
            if not math.isnan(each):
                colour = "white" if abs(math.log2(each)) > 1.8 else "black"
                axes.text(x, y, f"{each:.1f}", ha="center", va="center", fontsize=5, color=colour)
    axes.set_xticks(range(len(places)), [percent(lines[0].ratios[place]) for place in places])
    axes.set_yticks(range(len(lines)), [f"{line.name}: {line.describe()}" for line in lines])
    axes.grid(False)
    bar = figure.colorbar(image, ax=axes, label="times faster than dense", ticks=[-3, -2, -1, 0, 1, 2, 3])
    bar.ax.set_yticklabels(["⅛", "¼", "½", "1", "2", "4", "8"])
    return figure


def _layers_plate(rows: Sequence[Row]) -> Figure:
    names = [layer.name for layer in rows[0].layers]
    rows = [row for row in rows if row.cell.ratio < ALL_BUT_GONE] or list(rows)
    figure, axes = _axes(COLUMN, 0.9 + 0.13 * len(names), "ratio", "")
    zeros = [[row.layers[position].sparsity for row in rows] for position in range(len(names))]
    image = axes.imshow(zeros, vmin=0, vmax=1, cmap="Greens", aspect="auto")
    axes.set_xticks(range(len(rows)), [percent(row.cell.ratio) for row in rows], rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.grid(False)
    figure.colorbar(image, ax=axes, label="zeros", format=PercentFormatter(1, decimals=0))
    return figure


def _macs_plate(row: Row) -> Figure:
    names = [layer.name for layer in row.layers]
    figure, axes = _axes(COLUMN, 0.9 + 0.13 * len(names), "multiply-adds of one image", "")
    kept = [layer.nonzero_macs for layer in row.layers]
    axes.barh(names, kept, color="#2b9a66", label="non-zero weights")
    axes.barh(
        names, [layer.macs - layer.nonzero_macs for layer in row.layers], left=kept, color="#c9c2b4", label="zeros"
    )
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.legend()
    return figure


def _pytorch_plate(row: Row) -> Figure:
    factors = against_pytorch(row)
    figure, axes = _axes(COLUMN, 0.8 + 0.35 * len(factors), "times the dense network", "")
    places = range(len(factors))
    for shift, name, colour in ((-0.2, "Secateur", "#2b9a66"), (0.2, "torch.nn.utils.prune", "#d9622b")):
        values = [(factor.ours if shift < 0 else factor.pytorch) or 0.0 for factor in factors]
        axes.barh([place + shift for place in places], values, height=0.36, color=colour, label=name)
    axes.set_yticks(list(places), [factor.name for factor in factors])
    axes.axvline(1, color="#888888", linewidth=0.7, linestyle=":")
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.legend()
    return figure


def _paper_plate(compared: Sequence[Sequence[Comparison]]) -> Figure:
    figure, axes = _axes(PAGE, 3.2, "prune ratio as the paper names it", "accuracy on test data")
    first = {members[0].published.model: members[0] for members in reversed(compared)}
    for number, each in enumerate(reversed(first.values())):
        colour = PALETTE[number % len(PALETTE)]
        _draw(axes, each, f"{each.published.model}, ours ({each.recipe.epochs} epochs)", colour, "-")
        _draw_printed(axes, each, f"{each.published.model}, paper", colour)
    return _finished(figure, axes)


def _readings_plate(readings: Sequence[Comparison]) -> Figure:
    figure, axes = _axes(PAGE, 3.2, "prune ratio as the paper names it", "accuracy on test data")
    recipes = list(dict.fromkeys(each.recipe for each in readings))
    keys = list(dict.fromkeys(each.reading.key for each in readings))
    for each in readings:
        colour = PALETTE[keys.index(each.reading.key) % len(PALETTE)]
        line = _LINES[DASHES[recipes.index(each.recipe) % len(DASHES)]]
        several = f", {each.recipe.epochs} epochs, {recipe_text(each)}" if len(recipes) > 1 else ""
        _draw(axes, each, f"{each.reading.key}{several}", colour, line)
    _draw_printed(axes, readings[0], "paper", PAPER)
    return _finished(figure, axes)


def _draw(axes: Any, each: Comparison, name: str, colour: str, line: str) -> None:
    known = [(at.nominal, at.ours) for at in each.lines if at.ours]
    halves = [ours.half for _, ours in known]
    axes.errorbar(
        [nominal for nominal, _ in known],
        [ours.mean for _, ours in known],
        yerr=halves if all(half is not None for half in halves) else None,
        fmt=f"o{line}",
        color=colour,
        elinewidth=0.6,
        capsize=1.5,
        label=name,
    )


def _draw_printed(axes: Any, each: Comparison, name: str, colour: str) -> None:
    axes.plot([at.nominal for at in each.lines], [at.published for at in each.lines], "x:", color=colour, label=name)


def _finished(figure: Figure, axes: Any) -> Figure:
    axes.set_ylim(0, 1.02)
    _shares(axes, "x", "y")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure
