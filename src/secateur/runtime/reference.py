"""What every operation of a Graph means, in NumPy: slow, and short enough to be seen to be right.

Values are float64 from the input to the output, so that what is left of an error is that of the kernel compared.
Every kernel has to agree with this to within the rounding of its own float32 arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from secateur.errors import RunError
from secateur.graph import Graph, Node, Shape

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


def _weights(graph: Graph, node: Node) -> dict[str, Array]:
    return {role: graph.weights[name].values().astype(np.float64) for role, name in node.weights.items()}


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


def _padded(node: Node, x: Array, value: float) -> Array:
    top, bottom, left, right = _numbers(node, "padding")
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=value)


def _taps(node: Node, x: Array, kernel: Sequence[int], dilation: Sequence[int]) -> list[tuple[int, int, Array]]:
    """(ky, kx, what the window's tap there sees at each output position: (N, C, H, W)) for each tap."""
    _, height, width = node.shape
    stride = _numbers(node, "stride")
    found = []
    for ky in range(kernel[0]):
        for kx in range(kernel[1]):
            top, left = ky * dilation[0], kx * dilation[1]
            rows = slice(top, top + stride[0] * (height - 1) + 1, stride[0])
            columns = slice(left, left + stride[1] * (width - 1) + 1, stride[1])
            found.append((ky, kx, x[:, :, rows, columns]))
    return found


def _conv2d(node: Node, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    """Sum over taps of weight (G, O/G, I/G) times input (N, G, I/G, H·W)."""
    weight, groups = weights["weight"], int(_number(node, "groups"))
    out, inner, *kernel = weight.shape
    by_group = weight.reshape(groups, out // groups, inner, *kernel)
    batch, positions = len(inputs[0]), math.prod(node.shape[1:])
    total = np.zeros((batch, groups, out // groups, positions))
    for ky, kx, seen in _taps(node, _padded(node, inputs[0], 0), kernel, _numbers(node, "dilation")):
        total += by_group[:, :, :, ky, kx] @ seen.reshape(batch, groups, inner, positions)
    total = total.reshape(batch, *node.shape)
    return total + weights["bias"][:, None, None] if "bias" in weights else total


def _linear(node: Node, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    product = inputs[0] @ weights["weight"].T
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
    taps = _taps(node, _padded(node, inputs[0], -np.inf), _numbers(node, "kernel"), _numbers(node, "dilation"))
    return np.maximum.reduce([seen for _, _, seen in taps])


def _avg_pool2d(node: Node, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    kernel = _numbers(node, "kernel")
    total = np.sum([seen for _, _, seen in _taps(node, _padded(node, inputs[0], 0), kernel, (1, 1))], axis=0)
    if node.attributes["count_include_pad"]:
        return total / math.prod(kernel)
    there = _padded(node, np.ones_like(inputs[0]), 0)
    return total / np.sum([seen for _, _, seen in _taps(node, there, kernel, (1, 1))], axis=0)


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
