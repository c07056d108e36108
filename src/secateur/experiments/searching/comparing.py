"""The searched network beside dense, uniform and global ones: rows of the pipeline, and latencies in turns."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from secateur.experiments.cache import NetworkCache
from secateur.experiments.calling import Engine, given_of, in_pytorch, in_runtime
from secateur.experiments.pipeline import STAGES, make_network, run_cell
from secateur.experiments.searching.finding import Found, Trials, kind_of, undominated
from secateur.experiments.searching.plan import Search
from secateur.measure.latency import compare_latency
from secateur.modules.guarding import copied
from secateur.network.limits import NO_LIMITS
from secateur.records.results import Contender, FrontPoint, Latency, Outcome, Row
from secateur.records.scores import Score
from secateur.records.selection import Budget, choose, within
from secateur.records.spec import Cell
from secateur.records.store import Store
from secateur.runtime import Session
from secateur.support.progress import Reporter

PYTORCH = "dense in PyTorch"
LONGER = 8.0
"""Times as long as elsewhere latencies are measured where the choice depends on them."""
SHOWN = 5
"""Points of the front that are measured whole."""


def compare(
    search: Search, found: Mapping[str, Found], trials: Trials, cache: NetworkCache, store: Store, reporter: Reporter
) -> Outcome:
    """Measure whole what may be chosen and what shows the front, latencies of all in one run, in turns.

    Of each kind the best that holds is a contender, and of these the best is chosen, whatever kind it is of.
    """
    by_id = {cell.id: cell for cell in trials.judged}
    shown = [search.dense, *(by_id[point.cell] for point in front_shown(trials.front()))]
    names = {
        cell: kind_of(cell, search) for cell in [*shown, *(cell for each in found.values() for cell in each.cells)]
    }
    rows = measured_rows(list(names), cache, store, reporter, trials.judged)
    pytorch, rivals, latencies = _latencies(search, names, cache)
    networks = {
        cell: _contender(name, rows[cell.id], latencies.get(cell.id), trials.bound(cell))
        for cell, name in names.items()
    }
    contenders = tuple(
        dataclasses.replace(
            _best([networks[cell] for cell in each.cells], networks[search.dense], search.budget),
            name=name,
            tried=each.tried,
        )
        for name, each in found.items()
    )
    dense = networks[search.dense]
    absent = cache.rivals(search.dense, [search.batch]).absent
    outcome = Outcome("", contenders, pytorch, (), search.budget.cost(dense, dense), rivals, absent)
    chosen = choose(within(outcome, search.budget), dense, search.budget).best
    front = measured_front(networks.values(), dense, search.budget, chosen.cell)
    return dataclasses.replace(outcome, chosen=chosen.name, front=front)


def _best(kind: Sequence[Contender], dense: Contender, budget: Budget) -> Contender:
    """Of a kind's networks, those within the budget as they were measured, if there are any."""
    return choose([each for each in kind if budget.holds(each, dense)] or kind, dense, budget).best


def measured_front(
    networks: Iterable[Contender], dense: Contender, budget: Budget, chosen: str
) -> tuple[FrontPoint, ...]:
    """Those that no other one beats in validation accuracy and what is minimized, cheapest first; and the chosen one,
    whose beater may lose too much elsewhere, or be another of the same cost."""
    several = budget.targets if len(budget.targets) > 1 else ()
    points = [
        FrontPoint(each.cell, budget.cost(each, dense), each.validation, each.name, tuple(map(each.cost, several)))
        for each in networks
    ]
    kept = {each.cell for each in undominated(points)} | {chosen}
    return tuple(sorted((each for each in points if each.cell in kept), key=lambda each: each.cost))


def front_shown(front: Sequence[FrontPoint]) -> list[FrontPoint]:
    """As many of a front as are measured whole, its ends among them, evenly spaced in accuracy."""
    if len(front) <= SHOWN:
        return list(front)
    low, high = front[0].validation.value, front[-1].validation.value
    aims = [low + (high - low) * step / (SHOWN - 1) for step in range(SHOWN)]
    nearest = [min(front, key=lambda each: abs(each.validation.value - aim)) for aim in aims]
    return list(dict.fromkeys(nearest))


def measured_rows(
    cells: Sequence[Cell],
    cache: NetworkCache,
    store: Store,
    reporter: Reporter,
    judged: Mapping[Cell, Score | None] | None = None,
) -> dict[str, Row]:
    """A row for each cell, by its id; they go into the store as they are measured, and what is there stays. judged: as
    run_cell has it."""
    missing = [cell for cell in cells if cell.id not in store.done()]
    with reporter.task("measuring the networks found", len(cells), len(cells) - len(missing)) as task:
        for cell in missing:
            with reporter.task(cell.nickname(), len(STAGES), brief=True) as stages:
                store.add(
                    run_cell(cell, cache, stages, weigh=False, judged=judged)
                )  # most of them were made a moment ago
            task.advance(1, cell.describe)
    wanted = {cell.id for cell in cells}
    return {row.cell.id: row for row in store.rows() if row.cell.id in wanted}


def _contender(name: str, row: Row, latency: Latency | None, bound: float | None) -> Contender:
    return Contender(
        name=name,
        cell=row.cell.id,
        ratio=row.cell.ratio,
        validation=row.validation,
        test=row.test,
        kept=sum(layer.kept for layer in row.layers),
        macs=row.nonzero_macs,
        bytes=row.bytes,
        latency=latency,
        tried=0,
        bound=bound,
    )


def _latencies(
    search: Search, cells: Iterable[Cell], cache: NetworkCache
) -> tuple[Latency | None, tuple[Latency, ...], dict[str, Latency]]:
    """Of the dense network in PyTorch and in its rivals; by cell, in Secateur's runtime; in one run, in turns, on one
    thread.

    None and nothing where the runtime cannot run the network.
    """
    dense, _ = cache.trained(search.dense)
    rivals = cache.rivals(search.dense, [search.batch]).engines
    engines: dict[str, Engine] = {PYTORCH: in_pytorch(copied(dense), cache.channels_last(search.dense)), **rivals}
    for cell in cells:
        graph = cache.graph(make_network(cell, cache, weigh=False)[0], cell)
        if graph is None:
            return None, (), {}
        engines[cell.id] = in_runtime(Session(graph, limits=NO_LIMITS))
    example = given_of(cache.data(search.dense).example(search.batch), dense)
    measured = {
        each.engine: each
        for each in compare_latency(engines, example, same_output=(PYTORCH, search.dense.id), longer=LONGER)
    }
    return (
        measured.pop(PYTORCH),
        tuple(measured.pop(name) for name in rivals),
        {cell: dataclasses.replace(each, engine="secateur") for cell, each in measured.items()},
    )
