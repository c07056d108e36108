"""Ways of pruning side by side, as Blalock et al. 2020 (§6) ask: accuracy over compression and theoretical speed-up,
and over what is real: bytes and latency; controls among them, means over seeds with intervals, every point as it is.

Needs no PyTorch.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from secateur.measure.intervals import Spread
from secateur.records.results import Row
from secateur.records.scores import Metric
from secateur.report.grid import Grid
from secateur.report.summary import Curve, curve_name
from secateur.support.quantities import percent


@dataclass(frozen=True, slots=True)
class Measure:
    """What accuracy is drawn against: the text of the axis, a row's value, whether the axis counts in k and M."""

    axis: str
    value: Callable[[Row], float | None]
    prefixed: bool = False


def _latency(row: Row) -> float | None:
    latency = row.our_latency()
    return latency.median_ms if latency else None


MEASURES = (
    Measure("weights over non-zero weights (compression)", lambda row: _ratio(1, 1 - row.sparsity)),
    Measure("multiply-adds over those of non-zero weights", lambda row: _ratio(row.macs, row.nonzero_macs)),
    Measure("bytes of the saved file", lambda row: row.bytes, prefixed=True),
    Measure("latency of one image in ms (one thread)", _latency),
)
"""What counting promises, where more is better, and what is real, where less is."""


def _ratio(whole: float, part: float) -> float | None:
    return whole / part if part > 0 else None


@dataclass(frozen=True, slots=True)
class At:
    """One point of a line: the mean of a measure over the seeds, and their accuracies."""

    x: float
    accuracy: Spread
    ratio: float

    @property
    def below(self) -> float:
        """How far the interval reaches down from the mean, within [0, 1]; 0 where one seed has none."""
        low = self.accuracy.low
        return 0.0 if low is None else self.accuracy.mean - max(0.0, low)

    @property
    def above(self) -> float:
        high = self.accuracy.high
        return 0.0 if high is None else (min(1.0, high) if self.accuracy.mean <= 1 else high) - self.accuracy.mean


def line_of(curve: Curve, measure: Measure) -> list[At]:
    """A curve over a measure; without the points at which some seed has none."""
    points = []
    for point in curve.points:
        values = [value for row in point.rows if (value := measure.value(row)) is not None]
        if len(values) == len(point.rows):
            points.append(At(statistics.fmean(values), point.accuracy, point.ratio))
    return points


def compared(curves: Iterable[Curve]) -> list[Curve]:
    """The curves of one network that a comparison shows; none where there are fewer than two."""
    pruned = [curve for curve in curves if any(point.ratio > 0 for point in curve.points)]
    return pruned if len(pruned) > 1 else []


def accuracy_grid(curves: Sequence[Curve]) -> Grid:
    """Accuracy of each way at each ratio: mean, half of its 95 % interval and the number of seeds; nothing left out."""
    ratios = sorted({point.ratio for curve in curves for point in curve.points})
    lines = []
    for curve in curves:
        known = {point.ratio: _text(point.accuracy, curve.metric) for point in curve.points}
        lines.append((curve_name(curve, curves), *(known.get(ratio, "–") for ratio in ratios)))
    return Grid(
        title=f"{_title(curves[0].metric)}, every way at every ratio",
        columns=("way", *(percent(ratio) for ratio in ratios)),
        lines=tuple(lines),
        texts=1,
        notes=("Mean over n seeds ± half of its 95 % confidence interval (Student's t), (n).",),
    )


def _title(metric: Metric) -> str:
    return "Accuracy on test data in %" if metric.in_per_cent else f"{metric.name} on test data"


def _text(spread: Spread, metric: Metric) -> str:
    if not metric.in_per_cent:
        half = f" ± {spread.half:.2g}" if spread.half is not None else ""
        return f"{metric.text(spread.mean)}{half} ({spread.n})"
    half = f" ± {100 * spread.half:.2f}" if spread.half is not None else ""
    return f"{100 * spread.mean:.2f}{half} ({spread.n})"
