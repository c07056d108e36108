"""A packed network against the engines that people already have: `secateur bench`, and benchmarks/runtime.py.

Every rival runs the same network on the same input, in turns in one run, and has to compute the same first: to within
rounding in float32, roughly in eight bits. Importing this needs none of them.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import numpy as np

from secateur.errors import BenchError, GraphError, SecateurError, UsageError
from secateur.measure.rivals import PEERS as PEERS
from secateur.measure.rivals import USUAL as USUAL
from secateur.measure.rivals import Array, Predict, in_eight_bits, only_or_all, quantiser, random_inputs
from secateur.measure.timing import Times, median_interval, on_cores, time_twice
from secateur.network.dequantising import to_floats
from secateur.network.graph import Graph
from secateur.network.limits import NO_LIMITS
from secateur.network.simplification import settle
from secateur.network.sizes import BATCH
from secateur.runtime import MOST_IMAGES, MOST_THREADS, Session

T = TypeVar("T")
Outputs = tuple[Array, ...]

OURS = "secateur"

INSTALL = "pip install 'secateur[bench]'"
"""What adds the USUAL."""

TOLERANCE = 1e-3
"""How far an engine's outputs may be from ours, as a share of the largest; float32 rounding stays below 1e-4."""

ROUGHLY = 1.0
"""How far outputs in eight bits may be off, as a share of the norm of those in float32."""


@dataclass(frozen=True, slots=True)
class Spread:
    """The median time of a run over n samples, with its 95 % interval."""

    median_ms: float
    low_ms: float
    high_ms: float
    n: int


@dataclass(frozen=True, slots=True)
class BenchRow:
    """One engine on one batch size: the median time of a run over n samples in turns, with its 95 % interval.

    max_abs_diff: the largest difference from Secateur's outputs in float32 on the same input, where those are finite.
    relative_error: the norm of all differences over that of those outputs. same_choice: for how many images the largest
    output is the same one, as a share. warm: among the engine's own runs, None where runs take long.
    """

    engine: str
    batch: int
    threads: int
    median_ms: float
    low_ms: float
    high_ms: float
    n: int
    max_abs_diff: float
    relative_error: float = 0.0
    same_choice: float = 1.0
    warm: Spread | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The fastest of the others at a batch size, and its median over ours: above 1, ours is faster.

    element: what the others compute in, float32 or int8. untimed: those of USUAL that were not timed there; it is the
    best rival only where there are none. warm: the fastest of those whose caches are warm, and its median over ours
    then; None where that was not timed.
    """

    batch: int
    threads: int
    fastest_other: str
    times_faster: float
    untimed: tuple[str, ...]
    element: str = "float32"
    warm: tuple[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Bench:
    """rows by batch, threads and engine, ours first; missing: engine → why it could not run here, or not always.

    uninstalled: those of USUAL that are not installed here, asked for or not. quantisers: rival in eight bits → whose
    tool quantised the network for it, on noise. dequantised: the network was in eight bits, and the others were given
    the float network that it approximates.
    """

    rows: tuple[BenchRow, ...]
    missing: Mapping[str, str]
    uninstalled: tuple[str, ...] = ()
    quantisers: Mapping[str, str] = field(default_factory=dict)
    dequantised: bool = False

    def verdicts(self) -> list[Verdict]:
        """For each batch size and number of threads, one over each element that any of the others computes in."""
        found = []
        for batch, threads in dict.fromkeys((row.batch, row.threads) for row in self.rows):
            here = [row for row in self.rows if (row.batch, row.threads) == (batch, threads)]
            ours = next(row for row in here if row.engine == OURS)
            for element in ("float32", "int8"):
                rivals = [row for row in here if row is not ours and in_eight_bits(row.engine) == (element == "int8")]
                if rivals:
                    found.append(_verdict(ours, rivals, element))
        return found

    def to_json(self) -> dict[str, Any]:
        ratios = [
            asdict(each) | {"best_rival": None if each.untimed else each.fastest_other} for each in self.verdicts()
        ]
        return {
            "rows": [asdict(row) for row in self.rows],
            "ratios": ratios,
            "missing": dict(self.missing),
            "uninstalled": list(self.uninstalled),
            "quantisers": dict(self.quantisers),
            "dequantised": self.dequantised,
        }


def _verdict(ours: BenchRow, rivals: Sequence[BenchRow], element: str) -> Verdict:
    best = min(rivals, key=lambda row: row.median_ms)
    usual = USUAL if element == "float32" else tuple(f"{name}-int8" for name in USUAL)
    timed = {row.engine for row in rivals}
    untimed = tuple(name for name in usual if name not in timed)
    faster = best.median_ms / ours.median_ms
    return Verdict(ours.batch, ours.threads, best.engine, faster, untimed, element, _warm_verdict(ours, rivals))


def _warm_verdict(ours: BenchRow, rivals: Sequence[BenchRow]) -> tuple[str, float] | None:
    medians = {row.engine: row.warm.median_ms for row in rivals if row.warm is not None}
    if ours.warm is None or not medians:
        return None
    best = min(medians, key=lambda name: medians[name])
    return best, medians[best] / ours.warm.median_ms


def bench(
    graph: Graph,
    *,
    batches: Sequence[int] = (1, 64),
    threads: Sequence[int] = (1,),
    peers: Sequence[str] = ("torch", "onnxruntime"),
    seconds: float = 1.0,
    kernel: str | None = None,
    seed: int = 0,
    lengths: Mapping[str, int] | None = None,
) -> Bench:
    """Time a network in Secateur's runtime and in each peer, on random inputs of N(0, 1), or of zeros where they are
    whole numbers. lengths: those that are free, by name.

    Of a network in eight bits the peers are given the float network that it approximates, which those in eight bits
    quantise with their own tools; ours is compared with that one, and inputs lie where its first scale has numbers.

    seconds: of timing that the slowest engine gets at each batch size, and again that each gets warm where runs are
    short. Engines that are not installed, cannot be made of the network or fail at their first call are named in
    `missing`, and the others are timed. Raises UsageError for a peer that is none and for numbers and lengths that make
    no sense,
    BenchError where an engine computes something else, RunError where our own cannot run.
    """
    unknown = [name for name in peers if name not in PEERS]
    if unknown:
        raise UsageError(f"peers {unknown}: expected some of {', '.join(PEERS)}")
    _check_counts("batches", batches, MOST_IMAGES)
    _check_counts("threads", threads, MOST_THREADS)
    if not 0 < seconds < math.inf:
        raise UsageError(f"seconds {seconds}: expected a number above 0")
    graph = at_lengths(graph, batches, lengths or {})
    floats = to_floats(graph)
    rows: list[BenchRow] = []
    missing: dict[str, str] = {}
    for count in threads:
        with on_cores(count):
            ours = _engine(graph, count, kernel)
            exact = ours if floats is graph else _engine(floats, count, kernel)
            rivals = _those_that_run({name: functools.partial(PEERS[name], floats, count) for name in peers}, missing)
            for batch in batches:
                x = _within_range(graph, random_inputs(graph, batch, seed))
                rows += _compare(ours, exact, rivals, x, count, seconds, missing)
    timed = {row.engine for row in rows}
    quantisers = {name: quantiser(name) for name in peers if in_eight_bits(name) and name in timed}
    uninstalled = tuple(name for name in USUAL if importlib.util.find_spec(name) is None)
    return Bench(tuple(rows), missing, uninstalled, quantisers, floats is not graph)


def at_lengths(graph: Graph, batches: Sequence[int], lengths: Mapping[str, int]) -> Graph:
    """The graph at lengths, all that are free by name, which takes batches of these sizes. Raises UsageError."""
    if other := [batch for batch in batches if graph.images not in (None, batch)]:
        raise UsageError(
            f"a batch of {other[0]}: the network takes {graph.images} images only: ask for --batch {graph.images}"
        )
    free = [name for name in graph.lengths if name != BATCH]
    if lengths.keys() != set(free):
        example = ",".join(f"{name}=16" for name in free)
        expected = f"{', '.join(free)}: give them as in --lengths {example}" if free else "none"
        raise UsageError(f"lengths {', '.join(lengths) or 'not given'}; expected {expected}")
    if BATCH in graph.lengths and len(batches) > 1:
        raise UsageError("the network has values of all images: ask for one number of images at a time, as --batch 1")
    own = {BATCH: batches[0]} if BATCH in graph.lengths else {}
    try:
        return settle(graph.bind({**lengths, **own})) if graph.lengths else graph
    except GraphError as error:
        raise UsageError(f"lengths {', '.join(f'{name}={each}' for name, each in lengths.items())}: {error}") from error


def _check_counts(name: str, counts: Sequence[int], most: int) -> None:
    if not counts or not all(isinstance(each, int) and 1 <= each <= most for each in counts):
        raise UsageError(f"{name} {list(counts)}: expected whole numbers from 1 to {most}, one at least")


def _those_that_run(tries: Mapping[str, Callable[[], T]], missing: dict[str, str]) -> dict[str, T]:
    """What each makes; why one could not goes to `missing`."""
    made = {}
    for name, attempt in tries.items():
        try:
            made[name] = attempt()
        except Exception as error:  # whatever a rival raises: the others are to be timed all the same
            missing.setdefault(name, _in_a_line(error))
    return made


def _in_a_line(error: Exception) -> str:
    if isinstance(error, SecateurError):
        return str(error)
    return " ".join([f"{type(error).__name__}:", *str(error).strip().partition("\n")[0].split()])


_MOVES = ("reshape", "permute")


def _within_range(graph: Graph, given: tuple[Array, ...]) -> tuple[Array, ...]:
    """Numbers that each input's first quantisation has, where it has one: what is beyond has no answer in common."""
    sources = {name: name for name in graph.inputs}
    held = dict(zip(graph.inputs, given, strict=True))
    for node in graph.nodes:
        if node.op in _MOVES and node.inputs[0] in sources:
            sources[node.name] = sources[node.inputs[0]]
        if node.op == "quantise" and node.inputs[0] in sources:
            of = graph.quantisations[node.name]
            least, most = (np.float32((end - of.zero_point) * of.scale) for end in (of.least, of.most))
            name = sources[node.inputs[0]]
            held[name] = held[name].clip(least, most)
    return tuple(held.values())


def _compare(
    ours: Predict,
    exact: Predict,
    rivals: Mapping[str, Predict],
    x: tuple[Array, ...],
    threads: int,
    seconds: float,
    missing: dict[str, str],
) -> list[BenchRow]:
    """exact: ours in float32, or ours itself. x: what all are given."""
    expected = _all(exact(*x))
    first = {name: functools.partial(_first_run, name, run, x, expected) for name, run in rivals.items()}
    outputs = {OURS: expected if exact is ours else _rough(_all(ours(*x)), expected)} | _those_that_run(first, missing)
    for name in rivals.keys() & outputs.keys():
        if not in_eight_bits(name):
            _check_same(name, outputs[name], expected)
    runs = {OURS: ours} | {name: run for name, run in rivals.items() if name in outputs}
    times = time_twice({name: functools.partial(run, *x) for name, run in runs.items()}, seconds=seconds)
    return [_row(name, threads, outputs[name], expected, each) for name, each in times.items()]


def _all(made: Any) -> Outputs:
    """What an engine gave, as arrays."""
    return tuple(np.asarray(each) for each in (made if isinstance(made, tuple) else (made,)))


def _check_same(name: str, outputs: Outputs, ours: Outputs) -> None:
    for output, own in zip(outputs, ours, strict=True):
        known = own[np.isfinite(own)]
        allowed = TOLERANCE * max(1.0, float(np.abs(known).max(initial=0.0)))
        difference = _largest_difference((output,), (own,))
        if not difference <= allowed:
            raise BenchError(
                f"{name} and {OURS} differ by {difference:.3g} on the same input of {len(own)} images, so their times "
                "cannot be compared"
            )


def _row(name: str, threads: int, output: Outputs, ours: Outputs, times: Times) -> BenchRow:
    turns = _spread(times.in_turns)
    return BenchRow(
        engine=name,
        batch=len(ours[0]),
        threads=threads,
        **asdict(turns),
        max_abs_diff=_largest_difference(output, ours),
        relative_error=_relative_error(output, ours),
        same_choice=_same_choice(output, ours),
        warm=_spread(times.warm) if times.warm else None,
    )


def _spread(times: list[float]) -> Spread:
    low, middle, high = median_interval(times)
    return Spread(middle, low, high, len(times))


def _first_run(name: str, run: Predict, x: tuple[Array, ...], ours: Outputs) -> Outputs:
    """Raises BenchError for outputs of another shape than ours, as some engines give for layers without channels."""
    found = _all(run(*x))
    came, wanted = ([each.shape for each in outputs] for outputs in (found, ours))
    if came != wanted:
        raise BenchError(f"gives {_listed(came)} where {OURS} gives {_listed(wanted)}")
    return _rough(found, ours) if in_eight_bits(name) else found


def _listed(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join(map(str, shapes))


def _rough(outputs: Outputs, exact: Outputs) -> Outputs:
    """The outputs. Raises BenchError where they are no approximation of what is exact."""
    error = _relative_error(outputs, exact)
    if not error <= ROUGHLY:
        raise BenchError(f"in eight bits outputs are off by {error:.0%} of their norm: that computes something else")
    return outputs


def _differences(outputs: Outputs, ours: Outputs) -> Iterator[tuple[Array, Array]]:
    """(difference, ours) of the numbers of each output that are finite in ours: elsewhere there is no right answer to
    be wrong about. NaN where only the other is."""
    for output, own in zip(outputs, ours, strict=True):
        known = np.isfinite(own)
        right = own[known].astype(np.float64)
        yield output[known].astype(np.float64) - right, right


def _largest_difference(outputs: Outputs, ours: Outputs) -> float:
    return float(np.max([np.abs(apart).max(initial=0.0) for apart, _ in _differences(outputs, ours)], initial=0.0))


def _relative_error(outputs: Outputs, ours: Outputs) -> float:
    """The norm of the differences over that of ours."""
    apart, own = (math.hypot(*map(np.linalg.norm, each)) for each in zip(*_differences(outputs, ours), strict=True))
    return apart / max(own, float(np.finfo(np.float32).tiny))


def _same_choice(outputs: Outputs, ours: Outputs) -> float:
    """Of the first output."""
    if not ours[0].size:
        return 1.0
    rows = [each[0].reshape(len(ours[0]), -1) for each in (outputs, ours)]
    return float(np.mean(rows[0].argmax(1) == rows[1].argmax(1)))


def _engine(graph: Graph, threads: int, kernel: str | None) -> Predict:
    session = Session(graph, threads=threads, kernel=kernel, limits=NO_LIMITS)
    return lambda *x: only_or_all(session.run_all(*x))
