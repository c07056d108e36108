"""How much is said: --quiet and --verbose, before a verb or behind it."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import sys
import time
import typing
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Annotated, Any

import typer
from typer.models import OptionInfo

from secateur.cli.printing import say
from secateur.errors import UsageError
from secateur.support.progress import ConsoleReporter, Voice

_VOICE: ContextVar[Voice] = ContextVar("_VOICE", default=Voice.USUAL)
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results, warnings and errors only.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Say also what runs here, and how long each piece of work took.")
]


def reporter() -> ConsoleReporter:
    """Progress on standard error, as much as was asked for."""
    return ConsoleReporter(voice=_VOICE.get())


def hint(line: str) -> None:
    """Print what is no result, but what may be done next: not where it is quiet."""
    if _VOICE.get() is not Voice.QUIET:
        say(line)


@contextlib.contextmanager
def one_command() -> Iterator[None]:
    """What is asked for meanwhile is forgotten afterwards."""
    token = _VOICE.set(Voice.USUAL)
    try:
        yield
    finally:
        _VOICE.reset(token)


def ask(quiet: bool, verbose: bool) -> None:
    """Set how much is said from here on. Raises UsageError for both."""
    if quiet and verbose:
        raise UsageError("--quiet and --verbose: expected one of the two")
    if quiet or verbose:
        _VOICE.set(Voice.QUIET if quiet else Voice.DETAILED)


def voiced(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb with --quiet and --verbose beside --debug, which it has last."""
    whole = inspect.signature(verb, eval_str=True)
    parameters = [each for each in whole.parameters.values() if each.kind is not each.VAR_KEYWORD]
    panel = _option_of(parameters[-1].annotation).rich_help_panel
    asked = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_under(panel, annotation))
        for name, annotation in {"quiet": Quiet, "verbose": Verbose}.items()
    ]

    @functools.wraps(verb)
    def said(*arguments: Any, quiet: bool, verbose: bool, **words: Any) -> None:
        ask(quiet, verbose)
        with _told():
            verb(*arguments, **words)

    said.__signature__ = whole.replace(parameters=[*parameters, *asked])  # type: ignore[attr-defined]
    return said


def _under(panel: str | None, annotation: Any) -> Any:
    """A flag under a heading of the help."""
    option = copy.copy(_option_of(annotation))
    option.rich_help_panel = panel
    return Annotated[bool, option]


def _option_of(annotation: Any) -> OptionInfo:
    return next(each for each in typing.get_args(annotation) if isinstance(each, OptionInfo))


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Where it is wished for, what runs here, and afterwards how long it took."""
    if _VOICE.get() is not Voice.DETAILED:
        yield
        return
    from secateur.records.environment import available_cores, environment

    here, began = environment(), time.monotonic()
    versions = ", ".join(f"{name} {version}" for name, version in here.versions.items() if version)
    say(f"{versions}; {here.cpu}, {available_cores()} cores", sys.stderr)
    yield
    say(f"took {time.monotonic() - began:.1f} s", sys.stderr)
