"""Which units of a node's output are one number whatever the input, given which of its inputs' are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from secateur.network.graph import Node
from secateur.network.simplification.folding import per_unit
from secateur.network.simplification.links import Known, Link, Numbers, number, numbers


def _unknown(known: Known, node: Node, link: Link) -> Numbers:
    return np.full(link.size, np.nan)


def _given(known: Known, node: Node, link: Link, index: int = 0) -> Numbers:
    """An input's constants as the output's units see them, NaN where it is none or has no part."""
    name, source = node.inputs[index], link.sources[index]
    if source is None:
        values = known.values(known.constants[name], "value") if name in known.constants else None
        alike = per_unit(values, len(node.shape), link.axis) if values is not None else None
        return np.full(link.size, np.nan) if alike is None else np.broadcast_to(alike, link.size)
    return np.where(source >= 0, known.units[name].constant[source], np.nan)


def _same(known: Known, node: Node, link: Link) -> Numbers:
    return _given(known, node, link)


def _of_each(function: Callable[[float], float]) -> Callable[[Known, Node, Link], Numbers]:
    def constant(known: Known, node: Node, link: Link) -> Numbers:
        return np.array([value if math.isnan(value) else function(value) for value in _given(known, node, link)])

    return constant


def _leaky_relu(known: Known, node: Node, link: Link) -> Numbers:
    given = _given(known, node, link)
    return np.where(given > 0, given, given * number(node, "negative_slope"))


def _gelu(known: Known, node: Node, link: Link) -> Numbers:
    return _of_each(_gelu_tanh if node.attributes["approximate"] == "tanh" else _gelu_erf)(known, node, link)


def _gelu_erf(x: float) -> float:
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))


def _gelu_tanh(x: float) -> float:
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _sigmoid(x: float) -> float:
    return 0.5 * (1 + math.tanh(x / 2))


def _hardsigmoid(x: float) -> float:
    return min(max(x + 3, 0.0), 6.0) / 6


def _batch_norm(known: Known, node: Node, link: Link) -> Numbers:
    given = _given(known, node, link)
    mean, variance, weight, bias = (known.values(node, role) for role in ("mean", "variance", "weight", "bias"))
    assert mean is not None
    assert variance is not None
    with np.errstate(all="ignore"):
        factor = (1.0 if weight is None else weight) / np.sqrt(variance + number(node, "eps"))
        shift = np.zeros(link.size) if bias is None else bias
        return np.where(factor == 0, shift, (given - mean) * factor + shift)


def _add(known: Known, node: Node, link: Link) -> Numbers:
    return _given(known, node, link, 0) + _given(known, node, link, 1)


def _mul(known: Known, node: Node, link: Link) -> Numbers:
    left, right = _given(known, node, link, 0), _given(known, node, link, 1)
    return np.where((left == 0) | (right == 0), 0.0, left * right)


def _max_pool2d(known: Known, node: Node, link: Link) -> Numbers:
    """A dilated window in the padding could see nothing of the plane."""
    blind = any(numbers(node, "padding")) and max(numbers(node, "dilation")) > 1
    return _unknown(known, node, link) if blind else _given(known, node, link)


def _avg_pool2d(known: Known, node: Node, link: Link) -> Numbers:
    given = _given(known, node, link)
    diluted = any(numbers(node, "padding")) and node.attributes["count_include_pad"]
    return np.where(given == 0, given, np.nan) if diluted else given


def _joined(known: Known, node: Node, link: Link) -> Numbers:
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


CONSTANTS: Mapping[str, Callable[[Known, Node, Link], Numbers]] = {
    "batch_norm": _batch_norm,
    "relu": _of_each(lambda x: max(x, 0.0)),
    "relu6": _of_each(lambda x: min(max(x, 0.0), 6.0)),
    "leaky_relu": _leaky_relu,
    "hardswish": _of_each(lambda x: x * _hardsigmoid(x)),
    "hardsigmoid": _of_each(_hardsigmoid),
    "silu": _of_each(lambda x: x * _sigmoid(x)),
    "sigmoid": _of_each(_sigmoid),
    "tanh": _of_each(math.tanh),
    "gelu": _gelu,
    "add": _add,
    "mul": _mul,
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "adaptive_avg_pool2d": _same,
    "mean": _same,
    "reshape": _same,
    "permute": _same,
    "concat": _joined,
    "slice": _same,
}
