"""What PyTorch prints while it traces, kept from the terminal."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

_STDERR = 2


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing reaches stderr inside, from Python, a logger of PyTorch's or a library in C++.

    What came is printed afterwards where nothing was raised, and else a note of the exception, for its traceback,
    from Python 3.11 on.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as file:
        try:
            with _torch_logs_only_what_is_critical(), contextlib.redirect_stderr(file), _descriptor_moved(file):
                yield
        except Exception as error:
            if sys.version_info >= (3, 11) and (said := _written(file)):
                error.add_note(f"PyTorch printed:\n{said}")
            raise
        sys.stderr.write(_written(file))


@contextmanager
def _torch_logs_only_what_is_critical() -> Iterator[None]:
    """torch.export logs a page about what it then raises."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _descriptor_moved(file: IO[str]) -> Iterator[None]:
    """What is written to file descriptor 2 goes to the file; where there is no descriptor 2, nothing can be."""
    try:
        kept = os.dup(_STDERR)
    except OSError:
        yield
        return
    try:
        os.dup2(file.fileno(), _STDERR)
        yield
    finally:
        os.dup2(kept, _STDERR)
        os.close(kept)


def _written(file: IO[str]) -> str:
    file.flush()
    file.seek(0)
    return file.read()
