"""Bytes on disk, and memory that a piece of work took."""

from __future__ import annotations

import ctypes
import gc
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def file_bytes(write: Callable[[Path], object]) -> int:
    """The size of what `write` puts into the path that it is given; the file is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network"
        write(path)
        return os.path.getsize(path)


def memory_of(work: Callable[[], Result]) -> tuple[Result, int | None, int | None]:
    """(result, peak, held): how far the resident memory rose at most during `work`, and how far after it, in bytes.

    The allocator's free memory is given back first and the kernel's high-water mark reset, so that memory
    which is free but resident hides nothing. None, None where there is no Linux /proc to ask.
    """
    gc.collect()
    _trim()
    if not _reset_high_water():
        return work(), None, None
    before = _resident("VmRSS")
    result = work()
    peak = _resident("VmHWM")
    gc.collect()
    _trim()
    return result, max(0, peak - before), max(0, _resident("VmRSS") - before)


def _trim() -> None:
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        return


def _reset_high_water() -> bool:
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def _resident(field: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024
