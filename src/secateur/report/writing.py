"""Files that are there whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from secateur.errors import ReportError
from secateur.support.replacing import replacing


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file of another name beside `path`, then give it that name.

    A failure leaves what was there, and nothing else. Raises ReportError where the place cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            write(temporary)
    except OSError as error:
        raise ReportError(f"{path}: cannot be written: {error.strerror or error}; name another place") from error


def write_text(path: Path, text: str) -> None:
    """A text file, whole or not at all; see write_whole."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
