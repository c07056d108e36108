"""What the command line prints: a stranger's names escaped, and a failure of the output is none of the work."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from secateur.escaping import printable
from secateur.support import settings
from secateur.support.progress import PlainConsole


def say(line: object = "", stream: TextIO | None = None) -> None:
    """Print one line as it is, on standard output unless another stream is named."""
    print(printable(str(line)), file=stream)


def say_lines(text: str, end: str = "\n") -> None:
    """Print a text of several lines on standard output."""
    print(printable(text, keep="\n\t"), end=end)


def stdout_console() -> PlainConsole:
    """Standard output: as wide as its terminal, and wide enough for a whole table where it is piped."""
    return PlainConsole() if sys.stdout.isatty() else PlainConsole(width=_columns())


def _columns() -> int:
    """What COLUMNS says, 200 where that is no number."""
    told = settings.COLUMNS.value
    return int(told) if told.isdecimal() and int(told) else 200


class Outlet:
    """A stream that goes on when nothing can be written to it any more: the rest is dropped, and `lost` says why.

    What its encoding lacks is written as an escape.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.lost: OSError | None = None
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]

    def write(self, text: str) -> int:
        return self._try(self._stream.write, text) or 0

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, function: Any, *arguments: str) -> Any:
        if self.lost is not None:
            return None
        try:
            return function(*arguments)
        except OSError as error:
            self.lost = error
            with contextlib.suppress(OSError, ValueError):  # what is buffered goes there too
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def outlets() -> Iterator[tuple[Outlet, Outlet]]:
    """Standard output and error as Outlets, also where they were closed before Python began."""
    before = sys.stdout, sys.stderr
    made = tuple(Outlet(stream or open(os.devnull, "w")) for stream in before)  # noqa: SIM115
    sys.stdout, sys.stderr = made
    try:
        yield made[0], made[1]
    finally:
        for each in made:
            each.flush()
        sys.stdout, sys.stderr = before


def nobody_reads(error: OSError) -> bool:
    """Whether whoever read the output has gone, as `head` does when it has seen enough."""
    return error.errno in (errno.EPIPE, errno.EBADF)
