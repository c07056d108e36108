"""What operations mean, in NumPy and float64: short enough to be seen to be right.

A value is an array (N, …), the N of a constant being 1. Matrices and kernels come in their own type and are widened
where they are used, piece by piece.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from secateur.network.formats import FORMATS
from secateur.network.nodes import Node
from secateur.network.operations.declaration import Array, Meaning, Weights


def number_by_number(function: Callable[[float], float]) -> Callable[[Array], Array]:
    """A function of Python's numbers for arrays, of which a part at a time stands as such numbers in memory."""
    apply = np.vectorize(function, otypes=[np.float64])

    def of_array(x: Array) -> Array:
        flat = np.ravel(x)
        made = np.empty(flat.shape)
        for part in pieces(flat.size, 1, 1 << 14):
            made[part] = apply(flat[part])
        return made.reshape(np.shape(x))

    return of_array


normal_distribution = number_by_number(lambda x: math.erfc(-x / math.sqrt(2)) / 2)
"""Φ(x): the share of a standard normal distribution below x."""


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def gelu(x: Array, approximate: str) -> Array:
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return x * normal_distribution(x)


def leaky_relu(x: Array, negative_slope: float) -> Array:
    return np.where(x > 0, x, negative_slope * x)


def exponential_linear(x: Array, alpha: float) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def soft_rectifier(x: Array, beta: float = 1.0, threshold: float = math.inf) -> Array:
    """log(1 + e^(beta · x)) / beta, and x itself from where beta · x is above the threshold."""
    return np.where(x * beta > threshold, x, np.logaddexp(0, x * beta) / beta)


def aligned(inputs: Sequence[Array], rank: int) -> list[Array]:
    """Inputs (N, …) with axes of length 1 behind the batch, so many that each has `rank` there."""
    return [x.reshape(len(x), *(1,) * (rank + 1 - x.ndim), *x.shape[1:]) for x in inputs]


def pieces(rows: int, columns: int, most: int = 1 << 22) -> Iterator[slice]:
    """Consecutive slices of the rows of a matrix, of `most` numbers each or a row: widened one after another, they take
    little memory."""
    some = max(1, most // max(1, columns))
    for at in range(0, rows, some):
        yield slice(at, min(rows, at + some))


@dataclass(frozen=True, slots=True)
class _Window:
    """Windows along one axis of a plane: where their taps meet it, the padding left out.

    size: of the plane. count: of windows; window i's tap k is at i·stride + k·dilation − before.
    """

    size: int
    count: int
    stride: int
    dilation: int
    before: int

    def taps(self, kernel: int) -> list[tuple[int, slice, slice]]:
        """(k, windows, places in the plane that their tap k sees), for each tap that sees anything."""
        found = []
        for tap in range(kernel):
            offset = tap * self.dilation - self.before
            first = max(0, -(offset // self.stride))
            last = min(self.count - 1, (self.size - 1 - offset) // self.stride)
            if first <= last:
                start = first * self.stride + offset
                seen = slice(start, start + (last - first) * self.stride + 1, self.stride)
                found.append((tap, slice(first, last + 1), seen))
        return found


def _windows(node: Node, x: Array, dilation: Sequence[int]) -> tuple[_Window, _Window]:
    """Of rows and of columns."""
    (_, height, width), stride, padding = node.shape, node.numbers("stride"), node.numbers("padding")
    return (
        _Window(x.shape[2], height, stride[0], dilation[0], padding[0]),
        _Window(x.shape[3], width, stride[1], dilation[1], padding[2]),
    )


def _pooled(node: Node, x: Array, dilation: Sequence[int], combine: np.ufunc, start: float) -> Array:
    """Everything that a window sees of the plane combined with `start`, along rows and then along columns."""
    for axis, (window, kernel) in enumerate(zip(_windows(node, x, dilation), node.numbers("kernel"), strict=True), 2):
        made = np.full((*x.shape[:axis], window.count, *x.shape[axis + 1 :]), start, x.dtype)
        for _, windows, seen in window.taps(kernel):
            into = made[_along(axis, windows)]
            combine(into, x[_along(axis, seen)], out=into)
        x = made
    return x


def _along(axis: int, part: slice) -> tuple[slice, ...]:
    return (*(slice(None),) * axis, part)


def conv2d(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    """Sum over taps of weight (G, O/G, I/G) times input (N, G, I/G, H·W)."""
    x, weight, groups = inputs[0], weights["weight"], node.whole("groups")
    out, inner, *kernel = weight.shape
    by_group = weight.reshape(groups, out // groups, inner, *kernel)
    batch = len(x)
    total = np.zeros((batch, groups, out // groups, *node.shape[1:]))
    rows, columns = _windows(node, x, node.numbers("dilation"))
    for ky, high, y in rows.taps(kernel[0]):
        for kx, wide, across in columns.taps(kernel[1]):
            seen = x[:, :, y, across]
            flat = seen.reshape(batch, groups, inner, math.prod(seen.shape[2:]))
            made = by_group[:, :, :, ky, kx].astype(np.float64) @ flat
            total[..., high, wide] += made.reshape(*total.shape[:3], *seen.shape[2:])
    total = total.reshape(batch, *node.shape)
    return total + weights["bias"][:, None, None] if "bias" in weights else total


def linear(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    x, matrix = inputs[0], weights["weight"]
    product = np.empty((*x.shape[:-1], len(matrix)))
    for part in pieces(*matrix.shape):
        product[..., part] = x @ matrix[part].T.astype(np.float64)
    return product + weights["bias"] if "bias" in weights else product


def batch_norm(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    def channel(role: str, default: float) -> Array:
        given = weights.get(role, np.full(node.shape[0], default))
        return given.reshape(-1, *(1,) * (len(node.shape) - 1))

    normal = (inputs[0] - channel("mean", 0)) / np.sqrt(channel("variance", 1) + node.number("eps"))
    return normal * channel("weight", 1) + channel("bias", 0)


def layer_norm(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    axes = tuple(range(-node.whole("axes"), 0))
    centred = inputs[0] - inputs[0].mean(axes, keepdims=True)
    normal = centred / np.sqrt((centred**2).mean(axes, keepdims=True) + node.number("eps"))
    return normal * weights.get("weight", np.ones(())) + weights.get("bias", np.zeros(()))


def softmax(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    axis = node.whole("axis")
    risen = np.exp(inputs[0] - inputs[0].max(axis, keepdims=True, initial=-np.inf))
    return risen / risen.sum(axis, keepdims=True)


def max_pool2d(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    whole = np.issubdtype(inputs[0].dtype, np.integer)
    least = np.iinfo(inputs[0].dtype).min if whole else -np.inf
    return _pooled(node, inputs[0], node.numbers("dilation"), np.maximum, least)


def avg_pool2d(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    total, count = window_sums(node, inputs[0])
    return total / count


def window_sums(node: Node, x: Array) -> tuple[Array, Array]:
    """Of each window of an average pooling its sum, and the number that this is divided by."""
    total = _pooled(node, x, (1, 1), np.add, 0)
    if node.attributes["count_include_pad"]:
        return total, np.array(math.prod(node.numbers("kernel")))
    return total, _pooled(node, np.ones((1, 1, *x.shape[2:])), (1, 1), np.add, 0)


def adaptive_avg_pool2d(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    total, count = adaptive_sums(node, inputs[0])
    return total / count


def adaptive_sums(node: Node, x: Array) -> tuple[Array, Array]:
    """As window_sums. Window i of n over length H is [⌊i·H/n⌋, ⌈(i+1)·H/n⌉)."""
    channels, rows, columns = node.shape
    _, _, height, width = x.shape
    total, count = np.empty((len(x), channels, rows, columns), x.dtype), np.empty((rows, columns))
    for row in range(rows):
        for column in range(columns):
            top, bottom = row * height // rows, -(-(row + 1) * height // rows)
            left, right = column * width // columns, -(-(column + 1) * width // columns)
            total[:, :, row, column] = x[:, :, top:bottom, left:right].sum((2, 3))
            count[row, column] = (bottom - top) * (right - left)
    return total, count


def reduction(combine: Callable[..., Array]) -> Meaning:
    """What NumPy makes of the numbers along axes, whole ones in their own format."""

    def meaning(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
        made = combine(inputs[0], axis=node.numbers("axes"), keepdims=bool(node.attributes["keepdims"]))
        return made.astype(inputs[0].dtype, copy=False)

    return meaning


def choose(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    return np.where(*aligned(inputs, len(node.shape)))


def cast(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    element = str(node.attributes["element"])
    return inputs[0].astype(np.float64 if element == "float32" else FORMATS[element].numbers)


def reshape(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    return inputs[0].reshape(len(inputs[0]), *node.shape)


def permute(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    return inputs[0].transpose(0, *node.numbers("axes"))


def concat(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    batch = max(len(x) for x in inputs) if all(len(x) for x in inputs) else 0
    same = [np.broadcast_to(x, (batch, *x.shape[1:])) for x in inputs]
    return np.concatenate(same, axis=node.whole("axis"))


def part(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    cut: list[slice] = [slice(None)] * inputs[0].ndim
    cut[node.whole("axis")] = slice(node.whole("start"), node.whole("stop"))
    return inputs[0][tuple(cut)]


def constant(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    return weights["value"][None]


def fill(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    return np.full((1, *node.shape), node.number("value"), np.float64)


def progression(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    return (node.number("start") + node.number("step") * np.arange(node.whole("length"), dtype=np.float64))[None]


def gather_images(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    return inputs[0][None]


def scatter_images(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    return inputs[0][0]
