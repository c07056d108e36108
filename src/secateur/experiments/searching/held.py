"""Sessions of networks that are timed in turns, each made once as far as there is memory for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from secateur.network.graph import Graph
from secateur.network.limits import NO_LIMITS
from secateur.runtime import Session
from secateur.support.machine import memory_bytes

MOST_BYTES = 1 << 32
_LAID_OUT = 2.0
"""Copies of its weights that a session has: the graph's, and what its kernels read."""


@dataclass(frozen=True, slots=True)
class Run:
    """A graph, and the session that runs it."""

    graph: Graph
    session: Session


class HeldSessions:
    """Sessions for batches of so many, by what they are of; those for which there is no room are made anew."""

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._room: float = min(MOST_BYTES, memory_bytes() // 8)
        self._held: dict[Hashable, Run] = {}

    def of(self, what: Hashable, make: Callable[[], Graph]) -> Run:
        """The session of what `make` gives, and that."""
        if what in self._held:
            return self._held[what]
        graph = make()
        run, size = Run(graph, Session(graph, limits=NO_LIMITS)), _bytes(graph, self._batch)
        if size <= self._room:
            self._room -= size
            self._held[what] = run
        return run


def _bytes(graph: Graph, batch: int) -> float:
    """What a session takes, about: weights, and all values of a batch."""
    values = sum(math.prod(size for size in node.shape if isinstance(size, int)) for node in graph.nodes)
    return _LAID_OUT * sum(weight.bits.nbytes for weight in graph.weights.values()) + 4.0 * batch * values
