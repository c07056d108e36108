"""What an option of a cell is: declared once, in the annotation of its field, and what follows from that.

    calibration_images: Annotated[int, Option("Training images that …", flag="--calibration", check=at_least(1))] = 1024

The field gives name, type and default, and enters the cell's id as every field does (a LATER one where it is set).
From the declaration follow the command line (cli/declared.py), the keywords of sweep and search and their checks, the
column of the store and what reports say.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass
from typing import Any, TypeVar

from secateur.errors import UsageError

Function = TypeVar("Function", bound=Callable[..., Any])
Kind = TypeVar("Kind")
LATER = {"later": True}
"""Metadata of a field that came when cells had ids already: at its default it stands in none, so those stay."""
Check = Callable[[str, Any], None]
"""(name, value) → nothing, or UsageError, which says what was expected."""


@dataclass(frozen=True, slots=True)
class Option:
    """What is to be known of an option beside the name, type and default that its field has.

    help: its line on the command line. many: the name of the list that a sweep takes in its place, whose values
    multiply cells. alone: its help where a search takes one value; None where a search takes none. flag: on the command
    line, where it is not its name or its list's; "" for none. unset: how help calls the default of an option that may
    be left out there. first: the list's default where the field has none. example: of a list of numbers. given: the
    type that callers hand over, where it is not the field's. check: of each value.

    column: whether it has one in the table of cells and stands in the card of a kept network. told: what is said of
    it there and in exports, of a cell, where it is not the field's value. setting: how reports call it, and what of it
    they say, where it tells curves apart.
    """

    help: str = ""
    many: str = ""
    alone: str | None = None
    flag: str | None = None
    unset: str | None = None
    first: tuple[Any, ...] = ()
    example: str = ""
    given: str = ""
    check: Check | None = None
    column: bool = False
    told: Callable[[Any], Any] | None = None
    setting: tuple[str, Callable[[Any], str]] | None = None


@dataclass(frozen=True, slots=True)
class Declared:
    """An option with the name, type and default of its field; the default is MISSING where it has none."""

    name: str
    type: Any
    default: Any
    option: Option

    @property
    def parts(self) -> tuple[Declared, ...]:
        """The options that the value itself is made of."""
        kinds = (self.type, *typing.get_args(self.type))
        return next((declared(kind) for kind in kinds if hasattr(kind, "__dataclass_fields__")), ())

    def told(self, cell: Any) -> Any:
        """What the store's column and exports say of it."""
        return self.option.told(cell) if self.option.told else getattr(cell, self.name)

    def check(self, value: Any) -> None:
        """Raises UsageError for a value that makes no sense."""
        if self.option.check:
            self.option.check(self.name.replace("_", " "), value)

    def name_in(self, listed: bool) -> str:
        """Of the keyword that gives one value; where listed, of the one that gives its list, if it multiplies cells."""
        return self.option.many if listed and self.option.many else self.name

    def default_in(self, listed: bool) -> Any:
        """What that keyword is where it is not given; MISSING where it has to be."""
        values = self.option.first or (self.default,)
        return values if listed and self.option.many and MISSING not in values else values[0]

    def keyword(self, listed: bool) -> inspect.Parameter:
        one = self.option.given or _type_name(self.type)
        default = self.default_in(listed)
        return inspect.Parameter(
            self.name_in(listed),
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if default is MISSING else default,
            annotation=f"Sequence[{one}]" if listed and self.option.many else one,
        )


@functools.cache
def _annotations(kind: Any) -> dict[str, Any]:
    """The fields' annotations, read; locals={} lets what they call see its module.

    Not by typing.get_type_hints, which on Python 3.10 takes KW_ONLY for a mistake.
    """
    read = [inspect.get_annotations(each, locals={}, eval_str=True) for each in reversed(kind.__mro__)]
    return {name: annotation for each in read for name, annotation in each.items()}


@functools.cache
def declared(kind: Any) -> tuple[Declared, ...]:
    """The options that a dataclass's fields declare, in their order."""
    hints = _annotations(kind)
    return tuple(
        Declared(field.name, hints[field.name].__origin__, field.default, option)
        for field in dataclasses.fields(kind)
        for option in getattr(hints[field.name], "__metadata__", ())
        if isinstance(option, Option)
    )


def with_plain_signature(kind: type[Kind]) -> type[Kind]:
    """The dataclass, whose signature names types where its annotations declare options."""
    value: Any = kind
    hints, whole = _annotations(value), inspect.signature(value.__init__)
    plain = [
        each.replace(annotation=_exact_name(hints[name].__origin__))
        if hasattr(hints.get(name), "__metadata__")
        else each
        for name, each in whole.parameters.items()
    ]
    value.__init__.__signature__ = whole.replace(parameters=plain)
    return kind


def check_declared(value: Any) -> None:
    """Check each field of a dataclass as it is declared."""
    kind: Any = type(value)
    for each in declared(kind):
        each.check(getattr(value, each.name))


def takes(
    options: Iterable[Declared], before: str, *, listed: bool = False, rest: str = ""
) -> Callable[[Function], Function]:
    """Say in a function's signature and docstring which options its ** takes: those that it does not name itself.

    before: the parameter of its own that they come before. listed: it takes lists of those that multiply cells. rest:
    the name of a ** that is left; "" for none.
    """

    def told(function: Function) -> Function:
        whole = inspect.signature(function)
        own = [each for each in whole.parameters.values() if each.kind is not each.VAR_KEYWORD]
        added = [each for each in options if each.name_in(listed) not in whole.parameters]
        position = [each.name for each in own].index(before)
        own[position:position] = [each.keyword(listed) for each in added]
        own += [inspect.Parameter(rest, inspect.Parameter.VAR_KEYWORD, annotation="Any")] if rest else []
        function.__signature__ = whole.replace(parameters=own)  # type: ignore[attr-defined]
        lines = [f"    {each.name_in(listed)}: {each.option.help}" for each in added if each.option.help]
        function.__doc__ = "\n".join(
            [f"{function.__doc__}", "    Options of the cells, as on the command line:", *lines]
        )
        return function

    return told


def asked_for(
    options: Iterable[Declared], given: Mapping[str, Any], *, listed: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What keywords say of some options, by their keyword's name, defaults included; and the keywords left."""
    defaults = {each.name_in(listed): each.default_in(listed) for each in options}
    known = {name: given.get(name, default) for name, default in defaults.items()}
    found = {name: value for name, value in known.items() if value is not MISSING}
    return found, {name: value for name, value in given.items() if name not in defaults}


def check_value(name: str, value: object, holds: bool, expected: str) -> None:
    """Raises UsageError, which says what was expected, where it does not hold."""
    if not holds:
        raise UsageError(f"{name} {value!r}: expected {expected}")


def rule(holds: Callable[[Any], bool], expected: str) -> Check:
    """The check that something holds of a value; None, where it may stand, is not looked at."""
    return lambda name, value: check_value(name, value, value is None or holds(value), expected)


def at_least(least: int) -> Check:
    return rule(lambda value: bool(value >= least), f"{least} or more")


def one_of(names: Iterable[str]) -> Check:
    known = tuple(names)
    return rule(lambda value: value in known, f"one of {', '.join(known)}")


def _type_name(kind: Any) -> str:
    """As it stands in an annotation; of a tuple, what callers may hand over for it."""
    if typing.get_origin(kind) is tuple:
        return f"Sequence[{_type_name(typing.get_args(kind)[0])}]"
    return _exact_name(kind)


def _exact_name(kind: Any) -> str:
    plain = isinstance(kind, type) and not typing.get_args(kind)
    return kind.__name__ if plain else re.sub(r"\w+\.(?=\w)", "", str(kind))
