"""What is decided while a file is read: branches, loops that are counted, and sequences of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from secateur.importing.onnx.aligning import together
from secateur.importing.onnx.calls import Call, Conversion, Made, Refused
from secateur.importing.onnx.reducing import without
from secateur.importing.onnx.shaping import unsqueezed
from secateur.importing.onnx.tensors import Constant
from secateur.importing.onnx.values import Held, Lost, Tensor
from secateur.network import composites

_MOST_TURNS = 1 << 10
_UNCOUNTED = 1 << 6
"""Turns of a loop that says no number of them."""


def _branch(call: Call) -> Made:
    """Of a condition that is known, one of its graphs."""
    chosen = "then_branch" if call.number(0, "a condition") else "else_branch"
    return list(inside(call, call.attribute(chosen), ()))


def inside(call: Call, graph: Any, given: Sequence[Held | None]) -> list[Held]:
    """The outputs of a graph in a node, for what its inputs are. Its names are its own."""
    translation = call.translation
    outer = dict(translation.scope)
    translation.enter()
    try:
        own = {each.name: translation.constant(each) for each in graph.initializer}
        translation.scope.update(own)
        translation.scope.update(
            {each.name: held for each, held in zip(graph.input, given, strict=False) if held is not None}
        )
        translation.run(graph.node)
        return [translation.held(each.name) for each in graph.output]
    finally:
        translation.depth -= 1
        translation.scope = outer


def _loop(call: Call) -> Made:
    """Of a number of turns that is known, and a condition that stays true, one turn after another."""
    turns = int(call.number(0, "a number of turns")) if call.has(0) else _MOST_TURNS + 1
    most = _MOST_TURNS if call.has(0) else _UNCOUNTED
    going = bool(call.number(1, "a condition", 1))
    body, states = call.attribute("body"), list(call.held[2:])
    scanned: list[list[Held]] = [[] for _ in range(len(body.output) - 1 - len(states))]
    at = 0
    while going and at < turns:
        if at >= most:
            raise Refused(f"goes round more than {most} times, or for ever")
        counted = Constant(np.array(at, np.int64), "int64")
        condition, *made = inside(call, body, [counted, Constant(np.array(going), "bool"), *states])
        if any(isinstance(each, Lost) for each in (condition, *made)):
            return [Lost()] * len(call.node.output)
        if not isinstance(condition, Constant):
            raise Refused("goes on for as long as its input decides, which a graph cannot")
        going, states = bool(condition.array), list(made[: len(states)])
        for some, each in zip(scanned, made[len(states) :], strict=True):
            some.append(each)
        at += 1
    return [*states, *(_stacked(call, each, 0) for each in scanned)]


def _scan(call: Call) -> Made:
    """Along a number of places that is known, one after another (from operator set 9 on)."""
    count = int(call.attribute("num_scan_inputs", 1))
    body, states, scanned = call.attribute("body"), list(call.held[:-count]), call.held[-count:]
    if call.version < 9 or len(body.input) != len(call.held):
        raise Refused("has the batch in front of what it goes along, or another number of inputs than its graph")
    axes, backwards = ([int(each) for each in call.attribute(f"scan_input_{name}", [0] * count)] for name in _SCANNED)
    dims = [call.dim(axis, len(_tensor(each).shape)) for axis, each in zip(axes, scanned, strict=True)]
    turns = _tensor(scanned[0]).shape[dims[0]]
    if not isinstance(turns, int) or not 0 < turns <= _MOST_TURNS:
        raise Refused(f"goes along a dimension of {turns}: expected a number up to {_MOST_TURNS}")
    made: list[list[Held]] = []
    for at in range(turns):
        places = [turns - 1 - at if back else at for back in backwards]
        given = [_picked(call, *each) for each in zip(scanned, dims, places, strict=True)]
        found = inside(call, body, [*states, *given])
        if any(isinstance(each, Lost) for each in found):
            return [Lost()] * len(call.node.output)
        states = list(found[: len(states)])
        made.append(found[len(states) :])
    several = len(body.output) - len(states)
    axes, backwards = (
        [int(each) for each in call.attribute(f"scan_output_{name}", [0] * several)] for name in _SCANNED
    )
    columns = [list(each) for each in zip(*made, strict=True)]
    return [*states, *(
        _stacked(call, column[::-1] if back else column, call.dim(axis, len(_tensor(column[0]).shape) + 1))
        for column, axis, back in zip(columns, axes, backwards, strict=True)
    )]  # fmt: skip


_SCANNED = ("axes", "directions")


def _tensor(held: Held | None) -> Constant | Tensor:
    if not isinstance(held, (Constant, Tensor)):
        raise Refused("goes along what is no tensor")
    return held


def _picked(call: Call, held: Held | None, dim: int, place: int) -> Held:
    """What is at a place along a dimension, without it."""
    if isinstance(held, Constant):
        return Constant(held.array.take(place, dim), held.format)
    tensor = call.as_tensor(_tensor(held))
    made = composites.select(call.build, tensor.base, call.axis(dim, tensor), place)
    return call.made(made, without(tensor, [dim]), tensor.format)


def _stacked(call: Call, some: Sequence[Held], dim: int) -> Held:
    """One behind the other along a new dimension."""
    if not some:
        raise Refused("makes nothing, of a shape that is not known")
    if all(isinstance(each, Constant) for each in some):
        arrays = [each.array for each in some if isinstance(each, Constant)]
        return Constant(np.stack(arrays, dim), some[0].format)  # type: ignore[union-attr]
    raised = [unsqueezed(call, call.as_tensor(each), {dim}) for each in some]
    return _joined(call, raised, dim)


def _joined(call: Call, some: Sequence[Held], dim: int) -> Held:
    if len(some) == 1:
        return some[0]
    if all(isinstance(each, Constant) for each in some):
        arrays = [each.array for each in some if isinstance(each, Constant)]
        return Constant(np.concatenate(arrays, dim), some[0].format)  # type: ignore[union-attr]
    found = together(call, some)
    shape = next(each.shape for each in some if isinstance(each, (Tensor, Constant)))
    axis = call.axis(dim, Tensor(found.values[0], found.place, shape))
    return call.made(call.emit("concat", *found.values, axis=axis), found.place, found.format)


def _sequence(call: Call) -> Made:
    return [tuple(each for each in call.held if isinstance(each, (Constant, Tensor)))]


def _items(call: Call, place: int = 0) -> tuple[Constant | Tensor, ...]:
    held = call.held[place]
    if not isinstance(held, tuple):
        raise Refused("takes a tensor where a sequence is expected")
    return held


def _at(call: Call) -> Made:
    items = _items(call)
    index = int(call.number(1, "a place"))
    if not -len(items) <= index < len(items):
        raise Refused(f"takes item {index} of {len(items)}")
    return [items[index]]


def _insert(call: Call) -> Made:
    items = list(_items(call))
    held = call.held[1]
    assert isinstance(held, (Constant, Tensor))
    items.insert(int(call.number(2, "a place", len(items))), held)
    return [tuple(items)]


def _erase(call: Call) -> Made:
    items = list(_items(call))
    del items[int(call.number(1, "a place", -1))]
    return [tuple(items)]


def _length(call: Call) -> Made:
    return Constant(np.array(len(_items(call)), np.int64), "int64")


def _from_sequence(call: Call) -> Made:
    items, dim = _items(call), int(call.attribute("axis", 0))
    rank = len(items[0].shape) + call.flag("new_axis")
    dim = call.dim(dim, rank)
    return [_stacked(call, items, dim) if call.flag("new_axis") else _joined(call, items, dim)]


CONVERSIONS: dict[str, Conversion] = {
    "If": _branch,
    "Loop": _loop,
    "Scan": _scan,
    "SequenceConstruct": _sequence,
    "SequenceEmpty": _sequence,
    "SequenceAt": _at,
    "SequenceInsert": _insert,
    "SequenceErase": _erase,
    "SequenceLength": _length,
    "ConcatFromSequence": _from_sequence,
}
