"""Files that are there whole or not at all, and nothing but files."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from secateur.errors import SpaceError
from secateur.support.locking import LOCKS, lock

_ENDING = ".writing"
_NONE_LEFT = 1 << 16
_FULL = "No space left on device"


def open_regular(path: str | Path) -> BinaryIO:
    """A file to read. Raises OSError for a pipe, which would be waited for, and a device, which may never end."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder, expected a file", str(path))
    if not stat.S_ISREG(mode):
        raise OSError(
            errno.EINVAL, "it is a pipe or a device, expected a regular file: save it as one first", str(path)
        )
    return open(path, "rb")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Another name beside `path` to write to: the file gets its own name when the block ends well.

    Otherwise what was there stays, and nothing else. The file is as readable as any new file is, whatever the writer
    chose. What writers left beside it that were killed is taken away first. Raises OSError where the place cannot be
    written, or holds what is no regular file (a folder, a device).
    """
    if os.path.lexists(path) and not path.is_file():
        raise FileExistsError(errno.EEXIST, "something is there that is no regular file", str(path))
    _remove_leftovers(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{_ENDING}")
    with room(path):
        held = _locked(temporary)
    if not LOCKS:  # then a file that is open cannot get another name, either
        os.close(held)
    try:
        with room(path):
            mode = temporary.stat().st_mode
            yield temporary
            temporary.chmod(mode)
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if LOCKS:
            os.close(held)


@contextlib.contextmanager
def room(path: Path) -> Iterator[None]:
    """Whatever the writer of `path` raises inside the block because the disk is full becomes a SpaceError."""
    try:
        yield
    except Exception as error:
        if not _is_full(error, path.parent):
            raise
        raise SpaceError(f"{path}: cannot be written: {_FULL}; make room and run the same command again") from error


def _is_full(error: BaseException | None, folder: Path) -> bool:
    """PyTorch and safetensors say it in texts of their own, or not at all."""
    if error is None or isinstance(error, SpaceError):
        return False
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or _FULL in str(error):
        return True
    with contextlib.suppress(OSError):
        if isinstance(error, RuntimeError) and shutil.disk_usage(folder).free < _NONE_LEFT:
            return True
    return _is_full(error.__cause__ or error.__context__, folder)


def _locked(path: Path) -> int:
    """A new file that is locked as long as what is returned stays open: while its writer lives."""
    while True:
        held = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        with contextlib.suppress(OSError):  # some file systems have no locks, and then nobody takes leftovers away
            lock(held)
        if _is_at(held, path):
            return held
        os.close(held)  # taken for a leftover before it was locked


def _is_at(held: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(held), path.stat())
    except OSError:
        return False


def _remove_leftovers(folder: Path) -> None:
    """Files that were being written when their writers were killed: those that nobody holds a lock on.

    Where files have no locks, nobody can tell.
    """
    if not LOCKS:
        return
    try:
        names = [each for each in os.listdir(folder) if each.startswith(".") and each.endswith(_ENDING)]
    except OSError:
        return
    for name in names:
        with contextlib.suppress(OSError):
            _remove_unlocked(folder / name)


def _remove_unlocked(path: Path) -> None:
    held = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        lock(held, wait=False)
        path.unlink()
    finally:
        os.close(held)
