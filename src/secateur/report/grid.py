"""A table of texts, and how it looks on a terminal, in Markdown and in LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group
from rich.table import Table
from rich.text import Text

BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Grid:
    """Lines of texts under headings. The first `texts` columns are words and stand left, numbers stand right.

    curves: a last line for the terminal only, which draws each column; notes stand below.
    """

    title: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    texts: int
    notes: tuple[str, ...] = ()
    curves: tuple[str, ...] = ()


def as_rich(grid: Grid, marked: Sequence[int] = (), mark: str = "") -> Group:
    """For a terminal; the marked lines stand out and end with the mark."""
    table = Table(show_footer=bool(grid.curves))
    for position, column in enumerate(grid.columns):
        curve = grid.curves[position] if grid.curves else ""
        table.add_column(column, justify="left" if position < grid.texts else "right", overflow="fold", footer=curve)
    if marked:
        table.add_column("")
    for number, line in enumerate(grid.lines):
        chosen = number in marked
        cells = [*line, *([mark if chosen else ""] if marked else [])]
        table.add_row(*cells, style="bold green" if chosen else None)
    title = [Text(grid.title, style="bold")] if grid.title else []
    return Group(*title, table, *(Text(note, style="dim") for note in grid.notes))


def as_markdown(grid: Grid) -> str:
    rule = ["---" if position < grid.texts else "---:" for position in range(len(grid.columns))]
    body = [[text.replace("|", "\\|") for text in line] for line in grid.lines]
    title = [f"**{grid.title}**\n\n"] if grid.title else []
    notes = [f"\n{note}\n" for note in grid.notes]
    return "".join([*title, *(f"| {' | '.join(line)} |\n" for line in [grid.columns, rule, *body]), *notes])


def as_latex(grid: Grid) -> str:
    """A booktabs table: needs \\usepackage{booktabs}. Title and notes are comments."""
    alignment = "l" * grid.texts + "r" * (len(grid.columns) - grid.texts)
    lines = [
        *(f"% {text}" for text in (grid.title, *grid.notes) if text),
        f"\\begin{{tabular}}{{{alignment}}}",
        "\\toprule",
        _latex_line(grid.columns),
        "\\midrule",
        *map(_latex_line, grid.lines),
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


_LATEX = {
    "\\": r"\textbackslash{}", "%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#", "{": r"\{", "}": r"\}", "$": r"\$",
    "^": r"\^{}", "~": r"\~{}", "±": r"$\pm$", "–": "--", "×": r"$\times$", "Δ": r"$\Delta$", "<": r"$<$", ">": r"$>$",
}  # fmt: skip


def _latex_line(values: Sequence[str]) -> str:
    return " & ".join("".join(_LATEX.get(each, each) for each in value) for value in values) + r" \\"


def sparkline(values: Sequence[float | None], low: float = 0.0, high: float = 1.0) -> str:
    """Values between low and high as a row of blocks; a gap where there is none."""
    if high <= low:
        return ""
    steps = [None if value is None else (value - low) / (high - low) * (len(BLOCKS) - 1) for value in values]
    return "".join(" " if step is None else BLOCKS[max(0, min(len(BLOCKS) - 1, round(step)))] for step in steps)
