"""Where a search's time goes: `python benchmarks/search_time.py MODEL DATA [--weights FILE] [--epochs N]`.

Of each piece of work that a search tells of: how often it was done, wall and processor seconds, those of what it
consists of left out. The dense network is trained, or read, beforehand. SECATEUR_DATA says where the data lies.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

import secateur
from secateur.experiments.cache import NetworkCache
from secateur.experiments.searching.plan import plan_search
from secateur.support.progress import SILENT, SilentReporter, Task


@dataclass(slots=True)
class Spent:
    times: int = 0
    wall: float = 0.0
    processor: float = 0.0


class Stopwatch(SilentReporter):
    """Counts what is done, under its label without numbers, and what is said of networks that are tried."""

    def __init__(self) -> None:
        self.spent: dict[str, Spent] = {}
        self.said = 0
        self._under: list[str] = []
        self._since = time.perf_counter(), time.process_time()

    @contextmanager
    def task(self, label: str, total: int, done: int = 0, *, brief: bool = False) -> Iterator[Task]:
        self.count()
        self._under.append(re.sub(r"\d+", "N", label))
        self.spent.setdefault(self._under[-1], Spent()).times += 1
        try:
            yield SILENT
        finally:
            self.count()
            self._under.pop()

    def say(self, line: str, *, loud: bool = False) -> None:
        self.said += "points lost" in line

    def count(self) -> None:
        """What has passed belongs to the innermost piece of work."""
        now = time.perf_counter(), time.process_time()
        found = self.spent.setdefault(self._under[-1] if self._under else "else, networks that are tried", Spent())
        found.wall += now[0] - self._since[0]
        found.processor += now[1] - self._since[1]
        self._since = now


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--weights")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--pattern", default="1x4")
    asked = parser.parse_args()
    options = {"weights": asked.weights, "pattern": asked.pattern, "confidence": 0.0}
    trained = {} if asked.epochs is None else {"epochs": asked.epochs}
    NetworkCache(device="cpu").trained(plan_search(asked.model, asked.data, recipe=trained, **options).dense)
    with tempfile.TemporaryDirectory() as folder:
        watch = Stopwatch()
        secateur.search(
            asked.model, asked.data, out=Path(folder) / "run", device="cpu", reporter=watch, **options, **trained
        )
        watch.count()
    threads = torch.get_num_threads()
    print(f"{asked.model} on {asked.data}, {asked.pattern}, {threads} threads: {watch.said} networks tried")
    print(f"{'':44} {'times':>6} {'wall s':>8} {'processor s':>12}")
    for label, found in sorted(watch.spent.items(), key=lambda each: -each[1].wall):
        print(f"{label:44} {found.times:6} {found.wall:8.1f} {found.processor:12.1f}")
    totals = [sum(getattr(each, name) for each in watch.spent.values()) for name in ("wall", "processor")]
    print(f"{'all':44} {'':6} {totals[0]:8.1f} {totals[1]:12.1f}")


if __name__ == "__main__":
    main()
