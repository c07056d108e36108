"""The results of a run, in one SQLite file: a stored row means done. Needs no PyTorch.

The schema is described in docs/store.md; SCHEMA_VERSION is the number of migrations. One process writes.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secateur.errors import StoreError
from secateur.results import (
    Accuracy,
    Contender,
    Environment,
    Failure,
    Footprint,
    FrontPoint,
    Latency,
    Layer,
    Outcome,
    Retrained,
    Row,
    Trained,
)
from secateur.schema import MIGRATIONS, SCHEMA_VERSION
from secateur.spec import Cell, Sweep, canonical_json, cell_from_json

FILE_NAME = "results.sqlite"


@dataclass(frozen=True, slots=True)
class SearchRecord:
    """A search as it was asked for, as JSON, by which command, and what it found; None until it is through."""

    number: int
    spec: str
    command: str
    outcome: Outcome | None


class Store:
    """A run folder's database. Use as a context manager, or call close()."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self.path = connection, path

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
        with _readable(path):
            connection = _connect(f"file:{_quoted(path)}?mode=rwc")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(
                "PRAGMA synchronous = NORMAL"
            )  # a kill loses nothing; only a power cut may, whole results
            _migrate(connection, path)
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
        with _readable(path):
            connection = _connect_for_reading(path)
            if _version(connection) < SCHEMA_VERSION:
                connection.close()
                return cls.create(run)
            _check_version(connection, path)
        return cls(connection, path)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def add_sweep(self, sweep: Sweep, command: str, started_at: str) -> None:
        """Remember what was asked for, and by which command, so that it can be run again."""
        with self._connection as db:
            db.execute(
                "INSERT INTO sweeps (spec, command, started_at) VALUES (?, ?, ?)",
                (canonical_json(sweep), command, started_at),
            )

    def commands(self) -> list[str]:
        """The commands that wrote into this run, oldest first."""
        query = "SELECT command, started_at FROM sweeps UNION ALL SELECT command, started_at FROM searches ORDER BY 2"
        return [command for command, _ in self._connection.execute(query)]

    def holds_sweeps(self) -> bool:
        return bool(self._connection.execute("SELECT count(*) FROM sweeps").fetchone()[0])

    def add_search(self, spec: str, command: str, started_at: str) -> int:
        """Remember what was searched for, as JSON, and by which command; the number is for add_outcome."""
        fields = {"spec": spec, "command": command, "started_at": started_at}
        with self._connection as db:
            return _insert(db, "searches", fields)

    def add_outcome(self, search: int, outcome: Outcome) -> None:
        """Keep what a search found."""
        with self._connection as db:
            db.execute("UPDATE searches SET outcome = ? WHERE id = ?", (_as_json(outcome), search))

    def searches(self) -> list[SearchRecord]:
        """Every search that was started here, oldest first."""
        query = "SELECT id, spec, command, outcome FROM searches ORDER BY id"
        return [
            SearchRecord(number, spec, command, _outcome(outcome) if outcome else None)
            for number, spec, command, outcome in self._connection.execute(query)
        ]

    def holds_findings(self, besides: str) -> bool:
        """Whether anything was measured for a search, but for the findings of one name."""
        query = "SELECT count(*) FROM findings WHERE what <> ?"
        return bool(self._connection.execute(query, (besides,)).fetchone()[0])

    def forget_searches(self) -> None:
        """Remove every search that was started here and what it found, as if it had not been."""
        with self._connection as db:
            db.execute("DELETE FROM findings")
            db.execute("DELETE FROM searches")

    def keep_finding(self, cell: Cell, what: str, value: Any) -> None:
        """Keep what was measured of a cell besides its row: anything that JSON can hold. What is there stays."""
        finding = {"cell_id": cell.id, "what": what, "value": json.dumps(value)}
        try:
            with self._connection as db:
                _insert(db, "cells", _cell_fields(cell), on_conflict="OR IGNORE")
                _insert(db, "findings", finding, on_conflict="OR IGNORE")
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: cannot be written: {error}; is the disk full?") from error

    def cell(self, identifier: str) -> Cell:
        """The cell of an id that was tried here."""
        (spec,) = self._connection.execute("SELECT spec FROM cells WHERE id = ?", (identifier,)).fetchone()
        return cell_from_json(spec)

    def finding(self, cell: Cell, what: str) -> Any:
        """What keep_finding was given, None where it was not."""
        query = "SELECT value FROM findings WHERE cell_id = ? AND what = ?"
        found = self._connection.execute(query, (cell.id, what)).fetchone()
        return json.loads(found[0]) if found else None

    def add(self, result: Row | Failure) -> None:
        """Store a result in one transaction: after a crash it is there whole or not at all.

        A Failure stands until the cell has a row. Raises StoreError for a cell that has a row already, and
        where the disk refuses.
        """
        try:
            with self._connection as db:
                _insert(db, "cells", _cell_fields(result.cell), on_conflict="OR IGNORE")
                if isinstance(result, Row):
                    _insert_row(db, result)
                else:
                    _insert_failure(db, result)
        except sqlite3.IntegrityError as error:
            raise StoreError(f"{self.path}: cell {result.cell.id} is stored already ({error})") from error
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: cannot be written: {error}; is the disk full?") from error

    def done(self) -> set[str]:
        """The ids of the cells that have a row."""
        return {cell_id for (cell_id,) in self._connection.execute("SELECT cell_id FROM rows")}

    def data_digests(self, data: str) -> set[str]:
        """Which bytes the rows of a data set were measured on: one digest, unless files were exchanged."""
        query = (
            "SELECT DISTINCT data_digest FROM networks JOIN rows ON network_key = key "
            "JOIN cells ON cells.id = cell_id WHERE data = ?"
        )
        return {digest for (digest,) in self._connection.execute(query, (data,))}

    def method_sources(self, method: str, scope: str) -> set[str]:
        """Of which sources of a method the rows are that it made in a scope: one, unless its file was edited."""
        query = (
            "SELECT DISTINCT method_source FROM cells JOIN rows ON cells.id = cell_id WHERE (method, scope) = (?, ?)"
        )
        return {source for (source,) in self._connection.execute(query, (method, scope))}

    def model_sources(self, model: str) -> set[str]:
        """Of which sources of a model the rows are: one, unless its file was edited."""
        query = "SELECT DISTINCT model_source FROM cells JOIN rows ON cells.id = cell_id WHERE model = ?"
        return {source for (source,) in self._connection.execute(query, (model,))}

    def forget_failures(self, cells: Iterable[Cell]) -> None:
        """Remove the failures of what the cells were before the files of their methods and models were edited."""
        now = {_without_sources(cell): cell.id for cell in cells}
        failed = [failure.cell for failure in self.failures()]
        stale = [(cell.id,) for cell in failed if now.get(_without_sources(cell), cell.id) != cell.id]
        with self._connection as db:
            db.executemany("DELETE FROM failures WHERE cell_id = ?", stale)

    def rows(self) -> list[Row]:
        """Every row, sorted by model, data, method, scope, pattern, repair, retraining, seed and ratio."""
        query = """
            SELECT rows.*, cells.spec AS cell_spec FROM rows JOIN cells ON cells.id = cell_id
            ORDER BY model, data, method, scope, pattern, repair, retraining <> 'none', retraining, seed, ratio, cell_id
        """
        return [self._row(record) for record in self._records(query)]

    def failures(self) -> list[Failure]:
        """The cells that failed when they were last tried."""
        query = """
            SELECT failures.*, cells.spec AS cell_spec FROM failures JOIN cells ON cells.id = cell_id
            ORDER BY model, data, method, scope, pattern, repair, retraining <> 'none', retraining, seed, ratio
        """
        return [
            Failure(
                cell_from_json(record["cell_spec"]),
                record["error"],
                record["traceback"],
                self._environment(record["environment_id"]),
                record["failed_at"],
            )
            for record in self._records(query)
        ]

    def _records(self, query: str, *values: object) -> Iterator[Mapping[str, Any]]:
        cursor = self._connection.execute(query, values)
        names = [column[0] for column in cursor.description]
        return (dict(zip(names, record, strict=True)) for record in cursor.fetchall())

    def _row(self, record: Mapping[str, Any]) -> Row:
        return Row(
            cell=cell_from_json(record["cell_spec"]),
            trained=self._trained(record["network_key"]),
            validation=_accuracy(record, "validation"),
            test=_accuracy(record, "test"),
            layers=self._parts(Layer, "layers", record["id"], "position"),
            ours=Footprint(record["file_bytes"], record["peak_memory"], record["held_memory"]),
            pytorch=_pytorch_footprint(record),
            latencies=self._parts(Latency, "latencies", record["id"], "batch, threads, engine"),
            environment=self._environment(record["environment_id"]),
            seconds=record["seconds"],
            measured_at=record["measured_at"],
            packed_bytes=record["packed_bytes"],
            retrained=_retrained(record),
            timed_on=self._environment(timed_on) if (timed_on := record["timing_environment_id"]) else None,
            left=tuple((name, why) for name, why in json.loads(record["left_dense"])),
        )

    def _parts(self, kind: Any, table: str, row_id: int, order: str) -> Any:
        names = [field.name for field in dataclasses.fields(kind)]
        query = f"SELECT {', '.join(names)} FROM {table} WHERE row_id = ? ORDER BY {order}"
        return tuple(kind(*record) for record in self._connection.execute(query, (row_id,)))

    def _trained(self, key: str) -> Trained:
        (record,) = self._records("SELECT * FROM networks WHERE key = ?", key)
        plain: dict[str, Any] = {field.name: record.get(field.name) for field in dataclasses.fields(Trained)}
        plain["resumed_from"] = tuple(json.loads(record["resumed_from"]))
        plain |= {"validation": _accuracy(record, "validation"), "test": _accuracy(record, "test")}
        return Trained(**plain)

    def _environment(self, identifier: int) -> Environment:
        (record,) = self._records("SELECT * FROM environments WHERE id = ?", identifier)
        fields = {field.name: record[field.name] for field in dataclasses.fields(Environment)}
        return Environment(**(fields | {"versions": json.loads(record["versions"])}))


def _connect(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=30)
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _connect_for_reading(path: Path) -> sqlite3.Connection:
    """Read-only; from a folder that cannot be written (an archive, a CD) as an immutable file."""
    connection = _connect(f"file:{_quoted(path)}?mode=ro")
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        connection = _connect(f"file:{_quoted(path)}?immutable=1")
    return connection


def _quoted(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(
            f"{path}: cannot be opened as a Secateur database: {error}; choose another run folder or move it away"
        ) from error


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    if (found := _version(connection)) > SCHEMA_VERSION:
        raise StoreError(
            f"{path}: schema {found} is newer than this Secateur knows ({SCHEMA_VERSION}); upgrade Secateur"
        )


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Apply the migrations that are missing, each with its version in one transaction."""
    _check_version(connection, path)
    if _version(connection) == 0 and connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        raise StoreError(f"{path}: expected a Secateur database, got another one; choose another --out")
    for version in range(_version(connection), SCHEMA_VERSION):
        try:
            connection.executescript(f"BEGIN IMMEDIATE; {MIGRATIONS[version]}; PRAGMA user_version = {version + 1};")
            if version + 1 == SCHEMA_VERSION:
                _rename_cells(connection)
            connection.commit()
        except BaseException:
            connection.rollback()
            raise


def _rename_cells(connection: sqlite3.Connection) -> None:
    """Cells of an older version get the fields that they lacked, and so the ids that they have now, also in what
    searches asked and found."""
    connection.execute("PRAGMA defer_foreign_keys = ON")
    names: dict[str, str] = {}
    for old, spec in connection.execute("SELECT id, spec FROM cells").fetchall():
        fields = _cell_fields(cell_from_json(spec))
        if fields["id"] != old:
            names[old] = fields["id"]
            settings = ", ".join(f"{name} = ?" for name in fields)
            connection.execute(f"UPDATE cells SET {settings} WHERE id = ?", (*fields.values(), old))
            for table in ("rows", "failures", "findings"):
                connection.execute(f"UPDATE {table} SET cell_id = ? WHERE cell_id = ?", (fields["id"], old))
    for number, spec, outcome in connection.execute("SELECT id, spec, outcome FROM searches").fetchall():
        asked = json.loads(spec)
        asked["template"] = dataclasses.asdict(cell_from_json(json.dumps(asked["template"])))
        found = re.sub("[0-9a-f]{16}", lambda each: names.get(each[0], each[0]), outcome) if outcome else None
        changed = (json.dumps(asked, sort_keys=True, separators=(",", ":")), found, number)
        connection.execute("UPDATE searches SET spec = ?, outcome = ? WHERE id = ?", changed)


def _insert(db: sqlite3.Connection, table: str, fields: Mapping[str, Any], on_conflict: str = "") -> int:
    marks = ", ".join("?" * len(fields))
    statement = f"INSERT {on_conflict} INTO {table} ({', '.join(fields)}) VALUES ({marks})"
    return db.execute(statement, tuple(fields.values())).lastrowid or 0


def _insert_row(db: sqlite3.Connection, row: Row) -> None:
    _insert(db, "networks", _trained_fields(row.trained), on_conflict="OR IGNORE")
    fields = {
        "cell_id": row.cell.id,
        "network_key": row.trained.key,
        "environment_id": _environment_id(db, row.environment),
        **_accuracy_fields("validation", row.validation),
        **_accuracy_fields("test", row.test),
        **dataclasses.asdict(row.ours),
        "seconds": row.seconds,
        "measured_at": row.measured_at,
        "packed_bytes": row.packed_bytes,
        "left_dense": json.dumps(row.left),
    }
    if row.timed_on:
        fields["timing_environment_id"] = _environment_id(db, row.timed_on)
    if row.pytorch:
        fields |= {f"pytorch_{name}": value for name, value in dataclasses.asdict(row.pytorch).items()}
    if row.retrained:
        fields |= {f"retrained_{name}": value for name, value in dataclasses.asdict(row.retrained).items()}
        fields["retrained_resumed_from"] = json.dumps(row.retrained.resumed_from)
    row_id = _insert(db, "rows", fields)
    for position, layer in enumerate(row.layers):
        _insert(db, "layers", {"row_id": row_id, "position": position, **dataclasses.asdict(layer)})
    for latency in row.latencies:
        _insert(db, "latencies", {"row_id": row_id, **dataclasses.asdict(latency)})
    db.execute("DELETE FROM failures WHERE cell_id = ?", (row.cell.id,))


def _insert_failure(db: sqlite3.Connection, failure: Failure) -> None:
    fields = {
        "cell_id": failure.cell.id,
        "environment_id": _environment_id(db, failure.environment),
        "error": failure.error,
        "traceback": failure.traceback,
        "failed_at": failure.failed_at,
    }
    _insert(db, "failures", fields, on_conflict="OR REPLACE")


def _environment_id(db: sqlite3.Connection, environment: Environment) -> int:
    fields = dataclasses.asdict(environment)
    fields["versions"] = json.dumps(fields["versions"], sort_keys=True)
    _insert(db, "environments", fields, on_conflict="OR IGNORE")
    conditions = " AND ".join(f"{name} = ?" for name in fields)
    found = db.execute(f"SELECT id FROM environments WHERE {conditions}", tuple(fields.values()))
    return int(found.fetchone()[0])


def _without_sources(cell: Cell) -> Cell:
    return dataclasses.replace(cell, method_source="", model_source="")


def _cell_fields(cell: Cell) -> dict[str, Any]:
    named = {name: getattr(cell, name) for name in _CELL_COLUMNS}
    retraining = cell.retraining.way if cell.retraining else "none"
    own = {"calibration_seed": cell.draw, "retraining": retraining, "spec": canonical_json(cell)}
    return {"id": cell.id, **named, **own}


_CELL_COLUMNS = (
    "model", "model_source", "data", "method", "method_source", "scope", "ratio", "seed", "pattern", "repair",
    "calibration_images",
)  # fmt: skip


def _trained_fields(trained: Trained) -> dict[str, Any]:
    fields = dataclasses.asdict(trained)
    fields["resumed_from"] = json.dumps(trained.resumed_from)
    del fields["validation"], fields["test"]
    return fields | _accuracy_fields("validation", trained.validation) | _accuracy_fields("test", trained.test)


def _accuracy_fields(prefix: str, accuracy: Accuracy) -> dict[str, Any]:
    return {f"{prefix}_{name}": value for name, value in dataclasses.asdict(accuracy).items()}


def _accuracy(record: Mapping[str, Any], prefix: str) -> Accuracy:
    return Accuracy(**{name: record[f"{prefix}_{name}"] for name in ("top1", "n", "top5")})


def _as_json(outcome: Outcome) -> str:
    return json.dumps(dataclasses.asdict(outcome))


def _outcome(text: str) -> Outcome:
    """The inverse of _as_json."""
    fields = json.loads(text)
    contenders = tuple(
        Contender(**(each | {
            "validation": Accuracy(**each["validation"]),
            "test": Accuracy(**each["test"]),
            "latency": Latency(**each["latency"]) if each["latency"] else None,
        }))
        for each in fields["contenders"]
    )  # fmt: skip
    front = tuple(FrontPoint(**(each | {"validation": Accuracy(**each["validation"])})) for each in fields["front"])
    pytorch = Latency(**fields["pytorch"]) if fields["pytorch"] else None
    return Outcome(fields["chosen"], contenders, pytorch, front, fields["dense_cost"])


def _retrained(record: Mapping[str, Any]) -> Retrained | None:
    if record["retrained_epochs"] is None:
        return None
    resumed_from = tuple(json.loads(record["retrained_resumed_from"]))
    return Retrained(record["retrained_epochs"], record["retrained_seconds"], resumed_from)


def _pytorch_footprint(record: Mapping[str, Any]) -> Footprint | None:
    if record["pytorch_file_bytes"] is None:
        return None
    return Footprint(record["pytorch_file_bytes"], record["pytorch_peak_memory"], record["pytorch_held_memory"])
