"""What an executor is given to do: run_cell, with a cache of the process that it runs in."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from pathlib import Path

from secateur.experiments.cache import NetworkCache
from secateur.experiments.keys import Parcel
from secateur.experiments.pipeline import STAGES, measure_latency, run_cell
from secateur.records.results import Row
from secateur.records.spec import Cell
from secateur.support import settings


class CellJob:
    """run_cell with this process's cache; what pickle takes to another process makes a cache of its own there.

    data_dir: for that process, where its SECATEUR_DATA names none. device: for that process. timed: whether cells
    measure latency where they run.
    """

    def __init__(self, cache: NetworkCache, data_dir: str | Path | None, device: str, timed: bool = True) -> None:
        self.cache, self._data_dir, self._device, self._timed = cache, data_dir, device, timed

    def __reduce__(self) -> tuple[Callable[..., CellJob], tuple[str | None, str, bool]]:
        folder = Path(self._data_dir).expanduser().absolute() if self._data_dir else None
        return _elsewhere, (str(folder) if folder else None, self._device, self._timed)

    def __call__(self, cell: Cell) -> Row:
        with self.cache.reporter.task(cell.nickname(), len(STAGES), brief=True) as task:
            return run_cell(cell, self.cache, task, timed=self._timed)

    def time(self, row: Row) -> Row:
        return measure_latency(row, self.cache)

    def network(self, cell: Cell) -> Hashable:
        return cell.model, cell.data, cell.seed, cell.recipe, cell.weights

    def known(self) -> frozenset[str]:
        return self.cache.known()

    def train(self, cell: Cell, known: frozenset[str]) -> Parcel:
        key = self.cache.key(cell)
        if key.id in known:
            return Parcel(key)
        self.cache.trained(cell)
        return self.cache.send(key)

    def receive(self, cell: Cell, parcel: Parcel) -> Parcel:
        self.cache.adopt(cell, parcel)
        return parcel if parcel.weights is not None else self.cache.send(parcel.key)

    def made(self, cell: Cell) -> tuple[Parcel, ...]:
        if not cell.learns_again:
            return ()
        return (self.cache.send(self.cache.retrain_key(cell)),)

    def keep(self, parcel: Parcel) -> None:
        self.cache.keep(parcel)


def _elsewhere(data_dir: str | None, device: str, timed: bool) -> CellJob:
    own = settings.DATA.value or data_dir
    return CellJob(NetworkCache(own, device), own, device, timed)
