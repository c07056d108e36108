"""How a network is called and what it gives: arguments with their names, and values nested as forward nests them."""

from __future__ import annotations

import keyword
from collections import namedtuple
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from secateur.errors import GraphError, RunError

Plain = bool | int | float | str | None
KINDS = ("tuple", "list", "dict", "named tuple", "record")


class Record(dict[Any, Any]):
    """A dictionary whose entries are attributes, too: what a dataclass, or transformers' ModelOutput, comes back as.

    A whole number asks for the entry at that place among those that are not None.
    """

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(f"no entry {name!r}: expected {', '.join(map(str, self))}")

    def __getitem__(self, key: Any) -> Any:
        return self.to_tuple()[key] if isinstance(key, (int, slice)) else super().__getitem__(key)

    def to_tuple(self) -> tuple[Any, ...]:
        """The entries that are not None."""
        return tuple(each for each in self.values() if each is not None)


@dataclass(frozen=True, slots=True)
class Value:
    """The input or output of a Graph at a place among them.

    axis: the dimension that is the batch for whoever calls, None where there is none, and all is one image's; in the
    Graph it is the first. rows: of an output, whether each image's are one below the other, (N·m, …) for the Graph's
    (N, m, …).
    """

    place: int
    axis: int | None = 0
    rows: bool = False

    def in_front(self, given: Any) -> Any:
        """An array as the Graph takes it."""
        if self.axis is None:
            return given[None] if isinstance(given, np.ndarray) else given
        movable = self.axis > 0 and isinstance(given, np.ndarray) and given.ndim > self.axis
        return np.ascontiguousarray(np.moveaxis(given, self.axis, 0)) if movable else given

    def back(self, made: Any) -> Any:
        """An array of the Graph's as the network gives it."""
        if self.axis is None:
            if not len(made):
                raise RunError("no images: an output without a batch is not known then; expected one at least")
            return made[0, ...]
        if self.rows:
            return made.reshape(-1, *made.shape[2:])
        return np.ascontiguousarray(np.moveaxis(made, 0, self.axis)) if self.axis else made


@dataclass(frozen=True, slots=True)
class Fixed:
    """What is the same at every call."""

    value: Plain


@dataclass(frozen=True, slots=True)
class Nest:
    """A container. kind: one of KINDS. parts: key → what is under it; those of tuples and lists are counted from 0.

    name: of a named tuple's class.
    """

    kind: str
    parts: tuple[tuple[str | int, Tree], ...]
    name: str = ""

    def __post_init__(self) -> None:
        keys = [key for key, _ in self.parts]
        if self.kind not in KINDS or len(set(keys)) < len(keys):
            raise GraphError(f"a {self.kind!r} of {keys}: expected one of {', '.join(KINDS)}, no key twice")
        fields = [self.name, *keys] if self.kind == "named tuple" else []
        wrong = [each for each in fields if not _is_field(each)]
        if wrong:
            raise GraphError(f"a named tuple with {wrong[0]!r}: expected names as Python has them")


Tree = Value | Fixed | Nest


def _is_field(name: str | int) -> bool:
    return isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name) and name[0] != "_"


def leaves(tree: Tree, name: str = "") -> Iterator[tuple[str, Value]]:
    """The values of a tree in order, and where each is, as in `hidden_states.0`."""
    if isinstance(tree, Value):
        yield name, tree
    elif isinstance(tree, Nest):
        for key, part in tree.parts:
            yield from leaves(part, f"{name}.{key}" if name else str(key))


def replaced(tree: Tree, values: Mapping[int, Value]) -> Tree:
    """With other values at places."""
    if isinstance(tree, Nest):
        return replace(tree, parts=tuple((key, replaced(part, values)) for key, part in tree.parts))
    return values.get(tree.place, tree) if isinstance(tree, Value) else tree


def nest(tree: Tree, values: Sequence[Any]) -> Any:
    """The containers of a tree with these values in their places."""
    if isinstance(tree, Value):
        return tree.back(values[tree.place])
    if isinstance(tree, Fixed):
        return tree.value
    parts = {key: nest(part, values) for key, part in tree.parts}
    if tree.kind == "named tuple":
        return _named_tuple(tree.name, tuple(map(str, parts)))(*parts.values())
    if tree.kind in ("tuple", "list"):
        return (tuple if tree.kind == "tuple" else list)(parts.values())
    return Record(parts) if tree.kind == "record" else parts


@lru_cache(maxsize=256)
def _named_tuple(name: str, fields: tuple[str, ...]) -> Any:
    return namedtuple(name, fields)


def take(tree: Tree, given: Any, name: str) -> Iterator[tuple[int, Any]]:
    """The values in an argument, with their places. name: of the argument. Raises RunError for another nesting."""
    if isinstance(tree, Value):
        yield tree.place, tree.in_front(given)
    elif isinstance(tree, Fixed):
        if type(given) is not type(tree.value) or given != tree.value:
            raise RunError(
                f"input {name!r}: expected {tree.value!r} as in the example that the network was packed with, got "
                f"{_came(given)}; pack it with another"
            )
    else:
        held = _parts(tree, given)
        if held is None:
            raise RunError(f"input {name!r}: expected a {tree.kind} of {_keys(tree)}, got {_came(given)}")
        for key, part in tree.parts:
            yield from take(part, held[key], f"{name}.{key}")


def _parts(tree: Nest, given: Any) -> Mapping[Any, Any] | None:
    """What is given for each key of a container, None where those are others."""
    keys = [key for key, _ in tree.parts]
    if tree.kind in ("dict", "record") or isinstance(given, Mapping):
        own = given if isinstance(given, Mapping) else {key: getattr(given, str(key), None) for key in keys}
        return own if own.keys() == set(keys) else None
    if isinstance(given, (tuple, list)) and len(given) == len(keys):
        return dict(zip(keys, given, strict=True))
    return None


def _keys(tree: Nest) -> str:
    keys = [key for key, _ in tree.parts]
    return str(len(keys)) if tree.kind in ("tuple", "list") else ", ".join(map(str, keys))


def _came(given: Any) -> str:
    if isinstance(given, (bool, int, float, str, type(None))):
        return repr(given)
    inside = f" of {len(given)}" if isinstance(given, (tuple, list)) else ""
    return f"{type(given).__name__}{inside}"


@dataclass(frozen=True, slots=True)
class Signature:
    """How a network is called, and what it gives.

    arguments: of forward by name, in its order; every input of the graph stands in one of them. outputs: what forward
    returns. images: how many it takes, None where it takes any number of them. most: of lengths, what they may be at
    most.
    """

    arguments: tuple[tuple[str, Tree], ...]
    outputs: Tree
    images: int | None = None
    most: tuple[tuple[str, int], ...] = ()

    def check_lengths(self, lengths: Mapping[str, int]) -> None:
        """Raises GraphError for a length that is too long."""
        for name, most in self.most:
            if lengths.get(name, 0) > most:
                raise GraphError(
                    f"{name} {lengths[name]}: expected {most} at most, as the network takes no longer ones"
                )

    @classmethod
    def plain(cls, inputs: Iterable[str], outputs: int) -> Signature:
        """Of a network that takes its inputs one by one, and gives its output alone or all in a tuple."""
        arguments = tuple((name, Value(place)) for place, name in enumerate(inputs))
        made = Nest("tuple", tuple((place, Value(place)) for place in range(outputs)))
        return cls(arguments, Value(0) if outputs == 1 else made)

    def says_more_than(self, inputs: Iterable[str], outputs: int) -> bool:
        """Whether it is another than `plain`, arguments that were left out not counted."""
        given = tuple((name, tree) for name, tree in self.arguments if not isinstance(tree, Fixed))
        return replace(self, arguments=given) != Signature.plain(inputs, outputs)

    def check(self, inputs: int, outputs: int) -> None:
        """Raises GraphError where it is none of a graph with so many inputs and outputs."""
        taken = sorted(each.place for each in self.inputs)
        made = {each.place for _, each in leaves(self.outputs)}
        names = {name for name, _ in self.arguments}
        if taken != list(range(inputs)) or not made <= set(range(outputs)) or len(names) < len(self.arguments):
            raise GraphError(f"a signature of inputs {taken} and outputs {sorted(made)}: not those of its graph")
        if self.images is not None and self.images < 1:
            raise GraphError(f"a signature of {self.images} images: expected 1 at least")

    @property
    def inputs(self) -> list[Value]:
        return [each for name, tree in self.arguments for _, each in leaves(tree, name)]

    def output_names(self, count: int) -> tuple[str, ...]:
        """Of the graph's outputs, by where they are in what forward returns; empty for those that have no name."""
        found = {each.place: name for name, each in leaves(self.outputs)}
        named = not isinstance(self.outputs, Nest) or self.outputs.kind not in ("tuple", "list")
        return tuple(found.get(place, "") if named else "" for place in range(count))

    def arrays(self, given: Sequence[Any], named: Mapping[str, Any]) -> tuple[Any, ...]:
        """The graph's inputs in order, of what a call gives by position and by name. Raises RunError.

        What is given by position goes to the next argument that can be it; None is what was left out.
        """
        found = {name: value for name, value in named.items() if value is not None}
        self._place(given, found)
        known = dict(self.arguments)
        if lost := [name for name in found if name not in known]:
            raise RunError(
                f"no input {lost[0]!r}: expected {self._names()}, those of the example that it was packed with"
            )
        missing = [name for name, tree in self.arguments if name not in found and not isinstance(tree, Fixed)]
        if missing:
            raise RunError(f"input {missing[0]!r} is missing: expected {self._names()}")
        values = dict(each for name, value in found.items() for each in take(known[name], value, name))
        return tuple(values[place] for place in range(len(values)))

    def _place(self, given: Sequence[Any], found: dict[str, Any]) -> None:
        """Put what is given by position under its arguments' names."""
        waiting = list(self.arguments)
        for value in given:
            if value is None:
                continue
            while waiting and isinstance(waiting[0][1], Fixed) and not isinstance(value, (bool, int, float, str)):
                waiting.pop(0)
            if not waiting:
                count = sum(not isinstance(tree, Fixed) for _, tree in self.arguments)
                raise RunError(f"expected {count} input{'s' if count > 1 else ''}, got {len(given)}")
            name, _ = waiting.pop(0)
            if name in found:
                raise RunError(f"input {name!r} is given twice, by position and by name")
            found[name] = value

    def _names(self) -> str:
        return ", ".join(name for name, tree in self.arguments if not isinstance(tree, Fixed))

    def result(self, outputs: Sequence[Any]) -> Any:
        """The graph's outputs as forward returns them."""
        return nest(self.outputs, outputs)
