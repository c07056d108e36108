"""A Graph as the native core takes it: nodes as tuples, whole numbers and truth values as floats, numbers of eight bits
without a sign, factors worked out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.network.building import unused_name, without_dead_nodes
from secateur.network.formats import INTEGERS
from secateur.network.graph import Graph, Node, Shape, Weight
from secateur.network.operations import sampling
from secateur.network.quantisation import in_single, multiplier, output_multipliers
from secateur.runtime.reference import run_nodes

Entry = tuple[str, str, list[int], dict[str, NDArray[Any]], dict[str, Any], Shape, str]
"""name, operation, inputs by their indices, weights by role, attributes, shape, element."""

_HALF = 128
"""The core has no signed values of eight bits: −128 … 127 is 0 … 255 there, zero points and bounds likewise."""


def entries_of(graph: Graph) -> list[Entry]:
    """The nodes of a graph without free lengths, in order; there may be more of them than in the graph, and fewer.

    What no input has a part in is worked out here, once.
    """
    elements = graph.value_elements
    constants = _constants(graph)
    index = {name: i for i, name in enumerate(graph.inputs)}
    weights = {name: _array(weight) for name, weight in graph.weights.items()}
    found: list[Entry] = []
    for node in graph.nodes:
        for part in [] if node.name in constants else _spelt_out(node, graph, elements):
            index[part.name] = len(graph.inputs) + len(found)
            found.append(_entry(part, index, weights, elements))
        if (value := constants.get(node.name)) is not None:
            index[node.name] = len(graph.inputs) + len(found)
            found.append((node.name, "constant", [], {"value": _contiguous(value)}, {}, node.shape, "float32"))
    return found


def outputs_of(graph: Graph, entries: Sequence[Entry]) -> list[int]:
    """The indices of the graph's outputs among its inputs and these entries."""
    index = {name: i for i, name in enumerate((*graph.inputs, *(entry[0] for entry in entries)))}
    return [index[name] for name in graph.outputs]


def _constants(graph: Graph) -> dict[str, NDArray[Any] | None]:
    """What no input has a part in, as float32; None for what only such values are made of. Integers of eight bits are
    not among them."""
    made: dict[str, Node] = {}
    quantised = graph.quantisations
    for node in graph.nodes:
        small = not node.inputs or math.prod(node.shape) <= _SMALL
        if small and node.name not in quantised and made.keys() >= set(node.inputs):
            made[node.name] = node
    read = {name for node in graph.nodes if node.name not in made for name in node.inputs}
    wanted = made.keys() & {*read, *graph.outputs}
    stored = {name: graph.weights[made[name].weights["value"]] for name in wanted if made[name].op == "constant"}
    values = run_nodes(graph, without_dead_nodes(list(made.values()), wanted - stored.keys()))
    with np.errstate(all="ignore"):
        floats = {name: values[name][0] for name in wanted - stored.keys()}
        floats |= {name: weight.numbers() for name, weight in stored.items()}
        return {name: floats[name].astype(np.float32, copy=False) if name in wanted else None for name in made}


_SMALL = 1 << 22
"""Numbers in a value that is worked out here: float64, and several at once."""
_INT32 = np.iinfo(np.int32)


def _array(weight: Weight) -> NDArray[Any]:
    """As the core takes it: int8, int32, else float32."""
    numbers = weight.numbers()
    if weight.dtype == "int64":
        return _contiguous(np.clip(numbers, _INT32.min, _INT32.max).astype(np.int32))
    return _contiguous(numbers if weight.dtype in ("int8", "int32") else numbers.astype(np.float32, copy=False))


def _contiguous(numbers: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(numbers)


def _spelt_out(node: Node, graph: Graph, elements: dict[str, str]) -> Iterable[Node]:
    """The node as one or several of the core's, new ones under names that no value has; elements: theirs are added."""
    spell = _SPELLINGS.get(node.op)
    made = [node] if spell is None else list(spell(node, graph, elements))
    for each in made:
        elements.setdefault(each.name, elements[node.name])
    return made


def _quantised_linear(node: Node, graph: Graph, elements: dict[str, str]) -> Iterator[Node]:
    """Rows that lie along several axes are joined before it and parted behind."""
    if len(node.shape) < 3:
        yield node
        return
    inputs = []
    for value in node.inputs:
        shape = graph.shape_of(value)
        joined = unused_name(f"{node.name} of {value}", elements)
        elements[joined] = elements[value]
        yield Node(joined, "reshape", (value,), {}, {"shape": _rows(shape)}, _rows(shape))
        inputs.append(joined)
    inner = unused_name(f"{node.name} in rows", elements)
    yield replace(node, name=inner, inputs=tuple(inputs), shape=_rows(node.shape))
    yield Node(node.name, "reshape", (inner,), {}, {"shape": node.shape}, node.shape)


def _rows(shape: Shape) -> Shape:
    rows = 1
    for size in shape[:-1]:
        rows *= size
    return rows, shape[-1]


def _cast(node: Node, graph: Graph, elements: dict[str, str]) -> Iterator[Node]:
    """All numbers are floats to the core, truth values 0 and 1."""
    came, wanted = elements[node.inputs[0]], node.attributes["element"]
    if wanted == "bool" and came != "bool":
        yield replace(node, op="is_true", attributes={})
    elif wanted in INTEGERS and came == "float32":
        yield replace(node, op="truncate", attributes={})
    else:
        yield replace(node, op="reshape", attributes={"shape": node.shape})


def _extreme(node: Node, graph: Graph, elements: dict[str, str]) -> Iterator[Node]:
    """Of a ranking the first place."""
    axis, largest = node.whole("axis"), node.op == "argmax"
    shape = graph.shape_of(node.inputs[0])
    kept = (*shape[: axis - 1], 1, *shape[axis:])
    ranked = replace(node, op="topk", attributes={"axis": axis, "count": 1, "largest": largest}, shape=kept)
    if node.attributes["keepdims"]:
        yield ranked
        return
    inner = unused_name(f"{node.name} with its axis", elements)
    yield replace(ranked, name=inner)
    yield Node(node.name, "reshape", (inner,), {}, {"shape": node.shape}, node.shape)


def _resize(node: Node, graph: Graph, elements: dict[str, str]) -> Iterator[Node]:
    old = graph.shape_of(node.inputs[0])[-len(node.numbers("size")) :]
    yield replace(node, attributes={**node.attributes, "old": old})


def _named(op: str) -> Callable[[Node, Graph, dict[str, str]], Iterator[Node]]:
    """What the core calls so."""

    def spell(node: Node, graph: Graph, elements: dict[str, str]) -> Iterator[Node]:
        yield replace(node, op=op)

    return spell


_SPELLINGS: Mapping[str, Callable[[Node, Graph, dict[str, str]], Iterator[Node]]] = {
    "quantised_linear": _quantised_linear,
    "cast": _cast,
    "argmax": _extreme,
    "argmin": _extreme,
    "resize": _resize,
    "logical_and": _named("minimum"),
    "logical_or": _named("maximum"),
}


def _entry(
    node: Node, index: Mapping[str, int], weights: Mapping[str, NDArray[Any]], elements: Mapping[str, str]
) -> Entry:
    held = {role: weights[name] for role, name in node.weights.items()}
    inputs, element = [index[each] for each in node.inputs], elements[node.name]
    attributes: dict[str, Any] = dict(node.attributes)
    if node.op == "attention":
        attributes["boolean"] = elements[node.inputs[-1]] == "bool"
    if node.op in _WORKED_OUT:
        attributes = _unsigned(attributes, node, [elements[each] for each in node.inputs], element)
        held, attributes = _WORKED_OUT[node.op](node, held, attributes)
    return node.name, node.op, inputs, held, attributes, node.shape, _HELD_AS[element]


_HELD_AS = {
    "float32": "float32",
    "uint8": "uint8",
    "int8": "uint8",
    "int64": "float32",
    "int32": "float32",
    "bool": "float32",
}


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
    weights = {role: array for role, array in held.items() if role != "scale"} | {"multiplier": _contiguous(made)}
    return weights, attributes | {"residual_factor": _ratio(node, "residual_scale")}


def _sum(node: Node, held: Held, attributes: Attributes) -> tuple[Held, Attributes]:
    factors = {f"{side}_factor": _ratio(node, f"{side}_scale") for side in ("left", "right")}
    return held, attributes | factors


def _product(node: Node, held: Held, attributes: Attributes) -> tuple[Held, Attributes]:
    return held, attributes | {"left_factor": _ratio(node, "left_scale", "right_scale")}


def _mean(node: Node, held: Held, attributes: Attributes) -> tuple[Held, Attributes]:
    return held, attributes | {name: in_single(node.number(name)) for name in ("input_scale", "output_scale")}


def _table(node: Node, held: Held, attributes: Attributes) -> tuple[Held, Attributes]:
    signed = node.attributes["element"] == "int8"
    return {"table": _contiguous(held["table"] + np.int32(_HALF * signed))}, {}


def _ratio(node: Node, *scales: str) -> float:
    """The product of scales over that of the output."""
    product = np.float64(1)
    for name in scales:
        product *= np.float64(np.float32(node.number(name)))
    return float(multiplier(product, np.float64(np.float32(node.number("output_scale")))))


def _taps(node: Node, held: Held, attributes: Attributes) -> tuple[Held, Attributes]:
    """Of each axis which pixels a new one is made of, and how much they count."""
    made: Held = {}
    for place, (old, new) in enumerate(zip(node.numbers("old"), node.numbers("size"), strict=True)):
        sources, shares = sampling.taps(node, place, old, new)
        made[f"sources {place}"] = _contiguous(sources.astype(np.int32))
        made[f"shares {place}"] = _contiguous(shares.astype(np.float32))
    return made, {}


_WORKED_OUT: Mapping[str, Callable[[Node, Held, Attributes], tuple[Held, Attributes]]] = {
    "quantise": _quantise,
    "dequantise": _dequantise,
    "resize": _taps,
    "quantised_conv2d": _layer,
    "quantised_linear": _layer,
    "quantised_add": _sum,
    "quantised_mul": _product,
    "quantised_avg_pool2d": _mean,
    "quantised_adaptive_avg_pool2d": _mean,
    "quantised_mean": _mean,
    "quantised_table": _table,
}
