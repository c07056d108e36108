"""Groups of coupled channels, each of which loses a share of its own."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from secateur.experiments.searching.knapsack import Combination
from secateur.experiments.searching.laboratory import Laboratory
from secateur.experiments.searching.plan import Option, Search, Way
from secateur.experiments.searching.tables import REACH, Options, Prices, replaced
from secateur.records.spec import Cell
from secateur.support.progress import Reporter, SilentReporter

STEPS = 16
"""Of a group of channels; there are fewer where it has fewer channels."""


class ChannelTables:
    """Of groups of channels that exist together, named by the first layer that makes them: what the whole network costs
    without some channels of one group.

    A layer between two groups costs what both leave of it, so shares of costs multiply: their logarithms add up. Around
    a choice they are measured again.
    """

    def __init__(self, search: Search, laboratory: Laboratory, way: Way) -> None:
        self._search, self._laboratory, self._way = search.among(way), laboratory, way
        self._groups = laboratory.groups
        self.names = list(self._groups)
        self.options = [self._options_of(count) for count in self._groups.values()]

    def prices(self, near: Options | None = None, reporter: Reporter | None = None) -> Prices:
        start = near or tuple(own[0] for own in self.options)
        places = [self._measured_at(at, own, near is not None) for at, own in zip(start, self.options, strict=True)]
        moved = [
            replaced(start, place, self.options[place][level])
            for place, levels in enumerate(places)
            for level in levels
        ]
        cells = [self.cell(options, "none") for options in (start, *moved)]
        base, *found = self._laboratory.totals(cells, reporter or SilentReporter())
        left = iter(found)
        rows = [
            self._row({at.level: 0.0} | {level: math.log(max(next(left), 1e-12) / base) for level in levels}, len(own))
            for at, levels, own in zip(start, places, self.options, strict=True)
        ]

        def total(combination: Combination) -> float:
            return base * math.exp(combination.cost)

        return Prices(rows, total)

    def added(self, place: int, option: Option, before: Option) -> float:
        return 0.0

    def cell(self, options: Options, repair: str) -> Cell:
        ratios = {group: option.ratio for group, option in zip(self.names, options, strict=True)}
        made = self._search.cell(ratios, self._groups, repair)
        return dataclasses.replace(made, ratio=self._laboratory.gone_with(ratios)) if made.layer_ratios else made

    def adds_up(self, cell: Cell) -> bool:
        return cell.is_dense

    def _options_of(self, count: int) -> list[Option]:
        """Shares that leave a channel, in even steps."""
        gone = sorted({round(count * step / STEPS) for step in range(STEPS)} - {count})
        return [Option(self._way, level, round(each / count, 6)) for level, each in enumerate(gone)]

    @staticmethod
    def _measured_at(at: Option, own: Sequence[Option], near: bool) -> list[int]:
        """The levels that are measured: every other one, or the ends of what is in reach."""
        last = len(own) - 1
        levels = {max(0, at.level - REACH), min(last, at.level + REACH)} if near else {*range(0, last, 2), last}
        return sorted(levels - {at.level})

    @staticmethod
    def _row(known: dict[int, float], count: int) -> list[float]:
        """At all levels, on lines between those that are known."""
        places = sorted(known)
        found: list[float] = np.interp(range(count), places, [known[place] for place in places]).tolist()
        return found
