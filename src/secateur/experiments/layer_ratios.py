"""Ratios layer by layer that a sweep is given: from a JSON file, or copied from the rows of another run."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from secateur.errors import UsageError
from secateur.modules.candidates import prunable_layers
from secateur.modules.heads import output_layers
from secateur.modules.layers import weighted_layers
from secateur.records.results import Row
from secateur.records.spec import LayerRatios
from secateur.records.store import Store
from secateur.training.models import build_network, find_architecture

FILE, COPY = "file:", "copy:"


def split_scopes(
    scopes: Sequence[str],
    models: Sequence[str],
    data: Sequence[str],
    seeds: Sequence[int],
    ratios: Sequence[float],
    include: Sequence[str] = (),
) -> tuple[list[str], list[LayerRatios]]:
    """Scopes by name, and the layer ratios that the others stand for: file:PATH, copy:RUN or copy:RUN@METHOD/SCOPE.

    A file holds {"layer": ratio, …} and is a cell of its own; a run gives the layers' ratios of its rows for the
    same networks at the same ratios. include: as in pruning.prune. Raises UsageError where there are none.
    """
    named = [scope for scope in scopes if not scope.startswith((FILE, COPY))]
    given: list[LayerRatios] = []
    for scope in scopes:
        if scope.startswith(FILE):
            given += [read_ratios(Path(scope.removeprefix(FILE)), model, include) for model in models]
        elif scope.startswith(COPY):
            given += copy_ratios(scope.removeprefix(COPY), models, data, seeds, ratios)
    return named, given


def read_ratios(path: Path, model: str, include: Sequence[str] = ()) -> LayerRatios:
    """The ratios of a JSON file for a network. Raises UsageError for a file or a layer that does not fit."""
    try:
        content = json.loads(path.read_text(), object_pairs_hook=functools.partial(_each_once, path))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: cannot be read as JSON: {error}; expected an object of layers and ratios") from error
    if not isinstance(content, dict) or not content:
        raise UsageError(f'{path}: expected an object of layers and ratios, as in {{"conv1": 0.5, "fc1": 0.95}}')
    sizes = _prunable_sizes(model, include=include)
    for layer, ratio in content.items():
        if layer not in sizes:
            raise UsageError(f"{path}: {model!r} has no layer {layer!r} to prune; expected one of {', '.join(sizes)}")
        if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 <= ratio < 1:
            raise UsageError(f"{path}: layer {layer!r}: expected a ratio in [0, 1), got {ratio!r}")
    overall = sum(content.get(layer, 0) * size for layer, size in sizes.items()) / sum(sizes.values())
    ratios = tuple((layer, float(ratio)) for layer, ratio in sorted(content.items()))
    return LayerRatios(f"{FILE}{path.name}", round(overall, 6), ratios, model=model)


def _each_once(path: Path, pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, of which a repeated name would be read as its last value."""
    repeated = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if repeated:
        raise UsageError(f"{path}: layer {repeated[0]!r} has several ratios; name each layer once")
    return dict(pairs)


def _prunable_sizes(model: str, norms: bool = False, include: Sequence[str] = ()) -> dict[str, int]:
    """The weights of each layer that may be pruned."""
    architecture = find_architecture(model)
    network = build_network(architecture, 10, architecture.channels or 3, 0)
    layers = prunable_layers(network, (), _outputs(network, include), norms, include)
    return {name: layer.weight.numel() for name, layer in layers.items()}


def _outputs(network: nn.Module, include: Sequence[str]) -> tuple[str, ...]:
    """The layers that give the outputs, the one registered last where tracing leaves that open."""
    try:
        return output_layers(network, include=include)
    except UsageError:
        return tuple(weighted_layers(network))[-1:]


def copy_ratios(
    source: str, models: Sequence[str], data: Sequence[str], seeds: Sequence[int], ratios: Sequence[float]
) -> list[LayerRatios]:
    """The layers' ratios in another run's rows, 1 where a layer lost every weight. Raises UsageError where none fit or
    several do."""
    run, _, way = source.partition("@")
    with Store.open(run) as store:
        rows = [
            row for row in store.rows() if row.cell.ratio > 0 and way in ("", f"{row.cell.method}/{row.cell.scope}")
        ]
    rows = [row for row in rows if row.cell.model in models and row.cell.data in data and row.cell.seed in seeds]
    rows = [row for row in rows if row.cell.ratio in ratios]
    if not rows:
        raise UsageError(
            f"scope {COPY}{source}: the run has no row for these networks, seeds and ratios{_choices(run)}"
        )
    found: dict[tuple[str, str, int, float], Row] = {}
    for row in rows:
        key = (row.cell.model, row.cell.data, row.cell.seed, row.cell.ratio)
        if key in found:
            raise UsageError(
                f"scope {COPY}{source}: {row.cell.describe()} is there as {found[key].cell.way} and as {row.cell.way}; "
                f"name one as {COPY}{run}@METHOD/SCOPE"
            )
        found[key] = row
    return list(_copied(list(found.values())))


def _copied(rows: Sequence[Row]) -> Iterator[LayerRatios]:
    """Of the layers that may be pruned: the output layer has zeros too where whole channels went."""
    keys = {(row.cell.model, row.cell.norms, row.cell.include) for row in rows}
    prunable = {key: _prunable_sizes(*key) for key in keys}
    for row in rows:
        cell = row.cell
        layers = [layer for layer in row.layers if layer.name in prunable[cell.model, cell.norms, cell.include]]
        ratios = tuple((layer.name, layer.sparsity) for layer in layers if layer.sparsity > 0)
        yield LayerRatios(f"{COPY}{cell.method}/{cell.scope}", cell.ratio, ratios, cell.model, cell.data, cell.seed)


def _choices(run: str) -> str:
    with Store.open(run) as store:
        ways = sorted({f"{row.cell.model} {row.cell.method}/{row.cell.scope}" for row in store.rows()})
    return f"; it has {', '.join(ways)}" if ways else ""
