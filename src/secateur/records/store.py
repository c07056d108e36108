"""The results of a run, in one SQLite file: a stored row means done. Needs no PyTorch.

The schema is described in docs/store.md; SCHEMA_VERSION is the number of migrations. One process writes.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from secateur.errors import SecateurError, SpaceError, StoreError
from secateur.records.results import (
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
from secateur.records.schema import MIGRATIONS, SCHEMA_VERSION
from secateur.records.spec import OPTIONS, Cell, Sweep, canonical_json, cell_from_json

FILE_NAME = "results.sqlite"


_BROKEN = (ValueError, LookupError, TypeError, AttributeError, RecursionError, SecateurError)
"""What reading records raises that are not what was written."""

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
            raise _refused(self.path, error) from error
        except (sqlite3.Error, *_BROKEN) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise StoreError(
                f"{self.path}: is damaged ({reason}): move it away and run the same command again, networks are taken "
                "from the cache"
            ) from error

    return told  # type: ignore[return-value]


def _refused(path: Path, error: sqlite3.OperationalError) -> SecateurError:
    if "full" in str(error):
        return SpaceError(f"{path}: cannot be written: {error}; make room and run the same command again")
    return StoreError(f"{path}: cannot be read or written: {error}; name another --out")


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
        self._place = _place(path)

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
            _check_structure(connection)
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
            _check_structure(connection)
        return cls(connection, path)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def check_there(self) -> None:
        """Raises StoreError where the file was removed or replaced since it was opened."""
        if _place(self.path) != self._place:
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
            return _insert(db, "searches", fields)

    @_told
    def add_outcome(self, search: int, outcome: Outcome) -> None:
        """Keep what a search found."""
        text = _as_json(outcome)
        with self._connection as db:
            values = (text, _checksum(text), search)
            db.execute("UPDATE searches SET outcome = ?, checksum = ? WHERE id = ?", values)

    @_told
    def searches(self) -> list[SearchRecord]:
        """Every search that was started here, oldest first."""
        query = "SELECT id, spec, command, outcome, checksum FROM searches ORDER BY id"
        return [
            SearchRecord(number, spec, command, _outcome(_as_written(outcome, checksum)) if outcome else None)
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
        finding = {"cell_id": cell.id, "what": what, "value": text, "checksum": _checksum(text)}
        with self._connection as db:
            _insert(db, "cells", _cell_fields(cell), on_conflict="OR IGNORE")
            _insert(db, "findings", finding, on_conflict="OR IGNORE")

    @_told
    def cell(self, identifier: str) -> Cell:
        """The cell of an id that was tried here."""
        (spec,) = self._connection.execute("SELECT spec FROM cells WHERE id = ?", (identifier,)).fetchone()
        return _cell(spec, identifier)

    @_told
    def finding(self, cell: Cell, what: str) -> Any:
        """What keep_finding was given, None where it was not."""
        query = "SELECT value, checksum FROM findings WHERE cell_id = ? AND what = ?"
        found = self._connection.execute(query, (cell.id, what)).fetchone()
        return json.loads(_as_written(*found)) if found else None

    @_told
    def add(self, result: Row | Failure) -> None:
        """Store a result in one transaction: after a crash it is there whole or not at all.

        A Failure stands until the cell has a row. Raises StoreError for a cell that has a row already, for a network
        that is not the one that its other rows started from, and where the disk refuses.
        """
        try:
            with self._connection as db:
                _insert(db, "cells", _cell_fields(result.cell), on_conflict="OR IGNORE")
                if isinstance(result, Row):
                    self._add_row(db, result)
                else:
                    _insert_failure(db, result)
        except sqlite3.IntegrityError as error:
            raise StoreError(f"{self.path}: cell {result.cell.id} is stored already ({error})") from error

    def _add_row(self, db: sqlite3.Connection, row: Row) -> None:
        _insert(db, "networks", _trained_fields(row.trained), on_conflict="OR IGNORE")
        there = self._trained(row.trained.key)
        if (there.validation, there.test) != (row.trained.validation, row.trained.test):
            raise StoreError(
                f"{self.path}: its rows of {row.cell.model!r} started from a network {there.key} with "
                f"{there.test.top1:.2%} on test data, the one of now has {row.trained.test.top1:.2%}: it was made anew "
                "and came out otherwise; name another --out"
            )
        row_id = _insert_row(db, row)
        (record,) = self._records(f"{_ROWS} WHERE rows.id = ?", row_id)
        db.execute("UPDATE rows SET checksum = ? WHERE id = ?", (_row_checksum(self._row(record)), row_id))

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
        """Every row, sorted by model, data, method, scope, pattern, repair, retraining, seed and ratio."""
        query = f"""
            {_ROWS}
            ORDER BY model, data, method, scope, pattern, repair, retraining <> 'none', retraining, seed, ratio, cell_id
        """
        return [self._whole_row(record) for record in self._records(query)]

    def _whole_row(self, record: Mapping[str, Any]) -> Row:
        row, checksum = self._row(record), record["checksum"]
        if checksum not in (None, _row_checksum(row)):
            raise ValueError(f"the row of cell {row.cell.id} has another checksum than was written")
        return row

    @_told
    def failures(self) -> list[Failure]:
        """The cells that failed when they were last tried."""
        query = """
            SELECT failures.*, cells.spec AS cell_spec FROM failures JOIN cells ON cells.id = cell_id
            ORDER BY model, data, method, scope, pattern, repair, retraining <> 'none', retraining, seed, ratio
        """
        return [
            Failure(
                _cell(record["cell_spec"], record["cell_id"]),
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
            cell=_cell(record["cell_spec"], record["cell_id"]),
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
        plain |= {name: tuple(json.loads(record[name])) for name in ("resumed_from", "mean", "std")}
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


def _place(path: Path) -> tuple[int, int] | None:
    """Which file is at a path, None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _check_structure(connection: sqlite3.Connection) -> None:
    (told,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if told == "ok" and connection.execute("PRAGMA foreign_key_check").fetchone():
        told = "records refer to others that are not there"
    if told != "ok":
        raise sqlite3.DatabaseError(" ".join(told.split()))


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _as_written(text: str, checksum: str | None) -> str:
    """Raises ValueError where a text is not the one that its checksum is of; earlier versions wrote none."""
    if checksum not in (None, _checksum(text)):
        raise ValueError(f"a record has another checksum than was written: {text[:40]}…")
    return text


def _row_checksum(row: Row) -> str:
    """Of all that a row says but its cell, whose id is a checksum; what is empty, as fields of later versions are in
    rows of earlier ones, does not count."""
    fields = dataclasses.asdict(row)
    del fields["cell"]
    return _checksum(json.dumps(_without_empty(fields), sort_keys=True))


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_empty(each) for name, each in value.items() if each not in (None, "", (), [])}
    return [_without_empty(each) for each in value] if isinstance(value, (list, tuple)) else value


def _cell(spec: str, identifier: str) -> Cell:
    """Raises ValueError where a cell is not what its id was made of."""
    cell = cell_from_json(spec)
    if cell.id != identifier:
        raise ValueError(f"cell {identifier} is not what it was when it was written")
    return cell


_ROWS = "SELECT rows.*, cells.spec AS cell_spec FROM rows JOIN cells ON cells.id = cell_id"


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, *_BROKEN) as error:
        if isinstance(error, (StoreError, SpaceError)):
            raise
        if isinstance(error, sqlite3.OperationalError) and "full" in str(error):
            raise _refused(path, error) from error
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
        checksum = _checksum(found) if found else None
        changed = (json.dumps(asked, sort_keys=True, separators=(",", ":")), found, checksum, number)
        connection.execute("UPDATE searches SET spec = ?, outcome = ?, checksum = ? WHERE id = ?", changed)


def _insert(db: sqlite3.Connection, table: str, fields: Mapping[str, Any], on_conflict: str = "") -> int:
    marks = ", ".join("?" * len(fields))
    statement = f"INSERT {on_conflict} INTO {table} ({', '.join(fields)}) VALUES ({marks})"
    return db.execute(statement, tuple(fields.values())).lastrowid or 0


def _insert_row(db: sqlite3.Connection, row: Row) -> int:
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
    return row_id


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
    columns = {option.name: option.told(cell) for option in OPTIONS if option.option.column}
    sources = {"model_source": cell.model_source, "method_source": cell.method_source}
    return {"id": cell.id, **columns, **sources, "spec": canonical_json(cell)}


def _trained_fields(trained: Trained) -> dict[str, Any]:
    fields = dataclasses.asdict(trained)
    fields |= {name: json.dumps(getattr(trained, name)) for name in ("resumed_from", "mean", "std")}
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
