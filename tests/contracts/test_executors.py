"""What every executor promises. A new one is added to EXECUTORS and inherits these tests."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusters import local_ray
from samples import FunctionJob, SharingJob, grateful_row, make_row, row_of, unlucky_row
from secateur.experiments.executors import Executor
from secateur.experiments.executors.local import LocalExecutor
from secateur.records.results import Failure, Row
from secateur.records.spec import Cell

EXECUTORS = ("local", "ray")
CELLS = [make_row(ratio).cell for ratio in (0.1, 0.2, 0.3)]


@pytest.fixture(scope="module")
def ray_executor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Executor]:
    with local_ray(tmp_path_factory.mktemp("ray")) as executor:
        yield executor


@pytest.fixture(params=EXECUTORS)
def executor(request: pytest.FixtureRequest) -> Executor:
    made: Executor = LocalExecutor() if request.param == "local" else request.getfixturevalue("ray_executor")
    return made


def test_every_cell_yields_one_row(executor: Executor) -> None:
    results = list(executor.run(CELLS, FunctionJob(row_of)))
    assert sorted(result.cell.ratio for result in results) == [cell.ratio for cell in CELLS]
    assert all(isinstance(result, Row) for result in results)
    assert list(executor.run([], FunctionJob(row_of))) == []


def test_an_exception_becomes_a_failure_and_the_others_go_on(executor: Executor) -> None:
    by_ratio = {result.cell.ratio: result for result in executor.run(CELLS, FunctionJob(unlucky_row))}
    failure = by_ratio[0.2]
    assert isinstance(failure, Failure)
    assert failure.error == "ValueError: no luck\nat all"
    assert "unlucky_row" in failure.traceback
    assert failure.environment.versions["secateur"]
    assert all(isinstance(by_ratio[ratio], Row) for ratio in (0.1, 0.3))


def test_results_come_while_others_are_still_to_do(executor: Executor, tmp_path: Path) -> None:
    """The last cell ends only once this test has seen a result."""
    results = executor.run(CELLS, FunctionJob(grateful_row, tmp_path / "thanks"))
    first = next(results)
    assert first.cell.ratio != 0.3
    (tmp_path / "thanks").touch()
    rest = list(results)
    assert {each.cell.ratio for each in (first, *rest)} == {0.1, 0.2, 0.3}
    assert all(isinstance(each, Row) for each in rest)


def test_an_interrupt_ends_the_run(executor: Executor) -> None:
    results = executor.run([make_row(0.1, seed).cell for seed in range(200)], FunctionJob(row_of))
    seen: list[Cell] = []
    before = signal.default_int_handler  # not that of a shell that runs tests in the background: to ignore it
    outside = signal.signal(signal.SIGINT, before)

    def go_through() -> None:
        for result in results:
            seen.append(result.cell)
            if len(seen) == 3:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.1)  # where the signal arrives

    try:
        with pytest.raises(KeyboardInterrupt):
            go_through()
        results.close()  # type: ignore[attr-defined]
        assert signal.getsignal(signal.SIGINT) == before
    finally:
        signal.signal(signal.SIGINT, outside)
    assert 3 <= len(set(seen)) == len(seen) < 200


def test_a_run_in_another_thread_needs_no_signals(executor: Executor) -> None:
    results: list[Row | Failure] = []
    thread = threading.Thread(target=lambda: results.extend(executor.run(CELLS, FunctionJob(row_of))))
    thread.start()
    thread.join(60)
    assert len(results) == 3


def test_what_cells_share_is_made_at_most_once(executor: Executor, tmp_path: Path) -> None:
    cells = [make_row(ratio, seed).cell for seed in (0, 1) for ratio in (0.1, 0.2, 0.3)]
    results = list(executor.run(cells, SharingJob(tmp_path)))
    assert {result.cell for result in results} == set(cells)
    assert all(isinstance(result, Row) for result in results)
    assert sorted((tmp_path / "made").read_text().split()) == ["0", "1"]


def test_where_what_cells_share_fails_each_of_them_fails(executor: Executor, tmp_path: Path) -> None:
    cells = [make_row(ratio, seed).cell for seed in (0, 1) for ratio in (0.1, 0.2)]
    results = list(executor.run(cells, SharingJob(tmp_path, unlucky=1)))
    failed = {result.cell for result in results if isinstance(result, Failure)}
    assert (len(results), failed) == (4, {cell for cell in cells if cell.seed == 1})
    assert {result.error for result in results if isinstance(result, Failure)} == {"ValueError: no network"}
