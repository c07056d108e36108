"""What the values of a float graph are on calibration data, piece by piece, so that memory stays bounded."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.errors import GraphError, QuantiseError
from secateur.exporting.quantising.moments import Floats
from secateur.exporting.quantising.ranges import Histogram
from secateur.network.building import without_dead_nodes
from secateur.network.graph import Graph
from secateur.network.limits import NO_LIMITS
from secateur.network.sizes import Size
from secateur.runtime import Session, reference
from secateur.runtime.elements import HELD

Batch = Any
"""An array for a graph with one input, a sequence in the order of the inputs, or a mapping by name."""
_PIECE_BYTES = 1 << 27


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Arrays (N, …) by input, and the graph's free lengths, which all of them have."""

    inputs: Mapping[str, NDArray[Any]]
    lengths: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def part(self, start: int, stop: int) -> Calibration:
        """Some of them; the order is that of no batch, so that the first are as good as any."""
        return replace(self, inputs={name: each[start:stop] for name, each in self.inputs.items()})

    def pieces(self, bytes_each: int) -> Iterator[Calibration]:
        """bytes_each: that an image takes."""
        some = max(1, _PIECE_BYTES // max(1, bytes_each))
        for start in range(0, len(self), some):
            yield self.part(start, start + some)


def calibrations_of(graph: Graph, batches: Iterable[Batch]) -> list[Calibration]:
    """One for all lengths that there are, that of most images first.

    Raises QuantiseError for no images, other shapes than the graph's, and numbers that are not finite.
    """
    read: dict[tuple[tuple[str, int], ...], list[dict[str, NDArray[Any]]]] = {}
    for place, batch in enumerate(batches):
        arrays, lengths = _by_name(graph, batch, place, read)
        read.setdefault(tuple(lengths.items()), []).append(arrays)
    found = [_joined(some, dict(lengths)) for lengths, some in read.items()]
    if not sum(map(len, found)):
        raise QuantiseError("calibration data: expected at least one batch of inputs, got none")
    return sorted(filter(len, found), key=len, reverse=True)


def _joined(batches: Sequence[Mapping[str, NDArray[Any]]], lengths: Mapping[str, int]) -> Calibration:
    whole = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    order = np.random.default_rng(0).permutation(len(next(iter(whole.values()))))
    return Calibration({name: each[order] for name, each in whole.items()}, lengths)


def _by_name(
    graph: Graph, batch: Batch, place: int, known: Container[object]
) -> tuple[dict[str, NDArray[Any]], dict[str, int]]:
    """Arrays by input, and the lengths that they have. known: at which the network has a result."""
    names = list(graph.inputs)
    if not isinstance(batch, Mapping):
        parts = list(batch) if isinstance(batch, (tuple, list)) else [batch]
        if len(parts) != len(names):
            raise QuantiseError(
                f"calibration batch {place}: expected inputs {names}, got {len(parts)} arrays: give lists of batches, "
                "each with what the network is called with and no labels"
            )
        batch = dict(zip(names, parts, strict=True))
    if batch.keys() != set(names):
        raise QuantiseError(f"calibration batch {place}: expected inputs {names}, got {sorted(map(str, batch))}")
    arrays = {name: _checked(graph, name, batch[name], place) for name in names}
    counts = sorted({len(each) for each in arrays.values()})
    if len(counts) > 1:
        raise QuantiseError(f"calibration batch {place}: expected as many images in every input, got {counts}")
    try:
        lengths = graph.lengths_of({name: each.shape[1:] for name, each in arrays.items()}, counts[0])
        if tuple(lengths.items()) not in known:
            graph.bind(lengths)
    except GraphError as error:
        raise QuantiseError(f"calibration batch {place}: {error}") from error
    return arrays, lengths


def _checked(graph: Graph, name: str, given: object, place: int) -> NDArray[Any]:
    array, shape = np.asarray(given), graph.inputs[name]
    where = f"calibration batch {place}, input {name!r}"
    fits = array.ndim == 1 + len(shape) and all(
        isinstance(size, Size) or size == own for size, own in zip(shape, array.shape[1:], strict=True)
    )
    if not fits:
        raise QuantiseError(f"{where}: expected shape (N, {', '.join(map(str, shape))}), got {array.shape}")
    if array.dtype.kind not in "fiub":
        raise QuantiseError(f"{where}: expected numbers, got {array.dtype}")
    if name in graph.elements:
        return array
    array = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(array).all():
        raise QuantiseError(
            f"{where}: holds NaN or infinite numbers: expected what the network is used on; mend the data"
        )
    return array


def run(graph: Graph, calibration: Calibration) -> list[Floats]:
    """The outputs of a graph, in the runtime."""
    if not set(graph.elements.values()) <= {*HELD}:
        return reference.run_all(graph, calibration.inputs)
    session = Session(graph, calibrate=False, limits=NO_LIMITS)
    return list(session.run_all(*(calibration.inputs[name] for name in graph.inputs)))


def spread(calibrations: Sequence[Calibration], count: int) -> list[Calibration]:
    """As many images of each lengths as come to `count`, rounded up; one each of the first where lengths are more."""
    each = -(-count // len(calibrations))
    return [calibration.part(0, each) for calibration in calibrations[:count]]


def run_all(graph: Graph, calibrations: Sequence[Calibration]) -> list[Floats]:
    """The outputs for images of all lengths: (N, …); of those whose sizes are free a row (1, …) for each place."""
    found = [run(graph, calibration) for calibration in calibrations]
    return [_pooled(parts) for parts in zip(*found, strict=True)]


def _pooled(parts: Sequence[Floats]) -> Floats:
    apart = [axis for axis in range(1, parts[0].ndim) if len({part.shape[axis] for part in parts}) > 1]
    if not apart:
        return np.concatenate(parts)
    behind = [axis for axis in range(1, parts[0].ndim) if axis not in apart]
    rows = (part.transpose(0, *apart, *behind).reshape(-1, 1, *(part.shape[axis] for axis in behind)) for part in parts)
    return np.concatenate(list(rows))


def values_of(graph: Graph, names: Sequence[str], calibration: Calibration) -> Iterator[dict[str, Floats]]:
    """Values of a float graph by name, for some images after others."""
    own = [name for name in names if name not in graph.inputs]
    nodes = without_dead_nodes(graph.nodes, own)
    used = {name for node in nodes for name in node.weights.values()}
    weights = {name: weight for name, weight in graph.weights.items() if name in used}
    part = replace(graph, outputs=tuple(own), nodes=tuple(nodes), weights=weights, signature=None) if own else None
    bound = graph.bind(calibration.lengths)
    shapes = [bound.shape_of(name) for name in (*names, *graph.inputs)]
    for piece in calibration.pieces(4 * sum(math.prod(shape) for shape in shapes)):
        made = dict(zip(own, run(part, piece), strict=True)) if part is not None else {}
        yield {name: made[name] if name in made else piece.inputs[name] for name in names}


def histograms_of(graph: Graph, names: Sequence[str], calibrations: Iterable[Calibration]) -> dict[str, Histogram]:
    """Raises QuantiseError where a value is not finite."""
    found = {name: Histogram() for name in names}
    for calibration in calibrations:
        for some in some_names(graph.bind(calibration.lengths), names):
            for values in values_of(graph, some, calibration):
                for name, value in values.items():
                    found[name].add(value)
    for name, histogram in found.items():
        if not histogram.is_finite:
            raise QuantiseError(f"value {name!r} is not finite on the calibration data: mend the network or the data")
    return found


def some_names(graph: Graph, names: Sequence[str]) -> Iterator[list[str]]:
    """Names of values which fit a piece together with a few images at least: one run for each list. graph: bound."""
    most, size = _PIECE_BYTES // (4 * 8), 0
    held: list[str] = []
    for name in names:
        count = math.prod(graph.shape_of(name))
        if held and size + count > most:
            yield held
            held, size = [], 0
        held = [*held, name]
        size += count
    if held:
        yield held


def given_to(graph: Graph, counts: Mapping[str, int], calibration: Calibration) -> dict[str, Floats]:
    """Values for the first images, for each of them as many as are asked for. counts: by name."""
    found: dict[str, list[Floats]] = {name: [] for name in counts}
    start = 0
    for stop in sorted({min(count, len(calibration)) for count in counts.values()}):
        names = [name for name, count in counts.items() if count > start]
        for values in values_of(graph, names, calibration.part(start, stop)) if names else ():
            for name, value in values.items():
                found[name].append(value)
        start = stop
    return {name: np.concatenate(parts) for name, parts in found.items()}
