"""The command line: parse, call, print."""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, Optional

import typer

import secateur
from secateur.cli.analysing import analyze
from secateur.cli.declared import options_from, recipe_from, with_options
from secateur.cli.executing import (
    Address,
    CpusPerCell,
    Executing,
    GpusPerCell,
    LatencyOn,
    MemoryPerCell,
    chosen_executor,
)
from secateur.cli.exporting import export
from secateur.cli.files import VERBS as FILE_VERBS
from secateur.cli.interrupts import INTERRUPTED, Interrupts, interrupts
from secateur.cli.options import (
    DataDir,
    Debug,
    Device,
    Mean,
    OwnTask,
    Std,
    channels,
    check_none_failed,
    command_line,
    folder_of,
    print_result,
    require_torch,
    task_or_data,
    texts,
)
from secateur.cli.panels import examples, grouped
from secateur.cli.printing import nobody_reads, outlets, say, stdout_console
from secateur.cli.pruning import prune
from secateur.cli.searching import search
from secateur.cli.study import paper
from secateur.cli.viewing import report, show
from secateur.cli.voices import Quiet, Verbose, ask, one_command, reporter, voiced
from secateur.errors import SecateurError, UsageError
from secateur.escaping import one_line
from secateur.records.spec import OPTIONS

DONE, FAILED, USAGE = 0, 1, 2

app = typer.Typer(
    help="Prune PyTorch networks and say honestly what that bought: accuracy, bytes, memory, milliseconds.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(help="List data sets and fetch them.", no_args_is_help=True)
app.add_typer(data_app, name="data")
_EXAMPLES = {
    search: examples(
        "secateur search --model lenet-5 --data mnist --max-drop 0.5",
        "secateur search --model mine:trained --task mine:task --quantize none,int8",
        "secateur search --model resnet-18 --data cifar-10 --max-bytes 1000000",
    ),
    prune: examples(
        "secateur prune model.onnx --ratio 0.8 --repair reconstruct --calibration inputs.npz -o pruned.onnx"
    ),
}
for verb in (search, paper, show, report, export, prune, *FILE_VERBS, analyze):
    app.command(epilog=_EXAMPLES.get(verb))(grouped(verb))


@app.command(
    epilog=examples(
        "secateur sweep --model lenet-5 --data mnist --ratios 0,0.5,0.8,0.9 --seeds 0,1",
        "secateur sweep --model mine:trained --task mine:task --ratios 0,0.5,0.8 --quantize none,int8",
    )
)
@grouped
@with_options(OPTIONS, "out", "device", listed=True)
def sweep(
    model: Annotated[
        str, typer.Option(help="Networks, separated by commas; your own as package.module:callable.")
    ] = "lenet-300-100",
    data: Annotated[str, typer.Option(help="Data sets, separated by commas; your own likewise.")] = "digits",
    task: OwnTask = None,
    out: Annotated[
        Optional[Path], typer.Option(help="Run folder.", show_default="runs/MODEL-DATA")  # noqa: UP045
    ] = None,
    mean: Mean = None,
    std: Std = None,
    device: Device = "auto",
    select: Annotated[
        str, typer.Option(help="validation: sparsest within the tolerance; paper: best on test data.")
    ] = "validation",
    tolerance: Annotated[float, typer.Option(help="Points of validation accuracy that the best may lose.")] = 1.0,
    executor: Executing = "local",
    address: Address = None,
    cpus_per_cell: CpusPerCell = None,
    gpus_per_cell: GpusPerCell = None,
    memory_per_cell: MemoryPerCell = None,
    latency_on: LatencyOn = "cell",
    data_dir: DataDir = None,
    debug: Debug = False,
    **words: Any,
) -> None:
    """Train, prune at every ratio, measure, store, and keep the best. Run again to go on where it stopped."""
    require_torch("sweep")
    from secateur.experiments.sweeping import plan_sweep, run_sweeps
    from secateur.records.selection import Selection

    data, recipe = task_or_data(task, data, model, recipe_from(words), words.get("weights"))
    plan = plan_sweep(
        texts(model),
        texts(data),
        mean=channels("mean", mean),
        std=channels("std", std),
        recipe=recipe,
        **options_from(OPTIONS, words, listed=True),
    )
    folder = out or Path("runs") / folder_of(*plan.models, *plan.data)
    progress = reporter()
    cluster = {"address": address, "cpus": cpus_per_cell, "gpus": gpus_per_cell, "memory": memory_per_cell}
    with chosen_executor(executor, cluster, latency_on, progress) as (where, timing):
        result = run_sweeps(
            (plan,),
            folder,
            selection=Selection(select, tolerance),
            data_dir=data_dir,
            device=device,
            reporter=progress,
            executor=where,
            latency_on=timing,
            command=command_line(),
        )
    print_result(result)
    check_none_failed(result, folder)


@app.command()
def demo(out: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/demo"), debug: Debug = False) -> None:
    """Train a small network on digits that come with scikit-learn, prune it, and write a report: two minutes."""
    for words in (["sweep", "--out", str(out)], ["report", str(out)]):
        if code := app(args=words, prog_name="secateur", standalone_mode=False):
            raise typer.Exit(code)


@app.command()
def methods(debug: Debug = False) -> None:
    """Name the methods that score weights, what each needs, its equation and its paper."""
    from rich.table import Table

    require_torch("methods")
    from secateur.pruning.score import METHODS

    table = Table(caption=_METHODS_LEGEND, caption_justify="left")
    for heading in ("name", "needs", "score of a weight", "paper"):
        table.add_column(heading, overflow="fold")
    for name, method in METHODS.items():
        table.add_row(name, method.needs, method.equation, method.paper)
    stdout_console().print(table)


_METHODS_LEGEND = (
    "w: the weight, g: the loss's gradient by it, x: its input, H: curvature. Higher scores stay. "
    "Your own: --methods package.module:callable (docs/adding-a-method.md). "
    "random keeping another method's layer proportions: --methods random --scopes like:magnitude/global."
)


@data_app.command("list")
def data_list(data_dir: DataDir = None, debug: Debug = False) -> None:
    """Name the data sets and where each was found."""
    from rich.table import Table

    from secateur.training.catalogue import SOURCES, locate

    table = Table()
    for heading in ("name", "what it is", "found in"):
        table.add_column(heading, overflow="fold")
    for source in SOURCES.values():
        found = "embedded" if not source.files else locate(source, data_dir)
        table.add_row(source.name, source.about, str(found or f"not found: secateur data fetch {source.name}"))
    stdout_console().print(table)


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="A name from `secateur data list`.")],
    data_dir: DataDir = None,
    debug: Debug = False,
) -> None:
    """Download a data set, checked by its published digests; goes on where it was interrupted."""
    from secateur.training.catalogue import fetch, find_source

    source = find_source(name)
    with reporter().task(f"fetching {name}", 1) as task:
        seen: dict[str, int] = {}

        def advance(file: str, have: int, total: int) -> None:
            seen[file] = have
            task.advance(0, lambda: f"{file} {have / 1e6:.1f} of {total / 1e6:.1f} MB")

        folder = fetch(source, data_dir, advance)
    say(f"{name} is in {folder}")


@app.command()
def doctor(data_dir: DataDir = None, debug: Debug = False) -> None:
    """Say what Secateur finds here: versions, processor, threads, data sets."""
    from secateur.records.environment import available_cores, cpu_features, environment, installed_version
    from secateur.support.settings import user_cache
    from secateur.training.catalogue import SOURCES, locate, search_path

    here = environment()
    lines = [
        ("secateur", here.versions["secateur"]),
        ("python", here.versions["python"]),
        *((name, installed_version(name) or "missing: pip install 'secateur[torch]'") for name in _NEEDED),
        ("processor", here.cpu),
        ("instruction sets", ", ".join(cpu_features()) or "unknown"),
        ("cores", str(available_cores())),
        *_torch_facts(),
        ("cache", str(user_cache())),
        ("data searched in", ", ".join(str(path) for path in search_path(data_dir))),
        *(
            (
                f"data {source.name}",
                "embedded" if not source.files else str(locate(source, data_dir) or "not found"),
            )
            for source in SOURCES.values()
        ),
    ]
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        say(f"{name:<{width}}  {value}")


_NEEDED = ("torch", "scikit-learn", "pooch", "numpy", "safetensors", "zstandard")


def _torch_facts() -> list[tuple[str, str]]:
    try:
        import torch
    except ImportError:
        return []
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return [("PyTorch threads", str(torch.get_num_threads())), ("CUDA device", cuda)]


def _version(wanted: bool) -> None:
    if wanted:
        say(f"secateur {secateur.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    ask(quiet, verbose)


for _verb in (*app.registered_commands, *data_app.registered_commands):
    if _verb.callback is not None:
        _verb.callback = voiced(_verb.callback)


_PRINTING = frozenset({"show", "inspect", "bench", "analyze", "methods", "doctor", "data"})
"""Verbs that have failed where what they print is lost; others have left their work in files."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line. Exit codes: 0 done, 1 failed, 2 usage, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words in ([], ["data"]):
        words.append("--help")
    with outlets() as (out, _), one_command(), interrupts() as interrupted:
        code = _run(words, interrupted)
        out.flush()
        if out.lost is not None and not nobody_reads(out.lost):
            say(f"secateur: standard output cannot be written: {out.lost.strerror}; the rest was dropped", sys.stderr)
            code = code or (FAILED if _PRINTING.intersection(words[:1]) else DONE)
        if arguments is None:
            interrupted.until_the_end()
    sys.exit(code)


def _run(words: Sequence[str], interrupted: Interrupts) -> int:
    """What main exits with; whatever went wrong is told on standard error."""
    try:
        code = app(args=words, prog_name="secateur", standalone_mode=False) or DONE
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        if "--debug" in words:
            raise
        message, code = _explain(error)
        if not interrupted.came:  # else the error is what a library made of it
            say(f"secateur: {one_line(message)}", sys.stderr)
            return code
        code = INTERRUPTED
    if code == INTERRUPTED:  # which typer returns or raises for Ctrl-C, depending on its version
        say("secateur: interrupted; run the same command to go on where it stopped", sys.stderr)
    return int(code)


def _explain(error: Exception) -> tuple[str, int]:
    """One line for a person, and the exit code."""
    if isinstance(error, SecateurError):
        return str(error), USAGE if isinstance(error, UsageError) else FAILED
    if hasattr(error, "format_message"):  # what typer raises for words that it cannot parse
        return f"{error.format_message()} See: secateur --help", USAGE
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{error.filename or 'writing'}: {error.strerror}; make room and run the same command again", FAILED
    return f"unexpected {type(error).__name__}: {error}; --debug shows the traceback, please report it", FAILED
