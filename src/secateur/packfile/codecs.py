"""One weight ↔ bytes. A codec is a number in the file; a reader refuses those that it does not know."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from secateur import _native
from secateur.errors import FormatError
from secateur.network.formats import WEIGHT_FORMATS
from secateur.network.graph import Bits, Shape, Weight
from secateur.packfile.quantisation import quantise, read_codebook, scale, tabulate

RAW, FLOATS, LEVELS = range(3)
NAMES = {RAW: "raw", FLOATS: "floats", LEVELS: "levels"}


@dataclass(frozen=True, slots=True)
class Encoded:
    """A weight as bytes of a codec; error: how far a decoded value may be from the original."""

    codec: int
    content: bytes
    error: float = 0.0


def encode(weight: Weight) -> Encoded:
    """Losslessly, in the fewest bytes."""
    if weight.count == 0:
        return Encoded(RAW, b"")
    rows, cols = matrix(weight.shape)
    coded = _native.encode_floats(weight.bits.reshape(-1), rows, cols, *_layout(weight.dtype), _lag(weight.shape))
    found = [Encoded(FLOATS, coded)]
    if (few := tabulate(weight)) is not None:
        levels, packed = few
        found.append(Encoded(LEVELS, packed + _native.encode_levels(levels, rows, cols, _lag(weight.shape))))
    best = min(found, key=lambda each: len(each.content))
    return best if len(best.content) < weight.bits.nbytes else Encoded(RAW, weight.bits.tobytes())


def encode_lossy(weight: Weight, bits: int, codebook: str) -> tuple[Encoded, Weight]:
    """In the fewest bytes that hold it exactly or quantised, and what will be read back.

    A vector always gets the uniform codebook: others would take more bytes than they save.
    """
    exact = encode(weight)
    if weight.count == 0:
        return exact, weight
    rows, cols = matrix(weight.shape)
    made = quantise(weight, rows, bits, codebook if len(weight.shape) > 1 else "uniform")
    if made is None:
        return exact, weight
    content = made.codebook.packed + _native.encode_levels(made.levels, rows, cols, _lag(weight.shape))
    if len(content) >= len(exact.content):
        return exact, weight
    return Encoded(LEVELS, content, _rounded_up(made.error)), made.weight


def decode(codec: int, content: bytes, dtype: str, shape: Shape) -> Weight:
    """Raises FormatError for an unknown codec and for content that is not what it should be."""
    if codec not in NAMES:
        raise FormatError(f"codec {codec}, which this Secateur does not know: it needs a newer one")
    if codec == RAW:
        return Weight(dtype, _raw(content, WEIGHT_FORMATS[dtype].carrier, shape))
    if math.prod(shape) == 0:
        raise FormatError("it is coded although it is empty")
    try:
        words = _floats(content, dtype, shape) if codec == FLOATS else _levels(content, dtype, shape)
    except ValueError as error:
        raise FormatError(f"its bytes make no sense: {error}") from error
    return Weight(dtype, words.reshape(shape))


def _floats(content: bytes, dtype: str, shape: Shape) -> Bits:
    words = np.empty(math.prod(shape), WEIGHT_FORMATS[dtype].carrier)
    _native.decode_floats(np.frombuffer(content, np.uint8), words, *matrix(shape), *_layout(dtype))
    return words


def _levels(content: bytes, dtype: str, shape: Shape) -> Bits:
    rows, cols = matrix(shape)
    book, at = read_codebook(content, rows, dtype)
    words = np.empty(rows * cols, book.words.dtype)
    coded = np.frombuffer(content, np.uint8)[at:]
    _native.decode_levels(coded, words, rows, cols, book.words, book.positive, book.negative)
    return words if book.steps is None else scale(words.view(np.int16), book.steps, dtype)


def _layout(dtype: str) -> tuple[int, int]:
    """Bits of exponent and mantissa."""
    return WEIGHT_FORMATS[dtype].exponent, WEIGHT_FORMATS[dtype].mantissa


def matrix(shape: Shape) -> tuple[int, int]:
    """Rows and columns that a weight is coded as: a row per output channel, a vector as one row."""
    rows = shape[0] if len(shape) > 1 else 1
    return rows, math.prod(shape[1:] if len(shape) > 1 else shape)


def _lag(shape: Shape) -> int:
    """The width of a kernel, for the coder; 0 leaves it to find a distance at which weights resemble each other."""
    return shape[-1] if len(shape) == 4 and shape[-1] > 1 else 0


def _raw(content: bytes, dtype: np.dtype[np.unsignedinteger], shape: Shape) -> Bits:
    expected = math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        raise FormatError(f"{len(content)} raw bytes where its shape {shape} needs {expected}")
    return np.frombuffer(content, dtype).reshape(shape).copy()


def _rounded_up(error: float) -> float:
    """To three digits, which are enough for a bound and short to write."""
    if error == 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(error)) - 2)
    shown = float(f"{math.ceil(error / unit) * unit:.2e}")
    return shown if shown >= error else float(f"{shown + unit:.2e}")
