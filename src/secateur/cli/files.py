"""The verbs of .secateur files: pack, inspect, unpack, run, bench."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from secateur.cli.arrays import read_arrays
from secateur.cli.models import Asked, Bind, Shapes, asked, graph_of, is_model, pack_file, print_model
from secateur.cli.options import DataDir, Debug, LimitsText, limits, numbers, require_torch, texts
from secateur.cli.printing import say, say_lines, stdout_console
from secateur.cli.quantising import Quantising, quantise_file
from secateur.cli.voices import hint
from secateur.errors import RunError, SecateurError, UsageError
from secateur.network.limits import Limits

if TYPE_CHECKING:
    from secateur.packfile import QuantisedDescription
    from secateur.runtime import PlanStep, Session

File = Annotated[Path, typer.Argument(help="A .secateur file.")]
AnyFile = Annotated[Path, typer.Argument(help="A .secateur or .onnx file.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing file.")]


def pack(
    source: Annotated[
        Path,
        typer.Argument(
            help="Run folder, a checkpoint (.pt, .safetensors) with --model, an .onnx file, or a .secateur file with "
            "--quantize."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path("net.secateur"),
    model: Annotated[
        Optional[str],  # noqa: UP045 - typer reads annotations at run time on Python 3.10
        typer.Option(help="A built-in network or package.module:callable; in a run, which of its best."),
    ] = None,
    weights: Annotated[
        Optional[Path], typer.Option(help="Take this checkpoint's weights instead of the run's best.")  # noqa: UP045
    ] = None,
    input: Annotated[str, typer.Option(help="Shape of one image where the network takes any: 3x32x32.")] = "",
    sizes: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            metavar="<str>", help="Keep lengths free: x=batch,3,height,width for forward's argument x; once for each."
        ),
    ] = None,
    dynamic: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            metavar="<str>",
            help="Keep one dimension free: input:1=length, once for each; a name alone for dimension 1 of all whole "
            "numbers.",
        ),
    ] = None,
    batch: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--example", help="One batch of inputs by name, in a .npz file, where they are no images."),
    ] = None,
    shape: Shapes = None,
    bind: Bind = None,
    classes: Annotated[
        Optional[int], typer.Option(help="Outputs.", show_default="those of the checkpoint")  # noqa: UP045
    ] = None,
    bits: Annotated[
        Optional[int], typer.Option(help="Round weights to 8, 6, 5 or 4 bits.", show_default="lossless")  # noqa: UP045
    ] = None,
    codebook: Annotated[
        str, typer.Option(help="With --bits: uniform, channel (uniform per channel) or k-means.")
    ] = "uniform",
    exact: Annotated[
        bool, typer.Option("--exact", help="Keep every weight of the checkpoint as it is: fold and remove nothing.")
    ] = False,
    quantize: Annotated[str, typer.Option(help="none, or int8: layers compute in eight bits.")] = "none",
    keep_float: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="<str>", help="With --quantize: one more layer that stays in float32; once for each."),
    ] = None,
    calibration: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            help="With --quantize: inputs (N, …) in a .npy or .npz file.", show_default="training images of a run"
        ),
    ] = None,
    calibration_images: Annotated[int, typer.Option(help="With --quantize: training images of a run.")] = 1024,
    data_dir: DataDir = None,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Write a pruned network to a file that is small, and needs neither PyTorch nor its class to be opened."""
    quantising = Quantising.asked(quantize, tuple(keep_float or ()), calibration, calibration_images, data_dir)
    of_networks = {"--model": model, "--weights": weights, "--input": input, "--sizes": sizes, "--classes": classes}
    of_networks |= {"--dynamic": dynamic, "--example": batch}
    of_onnx = {"--shape": shape, "--bind": bind}
    if source.suffix == ".secateur" and not source.is_dir():
        others = {"--bits": bits, "--exact": exact, "--codebook": codebook if codebook != "uniform" else None}
        _refuse({**of_networks, **of_onnx, **others}, f"{source}: is packed already, so it takes no")
        quantise_file(source, output, quantising, force)
        return
    quantising.refuse({"--bits": bits, "--exact": exact or None})
    if source.suffix.lower() == ".onnx" and not source.is_dir():
        _refuse(of_networks, f"{source}: is a whole network, so it takes no")
        pack_file(
            source, output, quantising, asked(shape, bind), bits=bits, codebook=codebook, exact=exact, force=force
        )
        return
    _refuse(of_onnx, f"{source}: is no ONNX file, so it takes no")
    require_torch("pack")
    from secateur.experiments.delivery import from_checkpoint, from_run
    from secateur.exporting.packing import pack as write

    own, free, lengths = _shape(input) if input else None, _sizes(sizes or []), _dynamic(dynamic or [])
    if source.is_dir() and weights is None:
        made = from_run(source, model)
    else:
        checkpoint = weights or source
        if model is None:
            raise UsageError(f"{checkpoint}: a checkpoint does not say which network it is of: name it with --model")
        example = None if batch is None else read_arrays(batch)
        made = from_checkpoint(checkpoint, model, shape=own, classes=classes, example=example)
        if made.notes:
            say(f"weights {checkpoint}: {'; '.join(made.notes)}")
    apart = write(
        made.network,
        output,
        example=made.example,
        sizes=free,
        dynamic=lengths,
        bits=bits,
        codebook=codebook,
        simplified=not exact,
        force=force,
        meta=made.metadata,
        **quantising.keywords(made),
    )
    dense = sum(each.numel() * each.element_size() for each in made.network.state_dict().values())
    size = output.stat().st_size
    say(f"packed: {output}, {_bytes(size)}, {dense / size:.1f} times smaller than its state dict ({_bytes(dense)})")
    if bits is not None:
        say(f"rounding to {bits} bits moved the outputs for the example by at most {apart:.2%} of the largest")
    quantising.say_otherwise(made)
    quantising.say_accuracies(made, output)
    hint(f"look into it with: secateur inspect {output}")


def _refuse(flags: dict[str, Any], before: str) -> None:
    """Raises UsageError for flags that were given."""
    if given := [flag for flag, value in flags.items() if value not in (None, "", [], False)]:
        raise UsageError(f"{before} {' or '.join(given)}: leave that out")


def _sizes(texts: list[str]) -> dict[str, list[str]]:
    """Argument of forward → its sizes."""
    pairs = [text.partition("=") for text in texts]
    wrong = next((text for text, (name, _, sizes) in zip(texts, pairs, strict=True) if not name or not sizes), "")
    if wrong:
        raise UsageError(f"--sizes {wrong!r}: expected sizes of an argument of forward, as in x=batch,3,height,width")
    return {name: sizes.split(",") for name, _, sizes in pairs}


def _dynamic(texts: list[str]) -> Any:
    """Argument of forward → names of its dimensions; or one name for dimension 1 of all inputs of whole numbers."""
    if len(texts) == 1 and ":" not in texts[0] and "=" not in texts[0]:
        return texts[0]
    found: dict[str, dict[int, str]] = {}
    for text in texts:
        place, _, name = text.partition("=")
        argument, _, dim = place.partition(":")
        if not (argument and name and dim.isdecimal()):
            raise UsageError(f"--dynamic {text!r}: expected a dimension's name, as in input_ids:1=length, or length")
        found.setdefault(argument, {})[int(dim)] = name
    return found or None


def _shape(text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(part) for part in text.lower().split("x"))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise UsageError(f"--input {text!r}: expected the shape of one image, as in 3x32x32")
    return shape


def inspect(
    file: AnyFile,
    plan: Annotated[bool, typer.Option("--plan", help="How the runtime runs it here, step by step.")] = False,
    batch: Annotated[int, typer.Option(help="With --plan: images at once.")] = 1,
    threads: Annotated[int, typer.Option(help="With --plan: 1 to 1,024.")] = 1,
    kernel: Annotated[Optional[str], typer.Option(help="With --plan: force one.")] = None,  # noqa: UP045
    lengths: Annotated[str, typer.Option(help="With --plan: those that are free, as in height=224,width=224.")] = "",
    format: Annotated[str, typer.Option(help="table or json.")] = "table",
    shape: Shapes = None,
    bind: Bind = None,
    allowed: LimitsText = "",
    debug: Debug = False,
) -> None:
    """Say what a file holds, weight by weight, every checksum of a .secateur file verified."""
    _check_format(format)
    said = asked(shape, bind)
    if is_model(file, said) and not plan:
        print_model(file, said, format)
        return
    if plan:
        _print_plan(file, batch, threads, kernel, lengths_of(lengths), format, limits(allowed), said)
        return
    from secateur.packfile import describe

    found = describe(file, limits=limits(allowed))
    if format == "json":
        say_lines(json.dumps(_described(file, found), indent=2))
        return
    from rich.table import Table

    table = Table()
    table.add_column("weight", overflow="fold")
    for heading in ("shape", "format", "density", "codec", "bytes", "of bound", "largest error"):
        table.add_column(heading, justify="right")
    for each in found.weights:
        table.add_row(
            each.name,
            "×".join(map(str, each.shape)) or "scalar",
            each.dtype,
            f"{each.density:.1%}",
            each.codec,
            f"{each.bytes:,}",
            f"{each.share:.2f}" if each.bound else "–",
            f"{each.error:.2g}" if each.error else "exact",
        )
    console = stdout_console()
    console.print(table)
    if found.quantised:
        console.print(_table_of_eight_bits(found.quantised))
    dense = "dense in the same formats" if found.quantised else "dense"
    console.print(
        f"{file}: format {found.version}, {found.nodes} operations, {len(found.weights)} weights, all checksums right; "
        f"{found.bytes:,} bytes, {found.dense_bytes / found.bytes:.1f} times smaller than {dense}; "
        f"{found.share:.3f} of the bound Σ n·(H(density) + density·bits)",
        markup=False,
        soft_wrap=True,
    )
    for what, values in (("takes", found.inputs), ("gives", found.outputs)):
        console.print(f"{what} {'; '.join(map(str, values))}", markup=False, highlight=False, soft_wrap=True)
    if found.images is not None:
        console.print(f"for batches of {found.images} only", markup=False, highlight=False, soft_wrap=True)


def _table_of_eight_bits(quantised: Sequence[QuantisedDescription]) -> Any:
    """What values are in eight bits, as whose numbers, and the scales of weights."""
    from rich.table import Table

    table = Table()
    table.add_column("in eight bits", overflow="fold")
    table.add_column("operation", overflow="fold")
    for heading in ("output", "scale", "zero point", "range", "scales of weights"):
        table.add_column(heading, justify="right")
    for each in quantised:
        made = each.output
        table.add_row(
            each.name,
            each.operation,
            made.element if made else "float32",
            f"{made.scale:.3g}" if made else "",
            str(made.zero_point) if made else "",
            _from_to(each.extent),
            _from_to(each.weight_scales),
        )
    return table


def _from_to(extent: tuple[float, float] | None) -> str:
    return "{:.3g} … {:.3g}".format(*extent) if extent else ""


def _described(file: Path, found: Any) -> dict[str, Any]:
    from dataclasses import asdict

    weights = [
        {
            "name": each.name,
            "shape": list(each.shape),
            "dtype": each.dtype,
            "density": each.density,
            "codec": each.codec,
            "bytes": each.bytes,
            "bound_bytes": each.bound,
            "share_of_bound": each.share if each.bound else None,
            "largest_error": each.error,
            "checksum": "verified",
        }
        for each in found.weights
    ]
    return {
        "file": str(file),
        "format": found.version,
        "producer": found.metadata.producer,
        "mean": list(found.metadata.mean),
        "std": list(found.metadata.std),
        "bytes": found.bytes,
        "dense_bytes": found.dense_bytes,
        "bound_bytes": found.bound,
        "share_of_bound": found.share if found.bound else None,
        "largest_error": found.error,
        "operations": found.nodes,
        "inputs": [asdict(each) for each in found.inputs],
        "outputs": [asdict(each) for each in found.outputs],
        "images": found.images,
        "weights": weights,
        "quantised": [asdict(each) for each in found.quantised],
    }


def lengths_of(text: str) -> dict[str, int]:
    """What --lengths says: name → length."""
    pairs = [part.partition("=") for part in text.split(",") if part]
    if not all(size.isdecimal() for _, _, size in pairs):
        raise UsageError(f"--lengths {text!r}: expected whole numbers by name, as in height=224,width=224")
    names = [name for name, _, _ in pairs]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise UsageError(f"--lengths {text!r}: {twice[0]!r} stands twice")
    return {name: int(size) for name, _, size in pairs}


def _print_plan(
    file: Path, batch: int, threads: int, kernel: str | None, lengths: dict[str, int], format: str, allowed: Limits,
    said: Asked,
) -> None:  # fmt: skip
    from dataclasses import asdict

    from secateur.runtime import load

    if batch < 1:
        raise UsageError(f"--batch {batch}: expected a whole number from 1 on")
    session = load(file, threads, kernel, True, allowed, shapes=said.shapes, bind=said.bind)
    if lengths.keys() != set(session.lengths):
        example = ",".join(f"{name}=16" for name in session.lengths)
        expected = f"{', '.join(session.lengths)}: give them as in --lengths {example}" if example else "none"
        raise UsageError(f"{file}: lengths {', '.join(lengths) or 'not given'}; expected {expected}")
    plan = session.plan(batch, rounds=5, lengths=lengths)
    if format == "json":
        described = {name: value for name, value in asdict(plan).items() if name != "stages" or value}
        say_lines(json.dumps(described, indent=2))
        return
    from rich.table import Table

    table = Table()
    table.add_column("step", overflow="fold")
    table.add_column("operations", overflow="fold")
    table.add_column("kernel", overflow="fold")
    for heading in ("output", "density", "MACs", "non-zero", "weights", "images", "time", "GMAC/s"):
        table.add_column(heading, justify="right")
    for kind, stage in plan.stages or (("", plan),):
        if kind:
            table.add_section()
            table.add_row(f"{kind}:")
        for step in stage.steps:
            table.add_row(*_described_step(step))
    console = stdout_console()
    console.print(table)
    parts = " + ".join(f"{count} × {size}" for size, _, count in plan.parts)
    console.print(
        f"kernel {plan.kernel}, costs {plan.costs}, {plan.threads} threads, "
        f"{batch} images in blocks of {parts}, "
        f"buffers {_bytes(plan.arena_bytes)}; MACs are of one image, times of as many as the step takes at once",
        markup=False,
        soft_wrap=True,
    )


def _described_step(step: PlanStep) -> tuple[str, ...]:
    return (
        step.name,
        step.operations,
        step.kernel,
        "×".join(map(str, step.shape)),
        f"{step.density:.1%}" if step.multiply_adds else "",
        f"{step.multiply_adds:,}" if step.multiply_adds else "",
        f"{step.nonzero_multiply_adds:,}" if step.multiply_adds else "",
        _bytes(step.bytes) if step.bytes else "",
        str(step.images),
        f"{1e6 * step.seconds:,.1f} µs" if step.seconds is not None else "",
        f"{step.images * step.nonzero_multiply_adds / step.seconds / 1e9:.1f}"
        if step.seconds and step.multiply_adds
        else "",
    )


def unpack(
    file: File,
    output: Annotated[Path, typer.Option("--output", "-o", help="The safetensors file to write.")] = Path(
        "net.safetensors"
    ),
    raw: Annotated[
        bool, typer.Option("--raw", help="Of layers in eight bits, integers and scales rather than their product.")
    ] = False,
    force: Force = False,
    allowed: LimitsText = "",
    debug: Debug = False,
) -> None:
    """Write the weights as dense safetensors, for any other tool."""
    from secateur.packfile import dense_weights, read, to_safetensors

    graph = read(file, limits=limits(allowed))
    weights = dense_weights(graph, raw=raw)
    _write(output, force, lambda: to_safetensors(weights))
    product = "; those of layers in eight bits times their scales" if graph.quantisations and not raw else ""
    say(f"unpacked: {output}, {len(weights)} weights, {_bytes(output.stat().st_size)}{product}")


def run(
    file: AnyFile,
    input: Annotated[
        Path,
        typer.Option(
            "--input", help="A .npy file: images (N, …), float32 or uint8; or a .npz file: arrays by the inputs' names."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", help="The .npy file to write: outputs (N, …), float32; or a .npz file: all by name."),
    ] = Path("y.npy"),
    threads: Annotated[int, typer.Option(help="Threads, 1 to 1,024.")] = 1,
    kernel: Annotated[Optional[str], typer.Option(help="Force one.")] = None,  # noqa: UP045
    shape: Shapes = None,
    bind: Bind = None,
    force: Force = False,
    allowed: LimitsText = "",
    debug: Debug = False,
) -> None:
    """Run a network on images. uint8 images are normalised as the file says."""
    from secateur.runtime import load

    said = asked(shape, bind)
    network = load(file, threads, kernel, True, limits(allowed), shapes=said.shapes, bind=said.bind)
    given = read_arrays(input)
    try:
        made = _made(network, given)
    except RunError as error:
        raise RunError(f"{input}: {error}") from error
    names = network.output_names
    if len(made) > 1 and output.suffix != ".npz":
        raise RunError(
            f"{file}: has {len(made)} outputs ({', '.join(names)}): name a .npz file for all of them, as in "
            f"--output {output.with_suffix('.npz')}"
        )
    _write(output, force, lambda: _as_file(dict(zip(names, made, strict=True)), output))
    shapes = ", ".join(str(each.shape) for each in made)
    say(f"ran: {len(made[0])} images, outputs {shapes} in {output}")


def _made(network: Session, given: Any) -> tuple[Any, ...]:
    """The outputs for arrays by the names of arguments, or of the graph's inputs, or for one array."""
    if not isinstance(given, dict):
        names = network.arguments
        return network.run_called({names[0]: given}) if len(names) == 1 else network.run_all(given)
    return network.run_called(given) if given.keys() == {*network.arguments} else network.run_named(given)


def _as_file(arrays: dict[str, Any], path: Path) -> bytes:
    """A .npz file where it is called so, else the .npy file of the only array."""
    import io

    import numpy as np

    buffer = io.BytesIO()
    if path.suffix == ".npz":
        np.savez(buffer, **arrays)
    else:
        np.save(buffer, next(iter(arrays.values())))
    return buffer.getvalue()


def bench(
    file: AnyFile,
    batch: Annotated[str, typer.Option(help="Images at once, separated by commas.")] = "1,64",
    threads: Annotated[str, typer.Option(help="Threads, likewise, each 1 to 1,024.")] = "1",
    peers: Annotated[
        str, typer.Option(help="Rivals: torch, torch-compile, onnxruntime, openvino, onnxruntime-int8, openvino-int8.")
    ] = "torch,torch-compile,onnxruntime,openvino,onnxruntime-int8,openvino-int8",
    seconds: Annotated[float, typer.Option(help="Of timing for the slowest engine at each batch size.")] = 1.0,
    kernel: Annotated[Optional[str], typer.Option(help="Force one of ours.")] = None,  # noqa: UP045
    format: Annotated[str, typer.Option(help="table or json.")] = "table",
    shape: Shapes = None,
    bind: Bind = None,
    lengths: Annotated[str, typer.Option(help="Those that are free, as in height=224,width=224.")] = "",
    allowed: LimitsText = "",
    debug: Debug = False,
) -> None:
    """Time a network in Secateur's runtime and in other engines; outputs are compared first.

    All are timed in turns in one run, so that each finds the caches as the others left them; where runs are short each
    is also timed warm, among its own runs. Rivals in eight bits are quantised by their own tools.
    """
    _check_format(format)
    from secateur.measure.bench import bench as measure

    batches, counts = _counts("batch", batch, "1,64"), _counts("threads", threads, "1,2")
    found = measure(
        graph_of(file, asked(shape, bind), limits(allowed)),
        batches=batches,
        threads=counts,
        peers=texts(peers),
        seconds=seconds,
        kernel=kernel,
        lengths=lengths_of(lengths),
    )
    if format == "json":
        say_lines(json.dumps(found.to_json(), indent=2))
        return
    from rich.table import Table

    table = Table()
    table.add_column("engine")
    for heading in ("batch", "threads", "median", "95 % interval", "n", "÷ ours", "warm", "÷ ours", "difference"):
        table.add_column(heading, justify="right")
    ours = {(row.batch, row.threads): row for row in found.rows if row.engine == "secateur"}
    for row in found.rows:
        own = ours[row.batch, row.threads]
        table.add_row(
            row.engine,
            str(row.batch),
            str(row.threads),
            f"{row.median_ms:.4g} ms",
            f"{row.low_ms:.4g} – {row.high_ms:.4g}",
            str(row.n),
            f"{row.median_ms / own.median_ms:.2f}",
            f"{row.warm.median_ms:.4g} ms" if row.warm else "",
            f"{row.warm.median_ms / own.warm.median_ms:.2f}" if row.warm and own.warm else "",
            f"{row.max_abs_diff:.1e}",
        )
    console = stdout_console()
    console.print(table)
    for line in (*_told(found), *(f"missing: {name}: {reason}" for name, reason in found.missing.items())):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _told(found: Any) -> Iterator[str]:
    """What is said of a Bench below its table."""
    if found.dequantised:
        yield "the others were given the float network that this one approximates: its weights times their scales"
    for verdict in found.verdicts():
        yield _judged(verdict, found.uninstalled)
        if verdict.warm is not None:
            name, faster = verdict.warm
            yield f"batch {verdict.batch}, {verdict.threads} threads, warm: {faster:.2f} times as fast as {name}"
    for name, tool in found.quantisers.items():
        rows = [row for row in found.rows if row.engine == name]
        error, same = max(row.relative_error for row in rows), min(row.same_choice for row in rows)
        yield (
            f"{name}: quantised by {tool} on noise; outputs off by {error:.1%} of their norm, "
            f"the same choice for {same:.0%} of images"
        )


def _judged(verdict: Any, uninstalled: Sequence[str]) -> str:
    """How much faster ours is, than what, and what it was not timed against."""
    from secateur.measure.bench import INSTALL

    name, kind = verdict.fastest_other, " in int8" if verdict.element == "int8" else ""
    faster = f"batch {verdict.batch}, {verdict.threads} threads: {verdict.times_faster:.2f} times as fast as"
    if not verdict.untimed:
        return f"{faster} the best rival{kind} ({name})"
    absent = [each for each in verdict.untimed if each.removesuffix("-int8") in uninstalled]
    if absent:
        added = f"{' and '.join(absent)} would be added by: {INSTALL}"
        return f"{faster} {name}, the best of those installed{kind}; {added}"
    return f"{faster} {name}, the best of those timed{kind}; not timed: {' and '.join(verdict.untimed)}"


def _counts(name: str, value: str, example: str) -> list[int]:
    found = numbers(name, value, int, example)
    if min(found, default=0) < 1:
        raise UsageError(f"--{name} {value!r}: expected whole numbers from 1 on separated by commas, as in {example}")
    return found


def _check_format(format: str) -> None:
    if format not in ("table", "json"):
        raise UsageError(f"--format {format!r}: expected table or json")


def _write(path: Path, force: bool, content: Callable[[], bytes]) -> None:
    """Make the content, write it under a temporary name, then rename."""
    from secateur.support.replacing import replacing

    if path.exists() and not force:
        raise SecateurError(f"{path} exists: choose another name, or replace it with --force")
    made = content()
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(made)
    except OSError as error:
        raise SecateurError(f"{path}: cannot be written: {error.strerror or error}; nothing was kept") from error


def _bytes(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} bytes"


VERBS = (pack, inspect, unpack, run, bench)
