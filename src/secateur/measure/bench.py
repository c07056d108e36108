"""A packed network against the engines that people already have: `secateur bench`, and benchmarks/runtime.py.

Every rival runs the same Graph on the same input, in turns in one run, and has to compute the same first. Importing
this needs none of them.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from secateur.errors import BenchError, MissingExtraError, RunError, SecateurError, UsageError
from secateur.measure.timing import interleave, median_interval, on_cores
from secateur.network.graph import Graph
from secateur.network.limits import NO_LIMITS
from secateur.runtime import MOST_IMAGES, MOST_THREADS, Session

Array = NDArray[np.float32]
Predict = Callable[[Array], Array]
T = TypeVar("T")

OURS = "secateur"
USUAL = ("onnxruntime", "openvino")
"""What people run networks in on a CPU: without both, the fastest of the others is nobody's best rival."""

INSTALL = "pip install 'secateur[bench]'"
"""What adds them."""

TOLERANCE = 1e-3
"""How far an engine's outputs may be from ours, as a share of the largest; float32 rounding stays below 1e-4."""


@dataclass(frozen=True, slots=True)
class BenchRow:
    """One engine on one batch size: the median time of a run over n samples, with its 95 % interval.

    max_abs_diff: the largest difference from Secateur's outputs on the same input, where those are finite.
    """

    engine: str
    batch: int
    threads: int
    median_ms: float
    low_ms: float
    high_ms: float
    n: int
    max_abs_diff: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """The fastest of the others at a batch size, and its median over ours: above 1, ours is faster.

    untimed: those of USUAL that were not timed there; it is the best rival only where there are none.
    """

    batch: int
    threads: int
    fastest_other: str
    times_faster: float
    untimed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bench:
    """rows by batch, threads and engine, ours first; missing: engine → why it could not run here, or not always.

    uninstalled: those of USUAL that are not installed here, asked for or not.
    """

    rows: tuple[BenchRow, ...]
    missing: Mapping[str, str]
    uninstalled: tuple[str, ...] = ()

    def verdicts(self) -> list[Verdict]:
        """One for each batch size and number of threads at which anything else was timed."""
        found = []
        for batch, threads in dict.fromkeys((row.batch, row.threads) for row in self.rows):
            here = {row.engine: row.median_ms for row in self.rows if (row.batch, row.threads) == (batch, threads)}
            ours = here.pop(OURS)
            if here:
                best = min(here, key=lambda name: here[name])
                untimed = tuple(name for name in USUAL if name not in here)
                found.append(Verdict(batch, threads, best, here[best] / ours, untimed))
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
        }


def bench(
    graph: Graph,
    *,
    batches: Sequence[int] = (1, 64),
    threads: Sequence[int] = (1,),
    peers: Sequence[str] = ("torch", "onnxruntime"),
    seconds: float = 1.0,
    kernel: str | None = None,
    seed: int = 0,
) -> Bench:
    """Time a network in Secateur's runtime and in each peer, on random inputs of N(0, 1).

    seconds: of timing that the slowest engine gets at each batch size. Engines that are not installed, cannot be made
    of the network or fail at their first call are named in `missing`, and the others are timed. Raises UsageError for
    a peer that is none and for numbers that make no sense, BenchError where an engine computes something else,
    RunError where our own cannot run.
    """
    unknown = [name for name in peers if name not in PEERS]
    if unknown:
        raise UsageError(f"peers {unknown}: expected some of {', '.join(PEERS)}")
    _check_counts("batches", batches, MOST_IMAGES)
    _check_counts("threads", threads, MOST_THREADS)
    if not 0 < seconds < math.inf:
        raise UsageError(f"seconds {seconds}: expected a number above 0")
    rows: list[BenchRow] = []
    missing: dict[str, str] = {}
    for count in threads:
        with on_cores(count):
            ours = _ours(graph, count, kernel)
            rivals = _those_that_run({name: functools.partial(PEERS[name], graph, count) for name in peers}, missing)
            for batch in batches:
                x = _random_input(graph, batch, seed)
                rows += _compare(ours, rivals, x, count, seconds, missing)
    return Bench(tuple(rows), missing, tuple(name for name in USUAL if importlib.util.find_spec(name) is None))


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


def _random_input(graph: Graph, batch: int, seed: int) -> Array:
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise BenchError(
            f"the network takes {len(graph.inputs)} inputs and has {len(graph.outputs)} outputs: expected 1 and 1"
        )
    if graph.lengths:
        raise BenchError(f"the network has lengths that are free ({', '.join(graph.lengths)}): bind its Graph to some")
    (shape,) = graph.inputs.values()
    try:
        return np.random.default_rng(seed).standard_normal((batch, *shape), np.float32)
    except (MemoryError, ValueError) as error:  # the latter for sizes beyond any machine
        raise RunError(f"{batch} images of {shape} take more memory than there is: ask for fewer at once") from error


def _compare(
    ours: Predict, rivals: Mapping[str, Predict], x: Array, threads: int, seconds: float, missing: dict[str, str]
) -> list[BenchRow]:
    expected = ours(x)
    first = {name: functools.partial(_first_run, run, x, expected.shape) for name, run in rivals.items()}
    outputs = _those_that_run(first, missing)
    apart = {OURS: 0.0} | {name: _largest_difference(output, expected) for name, output in outputs.items()}
    known = expected[np.isfinite(expected)]
    allowed = TOLERANCE * max(1.0, float(np.abs(known).max(initial=0.0)))
    for name, difference in apart.items():
        if not difference <= allowed:
            raise BenchError(
                f"{name} and {OURS} differ by {difference:.3g} on the same input of {len(x)} images, so their times "
                "cannot be compared"
            )
    runs = {OURS: ours} | {name: rivals[name] for name in outputs}
    times = interleave({name: functools.partial(run, x) for name, run in runs.items()}, seconds=seconds)
    rows = []
    for name, each in times.items():
        low, middle, high = median_interval(each)
        rows.append(BenchRow(name, len(x), threads, middle, low, high, len(each), apart[name]))
    return rows


def _first_run(run: Predict, x: Array, shape: tuple[int, ...]) -> Array:
    """Raises BenchError for outputs of another shape than ours, as some engines give for layers without channels."""
    found = np.asarray(run(x))
    if found.shape != shape:
        raise BenchError(f"gives {found.shape} where {OURS} gives {shape}")
    return found


def _largest_difference(output: Array, ours: Array) -> float:
    """NaN where only the other is; where ours are not finite there is no right answer to be wrong about."""
    known = np.isfinite(ours)
    return float(np.abs(output[known] - ours[known]).max(initial=0.0))


def _ours(graph: Graph, threads: int, kernel: str | None) -> Predict:
    session = Session(graph, threads=threads, kernel=kernel, limits=NO_LIMITS)
    return lambda x: session(x)  # type: ignore[return-value]


def _need(package: str, extra: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise MissingExtraError(f"{package} is not installed: pip install 'secateur[{extra}]'")


def _torch(graph: Graph, threads: int) -> Predict:
    """PyTorch eager, in the memory layout that is faster on one image."""
    _need("torch", "torch")
    import torch

    from secateur.exporting.rebuilding import GraphNetwork

    torch.set_num_threads(threads)
    network = GraphNetwork(graph).eval()
    layouts = [torch.contiguous_format]
    if any(node.op == "conv2d" for node in graph.nodes):
        layouts.append(torch.channels_last)
    runs = {str(layout): _torch_run(network, layout, torch.inference_mode) for layout in layouts}
    x = _random_input(graph, 1, 0)
    times = interleave({name: functools.partial(run, x) for name, run in runs.items()}, seconds=0.1)
    return runs[min(times, key=lambda name: median_interval(times[name])[1])]


def _torch_compile(graph: Graph, threads: int) -> Predict:
    _need("torch", "torch")
    import torch

    from secateur.exporting.rebuilding import GraphNetwork

    torch.set_num_threads(threads)
    compiled = torch.compile(GraphNetwork(graph).eval(), dynamic=False)
    return _torch_run(compiled, torch.contiguous_format, torch.no_grad)


def _torch_run(network: Any, layout: Any, without_gradients: Any) -> Predict:
    import torch

    def run(x: Array) -> Array:
        with without_gradients():
            given = torch.from_numpy(x)
            given = given.contiguous(memory_format=layout) if given.ndim == 4 else given
            return network(given).numpy()

    return run


def _onnxruntime(graph: Graph, threads: int) -> Predict:
    _need("onnx", "bench")
    _need("onnxruntime", "bench")
    import onnxruntime

    from secateur.exporting.onnx import to_onnx

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that go on spinning after a run would take the core from the engine that is timed next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(to_onnx(graph), options, providers=["CPUExecutionProvider"])
    (name,) = graph.inputs
    return lambda x: session.run(None, {name: x})[0]


def _openvino(graph: Graph, threads: int) -> Predict:
    _need("onnx", "bench")
    _need("openvino", "bench")
    import io

    import openvino

    from secateur.exporting.onnx import to_onnx

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(core.read_model(io.BytesIO(to_onnx(graph))), "CPU", settings).create_infer_request()
    return lambda x: request.infer({0: x}, share_inputs=True)[0]


PEERS: Mapping[str, Callable[[Graph, int], Predict]] = {
    "torch": _torch,
    "torch-compile": _torch_compile,
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}
"""Name → what makes an engine out of a graph for a number of threads; MissingExtraError where it is not installed."""
