"""What options of layers cost together, and the cell that they make."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from secateur.experiments.searching.harms import HOPELESS
from secateur.experiments.searching.knapsack import Combination, Table
from secateur.experiments.searching.laboratory import Laboratory
from secateur.experiments.searching.plan import Option, Search, Way
from secateur.records.spec import Cell
from secateur.support.progress import Reporter

REACH = 2
"""Levels up and down that are looked at around the best."""
HALF = 0.5
"""The ratio that layers have at most where it is measured what one in float32 costs among others in eight bits."""

Options = tuple[Option, ...]
"""One for each layer."""


@dataclass(frozen=True, slots=True)
class Prices:
    """rows[layer][option]: what a knapsack adds up. total: what the whole network costs, of a combination of these."""

    rows: Table
    total: Callable[[Combination], float]


class Tables(Protocol):
    """What a Finder needs to know of the layers, or of what else options are chosen for.

    names: of them. options: of each, the whole layer first.
    """

    names: list[str]
    options: list[list[Option]]

    def prices(self, near: Options | None = None, reporter: Reporter | None = None) -> Prices:
        """What options cost; near: around these, as only such are asked for."""

    def added(self, place: int, option: Option, before: Option) -> float:
        """What it adds to the harm that a layer computes in something else than before."""

    def cell(self, options: Options, repair: str) -> Cell:
        """The cell that they make."""

    def adds_up(self, cell: Cell) -> bool:
        """Whether the tables say what a cell costs, so that it need not be measured."""


class LayerTables:
    """Of layers, each in one of some ways: what each costs in each of its options, by networks all of whose layers are
    at one level in one way.

    In several precisions a layer that stays in float32 among others in eight bits costs more than it does alone, as
    numbers of one kind become the other before it and behind; and eight bits do harm.
    """

    def __init__(self, search: Search, laboratory: Laboratory, ways: Sequence[Way], reporter: Reporter) -> None:
        self._search, self._laboratory, self._ways = search, laboratory, ways
        self._mixed = len({way.precision for way in ways}) > 1
        self.names = list(laboratory.sizes)
        self.options = [self._options_of(layer) for layer in self.names]
        self._places = [{option: place for place, option in enumerate(own)} for own in self.options]
        self._costs, self._rests = self._measured(reporter)
        self._apart = self._measured_apart(reporter) if self._mixed else {}
        self._eight_bits = self._harms_of_eight_bits(reporter) if self._mixed else {}

    def prices(self, near: Options | None = None, reporter: Reporter | None = None) -> Prices:
        rows = [
            [cost + (self._apart.get(layer, 0.0) if option.way.precision == "none" else 0.0)
             for option, cost in zip(own, costs, strict=True)]
            for layer, own, costs in zip(self.names, self.options, self._costs, strict=True)
        ]  # fmt: skip

        def total(combination: Combination) -> float:
            options = [own[level] for own, level in zip(self.options, combination.levels, strict=True)]
            precision = precision_of(options)
            if self._mixed and precision == "none":
                return self._sum(options)
            return combination.cost + self._rests[precision]

        return Prices(rows, total)

    def added(self, place: int, option: Option, before: Option) -> float:
        if option.way.precision == before.way.precision:
            return 0.0
        harm = self._eight_bits.get(self.names[place], math.inf)
        return harm if before.way.precision == "none" else -min(harm, HOPELESS)

    def cell(self, options: Options, repair: str) -> Cell:
        chosen, precision = dict(zip(self.names, options, strict=True)), precision_of(options)
        able = self._laboratory.in_eight_bits if self._mixed else ()
        floats = [layer for layer, option in chosen.items() if option.way.precision != precision and layer in able]
        search = self._search.among(Way(self._ways[0].pattern, precision))
        ratios = {layer: option.ratio for layer, option in chosen.items()}
        patterns = {layer: option.way.pattern for layer, option in chosen.items()}
        return search.cell(ratios, self._laboratory.sizes, repair, patterns, floats)

    def adds_up(self, cell: Cell) -> bool:
        known = not self._mixed or cell.quantize == "none" or set(self.names) <= {*self._laboratory.in_eight_bits}
        return known and not cell.keep_float

    def _options_of(self, layer: str) -> list[Option]:
        able = not self._mixed or layer in self._laboratory.in_eight_bits
        return [
            Option(way, level, ratio)
            for way in self._ways
            if able or way.precision == "none"
            for level, ratio in enumerate(self._laboratory.levels(layer, way.pattern))
        ]

    def _measured(self, reporter: Reporter) -> tuple[list[list[float]], Mapping[str, float]]:
        """What each layer costs in each of its options, and what the rest of the network does in each precision."""
        steps = {way: self._steps(way) for way in self._ways}
        found = iter(self._laboratory.costs([cell for cells in steps.values() for cell in cells], reporter))
        tables = {way: [next(found) for _ in cells] for way, cells in steps.items()}
        costs = [
            [tables[option.way][option.level].by_layer[layer] for option in own]
            for layer, own in zip(self.names, self.options, strict=True)
        ]
        return costs, {way.precision: table[0].rest for way, table in reversed(tables.items())}

    def _steps(self, way: Way) -> list[Cell]:
        """The networks in one way, one for each level; a layer that has fewer stays at its last."""
        levels = {layer: self._laboratory.levels(layer, way.pattern) for layer in self.names}
        search, sizes = self._search.among(way), self._laboratory.sizes
        return [
            search.cell({layer: own[min(step, len(own) - 1)] for layer, own in levels.items()}, sizes, "none")
            for step in range(max(map(len, levels.values())))
        ]

    def _measured_apart(self, reporter: Reporter) -> dict[str, float]:
        """What each layer costs more where it alone stays in float32."""
        pattern = self._ways[0].pattern
        last = [
            {option.way.precision: option for option in own if option.way.pattern == pattern and option.ratio <= HALF}
            for own in self.options
        ]
        eight = tuple(own.get("int8", own["none"]) for own in last)
        able = [place for place, own in enumerate(last) if len(own) > 1]
        alone = [replaced(eight, place, last[place]["none"]) for place in able]
        found = self._laboratory.costs([self.cell(options, "none") for options in alone], reporter)
        return {
            self.names[place]: max(0.0, costs.total - self._sum(options))
            for place, options, costs in zip(able, alone, found, strict=True)
        }

    def _sum(self, options: Sequence[Option]) -> float:
        costs = (own[at[option]] for own, at, option in zip(self._costs, self._places, options, strict=True))
        return sum(costs) + self._rests[precision_of(options)]

    def _harms_of_eight_bits(self, reporter: Reporter) -> dict[str, float]:
        """The harm of each layer in eight bits alone."""
        able = [layer for layer in self.names if layer in self._laboratory.in_eight_bits]
        found = {}
        with reporter.task("harm of eight bits, layer by layer", len(able)) as task:
            for layer in able:
                found[layer] = self._laboratory.harm_of_eight_bits(layer)
                task.advance(1, functools.partial(str, layer))
        return found


def precision_of(options: Sequence[Option]) -> str:
    """What a network computes in, apart from layers that stay in float32."""
    return next((option.way.precision for option in options if option.way.precision != "none"), "none")


def replaced(options: Options, place: int, option: Option) -> Options:
    """The options with another one for one layer."""
    return (*options[:place], option, *options[place + 1 :])


def in_float(option: Option) -> Option:
    return dataclasses.replace(option, way=Way(option.way.pattern, "none"))
