"""What the verbs of .secateur files do with files of ONNX."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from secateur.cli.printing import say, say_lines, stdout_console
from secateur.cli.quantising import Quantising, read_calibration, say_report
from secateur.cli.voices import hint
from secateur.errors import UsageError

if TYPE_CHECKING:
    from secateur.network.graph import Graph, Weight
    from secateur.network.limits import Limits

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
    parts = sizes.split(",") if "," in sizes else re.split(r"(?<=\d)x|(?<=batch)x", sizes)
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
    data = None if quantising.file is None else read_calibration(quantising.file, Metadata(), named=True)
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
    if bits is not None or quantising.quantize is not None:
        how = f"rounding to {bits} bits" if bits is not None else "eight bits"
        say(f"{how} moved them by at most {found.rounding:.2%} of the largest")
    hint(f"look into it with: secateur inspect {output}")


def is_model(file: Path, said: Asked) -> bool:
    """Whether a file is one of ONNX. Raises UsageError where it is not and shapes or values were said of its inputs."""
    model = file.suffix.lower() == ".onnx"
    if not model and (said.shapes or said.bind):
        raise UsageError(f"{file}: is no ONNX file, so it takes no --shape or --bind: leave that out")
    return model


def graph_of(file: Path, said: Asked, allowed: Limits) -> Graph:
    """What a .secateur or .onnx file computes."""
    from secateur.runtime.opening import open_file

    is_model(file, said)
    return open_file(file, limits=allowed, shapes=said.shapes, bind=said.bind).graph


def print_model(file: Path, said: Asked, format: str) -> None:
    """What an ONNX file holds, as a Graph reads it."""
    from secateur.importing.onnx import read_whole
    from secateur.packfile.description import values_of

    reading = read_whole(file, shapes=said.shapes, bind=said.bind)
    graph = reading.graph
    weights = [_described(name, weight) for name, weight in graph.weights.items()]
    inputs, outputs = values_of(graph)
    counts = dict(Counter(node.op for node in graph.nodes).most_common())
    if format == "json":
        found: dict[str, Any] = {"file": str(file), "operations": counts, "inputs": [asdict(each) for each in inputs]}
        found |= {"outputs": [asdict(each) for each in outputs], "images": graph.images, "lengths": list(graph.lengths)}
        say_lines(json.dumps({**found, "weights": weights, "notes": list(reading.notes)}, indent=2))
        return
    from rich.table import Table

    table = Table()
    table.add_column("weight", overflow="fold")
    for heading in ("shape", "format", "density", "bytes"):
        table.add_column(heading, justify="right")
    for each in weights:
        shape = "×".join(map(str, each["shape"])) or "scalar"
        table.add_row(each["name"], shape, each["dtype"], f"{each['density']:.1%}", f"{each['bytes']:,}")
    console = stdout_console()
    console.print(table)
    total = ", ".join(f"{count} {op}" for op, count in counts.items())
    lines = [f"{file}: {len(graph.nodes)} operations ({total}), {len(weights)} weights, all of it held", *reading.notes]
    lines += [f"takes {'; '.join(map(str, inputs))}", f"gives {'; '.join(map(str, outputs))}"]
    lines += [f"free: {', '.join(graph.lengths)}"] if graph.lengths else []
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _described(name: str, weight: Weight) -> dict[str, Any]:
    density = weight.nonzero / weight.count if weight.count else 1.0
    shape, size = list(weight.shape), weight.bits.nbytes
    return {"name": name, "shape": shape, "dtype": weight.dtype, "density": density, "bytes": size}
