"""What was measured. Frozen values, free of PyTorch, that the store keeps and the report reads.

Accuracies and sparsities are fractions in [0, 1]; times are milliseconds unless the name says seconds; sizes
are bytes; multiply-adds (MACs) are for one image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from secateur.records.scores import Score
from secateur.records.spec import Cell

RIVALS = {"onnxruntime": "float32", "openvino": "float32", "onnxruntime-int8": "int8", "openvino-int8": "int8"}
"""Engines that people would run the dense network in instead of pruning it, and what it computes in there."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Wall time of one forward pass: the median over n runs with a 95 % interval of that median."""

    engine: str
    batch: int
    threads: int
    median_ms: float
    low_ms: float
    high_ms: float
    n: int


@dataclass(frozen=True, slots=True)
class Layer:
    """One weighted layer: weights kept of total, and the multiply-adds of one image, dense and non-zero.

    milliseconds: of one image in Secateur's runtime on one thread, with the operations fused into the layer; None where
    it was not measured or the layer is gone.
    """

    name: str
    kept: int
    total: int
    macs: int
    nonzero_macs: int
    milliseconds: float | None = None

    @property
    def sparsity(self) -> float:
        return 1 - self.kept / self.total if self.total else 0.0


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes on disk of the saved network, and memory above what the network held before it was pruned.

    peak_memory is the most that pruning needed at any moment; held_memory is what was still held after it.
    None where this platform does not tell (it needs Linux's /proc).
    """

    file_bytes: int
    peak_memory: int | None
    held_memory: int | None


@dataclass(frozen=True, slots=True)
class Trained:
    """The dense network that a cell started from, and how it came to be.

    seconds is the training time summed over interruptions; resumed_from lists the epochs at which an
    interrupted training took up again. data_digest and data_source say which bytes it saw, mean and std how they were
    normalised, augment what the data set advises; () and "" of networks that versions kept which did not say.
    """

    key: str
    device: str
    precision: str
    seconds: float
    epochs: int
    resumed_from: tuple[int, ...]
    data_digest: str
    data_source: str
    parameters: int
    file_bytes: int
    validation: Score
    test: Score
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    augment: str = ""


@dataclass(frozen=True, slots=True)
class Retrained:
    """The retraining of a pruned network: its epochs, seconds (interruptions left out) and where it took up again."""

    epochs: int
    seconds: float
    resumed_from: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Quantised:
    """What eight bits made of a network: its accuracies in float32 before, and the layers that still compute so."""

    validation: Score
    test: Score
    float_layers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a number was measured; latencies compare within one environment only."""

    host: str
    machine: str
    cpu: str
    cores: int
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Row:
    """One finished cell. `ours` is Secateur's pruned network, `pytorch` what torch.nn.utils.prune makes of the
    same cut (mask and original kept per weight). packed_bytes: of its .secateur file, None where it cannot be one.
    timed_on: where latencies were measured, if elsewhere than the rest. left: what stayed dense beside the output
    layers and the excluded ones, or has zeros that do not last, and why, as PruneLog has it; empty in older rows.
    quantised: of a network that computes in int8, as accuracies, packed_bytes and its latency in the runtime then are;
    `ours` is of its weights before.
    """

    cell: Cell
    trained: Trained
    validation: Score
    test: Score
    layers: tuple[Layer, ...]
    ours: Footprint
    pytorch: Footprint | None
    latencies: tuple[Latency, ...]
    environment: Environment
    seconds: float
    measured_at: str
    packed_bytes: int | None = None
    retrained: Retrained | None = None
    timed_on: Environment | None = None
    left: tuple[tuple[str, str], ...] = ()
    quantised: Quantised | None = None

    @property
    def timing(self) -> Environment | None:
        """Where the latencies were measured; None where there are none."""
        return (self.timed_on or self.environment) if self.latencies else None

    @property
    def bytes(self) -> int:
        """Of the .secateur file; of the safetensors file where the network cannot be packed."""
        return self.ours.file_bytes if self.packed_bytes is None else self.packed_bytes

    def our_latency(self, batch: int = 1) -> Latency | None:
        """In Secateur's runtime; in PyTorch where the network cannot be packed."""
        return self.latency("secateur", batch) or self.latency("pruned", batch)

    @property
    def sparsity(self) -> float:
        """Zeros over weights, the output layer counted in."""
        total = sum(layer.total for layer in self.layers)
        return 1 - sum(layer.kept for layer in self.layers) / total if total else 0.0

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def nonzero_macs(self) -> int:
        return sum(layer.nonzero_macs for layer in self.layers)

    def latency(self, engine: str, batch: int = 1) -> Latency | None:
        found = (entry for entry in self.latencies if (entry.engine, entry.batch) == (engine, batch))
        return next(found, None)

    def rivals(self, batch: int = 1) -> tuple[Latency, ...]:
        """Those of the dense network in RIVALS; rows of dense networks may have them."""
        return tuple(each for each in self.latencies if each.engine in RIVALS and each.batch == batch)


@dataclass(frozen=True, slots=True)
class Failure:
    """A cell that raised: kept beside the rows, shown, and tried again by the next run."""

    cell: Cell
    error: str
    traceback: str
    environment: Environment
    failed_at: str = field(default="")


@dataclass(frozen=True, slots=True)
class Contender:
    """One network of a search's comparison, measured like the others.

    name: "dense", "uniform" (one ratio for every layer), "global" (one threshold), "search" (a ratio for each layer) or
    "mixed" (a pattern or a precision for each as well), with what else it is after it: the pattern where there are
    several, ", retrained", ", int8". ratio: of the prunable weights. kept: weights that are not zero. bytes: of the
    .secateur file, of the safetensors file where it cannot be packed. latency: in turns with the others', None where
    it was not measured. tried: how many pruned networks were measured on validation data to find it. bound: points
    lost on validation data at most, at the search's confidence; None where it was asked for none.
    """

    name: str
    cell: str
    ratio: float
    validation: Score
    test: Score
    kept: int
    macs: int
    bytes: int
    latency: Latency | None
    tried: int
    bound: float | None = None

    def lost(self, dense: Contender) -> float:
        """Points lost on validation data, by which it is judged: at most where that was asked for."""
        return self.validation.lost_from(dense.validation) if self.bound is None else self.bound

    def cost(self, target: str, end: str = "median_ms") -> float:
        """What a search minimizes, by one of spec's targets; infinite for a latency that was not measured. end: of a
        latency's interval what is meant."""
        latency: float = getattr(self.latency, end) if self.latency else math.inf
        return {"latency": latency, "bytes": self.bytes, "macs": self.macs, "weights": self.kept}[target]


@dataclass(frozen=True, slots=True)
class FrontPoint:
    """A network that no other one of a search beats in cost and accuracy.

    name: of its kind, as a contender's, and its cost as it was measured; "" for outcomes of versions before, whose
    fronts hold what was searched alone, at the costs of the layers' tables. costs: by each target where several are
    minimized; cost is then the mean of what they are of the dense network's.
    """

    cell: str
    cost: float
    validation: Score
    name: str = ""
    costs: tuple[float, ...] = ()

    @property
    def each_cost(self) -> tuple[float, ...]:
        return self.costs or (self.cost,)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a search found. chosen: the name of the contender that is kept. pytorch: the dense network's latency there,
    in turns with the contenders'; None where none was measured. dense_cost: of the dense network, measured as the costs
    of the front are. rivals: the dense network's latencies in RIVALS, in the same turns. absent: those that could not
    run it, and why."""

    chosen: str
    contenders: tuple[Contender, ...]
    pytorch: Latency | None
    front: tuple[FrontPoint, ...]
    dense_cost: float
    rivals: tuple[Latency, ...] = ()
    absent: tuple[tuple[str, str], ...] = ()

    def contender(self, name: str) -> Contender:
        return next(each for each in self.contenders if each.name == name)


@dataclass(frozen=True, slots=True)
class SearchRecord:
    """A search as it was asked for, as JSON, by which command, and what it found; None until it is through."""

    number: int
    spec: str
    command: str
    outcome: Outcome | None
