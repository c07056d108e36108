"""Facts about cells, each measured once: what a cut costs, what harm it does, what accuracy is left."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import math
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from secateur.errors import DataError, PruneError, QuantiseError, RunError, SearchError
from secateur.experiments.cache import NetworkCache
from secateur.experiments.calling import Engine, given_of, in_runtime
from secateur.experiments.delivery import metadata_of
from secateur.experiments.graphs import calibration_of, check_calibration
from secateur.experiments.pipeline import make_network
from secateur.experiments.searching.divergence import divergence, told_by
from secateur.experiments.searching.held import HeldSessions
from secateur.experiments.searching.plan import Search
from secateur.exporting.quantising.sketching import layers_in_eight_bits, sketch
from secateur.measure.macs import layer_table
from secateur.measure.timing import on_cores
from secateur.modules.candidates import prunable_layers
from secateur.modules.guarding import copied, drawing_from, run, watched
from secateur.modules.heads import output_layers
from secateur.modules.inputs import Example, as_inputs
from secateur.modules.layers import weight_of
from secateur.network.building import DERIVED
from secateur.network.graph import Graph
from secateur.network.limits import NO_LIMITS
from secateur.packfile import packed_size, packed_sizes
from secateur.pruning.refitting import Refits
from secateur.pruning.repairing import Shown
from secateur.pruning.score import find_method
from secateur.pruning.structures import Family, channel_families, makers
from secateur.records.patterns import Blocks, Pattern, is_of_channels, parse_pattern
from secateur.records.results import Layer
from secateur.records.scores import TOP1, Part, Score, on_all, plain, score_from
from secateur.records.spec import Cell
from secateur.records.store import Store
from secateur.runtime import Session
from secateur.support.progress import Reporter, SilentReporter

PARTS, LEAST_PARTS = 20, 8
TURNS = 3
NETWORK = "network"
"""The finding that says on which trained network all others were made."""
_SECONDS_A_TURN = 0.15
_REFITTING = {"reconstruct", "joint", "distill"}
_QUICK_IMAGES = 256
"""Calibration images for the statistics of networks that only show harm: those of the dense one are off alike."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Of each layer that may be pruned, by name, and of all the rest of the network together."""

    by_layer: Mapping[str, float]
    rest: float

    @property
    def total(self) -> float:
        return sum(self.by_layer.values()) + self.rest

    @classmethod
    def mean(cls, several: Sequence[Costs], units: Sequence[float]) -> Costs:
        """Of costs in units of their own."""
        weighed = [(costs, 1 / (len(several) * unit)) for costs, unit in zip(several, units, strict=True)]
        names = several[0].by_layer
        by_layer = {name: sum(weight * costs.by_layer[name] for costs, weight in weighed) for name in names}
        return cls(by_layer, sum(weight * costs.rest for costs, weight in weighed))


def check_search(search: Search, cache: NetworkCache) -> None:
    """Raises, before anything is trained or written, where a search does not go with its network or its data."""
    cache.check(search.dense)
    cell, data = search.dense, cache.data(search.dense)
    network = cache.untrained(cell).eval()
    outputs = output_layers(network, data.example(), cell.include)
    layers = prunable_layers(network, cell.exclude, outputs, include=cell.include)
    quantised = any(precision != "none" for precision in search.precisions)
    if search.template.repair != "none" or find_method(cell.method).needs_calibration or quantised:
        check_calibration(cell, data)
    if quantised and cache.graph(network, cell) is None:
        raise SearchError(f"{cell.model!r} runs in PyTorch only: expected --quantize none")
    if {"latency", "bytes"} & set(search.targets):
        _graph(network, cell, search, cache)
    if any(is_of_channels(pattern) for pattern in search.each_pattern):
        channel_families(network, data.example(), {name: weight_of(each) for name, each in layers.items()}, outputs)


def _graph(network: nn.Module, cell: Cell, search: Search, cache: NetworkCache, simplified: bool = False) -> Graph:
    """Layer by layer as it is, without what simplification would remove because of other layers, unless that is asked
    for; in eight bits what costs as much."""
    graph = cache.graph(network, cell.in_float32, simplified=simplified, compared=False)
    if graph is None:
        raise SearchError(
            f"{cell.model!r} runs in PyTorch only, so its {search.minimize} cannot be minimized: "
            "expected --minimize macs or weights"
        )
    return graph if cell.quantize == "none" else sketch(graph, cell.keep_float)


class Laboratory:
    """Measures cells of a search and keeps what it finds in the store; what is there is not measured again.

    repair: what follows pruning in trials. sizes: weights of each layer that may be pruned, in the order of execution.
    """

    def __init__(self, search: Search, cache: NetworkCache, store: Store) -> None:
        self._search, self._cache, self._store = search, cache, store
        dense, self.trained = cache.trained(search.dense)
        example = cache.data(search.dense).example()
        exclude, include = search.template.exclude, search.template.include
        layers = prunable_layers(dense, exclude, output_layers(dense, example, include), include=include)
        self._table = {each.name: each for each in layer_table(dense, example, include=include)}
        self._weights = {name: weight_of(layers[name]) for name in self._table if name in layers}
        self.sizes = {name: weight.numel() for name, weight in self._weights.items()}
        normed = any(isinstance(module, _BatchNorm) and module.track_running_stats for module in dense.modules())
        self.repair = search.trial_repair
        self._quick = _quick(self.repair, normed)
        self._apart = not normed and bool(_REFITTING & set(self.repair.split("+")))

    def check_same_network(self) -> None:
        """Raises SearchError where what the store holds was measured on another trained network."""
        before = self._find(self._search.dense, NETWORK, lambda: self.trained.key)
        if before != self.trained.key:
            raise SearchError(
                f"{self._store.path}: was measured on network {before}, but this one is {self.trained.key}: the data, "
                "the device, the model's source or PyTorch changed; name another --out"
            )

    def _find(self, cell: Cell, what: str, measure: Callable[[], Any]) -> Any:
        found = self._store.finding(cell, what)
        if found is None:
            found = measure()
            self._store.keep_finding(cell, what, found)
        return found

    @functools.cached_property
    def groups(self) -> dict[str, int]:
        """The groups of channels that exist together and can go: how many, by the first layer that makes them."""
        found: dict[str, int] = {}
        for family in self._cache.families(self._search.dense):
            name = self._first_maker(family)
            found[name] = min(len(family.classes[0]), found.get(name, sys.maxsize))
        return dict(sorted(found.items(), key=lambda each: self._order[each[0]]))

    def gone_with(self, ratios: Mapping[str, float]) -> float:
        """The share of the weights that may be pruned that goes with shares of groups of channels."""
        gone = dict.fromkeys(itertools.product(self.sizes, (0, 1)), 0.0)
        for family in self._cache.families(self._search.dense):
            for slot in family.slots:
                axis = 1 if slot.side == "in" else 0
                if (slot.name, axis) in gone and slot.side != "bare":
                    count = sum(map(len, slot.places.values())) / self._weights[slot.name].shape[axis]
                    gone[slot.name, axis] += ratios.get(self._first_maker(family), 0.0) * count
        left = sum(size * (1 - gone[name, 0]) * (1 - gone[name, 1]) for name, size in self.sizes.items())
        return round(1 - left / sum(self.sizes.values()), 6)

    @functools.cached_property
    def _order(self) -> dict[str, int]:
        """Of layers, as they are run."""
        return {name: place for place, name in enumerate(self.sizes)}

    def _first_maker(self, family: Family) -> str:
        return min(makers(family), key=self._order.__getitem__)

    def levels(self, layer: str, pattern: str) -> tuple[float, ...]:
        """The ratios that leave the layer at least a weight, or a block."""
        count = _pieces(self._weights[layer], parse_pattern(pattern))
        return tuple(ratio for ratio in self._search.ratios if round(ratio * count) < count)

    @functools.cached_property
    def in_eight_bits(self) -> tuple[str, ...]:
        """The layers of the network that may compute in eight bits, those that are not pruned among them."""
        dense, _ = self._cache.trained(self._search.dense)
        graph = self._cache.graph(dense, self._search.dense, simplified=False)
        return layers_in_eight_bits(graph) if graph else ()

    def quickly_repaired(self, cell: Cell) -> Cell:
        """The cell as one of the many that only show harm: without the reconstruction of weights, of which BatchNorm's
        statistics, set right, do most in a fraction of the time, and those from fewer images; without BatchNorm each
        layer is refitted by itself (Refits). In float32, as what eight bits add is nearly the same for all networks of
        a front, and so decides nothing."""
        return self._quick_one(cell.in_float32)

    def _quick_one(self, cell: Cell) -> Cell:
        few = _QUICK_IMAGES if self._quick == "batchnorm" else sys.maxsize
        return dataclasses.replace(cell, repair=self._quick, calibration_images=min(few, cell.calibration_images))

    @property
    def harm_name(self) -> str:
        apart = ", layers refitted by themselves" if self._apart else ""
        return f"divergence, {self._search.images} images, seed {self._search.template.seed}{apart}"

    @functools.cached_property
    def _refits(self) -> Refits:
        cell, device = self._search.template, self._cache.device
        dense = copied(self._cache.trained(self._search.dense)[0]).to(device)
        return Refits(dense, self.sizes, Shown(dense, calibration_of(cell, self._cache.data(cell))), cell.include)

    def harm(self, cell: Cell) -> float:
        """How far the cell's outputs, quickly repaired, are from the dense ones: of logits the mean Kullback-Leibler
        divergence, in nats, else the share of their spread that differs.

        Over validation images drawn by seed, or a task's first examples. The dense network is repaired alike, so
        that what the repair alone changes does not count. Infinite where outputs are not numbers.
        """
        return self._found_harm(self.quickly_repaired(cell))

    def harm_of_eight_bits(self, layer: str) -> float:
        """Likewise of the whole network with one layer in eight bits and all others in float32."""
        others = tuple(sorted(name for name in self.in_eight_bits if name != layer))
        alone = dataclasses.replace(self._search.dense, quantize="int8", keep_float=others)
        return self._found_harm(self._quick_one(alone))

    def _found_harm(self, cell: Cell) -> float:
        found = self._find(cell, self.harm_name, lambda: self._divergence(cell))
        return math.inf if found == "infinite" else max(0.0, float(found))  # rounding makes it a little less

    def _divergence(self, cell: Cell) -> float | str:
        try:
            apart = divergence(self._told(cell), self._teacher)
        except QuantiseError:
            return "infinite"
        return apart if math.isfinite(apart) else "infinite"

    @functools.cached_property
    def _teacher(self) -> list[list[Tensor]]:
        """What the dense network tells."""
        return self._told(self.quickly_repaired(self._search.dense))

    def _told(self, cell: Cell) -> list[list[Tensor]]:
        """What the cell's network tells of the shown examples, in Secateur's runtime where that can run it."""
        network, *_ = make_network(cell, self._cache, weigh=False)
        if self._apart:
            self._refits.refit(network)
        graph = self._cache.graph(network, cell, compared=False)
        session = Session(graph, threads=torch.get_num_threads(), limits=NO_LIMITS) if graph else None
        runtime = in_runtime(session) if session else None
        metric, data = self.trained.validation.metric.name, self._cache.data(self._search.dense)
        with watched(network), drawing_from(0):
            return [
                told_by(self._outputs(network, runtime, inputs), target, metric)
                for inputs, target in data.shown(self._search.images, self._search.template.seed)
            ]

    def _outputs(self, network: nn.Module, runtime: Engine | None, inputs: Example) -> Any:
        if runtime is not None:
            with contextlib.suppress(RunError):  # of inputs of another length than the graph's
                return runtime(given_of(inputs, network))
        return run(network, as_inputs(inputs, network))

    def validation(self, cell: Cell) -> Score | None:
        """The cell's accuracy on the whole validation split, None where it cannot be made: a layer would go, say."""
        found = self._find(cell, "validation", lambda: self._validated(cell))
        return None if "impossible" in found else score_from(found)

    def reason(self, cell: Cell) -> str:
        """Why a cell that has no accuracy cannot be made."""
        return str(self._find(cell, "validation", lambda: self._validated(cell))["impossible"])

    def _validated(self, cell: Cell) -> dict[str, Any]:
        if cell == self._search.dense:
            return plain(self.trained.validation)
        try:
            network, *_ = make_network(cell, self._cache, keep=True)
            graph = self._cache.graph(network, cell)
            if not (graph and self._in_one_pass):
                return plain(self._cache.validation(network, cell, graph))
            parts = self._cache.validation_parts(network, cell, graph, self.parts)
            self._store.keep_finding(cell, self._parts_name, [(each.value, each.n) for each in parts])
            return plain(on_all(parts))
        except (PruneError, QuantiseError) as error:
            return {"impossible": str(error)}

    @functools.cached_property
    def parts(self) -> int:
        """Parts of the validation data, by which it is seen how much what is lost varies; fewer than LEAST_PARTS where
        a task has fewer batches."""
        return min(PARTS, self._cache.data(self._search.dense).pieces("validation"))

    def lost_at(self, cell: Cell, confidence: float) -> float | None:
        """Points that a cell with an accuracy loses at most, at a one-sided confidence; None where there are too few
        parts, or ones of which the metric can make nothing."""
        score, others = self.validation(cell), self._in_parts(self._search.dense)
        own = self._in_parts(cell) if score and others else None
        return score.lost_at(confidence, self.trained.validation, own, others) if score and own and others else None

    @property
    def tells_parts(self) -> bool:
        """Whether what is lost at most can be told."""
        return bool(self._in_parts(self._search.dense))

    def _in_parts(self, cell: Cell) -> list[Part]:
        if self.parts < LEAST_PARTS:
            return []
        found = self._find(cell, self._parts_name, lambda: self._measured_in_parts(cell))
        return [(value, size) for value, size in found]

    @property
    def _in_one_pass(self) -> bool:
        """Whether an accuracy is that of parts, which are asked for anyway where not too much is lost."""
        asked = self._search.confidence is not None and self.parts >= LEAST_PARTS
        return asked and self.trained.validation.metric == TOP1

    @property
    def _parts_name(self) -> str:
        return f"validation, {self.parts} parts"

    def _measured_in_parts(self, cell: Cell) -> list[Part]:
        network, *_ = make_network(cell, self._cache, keep=True)
        graph = self._cache.graph(network, cell)
        try:
            return [(each.value, each.n) for each in self._cache.validation_parts(network, cell, graph, self.parts)]
        except DataError:  # a metric that needs more examples than a part has
            return []

    def costs(self, cells: Sequence[Cell], reporter: Reporter) -> list[Costs]:
        """What the layers of each cell cost by the search's target, or by the mean of several, each in its unit. Times
        are taken in turns."""
        found = [self._costs_by(target, cells, reporter) for target in self._search.targets]
        return found[0] if len(found) == 1 else [Costs.mean(each, self._units) for each in zip(*found, strict=True)]

    @functools.cached_property
    def _units(self) -> list[float]:
        """Of several targets what counts as one of each: what it may cost at most, else what the dense network does."""
        if limits := self._search.limits:
            return list(limits)
        dense = [self._search.dense]
        return [self._costs_by(target, dense, SilentReporter())[0].total for target in self._search.targets]

    def _costs_by(self, target: str, cells: Sequence[Cell], reporter: Reporter) -> list[Costs]:
        if target in ("macs", "weights"):
            return [self._counted(cell, target) for cell in cells]
        turns = TURNS if target == "latency" else 1
        measured: list[list[Mapping[str, float]]] = [[] for _ in cells]
        held = HeldSessions(self._search.batch)
        with reporter.task(f"{target} of every layer", turns * len(cells)) as task:
            for turn in range(turns):
                for found, cell in zip(measured, cells, strict=True):
                    found.append(self._timed(cell, turn, held) if target == "latency" else self._sized(cell))
                    task.advance()
        fastest = ({name: min(each[name] for each in found) for name in found[0]} for found in measured)
        return [self._split(each, target) for each in fastest]

    def price(self, cell: Cell) -> float:
        """What a whole network costs, as `costs` has it."""
        found = self.prices(cell)
        return found[0] if len(found) == 1 else sum(map(operator.truediv, found, self._units)) / len(found)

    def prices(self, cell: Cell) -> list[float]:
        """What a whole network costs by each target."""
        if is_of_channels(cell.pattern):
            return [self._totals_by(target, [cell], SilentReporter())[0] for target in self._search.targets]
        return [self._costs_by(target, [cell], SilentReporter())[0].total for target in self._search.targets]

    def totals(self, cells: Sequence[Cell], reporter: Reporter) -> list[float]:
        """What whole networks cost without their dead channels, as `costs` has it. Times are taken in turns."""
        found = [self._totals_by(target, cells, reporter) for target in self._search.targets]
        if len(found) == 1:
            return found[0]
        return [sum(map(operator.truediv, each, self._units)) / len(found) for each in zip(*found, strict=True)]

    def _totals_by(self, target: str, cells: Sequence[Cell], reporter: Reporter) -> list[float]:
        turns = TURNS if target == "latency" else 1
        measured: list[list[float]] = [[] for _ in cells]
        held = HeldSessions(self._search.batch)
        with reporter.task(f"{target} of whole networks", turns * len(cells)) as task:
            for turn in range(turns):
                for found, cell in zip(measured, cells, strict=True):
                    found.append(self._total(target, cell, turn, held))
                    task.advance()
        return [min(found) for found in measured]

    def _total(self, target: str, cell: Cell, turn: int, held: HeldSessions) -> float:
        measures: Mapping[str, tuple[str, Callable[[], float]]] = {
            "latency": (f"{self.seconds_name}, whole, turn {turn}",
                        lambda: sum(self._seconds(held, cell, simplified=True).values())),
            "bytes": ("bytes, whole", lambda: self._file_bytes(cell)),
            "macs": ("macs", lambda: float(sum(layer.nonzero_macs for layer in self._layers(cell)))),
            "weights": ("weights", lambda: float(sum(layer.kept for layer in self._layers(cell)))),
        }  # fmt: skip
        return float(self._find(cell, *measures[target]))

    def _file_bytes(self, cell: Cell) -> float:
        metadata = metadata_of(self._cache.data(cell))
        return packed_size(self._graph(cell, simplified=True), meta=metadata)

    def _layers(self, cell: Cell) -> Sequence[Layer]:
        network, *_ = make_network(cell, self._cache, weigh=False)
        return layer_table(network, self._cache.data(cell).example(), include=cell.include)

    def _sized(self, cell: Cell) -> dict[str, float]:
        found: dict[str, float] = self._find(cell, "bytes", lambda: self._bytes(cell))
        return found

    def _timed(self, cell: Cell, turn: int, held: HeldSessions) -> dict[str, float]:
        found: dict[str, float] = self._find(
            cell, f"{self.seconds_name}, turn {turn}", lambda: self._seconds(held, cell)
        )
        return found

    @property
    def seconds_name(self) -> str:
        return f"seconds of a batch of {self._search.batch}"

    def _split(self, by_layer: Mapping[str, float], target: str) -> Costs:
        if missing := self.sizes.keys() - by_layer.keys():
            raise SearchError(f"layer {min(missing)!r} has no {target} of its own: leave it out (exclude)")
        own = {name: by_layer[name] for name in self.sizes}
        return Costs(own, sum(by_layer.values()) - sum(own.values()))

    def _counted(self, cell: Cell, target: str) -> Costs:
        kept = {name: layer.total - round(dict(cell.layer_ratios).get(name, 0) * layer.total)
                for name, layer in self._table.items()}  # fmt: skip
        if target == "weights":
            return self._split(kept, target)
        macs = {name: n * self._table[name].macs / max(1, self._table[name].total) for name, n in kept.items()}
        return self._split(macs, target)

    def _bytes(self, cell: Cell) -> dict[str, int]:
        """Bytes of each weight as the file's coder makes them, by layer; other weights under their own names."""
        found: dict[str, int] = {}
        for weight, size in packed_sizes(self._graph(cell)).items():
            found[_layer(weight)] = found.get(_layer(weight), 0) + size
        return found

    def _seconds(self, held: HeldSessions, cell: Cell, simplified: bool = False) -> dict[str, float]:
        """Seconds of each layer in the runtime, on one thread, by the whole network's plan: the fastest of many."""
        batch = self._search.batch
        with on_cores(1):
            run = held.of(cell, lambda: self._graph(cell, simplified))
            once = run.session.plan(batch, rounds=2).steps
            spent = sum(step.seconds or 0.0 for step in once) * max(1, batch // once[0].images)
            rounds = max(3, min(60, round(_SECONDS_A_TURN / max(spent, 1e-6))))
            steps = run.session.plan(batch, rounds=rounds).steps
        layers = {node.name: _layer(node.weights["weight"])
                  for node in run.graph.nodes if "weight" in node.weights}  # fmt: skip
        found: dict[str, float] = {}
        for step in steps:
            name = layers.get(step.name, f"({step.name})")
            found[name] = found.get(name, 0.0) + (step.seconds or 0.0) * batch / step.images
        return found

    def _graph(self, cell: Cell, simplified: bool = False) -> Graph:
        network: nn.Module = make_network(cell, self._cache, weigh=False)[0]
        return _graph(network, cell, self._search, self._cache, simplified)


def _quick(repair: str, normed: bool) -> str:
    """What takes a repair's place where only harm is to be seen: of one that refits weights statistics alone, if there
    are any to set right, else none, as each layer is refitted by itself then."""
    if not _REFITTING & set(repair.split("+")):
        return repair
    return "batchnorm" if normed else "none"


def _pieces(weight: Tensor, pattern: Pattern | None) -> int:
    """How many weights, or blocks, of a layer go or stay as one."""
    if not isinstance(pattern, Blocks) or weight.dim() < 2:
        return weight.numel()
    outputs, inputs, *taps = weight.shape
    return -(-outputs // pattern.outputs) * -(-inputs // pattern.inputs) * math.prod(taps)


def _layer(weight: str) -> str:
    """The layer whose weight has this name in a graph, or a weight that is computed from it."""
    return weight.removesuffix(DERIVED).removesuffix(".weight")
