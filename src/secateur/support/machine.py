"""What this machine has, as far as the system says."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

UNKNOWN_BYTES = 1 << 33
_LIMITS = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Of a container: of control groups of version 2 and of version 1."""


def memory_bytes() -> int:
    """The memory that this process may take: the machine's, or less where a container has less; 8 GiB where neither is
    known."""
    known = []
    with contextlib.suppress(AttributeError, ValueError, OSError):  # Windows has no sysconf
        known.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in _LIMITS:
        with contextlib.suppress(OSError, ValueError):  # "max" is no number
            known.append(int(path.read_text()))
    return min(known, default=UNKNOWN_BYTES)
