"""Options of a cell are declared once: what a user meets follows from the declaration."""

from __future__ import annotations

import dataclasses
import inspect
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import click
import pytest
import typer

import secateur
from samples import make_row
from secateur.cli import app
from secateur.cli.declared import options_from, with_options
from secateur.errors import UsageError
from secateur.records.options import Declared, Option, asked_for, at_least, declared, takes
from secateur.records.recipes import Recipe, RecipeOptions, Retraining
from secateur.records.spec import (
    OPTIONS,
    SEARCH_OPTIONS,
    SHARED,
    SWEPT,
    Cell,
    SearchOptions,
    Sweep,
    SweepOptions,
    expand,
)
from secateur.records.store import FILE_NAME, Store
from secateur.report.records import COLUMNS, record

DERIVED = {"recipe", "layer_ratios", "layer_patterns", "keep_float", "method_source", "model_source"}
"""Fields of a cell that no keyword sets as they are: what others say, or files, comes to them."""


def flags_of(verb: str) -> dict[str, Any]:
    """What a verb of the command line takes: flag → its parameter."""
    group = typer.main.get_command(app)
    assert isinstance(group, click.Group) or hasattr(group, "commands")
    return {each.opts[0]: each for each in group.commands[verb].params}


def test_every_field_of_a_cell_is_declared_or_follows_from_others() -> None:
    fields = {field.name for field in dataclasses.fields(Cell)}
    assert {each.name for each in OPTIONS} == fields - DERIVED
    assert {*SWEPT, *SHARED} == set(OPTIONS)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda each: each.name)
def test_an_option_of_a_cell_is_a_keyword_of_sweep_and_a_field_of_a_sweep(option: Declared) -> None:
    name = option.option.many or option.name
    parameter = inspect.signature(secateur.sweep).parameters[name]
    held = {field.name: field for field in dataclasses.fields(Sweep)}[name]
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY and held.default is not dataclasses.MISSING:
        assert parameter.default == held.default
    assert f"{name}: {option.option.help}" in (secateur.sweep.__doc__ or "") or not option.option.help


@pytest.mark.parametrize("option", OPTIONS, ids=lambda each: each.name)
def test_an_option_of_a_cell_has_a_flag_that_says_what_it_is_for(option: Declared) -> None:
    flags = flags_of("sweep")
    for each in option.parts or (option,):
        flag = each.option.flag or f"--{each.name_in(listed=True).replace('_', '-')}"
        flag = {"--models": "--model"}.get(flag, flag)
        if each.option.help:
            assert flags[flag].help == each.option.help
        else:
            assert flag in flags or each.name in ("ramp", "every", "temperature")


@pytest.mark.parametrize("option", SEARCH_OPTIONS, ids=lambda each: each.name)
def test_an_option_that_a_search_takes_is_its_keyword_and_its_flag(option: Declared) -> None:
    parameter = inspect.signature(secateur.search).parameters[option.name]
    expected = "reconstruct" if option.name == "repair" else option.default_in(listed=False)
    assert parameter.default == expected
    flag = option.option.flag or f"--{option.name.replace('_', '-')}"
    assert flags_of("search")[flag].help == option.option.alone or option.option.help


@pytest.mark.parametrize(("keywords", "function"), [(SweepOptions, "sweep"), (SearchOptions, "search")])
def test_what_type_checkers_read_is_what_is_declared(keywords: Any, function: str) -> None:
    """SweepOptions and SearchOptions are for them alone; functions say at run time what is declared."""
    parameters = inspect.signature(getattr(secateur, function)).parameters
    known = {name: each.__forward_arg__ for name, each in keywords.__annotations__.items()}
    recipe = {name: known.pop(name) for name in RecipeOptions.__annotations__}
    assert recipe == {
        field.name: field.type.split("[")[1].split(",")[0].strip() for field in dataclasses.fields(Recipe)
    }
    assert known == {name: parameters[name].annotation for name in known}
    taken = {each.name_in(function == "sweep") for each in (OPTIONS if function == "sweep" else SEARCH_OPTIONS)}
    assert taken - known.keys() == ({"models", "data"} if function == "sweep" else {"repair"})


@pytest.mark.parametrize("option", [each for each in OPTIONS if each.option.column], ids=lambda each: each.name)
def test_an_option_with_a_column_is_in_the_store_and_in_exports(option: Declared, tmp_path: Path) -> None:
    row = make_row(0.5)
    with Store.create(tmp_path) as store:
        store.add(row)
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    ((kept,),) = connection.execute(f"SELECT {option.name} FROM cells").fetchall()
    connection.close()
    assert kept == record(row)[option.name] == option.told(row.cell)
    assert option.name in COLUMNS


WRONG = {
    "scope": "world", "ratio": 1.0, "seed": -1, "pattern": "4:2", "repair": "prayer", "calibration_images": 0,
    "calibration_seed": -1, "quantize": "int4",
}  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS, ids=lambda each: each.name)
def test_an_option_is_checked_where_it_is_declared_to_be(option: Declared) -> None:
    assert (option.name in WRONG) == (option.option.check is not None)
    if option.name in WRONG:
        wrong = WRONG[option.name]
        change: dict[str, Any] = {option.name_in(listed=True): (wrong,) if option.option.many else wrong}
        with pytest.raises(UsageError, match=option.name.replace("_", " ")):
            Sweep(("lenet-5",), ("mnist",), **change)


@dataclass(frozen=True, slots=True)
class Warmer(Cell):
    """A cell with two options more: nothing else is written for them."""

    warmth: Annotated[int, Option("How warm.", alone="", check=at_least(1), column=True)] = 3
    taste: Annotated[str, Option("How it tastes.", many="tastes")] = "sweet"


NEW = tuple(each for each in declared(Warmer) if each.name in ("warmth", "taste"))


def test_a_new_option_needs_its_declaration_alone() -> None:
    @takes(NEW, before="last", listed=True)
    def function(first: int, *, last: int = 0, **options: Any) -> dict[str, Any]:
        return asked_for(NEW, options, listed=True)[0]

    added = "warmth: 'int' = 3, tastes: 'Sequence[str]' = ('sweet',)"
    assert str(inspect.signature(function)).startswith(f"(first: 'int', *, {added}, last: 'int' = 0)")
    assert "warmth: How warm." in (function.__doc__ or "")
    assert function(1) == {"warmth": 3, "tastes": ("sweet",)}
    assert function(1, warmth=4) == {"warmth": 4, "tastes": ("sweet",)}

    seen: dict[str, Any] = {}

    @with_options(NEW, "debug", "debug", listed=True)
    def verb(debug: bool = False, **words: Any) -> None:
        seen.update(options_from(NEW, words, listed=True))

    own = typer.Typer()
    own.command()(verb)
    own(["--warmth", "5", "--tastes", "sweet,sour"], standalone_mode=False)
    assert seen == {"warmth": 5, "tastes": ["sweet", "sour"]}

    warm, _ = NEW
    with pytest.raises(UsageError, match="warmth 0: expected 1 or more"):
        warm.check(0)
    cell = Warmer("net", "data", "magnitude", "layer", 0.5, 0, Recipe())
    assert warm.told(cell) == 3
    assert cell.id != dataclasses.replace(cell, warmth=4).id


def test_a_sweep_multiplies_by_every_option_that_is_declared_to() -> None:
    several: dict[str, Any] = {
        "models": ("lenet-5", "resnet-18"), "data": ("mnist", "digits"), "methods": ("magnitude", "random"),
        "scopes": ("layer", "global"), "ratios": (0.5, 0.9), "seeds": (0, 1), "patterns": ("unstructured", "1x4"),
        "repairs": ("none", "reconstruct"), "retrainings": (None,), "quantize": ("none", "int8"),
    }  # fmt: skip
    assert several.keys() == {each.option.many for each in SWEPT}
    assert len({cell.id for cell in expand(Sweep(**several))}) == 2**9


@pytest.mark.parametrize("kind", [Cell, Sweep, Recipe, Retraining])
def test_the_signature_of_a_value_names_types_and_defaults(kind: Any) -> None:
    parameters = inspect.signature(kind).parameters
    assert "Option(" not in str(parameters)
    held = {field.name: field for field in dataclasses.fields(kind)}
    assert parameters.keys() == held.keys()
    for name, each in parameters.items():
        missing = held[name].default is dataclasses.MISSING
        assert each.default is (inspect.Parameter.empty if missing else held[name].default)
