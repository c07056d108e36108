"""What a network may cost whoever opens, plans and runs it: a file of a few hundred bytes can ask for hours or for all
memory, every checksum right."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

from secateur.errors import GraphError
from secateur.network.nodes import Node, Shape
from secateur.network.operations import OPERATIONS
from secateur.network.sizes import names_of

_UNPAID = 1 << 20
"""Numbers in a value below which its growth is nobody's concern."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a network may ask for; None is no limit. Networks in use are far below the defaults.

    weight_bytes: of decoded weights. nodes, inputs, outputs: how many there are. links: how many values all nodes read.
    names: characters of all names together. Of one image: multiply_adds, in convolutions and fully connected layers;
    window_elements, that pooling and means look at; memory, bytes of the values that are there at once, inputs and
    outputs counted twice since the caller has them too; growth, how many numbers a node makes out of each number that
    it is given (values below a million numbers are let be).
    """

    weight_bytes: int | None = 4 << 30
    nodes: int | None = 1 << 14
    inputs: int | None = 1 << 10
    outputs: int | None = 1 << 10
    links: int | None = 1 << 17
    names: int | None = 1 << 22
    multiply_adds: int | None = 10**13
    window_elements: int | None = 10**10
    memory: int | None = 1 << 30
    growth: int | None = 1 << 10

    def check(self, name: str, found: int, what: str) -> None:
        """Raises GraphError where `found` is more than the limit of that name allows."""
        most: int | None = getattr(self, name)
        if most is not None and found > most:
            raise GraphError(
                f"{found:,} {what}: more than the limit of {most:,}; if you trust it, allow more with "
                f"limits=Limits({name}=…), or --limits {name.replace('_', '-')}=…"
            )


NO_LIMITS = Limits(**{each.name: None for each in fields(Limits)})


def check_parts(
    inputs: Iterable[str], outputs: Sequence[str], nodes: Sequence[Node], weights: Iterable[str], limits: Limits
) -> None:
    """Counts the parts of a graph, which may be wrong in every other way. Raises GraphError as Limits.check does."""
    inputs, weights = list(inputs), list(weights)
    limits.check("nodes", len(nodes), "operations")
    limits.check("inputs", len(inputs), "inputs")
    limits.check("outputs", len(outputs), "outputs")
    limits.check("links", sum(len(node.inputs) for node in nodes), "values read by its operations")
    names = sum(map(len, (*inputs, *outputs, *weights)))
    names += sum(len(text) for node in nodes for text in (node.name, node.source, *node.inputs, *node.weights.values()))
    limits.check("names", names, "characters in its names")


def check_costs(
    inputs: Mapping[str, Shape],
    outputs: Sequence[str],
    nodes: Sequence[Node],
    weights: Mapping[str, Shape],
    limits: Limits,
) -> None:
    """What one image takes of a graph whose shapes were checked. Raises GraphError as Limits.check does.

    Of a graph with free lengths nothing is known yet: whoever binds it asks again.
    """
    if names_of(size for shape in (*inputs.values(), *(node.shape for node in nodes)) for size in shape):
        return
    limits.check("memory", _memory(inputs, outputs, nodes), "bytes of values for one image")
    shapes = {**inputs, **{node.name: node.shape for node in nodes}}
    multiply_adds = window_elements = 0
    for node in nodes:
        given = [shapes[name] for name in node.inputs]
        made = math.prod(node.shape)
        paid = sum(map(math.prod, given)) + sum(math.prod(weights[name]) for name in node.weights.values())
        if made > _UNPAID:
            limits.check(
                "growth", -(-made // max(1, paid)), f"numbers out of each that {node.op} {node.name!r} is given"
            )
        multiply_adds += _multiply_adds(node, given, weights)
        window_elements += _window_elements(node, given)
    limits.check("multiply_adds", multiply_adds, "multiply-adds for one image")
    limits.check("window_elements", window_elements, "elements that pooling and means look at for one image")


def _memory(inputs: Mapping[str, Shape], outputs: Sequence[str], nodes: Sequence[Node]) -> int:
    """Bytes of the values that are there at once, at most, and of what the caller gives and gets."""
    sizes = {name: 4 * math.prod(shape) for name, shape in inputs.items()}
    sizes |= {node.name: 4 * math.prod(node.shape) for node in nodes}
    last = {name: index for index, node in enumerate(nodes) for name in node.inputs}
    last |= dict.fromkeys([node.name for node in nodes if not node.inputs and not node.weights], len(nodes))
    last |= dict.fromkeys(outputs, len(nodes))
    now = most = sum(sizes[name] for name in inputs)
    for index, node in enumerate(nodes):
        now += sizes[node.name]
        most = max(most, now)
        now -= sum(sizes[name] for name in {*node.inputs, node.name} if last.get(name, index) == index)
    return most + sum(sizes[name] for name in inputs) + sum(sizes[name] for name in outputs)


def _multiply_adds(node: Node, given: Sequence[Shape], weights: Mapping[str, Shape]) -> int:
    if node.op == "matmul":
        return math.prod(node.shape) * given[0][-1]
    if node.op == "attention":
        query, key, value = given[:3]
        return math.prod(node.shape[:-1]) * key[-2] * (query[-1] + value[-1])
    operation = OPERATIONS[node.op]
    if not operation.matrix:
        return 0
    made = node.shape if operation.axis else given[0]
    return math.prod(made) * math.prod(weights[node.weights[operation.matrix]][1:])


def _window_elements(node: Node, given: Sequence[Shape]) -> int:
    """Of adaptive pooling a bound: windows overlap by one row and one column."""
    if "kernel" in node.attributes:
        return math.prod(node.shape) * math.prod(map(min, node.numbers("kernel"), given[0][1:]))
    if node.op in ("adaptive_avg_pool2d", "quantised_adaptive_avg_pool2d"):
        channels, *plane = given[0]
        return channels * math.prod(size + made for size, made in zip(plane, node.shape[1:], strict=True))
    if node.op in _SAMPLING:
        return math.prod(node.shape) * _SAMPLING[node.op]
    return math.prod(given[0]) if node.op in _WHOLE_AXES else 0


_SAMPLING = {"resize": 16, "grid_sample": 4}
"""How many pixels a new one is made of, at most."""
_WHOLE_AXES = {
    *("mean", "quantised_mean", "sum", "prod", "amax", "amin", "argmax", "argmin", "topk", "softmax", "layer_norm")
}
