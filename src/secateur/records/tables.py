"""Values as records of the run's tables, and back, with the checksums that say whether they are what was written."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any

from secateur.records.results import (
    Contender,
    Environment,
    Failure,
    Footprint,
    FrontPoint,
    Latency,
    Layer,
    Outcome,
    Quantised,
    Retrained,
    Row,
    Trained,
)
from secateur.records.scores import TOP1, Metric, Score, plain, score_from
from secateur.records.spec import OPTIONS, Cell, canonical_json, cell_from_json


def checksum_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def as_written(text: str, checksum: str | None) -> str:
    """Raises ValueError where a text is not the one that its checksum is of; earlier versions wrote none."""
    if checksum not in (None, checksum_of(text)):
        raise ValueError(f"a record has another checksum than was written: {text[:40]}…")
    return text


def row_checksum(row: Row) -> str:
    """Of all that a row says but its cell, whose id is a checksum; what is empty, as fields of later versions are in
    rows of earlier ones, does not count."""
    fields = plain(row)
    del fields["cell"]
    return checksum_of(json.dumps(_without_empty(fields), sort_keys=True))


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_empty(each) for name, each in value.items() if each not in (None, "", (), [])}
    return [_without_empty(each) for each in value] if isinstance(value, (list, tuple)) else value


def cell_as_written(spec: str, identifier: str) -> Cell:
    """Raises ValueError where a cell is not what its id was made of."""
    cell = cell_from_json(spec)
    if cell.id != identifier:
        raise ValueError(f"cell {identifier} is not what it was when it was written")
    return cell


ROWS = "SELECT rows.*, cells.spec AS cell_spec FROM rows JOIN cells ON cells.id = cell_id"


def insert(db: sqlite3.Connection, table: str, fields: Mapping[str, Any], on_conflict: str = "") -> int:
    marks = ", ".join("?" * len(fields))
    statement = f"INSERT {on_conflict} INTO {table} ({', '.join(fields)}) VALUES ({marks})"
    return db.execute(statement, tuple(fields.values())).lastrowid or 0


def insert_row(db: sqlite3.Connection, row: Row) -> int:
    fields = {
        "cell_id": row.cell.id,
        "network_key": row.trained.key,
        "environment_id": _environment_id(db, row.environment),
        **_score_fields("validation", row.validation),
        **_score_fields("test", row.test),
        **dataclasses.asdict(row.ours),
        "seconds": row.seconds,
        "measured_at": row.measured_at,
        "packed_bytes": row.packed_bytes,
        "left_dense": json.dumps(row.left),
        "quantised": json.dumps(plain(row.quantised)) if row.quantised else None,
    }
    if row.timed_on:
        fields["timing_environment_id"] = _environment_id(db, row.timed_on)
    if row.pytorch:
        fields |= {f"pytorch_{name}": value for name, value in dataclasses.asdict(row.pytorch).items()}
    if row.retrained:
        fields |= {f"retrained_{name}": value for name, value in dataclasses.asdict(row.retrained).items()}
        fields["retrained_resumed_from"] = json.dumps(row.retrained.resumed_from)
    row_id = insert(db, "rows", fields)
    for position, layer in enumerate(row.layers):
        insert(db, "layers", {"row_id": row_id, "position": position, **dataclasses.asdict(layer)})
    for latency in row.latencies:
        insert(db, "latencies", {"row_id": row_id, **dataclasses.asdict(latency)})
    db.execute("DELETE FROM failures WHERE cell_id = ?", (row.cell.id,))
    return row_id


def insert_failure(db: sqlite3.Connection, failure: Failure) -> None:
    fields = {
        "cell_id": failure.cell.id,
        "environment_id": _environment_id(db, failure.environment),
        "error": failure.error,
        "traceback": failure.traceback,
        "failed_at": failure.failed_at,
    }
    insert(db, "failures", fields, on_conflict="OR REPLACE")


def _environment_id(db: sqlite3.Connection, environment: Environment) -> int:
    fields = dataclasses.asdict(environment)
    fields["versions"] = json.dumps(fields["versions"], sort_keys=True)
    insert(db, "environments", fields, on_conflict="OR IGNORE")
    conditions = " AND ".join(f"{name} = ?" for name in fields)
    found = db.execute(f"SELECT id FROM environments WHERE {conditions}", tuple(fields.values()))
    return int(found.fetchone()[0])


def cell_fields(cell: Cell) -> dict[str, Any]:
    columns = {option.name: option.told(cell) for option in OPTIONS if option.option.column}
    sources = {"model_source": cell.model_source, "method_source": cell.method_source}
    return {"id": cell.id, **columns, **sources, "spec": canonical_json(cell)}


def trained_fields(trained: Trained) -> dict[str, Any]:
    fields = dataclasses.asdict(trained)
    metric = trained.validation.metric
    fields["metric"] = "" if metric == TOP1 else json.dumps(dataclasses.asdict(metric))
    fields |= {name: json.dumps(getattr(trained, name)) for name in ("resumed_from", "mean", "std")}
    del fields["validation"], fields["test"]
    return fields | _score_fields("validation", trained.validation) | _score_fields("test", trained.test)


def _score_fields(prefix: str, score: Score) -> dict[str, Any]:
    return {f"{prefix}_{name}": plain(score)[name] for name in ("top1", "n", "top5")}


def _score(record: Mapping[str, Any], prefix: str, metric: Metric) -> Score:
    value, n, top5 = (record[f"{prefix}_{name}"] for name in ("top1", "n", "top5"))
    return Score(value, n, top5, metric)


def outcome_json(outcome: Outcome) -> str:
    return json.dumps(plain(outcome))


def outcome_from(text: str) -> Outcome:
    """The inverse of outcome_json."""
    fields = json.loads(text)
    contenders = tuple(
        Contender(**(each | {
            "validation": score_from(each["validation"]),
            "test": score_from(each["test"]),
            "latency": Latency(**each["latency"]) if each["latency"] else None,
        }))
        for each in fields["contenders"]
    )  # fmt: skip
    front = tuple(
        FrontPoint(**(each | {"validation": score_from(each["validation"]), "costs": tuple(each.get("costs", ()))}))
        for each in fields["front"]
    )
    pytorch = Latency(**fields["pytorch"]) if fields["pytorch"] else None
    rivals = tuple(Latency(**each) for each in fields.get("rivals", ()))
    absent = tuple((name, why) for name, why in fields.get("absent", ()))
    return Outcome(fields["chosen"], contenders, pytorch, front, fields["dense_cost"], rivals, absent)


def _retrained(record: Mapping[str, Any]) -> Retrained | None:
    if record["retrained_epochs"] is None:
        return None
    resumed_from = tuple(json.loads(record["retrained_resumed_from"]))
    return Retrained(record["retrained_epochs"], record["retrained_seconds"], resumed_from)


def _quantised(text: str | None) -> Quantised | None:
    if text is None:
        return None
    fields = json.loads(text)
    validation, test = (score_from(fields[name]) for name in ("validation", "test"))
    return Quantised(validation, test, tuple(fields["float_layers"]))


def _pytorch_footprint(record: Mapping[str, Any]) -> Footprint | None:
    if record["pytorch_file_bytes"] is None:
        return None
    return Footprint(record["pytorch_file_bytes"], record["pytorch_peak_memory"], record["pytorch_held_memory"])


def records(db: sqlite3.Connection, query: str, *values: object) -> Iterator[Mapping[str, Any]]:
    cursor = db.execute(query, values)
    names = [column[0] for column in cursor.description]
    return (dict(zip(names, record, strict=True)) for record in cursor.fetchall())


def row_from(db: sqlite3.Connection, record: Mapping[str, Any]) -> Row:
    trained = trained_from(db, record["network_key"])
    metric = trained.validation.metric
    return Row(
        cell=cell_as_written(record["cell_spec"], record["cell_id"]),
        trained=trained,
        validation=_score(record, "validation", metric),
        test=_score(record, "test", metric),
        layers=_parts(db, Layer, "layers", record["id"], "position"),
        ours=Footprint(record["file_bytes"], record["peak_memory"], record["held_memory"]),
        pytorch=_pytorch_footprint(record),
        latencies=_parts(db, Latency, "latencies", record["id"], "batch, threads, engine"),
        environment=environment_from(db, record["environment_id"]),
        seconds=record["seconds"],
        measured_at=record["measured_at"],
        packed_bytes=record["packed_bytes"],
        retrained=_retrained(record),
        timed_on=environment_from(db, timed_on) if (timed_on := record["timing_environment_id"]) else None,
        left=tuple((name, why) for name, why in json.loads(record["left_dense"])),
        quantised=_quantised(record["quantised"]),
    )


def _parts(db: sqlite3.Connection, kind: Any, table: str, row_id: int, order: str) -> Any:
    names = [field.name for field in dataclasses.fields(kind)]
    query = f"SELECT {', '.join(names)} FROM {table} WHERE row_id = ? ORDER BY {order}"
    return tuple(kind(*record) for record in db.execute(query, (row_id,)))


def trained_from(db: sqlite3.Connection, key: str) -> Trained:
    (record,) = records(db, "SELECT * FROM networks WHERE key = ?", key)
    fields: dict[str, Any] = {field.name: record.get(field.name) for field in dataclasses.fields(Trained)}
    fields |= {name: tuple(json.loads(record[name])) for name in ("resumed_from", "mean", "std")}
    metric = Metric(**json.loads(record["metric"])) if record["metric"] else TOP1
    fields |= {name: _score(record, name, metric) for name in ("validation", "test")}
    return Trained(**fields)


def environment_from(db: sqlite3.Connection, identifier: int) -> Environment:
    (record,) = records(db, "SELECT * FROM environments WHERE id = ?", identifier)
    fields = {field.name: record[field.name] for field in dataclasses.fields(Environment)}
    return Environment(**(fields | {"versions": json.loads(record["versions"])}))
