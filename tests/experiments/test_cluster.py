"""Sweeps on real Ray nodes, processes of this machine; tests/contracts has what holds for every executor."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import secateur
from clusters import Node, ray_environment
from conftest import RunCli
from killing import kill_when, stored
from samples import FunctionJob, make_row, row_of
from secateur.cli.executing import chosen_executor
from secateur.errors import UsageError
from secateur.experiments.executors import Executor
from secateur.experiments.sweeping import SweepResult
from secateur.records.environment import environment
from secateur.records.recipes import Retraining
from secateur.records.results import RIVALS, Failure, Row
from secateur.records.spec import Cell
from secateur.records.store import Store
from secateur.support.progress import SilentReporter

NOTHING = {"address": None, "cpus": None, "gpus": None, "memory": None}


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("cluster")
    with ray_environment(folder / "driver"):
        node = Node("head", folder)
        yield node
        node.stop()


@pytest.fixture(scope="module")
def executor(head: Node) -> Iterator[Executor]:
    from secateur.experiments.executors.ray import RayExecutor

    with RayExecutor(head.address) as made:
        yield made


def study(out: Path, **options: Any) -> SweepResult:
    settings: dict[str, Any] = {"ratios": (0.0, 0.9), "seeds": (0, 1), "epochs": 1, "latency_on": "none"}
    return secateur.sweep("samples:tiny", "digits", out=out, tolerance=100, **(settings | options))


def lasting(row: Row) -> Row:
    """Without what differs from one process to the next: times, memory, and where it was."""
    trained = dataclasses.replace(row.trained, seconds=0.0)
    retrained = row.retrained and dataclasses.replace(row.retrained, seconds=0.0)
    ours, pytorch = (
        each and dataclasses.replace(each, peak_memory=None, held_memory=None) for each in (row.ours, row.pytorch)
    )
    assert ours is not None
    layers = tuple(dataclasses.replace(layer, milliseconds=None) for layer in row.layers)
    return dataclasses.replace(
        row, layers=layers, trained=trained, retrained=retrained, ours=ours, pytorch=pytorch, seconds=0.0,
        measured_at="", latencies=(), timed_on=None, environment=make_row().environment,
    )  # fmt: skip


def networks(cache: Path) -> set[str]:
    return {path.stem for path in (cache / "networks").glob("*.pt")}


def test_a_cluster_finds_what_one_process_finds(
    executor: Executor, head: Node, tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    retrainings = (None, Retraining("one-shot", 1))
    far = study(tmp_path / "far", executor=executor, retrainings=retrainings)
    assert (len(far.rows), far.failures, far.computed) == (8, (), 8)
    assert networks(head.cache) == networks(own_cache)  # trained there once, and here for whoever comes next
    assert len(networks(own_cache)) == 2 + 2
    assert [best.row.sparsity for best in far.best] == [max(row.sparsity for row in far.rows)]
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / "other"))
    near = study(tmp_path / "near", retrainings=retrainings)
    assert [lasting(row) for row in far.rows] == [lasting(row) for row in near.rows]


def test_a_network_of_this_machine_is_not_trained_again(executor: Executor, head: Node, tmp_path: Path) -> None:
    near = study(tmp_path / "near", seeds=(7,), ratios=(0.0,))
    far = study(tmp_path / "far", seeds=(7,), ratios=(0.0,), executor=executor)
    assert far.rows[0].trained == near.rows[0].trained


def test_a_cell_in_eight_bits_is_the_same_on_a_node(executor: Executor, tmp_path: Path) -> None:
    options: dict[str, Any] = {"seeds": (7,), "ratios": (0.5,), "quantize": "int8", "calibration_images": 64}
    near, far = study(tmp_path / "near", **options), study(tmp_path / "far", executor=executor, **options)
    assert far.rows[0].quantised is not None
    assert [lasting(row) for row in far.rows] == [lasting(row) for row in near.rows]


def test_a_checkpoint_need_not_lie_on_the_nodes(executor: Executor, tmp_path: Path) -> None:
    path = study(tmp_path / "near", seeds=(0,)).best[0].path
    result = secateur.sweep(
        "samples:tiny",
        "digits",
        ratios=(0.0,),
        weights=path,
        executor=executor,
        out=tmp_path / "far",
        latency_on="none",
    )
    assert (len(result.rows), result.failures) == (1, ())


def test_latency_is_measured_where_it_is_asked_for(head: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    this_process = dataclasses.replace(environment(), host="this process")
    monkeypatch.setattr("secateur.experiments.pipeline.environment", lambda: this_process)
    for place in ("head", "driver"):
        cluster = NOTHING | {"address": head.address}
        with chosen_executor("ray", cluster, place, SilentReporter()) as (where, latency_on):
            result = study(tmp_path / place, seeds=(0,), ratios=(0.0,), executor=where, latency_on=latency_on)
        with Store.open(tmp_path / place) as store:
            (row,) = store.rows()
        assert (row,) == result.rows
        assert len([each for each in row.latencies if each.engine not in RIVALS]) == 6
        assert row.timing is not None
        assert (row.timing.host == "this process") == (place == "driver")


def deadly(cell: Cell, deaths: Path) -> Row:
    if cell.ratio == 0.2:
        with deaths.open("a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
    return row_of(cell)


def test_a_cell_that_kills_its_worker_fails_after_some_attempts(executor: Executor, tmp_path: Path) -> None:
    from ray import cloudpickle

    from secateur.experiments.executors.ray import ATTEMPTS

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    cells = [make_row(ratio).cell for ratio in (0.1, 0.2, 0.3, 0.4)]
    by_ratio = {each.cell.ratio: each for each in executor.run(cells, FunctionJob(deadly, tmp_path / "deaths"))}
    assert (tmp_path / "deaths").read_text() == "x" * ATTEMPTS
    failure = by_ratio.pop(0.2)
    assert isinstance(failure, Failure)
    assert "lost 3 times; out of memory? give cells more with --memory-per-cell" in failure.error
    assert len(by_ratio) == 3
    assert all(isinstance(each, Row) for each in by_ratio.values())


def slow(cell: Cell) -> Row:
    time.sleep(0.3)
    return row_of(cell)


def test_what_a_lost_node_had_under_way_runs_elsewhere(executor: Executor, head: Node, tmp_path: Path) -> None:
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    other = Node("other", tmp_path, head.address)
    cells = [make_row(0.5, seed).cell for seed in range(30)]
    results: list[Row | Failure] = []
    try:
        for result in executor.run(cells, FunctionJob(slow)):
            results.append(result)
            if len(results) == 8:
                other.kill()
    finally:
        other.stop()
    assert sorted(result.cell.seed for result in results) == list(range(30))
    assert all(isinstance(result, Row) for result in results)


def test_a_killed_driver_goes_on_where_it_was(head: Node, tmp_path: Path) -> None:
    words = ["--model", "samples:tiny", "--ratios", "0,0.5,0.8,0.9", "--epochs", "1", "--out", "run"]
    cluster = ["--executor", "ray", "--address", head.address, "--latency-on", "none"]
    command = [sys.executable, "-m", "secateur", "sweep", *words, *cluster]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    with start() as first:
        kill_when(lambda: len(stored(tmp_path / "run")) >= 1, first)
    before = stored(tmp_path / "run")
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert again.returncode == 0, again.stderr
    after = stored(tmp_path / "run")
    assert (1 <= len(before) < 4, len(after)) == (True, 4)
    assert before.items() <= after.items()


def test_what_does_not_go_together_is_refused_in_one_line() -> None:
    for cluster, latency_on, told in (
        ({"address": "auto"}, "cell", "--address: for a cluster, so add --executor ray"),
        ({"cpus": 2.0, "memory": 1.0}, "cell", "--cpus-per-cell, --memory-per-cell: for a cluster"),
        ({}, "node-7", "--latency-on node-7: for a cluster"),
    ):
        with (
            pytest.raises(UsageError, match=told),
            chosen_executor("local", NOTHING | cluster, latency_on, SilentReporter()),
        ):
            pass
    with (
        pytest.raises(UsageError, match="expected one of local, ray"),
        chosen_executor("slurm", NOTHING, "cell", SilentReporter()),
    ):
        pass


def test_a_cluster_that_is_not_there_is_told_of_at_once(head: Node, run_cli_apart: RunCli, tmp_path: Path) -> None:
    done = run_cli_apart("sweep", "--executor", "ray", "--address", "127.0.0.1:1", timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("secateur: --address 127.0.0.1:1: nothing answers there (")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_shares_and_addresses_that_make_no_sense_are_refused(head: Node) -> None:
    for options, told in (
        ({"address": "nonsense"}, "expected auto, local, HOST:PORT or ray://HOST:PORT"),
        ({"cpus": 0.0}, "--cpus-per-cell 0: expected 0.01 or more"),
        ({"gpus": -1.0}, "--gpus-per-cell -1: expected 0 or more"),
    ):
        with (
            pytest.raises(UsageError, match=told),
            chosen_executor("ray", NOTHING | options, "cell", SilentReporter()),
        ):
            pass


def test_a_node_that_is_not_there_cannot_measure(head: Node) -> None:
    cluster = NOTHING | {"address": head.address}
    told = r"--latency-on node-7: expected driver, none or a node of the cluster: .*head"
    with pytest.raises(UsageError, match=told), chosen_executor("ray", cluster, "node-7", SilentReporter()):
        pass


def test_without_ray_the_next_step_is_said(tmp_path: Path) -> None:
    code = """
import sys; sys.modules["ray"] = None
from secateur.cli import main
main(["sweep", "--executor", "ray"])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr == "secateur: --executor ray needs Ray: pip install 'secateur[ray]' here and on every node\n"
    assert list(tmp_path.iterdir()) == []
