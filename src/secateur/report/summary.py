"""Rows as curves: what a figure shows and a sentence says. Needs no PyTorch."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from secateur.measure.intervals import Spread, spread
from secateur.records.results import RIVALS, Failure, Latency, Outcome, Row, SearchRecord
from secateur.records.scores import Metric
from secateur.records.selection import Selection, select_best
from secateur.records.spec import OPTIONS, Cell

PALETTE = ("#3b7dd8", "#d9622b", "#2b9a66", "#a253c6", "#c2971b", "#c43d6b", "#1897a6", "#7a6a58")
"""Chosen to be told apart on white and on near-black, and in grey when printed with their dashes."""

ALL_BUT_GONE = 0.9995
"""Ratios from here on leave nothing to see in a map of layers."""

CONTROL = "random"
"""The method that says what any choice of weights is worth."""

DASHES = ("solid", "dash", "dot", "dashdot")
PAPER = "#8a8a8a"
"""What was printed, beside ours: grey, dotted, crossed."""

_FIRST = ("exclude", "include", "allow_empty", "norms", "weights")
_SAID = tuple(sorted(OPTIONS, key=lambda each: each.name not in _FIRST))
"""Options as labels say them, which is also how curves are ordered: first which weights there are and may go."""


@dataclass(frozen=True, slots=True)
class Point:
    """The rows of one curve at one ratio, a row per seed."""

    ratio: float
    rows: tuple[Row, ...]

    @property
    def accuracy(self) -> Spread:
        return spread([row.test.value for row in self.rows])

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
    def metric(self) -> Metric:
        """What its scores count."""
        return self.points[0].rows[0].test.metric

    @property
    def dense(self) -> Spread:
        """Scores of the networks that the curve started from, one per seed."""
        networks = {row.trained.key: row.trained.test.value for point in self.points for row in point.rows}
        return spread(list(networks.values()))


@dataclass(frozen=True, slots=True)
class Run:
    """A run folder as the report needs it. kept: the cells of the networks in it, and the rule that chose each."""

    name: str
    rows: tuple[Row, ...]
    failures: tuple[Failure, ...]
    commands: tuple[str, ...]
    folder: Path = Path()
    searches: tuple[SearchRecord, ...] = ()
    kept: tuple[tuple[str, str], ...] = ()


def curves(runs: Iterable[Run]) -> list[Curve]:
    """Every curve of some runs, sorted by network, then by run (as given) and way of pruning, controls last."""

    def way(item: tuple[int, str, Row]) -> tuple[str, str, int, str, bool, str, str, tuple[tuple[str, str], ...]]:
        position, name, row = item
        cell = row.cell
        return cell.model, cell.data, position, name, cell.method == CONTROL, cell.method, cell.scope, _settings(cell)

    labelled = sorted(((position, run.name, row) for position, run in enumerate(runs) for row in run.rows), key=way)
    made = []
    for (model, data, _, name, _, method, scope, settings), members in groupby(labelled, key=way):
        points = _points(row for _, _, row in members)
        made.append(Curve(name, model, data, method, scope, settings, points))
    return made


def _settings(cell: Cell) -> tuple[tuple[str, str], ...]:
    recipe = {name.replace("_", " "): f"{value}" for name, value in dataclasses.asdict(cell.recipe).items()}
    told = [(option.option.setting, getattr(cell, option.name)) for option in _SAID]
    others = {setting[0]: setting[1](value) for setting, value in told if setting}
    return tuple((recipe | others).items())


def _points(rows: Iterable[Row]) -> tuple[Point, ...]:
    ordered = sorted(rows, key=lambda row: row.cell.ratio)
    return tuple(Point(ratio, tuple(members)) for ratio, members in groupby(ordered, key=lambda row: row.cell.ratio))


def curve_name(curve: Curve, among: Sequence[Curve]) -> str:
    """What tells a curve from the others beside it."""
    parts = [
        str(getattr(curve, field))
        for field in ("run", "method", "scope")
        if len({getattr(each, field) for each in among}) > 1
    ]
    parts += settings_apart(curve, among)
    return ", ".join(parts) or f"{curve.method}, {curve.scope}"


def settings_apart(curve: Curve, among: Sequence[Curve]) -> list[str]:
    """The settings in which a curve differs from some beside it."""
    return [
        f"{name} {value}"
        for position, (name, value) in enumerate(curve.settings)
        if len({each.settings[position] for each in among}) > 1
    ]


def pareto_front(rows: Sequence[Row], cost: Callable[[Row], float]) -> list[Row]:
    """The rows that no other row beats in both cost (lower is better) and test accuracy, cheapest first."""
    front: list[Row] = []
    for row in sorted(rows, key=lambda row: (cost(row), -row.test.rank)):
        if not front or row.test.rank > front[-1].test.rank:
            front.append(row)
    return front


@dataclass(frozen=True, slots=True)
class Factor:
    """A cost of a pruned network as times the dense network's: Secateur's and that of torch.nn.utils.prune."""

    name: str
    ours: float | None
    pytorch: float | None


def against_pytorch(row: Row) -> list[Factor]:
    """Saved size, memory (the weights and what pruning adds) and latencies of a row, both ways.

    The memory taken while pruning is left out for networks under 3 MB, where it is the allocator's slack.
    Raises ValueError for a dense row, which has no counterpart in PyTorch's pruning.
    """
    if row.pytorch is None:
        raise ValueError("the dense network has no counterpart in PyTorch's pruning")
    weights = 4 * sum(layer.total for layer in row.layers)
    ours, theirs, size = row.ours, row.pytorch, row.trained.file_bytes

    def memory(extra: int | None) -> float | None:
        return None if extra is None else (weights + extra) / weights

    factors = [Factor("saved file", row.bytes / size, theirs.file_bytes / size)]
    if weights >= 3e6:
        factors.append(Factor("memory while pruning", memory(ours.peak_memory), memory(theirs.peak_memory)))
    factors.append(Factor("memory afterwards", memory(ours.held_memory), memory(theirs.held_memory)))
    for batch in (1, 64):
        if dense := _median(row, "dense", batch):
            sides = (row.our_latency(batch), row.latency("masked", batch))
            shares = (side.median_ms / dense if side else None for side in sides)
            factors.append(Factor(f"latency, batch {batch}", *shares))
    return factors


def _median(row: Row, engine: str, batch: int) -> float | None:
    latency = row.latency(engine, batch)
    return latency.median_ms if latency else None


def _our_median(row: Row) -> float | None:
    latency = row.our_latency()
    return latency.median_ms if latency else None


COSTS: dict[str, tuple[Callable[[Row], float | None], str]] = {
    "bytes": (lambda row: row.bytes, "bytes of the saved network"),
    "latency": (_our_median, "latency of one image in ms (one thread)"),
}
"""What accuracy is drawn against: a row's cost, and the name of its axis."""


ENGINES = {"secateur": "Secateur's runtime", "pruned": "PyTorch, zeros in place", "masked": "torch.nn.utils.prune"}
"""What a pruned network is timed in, by the name in its row; the dense one in PyTorch is drawn as a level."""


def fastest_rivals(latencies: Iterable[Latency]) -> dict[str, Latency]:
    """float32 and int8 → the fastest of the engines in which people would run the dense network so, of those timed."""
    ordered = sorted(latencies, key=lambda each: -each.median_ms)
    found = {RIVALS[each.engine]: each for each in ordered if each.engine in RIVALS}
    return {element: found[element] for element in ("float32", "int8") if element in found}


def rivals_beside(rows: Sequence[Row], batch: int) -> dict[str, Latency]:
    """Likewise, of rows that were timed together."""
    return fastest_rivals(each for row in rows for each in row.rivals(batch))


def rivals_about(rows: Sequence[Row], batch: int) -> str:
    """Which of the other engines the dense network was timed in, and in which not."""
    timed = {each.engine for row in rows for each in row.rivals(batch)}
    missing = [name for name in RIVALS if name not in timed]
    if not timed:
        return "The dense network was timed in no other engine."
    untimed = f"; not timed: {', '.join(missing)}" if missing else ""
    return f"The dense network's levels are the fastest in float32 and in int8 of {', '.join(sorted(timed))}{untimed}."


def fronts(rows: Sequence[Row], cost: str) -> dict[str, list[Row]]:
    """The Pareto front under its name; of latency one for each machine, as they compare within one only."""
    value, _ = COSTS[cost]
    known = [row for row in rows if value(row) is not None]
    machines = sorted({timing_host(row) for row in known}) if cost == "latency" else []
    parts = {f"Pareto front on {host}": [row for row in known if timing_host(row) == host] for host in machines}
    parts = parts if len(parts) > 1 else {"Pareto front": known}
    return {name: pareto_front(part, lambda row: value(row) or 0.0) for name, part in parts.items()}


def timing_host(row: Row) -> str:
    """The machine on which the row's latencies were measured; "–" where they were not."""
    return row.timing.host if row.timing else "–"


def timed_together(rows: Sequence[Row]) -> list[Row]:
    """Those that were timed on the machine of the first of them, in order of their ratio."""
    ordered = sorted(rows, key=lambda row: row.cell.ratio)
    return [row for row in ordered if timing_host(row) == timing_host(ordered[0])]


def machine_notes(rows: Sequence[Row]) -> list[str]:
    """What a reader must know where rows come from several machines, or from differing versions of what made them."""
    timings = [row.timing for row in rows if row.timing]
    machines = sorted({f"{each.host} ({each.cpu}, {each.cores} cores)" for each in timings})
    found = []
    if len(machines) > 1:
        found.append(
            f"latencies were measured on {len(machines)} machines: {'; '.join(machines)}: compare them within one only"
        )
    environments = [*(row.environment for row in rows), *timings]
    for name in sorted({name for each in environments for name in each.versions}):
        hosts: dict[str, set[str]] = {}
        for each in environments:
            if name in each.versions:
                hosts.setdefault(each.versions[name], set()).add(each.host)
        if len(hosts) > 1:
            told = (f"{version} ({', '.join(sorted(where))})" for version, where in sorted(hosts.items()))
            found.append(f"{name} was not the same for all rows: {'; '.join(told)}")
    return found


@dataclass(frozen=True, slots=True)
class Chosen:
    """A row that was chosen, and by which rule. tolerance: the points that it might lose, None where nobody knows."""

    row: Row
    rule: str
    tolerance: float | None


def chosen_rows(runs: Sequence[Run], selection: Selection | None) -> list[Chosen]:
    """The best of each network by a selection; without one, what each run kept itself, or would by its default."""
    if selection is not None:
        return _selected([row for run in runs for row in run.rows], selection)
    return [each for run in runs for each in _kept_by(run)]


def _kept_by(run: Run) -> list[Chosen]:
    rules, rows = dict(run.kept), {row.cell.id: row for row in run.rows}
    known = [Chosen(rows[cell], rule, _tolerance(run, cell, rule)) for cell, rule in rules.items() if cell in rows]
    named = {(each.row.cell.model, each.row.cell.data) for each in known}
    others = _selected(run.rows, Selection())
    return known + [each for each in others if (each.row.cell.model, each.row.cell.data) not in named]


def _selected(rows: Sequence[Row], selection: Selection) -> list[Chosen]:
    tolerance = selection.tolerance if selection.rule == "validation" else None
    return [Chosen(row, selection.describe(), tolerance) for row in select_best(rows, selection)]


def _tolerance(run: Run, cell: str, rule: str) -> float | None:
    searches = [each for each in run.searches if each.outcome and chosen_cell(each.outcome) == cell]
    if searches:
        return float(json.loads(searches[-1].spec)["max_drop"])
    return Selection().tolerance if rule == Selection().describe() else None


def chosen_cell(outcome: Outcome) -> str:
    return outcome.contender(outcome.chosen).cell


def representative(rows: Sequence[Row], chosen: Sequence[Chosen]) -> Row:
    """The row that stands for a network where one is drawn: what was chosen, else the most accurate pruned one."""
    among = {row.cell.id for row in rows}
    best = (each.row for each in chosen if each.row.cell.id in among and each.row.cell.ratio > 0)
    return next(best, None) or max(rows, key=lambda row: (row.cell.ratio > 0, row.test.rank))


def same_curve(row: Row, other: Row) -> bool:
    """Whether two rows differ in their ratio alone."""
    return dataclasses.replace(row.cell, ratio=other.cell.ratio) == other.cell
