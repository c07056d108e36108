"""The networks of a search timed again, in turns and longer: `python benchmarks/search_latency.py RUN [SECONDS]`.

For a search that ran while the machine was busy: its accuracies, bytes and multiply-adds hold, its times do not.
Batch 1 on one thread, medians with 95 % intervals, and how many times faster than the dense network in the same turns,
SECONDS (2) for the slowest, 200 samples at most. Networks come from the cache, and from the run's last search.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from secateur.experiments.cache import NetworkCache
from secateur.experiments.pipeline import make_network
from secateur.measure.timing import alone, interleave, median_interval, on_cores
from secateur.records.store import Store
from secateur.runtime import Session


def measure(run: str, seconds: float) -> None:
    torch.set_num_threads(1)
    cache = NetworkCache(device="cpu")
    with Store.open(run) as store:
        outcome = next(each.outcome for each in reversed(store.searches()) if each.outcome is not None)
        cells = {each.name: store.cell(each.cell) for each in outcome.contenders}
    first = next(iter(cells.values()))
    images = cache.dataset(first).example(1)
    dense, _ = cache.trained(first)
    with torch.inference_mode():
        engines: dict[str, Callable[[], object]] = {"dense in PyTorch": partial(dense.eval(), images)}
        for name, cell in cells.items():
            graph = cache.graph(make_network(cell, cache, weigh=False)[0], cell)
            assert graph is not None
            engines[name] = partial(Session(graph), np.ascontiguousarray(images.numpy()))
        with alone(), on_cores(1):
            samples = interleave(engines, seconds=seconds)
    times = {name: median_interval(each) for name, each in samples.items()}
    print(f"medians of {len(samples['dense'])} samples in turns [95 % interval], batch 1, one thread; dense / median")
    for name, (low, middle, high) in times.items():
        print(f"{name:<20} {middle:8.3f} ms [{low:.3f}, {high:.3f}] {times['dense'][1] / middle:6.2f} ×")


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit(__doc__)
    measure(sys.argv[1], float(sys.argv[2]) if sys.argv[2:] else 2.0)
