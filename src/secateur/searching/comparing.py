"""The searched network beside dense, uniform and global ones: rows of the pipeline, and latencies in turns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from secateur.cache import NetworkCache, uses_channels_last
from secateur.graph import Graph
from secateur.guarding import copied
from secateur.measure import compare_latency
from secateur.models import find_architecture
from secateur.pipeline import STAGES, make_network, run_cell
from secateur.progress import Reporter
from secateur.results import Contender, FrontPoint, Latency, Outcome, Row
from secateur.runtime import Session
from secateur.searching.finding import Found, Trials
from secateur.searching.plan import Search
from secateur.spec import Cell
from secateur.store import Store

DENSE, UNIFORM, GLOBAL, SEARCHED = "dense", "uniform", "global", "search"
RETRAINED = ", retrained"
PYTORCH = "dense in PyTorch"
SHOWN = 5
"""Points of the front that are measured whole."""

Engine = Callable[[Tensor], Tensor]


def compare(
    search: Search,
    found: Mapping[str, Found],
    trials: Trials,
    dense_cost: float,
    cache: NetworkCache,
    store: Store,
    reporter: Reporter,
) -> Outcome:
    """Measure every network that was found whole; the chosen one costs least of those searched."""
    cells = {each.cell.id: each.cell for each in found.values()}
    rows = measured_rows(list(cells.values()), cache, store, reporter)
    pytorch, latencies = _latencies(search, found, cache)
    contenders = tuple(
        _contender(name, rows[each.cell.id], latencies.get(name), each.tried) for name, each in found.items()
    )
    searched = [each for each in contenders if each.name.startswith(SEARCHED)]
    chosen = min(searched, key=lambda each: each.cost(search.minimize))
    return Outcome(chosen.name, contenders, pytorch, trials.front(), dense_cost)


def front_shown(front: Sequence[FrontPoint]) -> list[FrontPoint]:
    """As many of a front as are measured whole, its ends among them, evenly spaced in accuracy."""
    if len(front) <= SHOWN:
        return list(front)
    low, high = front[0].validation.top1, front[-1].validation.top1
    aims = [low + (high - low) * step / (SHOWN - 1) for step in range(SHOWN)]
    nearest = [min(front, key=lambda each: abs(each.validation.top1 - aim)) for aim in aims]
    return list(dict.fromkeys(nearest))


def measured_rows(cells: Sequence[Cell], cache: NetworkCache, store: Store, reporter: Reporter) -> dict[str, Row]:
    """A row for each cell, by its id; they go into the store as they are measured, and what is there stays."""
    missing = [cell for cell in cells if cell.id not in store.done()]
    with reporter.task("measuring the networks found", len(cells), len(cells) - len(missing)) as task:
        for cell in missing:
            with reporter.task(cell.nickname(), len(STAGES), brief=True) as stages:
                store.add(run_cell(cell, cache, stages))
            task.advance(1, cell.describe)
    wanted = {cell.id for cell in cells}
    return {row.cell.id: row for row in store.rows() if row.cell.id in wanted}


def _contender(name: str, row: Row, latency: Latency | None, tried: int) -> Contender:
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
        tried=tried,
    )


def _latencies(
    search: Search, found: Mapping[str, Found], cache: NetworkCache
) -> tuple[Latency | None, dict[str, Latency]]:
    """Of every contender in Secateur's runtime and of the dense network in PyTorch, in one run, in turns, one thread.

    None and nothing where the runtime cannot run the network.
    """
    dense, _ = cache.trained(search.dense)
    engines: dict[str, Engine] = {PYTORCH: _in_pytorch(dense, search)}
    for name, each in found.items():
        graph = cache.graph(make_network(each.cell, cache, weigh=False)[0], each.cell)
        if graph is None:
            return None, {}
        engines[name] = _in_runtime(graph)
    example = cache.dataset(search.dense).example(search.batch)
    measured = {each.engine: each for each in compare_latency(engines, example, same_output=(PYTORCH, DENSE))}
    return measured.pop(PYTORCH), {
        name: dataclasses.replace(each, engine="secateur") for name, each in measured.items()
    }


def _in_pytorch(dense: nn.Module, search: Search) -> Engine:
    channels_last = uses_channels_last(find_architecture(search.template.model))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = copied(dense).eval().to(memory_format=layout)  # type: ignore[call-overload]
    return lambda images: network(images.contiguous(memory_format=layout))


def _in_runtime(graph: Graph) -> Engine:
    session = Session(graph)
    return lambda images: torch.from_numpy(session(images.numpy()))
