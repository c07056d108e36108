"""From costs and harms to the cell that costs least and loses no more than it may."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from secateur.experiments.searching.knapsack import Combination, best_combinations, rungs
from secateur.experiments.searching.laboratory import Laboratory
from secateur.experiments.searching.plan import Search
from secateur.records.patterns import UNSTRUCTURED
from secateur.records.results import FrontPoint
from secateur.records.scores import Score
from secateur.records.spec import Cell
from secateur.support.progress import Reporter, SilentReporter
from secateur.support.quantities import percent

HOPELESS = 1.0
"""Nats. A layer that moves the outputs so far on its own is not asked to lose more."""

RUNGS = 255
"""Of a front's ladder; eight trials find the highest one that holds."""

REACH = 2
"""Levels up and down that are looked at around the best."""

FINALISTS = 2
"""Networks of a kind, of those that hold, that are measured whole."""

LITTLE, CLOSE = 0.05, 0.97
"""Shares of what may be lost: less than the first is as good as none, more than the second as good as all."""

_EVEN_STEPS = 450
_LEAST_DENSITY = 1e-3

DENSE, UNIFORM, GLOBAL, SEARCHED = "dense", "uniform", "global", "search"
RETRAINED = ", retrained"
_SUFFIXES = {"none": "", "int8": ", int8"}

Each = TypeVar("Each")


@dataclass(frozen=True, slots=True)
class Found:
    """The networks of one kind that hold, those expected to cost least first, and how many were tried to find them."""

    cells: tuple[Cell, ...]
    tried: int


@dataclass(slots=True)
class Trials:
    """Judges cells by their accuracy on validation data, each once; one in eight bits first as it is in float32, which
    is quicker, and loses too much already where eight bits would.

    judged: what was found; None where a layer would go. priced: what cells cost, by the layers' tables.
    """

    search: Search
    laboratory: Laboratory
    reporter: Reporter
    judged: dict[Cell, Score | None] = field(default_factory=dict)
    priced: dict[Cell, float] = field(default_factory=dict)

    def holds(self, cell: Cell) -> bool:
        """Does the cell's network lose no more than it may, or cost no more?"""
        if self.search.max_cost is not None and not self.affordable(cell):
            return False
        enough = self._judged(cell)
        return enough if self.search.max_cost is None else self.judged[cell] is not None

    def affordable(self, cell: Cell) -> bool:
        """Does it cost no more than it may, by its layers?"""
        if cell not in self.priced:
            (costs,) = self.laboratory.costs([dataclasses.replace(cell, repair="none")], SilentReporter())
            self.priced[cell] = costs.total
        limit = (self.search.max_cost or math.inf) / (1000 if self.search.minimize == "latency" else 1)
        return self.priced[cell] <= limit

    @property
    def tried(self) -> int:
        """How many networks were judged, whatever they compute in."""
        return len({dataclasses.replace(cell, quantize="none") for cell in self.judged})

    def excess(self, cell: Cell) -> float | None:
        """What a judged cell loses, as a share of what it may; None where that says nothing."""
        before = dataclasses.replace(cell, quantize="none")
        judged = cell if cell in self.judged else before
        if judged not in self.judged or not self.search.max_drop:
            return None
        return self._lost(judged) / self.search.max_drop

    def _judged(self, cell: Cell) -> bool:
        """Does the cell's network lose no more than it may?"""
        before = dataclasses.replace(cell, quantize="none")
        if cell != before and self.search.max_cost is None and not self._judged(before):
            return False
        if cell not in self.judged:
            self.judged[cell] = self.laboratory.validation(cell)
            self.reporter.say(f"{_told(cell)}: {self._told(cell)}")
        return self._lost(cell) <= self.search.max_drop + 1e-9

    def bound(self, cell: Cell) -> float | None:
        """Points that a cell with an accuracy loses at most, where that is asked for and can be told."""
        sure = self.search.confidence
        return None if sure is None else self.laboratory.lost_at(cell, sure)

    def _lost(self, cell: Cell) -> float:
        """Points that a judged cell loses: at most, if the mean is not too many already. Infinite where a layer would
        go."""
        accuracy = self.judged[cell]
        if accuracy is None:
            return math.inf
        lost = accuracy.lost_from(self.laboratory.trained.validation)
        bound = self.bound(cell) if lost <= self.search.max_drop else None
        return lost if bound is None else bound

    def _told(self, cell: Cell) -> str:
        accuracy = self.judged[cell]
        if accuracy is None:
            return "a layer would go"
        mean, most = accuracy.lost_from(self.laboratory.trained.validation), self._lost(cell)
        sure = f", {most:.2f} at most" if most > mean else ""
        return f"{mean:+.2f} points lost on validation data{sure}"

    def best_of(self, ladder: Sequence[Cell], before: Cell | None = None) -> int | None:
        """Where the wanted one stands in a ladder of cells, dear and good ones first: the last that loses no more
        than it may, or the first that costs no more; None where there is none. before: what is dearer than all."""
        if self.search.max_cost is None:
            return last_holding(ladder, self.holds, self.excess, (self.excess(before) if before else None) or 0.0)
        dear = last_holding(ladder, lambda cell: not self.affordable(cell))
        first = 0 if dear is None else dear + 1
        return first if first < len(ladder) and self.holds(ladder[first]) else None

    def finalists(self, name: str) -> tuple[Cell, ...]:
        """Of the kind's cells that hold, the few that should cost least: by the tables, else by what they lose."""
        holding = [cell for cell in self.judged if kind_of(cell, self.search) == name and self.holds(cell)]
        if self.search.max_cost is not None:
            return tuple(sorted(holding, key=self._rank, reverse=True)[:FINALISTS])
        return tuple(sorted(holding, key=lambda each: (self.priced.get(each, math.inf), -each.ratio))[:FINALISTS])

    def _rank(self, cell: Cell) -> float:
        accuracy = self.judged[cell]
        return accuracy.rank if accuracy else -math.inf

    def front(self) -> tuple[FrontPoint, ...]:
        """Of the judged cells that have a price, those that none beats in price and accuracy, cheapest first."""
        judged = ((cell, cost, self.judged.get(cell)) for cell, cost in self.priced.items())
        return undominated([FrontPoint(cell.id, cost, accuracy) for cell, cost, accuracy in judged if accuracy])


def undominated(points: Iterable[FrontPoint]) -> tuple[FrontPoint, ...]:
    """Those that none beats in cost and accuracy, cheapest first."""
    best: list[FrontPoint] = []
    for point in sorted(points, key=lambda each: (each.cost, -each.validation.rank)):
        if not best or point.validation.rank > best[-1].validation.rank:
            best.append(point)
    return tuple(best)


def kind_of(cell: Cell, search: Search) -> str:
    """The name under which a cell's network is compared."""
    way = SEARCHED if cell.layer_ratios else {"layer": UNIFORM}.get(cell.scope, GLOBAL)
    return named(search, DENSE if cell.is_dense else way, cell.pattern, cell.quantize, cell.retraining is not None)


def named(search: Search, way: str, pattern: str, precision: str, retrained: bool = False) -> str:
    """The kind of networks that were cut in a way, in one of a search's patterns (told unless it is the first) and one
    of its precisions, retrained or not."""
    other = "" if pattern == search.each_pattern[0] or way == DENSE else f", {pattern}"
    return way + other + (RETRAINED if retrained else "") + _SUFFIXES[precision]


def _told(cell: Cell) -> str:
    way = "one ratio for each layer" if cell.layer_ratios else {"layer": "uniform"}.get(cell.scope, cell.scope)
    retrained = ", retrained" if cell.retraining else ""
    pattern = "" if cell.pattern == UNSTRUCTURED else f" in {cell.pattern}"
    return f"{way}, {percent(round(cell.ratio, 4))}{pattern}{retrained}{_SUFFIXES[cell.quantize]}"


def last_holding(
    ladder: Sequence[Each],
    holds: Callable[[Each], bool],
    excess: Callable[[Each], float | None] = lambda _: None,
    before: float = 0.0,
) -> int | None:
    """The index of the last that holds: as if all before one that holds did too. None if none does.

    By bisection, also after two small steps; or, where `excess` says something of those that were looked at (it rises
    along the ladder, and one holds until it is 1), by interpolation of its logarithm: then one that comes within CLOSE
    of 1 is the last. before: the excess of what stands before the first.
    """
    low, high = -1, len(ladder)
    least, most = max(LITTLE, before), None
    small = 0
    while high - low > 1 and least < CLOSE:
        width = high - low
        share = 0.5 if small > 1 else _share(least, most)
        middle = min(low + max(1, round(share * width)), high - 1)
        if holds(ladder[middle]):
            low, least = middle, max(LITTLE, excess(ladder[middle]) or 0.0)
        else:
            high, most = middle, excess(ladder[middle])
        small = small + 1 if high - low > 0.5 * width + 1 else 0  # where the excess does not rise smoothly
    return low if low >= 0 else None


def _share(least: float, most: float | None) -> float:
    """Where between two excesses, of which only the second is above 1, 1 should be; not too near to either, so that
    what is left to search always shrinks. A half where the second is unknown."""
    if most is None or not 1 < most < math.inf:
        return 0.5
    return min(max(math.log(1 / least) / math.log(most / least), 0.1), 0.9)


@dataclass(frozen=True, slots=True)
class Best:
    """Levels of the layers, what they cost, and the cell that they make."""

    levels: tuple[int, ...]
    cost: float
    cell: Cell


class Finder:
    """Solves for the ratio of every layer, of networks of one precision: that of the search's template.

    front: the first one, from harms measured one layer at a time. tried: networks that find() had to judge.
    """

    def __init__(self, search: Search, laboratory: Laboratory, trials: Trials, reporter: Reporter) -> None:
        self._search, self._laboratory, self._trials, self._reporter = search, laboratory, trials, reporter
        self._layers = list(laboratory.sizes)
        self._levels = [laboratory.levels(layer) for layer in self._layers]
        self._costs, self._rest = self._measure_costs()
        self.front = best_combinations(self._costs, self._measure_harms())
        self.tried, self._before = 0, trials.tried

    def find(self) -> Best:
        """The cheapest that holds; the whole network where nothing else does."""
        nothing = Combination(sum(each[0] for each in self._costs), 0.0, (0,) * len(self._layers))
        best = self._climb(self.front, RUNGS) or self._made(nothing)
        for number in range(self._search.rounds):
            better = self._improved(best, f"harm around the best, round {number + 1} of {self._search.rounds}")
            if better is None:
                break
            best = better
        self.tried = self._trials.tried - self._before
        return best

    def ladder_beyond(self, best: Best) -> list[Cell]:
        """The best itself, then what of the first front is cheaper: as many as bisection can decide among in the
        search's trials."""
        cheaper = [each for each in self.front if each.cost + self._rest < best.cost]
        beyond = rungs(cheaper, 2**self._search.trials - 2) if cheaper else []
        made = [self._made(each) for each in beyond]
        self._trials.priced |= {each.cell: each.cost for each in made}
        return [*([best.cell] if best.cell.ratio else []), *(each.cell for each in made)]

    def _climb(self, front: Sequence[Combination], count: int, before: Best | None = None) -> Best | None:
        """The cheapest of a front that holds, among so many; before: the one that is to be beaten."""
        ladder = [self._made(each) for each in rungs(front, count)]
        for each in ladder:
            self._trials.priced[each.cell] = each.cost
        found = self._trials.best_of([each.cell for each in ladder], before.cell if before else None)
        return None if found is None else ladder[found]

    def _improved(self, best: Best, label: str) -> Best | None:
        """A cheaper one that holds, near the best, by harms measured in its company."""
        harms = self._harms_around(best, label)
        combinations = best_combinations(self._costs, harms)
        if self._search.max_cost is not None:
            return self._climb(combinations, RUNGS)
        front = [each for each in combinations if each.cost + self._rest < best.cost]
        return self._climb(front, RUNGS // 4, best) if front else None

    def _made(self, combination: Combination) -> Best:
        cell = self._cell(combination.levels, self._laboratory.repair)
        return Best(combination.levels, combination.cost + self._rest, cell)

    def _cell(self, levels: Iterable[int], repair: str) -> Cell:
        ratios = {layer: own[level] for layer, own, level in zip(self._layers, self._levels, levels, strict=True)}
        return self._search.cell(ratios, self._laboratory.sizes, repair)

    def _measure_costs(self) -> tuple[list[list[float]], float]:
        """What each layer costs at each of its levels, and what the rest of the network does."""
        steps = range(max(map(len, self._levels)))
        cells = [self._cell([min(step, len(own) - 1) for own in self._levels], "none") for step in steps]
        found = self._laboratory.costs(cells, self._reporter)
        costs = [
            [found[level].by_layer[layer] for level in range(len(own))]
            for layer, own in zip(self._layers, self._levels, strict=True)
        ]
        return costs, found[0].rest

    def _measure_harms(self) -> list[list[float]]:
        """The harm of each level of each layer while all others are whole; infinite from where it is hopeless.

        Every other level is measured; the harm between two is their geometric mean, that of the first half the next.
        """
        nothing = (0,) * len(self._layers)
        total = sum(len(own) - 1 for own in self._levels)
        harms = []
        with self._reporter.task("harm, layer by layer", total) as task:
            for layer, own in enumerate(self._levels):
                row = [0.0] + [math.inf] * (len(own) - 1)
                for level in sorted({*range(2, len(own), 2), len(own) - 1} - {0}):
                    row[level] = self._harm(_with(nothing, layer, level))
                    if level > 1 and math.isinf(row[level - 1]):
                        row[level - 1] = _between(row[level - 2], row[level])
                    if not row[level] <= HOPELESS:
                        break
                task.advance(len(own) - 1, functools.partial(str, self._layers[layer]))
                harms.append(row)
        return harms

    def _harms_around(self, best: Best, label: str) -> list[list[float]]:
        """By how much the harm changes when one layer moves up or down a few levels; infinite out of reach.

        The furthest are measured; in between it changes as if on a line.
        """
        base = self._harm(best.levels)
        harms = [[math.inf] * len(own) for own in self._levels]
        with self._reporter.task(label, len(self._layers)) as task:
            for layer, own in enumerate(self._levels):
                at = best.levels[layer]
                harms[layer][at] = 0.0
                for end in {max(0, at - REACH), min(len(own) - 1, at + REACH)} - {at}:
                    moved = self._harm(_with(best.levels, layer, end)) - base
                    for level in range(min(at, end), max(at, end) + 1):
                        harms[layer][level] = moved * (level - at) / (end - at)
                task.advance(1, functools.partial(str, self._layers[layer]))
        return harms

    def _harm(self, levels: Iterable[int]) -> float:
        return self._laboratory.harm(self._cell(levels, self._laboratory.repair))


def _between(one: float, other: float) -> float:
    """The geometric mean; half of the other where there is no harm in the one."""
    return math.sqrt(one * other) if one > 0 else other / 2


def _with(levels: tuple[int, ...], layer: int, level: int) -> tuple[int, ...]:
    return (*levels[:layer], level, *levels[layer + 1 :])


def find_even(scope: str, search: Search, trials: Trials, repair: str) -> Cell | None:
    """The baseline of a scope with the highest ratio that holds; steps of 1.5 % of what is left."""
    cells = [search.even(scope, ratio, repair) for ratio in _ratios_beyond(0.0, _EVEN_STEPS)]
    found = trials.best_of(cells)
    return None if found is None else cells[found]


def even_ladder(scope: str, best: Cell, search: Search) -> list[Cell]:
    """The best of a baseline, then ones that lose more: as many as the search's trials can decide among."""
    ratios = _ratios_beyond(best.ratio, 2**search.trials - 2)
    return [*([best] if best.ratio else []), *(search.even(scope, ratio, "none") for ratio in ratios)]


def _ratios_beyond(ratio: float, steps: int) -> list[float]:
    """Ratios that leave less and less, by one factor, until a thousandth of all weights is left."""
    factor = (_LEAST_DENSITY / (1 - ratio)) ** (1 / max(1, steps))
    return [round(1 - (1 - ratio) * factor**step, 6) for step in range(1, steps + 1)] if factor < 1 else []


def find_retrained(ladder: Sequence[Cell], trials: Trials) -> Cell | None:
    """The last of a ladder of cells that holds once it is retrained."""
    cells = [trials.search.retrained(cell) for cell in ladder]
    found = last_holding(cells, trials.holds, trials.excess)
    return None if found is None else cells[found]


def find_finished(ladder: Sequence[Cell], trials: Trials) -> Cell | None:
    """The last of a ladder of cells that holds once all of the repair is done to it."""
    cells = [trials.search.finished(cell) for cell in ladder]
    for before, after in zip(ladder, cells, strict=True):
        if before in trials.priced:
            trials.priced[after] = trials.priced[before]
    found = last_holding(cells, trials.holds, trials.excess)
    return None if found is None else cells[found]


def found_by(name: str, trials: Trials, work: Callable[[], object]) -> Found:
    """The networks of a kind that a piece of work found to hold, else the dense one, and how many it tried."""
    before = trials.tried
    work()
    return Found(trials.finalists(name) or (trials.search.dense,), trials.tried - before)
