"""The constants of the native cost model: timed once on each machine and kept in the user's cache."""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

import secateur
from secateur import _native
from secateur.errors import RunError
from secateur.network.graph import Graph
from secateur.support import settings
from secateur.support.replacing import replacing

ROWS = 5  # which of the values is for packing shifted rows
WORTH_TIMING = 1_000_000  # weights: below, a network is run before the timing would be over


@dataclass(frozen=True, slots=True)
class Costs:
    """values: as native/include/secateur/costs.hpp orders them; none: those built in. source: what a plan says of them.

    Raises RunError for another number of values than the cost model has, or one that is no number above 0.
    """

    values: tuple[float, ...]
    source: str = "given"

    def __post_init__(self) -> None:
        count = _native.cost_count()
        if self.values and not (len(self.values) == count and all(math.isfinite(v) and v > 0 for v in self.values)):
            raise RunError(f"costs: expected {count} numbers above 0, or none for those built in, got {self.values}")


BUILT_IN = Costs((), "built in")


def costs_for(graph: Graph, kernel: str, calibrate: bool) -> Costs:
    """What the cost model should use: measured constants for a large network, unless that is switched off."""
    if not calibrate or settings.CALIBRATE.value == "0" or _weights(graph) < WORTH_TIMING:
        return BUILT_IN
    return measured(kernel)


def measured(kernel: str) -> Costs:
    """From the user's cache, else timed now and put there; a cache that cannot be read or written is done without."""
    from secateur.records.environment import cpu_name

    key = {"cpu": cpu_name(), "kernel": kernel, "secateur": secateur.__version__}
    path = settings.user_cache() / "costs" / f"{kernel}.json"
    if (found := _read(path, key)) is not None:
        return Costs(found, "measured")
    values = tuple(_native.measure_costs(kernel))
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps({**key, "values": values}, indent=2) + "\n")
    return Costs(values, "measured")


def _read(path: Path, key: dict[str, str]) -> tuple[float, ...] | None:
    """None for a file that is missing, damaged, or of another processor, kernel or version."""
    try:
        held = json.loads(path.read_text())
        values = tuple(map(float, held.pop("values")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    sound = held == key and len(values) == _native.cost_count() and all(math.isfinite(v) and v > 0 for v in values)
    return values if sound else None


def _weights(graph: Graph) -> int:
    return sum(
        math.prod(graph.weights[node.weights["weight"]].shape) for node in graph.nodes if "weight" in node.weights
    )
