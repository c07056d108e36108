"""What is written out becomes the operation that it is: layer norm, GELU and attention, as older files have them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from secateur.errors import GraphError
from secateur.network.building import unused_name
from secateur.network.graph import Attribute, Graph, Node, Shape, Weight, infer_shape
from secateur.network.simplification.expressions import ARITHMETIC, Expressions, Terms, agree, inverse
from secateur.network.simplification.tidying import rebuilt

_FAR = 5
"""Operations behind the one that tells what is meant, within which the rest of it has to stand."""
_HIDDEN = -1e9
"""What is added to scores from here on hides a place, as e to its power is 0."""


@dataclass(frozen=True, slots=True)
class _Normalised:
    """(x − mean) · factor, factor being 1 / √(variance + eps) over so many last axes."""

    x: str
    mean: str
    factor: str
    axes: int
    eps: float


@dataclass(frozen=True, slots=True)
class _Gate:
    """x and a function of it, out of which a GELU is made."""

    x: str
    gate: str
    approximate: str


_Core = _Normalised | _Gate


def fuse(graph: Graph) -> Graph:
    """With layer_norm, gelu and attention where their formulas are written out, whatever the order of their terms.

    Equal operations on equal values are one. Where what is in between is read by others too, it stays as well.
    """
    if not any(node.op in ("rsqrt", "sqrt", "erf", "tanh", "softmax") for node in graph.nodes):
        return graph
    fusing = _Fusing(graph)
    for node in graph.nodes:
        fusing.take(node)
    return rebuilt(graph, list(fusing.nodes.values()), fusing.weights) if fusing.found else graph


class _Fusing:
    """spelt: nodes as they were. nodes: as they become. cores: of a value, how it begins and how far behind."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.weights = graph, dict(graph.weights)
        self.spelt: dict[str, Node] = {}
        self.nodes: dict[str, Node] = {}
        self.shapes: dict[str, Shape] = dict(graph.inputs)
        self.aliases: dict[str, str] = {}
        self.seen: dict[object, str] = {}
        self.cores: dict[str, tuple[_Core, int]] = {}
        self.reads = Counter([*graph.outputs, *(name for node in graph.nodes for name in node.inputs)])
        self.expressions = Expressions(self.spelt, graph.weights, len(graph.nodes))
        self.found = 0

    def take(self, node: Node) -> None:
        node = replace(node, inputs=tuple(self.aliases.get(name, name) for name in node.inputs))
        key = (node.op, node.inputs, *sorted(node.weights.items()), *sorted(map(repr, node.attributes.items())))
        same = self.seen.setdefault(key, node.name)
        if same != node.name and node.name not in self.graph.outputs:
            self.aliases[node.name] = same
            self.reads[same] += self.reads[node.name]
            self.reads.subtract(node.inputs)
            return
        self.spelt[node.name], self.shapes[node.name] = node, node.shape
        made = self._attention(node) if node.op == "matmul" else self._by_core(node)
        self.nodes[node.name] = made or node
        self.found += made is not None

    # ---- Formulas ----

    def _by_core(self, node: Node) -> Node | None:
        core, far = self._core(node)
        if core is None or far > _FAR:
            return None
        self.cores[node.name] = core, far
        if node.op not in ARITHMETIC or node.shape != self.shapes[core.x]:
            return None
        if isinstance(core, _Gate):
            terms = self.expressions.terms(node.name, frozenset((core.x, core.gate)))
            expected: Terms = {(core.x,): 0.5, tuple(sorted((core.x, core.gate))): 0.5}
            attributes = {"approximate": core.approximate}
            return _made(node, "gelu", (core.x,), attributes) if agree(terms, expected) else None
        return self._normalised(node, core)

    def _core(self, node: Node) -> tuple[_Core | None, int]:
        if node.op in ("erf", "tanh"):
            return self._gate(node), 0
        if node.op in ("rsqrt", "reciprocal", "div"):
            own = self._factor(node)
            if own is not None:
                return own, 0
        if node.op not in ARITHMETIC:
            return None, 0
        reached = [self.cores[name] for name in node.inputs if name in self.cores]
        core, far = min(reached, key=lambda each: each[1], default=(None, 0))
        return core, far + 1

    def _gate(self, node: Node) -> _Gate | None:
        """erf(x / √2), or tanh(√(2/π) · (x + 0.044715 x³)) (Hendrycks & Gimpel 2016)."""
        root = math.sqrt(2 / math.pi)
        for x in self._before(node.inputs[0]):
            terms = self.expressions.terms(node.inputs[0], frozenset((x,)))
            if node.op == "erf" and agree(terms, {(x,): math.sqrt(0.5)}):
                return _Gate(x, node.name, "none")
            if node.op == "tanh" and agree(terms, {(x,): root, (x, x, x): 0.044715 * root}):
                return _Gate(x, node.name, "tanh")
        return None

    def _before(self, name: str) -> Iterator[str]:
        """Values that one of arithmetic is made of, nearest first."""
        waiting = [name]
        for _ in range(_FAR):
            reached = [self.spelt[each] for each in waiting if each in self.spelt]
            waiting = [each for node in reached if node.op in ARITHMETIC for each in node.inputs]
            waiting = [each for each in dict.fromkeys(waiting) if self.expressions.number(each) is None]
            yield from waiting

    def _factor(self, node: Node) -> _Normalised | None:
        """A node that is, or divides by, the root of a variance and a little."""
        root = node if node.op == "rsqrt" else self.spelt.get(node.inputs[-1])
        if root is None or (node is not root and root.op != "sqrt"):
            return None
        factor = inverse(root.name) if node.op == "div" else node.name
        for variance in self._before(root.inputs[0]):
            terms, mean = self.expressions.terms(root.inputs[0], frozenset((variance,))), self.spelt.get(variance)
            eps = terms.get((), 0.0)
            if mean is not None and mean.op == "mean" and 0 <= eps < math.inf and terms.keys() <= {(), (variance,)}:
                return self._centred(mean, factor, eps) if terms.get((variance,)) == 1 else None
        return None

    def _centred(self, variance: Node, factor: str, eps: float) -> _Normalised | None:
        """variance: the mean of the squares of what is a value less its mean, over the same last axes."""
        square = self.spelt.get(variance.inputs[0])
        for apart in (self.spelt.get(name) for name in (square.inputs if square else ())):
            if square is None or apart is None or apart.op != "sub":
                continue
            x, mean = apart.inputs
            made = self.spelt.get(mean)
            axes = variance.numbers("axes")
            rank = len(self.shapes[x])
            if (
                agree(self.expressions.terms(square.name, frozenset((apart.name,))), {(apart.name, apart.name): 1.0})
                and made is not None
                and (made.op, made.inputs, made.attributes) == ("mean", (x,), variance.attributes)
                and sorted(axes) == [*range(rank - len(axes) + 1, rank + 1)]
                and variance.attributes["keepdims"]
            ):
                return _Normalised(x, mean, factor, len(axes), eps)
        return None

    def _normalised(self, node: Node, core: _Normalised) -> Node | None:
        """The whole of it so far: with a scale and a shift, as far as they are constants of the last axes."""
        terms = self.expressions.terms(node.name, frozenset((core.x, core.mean, core.factor)))
        own = next((product for product in terms if core.x in product), ())
        scale = [name for name in own if name not in (core.x, core.factor)]
        shift = [product for product in terms if not {core.x, core.mean} & {*product}]
        if len(scale) > 1 or len(shift) > 1 or any(len(product) > 1 for product in shift):
            return None
        expected: Terms = {
            tuple(sorted((core.x, core.factor, *scale))): 1.0,
            tuple(sorted((core.mean, core.factor, *scale))): -1.0,
            **{product: 1.0 for product in shift if product},
        }
        shifts = [name for product in shift for name in product]
        weights = {
            role: self._vector(name, node.shape[-core.axes :])
            for role, some in (("weight", scale), ("bias", shifts))
            for name in some
        }
        fits = agree(terms, expected) and all(weights.values()) and (bool(scale) or not shift)
        attributes = {"axes": core.axes, "eps": core.eps}
        return _made(node, "layer_norm", (core.x,), attributes, weights) if fits else None

    def _vector(self, name: str, shape: Shape) -> str:
        """The weight of a constant, as the last axes have it; "" where it is none of them."""
        node = self.spelt.get(name)
        held = self.weights[node.weights["value"]] if node is not None and node.op == "constant" else None
        if node is None or held is None or held.count != math.prod(shape) or held.shape[-len(shape) :] != shape:
            return ""
        if held.shape == shape:
            return node.weights["value"]
        made = unused_name(node.weights["value"], self.weights)
        self.weights[made] = Weight(held.dtype, held.bits.reshape(shape))
        return made

    # ---- Attention ----

    def _attention(self, node: Node) -> Node | None:
        """softmax(scale · q kᵀ + mask) v."""
        shares = self._shares(node.inputs[0])
        if shares is None or shares.attributes["axis"] != len(shares.shape) or node.attributes["transposed"]:
            return None
        scores, masks, scale = self._scores(node, shares.inputs[0])
        product = self.spelt.get(scores)
        if product is None or product.op != "matmul" or product.shape != shares.shape or self.reads[scores] != 1:
            return None
        query, first = self._scaled(product.inputs[0])
        key, second = self._scaled(product.inputs[1])
        some = (query, key if product.attributes["transposed"] else self._turned(node, key), node.inputs[1])
        headed = [self._headed(node, name) for name in some]
        attributes = {"scale": scale * first * second, "causal": False}
        return self._attending(node, (*headed, *masks), attributes)

    def _attending(self, node: Node, inputs: Sequence[str], attributes: Mapping[str, Attribute]) -> Node | None:
        """None where heads would be others."""
        try:
            shape = infer_shape(
                _made(node, "attention", inputs, attributes), [self.shapes[name] for name in inputs], {}
            )
        except GraphError:
            return None
        if shape == node.shape:
            return _made(node, "attention", inputs, attributes)
        if shape != (1, *node.shape):
            return None
        apart = self._add(node, "attention", inputs, shape, attributes)
        return _made(node, "reshape", (apart,), {"shape": node.shape})

    def _shares(self, name: str) -> Node | None:
        """The softmax that a value is, 0 where that is no number; None where others read it too."""
        node, reads = self.spelt.get(name), 1
        if node is not None and node.op == "where" and self.reads[name] == 1:
            chosen, number, name = node.inputs
            guarded = self.expressions.number(number) == 0 and self._is_nan(chosen, name)
            node, reads = self.spelt.get(name) if guarded else None, 3
        return node if node is not None and node.op == "softmax" and self.reads[name] == reads else None

    def _is_nan(self, name: str, value: str) -> bool:
        node = self.spelt.get(name)
        equal = self.spelt.get(node.inputs[0]) if node is not None and node.op == "logical_not" else None
        return equal is not None and equal.op == "equal" and equal.inputs == (value, value)

    def _scores(self, node: Node, name: str) -> tuple[str, tuple[str, ...], float]:
        """A product of matrices, what is added to it, and what it is multiplied by."""
        name, scale = self._scaled(name)
        masked = self.spelt.get(name)
        if scale != 1 or masked is None or self.reads[name] != 1 or masked.op not in ("add", "where"):
            return name, (), scale
        first, second = masked.inputs[-2:] if masked.op == "where" else sorted(masked.inputs, key=self._is_no_product)
        mask = self._hiding(node, masked.inputs[0], second) if masked.op == "where" else second
        name, scale = self._scaled(first)
        return (name, (mask,), scale) if mask else ("", (), 1.0)

    def _is_no_product(self, name: str) -> bool:
        made = self.spelt.get(self._scaled(name)[0])
        return made is None or made.op != "matmul"

    def _hiding(self, node: Node, seen: str, number: str) -> str:
        """What a choice between scores and a number is as a mask: truth values, or what is added; "" for none."""
        hidden = self.expressions.number(number)
        if hidden is None or hidden > _HIDDEN:
            return ""
        if hidden == -math.inf or self._all_see_some(seen):
            return seen
        zero = unused_name(f"{node.name}.zero", self.weights)
        self.weights[zero] = Weight.of(np.zeros(1, np.float32))
        nothing = self._add(node, "constant", (), (1,), {}, {"value": zero})
        return self._add(node, "where", (seen, nothing, number), self.shapes[seen], {})

    def _all_see_some(self, name: str) -> bool:
        made = self.spelt.get(name)
        if made is None or made.op != "constant":
            return False
        return bool(self.weights[made.weights["value"]].numbers().any(-1).all())

    def _scaled(self, name: str) -> tuple[str, float]:
        """A value times a number, as far as that is written out."""
        factor = 1.0
        while (node := self.spelt.get(name)) is not None and node.op in ("mul", "div") and self.reads[name] == 1:
            left, right = node.inputs
            number = self.expressions.number(right)
            if number is None and node.op == "mul":
                left, number = right, self.expressions.number(left)
            if not number or self.shapes[left] != node.shape:
                break
            name, factor = left, factor * (number if node.op == "mul" else 1 / number)
        return name, factor

    def _turned(self, node: Node, name: str) -> str:
        """A value with its last two axes exchanged."""
        shape, rank = self.shapes[name], len(self.shapes[name])
        axes = (*range(1, rank - 1), rank, rank - 1)
        return self._add(node, "permute", (name,), (*shape[:-2], shape[-1], shape[-2]), {"axes": axes})

    def _headed(self, node: Node, name: str) -> str:
        """Rows of one head, which is an axis of its own."""
        shape = (1, *self.shapes[name])
        return name if len(shape) > 3 else self._add(node, "reshape", (name,), shape, {"shape": shape})

    def _add(
        self, node: Node, op: str, inputs: Sequence[str], shape: Shape, attributes: Mapping[str, Attribute],
        weights: Mapping[str, str] | None = None,
    ) -> str:  # fmt: skip
        """Another node before one."""
        made = unused_name(f"{node.name}.{op}", {*self.shapes, *(each.name for each in self.graph.nodes)})
        self.nodes[made] = Node(made, op, tuple(inputs), weights or {}, attributes, shape, node.source)
        self.shapes[made] = shape
        return made


def _made(
    node: Node, op: str, inputs: Sequence[str], attributes: Mapping[str, Attribute],
    weights: Mapping[str, str] | None = None,
) -> Node:  # fmt: skip
    return replace(node, op=op, inputs=tuple(inputs), attributes=attributes, weights=weights or {})
