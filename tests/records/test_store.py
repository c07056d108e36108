from __future__ import annotations

import dataclasses
import json
import os
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from samples import make_row, with_digest
from secateur.errors import StoreError
from secateur.records.environment import environment
from secateur.records.recipes import Retraining
from secateur.records.results import Failure, FrontPoint, Latency, Outcome, Quantised, Retrained
from secateur.records.schema import SCHEMA_VERSION
from secateur.records.scores import Score
from secateur.records.spec import Sweep, canonical_json
from secateur.records.store import FILE_NAME, Store


def failure(ratio: float = 0.9) -> Failure:
    return Failure(make_row(ratio).cell, "ValueError: no", "Traceback …", environment(), "2026-01-01T00:00:00+00:00")


def test_rows_and_failures_come_back_as_they_went_in(tmp_path: Path) -> None:
    retrained = dataclasses.replace(make_row(0.95, seed=2), retrained=Retrained(10, 2.5, (3, 7)))
    elsewhere = dataclasses.replace(environment(), host="elsewhere")
    eight_bits = dataclasses.replace(make_row(0.5).cell, quantize="int8")
    rows = [
        dataclasses.replace(make_row(0.0), timed_on=elsewhere),
        dataclasses.replace(make_row(0.5), test=Score(0.5, 10, 0.9)),
        make_row(0.9, seed=1),
        dataclasses.replace(make_row(0.5), cell=eight_bits, quantised=Quantised(Score(0.75, 4), Score(0.5, 2), ("a",))),
        dataclasses.replace(retrained, cell=dataclasses.replace(retrained.cell, retraining=Retraining("gradual"))),
    ]
    with Store.create(tmp_path) as store:
        for row in reversed(rows):
            store.add(row)
        store.add(failure(0.7))
    with Store.open(tmp_path) as store:
        assert store.rows() == rows
        assert store.failures() == [failure(0.7)]
        assert store.done() == {row.cell.id for row in rows}


def test_commands_and_data_digests_are_remembered(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store:
        store.add_sweep(Sweep(("net",), ("data",)), "secateur sweep --model net", "2026-01-01")
        store.add(make_row(0.5))
        store.add(with_digest(make_row(0.9), "d2"))
        assert store.commands() == ["secateur sweep --model net"]
        assert store.data_digests("data") == {"d1", "d2"}
        assert store.data_digests("other") == set()


def test_a_cell_is_stored_once_and_a_row_ends_its_failure(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store:
        store.add(failure())
        store.add(failure())
        assert len(store.failures()) == 1
        store.add(make_row(0.9))
        assert store.failures() == []
        with pytest.raises(StoreError, match="is stored already"):
            store.add(make_row(0.9))
        assert len(store.rows()) == 1


def test_foreign_keys_hold(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store:
        store.add(make_row(0.9))
        with pytest.raises(sqlite3.IntegrityError):
            store._connection.execute("DELETE FROM networks")


def test_a_process_killed_while_it_writes_leaves_whole_rows(tmp_path: Path) -> None:
    code = """
import os, signal, sqlite3, sys
from samples import make_row
from secateur.records import tables
from secateur.records.store import Store
store = Store.create(sys.argv[1])
store.add(make_row(0.5))
real = tables.insert
def insert(db, table, fields, on_conflict=""):
    if table == "latencies":
        os.kill(os.getpid(), signal.SIGKILL)
    return real(db, table, fields, on_conflict)
tables.insert = insert
store.add(make_row(0.9))
"""
    tests = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env={**os.environ, "PYTHONPATH": tests}, check=False
    )
    assert done.returncode == -9
    with Store.open(tmp_path) as store:
        assert store.rows() == [make_row(0.5)]


def test_a_run_without_a_database_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"has no results\.sqlite: expected a run folder; make one with: sec"):
        Store.open(tmp_path)
    with pytest.raises(StoreError, match="is no folder"):
        Store.open(tmp_path / "absent")


def test_files_that_are_not_ours_are_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"not a database, but long enough to be looked at" * 100)
    for opener in (Store.open, Store.create):
        with pytest.raises(StoreError, match="cannot be opened as a Secateur database: file is not a database"):
            opener(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    with sqlite3.connect(other / FILE_NAME) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    connection.close()
    for opener in (Store.open, Store.create):
        with pytest.raises(StoreError, match="expected a Secateur database, got another one"):
            opener(other)


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    Store.create(tmp_path).close()
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    for opener in (Store.open, Store.create):
        with pytest.raises(StoreError, match=rf"schema {SCHEMA_VERSION + 1} is newer than this Secateur knows"):
            opener(tmp_path)


def test_a_run_in_a_folder_that_cannot_be_written_opens(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store:
        store.add(make_row(0.5))
    os.chmod(tmp_path, 0o500)
    try:
        with Store.open(tmp_path) as store:
            assert len(store.rows()) == 1
    finally:
        os.chmod(tmp_path, 0o700)


def test_folder_names_may_hold_odd_characters(tmp_path: Path) -> None:
    folder = tmp_path / "a b#c?d%20é"
    with Store.create(folder) as store:
        store.add(make_row(0.5))
    with Store.open(folder) as store:
        assert len(store.rows()) == 1


def test_what_a_search_was_timed_beside_comes_back_as_it_went_in(tmp_path: Path) -> None:
    rival = Latency("openvino-int8", 1, 1, 2.0, 1.5, 2.5, 9)
    outcome = Outcome("search", (), None, (), 3.0, (rival,), (("onnxruntime", "is not installed"),))
    with Store.create(tmp_path) as store:
        store.add_outcome(store.add_search("{}", "", "now"), outcome)
        (found,) = store.searches()
    assert found.outcome == outcome


def test_a_run_of_the_first_schema_keeps_its_rows_under_the_ids_of_now(tmp_path: Path) -> None:
    row = make_row(0.5)
    old_fields = json.loads(canonical_json(row.cell))
    lacking = (
        "pattern", "repair", "calibration_images", "calibration_seed", "layer_ratios", "norms", "retraining",
        "method_source", "model_source",
    )  # fmt: skip
    for name in lacking:
        del old_fields[name]
    with Store.create(tmp_path) as store:
        store.add(row)
        store.add(failure(0.7))
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    for name in (
        "retrained_epochs",
        "retrained_seconds",
        "retrained_resumed_from",
        "timing_environment_id",
        "checksum",
        "left_dense",
        "quantised",
    ):
        connection.execute(f"ALTER TABLE rows DROP COLUMN {name}")
    for name in (
        "pattern",
        "repair",
        "calibration_images",
        "calibration_seed",
        "retraining",
        "method_source",
        "model_source",
        "quantize",
    ):
        connection.execute(f"ALTER TABLE cells DROP COLUMN {name}")
    connection.execute("UPDATE cells SET spec = ?, id = 'old' WHERE ratio = 0.5", (json.dumps(old_fields),))
    connection.execute("UPDATE rows SET cell_id = 'old'")
    connection.execute("ALTER TABLE rows DROP COLUMN packed_bytes")
    connection.execute("ALTER TABLE layers DROP COLUMN milliseconds")
    for name in ("mean", "std", "augment", "metric"):
        connection.execute(f"ALTER TABLE networks DROP COLUMN {name}")
    connection.execute("DROP TABLE searches")
    connection.execute("DROP TABLE findings")
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()
    with Store.open(tmp_path) as store:
        assert store.rows() == [row]
        assert store.done() == {row.cell.id}
        assert store.failures() == [failure(0.7)]
        assert store._connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert store._connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_a_search_of_an_older_schema_asks_and_tells_by_the_ids_of_now(tmp_path: Path) -> None:
    cell = make_row(0.5).cell
    asked = {"template": json.loads(canonical_json(cell)), "max_drop": 1.0}
    outcome = Outcome("search", (), None, (FrontPoint(cell.id, 2.0, Score(0.9, 10)),), 3.0)
    with Store.create(tmp_path) as store:
        store.add(make_row(0.5))
        number = store.add_search(json.dumps(asked, sort_keys=True, separators=(",", ":")), "", "now")
        store.add_outcome(number, outcome)
        (expected,) = store.searches()
    old = json.loads(canonical_json(cell))
    del old["model_source"]
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    connection.execute("UPDATE cells SET spec = ?, id = '0123456789abcdef'", (json.dumps(old),))
    connection.execute("UPDATE rows SET cell_id = '0123456789abcdef'")
    connection.execute("UPDATE searches SET spec = ?", (json.dumps(asked | {"template": old}),))
    connection.execute("UPDATE searches SET outcome = replace(outcome, ?, '0123456789abcdef')", (cell.id,))
    connection.execute("ALTER TABLE cells DROP COLUMN model_source")
    connection.execute("ALTER TABLE cells DROP COLUMN quantize")
    for table, names in {"networks": ("mean", "std", "augment", "metric"),
                         "rows": ("checksum", "left_dense", "quantised"),
                         "findings": ["checksum"], "searches": ["checksum"]}.items():  # fmt: skip
        for name in names:
            connection.execute(f"ALTER TABLE {table} DROP COLUMN {name}")
    connection.execute("PRAGMA user_version = 8")
    connection.commit()
    connection.close()
    with Store.open(tmp_path) as store:
        assert store.searches() == [expected]


@pytest.mark.parametrize("damage", ["truncated", "zeros", "text", "empty"])
def test_a_damaged_database_is_one_line_of_ours(tmp_path: Path, damage: str) -> None:
    with Store.create(tmp_path) as store:
        store.add(make_row(0.5))
    path = tmp_path / FILE_NAME
    whole = path.read_bytes()
    damaged = {"truncated": whole[: len(whole) // 2], "zeros": bytes(len(whole)), "text": b"not one", "empty": b""}
    for way in (Store.create, Store.open):
        path.write_bytes(damaged[damage])
        if damage == "empty":
            with way(tmp_path) as store:
                assert store.rows() == []
            continue
        with pytest.raises(StoreError, match=r"^[^\n]*results\.sqlite: [^\n]*$"), way(tmp_path) as store:
            store.rows()


def test_flipped_bits_of_a_database_are_never_taken_for_what_was_measured(tmp_path: Path) -> None:
    cell = make_row(0.5).cell
    outcome = Outcome("search", (), None, (FrontPoint(cell.id, 2.0, Score(0.9, 10)),), 3.0)
    with Store.create(tmp_path) as store:
        store.add(make_row(0.5))
        store.add(make_row(0.9))
        store.keep_finding(cell, "harm", 0.125)
        store.add_outcome(store.add_search("{}", "", "now"), outcome)
        expected = {row.cell: row for row in store.rows()}, store.finding(cell, "harm"), store.searches()[0].outcome
    path = tmp_path / FILE_NAME
    whole = path.read_bytes()
    draw, told = random.Random(0), []
    for _ in range(300):
        content = bytearray(whole)
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
        for rest in ("-wal", "-shm"):
            path.with_name(path.name + rest).unlink(missing_ok=True)
        try:
            with Store.open(tmp_path) as store:
                found = (
                    {row.cell: row for row in store.rows()},
                    store.finding(cell, "harm"),
                    store.searches()[0].outcome,
                )
        except StoreError as error:
            told.append(str(error))
        else:
            assert found == expected
    assert len(told) > 30
    assert not [each for each in told if "\n" in each]


def test_rows_of_another_network_under_the_same_key_are_refused(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store:
        row = make_row(0.5)
        store.add(row)
        worse = dataclasses.replace(row.trained.test, value=row.trained.test.value - 0.01)
        other = dataclasses.replace(make_row(0.9), trained=dataclasses.replace(row.trained, test=worse))
        with pytest.raises(StoreError, match="it was made anew and came out otherwise; name another --out"):
            store.add(other)
        assert store.rows() == [row]


def test_a_database_that_was_removed_is_not_written_on(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store:
        store.add(make_row(0.5))
        (tmp_path / FILE_NAME).unlink()
        with pytest.raises(StoreError, match="was removed or replaced while it was in use"):
            store.add(make_row(0.9))
