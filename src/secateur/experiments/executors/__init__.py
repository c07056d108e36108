"""Where cells run. An executor is given cells and a job, and yields each result as soon as it is there."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Hashable, Iterator, Sequence
from datetime import datetime, timezone
from typing import Protocol, TypeVar

from secateur.errors import SpaceError
from secateur.experiments.keys import Parcel
from secateur.records.environment import environment
from secateur.records.results import Failure, Row
from secateur.records.spec import Cell

T = TypeVar("T")
INTERRUPTS = (KeyboardInterrupt, GeneratorExit)
ENDING = (*INTERRUPTS, SpaceError)


class Job(Protocol):
    """What is done with cells. Unpickled in another process, it works there with what that process has."""

    def __call__(self, cell: Cell) -> Row:
        """The cell's row."""

    def time(self, row: Row) -> Row:
        """The row with latencies measured in this process."""

    def network(self, cell: Cell) -> Hashable | None:
        """Cells for which this is equal start from one network, made once. None: they share nothing."""

    def known(self) -> frozenset[str]:
        """The ids of the networks that this process has."""

    def train(self, cell: Cell, known: frozenset[str]) -> Parcel:
        """The cell's network, made or found here; without its bytes where `known` holds its id."""

    def receive(self, cell: Cell, parcel: Parcel) -> Parcel:
        """Take the parcel's network as the cell's; returns it with its bytes."""

    def made(self, cell: Cell) -> tuple[Parcel, ...]:
        """What the cell made here beside its row, and others may want."""

    def keep(self, parcel: Parcel) -> None:
        """Have what the parcel holds in this process too."""


class Executor(Protocol):
    """The contract, tested for every executor in tests/contracts.

    Every cell yields exactly one result, in any order, as soon as it is there. An exception that the job
    raises becomes a Failure and the other cells go on; an interrupt ends the run with KeyboardInterrupt.
    """

    elsewhere: bool
    """Whether cells may run on other machines than this one."""

    def run(self, cells: Sequence[Cell], job: Job) -> Iterator[Row | Failure]: ...


def attempt(work: Callable[[], T], cell: Cell, passing: tuple[type[BaseException], ...] = ENDING) -> T | Failure:
    """What the work for a cell gives, or the Failure that its exception makes; also where its code wants to exit.

    passing: what ends the run instead, as every other cell would fail alike.
    """
    try:
        return work()
    except passing:
        raise
    except BaseException as error:
        return failure(cell, f"{type(error).__name__}: {error}", traceback.format_exc())


def failure(cell: Cell, error: str, trace: str) -> Failure:
    """A Failure of now, in this process's environment."""
    failed_at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Failure(cell, error, trace, environment(), failed_at)
