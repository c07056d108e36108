"""Options that several verbs share, and how their words are read."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.console import Console

from secateur.errors import MissingExtraError, UsageError

DataDir = Annotated[
    Optional[Path],  # noqa: UP045 - typer reads annotations at run time on Python 3.10
    typer.Option("--data-dir", help="Folder that holds data sets.", envvar="SECATEUR_DATA", show_envvar=True),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def texts(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]


def numbers(name: str, value: str, kind: Any) -> list[Any]:
    try:
        return [kind(part) for part in texts(value)]
    except ValueError as error:
        what = "whole numbers" if kind is int else "numbers"
        raise UsageError(f"--{name} {value!r}: expected {what} separated by commas, as in {_EXAMPLES[name]}") from error


_EXAMPLES = {"ratios": "0,0.5,0.9", "seeds": "0,1,2"}


def require_torch(verb: str) -> None:
    if find_spec("torch") is None:
        raise MissingExtraError(f"`secateur {verb}` needs PyTorch: pip install 'secateur[torch]'")


def stdout_console() -> Console:
    """Standard output: as wide as its terminal, and wide enough for a whole table where it is piped."""
    return Console() if sys.stdout.isatty() else Console(width=int(os.environ.get("COLUMNS", "200")))
