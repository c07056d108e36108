"""What may be said of a node's units: which are which of its inputs', and which are one number whatever the input.

A unit is one index of a value's channels (or features): the axis that a convolution or linear layer produces.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secateur.network.nodes import Node, Shape
from secateur.network.sizes import is_whole

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
    """What is known of a graph's values: shapes, units, and which units of a node are which of its inputs'.

    constants: the nodes of that kind, by name. weights: name → values.
    """

    def __init__(
        self,
        shapes: Mapping[str, Shape],
        constants: Mapping[str, Node],
        weights: Callable[[str], NDArray[np.float32]],
    ) -> None:
        self.shapes, self.constants, self._weights = shapes, constants, weights
        self.units: dict[str, Units] = {}
        self.links: dict[str, Link] = {}

    def values(self, node: Node, role: str) -> Numbers | None:
        name = node.weights.get(role)
        return None if name is None else self._weights(name).astype(np.float64)


Constants = Callable[[Known, Node, Link], Numbers]


@dataclass(frozen=True, slots=True)
class Passing:
    """How an operation hands units on. link: which come from which, None where they are read together: all stay.

    constants: (units,), the number that each output unit is whatever the input, NaN where it is none.
    """

    link: Callable[[Known, Node], Link | None]
    constants: Constants


def _straight(units: Units, axis: int) -> Link:
    """Unit for unit."""
    size = len(units.constant)
    return Link(axis, size, (np.arange(size),), np.zeros(size, bool))


def along(known: Known, node: Node) -> Link | None:
    """Operations on each element on its own."""
    units = known.units.get(node.inputs[0])
    return None if units is None else _straight(units, units.axis)


def on_planes(known: Known, node: Node) -> Link | None:
    units = known.units.get(node.inputs[0])
    return None if units is None or units.axis != 1 else _straight(units, 1)


def before_last(known: Known, node: Node) -> Link | None:
    """Operations that mix the last axes, as many as the attribute `size` has."""
    units = known.units.get(node.inputs[0])
    mixed = units is not None and units.axis > len(node.shape) - len(node.numbers("size"))
    return None if units is None or mixed else _straight(units, units.axis)


def take(known: Known, node: Node) -> Link | None:
    units = known.units.get(node.inputs[0])
    return None if units is None or units.axis == node.attributes["axis"] else _straight(units, units.axis)


def reduction(known: Known, node: Node) -> Link | None:
    units, axes = known.units.get(node.inputs[0]), node.numbers("axes")
    if units is None or units.axis in axes:
        return None
    gone = 0 if node.attributes["keepdims"] else sum(axis < units.axis for axis in axes)
    return _straight(units, units.axis - gone)


def permute(known: Known, node: Node) -> Link | None:
    units = known.units.get(node.inputs[0])
    return None if units is None else _straight(units, 1 + node.numbers("axes").index(units.axis))


def part(known: Known, node: Node) -> Link | None:
    units = known.units.get(node.inputs[0])
    if units is None or units.axis != node.attributes["axis"]:
        return None if units is None else _straight(units, units.axis)
    if not is_whole((node.attributes["start"], node.attributes["stop"])):
        return None
    kept = np.arange(node.whole("start"), node.whole("stop"))
    return Link(units.axis, len(kept), (kept,), np.zeros(len(kept), bool))


def reshape(known: Known, node: Node) -> Link | None:
    """Where the units are the first axis: kept as such, or flattened with all behind them."""
    units, shape = known.units.get(node.inputs[0]), known.shapes[node.inputs[0]]
    if units is None or math.prod(shape[: units.axis - 1]) != 1:
        return None
    size = len(units.constant)
    if len(node.shape) == 1 and not is_whole(node.shape):
        return None
    if len(node.shape) == 1:
        each = math.prod(shape[units.axis :])
        return Link(1, size * each, (np.repeat(np.arange(size), each),), np.zeros(size * each, bool))
    return _straight(units, 1) if node.shape[:1] == (size,) and units.axis == 1 else None


def concat(known: Known, node: Node) -> Link | None:
    axis = node.whole("axis")
    axes = [known.units[name].axis for name in node.inputs if name in known.units]
    if not axes or any(each != axes[0] for each in axes):
        return None
    if axes[0] != axis:
        return _side_by_side(known, node, axes[0])
    for name in node.inputs:
        _give_units(known, name, axis)
    sizes = [known.shapes[name][axis - 1] for name in node.inputs]
    if not is_whole(tuple(sizes)):
        return None
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


def pairwise(known: Known, node: Node) -> Link | None:
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


def per_unit(constant: Numbers, rank: int, axis: int) -> Numbers | None:
    """A constant that broadcasts against `rank` axes, as one number per unit of an axis, (units,) or (1,).

    None where it differs within a unit, or has more axes.
    """
    if constant.ndim > rank:
        return None
    aligned = constant.reshape((1,) * (rank - constant.ndim) + constant.shape)
    rows = np.moveaxis(aligned, axis - 1, 0).reshape(aligned.shape[axis - 1], -1)
    same = rows.shape[1] > 0 and bool((rows == rows[:, :1]).all())
    return rows[:, 0] if same else None


def unknown_constants(known: Known, node: Node, link: Link) -> Numbers:
    return np.full(link.size, np.nan)


def _given(known: Known, node: Node, link: Link, index: int = 0) -> Numbers:
    """An input's constants as the output's units see them, NaN where it is none or has no part."""
    name, source = node.inputs[index], link.sources[index]
    if source is None:
        values = known.values(known.constants[name], "value") if name in known.constants else None
        alike = per_unit(values, len(node.shape), link.axis) if values is not None else None
        return np.full(link.size, np.nan) if alike is None else np.broadcast_to(alike, link.size)
    return np.where(source >= 0, known.units[name].constant[source], np.nan)


def same_constants(known: Known, node: Node, link: Link) -> Numbers:
    return _given(known, node, link)


def batch_norm_constants(known: Known, node: Node, link: Link) -> Numbers:
    given = _given(known, node, link)
    mean, variance, weight, bias = (known.values(node, role) for role in ("mean", "variance", "weight", "bias"))
    assert mean is not None
    assert variance is not None
    with np.errstate(all="ignore"):
        factor = (1.0 if weight is None else weight) / np.sqrt(variance + node.number("eps"))
        shift = np.zeros(link.size) if bias is None else bias
        return np.where(factor == 0, shift, (given - mean) * factor + shift)


def of_numbers(function: Callable[..., Numbers]) -> Constants:
    """What function(x, **attributes) gives for constants x."""

    def constants(known: Known, node: Node, link: Link) -> Numbers:
        given = _given(known, node, link)
        return np.where(np.isnan(given), np.nan, function(given, **node.attributes))

    return constants


def of_pairs(function: Callable[[Numbers, Numbers], Numbers], absorbing: float | None) -> Constants:
    """What a function gives for two constants. absorbing: the number that it gives for itself and any other."""

    def constants(known: Known, node: Node, link: Link) -> Numbers:
        left, right = _given(known, node, link, 0), _given(known, node, link, 1)
        made = np.where(np.isnan(left) | np.isnan(right), np.nan, function(left, right))
        return made if absorbing is None else np.where((left == absorbing) | (right == absorbing), absorbing, made)

    return constants


def max_pool2d_constants(known: Known, node: Node, link: Link) -> Numbers:
    """A dilated window in the padding could see nothing of the plane."""
    blind = any(node.numbers("padding")) and max(node.numbers("dilation")) > 1
    return unknown_constants(known, node, link) if blind else _given(known, node, link)


def avg_pool2d_constants(known: Known, node: Node, link: Link) -> Numbers:
    given = _given(known, node, link)
    diluted = any(node.numbers("padding")) and node.attributes["count_include_pad"]
    return np.where(given == 0, given, np.nan) if diluted else given


def concat_constants(known: Known, node: Node, link: Link) -> Numbers:
    """Of a concatenation: that of the one input with a part in the unit, or what all of them agree on."""
    parts = [_given(known, node, link, index) for index in range(len(node.inputs))]
    if link.axis != node.attributes["axis"]:
        agreed = np.all([part == parts[0] for part in parts], axis=0)
        return np.where(agreed, parts[0], np.nan)
    found = np.full(link.size, np.nan)
    for part, source in zip(parts, link.sources, strict=True):
        if source is not None:
            found = np.where(source >= 0, part, found)
    return found
