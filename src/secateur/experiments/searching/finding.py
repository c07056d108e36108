"""From costs and harms to the cell that costs least and loses no more than it may."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from secateur.errors import PruneError
from secateur.experiments.searching.harms import HOPELESS, harms_of_levels
from secateur.experiments.searching.knapsack import Combination, Table, best_combinations, rungs
from secateur.experiments.searching.laboratory import Laboratory
from secateur.experiments.searching.plan import Option, Search, Way
from secateur.experiments.searching.tables import REACH, Options, Prices, Tables, in_float, replaced
from secateur.records.patterns import is_of_channels
from secateur.records.results import FrontPoint
from secateur.records.scores import Score
from secateur.records.spec import Cell
from secateur.support.progress import Reporter
from secateur.support.quantities import percent

RUNGS = 255
"""Of a front's ladder; eight trials find the highest one that holds."""

FINALISTS = 2
"""Networks of a kind, of those that hold, that are measured whole."""

LITTLE, CLOSE = 0.05, 0.97
"""Shares of what may be lost: less than the first is as good as none, more than the second as good as all."""

GAIN = 0.02
"""A share of the cost that no other network is tried for: times vary by more, and nobody notices less of a file."""

STEPS = 16
"""Into how many parts a ladder falls when one looks around where its last is expected."""

_EVEN_STEPS = 450
_LEAST_DENSITY = 1e-3

DENSE, UNIFORM, GLOBAL, SEARCHED, MIXED = "dense", "uniform", "global", "search", "mixed"
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
        """Does it cost no more than it may, by its layers, in any of what is limited?"""
        limits = self.search.limits
        if len(limits) == 1:
            return self.price(cell) <= limits[0]
        try:
            found = self.laboratory.prices(_cut(cell))
        except PruneError:
            return True
        return all(map(operator.le, found, limits))

    def price(self, cell: Cell) -> float:
        """What it costs: by its layers' tables where they say it, else as it is measured; nothing where it cannot be
        made, since a layer would go."""
        if cell not in self.priced:
            try:
                self.priced[cell] = self.laboratory.price(_cut(cell))
            except PruneError:
                self.priced[cell] = 0.0
        return self.priced[cell]

    @property
    def tried(self) -> int:
        """How many networks were judged, whatever they compute in."""
        return len({cell.in_float32 for cell in self.judged})

    def excess(self, cell: Cell) -> float | None:
        """What a judged cell loses, as a share of what it may; None where that says nothing."""
        before = cell.in_float32
        judged = cell if cell in self.judged else before
        if judged not in self.judged or not self.search.max_drop:
            return None
        return self._lost(judged) / self.search.max_drop

    def _judged(self, cell: Cell) -> bool:
        """Does the cell's network lose no more than it may?"""
        before = cell.in_float32
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
            return f"cannot be made: {self.laboratory.reason(cell)}"
        mean, most = accuracy.lost_from(self.laboratory.trained.validation), self._lost(cell)
        sure = f", {most:.2f} at most" if most > mean else ""
        return f"{mean:+.2f} points lost on validation data{sure}"

    def best_of(
        self,
        ladder: Sequence[Cell],
        costs: Sequence[float],
        before: Best | None = None,
        near: int | None = None,
    ) -> int | None:
        """Where the wanted one stands in a ladder of cells, dear and good ones first: the last that loses no more
        than it may, as `last_holding` finds it, or the first that costs no more; None where there is none. costs: as
        far as they are known. before: what is dearer than all. near: where the last that holds is expected."""
        if self.search.max_cost is None:
            least = (self.excess(before.cell) if before else None) or 0.0
            beyond = [before.cost if before else math.inf]
            return last_holding(ladder, self.holds, self.excess, least, near, [*costs, *beyond])
        dear = last_holding(ladder, lambda cell: not self.affordable(cell))
        first = 0 if dear is None else dear + 1
        if first == len(ladder) or not self.holds(ladder[first]):
            return None
        return first if dear is not None else self._last_as_good(ladder)

    def _last_as_good(self, ladder: Sequence[Cell]) -> int:
        """Where one may have any of them, of those as good as the first the last, which costs least."""
        least = self.rank(ladder[0])
        return last_holding(ladder, lambda cell: self.holds(cell) and self.rank(cell) >= least) or 0

    def finalists(self, name: str) -> tuple[Cell, ...]:
        """Of the kind's cells that hold, the few that should cost least: by the tables, else by what they lose. What is
        the same in all layers is a case of mixed ones."""
        holding = [cell for cell in self.judged if is_of(cell, name, self.search) and self.holds(cell)]
        if self.search.max_cost is not None:
            return tuple(sorted(holding, key=lambda cell: (-self.rank(cell), self.price(cell)))[:FINALISTS])

        def cheap_first(cell: Cell) -> tuple[float, float]:
            return self.price(cell) if cell.layer_ratios else math.inf, -cell.ratio

        return tuple(sorted(holding, key=cheap_first)[:FINALISTS])

    def rank(self, cell: Cell) -> float:
        """How good a judged cell is; infinitely bad where it was not, or cannot be."""
        accuracy = self.judged.get(cell)
        return accuracy.rank if accuracy else -math.inf

    def front(self) -> tuple[FrontPoint, ...]:
        """Of the judged cells that have a price, those that none beats in price and accuracy, cheapest first."""
        judged = ((cell, cost, self.judged.get(cell)) for cell, cost in self.priced.items())
        return undominated([FrontPoint(cell.id, cost, accuracy) for cell, cost, accuracy in judged if accuracy])


def undominated(points: Iterable[FrontPoint]) -> tuple[FrontPoint, ...]:
    """Those that none beats in accuracy and all costs, cheapest first."""
    best: list[FrontPoint] = []
    for point in sorted(points, key=lambda each: (each.cost, -each.validation.rank)):
        if not any(_as_good(each, point) for each in best):
            best.append(point)
    return tuple(best)


def _as_good(one: FrontPoint, other: FrontPoint) -> bool:
    return one.validation.rank >= other.validation.rank and all(map(operator.le, one.each_cost, other.each_cost))


def _cut(cell: Cell) -> Cell:
    """The cell as what it costs is measured."""
    return dataclasses.replace(cell, repair="none", retraining=None)


def kind_of(cell: Cell, search: Search) -> str:
    """The name under which a cell's network is compared."""
    retrained = cell.retraining is not None
    if cell.layer_patterns or cell.keep_float:
        return named_mixed(retrained)
    how = SEARCHED if cell.layer_ratios else {"layer": UNIFORM}.get(cell.scope, GLOBAL)
    return named(search, DENSE if cell.is_dense else how, Way(cell.pattern, cell.quantize), retrained)


def is_of(cell: Cell, name: str, search: Search) -> bool:
    """Whether a cell's network may be compared under a name: networks that are the same in all layers are also cases of
    mixed ones."""
    if kind_of(cell, search) == name:
        return True
    single = bool(cell.layer_ratios) and not is_of_channels(cell.pattern)
    return single and name == named_mixed(cell.retraining is not None)


def named(search: Search, how: str, way: Way, retrained: bool = False) -> str:
    """The kind of networks that were cut somehow, in one of a search's patterns (told unless it is the first) and one
    of its precisions, retrained or not."""
    other = "" if way.pattern == search.each_pattern[0] or how == DENSE else f", {way.pattern}"
    return how + other + (RETRAINED if retrained else "") + _SUFFIXES[way.precision]


def named_mixed(retrained: bool = False) -> str:
    """The kind of networks whose layers differ in pattern or precision."""
    return MIXED + (RETRAINED if retrained else "")


def _told(cell: Cell) -> str:
    how = "one ratio for each layer" if cell.layer_ratios else {"layer": "uniform"}.get(cell.scope, cell.scope)
    retrained = ", retrained" if cell.retraining else ""
    pattern = f" in {cell.patterns_told}" if cell.patterns_told else ""
    element = f", {cell.element_told}" if cell.quantize != "none" else ""
    return f"{how}, {percent(round(cell.ratio, 4))}{pattern}{retrained}{element}"


def last_holding(
    ladder: Sequence[Each],
    holds: Callable[[Each], bool],
    excess: Callable[[Each], float | None] = lambda _: None,
    before: float = 0.0,
    near: int | None = None,
    costs: Sequence[float] | None = None,
) -> int | None:
    """The index of the last that holds: as if all before one that holds did too. None if none does.

    By bisection, also after two small steps; or, where `excess` says something of those that were looked at (it rises
    along the ladder, and one holds until it is 1), by interpolation of its logarithm: then one that comes within CLOSE
    of 1 is the last. before: the excess of what stands before the first. near: where the last that holds is expected:
    there one looks first, and from there in steps that double until it lies in between. costs: of all of them; the last
    that holds so far is the last where the best that is left costs hardly less (GAIN); behind them that of what stands
    before the first.
    """
    low, high = -1, len(ladder)
    least, most = max(LITTLE, before), None
    small = 0
    step = max(1, len(ladder) // STEPS)
    while high - low > 1 and least < CLOSE:
        if costs and high < len(ladder) and costs[high - 1] > (1 - GAIN) * costs[low]:
            break
        width = high - low
        if near is None or (low >= 0 and high < len(ladder)):
            middle = low + round((0.5 if small > 1 else _share(least, most)) * width)
        elif width > len(ladder):  # nothing was looked at
            middle = near
        else:
            middle, step = (high - step if low < 0 else low + step), 2 * step
        middle = min(max(middle, low + 1), high - 1)
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
    """An option for each layer, what they cost together, and the cell that they make."""

    options: Options
    cost: float
    cell: Cell


class Finder:
    """Solves for the option of every layer: its ratio, and its pattern and precision where there are several ways; or
    of every group of channels.

    front: the first one, from harms measured one layer at a time. tried: networks that find() had to judge.
    """

    def __init__(
        self, search: Search, laboratory: Laboratory, trials: Trials, tables: Tables, reporter: Reporter
    ) -> None:
        self._search, self._laboratory, self._trials, self._reporter = search, laboratory, trials, reporter
        self._tables = tables
        self._patterns = tuple(dict.fromkeys(option.way.pattern for own in tables.options for option in own))
        self._prices = tables.prices(reporter=reporter)
        self._harms = self._measure_harms()
        self.front = _priced(self._prices, self._harms)
        self.tried, self._before = 0, trials.tried

    def find(self, others: Sequence[Best] = ()) -> Best:
        """The cheapest that holds; the whole network where nothing else does. others: what was found in one way alone,
        around the best of which is looked too."""
        nothing = self._adopted([own[0] for own in self._tables.options])
        adopted = [self._adopted(each.options) for each in others]
        best = self._better([self._climb(self.front, RUNGS) or nothing, *adopted])
        for number in range(self._search.rounds):
            better = self._improved(best, f"harm around the best, round {number + 1} of {self._search.rounds}")
            if better is None:
                break
            best = better
        self.tried = self._trials.tried - self._before
        return best

    def as_harmful(self, best: Best) -> float:
        """The ratio at which the same in every layer does as much harm as the best does, by what each does alone."""
        rows = zip(self._tables.options, self._harms, strict=True)
        known = [{option: min(harm, HOPELESS) for option, harm in zip(*row, strict=True)} for row in rows]
        aim = sum(harms.get(option, 0.0) for harms, option in zip(known, best.options, strict=True))
        even = [
            sum([harm for option, harm in own.items() if option.ratio <= ratio][-1] for own in known)
            for ratio in self._search.ratios
        ]
        return float(np.interp(aim, np.maximum.accumulate(even), self._search.ratios))

    def ladder_beyond(self, best: Best) -> list[Cell]:
        """The best itself, then what of the first front is cheaper: as many as bisection can decide among in the
        search's trials."""
        cheaper = [each for each in self.front if each.cost < best.cost]
        made = self._ladder(cheaper, 2**self._search.trials - 2)
        return [*([best.cell] if best.cell.ratio else []), *(each.cell for each in made)]

    def _adopted(self, options: Iterable[Option]) -> Best:
        """What was found elsewhere, by the tables here."""
        rows = zip(self._tables.options, options, strict=True)
        levels = tuple(own.index(each if each in own else in_float(each)) for own, each in rows)
        costs = (row[level] for row, level in zip(self._prices.rows, levels, strict=True))
        combination = Combination(sum(costs), 0.0, levels)
        return self._made(dataclasses.replace(combination, cost=self._prices.total(combination)))

    def _better(self, found: Sequence[Best]) -> Best:
        """The cheapest, or, where the cost is the budget, the one that scores best."""
        if self._search.max_cost is None:
            return min(found, key=lambda each: each.cost)
        return max(found, key=lambda each: self._trials.rank(each.cell))

    def _climb(self, front: Sequence[Combination], count: int, before: Best | None = None) -> Best | None:
        """The cheapest of a front that holds, among so many; before: the one that is to be beaten."""
        ladder = self._ladder(front, count)
        costs = [each.cost for each in ladder]
        found = self._trials.best_of([each.cell for each in ladder], costs, before)
        for each in ladder:
            if each.cell in self._trials.judged:
                self._trials.price(each.cell)
        return None if found is None else ladder[found]

    def _improved(self, best: Best, label: str) -> Best | None:
        """A cheaper one that holds, near the best, by harms measured in its company."""
        front = _priced(self._tables.prices(best.options, self._reporter), self._harms_around(best, label))
        if self._search.max_cost is not None:
            return self._climb(front, RUNGS)
        cheaper = [each for each in front if each.cost < best.cost]
        return self._climb(cheaper, RUNGS // 4, best) if cheaper else None

    def _ladder(self, front: Sequence[Combination], count: int) -> list[Best]:
        """So many of a front, whose prices are remembered where they say what is cheap."""
        made = [self._made(each) for each in rungs(front, count)] if front else []
        self._trials.priced |= {each.cell: each.cost for each in made if self._tables.adds_up(each.cell)}
        return made

    def _made(self, combination: Combination) -> Best:
        options = tuple(own[level] for own, level in zip(self._tables.options, combination.levels, strict=True))
        return Best(options, combination.cost, self._tables.cell(options, self._laboratory.repair))

    def _measure_harms(self) -> list[list[float]]:
        """The harm of each option of each layer while all others are whole; infinite from where it is hopeless.
        What eight bits do is added."""
        whole = tuple(own[0] for own in self._tables.options)
        harms = []
        with self._reporter.task("harm, layer by layer", sum(map(len, self._tables.options))) as task:
            for place, own in enumerate(self._tables.options):
                rows = {pattern: self._harms_of(whole, place, pattern) for pattern in self._patterns}
                harms.append([
                    rows[option.way.pattern][option.level] + self._tables.added(place, option, own[0])
                    for option in own
                ])  # fmt: skip
                task.advance(len(own), functools.partial(str, self._tables.names[place]))
        return harms

    def _harms_of(self, whole: Options, place: int, pattern: str) -> list[float]:
        own = self._levels(place, pattern)
        return harms_of_levels(len(own), lambda level: self._harm(replaced(whole, place, own[level])))

    def _levels(self, place: int, pattern: str) -> list[Option]:
        """A layer's options in a pattern, of one precision."""
        own = [option for option in self._tables.options[place] if option.way.pattern == pattern]
        return [option for option in own if option.way == own[0].way]

    def _harms_around(self, best: Best, label: str) -> list[list[float]]:
        """By how much the harm changes when one layer moves up or down a few levels, or to another way there; infinite
        out of reach.

        The furthest are measured; in between it changes as if on a line. What eight bits do is added.
        """
        base = self._harm(best.options)
        harms = []
        with self._reporter.task(label, len(self._tables.names)) as task:
            for place, own in enumerate(self._tables.options):
                rows = {pattern: self._changes(best, base, place, pattern) for pattern in self._patterns}
                harms.append([
                    rows[option.way.pattern].get(option.level, math.inf)
                    + self._tables.added(place, option, best.options[place])
                    for option in own
                ])  # fmt: skip
                task.advance(1, functools.partial(str, self._tables.names[place]))
        return harms

    def _changes(self, best: Best, base: float, place: int, pattern: str) -> dict[int, float]:
        """By how much the harm changes at each level of a pattern that is in reach."""
        own, at = self._levels(place, pattern), best.options[place]
        middle = min(at.level, len(own) - 1)
        known = {middle: 0.0} if at.way.pattern == pattern else {}
        for end in {max(0, middle - REACH), min(len(own) - 1, middle + REACH)} - known.keys():
            known[end] = self._harm(replaced(best.options, place, own[end])) - base
        places = sorted(known)
        levels = range(places[0], places[-1] + 1)
        found = np.interp(levels, places, [known[each] for each in places])
        return dict(zip(levels, found.tolist(), strict=True))

    def _harm(self, options: Options) -> float:
        return self._laboratory.harm(self._tables.cell(options, self._laboratory.repair))


def _priced(prices: Prices, harms: Table) -> list[Combination]:
    """The best combinations with what the whole network costs, those that come cheaper with more harm only."""
    front: list[Combination] = []
    for each in best_combinations(prices.rows, harms):
        cost = prices.total(each)
        if not front or cost < front[-1].cost:
            front.append(dataclasses.replace(each, cost=cost))
    return front


def find_even(scope: str, search: Search, trials: Trials, repair: str, near: float) -> Cell | None:
    """The baseline of a scope with the highest ratio that holds; steps of 1.5 % of what is left. near: what that ratio
    is expected to be."""
    ratios = _ratios_beyond(0.0, _EVEN_STEPS)
    cells = [search.even(scope, ratio, repair) for ratio in ratios]
    found = trials.best_of(cells, [1 - ratio for ratio in ratios], near=bisect.bisect(ratios, near))
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
    return _last_of(ladder, trials.search.retrained, trials)


def find_finished(ladder: Sequence[Cell], trials: Trials) -> Cell | None:
    """The last of a ladder of cells that holds once all of the repair is done to it."""
    return _last_of(ladder, trials.search.finished, trials)


def _last_of(ladder: Sequence[Cell], changed: Callable[[Cell], Cell], trials: Trials) -> Cell | None:
    """The last that holds once all are changed so, which cost what they did before."""
    cells = [changed(cell) for cell in ladder]
    trials.priced |= {
        after: trials.priced[before] for before, after in zip(ladder, cells, strict=True) if before in trials.priced
    }
    found = last_holding(cells, trials.holds, trials.excess)
    return None if found is None else cells[found]


def found_by(name: str, trials: Trials, work: Callable[[], object]) -> Found:
    """The networks of a kind that a piece of work found to hold, else the dense one, and how many it tried."""
    before = trials.tried
    work()
    return Found(trials.finalists(name) or (trials.search.dense,), trials.tried - before)
