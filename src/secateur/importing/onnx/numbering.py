"""Which image is which: files that pick each image's own part out of all images' by its number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.importing.onnx.calls import Call
from secateur.importing.onnx.values import Tensor
from secateur.importing.placing import Place
from secateur.network import composites
from secateur.network.graph import Node
from secateur.network.operations import OPERATIONS
from secateur.network.sizes import BATCH, Dimension, Size, bind, is_whole

_IMAGES = 3
"""Of which numbers are worked out: a line through two, and one more that has to lie on it."""
_MOST_NODES, _MOST_NUMBERS = 1 << 8, 1 << 20
"""Of what is worked out, and of each value of it."""
Array = NDArray[Any]


def numbered(call: Call, images: Dimension) -> Tensor:
    """0, 1, 2, … up to the number of images: of each image its own."""
    count = call.emit("cast", call.emit("range", start=0.0, step=1.0, length=images), element="int64")
    return call.made(call.emit("scatter_images", count, images=images), Place(1), "int64")


def numbers_of(call: Call, tensor: Tensor) -> tuple[Array, Array] | None:
    """What places are of image 0, and by how much they are more from image to image, in the graph's shape of each.

    None where an input has a part in them, or they lie on no line.
    """
    found = _Numbers(call).of(tensor.base)
    if found is None or len(found) != _IMAGES or found.dtype.kind not in "iu":
        return None
    step = found[1] - found[0]
    return (found[0], step) if np.array_equal(found[2] - found[1], step) else None


def own_rows(call: Call, data: Tensor, indices: Tensor) -> Tensor | None:
    """GatherND whose first place is the image's own number and whose others are known; None for others."""
    found = numbers_of(call, indices)
    if found is None or data.batch_axis != 0 or data.place is None or data.place.fold:
        return None
    first, step = found
    own, depth = call.own(data), first.shape[-1] - 1
    known = not first[..., 0].any() and bool((step[..., 0] == 1).all()) and not step[..., 1:].any()
    if not known or not is_whole(own[:depth]):
        return None
    sizes, rest = tuple(map(int, own[:depth])), own[depth:]
    places = first[..., 1:]
    wrapped = np.where(places < 0, places + np.array(sizes, np.int64), places)
    flat = np.ravel_multi_index(tuple(np.moveaxis(wrapped, -1, 0)), sizes) if depth else np.zeros(first.shape[:-1], int)
    rows = composites.reshape(call.build, data.base, (int(np.prod(sizes)), *rest))
    made = composites.reshape(call.build, composites.take(call.build, rows, 1, flat.reshape(-1)), (*flat.shape, *rest))
    return call.made(made, Place(indices.place.right - 1 + len(rest)) if indices.place else None, data.format)


def own_part(call: Call, data: Tensor, indices: Tensor) -> Tensor | None:
    """Of all images' numbers in one row, each image's own; None for others."""
    found = numbers_of(call, indices)
    if found is None or data.rank != 1 or data.place is None or not data.place.fold:
        return None
    first, step = found
    (size,) = call.own(data)
    if not isinstance(size, int) or not (step == size).all() or not ((first >= 0) & (first < size)).all():
        return None
    made = composites.take(call.build, data.base, 1, first.reshape(-1))
    return call.made(composites.reshape(call.build, made, first.shape), indices.place, data.format)


class _Numbers:
    """Values that only constants and the images' numbers have a part in, for a few images."""

    def __init__(self, call: Call) -> None:
        self.call, self.draft = call, call.build.draft
        self.known: dict[str, Array] = {}

    def of(self, name: str) -> Array | None:
        order = self._before(name)
        if order is None:
            return None
        with np.errstate(all="ignore"):
            for node in order:
                self.known[node.name] = self._value(node)
        return self.known[name]

    def _before(self, name: str) -> list[Node] | None:
        """The nodes that make a value, in their order; None where an input does, or a free length."""
        waiting, seen = [name], dict[str, Node]()
        while waiting:
            node = self.call.translation.node_of(waiting.pop())
            if node is None or len(seen) > _MOST_NODES or OPERATIONS[node.op].quantised or not _is_bound(node):
                return None
            if node.name not in seen:
                seen[node.name] = node
                waiting += node.inputs
        return [node for node in self.draft.nodes if node.name in seen]

    def _value(self, node: Node) -> Array:
        attributes = {name: _bound(value) for name, value in node.attributes.items()}
        weights = {role: self.draft.weights[name].numbers() for role, name in node.weights.items()}
        node = replace(node, attributes=attributes, shape=tuple(bind(size, _LENGTHS) for size in node.shape))
        return OPERATIONS[node.op].meaning(node, [self.known[name] for name in node.inputs], weights)


_LENGTHS: Mapping[str, Dimension] = {BATCH: _IMAGES}


def _is_bound(node: Node) -> bool:
    """Whether all of its sizes are known with the number of images, and it is small."""
    several = [each for value in node.attributes.values() for each in (value if isinstance(value, tuple) else (value,))]
    shape = tuple(bind(size, _LENGTHS) for size in node.shape)
    known = is_whole((*shape, *(bind(each, _LENGTHS) for each in several if isinstance(each, Size))))
    return known and math.prod(map(int, shape)) <= _MOST_NUMBERS


def _bound(value: Any) -> Any:
    return tuple(bind(each, _LENGTHS) for each in value) if isinstance(value, tuple) else bind(value, _LENGTHS)
