"""In which pattern zeros may lie: alone, in blocks, or N of every M kept. Named as text; needs no PyTorch."""

from __future__ import annotations

import re
from dataclasses import dataclass

from secateur.errors import UsageError

UNSTRUCTURED = "unstructured"
_EXPECTED = "expected unstructured, blocks of outputs×inputs as in 1x4 or 4x1, or at most N of M kept as in 2:4"


@dataclass(frozen=True, slots=True)
class Blocks:
    """Weights of `outputs` consecutive outputs by `inputs` consecutive inputs (of one tap) stay or go together."""

    outputs: int
    inputs: int


@dataclass(frozen=True, slots=True)
class KeepNOfM:
    """Of every m consecutive inputs of an output (of one tap) at most n keep their weight."""

    n: int
    m: int

    @property
    def ratio(self) -> float:
        """The share of zeros that the pattern alone makes."""
        return 1 - self.n / self.m


def parse_pattern(text: str) -> Blocks | KeepNOfM | None:
    """The pattern that a text names, None for unstructured. Raises UsageError for any other text."""
    if text == UNSTRUCTURED:
        return None
    if blocks := re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", text):
        return Blocks(int(blocks[1]), int(blocks[2]))
    if groups := re.fullmatch(r"([1-9]\d{0,3}):([1-9]\d{0,3})", text):
        n, m = int(groups[1]), int(groups[2])
        if n < m:
            return KeepNOfM(n, m)
    raise UsageError(f"pattern {text!r}: {_EXPECTED}")


def check_pattern(text: str, ratio: float) -> None:
    """Raises UsageError for a text that names no pattern, and for a ratio that N:M cannot have."""
    pattern = parse_pattern(text)
    if isinstance(pattern, KeepNOfM) and 0 < ratio < pattern.ratio - 1e-9:
        raise UsageError(
            f"ratio {ratio:g} with pattern {text}: expected 0, or at least the {pattern.ratio:g} that it zeroes alone"
        )
