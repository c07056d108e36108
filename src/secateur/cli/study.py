"""The verb `paper`: the study, run and laid beside what was printed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from secateur.cli.options import (
    DataDir,
    Debug,
    check_none_failed,
    command_line,
    numbers,
    require_torch,
    texts,
)
from secateur.cli.printing import say, stdout_console
from secateur.cli.voices import reporter
from secateur.errors import UsageError


def paper(
    tables: Annotated[str, typer.Option(help="Tables of the paper: 1 (LeNets), 2 (ResNets).")] = "1,2",
    models: Annotated[str, typer.Option(help="Only these of the tables' networks.")] = "",
    epochs: Annotated[
        str, typer.Option(help="Instead of the paper's: 30, or by network: resnet-18=30,resnet-50=12.")
    ] = "",
    seeds: Annotated[str, typer.Option(help="Seeds of initial weights and training.")] = "0,1,2",
    readings: Annotated[
        str, typer.Option(help="How the procedure is read: as-said, compounded, norms, norms-compounded.")
    ] = "as-said,compounded,norms,norms-compounded",
    weight_decay: Annotated[
        str, typer.Option(help="Train with each of these.", show_default="the network's own recipe")
    ] = "",
    out: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/paper"),
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    data_dir: DataDir = None,
    debug: Debug = False,
) -> None:
    """Rerun the paper's study and put its printed numbers beside ours. Run again to go on where it stopped."""
    from secateur.report.paper import plan_study

    plans = plan_study(
        numbers("tables", tables, int, "1,2"),
        texts(models),
        seeds=numbers("seeds", seeds, int, "0,1,2"),
        epochs=_epochs(epochs),
        readings=texts(readings),
        weight_decays=numbers("weight-decay", weight_decay, float, "0.0005,0"),
    )
    require_torch("paper")
    from secateur.experiments.sweeping import run_sweeps
    from secateur.records.selection import Selection

    result = run_sweeps(
        plans,
        out,
        selection=Selection(),
        data_dir=data_dir,
        device=device,
        reporter=reporter(),
        command=command_line(),
    )
    _print_study(result.rows)
    for path in _write_study(result.rows, out):
        say(f"wrote {path}")
    say(f"run folder: {out} ({result.computed} cells computed); a page to look at: secateur report {out}")
    check_none_failed(result, out)


def _epochs(text: str) -> int | dict[str, int] | None:
    """ "" is None, "30" all networks, "resnet-18=30,resnet-50=12" some."""
    if "=" in text:
        named = [part.partition("=") for part in texts(text)]
        return {name.strip(): _one_number(value, text) for name, _, value in named}
    return _one_number(text, text) if text.strip() else None


def _one_number(value: str, text: str) -> int:
    try:
        return int(value)
    except ValueError as error:
        raise UsageError(f"--epochs {text!r}: expected a whole number, or as in resnet-18=30,resnet-50=12") from error


def _print_study(rows: Sequence[Any]) -> None:
    from secateur.report import as_rich, study_grids

    console = stdout_console()
    for grid in study_grids(rows):
        console.print(as_rich(grid, console.width))


def _write_study(rows: Sequence[Any], out: Path) -> list[Path]:
    """The study's tables beside the results, in every format."""
    from secateur.report import STUDY_FORMATS, write_text

    paths = {form: out / f"paper.{_SUFFIXES[form]}" for form in STUDY_FORMATS}
    for form, path in paths.items():
        write_text(path, STUDY_FORMATS[form](rows))
    return list(paths.values())


_SUFFIXES = {"json": "json", "csv": "csv", "markdown": "md", "latex": "tex"}
