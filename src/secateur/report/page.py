"""A run, or several side by side, as one HTML file that needs no network."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import jinja2
from plotly.offline import get_plotlyjs

from secateur.records.environment import environment
from secateur.records.kept import place_of
from secateur.records.results import Latency, Outcome, Row, SearchRecord
from secateur.records.selection import Selection, faster
from secateur.report.analysis import READING, AnalysisResult, headlines
from secateur.report.comparison import accuracy_grid, compared
from secateur.report.figures import (
    Chart,
    accuracy_chart,
    break_even_chart,
    comparison_chart,
    cost_chart,
    foreseen_chart,
    front_chart,
    layers_chart,
    macs_chart,
    paper_chart,
    pytorch_chart,
    readings_chart,
    spending_chart,
    time_chart,
)
from secateur.report.fronts import Front, fronts_of
from secateur.report.grid import Grid
from secateur.report.paper import Comparison, citation
from secateur.report.remarks import dense_in_runtime, remarks
from secateur.report.searches import asked_for, search_grids
from secateur.report.side_by_side import cautions, side_by_side
from secateur.report.study import collapse_text, networks_compared, recipe_text, study_grids
from secateur.report.summary import (
    Chosen,
    Run,
    chosen_cell,
    chosen_rows,
    curves,
    fastest_rivals,
    representative,
    rivals_beside,
    same_curve,
    timed_together,
)
from secateur.report.tables import FORMATS, SHOWN, TEXT_COLUMNS, legend, render, said_once, size_text, split_columns
from secateur.report.writing import write_text
from secateur.support.quantities import percent
from secateur.support.references import short


@dataclass(frozen=True, slots=True)
class Card:
    """One headline: a number, and what it says."""

    value: str
    label: str
    detail: str


@dataclass(frozen=True, slots=True)
class Section:
    """Everything about one network on one data set, or the paper's study."""

    title: str
    subtitle: str
    cards: tuple[Card, ...]
    charts: tuple[Chart, ...]
    grids: tuple[Grid, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Download:
    """The numbers of the page as a file that a button saves."""

    name: str
    label: str
    text: str


def write_page(
    runs: Sequence[Run],
    path: Path,
    selection: Selection | None = None,
    analyses: Sequence[AnalysisResult] = (),
) -> None:
    """Write the report of at least one row to `path`; a failure leaves what was there.

    Without a selection the networks that the runs kept are their best. analyses: of those, made on this machine.

    Raises ReportError where the place cannot be written.
    """
    write_text(path, render_page(runs, selection, analyses))


def render_page(
    runs: Sequence[Run], selection: Selection | None = None, analyses: Sequence[AnalysisResult] = ()
) -> str:
    chosen = chosen_rows(runs, selection)
    rules = dict.fromkeys(each.rule for each in chosen) or {(selection or Selection()).describe(): None}
    rows = [row for run in runs for row in run.rows]
    return _rendered(
        brand="Secateur report",
        title=", ".join(run.name for run in runs),
        overview=f"{_overview(runs, rows)}. Best: {'; '.join(rules)}",
        runs=runs,
        cautions=cautions(runs),
        sections=[
            *_paper_sections(runs),
            *_search_sections(runs, chosen),
            *_sections(runs, chosen),
            *_side_by_side(runs),
            *map(analysis_section, analyses),
        ],
        table=_table(runs, chosen),
        legend=legend(rows),
        downloads=_downloads(runs, rows),
        sources=sorted({f"{short(row.cell.data)}: {row.trained.data_source}" for row in rows}),
        machines=_machines(rows),
        repetitions=_repetitions(rows),
        commands=[command for run in runs for command in run.commands],
    )


def write_analysis(found: AnalysisResult, path: Path, command: str) -> None:
    """Write what `analyze` found as a page of its own; a failure leaves what was there.

    command: what was typed. Raises ReportError where the place cannot be written.
    """
    here, section = environment(), analysis_section(found)
    text = _rendered(
        brand="Secateur analysis",
        title=found.name,
        overview=f"{_plural(len(found.analysis.layers), 'step')} of the runtime's plan, timed one by one",
        runs=(),
        cautions=(),
        sections=[dataclasses.replace(section, title="Layer by layer")],
        table=None,
        legend="",
        downloads=[Download("analysis.json", "JSON", json.dumps(found.to_json(), separators=(",", ":")))],
        sources=[],
        machines=[f"{here.cpu}, {here.cores} cores, {here.machine}"],
        repetitions="Of a step the fastest of its runs counts, of the whole the median of runs in turns",
        commands=[command],
    )
    write_text(path, text)


def analysis_section(found: AnalysisResult) -> Section:
    """Where the time of a network goes, as measured here, and what would change that."""
    key = re.sub(r"[^a-z0-9]+", "-", f"analysis-{found.name}".lower())
    cards = tuple(Card(*each) for each in headlines(found.analysis))
    charts = (
        spending_chart(f"{key}-time", "Where the time goes", found.analysis),
        *([foreseen_chart(f"{key}-foreseen", "What would help", found.analysis)] if found.analysis.changes else []),
    )
    about = f"{found.notes[0]}, measured here."
    grids = tuple(dataclasses.replace(grid, notes=(line,)) for grid, line in zip(found.grids(), READING, strict=True))
    told = tuple(line for line in found.summary() if line not in READING)
    return Section(f"Layer by layer: {found.name}", about, cards, charts, grids, told)


def _rendered(**values: object) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("secateur.report", "."), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("page.html.j2").render(plotly=packed(get_plotlyjs()), packed=packed, **values)


def packed(text: str) -> str:
    """Text as base64 of gzip, which the page unpacks: a third of the size, the same bytes for the same text."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _overview(runs: Sequence[Run], rows: Sequence[Row]) -> str:
    networks = len({row.trained.key for row in rows})
    days = sorted({row.measured_at[:10] for row in rows})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return f"{_plural(len(rows), 'measurement')} of {_plural(networks, 'trained network')}, {when}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _table(runs: Sequence[Run], chosen: Sequence[Chosen]) -> dict[str, object]:
    """Every row as texts, without the columns that say the same in all of them: those are said once."""
    rows = [row for run in runs for row in run.rows]
    best = {id(each.row) for each in chosen}
    constant, varying = split_columns(rows)
    several = len(runs) > 1
    names = [name for name, _ in varying]
    return {
        "once": said_once(constant),
        "columns": ["run", *names] if several else names,
        "texts": sum(name in _TEXTS for name in names) + several,
        "rows": [
            {
                "best": id(row) in best,
                "cells": [*([run.name] if several else []), *(show(row) for _, show in varying)],
            }
            for run in runs
            for row in run.rows
        ],
    }


_TEXTS = [name for name, _ in SHOWN[:TEXT_COLUMNS]]


def _downloads(runs: Sequence[Run], rows: Sequence[Row]) -> list[Download]:
    names = [run.name for run in runs for _ in run.rows] if len(runs) > 1 else []
    labels = {"csv": "CSV", "json": "JSON", "markdown": "Markdown", "latex": "LaTeX"}
    suffixes = {"csv": "csv", "json": "json", "markdown": "md", "latex": "tex"}
    return [
        Download(f"results.{suffixes[form]}", labels[form], _tightened(render(rows, form, names), form))
        for form in sorted(FORMATS, key=list(labels).index)
    ]


def _tightened(text: str, form: str) -> str:
    """JSON without its indentation, which would double the page."""
    return json.dumps(json.loads(text), separators=(",", ":")) if form == "json" else text


def _paper_sections(runs: Sequence[Run]) -> list[Section]:
    """Ours beside the paper's, for each run that holds some of its networks."""
    sections = []
    for number, run in enumerate(runs):
        compared = networks_compared(run.rows)
        if compared:
            name = f" ({run.name})" if len(runs) > 1 else ""
            charts = [paper_chart(f"paper-{number}", "Figure 4: accuracy over the paper's ratios", compared)]
            charts += [
                readings_chart(f"paper-{number}-{model}", f"Readings of the procedure: {model}", own)
                for model, own in _by_model(compared)
                if len(own) > 1
            ]
            sections.append(
                Section(
                    title=f"Beside the paper{name}",
                    subtitle=f"{citation()}.",
                    cards=tuple(_closest_card(readings) for readings in compared),
                    charts=tuple(charts),
                    grids=tuple(study_grids(run.rows)),
                )
            )
    return sections


def _search_sections(runs: Sequence[Run], chosen: Sequence[Chosen]) -> list[Section]:
    """What the searches of each run found, beside uniform, global and dense networks; first what was chosen."""
    sections = []
    for run in runs:
        if grids := search_grids(run.searches):
            title = f"Search ({run.name})" if len(runs) > 1 else "Search"
            about = "The ratio of every layer that costs least and loses no more than it may, and its rivals."
            best = next((each for each in chosen if each.row in run.rows), None)
            cards = _cards(best, runs) if best else ()
            key = re.sub(r"[^a-z0-9]+", "-", f"search-{run.name}".lower())
            fronts = [(record, front) for record in run.searches for front in fronts_of(record)]
            charts = tuple(
                front_chart(f"{key}-{number}", _front_title(front, record if len(run.searches) > 1 else None), front)
                for number, (record, front) in enumerate(fronts)
            )
            sections.append(Section(title, about, cards, charts, tuple(grids), _remarks(best, runs)))
    return sections


def _front_title(front: Front, search: SearchRecord | None) -> str:
    """search: where there are several."""
    title = f"{front.metric.name} against {'latency' if front.target == 'latency' else 'bytes'}".capitalize()
    return title if search is None else f"{title}: {asked_for(search)}"


def _remarks(best: Chosen | None, runs: Sequence[Run]) -> tuple[str, ...]:
    """What has to be said of a network that was chosen, by which rule first."""
    if best is None:
        return ()
    return (best.rule, *remarks(best.row, _run_of(best.row, runs).rows, best.tolerance))


def _closest_card(readings: Sequence[Comparison]) -> Card:
    """Which reading comes closest to what was printed, and whether it falls apart at the same ratio."""
    closest = min(readings, key=lambda each: each.distance)
    label = f"off the paper on average: {closest.published.model}, {recipe_text(closest)}, {closest.reading.key}"
    return Card(f"{closest.distance:.1f} points", label, collapse_text(closest))


def _by_model(compared: Sequence[Sequence[Comparison]]) -> list[tuple[str, list[Comparison]]]:
    """Every reading under every recipe of each network."""
    flat = [each for members in compared for each in members]
    return [(model, list(own)) for model, own in groupby(flat, key=lambda each: each.published.model)]


def _side_by_side(runs: Sequence[Run]) -> list[Section]:
    grids = side_by_side(runs) if len(runs) > 1 else []
    about = "The same ways of pruning in every run, a column each."
    return [Section("Side by side", about, (), (), tuple(grids))] if grids else []


def _sections(runs: Sequence[Run], chosen: Sequence[Chosen]) -> list[Section]:
    def network(row: Row) -> tuple[str, str]:
        return row.cell.model, row.cell.data

    rows = sorted((row for run in runs for row in run.rows), key=network)
    return [_section(model, data, list(members), runs, chosen) for (model, data), members in groupby(rows, key=network)]


def _section(model: str, data: str, rows: list[Row], runs: Sequence[Run], chosen: Sequence[Chosen]) -> Section:
    key = re.sub(r"[^a-z0-9]+", "-", f"{model}-{data}".lower())
    own = [curve for curve in curves(runs) if (curve.model, curve.data) == (model, data)]
    own_chosen = [each for each in chosen if (each.row.cell.model, each.row.cell.data) == (model, data)]
    best, shown = next(iter(own_chosen), None), representative(rows, own_chosen)
    charts = [accuracy_chart(f"{key}-accuracy", "Accuracy over ratio", own)]
    ways = compared(own)
    if ways:
        charts.append(comparison_chart(f"{key}-comparison", "Ways of pruning compared", ways))
    if shown.cell.ratio > 0:
        alike = [row for row in _run_of(shown, runs).rows if same_curve(row, shown)]
        ordered = timed_together(alike)
        times = (
            time_chart(f"{key}-time-1", "Latency over ratio: one image", ordered, 1),
            time_chart(f"{key}-time-64", "Latency over ratio: 64 images", ordered, 64),
            break_even_chart(f"{key}-break-even", "Break-even: from here on faster than dense", ordered),
        )
        charts += [
            cost_chart(f"{key}-bytes", "Accuracy against bytes", rows, "bytes"),
            cost_chart(f"{key}-latency", "Accuracy against latency", rows, "latency"),
            *(chart for chart in times if chart),
            layers_chart(f"{key}-layers", "Sparsity of each layer", alike),
            macs_chart(f"{key}-macs", "Where the multiply-adds are", shown),
            *([pytorch_chart(f"{key}-pytorch", "PyTorch's way against ours", shown)] if shown.pytorch else []),
        ]
    grids = (accuracy_grid(ways),) if ways else ()
    said = best is not None and bool(search_grids(_run_of(best.row, runs).searches))  # above, by the search's section
    cards, told = ((), ()) if said else (_cards(best, runs), _remarks(best, runs))
    return Section(f"{short(model)} on {short(data)}", _dense_text(rows), cards, tuple(charts), grids, told)


def _dense_text(rows: Sequence[Row]) -> str:
    """The dense networks of a section: size, training, accuracy."""
    networks = {row.trained.key: row.trained for row in rows}.values()
    epochs = " or ".join(str(each) for each in sorted({each.epochs for each in networks}))
    accuracies = sorted(each.test.value for each in networks)
    told = rows[0].trained.test.metric.text
    level = told(accuracies[0]) if len(networks) == 1 else f"{told(accuracies[0])} to {told(accuracies[-1])}"
    sources = "; ".join(sorted({each.data_source for each in networks}))
    return (
        f"{next(iter(networks)).parameters:,} parameters; {_plural(len(networks), 'dense network')}, {epochs} epochs, "
        f"{level} on test data ({sources})."
    )


def _cards(chosen: Chosen | None, runs: Sequence[Run]) -> tuple[Card, ...]:
    if chosen is None:
        return (Card("none", "no pruned network qualifies", "allow a larger loss with --tolerance"),)
    best = chosen.row
    gained = round(-best.test.lost_from(best.trained.test), 2) + 0.0  # which turns -0.0 into 0.0
    cards = [
        Card(f"{best.sparsity:.1%}", "of the weights are zero", _best_text(best, runs)),
        Card(best.test.text, f"{best.test.metric.name} on test data", f"{gained:+.2f} points against dense"),
        Card(f"{best.macs / max(1, best.nonzero_macs):.1f} ×", "fewer multiply-adds", "those of non-zero weights"),
    ]
    if best.pytorch:
        share = best.pytorch.file_bytes / best.bytes
        about = f"{size_text(best.bytes)} instead of {size_text(best.pytorch.file_bytes)}"
        cards.append(Card(f"{share:.1f} ×", "smaller file than PyTorch's pruning", about))
    if shipped := _shipped(best, _run_of(best, runs)):
        cards.insert(0, shipped)
    ours, *dense = _times(best, _run_of(best, runs))
    for each, where in zip(dense, ("in PyTorch", "in the same runtime"), strict=True):
        if ours and each:
            cards.append(_speed_card(ours, each, where))
    if ours:
        rivals = _rivals(best, _run_of(best, runs), ours.batch)
        cards += [_speed_card(ours, each, f"in {each.engine} ({element})") for element, each in rivals.items()]
    return tuple(cards)


def _shipped(best: Row, run: Run) -> Card | None:
    """The file of the best network, where the run has one."""
    kept = place_of(run.folder / "best", best.cell.model, best.cell.data)
    path = next((each for each in (kept.packed, kept.path) if each.exists()), None)
    if path is None or best.cell.id not in {cell for cell, _ in run.kept}:
        return None
    return Card(size_text(path.stat().st_size), "the file to ship", f"best/{path.name}")


def _rivals(best: Row, run: Run, batch: int) -> dict[str, Latency]:
    """The fastest of other engines in float32 and in int8, timed as _times has it."""
    outcomes = _outcomes(best, run)
    if outcomes:
        return fastest_rivals(outcomes[-1].rivals)
    alike = [row for row in run.rows if row.trained.key == best.trained.key and row.timing == best.timing]
    return rivals_beside(alike, batch)


def _outcomes(best: Row, run: Run) -> list[Outcome]:
    """What the searches found that chose a row."""
    return [each.outcome for each in run.searches if each.outcome and chosen_cell(each.outcome) == best.cell.id]


def _times(best: Row, run: Run) -> tuple[Latency | None, Latency | None, Latency | None]:
    """Its latency, the dense network's in PyTorch and in Secateur's runtime: those of the search that chose it, as they
    were taken in turns, else those of the rows."""
    outcomes = _outcomes(best, run)
    if outcomes:
        outcome = outcomes[-1]
        dense = outcome.contender("dense")
        there = dense.latency if dense.cell != best.cell.id else None
        return outcome.contender(outcome.chosen).latency, outcome.pytorch, there
    return best.latency("secateur"), best.latency("dense"), dense_in_runtime(best, run.rows)


def _speed_card(ours: Latency, dense: Latency, where: str) -> Card:
    what = "faster than" if faster(ours, dense) else "the speed of, so no faster than,"
    images = "one image" if ours.batch == 1 else f"{ours.batch} images"
    about = f"{ours.median_ms:.3g} ms instead of {dense.median_ms:.3g} ms for {images} on one thread"
    return Card(f"{dense.median_ms / ours.median_ms:.1f} ×", f"{what} the dense network {where}", about)


def _best_text(best: Row, runs: Sequence[Run]) -> str:
    cell = best.cell
    norms = ["norms pruned"] if cell.norms else []
    norms += [f"in {cell.element_told}"] if cell.quantize != "none" else []
    parts = [percent(cell.ratio), f"{cell.method}/{cell.scope}", *norms, f"seed {cell.seed}"]
    return ", ".join([*([_run_of(best, runs).name] if len(runs) > 1 else []), *parts])


def _run_of(row: Row, runs: Sequence[Run]) -> Run:
    return next(run for run in runs if any(each is row for each in run.rows))


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
    return f"{_plural(seeds, 'seed')}; accuracies over {' or '.join(map(str, tests))} test images{timed}"
