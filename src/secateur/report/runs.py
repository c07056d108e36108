"""Run folders read for a report. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from secateur.errors import ReportError
from secateur.report.summary import Run
from secateur.store import Store


def load_runs(folders: Sequence[Path]) -> list[Run]:
    """Run folders with at least one row each, named by their folders (by their paths where names collide).

    Raises StoreError where a folder is none, ReportError where it has no rows, where one is named twice, or
    where several have no network and data set in common.
    """
    resolved = [folder.resolve() for folder in folders]
    if len(set(resolved)) < len(resolved):
        raise ReportError(f"a run is named twice among {', '.join(map(str, folders))}; name each once")
    unique = len({folder.name for folder in resolved}) == len(resolved)
    runs = [_load(folder, path.name if unique else str(folder)) for folder, path in zip(folders, resolved, strict=True)]
    _check_comparable(runs)
    return runs


def _load(folder: Path, name: str) -> Run:
    with Store.open(folder) as store:
        rows, failures = store.rows(), store.failures()
        commands = dict.fromkeys(store.commands())
    if not rows:
        reason = f"all {len(failures)} of its cells failed (see --failures)" if failures else "it holds no results yet"
        raise ReportError(f"{folder}: {reason}; run its sweep (again) to fill it")
    lines = tuple(f"{failure.cell.describe()}: {failure.error}" for failure in failures)
    return Run(name, tuple(rows), lines, tuple(commands))


def _check_comparable(runs: Sequence[Run]) -> None:
    measured = [{(row.cell.model, row.cell.data) for row in run.rows} for run in runs]
    if set.intersection(*measured):
        return
    names = zip(runs, measured, strict=True)
    what = "; ".join(f"{run.name}: {', '.join(f'{m} on {d}' for m, d in sorted(own))}" for run, own in names)
    raise ReportError(f"the runs have no network and data set in common ({what}); report them one by one")
