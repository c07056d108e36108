from __future__ import annotations

import dataclasses

import pytest

from secateur.errors import UsageError
from secateur.records.cuts import SCOPES, Cut, Scope, asked_cut, methods_of, parse_scope
from secateur.records.recipes import Recipe
from secateur.records.spec import Cell

CELL = Cell("net", "data", "magnitude", "layer", 0.75, 0, Recipe())


@pytest.mark.parametrize("text", [*SCOPES, *(f"like:mine:own/{kind}" for kind in SCOPES), "like:a/b/layer"])
def test_a_scope_says_what_it_was_read_from(text: str) -> None:
    assert str(parse_scope(text)) == text


def test_a_scope_knows_its_kind_and_whom_it_is_like() -> None:
    assert parse_scope("erk") == Scope("erk")
    assert parse_scope("like:mine:own/lamp") == Scope("lamp", like="mine:own")


@pytest.mark.parametrize(
    "text", ["", "world", "like:", "like:magnitude", "like:/layer", "like:magnitude/world", "a/layer"]
)
def test_a_text_that_names_no_scope_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected one of layer, global, erk, lamp, or like:METHOD/SCOPE"):
        parse_scope(text)


@pytest.mark.parametrize(
    ("scope", "expected"),
    [("layer", ("random",)), ("like:magnitude/layer", ("random", "magnitude")), ("like:random/layer", ("random",)),
     ("file:ratios.json", ("random",)), ("", ("random",))],
)  # fmt: skip
def test_the_methods_of_a_cut_are_the_one_that_scores_and_the_one_that_it_is_like(
    scope: str, expected: tuple[str, ...]
) -> None:
    assert methods_of("random", scope) == expected


def test_a_cell_has_one_cut_whichever_way_its_ratios_are_given() -> None:
    assert CELL.cut == Cut(0.75, Scope("layer"))
    assert dataclasses.replace(CELL, scope="like:random/global").cut.scope.like == "random"
    given = dataclasses.replace(CELL, scope="file:ratios.json", layer_ratios=(("a", 0.5),))
    assert given.cut == Cut(0.75, by_layer=(("a", 0.5),))
    assert [each.is_dense for each in (CELL, given, dataclasses.replace(CELL, ratio=0))] == [False, False, True]


def test_a_cut_in_parts_multiplies_what_is_left() -> None:
    left = 1.0
    for step in (1, 2, 3):
        left *= 0.25 ** (1 / 3)
        assert Cut(0.75).part(step / 3).ratio == pytest.approx(1 - left)
    assert Cut(0.75).part(1) == Cut(0.75)
    assert Cut(0.0, by_layer=(("a", 0.75), ("b", 0.0))).part(0.5).by_layer == (("a", 0.5), ("b", 0.0))


def test_ratios_by_layer_are_approached_in_step() -> None:
    assert Cut(0.8, Scope("global")).to(0.4) == Cut(0.4, Scope("global"))
    assert Cut(0.8, by_layer=(("a", 1.0), ("b", 0.5))).to(0.4).by_layer == (("a", 0.5), ("b", 0.25))


@pytest.mark.parametrize("ratio", [-0.1, 1.0, float("nan"), True, "half"])
def test_a_share_that_is_none_is_refused(ratio: float) -> None:
    with pytest.raises(UsageError, match=r"expected in \[0, 1\)"):
        asked_cut(ratio, "layer").check("unstructured")
    with pytest.raises(UsageError, match=r"expected in \[0, 1\), or 1 for a layer|ratio True"):
        asked_cut({"a": ratio if ratio != 1.0 else 1.5}, "layer").check("unstructured")
    asked_cut({"a": 1.0}, "layer").check("unstructured")
