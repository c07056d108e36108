"""Names of a user's own things: "package.module:callable"."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from secateur.errors import CallableError, UsageError


def import_callable(reference: str, what: str) -> Callable[..., Any]:
    """The object that "package.module:callable" names; the current folder is searched too.

    Raises UsageError for a malformed reference, CallableError where it cannot be imported.
    """
    module_name, _, attribute = reference.partition(":")
    if not module_name or not attribute:
        raise UsageError(f"{what} {reference!r}: expected package.module:callable")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise CallableError(f"{what} {reference!r}: cannot be imported from {os.getcwd()}: {error}") from error
    if not callable(found):
        raise CallableError(f"{what} {reference!r}: expected a callable, got {type(found).__name__}")
    return found


def source_digest(found: Callable[..., Any]) -> str:
    """Of the file that defines a callable, so that what an edited one gives is not taken for the former's; "" where
    there is none."""
    try:
        text = Path(inspect.getsourcefile(found) or "").read_bytes()
    except (OSError, TypeError):
        return ""
    return hashlib.sha256(text).hexdigest()[:16]
