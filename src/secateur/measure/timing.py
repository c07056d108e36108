"""Wall times of rivals in one run, in turns, so that they share the machine's moods, and warm. Needs no PyTorch."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from secateur.support.locking import LOCKS, lock

WARM_UP = 3
MIN_ROUNDS = 7
MAX_ROUNDS = 200
SECONDS_PER_ENGINE = 0.25
SAMPLE_MS = 0.5
STRETCHES = 3
SHORT_MS = 10.0
"""Up to here much of a run's time depends on whose weights the caches hold."""

Run = Callable[[], object]
Clock = Callable[[], int]
"""Nanoseconds."""


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of an engine's runs: with the others' in between, and, where runs are short, in runs of its own."""

    in_turns: list[float]
    warm: list[float]


def time_twice(
    engines: Mapping[str, Run], *, seconds: float | None = None, clock: Clock | None = None
) -> dict[str, Times]:
    """In turns (`interleave`), and warm too (`run_on_end`) where any engine takes less than SHORT_MS.

    clock: by which runs are timed; wall time by default.
    """
    turns = interleave(engines, seconds=seconds, clock=clock)
    short = any(median_interval(times)[1] < SHORT_MS for times in turns.values())
    warm = run_on_end(engines, seconds=seconds, clock=clock) if short else {}
    return {name: Times(turns[name], warm.get(name, [])) for name in engines}


def run_on_end(
    engines: Mapping[str, Run], *, seconds: float | None = None, clock: Clock | None = None
) -> dict[str, list[float]]:
    """Milliseconds of a run of each engine among its own, A A A …, B B B …, three such stretches each.

    An engine finds the caches as a program that runs nothing else does. A third of each stretch goes by before the
    first sample, which are as in `interleave`: from 7 to 200, as many as fit into `seconds` for each engine.
    """
    each = (SECONDS_PER_ENGINE if seconds is None else seconds) / STRETCHES
    times: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(STRETCHES):
        for name, run in engines.items():
            times[name] += _stretch(run, each, clock)
    return times


def _stretch(run: Run, seconds: float, clock: Clock | None) -> list[float]:
    until = time.perf_counter() + seconds / 3
    for _ in range(WARM_UP):
        run()
    while time.perf_counter() < until:
        run()
    repeats = _repeats(run)
    samples = [_sample(run, repeats, clock)]
    least, most = math.ceil(MIN_ROUNDS / STRETCHES), MAX_ROUNDS // STRETCHES
    until = time.perf_counter() + seconds
    while len(samples) < least or (len(samples) < most and time.perf_counter() < until):
        samples.append(_sample(run, repeats, clock))
    return samples


def interleave(
    engines: Mapping[str, Run], *, seconds: float | None = None, clock: Clock | None = None
) -> dict[str, list[float]]:
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
            times[name].append(_sample(run, repeats[name], clock))
    return times


def _repeats(run: Run) -> int:
    return max(1, math.ceil(SAMPLE_MS / max(_sample(run, 1), 1e-4)))


def _sample(run: Run, repeats: int, clock: Clock | None = None) -> float:
    """Milliseconds of one run, over `repeats` on end."""
    now = clock or time.perf_counter_ns
    started = now()
    for _ in range(repeats):
        run()
    return (now() - started) / 1e6 / repeats


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
    user = getattr(os, "getuid", int)()  # where there is none, the folder is a user's own
    path = Path(tempfile.gettempdir()) / f"secateur-timing-{user}.lock"
    with path.open("a") as held:
        if LOCKS:
            lock(held.fileno())
        yield
