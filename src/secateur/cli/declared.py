"""The options of cells on the command line, as they are declared (records/options.py)."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Optional, TypeVar

import typer

from secateur.cli.options import numbers, texts
from secateur.records.options import Declared, declared
from secateur.records.recipes import Recipe, retraining_for

Verb = TypeVar("Verb", bound=Callable[..., None])


def with_options(
    options: Iterable[Declared], before: str, recipe_before: str | None = None, *, listed: bool = False
) -> Callable[[Verb], Verb]:
    """Give a verb the flags of options, for its **words: those that it does not have itself.

    before: the parameter that they come before, recipe_before: the one that those of a recipe do, if any. listed: lists
    of those that multiply cells are asked for.
    """

    def given(verb: Verb) -> Verb:
        whole = inspect.signature(verb, eval_str=True)
        own = [each for each in whole.parameters.values() if each.kind is not each.VAR_KEYWORD]
        groups = [(before, _parameters(options, listed))]
        groups += [] if recipe_before is None else [(recipe_before, _recipe_parameters())]
        for place, parameters in groups:
            position = [each.name for each in own].index(place)
            own[position:position] = [each for each in parameters if each.name not in whole.parameters]
        verb.__signature__ = whole.replace(parameters=own)  # type: ignore[attr-defined]
        return verb

    return given


def options_from(options: Iterable[Declared], words: Mapping[str, Any], *, listed: bool = False) -> dict[str, Any]:
    """The keywords that words on the command line stand for, by the options' names. Raises UsageError."""
    found: dict[str, Any] = {}
    for each in options:
        if each.parts:
            found[each.name_in(listed)] = _retrainings(each, words)
        elif (name := _word(each, listed)) in words:
            found[each.name_in(listed)] = _value(each, words[name], listed)
    return found


def recipe_from(words: Mapping[str, Any]) -> dict[str, Any]:
    """Changes to a network's own recipe, by the recipe's names: those that were asked for."""
    asked = {each.name: words[_word(each)] for each in declared(Recipe) if each.option.flag != ""}
    return {name: value for name, value in asked.items() if value is not None}


def _parameters(options: Iterable[Declared], listed: bool) -> list[inspect.Parameter]:
    flat = [part for each in options for part in (each.parts or (each,))]
    return [_parameter(each, listed) for each in flat if _flag(each, listed)]


def _recipe_parameters() -> list[inspect.Parameter]:
    return [_parameter(each, optional=True) for each in declared(Recipe) if _flag(each)]


def _flag(option: Declared, listed: bool = False) -> str:
    """--NAME; "" for what has no help, or is said to have none."""
    if not option.option.help or option.option.flag is not None:
        return option.option.flag or ""
    return "--" + option.name_in(listed).replace("_", "-")


def _word(option: Declared, listed: bool = False) -> str:
    """The name of the verb's parameter."""
    return _flag(option, listed).removeprefix("--").replace("-", "_")


def _parameter(option: Declared, listed: bool = False, optional: bool = False) -> inspect.Parameter:
    kind, default = _kind(option, listed)
    if optional or option.option.unset:
        kind, default = Optional[kind], None  # noqa: UP045 - typer reads annotations at run time on Python 3.10
    told = option.option.help if listed else option.option.alone or option.option.help
    flag = typer.Option(_flag(option, listed), help=told, show_default=option.option.unset or True)
    place = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Parameter(_word(option, listed), place, default=default, annotation=Annotated[kind, flag])


def _kind(option: Declared, listed: bool) -> tuple[Any, Any]:
    """The type of an option's word, and its default."""
    default = option.default_in(listed)
    if _is_list(option, listed):
        return str, ",".join(f"{each:g}" if option.option.example else each for each in default)
    if "Path" in option.option.given:
        return Optional[Path], None  # noqa: UP045
    return (typing.get_args(option.type) or (option.type,))[0], default


def _is_list(option: Declared, listed: bool) -> bool:
    """Whether its word is several, separated by commas."""
    return bool(listed and option.option.many) or typing.get_origin(option.type) is tuple


def _value(option: Declared, word: Any, listed: bool) -> Any:
    if not _is_list(option, listed):
        return word
    kind, example = option.type, option.option.example
    return numbers(_word(option, listed), word, kind, example) if example else texts(word)


def _retrainings(option: Declared, words: Mapping[str, Any]) -> list[Any]:
    """None, or a way to retrain, for each schedule that is named; the other words are of all of them."""
    schedule, *others = (each for each in option.parts if _flag(each))
    changes = {each.name: words[_word(each)] for each in others}
    return [None if each == "none" else retraining_for(each, **changes) for each in texts(words[_word(schedule)])]
