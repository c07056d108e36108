"""Results that print as tables: on a terminal, in a notebook, as text. Needs no PyTorch."""

from __future__ import annotations

import io
import shutil
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from secateur.report.grid import Grid, as_html, as_rich


@dataclass(frozen=True, slots=True)
class Tables:
    """What there is to know first, grids as wide as the console, then lines."""

    notes: Sequence[str]
    grids: Sequence[Grid]
    lines: Sequence[str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from (Text(note, style="bold") for note in self.notes)
        yield from (as_rich(grid, options.max_width) for grid in self.grids)
        yield from map(Text, self.lines)


class Printed:
    """Shown as tables by print, rich and notebooks."""

    __slots__ = ()
    notes: tuple[str, ...]

    @abstractmethod
    def grids(self) -> Sequence[Grid]:
        """The tables."""

    @abstractmethod
    def summary(self) -> Sequence[str]:
        """The lines that follow them."""

    def __rich__(self) -> Tables:
        return Tables(self.notes, self.grids(), self.summary())

    def __str__(self) -> str:
        width = shutil.get_terminal_size((120, 24)).columns
        console = Console(file=io.StringIO(), width=width, color_system=None, force_jupyter=False)
        console.print(self)
        return str(console.file.getvalue()).rstrip("\n")  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        notes = (f"<p><b>{escape(note)}</b></p>" for note in self.notes)
        lines = (f"<p>{escape(line)}</p>" for line in self.summary())
        return "".join([*notes, *map(as_html, self.grids()), *lines])
