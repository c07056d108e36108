"""Expressions of lengths: arithmetic as numbers have it, one way to write each, and what their texts may be."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.errors import GraphError
from secateur.network.sizes import Size, bind, lengths_in, named, parse

NAMES = ("height", "width")
LENGTHS = st.fixed_dictionaries({name: st.integers(0, 200) for name in NAMES})
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([operator.add, operator.sub, operator.mul]), st.integers(-5, 5)),
        st.tuples(st.sampled_from([operator.add, operator.sub, operator.mul]), st.sampled_from(NAMES)),
        st.tuples(st.just(operator.floordiv), st.integers(1, 6)),
    ),
    max_size=6,
)


def compute(start: str, steps: Any, value_of: Callable[[Any], Any]) -> Any:
    return reduce(lambda size, step: step[0](size, value_of(step[1])), steps, value_of(start))


@given(st.sampled_from(NAMES), STEPS, LENGTHS)
def test_an_expression_bound_to_lengths_is_what_the_numbers_give(
    start: str, steps: Any, lengths: dict[str, int]
) -> None:
    size = compute(start, steps, lambda each: named(each) if isinstance(each, str) else each)
    expected = compute(start, steps, lambda each: lengths.get(each, each))
    assert bind(size, lengths) == expected
    assert bind(bind(size, {"height": lengths["height"]}), {"width": lengths["width"]}) == expected


@given(st.sampled_from(NAMES), STEPS)
def test_an_expression_is_read_again_from_its_text(start: str, steps: Any) -> None:
    size = compute(start, steps, lambda each: named(each) if isinstance(each, str) else each)
    assert parse(str(size)) == size
    assert hash(parse(str(size))) == hash(size)


@settings(max_examples=30)
@given(st.sampled_from(NAMES), STEPS, st.sampled_from(NAMES), STEPS)
def test_sums_and_products_that_sympy_finds_equal_are_equal(start: str, steps: Any, other: str, more: Any) -> None:
    """Without divisions, which no computer algebra decides in general."""
    steps, more = ([step for step in each if step[0] is not operator.floordiv] for each in (steps, more))
    ours = [
        compute(*each, lambda part: named(part) if isinstance(part, str) else part)
        for each in ((start, steps), (other, more))
    ]
    theirs = [
        compute(*each, lambda part: sympy.Symbol(part) if isinstance(part, str) else part)
        for each in ((start, steps), (other, more))
    ]
    assert (ours[0] == ours[1]) == (sympy.expand(theirs[0] - theirs[1]) == 0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("⌊(2·height + 1)/2⌋", "height"),
        ("⌊(height - 1)/2⌋ + 1", "⌊(height + 1)/2⌋"),
        ("⌊(⌊(height + 1)/2⌋ - 1)/2⌋ + 1", "⌊(height + 3)/4⌋"),  # two windows of 3 with stride 2 and padding 1
        ("⌊(6·height + 5)/4⌋", "height + ⌊(height + 2)/2⌋"),
        ("height*width*2 - width·height", "height·width"),
        ("⌊(4·height + 4·width)/4⌋ - width", "height"),
        ("height - height + 3", "3"),
    ],
)
def test_sizes_that_are_always_equal_are_written_the_same_way(one: str, other: str) -> None:
    assert parse(one) == parse(other)
    assert str(parse(one)) == other or one.startswith(("⌊(6", "height*"))


def test_a_size_without_names_is_a_number() -> None:
    assert type(named("height") - named("height") + 4) is int
    assert type(named("height").bind({"height": 3})) is int


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2 ·",
        "height +",
        "(height)",
        "⌊height/0⌋",
        "⌊height⌋",
        "1.5",
        "height²",
        "a b",
        "a" * 64,
        "--a",
        "⌊" * 20,
        "9" * 14,
    ],
)
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(GraphError, match="a size"):
        parse(text)


@pytest.mark.parametrize(
    "grow",
    [
        lambda size: size * size,
        lambda size: size * (named("width") + 1),
        lambda size: size * 1000,
        lambda size: (size * 3 + named("width")) // 7,
    ],
)
def test_what_would_grow_without_end_is_refused(grow: Callable[[Any], Any]) -> None:
    with pytest.raises(GraphError, match="sizes with names: expected"):
        reduce(lambda size, _: grow(size), range(100), named("height") + 1)


def test_a_length_that_two_places_tell_differently_is_said_once() -> None:
    with pytest.raises(GraphError, match=r"^y: expected height = 6, got 7$"):
        lengths_in([("x", named("height"), 6), ("y", named("height"), 7)])


def test_lengths_are_found_from_the_places_that_tell_them() -> None:
    length, width = named("length"), named("width")
    places = [("x", 2 * length + 1, 9), ("x", length * width, 12), ("y", width, 3)]
    assert lengths_in(places) == {"length": 4, "width": 3}


@pytest.mark.parametrize(
    ("came", "message"),
    [
        ((8, 12, 3), r"x, dimension 2: expected 2·length \+ 1 of a whole length, got 8"),
        ((9, 13, 3), r"x, dimension 3: expected length·width = 12 where length is 4, width is 3, got 13"),
    ],
)
def test_a_size_that_does_not_fit_is_named_with_its_place(came: tuple[int, ...], message: str) -> None:
    length, width = named("length"), named("width")
    sizes = (2 * length + 1, length * width, width)
    places = [
        (f"x, dimension {index}", size, got) for index, (size, got) in enumerate(zip(sizes, came, strict=True), 2)
    ]
    with pytest.raises(GraphError, match=message):
        lengths_in(places)


def test_a_size_is_printed_for_people() -> None:
    height, width = named("height"), named("width")
    assert str(2 * width + 1) == "2·width + 1"
    assert str(height * width - 3) == "height·width - 3"
    assert str((height + 3) // 4) == "⌊(height + 3)/4⌋"
    assert str(-height + 7) == "-height + 7"
    assert isinstance(height, Size)
