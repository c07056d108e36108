"""Costs and harms of every layer at every level → the best combinations of all layers. Knows nothing of networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LIMIT = 20_000
"""States kept between layers. A front that grows beyond is thinned evenly in cost."""

Table = Sequence[Sequence[float]]


@dataclass(frozen=True, slots=True)
class Combination:
    """A level for each layer, in the tables' order, and the sums of what the tables say of them."""

    cost: float
    harm: float
    levels: tuple[int, ...]


def best_combinations(costs: Table, harms: Table, limit: int = LIMIT) -> list[Combination]:
    """Every combination that no other one beats in both cost and harm, harmless and dear ones first.

    costs[layer][level], harms[layer][level]: what is added up; a level whose harm or cost is infinite is not taken.
    Layer by layer, the undominated sums so far meet every level of the next layer and the dominated ones go: the
    multiple-choice knapsack solved for all budgets at once (Nemhauser & Ullmann 1969). Exact while no more than `limit`
    are left; beyond, each layer adds at most its thinning's step, the range of cost ÷ limit, to the cost.
    Returns none where a layer has no level to take.
    """
    cost, harm = np.zeros(1), np.zeros(1)
    origins: list[NDArray[np.intp]] = []
    for layer_costs, layer_harms in zip(costs, harms, strict=True):
        width = len(layer_costs)
        sums = (cost[:, None] + np.asarray(layer_costs, float)).ravel()
        pains = (harm[:, None] + np.asarray(layer_harms, float)).ravel()
        stays = _undominated(sums, pains)
        stays = stays[_spread(sums[stays], limit)]
        cost, harm = sums[stays], pains[stays]
        origins.append(np.stack(np.divmod(stays, width)))
    levels = _traced(origins, len(cost))
    return [
        Combination(float(each), float(pain), tuple(map(int, chosen)))
        for each, pain, chosen in zip(cost, harm, levels, strict=True)
    ]


def _undominated(cost: NDArray[np.float64], harm: NDArray[np.float64]) -> NDArray[np.intp]:
    """Indices of finite pairs that none beats, by rising harm and so by falling cost; of equal ones the first."""
    finite = np.flatnonzero(np.isfinite(cost) & np.isfinite(harm))
    order = finite[np.lexsort((cost[finite], harm[finite]))]
    before = np.minimum.accumulate(np.concatenate(([math.inf], cost[order])))[:-1]
    return order[cost[order] < before]


def _spread(cost: NDArray[np.float64], limit: int) -> NDArray[np.intp]:
    """Indices of at most `limit` falling costs: both ends, and the first below each of as many even steps."""
    if len(cost) <= limit:
        return np.arange(len(cost))
    steps = np.linspace(cost[0], cost[-1], limit)
    return np.unique(np.minimum(np.searchsorted(-cost, -steps), len(cost) - 1))


def _traced(origins: Sequence[NDArray[np.intp]], count: int) -> NDArray[np.intp]:
    """(count, layers): which level of each layer the last states came by."""
    levels = np.zeros((count, len(origins)), np.intp)
    states = np.arange(count)
    for layer in reversed(range(len(origins))):
        before, chosen = origins[layer]
        levels[:, layer] = chosen[states]
        states = before[states]
    return levels


def rungs(front: Sequence[Combination], count: int) -> list[Combination]:
    """At most `count` of a front, its ends among them, their costs in steps of about one ratio."""
    if len(front) <= count:
        return list(front)
    cost = np.array([each.cost for each in front])
    lowest = max(cost[-1], cost[0] * 1e-6, 1e-300)
    steps = np.geomspace(max(cost[0], lowest), lowest, count)
    chosen = np.unique(np.minimum(np.searchsorted(-cost, -steps), len(cost) - 1))
    return [front[each] for each in {0: None, **dict.fromkeys(map(int, chosen)), len(front) - 1: None}]
