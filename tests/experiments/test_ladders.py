"""Fronts, their ladders, and the last of a ladder that holds."""

from __future__ import annotations

import itertools
import math
import operator

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.experiments.searching.finding import last_holding
from secateur.experiments.searching.knapsack import Combination, best_combinations, rungs

NUMBERS = st.one_of(st.integers(0, 6).map(float), st.just(math.inf))


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[list[float]], list[list[float]]]:
    """Costs and harms of up to four layers; small whole numbers, so that many sums tie."""
    widths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    whole = st.integers(0, 9).map(float)
    rows = [st.lists(whole, min_size=width, max_size=width) for width in widths]
    pains = [st.lists(NUMBERS, min_size=width, max_size=width) for width in widths]
    return [draw(row) for row in rows], [draw(row) for row in pains]


@given(tables())
@settings(deadline=None)
def test_the_front_is_what_trying_everything_finds(given: tuple[list[list[float]], list[list[float]]]) -> None:
    costs, harms = given
    sums = {
        (sum(c[level] for c, level in zip(costs, levels, strict=True)),
         sum(h[level] for h, level in zip(harms, levels, strict=True)))
        for levels in itertools.product(*(range(len(row)) for row in costs))
    }  # fmt: skip
    finite = {pair for pair in sums if math.isfinite(pair[1])}
    expected = sorted(
        (pair for pair in finite if not any(o != pair and o[0] <= pair[0] and o[1] <= pair[1] for o in finite)),
        key=lambda pair: pair[1],
    )
    found = best_combinations(costs, harms)
    assert [(each.cost, each.harm) for each in found] == expected
    for each in found:
        assert each.cost == sum(row[level] for row, level in zip(costs, each.levels, strict=True))
        assert each.harm == sum(row[level] for row, level in zip(harms, each.levels, strict=True))


def test_a_thinned_front_is_near_the_whole_one_at_every_budget() -> None:
    draw = np.random.default_rng(0)
    costs = np.sort(draw.random((9, 12)))[:, ::-1].tolist()
    harms = np.sort(draw.random((9, 12)) ** 3).tolist()
    whole, thinned = best_combinations(costs, harms), best_combinations(costs, harms, limit=150)
    assert len(thinned) <= 150 < len(whole)
    reach = 9 * (whole[0].cost - whole[-1].cost) / 150
    for budget in np.linspace(thinned[0].harm, whole[-1].harm, 50):
        best, near = (min(each.cost for each in front if each.harm <= budget) for front in (whole, thinned))
        assert best <= near <= best + reach


def test_rungs_keep_both_ends_and_the_order() -> None:
    front = [Combination(1000.0 - each, float(each), (each,)) for each in range(1000)]
    chosen = rungs(front, 16)
    assert (chosen[0], chosen[-1]) == (front[0], front[-1])
    assert 10 <= len(chosen) <= 17
    assert [each.harm for each in chosen] == sorted({each.harm for each in chosen})
    assert rungs(front[:5], 16) == front[:5]


@given(st.integers(0, 40), st.integers(0, 40))
def test_bisection_finds_the_last_that_holds(count: int, good: int) -> None:
    asked: list[int] = []

    def holds(each: int) -> bool:
        asked.append(each)
        return each < good

    found = last_holding(range(count), holds)
    assert found == (min(good, count) - 1 if good and count else None)
    assert len(asked) <= math.ceil(math.log2(count + 1)) if count else asked == []


@given(st.integers(1, 200), st.integers(0, 200), st.floats(0.0, 0.96))
def test_interpolation_finds_the_last_that_holds_in_fewer_steps(count: int, good: int, before: float) -> None:
    asked: list[int] = []

    def excess(each: int) -> float:
        """Of what is lost along a ladder: rising, and 1 between the last that holds and the next."""
        return max(before, 0.05) ** (1 - (each + 1) / (good + 0.5))

    def holds(each: int) -> bool:
        asked.append(each)
        return excess(each) <= 1

    found = last_holding(range(count), holds, excess, before)
    best = min(good, count) - 1
    if found is None:
        assert good == 0
    else:
        assert found == best or (found <= best and excess(found) >= 0.97)
    assert len(asked) <= math.ceil(math.log2(count + 1)) + 2


@given(st.integers(1, 450), st.data())
def test_the_last_that_holds_is_found_sooner_where_it_is_expected(count: int, data: st.DataObject) -> None:
    """Near or far, with what each loses or without: always the last one; with the right guess in a few steps."""
    good = data.draw(st.integers(0, count))
    near = data.draw(st.integers(0, count))
    asked: list[int] = []

    def holds(each: int) -> bool:
        asked.append(each)
        return each < good

    assert last_holding(range(count), holds, near=near) == (good - 1 if good else None)
    assert len(asked) == len(set(asked)) <= 2 * math.ceil(math.log2(count + 1)) + 2
    asked.clear()
    excess = [0.01 ** max(-9, 1 - (each + 1) / (good + 0.5)) for each in range(count)]
    found = last_holding(range(count), holds, excess.__getitem__, near=max(0, good - 1))
    assert (found is None) == (good == 0)
    assert found is None or (found < good and (found == good - 1 or excess[found] >= 0.97))
    assert len(asked) <= 6


@given(st.lists(st.floats(0.5, 0.999), min_size=1, max_size=60), st.data())
def test_nothing_is_tried_for_a_cost_that_is_hardly_less(factors: list[float], data: st.DataObject) -> None:
    costs = list(itertools.accumulate(factors, operator.mul))
    good = data.draw(st.integers(1, len(costs)))
    asked: list[int] = []

    def holds(each: int) -> bool:
        asked.append(each)
        return each < good

    found = last_holding(range(len(costs)), holds, costs=[*costs, math.inf])
    assert found is not None
    assert 0.98 * costs[found] <= costs[good - 1] <= costs[found]
    exact = len(asked)
    asked.clear()
    assert last_holding(range(len(costs)), holds) == good - 1
    assert exact <= len(asked)
    asked.clear()
    assert last_holding(range(len(costs)), lambda _: False, costs=[*costs, costs[0] / 0.99]) is None
