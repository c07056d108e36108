"""The C++ core (native/bindings). Nothing is checked here: secateur.runtime does that."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

def kernels() -> list[str]:
    """Names of the kernels that this processor can run, fastest first; "scalar" is always among them."""

def peak_rate(kernel: str, /, bytes: bool = False) -> float:
    """Multiply-adds a second of that kernel's fastest dense loop, its inputs in the nearest cache."""

def cost_count() -> int:
    """How many constants the cost model has."""

def measure_costs(kernel: str, /) -> list[float]:
    """Constants of the cost model for that kernel, timed now (some ten milliseconds)."""

class Session:
    def __init__(
        self,
        inputs: Sequence[Sequence[int]],
        nodes: Sequence[tuple[str, str, Sequence[int], dict[str, NDArray[Any]], dict[str, Any], Sequence[int], str]],
        outputs: Sequence[int],
        kernel: str,
        threads: int,
        costs: Sequence[float],
    ) -> None: ...
    def run(self, input: Floats, output: Floats) -> None: ...
    def run_many(self, inputs: Sequence[Floats], outputs: Sequence[Floats]) -> None: ...
    def divide(self, images: int) -> list[tuple[int, int, int]]: ...
    def steps(self, block: int, cut: int, rounds: int, places: Sequence[int] = ()) -> list[dict[str, Any]]: ...
    def arena_bytes(self, block: int, cut: int) -> int: ...

class Watch:
    """What memory holds when this is made: places, pairs of an address and a number of bytes.

    unmarked: places that devices may write to without the processor knowing.
    """

    def __init__(self, places: Sequence[tuple[int, int]], unmarked: Sequence[tuple[int, int]]) -> None: ...
    def changed(self) -> bool:
        """Whether any byte differs from what it was, or ever did when this was asked. By any number of threads."""

    @property
    def marked(self) -> int:
        """Bytes in pages that the system marks when they are written to; all others are read each time."""

def encode_floats(
    words: NDArray[np.unsignedinteger], rows: int, cols: int, exponent: int, mantissa: int, lag: int, /
) -> bytes:
    """Bit patterns, (rows × cols,) of 16 or 32 bits with that many bits of exponent and mantissa, as bytes.

    lag: a distance along a row at which weights resemble each other; 0 finds one.
    """

def decode_floats(
    coded: NDArray[np.uint8], words: NDArray[np.unsignedinteger], rows: int, cols: int, exponent: int, mantissa: int, /
) -> None:
    """Fill words, (rows × cols,). Raises ValueError for bytes that encode_floats would not write."""

def encode_levels(levels: NDArray[np.int16], rows: int, cols: int, lag: int, /) -> bytes:
    """Signed levels, (rows × cols,) from -256 to 256, as bytes."""

def decode_levels(
    coded: NDArray[np.uint8],
    words: NDArray[np.unsignedinteger],
    rows: int,
    cols: int,
    codebook: NDArray[np.unsignedinteger],
    positive: int,
    negative: int,
    /,
) -> None:
    """Fill words, (rows × cols,), from a codebook: `positive` words for levels 1, 2, …, then for -1, -2, ….

    Raises ValueError for bytes that encode_levels would not write.
    """
