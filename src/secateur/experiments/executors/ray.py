"""Cells on a Ray cluster (docs/cluster.md). Ray places them, moves what they need and tells when they are done."""

from __future__ import annotations

import functools
import logging
import signal
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from secateur.errors import MissingExtraError, SweepError, UsageError
from secateur.experiments.executors import INTERRUPTS, Job, attempt, failure
from secateur.experiments.keys import Parcel
from secateur.records.environment import available_cores
from secateur.records.results import Failure, Row
from secateur.records.spec import Cell
from secateur.support import settings
from secateur.support.progress import Reporter, SilentReporter, Task

try:
    import ray
    from ray import cloudpickle
    from ray.exceptions import (
        LocalRayletDiedError,
        NodeDiedError,
        ObjectLostError,
        OutOfMemoryError,
        RayError,
        WorkerCrashedError,
    )
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise MissingExtraError("--executor ray needs Ray: pip install 'secateur[ray]' here and on every node") from error

ATTEMPTS = 3
"""How often a cell is begun before its workers' deaths are its own failure."""

LOST = (WorkerCrashedError, OutOfMemoryError, NodeDiedError, LocalRayletDiedError, ObjectLostError)
TICK_SECONDS = 1.0
CONNECT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Share:
    """What a cell asks of its node. memory: in bytes, None asks for nothing."""

    cpus: float = 1.0
    gpus: float = 0.0
    memory: float | None = None

    def __post_init__(self) -> None:
        for name, value, least in (("cpus", self.cpus, 0.01), ("gpus", self.gpus, 0.0), ("memory", self.memory, 1.0)):
            if value is not None and not least <= value < float("inf"):
                raise UsageError(f"--{name}-per-cell {value:g}: expected {least:g} or more")

    @property
    def threads(self) -> int:
        return max(1, int(self.cpus))

    def options(self) -> dict[str, Any]:
        """As Ray takes them."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus} | ({"memory": int(self.memory)} if self.memory else {})


class RayExecutor:
    """Cells as Ray tasks, a bounded number under way. Use as a context manager: connected inside.

    address: as ray.init takes it ("auto" is the cluster of this machine, HOST:PORT, ray://HOST:PORT); "local" starts
    Ray on this machine for as long as it is used. latency_on: a node's name, host or address, on which every latency
    is measured, one at a time; "" leaves that to the job. Where this process is connected to Ray already, that stays.
    """

    elsewhere = True

    def __init__(
        self,
        address: str = "auto",
        *,
        share: Share | None = None,
        latency_on: str = "",
        reporter: Reporter | None = None,
    ) -> None:
        self._address, self._share, self._latency_on = address, share or Share(), latency_on
        self._reporter = reporter or SilentReporter()
        self._connected_here = False

    def __enter__(self) -> RayExecutor:
        """Raises SweepError where there is no cluster, UsageError where none of its nodes is latency_on."""
        _check_address(self._address)
        if not ray.is_initialized():
            _connect(self._address)
            self._connected_here = True
        if self._latency_on:
            _node_called(self._latency_on)
        return self

    def __exit__(self, *_: object) -> None:
        if self._connected_here:
            ray.shutdown()

    def run(self, cells: Sequence[Cell], job: Job) -> Iterator[Row | Failure]:
        """An interrupt lets the cells under way end, and their results come, before KeyboardInterrupt is raised; a
        second one raises it at once. A cell that loses its worker or node is begun ATTEMPTS times."""
        place = _node_called(self._latency_on) if self._latency_on else None
        run = _Run(cells, job, self._share, place, self._reporter)
        label = f"cluster, {len(cells)} cells"
        with _interruptible(run), self._reporter.task(label, len(cells), brief=True) as task:
            try:
                yield from run.results(task)
            finally:
                run.cancel()
        if run.draining:
            raise KeyboardInterrupt


def _connect(address: str) -> None:
    options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        settings.RAY_USAGE.default("0")
        options |= {"include_dashboard": False, "num_cpus": available_cores()}
    elif address != "auto":
        _check_answers(address)
    try:
        ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError, RayError, SystemExit) as error:  # it exits, too
        raise SweepError(
            f"--address {address}: no Ray cluster to connect to ({_first_line(error)}); start one with: "
            "ray start --head, or take --address local for this machine alone"
        ) from error


def _check_address(address: str) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if address not in ("auto", "local") and not (host and port.isdigit()):
        raise UsageError(f"--address {address!r}: expected auto, local, HOST:PORT or ray://HOST:PORT")


def _check_answers(address: str) -> None:
    """Ask first, as Ray itself would knock for minutes and then end the process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise SweepError(
            f"--address {address}: nothing answers there ({error}); is the head node up? `ray status` on it says so, "
            "and `ray start --head` prints its address"
        ) from error


def _nodes() -> dict[str, str]:
    """Node ids and names of the nodes that live: as `ray start --node-name` has it, else the address."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    names = Counter(node["NodeName"] for node in alive)
    return {
        node["NodeID"]: node["NodeName"] if names[node["NodeName"]] == 1 else f"{node['NodeName']}/{node['NodeID'][:4]}"
        for node in alive
    }


def _node_called(name: str) -> dict[str, Any]:
    """Options that put a task on that node, and one such task at a time: Ray gives each node one `node:ADDRESS`."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    for node in alive:
        if name in (node["NodeName"], node["NodeManagerHostname"], node["NodeManagerAddress"], node["NodeID"]):
            strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            return {"scheduling_strategy": strategy, "resources": {f"node:{node['NodeManagerAddress']}": 1.0}}
    names = ", ".join(sorted({node["NodeName"] for node in alive} | {node["NodeManagerHostname"] for node in alive}))
    raise UsageError(f"--latency-on {name}: expected driver, none or a node of the cluster: {names}")


class _Board:
    """An actor that knows on which node each cell under way runs, as the cells themselves tell it."""

    def __init__(self) -> None:
        self._places: dict[str, str] = {}

    def begins(self, cell: str, node: str) -> None:
        self._places[cell] = node

    def ends(self, cell: str) -> None:
        self._places.pop(cell, None)

    def places(self) -> dict[str, str]:
        return self._places


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What comes back of a cell: its result, the node that it ran on, and networks that it made."""

    result: Row | Failure
    node: str
    made: tuple[Parcel, ...] = ()


@functools.lru_cache(maxsize=1)
def _unpickled(job: bytes) -> Job:
    """A worker process keeps its job, and with it the data sets and networks that the job has in memory."""
    made: Job = cloudpickle.loads(job)
    return made


def _train(job: bytes, threads: int, cell: Cell, known: frozenset[str]) -> Parcel | Failure:
    torch.set_num_threads(threads)
    return attempt(lambda: _unpickled(job).train(cell, known), cell, INTERRUPTS)


def _measure(job: bytes, threads: int, cell: Cell, network: Parcel | None, board: Any) -> _Outcome:
    node = ray.get_runtime_context().get_node_id()
    board.begins.remote(cell.id, node)
    torch.set_num_threads(threads)

    def work() -> tuple[Row, tuple[Parcel, ...]]:
        here = _unpickled(job)
        if network is not None:
            here.receive(cell, network)
        return here(cell), here.made(cell)

    done = attempt(work, cell, INTERRUPTS)
    board.ends.remote(cell.id)
    return _Outcome(done, node) if isinstance(done, Failure) else _Outcome(done[0], node, done[1])


def _time(job: bytes, threads: int, outcome: _Outcome, network: Parcel | None) -> _Outcome:
    row = outcome.result
    if isinstance(row, Failure):
        return outcome
    torch.set_num_threads(threads)

    def work() -> Row:
        here = _unpickled(job)
        if network is not None:
            here.receive(row.cell, network)
        for parcel in outcome.made:
            here.keep(parcel)
        return here.time(row)

    return _Outcome(attempt(work, row.cell, INTERRUPTS), outcome.node, outcome.made)


@dataclass(slots=True)
class _Work:
    """A cell with the network that it starts from; attempts: how often it was begun."""

    cell: Cell
    network: Any = None
    attempts: int = 0


@dataclass(slots=True)
class _Group:
    """Cells that start from one network; attempts: how often its training was begun."""

    cells: list[Cell]
    attempts: int = 0


@dataclass(slots=True)
class _Count:
    pending: int
    done: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)


class _Run:
    """One run of cells: what is still to do, under way and counted.

    Under way are twice as many tasks as the cluster has room for: enough that no node waits, and that an autoscaler
    sees that there is more; and so few that this process stays small. A training begins when there are no cells to
    run, so networks come as they are needed.
    """

    def __init__(
        self, cells: Sequence[Cell], job: Job, share: Share, timing: dict[str, Any] | None, reporter: Reporter
    ) -> None:
        self.draining = False
        self._job, self._pickled, self._share, self._reporter = job, cloudpickle.dumps(job), share, reporter
        self._cells: deque[_Work] = deque()
        self._groups: deque[_Group] = deque()
        self._training: dict[Any, _Group] = {}
        self._running: dict[Any, _Work] = {}
        self._count = _Count(len(cells))
        self._sort(cells)
        # Ray would retry what runs out of memory without end, so retries are counted here.
        once = share.options() | {"max_retries": 0}
        self._train = ray.remote(_train).options(**once)
        self._measure = ray.remote(_measure).options(**once)
        self._time = ray.remote(_time).options(**(once | (timing or {}))) if timing else None
        self._board = ray.remote(_Board).options(num_cpus=0, max_restarts=-1).remote()
        self._known = ray.put(job.known())
        self._places: dict[str, str] = {}
        self._asked: Any = None
        self._looked, self._room, self._names = 0.0, 0, dict[str, str]()

    def _sort(self, cells: Sequence[Cell]) -> None:
        groups: dict[Hashable, list[Cell]] = {}
        for cell in cells:
            network = self._job.network(cell)
            if network is None:
                self._cells.append(_Work(cell))
            else:
                groups.setdefault(network, []).append(cell)
        self._groups.extend(_Group(members) for members in groups.values())

    def results(self, task: Task) -> Iterator[Row | Failure]:
        while True:
            self._look()
            self._begin()
            under_way = [*self._running, *self._training]
            if not under_way:
                return
            ready, _ = ray.wait(under_way, timeout=TICK_SECONDS)
            for reference in ready:
                for outcome in self._take(reference):
                    self._tally(outcome)
                    yield outcome.result
                    task.advance(1, self._note)
            if not ready:
                task.advance(0, self._note)

    def interrupt(self) -> None:
        """Begin nothing more, or, asked again, stop."""
        if self.draining:
            raise KeyboardInterrupt
        self.draining = True
        self._reporter.say(f"stopping: {len(self._running)} cells under way may end; Ctrl-C again stops them too")

    def cancel(self) -> None:
        """Give up what is under way; Ray stops it, here and on other nodes."""
        for reference in (*self._running, *self._training):
            ray.cancel(reference)
        ray.kill(self._board)

    def _begin(self) -> None:
        if self.draining:
            for reference in self._training:
                ray.cancel(reference)
            self._training.clear()
            return
        while len(self._running) + len(self._training) < 2 * self._room:
            if self._cells:
                self._submit(self._cells.popleft())
            elif self._groups:
                self._submit_training(self._groups.popleft())
            else:
                return

    def _submit(self, work: _Work) -> None:
        work.attempts += 1
        threads, cell, network = self._share.threads, work.cell, work.network
        reference = self._measure.remote(self._pickled, threads, cell, network, self._board)
        if self._time:
            reference = self._time.remote(self._pickled, threads, reference, network)
        self._running[reference] = work

    def _submit_training(self, group: _Group) -> None:
        group.attempts += 1
        reference = self._train.remote(self._pickled, self._share.threads, group.cells[0], self._known)
        self._training[reference] = group

    def _take(self, reference: Any) -> Iterator[_Outcome]:
        if reference in self._training:
            yield from self._take_network(reference, self._training.pop(reference))
        else:
            yield from self._take_outcome(reference, self._running.pop(reference))

    def _take_outcome(self, reference: Any, work: _Work) -> Iterator[_Outcome]:
        try:
            outcome: _Outcome = ray.get(reference)
            for parcel in outcome.made:
                self._job.keep(parcel)
            yield outcome
        except RayError as error:
            if isinstance(error, LOST) and work.attempts < ATTEMPTS and not self.draining:
                self._cells.append(work)
                return
            yield _Outcome(_lost(work.cell, work.attempts, error), self._places.get(work.cell.id, ""))

    def _take_network(self, reference: Any, group: _Group) -> Iterator[_Outcome]:
        first = group.cells[0]
        try:
            made = ray.get(reference)
        except RayError as error:
            if isinstance(error, LOST) and group.attempts < ATTEMPTS:
                self._groups.appendleft(group)
                return
            made = _lost(first, group.attempts, error)
        if not isinstance(made, Failure):
            made = attempt(functools.partial(self._job.receive, first, made), first)
        if isinstance(made, Failure):
            for cell in group.cells:
                yield _Outcome(failure(cell, made.error, made.traceback), "")
            return
        network = ray.put(made)
        self._cells.extend(_Work(cell, network) for cell in group.cells)

    def _tally(self, outcome: _Outcome) -> None:
        counted = self._count.failed if isinstance(outcome.result, Failure) else self._count.done
        counted[outcome.node] += 1
        self._count.pending -= 1

    def _look(self) -> None:
        """Once a tick: how many tasks the cluster has room for, its nodes, and where cells run."""
        now = time.monotonic()
        if now - self._looked < TICK_SECONDS:
            return
        self._looked = now
        self._room, self._names = _room(self._share), self._names | _nodes()
        if self._asked is not None and ray.wait([self._asked], timeout=0)[0]:
            self._places = _answer(self._asked) or self._places
            self._asked = None
        if self._asked is None:
            self._asked = self._board.places.remote()

    def _note(self) -> str:
        """Cells pending, running, done and failed, by node."""
        under_way = {work.cell.id for work in self._running.values()}
        running = Counter(node for cell, node in self._places.items() if cell in under_way)
        waiting = max(0, self._count.pending - running.total())
        training = [f"training {len(self._training)} networks"] if self._training else []
        told = [("running", running), ("done", self._count.done), ("failed", self._count.failed)]
        return "; ".join([f"pending {waiting}", *training, *(f"{what} {self._by_node(each)}" for what, each in told)])

    def _by_node(self, counted: Counter[str]) -> str:
        parts = (f"{self._names.get(node, 'no node')} {count}" for node, count in sorted(counted.items()))
        return f"{counted.total()}" + (f" ({', '.join(parts)})" if counted else "")


def _room(share: Share) -> int:
    """How many cells the cluster as it is now can run at once; at least one, which an autoscaler makes room for."""
    total = ray.cluster_resources()
    rooms = [total.get("CPU", 0.0) / share.cpus]
    rooms += [total.get("GPU", 0.0) / share.gpus] if share.gpus else []
    rooms += [total.get("memory", 0.0) / share.memory] if share.memory else []
    return max(1, int(min(rooms)))


def _answer(reference: Any) -> dict[str, str]:
    """What the board said; nothing where it was lost with its node."""
    try:
        places: dict[str, str] = ray.get(reference)
    except RayError:
        return {}
    return places


def _lost(cell: Cell, attempts: int, error: RayError) -> Failure:
    if isinstance(error, LOST):
        text = (
            f"{type(error).__name__}: its worker or node was lost {attempts} times; out of memory? give cells more "
            "with --memory-per-cell, or a whole node's CPUs"
        )
    else:
        text = f"{type(error).__name__}: {_first_line(error)}"
    return failure(cell, text, str(error))


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextmanager
def _interruptible(run: _Run) -> Iterator[None]:
    """Ctrl-C interrupts the run, wherever this process is; only the main thread can have that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda *_: run.interrupt())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
