"""A network in eight bits as far as what it costs goes: made without any data, in no time."""

from __future__ import annotations

import numpy as np

from secateur.exporting.quantising.moments import layer_of
from secateur.exporting.quantising.planning import Kind, Plan, clamps_first, plan
from secateur.exporting.quantising.ranges import Scale
from secateur.exporting.quantising.rounding import largest_scale
from secateur.exporting.quantising.writing import Numbers, whole_numbers, write
from secateur.network.graph import Graph, Node
from secateur.network.simplification import fold_scales, tidy

_ANY = Scale(1 / 32, 0)


def sketch(graph: Graph) -> Graph:
    """The operations that `quantise` writes for a float graph, with weights rounded to the nearest and one scale for
    all values: as large and as fast, its outputs of no use. Units that are dead stay, so that what a layer costs
    depends on that layer alone."""
    planned = plan(clamps_first(fold_scales(tidy(graph), widen=True)), {})
    scales = {value: _ANY for group in planned.groups() for value in group}
    layers = {unit.node.name: _nearest(planned, unit.node) for unit in planned.layers if unit.kind is Kind.LAYER}
    return write(planned, scales, layers)


def _nearest(planned: Plan, node: Node) -> Numbers:
    held = {role: planned.graph.weights[name].values() for role, name in node.weights.items()}
    layer = layer_of(node, held["weight"], held.get("bias"))
    scale = largest_scale(layer.weight)
    numbers = np.rint(layer.weight / scale[..., None]).astype(np.int8).reshape(held["weight"].shape)
    return whole_numbers(numbers, scale.reshape(-1), held.get("bias"), _ANY.scale)
