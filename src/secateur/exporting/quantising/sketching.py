"""A network in eight bits as far as what it costs goes: made without any data, in no time."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from secateur.exporting.quantising.moments import layer_of
from secateur.exporting.quantising.planning import Kind, Plan, clamps_first, plan
from secateur.exporting.quantising.ranges import Scale
from secateur.exporting.quantising.rounding import largest_scale
from secateur.exporting.quantising.writing import Numbers, whole_numbers, write
from secateur.network.graph import Graph, Node
from secateur.network.simplification import fold_scales, tidy

_ANY = Scale(1 / 32, 0)


def sketch(graph: Graph, keep_float: Collection[str] = ()) -> Graph:
    """The operations that `quantise` writes for a float graph, with weights rounded to the nearest and one scale for
    all values: as large and as fast, its outputs of no use. Units that are dead stay, so that what a layer costs
    depends on that layer alone. keep_float: layers that stay in float32, as quantise takes them; others are passed
    over."""
    planned = _planned(graph, keep_float)
    scales = {value: _ANY for group in planned.groups() for value in group}
    layers = {unit.node.name: _nearest(planned, unit.node) for unit in planned.layers if unit.kind is Kind.LAYER}
    return write(planned, scales, layers)


def layers_in_eight_bits(graph: Graph) -> tuple[str, ...]:
    """The modules whose layers quantising may put into eight bits, in the order of their nodes."""
    layers = _planned(graph, ()).layers
    return tuple(dict.fromkeys(unit.node.source for unit in layers if unit.kind is Kind.LAYER and unit.node.source))


def _planned(graph: Graph, keep_float: Collection[str]) -> Plan:
    source = clamps_first(fold_scales(tidy(graph), widen=True))
    kept = {node.name: "as asked" for node in source.nodes if {node.name, node.source} & {*keep_float}}
    return plan(source, kept)


def _nearest(planned: Plan, node: Node) -> Numbers:
    held = {role: planned.graph.weights[name].values() for role, name in node.weights.items()}
    layer = layer_of(node, held["weight"], held.get("bias"))
    scale = largest_scale(layer.weight)
    numbers = np.rint(layer.weight / scale[..., None]).astype(np.int8).reshape(held["weight"].shape)
    return whole_numbers(numbers, scale.reshape(-1), held.get("bias"), _ANY.scale)
