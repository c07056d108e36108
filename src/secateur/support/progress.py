"""Telling a person how long work will take: live bars on a terminal, a line now and then where output is piped."""

from __future__ import annotations

import enum
import logging
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from secateur.escaping import printable

REFRESH_SECONDS = 0.2
LINE_SECONDS = 15.0
_NOTHING: Callable[[], str] = lambda: ""  # noqa: E731


class PlainConsole(Console):
    """Prints texts as they are, escaped: no markup, no emoji for names with colons in them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text, keep="\n"), **options)


class Task(Protocol):
    def advance(self, steps: int = 1, note: Callable[[], str] = _NOTHING) -> None:
        """Count steps done. The note is asked for only when it is shown, so it may cost something."""


class Reporter(Protocol):
    def task(self, label: str, total: int, done: int = 0, *, brief: bool = False) -> AbstractContextManager[Task]:
        """A piece of work of `total` steps; the bar goes away when the block ends.

        brief: there are many such pieces, so where there is no terminal only one that takes long is spoken of.
        """

    def say(self, line: str, *, loud: bool = False) -> None:
        """Print a line above the bars; loud: so that nobody misses it."""

    def warn(self, line: str) -> None:
        """Likewise, of what makes numbers other than they seem."""


class _SilentTask:
    def advance(self, steps: int = 1, note: Callable[[], str] = _NOTHING) -> None:
        return None


SILENT = _SilentTask()


class SilentReporter:
    """For library use: says nothing, but for warnings, which go to the logger "secateur"."""

    @contextmanager
    def task(self, label: str, total: int, done: int = 0, *, brief: bool = False) -> Iterator[Task]:
        yield SILENT

    def say(self, line: str, *, loud: bool = False) -> None:
        return None

    def warn(self, line: str) -> None:
        logging.getLogger("secateur").warning(line)


class Voice(enum.Enum):
    """How much a reporter says."""

    QUIET = "warnings alone"
    USUAL = "usual"
    DETAILED = "of every piece of work, however brief, how long it took"


class ConsoleReporter:
    """Bars with time left on a terminal (standard error); elsewhere a line per task and one every 15 s."""

    def __init__(self, console: Console | None = None, *, voice: Voice = Voice.USUAL) -> None:
        self.console = console or PlainConsole(stderr=True)
        self._voice = voice
        self._bars: Progress | None = None

    def say(self, line: str, *, loud: bool = False) -> None:
        if self._voice is not Voice.QUIET:
            self._print(line, "bold" if loud else None)

    def warn(self, line: str) -> None:
        self._print(f"warning: {line}", "bold yellow")

    def _print(self, line: str, style: str | None) -> None:
        text = printable(line, keep="\n")
        self.console.print(text, style=style, highlight=False, markup=False, emoji=False, soft_wrap=True)

    @contextmanager
    def task(self, label: str, total: int, done: int = 0, *, brief: bool = False) -> Iterator[Task]:
        if self._voice is Voice.QUIET:
            yield SILENT
        elif self.console.is_terminal:
            with self._bar(label, total, done) as bar:
                yield bar
        else:
            task = _LineTask(self, label, total, done)
            yield task
            if self._voice is Voice.DETAILED or not (brief and task.is_short()):
                task.finish()

    @contextmanager
    def _bar(self, label: str, total: int, done: int) -> Iterator[_BarTask]:
        outermost = self._bars is None
        if self._bars is None:
            self._bars = _bars(self.console)
            self._bars.start()
        bars = self._bars
        handle = bars.add_task(printable(label), total=total, completed=done, note="")
        task, began = _BarTask(bars, handle), time.monotonic()
        try:
            yield task
            if self._voice is Voice.DETAILED:
                self.say(_done(label, time.monotonic() - began, task.note))
        finally:
            bars.remove_task(handle)
            if outermost:
                bars.stop()
                self._bars = None


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False, table_column=Column(ratio=3, no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=None, table_column=Column(ratio=2, min_width=8)),
        TextColumn("{task.completed}/{task.total}", table_column=Column(no_wrap=True)),
        TimeRemainingColumn(table_column=Column(no_wrap=True)),
        TextColumn("left", table_column=Column(no_wrap=True)),
        TextColumn(
            "{task.fields[note]}", markup=False, table_column=Column(ratio=3, no_wrap=True, overflow="ellipsis")
        ),
        console=console,
        expand=True,
        transient=True,
    )


class _BarTask:
    def __init__(self, bars: Progress, handle: TaskID) -> None:
        self._bars, self._handle, self._steps, self._shown = bars, handle, 0, 0.0
        self.note: Callable[[], str] = _NOTHING

    def advance(self, steps: int = 1, note: Callable[[], str] = _NOTHING) -> None:
        self._steps += steps
        self.note = note
        now = time.monotonic()
        if now - self._shown >= REFRESH_SECONDS:
            self._bars.update(self._handle, advance=self._steps, note=printable(note()))
            self._steps, self._shown = 0, now


class _LineTask:
    def __init__(self, reporter: ConsoleReporter, label: str, total: int, done: int) -> None:
        self._reporter, self._label, self._total = reporter, label, total
        self._done = self._sampled_done = done
        self._started = self._printed = self._sampled = time.monotonic()
        self._paces: list[float] = []
        self._note: Callable[[], str] = _NOTHING

    def advance(self, steps: int = 1, note: Callable[[], str] = _NOTHING) -> None:
        self._done += steps
        self._note = note
        now = time.monotonic()
        if now - self._sampled >= REFRESH_SECONDS and self._done > self._sampled_done:
            self._paces.append((now - self._sampled) / (self._done - self._sampled_done))
            self._sampled, self._sampled_done = now, self._done
        if now - self._printed >= LINE_SECONDS:
            self._printed = now
            self._reporter.say(f"{self._label}: {self._done}/{self._total}, {self._left()} left {note()}".rstrip())

    def is_short(self) -> bool:
        return time.monotonic() - self._started < LINE_SECONDS

    def finish(self) -> None:
        self._reporter.say(_done(self._label, time.monotonic() - self._started, self._note))

    def _left(self) -> str:
        """By the median pace, so that one slow step (a cell that had to train first) misleads nobody."""
        return _clock((self._total - self._done) * statistics.median(self._paces)) if self._paces else "unknown time"


def _done(label: str, seconds: float, note: Callable[[], str]) -> str:
    return f"{label}: done in {_clock(seconds)} {note()}".rstrip()


def _clock(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
