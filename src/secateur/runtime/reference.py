"""A Graph run by what its operations mean, in NumPy: slow, and short enough to be seen to be right.

Values are float64 from the input to the output, so that what is left of an error is that of the kernel compared.
Every kernel has to agree with this to within the rounding of its own float32 arithmetic. Values that hold integers are
arrays of these, and what is computed with them is exact: there every kernel has to give the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.errors import GraphError, RunError
from secateur.network.formats import FORMATS
from secateur.network.graph import Graph, Node
from secateur.network.operations import OPERATIONS, Role

Array = NDArray[Any]
"""float64, or the integers that a value holds."""
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
    graph = _bound(graph, inputs)
    values = {name: _checked(graph, name, inputs) for name in graph.inputs}
    batches = {len(value) for value in values.values()}
    if len(batches) != 1:
        raise RunError(f"inputs of {sorted(batches)} images: expected one number for all")
    (batch,) = batches
    if graph.images not in (None, batch):
        raise RunError(f"inputs of {batch} images: expected the {graph.images} that the graph is bound to")
    kept = set(graph.outputs)
    last_use = {name: index for index, node in enumerate(graph.nodes) for name in node.inputs}
    with np.errstate(all="ignore"):  # infinities and NaN are results like others
        for index, node in enumerate(graph.nodes):
            values[node.name] = run_node(node, [values[name] for name in node.inputs], _weights(graph, node))
            for name in set(node.inputs):
                if last_use[name] == index and name not in kept:
                    del values[name]
        kinds = {name: FORMATS[element].numbers for name, element in graph.value_elements.items()}
        return [
            np.array(np.broadcast_to(values[name], (batch, *shape)), np.float32 if kinds[name] is None else kinds[name])
            for name, shape in zip(graph.outputs, graph.output_shapes, strict=True)
        ]


def _bound(graph: Graph, inputs: Mapping[str, NDArray[np.floating]]) -> Graph:
    """The graph at the lengths that the inputs have."""
    ranks = {name: 1 + len(shape) for name, shape in graph.inputs.items()}
    if not graph.lengths or any(name not in inputs or np.ndim(inputs[name]) != rank for name, rank in ranks.items()):
        return graph
    try:
        images = len(next(iter(inputs.values())))
        return graph.bind(graph.lengths_of({name: np.shape(inputs[name])[1:] for name in graph.inputs}, images))
    except GraphError as error:
        raise RunError(str(error)) from error


def _checked(graph: Graph, name: str, inputs: Mapping[str, NDArray[np.floating]]) -> Array:
    if name not in inputs:
        raise RunError(f"input {name!r} is missing: expected {list(graph.inputs)}, got {list(inputs)}")
    value = np.asarray(inputs[name])
    if value.ndim == 0 or value.shape[1:] != graph.inputs[name]:
        raise RunError(
            f"input {name!r}: expected shape (N, {', '.join(map(str, graph.inputs[name]))}), got {value.shape}"
        )
    held = FORMATS[graph.elements.get(name, "float32")]
    return value.astype(np.float64 if held.mantissa else held.numbers)


def _weights(graph: Graph, node: Node) -> dict[str, Any]:
    """In float64, but for integers and truth values, and for what is large: that is widened where it is used."""
    held = {role: graph.weights[name].numbers() for role, name in node.weights.items()}
    declared = OPERATIONS[node.op].weights
    return {
        role: value if value.dtype.kind in "iub" or declared[role].role in _LARGE else value.astype(np.float64)
        for role, value in held.items()
    }


_LARGE = (Role.MATRIX, Role.TABLE)


def run_nodes(graph: Graph, nodes: Sequence[Node]) -> dict[str, Array]:
    """The values of nodes of a graph that nothing else has a part in."""
    values: dict[str, Array] = {}
    with np.errstate(all="ignore"):
        for node in nodes:
            values[node.name] = run_node(node, [values[name] for name in node.inputs], _weights(graph, node))
    return values


def run_node(node: Node, inputs: Sequence[Array], weights: Mapping[str, Array]) -> Array:
    """One operation. inputs: arrays (N, …), a constant's N being 1; weights: by role."""
    return OPERATIONS[node.op].meaning(node, inputs, weights)
