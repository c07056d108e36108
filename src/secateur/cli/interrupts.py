"""Ctrl-C: the first unwinds what is under way, another ends the process at once. What is stored is whole either way."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

INTERRUPTED = 130


class Interrupts:
    """came: whether there was one."""

    came = False
    lasting = False

    def __call__(self, *_: object) -> None:
        if self.came:
            os._exit(INTERRUPTED)
        self.came = True
        raise KeyboardInterrupt

    def until_the_end(self) -> None:
        """From here on there is nothing to unwind: any Ctrl-C ends the process, also after the block."""
        self.came = self.lasting = True

    def unraisable(self, raised: Any) -> None:
        """A Ctrl-C in a place that cannot raise (a destructor, a callback) would be printed and forgotten."""
        if not issubclass(raised.exc_type, KeyboardInterrupt):
            sys.__unraisablehook__(raised)
            return
        with contextlib.suppress(OSError):
            os.write(2, b"secateur: interrupted; run the same command to go on where it stopped\n")
        os._exit(INTERRUPTED)


@contextlib.contextmanager
def interrupts() -> Iterator[Interrupts]:
    """Handle Ctrl-C in this way inside the block, in the main thread."""
    handler = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield handler
        return
    before, hook = signal.signal(signal.SIGINT, handler), sys.unraisablehook
    sys.unraisablehook = handler.unraisable
    try:
        yield handler
    finally:
        if not handler.lasting:
            sys.unraisablehook = hook
            signal.signal(signal.SIGINT, before)
