"""Which pruned network is the best. Needs no PyTorch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from secateur.errors import UsageError
from secateur.results import Row

RULES = ("validation", "paper")


@dataclass(frozen=True, slots=True)
class Selection:
    """rule "validation": the sparsest within `tolerance` points of the dense network, on validation data.

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
        return max(rows, key=lambda row: (row.test.top1, row.sparsity), default=None)
    within = [row for row in rows if lost_points(row) <= selection.tolerance + 1e-9]
    return max(within, key=lambda row: (row.sparsity, row.validation.top1), default=None)


def lost_points(row: Row) -> float:
    """Points of validation accuracy lost against the dense network; negative where the pruned one is better."""
    return 100 * (row.trained.validation.top1 - row.validation.top1)
