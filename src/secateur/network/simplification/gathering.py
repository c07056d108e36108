"""Channels into words of a few each, so that their zeros meet.

A word is multiplied where any of its channels has a weight. Which channels share one is a partition; the best is found
by nobody in useful time, so: pairs that have most in common are matched, then pairs of pairs, and then channels of two
words change places for as long as that saves anything. Reordering channels so that pruned weights fill blocks is due
to Ji et al. 2018 (TETRIS); exchanging two channels at a time, to Pool & Yu 2021 (there for 2:4).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from secateur.network.operations.units import Indices, Mask, Numbers

_WORK = 2e11
"""Multiply-adds of a search: some seconds on one core. Counted, not timed, so that results are the same everywhere."""
_CHOICE = 256
"""What it costs to find the best of two channels' exchanges, in the same."""
_PLACES, _ROWS = 4096, 256
"""So many places, and so many channels, are looked at at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Pattern:
    """Where one reader's weights for some channels are not zero: (channels, places). uses: how often each is used."""

    nonzero: Mask
    uses: int


def gather(patterns: Sequence[Pattern], sizes: Indices) -> list[Indices]:
    """The channels of each word, which has as many as `sizes` says. patterns: of the same channels, of all readers."""
    telling = _sampled([_telling(pattern) for pattern in patterns])
    starts = np.cumsum(sizes)[:-1]
    if not any(each.nonzero.size for each in telling):
        return np.split(np.arange(len(patterns[0].nonzero)), starts)
    return _Exchange(telling, np.split(_matched(telling), starts)).words


def _telling(pattern: Pattern) -> Pattern:
    """Only the places where the partition matters: not those of one channel, or of all."""
    counts = np.count_nonzero(pattern.nonzero, axis=0)
    some = (counts > 1) & (counts < len(pattern.nonzero))
    return replace(pattern, nonzero=np.ascontiguousarray(pattern.nonzero[:, some]))


def _sampled(patterns: Sequence[Pattern]) -> list[Pattern]:
    """With so few of the places, evenly, that a search is a quarter of what it may be at most."""
    step = max(1, math.ceil(4 * _work(patterns) / _WORK))
    return [replace(each, nonzero=np.ascontiguousarray(each.nonzero[:, ::step])) for each in patterns]


def _work(patterns: Sequence[Pattern]) -> int:
    """Of comparing each channel with each."""
    return sum(len(each.nonzero) * each.nonzero.size for each in patterns)


def _overlaps(left: Sequence[Mask], right: Sequence[Pattern]) -> Numbers:
    """(left's rows, channels): in how many places both are not zero, as often as these are used."""
    total = np.zeros((len(left[0]), len(right[0].nonzero)))
    for mine, theirs in zip(left, right, strict=True):
        for some in _parts(mine.shape[1]):
            product = mine[:, some].astype(np.float32) @ theirs.nonzero[:, some].astype(np.float32).T
            total += theirs.uses * product.astype(np.float64)  # counts up to 4096, so exact
    return total


def _parts(places: int) -> Iterator[slice]:
    return (slice(first, first + _PLACES) for first in range(0, places, _PLACES))


def _matched(patterns: Sequence[Pattern]) -> Indices:
    """The channels in an order in which pairs, and pairs of pairs, have much in common."""
    pairs = _pairs(patterns)
    joined = [replace(each, nonzero=np.stack([each.nonzero[pair].any(axis=0) for pair in pairs])) for each in patterns]
    return np.concatenate([pairs[at] for pair in _pairs(joined) for at in pair])


def _pairs(patterns: Sequence[Pattern]) -> list[Indices]:
    """Those with the largest overlap first; one that is left over stands alone, at the end.

    Two that prefer each other are a pair of that matching whatever the rest do, so many are found at once.
    """
    overlaps = _without_ties(_overlaps([each.nonzero for each in patterns], patterns))
    free = np.arange(len(overlaps))
    found: list[Indices] = []
    while len(free) > 1:
        best = overlaps.argmax(axis=1)
        first = np.flatnonzero((best[best] == np.arange(len(free))) & (best > np.arange(len(free))))
        found += [*np.stack([free[first], free[best[first]]], axis=1)]
        left = np.setdiff1d(np.arange(len(free)), np.concatenate([first, best[first]]))
        free, overlaps = free[left], overlaps[np.ix_(left, left)]
    return [*found, free] if len(free) else found


def _without_ties(overlaps: Numbers) -> Numbers:
    """Symmetric numbers with a little added, so that no two are equal; none on the diagonal."""
    noise = np.random.default_rng(0).random(overlaps.shape)
    overlaps = overlaps + (noise + noise.T) / 4
    np.fill_diagonal(overlaps, -1)
    return overlaps


class _Exchange:
    """Local search: as many exchanges at once as touch different words, until none saves anything."""

    def __init__(self, patterns: Sequence[Pattern], words: Sequence[Indices]) -> None:
        self.patterns, self.words = patterns, [word.copy() for word in words]
        count = len(patterns[0].nonzero)
        self.word_of = np.empty(count, np.intp)
        for at, word in enumerate(words):
            self.word_of[word] = at
        self.own = self._sizes([each.nonzero for each in patterns])
        self.with_other = np.empty((count, count))
        """What a channel's word would take with another in its place."""
        left = _WORK / 2
        stale = np.arange(count)
        while len(stale) and left > 0:
            self._look(stale)
            left -= _work(patterns) * len(stale) / count + _CHOICE * count**2
            stale = self._step()

    def _sizes(self, rows: Sequence[Mask]) -> Numbers:
        return np.sum(
            [each.uses * np.count_nonzero(row, axis=1) for row, each in zip(rows, self.patterns, strict=True)], axis=0
        )

    def _look(self, channels: Indices) -> None:
        others = [self.words[self.word_of[at]] for at in channels]
        rests = [word[word != at] for at, word in zip(channels, others, strict=True)]
        rows = [np.stack([each.nonzero[rest].any(axis=0) for rest in rests]) for each in self.patterns]
        self.with_other[channels] = self._sizes(rows)[:, None] + self.own - _overlaps(rows, self.patterns)

    def _step(self) -> Indices:
        """Exchange; returns the channels of the words that are others now."""
        partners, gains = self._best()
        changed: set[int] = set()
        for at in np.argsort(gains, kind="stable"):
            pair = (self.word_of[at], self.word_of[partners[at]])
            if gains[at] >= 0:
                break
            if changed.isdisjoint(pair):
                changed.update(pair)
                self._exchange(at, partners[at])
        return np.concatenate([np.zeros(0, np.intp), *(self.words[word] for word in sorted(changed))])

    def _best(self) -> tuple[Indices, Numbers]:
        """For each channel the one to change places with, and what that costs: below 0 where it saves."""
        now = np.diag(self.with_other)
        partners, gains = np.empty(len(now), np.intp), np.empty(len(now))
        for first in range(0, len(now), _ROWS):
            some = slice(first, first + _ROWS)
            costs = self.with_other[some] + self.with_other[:, some].T - now[some, None] - now
            costs[self.word_of[some, None] == self.word_of] = 0
            partners[some] = costs.argmin(axis=1)
            gains[some] = costs.min(axis=1)
        return partners, gains

    def _exchange(self, one: int, other: int) -> None:
        mine, theirs = self.word_of[one], self.word_of[other]
        self.words[mine][self.words[mine] == one] = other
        self.words[theirs][self.words[theirs] == other] = one
        self.word_of[one], self.word_of[other] = theirs, mine
