"""What the verbs of .secateur files do with files of ONNX."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from secateur.cli.printing import say
from secateur.cli.quantising import Quantising, read_calibration, say_report
from secateur.errors import UsageError

Shapes = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads annotations at run time on Python 3.10
    typer.Option(
        metavar="<str>",
        help="Of an ONNX file's input: x=1x3x320x320, or x=batch,3,height,width with names for what stays free; once "
        "for each.",
    ),
]
Bind = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(metavar="<str>", help="Of an ONNX file's input that is to be a constant: sr=16000; once for each."),
]


@dataclass(frozen=True, slots=True)
class Asked:
    """What was said of the inputs of an ONNX file, by name."""

    shapes: dict[str, list[int | str]]
    bind: dict[str, Any]


def asked(shapes: Sequence[str] | None, bind: Sequence[str] | None) -> Asked:
    """Raises UsageError for words that make no sense."""
    return Asked(dict(map(_shape, shapes or [])), dict(map(_bound, bind or [])))


def _shape(text: str) -> tuple[str, list[int | str]]:
    name, _, sizes = text.rpartition("=")
    parts = re.split(r"[,]|(?<=\d)x(?=[^,]*$)|(?<=batch)x", sizes) if "," not in sizes else sizes.split(",")
    if not name or not all(parts):
        raise UsageError(f"--shape {text!r}: expected an input and its sizes, as in x=1x3x320x320 or x=batch,3,h,w")
    return name, [int(part) if part.isdecimal() else part for part in parts]


def _bound(text: str) -> tuple[str, Any]:
    """A number, several between commas, or the array of a .npy file."""
    import numpy as np

    name, _, value = text.rpartition("=")
    if value.endswith(".npy"):
        from secateur.cli.arrays import read_arrays

        return name, read_arrays(Path(value))
    try:
        numbers = [_number(part) for part in value.split(",")]
    except ValueError:
        numbers = []
    if not name or not numbers:
        raise UsageError(f"--bind {text!r}: expected an input and a number, numbers or a .npy file, as in sr=16000")
    return name, np.array(numbers[0] if len(numbers) == 1 else numbers)


def _number(text: str) -> Any:
    words = {"true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)


def pack_file(
    source: Path, output: Path, quantising: Quantising, said: Asked, *, bits: int | None, codebook: str, exact: bool,
    force: bool,
) -> None:  # fmt: skip
    """Write what a file computes to a .secateur file."""
    from secateur.exporting.onnx_files import pack_onnx
    from secateur.packfile import Metadata

    if quantising.quantize is not None and quantising.file is None:
        raise UsageError(f"{source}: give --calibration with inputs (N, …) in a .npy or .npz file")
    data = None if quantising.file is None else read_calibration(quantising.file, Metadata())
    found = pack_onnx(
        source,
        output,
        shapes=said.shapes,
        bind=said.bind,
        bits=bits,
        codebook=codebook,
        simplified=not exact,
        force=force,
        quantize=quantising.quantize,
        calibration=data,
        keep_float=quantising.keep_float,
        tell=say_report,
    )
    size, before = output.stat().st_size, source.stat().st_size
    say(f"packed: {output}, {size:,} bytes, {before / size:.1f} times smaller than {source} ({before:,} bytes)")
    for note in found.notes:
        say(note)
    say(f"outputs on noise are within {found.apart:.1e} of the largest of those of {found.by}")
    if bits is not None:
        say(f"rounding to {bits} bits moved them by at most {found.rounding:.2%} of the largest")
    say(f"look into it with: secateur inspect {output}")
