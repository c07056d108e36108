"""Wall time of one forward pass, several engines interleaved in one run so that they share the machine's moods."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from secateur.errors import SecateurError
from secateur.results import Latency

WARM_UP = 3
MIN_RUNS = 7
MAX_RUNS = 200
SECONDS_PER_ENGINE = 0.25


def compare_latency(
    engines: Mapping[str, Callable[[Tensor], Tensor]],
    example: Tensor,
    *,
    threads: int = 1,
    same_output: tuple[str, ...] = (),
) -> list[Latency]:
    """Time each engine on `example` (N, C, H, W), on pinned threads, in turns: A B C, A B C, …

    The engines named in same_output have to agree with each other first (within 1e-4 of the largest logit).
    Medians come with a 95 % interval from order statistics; n is at least 7 and grows to 200 where runs are
    short. Raises SecateurError where outputs differ.
    """
    with _pinned(threads), torch.inference_mode():
        _check_agreement({name: engines[name] for name in same_output}, example)
        for _ in range(WARM_UP):
            for run in engines.values():
                run(example)
        times: dict[str, list[float]] = {name: [] for name in engines}
        for _ in range(_rounds(engines, example)):
            for name, run in engines.items():
                times[name].append(_milliseconds(run, example))
    return [_summary(name, len(example), threads, each) for name, each in times.items()]


def _milliseconds(run: Callable[[Tensor], Tensor], example: Tensor) -> float:
    started = time.perf_counter_ns()
    run(example)
    return (time.perf_counter_ns() - started) / 1e6


def _rounds(engines: Mapping[str, Callable[[Tensor], Tensor]], example: Tensor) -> int:
    slowest = max(_milliseconds(run, example) for run in engines.values())
    return max(MIN_RUNS, min(MAX_RUNS, math.ceil(1000 * SECONDS_PER_ENGINE / max(slowest, 1e-3))))


def _check_agreement(engines: Mapping[str, Callable[[Tensor], Tensor]], example: Tensor) -> None:
    outputs = {name: run(example) for name, run in engines.items()}
    reference_name, *others = outputs or [""]
    for name in others:
        reference = outputs[reference_name]
        worst = float((outputs[name] - reference).abs().max())
        if not worst <= 1e-4 * max(1.0, float(reference.abs().max())):
            raise SecateurError(
                f"engines {reference_name!r} and {name!r} disagree by {worst:g} on the same input, so their "
                "latencies cannot be compared"
            )


def _summary(engine: str, batch: int, threads: int, times: list[float]) -> Latency:
    low, middle, high = median_interval(times)
    return Latency(engine, batch, threads, middle, low, high, len(times))


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
def _pinned(threads: int) -> Iterator[None]:
    """Run on `threads` threads; a single one is also bound to one core (where the system can)."""
    before = torch.get_num_threads()
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else None
    torch.set_num_threads(threads)
    try:
        if cores and threads == 1:
            os.sched_setaffinity(0, {max(cores)})
        yield
    finally:
        if cores:
            os.sched_setaffinity(0, cores)
        torch.set_num_threads(before)
