"""From which share of zeros on a network, and each of its layers, is faster than dense. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from secateur.records.results import Row
from secateur.support.quantities import percent

NOISE = 1.05
"""Times faster than this is faster: layers take microseconds, and every median has an interval."""


@dataclass(frozen=True, slots=True)
class BreakEven:
    """How many times faster than dense one thing is at each ratio, None where it was not measured."""

    name: str
    ratios: tuple[float, ...]
    times: tuple[float | None, ...]

    @property
    def ratio(self) -> float | None:
        """The lowest ratio above 0 from which on it is always faster, None where it is not even so at the highest."""
        found = None
        for ratio, times in zip(reversed(self.ratios), reversed(self.times), strict=True):
            if ratio == 0 or (times is not None and times <= NOISE):
                break
            found = ratio if times is not None else found
        return found

    def describe(self) -> str:
        return "never" if self.ratio is None else f"from {percent(self.ratio)} on"


def break_evens(rows: Sequence[Row]) -> list[BreakEven]:
    """The whole network against its dense one in PyTorch, then against its dense one in the runtime, then the layers.

    rows: one curve and seed, in order of their ratio, timed on one machine. Without a dense row among them only the
    first can be told, which each row was timed beside.
    """
    ratios = tuple(row.cell.ratio for row in rows)
    found = [_network(f"whole network, {_images(batch)}, against PyTorch", rows, batch, _beside) for batch in (1, 64)]
    dense = rows[0] if rows and rows[0].cell.ratio == 0 else None
    if dense:
        found += [
            _network(f"whole network, {_images(batch)}, in the runtime", rows, batch, _in_runtime(dense))
            for batch in (1, 64)
        ]
        for place, layer in enumerate(dense.layers):
            pairs = [(layer.milliseconds, row.layers[place].milliseconds) for row in rows]
            found.append(BreakEven(layer.name, ratios, tuple(_share(before, now) for before, now in pairs)))
    return [each for each in found if any(times is not None for times in each.times)]


def _network(name: str, rows: Sequence[Row], batch: int, dense: Callable[[Row, int], float | None]) -> BreakEven:
    ours = [row.latency("secateur", batch) for row in rows]
    times = [_share(dense(row, batch), each.median_ms if each else None) for row, each in zip(rows, ours, strict=True)]
    return BreakEven(name, tuple(row.cell.ratio for row in rows), tuple(times))


def _beside(row: Row, batch: int) -> float | None:
    """The dense network in PyTorch, timed in turns with the row's."""
    latency = row.latency("dense", batch)
    return latency.median_ms if latency else None


def _in_runtime(dense: Row) -> Callable[[Row, int], float | None]:
    def milliseconds(_: Row, batch: int) -> float | None:
        latency = dense.latency("secateur", batch)
        return latency.median_ms if latency else None

    return milliseconds


def _share(dense: float | None, ours: float | None) -> float | None:
    return dense / ours if dense and ours else None


def _images(batch: int) -> str:
    return "1 image" if batch == 1 else f"{batch} images"
