"""Where a network's time goes, layer by layer, why, and what would change that. Needs no PyTorch."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from secateur import _native
from secateur.errors import BenchError, UsageError
from secateur.measure.bench import BenchRow, at_lengths, bench
from secateur.measure.foreseen import BYTES, FLOAT, Change, Foreseen, foresee, planner
from secateur.measure.reasons import Facts, Reason, reason_of
from secateur.measure.rivals import random_inputs
from secateur.measure.timing import interleave, median_interval, on_cores
from secateur.network.graph import Graph, Node
from secateur.network.limits import NO_LIMITS
from secateur.network.zeros import matrix_of, pattern_of
from secateur.packfile import packed_sizes
from secateur.records.environment import cpu_name
from secateur.runtime import Plan, PlanStep, Session

PEERS = ("onnxruntime", "onnxruntime-int8")
_MOST_ROUNDS, _LEAST_ROUNDS = 200, 3
_SKIPPING = ("sparse", "paired")
"""What kernels that leave zeros out are called."""


@dataclass(frozen=True, slots=True)
class LayerAnalysis:
    """One step of the runtime's plan: a layer with what is fused into it, or what lies between layers.

    layer: "3×3 convolution" and the like, empty without weights. shape: of its output, without the batch. element:
    what it computes in. weights: how many; zeros: their share, None without any; pattern: see zeros.pattern_of.
    multiply_adds, done: of one image, of all weights and of those that the kernel does not skip. file_bytes: of its
    weights in the file. milliseconds: of the whole batch, measured. moved_bytes: that the batch reads and writes,
    weights too. peak_share: of this machine's peak for what it computes in, None where it has no multiply-adds.
    foreseen: milliseconds after a change to it alone, by the cost model: estimates.
    """

    name: str
    operations: str
    layer: str
    kernel: str
    element: str
    shape: tuple[int, ...]
    weights: int
    zeros: float | None
    pattern: str
    multiply_adds: int
    done: int
    file_bytes: int
    milliseconds: float
    moved_bytes: int
    peak_share: float | None
    skips: bool
    reason: Reason
    foreseen: Mapping[Change, float]


@dataclass(frozen=True, slots=True)
class Analysis:
    """A network on a batch. layers: in the order in which they run; together they take `milliseconds`.

    peaks: multiply-adds a second of this machine's fastest dense loop, by element, on so many threads. bandwidth: bytes
    a second of copying as much as the network's weights and values. file_bytes: of its weights in the file. rows: the
    whole run as measured, ours first, in turns with other engines; missing: engine → why it was not. dequantised: other
    engines in float32 were given the float network that this one approximates.
    """

    batch: int
    threads: int
    kernel: str
    cpu: str
    costs: str
    peaks: Mapping[str, float]
    bandwidth: float
    layers: tuple[LayerAnalysis, ...]
    file_bytes: int
    rows: tuple[BenchRow, ...]
    missing: Mapping[str, str]
    dequantised: bool = False

    @property
    def milliseconds(self) -> float:
        return sum(layer.milliseconds for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def sparse_share(self) -> float:
        """Of the dense network's multiply-adds, those of layers whose kernels skip zeros."""
        skipped = sum(layer.multiply_adds for layer in self.layers if layer.skips)
        return skipped / self.multiply_adds if self.multiply_adds else 0.0

    def foreseen(self, change: Change) -> float | None:
        """Milliseconds of all layers together after a change to each that has an estimate; None where none has."""
        if not any(change in layer.foreseen for layer in self.layers):
            return None
        return sum(layer.foreseen.get(change, layer.milliseconds) for layer in self.layers)

    @property
    def zeros(self) -> float:
        """Share of all layers' weights."""
        weighing = [layer for layer in self.layers if layer.zeros is not None]
        total = sum(layer.weights for layer in weighing)
        return sum((layer.zeros or 0.0) * layer.weights for layer in weighing) / total if total else 0.0

    @property
    def changes(self) -> tuple[Change, ...]:
        found = {change for layer in self.layers for change in layer.foreseen}
        return tuple(sorted(found, key=lambda change: (change.element == BYTES, change.zeros)))


def analyse(
    graph: Graph,
    *,
    batch: int = 1,
    threads: int = 1,
    kernel: str | None = None,
    lengths: Mapping[str, int] | None = None,
    peers: Sequence[str] = PEERS,
    seconds: float = 0.5,
    sizes: Mapping[str, int] | None = None,
) -> Analysis:
    """Time a network step by step, and as a whole beside `peers` (bench.PEERS), on random inputs.

    lengths: those that are free, by name. seconds: of timing steps, and of the slowest engine. sizes: bytes of each
    weight in its file; None: as a .secateur file would hold them.
    Raises UsageError for a batch that the network does not take, for lengths that are not its own and for a peer that
    is none, RunError for threads or a kernel that make no sense.
    """
    bound = _bound(graph, batch, lengths or {})
    with on_cores(threads):
        session = Session(bound, threads, kernel, limits=NO_LIMITS)
        plan = _timed(session, batch, seconds)
        machine = _Machine.of(session.kernel, threads, _touched(plan))
        rows, missing = _whole(bound, session, batch, peers, seconds)
    foreseen = foresee(bound, plan, planner(session.kernel, threads), batch)
    sizes = packed_sizes(bound) if sizes is None else sizes
    layers = tuple(_Reader(bound, batch, machine, foreseen, sizes).layers(plan))
    quantised = bool(bound.quantisations)
    return Analysis(
        batch, threads, session.kernel, cpu_name(), plan.costs, machine.peaks, machine.bandwidth, layers,
        sum(sizes.values()), tuple(rows), missing, quantised,
    )  # fmt: skip


def _bound(graph: Graph, batch: int, lengths: Mapping[str, int]) -> Graph:
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise UsageError(f"batch {batch!r}: expected a whole number from 1 on")
    return at_lengths(graph, (batch,), lengths)


# ---- Measuring --------------------------------------------------------------------------------------------------


def _timed(session: Session, batch: int, seconds: float) -> Plan:
    """With the fastest of as many runs of every step as fit into the time."""
    started = time.perf_counter()
    session.plan(batch, rounds=1)
    once = session.plan(batch, rounds=2)
    spent = max(1e-6, sum(step.seconds or 0.0 for step in once.steps))
    left = seconds - (time.perf_counter() - started)
    return session.plan(batch, rounds=max(_LEAST_ROUNDS, min(_MOST_ROUNDS, round(left / spent))))


def _touched(plan: Plan) -> int:
    """Bytes that a run goes through."""
    return plan.arena_bytes + sum(step.bytes for step in plan.steps)


@dataclass(frozen=True, slots=True)
class _Machine:
    peaks: Mapping[str, float]
    bandwidth: float

    @staticmethod
    def of(kernel: str, threads: int, touched: int) -> _Machine:
        peaks = {FLOAT: threads * _native.peak_rate(kernel), BYTES: threads * _native.peak_rate(kernel, True)}
        return _Machine(peaks, copying_pace(touched, threads))


def copying_pace(touched: int, threads: int, rounds: int = 9) -> float:
    """Bytes a second, read and written, of threads that copy memory of so many bytes together."""
    each = max(1 << 14, min(touched, 1 << 28) // threads // 2)
    places = [(np.ones(each, np.uint8), np.ones(each, np.uint8)) for _ in range(threads)]

    def copy(place: tuple[Any, Any], times: int) -> None:
        for _ in range(times):
            np.copyto(*place)

    times = max(1, (4 << 20) // each)
    best = math.inf
    with ThreadPoolExecutor(threads) as crew:
        work = crew.map if threads > 1 else map
        for _ in range(rounds):
            started = time.perf_counter()
            list(work(lambda place: copy(place, times), places))
            best = min(best, time.perf_counter() - started)
    return 2 * each * times * threads / best


def _whole(
    graph: Graph, session: Session, batch: int, peers: Sequence[str], seconds: float
) -> tuple[Sequence[BenchRow], Mapping[str, str]]:
    """The whole run, in turns with other engines where those can be given the same."""
    try:
        found = bench(
            graph, batches=(batch,), threads=(session.threads,), peers=peers, seconds=seconds, kernel=session.kernel
        )
        return found.rows, found.missing
    except BenchError as error:
        reason = str(error)
    inputs = random_inputs(graph, batch, 0)
    times = interleave({"secateur": functools.partial(session.run_all, *inputs)}, seconds=seconds)["secateur"]
    low, middle, high = median_interval(times)
    row = BenchRow("secateur", batch, session.threads, middle, low, high, len(times), 0.0)
    return [row], dict.fromkeys(peers, reason)


# ---- Reading a plan ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Reader:
    """From the steps of a plan to what they mean."""

    graph: Graph
    batch: int
    machine: _Machine
    foreseen: Foreseen
    sizes: Mapping[str, int]

    def layers(self, plan: Plan) -> Iterator[LayerAnalysis]:
        nodes = {node.name: node for node in self.graph.nodes}
        values = _Values.of(self.graph)
        for _, stage in plan.stages or (("", plan),):
            images = min(self.batch, sum(block * count for block, _, count in stage.parts) or 1)
            for step in stage.steps:
                node = nodes.get(step.name)
                node = node if node is not None and node.op == step.operations.split("+")[0] else None
                yield self._layer(step, node, values, images, stage.threads)

    def _layer(self, step: PlanStep, node: Node | None, values: _Values, images: int, threads: int) -> LayerAnalysis:
        runs = math.ceil(images / step.images)
        seconds = (step.seconds or 0.0) * math.ceil(runs * step.threads / threads)
        done = min(step.nonzero_multiply_adds, step.multiply_adds) * images
        moved = images * values.moved(step, node) + runs * step.bytes
        facts = self._facts(step, node, seconds, moved, done)
        return LayerAnalysis(
            name=step.name,
            operations=step.operations,
            layer=step.layer,
            kernel=step.kernel,
            element=_element(step),
            shape=tuple(node.shape if node else step.shape),
            weights=self._weights(step, node),
            zeros=facts.zeros,
            pattern=self._pattern(step, node),
            multiply_adds=step.multiply_adds,
            done=min(step.nonzero_multiply_adds, step.multiply_adds),
            file_bytes=sum(self.sizes.get(name, 0) for name in node.weights.values()) if node else 0,
            milliseconds=1e3 * seconds,
            moved_bytes=moved,
            peak_share=facts.peak_share if done else None,
            skips=facts.skips,
            reason=reason_of(facts),
            foreseen=self._foreseen(step, 1e3 * seconds, facts.zeros),
        )

    def _facts(self, step: PlanStep, node: Node | None, seconds: float, moved: int, done: int) -> Facts:
        zeros = 1 - step.density if step.layer else None
        own = bool(step.layer or step.multiply_adds)
        return Facts(
            seconds=seconds,
            moved=moved,
            bandwidth=self.machine.bandwidth,
            peak=self.machine.peaks[_element(step)],
            done=done,
            zeros=zeros,
            skips=bool(zeros) and any(word in step.kernel for word in _SKIPPING),
            idle=self.foreseen.idle(step.name) if step.layer else None,
            pays=self._pays(step, zeros),
            floats_among_bytes=bool(self.graph.quantisations) and own and _element(step) == FLOAT,
            tapped=self._tapped(node),
        )

    def _pays(self, step: PlanStep, zeros: float | None) -> float | None:
        """Where the line through what 90 % zeros and no weights would take meets what the layer takes now."""
        quantised = bool(self.graph.quantisations)
        idle = self.foreseen.idle(step.name)
        most = self.foreseen.share(step.name, Change(0.9, BYTES if quantised else FLOAT))
        if zeros is None or idle is None or most is None or most <= idle or idle >= 1:
            return None
        found = 1 - 0.1 * (1 - idle) / (most - idle)
        return max(found, zeros) if found < 1 else None

    def _tapped(self, node: Node | None) -> int:
        if node is None or not (name := matrix_of(node)) or "groups" not in node.attributes:
            return 0
        shape = self.graph.weights[name].shape
        return math.prod(shape[1:]) if shape[1] == 1 and node.whole("groups") > 1 else 0

    def _weights(self, step: PlanStep, node: Node | None) -> int:
        name = matrix_of(node) if node and step.layer else ""
        return math.prod(self.graph.weights[name].shape) if name else 0

    def _pattern(self, step: PlanStep, node: Node | None) -> str:
        name = matrix_of(node) if node else ""
        return pattern_of(self.graph.weights[name].bits != 0) if name and step.layer else ""

    def _foreseen(self, step: PlanStep, milliseconds: float, zeros: float | None) -> dict[Change, float]:
        """Of changes that the layer has not behind it."""
        if not step.layer or zeros is None:
            return {}
        shares = {
            change: self.foreseen.share(step.name, change)
            for change in self.foreseen.changed
            if change.element != _element(step) or change.zeros > zeros + 0.005
        }
        return {change: share * milliseconds for change, share in shares.items() if share is not None}


def _element(step: PlanStep) -> str:
    return BYTES if step.kernel.startswith(BYTES) else FLOAT


@dataclass(frozen=True, slots=True)
class _Values:
    """Bytes of every value of one image, as the runtime holds it."""

    sizes: Mapping[str, int]

    @staticmethod
    def of(graph: Graph) -> _Values:
        narrow = graph.quantisations.keys()
        shapes = {**graph.inputs, **{node.name: node.shape for node in graph.nodes}}
        return _Values({name: math.prod(shape) * (1 if name in narrow else 4) for name, shape in shapes.items()})

    def moved(self, step: PlanStep, node: Node | None) -> int:
        """What a step reads and writes of an image: its inputs, a sum fused into it, its output."""
        if node is None:
            return 2 * 4 * math.prod(step.shape)
        made = self.sizes[node.name]
        return sum(self.sizes[name] for name in node.inputs) + made * (1 + step.operations.split("+")[1:].count("add"))
