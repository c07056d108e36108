"""In which pattern zeros may lie: alone, in blocks, N of every M kept, whole sets. As text, without PyTorch."""

from __future__ import annotations

import re
from dataclasses import dataclass

from secateur.errors import UsageError

UNSTRUCTURED = "unstructured"
_EXPECTED = (
    "expected unstructured, blocks of outputs×inputs as in 1x4 or 4x1, at most N of M kept as in 2:4, or whole sets by "
    "their norm: filter-l1, filter-l2, channel-l1, channel-l2"
)


@dataclass(frozen=True, slots=True)
class Blocks:
    """Weights of `outputs` consecutive outputs by `inputs` consecutive inputs (of one tap) stay or go together."""

    outputs: int
    inputs: int


@dataclass(frozen=True, slots=True)
class KeepNOfM:
    """Of every m consecutive inputs of an output (of one tap) at most n keep their weight, also where a transposed
    convolution has its outputs in the second axis."""

    n: int
    m: int

    @property
    def ratio(self) -> float:
        """The share of zeros that the pattern alone makes."""
        return 1 - self.n / self.m


@dataclass(frozen=True, slots=True)
class WholeSets:
    """Weights of one set stay or go together, by the L1 or L2 norm (1, 2) of what they score.

    kind "filter": a set is the filter, or the unit, of one output of one layer. "channel": all that a channel has in
    the whole network, so that it can leave for good: every filter that writes it, through residual additions,
    concatenations and groups, its normalisations, and the columns that read it.
    """

    kind: str
    norm: int


Pattern = Blocks | KeepNOfM | WholeSets


def parse_pattern(text: str) -> Pattern | None:
    """The pattern that a text names, None for unstructured. Raises UsageError for any other text."""
    if text == UNSTRUCTURED:
        return None
    if blocks := re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", text):
        return Blocks(int(blocks[1]), int(blocks[2]))
    if groups := re.fullmatch(r"([1-9]\d{0,3}):([1-9]\d{0,3})", text):
        n, m = int(groups[1]), int(groups[2])
        if n < m:
            return KeepNOfM(n, m)
    if sets := re.fullmatch(r"(filter|channel)-l([12])", text):
        return WholeSets(sets[1], int(sets[2]))
    raise UsageError(f"pattern {text!r}: {_EXPECTED}")


def is_of_channels(text: str) -> bool:
    """Whether a pattern's zeros are whole channels, which span layers."""
    pattern = parse_pattern(text)
    return isinstance(pattern, WholeSets) and pattern.kind == "channel"


def check_pattern(text: str, ratio: float) -> None:
    """Raises UsageError for a text that names no pattern, and for a ratio that N:M cannot have."""
    pattern = parse_pattern(text)
    if isinstance(pattern, KeepNOfM) and 0 < ratio < pattern.ratio - 1e-9:
        raise UsageError(
            f"ratio {ratio:g} with pattern {text}: expected 0, or at least the {pattern.ratio:g} that it zeroes alone"
        )


def check_pattern_in_scope(text: str, scope: str) -> None:
    """Raises UsageError for whole channels in a scope that speaks of single layers, which they do not lie in."""
    if is_of_channels(text) and scope not in _OF_CHANNELS:
        raise UsageError(
            f"pattern {text} with {scope if ' ' in scope else f'scope {scope}'}: channels span layers, so expected one "
            f"ratio in scope {', '.join(_OF_CHANNELS)}; or take pattern {text.replace('channel', 'filter')}"
        )


_OF_CHANNELS = ("layer", "global", "lamp")
