"""What a search found, as points: what networks cost and how good they are. Needs no PyTorch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from secateur.records.results import RIVALS, Outcome, SearchRecord
from secateur.records.scores import Metric
from secateur.records.selection import targets_of

AXES = {"latency": ("milliseconds", "ms"), "bytes": ("bytes of the file", "B")}
"""What a front is drawn over, by what was minimized: its axis and unit."""
_SPARE = 0.15


@dataclass(frozen=True, slots=True)
class Spot:
    """A network: its name, what it costs, its score on validation data, and more to tell."""

    name: str
    cost: float
    score: float
    about: str = ""


@dataclass(frozen=True, slots=True)
class Front:
    """found: undominated ones, cheapest first. kinds: the best of each way. elsewhere: the dense network in engines
    that people would run it in instead, at the dense score, fastest first. low, high: the scores that a drawing
    shows."""

    target: str
    batch: int
    metric: Metric
    found: tuple[Spot, ...]
    kinds: tuple[Spot, ...]
    chosen: Spot
    elsewhere: tuple[Spot, ...]
    low: float
    high: float

    @property
    def hidden(self) -> int:
        """How many of those found lie outside of what a drawing shows."""
        return sum(not self.low <= each.score <= self.high for each in self.found)


def fronts_of(record: SearchRecord) -> list[Front]:
    """One over each of AXES that was minimized; none of a search that is not through."""
    asked, outcome = json.loads(record.spec), record.outcome
    targets = targets_of(asked["minimize"])
    return [] if outcome is None else [
        _front(outcome, target, place, asked["batch"])
        for place, target in enumerate(targets)
        if target in AXES and all(each.cost(target) < float("inf") for each in outcome.contenders)
    ]  # fmt: skip


def _front(outcome: Outcome, target: str, place: int, batch: int) -> Front:
    """Over one of the targets: of the points those that none beats in that and accuracy."""
    dense = outcome.contender("dense").validation
    kinds = tuple(
        Spot(each.name, each.cost(target), each.validation.value, f"test {each.test.text}")
        for each in outcome.contenders
    )
    found: list[Spot] = []
    best = -float("inf")
    for each in sorted(outcome.front, key=lambda each: (each.each_cost[place], -each.validation.rank)):
        if each.name and each.validation.rank > best:
            best = each.validation.rank
            found.append(Spot(each.name, each.each_cost[place], each.validation.value))
    chosen = next(spot for spot, each in zip(kinds, outcome.contenders, strict=True) if each.name == outcome.chosen)
    low, high = _shown([each.score for each in (*kinds, *found)], [each.score for each in kinds])
    elsewhere = _elsewhere(outcome, dense.value) if target == "latency" else ()
    return Front(target, batch, dense.metric, tuple(found), kinds, chosen, elsewhere, low, high)


def _elsewhere(outcome: Outcome, score: float) -> tuple[Spot, ...]:
    told = {"float32": "the dense network", "int8": "the dense network, whose own int8 score was not measured"}
    return tuple(
        Spot(each.engine, each.median_ms, score, told[RIVALS[each.engine]])
        for each in sorted(outcome.rivals, key=lambda each: each.median_ms)
    )


def _shown(scores: Sequence[float], best: Sequence[float]) -> tuple[float, float]:
    """From the worst of the best of each kind to the best of all, with room: what matters is near the top."""
    low, high = min(best), max(scores)
    room = max(_SPARE * (high - low), 1e-3 * max(abs(high), 1e-9))
    return low - 3 * room, high + 2 * room
