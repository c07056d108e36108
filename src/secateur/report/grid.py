"""A table of texts, and how it looks on a terminal, in HTML, in Markdown and in LaTeX."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from rich.cells import cell_len
from rich.console import Group, JustifyMethod
from rich.table import Table
from rich.text import Text

from secateur.escaping import printable

BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Grid:
    """Lines of texts under headings. The first `texts` columns are words and stand left, numbers stand right.

    curves: a last line for the terminal only, which draws each column; notes stand below. ranks: the columns in the
    order in which a narrow terminal keeps them, by default as they stand. elsewhere: where those are that it has no
    room for, as in "--format csv". marked: lines that stand out, and end with the mark.
    """

    title: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    texts: int
    notes: tuple[str, ...] = ()
    curves: tuple[str, ...] = ()
    ranks: tuple[int, ...] = ()
    elsewhere: str = ""
    marked: tuple[int, ...] = ()
    mark: str = ""


def narrowed(grid: Grid, width: int) -> Grid:
    """The grid without as many columns, the last in rank first, as a terminal of this width has no room for; a note
    names them."""
    ranked, dropped = list(grid.ranks or range(len(grid.columns))), []
    while len(ranked) > grid.texts + 2 and _width(grid, ranked) > width:
        dropped.append(grid.columns[ranked.pop()])
    if not dropped:
        return grid
    kept = sorted(ranked)
    named = [name for name in dict.fromkeys(dropped) if name != "÷"]
    ways = ", or ".join(["widen the terminal", *([grid.elsewhere] if grid.elsewhere else [])])
    return dataclasses.replace(
        grid,
        columns=_of(grid.columns, kept),
        lines=tuple(_of(line, kept) for line in grid.lines),
        curves=_of(grid.curves, kept) if grid.curves else (),
        ranks=(),
        notes=(f"No room for: {', '.join(named)} ({ways}).", *grid.notes),
    )


def _of(texts: Sequence[str], kept: Sequence[int]) -> tuple[str, ...]:
    return tuple(texts[position] for position in kept)


def _width(grid: Grid, kept: Sequence[int]) -> int:
    """Characters that the columns take between their rules."""
    lines = [grid.columns, *grid.lines, *([grid.curves] if grid.curves else [])]
    return 1 + sum(3 + max(cell_len(line[position]) for line in lines) for position in kept)


def as_rich(grid: Grid, width: int | None = None) -> Group:
    """For a terminal, of a width if one is given."""
    marked = grid.marked
    grid = _printable(grid)
    if width:
        grid = narrowed(grid, width - (len(grid.mark) + 3 if marked else 0))
    table = Table(show_footer=bool(grid.curves))
    for position, column in enumerate(grid.columns):
        curve = Text(grid.curves[position] if grid.curves else "")
        side: JustifyMethod = "left" if position < grid.texts else "right"
        table.add_column(Text(column), justify=side, overflow="fold", footer=curve)
    if marked:
        table.add_column("")
    for number, line in enumerate(grid.lines):
        chosen = number in marked
        cells = [*line, *([grid.mark if chosen else ""] if marked else [])]
        table.add_row(*map(Text, cells), style="bold green" if chosen else None)
    title = [Text(grid.title, style="bold")] if grid.title else []
    return Group(*title, table, *(Text(note, style="dim") for note in grid.notes))


def as_html(grid: Grid) -> str:
    """For a notebook; the marked lines are bold."""

    def row(texts: Sequence[str], tag: str, bold: bool = False) -> str:
        style = ' style="font-weight:bold"' if bold else ""
        sides = ("left" if position < grid.texts else "right" for position in range(len(texts)))
        cells = "".join(
            f'<{tag} style="text-align:{side}">{escape(text)}</{tag}>' for side, text in zip(sides, texts, strict=True)
        )
        return f"<tr{style}>{cells}</tr>"

    body = "".join(row(line, "td", number in grid.marked) for number, line in enumerate(grid.lines))
    notes = "".join(f"<p>{escape(note)}</p>" for note in grid.notes)
    title = f"<p><b>{escape(grid.title)}</b></p>" if grid.title else ""
    return f"{title}<table><thead>{row(grid.columns, 'th')}</thead><tbody>{body}</tbody></table>{notes}"


def _printable(grid: Grid) -> Grid:
    """Names in a grid come from files."""
    return dataclasses.replace(
        grid,
        title=printable(grid.title),
        columns=tuple(map(printable, grid.columns)),
        lines=tuple(tuple(map(printable, line)) for line in grid.lines),
        notes=tuple(map(printable, grid.notes)),
    )


def as_markdown(grid: Grid) -> str:
    grid = _printable(grid)
    rule = ["---" if position < grid.texts else "---:" for position in range(len(grid.columns))]
    body = [[text.replace("|", "\\|") for text in line] for line in grid.lines]
    title = [f"**{grid.title}**\n\n"] if grid.title else []
    notes = [f"\n{note}\n" for note in grid.notes]
    return "".join([*title, *(f"| {' | '.join(line)} |\n" for line in [grid.columns, rule, *body]), *notes])


def as_latex(grid: Grid) -> str:
    """A booktabs table: needs \\usepackage{booktabs}. Title and notes are comments."""
    grid = _printable(grid)
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
