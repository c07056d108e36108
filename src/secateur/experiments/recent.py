"""Networks that were made a moment ago: a search judges one, measures it whole, and times it beside others."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from dataclasses import dataclass, field

from torch import nn

from secateur.modules.guarding import copied
from secateur.network.graph import Graph
from secateur.records.results import Retrained
from secateur.records.spec import Cell
from secateur.support.machine import memory_bytes

LIMIT = min(1 << 31, memory_bytes() // 8)
"""Bytes of parameters and buffers that are kept at most: making a network again takes as long as judging it."""


@dataclass(slots=True)
class Made:
    """A cell's network, its retraining if it had any, the memory that pruning took at most and still holds, and its
    graphs in eight bits, by the layers that stay in float32."""

    network: nn.Module
    retrained: Retrained | None
    peak: int | None
    held: int | None
    graphs: dict[tuple[str, ...], Graph] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(each.nbytes for each in (*self.network.parameters(), *self.network.buffers()))


class Recent:
    """The last networks that were kept. What it computes in makes a cell's network no other."""

    def __init__(self) -> None:
        self._made: OrderedDict[Cell, Made] = OrderedDict()

    def find(self, cell: Cell) -> Made | None:
        """What was made for the cell, if it is still there; its network is not to be changed."""
        key = _key(cell)
        if key in self._made:
            self._made.move_to_end(key)
        return self._made.get(key)

    def keep(self, cell: Cell, made: Made) -> None:
        """Keep a copy of its network, in the place of those that were not asked for the longest."""
        self._made[_key(cell)] = dataclasses.replace(made, network=copied(made.network))
        while len(self._made) > 1 and sum(each.size for each in self._made.values()) > LIMIT:
            self._made.popitem(last=False)


def _key(cell: Cell) -> Cell:
    return cell.in_float32
