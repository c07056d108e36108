"""The verb `export`: a packed network for other engines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from secateur.cli.options import Debug, LimitsText, limits
from secateur.cli.printing import say
from secateur.errors import UsageError


def export(
    packed: Annotated[Path, typer.Argument(help="A .secateur file.")],
    output: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads annotations at run time on Python 3.10
        typer.Option("--output", "-o", help="ONNX file.", show_default="the packed file's name with .onnx"),
    ] = None,
    as_is: Annotated[
        bool, typer.Option("--as-is", help="Keep batch norm, dead units and the names of all weights.")
    ] = False,
    sparse: Annotated[
        bool, typer.Option("--sparse-initializers", help="Weights as non-zeros and places where that is less.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    allowed: LimitsText = "",
    debug: Debug = False,
) -> None:
    """Write a packed network as ONNX, for any engine that reads it."""
    from secateur.exporting.onnx import write_onnx
    from secateur.network.simplification import simplify
    from secateur.packfile import read

    path = output or packed.with_suffix(".onnx")
    if path.suffix != ".onnx":
        raise UsageError(f"--output {path}: expected a name that ends in .onnx")
    graph = read(packed, limits=limits(allowed))
    apart = write_onnx(graph if as_is else simplify(graph), path, force=force, sparse=sparse)
    checked = (
        "not checked: onnxruntime is not installed" if apart is None else f"ONNX Runtime agrees within {apart:.1e}"
    )
    say(f"{path} ({path.stat().st_size:,} bytes; {checked})")
