"""A Graph run by PyTorch in float64: what the NumPy reference is held against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from secateur.graph import Graph, Node


def run_torch(graph: Graph, x: Tensor) -> list[Tensor]:
    """The outputs of a graph with one input, float64."""
    (name,) = graph.inputs
    values = {name: x.double()}
    for node in graph.nodes:
        weights = {role: torch.tensor(graph.weights[key].values()).double() for role, key in node.weights.items()}
        values[node.name] = _run(node, [values[value] for value in node.inputs], weights)
    return [values[output].expand(len(x), *graph.shape_of(output)) for output in graph.outputs]


def _run(node: Node, inputs: list[Tensor], weights: dict[str, Tensor]) -> Tensor:
    attributes: dict[str, Any] = dict(node.attributes)
    if node.op in _PLAIN:
        return _PLAIN[node.op](*inputs)
    return _WITH_ATTRIBUTES[node.op](inputs, weights, **attributes)


def _padded(x: Tensor, padding: tuple[int, ...], value: float = 0.0) -> Tensor:
    top, bottom, left, right = padding
    return F.pad(x, (left, right, top, bottom), value=value)


def _conv2d(
    inputs: list[Tensor], weights: dict[str, Tensor], stride: Any, padding: Any, dilation: Any, groups: int
) -> Tensor:
    x = _padded(inputs[0], padding)
    return F.conv2d(x, weights["weight"], weights.get("bias"), stride, 0, dilation, groups)


def _batch_norm(inputs: list[Tensor], weights: dict[str, Tensor], eps: float) -> Tensor:
    return F.batch_norm(
        inputs[0], weights["mean"], weights["variance"], weights.get("weight"), weights.get("bias"), eps=eps
    )


def _layer_norm(inputs: list[Tensor], weights: dict[str, Tensor], axes: int, eps: float) -> Tensor:
    return F.layer_norm(inputs[0], inputs[0].shape[-axes:], weights.get("weight"), weights.get("bias"), eps)


def _max_pool2d(
    inputs: list[Tensor], weights: dict[str, Tensor], kernel: Any, stride: Any, padding: Any, dilation: Any
) -> Tensor:
    return F.max_pool2d(_padded(inputs[0], padding, -torch.inf), kernel, stride, 0, dilation)


def _avg_pool2d(
    inputs: list[Tensor], weights: dict[str, Tensor], kernel: Any, stride: Any, padding: Any, count_include_pad: bool
) -> Tensor:
    total = F.avg_pool2d(_padded(inputs[0], padding), kernel, stride)
    if count_include_pad:
        return total
    return total / F.avg_pool2d(_padded(torch.ones_like(inputs[0]), padding), kernel, stride)


def _aligned(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    def operation(left: Tensor, right: Tensor) -> Tensor:
        rank = max(left.ndim, right.ndim)
        grown = [x[(slice(None), *(None,) * (rank - x.ndim))] for x in (left, right)]
        return function(*grown)

    return operation


def _concat(inputs: list[Tensor], weights: dict[str, Tensor], axis: int) -> Tensor:
    batch = max((len(x) for x in inputs if len(x) != 1), default=1)
    return torch.cat([x.expand(batch, *x.shape[1:]) for x in inputs], axis)


_PLAIN: dict[str, Callable[..., Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "add": _aligned(torch.add),
    "mul": _aligned(torch.mul),
}

_WITH_ATTRIBUTES: dict[str, Callable[..., Tensor]] = {
    "conv2d": _conv2d,
    "linear": lambda inputs, weights: F.linear(inputs[0], weights["weight"], weights.get("bias")),
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "leaky_relu": lambda inputs, _, negative_slope: F.leaky_relu(inputs[0], negative_slope),
    "gelu": lambda inputs, _, approximate: F.gelu(inputs[0], approximate=approximate),
    "softmax": lambda inputs, _, axis: F.softmax(inputs[0], axis),
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "adaptive_avg_pool2d": lambda inputs, _, size: F.adaptive_avg_pool2d(inputs[0], size),
    "mean": lambda inputs, _, axes, keepdims: inputs[0].mean(axes, keepdims),
    "reshape": lambda inputs, _, shape: inputs[0].reshape(len(inputs[0]), *shape),
    "permute": lambda inputs, _, axes: inputs[0].permute(0, *axes),
    "concat": _concat,
    "slice": lambda inputs, _, axis, start, stop: inputs[0].narrow(axis, start, stop - start),
    "constant": lambda _, weights: weights["value"][None],
}
