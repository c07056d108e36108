"""Run folders read for a report. Needs no PyTorch."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from secateur.errors import ReportError
from secateur.records.store import Store
from secateur.report.summary import Run


def load_runs(folders: Sequence[Path], failed_ones: bool = False) -> list[Run]:
    """Run folders with at least one row each, named by their folders (by their paths where names collide).

    failed_ones: one that holds failed cells only will do.

    Raises StoreError where a folder is none, ReportError where it has no rows, where one is named twice, or
    where several have no network and data set in common.
    """
    resolved = [folder.resolve() for folder in folders]
    if len(set(resolved)) < len(resolved):
        raise ReportError(f"a run is named twice among {', '.join(map(str, folders))}; name each once")
    unique = len({folder.name for folder in resolved}) == len(resolved)
    names = [path.name if unique else str(folder) for folder, path in zip(folders, resolved, strict=True)]
    runs = [_load(folder, name, failed_ones) for folder, name in zip(folders, names, strict=True)]
    if len(runs) > 1:
        _check_comparable(runs)
    return runs


def _load(folder: Path, name: str, failed_ones: bool) -> Run:
    with Store.open(folder) as store:
        rows, failures = store.rows(), store.failures()
        commands, searches = dict.fromkeys(store.commands()), tuple(store.searches())
    if not rows and not (failures and failed_ones):
        what = f"all {len(failures)} of its cells failed (see secateur show {folder} --failures)"
        reason = what if failures else "it holds no results yet"
        raise ReportError(f"{folder}: {reason}; run its sweep (again) to fill it")
    return Run(name, tuple(rows), tuple(failures), tuple(commands), folder, searches, tuple(_kept(folder)))


def _kept(folder: Path) -> Iterator[tuple[str, str]]:
    """The cell of each network that the run kept, and by which rule; a card that says neither counts for nothing."""
    for path in sorted((folder / "best").glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            card = json.loads(path.read_text(encoding="utf-8"))
            yield str(card["cell"]), str(card["selected_by"])


def _check_comparable(runs: Sequence[Run]) -> None:
    measured = [{(row.cell.model, row.cell.data) for row in run.rows} for run in runs]
    if set.intersection(*measured):
        return
    names = zip(runs, measured, strict=True)
    what = "; ".join(f"{run.name}: {', '.join(f'{m} on {d}' for m, d in sorted(own))}" for run, own in names)
    raise ReportError(f"the runs have no network and data set in common ({what}); report them one by one")
