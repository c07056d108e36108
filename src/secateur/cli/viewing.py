"""The verbs that look at runs: `show` on the terminal, `report` as a page, tables and figures."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from secateur.cli.options import Debug
from secateur.cli.printing import say, say_lines, stdout_console
from secateur.errors import MissingExtraError, ReportError, UsageError
from secateur.escaping import one_line


def show(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; several are laid side by side.")],
    format: Annotated[str, typer.Option(help="table, json, csv, markdown or latex.")] = "table",
    paper: Annotated[bool, typer.Option("--paper", help="Beside the paper's printed numbers.")] = False,
    failures: Annotated[bool, typer.Option("--failures", help="Show failed cells with their tracebacks.")] = False,
    debug: Debug = False,
) -> None:
    """Print what a run measured, or several runs side by side."""
    from secateur.report import FORMATS, load_runs

    if format not in ("table", *FORMATS):
        raise UsageError(f"--format {format!r}: expected one of table, {', '.join(FORMATS)}")
    loaded = load_runs(runs, failed_ones=True)
    if failures:
        _print_tracebacks(loaded)
        return
    if paper:
        _show_paper(loaded, format)
    elif format == "table":
        _show_tables(loaded)
    else:
        _show_text(loaded, format)
    _print_failed(loaded, sys.stdout if format == "table" else sys.stderr)


def _show_tables(runs: Sequence[Any]) -> None:
    from secateur.report import as_rich, cautions, chosen_rows, left_dense, rich_table, search_grids, side_by_side

    console = stdout_console()
    for grid in (each for run in runs for each in search_grids(run.searches)):
        console.print(as_rich(grid, console.width))
    if len(runs) > 1:
        for grid in side_by_side(runs):
            console.print(as_rich(grid, console.width))
        for caution in cautions(runs):
            console.print(f"note: {caution}", markup=False, highlight=False)
    elif runs[0].rows:
        best = [each.row for each in chosen_rows(runs, None)]
        console.print(rich_table(runs[0].rows, best, console.width))
        print_curves(runs[0].rows)
    for line in left_dense([row for run in runs for row in run.rows]):
        console.print(f"note: {line}", markup=False, highlight=False, soft_wrap=True)


def _show_text(runs: Sequence[Any], form: str) -> None:
    from secateur.report import render

    rows = [row for run in runs for row in run.rows]
    names = [run.name for run in runs for _ in run.rows] if len(runs) > 1 else []
    say_lines(render(rows, form, names), end="")


def _show_paper(runs: Sequence[Any], form: str) -> None:
    from secateur.report import STUDY_FORMATS, as_rich, study_grids

    for run in runs:
        grids = study_grids(run.rows)
        if not grids:
            raise ReportError(
                f"{run.name} holds none of the paper's networks, pruned by magnitude per layer as the paper did; "
                "measure them with: secateur paper"
            )
        if form != "table":
            say_lines(STUDY_FORMATS[form](run.rows), end="")
            continue
        console = stdout_console()
        for grid in grids:
            console.print(as_rich(grid, console.width))


def print_curves(rows: Sequence[Any]) -> None:
    """Accuracy over ratio as small drawings, a line for each way of pruning."""
    from secateur.report import curve_lines

    for line in curve_lines(rows):
        stdout_console().print(line, markup=False, highlight=False)


def _print_failed(runs: Sequence[Any], stream: Any) -> None:
    """Every failed cell in one line, and how to see more."""
    for run in runs:
        for failure in run.failures:
            say(f"failed: {failure.cell.describe()}: {one_line(failure.error)}", stream)
        if run.failures:
            count = f"{len(run.failures)} failed cell{'s' if len(run.failures) > 1 else ''}"
            say(f"{count}; tracebacks: secateur show {run.folder} --failures", stream)


def _print_tracebacks(runs: Sequence[Any]) -> None:
    failed = [failure for run in runs for failure in run.failures]
    for failure in failed:
        say(f"{failure.cell.describe()} (at {failure.failed_at})")
        say_lines(failure.traceback)
    say(f"{len(failed)} failed cells")


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; several are laid side by side.")],
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--output", "-o", help="HTML file.", show_default="report.html in the first run"),
    ] = None,
    figures: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Write every figure into this folder too, as SVG and PDF."),
    ] = None,
    select: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="What counts as the best: see sweep.", show_default="what the run kept"),
    ] = None,
    tolerance: Annotated[Optional[float], typer.Option(help="See sweep.", show_default="likewise")] = None,  # noqa: UP045
    debug: Debug = False,
) -> None:
    """Write one self-contained HTML file with charts, tables and how it was run.

    The best networks that runs kept are timed here, layer by layer, as `analyze` does.
    """
    from secateur.records.selection import Selection
    from secateur.report import load_runs

    asked = select is not None or tolerance is not None
    selection = Selection(select or "validation", 1.0 if tolerance is None else tolerance) if asked else None
    loaded = load_runs(runs)
    try:
        from secateur.report.page import write_page
        from secateur.report.plates import write_plates
        from secateur.report.run_page import analyses_of
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"reports need {error.name}: pip install 'secateur[report]'") from error
    path = output or runs[0] / "report.html"
    analyses = analyses_of(loaded, lambda error: say(f"not analysed: {one_line(str(error))}", sys.stderr))
    write_page(loaded, path, selection, analyses)
    say(f"report: {path} ({path.stat().st_size / 1e6:.1f} MB); open it in a browser")
    if figures:
        written = write_plates(loaded, figures, selection)
        say(f"figures: {len(written)} files in {figures}")
