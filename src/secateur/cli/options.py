"""Options that several verbs share, and how their words are read."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from secateur.cli.printing import stdout_console
from secateur.errors import MissingExtraError, SecateurError, UsageError
from secateur.network.limits import NO_LIMITS, Limits
from secateur.support import settings

DataDir = Annotated[
    Optional[Path],  # noqa: UP045 - typer reads annotations at run time on Python 3.10
    typer.Option("--data-dir", help="Folder that holds data sets.", envvar=settings.DATA.name, show_envvar=True),
]
OwnTask = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        help="Your own Task, package.module:callable, instead of --data; a --model of your own is then taken as its "
        "callable gives it, unless --epochs says how long to train it.",
        show_default=False,
    ),
]
LimitsText = Annotated[
    str,
    typer.Option(
        "--limits",
        help="What the file may ask for, where not the defaults: multiply-adds=1e15,memory=8e9; none for all.",
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

Mean = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        help="Of pixels in [0, 1], one number or one per channel; 0 with --std 1 leaves them as they are.",
        show_default="the data set's own",
    ),
]
Std = Annotated[Optional[str], typer.Option(help="Likewise.")]  # noqa: UP045
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


def texts(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]


def numbers(name: str, value: str, kind: Any, example: str) -> list[Any]:
    try:
        return [kind(part) for part in texts(value)]
    except ValueError as error:
        what = "whole numbers" if kind is int else "numbers"
        raise UsageError(f"--{name} {value!r}: expected {what} separated by commas, as in {example}") from error


def channels(name: str, value: str | None) -> list[float] | None:
    """What --mean or --std says."""
    return None if value is None else numbers(name, value, float, "0.4914,0.4822,0.4465")


def folder_of(*names: str) -> str:
    """Names as a run folder's, where nobody chose one."""
    return re.sub(r"[ (),]+", "-", "-".join(names).replace(":", "-").replace("/", "-")).strip("-")


def limits(value: str) -> Limits:
    """The limits that --limits asks for. Raises UsageError for a name that is none, or no number."""
    if value.strip() == "none":
        return NO_LIMITS
    known = [each.name.replace("_", "-") for each in fields(Limits)]
    asked: dict[str, int | None] = {}
    for name, _, most in (part.partition("=") for part in texts(value)):
        try:
            asked[name.strip().replace("-", "_")] = None if most.strip() == "none" else int(float(most))
        except (ValueError, OverflowError):
            name = ""
        if name.strip() not in known:
            raise UsageError(f"--limits {value!r}: expected NAME=NUMBER, the names: {', '.join(known)}")
    return replace(Limits(), **asked)


def task_or_data(
    task: str | None, data: str, model: str, recipe: dict[str, Any], weights: object
) -> tuple[str, dict[str, Any]]:
    """The name of the data, and the changes to the recipe, that --task and --data make of each other."""
    if task is None:
        return data, recipe
    if data != "digits":
        raise UsageError(f"--task {task} and --data {data}: expected one of the two")
    if ":" not in task:
        raise UsageError(f"--task {task!r}: expected package.module:callable that gives a secateur.Task")
    own = all(":" in each for each in texts(model))
    return task, ({"epochs": 0, "learning_rate": 0.01} | recipe if own and weights is None else recipe)


def require_torch(verb: str) -> None:
    if find_spec("torch") is None:
        raise MissingExtraError(f"`secateur {verb}` needs PyTorch: pip install 'secateur[torch]'")


def print_result(result: Any) -> None:
    """A result that prints as tables; its lines are not broken, so that they can be copied."""
    from secateur.report import as_rich

    console = stdout_console()
    for note in result.notes:
        console.print(note, style="bold", markup=False, highlight=False, soft_wrap=True)
    for grid in result.grids():
        console.print(as_rich(grid, console.width))
    for line in result.summary():
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def command_line() -> str:
    """What was typed, so that it can be typed again."""
    return shlex.join(["secateur", *sys.argv[1:]])


def check_none_failed(result: Any, folder: Path) -> None:
    """Raises SecateurError where cells of a sweep failed, so that it exits with 1."""
    if result.failures:
        raise SecateurError(
            f"{len(result.failures)} of {len(result.rows) + len(result.failures)} cells failed; "
            f"see them with: secateur show {shlex.quote(str(folder))} --failures; run the same command to try again"
        )
