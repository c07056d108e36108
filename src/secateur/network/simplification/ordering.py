"""Channels in an order in which zeros meet in words of four.

In eight bits a word of four weights is skipped where all four are zero (`network.words`). What a layer writes is what
its readers read, so the order in between is free: rows of the writers, columns of the readers, and all that is per
channel on the way are permuted alike.

Units of all values that are the same channel, by the links that also say which can leave (`following`), are a tie. Two
ties may change places if they stand in the same values, and there in the same parts (of a concatenation, a slice, the
groups of a convolution). Inputs, outputs, and what any operation reads together keep their order.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from secateur.network.building import unused_name
from secateur.network.graph import Graph, Node, Weight
from secateur.network.operations import OPERATIONS
from secateur.network.operations.units import Indices, Mask
from secateur.network.simplification.following import Followed, group_of, is_mixing
from secateur.network.simplification.gathering import Pattern, gather
from secateur.network.simplification.tidying import rebuilt
from secateur.network.sizes import is_whole
from secateur.network.words import WORD, word_of


@dataclass(frozen=True, slots=True)
class LayerWords:
    """Words of four weights of a layer: all that there are, and those not zero, before and after. uses: of each, in
    one image."""

    node: str
    words: int
    before: int
    after: int
    uses: int


@dataclass(frozen=True, slots=True)
class Gain:
    """What an order of channels saves. before, after: the share of the words of four that is multiplied."""

    layers: tuple[LayerWords, ...]

    @property
    def before(self) -> float:
        return self._share([layer.before for layer in self.layers])

    @property
    def after(self) -> float:
        return self._share([layer.after for layer in self.layers])

    def _share(self, counts: Sequence[int]) -> float:
        total = sum(layer.words * layer.uses for layer in self.layers)
        used = sum(count * layer.uses for count, layer in zip(counts, self.layers, strict=True))
        return used / total if total else 0.0


def order_channels(graph: Graph) -> tuple[Graph, Gain]:
    """A graph with its channels in another order, and what that saves.

    It computes the same but for the order of sums. The same graph always gets the same order; no layer set as a whole
    gets more words than it had, and a graph in which nothing can be saved comes back as it is.
    """
    ties = Ties(graph)
    order, gain = best_order(ties)
    return reordered(ties, order), gain


def best_order(ties: Ties) -> tuple[Indices, Gain]:
    """An order of elements as `reordered` takes it, and what it saves."""
    readers = [_Reader(ties, node) for node in ties.graph.nodes if _has_words(node)]
    order = np.arange(ties.count)
    before = [reader.count(order) for reader in readers]
    for family in ties.families():
        order = _better(order, family, readers)
    layers = (
        LayerWords(reader.node.name, reader.words, was, reader.count(order), reader.uses)
        for reader, was in zip(readers, before, strict=True)
    )
    return order, Gain(tuple(layers))


def reordered(ties: Ties, order: Indices) -> Graph:
    """A graph with its units in another order: for each element the one that comes to its place, of the same value."""
    if _is_plain(order):
        return ties.graph
    return _Reordering(ties, {name: ties.of_value(order, name) for name in ties.units}).graph()


def _better(order: Indices, family: Indices, readers: Sequence[_Reader]) -> Indices:
    """The order with one family's channels moved, where its readers then take fewer words: by what all of them have in
    common, or by those alone that do not rather take pixels in words."""
    reading = [reader for reader in readers if reader.places(family).any()]
    gaining = [reader for reader in reading if reader.takes_channels(order)]
    ways = [reading, gaining] if 0 < len(gaining) < len(reading) else [reading] if reading else []
    orders = [order, *(_moved(order, family, some) for some in ways)]
    return min(orders, key=lambda each: sum(reader.uses * reader.count(each) for reader in reading))


def _moved(order: Indices, family: Indices, readers: Sequence[_Reader]) -> Indices:
    """The order with a family's channels in words by what these readers multiply."""
    costliest = max(readers, key=lambda reader: reader.uses * np.count_nonzero(reader.nonzero))
    slots, sizes = costliest.slots(family)
    moved = order.copy()
    if len(sizes) > 1:
        words = gather([reader.pattern(family) for reader in readers], sizes)
        moved[family[slots]] = family[np.concatenate([np.sort(word) for word in words])]
    return moved


def _has_words(node: Node) -> bool:
    """Whether a node is a layer that sums over more than one channel."""
    return OPERATIONS[node.op].is_layer and (is_mixing(node) or node.whole("groups") < node.shape[0])


class Ties(Followed):
    """Which units are one channel, and which may change places.

    An element is one unit of one value; they are counted through all values. tie: for each the first of those that are
    the same channel.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.follow()
        sizes = [len(units.constant) for units in self.units.values()]
        starts = np.cumsum([0, *sizes])
        self.count = int(starts[-1])
        self.spans = {name: slice(starts[at], starts[at + 1]) for at, name in enumerate(self.units)}
        self.fixed = np.zeros(self.count, bool)
        self.sources = {node.name: list(self._sources(node)) for node in graph.nodes}
        self.grouped: dict[str, list[Node]] = defaultdict(list)
        for node in graph.nodes:
            if OPERATIONS[node.op].is_layer and not is_mixing(node) and not _is_depthwise(self, node):
                self.grouped[node.name].append(node)
                if self.reads(node) is not None:
                    self.grouped[node.inputs[0]].append(node)
        for name in graph.outputs:
            self.fix(name)
        self.tie = self._joined()
        self.turn = self._turns()

    def of_value(self, order: Indices, name: str) -> Indices:
        """An order of elements as one of a value's own units."""
        span = self.spans[name]
        return order[span] - span.start

    def families(self) -> list[Indices]:
        """(ties, elements of each), for every set of ties that may change places: row by row, in any order."""
        place = self._places()
        at = np.argsort(self.tie, kind="stable")
        found: dict[bytes, list[Indices]] = {}
        for elements in np.split(at, np.flatnonzero(np.diff(self.tie[at])) + 1):
            if len(elements) and not self.fixed[elements].any():
                found.setdefault(place[elements].tobytes(), []).append(elements)
        return [np.stack(ties) for ties in found.values() if len(ties) > 1]

    def fix(self, name: str) -> None:
        """Leave the units of a value, and all that are tied to them, where they are."""
        if name in self.spans:
            self.fixed[self.spans[name]] = True

    def _sources(self, node: Node) -> Iterator[tuple[str, Indices]]:
        """(an input, its unit for each of the node's or -1), where they are tied; fixes what is read otherwise."""
        if OPERATIONS[node.op].is_layer:
            yield from self._sources_of_layer(node)
            return
        link = self.links.get(node.name)
        if link is not None:
            self.fixed[self.spans[node.name]] |= link.held
        for at, name in enumerate(node.inputs):
            source = link.sources[at] if link is not None else None
            if source is None:
                self.fix(name)
            else:
                yield name, source

    def _sources_of_layer(self, node: Node) -> Iterator[tuple[str, Indices]]:
        """A layer ties nothing, but for a convolution of each channel on its own."""
        source, made = node.inputs[0], len(self.units[node.name].constant)
        if node.weights["weight"] in self.shared:
            self.fix(node.name)
        if node.weights["weight"] in self.shared or self.reads(node) is None:
            self.fix(source)
            if not is_mixing(node):
                self.fix(node.name)
        elif _is_depthwise(self, node):
            yield source, group_of(node, made)

    def _joined(self) -> Indices:
        """For each element the first of its tie."""
        tie = np.arange(self.count)
        pairs = [
            (np.arange(self.count)[self.spans[made]][source >= 0], self.spans[read].start + source[source >= 0])
            for made, sources in self.sources.items()
            for read, source in sources
        ]
        if not pairs:
            return tie
        left, right = (np.concatenate(side) for side in zip(*pairs, strict=True))
        while not np.array_equal(tie[left], tie[right]):
            least = np.minimum(tie[left], tie[right])
            for side in (left, right):
                np.minimum.at(tie, tie[side], least)
                np.minimum.at(tie, side, least)
            tie = tie[tie]
        return tie

    def _turns(self) -> Indices:
        """Which of its tie's elements in one value each element is, from 0."""
        turn = np.zeros(self.count, np.intp)
        for span in self.spans.values():
            at = np.argsort(self.tie[span], kind="stable")
            first = np.concatenate([[True], np.diff(self.tie[span][at]) != 0])[: len(at)]
            turn[span.start + at] = np.arange(len(at)) - np.maximum.accumulate(np.where(first, np.arange(len(at)), 0))
        return turn

    def _places(self) -> Indices:
        """A number for each element, the same for those of a value with which the same is done."""
        place = np.zeros(self.count, np.intp)
        taken = 0
        for name, span in self.spans.items():
            _, kinds = np.unique(np.stack(self._marks(name), axis=1), axis=0, return_inverse=True)
            place[span] = taken + kinds.reshape(-1)
            taken += len(kinds)
        return place

    def _marks(self, name: str) -> list[Indices]:
        """For each of a value's units: where its tie stands in what it is made of, and its group of convolutions."""
        sources = [
            np.where(source >= 0, self.turn[self.spans[read]][source], -1) for read, source in self.sources[name]
        ]
        size = self.spans[name].stop - self.spans[name].start
        return [self.turn[self.spans[name]], *sources, *(group_of(node, size) for node in self.grouped[name])]


def _is_depthwise(ties: Followed, node: Node) -> bool:
    return not is_mixing(node) and ties.graph.weights[node.weights["weight"]].shape[1] == 1


class _Reader:
    """A layer and the words that it multiplies. nonzero: (units of its input, places); of a grouped convolution those
    of the unit's group.

    ways: the words that units can lie in, of which the runtime takes the way with the fewest: across the channels, or,
    where planes were flattened, across the pixels of one.
    """

    def __init__(self, ties: Ties, node: Node) -> None:
        self.node = node
        bits = ties.graph.weights[node.weights["weight"]].bits
        groups = 1 if is_mixing(node) else node.whole("groups")
        outputs, given = len(bits) // groups, bits.shape[1]
        split = (bits != 0).reshape(groups, outputs, given, math.prod(bits.shape[2:]))
        self.nonzero = np.ascontiguousarray(split.swapaxes(1, 2)).reshape(groups * given, -1)
        axis = OPERATIONS[node.op].axis_of(node.shape)
        around = (*node.shape[: axis - 1], *node.shape[axis:])
        self.uses = math.prod(around) if is_whole(around) else 1
        self.span = ties.spans[node.inputs[0]] if ties.reads(node) is not None else None
        pixels = _planes(ties.tie[self.span]) if self.span is not None else 1
        self.ways = [_Words(groups, given // each, each) for each in dict.fromkeys((pixels, 1))]
        self.words = len(self.ways[0].units) * self.nonzero.shape[1]

    def count(self, order: Indices) -> int:
        """Words that are not zero, in an order of elements."""
        return min(self._counts(order))

    def takes_channels(self, order: Indices) -> bool:
        """Whether it takes channels in words, rather than pixels."""
        first, *others = self._counts(order)
        return all(first <= other for other in others)

    def _counts(self, order: Indices) -> list[int]:
        nonzero = self.nonzero if self.span is None else self.nonzero[order[self.span] - self.span.start]
        return [way.count_nonzero(nonzero) for way in self.ways]

    def places(self, family: Indices) -> Mask:
        """Which of the elements of each tie lie in this reader's input."""
        if self.span is None:
            return np.zeros(family.shape[1], bool)
        return (family[0] >= self.span.start) & (family[0] < self.span.stop)

    def units(self, family: Indices) -> Indices:
        """(ties, those of their elements): as units of this reader's input."""
        assert self.span is not None
        return family[:, self.places(family)] - self.span.start

    def pattern(self, family: Indices) -> Pattern:
        return Pattern(self.nonzero[self.units(family)].reshape(len(family), -1), self.uses)

    def slots(self, family: Indices) -> tuple[Indices, Indices]:
        """The ties of a family in the order of the words that they lie in, and how many lie in each."""
        word = self.ways[0].word[self.units(family)[:, 0]]
        return np.argsort(word, kind="stable"), np.unique(word, return_counts=True)[1]


class _Words:
    """The word of each unit of groups · channels · pixels; and (words, WORD): their units, the first in place of those
    that a shorter one has not."""

    def __init__(self, groups: int, channels: int, pixels: int) -> None:
        own = word_of(channels, pixels)
        self.word = (np.arange(groups)[:, None] * len(own) + own).reshape(-1)
        at = np.argsort(self.word, kind="stable")
        starts = np.flatnonzero(np.diff(self.word[at], prepend=-1))
        ends = np.append(starts[1:], len(at))
        self.units = at[
            np.where((places := starts[:, None] + np.arange(WORD)) < ends[:, None], places, starts[:, None])
        ]

    def count_nonzero(self, nonzero: Mask) -> int:
        """Words that are not zero, of (units, places)."""
        found = nonzero[self.units[:, 0]]
        for others in self.units.T[1:]:
            found |= nonzero[others]
        return int(np.count_nonzero(found))


def _planes(tie: Indices) -> int:
    """How many consecutive units belong to one channel: the pixels of a plane, where planes were flattened."""
    run = int(np.argmax(tie != tie[0])) or len(tie)
    whole = len(tie) % run == 0 and len(np.unique(tie[::run])) == len(tie) // run
    return run if whole and np.array_equal(tie, np.repeat(tie[::run], run)) else 1


class _Reordering:
    """A graph with the units of its values in other orders. orders: per value, the old unit at each new place."""

    def __init__(self, ties: Ties, orders: Mapping[str, Indices]) -> None:
        self.ties, self.orders = ties, orders
        self.weights = dict(ties.graph.weights)

    def graph(self) -> Graph:
        nodes = [self._reordered(node) for node in self.ties.graph.nodes]
        return rebuilt(self.ties.graph, nodes, self.weights)

    def _reordered(self, node: Node) -> Node:
        if node.name not in self.orders:
            return node
        if not OPERATIONS[node.op].is_layer:
            axis = self.ties.units[node.name].axis - 1
            return replace(node, weights={role: self._taken(name, node, axis) for role, name in node.weights.items()})
        weights = {role: self._taken(name, node, 0) for role, name in node.weights.items()}
        if self.ties.reads(node) is not None:
            weights["weight"] = self._with_columns(node, weights["weight"])
        return replace(node, weights=weights)

    def _taken(self, name: str, node: Node, axis: int) -> str:
        """The name of a weight with its units along an axis in the order of a node's value."""
        order = self.orders[node.name]
        if _is_plain(order):
            return name
        return self._stored(name, self.weights[name].bits.take(order, axis))

    def _with_columns(self, node: Node, name: str) -> str:
        order, bits = self.orders[node.inputs[0]], self.weights[name].bits
        if _is_plain(order):
            return name
        if is_mixing(node):
            return self._stored(name, bits[:, order])
        columns = (order % bits.shape[1]).reshape(-1, bits.shape[1])[group_of(node, len(bits))]
        return self._stored(name, np.take_along_axis(bits, columns.reshape(*columns.shape, 1, 1), 1))

    def _stored(self, name: str, bits: np.ndarray) -> str:
        """A weight in place of the one of that name, or beside it where something else uses that too."""
        stored = unused_name(name, self.weights) if name in self.ties.shared else name
        self.weights[stored] = Weight(self.weights[name].dtype, np.ascontiguousarray(bits))
        return stored


def _is_plain(order: Indices) -> bool:
    return np.array_equal(order, np.arange(len(order)))
