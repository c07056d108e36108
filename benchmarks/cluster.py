"""Sweeps on a Ray cluster of three nodes on this machine, beside the same in one process.

    python benchmarks/cluster.py study      # 60 cells on the cluster and here: are the rows the same?
    python benchmarks/cluster.py losses     # a node killed, then the driver: what was lost, what was done again?
    python benchmarks/cluster.py overhead   # what a cell of a second costs on top
    python benchmarks/cluster.py scaling    # 1,000 and 10,000 cells without work: the driver's time and memory

The nodes are processes of `ray start` on loopback with a CPU and a cache each. Needs 'secateur[torch,ray,dev]'.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from clusters import Node, environment_of
from samples import FunctionJob, make_row, row_of

if "RAY_AUTH_TOKEN" not in os.environ:  # which Ray reads when it is imported
    os.environ |= environment_of(Path(tempfile.mkdtemp(prefix="cluster-")) / "driver")

from secateur.experiments.executors import Executor, Job
from secateur.experiments.executors.local import LocalExecutor
from secateur.experiments.executors.ray import RayExecutor
from secateur.experiments.sweeping import sweep
from secateur.records.results import Failure, Row
from secateur.records.spec import Cell, Sweep
from secateur.records.store import FILE_NAME, Store
from secateur.support.progress import ConsoleReporter

SEEDS, SCOPES = (0, 1, 2), ("layer", "global")


class Noting:
    """An executor whose jobs write down which cells they begin."""

    elsewhere = True

    def __init__(self, inner: Executor, notes: Path) -> None:
        self._inner, self._notes = inner, notes

    def run(self, cells: Sequence[Cell], job: Job) -> Iterator[Row | Failure]:
        return self._inner.run(cells, cast(Job, NotingJob(job, self._notes)))


class NotingJob:
    def __init__(self, inner: Job, notes: Path) -> None:
        self._inner, self._notes = inner, notes

    def __call__(self, cell: Cell) -> Row:
        with self._notes.open("a") as notes:
            notes.write(f"{cell.id}\n")
        return self._inner(cell)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._inner, name)


@contextlib.contextmanager
def nodes(folder: Path, count: int = 3) -> Iterator[list[Node]]:
    """A head and its workers, one CPU each."""
    started = [Node("node-0", folder)]
    try:
        for number in range(1, count):
            started.append(Node(f"node-{number}", folder, started[0].address))
        yield started
    finally:
        for node in reversed(started):
            node.stop()


def drive(out: Path, address: str, notes: Path) -> None:
    """The study, by this process: here where no address is given. Latencies differ anyway, so none are measured."""
    options: dict[str, Any] = {"scopes": SCOPES, "seeds": SEEDS, "epochs": 5, "out": out, "latency_on": "none"}
    options["repairs"] = "none"
    options["reporter"] = ConsoleReporter()
    if not address:
        sweep("lenet-300-100", "digits", **options)
        return
    with RayExecutor(address, reporter=options["reporter"]) as executor:
        sweep("lenet-300-100", "digits", executor=Noting(executor, notes), **options)


def start(folder: Path, name: str, address: str = "", driver: str = "driver") -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, "drive", "--out", str(folder / name), "--address", address]
    environment = os.environ | environment_of(folder / driver) | {"OMP_NUM_THREADS": "1"}
    log = (folder / f"{name}.driver.log").open("ab")
    return subprocess.Popen(
        [*command, "--notes", str(folder / f"{name}.begun")], env=environment, stdout=log, stderr=subprocess.STDOUT
    )


def finish(process: subprocess.Popen[bytes], folder: Path, name: str) -> None:
    if process.wait() != 0:
        sys.exit(f"the driver of {name} failed:\n{(folder / f'{name}.driver.log').read_text()[-3000:]}")


def stored(run: Path) -> set[str]:
    if not (run / FILE_NAME).exists():
        return set()
    with contextlib.closing(sqlite3.connect(f"file:{run / FILE_NAME}?mode=ro", uri=True)) as connection:
        try:
            return {cell for (cell,) in connection.execute("SELECT cell_id FROM rows")}
        except sqlite3.OperationalError:
            return set()


def begun(folder: Path, name: str) -> list[str]:
    notes = folder / f"{name}.begun"
    return notes.read_text().split() if notes.exists() else []


def rows_of(run: Path) -> tuple[list[Row], list[Failure]]:
    with Store.open(run) as store:
        return store.rows(), store.failures()


def lasting(row: Row) -> Row:
    """Without what differs from one process to the next: times, memory, and where it was."""
    ours, pytorch = (
        each and dataclasses.replace(each, peak_memory=None, held_memory=None) for each in (row.ours, row.pytorch)
    )
    assert ours is not None
    return dataclasses.replace(
        row, layers=tuple(dataclasses.replace(layer, milliseconds=None) for layer in row.layers),
        trained=dataclasses.replace(row.trained, seconds=0.0, resumed_from=()), ours=ours, pytorch=pytorch,
        seconds=0.0, measured_at="", latencies=(), environment=make_row().environment,
    )  # fmt: skip


def compare(first: Path, second: Path) -> str:
    (ours, failures), (theirs, _) = rows_of(first), rows_of(second)
    equal = sum(lasting(one) == lasting(other) for one, other in zip(ours, theirs, strict=True))
    told = f"{equal} of {len(theirs)} rows equal those of one process but for times, memory and place"
    return f"{told}; {len(failures)} failed"


def networks(cache: Path) -> int:
    return len(list((cache / "networks").glob("*.json")))


def study(folder: Path) -> None:
    started = time.monotonic()
    finish(start(folder, "local", driver="local-driver"), folder, "local")
    local = time.monotonic() - started
    with nodes(folder) as cluster:
        started = time.monotonic()
        finish(start(folder, "cluster", cluster[0].address), folder, "cluster")
        far = time.monotonic() - started
        trained = {node.name: networks(node.cache) for node in cluster}
    print(f"one process: {len(stored(folder / 'local'))} cells in {local:.0f} s")
    print(f"three nodes of one CPU: {len(stored(folder / 'cluster'))} cells in {far:.0f} s")
    print(compare(folder / "cluster", folder / "local"))
    print(f"networks in each node's cache: {trained}; in the driver's: {networks(folder / 'driver')}")


def losses(folder: Path) -> None:
    draw = random.Random(int(time.time()))
    finish(start(folder, "local", driver="local-driver"), folder, "local")
    with nodes(folder) as cluster:
        process = start(folder, "cluster", cluster[0].address)
        moment = draw.randint(8, 25)
        await_rows(process, folder, moment)
        before = state(folder)
        cluster[2].kill()
        print(f"node-2 killed after {len(before[0])} rows, {len(before[1])} cells under way on all nodes")
        moment = draw.randint(len(before[0]) + 8, 52)
        await_rows(process, folder, moment)
        process.kill()
        process.wait()
        rows, under_way = state(folder)
        again = Counter(begun(folder, "cluster"))
        twice = sum(count - 1 for count in again.values())
        print(f"cells begun twice since: {twice}, of {len(before[1])} that were under way")
        print(f"driver killed with -9 after {len(rows)} rows, {len(under_way)} cells under way")
        finish(start(folder, "cluster", cluster[0].address), folder, "cluster")
    later = Counter(begun(folder, "cluster")) - again
    print(f"second driver: {len(later)} cells begun, {len(set(later) & rows)} of them stored before")
    print(f"lost to the driver's death and done again: {len(set(later) & under_way)} cells")
    print(compare(folder / "cluster", folder / "local"))
    print(f"networks in the driver's cache: {networks(folder / 'driver')} of {len(SEEDS)}")


def await_rows(process: subprocess.Popen[bytes], folder: Path, count: int) -> None:
    while len(stored(folder / "cluster")) < count:
        if process.poll() is not None:
            finish(process, folder, "cluster")
            sys.exit("the driver ended before it could be killed")
        time.sleep(0.02)


def state(folder: Path) -> tuple[set[str], set[str]]:
    """(cells stored, cells under way)"""
    rows = stored(folder / "cluster")
    return rows, set(begun(folder, "cluster")) - rows


def second_of_work(cell: Cell) -> Row:
    """Computes for a second of the processor's time, as a real cell would, and does not sleep."""
    until = time.process_time() + 1.0
    while time.process_time() < until:
        pass
    return row_of(cell)


def overhead(folder: Path, count: int = 30) -> None:
    cells = [make_row(0.5, seed).cell for seed in range(count)]
    job = FunctionJob(second_of_work)
    with nodes(folder, 1) as cluster, RayExecutor(cluster[0].address) as far:
        list(far.run(cells[:2], job))  # a worker is there
        took: dict[str, list[float]] = {"local": [], "ray": []}
        for _ in range(3):
            for name, executor in (("local", LocalExecutor()), ("ray", far)):
                started = time.perf_counter()
                assert all(isinstance(each, Row) for each in executor.run(cells, job))
                took[name].append((time.perf_counter() - started) / count)
    local, ray = (statistics.median(took[name]) for name in ("local", "ray"))
    print(f"{count} cells of a second, three times in turns, seconds a cell: {took}")
    print(f"median: local {local:.3f} s, Ray with one CPU {ray:.3f} s: {1000 * (ray - local):+.0f} ms a cell")


def scaling(folder: Path) -> None:
    job = FunctionJob(row_of)
    with nodes(folder) as cluster, RayExecutor(cluster[0].address) as executor:
        list(executor.run([make_row(0.5, seed).cell for seed in range(50)], job))
        for count in (1_000, 10_000):
            cells = [make_row(0.5, seed).cell for seed in range(count)]
            with Store.create(folder / f"scaling-{count}") as store:
                store.add_sweep(Sweep(("net",), ("data",)), "", "")
                told, before = [], resident()
                started = last = time.perf_counter()
                for number, result in enumerate(executor.run(cells, job), 1):
                    store.add(result)
                    if number % (count // 10) == 0:
                        now = time.perf_counter()
                        told.append((number, 1000 * (now - last) / (count // 10), resident() - before))
                        last = now
            whole = time.perf_counter() - started
            print(
                f"{count} cells, each stored: {whole:.1f} s, {1000 * whole / count:.2f} ms a cell; MB above the start:"
            )
            for number, pace, grown in told:
                print(f"  after {number:>6} cells: {pace:6.2f} ms a cell, {grown:+7.1f} MB")


def resident() -> float:
    """MB of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    return 0.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["study", "losses", "overhead", "scaling", "drive"])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--address", default="")
    parser.add_argument("--notes", type=Path)
    arguments = parser.parse_args()
    if arguments.what == "drive":
        drive(arguments.out, arguments.address, arguments.notes)
        return
    folder = Path(os.environ["SECATEUR_CACHE"]).parent
    try:
        {"study": study, "losses": losses, "overhead": overhead, "scaling": scaling}[arguments.what](folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
