"""Rows as curves: what a figure shows and a sentence says. Needs no PyTorch."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from secateur.intervals import Spread, spread
from secateur.results import Row
from secateur.spec import Cell


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
