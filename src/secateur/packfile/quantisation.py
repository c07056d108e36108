"""Weights rounded to few values: each becomes a signed level, and a codebook says what the levels mean.

Zeros stay zeros and everything else stays something else. A level's rank counts from 0 at its sign: 1, 2, … and
-1, -2, ….
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.errors import FormatError, UsageError
from secateur.network.formats import WEIGHT_FORMATS
from secateur.network.graph import Bits, Weight
from secateur.network.operations.meanings import pieces

CODEBOOKS = ("uniform", "channel", "k-means")
BITS = (8, 6, 5, 4)
_TABLE, _STEPS, _CHANNELS, _INTEGERS = range(4)
_MOST_RANKS = 256
_PIECE = 1 << 16
_PLACES_FROM = 16  # a tensor that has this many values for each code also says where in its interval each code lies

Levels = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Codebook:
    """What levels mean. words: bit patterns of dtype for levels 1, 2, …, then for -1, -2, ….

    steps: float32, a row's step; where there are any, words are the levels themselves, in 16 bits. packed: as stored.
    """

    words: Bits
    positive: int
    negative: int
    packed: bytes
    steps: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Quantised:
    """levels: (rows × cols,). weight: what they stand for. error: the largest distance from the original."""

    levels: Levels
    codebook: Codebook
    weight: Weight
    error: float


def check_choice(bits: int | None, codebook: str) -> None:
    if bits is not None and bits not in BITS:
        raise UsageError(f"bits {bits!r}: expected one of {', '.join(map(str, BITS))}, or none for lossless")
    if codebook not in CODEBOOKS:
        raise UsageError(f"codebook {codebook!r}: expected one of {', '.join(CODEBOOKS)}")


def quantise(weight: Weight, rows: int, bits: int, codebook: str) -> Quantised | None:
    """A weight in at most 2**bits values besides zero; None where there is nothing to round, or it would
    not stay what it is (NaN, infinity, …).

    "uniform": equal steps between the smallest magnitude that is not zero and the largest. "channel": multiples of a
    step of its own for each row. "k-means": the 2**bits centroids nearest to the values (Han et al. 2016, section 3).
    """
    values = weight.values().reshape(-1)
    if not np.isfinite(values).all() or not values.any():
        return None
    levels, book = _MAKERS[codebook](values, rows, bits, weight.dtype)
    words = look_up(levels, book, weight.dtype)
    made = Weight(weight.dtype, words.reshape(weight.shape))
    distance = np.abs(made.values().reshape(-1).astype(np.float64) - values)
    if not np.isfinite(distance).all() or ((words == 0) != (values == 0)).any():
        return None
    return Quantised(levels, book, made, float(distance.max(initial=0.0)))


def tabulate(weight: Weight) -> tuple[Levels, bytes] | None:
    """A weight of few values as levels and a codebook that says exactly which they are; None where they are many."""
    bits = weight.bits.reshape(-1)
    words = _distinct(bits)
    if words is None:
        return None
    top = words.dtype.type(1 << (8 * words.itemsize - 1))
    positive, negative = words[(words > 0) & (words < top)], words[words >= top]
    if max(positive.size, negative.size) > _MOST_RANKS:
        return None
    zeros = words.size - positive.size - negative.size
    rank = np.concatenate([np.zeros(zeros), np.arange(1, positive.size + 1), -np.arange(1, negative.size + 1)])
    levels, ranks = np.empty(bits.size, np.int16), rank.astype(np.int16)
    for part in pieces(bits.size, 1, _PIECE):
        levels[part] = ranks[np.searchsorted(words, bits[part])]
    packed = struct.pack("<BHH", _TABLE, positive.size, negative.size) + positive.tobytes() + negative.tobytes()
    return levels, packed


def _distinct(bits: Bits) -> Bits | None:
    """The values among these, sorted, a piece at a time; None as soon as they are too many for a codebook."""
    found = bits[:0]
    for part in pieces(bits.size, 1, _PIECE):
        found = np.union1d(found, bits[part])
        if found.size > 2 * _MOST_RANKS + 1:
            return None
    return found


def look_up(levels: Levels, book: Codebook, dtype: str) -> Bits:
    """The bit patterns of levels."""
    if book.steps is not None:
        return scale(levels, book.steps, dtype)
    place = np.where(levels > 0, levels - 1, book.positive - 1 - levels.astype(np.int64))
    return np.where(levels == 0, book.words.dtype.type(0), book.words.take(place, mode="clip"))


def scale(levels: Levels, steps: NDArray[np.float32], dtype: str) -> Bits:
    """The bit patterns of levels times the step of their row, a few rows at a time."""
    words = np.empty(levels.size, WEIGHT_FORMATS[dtype].carrier)
    rows, into = levels.reshape(len(steps), -1), words.reshape(len(steps), -1)
    some = max(1, (1 << 16) // max(1, rows.shape[1]))
    for at in range(0, len(steps), some):
        here = slice(at, at + some)
        into[here] = _words(rows[here].astype(np.float64) * steps[here, None], dtype)
    return words


def _signed(ranks: NDArray[np.integer], values: NDArray[np.float32]) -> Levels:
    return np.where(values == 0, 0, np.where(values < 0, -1 - ranks, 1 + ranks)).astype(np.int16)


def _uniform(values: NDArray[np.float32], rows: int, bits: int, dtype: str) -> tuple[Levels, Codebook]:
    count = 1 << (bits - 1)
    sizes = np.abs(values).astype(np.float64)
    present = values != 0
    low = np.float32(sizes.min(where=present, initial=np.inf))
    step = np.float32((sizes.max(initial=0.0) - low) / count)
    position = (sizes - low) / (step if step > 0 else np.float32(1))
    levels = _signed(np.clip(position, 0, count - 1).astype(np.int64), values)
    places = _mean_places(position, levels, count) if present.sum() >= _PLACES_FROM * 2 * count else None
    packed = struct.pack("<BHBff", _STEPS, count, places is not None, low, step)
    return levels, _read_steps(packed[1:] + (places.tobytes() if places is not None else b""), dtype)[0]


def _mean_places(position: NDArray[np.float64], levels: Levels, count: int) -> NDArray[np.uint8]:
    """Where in its interval the mean of each code's values lies, in 1/256: positive codes, then negative ones."""
    code = np.where(levels > 0, levels - 1, count - 1 - levels.astype(np.int64))[levels != 0]
    within = position[levels != 0] - np.abs(levels[levels != 0]) + 1
    sums = np.bincount(code, within, 2 * count)
    means = sums / np.maximum(1, np.bincount(code, minlength=2 * count))
    return np.clip(means * 256, 0, 255).astype(np.uint8)


def _channel(values: NDArray[np.float32], rows: int, bits: int, dtype: str) -> tuple[Levels, Codebook]:
    count = (1 << (bits - 1)) - 1
    table = np.abs(values).reshape(rows, -1).astype(np.float64)
    steps = (table.max(axis=1, initial=0.0) / count).astype("<f4")
    ranks = np.rint(table / np.where(steps > 0, steps, 1).astype(np.float64)[:, None]).astype(np.int64) - 1
    levels = _signed(np.clip(ranks, 0, count - 1).reshape(-1), values)
    packed = struct.pack("<H", count) + steps.tobytes()
    return levels, _read_channels(packed, rows)[0]


def _k_means(values: NDArray[np.float32], rows: int, bits: int, dtype: str) -> tuple[Levels, Codebook]:
    present = np.sort(values[values != 0].astype(np.float64))
    centroids = _lloyd(present, 1 << bits)
    words = np.unique(_words(centroids, dtype))
    centroids = Weight(dtype, words).values().astype(np.float64)
    centroids, words = centroids[order := np.argsort(centroids)], words[order]
    negative = int((centroids < 0).sum())
    nearest = np.searchsorted((centroids[1:] + centroids[:-1]) / 2, values)
    levels = np.where(nearest >= negative, nearest - negative + 1, nearest - negative)
    levels = np.where(values == 0, 0, levels).astype(np.int16)
    table = np.concatenate([words[negative:], words[:negative][::-1]])
    packed = struct.pack("<HH", len(words) - negative, negative) + table.tobytes()
    return levels, _read_table(packed, dtype)[0]


def _lloyd(ordered: NDArray[np.float64], count: int, rounds: int = 50) -> NDArray[np.float64]:
    """k-means in one dimension, begun with equal distances, which keeps the few large weights in view."""
    if ordered.size == 0:
        return ordered
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    centroids = np.linspace(ordered[0], ordered[-1], count)
    for _ in range(rounds):
        edges = np.searchsorted(ordered, (centroids[1:] + centroids[:-1]) / 2)
        edges = np.concatenate([[0], edges, [ordered.size]])
        sizes = np.diff(edges)
        moved = np.diff(sums[edges])[sizes > 0] / sizes[sizes > 0]
        if len(moved) == len(centroids) and np.allclose(moved, centroids, rtol=1e-7, atol=0):
            break
        centroids = moved
    return centroids


_MAKERS = {"uniform": _uniform, "channel": _channel, "k-means": _k_means}


def read_codebook(packed: bytes, rows: int, dtype: str) -> tuple[Codebook, int]:
    """A codebook from the beginning of some bytes, and how many bytes it took. Raises FormatError."""
    kind = packed[0] if packed else -1
    if (kind == _INTEGERS) != (dtype == "int8"):
        raise FormatError(f"a codebook of kind {kind}, which no weight of {dtype} has")
    if kind == _INTEGERS:
        return INTEGERS, len(INTEGERS.packed)
    if kind == _TABLE:
        return _read_table(packed[1:], dtype)
    if kind == _STEPS:
        return _read_steps(packed[1:], dtype)
    if kind == _CHANNELS:
        return _read_channels(packed[1:], rows)
    raise FormatError(f"a codebook of kind {kind}, which this Secateur does not know")


def _read_table(packed: bytes, dtype: str) -> tuple[Codebook, int]:
    positive, negative = _unpack("<HH", packed)
    if max(positive, negative) > _MOST_RANKS:
        raise FormatError(f"a codebook of {positive} and {negative} words: expected at most {_MOST_RANKS} of each sign")
    words = _array(packed, 4, positive + negative, WEIGHT_FORMATS[dtype].carrier)
    book = Codebook(words, positive, negative, bytes([_TABLE]) + packed[: 4 + words.nbytes])
    return book, len(book.packed)


def _read_steps(packed: bytes, dtype: str) -> tuple[Codebook, int]:
    """word = low + (rank + place) · step, in float64, then rounded; place is (n + ½) / 256, n 127.5 where not given."""
    count, placed, low, step = _unpack("<HBff", packed)
    if not 1 <= count <= _MOST_RANKS or placed > 1 or not (np.isfinite(low) and np.isfinite(step)):
        raise FormatError("a codebook of steps that makes no sense")
    at = struct.calcsize("<HBff")
    size = 2 * count if placed else 0
    places = np.full(2 * count, 0.5)
    if placed:
        places = (_array(packed, at, size, "u1").astype(np.float64) + 0.5) / 256
    sizes = np.float64(low) + (np.tile(np.arange(count), 2) + places) * np.float64(step)
    signs = np.repeat([1.0, -1.0], count)
    book = Codebook(_words(signs * sizes, dtype), count, count, bytes([_STEPS]) + packed[: at + size])
    return book, len(book.packed)


def _read_channels(packed: bytes, rows: int) -> tuple[Codebook, int]:
    """word = ±(rank + 1) · the row's step."""
    (count,) = _unpack("<H", packed)
    if not 1 <= count <= _MOST_RANKS:
        raise FormatError(f"a codebook of {count} words: expected 1 to {_MOST_RANKS}")
    steps = _array(packed, 2, rows, "<f4")
    if not np.isfinite(steps).all():
        raise FormatError("a codebook with a step that is no number")
    levels = _themselves(count, count, "<i2").view("<u2")
    return Codebook(levels, count, count, bytes([_CHANNELS]) + packed[: 2 + 4 * rows], steps), 3 + 4 * rows


def _themselves(positive: int, negative: int, dtype: str) -> NDArray[np.integer]:
    """Levels as the numbers that they are."""
    return np.concatenate([np.arange(1, positive + 1), -np.arange(1, negative + 1)]).astype(dtype)


INTEGERS = Codebook(_themselves(127, 128, "<i1").view("<u1"), 127, 128, bytes([_INTEGERS]))
"""Of int8 weights, in which levels are the numbers themselves."""


def _unpack(layout: str, packed: bytes) -> tuple[Any, ...]:
    if len(packed) < struct.calcsize(layout):
        raise FormatError("a codebook that is cut short")
    return struct.unpack_from(layout, packed)


def _array(packed: bytes, at: int, count: int, dtype: Any) -> NDArray[Any]:
    if len(packed) < at + count * np.dtype(dtype).itemsize:
        raise FormatError("a codebook that is cut short")
    return np.frombuffer(packed, dtype, count, at)


def _words(values: NDArray[np.float64], dtype: str) -> Bits:
    """Bit patterns of values rounded to float32 and from there to dtype, each time to the nearest, ties to even."""
    numbers = WEIGHT_FORMATS[dtype].numbers
    with np.errstate(over="ignore", under="ignore"):
        single = values.astype("<f4")
        if numbers is not None:
            return single.astype(numbers, copy=False).view(WEIGHT_FORMATS[dtype].carrier)
    wide = single.view("<u4")
    return ((wide + np.uint32(0x7FFF) + (wide >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)).astype("<u2")
