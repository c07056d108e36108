"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from secateur.errors import ReportError


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file of another name beside `path`, then give it that name.

    A failure leaves what was there, and nothing else. Raises ReportError where the place cannot be written.
    """
    temporary = path.with_name(f"{path.name}.writing")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        raise ReportError(f"{path}: cannot be written: {error.strerror or error}; name another place") from error
    finally:
        if temporary.exists():
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """A text file, whole or not at all; see write_whole."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
