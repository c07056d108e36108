"""Functions of one number between values of eight bits: as a table of what becomes of each of the 256, and back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from secateur.network import quantisation
from secateur.network.nodes import Attribute, Node
from secateur.network.operations import FUNCTIONS, OPERATIONS
from secateur.network.quantisation import Quantisation


def function_of(node: Node) -> tuple[str, tuple[float, ...]] | None:
    """What `function` and `parameters` of a table call an operation of floats; None where it is no such function."""
    for name, (op, texts) in FUNCTIONS.items():
        if op == node.op and all(node.attributes[each] == text for each, text in texts.items()):
            return name, tuple(node.number(each) for each in OPERATIONS[op].attributes if each not in texts)
    return None


def as_function(node: Node) -> Node:
    """A table as the operation of floats that it stands for."""
    op, texts = FUNCTIONS[str(node.attributes["function"])]
    names = [name for name in OPERATIONS[op].attributes if name not in texts]
    parameters: tuple[float, ...] = node.attributes["parameters"]  # type: ignore[assignment]
    attributes: dict[str, Attribute] = {**texts, **dict(zip(names, parameters, strict=True))}
    return Node(node.name, op, node.inputs, {}, attributes, node.shape, node.source)


def table_of(function: Node, of: Quantisation, to: Quantisation) -> NDArray[np.int32]:
    """(256,): for each integer of the input, from the least on, the one nearest to what the function makes of it."""
    integers = np.arange(of.least, of.most + 1)
    numbers = quantisation.dequantise(integers, of).astype(np.float64)
    with np.errstate(all="ignore"):  # what is no number becomes the lowest
        made = OPERATIONS[function.op].meaning(function, [numbers], {})
        return quantisation.quantise(made.astype(np.float32), to).astype(np.int32)
