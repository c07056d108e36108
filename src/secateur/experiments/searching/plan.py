"""What a search is asked, and the cells that it makes of ratios."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from secateur.errors import UsageError
from secateur.importing.checkpoints import read_weights_file
from secateur.pruning.score import find_method
from secateur.records.options import LATER, asked_for, check_value
from secateur.records.patterns import UNSTRUCTURED, Blocks, is_of_channels, parse_pattern
from secateur.records.recipes import Retraining, check_recipe, recipe_for, retraining_for
from secateur.records.selection import Budget, limits_of, targets_of
from secateur.records.spec import CONFIDENCE, ELEMENTS, SEARCH_OPTIONS, SHOWN_IMAGES, TARGETS, USUAL_REPAIR, Cell
from secateur.support.quantities import as_floats, as_number, is_share
from secateur.support.references import planned_source
from secateur.training.catalogue import Numbers, check_data_name, normalised_name
from secateur.training.models import find_architecture

SCOPE = "search"
SLOWEST = "distill"
"""The step of a repair that only the last networks of a search get."""
RATIOS = (0.0, *(round(1 - 2 ** (-step / 2), 6) for step in range(1, 21)))
"""Densities of 1, 0.71, 0.5, …, 0.001: two steps halve what is left."""


@dataclass(frozen=True, slots=True)
class Way:
    """What a layer may be made: in which pattern its zeros lie, and what it computes in, as Cell has them."""

    pattern: str
    precision: str


@dataclass(frozen=True, slots=True)
class Option:
    """A way for a layer and what it loses in it: the ratio, and which of the layer's ratios that is."""

    way: Way
    level: int
    ratio: float


@dataclass(frozen=True, slots=True)
class Search:
    """How a network is cut, and what is asked of it.

    template: the cell of everything that all networks of the search share; its ratio is 0. ratios: what each layer may
    lose. images: of the validation split, drawn by seed, on which harm is measured. max_drop: points of validation
    accuracy. minimize: one of spec.TARGETS, or several with commas between, of which the mean of what is left of each
    counts; latency is for batches of `batch`, on one thread. rounds: how often harms are measured again around the
    best. retraining: None, or how networks learn again; `trials` of each kind are retrained at most. precisions: what
    networks may compute in, as Cell.quantize has it. max_cost: bytes, or milliseconds of a batch, that the network may
    take at most, or each of several targets; then the best such is asked for, whatever it loses.
    patterns: what zeros may lie in, of each network that is searched one, the template's first; none: that alone.
    confidence: one-sided, at which no more than max_drop is lost on other data of the kind; None where it is the mean
    over the validation data that may lose no more.
    """

    template: Cell
    max_drop: float = 1.0
    minimize: str = "latency"
    batch: int = 1
    ratios: tuple[float, ...] = RATIOS
    images: int = SHOWN_IMAGES
    rounds: int = 2
    retraining: Retraining | None = None
    trials: int = 4
    precisions: tuple[str, ...] = field(default=("none",), metadata=LATER)
    max_cost: float | tuple[float, ...] | None = field(default=None, metadata=LATER)
    confidence: float | None = field(default=None, metadata=LATER)
    patterns: tuple[str, ...] = field(default=(), metadata=LATER)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ratios", as_floats(self.ratios))
        object.__setattr__(self, "max_drop", as_number(self.max_drop))
        check_value("max drop", self.max_drop, 0 <= self.max_drop < 100, "0 to 100 points of accuracy, as in 1.0")
        limits = tuple(map(as_number, limits_of(self.max_cost)))
        for target, limit in zip(self.targets, limits, strict=bool(limits)):
            number = isinstance(limit, int | float) and 0 < limit < math.inf
            check_value(f"max {target}", limit, number, "a number above 0")
        object.__setattr__(self, "max_cost", (limits if len(limits) > 1 else limits[0]) if limits else None)
        if self.confidence is not None:
            object.__setattr__(self, "confidence", as_number(self.confidence))
            check_value("confidence", self.confidence, 0.5 < self.confidence < 1, "above 0.5 and below 1, or 0")
        for target in self.targets:
            check_value("minimize", target, target in TARGETS, f"one of {', '.join(TARGETS)}")
        different = len(set(self.targets)) == len(self.targets)
        check_value("minimize", self.minimize, different, "several, each once")
        check_value("batch", self.batch, self.batch >= 1, "1 image or more")
        check_value("images", self.images, self.images >= 1, "1 or more of the validation split")
        check_value("rounds", self.rounds, self.rounds >= 0, "0 or more")
        check_value("retrain trials", self.trials, self.trials >= 1, "1 or more")
        check_value("ratios", self.ratios, len(self.ratios) > 1 and self.ratios[0] == 0, "0 and more")
        for ratio in self.ratios:
            check_value("ratio", ratio, is_share(ratio), "in [0, 1)")
        repair = self.template.repair
        for pattern in self.each_pattern:
            any_ratio = isinstance(parse_pattern(pattern), Blocks | None) or is_of_channels(pattern)
            check_value(
                "pattern", pattern, any_ratio,
                "unstructured, or blocks as in 1x4, where each layer has a ratio; or channel-l1, channel-l2",
            )  # fmt: skip
            single = pattern == UNSTRUCTURED or "joint" not in repair.split("+")
            check_value(
                "repair", repair, single, f"reconstruct, say: pattern {pattern} has no single weights to choose"
            )
        once = len(set(self.patterns)) == len(self.patterns)
        check_value("pattern", ",".join(self.patterns), once, "several, each once")
        check_value("ratios", self.ratios, list(self.ratios) == sorted(set(self.ratios)), "rising ones, each once")
        known = set(self.precisions) <= set(ELEMENTS) and len(set(self.precisions)) == len(self.precisions) > 0
        check_value(
            "quantize", ",".join(self.precisions), known, f"one of {', '.join(ELEMENTS)}, or several, each once"
        )

    @property
    def targets(self) -> tuple[str, ...]:
        """What is minimized."""
        return targets_of(self.minimize)

    @property
    def limits(self) -> tuple[float, ...]:
        """What each target may cost at most, a latency in seconds; none where there is no max_cost."""
        limits = zip(self.targets, limits_of(self.max_cost), strict=False)
        return tuple(limit / 1000 if target == "latency" else limit for target, limit in limits)

    @property
    def each_pattern(self) -> tuple[str, ...]:
        return self.patterns or (self.template.pattern,)

    @property
    def ways(self) -> tuple[Way, ...]:
        """Every pattern in every precision."""
        return tuple(Way(pattern, precision) for pattern, precision in product(self.each_pattern, self.precisions))

    @property
    def ways_of_layers(self) -> tuple[Way, ...]:
        """Those that a layer may have whatever the others have, in float32 first."""
        single = (way for way in self.ways if not is_of_channels(way.pattern))
        return tuple(sorted(single, key=lambda way: way.precision != "none"))

    @property
    def trial_repair(self) -> str:
        """What follows pruning while networks are looked for: the repair without its slowest step, if there are others
        and many networks are tried."""
        steps = [step for step in self.template.repair.split("+") if step != SLOWEST]
        return self.template.repair if self.max_cost is not None else "+".join(steps) or self.template.repair

    def finished(self, cell: Cell) -> Cell:
        """The cell with all of the repair."""
        return cell if cell.is_dense else dataclasses.replace(cell, repair=self.template.repair)

    @property
    def budget(self) -> Budget:
        return Budget(self.minimize, self.max_drop, self.max_cost, self.confidence)

    def cell(
        self,
        ratios: Mapping[str, float],
        sizes: Mapping[str, int],
        repair: str,
        patterns: Mapping[str, str] | None = None,
        keep_float: Collection[str] = (),
    ) -> Cell:
        """The cell in which each layer loses its ratio; sizes: weights, or channels, of every layer that may be pruned.
        patterns: of layers, if not the template's. keep_float: layers that stay in float32.

        The whole network, unrepaired, where none loses any.
        """
        given = tuple(sorted((layer, ratio) for layer, ratio in ratios.items() if ratio > 0))
        floats = tuple(sorted(keep_float))
        if not given:
            return dataclasses.replace(self.whole, keep_float=floats)
        lost = sum(ratio * sizes[layer] for layer, ratio in given)
        overall = round(lost / sum(sizes.values()), 6)
        own = {layer: (patterns or {}).get(layer, self.template.pattern) for layer, _ in given}
        common = self.template.pattern if len({*own.values()}) > 1 else own[given[0][0]]
        return dataclasses.replace(
            self.template,
            ratio=overall,
            layer_ratios=given,
            repair=repair,
            pattern=common,
            layer_patterns=tuple((layer, pattern) for layer, pattern in own.items() if pattern != common),
            keep_float=floats,
        )

    @property
    def dense(self) -> Cell:
        """The network as it was trained, in float32: what may be lost is counted from it."""
        return dataclasses.replace(self.whole, quantize="none")

    @property
    def whole(self) -> Cell:
        """The network with all its weights, in what the search's others compute in; of the first pattern."""
        return dataclasses.replace(self.template, scope="layer", repair="none", pattern=self.each_pattern[0])

    def among(self, way: Way) -> Search:
        """The search among networks of one of its patterns and one of its precisions."""
        template = dataclasses.replace(self.template, pattern=way.pattern, quantize=way.precision)
        return dataclasses.replace(self, template=template)

    def even(self, scope: str, ratio: float, repair: str) -> Cell:
        """The cell of a baseline: one ratio for every layer ("layer") or one threshold for all weights ("global")."""
        return dataclasses.replace(self.template, scope=scope, ratio=ratio, repair=repair)

    def retrained(self, cell: Cell) -> Cell:
        """The same cut, retrained instead of repaired."""
        return dataclasses.replace(cell, repair="none", retraining=self.retraining)


def plan_search(
    model: str,
    data: str,
    *,
    max_drop: float = 1.0,
    confidence: float = CONFIDENCE,
    minimize: str | Sequence[str] | None = None,
    batch: int = 1,
    repair: str = USUAL_REPAIR,
    images: int = SHOWN_IMAGES,
    rounds: int = 2,
    retrain: int = 0,
    trials: int = 4,
    max_bytes: int | None = None,
    max_latency_ms: float | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    recipe: Mapping[str, Any] | None = None,
    **options: Any,
) -> Search:
    """A Search whose names and numbers make sense. Raises UsageError where they do not; see search for the values."""
    recipe = {name: value for name, value in (recipe or {}).items() if value is not None}
    check_recipe(recipe, options.get("weights"))
    check_value("max drop", max_drop, not math.isnan(max_drop), "a number of points")
    numeric = isinstance(confidence, int | float) and (confidence == 0 or 0.5 < confidence < 1)
    check_value("confidence", confidence, numeric, "above 0.5 and below 1, or 0")
    check_value("retrain", retrain, retrain >= 0, "epochs: 0 for none, or more")
    target, max_cost = _target(
        None if minimize is None else _several("minimize", minimize), max_bytes, max_latency_ms, retrain
    )
    find_architecture(model)
    data = normalised_name(data, mean, std)
    check_data_name(data)
    asked, others = asked_for(SEARCH_OPTIONS, options | {"repair": repair})
    if others:
        raise TypeError(f"plan_search takes no {', '.join(others)}")
    precisions, patterns = (_several(name, asked.pop(name)) for name in ("quantize", "pattern"))
    asked |= {
        "pattern": patterns[0],
        "exclude": tuple(asked["exclude"]),
        "include": tuple(asked["include"]),
        "weights": read_weights_file(asked["weights"]) if asked["weights"] else None,
    }
    for option in SEARCH_OPTIONS:
        if option.name in asked:
            option.check(asked[option.name])
    find_method(asked["method"])
    template = Cell(
        model=model,
        data=data,
        scope=SCOPE,
        ratio=0.0,
        recipe=recipe_for(model, **recipe),
        method_source=planned_source(asked["method"], "method"),
        model_source=planned_source(model, "model"),
        **asked,
    )
    retraining = retraining_for("one-shot", epochs=retrain) if retrain else None
    return Search(
        template, max_drop, target, batch, RATIOS, images=images, rounds=rounds, retraining=retraining, trials=trials,
        precisions=tuple(precisions), max_cost=max_cost, confidence=None if max_cost else confidence or None,
        patterns=tuple(patterns) if len(patterns) > 1 else (),
    )  # fmt: skip


def _several(name: str, given: object) -> list[str]:
    """Words apart by commas, or a list of them."""
    words = given.split(",") if isinstance(given, str) else given
    fits = isinstance(words, Sequence) and all(isinstance(each, str) for each in words) and len(words) > 0
    check_value(name, given, fits, "a word, or several as in a list or by commas")
    assert isinstance(words, Sequence)
    return [each.strip() for each in words]


def _target(
    minimize: Sequence[str] | None, max_bytes: float | None, max_latency_ms: float | None, retrain: int
) -> tuple[str, tuple[float, ...] | None]:
    """What is priced, and what each of it may cost at most; None where the loss is the budget."""
    given = {name: each for name, each in (("latency", max_latency_ms), ("bytes", max_bytes)) if each is not None}
    if not given:
        return ",".join(minimize or ("latency",)), None
    if retrain:
        raise UsageError(f"max {min(given)} goes with retrain=0: retrain what was found (secateur.retrain)")
    if minimize is not None and {*minimize} != {*given}:
        raise UsageError(
            f"minimize {','.join(minimize)!r} goes with max_drop: within max {' and max '.join(given)} the network "
            "that loses least is looked for, whatever else it costs; leave minimize out"
        )
    return ",".join(given), tuple(given.values())
