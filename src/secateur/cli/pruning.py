"""The verb `prune`: zeros in a network whose training code is elsewhere, or gone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from secateur.cli.declared import options_from, with_options
from secateur.cli.models import Bind, Shapes, asked, is_model
from secateur.cli.options import Debug, require_torch, texts
from secateur.cli.printing import say, stdout_console
from secateur.cli.quantising import read_calibration
from secateur.errors import UsageError
from secateur.records.spec import OPTIONS, REPAIRS

_OWN = ("method", "pattern")
"""Options of a cell that are meant here as they are in a search."""
_DECLARED = tuple(each for each in OPTIONS if each.name in _OWN)


@with_options(_DECLARED, "repair")
def prune(
    model: Annotated[Path, typer.Argument(help="An .onnx file.")],
    ratio: Annotated[float, typer.Option(help="Share of weights to zero, in [0, 1).")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The file to write: NAME.onnx (dense), .secateur, or .safetensors."),
    ],
    scope: Annotated[
        str, typer.Option(help="How many each layer loses: layer, global, erk, lamp, like:METHOD/SCOPE.")
    ] = "layer",
    repair: Annotated[
        str, typer.Option(help=f"What follows pruning: {', '.join(REPAIRS)}; several steps joined by +.")
    ] = "none",
    calibration: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads annotations at run time on Python 3.10
        typer.Option(help="Inputs (N, …) that methods and repairs look at, in a .npy or .npz file."),
    ] = None,
    exclude: Annotated[str, typer.Option(help="Layers left whole: names or patterns like 'layer1.*'.")] = "",
    include: Annotated[str, typer.Option(help="Matrices pruned beside layers: embeddings.")] = "",
    seed: Annotated[int, typer.Option(help="Of methods that draw.")] = 0,
    shape: Shapes = None,
    bind: Bind = None,
    sparse: Annotated[
        bool, typer.Option("--sparse-initializers", help="In ONNX: weights as non-zeros and places where that is less.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    debug: Debug = False,
    **words: Any,
) -> None:
    """Zero weights of an ONNX file, repair what is left, and write it again, or packed."""
    said = asked(shape, bind)
    if not is_model(model, said):
        raise UsageError(f"{model}: expected an .onnx file; a network of one's own is pruned with secateur.prune")
    require_torch("prune")
    from secateur.exporting.onnx_pruning import prune_onnx
    from secateur.packfile import Metadata

    found = prune_onnx(
        model,
        output,
        ratio,
        shapes=said.shapes,
        bind=said.bind,
        scope=scope,
        exclude=texts(exclude),
        include=texts(include),
        repair=repair,
        calibration=None if calibration is None else read_calibration(calibration, Metadata(), named=True),
        seed=seed,
        force=force,
        sparse=sparse,
        **options_from(_DECLARED, words),
    )
    _print(found, model, output)


def _print(found: Any, source: Path, output: Path) -> None:
    from rich.table import Table

    table, log = Table(), found.log
    table.add_column("layer", overflow="fold")
    for heading in ("weights", "left", "zeros"):
        table.add_column(heading, justify="right")
    for name, total in log.total.items():
        kept = log.kept[name]
        table.add_row(name, f"{total:,}", f"{kept:,}", f"{1 - kept / max(1, total):.1%}")
    stdout_console().print(table)
    for note in found.notes:
        say(note)
    for name, reason in log.left.items():
        say(f"dense: {name}: {reason}")
    if found.moved is not None:
        repaired = f", {found.moved.repaired:.2%} after repair" if found.moved.repaired != found.moved.pruned else ""
        say(f"outputs for the calibration inputs moved by {found.moved.pruned:.2%} of their norm{repaired}")
    before, after = source.stat().st_size, output.stat().st_size
    say(f"pruned: {output}, {log.sparsity:.1%} of the weights of {len(log.total)} layers are zero")
    say(f"{after:,} bytes, {before:,} before")
