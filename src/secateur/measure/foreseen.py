"""What pruning and quantising would make of each layer's time, by the cost model that plans are made with: estimates.

Nothing is run. The network is cut, or put in eight bits, as far as its cost goes, planned as it would be run, and what
the plan predicts of a layer is compared with what it predicts of the layer as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from secateur.errors import QuantiseError
from secateur.exporting.quantising.sketching import sketch
from secateur.network.graph import Graph
from secateur.network.limits import NO_LIMITS
from secateur.network.zeros import cut
from secateur.runtime import Plan, Session

Cycles = Mapping[str, float]
"""By the name of a layer's node, of one image."""
FLOAT, BYTES = "float32", "int8"
RATIOS = (0.8, 0.9)


@dataclass(frozen=True, slots=True)
class Change:
    """What might be done to every layer: a share of zeros, and what it computes in."""

    zeros: float
    element: str

    def describe(self) -> str:
        zeros = f"{self.zeros:.0%} zeros" if self.zeros else ""
        return " and ".join(part for part in ("int8" if self.element == BYTES else "", zeros) if part)


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What the cost model says. changed: of each change, cycles by layer. empty: with no weight left but zeros."""

    now: Cycles
    empty: Cycles
    changed: Mapping[Change, Cycles]

    def share(self, layer: str, change: Change) -> float | None:
        """The layer's time after a change over its time now; None where the model says nothing of it."""
        return _over(self.changed.get(change, {}), self.now, layer)

    def idle(self, layer: str) -> float | None:
        """Of the layer's time now, what would stay were all of its weights zero."""
        return _over(self.empty, self.now, layer)


def _over(above: Cycles, below: Cycles, layer: str) -> float | None:
    return above[layer] / below[layer] if layer in above and below.get(layer, 0.0) > 0 else None


def foresee(graph: Graph, plan: Plan, planned: Callable[[Graph], Session], batch: int) -> Foreseen:
    """plan: of the graph as it is, for that batch. planned: what would run another graph in the same way.

    A float network is foreseen with single weights cut, and in eight bits with words of four; one in eight bits with
    those only.
    """
    quantised = bool(graph.quantisations)

    def cycles(of: Graph) -> Cycles:
        return cycles_of(planned(of).plan(batch))

    changed = {}
    for ratio in RATIOS:
        element = BYTES if quantised else FLOAT
        changed[Change(ratio, element)] = cycles(cut(graph, ratio, whole_words=quantised))
    if not quantised:
        for ratio in (0.0, *RATIOS):
            if (sketched := _sketched(cut(graph, ratio, whole_words=True) if ratio else graph)) is not None:
                changed[Change(ratio, BYTES)] = cycles(sketched)
    return Foreseen(cycles_of(plan), cycles(cut(graph, 1.0)), changed)


def _sketched(graph: Graph) -> Graph | None:
    try:
        return sketch(graph)
    except QuantiseError:
        return None


def cycles_of(plan: Plan) -> dict[str, float]:
    found: dict[str, float] = {}
    for step in plan.steps:
        if step.layer:
            found[step.name] = found.get(step.name, 0.0) + step.predicted_cycles / step.images
    return found


def planner(kernel: str, threads: int) -> Callable[[Graph], Session]:
    return lambda graph: Session(graph, threads=threads, kernel=kernel, limits=NO_LIMITS)
