"""Run what is missing of a sweep, store each result as it comes, keep the best pruned network."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_model
from torch import nn

from secateur import packfile
from secateur.errors import MissingExtraError, SweepError, UsageError
from secateur.escaping import one_line
from secateur.experiments.cache import NetworkCache
from secateur.experiments.delivery import metadata_of, place_of
from secateur.experiments.evaluation import agree
from secateur.experiments.executors import Executor, attempt
from secateur.experiments.executors.local import LocalExecutor
from secateur.experiments.jobs import CellJob
from secateur.experiments.layer_ratios import split_scopes
from secateur.experiments.pipeline import make_network
from secateur.importing.checkpoints import read_weights_file
from secateur.measure.footprint import only_new_garbage
from secateur.network.graph import Graph
from secateur.pruning.score import METHODS, find_method
from secateur.records.cuts import Scope, methods_of
from secateur.records.options import asked_for, takes
from secateur.records.patterns import is_of_channels
from secateur.records.recipes import check_recipe
from secateur.records.results import Failure, Row
from secateur.records.selection import Selection, select_best
from secateur.records.spec import OPTIONS, SWEPT, Cell, Sweep, SweepOptions, expand
from secateur.records.store import FILE_NAME, Store
from secateur.report import Grid, Printed, curve_lines, intervals, left_dense, remarks, rows_grid, write_run_page
from secateur.support.progress import Reporter, SilentReporter
from secateur.support.quantities import as_floats, as_whole
from secateur.support.references import check_unedited, former_source, planned_source, short
from secateur.support.replacing import replacing
from secateur.training.catalogue import Numbers, check_data_name, normalised_name
from secateur.training.models import find_architecture
from secateur.training.objects import all_presented, check_retrainings, taken_as_it_is
from secateur.training.tasks import Task

if TYPE_CHECKING:
    from typing_extensions import Unpack

LATENCY_ON = ("cell", "driver", "none")
FAILURES_TOLD = 5
"""Of those that a printed result names."""


@dataclass(frozen=True, slots=True)
class Best:
    """The pruned network that was kept of a model on a data set: the row that chose it and the files it is in.

    path: safetensors, for PyTorch. packed: .secateur, None where the network cannot be one.
    """

    row: Row
    path: Path
    packed: Path | None


@dataclass(frozen=True, slots=True, repr=False)
class SweepResult(Printed):
    """Everything stored for the cells of a sweep; computed counts the cells that this run had to do. It prints as a
    table.

    notes: what there is to know of the dense networks that those started from, as NetworkCache.notes has it.
    """

    run: Path
    rows: tuple[Row, ...]
    failures: tuple[Failure, ...]
    best: tuple[Best, ...]
    computed: int
    notes: tuple[str, ...] = ()
    selection: Selection = field(default_factory=Selection)

    def grids(self) -> list[Grid]:
        return [rows_grid(self.rows, [best.row for best in self.best])] if self.rows else []

    def summary(self) -> list[str]:
        known = len(self.rows) + len(self.failures) - self.computed
        return [
            *curve_lines(self.rows),
            *left_dense(self.rows),
            *(
                f"data {source}"
                for source in sorted({f"{short(r.cell.data)}: {r.trained.data_source}" for r in self.rows})
            ),
            *self._failed(),
            *(line for best in self.best for line in self._told(best)),
            *([] if self.best or not self.rows else ["best: no pruned network qualifies; allow more with --tolerance"]),
            f"run folder: {self.run} ({self.computed} cells computed, {known} known before)",
            f"open it with: secateur show {shlex.quote(str(self.run))}",
        ]

    def write_page(self, path: str | Path | None = None) -> Path:
        """Write everything as one HTML file, by default report.html in the run folder; where it is. Raises as
        report.write_run_page does."""
        return write_run_page(self.run, path)

    def _failed(self) -> list[str]:
        """A line for each cell that failed, of the first few."""
        told = [f"failed: {each.cell.describe()}: {one_line(each.error)}" for each in self.failures[:FAILURES_TOLD]]
        more = len(self.failures) - len(told)
        return [*told, f"failed: {more} more, in failures"] if more else told

    def _told(self, best: Best) -> list[str]:
        row = best.row
        tolerance = self.selection.tolerance if self.selection.rule == "validation" else None
        return [
            f"best of {short(row.cell.model)} on {short(row.cell.data)}: {row.sparsity:.1%} zeros, {row.test.text} on "
            f"test data (dense {row.trained.test.text}) in {best.packed or best.path}",
            *(f"  {remark}" for remark in remarks(row, self.rows, tolerance)),
        ]


@takes(OPTIONS, before="mean", listed=True, rest="recipe")
def sweep(
    models: str | nn.Module | Sequence[str | nn.Module] = "lenet-300-100",
    data: str | Task | Sequence[str | Task] = "digits",
    *,
    out: str | Path,
    name: str | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    data_dir: str | Path | None = None,
    device: str = "auto",
    select: str = "validation",
    tolerance: float = 1.0,
    executor: Executor | None = None,
    latency_on: str = "cell",
    reporter: Reporter | None = None,
    **options: Unpack[SweepOptions],
) -> SweepResult:
    """Prune and measure every combination of the lists, store it under `out`, and keep the best network.

    models and data: as in search, one or several; name is for one module.
    methods: ("all",) takes every one of the table, and random in magnitude's proportions too. scopes: those of
    spec.SCOPES, "like:METHOD/SCOPE",
    "file:PATH" for a JSON object of layers and ratios, "copy:RUN" or "copy:RUN@METHOD/SCOPE" for the layers'
    ratios of another run. patterns and repairs: as in prune and repair. retrainings: how
    the pruned networks learn again, None for not at all; cells of ratio 0 never do. weights: a checkpoint that is
    loaded instead of training (checkpoints.load_weights). mean and std: how images are normalised, instead of as the
    data set advises: of pixels scaled to [0, 1], one number or one for each channel.

    Where a list is asked for, one text stands for itself. quantize: "none" leaves networks in float32, "int8" makes
    them compute in eight bits at last, scaled by the calibration images.

    What `out` holds already is not done again. select: "validation" keeps, per model and data set, the
    sparsest network whose validation accuracy is within `tolerance` points of the dense one's; "paper" keeps
    the one with the highest test accuracy. executor: where cells run, by default in this process (docs/cluster.md).
    latency_on: who measures latency, "cell" (each where it runs), "driver" (this process) or "none" (nobody, or the
    executor). recipe: changes to each network's own recipe, such as epochs=20.
    Cells that fail are in the result's failures. Raises UsageError for values that make no sense.
    """
    asked, recipe = asked_for(OPTIONS, options, listed=True)
    listed = [models] if isinstance(models, str | nn.Module) else list(models)
    given = [data] if isinstance(data, str | Task) else list(data)
    objects = [each for each in (*listed, *given) if not isinstance(each, str)]
    if objects and executor is not None and executor.elsewhere:
        raise UsageError(
            f"a {type(objects[0]).__name__} that this program holds is nowhere else: leave the executor out, or "
            "name it as package.module:callable"
        )
    if any(isinstance(each, nn.Module) for each in listed):
        recipe = taken_as_it_is(recipe, asked.get("weights"))
        check_retrainings(asked["retrainings"])
    with all_presented(listed, given, name) as (called, told):
        plan = plan_sweep(called, told, mean=mean, std=std, recipe=recipe, **asked)
        return run_sweeps(
            (plan,),
            Path(out),
            data_dir=data_dir,
            device=device,
            selection=Selection(select, tolerance),
            reporter=reporter,
            executor=executor,
            latency_on=latency_on,
        )


def plan_sweep(
    models: Sequence[str],
    data: Sequence[str],
    *,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    recipe: Mapping[str, Any],
    **options: Any,
) -> Sweep:
    """A Sweep whose names and numbers make sense; options and what is raised are as in sweep."""
    check_recipe(recipe, options.get("weights"))
    asked, others = asked_for(OPTIONS, options, listed=True)
    if others:
        raise TypeError(f"plan_sweep takes no {', '.join(others)}")
    asked |= {name: (asked[name],) for name in _LISTED if isinstance(asked[name], str)}
    asked = {name: tuple(value) if _is_several(value) else value for name, value in asked.items()}
    data = [normalised_name(name, mean, std) for name in data]
    asked["ratios"], asked["seeds"] = as_floats(asked["ratios"]), tuple(as_whole(seed) for seed in asked["seeds"])
    named, given = split_scopes(asked["scopes"], models, data, asked["seeds"], asked["ratios"], asked["include"])
    every = asked["methods"] == ("all",)
    asked["methods"] = tuple(METHODS) if every else asked["methods"]
    asked["scopes"], asked["weights"] = tuple(named), read_weights_file(asked["weights"]) if asked["weights"] else None
    plan = Sweep(
        models=tuple(models),
        data=tuple(data),
        overrides=tuple(sorted(recipe.items())),
        layer_ratios=tuple(given),
        controls=_controls(named, asked["patterns"]) if every else (),
        **asked,
    )
    for model in plan.models:
        find_architecture(model)
    sources = {model: planned_source(model, "model") for model in plan.models}
    for name in plan.data:
        check_data_name(name)
    for method, scope in itertools.product(plan.methods, ("", *named)):
        for name in methods_of(method, scope):
            find_method(name)
            sources[name] = planned_source(name, "method")
    return dataclasses.replace(plan, sources=tuple((name, source) for name, source in sources.items() if source))


_LISTED = {each.option.many for each in SWEPT if each.option.many not in ("models", "data")}


def _is_several(value: object) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str | Path)


def _controls(scopes: Sequence[str], patterns: Sequence[str]) -> tuple[str, ...]:
    """What random is compared in beside the scopes themselves: magnitude's proportions, where a scope makes such."""
    if any(is_of_channels(each) for each in patterns):
        return ()
    controls = (str(Scope(scope, like="magnitude")) for scope in scopes if scope in ("global", "lamp"))
    return tuple(control for control in controls if control not in scopes)


def run_sweeps(
    plans: Sequence[Sweep],
    out: Path,
    *,
    selection: Selection,
    data_dir: str | Path | None = None,
    device: str = "auto",
    reporter: Reporter | None = None,
    executor: Executor | None = None,
    latency_on: str = "cell",
    command: str = "",
) -> SweepResult:
    """Run planned sweeps into one run folder, one after the other; see sweep. Cells that they share run once.

    `command` is remembered with the results.
    """
    if latency_on not in LATENCY_ON:
        raise UsageError(f"latency_on {latency_on!r}: expected one of {', '.join(LATENCY_ON)}")
    executor = executor or LocalExecutor()
    cells = list({cell.id: cell for plan in plans for cell in expand(plan)}.values())
    reporter = reporter or SilentReporter()
    cache = NetworkCache(data_dir, "auto" if executor.elsewhere else device, reporter)
    if not (out / FILE_NAME).exists():
        check_loaded(cells)
        for cell in {(cell.model, cell.data): cell for cell in cells}.values():
            cache.check(cell)  # what is missing or does not fit should not leave an empty run behind
    with only_writer(out), only_new_garbage(), Store.create(out) as store:
        for plan in plans:
            store.add_sweep(plan, command, datetime.now(timezone.utc).isoformat(timespec="seconds"))
        done = store.done()
        pending = [cell for cell in cells if cell.id not in done]
        _check_same_data(cells, cache, store)
        _check_same_sources(cells, store)
        check_loaded(cells)
        store.forget_failures(pending)
        _load_given(pending, cache)
        job = CellJob(cache, data_dir, device, timed=latency_on == "cell")
        _run_pending(pending, len(cells), job, executor, latency_on == "driver", store, reporter)
        wanted = {cell.id for cell in cells}
        rows = tuple(row for row in store.rows() if row.cell.id in wanted)
        failures = tuple(failure for failure in store.failures() if failure.cell.id in wanted)
        best = tuple(keep_best(row, out, selection.describe(), cache) for row in select_best(rows, selection))
        store.check_there()
    return SweepResult(out, rows, failures, best, len(pending), cache.notes, selection)


def _check_same_data(cells: Sequence[Cell], cache: NetworkCache, store: Store) -> None:
    """Rows measured on exchanged files, or on images given otherwise, under one name must not stand in one table."""
    for name, cell in {cell.data: cell for cell in cells}.items():
        before, data = store.data_digests(name), cache.data(cell)
        if before - {data.digest}:
            raise SweepError(
                f"{store.path}: its {name!r} rows were measured on other files (digest {', '.join(before)}) than "
                f"those found now ({data.digest}); name another --out, or the former files with --data-dir"
            )
        for mean, std, augment in store.normalisations(name) - {(data.mean, data.std, data.augment)}:
            raise SweepError(
                f"{store.path}: its {name!r} rows are of images given with mean {mean}, std {std}, augmentation "
                f"{augment}, not {data.mean}, {data.std}, {data.augment}; name another --out"
            )


def check_loaded(cells: Iterable[Cell]) -> None:
    """Raises CallableError where a file of a model or a method was edited after Python had loaded it."""
    for model in {cell.model for cell in cells}:
        check_unedited(model, "model")
    for method in {name for cell in cells for name in methods_of(cell.method, cell.scope)}:
        check_unedited(method, "method")


def _check_same_sources(cells: Sequence[Cell], store: Store) -> None:
    """Likewise rows of a method or a model that was edited since."""
    for model, cell in {cell.model: cell for cell in cells}.items():
        before = store.model_sources(model) - {cell.model_source}
        if before and before == {former_source(model, "model")}:
            raise SweepError(
                f"{store.path}: its rows of {model!r} are of a version of Secateur that looked at one file of it and "
                "not at those that it needs, which may have changed; name another --out"
            )
        if before:
            raise SweepError(
                f"{store.path}: its rows of {model!r} were measured before that file was edited; name another --out"
            )
    for way, cell in {(cell.method, cell.scope): cell for cell in cells}.items():
        if store.method_sources(*way) - {cell.method_source}:
            own = next((name for name in methods_of(*way) if ":" in name), cell.method)
            raise SweepError(
                f"{store.path}: its {'/'.join(way)!r} rows were measured before the file of {own!r} was edited; "
                "name another --out"
            )


def _load_given(pending: Sequence[Cell], cache: NetworkCache) -> None:
    """Checkpoints lie on this machine, so this process loads them, whoever runs their cells."""
    for cell in {(cell.model, cell.data, cell.seed): cell for cell in pending if cell.weights}.values():
        attempt(functools.partial(cache.trained, cell), cell)  # what fails, fails again as the cells' own


def _run_pending(
    pending: Sequence[Cell],
    total: int,
    job: CellJob,
    executor: Executor,
    timed_here: bool,
    store: Store,
    reporter: Reporter,
) -> None:
    with reporter.task(f"{total} cells", total, total - len(pending)) as task:
        for result in executor.run(pending, job):
            if timed_here and isinstance(result, Row):
                result = attempt(functools.partial(job.time, result), result.cell)
            store.add(result)
            if isinstance(result, Failure):
                reporter.say(f"failed: {result.cell.describe()}: {' '.join(result.error.split())}")
            task.advance(1, functools.partial(_note, result))


def _note(result: Row | Failure) -> str:
    outcome = f"{result.test.metric.name} {result.test.text}" if isinstance(result, Row) else "failed"
    return f"{outcome}: {result.cell.describe()}"


@contextlib.contextmanager
def only_writer(out: Path) -> Iterator[None]:
    """No other process writes into the run folder meanwhile. Raises SweepError where one does, or nobody can."""
    try:
        from filelock import FileLock, Timeout
    except ImportError as error:
        raise MissingExtraError("sweeps need filelock: pip install 'secateur[torch]'") from error
    try:
        out.mkdir(parents=True, exist_ok=True)
        with FileLock(out / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise SweepError(f"{out}: another sweep is writing here; wait for it or name another --out") from error
    except OSError as error:
        raise SweepError(f"{out}: cannot be written: {error.strerror or error}; name another --out") from error


def keep_best(row: Row, out: Path, selected_by: str, cache: NetworkCache) -> Best:
    """Save the network of a row as safetensors and .secateur, and a JSON of what it is and by which rule it was chosen;
    nothing where all of it is there as it was written.

    Raises SweepError where the network is no longer the one that the row was measured on.
    """
    place = place_of(out / "best", row.cell.model, row.cell.data)
    card = _card(row, selected_by) | cache.data(row.cell).card
    if not place.holds(card):
        if damaged := place.damage():
            cache.reporter.warn(f"{damaged} is missing or damaged: it is made anew")
        network, graph = _measured_network(row, cache)
        place.path.parent.mkdir(exist_ok=True)
        with replacing(place.path) as temporary:
            save_model(network, str(temporary))
        if graph is None:
            place.packed.unlink(missing_ok=True)
        else:  # as it was measured, in eight bits too
            packfile.write(graph, place.packed, force=True, meta=metadata_of(cache.data(row.cell)))
        place.write_card(card)
    return Best(row, place.path, place.packed if place.packed.exists() else None)


def _measured_network(row: Row, cache: NetworkCache) -> tuple[nn.Module, Graph | None]:
    """The network that a row was measured on, made again, and its Graph."""
    cache.recall(row.cell, row.trained.key)
    network, *_ = make_network(row.cell, cache, weigh=False)
    graph = cache.graph(network, row.cell)
    now = cache.validation(network, row.cell, graph)
    if not agree(row.validation, now):
        raise SweepError(
            f"{row.cell.describe()}: made again its network has {now.text} on validation data where its row says "
            f"{row.validation.text}: the dense one, PyTorch or what it runs on changed; name another --out"
        )
    return network, graph


def _card(row: Row, selected_by: str) -> dict[str, Any]:
    return {
        **{option.name: option.told(row.cell) for option in OPTIONS if option.option.column},
        "layer_ratios": dict(row.cell.layer_ratios),
        "layer_patterns": dict(row.cell.layer_patterns),
        "keep_float": list(row.cell.keep_float),
        "cell": row.cell.id,
        "network": row.trained.key,
        "selected_by": selected_by,
        "accuracy": row.test.value,
        "validation_accuracy": row.validation.value,
        "dense_accuracy": row.trained.test.value,
        "dense_validation_accuracy": row.trained.validation.value,
        "intervals": {
            name: {what: list(ends) for what, ends in intervals(own, dense).items()}
            for name, own, dense in (
                ("validation", row.validation, row.trained.validation),
                ("test", row.test, row.trained.test),
            )
        },
        "sparsity": row.sparsity,
        "macs": row.macs,
        "nonzero_macs": row.nonzero_macs,
        "data_source": row.trained.data_source,
        "versions": dict(row.environment.versions),
    }
