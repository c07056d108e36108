"""The verb `analyze`: where a network's time goes, layer by layer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from secateur.cli.files import lengths_of
from secateur.cli.models import Bind, Shapes, asked
from secateur.cli.options import Debug, LimitsText, command_line, limits, texts
from secateur.cli.printing import say, say_lines, stdout_console
from secateur.errors import MissingExtraError, UsageError

WIDTH = 120
"""Characters that the tables fit into where the terminal has more."""


def analyze(
    network: Annotated[Path, typer.Argument(help="A .secateur or .onnx file, or a run folder: its best network.")],
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="In a run that kept several, which of its best."),
    ] = None,
    batch: Annotated[int, typer.Option(help="Images at once.")] = 1,
    threads: Annotated[int, typer.Option(help="1 to 1,024.")] = 1,
    kernel: Annotated[Optional[str], typer.Option(help="Force one.")] = None,  # noqa: UP045
    shape: Shapes = None,
    bind: Bind = None,
    lengths: Annotated[str, typer.Option(help="Those that are free, as in height=224,width=224.")] = "",
    peers: Annotated[
        str, typer.Option(help="Engines beside which the whole is timed, as bench has them; none for none.")
    ] = "onnxruntime,onnxruntime-int8",
    seconds: Annotated[float, typer.Option(help="Of timing the steps, and again the slowest engine.")] = 0.5,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    html: Annotated[Optional[Path], typer.Option(help="Write a page with charts too.")] = None,  # noqa: UP045
    allowed: LimitsText = "",
    debug: Debug = False,
) -> None:
    """Say layer by layer what a network takes here, why it is not faster, and what pruning or eight bits would buy."""
    from secateur.report.analysis import analyze as measure

    if not 0 < seconds < 1e6:
        raise UsageError(f"--seconds {seconds}: expected a number above 0")
    said = asked(shape, bind)
    found = measure(
        network,
        batch=batch,
        threads=threads,
        kernel=kernel,
        lengths=lengths_of(lengths),
        model=model,
        peers=[] if peers.strip() == "none" else texts(peers),
        seconds=seconds,
        limits=limits(allowed),
        shapes=said.shapes,
        bind=said.bind,
    )
    if html is not None:
        _write_html(found, html)
    if as_json:
        say_lines(json.dumps(found.to_json(), indent=2))
        return
    _print(found)
    if html is not None:
        say(f"page: {html}; open it in a browser")


def _print(found: Any) -> None:
    from secateur.report import as_rich

    console = stdout_console()
    for note in found.notes:
        console.print(note, style="bold", markup=False, highlight=False, soft_wrap=True)
    for grid in found.grids():
        console.print(as_rich(grid, min(console.width, WIDTH)))
    for line in found.summary():
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _write_html(found: Any, path: Path) -> None:
    try:
        from secateur.report.page import write_analysis
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"pages need {error.name}: pip install 'secateur[report]'") from error
    write_analysis(found, path, command_line())
