"""What to run: a Sweep expands into Cells, each with an identity that depends on every field.

Nothing here needs PyTorch, so a sweep can be read, planned and reported without it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, MISSING, dataclass, field
from pathlib import Path, PurePath
from typing import Annotated, Any

from secateur.errors import UsageError
from secateur.records.cuts import SCOPES, Cut, methods_of, parse_scope
from secateur.records.options import (
    LATER,
    Option,
    at_least,
    check_declared,
    check_value,
    declared,
    one_of,
    rule,
    with_plain_signature,
)
from secateur.records.patterns import UNSTRUCTURED, check_pattern, check_pattern_in_scope
from secateur.records.recipes import (
    Recipe,
    RecipeOptions,
    Retraining,
    recipe_for,
)
from secateur.support.quantities import as_float, as_floats, as_number, as_whole, is_share, percent
from secateur.support.references import short

PAPER_RATIOS = (0.0, 0.25, 0.50, 0.60, 0.70, 0.80, 0.90, 0.95, 0.97, 0.99)
REPAIRS = ("none", "batchnorm", "moments", "reconstruct", "joint", "distill")
USUAL_REPAIR = "reconstruct"
"""What follows pruning where a sweep or a search is not told; a Cell that says nothing is not repaired."""
SHOWN_IMAGES = 512
"""Of the validation split, on which a search measures the harm of each layer."""
CONFIDENCE = 0.95
"""Of a search, one-sided: what was chosen on validation data is flattered by it, and loses more elsewhere."""
USUAL_IMAGES = 1024
"""Calibration images; of a smaller training split all."""
TARGETS = ("latency", "bytes", "macs", "weights")
ELEMENTS = {"none": "float32", "int8": "int8"}
"""What a network computes in, by how it is quantised."""


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
class WeightsFile:
    """A checkpoint named by where it lies and by what it holds, so that a changed file is a different cell."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """The options that all cells of a sweep have in common.

    exclude, include, allow_empty and norms are as in pruning.prune. calibration_images of the training split, drawn by
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
    include: Annotated[
        tuple[str, ...],
        Option(
            "Matrices pruned beside layers: embeddings, parameters of one's own.",
            alone="",
            told=lambda cell: list(cell.include),
            setting=("included", lambda names: ", ".join(names) or "nothing"),
        ),
    ] = field(default=(), metadata=LATER)
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
    ] = USUAL_IMAGES
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


@with_plain_signature
@dataclass(frozen=True, slots=True)
class Cell(Shared):
    """One measurement: a trained network, pruned one way at one ratio. `ratio` 0 is the dense network.

    pattern is as in pruning.prune. repair: steps of repairing.repair joined by +. Where layer_ratios (layer and ratio
    each) are given, they decide, and scope and ratio only name them; layer_patterns: the patterns of those among these
    layers whose zeros lie in another than `pattern`. retraining: how it learns again; the dense network
    of ratio 0 never does. method_source and model_source: the digests of a user's own method, also of one that the
    scope is like, and of a user's own model. quantize: what the network is made to compute in when it is pruned and
    repaired or retrained, by its calibration images; keep_float: layers that stay in float32 then.
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
    _: KW_ONLY
    pattern: Annotated[
        str,
        Option(
            "How zeros lie: unstructured, 1x4, 2:4, filter-l1, channel-l2, …",
            many="patterns",
            alone="How zeros lie: unstructured, or in blocks such as 1x4; of several each layer's best.",
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
            first=(USUAL_REPAIR,),
            check=lambda _, repair: check_repair(repair),
            column=True,
            setting=("repair", str),
        ),
    ] = "none"
    layer_ratios: tuple[tuple[str, float], ...] = ()
    layer_patterns: tuple[tuple[str, str], ...] = field(default=(), metadata=LATER)
    retraining: Annotated[
        Retraining | None,
        Option(
            many="retrainings",
            column=True,
            told=lambda cell: cell.retraining.way if cell.retraining else "none",
            setting=("retraining", lambda retraining: retraining.way if retraining else "none"),
        ),
    ] = None
    quantize: Annotated[
        str,
        Option(
            "What the network computes in at last: none (float32), int8.",
            many="quantize",
            alone="What networks compute in: none (float32), int8, or none,int8: each layer's better.",
            check=one_of(ELEMENTS),
            column=True,
            setting=("in", lambda quantize: ELEMENTS[quantize]),
        ),
    ] = field(default="none", metadata=LATER)
    keep_float: tuple[str, ...] = field(default=(), metadata=LATER)
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
    def patterns(self) -> str | Mapping[str, str]:
        """In what zeros lie, as pruning.prune takes it: by layer where layers differ."""
        if not self.layer_patterns:
            return self.pattern
        return dict.fromkeys((layer for layer, _ in self.layer_ratios), self.pattern) | dict(self.layer_patterns)

    @property
    def in_float32(self) -> Cell:
        """The same cell before it is quantised."""
        return dataclasses.replace(self, quantize="none", keep_float=())

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
    def element(self) -> str:
        """What its network computes in: float32 or int8."""
        return ELEMENTS[self.quantize]

    @property
    def patterns_told(self) -> str:
        """The patterns of its zeros, in words, the most frequent one first; "" for single weights alone."""
        held = self.patterns
        if isinstance(held, str):
            return "" if held == UNSTRUCTURED else held
        layers = {each: [name for name, own in held.items() if own == each] for each in sorted(set(held.values()))}
        most, *others = sorted(layers, key=lambda each: -len(layers[each]))
        if not others:
            return "" if most == UNSTRUCTURED else most
        return f"{most} ({', '.join(f'{each} in {_few(layers[each])}' for each in others)})"

    @property
    def element_told(self) -> str:
        """What it computes in, in words: with which layers stay in float32, where some were to."""
        return f"{self.element} (float32 in {_few(self.keep_float)})" if self.keep_float else self.element

    @property
    def way(self) -> str:
        """How it was pruned, in a few words."""
        words = [f"{self.method}/{self.scope}"]
        words += ["with norms"] if self.norms else []
        words += [self.patterns_told] if self.patterns_told else []
        words += [f"repaired by {self.repair}"] if self.repair != "none" else []
        words += [f"retrained ({self.retraining.way})"] if self.retraining else []
        words += [f"in {self.element_told}"] if self.quantize != "none" else []
        return " ".join(words)

    @property
    def id(self) -> str:
        """Sixteen hex digits over every field, defaults included but for those of LATER ones: the same cell has the
        same id everywhere."""
        return identity(self)

    def nickname(self) -> str:
        """Short enough to stand before a bar."""
        return f"{short(self.model)} at {percent(self.ratio)}, seed {self.seed}"

    def describe(self) -> str:
        return f"{short(self.model)} on {short(self.data)}, {self.way} at {percent(self.ratio)}, seed {self.seed}"


def _few(layers: Sequence[str]) -> str:
    """Their names; of more than two how many there are."""
    return " and ".join(layers) if len(layers) <= 2 else f"{len(layers)} layers"


OPTIONS = tuple(sorted(declared(Cell), key=lambda each: not each.option.many))
"""Every option of a cell, those first that multiply cells: a sweep takes a list of each."""
SWEPT = tuple(each for each in OPTIONS if each.option.many)
SHARED = tuple(each for each in OPTIONS if not each.option.many)
SEARCH_OPTIONS = tuple(each for each in OPTIONS if each.option.alone is not None)
"""Those that all networks of a search share, and that it takes."""
_WAYS = tuple(each for each in SWEPT if each.default is not MISSING)
"""Those that multiply the cuts of a network: what is done with each."""


class SharedOptions(RecipeOptions, total=False):
    """Likewise the keywords of both a sweep and a search that are options of their cells, as they are declared."""

    exclude: Sequence[str]
    include: Sequence[str]
    weights: str | Path | None
    calibration_images: int
    calibration_seed: int | None


class SearchOptions(SharedOptions, total=False):
    """Likewise of a search."""

    method: str
    seed: int
    pattern: str
    quantize: str


class SweepOptions(SharedOptions, total=False):
    """Likewise of a sweep."""

    methods: Sequence[str]
    scopes: Sequence[str]
    ratios: Sequence[float]
    seeds: Sequence[int]
    patterns: Sequence[str]
    repairs: Sequence[str]
    retrainings: Sequence[Retraining | None]
    quantize: Sequence[str]
    allow_empty: bool
    norms: bool


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


@with_plain_signature
@dataclass(frozen=True, slots=True)
class Sweep(Shared):
    """The cross product of its lists. `overrides` change every network's own recipe.

    layer_ratios stand beside scopes × ratios; with them, scopes may be empty. controls: further scopes, which only the
    method "random" is run in. sources: the digest of each method and model that is a user's own.
    Raises UsageError for an empty list, a ratio outside [0, 1), a repeated value, an unknown scope, pattern or
    repair, and for a retraining that the recipe does not go with. What is retrained is not repaired.
    """

    models: tuple[str, ...]
    data: tuple[str, ...]
    methods: tuple[str, ...] = ("magnitude",)
    scopes: tuple[str, ...] = ("layer",)
    ratios: tuple[float, ...] = PAPER_RATIOS
    seeds: tuple[int, ...] = (0,)
    overrides: tuple[tuple[str, Any], ...] = ()
    _: KW_ONLY
    patterns: tuple[str, ...] = (UNSTRUCTURED,)
    repairs: tuple[str, ...] = (USUAL_REPAIR,)
    layer_ratios: tuple[LayerRatios, ...] = ()
    retrainings: tuple[Retraining | None, ...] = (None,)
    quantize: tuple[str, ...] = ("none",)
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
        if self.weights and retraining.schedule == "rewind-weights":
            raise UsageError("'rewind-weights' goes back in a training, but --weights loads a network: train it here")
        fixed = next((each for each in self.patterns if ":" in each), None)
        if fixed and (retraining.schedule == "gradual" or retraining.rounds > 1):
            raise UsageError(f"pattern {fixed} has one ratio, so it cannot be cut bit by bit: retrain by one-shot")
        for model in self.models:
            retraining.recipe(recipe_for(model, **dict(self.overrides)))


def expand(sweep: Sweep) -> Iterator[Cell]:
    """Every cell of a sweep once, ordered so that cells which share a trained network are neighbours."""
    return iter(dict.fromkeys(map(_either, _combined(sweep))))


def _either(cell: Cell) -> Cell:
    """The cell, not repaired where it is retrained."""
    return cell if cell.retraining is None else dataclasses.replace(cell, repair="none")


def _combined(sweep: Sweep) -> Iterator[Cell]:
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


def identity(value: Any) -> str:
    """Sixteen hex digits of the SHA-256 of the canonical JSON of a frozen value, or of fields by name."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def canonical_json(value: Any) -> str:
    """A dataclass, or a dictionary, as JSON: keys sorted, no spaces, floats as Python's shortest repr; without LATER
    fields at their defaults."""
    return json.dumps(_identifying(value), sort_keys=True, separators=(",", ":"))


def _identifying(value: Any) -> Any:
    """What JSON holds of a value: of a dataclass its fields by name."""
    if isinstance(value, (list, tuple)):
        return [_identifying(each) for each in value]
    if not dataclasses.is_dataclass(value):
        return value
    return {name: _identifying(getattr(value, name)) for name in identifying_fields(value)}


def identifying_fields(value: Any) -> list[str]:
    """The names of a dataclass's fields, without LATER ones at their defaults."""
    return [each.name for each in dataclasses.fields(value) if each.metadata != LATER or _is_set(value, each)]


def _is_set(value: Any, of: dataclasses.Field[Any]) -> bool:
    return bool(getattr(value, of.name) != of.default)


def cell_from_json(text: str) -> Cell:
    """The inverse of canonical_json for a Cell; fields that an older version did not know get their defaults."""
    fields = json.loads(text)
    fields["recipe"] = Recipe(**fields["recipe"])
    fields["exclude"], fields["include"] = tuple(fields["exclude"]), tuple(fields.get("include", ()))
    fields["weights"] = WeightsFile(**fields["weights"]) if fields["weights"] else None
    for name in ("layer_ratios", "layer_patterns"):
        fields[name] = tuple((layer, value) for layer, value in fields.get(name, ()))
    fields["keep_float"] = tuple(fields.get("keep_float", ()))
    fields["retraining"] = Retraining(**fields["retraining"]) if fields.get("retraining") else None
    return Cell(**fields)
