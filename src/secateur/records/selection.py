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
    """What a search may lose or spend. target: one of spec.TARGETS, or several with commas between. max_cost: what that
    may cost at most, or each of several, so that the best network is asked for; None where the cheapest is, that loses
    at most max_drop points on validation data. confidence: one-sided, at which it loses no more on other data of the
    kind; None where the mean is to lose no more.
    """

    target: str
    max_drop: float
    max_cost: float | Sequence[float] | None = None
    confidence: float | None = None

    @property
    def targets(self) -> tuple[str, ...]:
        return targets_of(self.target)

    @property
    def limits(self) -> tuple[float, ...]:
        """Of each target; none where there is no max_cost."""
        return limits_of(self.max_cost)

    def describe(self) -> str:
        if self.max_cost is None:
            return f"{self.max_drop:g} point{'' if self.max_drop == 1 else 's'}"
        limits = zip(self.limits, self.targets, strict=True)
        return " and ".join(f"{_told(limit)} {_UNITS[target]}" for limit, target in limits)

    def cost(self, each: Contender, dense: Contender, end: str = "median_ms") -> float:
        """What is minimized: the cost by the target, or the mean of what several are of the dense network's. end: of
        the interval of a latency that counts."""
        if len(self.targets) == 1:
            return each.cost(self.target, end)
        return sum(each.cost(target, end) / dense.cost(target) for target in self.targets) / len(self.targets)

    @property
    def sure(self) -> str:
        """How sure it is to be kept to, in words that follow others."""
        return f", at {100 * self.confidence:g} % confidence" if self.confidence else ""

    def holds(self, each: Contender, dense: Contender) -> bool:
        if self.max_cost is not None:
            limits = zip(self.targets, self.limits, strict=True)
            return all(each.cost(target) <= limit * _EXACT for target, limit in limits)
        return each.lost(dense) <= self.max_drop + 1e-9


_UNITS = {"latency": "ms", "bytes": "bytes", "macs": "multiply-adds", "weights": "weights"}
_EXACT = 1 + 1e-9


def choose(contenders: Sequence[Contender], dense: Contender, budget: Budget) -> Choice:
    """Of networks that are all within the budget the one that costs least, or, where the cost is the budget, that
    scores best on validation data.

    Latencies whose 95 % intervals overlap are tied, other costs are exact.
    """

    def cost(each: Contender, end: str = "median_ms") -> float:
        return budget.cost(each, dense, end)

    if budget.max_cost is not None:
        best = max(contenders, key=lambda each: (each.validation.rank, -cost(each)))
        return Choice(best, tuple(each for each in contenders if each.validation.rank == best.validation.rank))
    least = min(contenders, key=cost)
    tied = tuple(each for each in contenders if cost(each, "low_ms") <= cost(least, "high_ms"))
    return Choice(max(tied, key=lambda each: (each.validation.rank, -cost(each))), tied)


def within(outcome: Outcome, budget: Budget) -> list[Contender]:
    """The contenders that lose or cost no more than they may, each network once; the cheapest where all cost more."""
    dense = outcome.contender("dense")
    holding = [each for each in outcome.contenders if budget.holds(each, dense)]
    holding = holding or [min(outcome.contenders, key=lambda each: _beyond(each, dense, budget))]
    return list({each.cell: each for each in reversed(holding)}.values())[::-1]


def _told(limit: float) -> str:
    return f"{limit:,.0f}" if limit >= 1000 and limit == round(limit) else f"{limit:,g}"


def _beyond(each: Contender, dense: Contender, budget: Budget) -> float:
    """By how much a network goes beyond the limits, at the worst of them; what it costs where there are none."""
    limits = zip(budget.targets, budget.limits, strict=False)
    return max((each.cost(target) / limit for target, limit in limits), default=budget.cost(each, dense))


def targets_of(target: str) -> tuple[str, ...]:
    """What is minimized, of a search's text."""
    return tuple(target.split(","))


def limits_of(max_cost: float | Sequence[float] | None) -> tuple[float, ...]:
    """What each target may cost at most."""
    if max_cost is None:
        return ()
    return tuple(max_cost) if isinstance(max_cost, Sequence) else (max_cost,)


def faster(latency: Latency, other: Latency) -> bool:
    """Whether a latency is lower than another, timed like it, beyond noise: their 95 % intervals do not overlap."""
    return latency.high_ms < other.low_ms
