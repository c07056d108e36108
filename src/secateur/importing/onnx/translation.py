"""One pass over the nodes of a model: what each becomes. How an operation is read is in `conversions`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from secateur.errors import ExportError, FormatError, GraphError, SecateurError
from secateur.importing.onnx.calls import Call, Conversion, Refused
from secateur.importing.onnx.dimensions import Plan
from secateur.importing.onnx.expanding import expanded
from secateur.importing.onnx.folding import Folding, constant_from
from secateur.importing.onnx.integers import codes
from secateur.importing.onnx.loading import DEFAULT_DOMAINS, MOST_NODES, graphs_of, import_onnx
from secateur.importing.onnx.tensors import ELEMENTS, Constant, constant_of, dense_of, weight_of
from secateur.importing.onnx.values import Held, Lost, Tensor, whole_shape
from secateur.importing.placing import Place
from secateur.network.building import Builder
from secateur.network.composites import CompositeError, Padded
from secateur.network.graph import Graph, Node, Shape, Weight
from secateur.network.quantisation import Quantisation
from secateur.network.signature import Nest, Signature, Tree, Value

HELD = (
    "a graph holds convolutions, products of matrices, attention, recurrent layers, lookups, normalisation, pooling, "
    "functions of numbers, comparisons and changes of shape"
)
Scope = MutableMapping[str, Held]
MOST_IN_VALUE = 1 << 28
"""Numbers of one image that a value may have: what is made of one (places to read, say) is as large."""
_MOST_DEPTH = 16


@dataclass(slots=True)
class Refusals:
    """Nodes that cannot be held: (name, operation, reason)."""

    found: list[tuple[str, str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        reasons: dict[tuple[str, str], list[str]] = {}
        for name, op, reason in self.found:
            reasons.setdefault((op, reason), []).append(repr(name))
        return "; ".join(f"{', '.join(names)} ({op}) {reason}" for (op, reason), names in reasons.items())


class Unheld(ExportError):
    """Nodes that cannot be held. count: how many they are."""

    def __init__(self, refusals: Refusals) -> None:
        super().__init__(str(refusals))
        self.count = len(refusals.found)


class Translation:
    """plan: what inputs are. constants: of initializers and of inputs that are bound, by name."""

    def __init__(
        self, model: Any, plan: Plan, conversions: Mapping[tuple[str, str], Conversion], bound: Mapping[str, Constant]
    ) -> None:
        self.onnx, self.model, self.plan, self.conversions = import_onnx(), model, plan, conversions
        self.initializers = {each.name: each for each in model.graph.initializer}
        self.sparse = {each.values.name: each for each in model.graph.sparse_initializer}
        self.versions = {each.domain: int(each.version) for each in model.opset_import}
        self.build = Builder.with_entries([*self.initializers, *self.sparse])
        self.build.draft.most = MOST_IN_VALUE
        self.folding = Folding(self.onnx, model.ByteSize())
        self.refusals = Refusals()
        self.scope: Scope = dict(bound)
        self.padded: dict[str, Padded] = {}
        self.notes: set[str] = set()
        self._graph: Graph | None = None
        self.visited, self.depth = 0, 0
        self._names = _names_of_outputs(model.graph)
        self._values: dict[tuple[int, Shape, int], tuple[Constant, str]] = {}
        self._weights: dict[int, tuple[Constant, Weight]] = {}
        self._nodes: dict[str, Node] = {}
        self._makers = {name: node for node in model.graph.node for name in node.output if name}

    @property
    def made(self) -> Graph:
        """What it came to."""
        assert self._graph is not None
        return self._graph

    def translate(self) -> None:
        """Make the graph. Raises ExportError for what a Graph cannot hold, naming every node of it."""
        for name, given in self.plan.inputs.items():
            self._take_input(name, given.own, given.place, given.format)
        self.run(self._needed())
        outputs = [self._output(place, each.name) for place, each in enumerate(self.model.graph.output)]
        if self.refusals.found:
            raise Unheld(self.refusals)
        values = [value for value, _ in outputs]
        self._graph = self.build.graph(values, self._signature([tree for _, tree in outputs]))

    def _take_input(self, wanted: str, own: Shape, place: Place | None, format: str) -> None:
        name = self.build.input(wanted, own, ELEMENTS[format])
        self.scope[wanted] = Tensor(name, place, whole_shape(own, place, self.plan.images), format)

    def _needed(self) -> list[Any]:
        """The nodes that an output depends on, in the file's order."""
        wanted, kept = {each.name for each in self.model.graph.output}, []
        for node in reversed(self.model.graph.node):
            if wanted.intersection(node.output):
                kept.append(node)
                wanted.update(_read_by(node))
        return kept[::-1]

    def run(self, nodes: Sequence[Any]) -> None:
        """Translate nodes into the scope at hand."""
        for node in nodes:
            self.count(1)
            made = self._translated(node)
            for name, each in zip(node.output, made, strict=False):
                if name:
                    self.scope[name] = each if each is not None else Lost()

    def count(self, operations: int) -> None:
        """Of what is laid out. Raises FormatError for more than a file may ask for."""
        self.visited += operations
        if self.visited > MOST_NODES:
            raise FormatError(f"more than {MOST_NODES:,} operations once loops and functions are laid out")

    def _translated(self, node: Any) -> Sequence[Held | None]:
        lost = [Lost()] * len(node.output)
        try:
            held = [self.held(name) if name else None for name in node.input]
            if any(isinstance(each, Lost) for each in held):
                return lost
            return self._made(node, held)
        except CompositeError as error:
            self.refuse(node, str(error))
        except Refused as error:
            self.refuse(node, str(error))
        except (GraphError, FormatError) as error:
            self.refuse(node, f"does not fit a graph: {error}")
        except RecursionError:
            self.refuse(node, "goes too deep")
        except SecateurError:
            raise
        except Exception as error:  # a stranger's attributes, of whatever kinds and numbers
            self.refuse(node, f"does not make sense: {type(error).__name__}: {error}")
        return lost

    def _made(self, node: Any, held: Sequence[Held | None]) -> Sequence[Held | None]:
        key = ("" if node.domain in DEFAULT_DOMAINS else node.domain, node.op_type)
        own = key[0] == ""
        if own and node.op_type == "Constant":
            return [self._constant(node)]
        if own and held and all(isinstance(each, Constant) for each in held if each is not None):
            known = [each for each in held if each is None or isinstance(each, Constant)]
            if self.folding.takes(node, known):
                return self.folding.folded(node, known, self.version_of(""))
        if key in self.conversions:
            made = self.conversions[key](Call(self, node, held))
            return made if isinstance(made, list) else [made]  # type: ignore[list-item]
        return self.spelled_out(node, held)

    def spelled_out(self, node: Any, held: Sequence[Held | None]) -> list[Held | None]:
        """What a node comes to by what ONNX itself says that it is made of. Raises Refused, also for one of those."""
        parts = expanded(self, node, held)
        if parts is None:
            raise Refused(f"is not supported{'' if node.domain in DEFAULT_DOMAINS else f' of {node.domain}'}; {HELD}")
        before = len(self.refusals.found)
        self.enter()
        try:
            self.run(parts)
        finally:
            self.depth -= 1
        inner = self.refusals.found[before:]
        if inner:
            del self.refusals.found[before:]
            _, op, reason = inner[0]
            raise Refused(f"is made of {op}, which {reason}")
        return [self.scope.get(name) if name else None for name in node.output]

    def enter(self) -> None:
        self.depth += 1
        if self.depth > _MOST_DEPTH:
            raise Refused("goes too deep")

    def refuse(self, node: Any, reason: str) -> None:
        self.refusals.found.append((_name(node), str(node.op_type), reason))

    # ---- What names stand for ----

    def constant(self, tensor: Any) -> Constant:
        """An initializer of a graph in a node."""
        return constant_of(tensor, tensor.name)

    def held(self, name: str) -> Held:
        """Raises Refused for a name that nothing before it makes."""
        if name not in self.scope:
            if name in self.initializers:
                self.scope[name] = constant_of(self.initializers[name], name)
            elif name in self.sparse:
                self.scope[name] = dense_of(self.sparse[name], name)
            else:
                raise Refused(f"reads {name!r}, which nothing before it makes")
        return self.scope[name]

    def version_of(self, domain: str) -> int:
        named = [each for each in self.versions if each == domain or {each, domain} <= {*DEFAULT_DOMAINS}]
        return max((self.versions[each] for each in named), default=1)

    def path_of(self, node: Any) -> str:
        """What a node is called: by the file's output that it makes, else as the file has it."""
        made = next((name for name in node.output if name in self._names), "")
        return made or _name(node)

    def node_of(self, value: str) -> Node | None:
        """The node of the graph that makes a value, None for an input."""
        for node in self.build.draft.nodes[len(self._nodes) :]:
            self._nodes[node.name] = node
        return self._nodes.get(value)

    def quantisation_of(self, value: str) -> Quantisation | None:
        """What the integers of a value stand for, None where they are numbers."""
        self.build.element(value)
        held = self.build.draft.contents[value]
        return held if isinstance(held, Quantisation) else None

    def decided_by(self, name: str) -> str:
        """Which inputs have a part in a value, for messages."""
        found = sorted(self._sources(name))
        if not found:
            return "is not known"
        which = " and ".join(map(repr, found))
        return f"depends on input {which}: give it a shape with --shape, or a value with --bind"

    def _sources(self, name: str) -> set[str]:
        seen, waiting, found = {name}, [name], set()
        while waiting:
            each = waiting.pop()
            if each in self.plan.inputs:
                found.add(each)
            if each in self._makers:
                more = {*_read_by(self._makers[each])} - seen
                seen |= more
                waiting += more
        return found

    def _constant(self, node: Any) -> Constant:
        (attribute,) = [each for each in node.attribute if each.name.startswith(("value", "sparse_value"))]
        value = self.onnx.helper.get_attribute_value(attribute)
        if attribute.name == "value":
            found = constant_of(value)
            return Constant(found.array, found.format, node.output[0], found.weight)
        if attribute.name == "sparse_value":
            return dense_of(value, node.output[0])
        array = np.array(value)
        if array.dtype.kind not in "if":
            raise Refused("holds texts, which a graph does not")
        return constant_from(array.astype(np.float32 if array.dtype.kind == "f" else np.int64))

    # ---- Constants as values and weights ----

    def weight_of(self, constant: Constant) -> Weight:
        """Its bits: one weight for all who ask, named as the initializer that it is."""
        if id(constant) not in self._weights:
            if constant.array.dtype == object:
                raise Refused("takes sizes that are free as numbers: give them with --shape")
            weight = weight_of(constant)
            kept = constant.weight is not None and constant.name in (self.initializers.keys() | self.sparse.keys())
            weight = self.build.entry(constant.name, weight) if kept else weight
            self._weights[id(constant)] = constant, weight
        return self._weights[id(constant)][1]

    def constant_in(self, constant: Constant, shape: Shape, build: Builder, *, first: int = -1) -> str:
        """The value of a constant in a shape. first: the dimension of which only the first part counts, if any."""
        key = (id(constant), shape, first)
        if key not in self._values:
            weight = self.weight_of(constant)
            if first >= 0:
                weight = build.variant(weight, ("first", first), lambda bits: bits.take([0], first))
            self._values[key] = constant, build.constant(build.reshaped(weight, shape), constant.name)
        return self._values[key][1]

    def value_of(self, constant: Constant, build: Builder) -> Tensor:
        """A constant as a tensor that no image has a part in."""
        if constant.array.dtype == object:
            return Tensor(self._of_sizes(constant, build), None, constant.shape, constant.format)
        return Tensor(self.constant_in(constant, constant.shape, build), None, constant.shape, constant.format)

    def _of_sizes(self, constant: Constant, build: Builder) -> str:
        """Sizes as numbers: each is the sum of as many ones."""
        parts = []
        for size in constant.array.reshape(-1):
            ones = build.emit("fill", value=1.0, shape=(size,))
            parts.append(build.emit("sum", ones, axes=(1,), keepdims=True))
        made = parts[0] if len(parts) == 1 else build.emit("concat", *parts, axis=1)
        made = made if constant.shape == (len(parts),) else build.emit("reshape", made, shape=constant.shape)
        element = ELEMENTS[constant.format]
        return made if element == "float32" else build.emit("cast", made, element=element)

    # ---- What the file gives ----

    def _output(self, place: int, name: str) -> tuple[str, Tree]:
        held = self.scope.get(name) or self._initial(name)
        build = self.build.at(name, is_layer=True)
        if isinstance(held, Constant):
            held = self.value_of(held, build)
        if not isinstance(held, Tensor):
            if not isinstance(held, Lost):
                self.refusals.found.append((name, "output", "is a sequence, or nothing makes it"))
            return "", Value(place)
        if self.quantisation_of(held.base) is not None:
            held = codes(Call(self, self._makers[name], []), held)
        rows = held.place is not None and held.place == Place(held.rank, "outer")
        if held.place is not None and held.place.fold and not rows:
            self.refusals.found.append((name, "output", "mixes the batch with other dimensions"))
        return held.base, Value(place, None if held.place is None else held.batch_axis, rows)

    def _initial(self, name: str) -> Held | None:
        return self.held(name) if name in self.initializers or name in self.sparse else None

    def _signature(self, outputs: Sequence[Tree]) -> Signature:
        inputs = self.plan.inputs
        arguments = tuple((name, Value(at, inputs[name].axis)) for at, name in enumerate(inputs))
        names = [each.name for each in self.model.graph.output]
        made: Tree = outputs[0] if len(outputs) == 1 else Nest("record", tuple(zip(names, outputs, strict=True)))
        return Signature(arguments, made, self.plan.count)


def _names_of_outputs(graph: Any) -> set[str]:
    return {each.name for each in graph.output}


def _name(node: Any) -> str:
    return str(node.name or next(iter(node.output), "") or node.op_type)


def _read_by(node: Any) -> Iterator[str]:
    """Names that a node reads, in graphs inside of it too."""
    yield from filter(None, node.input)
    for graph in graphs_of(node):
        for inner in graph.node:
            yield from _read_by(inner)
        yield from (each.name for each in graph.output)
