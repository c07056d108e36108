"""How good a network is: one number by a metric, and how it is told, compared and stored. Needs no PyTorch."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Metric:
    """What a score counts.

    higher: whether more of it is better. share: whether 1 is the most that there is, so that a point is a hundredth;
    of any other metric a point is a hundredth of what the dense network has. unit: what is counted to get it, as in
    "images".
    """

    name: str
    higher: bool = True
    share: bool = True
    unit: str = "examples"

    def text(self, value: float) -> str:
        """As in "92.10%" for an accuracy, "0.8203" for another share, "3.417" for an error."""
        if self.in_per_cent:
            return f"{value:.2%}"
        return f"{value:.4f}" if self.share else f"{value:.4g}"

    @property
    def in_per_cent(self) -> bool:
        """Whether it is told and drawn so: a share of examples, each of which is right or wrong."""
        return self.name in (TOP1.name, TOP5.name)

    def lost(self, value: float, dense: float) -> float:
        """Points lost against the dense network's value; negative where the value is better."""
        return self.points(dense - value if self.higher else value - dense, dense)

    def points(self, difference: float, dense: float) -> float:
        """A difference of values in points, where the dense network has `dense`."""
        return 100 * difference if self.share else 100 * difference / max(abs(dense), _TINY)

    @property
    def a_point(self) -> str:
        """What one point is, in words; nothing where that is a hundredth of all."""
        return "" if self.share else f"a point is 1 % of the dense network's {self.name}"


_TINY = 1e-12
TOP1 = Metric("accuracy", unit="images")
"""The share of images whose label is the network's first choice."""
TOP5 = Metric("top-5 accuracy", unit="images")


Part = tuple[float, int]
"""A value on some of the data, and how many examples those are."""


@dataclass(frozen=True, slots=True)
class Score:
    """A network's value by a metric over n examples.

    top5: of an accuracy, the share of images whose label is among the first five; None for networks with ten classes or
    fewer, where it says little, and for other metrics.
    """

    value: float
    n: int
    top5: float | None = None
    metric: Metric = TOP1

    @property
    def rank(self) -> float:
        """More is better, whatever the metric."""
        return self.value if self.metric.higher else -self.value

    @property
    def text(self) -> str:
        return self.metric.text(self.value)

    def lost_from(self, dense: Score) -> float:
        """Points lost against the dense network's score; never -0.0."""
        return self.metric.lost(self.value, dense.value) + 0.0

    def lost_at(self, confidence: float, dense: Score, own: Sequence[Part], others: Sequence[Part]) -> float:
        """Points lost against the dense network's score at most, at a one-sided confidence, on other data of the kind.

        own and others: of both the values on the parts of the data, at least two, with how many examples each has. What
        is lost varies from part to part, and its mean, each part counting by its size nᵢ, has the variance
        k/(k - 1) Σnᵢ²(xᵢ - x̄)² / (Σnᵢ)² (a ratio of clusters' sums: Cochran 1977, 6.13): Student's t with k - 1 degrees
        of freedom.
        """
        sign = 1 if self.metric.higher else -1
        lost = [self.metric.points(sign * (b - a), dense.value) for (a, _), (b, _) in zip(own, others, strict=True)]
        sizes = [size for _, size in own]
        total, count = sum(sizes), len(sizes)
        mean = sum(size * each for size, each in zip(sizes, lost, strict=True)) / total
        squares = sum((size * (each - mean)) ** 2 for size, each in zip(sizes, lost, strict=True))
        return self.lost_from(dense) + student(confidence, count - 1) * math.sqrt(count / (count - 1) * squares) / total

    @property
    def is_accuracy(self) -> bool:
        """Whether it is a share of examples, each of which is right or wrong: what intervals of shares hold for."""
        return self.metric.name == TOP1.name


def on_all(parts: Sequence[Score]) -> Score:
    """Of accuracies on parts of some images the one on all of them."""
    total = sum(each.n for each in parts)
    right = sum(round(each.value * each.n) for each in parts)
    five = [round(each.top5 * each.n) for each in parts if each.top5 is not None]
    return Score(right / total, total, sum(five) / total if five else None)


def student(confidence: float, degrees: int) -> float:
    """The quantile of Student's t distribution, by its expansion about the normal one (Abramowitz and Stegun 1964,
    26.7.5): within 0.1 % from 7 degrees of freedom on, at 95 %."""
    z = statistics.NormalDist().inv_cdf(confidence)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum(term / degrees**power for power, term in enumerate(terms))


def score_from(fields: Mapping[str, Any]) -> Score:
    """The inverse of plain, of what any version wrote."""
    metric = fields.get("metric")
    return Score(fields["top1"], fields["n"], fields.get("top5"), Metric(**metric) if metric else TOP1)


def plain(value: Any) -> Any:
    """A dataclass as dictionaries and lists, for JSON; a score's value stands under "top1", whatever its metric, and
    the metric beside it where that is not the accuracy."""
    if isinstance(value, Score):
        metric = {} if value.metric == TOP1 else {"metric": dataclasses.asdict(value.metric)}
        return {"top1": value.value, "n": value.n, "top5": value.top5} | metric
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    return type(value)(map(plain, value)) if isinstance(value, (list, tuple)) else value
