"""What a search found, as a table and as a record. Needs no PyTorch."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from secateur.report.grid import Grid
from secateur.report.tables import count_text, milliseconds_text, size_text
from secateur.results import Accuracy, Contender, Outcome
from secateur.spec import percent
from secateur.store import SearchRecord

_TITLES = {"latency": "latency", "bytes": "file", "macs": "non-zero MACs", "weights": "weights"}


def search_grid(record: SearchRecord) -> Grid:
    """The networks of a finished search, a line each, with how many times less than dense each costs."""
    asked, outcome = json.loads(record.spec), _finished(record)
    dense = outcome.contender("dense")
    target, batch = asked["minimize"], asked["batch"]
    columns = ["network", "tried", "ratio", "validation", "lost", "test", "lost"]
    targets = sorted(_TITLES, key=lambda each: each != target)
    columns += [text for each in targets for text in (_TITLES[each], "÷")]
    lines = tuple(_line(each, dense, targets) for each in outcome.contenders)
    template = asked["template"]
    title = (
        f"{template['model']} on {template['data']}: least {_TITLES[target]} within {asked['max_drop']:g} points of "
        f"validation accuracy, {template['method']}, seed {template['seed']}"
    )
    return Grid(title, tuple(columns), lines, 1, notes=(*_notes(outcome, batch),))


def _finished(record: SearchRecord) -> Outcome:
    assert record.outcome is not None
    return record.outcome


def _line(each: Contender, dense: Contender, targets: Sequence[str]) -> tuple[str, ...]:
    latency = milliseconds_text(each.latency)
    texts = {"latency": latency, "bytes": size_text(each.bytes), "macs": count_text(each.macs),
             "weights": count_text(each.kept)}  # fmt: skip
    accuracies = [text for own, whole in ((each.validation, dense.validation), (each.test, dense.test))
                  for text in (f"{own.top1:.2%}", lost_text(own, whole))]  # fmt: skip
    costs = [text for target in targets for text in (texts[target], _times(each, dense, target))]
    return (each.name, str(each.tried or "–"), percent(round(each.ratio, 4)), *accuracies, *costs)


def lost_text(own: Accuracy, dense: Accuracy) -> str:
    """Points lost against the dense network."""
    return f"{100 * (dense.top1 - own.top1) + 0.0:+.2f}"


def _times(each: Contender, dense: Contender, target: str) -> str:
    if each.latency is None and target == "latency":
        return "–"
    return f"{dense.cost(target) / max(each.cost(target), 1e-12):.2f} ×"


def _notes(outcome: Outcome, batch: int) -> list[str]:
    chosen = outcome.contender(outcome.chosen)
    notes = [
        f"Chosen: {outcome.chosen}. Every network tried was judged on {chosen.validation.n} validation images; the "
        f"{chosen.test.n} test images were looked at afterwards. lost: points against dense; ÷: times less than dense."
    ]
    if chosen.latency and outcome.pytorch:
        intervals = ", ".join(
            f"{each.name} {each.latency.low_ms:.3g}–{each.latency.high_ms:.3g}"
            for each in outcome.contenders
            if each.latency
        )
        notes.append(
            f"Latency of batch {batch} on one thread: medians of {chosen.latency.n} samples in turns, in Secateur's "
            f"runtime; 95 % intervals in ms: {intervals}. Dense in PyTorch in the same turns: "
            f"{milliseconds_text(outcome.pytorch)}."
        )
    return notes


def front_grid(record: SearchRecord) -> Grid:
    """The undominated networks that a search tried: share of the dense network's cost by the tables, and accuracy."""
    asked, outcome = json.loads(record.spec), _finished(record)
    dense = outcome.contender("dense").validation
    lines = tuple(
        (f"{each.cost / outcome.dense_cost:.2%}", f"{each.validation.top1:.2%}", lost_text(each.validation, dense))
        for each in outcome.front
    )
    title = (
        f"Pareto front of the networks tried: {_TITLES[asked['minimize']]} as a share of dense, by the layers' tables"
    )
    return Grid(title, ("cost", "validation", "lost"), lines, 0)


def search_record(record: SearchRecord) -> dict[str, Any]:
    """Everything about a finished search, for programs."""
    return json.loads(record.spec) | {"command": record.command} | dataclasses.asdict(_finished(record))


def search_grids(records: Sequence[SearchRecord]) -> list[Grid]:
    """The tables of every finished search."""
    done = [record for record in records if record.outcome]
    return [grid for record in done for grid in (search_grid(record), front_grid(record))]
