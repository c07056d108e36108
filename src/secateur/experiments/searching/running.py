"""A whole search into a run folder: what is stored there is not done again."""

from __future__ import annotations

import dataclasses
import functools
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from secateur.errors import SearchError
from secateur.experiments.cache import NetworkCache
from secateur.experiments.searching.channels import ChannelTables
from secateur.experiments.searching.comparing import compare, front_shown, measured_rows
from secateur.experiments.searching.finding import (
    DENSE,
    GLOBAL,
    MIXED,
    SEARCHED,
    UNIFORM,
    Best,
    Finder,
    Found,
    Trials,
    even_ladder,
    find_even,
    find_finished,
    find_retrained,
    found_by,
    named,
    named_mixed,
)
from secateur.experiments.searching.laboratory import LEAST_PARTS, NETWORK, Laboratory, check_search
from secateur.experiments.searching.plan import Search, Way, plan_search
from secateur.experiments.searching.tables import LayerTables, Tables
from secateur.experiments.sweeping import Best as Kept
from secateur.experiments.sweeping import check_loaded, keep_best, only_writer
from secateur.measure.footprint import only_new_garbage
from secateur.records.options import asked_for, takes
from secateur.records.patterns import UNSTRUCTURED, is_of_channels
from secateur.records.results import Outcome, SearchRecord
from secateur.records.spec import (
    CONFIDENCE,
    SEARCH_OPTIONS,
    SHOWN_IMAGES,
    USUAL_REPAIR,
    Cell,
    SearchOptions,
    canonical_json,
)
from secateur.records.store import FILE_NAME, Store
from secateur.report import Grid, Printed, caution, search_grids, verdict, write_run_page
from secateur.support.progress import Reporter, SilentReporter
from secateur.support.quantities import percent
from secateur.training.catalogue import Numbers
from secateur.training.objects import presented, taken_as_it_is
from secateur.training.tasks import Task

if TYPE_CHECKING:
    from typing_extensions import Unpack

SCOPES_OF = {UNIFORM: "layer", GLOBAL: "global"}
"""Of what is found by one ratio, how it is taken."""


@dataclass(frozen=True, slots=True, repr=False)
class SearchResult(Printed):
    """A search and what it found, the files that the chosen network is in, its ratio of each layer that lost any. It
    prints as tables.

    notes: what there is to know of the dense network, as NetworkCache.notes has it.
    """

    run: Path
    record: SearchRecord
    best: Kept
    ratios: tuple[tuple[str, float], ...]
    notes: tuple[str, ...] = ()

    def grids(self) -> list[Grid]:
        return search_grids([self.record])

    def write_page(self, path: str | Path | None = None) -> Path:
        """Write everything as one HTML file, by default report.html in the run folder; where it is. Raises as
        report.write_run_page does."""
        return write_run_page(self.run, path)

    def summary(self) -> list[str]:
        cell = self.best.row.cell
        dense = f"none: the dense network{f' in {cell.element}' if cell.quantize != 'none' else ''}"
        whole = f"{percent(cell.ratio)} by {cell.way}" if cell.ratio else dense
        ratios = ", ".join(f"{layer} {ratio:.4g}{_apart(cell, layer)}" for layer, ratio in self.ratios) or whole
        floats = self.best.row.quantised.float_layers if self.best.row.quantised else ()
        return [
            f"ratios: {ratios}",
            *([f"in float32: {', '.join(floats)}"] if floats else []),
            f"kept in {self.best.packed or self.best.path}",
            f"run folder: {self.run}; open it with: secateur show {shlex.quote(str(self.run))}",
        ]


def _apart(cell: Cell, layer: str) -> str:
    """A layer's pattern, where others have another."""
    patterns = cell.patterns
    return "" if isinstance(patterns, str) or patterns[layer] == UNSTRUCTURED else f" in {patterns[layer]}"


@takes(SEARCH_OPTIONS, before="images", rest="recipe")
def search(
    model: str | nn.Module = "lenet-300-100",
    data: str | Task = "digits",
    *,
    out: str | Path,
    name: str | None = None,
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
    data_dir: str | Path | None = None,
    device: str = "auto",
    reporter: Reporter | None = None,
    **options: Unpack[SearchOptions],
) -> SearchResult:
    """The ratio of every layer such that the network costs least and loses at most `max_drop` points of accuracy.

    model: one of the table by name, anyone's own as "package.module:callable", which are trained by their recipe; or a
    trained module, which is left as it was (name: what the run calls it, by default its class's name). data: a data set
    by name, anyone's own likewise, or a Task, whose metric then takes the place of accuracy.
    minimize: "latency" (in Secateur's runtime, one thread, batches of `batch`; so by default), "bytes" (of the
    .secateur file), "macs" or "weights"; of several, with commas between, the mean of what is left counts, and the
    front is that of all. Accuracy is top-1 on validation data, against the dense network. confidence: one-sided, at
    which no more than max_drop is lost on other data of the kind, as far as the validation data shows; 0: the mean over
    the validation data may lose so much. repair: as in repair.
    pattern and quantize: several, with commas between, are searched one after the other and then mixed, each layer with
    its own, and the best is taken. A pattern of channels is searched by groups of coupled ones.
    max_bytes, max_latency_ms of a batch, or both, in place of max_drop: the best network that takes no more.
    images of the validation split show each layer's harm;
    `rounds` times it is measured again around the best. retrain: epochs for which up to `trials` networks of each kind
    learn again. weights, mean and std: as in sweep. Beside the network that was searched, those with one ratio for
    every layer, and with one threshold
    for all weights, are found by the same rule and measured like it.

    What `out` holds already is not done again; another search of the same network may go into the same folder. recipe:
    changes to the network's own recipe, such as epochs=20. Raises UsageError for values that make no sense,
    SearchError where `out` belongs to something else.
    """
    asked, recipe = asked_for(SEARCH_OPTIONS, {**options, "repair": repair})
    if isinstance(model, nn.Module):
        recipe = taken_as_it_is(recipe, asked.get("weights"))
    with presented(model, data, name) as (called, told):
        plan = plan_search(
            called, told, max_drop=max_drop, confidence=confidence, minimize=minimize, batch=batch,
            images=images, rounds=rounds, retrain=retrain, trials=trials, max_bytes=max_bytes,
            max_latency_ms=max_latency_ms, mean=mean, std=std, recipe=recipe, **asked,
        )  # fmt: skip
        return run_search(plan, Path(out), data_dir=data_dir, device=device, reporter=reporter)


def run_search(
    plan: Search,
    out: Path,
    *,
    data_dir: str | Path | None = None,
    device: str = "auto",
    reporter: Reporter | None = None,
    command: str = "",
) -> SearchResult:
    """Run a planned search; see search. `command` is remembered with the results."""
    reporter = reporter or SilentReporter()
    cache = NetworkCache(data_dir, device, reporter)
    check_search(plan, cache)  # what is missing or does not fit should not leave an empty run behind
    if not (out / FILE_NAME).exists():
        check_loaded([plan.dense])
    with only_writer(out), only_new_garbage(), Store.create(out) as store:
        record = _record(plan, store, out, command)
        check_loaded([plan.dense])
        laboratory = Laboratory(plan, cache, store)
        laboratory.check_same_network()
        if plan.max_cost is None and (warning := caution(laboratory.trained.validation, plan.max_drop)):
            reporter.say(f"caution: {warning}")
        if plan.confidence and not laboratory.tells_parts:
            reporter.say(
                f"caution: {laboratory.parts} validation batches cannot tell what is lost at most, so what is lost on "
                f"average counts: expected {LEAST_PARTS} or more, of each of which the metric gives a number"
            )
        outcome = record.outcome or _search(plan, laboratory, cache, store, reporter)
        if record.outcome is None:
            store.add_outcome(record.number, outcome)
        measured_rows([store.cell(each.cell) for each in front_shown(outcome.front)], cache, store, reporter)
        chosen = outcome.contender(outcome.chosen)
        row = next(row for row in store.rows() if row.cell.id == chosen.cell)
        kept = keep_best(row, out, rule(plan, outcome), cache)
        store.check_there()
    record = dataclasses.replace(record, outcome=outcome)
    return SearchResult(out, record, kept, row.cell.layer_ratios, cache.notes)


def rule(plan: Search, outcome: Outcome) -> str:
    """How the kept network was chosen, in words."""
    what = {"latency": f"fastest for batches of {plan.batch}", "bytes": "smallest file", "macs": "fewest multiply-adds",
            "weights": "fewest weights"}  # fmt: skip
    least = " and ".join(what[target] for target in plan.targets) + (" on average" if len(plan.targets) > 1 else "")
    asked = (
        f"{least} within {plan.budget.describe()} of the dense network on validation data"
        f"{plan.budget.sure if outcome.contender(outcome.chosen).bound is not None else ''}, by search"
        if plan.max_cost is None
        else f"best on validation data within {plan.budget.describe()}, by search"
    )
    return ". ".join([asked, *(each.rstrip(".") for each in verdict(outcome, plan.budget))])


def _record(plan: Search, store: Store, out: Path, command: str) -> SearchRecord:
    """The record of this very search, made where there is none. Raises SearchError where the folder is another's,
    unless that one ended before it had measured anything."""
    if store.holds_sweeps():
        raise SearchError(f"{out}: holds a sweep; name another --out for a search")
    if not store.holds_findings(besides=NETWORK):
        store.forget_searches()
    spec, records = canonical_json(plan), store.searches()
    for record in records:
        _check_same_template(json.loads(record.spec)["template"], json.loads(spec)["template"], out)
    known = [record for record in records if record.spec == spec]
    if known:
        return known[0]
    number = store.add_search(spec, command, datetime.now(timezone.utc).isoformat(timespec="seconds"))
    return SearchRecord(number, spec, command, None)


def _check_same_template(there: dict[str, Any], asked: dict[str, Any], out: Path) -> None:
    for name, value in asked.items():
        if there.get(name) != value:
            if name.endswith("_source"):
                own = asked[name.removesuffix("_source")]
                raise SearchError(f"{out}: was measured before the file of {own!r} was edited; name another --out")
            raise SearchError(
                f"{out}: holds a search with {name.replace('_', ' ')} {_told(there.get(name))}, not {_told(value)}; "
                "name another --out"
            )


def _told(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _search(plan: Search, laboratory: Laboratory, cache: NetworkCache, store: Store, reporter: Reporter) -> Outcome:
    trials = Trials(plan, laboratory, reporter)
    found = {DENSE: Found((plan.dense,), 0)}
    best = {}
    for way in plan.ways:
        part = plan.among(way)
        found[named(plan, DENSE, way)] = Found((part.whole,), 0)
        finder = Finder(part, laboratory, trials, _tables(plan, laboratory, way, reporter), reporter)
        best[way] = finder.find()
        found |= _found_in(part, way, finder, best[way], trials, reporter)
    mixed = plan.ways_of_layers
    if len(mixed) > 1:
        finder = Finder(plan, laboratory, trials, LayerTables(plan, laboratory, mixed, reporter), reporter)
        found |= _found_mixed(finder, finder.find([best[way] for way in mixed]), trials, reporter)
    return compare(plan, found, trials, cache, store, reporter)


def _tables(plan: Search, laboratory: Laboratory, way: Way, reporter: Reporter) -> Tables:
    if is_of_channels(way.pattern):
        return ChannelTables(plan, laboratory, way)
    return LayerTables(plan, laboratory, [way], reporter)


def _found_in(
    plan: Search, way: Way, finder: Finder, best: Best, trials: Trials, reporter: Reporter
) -> dict[str, Found]:
    """What was found of each kind among networks of one pattern and one precision."""
    repair = plan.trial_repair

    def kind(how: str, retrained: bool = False) -> str:
        return named(trials.search, how, way, retrained)

    near = {"layer": finder.as_harmful(best), "global": best.cell.ratio}
    even = {
        how: functools.partial(find_even, scope, plan, trials, repair, near[scope]) for how, scope in SCOPES_OF.items()
    }
    found = {kind(how): found_by(kind(how), trials, find) for how, find in even.items()}
    found[kind(SEARCHED)] = Found(trials.finalists(kind(SEARCHED)) or (trials.search.dense,), finder.tried)
    ladders = {
        how: functools.partial(even_ladder, scope, found[kind(how)].cells[0], plan) for how, scope in SCOPES_OF.items()
    }
    ladders[SEARCHED] = functools.partial(finder.ladder_beyond, best)
    return _finished(found, ladders, kind, trials, reporter)


def _found_mixed(finder: Finder, best: Best, trials: Trials, reporter: Reporter) -> dict[str, Found]:
    """Likewise among networks whose layers differ."""
    found = {MIXED: Found(trials.finalists(MIXED) or (trials.search.dense,), finder.tried)}
    ladders = {MIXED: functools.partial(finder.ladder_beyond, best)}
    return _finished(found, ladders, lambda _, retrained=False: named_mixed(retrained), trials, reporter)


def _finished(
    found: Mapping[str, Found],
    ladders: Mapping[str, Callable[[], Sequence[Cell]]],
    kind: Callable[..., str],
    trials: Trials,
    reporter: Reporter,
) -> dict[str, Found]:
    """What was found with what the slowest repair and retraining make of it. ladders: of each kind the best, then
    networks that lose more."""
    search, done = trials.search, dict(found)
    slower = search.trial_repair != search.template.repair
    made = {how: ladder() for how, ladder in ladders.items()} if slower or search.retraining else {}
    for how, ladder in made.items() if slower else ():
        name = kind(how)
        after = found_by(name, trials, functools.partial(find_finished, ladder, trials))
        done[name] = Found(after.cells, done[name].tried + after.tried)
    for how, ladder in made.items() if search.retraining else ():
        name = kind(how, True)
        after = found_by(name, trials, functools.partial(find_retrained, ladder, trials))
        if search.dense not in after.cells:
            done[name] = after
        else:
            reporter.say(f"{kind(how)}: none of {after.tried} retrained networks lost little enough")
    return done
