"""Why a layer is not faster: the first of a list of reasons that its numbers bear out, with those numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

FLOAT, DEPTHWISE, MEMORY, PEAK, DENSE_ZEROS, SMALL, DENSE, SPARSE, PRODUCT, MOVES = (
    "falls to float", "depthwise", "memory-bound", "near the peak", "too dense", "too small", "dense", "sparse",
    "no weights", "moves values",
)  # fmt: skip

_BOUND = 0.6
"""Of the time: what moving a layer's bytes has to take before they are what it waits for."""
_NEAR = 0.7
"""Of the machine's peak."""
_ZEROS = 0.02
_IDLE = 0.5
"""Of the time by the cost model: what no multiply-add is done in."""


@dataclass(frozen=True, slots=True)
class Reason:
    """kind: one of the words above. text: the numbers that it was decided by, in up to some 50 characters."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Of a layer on a batch. seconds: measured. moved: bytes that it reads and writes. bandwidth: bytes a second.

    peak: multiply-adds a second of all threads, in what it computes in. done: multiply-adds that it does for the
    batch. zeros: share of its weights, None without any. skips: its loops leave zeros out. idle: of its time by the
    cost model, what would stay with no weight; pays: the share of zeros from which loops that skip them should be
    faster, None where they should never be. Both None where the model does not say. floats_among_bytes: it computes in
    float32 while the network's other layers do not. tapped: weights of each output of a depthwise layer, else 0.
    """

    seconds: float
    moved: float
    bandwidth: float
    peak: float
    done: float
    zeros: float | None
    skips: bool = False
    idle: float | None = None
    pays: float | None = None
    floats_among_bytes: bool = False
    tapped: int = 0

    @property
    def peak_share(self) -> float:
        return self.done / self.seconds / self.peak if self.seconds > 0 else 0.0

    @property
    def moving(self) -> float:
        """Of the time, what moving its bytes takes at the machine's pace; above 1 where caches are nearer than that."""
        return self.moved / self.bandwidth / self.seconds if self.seconds > 0 else 0.0


def reason_of(facts: Facts) -> Reason:
    return next(Reason(kind, text) for kind, rule in _RULES if (text := rule(facts)))


def _float(facts: Facts) -> str:
    return "its neighbours are in eight bits" if facts.floats_among_bytes else ""


def _depthwise(facts: Facts) -> str:
    if not facts.tapped:
        return ""
    return f"{facts.done / facts.moved:.2g} MAC a byte, the peak needs {facts.peak / facts.bandwidth:.2g}"


def _memory(facts: Facts) -> str:
    if facts.moving < _BOUND:
        return ""
    share = min(1.0, facts.moving)
    return f"{bytes_text(facts.moved)} at {facts.bandwidth / 1e9:.3g} GB/s are {share:.0%} of it"


def _near_peak(facts: Facts) -> str:
    return f"{facts.peak_share:.0%} of the peak" if facts.peak_share >= _NEAR else ""


def _too_dense(facts: Facts) -> str:
    if facts.zeros is None or facts.zeros < _ZEROS or facts.skips:
        return ""
    pays = "never" if facts.pays is None else f"from {facts.pays:.0%}"
    return f"{facts.zeros:.0%} zeros, skipping pays {pays}"


def _too_small(facts: Facts) -> str:
    if facts.zeros is None or facts.idle is None or facts.idle < _IDLE:
        return ""
    return f"{min(1.0, facts.idle):.0%} of it stays without any weight"


def _dense(facts: Facts) -> str:
    if facts.zeros is None or facts.zeros >= _ZEROS:
        return ""
    return f"no zeros to skip; {facts.peak_share:.0%} of the peak"


def _sparse(facts: Facts) -> str:
    if facts.zeros is None:
        return ""
    if facts.idle is None:
        return f"{facts.zeros:.0%} zeros skipped; {facts.peak_share:.0%} of the peak"
    return f"{1 - min(1.0, facts.idle):.0%} of it goes with its non-zeros"


def _product(facts: Facts) -> str:
    return f"a product of values; {facts.peak_share:.0%} of the peak" if facts.done else ""


def _moves(facts: Facts) -> str:
    pace = facts.moved / facts.seconds / 1e9 if facts.seconds > 0 else 0.0
    return f"no multiply-adds; {bytes_text(facts.moved)} at {pace:.2g} GB/s"


_RULES: tuple[tuple[str, Callable[[Facts], str]], ...] = (
    (FLOAT, _float),
    (DEPTHWISE, _depthwise),
    (MEMORY, _memory),
    (PEAK, _near_peak),
    (DENSE_ZEROS, _too_dense),
    (SMALL, _too_small),
    (DENSE, _dense),
    (SPARSE, _sparse),
    (PRODUCT, _product),
    (MOVES, _moves),
)


def bytes_text(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"
