"""What to run: a Sweep expands into Cells, each with an identity that depends on every field.

Nothing here needs PyTorch, so a sweep can be read, planned and reported without it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path, PurePath
from typing import Annotated, Any, TypedDict

from secateur.errors import UsageError
from secateur.records.cuts import SCOPES, Cut, methods_of, parse_scope
from secateur.records.options import Option, at_least, check_declared, check_value, declared, one_of, rule
from secateur.records.patterns import UNSTRUCTURED, check_pattern, check_pattern_in_scope
from secateur.support.quantities import as_float, as_floats, as_number, as_whole, is_share

PAPER_RATIOS = (0.0, 0.25, 0.50, 0.60, 0.70, 0.80, 0.90, 0.95, 0.97, 0.99)
REPAIRS = ("none", "batchnorm", "moments", "reconstruct", "joint")
AUGMENTS = ("auto", "none", "crop-flip")
PRECISIONS = ("auto", "fp32", "bf16")
TARGETS = ("latency", "bytes", "macs", "weights")
SCHEDULES = ("one-shot", "iterative", "gradual", "rewind-rate", "rewind-weights", "scratch")


_SEED = rule(lambda seed: 0 <= seed < 2**63, "in [0, 2^63)")


def _check_list(name: str, values: Sequence[object]) -> None:
    if not values:
        raise UsageError(f"{name}: expected at least one value, got none")
    if len(set(values)) < len(values):
        raise UsageError(f"{name} {list(values)}: a value appears twice; name each once")


def check_repair(repair: str) -> None:
    """Raises UsageError for a text that is no repair, or no several of them joined by +."""
    steps = repair.split("+")
    several = "none" not in steps and len(set(steps)) == len(steps)
    known = all(step in REPAIRS for step in steps)
    check_value("repair", repair, known and (repair == "none" or several), f"some of {', '.join(REPAIRS)}, joined by +")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained: SGD with (plain) momentum under a one-cycle schedule.

    learning_rate is the peak of the cycle. augment: "auto" takes what the data set recommends (crop and flip
    for CIFAR-10), or "none", "crop-flip". precision: "auto" takes bf16 autocast where the network and the
    device gain from it, or "fp32", "bf16". epochs = 0 leaves the initial weights.
    """

    epochs: Annotated[int, Option("Instead of the network's own recipe.", check=at_least(0))] = 20
    batch_size: Annotated[int, Option("Likewise.", check=at_least(1))] = 128
    learning_rate: Annotated[
        float,
        Option("Likewise: peak learning rate.", flag="--lr", check=rule(lambda rate: 0 < rate < math.inf, "above 0")),
    ] = 0.1
    momentum: Annotated[float, Option(flag="", check=rule(lambda share: 0 <= share < 1, "in [0, 1)"))] = 0.9
    weight_decay: Annotated[
        float, Option("Likewise.", check=rule(lambda decay: 0 <= decay < math.inf, "0 or more"))
    ] = 5e-4
    label_smoothing: Annotated[float, Option("Likewise.", check=rule(lambda share: 0 <= share < 1, "in [0, 1)"))] = 0.0
    augment: Annotated[str, Option("auto, none or crop-flip.", check=one_of(AUGMENTS))] = "auto"
    precision: Annotated[str, Option("auto, fp32 or bf16.", check=one_of(PRECISIONS))] = "auto"

    def __post_init__(self) -> None:
        check_declared(self)


_LENET = Recipe(epochs=20)
_RESNET = Recipe(epochs=200)
_RECIPES = {
    "lenet-300-100": _LENET,
    "lenet-5": _LENET,
    "lenet-5-caffe": dataclasses.replace(_LENET, learning_rate=0.05),
    "resnet-18": _RESNET,
    "resnet-50": _RESNET,
    "resnet-18-cifar": _RESNET,
    "resnet-50-cifar": _RESNET,
}


def recipe_for(model: str, **overrides: Any) -> Recipe:
    """The recipe of a built-in network, or the defaults for any other, with the overrides that are not None.

    Raises UsageError where a value is out of range.
    """
    changed = {name: value for name, value in overrides.items() if value is not None}
    return dataclasses.replace(_RECIPES.get(model, Recipe()), **changed)


@dataclass(frozen=True, slots=True)
class Retraining:
    """How a network learns again once it is pruned, or while it is; with the recipe's batches and weight decay.

    epochs: in all, over every round. schedule:
    "one-shot": prune, then fine-tune under one cycle;
    "iterative": the same in `rounds` rounds, each of which removes the same share of what is left (Han et al. 2015);
    "gradual": the ratio rises along a cubic in the first `ramp` of the epochs, by a cut every `every` steps
    (Zhu & Gupta 2017);
    "rewind-rate": prune, then replay the end of the recipe's learning rates, one or more rounds (Renda et al. 2020);
    "rewind-weights": likewise, but the weights left also go back to what they were then (Frankle et al. 2020; with
    epochs = those of the recipe, to the initial weights: Frankle & Carbin 2019);
    "scratch": train the pruned architecture from fresh weights under the recipe's cycle (Liu et al. 2019).
    learning_rate: the peak of each cycle of the first three; None is the recipe's for "gradual", a tenth of it else.
    distill: the share of the loss that is agreement with the dense network at `temperature` (Hinton et al. 2015).
    """

    schedule: Annotated[
        str,
        Option(
            f"How pruned networks learn again: none, {', '.join(SCHEDULES)}.",
            flag="--retrain",
            many="schedules",
            first=("none",),
        ),
    ] = "one-shot"
    epochs: Annotated[int, Option("Epochs of retraining, over all rounds.", flag="--retrain-epochs", unset="10")] = 10
    learning_rate: Annotated[
        float | None,
        Option("Its peak learning rate.", flag="--retrain-lr", unset="the recipe's for gradual, else a tenth of it"),
    ] = None
    rounds: Annotated[
        int,
        Option("Rounds of pruning and retraining.", flag="--retrain-rounds", unset="5 for iterative, else 1"),
    ] = 1
    ramp: float = 0.75
    every: int = 100
    distill: Annotated[float, Option("Share of retraining's loss that is agreement with the dense.")] = 0.0
    temperature: float = 4.0

    def __post_init__(self) -> None:
        check_value("schedule", self.schedule, self.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}")
        check_value("retraining epochs", self.epochs, self.epochs >= 1, "1 or more")
        check_value("rounds", self.rounds, 1 <= self.rounds <= self.epochs, f"1 to {self.epochs}, an epoch each")
        check_value("rounds", self.rounds, self.epochs % self.rounds == 0, f"a divisor of the {self.epochs} epochs")
        several = self.schedule in ("iterative", "rewind-rate", "rewind-weights")
        check_value("rounds", self.rounds, self.rounds == 1 or several, f"1, as {self.schedule!r} has one")
        if self.learning_rate is not None:
            check_value("learning rate", self.learning_rate, 0 < self.learning_rate < math.inf, "above 0")
            own = self.schedule in ("one-shot", "iterative", "gradual")
            check_value("learning rate", self.learning_rate, own, f"none, as {self.schedule!r} follows the recipe's")
        check_value(
            "ramp", self.ramp, 0 < self.ramp <= 1, "in (0, 1]: the share of the epochs in which the ratio rises"
        )
        check_value("every", self.every, self.every >= 1, "1 step or more")
        check_value("distill", self.distill, 0 <= self.distill <= 1, "in [0, 1]: a share of the loss")
        check_value("temperature", self.temperature, 0 < self.temperature < math.inf, "above 0")

    @property
    def way(self) -> str:
        """What was done, in a few words."""
        words = [self.schedule, f"{self.epochs} epochs"]
        words += [f"{self.rounds} rounds"] if self.rounds > 1 else []
        words += [f"{percent(self.distill)} distilled"] if self.distill else []
        return ", ".join(words)

    @property
    def starts_over(self) -> bool:
        """Whether the weights left are set back to earlier or fresh ones."""
        return self.schedule in ("rewind-weights", "scratch")

    def recipe(self, recipe: Recipe) -> Recipe:
        """The recipe with the epochs and the peak rate of one round.

        Raises UsageError where a round would rewind to before the recipe's first epoch.
        """
        length = self.epochs // self.rounds
        if self.schedule.startswith("rewind"):
            if length > recipe.epochs:
                raise UsageError(
                    f"retraining epochs {self.epochs}: {self.schedule!r} goes back {length} epochs a round, but the "
                    f"network was trained for {recipe.epochs}: expected {recipe.epochs * self.rounds} or fewer"
                )
            return recipe
        share = 1.0 if self.schedule in ("gradual", "scratch") else 0.1
        return dataclasses.replace(
            recipe, epochs=length, learning_rate=self.learning_rate or share * recipe.learning_rate
        )


_ROUNDS = {"iterative": 5}


def check_recipe(changes: Mapping[str, Any], weights: object) -> None:
    """Raises UsageError for changes to a recipe that name none of its fields, or are of a network that is loaded."""
    unknown = changes.keys() - {field.name for field in dataclasses.fields(Recipe)}
    if unknown:
        raise UsageError(f"recipe: {', '.join(sorted(unknown))} is none of its fields")
    if weights and changes:
        raise UsageError(f"weights load a trained network, so training options mean nothing: drop {', '.join(changes)}")


def retraining_for(schedule: str, **overrides: Any) -> Retraining:
    """The defaults of a schedule (five rounds for "iterative"), with the overrides that are not None."""
    changed = {name: value for name, value in overrides.items() if value is not None}
    rounds = {"rounds": _ROUNDS[schedule]} if schedule in _ROUNDS else {}
    return Retraining(schedule, **(rounds | changed))


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """A checkpoint named by where it lies and by what it holds, so that a changed file is a different cell."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """The options that all cells of a sweep have in common.

    exclude, allow_empty and norms are as in pruning.prune. calibration_images of the training split, drawn by
    calibration_seed (None: by the seed), are what methods and repairs look at.
    """

    exclude: Annotated[
        tuple[str, ...],
        Option(
            "Layers left whole: names or patterns like 'layer1.*'.",
            alone="",
            told=lambda cell: list(cell.exclude),
            setting=("excluded", lambda names: ", ".join(names) or "nothing"),
        ),
    ] = ()
    allow_empty: Annotated[
        bool,
        Option(
            "Let a layer lose every weight.",
            setting=("empty layers", lambda allowed: "allowed" if allowed else "refused"),
        ),
    ] = False
    norms: Annotated[
        bool,
        Option(
            "Prune the scales of normalisations too.",
            flag="--prune-norms",
            setting=("norms", lambda pruned: "pruned" if pruned else "kept"),
        ),
    ] = False
    weights: Annotated[
        WeightsFile | None,
        Option(
            "Load this checkpoint (.pt, .safetensors); do not train.",
            alone="",
            given="str | Path | None",
            told=lambda cell: cell.weights.path if cell.weights else None,
            setting=("weights", lambda file: PurePath(file.path).name if file else "trained here"),
        ),
    ] = None
    calibration_images: Annotated[
        int,
        Option(
            "Training images that methods and repairs look at.",
            alone="",
            flag="--calibration",
            check=at_least(1),
            column=True,
            setting=("calibration images", str),
        ),
    ] = 1024
    calibration_seed: Annotated[
        int | None,
        Option(
            "Seed of their draw.",
            alone="",
            unset="the network's own",
            check=_SEED,
            column=True,
            told=lambda cell: cell.draw,
            setting=("calibration seed", lambda seed: "the network's" if seed is None else str(seed)),
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class Cell(Shared):
    """One measurement: a trained network, pruned one way at one ratio. `ratio` 0 is the dense network.

    pattern is as in pruning.prune. repair: steps of repairing.repair joined by +. Where layer_ratios (layer and ratio
    each) are given, they decide, and scope and ratio only name them. retraining: how it learns again; the dense network
    of ratio 0 never does. method_source and model_source: the digests of a user's own method, also of one that the
    scope is like, and of a user's own model.
    """

    model: Annotated[str, Option(many="models", flag="", column=True)]
    data: Annotated[str, Option(many="data", flag="", column=True)]
    method: Annotated[
        str,
        Option(
            "How weights are scored: some of `secateur methods`, your own; all of them.",
            many="methods",
            alone="How weights are scored: one of `secateur methods`, or your own.",
            first=("magnitude",),
            column=True,
        ),
    ]
    scope: Annotated[
        str,
        Option(
            f"How many each layer loses: {', '.join(SCOPES)}, like:METHOD/SCOPE, file:JSON, copy:RUN.",
            many="scopes",
            first=("layer",),
            check=lambda _, scope: parse_scope(scope),
            column=True,
        ),
    ]
    ratio: Annotated[
        float,
        Option(
            "Shares of weights to zero, in [0, 1).",
            many="ratios",
            first=PAPER_RATIOS,
            example="0,0.5,0.9",
            check=rule(is_share, "in [0, 1): the share of weights to zero, so 0.9 for 90 %"),
            column=True,
        ),
    ]
    seed: Annotated[
        int,
        Option(
            "Seeds of initial weights and training.",
            many="seeds",
            alone="Of initial weights, training and draws.",
            first=(0,),
            example="0,1,2",
            check=_SEED,
            column=True,
        ),
    ]
    recipe: Recipe
    pattern: Annotated[
        str,
        Option(
            "How zeros lie: unstructured, 1x4, 2:4, filter-l1, channel-l2, …",
            many="patterns",
            check=lambda _, pattern: check_pattern(pattern, 0.0),
            column=True,
            setting=("pattern", str),
        ),
    ] = UNSTRUCTURED
    repair: Annotated[
        str,
        Option(
            f"What follows pruning: {', '.join(REPAIRS)}; several steps joined by +.",
            many="repairs",
            alone="",
            check=lambda _, repair: check_repair(repair),
            column=True,
            setting=("repair", str),
        ),
    ] = "none"
    layer_ratios: tuple[tuple[str, float], ...] = ()
    retraining: Annotated[
        Retraining | None,
        Option(
            many="retrainings",
            column=True,
            told=lambda cell: cell.retraining.way if cell.retraining else "none",
            setting=("retraining", lambda retraining: retraining.way if retraining else "none"),
        ),
    ] = None
    method_source: str = ""
    model_source: str = ""

    def __post_init__(self) -> None:
        ratios = tuple((layer, as_number(ratio)) for layer, ratio in self.layer_ratios)
        object.__setattr__(self, "ratio", as_number(self.ratio))
        object.__setattr__(self, "layer_ratios", ratios)
        object.__setattr__(self, "seed", as_whole(self.seed))

    @property
    def cut(self) -> Cut:
        """What share of the weights goes."""
        ratio = as_float(self.ratio)
        return Cut(ratio, by_layer=self.layer_ratios) if self.layer_ratios else Cut(ratio, parse_scope(self.scope))

    @property
    def is_dense(self) -> bool:
        """Whether no weight goes."""
        return not (self.ratio or self.layer_ratios)

    @property
    def learns_again(self) -> bool:
        return self.retraining is not None and not self.is_dense

    @property
    def draw(self) -> int:
        """The seed of everything that is drawn while pruning: calibration images, random scores."""
        return self.seed if self.calibration_seed is None else self.calibration_seed

    @property
    def way(self) -> str:
        """How it was pruned, in a few words."""
        words = [f"{self.method}/{self.scope}"]
        words += ["with norms"] if self.norms else []
        words += [self.pattern] if self.pattern != UNSTRUCTURED else []
        words += [f"repaired by {self.repair}"] if self.repair != "none" else []
        words += [f"retrained ({self.retraining.way})"] if self.retraining else []
        return " ".join(words)

    @property
    def id(self) -> str:
        """Sixteen hex digits over every field, defaults included: the same cell has the same id everywhere."""
        return identity(self)

    def nickname(self) -> str:
        """Short enough to stand before a bar."""
        return f"{self.model} at {percent(self.ratio)}, seed {self.seed}"

    def describe(self) -> str:
        return f"{self.model} on {self.data}, {self.way} at {percent(self.ratio)}, seed {self.seed}"


OPTIONS = tuple(sorted(declared(Cell), key=lambda each: not each.option.many))
"""Every option of a cell, those first that multiply cells: a sweep takes a list of each."""
SWEPT = tuple(each for each in OPTIONS if each.option.many)
SHARED = tuple(each for each in OPTIONS if not each.option.many)
SEARCH_OPTIONS = tuple(each for each in OPTIONS if each.option.alone is not None)
"""Those that all networks of a search share, and that it takes."""
_WAYS = tuple(each for each in SWEPT if each.default is not MISSING)
"""Those that multiply the cuts of a network: what is done with each."""


class RecipeOptions(TypedDict, total=False):
    """Changes to a network's own recipe, for whoever reads types: the fields of Recipe."""

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float
    label_smoothing: float
    augment: str
    precision: str


class SearchOptions(RecipeOptions, total=False):
    """The keywords of a search that are options of its cells, for whoever reads types: as they are declared."""

    method: str
    seed: int
    exclude: Sequence[str]
    weights: str | Path | None
    calibration_images: int
    calibration_seed: int | None


class SweepOptions(RecipeOptions, total=False):
    """Likewise of a sweep."""

    methods: Sequence[str]
    scopes: Sequence[str]
    ratios: Sequence[float]
    seeds: Sequence[int]
    patterns: Sequence[str]
    repairs: Sequence[str]
    retrainings: Sequence[Retraining | None]
    exclude: Sequence[str]
    allow_empty: bool
    norms: bool
    weights: str | Path | None
    calibration_images: int
    calibration_seed: int | None


@dataclass(frozen=True, slots=True)
class LayerRatios:
    """Ratios layer by layer, from a file or another run; scope and ratio (over all layers) are their name.

    model, data and seed say which networks they are for; None: for every one.
    """

    scope: str
    ratio: float
    ratios: tuple[tuple[str, float], ...]
    model: str | None = None
    data: str | None = None
    seed: int | None = None

    def fits(self, model: str, data: str, seed: int) -> bool:
        return self.model in (None, model) and self.data in (None, data) and self.seed in (None, seed)


@dataclass(frozen=True, slots=True)
class Sweep(Shared):
    """The cross product of its lists. `overrides` change every network's own recipe.

    layer_ratios stand beside scopes × ratios; with them, scopes may be empty. controls: further scopes, which only the
    method "random" is run in. sources: the digest of each method and model that is a user's own.
    Raises UsageError for an empty list, a ratio outside [0, 1), a repeated value, an unknown scope, pattern or
    repair, and for a retraining that the recipe or a repair does not go with.
    """

    models: tuple[str, ...]
    data: tuple[str, ...]
    methods: tuple[str, ...] = ("magnitude",)
    scopes: tuple[str, ...] = ("layer",)
    ratios: tuple[float, ...] = PAPER_RATIOS
    seeds: tuple[int, ...] = (0,)
    overrides: tuple[tuple[str, Any], ...] = ()
    patterns: tuple[str, ...] = (UNSTRUCTURED,)
    repairs: tuple[str, ...] = ("none",)
    layer_ratios: tuple[LayerRatios, ...] = ()
    retrainings: tuple[Retraining | None, ...] = (None,)
    controls: tuple[str, ...] = ()
    sources: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "ratios", as_floats(self.ratios))
        object.__setattr__(self, "seeds", tuple(as_whole(seed) for seed in self.seeds))
        for option in SWEPT:
            values = getattr(self, option.option.many)
            if values or option.name != "scope" or not self.layer_ratios:
                _check_list(option.option.many, values)
            for value in values:
                option.check(value)
        check_declared(self)
        for scope in self.controls:
            parse_scope(scope)
        for pattern, ratio in itertools.product(self.patterns, self.ratios):
            check_pattern(pattern, ratio)
        given = ["ratios by layer"] if self.layer_ratios else []
        for pattern, way in itertools.product(self.patterns, [*self.scopes, *self.controls, *given]):
            check_pattern_in_scope(pattern, way)
        for repair in self.repairs:
            patterned = next((each for each in self.patterns if each != UNSTRUCTURED), None)
            if patterned and "joint" in repair.split("+"):
                raise UsageError(
                    f"repair {repair!r} chooses single weights: drop pattern {patterned} or take reconstruct"
                )
        if self.weights and len(self.models) > 1:
            raise UsageError(f"--weights is one checkpoint but {len(self.models)} models are named: name one")
        for retraining in self.retrainings:
            if retraining:
                self._check_retraining(retraining)

    def _check_retraining(self, retraining: Retraining) -> None:
        repair = next((each for each in self.repairs if each != "none"), None)
        if repair:
            raise UsageError(f"repair {repair!r} is for networks that are not retrained: drop it or the retraining")
        if self.weights and retraining.schedule == "rewind-weights":
            raise UsageError("'rewind-weights' goes back in a training, but --weights loads a network: train it here")
        fixed = next((each for each in self.patterns if ":" in each), None)
        if fixed and (retraining.schedule == "gradual" or retraining.rounds > 1):
            raise UsageError(f"pattern {fixed} has one ratio, so it cannot be cut bit by bit: retrain by one-shot")
        for model in self.models:
            retraining.recipe(recipe_for(model, **dict(self.overrides)))


def expand(sweep: Sweep) -> Iterator[Cell]:
    """Every cell of a sweep, ordered so that cells which share a trained network are neighbours."""
    networks = itertools.product(sweep.models, sweep.data, sweep.seeds)
    sources = dict(sweep.sources)
    for model, data, seed in networks:
        recipe = recipe_for(model, **dict(sweep.overrides))
        given = [(each.scope, each.ratio, each.ratios) for each in sweep.layer_ratios if each.fits(model, data, seed)]
        cuts = [(method, cut) for method in sweep.methods for cut in [*_cuts(sweep.scopes, sweep.ratios), *given]]
        cuts += [("random", cut) for cut in _cuts(sweep.controls, sweep.ratios)]
        ways = itertools.product(cuts, *(getattr(sweep, each.option.many) for each in _WAYS))
        for (method, (scope, ratio, ratios)), *values in ways:
            yield Cell(
                model=model,
                data=data,
                method=method,
                scope=scope,
                ratio=ratio,
                seed=seed,
                recipe=recipe,
                layer_ratios=ratios,
                method_source="+".join(sources[name] for name in methods_of(method, scope) if name in sources),
                model_source=sources.get(model, ""),
                **{each.name: value for each, value in zip(_WAYS, values, strict=True)},
                **{each.name: getattr(sweep, each.name) for each in SHARED},
            )


def _cuts(scopes: Sequence[str], ratios: Sequence[float]) -> list[tuple[str, float, tuple[tuple[str, float], ...]]]:
    """(scope, ratio, no ratios by layer) of each combination."""
    return [(scope, ratio, ()) for scope in scopes for ratio in sorted(ratios)]


def percent(share: float) -> str:
    """A share as text, with as many digits as tell it from none and from all: 25 %, 62.5 %, 99.9955 %."""
    return f"{round(100 * share, 9):.10g} %"


def identity(value: Any) -> str:
    """Sixteen hex digits of the SHA-256 of the canonical JSON of a frozen value, or of fields by name."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def canonical_json(value: Any) -> str:
    """A dataclass, or a dictionary, as JSON: keys sorted, no spaces, floats as Python's shortest repr."""
    fields = value if isinstance(value, dict) else dataclasses.asdict(value)
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))


def cell_from_json(text: str) -> Cell:
    """The inverse of canonical_json for a Cell; fields that an older version did not know get their defaults."""
    fields = json.loads(text)
    fields["recipe"] = Recipe(**fields["recipe"])
    fields["exclude"] = tuple(fields["exclude"])
    fields["weights"] = WeightsFile(**fields["weights"]) if fields["weights"] else None
    fields["layer_ratios"] = tuple((layer, ratio) for layer, ratio in fields.get("layer_ratios", ()))
    fields["retraining"] = Retraining(**fields["retraining"]) if fields.get("retraining") else None
    return Cell(**fields)
