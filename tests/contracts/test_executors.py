"""What every executor promises. A new one is added to EXECUTORS and inherits these tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import pytest

from samples import make_row
from secateur.executors import Executor
from secateur.executors.local import LocalExecutor
from secateur.results import Failure, Row
from secateur.spec import Cell

EXECUTORS: Sequence[Callable[[], Executor]] = (LocalExecutor,)
CELLS = [make_row(ratio).cell for ratio in (0.1, 0.2, 0.3)]


def job(cell: Cell) -> Row:
    return dataclasses.replace(make_row(), cell=cell)


def moody_job(cell: Cell) -> Row:
    if cell.ratio == 0.2:
        raise ValueError("no luck\nat all")
    return job(cell)


@pytest.fixture(params=EXECUTORS)
def executor(request: pytest.FixtureRequest) -> Executor:
    made: Executor = request.param()
    return made


def test_every_cell_yields_one_row(executor: Executor) -> None:
    results = list(executor.run(CELLS, job))
    assert {result.cell.id for result in results} == {cell.id for cell in CELLS}
    assert all(isinstance(result, Row) for result in results)
    assert list(executor.run([], job)) == []


def test_an_exception_becomes_a_failure_and_the_others_go_on(executor: Executor) -> None:
    by_ratio = {result.cell.ratio: result for result in executor.run(CELLS, moody_job)}
    failure = by_ratio[0.2]
    assert isinstance(failure, Failure)
    assert failure.error == "ValueError: no luck\nat all"
    assert "moody_job" in failure.traceback
    assert failure.environment.versions["secateur"]
    assert all(isinstance(by_ratio[ratio], Row) for ratio in (0.1, 0.3))


def test_results_come_while_others_are_still_to_do(executor: Executor) -> None:
    seen: list[float] = []

    def noting_job(cell: Cell) -> Row:
        seen.append(cell.ratio)
        return job(cell)

    next(iter(executor.run(CELLS, noting_job)))
    assert len(seen) < len(CELLS)


def test_an_interrupt_ends_the_run(executor: Executor) -> None:
    def interrupted(cell: Cell) -> Row:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(executor.run(CELLS, interrupted))
