"""Operations that pick numbers by their places, or places by their numbers: shape rules, and meanings in NumPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from secateur.errors import RunError
from secateur.network.nodes import Node, Shape
from secateur.network.operations.declaration import Arguments, Array, Weights
from secateur.network.sizes import Dimension, at_least


def take_shape(given: Arguments) -> Shape:
    shape, indices = given.shapes[0], given.weights["indices"]
    axis = given.whole("axis", most=len(shape))
    given.demand(len(indices) == 1, "indices along one axis", indices)
    return (*shape[: axis - 1], *indices, *shape[axis:])


def take(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    return inputs[0].take(weights["indices"], node.whole("axis"))


def demands_of_take(node: Node, weights: Weights, inputs: Sequence[Shape]) -> str:
    """That an axis has the indices, whatever its length where that is free."""
    indices, size = weights["indices"], inputs[0][node.whole("axis") - 1]
    least, most = (int(indices.min()), int(indices.max())) if indices.size else (0, -1)
    return "" if least >= 0 and at_least(size, most + 1) else f"indices of an axis of {size}, got {least} to {most}"


def embedding_shape(given: Arguments) -> Shape:
    table = given.weights["weight"]
    given.demand(len(table) == 2, "a table (V, D)", table)
    return (*given.shapes[0], table[1])


def embedding(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    table = weights["weight"]
    check_indices(node, inputs[0], len(table))
    return table[inputs[0]].astype(np.float64)


def gather_shape(given: Arguments) -> Shape:
    shape, indices = given.shapes
    axis = given.whole("axis", most=len(shape))
    fits = len(indices) == len(shape) and indices[: axis - 1] + indices[axis:] == shape[: axis - 1] + shape[axis:]
    given.demand(fits, f"indices of a shape {shape} but for axis {axis}", indices)
    return indices


def gather(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    data, indices = inputs
    axis = node.whole("axis")
    check_indices(node, indices, data.shape[axis])
    return np.take_along_axis(data, indices, axis)


def check_indices(node: Node, indices: Array, size: int) -> None:
    """Raises RunError for an index that is none of `size`."""
    wrong = indices[(indices < 0) | (indices >= size)]
    if wrong.size:
        raise RunError(f"{node.op} {node.name!r}: index {wrong[0]}: expected indices from 0 to {size - 1}")


def extreme_shape(given: Arguments) -> Shape:
    """Of the place of the largest or smallest number along an axis."""
    return _along(given, 1, keep=given.read("keepdims"))


def largest_place(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    return inputs[0].argmax(node.whole("axis"), keepdims=bool(node.attributes["keepdims"]))


def smallest_place(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    return inputs[0].argmin(node.whole("axis"), keepdims=bool(node.attributes["keepdims"]))


def top_shape(given: Arguments) -> Shape:
    given.check_attributes()
    return _along(given, given.read("count"), keep=True)


def top(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    """Of equal numbers those that stand first."""
    axis, count = node.whole("axis"), node.whole("count")
    order = np.argsort(-inputs[0] if node.attributes["largest"] else inputs[0], axis, kind="stable")
    return order.take(np.arange(count), axis)


def _along(given: Arguments, count: Dimension, *, keep: bool) -> Shape:
    """Shape with so many places along the axis of the node, which has to have as many."""
    shape = given.shapes[0]
    axis = given.whole("axis", most=len(shape))
    given.demand(at_least(shape[axis - 1], count), f"an axis of at least {count}", shape)
    return (*shape[: axis - 1], *((count,) if keep else ()), *shape[axis:])
