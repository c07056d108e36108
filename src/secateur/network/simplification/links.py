"""Which units of a node's output are which of its inputs': unit for unit, several for one, some of them.

A unit is one index of a value's channels (or features): the axis that a convolution or linear layer produces.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secateur.network.graph import Graph, Node, Shape

Numbers = NDArray[np.float64]
Mask = NDArray[np.bool_]
Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """The units of a value along an axis (counted from 1). constant: (units,), NaN where a unit is none."""

    axis: int
    constant: Numbers


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """How a node's units come from its inputs', where each output unit stands for certain input units.

    axis, size: of the output's units. sources: per input, for each output unit the input unit that it is made of or -1,
    or None for an input without units of its own (a factor for all units alike). held: output units that have to stay.
    """

    axis: int
    size: int
    sources: tuple[Indices | None, ...]
    held: Mask


class Known:
    """What is known of a graph's values: shapes, units, and which units of a node are which of its inputs'."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.units: dict[str, Units] = {}
        self.links: dict[str, Link] = {}
        self.shapes: dict[str, Shape] = {**graph.inputs, **{node.name: node.shape for node in graph.nodes}}
        self.constants = {node.name: node for node in graph.nodes if node.op == "constant"}

    def values(self, node: Node, role: str) -> Numbers | None:
        name = node.weights.get(role)
        return None if name is None else self.graph.weights[name].values().astype(np.float64)


def numbers(node: Node, name: str) -> Shape:
    value = node.attributes[name]
    assert isinstance(value, tuple)
    return value


def number(node: Node, name: str) -> float:
    value = node.attributes[name]
    assert isinstance(value, (int, float))
    return value


def _straight(units: Units, axis: int) -> Link:
    """Unit for unit."""
    size = len(units.constant)
    return Link(axis, size, (np.arange(size),), np.zeros(size, bool))


def _along(known: Known, node: Node) -> Link | None:
    """Operations on each element on its own."""
    units = known.units.get(node.inputs[0])
    return None if units is None else _straight(units, units.axis)


def _on_planes(known: Known, node: Node) -> Link | None:
    units = known.units.get(node.inputs[0])
    return None if units is None or units.axis != 1 else _straight(units, 1)


def _mean(known: Known, node: Node) -> Link | None:
    units, axes = known.units.get(node.inputs[0]), numbers(node, "axes")
    if units is None or units.axis in axes:
        return None
    gone = 0 if node.attributes["keepdims"] else sum(axis < units.axis for axis in axes)
    return _straight(units, units.axis - gone)


def _permute(known: Known, node: Node) -> Link | None:
    units = known.units.get(node.inputs[0])
    return None if units is None else _straight(units, 1 + numbers(node, "axes").index(units.axis))


def _slice(known: Known, node: Node) -> Link | None:
    units = known.units.get(node.inputs[0])
    if units is None or units.axis != node.attributes["axis"]:
        return None if units is None else _straight(units, units.axis)
    kept = np.arange(int(number(node, "start")), int(number(node, "stop")))
    return Link(units.axis, len(kept), (kept,), np.zeros(len(kept), bool))


def _reshape(known: Known, node: Node) -> Link | None:
    """Where the units are the first axis: kept as such, or flattened with all behind them."""
    units, shape = known.units.get(node.inputs[0]), known.shapes[node.inputs[0]]
    if units is None or math.prod(shape[: units.axis - 1]) != 1:
        return None
    size = len(units.constant)
    if len(node.shape) == 1:
        each = math.prod(shape[units.axis :])
        return Link(1, size * each, (np.repeat(np.arange(size), each),), np.zeros(size * each, bool))
    return _straight(units, 1) if node.shape[:1] == (size,) and units.axis == 1 else None


def _concat(known: Known, node: Node) -> Link | None:
    axis = int(number(node, "axis"))
    axes = [known.units[name].axis for name in node.inputs if name in known.units]
    if not axes or any(each != axes[0] for each in axes):
        return None
    if axes[0] != axis:
        return _side_by_side(known, node, axes[0])
    for name in node.inputs:
        _give_units(known, name, axis)
    sizes = [known.shapes[name][axis - 1] for name in node.inputs]
    starts = np.cumsum([0, *sizes])
    sources: list[Indices | None] = []
    held = np.zeros(starts[-1], bool)
    for name, start, size in zip(node.inputs, starts, sizes, strict=False):
        at = np.full(starts[-1], -1)
        if name in known.units:
            at[start : start + size] = np.arange(size)
        else:
            held[start : start + size] = True
        sources.append(at)
    return Link(axis, int(starts[-1]), _own(known, node, sources), held)


def _side_by_side(known: Known, node: Node, axis: int) -> Link | None:
    """A concatenation along another axis: unit for unit from every input."""
    for name in node.inputs:
        _give_units(known, name, axis)
    if any(name not in known.units for name in node.inputs):
        return None
    size = node.shape[axis - 1]
    return Link(axis, size, tuple(np.arange(size) for _ in node.inputs), np.zeros(size, bool))


def _own(known: Known, node: Node, sources: list[Indices | None]) -> tuple[Indices | None, ...]:
    return tuple(at if name in known.units else None for name, at in zip(node.inputs, sources, strict=True))


def _pairwise(known: Known, node: Node) -> Link | None:
    """Sums and products: unit for unit, except with what is one number for all units."""
    rank = len(node.shape)
    axes = {
        known.units[name].axis + rank - len(known.shapes[name])
        for name in node.inputs
        if name in known.units and name not in known.constants and _is_spread(known, name, node)
    }
    if len(axes) != 1:
        return None
    (axis,) = axes
    size = node.shape[axis - 1]
    sources: list[Indices | None] = []
    for name in node.inputs:
        own = axis - rank + len(known.shapes[name])
        if own < 1 or known.shapes[name][own - 1] == 1 != size:
            sources.append(None)
            continue
        _give_units(known, name, own)
        if name not in known.units or known.units[name].axis != own:
            return None
        sources.append(np.arange(size))
    return Link(axis, size, tuple(sources), np.zeros(size, bool))


def _is_spread(known: Known, name: str, node: Node) -> bool:
    """Whether a value has as many units as the result, rather than one for all."""
    units = known.units[name]
    axis = units.axis + len(node.shape) - len(known.shapes[name])
    return node.shape[axis - 1] == len(units.constant)


def _give_units(known: Known, name: str, axis: int) -> None:
    """A constant has units along the axis for which it is first asked."""
    if name in known.constants and name not in known.units:
        values = known.values(known.constants[name], "value")
        assert values is not None
        rows = np.moveaxis(values, axis - 1, 0).reshape(values.shape[axis - 1], -1)
        same = (rows == rows[:, :1]).all(axis=1) if rows.shape[1] else np.zeros(len(rows), bool)
        known.units[name] = Units(axis, np.where(same, rows[:, 0] if rows.shape[1] else np.nan, np.nan))


LINKS: Mapping[str, Callable[[Known, Node], Link | None]] = {
    "batch_norm": _on_planes,
    **dict.fromkeys(
        ("relu", "relu6", "leaky_relu", "hardswish", "hardsigmoid", "silu", "sigmoid", "tanh", "gelu"), _along
    ),
    "add": _pairwise,
    "mul": _pairwise,
    "max_pool2d": _on_planes,
    "avg_pool2d": _on_planes,
    "adaptive_avg_pool2d": _on_planes,
    "mean": _mean,
    "reshape": _reshape,
    "permute": _permute,
    "concat": _concat,
    "slice": _slice,
}
"""What is missing here (softmax, layer norm) reads its units together: they all stay."""
