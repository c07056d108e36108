"""The lowest of many scores, exactly and without a copy: a selection by radix over their bit patterns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.pruning.score import Scores

_DIGIT_BITS = 11
_BINS = 1 << _DIGIT_BITS
_FEW = 1 << 16  # keys that may be copied


@dataclass(frozen=True, slots=True)
class Lost:
    """Of a layer's scores, all below `key` go, and the first `ties` that equal it. `goes` counts both.

    dtype is the precision in which keys are read.
    """

    dtype: torch.dtype
    key: int
    ties: int
    goes: int


def lowest(scores: Scores, group: Sequence[str], count: int) -> Iterator[tuple[str, Lost]]:
    """The cut of each layer such that the group loses its `count` lowest scores; of equal ones the first."""
    if count == 0:
        return
    double = any(scores.values_by_layer[name].dtype == torch.float64 for name in group)
    dtype = torch.float64 if double else torch.float32
    key, left = _kth_smallest(scores, group, count, dtype)
    for name in group:
        below, equal = _count(scores, name, key, dtype)
        ties = min(left, equal)
        left -= ties
        if below + ties:
            yield name, Lost(dtype, key, ties, below + ties)


def _count(scores: Scores, name: str, key: int, dtype: torch.dtype) -> tuple[int, int]:
    """How many scores of a layer lie below a key, and how many are equal to it."""
    below = equal = 0
    for part in scores.parts(name):
        keys = _keys(part, dtype)
        below += int((keys < key).sum())
        equal += int((keys == key).sum())
    return below, equal


def _kth_smallest(scores: Scores, group: Sequence[str], k: int, dtype: torch.dtype) -> tuple[int, int]:
    """(key, rank): the k-th smallest key of a group (from 1), and how many of the keys equal to it are in.

    An exact selection by radix: each pass counts one 11-bit digit of the scores' bit patterns, so nothing is
    copied and nothing sorted, until so few keys share their first digits that these can be.
    """
    prefix, rank = 0, k
    for level in reversed(range(-(-_bits(dtype) // _DIGIT_BITS))):
        counts = torch.zeros(_BINS, dtype=torch.int64)
        for name in group:
            counts += _histogram(scores, name, level * _DIGIT_BITS, prefix, dtype)
        upto = counts.cumsum(0)
        digit = int(torch.searchsorted(upto, rank))
        rank -= int(upto[digit - 1]) if digit else 0
        prefix = prefix << _DIGIT_BITS | digit
        if level and counts[digit] <= _FEW:
            left = torch.empty(int(counts[digit]), dtype=torch.int64)
            _collect(scores, group, level * _DIGIT_BITS, prefix, dtype, left)
            key = int(left.kthvalue(rank).values)
            return key, rank - int((left < key).sum())
    return prefix, rank


def _collect(scores: Scores, group: Sequence[str], shift: int, prefix: int, dtype: torch.dtype, found: Tensor) -> None:
    """Fill `found` with the keys whose bits from `shift` on are `prefix`.

    In place: small tensors that stay between large ones that go would scatter the heap.
    """
    done = 0
    for name in group:
        for part in scores.parts(name):
            keys = _keys(part, dtype)
            keys = keys[keys >> shift == prefix]
            found[done : done + len(keys)] = keys
            done += len(keys)


def _histogram(scores: Scores, name: str, shift: int, prefix: int, dtype: torch.dtype) -> Tensor:
    """How often each digit at `shift` occurs among a layer's keys whose higher bits are `prefix`."""
    counts = torch.zeros(_BINS, dtype=torch.int64)
    for part in scores.parts(name):
        keys = _keys(part, dtype)
        if prefix or shift + _DIGIT_BITS < _bits(dtype):
            keys = keys[keys >> (shift + _DIGIT_BITS) == prefix]
        digits = keys >> shift & (_BINS - 1)
        counts += torch.bincount(digits, minlength=_BINS).cpu()
    return counts


def _bits(dtype: torch.dtype) -> int:
    """How many bits a key has."""
    return 63 if dtype == torch.float64 else 32


def _keys(part: Tensor, dtype: torch.dtype) -> Tensor:
    """int64 keys, 0 or more, that order as finite values do: IEEE bit patterns, negative ones turned over.

    Doubles lose their last bit, which keeps their keys positive.
    """
    if dtype == torch.float64:
        bits = (part.double() + 0.0).view(torch.int64)
        return (torch.where(bits < 0, bits ^ 0x7FFFFFFFFFFFFFFF, bits) >> 1) + (1 << 62)
    bits = (part.float() + 0.0).view(torch.int32).long()
    return torch.where(bits < 0, -1 - (bits & 0x7FFFFFFF), bits) + (1 << 31)


def marked(scores: Scores, name: str, cut: Lost) -> Iterator[Tensor]:
    """Which of a layer's scores are cut: bool, in flat order, 16,384 at a time."""
    left = cut.ties
    for part in scores.parts(name):
        keys = _keys(part, cut.dtype)
        equal = keys == cut.key
        yield (keys < cut.key) | (equal & (equal.cumsum(0) <= left))
        left -= min(left, int(equal.sum()))
