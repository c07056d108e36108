"""Names of a user's own things, "package.module:callable", and what happens when they are used."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from secateur.errors import CallableError, SecateurError, UsageError
from secateur.support.sources import edited_files, former_digest, loaded_now, planned_digest

MARK = "#"
"""Between the name and the digest of a module or a task that a program holds."""
_SHOWN = 4


def is_object(name: str) -> bool:
    """Whether a name is that of something that a program holds (training.objects)."""
    return MARK in name


def short(name: str) -> str:
    """A name as people are shown it: of something that a program holds with the beginning of its digest."""
    called, mark, digest = name.partition(MARK)
    return f"{called}{mark}{digest[:_SHOWN]}"


def import_callable(reference: str, what: str, or_a: type | None = None) -> Any:
    """The object that "package.module:callable" names; the current folder is searched too. or_a: what will do, too.

    Raises UsageError for a malformed reference, CallableError where it cannot be imported, whatever its module raises.
    """
    module_name, _, attribute = reference.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), *attribute.split("."))):
        raise UsageError(f"{what} {reference!r}: expected package.module:callable, as in mymodule:MyClass")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    before = set(sys.modules)
    with own_code(CallableError, f"{what} {reference!r}: cannot be imported from {os.getcwd()}"):
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    loaded_now(sys.modules.keys() - before)
    if not callable(found) and not (or_a is not None and isinstance(found, or_a)):
        raise CallableError(f"{what} {reference!r}: expected a callable, got {type(found).__name__}")
    return found


def planned_source(reference: str, what: str) -> str:
    """Sixteen hex digits of the code that "package.module:callable" names, by its files as they are now: to be told
    from what Python has loaded (sources.source_digest). "" for a name that is no such reference."""
    return planned_digest(reference, import_callable(reference, what)) if ":" in reference else ""


def former_source(reference: str, what: str) -> str:
    """What versions that looked at the callable's own file alone took for planned_source."""
    return former_digest(import_callable(reference, what)) if ":" in reference else ""


def check_unedited(reference: str, what: str) -> None:
    """Raises CallableError where a file that the callable needs is not what Python has loaded of it."""
    edited = edited_files(reference, import_callable(reference, what)) if ":" in reference else []
    if edited:
        raise CallableError(
            f"{what} {reference!r}: {edited[0]} was edited after Python had loaded it: start Python again, or reload it"
        )


@contextlib.contextmanager
def own_code(error: type[SecateurError], place: str) -> Iterator[None]:
    """Around a call of a user's code: whatever it raises becomes an error of one line that says where.

    Also an attempt to end the process (SystemExit). Secateur's own errors and Ctrl-C pass.
    """
    try:
        yield
    except (SecateurError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as raised:
        raise error(f"{place}: {described(raised)}") from raised


def described(raised: BaseException) -> str:
    """What was raised, in one line, with the file and line of the user's that it came from."""
    text = next((line.strip() for line in str(raised).splitlines() if line.strip()), "")
    told = f"{type(raised).__name__}: {text[:_LONGEST]}" if text else type(raised).__name__
    frames = [frame for frame in traceback.extract_tb(raised.__traceback__) if _is_users(frame.filename)]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return told + place


_LONGEST = 200
"""Characters of what was raised: an error may print a whole network."""
_LIBRARIES = (str(Path(__file__).parents[1]), str(Path(os.__file__).parent), "<")


def _is_users(filename: str) -> bool:
    return not filename.startswith(_LIBRARIES) and "site-packages" not in filename
