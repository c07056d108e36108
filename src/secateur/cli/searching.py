"""The verb `search`: the ratio of every layer that saves most within an accuracy budget."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from secateur.cli.declared import options_from, recipe_from, with_options
from secateur.cli.options import (
    DataDir,
    Debug,
    Device,
    Mean,
    OwnTask,
    Std,
    channels,
    command_line,
    folder_of,
    print_result,
    require_torch,
    task_or_data,
)
from secateur.cli.printing import say_lines
from secateur.cli.voices import reporter
from secateur.errors import UsageError
from secateur.records.spec import CONFIDENCE, REPAIRS, SEARCH_OPTIONS, SHOWN_IMAGES, TARGETS, USUAL_REPAIR


@with_options(SEARCH_OPTIONS, "images", "device")
def search(
    model: Annotated[str, typer.Option(help="A network; your own as package.module:callable.")] = "lenet-300-100",
    data: Annotated[str, typer.Option(help="A data set; your own likewise.")] = "digits",
    task: OwnTask = None,
    max_drop: Annotated[float, typer.Option(help="Points of validation accuracy that may be lost.")] = 1.0,
    confidence: Annotated[
        float, typer.Option(help="That no more is lost on other data of the kind; 0: the mean may lose so much.")
    ] = CONFIDENCE,
    minimize: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help=f"One of {', '.join(TARGETS)}; or several with commas between, by their mean.", show_default="latency"
        ),
    ] = None,
    max_bytes: Annotated[
        Optional[int], typer.Option(help="Of the file: the best network within, instead of --max-drop.")  # noqa: UP045
    ] = None,
    max_latency_ms: Annotated[
        Optional[float], typer.Option(help="Of a batch on one thread: likewise, or both.")  # noqa: UP045
    ] = None,
    batch: Annotated[int, typer.Option(help="Images in the batches whose latency counts.")] = 1,
    retrain: Annotated[int, typer.Option(help="Epochs for which the best are retrained; 0: not at all.")] = 0,
    retrain_trials: Annotated[int, typer.Option(help="Networks of each kind that are retrained at most.")] = 4,
    out: Annotated[
        Optional[Path], typer.Option(help="Run folder.", show_default="runs/search-MODEL-DATA")  # noqa: UP045
    ] = None,
    repair: Annotated[
        str, typer.Option(help=f"What follows pruning: {', '.join(REPAIRS)}; several steps joined by +.")
    ] = USUAL_REPAIR,
    images: Annotated[
        int, typer.Option(help="Validation images on which the harm of each layer is measured.")
    ] = SHOWN_IMAGES,
    rounds: Annotated[int, typer.Option(help="How often harm is measured again around the best.")] = 2,
    mean: Mean = None,
    std: Std = None,
    device: Device = "auto",
    format: Annotated[str, typer.Option(help="table, json or markdown.")] = "table",
    data_dir: DataDir = None,
    debug: Debug = False,
    **words: Any,
) -> None:
    """Find the ratio of every layer that saves most within an accuracy budget. Run again to go on where it stopped."""
    if format not in _FORMATS:
        raise UsageError(f"--format {format!r}: expected one of {', '.join(_FORMATS)}")
    require_torch("search")
    from secateur.experiments.searching import plan_search, run_search

    data, recipe = task_or_data(task, data, model, recipe_from(words), words.get("weights"))
    plan = plan_search(
        model,
        data,
        max_drop=max_drop,
        confidence=confidence,
        minimize=minimize,
        batch=batch,
        repair=repair,
        images=images,
        rounds=rounds,
        retrain=retrain,
        trials=retrain_trials,
        max_bytes=max_bytes,
        max_latency_ms=max_latency_ms,
        mean=channels("mean", mean),
        std=channels("std", std),
        recipe=recipe,
        **options_from(SEARCH_OPTIONS, words),
    )
    folder = out or Path("runs") / folder_of("search", model, plan.template.data)
    result = run_search(plan, folder, data_dir=data_dir, device=device, reporter=reporter(), command=command_line())
    _FORMATS[format](result)


def _print_json(result: Any) -> None:
    from secateur.report import search_record

    files = {"safetensors": str(result.best.path), "packed": str(result.best.packed) if result.best.packed else None}
    row = result.best.row
    patterns: Any = row.cell.patterns
    chosen = {
        "ratios": dict(result.ratios),
        "patterns": dict.fromkeys(dict(result.ratios), patterns) if isinstance(patterns, str) else patterns,
        "pattern": row.cell.pattern,
        "float32_layers": list(row.quantised.float_layers) if row.quantised else [],
    }
    record = search_record(result.record) | chosen | {"best": files}
    say_lines(json.dumps(record, indent=2))


def _print_markdown(result: Any) -> None:
    from secateur.report import as_markdown, front_grid, search_grid

    say_lines("\n".join(as_markdown(make(result.record)) for make in (search_grid, front_grid)), end="")


_FORMATS = {"table": print_result, "json": _print_json, "markdown": _print_markdown}
