"""The results of a run, in one SQLite file: a stored row means done. Needs no PyTorch.

The schema is described in docs/store.md; SCHEMA_VERSION is the number of migrations. One process writes.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from secateur.errors import SpaceError, StoreError
from secateur.records.database import (
    BROKEN,
    check_structure,
    check_version,
    connect,
    connect_for_reading,
    migrate,
    place_of,
    quoted,
    readable,
    refused,
    version_of,
)
from secateur.records.results import Failure, Outcome, Row, SearchRecord
from secateur.records.schema import SCHEMA_VERSION
from secateur.records.spec import Cell, Sweep, canonical_json
from secateur.records.tables import (
    ROWS,
    as_written,
    cell_as_written,
    cell_fields,
    checksum_of,
    environment_from,
    insert,
    insert_failure,
    insert_row,
    outcome_from,
    outcome_json,
    records,
    row_checksum,
    row_from,
    trained_fields,
    trained_from,
)

FILE_NAME = "results.sqlite"
_ORDER = (
    "model, data, method, scope, pattern, repair, retraining <> 'none', retraining, quantize <> 'none', seed, ratio"
)


Given = ParamSpec("Given")
Found = TypeVar("Found")


def _told(method: Callable[Concatenate[Store, Given], Found]) -> Callable[Concatenate[Store, Given], Found]:
    """Whatever is wrong with the file becomes a StoreError of one line: removed, full, damaged."""

    @functools.wraps(method)
    def told(self: Store, *given: Given.args, **named: Given.kwargs) -> Found:
        self.check_there()
        try:
            return method(self, *given, **named)
        except (StoreError, SpaceError):
            raise
        except sqlite3.OperationalError as error:
            raise refused(self.path, error) from error
        except (sqlite3.Error, *BROKEN) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise StoreError(
                f"{self.path}: is damaged ({reason}): move it away and run the same command again, networks are taken "
                "from the cache"
            ) from error

    return told  # type: ignore[return-value]


class Store:
    """A run folder's database. Use as a context manager, or call close()."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self.path = connection, path
        self._place = place_of(path)

    @classmethod
    def create(cls, run: str | Path) -> Store:
        """Open a run folder for writing, making the folder and the schema where they are missing.

        Raises StoreError where that is impossible or the schema is newer than this Secateur.
        """
        path = Path(run) / FILE_NAME
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{path.parent}: cannot be made: {error.strerror}; choose another --out") from error
        with readable(path):
            connection = connect(f"file:{quoted(path)}?mode=rwc")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(
                "PRAGMA synchronous = NORMAL"
            )  # a kill loses nothing; only a power cut may, whole results
            migrate(connection, path)
            check_structure(connection)
        return cls(connection, path)

    @classmethod
    def open(cls, run: str | Path) -> Store:
        """Open a run folder for reading; its older schema is brought up to date.

        Raises StoreError where there is no database, it is none of ours, or its schema is newer.
        """
        path = Path(run) / FILE_NAME
        if not path.is_file():
            what = "is no folder" if not Path(run).is_dir() else f"has no {FILE_NAME}"
            raise StoreError(f"{run} {what}: expected a run folder; make one with: secateur sweep --out {run}")
        with readable(path):
            connection = connect_for_reading(path)
            if version_of(connection) < SCHEMA_VERSION:
                connection.close()
                return cls.create(run)
            check_version(connection, path)
            check_structure(connection)
        return cls(connection, path)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def check_there(self) -> None:
        """Raises StoreError where the file was removed or replaced since it was opened."""
        if place_of(self.path) != self._place:
            raise StoreError(
                f"{self.path}: was removed or replaced while it was in use, and what was measured is lost; run the "
                "same command again"
            )

    @_told
    def add_sweep(self, sweep: Sweep, command: str, started_at: str) -> None:
        """Remember what was asked for, and by which command, so that it can be run again."""
        with self._connection as db:
            db.execute(
                "INSERT INTO sweeps (spec, command, started_at) VALUES (?, ?, ?)",
                (canonical_json(sweep), command, started_at),
            )

    @_told
    def commands(self) -> list[str]:
        """The commands that wrote into this run, oldest first."""
        query = "SELECT command, started_at FROM sweeps UNION ALL SELECT command, started_at FROM searches ORDER BY 2"
        return [command for command, _ in self._connection.execute(query)]

    @_told
    def holds_sweeps(self) -> bool:
        return bool(self._connection.execute("SELECT count(*) FROM sweeps").fetchone()[0])

    @_told
    def add_search(self, spec: str, command: str, started_at: str) -> int:
        """Remember what was searched for, as JSON, and by which command; the number is for add_outcome."""
        fields = {"spec": spec, "command": command, "started_at": started_at}
        with self._connection as db:
            return insert(db, "searches", fields)

    @_told
    def add_outcome(self, search: int, outcome: Outcome) -> None:
        """Keep what a search found."""
        text = outcome_json(outcome)
        with self._connection as db:
            values = (text, checksum_of(text), search)
            db.execute("UPDATE searches SET outcome = ?, checksum = ? WHERE id = ?", values)

    @_told
    def searches(self) -> list[SearchRecord]:
        """Every search that was started here, oldest first."""
        query = "SELECT id, spec, command, outcome, checksum FROM searches ORDER BY id"
        return [
            SearchRecord(number, spec, command, outcome_from(as_written(outcome, checksum)) if outcome else None)
            for number, spec, command, outcome, checksum in self._connection.execute(query)
        ]

    @_told
    def holds_findings(self, besides: str) -> bool:
        """Whether anything was measured for a search, but for the findings of one name."""
        query = "SELECT count(*) FROM findings WHERE what <> ?"
        return bool(self._connection.execute(query, (besides,)).fetchone()[0])

    @_told
    def forget_searches(self) -> None:
        """Remove every search that was started here and what it found, as if it had not been."""
        with self._connection as db:
            db.execute("DELETE FROM findings")
            db.execute("DELETE FROM searches")

    @_told
    def keep_finding(self, cell: Cell, what: str, value: Any) -> None:
        """Keep what was measured of a cell besides its row: anything that JSON can hold. What is there stays."""
        text = json.dumps(value)
        finding = {"cell_id": cell.id, "what": what, "value": text, "checksum": checksum_of(text)}
        with self._connection as db:
            insert(db, "cells", cell_fields(cell), on_conflict="OR IGNORE")
            insert(db, "findings", finding, on_conflict="OR IGNORE")

    @_told
    def cell(self, identifier: str) -> Cell:
        """The cell of an id that was tried here."""
        (spec,) = self._connection.execute("SELECT spec FROM cells WHERE id = ?", (identifier,)).fetchone()
        return cell_as_written(spec, identifier)

    @_told
    def finding(self, cell: Cell, what: str) -> Any:
        """What keep_finding was given, None where it was not."""
        query = "SELECT value, checksum FROM findings WHERE cell_id = ? AND what = ?"
        found = self._connection.execute(query, (cell.id, what)).fetchone()
        return json.loads(as_written(*found)) if found else None

    @_told
    def add(self, result: Row | Failure) -> None:
        """Store a result in one transaction: after a crash it is there whole or not at all.

        A Failure stands until the cell has a row. Raises StoreError for a cell that has a row already, for a network
        that is not the one that its other rows started from, and where the disk refuses.
        """
        try:
            with self._connection as db:
                insert(db, "cells", cell_fields(result.cell), on_conflict="OR IGNORE")
                if isinstance(result, Row):
                    self._add_row(db, result)
                else:
                    insert_failure(db, result)
        except sqlite3.IntegrityError as error:
            raise StoreError(f"{self.path}: cell {result.cell.id} is stored already ({error})") from error

    def _add_row(self, db: sqlite3.Connection, row: Row) -> None:
        insert(db, "networks", trained_fields(row.trained), on_conflict="OR IGNORE")
        there = trained_from(self._connection, row.trained.key)
        if (there.validation, there.test) != (row.trained.validation, row.trained.test):
            raise StoreError(
                f"{self.path}: its rows of {row.cell.model!r} started from a network {there.key} with "
                f"{there.test.text} on test data, the one of now has {row.trained.test.text}: it was made anew and "
                "came out otherwise; name another --out"
            )
        row_id = insert_row(db, row)
        (record,) = records(self._connection, f"{ROWS} WHERE rows.id = ?", row_id)
        db.execute(
            "UPDATE rows SET checksum = ? WHERE id = ?", (row_checksum(row_from(self._connection, record)), row_id)
        )

    @_told
    def done(self) -> set[str]:
        """The ids of the cells that have a row."""
        return {cell_id for (cell_id,) in self._connection.execute("SELECT cell_id FROM rows")}

    @_told
    def data_digests(self, data: str) -> set[str]:
        """Which bytes the rows of a data set were measured on: one digest, unless files were exchanged."""
        query = (
            "SELECT DISTINCT data_digest FROM networks JOIN rows ON network_key = key "
            "JOIN cells ON cells.id = cell_id WHERE data = ?"
        )
        return {digest for (digest,) in self._connection.execute(query, (data,))}

    @_told
    def normalisations(self, data: str) -> set[tuple[tuple[float, ...], tuple[float, ...], str]]:
        """How the images of a data set were given to the networks of its rows: (mean, std, augmentation) of each that
        says it."""
        query = (
            "SELECT DISTINCT mean, std, augment FROM networks JOIN rows ON network_key = key "
            "JOIN cells ON cells.id = cell_id WHERE data = ? AND mean <> '[]'"
        )
        found = self._connection.execute(query, (data,)).fetchall()
        return {(tuple(json.loads(mean)), tuple(json.loads(std)), augment) for mean, std, augment in found}

    @_told
    def method_sources(self, method: str, scope: str) -> set[str]:
        """Of which sources of a method the rows are that it made in a scope: one, unless its file was edited."""
        query = (
            "SELECT DISTINCT method_source FROM cells JOIN rows ON cells.id = cell_id WHERE (method, scope) = (?, ?)"
        )
        return {source for (source,) in self._connection.execute(query, (method, scope))}

    @_told
    def model_sources(self, model: str) -> set[str]:
        """Of which sources of a model the rows are: one, unless its file was edited."""
        query = "SELECT DISTINCT model_source FROM cells JOIN rows ON cells.id = cell_id WHERE model = ?"
        return {source for (source,) in self._connection.execute(query, (model,))}

    @_told
    def forget_failures(self, cells: Iterable[Cell]) -> None:
        """Remove the failures of what the cells were before the files of their methods and models were edited."""
        now = {_without_sources(cell): cell.id for cell in cells}
        failed = [failure.cell for failure in self.failures()]
        stale = [(cell.id,) for cell in failed if now.get(_without_sources(cell), cell.id) != cell.id]
        with self._connection as db:
            db.executemany("DELETE FROM failures WHERE cell_id = ?", stale)

    @_told
    def rows(self) -> list[Row]:
        """Every row, sorted by model, data, method, scope, pattern, repair, retraining, precision, seed and ratio."""
        query = f"""
            {ROWS}
            ORDER BY {_ORDER}, cell_id
        """
        return [self._whole_row(record) for record in records(self._connection, query)]

    def _whole_row(self, record: Mapping[str, Any]) -> Row:
        row, checksum = row_from(self._connection, record), record["checksum"]
        if checksum not in (None, row_checksum(row)):
            raise ValueError(f"the row of cell {row.cell.id} has another checksum than was written")
        return row

    @_told
    def failures(self) -> list[Failure]:
        """The cells that failed when they were last tried."""
        query = f"""
            SELECT failures.*, cells.spec AS cell_spec FROM failures JOIN cells ON cells.id = cell_id
            ORDER BY {_ORDER}
        """
        return [
            Failure(
                cell_as_written(record["cell_spec"], record["cell_id"]),
                record["error"],
                record["traceback"],
                environment_from(self._connection, record["environment_id"]),
                record["failed_at"],
            )
            for record in records(self._connection, query)
        ]


def _without_sources(cell: Cell) -> Cell:
    return dataclasses.replace(cell, method_source="", model_source="")
