"""One weight ↔ bytes. A codec is a number in the file; a reader refuses those that it does not know."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from secateur import _native
from secateur.errors import FormatError
from secateur.network.formats import FLOAT_FORMATS, WEIGHT_FORMATS
from secateur.network.graph import Bits, Shape, Weight
from secateur.network.operations.meanings import pieces
from secateur.packfile.quantisation import INTEGERS, Levels, quantise, read_codebook, scale, tabulate

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
    best = min(_CODERS[weight.dtype](weight), key=lambda each: len(each.content), default=None)
    if best is None or len(best.content) >= weight.bits.nbytes:
        return Encoded(RAW, weight.bits.tobytes())
    return best


def _coded_floats(weight: Weight) -> Iterator[Encoded]:
    rows, cols = matrix(weight.shape)
    coded = _native.encode_floats(weight.bits.reshape(-1), rows, cols, *_layout(weight.dtype), _lag(weight.shape))
    yield Encoded(FLOATS, coded)
    if (few := tabulate(weight)) is not None:
        yield _coded_levels(weight.shape, *few)


def _coded_bytes(weight: Weight) -> Iterator[Encoded]:
    """Each its own level."""
    yield _coded_levels(weight.shape, weight.numbers().reshape(-1).astype(np.int16), INTEGERS.packed)


def _coded_integers(weight: Weight) -> Iterator[Encoded]:
    """As float32, where that has all of them."""
    numbers = weight.numbers()
    single = numbers.astype(np.float32)
    if bool((np.abs(single) < _LARGEST).all()) and np.array_equal(single.astype(np.int64), numbers):
        yield next(_coded_floats(Weight.of(single)))


_LARGEST = 2.0**63
"""Whole numbers of 64 bits are smaller, but for those that rounding to float32 takes there."""


def _coded_levels(shape: Shape, levels: Levels, codebook: bytes) -> Encoded:
    return Encoded(LEVELS, codebook + _native.encode_levels(levels, *matrix(shape), _lag(shape)))


_CODERS: Mapping[str, Callable[[Weight], Iterator[Encoded]]] = {
    **dict.fromkeys(FLOAT_FORMATS, _coded_floats),
    "int8": _coded_bytes,
    "bool": _coded_bytes,
    "int32": _coded_integers,
    "int64": _coded_integers,
}


def encode_lossy(weight: Weight, bits: int, codebook: str) -> tuple[Encoded, Weight]:
    """In the fewest bytes that hold it exactly or quantised, and what will be read back.

    A vector always gets the uniform codebook: others would take more bytes than they save.
    """
    exact = encode(weight)
    if weight.count == 0:
        return exact, weight
    rows, _ = matrix(weight.shape)
    made = quantise(weight, rows, bits, codebook if len(weight.shape) > 1 else "uniform")
    if made is None:
        return exact, weight
    coded = _coded_levels(weight.shape, made.levels, made.codebook.packed)
    if len(coded.content) >= len(exact.content):
        return exact, weight
    return replace(coded, error=_rounded_up(made.error)), made.weight


def decode(codec: int, content: bytes, dtype: str, shape: Shape) -> Weight:
    """Raises FormatError for an unknown codec and for content that is not what it should be."""
    if codec not in NAMES:
        raise FormatError(f"codec {codec}, which this Secateur does not know: it needs a newer one")
    if codec == RAW:
        return Weight(dtype, _checked(_raw(content, WEIGHT_FORMATS[dtype].carrier, shape), dtype))
    if math.prod(shape) == 0:
        raise FormatError("it is coded although it is empty")
    read = _READERS[dtype].get(codec)
    if read is None:
        raise FormatError(f"codec {NAMES[codec]}, which no weight of {dtype} has")
    try:
        words = read(content, dtype, shape)
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


def _integers(content: bytes, dtype: str, shape: Shape) -> Bits:
    """A few at a time, and in place where they are as wide."""
    words = _floats(content, "float32", shape)
    carrier = WEIGHT_FORMATS[dtype].carrier
    found = words if words.dtype == carrier else np.empty(len(words), carrier)
    for part in pieces(len(words), 1, 1 << 16):
        found[part] = _as_integers(words[part], dtype)
    return found


def _as_integers(words: Bits, dtype: str) -> Bits:
    """Of float32 numbers the whole ones that they are. Raises FormatError."""
    held = WEIGHT_FORMATS[dtype]
    numbers, limits = words.view("<f4").astype(np.float64), np.iinfo(held.numbers)  # type: ignore[type-var, arg-type]
    if not ((numbers >= limits.min) & (numbers < -float(limits.min)) & (numbers == np.rint(numbers))).all():
        raise FormatError(f"it has numbers that are no whole ones of {held.bits} bits")
    if np.count_nonzero(words) != np.count_nonzero(numbers):
        raise FormatError("it has a zero with a sign, which whole numbers have not")
    return numbers.astype(held.numbers).view(held.carrier)


def _truths(content: bytes, dtype: str, shape: Shape) -> Bits:
    return _checked(_levels(content, "int8", shape), dtype)


def _checked(words: Bits, dtype: str) -> Bits:
    """Raises FormatError for truth values that are neither 0 nor 1."""
    if dtype == "bool" and words.max(initial=0) > 1:
        raise FormatError("it has truth values that are neither true nor false")
    return words


_Reader = Callable[[bytes, str, Shape], Bits]
_READERS: Mapping[str, Mapping[int, _Reader]] = {
    **{dtype: {FLOATS: _floats, LEVELS: _levels} for dtype in FLOAT_FORMATS},
    "int8": {LEVELS: _levels},
    "bool": {LEVELS: _truths},
    "int32": {FLOATS: _integers},
    "int64": {FLOATS: _integers},
}


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
