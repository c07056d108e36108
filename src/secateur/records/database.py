"""The SQLite file of a run: opened for writing or reading, checked, and brought to the schema of now."""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from secateur.errors import SecateurError, SpaceError, StoreError
from secateur.records.schema import MIGRATIONS, SCHEMA_VERSION
from secateur.records.spec import canonical_json, cell_from_json
from secateur.records.tables import cell_fields, checksum_of

BROKEN = (ValueError, LookupError, TypeError, AttributeError, RecursionError, SecateurError)
"""What reading records raises that are not what was written."""


def connect(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=30)
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def connect_for_reading(path: Path) -> sqlite3.Connection:
    """Read-only; from a folder that cannot be written (an archive, a CD) as an immutable file."""
    connection = connect(f"file:{quoted(path)}?mode=ro")
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        connection = connect(f"file:{quoted(path)}?immutable=1")
    return connection


def quoted(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def place_of(path: Path) -> tuple[int, int] | None:
    """Which file is at a path, None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def check_structure(connection: sqlite3.Connection) -> None:
    (told,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if told == "ok" and connection.execute("PRAGMA foreign_key_check").fetchone():
        told = "records refer to others that are not there"
    if told != "ok":
        raise sqlite3.DatabaseError(" ".join(told.split()))


def refused(path: Path, error: sqlite3.OperationalError) -> SecateurError:
    if "full" in str(error):
        return SpaceError(f"{path}: cannot be written: {error}; make room and run the same command again")
    return StoreError(f"{path}: cannot be read or written: {error}; name another --out")


@contextmanager
def readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, *BROKEN) as error:
        if isinstance(error, (StoreError, SpaceError)):
            raise
        if isinstance(error, sqlite3.OperationalError) and "full" in str(error):
            raise refused(path, error) from error
        raise StoreError(
            f"{path}: cannot be opened as a Secateur database: {error}; choose another run folder or move it away"
        ) from error


def version_of(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def check_version(connection: sqlite3.Connection, path: Path) -> None:
    if (found := version_of(connection)) > SCHEMA_VERSION:
        raise StoreError(
            f"{path}: schema {found} is newer than this Secateur knows ({SCHEMA_VERSION}); upgrade Secateur"
        )


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Apply the migrations that are missing, each with its version in one transaction."""
    check_version(connection, path)
    if version_of(connection) == 0 and connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        raise StoreError(f"{path}: expected a Secateur database, got another one; choose another --out")
    for version in range(version_of(connection), SCHEMA_VERSION):
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
        fields = cell_fields(cell_from_json(spec))
        if fields["id"] != old:
            names[old] = fields["id"]
            settings = ", ".join(f"{name} = ?" for name in fields)
            connection.execute(f"UPDATE cells SET {settings} WHERE id = ?", (*fields.values(), old))
            for table in ("rows", "failures", "findings"):
                connection.execute(f"UPDATE {table} SET cell_id = ? WHERE cell_id = ?", (fields["id"], old))
    for number, spec, outcome in connection.execute("SELECT id, spec, outcome FROM searches").fetchall():
        asked = json.loads(spec)
        asked["template"] = json.loads(canonical_json(cell_from_json(json.dumps(asked["template"]))))
        found = re.sub("[0-9a-f]{16}", lambda each: names.get(each[0], each[0]), outcome) if outcome else None
        checksum = checksum_of(found) if found else None
        changed = (json.dumps(asked, sort_keys=True, separators=(",", ":")), found, checksum, number)
        connection.execute("UPDATE searches SET spec = ?, outcome = ?, checksum = ? WHERE id = ?", changed)
