"""Wall time of one forward pass of PyTorch networks, several of them in one run."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from secateur.errors import SecateurError
from secateur.results import Latency
from secateur.timing import alone, interleave, median_interval, on_cores


def compare_latency(
    engines: Mapping[str, Callable[[Tensor], Tensor]],
    example: Tensor,
    *,
    threads: int = 1,
    same_output: tuple[str, ...] = (),
) -> list[Latency]:
    """Time each engine on `example` (N, C, H, W), on pinned threads, in turns: A B C, A B C, …

    Another process that does the same on this machine is waited for.

    The engines named in same_output have to agree with each other first (within 1e-4 of the largest logit).
    Medians come with a 95 % interval from order statistics and their n; see timing.interleave.
    Raises SecateurError where outputs differ.
    """
    with alone(), _pinned(threads), torch.inference_mode():
        _check_agreement({name: engines[name] for name in same_output}, example)
        times = interleave({name: functools.partial(run, example) for name, run in engines.items()})
    return [_summary(name, len(example), threads, each) for name, each in times.items()]


def _check_agreement(engines: Mapping[str, Callable[[Tensor], Tensor]], example: Tensor) -> None:
    outputs = {name: run(example) for name, run in engines.items()}
    reference_name, *others = outputs or [""]
    for name in others:
        reference = outputs[reference_name]
        known = reference.isfinite()  # a network that diverged has no right answer to be wrong about
        worst = float((outputs[name] - reference)[known].abs().max()) if known.any() else 0.0
        if not worst <= 1e-4 * max(1.0, float(reference[known].abs().max()) if known.any() else 0.0):
            raise SecateurError(
                f"engines {reference_name!r} and {name!r} disagree by {worst:g} on the same input, so their "
                "latencies cannot be compared"
            )


def _summary(engine: str, batch: int, threads: int, times: list[float]) -> Latency:
    low, middle, high = median_interval(times)
    return Latency(engine, batch, threads, middle, low, high, len(times))


@contextmanager
def _pinned(threads: int) -> Iterator[None]:
    """PyTorch on `threads` threads, bound to as many cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with on_cores(threads):
            yield
    finally:
        torch.set_num_threads(before)
