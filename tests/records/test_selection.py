from __future__ import annotations

import dataclasses

import pytest

from samples import contender, make_row, search_record
from secateur.errors import UsageError
from secateur.records.results import Contender
from secateur.records.selection import Budget, Selection, choose, lost_points, select_best, within
from secateur.report import verdict

ROWS = [
    make_row(0.0, accuracy=0.95),
    make_row(0.5, accuracy=0.96),
    make_row(0.8, accuracy=0.941),
    make_row(0.9, accuracy=0.90),
]

LATENCY = Budget("latency", 1.0)


def test_the_sparsest_within_the_tolerance_is_the_best() -> None:
    assert [row.cell.ratio for row in select_best(ROWS, Selection())] == [0.8]
    assert [row.cell.ratio for row in select_best(ROWS, Selection(tolerance=0.5))] == [0.5]
    assert [row.cell.ratio for row in select_best(ROWS, Selection(tolerance=5))] == [0.9]
    assert lost_points(ROWS[3]) == pytest.approx(5)


def test_of_networks_as_sparse_one_in_eight_bits_is_the_best() -> None:
    plain = make_row(0.9, accuracy=0.945)
    quantised = dataclasses.replace(plain, cell=dataclasses.replace(plain.cell, quantize="int8"))
    worse = dataclasses.replace(quantised, validation=dataclasses.replace(plain.validation, value=0.9))
    assert select_best([plain, quantised], Selection()) == [quantised]
    assert select_best([plain, worse], Selection()) == [plain]
    assert select_best([make_row(0.95, accuracy=0.945), quantised], Selection())[0].cell.ratio == 0.95


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


DENSE, UNIFORM, GLOBAL = (
    contender("dense", 2.0, 0.975),
    contender("uniform", 1.0, 0.97),
    contender("global", 1.01, 0.974),
)
SEARCHED, TOO_LOSSY = contender("search", 1.5, 0.972), contender("search, retrained", 0.5, 0.96)


def chosen_of(*contenders: Contender, chosen: str = "search") -> tuple[str, tuple[str, ...]]:
    outcome = search_record(chosen, *contenders).outcome
    assert outcome is not None
    best = choose(within(outcome, LATENCY), outcome.contender("dense"), LATENCY).best.name
    return best, verdict(dataclasses.replace(outcome, chosen=best), LATENCY)


def test_the_cheapest_within_the_budget_is_chosen_whatever_kind_it_is_of() -> None:
    assert chosen_of(DENSE, UNIFORM, SEARCHED, TOO_LOSSY) == (
        "uniform", ("The search found nothing better than uniform, which is kept.",)
    )  # fmt: skip
    assert chosen_of(DENSE, SEARCHED) == ("search", ())
    name, said = chosen_of(DENSE, contender("uniform", 3.0, 0.97), contender("search", 2.5, 0.97))
    assert (name, said[0]) == (
        "dense",
        "Nothing faster than the dense network was found within the budget: that is kept.",
    )


def test_of_networks_within_noise_the_one_that_loses_least_is_chosen() -> None:
    name, said = chosen_of(DENSE, UNIFORM, GLOBAL, SEARCHED)
    assert name == "global"
    assert said[-1] == "Within noise of it: uniform; of these the one that loses least was taken."


def test_a_search_that_chose_among_its_own_networks_only_says_what_was_better() -> None:
    outcome = search_record("search", DENSE, UNIFORM, SEARCHED).outcome
    assert outcome is not None
    assert verdict(outcome, LATENCY)[0].startswith("uniform is faster than search within the same budget")


def test_costs_that_are_counted_tie_only_where_they_are_equal() -> None:
    fewer = dataclasses.replace(UNIFORM, kept=49)
    assert choose([GLOBAL, fewer], DENSE, Budget("weights", 1.0)).tied == (fewer,)
    assert choose([GLOBAL, UNIFORM], DENSE, Budget("weights", 1.0)).best is GLOBAL


def test_within_a_cost_the_best_is_chosen_and_the_cheapest_where_nothing_is() -> None:
    outcome = search_record("global", DENSE, GLOBAL, UNIFORM).outcome
    assert outcome is not None
    dearest = max(each.cost("weights") for each in outcome.contenders)
    everything, nothing = Budget("weights", 1.0, dearest), Budget("weights", 1.0, 0.5)
    assert choose(within(outcome, everything), DENSE, everything).best == max(
        outcome.contenders, key=lambda each: each.validation.value
    )
    (cheapest,) = within(outcome, nothing)
    assert cheapest.cost("weights") == min(each.cost("weights") for each in outcome.contenders)
    chosen = dataclasses.replace(outcome, chosen=cheapest.name)
    words = "Nothing was found that costs 0.5 weights or less: {}. Allow more."
    kept = "the dense network is kept" if cheapest.name == "dense" else "this is the cheapest"
    assert verdict(chosen, nothing) == (words.format(kept),)
    others = [each.name for each in outcome.contenders if each.name != "dense"]
    assert verdict(dataclasses.replace(outcome, chosen=others[0]), nothing) == (words.format("this is the cheapest"),)
