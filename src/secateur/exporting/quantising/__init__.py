"""Float Graph and calibration data → the Graph in eight bits (docs/format.md), and what that costs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from secateur.errors import QuantiseError
from secateur.exporting.quantising.calibrating import (
    Batch,
    Calibration,
    calibrations_of,
    given_to,
    histograms_of,
    run_all,
    spread,
)
from secateur.exporting.quantising.moments import Floats, Given, Layer, Moments, gather_moments, layer_of
from secateur.exporting.quantising.planning import Kind, Plan, Unit, clamps_first, plan
from secateur.exporting.quantising.ranges import Scale, choose_scale, joined
from secateur.exporting.quantising.reporting import (
    LayerCost,
    Report,
    agreement_of,
    decibels,
    is_tolerable,
    output_error,
)
from secateur.exporting.quantising.rounding import round_layer
from secateur.exporting.quantising.writing import Numbers, whole_numbers, write
from secateur.network.graph import Graph, Node, Shape
from secateur.network.quantisation import LARGEST_SUM, output_multipliers
from secateur.network.simplification import Gain, order_channels, simplify
from secateur.network.sizes import BATCH
from secateur.support.progress import Reporter, SilentReporter

__all__ = ["Batch", "LayerCost", "Report", "quantise"]

COMPARED = 64
GIVEN_BYTES = 1 << 29
"""Of what layers read, at once in memory."""
ASKED = "as asked"


def quantise(
    graph: Graph,
    batches: Iterable[Batch],
    *,
    keep_float: Collection[str] = (),
    each_alone: bool = False,
    reporter: Reporter | None = None,
) -> tuple[Graph, Report]:
    """A float graph with its convolutions and fully connected layers, and what lies between them, in eight bits.

    batches: inputs to calibrate on, as `calibrating.Batch` says; they are held in memory. Of a graph with free lengths
    they may have several: weights are fitted to, and outputs compared at, all of them. keep_float: layers that stay in
    float32, by the names of their nodes or of the modules that they come from. each_alone: the report says too what
    the outputs lose by each layer alone.
    The graph is simplified and its channels are put in order first, scales are chosen by what least changes values
    (`ranges`), weights are rounded by the moments of what a layer is given (`rounding`). A layer stays in float32, and
    the report says why, where its numbers do not fit, or where the outputs' error is more than MOST_ERROR and that
    layer's share of it the largest.
    Raises QuantiseError for a name that is no layer, calibration data that does not fit or is not finite, a network
    that is in eight bits or has a value of all images, and where no layer is left to quantise.
    """
    if graph.quantisations:
        raise QuantiseError("the network is in eight bits already: expected one in float32")
    if BATCH in graph.lengths:
        raise QuantiseError(
            "a network with values of all images cannot be quantised with the number of images free: pack it for one"
        )
    calibrations = calibrations_of(graph, batches)
    source, gain = order_channels(clamps_first(simplify(graph, widen=True)))
    floats = dict.fromkeys(_named(source, keep_float), ASKED) | dict(_unfit(source))
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite then is looked for and said
        return _Quantising(source, calibrations, floats, gain, each_alone, reporter or SilentReporter()).result()


def _named(graph: Graph, wanted: Collection[str]) -> list[str]:
    """The names of the nodes that are meant."""
    if isinstance(wanted, str) or not isinstance(wanted, Collection):
        raise QuantiseError(f"keep_float={wanted!r}: expected a list of names")
    layers = plan(graph, {}).layers
    found = []
    for name in wanted:
        meant = [unit.node.name for unit in layers if name in (unit.node.name, unit.node.source)]
        if not meant:
            known = ", ".join(unit.node.name for unit in layers) or "none"
            raise QuantiseError(f"layer {name!r} to keep in float32: no such layer; there are {known}")
        found += meant
    return found


def _unfit(graph: Graph) -> Iterator[tuple[str, str]]:
    """Layers that no number of eight bits can stand for."""
    for unit in plan(graph, {}).layers:
        held = (graph.weights[name].values() for name in unit.node.weights.values())
        if not all(np.isfinite(each).all() for each in held):
            yield unit.node.name, "its weights are not finite"


@dataclass(slots=True)
class _Quantising:
    """One graph on its way.

    calibrations: of each lengths, that of most images first; shapes: of all values at these. floats: layers that stay
    in float32, and why.
    """

    source: Graph
    calibrations: Sequence[Calibration]
    floats: dict[str, str]
    gain: Gain
    each_alone: bool
    reporter: Reporter
    shapes: Sequence[Mapping[str, Shape]] = field(init=False)
    scales: dict[str, Scale] = field(default_factory=dict)
    rounded: dict[str, tuple[Numbers, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        graphs = (self.source.bind(each.lengths) for each in self.calibrations)
        self.shapes = [{**each.inputs, **{node.name: node.shape for node in each.nodes}} for each in graphs]

    def result(self) -> tuple[Graph, Report]:
        self._round()
        compared = spread(self.calibrations, COMPARED)
        expected = run_all(self.source, compared)
        harms = self._harms(compared, expected) if self.each_alone else {}
        while True:
            planned = self._planned()
            self._choose_scales(planned)
            graph = write(planned, self.scales, self._numbers())
            found = run_all(graph, compared)
            error = output_error(found, expected)
            if is_tolerable(found, expected) or len(self._whole(planned)) == 1:
                break
            harms = harms or self._harms(compared, expected)
            worst = max(self._whole(planned), key=lambda unit: harms[unit.node.name])
            self.floats[worst.node.name] = (
                f"in eight bits it alone lets the outputs' error rise to {harms[worst.node.name]:.2%} of their variance"
            )
        costs = tuple(self._cost(unit, harms) for unit in planned.layers)
        words = self.gain.before, self.gain.after
        images, some = (sum(map(len, each)) for each in (self.calibrations, compared))
        return graph, Report(costs, images, some, error, agreement_of(found, expected), *words)

    def _planned(self, floats: Mapping[str, str] | None = None) -> Plan:
        return plan(self.source, self.floats if floats is None else floats)

    @staticmethod
    def _whole(planned: Plan) -> list[Unit]:
        return [unit for unit in planned.layers if unit.kind is Kind.LAYER]

    def _numbers(self) -> dict[str, Numbers]:
        return {name: numbers for name, (numbers, _) in self.rounded.items()}

    def _round(self) -> None:
        """Scales of all values in eight bits, then the weights of all layers."""
        planned = self._planned()
        if not self._whole(planned):
            raise QuantiseError(_nothing_left(planned))
        self._choose_scales(planned)
        uses: dict[tuple[str, int], list[Unit]] = {}
        for unit in self._whole(planned):
            groups = unit.node.whole("groups") if unit.node.op == "conv2d" else 1
            uses.setdefault((unit.node.weights["weight"], groups), []).append(unit)
        with self.reporter.task("quantising layers", len(uses), brief=True) as task:
            for some in self._fitting(list(uses.values())):
                given = self._given(self._counts(some))
                for units in some:
                    self._round_weight(units, given)
                    task.advance(1, lambda name=units[0].node.name: name)  # type: ignore[misc]
        if not self._whole(self._planned()):
            raise QuantiseError(_nothing_left(self._planned()))

    def _choose_scales(self, planned: Plan) -> None:
        """Of all values in eight bits that have none yet; those tied to one that has one get the same."""
        groups = [group for group in planned.groups() if not all(name in self.scales for name in group)]
        ends = [[] if self._known(group) else planned.ends(group) for group in groups]
        histograms = histograms_of(self.source, list(dict.fromkeys(itertools.chain(*ends))), self.calibrations)
        for group, own in zip(groups, ends, strict=True):
            chosen = self._known(group) or choose_scale(joined(histograms[name] for name in own))
            self.scales.update(dict.fromkeys(group, chosen))

    def _known(self, group: Iterable[str]) -> Scale | None:
        return next((self.scales[name] for name in group if name in self.scales), None)

    def _fitting(self, uses: Sequence[list[Unit]]) -> Iterator[list[list[Unit]]]:
        """Those whose inputs are held in memory together."""
        some: list[list[Unit]] = []
        for units in uses:
            if some and self._bytes([*some, units]) > GIVEN_BYTES:
                yield some
                some = []
            some = [*some, units]
        yield some

    def _bytes(self, uses: Sequence[Sequence[Unit]]) -> int:
        return sum(
            4 * images * math.prod(self.shapes[place][value])
            for value, count in self._counts(uses).items()
            for place, images in self._taken(count)
        )

    def _taken(self, count: int) -> Iterator[tuple[int, int]]:
        """(place, images): how many of each calibration are so many images, or all that there are."""
        for place, each in enumerate(self.calibrations):
            if count > 0:
                yield place, min(count, len(each))
            count -= len(each)

    def _given(self, counts: Mapping[str, int]) -> dict[str, list[Floats]]:
        """Values for as many images as are asked for, or all that there are, of each calibration."""
        found: dict[str, list[Floats]] = {name: [] for name in counts}
        taken = {name: dict(self._taken(count)) for name, count in counts.items()}
        for place, calibration in enumerate(self.calibrations):
            some = {name: each[place] for name, each in taken.items() if place in each}
            for name, values in given_to(self.source, some, calibration).items():
                found[name].append(values)
        return found

    def _counts(self, uses: Iterable[Iterable[Unit]]) -> dict[str, int]:
        """Of how many images each of the values that layers read is needed."""
        counts: dict[str, int] = {}
        for unit in itertools.chain.from_iterable(uses):
            (value,) = unit.node.inputs
            counts[value] = max(counts.get(value, 0), self._layer(unit.node).images)
        return counts

    def _round_weight(self, units: Sequence[Unit], given: Mapping[str, Sequence[Floats]]) -> None:
        layers = [self._layer(unit.node) for unit in units]
        moments = [self._moments(unit.node, layer, given) for unit, layer in zip(units, layers, strict=True)]
        rounded = round_layer(layers, moments)
        noise = decibels(rounded.signal, rounded.error)
        shape = self.source.weights[units[0].node.weights["weight"]].shape
        shared, factors = rounded.numbers.reshape(shape), rounded.scale.reshape(-1)
        for unit, bias in zip(units, rounded.biases, strict=True):
            scale = self.scales[unit.node.inputs[0]].scale
            numbers = whole_numbers(shared, factors, bias.reshape(-1), scale)
            if unfit := self._unfit(unit, numbers, rounded.error):
                self.floats[unit.node.name] = unfit
            self.rounded[unit.node.name] = numbers, noise

    def _unfit(self, unit: Unit, numbers: Numbers, error: float) -> str:
        """Why a layer's whole numbers cannot be computed with."""
        if not math.isfinite(error):
            return "squares of what it makes are not numbers of float32"
        if numbers.largest_sum > LARGEST_SUM:
            return "its sums may not fit into 32 bits"
        made = self.scales.get(unit.value)
        factors = output_multipliers(self.scales[unit.node.inputs[0]].scale, numbers.scale, made.scale if made else 1.0)
        return "" if np.isfinite(factors).all() else "its scales are not numbers of float32"

    def _layer(self, node: Node, place: int = 0) -> Layer:
        """As it is at the lengths of a calibration."""
        held = {role: self.source.weights[name].values() for role, name in node.weights.items()}
        return layer_of(replace(node, shape=self.shapes[place][node.name]), held["weight"], held.get("bias"))

    def _moments(self, node: Node, layer: Layer, given: Mapping[str, Sequence[Floats]]) -> Moments:
        (value,) = node.inputs
        scale = self.scales[value]
        arrays = [each[:count] for each, (_, count) in zip(given[value], self._taken(layer.images), strict=False)]
        return gather_moments([
            Given(self._layer(node, place), x, scale.quantised(x) * np.float32(scale.scale))
            for place, x in enumerate(arrays)
        ])  # fmt: skip

    def _harms(self, compared: Sequence[Calibration], expected: Sequence[Floats]) -> dict[str, float]:
        """By how much the outputs change where one layer alone is in eight bits."""
        names, found = [unit.node.name for unit in self._planned().layers], {}
        for unit in self._whole(self._planned()):
            others = {name: "another is looked at" for name in names if name != unit.node.name}
            alone = write(self._planned(others), self.scales, self._numbers())
            found[unit.node.name] = output_error(run_all(alone, compared), expected)
        return found

    def _cost(self, unit: Unit, harms: Mapping[str, float]) -> LayerCost:
        name = unit.node.name
        if unit.kind is not Kind.LAYER:
            return LayerCost(name, unit.operations, "float32", unit.reason)
        scale, (_, noise) = self.scales[unit.node.inputs[0]], self.rounded[name]
        return LayerCost(
            name, unit.operations, "int8", "", scale.way, scale.scale, scale.zero_point, noise, harms.get(name)
        )


def _nothing_left(planned: Plan) -> str:
    kept = "; ".join(f"{unit.node.name}: {unit.reason}" for unit in planned.layers)
    return f"no layer to quantise: expected a convolution or a fully connected layer, got {kept or 'none'}"
