"""The paper's study: what it printed, how its procedure can be read, and our rows beside it. Needs no PyTorch.

The printed numbers and their source are in paper.json, and nowhere else.
"""

from __future__ import annotations

import functools
import itertools
import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from secateur.errors import UsageError
from secateur.measure.intervals import Spread, spread
from secateur.records.recipes import Recipe
from secateur.records.results import Latency, Row
from secateur.records.spec import PAPER_RATIOS, Sweep

PRUNED_RATIOS = PAPER_RATIOS[1:]


@dataclass(frozen=True, slots=True)
class Published:
    """What the paper printed about one network. Accuracies are shares of the test images, ratios nominal.

    norms: the network has normalisations, so that a reading which prunes them differs.
    """

    table: int
    model: str
    data: str
    epochs: int
    norms: bool
    dense: float
    accuracy: Mapping[float, float]
    note: str


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read the paper's procedure.

    compounds: l1_unstructured is called again and again on one network, with 0.25, 0.5, 0.6, …, and each call
    takes its amount of what is left. norms: every module that has a weight is pruned, BatchNorm too.
    """

    key: str
    about: str
    compounds: bool
    norms: bool

    def ratios(self) -> dict[float, float]:
        """The paper's nominal ratios → the share of a layer's original weights that is zero in truth."""
        return dict(zip(PRUNED_RATIOS, compounded(PRUNED_RATIOS) if self.compounds else PRUNED_RATIOS, strict=True))


READINGS = {
    reading.key: reading
    for reading in (
        Reading("as-said", "each ratio cut from the dense network", False, False),
        Reading("compounded", "one call after the other, each taking its share of what is left", True, False),
        Reading("norms", "each ratio cut from the dense network, BatchNorm's scales cut as well", False, True),
        Reading("norms-compounded", "BatchNorm's scales cut as well, one call after the other", True, True),
    )
}


def compounded(amounts: Sequence[float]) -> tuple[float, ...]:
    """What share is zero after each of several calls of l1_unstructured on one weight: 1 - Π (1 - amount).

    25 % and then 50 % leave 0.75 × 0.5, so 62.5 % are zero. PyTorch rounds each call to whole weights, so the
    share may be off by half a weight per call.
    """
    left = itertools.accumulate(amounts, lambda product, amount: product * (1 - amount), initial=1.0)
    return tuple(round(1 - each, 15) for each in list(left)[1:])


@functools.cache
def published() -> tuple[Published, ...]:
    """Every network of the paper's tables, in the order in which they are printed."""
    networks = _content()["networks"]
    return tuple(
        Published(
            **{name: entry[name] for name in ("table", "model", "data", "epochs", "norms", "note")},
            dense=_share(entry["dense"]),
            accuracy={ratio: _share(value) for ratio, value in entry["accuracy"]},
        )
        for entry in networks
    )


def _share(percent: float) -> float:
    return round(percent / 100, 6)


def citation() -> str:
    source = _content()["source"]
    return f"{source['author']}, {source['title']}, {source['institution']}"


def _content() -> Any:
    return json.loads(resources.files("secateur.report").joinpath("paper.json").read_text(encoding="utf-8"))


def plan_study(
    tables: Sequence[int] = (1, 2),
    models: Sequence[str] = (),
    *,
    seeds: Sequence[int] = (0, 1, 2),
    epochs: int | Mapping[str, int] | None = None,
    readings: Sequence[str] = tuple(READINGS),
    weight_decays: Sequence[float] = (),
) -> tuple[Sweep, ...]:
    """The sweeps of the study: networks that share a training follow each other.

    models: only these of the tables' networks. epochs: for all, or by network; the paper's for those not named.
    weight_decays: train with each of these; none means the network's own recipe. Layers may be emptied, as
    PyTorch's call allows it. Raises UsageError for a table, network or reading that the paper lacks.
    """
    networks = _chosen(tables, models)
    _check_known("reading", readings, READINGS)
    named = epochs if isinstance(epochs, Mapping) else {}
    _check_known("epochs for", named, [each.model for each in networks])
    made = []
    for network, decay, norms in itertools.product(networks, weight_decays or (None,), (False, True)):
        ratios = _ratios(network, readings, norms)
        recipe = {
            "epochs": named.get(network.model) if isinstance(epochs, Mapping) else epochs,
            "weight_decay": decay,
        }
        if ratios:
            made.append(
                Sweep(
                    models=(network.model,),
                    data=(network.data,),
                    ratios=ratios,
                    seeds=tuple(seeds),
                    overrides=tuple((name, value) for name, value in recipe.items() if value is not None),
                    repairs=("none",),
                    allow_empty=True,
                    norms=norms,
                )
            )
    return tuple(made)


def _chosen(tables: Sequence[int], models: Sequence[str]) -> list[Published]:
    _check_known("table", tables, sorted({each.table for each in published()}))
    found = [each for each in published() if each.table in tables]
    _check_known("model", models, [each.model for each in found])
    return [each for each in found if not models or each.model in models]


def _check_known(what: str, named: Iterable[object], known: Iterable[object]) -> None:
    choices = list(known)
    for each in named:
        if each not in choices:
            raise UsageError(f"{what} {each!r}: expected one of {', '.join(map(str, choices))}")


def _ratios(network: Published, readings: Sequence[str], norms: bool) -> tuple[float, ...]:
    """Every ratio that the readings need, the dense network once; nothing for norms that the network lacks."""
    if norms and not network.norms:
        return ()
    wanted = {ratio for key in readings if READINGS[key].norms == norms for ratio in READINGS[key].ratios().values()}
    return tuple(sorted(wanted if norms else wanted | {0.0}))


@dataclass(frozen=True, slots=True)
class Line:
    """One ratio of the paper: what it printed and what we measured over seeds; shares."""

    nominal: float
    ratio: float
    published: float
    ours: Spread | None

    @property
    def difference(self) -> float | None:
        """Ours less the paper's, in points."""
        return None if self.ours is None else 100 * (self.ours.mean - self.published)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One network under one recipe and one reading, beside the paper. The first line is the dense network."""

    published: Published
    reading: Reading
    recipe: Recipe
    lines: tuple[Line, ...]
    sources: tuple[str, ...]

    @property
    def distance(self) -> float:
        """The mean absolute difference over the pruned networks, in points."""
        return statistics.fmean(abs(line.difference) for line in self.lines[1:] if line.difference is not None)

    @property
    def collapse(self) -> float | None:
        """The first nominal ratio at which less than half of our dense accuracy is left."""
        ours = [(line.nominal, line.ours.mean) for line in self.lines if line.ours]
        return _collapse(ours)

    @property
    def measured_to(self) -> float:
        """The last nominal ratio up to which every one was measured; 0.99 for a whole table."""
        return max((line.nominal for line in itertools.takewhile(lambda line: line.ours, self.lines)), default=0.0)

    @property
    def published_collapse(self) -> float | None:
        return _collapse([(line.nominal, line.published) for line in self.lines])

    @property
    def explains(self) -> bool:
        """Whether the network falls apart where the paper's did."""
        return self.collapse == self.published_collapse


def _collapse(accuracies: Sequence[tuple[float, float]]) -> float | None:
    _, dense = accuracies[0]
    return next((ratio for ratio, accuracy in accuracies if accuracy < dense / 2), None)


def compare(rows: Iterable[Row]) -> tuple[Comparison, ...]:
    """Rows beside the paper: one Comparison per network, recipe and reading that they allow; seeds are averaged.

    Any row counts that was trained here and pruned by magnitude per layer, whichever command measured it.
    """
    made = []
    by_network: dict[tuple[str, str, Recipe], list[Row]] = {}
    for row in rows:
        if _is_the_papers_way(row):
            by_network.setdefault((row.cell.model, row.cell.data, row.cell.recipe), []).append(row)
    for network in published():
        own = {recipe: rows for (model, data, recipe), rows in by_network.items() if _names(network, model, data)}
        for recipe in sorted(own, key=lambda recipe: (-recipe.weight_decay, recipe.epochs, str(recipe))):
            made += [
                _compare(network, reading, recipe, own[recipe])
                for reading in READINGS.values()
                if _was_measured(reading, own[recipe])
            ]
    return tuple(made)


def _names(network: Published, model: str, data: str) -> bool:
    return (network.model, network.data) == (model, data)


def _is_the_papers_way(row: Row) -> bool:
    cell = row.cell
    return (cell.method, cell.scope, cell.exclude, cell.weights) == ("magnitude", "layer", (), None)


def _was_measured(reading: Reading, rows: Sequence[Row]) -> bool:
    """Whether rows hold a ratio that is this reading's own: the first is shared with the one that compounds."""
    own = list(reading.ratios().values())[1:]
    return any(row.cell.norms == reading.norms and row.cell.ratio in own for row in rows)


def _compare(network: Published, reading: Reading, recipe: Recipe, rows: Sequence[Row]) -> Comparison:
    dense = {row.cell.seed: row.trained.test.value for row in rows}
    lines = [Line(0.0, 0.0, network.dense, spread(list(dense.values())))]
    for nominal, ratio in reading.ratios().items():
        found = {
            row.cell.seed: row.test.value for row in rows if (row.cell.norms, row.cell.ratio) == (reading.norms, ratio)
        }
        ours = spread(list(found.values())) if found else None
        lines.append(Line(nominal, ratio, network.accuracy[nominal], ours))
    return Comparison(network, reading, recipe, tuple(lines), tuple(sorted({row.trained.data_source for row in rows})))


@dataclass(frozen=True, slots=True)
class Factor:
    """How many times the dense network, over the pruned rows: the median and the quartiles about it."""

    low: float
    median: float
    high: float


@dataclass(frozen=True, slots=True)
class Claim:
    """The three claims of the paper's discussion on one network, as factors of the dense network's own.

    pytorch: the network as torch.nn.utils.prune leaves it; ours: the same zeros in a .secateur file and its runtime
    (in PyTorch where the network cannot be packed). None where the platform does not tell. rows: over how many pruned
    networks.
    """

    model: str
    data: str
    rows: int
    pytorch: Mapping[str, Factor | None]
    ours: Mapping[str, Factor | None]


def claims(rows: Iterable[Row]) -> tuple[Claim, ...]:
    """Saved size, memory and inference time of the paper's networks, where rows pruned them by magnitude."""
    pruned = [row for row in rows if _is_the_papers_way(row) and row.pytorch]
    made = []
    for network in published():
        own = [row for row in pruned if _names(network, row.cell.model, row.cell.data)]
        if own:
            sides = [
                {name: _factor([measure(row, side) for row in own]) for name, measure in MEASURES.items()}
                for side in ("pytorch", "ours")
            ]
            made.append(Claim(network.model, network.data, len(own), *sides))
    return tuple(made)


def _factor(values: Sequence[float | None]) -> Factor | None:
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return Factor(known[0], known[0], known[0]) if known else None
    return Factor(*statistics.quantiles(known, n=4, method="inclusive"))


def _saved_size(row: Row, side: str) -> float | None:
    size = row.bytes if side == "ours" else row.pytorch.file_bytes if row.pytorch else None
    return size / row.trained.file_bytes if size else None


def _memory(row: Row, side: str) -> float | None:
    """The weights and what pruning left beside them, over the weights."""
    footprint = row.pytorch if side == "pytorch" else row.ours
    weights = 4 * row.trained.parameters
    held = footprint.held_memory if footprint else None
    return None if held is None else (weights + held) / weights


def _time(batch: int) -> Callable[[Row, str], float | None]:
    def factor(row: Row, side: str) -> float | None:
        dense = row.latency("dense", batch)
        pruned: Latency | None = row.latency("masked", batch) if side == "pytorch" else row.our_latency(batch)
        return pruned.median_ms / dense.median_ms if dense and pruned else None

    return factor


MEASURES: dict[str, Callable[[Row, str], float | None]] = {
    "saved size": _saved_size,
    "memory": _memory,
    "time, 1 image": _time(1),
    "time, 64 images": _time(64),
}
