"""What a search found, as a table and as a record. Needs no PyTorch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from secateur.records.results import RIVALS, Contender, Latency, Outcome, SearchRecord
from secateur.records.scores import Score, plain
from secateur.records.selection import Budget
from secateur.report.grid import Grid
from secateur.report.remarks import INTERVALS, accuracy_text, caution, intervals, verdict
from secateur.report.summary import fastest_rivals
from secateur.report.tables import count_text, milliseconds_text, size_text
from secateur.support.quantities import percent
from secateur.support.references import short

_RANKS = (0, 7, 8, 3, 4, 5, 6, 2, 1, 9, 10, 11, 12, 13, 14)
"""What is minimised and what it lost come first."""

_TITLES = {"latency": "latency", "bytes": "file", "macs": "non-zero MACs", "weights": "weights"}


def search_grid(record: SearchRecord) -> Grid:
    """The networks of a finished search, a line each, with how many times less than dense each costs."""
    asked, outcome = json.loads(record.spec), _finished(record)
    dense = outcome.contender("dense")
    budget, batch = budget_of(asked), asked["batch"]
    columns = ["network", "tried", "ratio", "validation", "lost", "test", "lost"]
    targets = sorted(_TITLES, key=lambda each: each not in budget.targets)
    columns += [text for each in targets for text in (_TITLES[each], "÷")]
    lines = tuple(_line(each, dense, targets) for each in outcome.contenders)
    template = asked["template"]
    title = (
        f"{short(template['model'])} on {short(template['data'])}: {_asked(budget, dense)}, "
        f"{template['method']}, seed {template['seed']}"
    )
    return Grid(
        title=title,
        columns=tuple(columns),
        lines=lines,
        texts=1,
        notes=tuple(_notes(outcome, budget, batch)),
        ranks=_RANKS,
        elsewhere="the search's --format json",
        marked=tuple(number for number, each in enumerate(outcome.contenders) if each.name == outcome.chosen),
        mark="← chosen",
    )


def _asked(budget: Budget, dense: Contender) -> str:
    metric = dense.validation.metric.name
    if budget.max_cost is not None:
        return f"best validation {metric} within {budget.describe()}"
    sure = budget.sure if dense.bound is not None else ""
    least = _and(budget.targets) + (" on average" if len(budget.targets) > 1 else "")
    return f"least {least} within {budget.describe()} of validation {metric}{sure}"


def asked_for(record: SearchRecord) -> str:
    """What a finished search was asked for, in words."""
    return _asked(budget_of(json.loads(record.spec)), _finished(record).contender("dense"))


def _and(targets: Sequence[str]) -> str:
    return " and ".join(_TITLES[target] for target in targets)


def _finished(record: SearchRecord) -> Outcome:
    assert record.outcome is not None
    return record.outcome


def _line(each: Contender, dense: Contender, targets: Sequence[str]) -> tuple[str, ...]:
    latency = milliseconds_text(each.latency)
    texts = {"latency": latency, "bytes": size_text(each.bytes), "macs": count_text(each.macs),
             "weights": count_text(each.kept)}  # fmt: skip
    accuracies = [text for own, whole in ((each.validation, dense.validation), (each.test, dense.test))
                  for text in (own.text, lost_text(own, whole))]  # fmt: skip
    costs = [text for target in targets for text in (texts[target], _times(each, dense, target))]
    return (each.name, str(each.tried or "–"), percent(round(each.ratio, 4)), *accuracies, *costs)


def lost_text(own: Score, dense: Score) -> str:
    """Points lost against the dense network."""
    return f"{own.lost_from(dense):+.2f}"


def _times(each: Contender, dense: Contender, target: str) -> str:
    if each.latency is None and target == "latency":
        return "–"
    return f"{dense.cost(target) / max(each.cost(target), 1e-12):.2f} ×"


def rivals_text(ours: Latency, rivals: Sequence[Latency], absent: Sequence[tuple[str, str]]) -> list[str]:
    """Ours beside the dense network in the engines that people would run it in instead, timed in the same turns, and
    which of them were not."""
    told = []
    for element, fastest in fastest_rivals(rivals).items():
        others = [each for each in rivals if RIVALS[each.engine] == element]
        times = ", ".join(f"{each.engine} {milliseconds_text(each)}" for each in others)
        told.append(f"{fastest.median_ms / ours.median_ms:.2f} times as fast as the best in {element} ({times})")
    beside = "Beside the dense network in engines that people would run it in instead, in the same turns"
    missing = [f"Not timed: {'; '.join(f'{name} ({why})' for name, why in absent)}."] if absent else []
    return [" ".join([*([f"{beside}: {', '.join(told)}."] if told else []), *missing])] if told or missing else []


def budget_of(asked: Mapping[str, Any]) -> Budget:
    """Of a search as it was asked for."""
    return Budget(asked["minimize"], asked["max_drop"], asked.get("max_cost"), asked.get("confidence"))


def _caution(score: Score, budget: Budget) -> str:
    return caution(score, budget.max_drop) if budget.max_cost is None else ""


def _notes(outcome: Outcome, budget: Budget, batch: int) -> list[str]:
    chosen, dense = outcome.contender(outcome.chosen), outcome.contender("dense")
    warning = _caution(chosen.validation, budget)
    notes = [
        f"Chosen: {outcome.chosen}. {' '.join(verdict(outcome, budget))}".rstrip(),
        f"Its {chosen.validation.metric.name}: {accuracy_text('validation', chosen.validation, dense.validation)}; "
        f"{accuracy_text('test', chosen.test, dense.test)}.{_intervals(chosen)}",
        *_bound(chosen, budget),
        *([f"Caution: {warning}."] if warning else []),
        f"Every network tried was judged on {chosen.validation.n:,} validation {_unit(chosen)}; the {chosen.test.n:,} "
        f"test {_unit(chosen)} were looked at afterwards. lost: points against dense; ÷: times less than dense.",
    ]
    notes += rivals_text(chosen.latency, outcome.rivals, outcome.absent) if chosen.latency else []
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


def _bound(each: Contender, budget: Budget) -> list[str]:
    if each.bound is None or not budget.confidence:
        return []
    return [
        f"On other data of the kind it loses at most {each.bound:.2f} points at {100 * budget.confidence:g} % "
        "confidence, as what is lost varies between parts of the validation data. That it was picked among several "
        "networks is not in this."
    ]


def _intervals(each: Contender) -> str:
    return f" {INTERVALS}" if each.validation.is_accuracy else ""


def _unit(each: Contender) -> str:
    return each.validation.metric.unit


def front_grid(record: SearchRecord) -> Grid:
    """The undominated networks of a search: kind, shares of the dense network's costs, and accuracy."""
    asked, outcome = json.loads(record.spec), _finished(record)
    dense, targets = outcome.contender("dense"), budget_of(asked).targets
    several = len(targets) > 1
    whole = [dense.cost(target) for target in targets] if several else [outcome.dense_cost]
    named = any(each.name for each in outcome.front)
    lines = tuple(
        (
            *([each.name] if named else []),
            *(f"{cost / of:.2%}" for cost, of in zip(each.each_cost, whole, strict=True)),
            each.validation.text,
            lost_text(each.validation, dense.validation),
        )
        for each in outcome.front
    )
    how = "measured in one run" if named else "by the layers' tables"
    title = f"Pareto front of the networks tried: {_and(targets)} as a share of dense, {how}"
    kept = outcome.contender(outcome.chosen).cell
    return Grid(
        title=title,
        columns=(
            *(["network"] if named else []),
            *([_TITLES[target] for target in targets] if several else ["cost"]),
            "validation",
            "lost",
        ),
        lines=lines,
        texts=int(named),
        marked=tuple(number for number, each in enumerate(outcome.front) if each.cell == kept),
        mark="← chosen",
    )


def search_record(record: SearchRecord) -> dict[str, Any]:
    """Everything about a finished search, for programs."""
    asked, outcome = json.loads(record.spec), _finished(record)
    chosen, dense = outcome.contender(outcome.chosen), outcome.contender("dense")
    said = {
        "verdict": verdict(outcome, budget_of(asked)),
        "caution": _caution(chosen.validation, budget_of(asked)),
        "intervals": {name: intervals(getattr(chosen, name), getattr(dense, name)) for name in ("validation", "test")},
    }
    return asked | {"command": record.command} | plain(outcome) | said


def search_grids(records: Sequence[SearchRecord]) -> list[Grid]:
    """The tables of every finished search."""
    done = [record for record in records if record.outcome]
    return [grid for record in done for grid in (search_grid(record), front_grid(record))]
