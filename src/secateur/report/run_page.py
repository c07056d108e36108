"""The page of a run folder, made from Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from secateur.errors import MissingExtraError, SecateurError
from secateur.records.kept import all_kept
from secateur.report.runs import load_runs
from secateur.report.summary import Run

if TYPE_CHECKING:
    from secateur.report.analysis import AnalysisResult


def analyses_of(runs: Sequence[Run], tell: Callable[[SecateurError], None]) -> list[AnalysisResult]:
    """Where the time of the networks that the runs kept goes on this machine; what cannot be opened is told."""
    from secateur.report.analysis import analyse_kept

    found = []
    for run in runs:
        for kept, card in all_kept(run.folder):
            try:
                found.append(analyse_kept(kept, card, f" ({run.name})" if len(runs) > 1 else ""))
            except SecateurError as error:
                tell(error)
    return found


def write_run_page(run: Path, path: str | Path | None = None) -> Path:
    """Write a run as one self-contained HTML file, by default report.html in its folder; where it is.

    Its kept networks are timed layer by layer, as `secateur report` does. Raises ReportError where there are no rows or
    the place cannot be written, MissingExtraError without the packages for it.
    """
    try:
        from secateur.report.page import write_page
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"reports need {error.name}: pip install 'secateur[report]'") from error
    loaded = load_runs([run])
    target = Path(path) if path is not None else run / "report.html"
    write_page(loaded, target, analyses=analyses_of(loaded, lambda _: None))
    return target
