"""Several runs laid side by side, and what keeps them from being compared. Needs no PyTorch."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from itertools import groupby

from secateur.report.grid import Grid, sparkline
from secateur.report.study import spread_text
from secateur.report.summary import Curve, Point, Run, curve_name, curves, machine_notes, timing_host
from secateur.report.tables import size_text
from secateur.support.quantities import percent


def side_by_side(runs: Sequence[Run]) -> list[Grid]:
    """Per network three tables, a column per run and way of pruning: accuracy, saved bytes, latency."""
    grids = []
    for (model, data), members in groupby(curves(runs), key=lambda curve: (curve.model, curve.data)):
        among = list(members)
        if len({curve.run for curve in among}) > 1:
            grids += [_grid(f"{model} on {data}: {what}", among, cell) for what, cell in _TABLES]
    return grids


def _grid(title: str, among: Sequence[Curve], cell: Callable[[Point], str]) -> Grid:
    ratios = sorted({point.ratio for curve in among for point in curve.points})
    by_ratio = [{point.ratio: point for point in curve.points} for curve in among]
    lines = [
        (percent(ratio), *(cell(points[ratio]) if ratio in points else "–" for points in by_ratio)) for ratio in ratios
    ]
    drawn = [sparkline([points[r].accuracy.mean if r in points else None for r in ratios]) for points in by_ratio]
    return Grid(
        elsewhere="secateur show RUN --format csv",
        title=title,
        columns=("ratio", *(curve_name(curve, among) for curve in among)),
        lines=tuple(lines),
        texts=0,
        curves=("", *drawn) if cell is _accuracy else (),
    )


def _accuracy(point: Point) -> str:
    return spread_text(point.accuracy)


def _bytes(point: Point) -> str:
    return size_text(statistics.fmean(row.bytes for row in point.rows))


def _latency(point: Point) -> str:
    """The median over seeds; where they were timed on several machines, one for each."""
    known: dict[str, list[float]] = {}
    for row in point.rows:
        if latency := row.our_latency():
            known.setdefault(timing_host(row), []).append(latency.median_ms)
    texts = {host: f"{statistics.median(times):.3g} ms" for host, times in sorted(known.items())}
    if len(texts) > 1:
        return ", ".join(f"{text} ({host})" for host, text in texts.items())
    return next(iter(texts.values()), "–")


_TABLES = (
    ("accuracy in % on test data, ± the 95 % interval of the mean over seeds", _accuracy),
    ("bytes of the saved network", _bytes),
    ("latency of one image, one thread", _latency),
)


def cautions(runs: Sequence[Run]) -> list[str]:
    """What a reader must know before comparing: other networks, other files, other machines."""
    found = []
    rows = [(run.name, row) for run in runs for row in run.rows]
    for name, own in _alone(runs).items():
        found.append(f"only in {name}: {', '.join(own)}")
    for data in sorted({row.cell.data for _, row in rows}):
        digests = {row.trained.data_digest for _, row in rows if row.cell.data == data}
        if len(digests) > 1:
            found.append(f"{data} was not the same files in all runs: accuracies differ by that too")
    found += machine_notes([row for _, row in rows])
    return found


def _alone(runs: Sequence[Run]) -> dict[str, list[str]]:
    """The networks that some runs measured and others did not, by run."""
    measured = {run.name: {f"{row.cell.model} on {row.cell.data}" for row in run.rows} for run in runs}
    common = set.intersection(*measured.values())
    return {name: sorted(own - common) for name, own in measured.items() if own - common}
