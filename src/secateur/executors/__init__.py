"""Where cells run. An executor is given cells and a job, and yields each result as soon as it is there."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from typing import Protocol

from secateur.environment import environment
from secateur.results import Failure, Row
from secateur.spec import Cell

Job = Callable[[Cell], Row]


class Executor(Protocol):
    """The contract, tested for every executor in tests/contracts.

    Every cell yields exactly one result, in any order, as soon as it is there. An exception that the job
    raises becomes a Failure and the other cells go on; KeyboardInterrupt and SystemExit end the run.
    """

    def run(self, cells: Sequence[Cell], job: Job) -> Iterator[Row | Failure]: ...


def attempt(job: Job, cell: Cell) -> Row | Failure:
    """The job's row, or the Failure that its exception makes."""
    try:
        return job(cell)
    except Exception as error:
        return Failure(
            cell=cell,
            error=f"{type(error).__name__}: {error}",
            traceback=traceback.format_exc(),
            environment=environment(),
            failed_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )
