"""Bytes on disk, and memory that a piece of work took."""

from __future__ import annotations

import ctypes
import gc
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from secateur.support.replacing import room

Result = TypeVar("Result")

_STATUS = Path("/proc/self/status")
_ROLLUP = Path("/proc/self/smaps_rollup")
_CLEAR = Path("/proc/self/clear_refs")
_inside = False
"""Whether an only_new_garbage is going on."""


def file_bytes(write: Callable[[Path], object]) -> int:
    """The size of what `write` puts into the path that it is given; the file is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network"
        with room(path):
            write(path)
        return os.path.getsize(path)


def memory_of(work: Callable[[], Result]) -> tuple[Result, int | None, int | None]:
    """(result, peak, held): how far the resident memory rose at most during `work`, and how far after it, in bytes.

    Garbage and the allocator's free memory are given back first and the kernel's high-water mark reset, so that
    memory which is free but resident hides nothing. What is held counts anonymous pages alone: those of mapped
    files (libraries) come and go as the system likes. None, None where there is no Linux /proc to ask.
    """
    with only_new_garbage():
        gc.collect()
        _trim()
        before = _anonymous()
        if before is None or not _reset_high_water():
            return work(), None, None
        resident = _kilobytes(_STATUS)["VmRSS"]
        result = work()
        peak = _kilobytes(_STATUS)["VmHWM"] - resident
        gc.collect()
        _trim()
        held = max(0, (_anonymous() or 0) - before)
    return result, max(peak, held), held


@contextmanager
def only_new_garbage() -> Iterator[None]:
    """Collections inside the block look at what was made in it, and so cost next to nothing beside the million objects
    of PyTorch; for one memory_of, or around many of them."""
    global _inside
    if _inside:
        yield
        return
    own = not gc.get_freeze_count()  # which takes long: it counts; what is frozen already is somebody else's
    if own:
        gc.collect()
        gc.freeze()
    _inside = True
    try:
        yield
    finally:
        _inside = False
        if own:
            gc.unfreeze()


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


def _anonymous() -> int | None:
    """Bytes of this process that no file backs, in memory or swapped out; counted page by page, unlike VmRSS."""
    try:
        sizes = _kilobytes(_ROLLUP)
        return sizes["Anonymous"] - sizes["LazyFree"] + sizes["Swap"]
    except (OSError, KeyError):
        return None


def _kilobytes(table: Path) -> dict[str, int]:
    """The sizes of a table under /proc, in bytes by their names."""
    lines = (line.split() for line in table.read_text().splitlines())
    return {words[0].rstrip(":"): 1024 * int(words[1]) for words in lines if words[-1] == "kB"}
