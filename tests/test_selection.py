from __future__ import annotations

import pytest

from samples import make_row
from secateur.errors import UsageError
from secateur.selection import Selection, lost_points, select_best

ROWS = [
    make_row(0.0, accuracy=0.95),
    make_row(0.5, accuracy=0.96),
    make_row(0.8, accuracy=0.941),
    make_row(0.9, accuracy=0.90),
]


def test_the_sparsest_within_the_tolerance_is_the_best() -> None:
    assert [row.cell.ratio for row in select_best(ROWS, Selection())] == [0.8]
    assert [row.cell.ratio for row in select_best(ROWS, Selection(tolerance=0.5))] == [0.5]
    assert [row.cell.ratio for row in select_best(ROWS, Selection(tolerance=5))] == [0.9]
    assert lost_points(ROWS[3]) == pytest.approx(5)


def test_the_papers_rule_takes_the_highest_test_accuracy_and_says_so() -> None:
    paper = Selection("paper")
    assert [row.cell.ratio for row in select_best(ROWS, paper)] == [0.5]
    assert "chosen on test data" in paper.describe()


def test_each_network_has_its_own_best_and_the_dense_one_is_none() -> None:
    rows = [*ROWS, make_row(0.9, model="other", accuracy=0.95), make_row(0.0, model="dense")]
    assert [row.cell.model for row in select_best(rows, Selection())] == ["net", "other"]
    assert select_best([make_row(0.9, accuracy=0.1)], Selection()) == []


@pytest.mark.parametrize(("rule", "tolerance"), [("luck", 1.0), ("validation", -1.0), ("validation", float("nan"))])
def test_rules_that_make_no_sense_are_refused(rule: str, tolerance: float) -> None:
    with pytest.raises(UsageError, match="expected"):
        Selection(rule, tolerance)
