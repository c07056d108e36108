"""Output channels that are constant, or that nothing reads, leave with every weight that served only them.

A unit is one index of a value's channels (or features): the axis that a convolution or linear layer produces. Three
steps, repeated until nothing is left to remove:

1. Forwards: which units are one number, whatever the input? Those whose weights are all zero, and what follows of them.
2. To and fro: which units can leave? A layer can do without a unit that meets only zero weights, and without a constant
   one that its bias can take in: a convolution with padding only where the constant is 0, since a constant does not
   reach into the padding. All that shares units with a value (sums, flattening, concatenation, …) leaves together.
3. The weights are cut.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from secateur.network.building import Builder, Draft, unused_name
from secateur.network.graph import Bits, Graph, Node, Weight
from secateur.network.operations import OPERATIONS
from secateur.network.operations.units import Link, Mask, Numbers, Passing
from secateur.network.simplification.folding import bias_name, single
from secateur.network.simplification.following import Followed, group_of, is_mixing
from secateur.network.simplification.tidying import rebuilt

_COLUMNS = 1024
"""So many columns of a matrix are widened at a time."""


def remove_units(graph: Graph) -> Graph:
    """A graph without its dead units; at least one unit of each value is left.

    Matrices at work in two places, inputs and outputs keep their units. Results change by rounding only (and where
    an infinity or a NaN would have met a zero weight).
    """
    with np.errstate(all="ignore"):  # weights may hold infinities
        while True:
            study = _Study(graph)
            if not any(mask.any() for mask in study.leaving.values()):
                return graph
            graph = _Cut(study).graph()


class _Study(Followed):
    """1 and 2. leaving: for each value with units, which of them can go."""

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.nonzero: dict[str, Mask] = {}
        self.follow()
        self.leaving = {name: np.ones(len(units.constant), bool) for name, units in self.units.items()}
        self._settle()

    # 1. Forwards

    def made(self, node: Node) -> Numbers:
        return _finite(self._mixed(node) if is_mixing(node) else self._grouped(node))

    def passed(self, node: Node, passing: Passing, link: Link) -> Numbers:
        return _finite(passing.constants(self, node, link))

    def foldable(self, node: Node) -> Mask:
        """Input units that the bias can take in."""
        units = self.reads(node)
        if units is None:
            return np.zeros(self.shapes[node.inputs[0]][self.axis(node) - 1], bool)
        padded = "padding" in node.attributes and any(node.numbers("padding"))
        return units.constant == 0 if padded else ~np.isnan(units.constant)

    def taps(self, node: Node) -> Mask:
        """(O, I/groups): where any weight is not zero."""
        name = node.weights["weight"]
        if name not in self.nonzero:
            values = self.graph.weights[name].values()
            self.nonzero[name] = (values != 0).reshape(*values.shape[:2], math.prod(values.shape[2:])).any(axis=2)
        return self.nonzero[name]

    def offset(self, node: Node, foldable: Mask) -> Numbers:
        """(O,): the bias and what foldable input units add to it. Of a layer that sums over all its inputs."""
        bias = self.values(node, "bias")
        matrix = self.graph.weights[node.weights["weight"]].values()
        total = np.zeros(len(matrix)) if bias is None else bias
        units = self.reads(node)
        at = np.flatnonzero(foldable & (units.constant != 0)) if units is not None else np.zeros(0, np.intp)
        if units is None or len(at) == 0:
            return total
        for some in np.array_split(at, -(-len(at) // _COLUMNS)):
            part = matrix[:, some].astype(np.float64)
            total = total + part.reshape(*part.shape[:2], -1).sum(axis=2) @ units.constant[some]
        return total

    def _mixed(self, node: Node) -> Numbers:
        foldable = self.foldable(node)
        dead = ~self.taps(node)[:, ~foldable].any(axis=1)
        return np.where(dead, self.offset(node, foldable), np.nan)

    def _grouped(self, node: Node) -> Numbers:
        """Of a convolution in groups: constant where no weight is, or where all of a group's inputs are foldable."""
        taps, bias = self.taps(node), self.values(node, "bias")
        offset = np.zeros(len(taps)) if bias is None else bias
        foldable, units = self.foldable(node), self.reads(node)
        groups = node.whole("groups")
        own = group_of(node, len(taps))
        if units is None:
            return np.where(taps.any(axis=1), np.nan, offset)
        matrix = self.values(node, "weight")
        assert matrix is not None
        sums = matrix.reshape(*matrix.shape[:2], -1).sum(axis=2)
        known = np.where(foldable, units.constant, np.nan).reshape(groups, -1)[own]
        return np.where(taps, sums * known, 0).sum(axis=1) + offset

    # 2. To and fro

    def _settle(self) -> None:
        """The most that can leave together: start with all, keep what has to stay, until nothing changes."""
        for name in self.graph.outputs:
            self._keep_all(name)
        while True:
            before = {name: mask.copy() for name, mask in self.leaving.items()}
            for node in reversed(self.graph.nodes):
                self._restrict(node)
            for mask in self.leaving.values():
                if len(mask) and mask.all():
                    mask[0] = False
            if all(np.array_equal(before[name], mask) for name, mask in self.leaving.items()):
                return

    def _keep_all(self, name: str) -> None:
        if name in self.leaving:
            self.leaving[name][:] = False

    def _restrict(self, node: Node) -> None:
        if OPERATIONS[node.op].is_layer:
            self._restrict_layer(node)
        elif node.name in self.links:
            self._restrict_linked(node, self.links[node.name])
        else:
            for name in node.inputs:
                self._keep_all(name)

    def _restrict_layer(self, node: Node) -> None:
        units = self.reads(node)
        if node.weights["weight"] in self.shared or units is None:
            self._keep_all(node.inputs[0])
        if node.weights["weight"] in self.shared:
            self._keep_all(node.name)
        if is_mixing(node) and units is not None:
            unread = ~self.taps(node)[~self.leaving[node.name]].any(axis=0)
            self.leaving[node.inputs[0]] &= unread | self.foldable(node)
        elif not is_mixing(node):
            self._restrict_groups(node)

    def _restrict_groups(self, node: Node) -> None:
        """Whole groups leave, with all that goes in and all that comes out."""
        out = self.leaving[node.name]
        if self.reads(node) is None:
            out[:] = False
            return
        given = self.leaving[node.inputs[0]]
        sources, targets = group_of(node, len(given)), group_of(node, len(out))
        staying = np.union1d(sources[~given], targets[~out])
        given &= ~np.isin(sources, staying)
        out &= ~np.isin(targets, staying)

    def _restrict_linked(self, node: Node, link: Link) -> None:
        out = self.leaving[node.name]
        out &= ~link.held
        for name, source in zip(node.inputs, link.sources, strict=True):
            if source is None:
                self._keep_all(name)
                continue
            there = source >= 0
            given = self.leaving[name]
            staying = np.zeros(len(given), bool)
            staying[source[there & ~out]] = True
            given &= ~staying
            out[there] &= given[source[there]]


def _finite(constant: Numbers) -> Numbers:
    return np.where(np.isfinite(constant), constant, np.nan)


class _Cut:
    """3. A graph with what is leaving left out."""

    def __init__(self, study: _Study) -> None:
        self.study = study
        self.weights = dict(study.graph.weights)
        inputs = dict(study.graph.inputs)
        self.build = Builder(Draft(inputs=inputs, shapes=dict(inputs), weights=self.weights))

    def graph(self) -> Graph:
        for node in self.study.graph.nodes:
            self.build.add(self._cut(node))
        return rebuilt(self.study.graph, self.build.draft.nodes, self.weights)

    def _cut(self, node: Node) -> Node:
        if OPERATIONS[node.op].is_layer:
            return self._cut_layer(node)
        if node.op == "slice":
            return self._cut_slice(node)
        staying = self._staying(node.name)
        return node if staying is None else self._cut_linked(node, staying)

    def _staying(self, name: str) -> Mask | None:
        """The units that stay, None where all do."""
        leaving = self.study.leaving.get(name)
        return None if leaving is None or not leaving.any() else ~leaving

    def _cut_layer(self, node: Node) -> Node:
        out, given = self._staying(node.name), self._staying(node.inputs[0])
        if is_mixing(node):
            node = self._with_offset(node, given)
            kept = {"weight": self._part(node, "weight", out, given)}
        else:
            kept = {"weight": self._part(node, "weight", out, None)}
            if out is not None:
                groups = len(np.unique(group_of(node, len(out))[out]))
                node = replace(node, attributes={**node.attributes, "groups": groups})
        if "bias" in node.weights:
            kept["bias"] = self._part(node, "bias", out, None)
        return replace(node, weights=kept)

    def _with_offset(self, node: Node, given: Mask | None) -> Node:
        """With the constants that leave in the bias, which becomes float32 where they add anything."""
        if given is None:
            return node
        leaving = ~given & self.study.foldable(node)
        offset = self.study.offset(node, leaving)
        plain = self.study.offset(node, np.zeros_like(leaving))
        if np.array_equal(offset, plain):
            return node
        name = node.weights.get("bias")
        if name is None or name in self.study.shared:
            name = bias_name(node, self.weights)
        self.weights[name] = single(offset)
        return replace(node, weights={**node.weights, "bias": name})

    def _part(self, node: Node, role: str, rows: Mask | None, columns: Mask | None) -> str:
        """The name of a weight with those rows and columns only; a vector that others use too is copied."""
        name = node.weights[role]
        bits = self.weights[name].bits
        if rows is None and columns is None:
            return name
        bits = bits if rows is None else bits[rows]
        return self._store(name, bits if columns is None else bits[:, columns])

    def _store(self, name: str, bits: Bits) -> str:
        stored = name
        if name in self.study.shared:
            stored = unused_name(name, self.weights)
        self.weights[stored] = Weight(self.weights[name].dtype, np.ascontiguousarray(bits))
        return stored

    def _cut_linked(self, node: Node, staying: Mask) -> Node:
        """With as much less in each weight, which has the units along the same axis as the value."""
        axis = self.study.units[node.name].axis
        weights = {role: self._store(name, self._rest(name, staying, axis)) for role, name in node.weights.items()}
        if node.op == "reshape":
            shape = (*node.shape[: axis - 1], int(staying.sum()), *node.shape[axis:])
            return replace(node, attributes={"shape": shape})
        return replace(node, weights=weights)

    def _rest(self, name: str, staying: Mask, axis: int) -> Bits:
        return self.weights[name].bits.compress(staying, axis - 1)

    def _cut_slice(self, node: Node) -> Node:
        """Where it takes some of the units: the same ones, counted among those that are left."""
        staying = self._staying(node.inputs[0])
        if staying is None or self.study.units[node.inputs[0]].axis != node.attributes["axis"]:
            return node
        start, stop = (int(staying[: node.whole(name)].sum()) for name in ("start", "stop"))
        return replace(node, attributes={**node.attributes, "start": start, "stop": stop})
