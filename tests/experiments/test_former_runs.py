"""Run folders that the former version wrote, before options of a cell were declared: tests/golden/former-*.

Their cells are plain, in scopes, in patterns, repaired, given layer by layer, retrained, by a method of one's own, and
one that failed; the search minimized weights. shown.csv is what that version showed of its run.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

import secateur
from secateur.experiments.searching import plan as planning
from secateur.experiments.searching import plan_search
from secateur.experiments.searching.plan import RATIOS
from secateur.experiments.sweeping import plan_sweep
from secateur.records.recipes import Retraining
from secateur.records.schema import SCHEMA_VERSION
from secateur.records.spec import Cell, canonical_json, cell_from_json, expand
from secateur.records.store import FILE_NAME, Store
from secateur.report import load_runs, render
from secateur.report.page import write_page

GOLDEN = Path(__file__).parents[1] / "golden"
FORMER_SCHEMA = 11
LATER = (
    "quantize", "include", "float32_accuracy", "float32_validation_accuracy", "float32_layers", "layer_patterns",
    "keep_float",
)  # fmt: skip
RUN, SEARCH = GOLDEN / "former-run", GOLDEN / "former-search"


def query(run: Path, text: str) -> list[Any]:
    connection = sqlite3.connect(f"file:{run / FILE_NAME}?immutable=1", uri=True)
    try:
        return connection.execute(text).fetchall()
    finally:
        connection.close()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RUN, tmp_path / "run"))


@pytest.fixture
def own_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(GOLDEN)


@pytest.mark.parametrize("folder", [RUN, SEARCH])
def test_every_cell_of_a_former_run_has_the_id_that_it_was_stored_under(folder: Path) -> None:
    cells = query(folder, "SELECT id, spec FROM cells")
    assert len(cells) > 10
    for identifier, spec in cells:
        cell = cell_from_json(spec)
        assert cell.id == identifier
        assert canonical_json(cell) == spec
    assert query(folder, "PRAGMA user_version") == [(FORMER_SCHEMA,)]


def test_a_former_run_is_brought_to_the_schema_of_now_and_keeps_its_cells(run: Path) -> None:
    before = query(run, "SELECT id, spec FROM cells ORDER BY id")
    Store.open(run).close()
    assert query(run, "PRAGMA user_version") == [(SCHEMA_VERSION,)]
    assert query(run, "SELECT id, spec FROM cells ORDER BY id") == before


def test_the_columns_of_a_former_run_are_those_that_its_cells_give_now(run: Path, tmp_path: Path) -> None:
    with Store.open(run) as former, Store.create(tmp_path / "now") as now:
        for failure in former.failures():
            now.add(failure)
        for row in former.rows():
            now.add(row)
    both = [query(folder, "SELECT * FROM cells ORDER BY id") for folder in (run, tmp_path / "now")]
    assert both[0] == both[1]


def without_later(line: dict[str, str]) -> dict[str, str]:
    """A line of CSV without the columns of later versions, which say that nothing was done of what those can."""
    assert {line[name] for name in LATER} == {"none", ""}
    return {name: value for name, value in line.items() if name not in LATER}


def test_a_former_run_is_shown_as_the_former_version_did(run: Path) -> None:
    (loaded,) = load_runs([run])
    shown = [without_later(line) for line in csv.DictReader(io.StringIO(render(loaded.rows, "csv", [])))]
    assert [list(line.items()) for line in shown] == [
        list(line.items()) for line in csv.DictReader(io.StringIO((RUN / "shown.csv").read_text()))
    ]
    (failure,) = loaded.failures
    assert failure.cell.describe() == "former_tiny:Fragile on digits, magnitude/layer at 50 %, seed 0"
    write_page([loaded], run / "page.html", None)
    assert "former_tiny:Tiny" in (run / "page.html").read_text()


def same_cells(now: Any) -> tuple[set[str], set[str]]:
    """The ids of a plan, and those of the former run among them."""
    ids = {cell.id for cell in expand(now)}
    return ids, ids & {identifier for (identifier,) in query(RUN, "SELECT id FROM cells")}


@pytest.mark.parametrize(
    "asked",
    [
        {"ratios": (0, 0.5, 0.9)},
        {"methods": ("random",), "scopes": ("global", "like:magnitude/lamp"), "seeds": (1,)},
        {"patterns": ("2:4", "channel-l2"), "norms": True},
        {"repairs": ("reconstruct",), "calibration_images": 64, "calibration_seed": 7},
        {"scopes": ("file:ratios.json",), "allow_empty": True, "exclude": ("out",)},
        {"retrainings": (Retraining("iterative", epochs=2, rounds=2, distill=0.5),)},
        {"methods": ("former_tiny:largest",), "recipe": {"epochs": 1, "weight_decay": 0.0}},
        {"models": ("former_tiny:Fragile",), "recipe": {"epochs": 0}},
        {"ratios": (0, 0.5), "recipe": {"epochs": 0}},
    ],
)
def test_a_sweep_asked_for_as_it_was_then_plans_the_cells_that_are_there(
    asked: dict[str, Any], own_models: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ratios.json").write_text('{"body": 0.5}')
    plain: dict[str, Any] = {
        "models": ("former_tiny:Tiny",), "data": ("digits",), "methods": ("magnitude",), "scopes": ("layer",),
        "ratios": (0.5,), "seeds": (0,), "exclude": (), "allow_empty": False, "weights": None, "recipe": {"epochs": 1},
        "repairs": ("none",),
    }  # fmt: skip
    planned, there = same_cells(plan_sweep(**(plain | asked)))
    assert planned == there


def test_a_former_run_goes_on_where_it_stopped(run: Path, own_models: None) -> None:
    asked: dict[str, Any] = {"epochs": 0, "tolerance": 100, "device": "cpu", "latency_on": "none", "out": run}
    asked |= {"repairs": "none"}  # as was usual then
    with Store.open(run) as store:
        before = {row.cell.id: row for row in store.rows()}
    result = secateur.sweep("former_tiny:Tiny", "digits", ratios=(0, 0.5, 0.9), **asked)
    assert (result.computed, result.failures) == (1, ())
    assert [row.cell.ratio for row in result.rows] == [0, 0.5, 0.9]
    assert all(before[row.cell.id] == row for row in result.rows[:2])
    with Store.open(run) as store:
        assert len(store.rows()) == len(before) + 1
        assert len(store.failures()) == 1


def test_a_former_search_is_the_one_that_is_asked_for_now(own_models: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "RATIOS", RATIOS)  # all of them
    ((spec,),) = query(SEARCH, "SELECT spec FROM searches")
    asked: dict[str, Any] = {"max_drop": 5, "minimize": "weights", "repair": "none", "images": 50, "rounds": 0}
    asked["confidence"] = 0  # what was lost on average counted
    plan = plan_search("former_tiny:Tiny", "digits", calibration_images=64, recipe={"epochs": 1}, **asked)
    assert json.loads(canonical_json(plan)) == json.loads(spec)
    assert canonical_json(plan) == spec


def test_what_a_former_search_found_is_read(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(SEARCH, tmp_path / "search"))
    with Store.open(folder) as store:
        (search,) = store.searches()
        assert search.outcome is not None
        chosen = store.cell(search.outcome.contender(search.outcome.chosen).cell)
        assert store.finding(chosen, "validation")["top1"] == search.outcome.contender("uniform").validation.value
        assert isinstance(chosen, Cell)
