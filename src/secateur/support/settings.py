"""What the environment says: every variable that is read, in one place, and the folder that follows from two of them.

Each is read when it is asked for, so that a change takes effect at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of the environment. about: what it says, in a line."""

    name: str
    about: str

    @property
    def value(self) -> str:
        """What it is set to, "" where it is not."""
        return os.environ.get(self.name, "")

    @contextmanager
    def during(self, value: str) -> Iterator[None]:
        """Set for this process, whatever it was, until the block ends."""
        before = os.environ.get(self.name)
        os.environ[self.name] = value
        try:
            yield
        finally:
            if before is None:
                del os.environ[self.name]
            else:
                os.environ[self.name] = before

    def default(self, value: str) -> None:
        """Set it, for this process and those that it starts, where it is not set."""
        os.environ.setdefault(self.name, value)


DATA = Variable("SECATEUR_DATA", "Folder that holds data sets, where --data-dir names none.")
CACHE = Variable("SECATEUR_CACHE", "Folder of trained networks, downloads and measured costs.")
XDG_CACHE = Variable("XDG_CACHE_HOME", "Folder of all programs' caches, ~/.cache where it is not set.")
KERNEL = Variable("SECATEUR_KERNEL", "Kernel that sessions run on: one of runtime.available_kernels().")
CALIBRATE = Variable("SECATEUR_CALIBRATE", "0: the cost model takes its built-in constants; none are measured.")
COLUMNS = Variable("COLUMNS", "Characters in a line where output is piped.")
RAY_USAGE = Variable("RAY_USAGE_STATS_ENABLED", "1: a Ray that is started here tells its makers of its use.")
NNCF = Variable("NNCF_CI", "1: NNCF, with which a rival is quantised, tells its makers nothing of its use.")

VARIABLES = (DATA, CACHE, XDG_CACHE, KERNEL, CALIBRATE, COLUMNS, RAY_USAGE, NNCF)


def user_cache() -> Path:
    """Where trained networks, downloads and measured costs are kept: SECATEUR_CACHE, or the user's cache folder."""
    if chosen := CACHE.value:
        return Path(chosen).expanduser()
    return Path(XDG_CACHE.value or Path.home() / ".cache") / "secateur"
