"""Sessions of networks that are timed in turns, each made once as far as there is memory for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from secateur.network.graph import Graph
from secateur.network.limits import NO_LIMITS
from secateur.runtime import Session

MOST_BYTES = 1 << 32
_LAID_OUT = 2.0
"""What a session takes, in bytes of its graph's weights: those, and what its kernels read of them."""


@dataclass(frozen=True, slots=True)
class Run:
    graph: Graph
    session: Session


class HeldSessions:
    """Sessions by what they are of; those for which there is no room are made anew each time."""

    def __init__(self) -> None:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        self._room: float = min(MOST_BYTES, memory // 8)
        self._held: dict[Hashable, Run] = {}

    def of(self, what: Hashable, make: Callable[[], Graph]) -> Run:
        """The session of what `make` gives, and that."""
        if what in self._held:
            return self._held[what]
        graph = make()
        run, size = Run(graph, Session(graph, limits=NO_LIMITS)), _LAID_OUT * _bytes(graph)
        if size <= self._room:
            self._room -= size
            self._held[what] = run
        return run


def _bytes(graph: Graph) -> int:
    return sum(weight.bits.nbytes for weight in graph.weights.values())
