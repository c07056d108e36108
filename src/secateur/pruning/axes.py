"""Channels along the axes of tensors: a number for each index, and which numbers stand for channels that go together.

An axis of a tensor is followed as one label (an integer) for each of its indices, or as None where its indices are no
channels, or none that could go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]
Axes = tuple[Labels | None, ...]


@dataclass(slots=True)
class Coupling:
    """Labels that were handed out, which of them belong together, and which must stay and why."""

    count: int = 0
    _ties: list[tuple[Labels, Labels]] = field(default_factory=list)
    _fixed: list[tuple[Labels, str]] = field(default_factory=list)

    def fresh(self, count: int) -> Labels:
        labels = np.arange(self.count, self.count + count)
        self.count += count
        return labels

    def tie(self, one: Labels, other: Labels) -> None:
        """Channels of the same place exist together. Both: (n,)."""
        if one is not other:
            self._ties.append((one, other))

    def fix(self, labels: Labels | None, why: str) -> None:
        if labels is not None:
            self._fixed.append((labels, why))

    def components(self) -> Labels:
        """(count,): for each label the smallest label that it belongs together with."""
        least = np.arange(self.count)
        if not self._ties:
            return least
        one, other = (np.concatenate(side) for side in zip(*self._ties, strict=True))
        while (least[one] != least[other]).any():
            lower = np.minimum(least[one], least[other])
            for side in (least[one], least[other]):
                np.minimum.at(least, side, lower)
            while (least[least] != least).any():
                least = least[least]
        return least

    def reasons(self, components: Labels) -> dict[int, str]:
        """Component → the first reason why it must stay, for those that must."""
        found: dict[int, str] = {}
        for labels, why in self._fixed:
            for component in np.unique(components[labels]).tolist():
                found.setdefault(component, why)
        return found


def reshaped(labels: Labels, axis: int, shape: Sequence[int], made: Sequence[int]) -> tuple[int, Labels] | None:
    """Where the labels of one axis of a tensor of this shape lie in the tensor reshaped to `made`: the axis, and a
    label for each of its indices. None where no axis has them whole."""
    if prod(shape) == 0:
        return None
    run, pattern = _pattern(labels)
    inner = prod(shape[axis + 1 :]) * run
    for place, size in enumerate(made):
        behind = prod(made[place + 1 :])
        if inner % behind == 0 and (behind * size) % (inner * len(pattern)) == 0 and size > 1:
            return place, pattern[np.arange(size) // (inner // behind) % len(pattern)]
    return None


def _pattern(labels: Labels) -> tuple[int, Labels]:
    """The labels as repetitions of a pattern each of whose entries comes `run` times in a row."""
    size = len(labels)
    changes = np.flatnonzero(labels[1:] != labels[:-1]) + 1
    run = int(np.gcd.reduce(np.append(changes, size)))
    short = labels[::run]
    for period in range(1, len(short) + 1):
        if len(short) % period == 0 and (short == np.resize(short[:period], len(short))).all():
            return run, short[:period]
    return run, short
