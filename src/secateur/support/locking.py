"""Locks on open files that end with their holder, where the system has such."""

from __future__ import annotations

import errno
import sys

if sys.platform == "win32":
    LOCKS = False
    """Whether there are any."""

    def lock(handle: int, *, wait: bool = True) -> None:
        """Take the lock of an open file. Raises OSError where another has it and we do not wait, or there are none."""
        raise OSError(errno.ENOSYS, "files have no locks here")

else:
    import fcntl

    LOCKS = True
    """Whether there are any."""

    def lock(handle: int, *, wait: bool = True) -> None:
        """Take the lock of an open file. Raises OSError where another has it and we do not wait, or there are none."""
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
