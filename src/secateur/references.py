"""Names of a user's own things, "package.module:callable", and what happens when they are used."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from secateur.errors import CallableError, SecateurError, UsageError


def import_callable(reference: str, what: str) -> Callable[..., Any]:
    """The object that "package.module:callable" names; the current folder is searched too.

    Raises UsageError for a malformed reference, CallableError where it cannot be imported, whatever its module raises.
    """
    module_name, _, attribute = reference.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), *attribute.split("."))):
        raise UsageError(f"{what} {reference!r}: expected package.module:callable, as in mymodule:MyClass")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    with own_code(CallableError, f"{what} {reference!r}: cannot be imported from {os.getcwd()}"):
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    if not callable(found):
        raise CallableError(f"{what} {reference!r}: expected a callable, got {type(found).__name__}")
    return found


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
_LIBRARIES = (str(Path(__file__).parent), str(Path(os.__file__).parent), "<")


def _is_users(filename: str) -> bool:
    return not filename.startswith(_LIBRARIES) and "site-packages" not in filename


def source_digest(found: Callable[..., Any]) -> str:
    """Of the file that defines a callable, so that what an edited one gives is not taken for the former's; "" where
    there is none."""
    try:
        text = Path(inspect.getsourcefile(found) or "").read_bytes()
    except (OSError, TypeError):
        return ""
    return hashlib.sha256(text).hexdigest()[:16]
