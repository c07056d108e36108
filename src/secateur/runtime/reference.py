"""What every operation of a Graph means, in NumPy: slow, and short enough to be seen to be right.

Values are float64 from the input to the output, so that what is left of an error is that of the kernel compared.
Every kernel has to agree with this to within the rounding of its own float32 arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.errors import RunError
from secateur.network.graph import Graph, Node, Shape, pieces

Array = NDArray[np.float64]
Result = NDArray[np.float32]


def run(graph: Graph, x: NDArray[np.floating]) -> Result:
    """The output (N, …) of a graph with one input and one output, for an input (N, …)."""
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise RunError(f"a graph with inputs {list(graph.inputs)} and outputs {list(graph.outputs)}: use run_all")
    (name,) = graph.inputs
    return run_all(graph, {name: x})[0]


def run_all(graph: Graph, inputs: Mapping[str, NDArray[np.floating]]) -> list[Result]:
    """The outputs in the graph's order. inputs: name → array (N, …), the same N for all.

    Raises RunError for an input that is missing or of another shape.
    """
    values = {name: _checked(graph, name, inputs) for name in graph.inputs}
    batches = {len(value) for value in values.values()}
    if len(batches) != 1:
        raise RunError(f"inputs of {sorted(batches)} images: expected one number for all")
    (batch,) = batches
    kept = set(graph.outputs)
    last_use = {name: index for index, node in enumerate(graph.nodes) for name in node.inputs}
    with np.errstate(all="ignore"):  # infinities and NaN are results like others
        for index, node in enumerate(graph.nodes):
            values[node.name] = run_node(node, [values[name] for name in node.inputs], _weights(graph, node))
            for name in set(node.inputs):
                if last_use[name] == index and name not in kept:
                    del values[name]
        return [
            np.array(np.broadcast_to(values[name], (batch, *shape)), np.float32)
            for name, shape in zip(graph.outputs, graph.output_shapes, strict=True)
        ]


def _checked(graph: Graph, name: str, inputs: Mapping[str, NDArray[np.floating]]) -> Array:
    if name not in inputs:
        raise RunError(f"input {name!r} is missing: expected {list(graph.inputs)}, got {list(inputs)}")
    value = np.asarray(inputs[name])
    if value.ndim == 0 or value.shape[1:] != graph.inputs[name]:
        raise RunError(
            f"input {name!r}: expected shape (N, {', '.join(map(str, graph.inputs[name]))}), got {value.shape}"
        )
    return value.astype(np.float64)


def _weights(graph: Graph, node: Node) -> dict[str, Any]:
    """In float64, but for matrices and kernels: those are widened where they are used, piece by piece."""
    held = {role: graph.weights[name].values() for role, name in node.weights.items()}
    whole = node.op in ("conv2d", "linear")
    return {role: value if whole and role == "weight" else value.astype(np.float64) for role, value in held.items()}


def run_node(node: Node, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    """One operation. inputs: arrays (N, …), a constant's N being 1; weights: by role."""
    return _OPERATIONS[node.op](node, inputs, weights)


Operation = Callable[[Node, Sequence[Array], Mapping[str, Array]], Array]


def _numbers(node: Node, name: str) -> Shape:
    value = node.attributes[name]
    assert isinstance(value, tuple)
    return value


def _number(node: Node, name: str) -> float:
    value = node.attributes[name]
    assert not isinstance(value, (tuple, str))
    return value


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
    (_, height, width), stride, padding = node.shape, _numbers(node, "stride"), _numbers(node, "padding")
    return (
        _Window(x.shape[2], height, stride[0], dilation[0], padding[0]),
        _Window(x.shape[3], width, stride[1], dilation[1], padding[2]),
    )


def _pooled(node: Node, x: Array, dilation: Sequence[int], combine: np.ufunc, start: float) -> Array:
    """Everything that a window sees of the plane combined with `start`, along rows and then along columns."""
    for axis, (window, kernel) in enumerate(zip(_windows(node, x, dilation), _numbers(node, "kernel"), strict=True), 2):
        made = np.full((*x.shape[:axis], window.count, *x.shape[axis + 1 :]), start)
        for _, windows, seen in window.taps(kernel):
            into = made[_along(axis, windows)]
            combine(into, x[_along(axis, seen)], out=into)
        x = made
    return x


def _along(axis: int, part: slice) -> tuple[slice, ...]:
    return (*(slice(None),) * axis, part)


def _conv2d(node: Node, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    """Sum over taps of weight (G, O/G, I/G) times input (N, G, I/G, H·W)."""
    x, weight, groups = inputs[0], weights["weight"], int(_number(node, "groups"))
    out, inner, *kernel = weight.shape
    by_group = weight.reshape(groups, out // groups, inner, *kernel)
    batch = len(x)
    total = np.zeros((batch, groups, out // groups, *node.shape[1:]))
    rows, columns = _windows(node, x, _numbers(node, "dilation"))
    for ky, high, y in rows.taps(kernel[0]):
        for kx, wide, across in columns.taps(kernel[1]):
            seen = x[:, :, y, across]
            flat = seen.reshape(batch, groups, inner, math.prod(seen.shape[2:]))
            made = by_group[:, :, :, ky, kx].astype(np.float64) @ flat
            total[..., high, wide] += made.reshape(*total.shape[:3], *seen.shape[2:])
    total = total.reshape(batch, *node.shape)
    return total + weights["bias"][:, None, None] if "bias" in weights else total


def _linear(node: Node, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    x, matrix = inputs[0], weights["weight"]
    product = np.empty((*x.shape[:-1], len(matrix)))
    for part in pieces(*matrix.shape):
        product[..., part] = x @ matrix[part].T.astype(np.float64)
    return product + weights["bias"] if "bias" in weights else product


def _batch_norm(node: Node, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    def channel(role: str, default: float) -> Array:
        given = weights.get(role, np.full(node.shape[0], default))
        return given.reshape(-1, *(1,) * (len(node.shape) - 1))

    normal = (inputs[0] - channel("mean", 0)) / np.sqrt(channel("variance", 1) + _number(node, "eps"))
    return normal * channel("weight", 1) + channel("bias", 0)


def _layer_norm(node: Node, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    axes = tuple(range(-int(_number(node, "axes")), 0))
    centred = inputs[0] - inputs[0].mean(axes, keepdims=True)
    normal = centred / np.sqrt((centred**2).mean(axes, keepdims=True) + _number(node, "eps"))
    return normal * weights.get("weight", np.ones(())) + weights.get("bias", np.zeros(()))


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def _softmax(node: Node, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    axis = int(_number(node, "axis"))
    risen = np.exp(inputs[0] - inputs[0].max(axis, keepdims=True, initial=-np.inf))
    return risen / risen.sum(axis, keepdims=True)


_erf = np.vectorize(math.erf, otypes=[np.float64])


def _gelu(node: Node, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    (x,) = inputs
    if node.attributes["approximate"] == "tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + _erf(x / math.sqrt(2)))


def _leaky_relu(node: Node, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    return np.where(inputs[0] > 0, inputs[0], _number(node, "negative_slope") * inputs[0])


def _unary(function: Callable[[Array], Array]) -> Operation:
    return lambda node, inputs, weights: function(inputs[0])


def _binary(function: Callable[[Array, Array], Array]) -> Operation:
    """Shapes behind the batch are aligned at their last axes."""

    def operation(node: Node, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
        rank = len(node.shape)
        aligned = [x.reshape(len(x), *(1,) * (rank + 1 - x.ndim), *x.shape[1:]) for x in inputs]
        return function(aligned[0], aligned[1])

    return operation


def _max_pool2d(node: Node, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    return _pooled(node, inputs[0], _numbers(node, "dilation"), np.maximum, -np.inf)


def _avg_pool2d(node: Node, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    total = _pooled(node, inputs[0], (1, 1), np.add, 0.0)
    if node.attributes["count_include_pad"]:
        return total / math.prod(_numbers(node, "kernel"))
    return total / _pooled(node, np.ones((1, 1, *inputs[0].shape[2:])), (1, 1), np.add, 0.0)


def _adaptive_avg_pool2d(node: Node, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    """Window i of n over length H is [⌊i·H/n⌋, ⌈(i+1)·H/n⌉)."""
    channels, rows, columns = node.shape
    _, _, height, width = inputs[0].shape
    result = np.empty((len(inputs[0]), channels, rows, columns))
    for row in range(rows):
        for column in range(columns):
            top, bottom = row * height // rows, -(-(row + 1) * height // rows)
            left, right = column * width // columns, -(-(column + 1) * width // columns)
            result[:, :, row, column] = inputs[0][:, :, top:bottom, left:right].mean((2, 3))
    return result


def _mean(node: Node, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    return inputs[0].mean(_numbers(node, "axes"), keepdims=bool(node.attributes["keepdims"]))


def _reshape(node: Node, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    return inputs[0].reshape(len(inputs[0]), *node.shape)


def _permute(node: Node, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    return inputs[0].transpose(0, *_numbers(node, "axes"))


def _concat(node: Node, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    batch = max(len(x) for x in inputs) if all(len(x) for x in inputs) else 0
    same = [np.broadcast_to(x, (batch, *x.shape[1:])) for x in inputs]
    return np.concatenate(same, axis=int(_number(node, "axis")))


def _slice(node: Node, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    cut: list[slice] = [slice(None)] * inputs[0].ndim
    cut[int(_number(node, "axis"))] = slice(int(_number(node, "start")), int(_number(node, "stop")))
    return inputs[0][tuple(cut)]


def _constant(node: Node, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    return weights["value"][None]


_OPERATIONS: Mapping[str, Operation] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "relu": _unary(lambda x: np.maximum(x, 0)),
    "relu6": _unary(lambda x: np.clip(x, 0, 6)),
    "leaky_relu": _leaky_relu,
    "hardswish": _unary(lambda x: x * np.clip(x + 3, 0, 6) / 6),
    "hardsigmoid": _unary(lambda x: np.clip(x + 3, 0, 6) / 6),
    "silu": _unary(lambda x: x * _sigmoid(x)),
    "sigmoid": _unary(_sigmoid),
    "tanh": _unary(np.tanh),
    "gelu": _gelu,
    "softmax": _softmax,
    "add": _binary(np.add),
    "mul": _binary(np.multiply),
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "mean": _mean,
    "reshape": _reshape,
    "permute": _permute,
    "concat": _concat,
    "slice": _slice,
    "constant": _constant,
}
