"""Rows as curves: what a figure shows and a sentence says. Needs no PyTorch."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from secateur.results import Row
from secateur.spec import Cell


@dataclass(frozen=True, slots=True)
class Spread:
    """A mean over seeds with its 95 % confidence interval (Student's t); low and high are None for one seed."""

    mean: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True, slots=True)
class Point:
    """The rows of one curve at one ratio, a row per seed."""

    ratio: float
    rows: tuple[Row, ...]

    @property
    def accuracy(self) -> Spread:
        return spread([row.test.top1 for row in self.rows])

    @property
    def density(self) -> float:
        return statistics.fmean(1 - row.sparsity for row in self.rows)


@dataclass(frozen=True, slots=True)
class Curve:
    """One way of training and pruning one network in one run, over ratios.

    settings: everything else that its cells have in common (recipe, excluded layers, checkpoint), as text.
    """

    run: str
    model: str
    data: str
    method: str
    scope: str
    settings: tuple[tuple[str, str], ...]
    points: tuple[Point, ...]

    @property
    def dense(self) -> Spread:
        """Accuracy of the networks that the curve started from, one per seed."""
        networks = {row.trained.key: row.trained.test.top1 for point in self.points for row in point.rows}
        return spread(list(networks.values()))


@dataclass(frozen=True, slots=True)
class Run:
    """A run folder as the report needs it."""

    name: str
    rows: tuple[Row, ...]
    failures: tuple[str, ...]
    commands: tuple[str, ...]


# The 97.5 % points of Student's t for 1 to 30 degrees of freedom (Fisher & Yates 1938, table III).
_T975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


def spread(values: Sequence[float]) -> Spread:
    """Mean and 95 % confidence interval of at least one value."""
    mean, n = statistics.fmean(values), len(values)
    if n == 1:
        return Spread(mean, None, None, 1)
    t = _T975[n - 2] if n - 1 <= len(_T975) else 1.96
    half = t * statistics.stdev(values) / math.sqrt(n)
    return Spread(mean, mean - half, mean + half, n)


def curves(runs: Iterable[Run]) -> list[Curve]:
    """Every curve of some runs, sorted by network, then by run and way of pruning."""

    def way(item: tuple[str, Row]) -> tuple[str, str, str, str, str, tuple[tuple[str, str], ...]]:
        name, row = item
        return row.cell.model, row.cell.data, name, row.cell.method, row.cell.scope, _settings(row.cell)

    labelled = sorted(((run.name, row) for run in runs for row in run.rows), key=way)
    made = []
    for (model, data, name, method, scope, settings), members in groupby(labelled, key=way):
        points = _points(row for _, row in members)
        made.append(Curve(name, model, data, method, scope, settings, points))
    return made


def _settings(cell: Cell) -> tuple[tuple[str, str], ...]:
    recipe = {name.replace("_", " "): f"{value}" for name, value in dataclasses.asdict(cell.recipe).items()}
    weights = Path(cell.weights.path).name if cell.weights else "trained here"
    others = {
        "excluded": ", ".join(cell.exclude) or "nothing",
        "empty layers": "allowed" if cell.allow_empty else "refused",
        "norms": "pruned" if cell.norms else "kept",
        "weights": weights,
    }
    return tuple((recipe | others).items())


def _points(rows: Iterable[Row]) -> tuple[Point, ...]:
    ordered = sorted(rows, key=lambda row: row.cell.ratio)
    return tuple(Point(ratio, tuple(members)) for ratio, members in groupby(ordered, key=lambda row: row.cell.ratio))


def pareto_front(rows: Sequence[Row], cost: Callable[[Row], float]) -> list[Row]:
    """The rows that no other row beats in both cost (lower is better) and test accuracy, cheapest first."""
    front: list[Row] = []
    for row in sorted(rows, key=lambda row: (cost(row), -row.test.top1)):
        if not front or row.test.top1 > front[-1].test.top1:
            front.append(row)
    return front
