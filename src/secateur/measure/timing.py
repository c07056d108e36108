"""Wall times of rivals in one run, in turns, so that they share the machine's moods. Needs no PyTorch."""

from __future__ import annotations

import fcntl
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

WARM_UP = 3
MIN_ROUNDS = 7
MAX_ROUNDS = 200
SECONDS_PER_ENGINE = 0.25
SAMPLE_MS = 0.5

Run = Callable[[], object]


def interleave(engines: Mapping[str, Run], *, seconds: float | None = None) -> dict[str, list[float]]:
    """Milliseconds of a run of each engine, A B C, A B C, … after a warm-up.

    A sample is the mean of as many runs on end as last half a millisecond (one, where one run takes longer), so that
    small networks are timed with warm caches. Every engine gets as many samples: what fits into `seconds` for the
    slowest (SECONDS_PER_ENGINE where none are given), from 7 to 200.
    """
    seconds = SECONDS_PER_ENGINE if seconds is None else seconds
    for _ in range(WARM_UP):
        for run in engines.values():
            run()
    repeats = {name: _repeats(run) for name, run in engines.items()}
    slowest = max((repeats[name] * _sample(run, repeats[name]) for name, run in engines.items()), default=1.0)
    times: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(max(MIN_ROUNDS, math.ceil(min(MAX_ROUNDS, 1000 * seconds / max(slowest, 1e-3))))):
        for name, run in engines.items():
            times[name].append(_sample(run, repeats[name]))
    return times


def _repeats(run: Run) -> int:
    return max(1, math.ceil(SAMPLE_MS / max(_sample(run, 1), 1e-4)))


def _sample(run: Run, repeats: int) -> float:
    """Milliseconds of one run, over `repeats` on end."""
    started = time.perf_counter_ns()
    for _ in range(repeats):
        run()
    return (time.perf_counter_ns() - started) / 1e6 / repeats


def median_interval(values: list[float]) -> tuple[float, float, float]:
    """(low, median, high): a 95 % interval of the median by order statistics, free of any distribution."""
    ordered = sorted(values)
    n = len(ordered)
    reach = 0.98 * math.sqrt(n)
    low = max(0, math.floor(n / 2 - reach))
    high = min(n - 1, math.ceil(n / 2 + reach) - 1)
    middle = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    return ordered[low], middle, ordered[high]


@contextmanager
def on_cores(threads: int) -> Iterator[None]:
    """Bound to as many cores as threads are asked for, where the system can and has them; then free again."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else None
    try:
        if cores and threads < len(cores):
            os.sched_setaffinity(0, set(sorted(cores)[-threads:]))
        yield
    finally:
        if cores:
            os.sched_setaffinity(0, cores)


@contextmanager
def alone() -> Iterator[None]:
    """One process of a user's at a time on this machine: two that time on the same core would time each other."""
    path = Path(tempfile.gettempdir()) / f"secateur-timing-{os.getuid()}.lock"
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
