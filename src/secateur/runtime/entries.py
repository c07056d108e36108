"""A Graph as the native core takes it: nodes as tuples, numbers of eight bits without a sign, factors worked out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.network.graph import Graph, Node, Shape
from secateur.network.operations import OPERATIONS
from secateur.network.quantisation import in_single, multiplier, output_multipliers

Entry = tuple[str, str, list[int], dict[str, NDArray[Any]], dict[str, Any], Shape, str]
"""name, operation, inputs by their indices, weights by role, attributes, shape, element."""

_HALF = 128
"""The core has no signed values of eight bits: −128 … 127 is 0 … 255 there, zero points and bounds likewise."""


def entries_of(graph: Graph) -> list[Entry]:
    """The nodes of a graph without free lengths, in order; there may be more of them than in the graph."""
    elements = graph.value_elements
    index = {name: i for i, name in enumerate(graph.inputs)}
    weights = {name: _array(weight) for name, weight in _numbers(graph).items()}
    found: list[Entry] = []
    for node in graph.nodes:
        for part in _spelt_out(node, graph, elements):
            index[part.name] = len(graph.inputs) + len(found)
            found.append(_entry(part, index, weights, elements))
    return found


def outputs_of(graph: Graph, entries: Sequence[Entry]) -> list[int]:
    """The indices of the graph's outputs among its inputs and these entries."""
    index = {name: i for i, name in enumerate((*graph.inputs, *(entry[0] for entry in entries)))}
    return [index[name] for name in graph.outputs]


def _numbers(graph: Graph) -> Mapping[str, NDArray[Any]]:
    whole = ("int8", "int32")
    return {
        name: weight.numbers() if weight.dtype in whole else weight.values() for name, weight in graph.weights.items()
    }


def _array(numbers: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(numbers)


def _spelt_out(node: Node, graph: Graph, elements: dict[str, str]) -> Iterator[Node]:
    """The node; rows of a fully connected layer that lie along several axes are joined before it and parted behind."""
    if node.op != "quantised_linear" or len(node.shape) < 3:
        yield node
        return
    inputs = []
    for value in node.inputs:
        shape = graph.shape_of(value)
        joined = f"{node.name} of {value}"
        elements[joined] = elements[value]
        yield Node(joined, "reshape", (value,), {}, {"shape": _rows(shape)}, _rows(shape))
        inputs.append(joined)
    inner = f"{node.name} in rows"
    elements[inner] = elements[node.name]
    yield replace(node, name=inner, inputs=tuple(inputs), shape=_rows(node.shape))
    yield Node(node.name, "reshape", (inner,), {}, {"shape": node.shape}, node.shape)


def _rows(shape: Shape) -> Shape:
    rows = 1
    for size in shape[:-1]:
        rows *= size
    return rows, shape[-1]


def _entry(
    node: Node, index: Mapping[str, int], weights: Mapping[str, NDArray[Any]], elements: Mapping[str, str]
) -> Entry:
    held = {role: weights[name] for role, name in node.weights.items()}
    if not node.inputs and not held:  # made of sizes: a constant like others, now that they are known
        made = OPERATIONS[node.op].meaning(node, [], {})[0].astype(np.float32)
        return node.name, "constant", [], {"value": made}, {}, node.shape, "float32"
    inputs, element = [index[each] for each in node.inputs], elements[node.name]
    attributes: dict[str, Any] = dict(node.attributes)
    if node.op == "attention":
        attributes["boolean"] = elements[node.inputs[-1]] == "bool"
    if node.op in _WORKED_OUT:
        attributes = _unsigned(attributes, node, [elements[each] for each in node.inputs], element)
        held, attributes = _WORKED_OUT[node.op](node, held, attributes)
    return (
        node.name,
        node.op,
        inputs,
        held,
        attributes,
        node.shape,
        "uint8" if element in ("int8", "uint8") else "float32",
    )


_OF_INPUT = {"": 0, "input_": 0, "left_": 0, "right_": 1, "residual_": 1}


def _unsigned(attributes: dict[str, Any], node: Node, inputs: Sequence[str], output: str) -> dict[str, Any]:
    """Zero points and bounds as numbers of eight bits without a sign have them."""
    of_output = ["output_zero_point", "low", "high"] + ["zero_point"] * (node.op == "quantise")
    signed = [name for name in of_output if output == "int8"]
    if node.op != "quantise":
        signed += [
            f"{prefix}zero_point"
            for prefix, position in _OF_INPUT.items()
            if position < len(inputs) and inputs[position] == "int8"
        ]
    return attributes | {name: attributes[name] + _HALF for name in signed if name in attributes}


Held = dict[str, NDArray[Any]]
Attributes = dict[str, Any]


def _quantise(node: Node, held: Held, attributes: Attributes) -> tuple[Held, Attributes]:
    return held, attributes | {"inverse": float(np.float32(1) / np.float32(node.number("scale")))}


def _dequantise(node: Node, held: Held, attributes: Attributes) -> tuple[Held, Attributes]:
    return held, attributes | {"scale": in_single(node.number("scale"))}


def _layer(node: Node, held: Held, attributes: Attributes) -> tuple[Held, Attributes]:
    made = output_multipliers(node.number("input_scale"), held["scale"], node.number("output_scale"))
    weights = {role: array for role, array in held.items() if role != "scale"} | {"multiplier": _array(made)}
    return weights, attributes | {"residual_factor": _ratio(node, "residual_scale")}


def _sum(node: Node, held: Held, attributes: Attributes) -> tuple[Held, Attributes]:
    factors = {f"{side}_factor": _ratio(node, f"{side}_scale") for side in ("left", "right")}
    return held, attributes | factors


def _product(node: Node, held: Held, attributes: Attributes) -> tuple[Held, Attributes]:
    return held, attributes | {"left_factor": _ratio(node, "left_scale", "right_scale")}


def _mean(node: Node, held: Held, attributes: Attributes) -> tuple[Held, Attributes]:
    return held, attributes | {name: in_single(node.number(name)) for name in ("input_scale", "output_scale")}


def _ratio(node: Node, *scales: str) -> float:
    """The product of scales over that of the output."""
    product = np.float64(1)
    for name in scales:
        product *= np.float64(np.float32(node.number(name)))
    return float(multiplier(product, np.float64(np.float32(node.number("output_scale")))))


_WORKED_OUT: Mapping[str, Callable[[Node, Held, Attributes], tuple[Held, Attributes]]] = {
    "quantise": _quantise,
    "dequantise": _dequantise,
    "quantised_conv2d": _layer,
    "quantised_linear": _layer,
    "quantised_add": _sum,
    "quantised_mul": _product,
    "quantised_avg_pool2d": _mean,
    "quantised_adaptive_avg_pool2d": _mean,
    "quantised_mean": _mean,
}
