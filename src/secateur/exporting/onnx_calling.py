"""A model of ONNX as the network is called: its batch where the signature has it, its own names and number formats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from secateur.network.building import unused_name
from secateur.network.graph import Graph
from secateur.network.signature import Value, leaves

Arrays = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Called:
    """Names of inputs and outputs, in the graph's order, each with its number format in NumPy's words, "" for the
    graph's."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


def name_as_called(model: Any, graph: Graph, called: Called, onnx: Any) -> None:
    """Change a model that to_onnx made of a graph, which is called by its signature and these names and formats."""
    calling = _Calling(model.graph, onnx)
    for info, (name, value) in zip(list(model.graph.input), _arguments(graph), strict=True):
        calling.take(info, name, value)
        calling.cast(info, called.inputs.get(name, ""), into=True)
    values = {each.place: each for _, each in leaves(graph.called.outputs)}
    for place, (info, (name, format)) in enumerate(zip(list(model.graph.output), called.outputs.items(), strict=True)):
        calling.give(info, name, values.get(place, Value(place)))
        calling.cast(info, format, into=False)


def as_called(graph: Graph, given: Arrays, called: Called) -> Arrays:
    """What such a model is fed, of the graph's inputs by name."""
    values = dict(_arguments(graph))
    return {
        name: _in_format(value.back(each), called.inputs.get(name, ""))
        for (name, value), each in zip(values.items(), given.values(), strict=True)
    }


def rounded(graph: Graph, given: Arrays, called: Called) -> Arrays:
    """The graph's inputs with the numbers that such a model can be fed."""
    names = [name for name, _ in _arguments(graph)]
    return {
        inner: _in_format(each, called.inputs.get(name, "")).astype(each.dtype)
        for name, (inner, each) in zip(names, given.items(), strict=True)
    }


def _in_format(array: Any, format: str) -> Any:
    return array.astype(format) if _is_known(format) else array


def _is_known(format: str) -> bool:
    """Whether NumPy has it, by which it is fed."""
    return format not in ("", "bfloat16", "int4", "uint4")


def _arguments(graph: Graph) -> list[tuple[str, Value]]:
    """In the graph's order."""
    found = [(name, value) for name, tree in graph.called.arguments for _, value in leaves(tree)]
    return sorted(found, key=lambda each: each[1].place)


class _Calling:
    def __init__(self, graph: Any, onnx: Any) -> None:
        self.graph, self.onnx = graph, onnx
        named = (*graph.input, *graph.initializer, *(each.values for each in graph.sparse_initializer))
        self.taken = {each.name for each in named} | {name for node in _nodes(graph) for name in node.output}

    def take(self, info: Any, name: str, value: Value) -> None:
        """An input that has its batch at another axis than the first, or another name."""
        sizes = list(info.type.tensor_type.shape.dim)
        if value.axis == 0 and name == info.name:
            return
        self._free(name)
        inner, info.name = info.name, name
        self.graph.node.insert(0, self._moved(name, inner, value.axis, len(sizes), back=False))
        self._resize(info, sizes, value)

    def give(self, info: Any, name: str, value: Value) -> None:
        sizes = list(info.type.tensor_type.shape.dim)
        plain = value.axis == 0 and not value.rows
        if plain and name == info.name:
            return
        self._free(name)
        if plain:
            self._rename(info.name, name)
            return
        inner, info.name = info.name, name
        if value.rows:
            self.graph.node.extend(self._in_rows(inner, name))
            del info.type.tensor_type.shape.dim[1]
            info.type.tensor_type.shape.dim[0].Clear()
            return
        self.graph.node.append(self._moved(inner, name, value.axis, len(sizes), back=True))
        self._resize(info, sizes, value)

    def cast(self, info: Any, format: str, *, into: bool) -> None:
        """Have an input or output in a format."""
        kind = info.type.tensor_type
        wanted = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(format)) if _is_known(format) else kind.elem_type
        if wanted == kind.elem_type:
            return
        name, before = info.name, kind.elem_type
        self._free(name)
        inner, info.name, kind.elem_type = info.name, name, wanted
        given, made, to = (name, inner, before) if into else (inner, name, wanted)
        node = self.onnx.helper.make_node("Cast", [given], [made], name=made, to=to)
        self.graph.node.insert(0 if into else len(self.graph.node), node)

    def _moved(self, given: str, made: str, axis: int | None, rank: int, *, back: bool) -> Any:
        make = self.onnx.helper.make_node
        if axis is None:
            zero = self._fresh(f"{made}.axis")
            self.graph.initializer.append(self.onnx.numpy_helper.from_array(np.array([0]), zero))
            return make("Squeeze" if back else "Unsqueeze", [given, zero], [made], name=made)
        order = [axis, *(each for each in range(rank) if each != axis)]
        return make("Transpose", [given], [made], name=made, perm=np.argsort(order).tolist() if back else order)

    def _in_rows(self, given: str, made: str) -> list[Any]:
        """(N, m, …) as (N·m, …)."""
        make, rest, shape, one = (
            self.onnx.helper.make_node,
            *map(self._fresh, (f"{made}.rest", f"{made}.shape", f"{made}.rows")),
        )
        self.graph.initializer.append(self.onnx.numpy_helper.from_array(np.array([-1]), one))
        return [
            make("Shape", [given], [rest], name=rest, start=2),
            make("Concat", [one, rest], [shape], name=shape, axis=0),
            make("Reshape", [given, shape], [made], name=made),
        ]

    def _resize(self, info: Any, sizes: list[Any], value: Value) -> None:
        first, *own = sizes
        made = own if value.axis is None else [*own[: value.axis], first, *own[value.axis :]]
        shape = self.onnx.TensorShapeProto(dim=made)
        info.type.tensor_type.shape.CopyFrom(shape)

    def _free(self, name: str) -> None:
        """Give what has a name another one."""
        if name in self.taken:
            self._rename(name, self._fresh(f"{name}.value"))
        self.taken.add(name)

    def _rename(self, old: str, new: str) -> None:
        for node in _nodes(self.graph):
            node.input[:] = [new if each == old else each for each in node.input]
            node.output[:] = [new if each == old else each for each in node.output]
            node.name = new if node.name == old else node.name
        stored = (*self.graph.initializer, *(each.values for each in self.graph.sparse_initializer))
        for each in (*stored, *self.graph.input, *self.graph.output):
            each.name = new if each.name == old else each.name

    def _fresh(self, wanted: str) -> str:
        name = unused_name(wanted, self.taken)
        self.taken.add(name)
        return name


def _nodes(graph: Any) -> Iterator[Any]:
    """Those in graphs of nodes, too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)
