"""The paper's study as tables: ours beside the printed numbers, in every format. Needs no PyTorch."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from secateur.measure.intervals import Spread
from secateur.records.recipes import recipe_for
from secateur.records.results import Row
from secateur.report.grid import Grid, as_latex, as_markdown, sparkline
from secateur.report.paper import MEASURES, Claim, Comparison, Factor, Line, citation, claims, compare
from secateur.support.quantities import percent

SIDES = (("pytorch", "torch.nn.utils.prune"), ("ours", "Secateur"))
_CLAIMS = (
    "Times the dense network's own: the median over pruned networks, quartiles in brackets. Memory: the weights and "
    "what pruning left beside them (of networks under 3 MB some is the allocator's slack). Time: one "
    "thread, in turns; dense and torch.nn.utils.prune in PyTorch, Secateur's file in its own runtime."
)


def study_grids(rows: Sequence[Row]) -> list[Grid]:
    """A table per network and recipe, ours beside the paper's, then one of the discussion's claims."""
    grids = [comparison_grid(members) for members in networks_compared(rows)]
    found = claims(rows)
    return [*grids, claims_grid(found)] if found else grids


def networks_compared(rows: Sequence[Row]) -> list[list[Comparison]]:
    """The readings of each network under each recipe."""
    by = groupby(compare(rows), key=lambda each: (each.published, each.recipe))
    return [list(members) for _, members in by]


def comparison_grid(readings: Sequence[Comparison]) -> Grid:
    """One network under one recipe: a line per ratio; per reading our mean ± interval and the difference."""
    first = readings[0]
    compounds = next((each for each in readings if each.reading.compounds), None)
    columns = ["ratio", "paper", *(name for each in readings for name in (each.reading.key, "Δ"))]
    if compounds:
        columns.insert(1, "compounded is")
    return Grid(
        elsewhere="secateur show RUN --paper --format csv",
        title=title_of(first),
        columns=tuple(columns),
        lines=tuple(_line(readings, compounds, number) for number in range(len(first.lines))),
        texts=0,
        notes=tuple(_notes(readings)),
        curves=tuple(_curves(readings, compounds)),
    )


def _line(readings: Sequence[Comparison], compounds: Comparison | None, number: int) -> tuple[str, ...]:
    line = readings[0].lines[number]
    texts = [percent(line.nominal) if line.nominal else "dense"]
    if compounds:
        texts.append(percent(compounds.lines[number].ratio) if line.nominal else "")
    texts.append(f"{100 * line.published:.2f}")
    for each in readings:
        texts += [spread_text(each.lines[number].ours), difference_text(each.lines[number])]
    return tuple(texts)


def _curves(readings: Sequence[Comparison], compounds: Comparison | None) -> list[str]:
    drawn = ["", sparkline([line.published for line in readings[0].lines])]
    if compounds:
        drawn.insert(1, "")
    for each in readings:
        drawn += [sparkline([line.ours.mean if line.ours else None for line in each.lines]), ""]
    return drawn


def title_of(comparison: Comparison) -> str:
    paper, recipe = comparison.published, comparison.recipe
    seeds = max(line.ours.n for line in comparison.lines if line.ours)
    return (
        f"Table {paper.table}: {paper.model} on {paper.data}, {recipe.epochs} epochs (paper {paper.epochs}), "
        f"{recipe_text(comparison)}, {seeds} seed{'s' if seeds > 1 else ''}"
    )


def recipe_text(comparison: Comparison) -> str:
    """The weight decay, and what else of the recipe is not the network's own."""
    usual, recipe = recipe_for(comparison.published.model), dataclasses.asdict(comparison.recipe)
    others = [
        f"{name.replace('_', ' ')} {value}"
        for name, value in recipe.items()
        if name not in ("epochs", "weight_decay") and value != getattr(usual, name)
    ]
    return ", ".join([f"weight decay {comparison.recipe.weight_decay:g}", *others])


def spread_text(ours: Spread | None) -> str:
    if ours is None:
        return "–"
    return f"{100 * ours.mean:.2f}" if ours.half is None else f"{100 * ours.mean:.2f} ± {100 * ours.half:.2f}"


def difference_text(line: Line) -> str:
    return "–" if line.difference is None else f"{line.difference:+.2f}"


def _notes(readings: Sequence[Comparison]) -> list[str]:
    paper = readings[0].published
    notes = [
        f"Accuracy in % on test data; ± is the 95 % interval of the mean over seeds (Student's t); Δ in points. "
        f"Data {paper.data}: {'; '.join(readings[0].sources)}."
    ]
    notes += [verdict(each) for each in readings]
    return [*notes, paper.note] if paper.note else notes


def verdict(comparison: Comparison) -> str:
    """What a reading does, where it falls apart beside where the paper's network did, and how far it is from it."""
    reading, measured = comparison.reading, [line for line in comparison.lines[1:] if line.ours]
    over = "" if len(measured) == len(comparison.lines) - 1 else f" over the {len(measured)} ratios measured"
    return (
        f"{reading.key} ({reading.about}): {collapse_text(comparison)}; {comparison.distance:.1f} points from it on "
        f"average{over}."
    )


def collapse_text(comparison: Comparison) -> str:
    """Where a reading falls apart, or how far it is known not to, and where the paper's network did."""
    where = comparison.collapse
    ours = (
        f"falls below half of the dense accuracy at {percent(where)}"
        if where
        else f"keeps more than half of the dense accuracy up to {percent(comparison.measured_to)}"
    )
    theirs = percent(comparison.published_collapse or 0)
    return f"{ours}, {'as the paper does' if comparison.explains else f'the paper falls at {theirs}'}"


def claims_grid(found: Sequence[Claim]) -> Grid:
    """What the paper's discussion says of size, memory and time, measured; a line per network and way."""
    lines = [
        (f"{claim.model} on {claim.data}", way, *(factor_text(getattr(claim, side)[name]) for name in MEASURES))
        for claim in found
        for side, way in SIDES
    ]
    return Grid(
        elsewhere="secateur show RUN --paper --format csv",
        title="The discussion's claims: what pruning does to saved size, memory and inference time",
        columns=("network", "pruned by", *MEASURES),
        lines=tuple(lines),
        texts=2,
        notes=(_CLAIMS,),
    )


def factor_text(factor: Factor | None) -> str:
    if factor is None:
        return "–"
    return f"{factor.median:.2f} × ({factor.low:.2f}–{factor.high:.2f})"


def study_records(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A flat record per network, recipe, reading and ratio; shares, the difference in points."""
    return [
        {
            "table": each.published.table,
            "model": each.published.model,
            "data": each.published.data,
            "epochs": each.recipe.epochs,
            "paper_epochs": each.published.epochs,
            "weight_decay": each.recipe.weight_decay,
            "reading": each.reading.key,
            "nominal_ratio": line.nominal,
            "ratio": line.ratio,
            "paper_accuracy": line.published,
            "accuracy": line.ours.mean if line.ours else None,
            "low": line.ours.low if line.ours else None,
            "high": line.ours.high if line.ours else None,
            "seeds": line.ours.n if line.ours else 0,
            "difference": line.difference,
        }
        for each in compare(rows)
        for line in each.lines
    ]


def _as_json(rows: Sequence[Row]) -> str:
    factors = [
        {
            "model": claim.model,
            "data": claim.data,
            "pruned_by": side,
            "measure": name,
            "rows": claim.rows,
            "low": factor.low if factor else None,
            "median": factor.median if factor else None,
            "high": factor.high if factor else None,
        }
        for claim in claims(rows)
        for side, _ in SIDES
        for name, factor in getattr(claim, side).items()
    ]
    return json.dumps({"source": citation(), "accuracies": study_records(rows), "claims": factors}, indent=2) + "\n"


def _as_csv(rows: Sequence[Row]) -> str:
    out = io.StringIO()
    records = study_records(rows)
    writer = csv.DictWriter(out, list(records[0]) if records else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue()


STUDY_FORMATS: dict[str, Callable[[Sequence[Row]], str]] = {
    "json": _as_json,
    "csv": _as_csv,
    "markdown": lambda rows: "\n".join(map(as_markdown, study_grids(rows))),
    "latex": lambda rows: "\n".join(map(as_latex, study_grids(rows))),
}
