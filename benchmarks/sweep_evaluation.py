"""A sweep with accuracies by PyTorch and by the runtime: `python benchmarks/sweep_evaluation.py [--images 1000]`.

Every cell of resnet-18-cifar over ten ratios runs as in a sweep (prune, PyTorch's cut, accuracy, size, latency). Its
accuracies are measured twice, in turns on the same network: by PyTorch alone, as sweeps did before, and by whichever is
faster, as they do now. The other steps are the same and run once; both wall times contain them. The network has random
weights, or those that `--epochs` of training give; CIFAR-10's images are the first of the real ones.
"""

from __future__ import annotations

import argparse
import functools
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from secateur.experiments.cache import NetworkCache
from secateur.experiments.pipeline import run_cell
from secateur.experiments.sweeping import plan_sweep
from secateur.network.graph import Graph
from secateur.records.environment import environment
from secateur.records.scores import Score
from secateur.records.spec import Cell, expand
from secateur.training.data import load_data

RATIOS = (0, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.99)
Both = tuple[Score, Score]


@functools.cache
def few_images() -> Any:
    """The first test images of CIFAR-10 and as many of training, a tenth of which validates."""
    data, count = load_data("cifar-10", os.environ["SECATEUR_DATA"]), int(os.environ["SWEEP_IMAGES"])
    train, test = data.train, data.test
    return (train.images[:count], train.labels[:count]), (test.images[:count], test.labels[:count])


class TimedCache(NetworkCache):
    """Measures accuracies both ways and remembers how long each took, (PyTorch, as now) in seconds."""

    def __init__(self) -> None:
        super().__init__(device="cpu")
        self.seconds: list[tuple[float, float]] = []

    def accuracies(
        self, network: nn.Module, cell: Cell, graph: Graph | None = None, validation: Score | None = None
    ) -> Both:
        if graph is None:
            return super().accuracies(network, cell, None, validation)
        started = time.perf_counter()
        before = super().accuracies(network, cell)
        between = time.perf_counter()
        now = super().accuracies(network, cell, graph)
        self.seconds.append((between - started, time.perf_counter() - between))
        if before != now:
            raise SystemExit(f"accuracies differ at {cell.ratio}: {before} by PyTorch, {now} now")
        return now


@contextmanager
def own_folder() -> Iterator[None]:
    """Networks of this benchmark do not stay in the user's cache."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SECATEUR_CACHE"] = folder
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=0)
    parser.add_argument("--ratios", default=",".join(map(str, RATIOS)))
    parser.add_argument("--model", default="resnet-18-cifar")
    given = parser.parse_args()
    ratios = [float(each) for each in given.ratios.split(",")]
    os.environ["SWEEP_IMAGES"] = str(given.images)
    plan = plan_sweep(
        [given.model], ["sweep_evaluation:few_images"], methods=["magnitude"], scopes=["layer"], ratios=ratios,
        seeds=[0], exclude=[], allow_empty=True, weights=None, recipe={"epochs": given.epochs},
        repairs=["none"],
    )  # fmt: skip
    machine = environment()
    print(f"{machine.cpu}, {torch.get_num_threads()} thread(s), PyTorch {torch.__version__}")
    print(f"{given.model}, {given.epochs} epochs, {given.images} test and {given.images // 10} validation images")
    print(
        f"{'pruned':>7}{'accuracies: by PyTorch':>24}{'now':>9}{'ratio':>7}{'cell: before':>14}{'now':>9}{'ratio':>7}"
    )
    totals = [0.0] * 4
    with own_folder():
        cache = TimedCache()
        cells = list(expand(plan))
        cache.trained(cells[0])
        for cell in cells:
            started = time.perf_counter()
            run_cell(cell, cache)
            seconds = time.perf_counter() - started
            before, now = cache.seconds[-1]
            line = [before, now, seconds - now, seconds - before]
            totals = [a + b for a, b in zip(totals, line, strict=True)]
            _print(f"{cell.ratio:.0%}", line)
    _print("all", totals)


def _print(name: str, line: list[float]) -> None:
    a, b, c, d = line
    print(f"{name:>7}{a:>22.1f} s{b:>7.1f} s{a / b:>7.2f}{c:>12.1f} s{d:>7.1f} s{c / d:>7.2f}", flush=True)


if __name__ == "__main__":
    main()
