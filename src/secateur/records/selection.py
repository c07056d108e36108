"""Which pruned network is the best. Needs no PyTorch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from secateur.errors import UsageError
from secateur.records.results import Contender, Latency, Outcome, Row

RULES = ("validation", "paper")


@dataclass(frozen=True, slots=True)
class Selection:
    """rule "validation": the sparsest within `tolerance` points of the dense network, on validation data;
    of those as sparse one in int8, then the most accurate.

    rule "paper": the highest test accuracy among the pruned networks, which flatters (the test set chose it).
    """

    rule: str = "validation"
    tolerance: float = 1.0

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise UsageError(f"select {self.rule!r}: expected one of {', '.join(RULES)}")
        if not 0 <= self.tolerance <= 100:
            raise UsageError(f"tolerance {self.tolerance!r}: expected 0 to 100 points of accuracy")

    def describe(self) -> str:
        if self.rule == "paper":
            return "highest test accuracy among the pruned (the paper's rule: chosen on test data)"
        return f"sparsest within {self.tolerance:g} points of the dense network on validation data"


def select_best(rows: Sequence[Row], selection: Selection) -> list[Row]:
    """The best row of each model and data set; none for those where no pruned network qualifies."""

    def group(row: Row) -> tuple[str, str]:
        return row.cell.model, row.cell.data

    pruned = sorted((row for row in rows if row.cell.ratio > 0), key=group)
    chosen = (_best_of(list(members), selection) for _, members in itertools.groupby(pruned, key=group))
    return [row for row in chosen if row is not None]


def _best_of(rows: Sequence[Row], selection: Selection) -> Row | None:
    if selection.rule == "paper":
        return max(rows, key=lambda row: (row.test.rank, row.sparsity), default=None)
    within = [row for row in rows if lost_points(row) <= selection.tolerance + 1e-9]
    return max(within, key=lambda row: (row.sparsity, row.cell.quantize != "none", row.validation.rank), default=None)


def lost_points(row: Row) -> float:
    """Points lost on validation data against the dense network; negative where the pruned one is better."""
    return row.validation.lost_from(row.trained.validation)


@dataclass(frozen=True, slots=True)
class Choice:
    """best: of those tied the one that loses least on validation data. tied: all whose cost cannot be told from the
    least, best among them."""

    best: Contender
    tied: tuple[Contender, ...]


@dataclass(frozen=True, slots=True)
class Budget:
    """What a search may lose or spend. target: one of spec.TARGETS. max_cost: what that may cost at most, so that the
    best network is asked for; None where the cheapest is, that loses at most max_drop points on validation data.
    confidence: one-sided, at which it loses no more on other data of the kind; None where the mean is to lose no more.
    """

    target: str
    max_drop: float
    max_cost: float | None = None
    confidence: float | None = None

    def describe(self) -> str:
        if self.max_cost is None:
            return f"{self.max_drop:g} point{'' if self.max_drop == 1 else 's'}"
        return f"{self.max_cost:,g} {_UNITS[self.target]}"

    @property
    def sure(self) -> str:
        """How sure it is to be kept to, in words that follow others."""
        return f", at {100 * self.confidence:g} % confidence" if self.confidence else ""

    def holds(self, each: Contender, dense: Contender) -> bool:
        if self.max_cost is not None:
            return each.cost(self.target) <= self.max_cost * _EXACT
        return each.lost(dense) <= self.max_drop + 1e-9


_UNITS = {"latency": "ms", "bytes": "bytes", "macs": "multiply-adds", "weights": "weights"}
_EXACT = 1 + 1e-9


def choose(contenders: Sequence[Contender], budget: Budget) -> Choice:
    """Of networks that are all within the budget the one that costs least, or, where the cost is the budget, that
    scores best on validation data.

    Latencies whose 95 % intervals overlap are tied, other costs are exact.
    """
    target = budget.target
    if budget.max_cost is not None:
        best = max(contenders, key=lambda each: (each.validation.rank, -each.cost(target)))
        return Choice(best, tuple(each for each in contenders if each.validation.rank == best.validation.rank))
    least = min(contenders, key=lambda each: each.cost(target))
    tied = tuple(each for each in contenders if _costs_as_little(each, least, target))
    return Choice(max(tied, key=lambda each: (each.validation.rank, -each.cost(target))), tied)


def _costs_as_little(each: Contender, least: Contender, target: str) -> bool:
    if target == "latency" and each.latency and least.latency:
        return each.latency.low_ms <= least.latency.high_ms
    return each.cost(target) == least.cost(target)


def within(outcome: Outcome, budget: Budget) -> list[Contender]:
    """The contenders that lose or cost no more than they may, each network once; the cheapest where all cost more."""
    dense = outcome.contender("dense")
    holding = [each for each in outcome.contenders if budget.holds(each, dense)]
    holding = holding or [min(outcome.contenders, key=lambda each: each.cost(budget.target))]
    return list({each.cell: each for each in reversed(holding)}.values())[::-1]


def faster(latency: Latency, other: Latency) -> bool:
    """Whether a latency is lower than another, timed like it, beyond noise: their 95 % intervals do not overlap."""
    return latency.high_ms < other.low_ms
