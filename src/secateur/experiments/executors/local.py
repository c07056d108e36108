"""One cell after another in this process, so that nothing of ours disturbs the timing."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

from secateur.experiments.executors import Job, attempt
from secateur.records.results import Failure, Row
from secateur.records.spec import Cell


class LocalExecutor:
    elsewhere = False

    def run(self, cells: Sequence[Cell], job: Job) -> Iterator[Row | Failure]:
        for cell in cells:
            yield attempt(functools.partial(job, cell), cell)
