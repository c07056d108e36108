"""Wall time of one forward pass of PyTorch networks, several of them in one run."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree

from secateur.errors import SecateurError
from secateur.measure import timing
from secateur.measure.rivals import PEERS, Predict
from secateur.measure.timing import alone, interleave, median_interval, on_cores
from secateur.modules.guarding import first_line
from secateur.modules.inputs import Inputs
from secateur.network.graph import Graph
from secateur.records.results import RIVALS, Latency

Engine = Callable[[Any], Any]


def compare_latency(
    engines: Mapping[str, Engine],
    example: Tensor | Inputs,
    *,
    threads: int = 1,
    same_output: tuple[str, ...] = (),
    longer: float = 1.0,
) -> list[Latency]:
    """Time each engine on `example`, a tensor (N, …) or several, on pinned threads, in turns: A B C, A B C, …

    Another process that does the same on this machine is waited for. longer: how many times as long as usual, where
    much depends on it.

    The engines named in same_output have to agree with each other first (within 1e-4 of the largest logit).
    Medians come with a 95 % interval from order statistics and their n; see timing.interleave. Where an engine changes
    its input in place, all are given copies, which are timed with them. Raises SecateurError where outputs differ.
    """
    with alone(), _pinned(threads):
        with torch.no_grad():  # tables that a forward builds at its first call can be trained with
            outputs, changed = _first_runs(engines, example)
        _check_agreement({name: outputs[name] for name in same_output})
        timed = _on_copies if changed else functools.partial
        with torch.inference_mode():
            seconds = longer * timing.SECONDS_PER_ENGINE
            times = interleave({name: timed(run, example) for name, run in engines.items()}, seconds=seconds)
    return [_summary(name, len(example), threads, each) for name, each in times.items()]


@dataclass(frozen=True, slots=True)
class Rivals:
    """The dense network in engines that people would run it in instead of pruning it, by name; and of those that cannot
    run it here, why not."""

    engines: Mapping[str, Engine]
    absent: tuple[tuple[str, str], ...]


def rivals_of(graph: Graph, examples: Sequence[Tensor | Inputs]) -> Rivals:
    """Each of records.results.RIVALS that is installed and runs the examples (N, C, H, W), on one thread; what computes
    in eight bits is quantised by the engines' own tools."""
    engines: dict[str, Engine] = {}
    absent = []
    for name in RIVALS:
        try:
            run = _on_tensors(PEERS[name](graph, 1))
            for example in examples:
                run(example)
        except Exception as error:  # whatever a rival raises
            absent.append((name, first_line(error)))
        else:
            engines[name] = run
    return Rivals(engines, tuple(absent))


def _on_tensors(run: Predict) -> Engine:
    def on_tensors(given: Tensor | Inputs) -> Any:
        made = run(*(each.numpy() for each in (given.tensors if isinstance(given, Inputs) else (given,))))
        return tuple(map(torch.from_numpy, made)) if isinstance(made, tuple) else torch.from_numpy(made)

    return on_tensors


def _copy(example: Tensor | Inputs) -> Tensor | Inputs:
    return example.copied() if isinstance(example, Inputs) else example.clone()


def _on_copies(run: Engine, example: Tensor | Inputs) -> Callable[[], Any]:
    return lambda: run(_copy(example))


def _first_runs(engines: Mapping[str, Engine], example: Tensor | Inputs) -> tuple[dict[str, list[Tensor]], bool]:
    """The tensors that each engine gives for a copy of the example, and whether any of them changes its input."""
    outputs, changed = {}, False
    for name, run in engines.items():
        given = _copy(example)
        outputs[name] = [each for each in _pytree.tree_leaves(run(given)) if isinstance(each, Tensor)]
        changed |= not all(map(torch.equal, _pytree.tree_leaves(_plain(given)), _pytree.tree_leaves(_plain(example))))
    return outputs, changed


def _plain(example: Tensor | Inputs) -> list[Tensor]:
    return example.tensors if isinstance(example, Inputs) else [example]


def _check_agreement(outputs: Mapping[str, Sequence[Tensor]]) -> None:
    reference_name, *others = outputs or [""]
    pairs = [(name, *pair) for name in others for pair in zip(outputs[name], outputs[reference_name], strict=True)]
    for name, found, reference in pairs:
        known = reference.isfinite()  # a network that diverged has no right answer to be wrong about
        worst = float((found - reference)[known].abs().max()) if known.any() else 0.0
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
