"""A network without PyTorch: nodes in order of execution, weights by name, every shape checked.

Dimension 0 of every value is the batch: it is free, and shapes here leave it out. A value is named after the node
that makes it, or is one of the graph's inputs. docs/format.md describes each operation with its attributes.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from secateur.errors import GraphError

Shape = tuple[int, ...]
Attribute = int | float | str | bool | tuple[int, ...]
Bits = NDArray[np.unsignedinteger]

DTYPES: Mapping[str, np.dtype[np.unsignedinteger]] = {
    "float32": np.dtype("<u4"),
    "float16": np.dtype("<u2"),
    "bfloat16": np.dtype("<u2"),
}
"""Number formats of weights, with the unsigned integers that hold their bits."""
MOST_PADDING = 4096
"""On one side of a plane: more would ask for memory that nothing in a file pays for."""
MOST_STEP = 1 << 24
"""A stride's or dilation's: wider than planes are, and still a whole number of 32 bits when planes are added to it."""


@dataclass(frozen=True, slots=True, eq=False)
class Weight:
    """A tensor by its bit patterns, so that -0.0, denormals and NaN payloads survive whatever handles it.

    bits: C-contiguous unsigned integers as wide as dtype, shaped as the tensor. A weight is zero where its bits are.
    """

    dtype: str
    bits: Bits

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise GraphError(f"dtype {self.dtype!r}: expected one of {', '.join(DTYPES)}")
        if self.bits.dtype != DTYPES[self.dtype] or not self.bits.flags.c_contiguous:
            raise GraphError(f"{self.dtype} weight: expected contiguous {DTYPES[self.dtype]}, got {self.bits.dtype}")

    @staticmethod
    def of(values: NDArray[np.floating]) -> Weight:
        """A float32 or float16 array as a Weight, without a copy where it is contiguous."""
        name = values.dtype.name
        if name not in ("float32", "float16"):
            raise GraphError(f"a weight from an array of {name}: expected float32 or float16")
        return Weight(name, np.ascontiguousarray(values).view(DTYPES[name]))

    @property
    def shape(self) -> Shape:
        return self.bits.shape

    @property
    def count(self) -> int:
        return self.bits.size

    @property
    def nonzero(self) -> int:
        return int(np.count_nonzero(self.bits))

    def values(self) -> NDArray[np.float32]:
        """As float32, exactly: a view for float32, a copy for the narrower formats."""
        if self.dtype == "float32":
            return self.bits.view("<f4")
        if self.dtype == "float16":
            return self.bits.view("<f2").astype(np.float32)
        return (self.bits.astype("<u4") << np.uint32(16)).view("<f4")


@dataclass(frozen=True, slots=True)
class Node:
    """One operation. weights: role → name in Graph.weights. shape: of its output, without the batch.

    source: the module path in the network that it was exported from, for messages.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    weights: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    shape: Shape = ()
    source: str = ""


@dataclass(frozen=True, slots=True)
class Graph:
    """A whole network. inputs: name → shape without the batch; outputs: names of values.

    Raises GraphError where a name is unknown or used twice, an operation, attribute, weight or shape is wrong: a
    Graph that exists can be run.
    """

    inputs: Mapping[str, Shape]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    weights: Mapping[str, Weight]

    def __post_init__(self) -> None:
        check(self)

    def shape_of(self, value: str) -> Shape:
        if value in self.inputs:
            return self.inputs[value]
        return next(node.shape for node in self.nodes if node.name == value)

    @property
    def output_shapes(self) -> tuple[Shape, ...]:
        shapes = {**self.inputs, **{node.name: node.shape for node in self.nodes}}
        return tuple(shapes[name] for name in self.outputs)

    def consumers(self) -> dict[str, list[Node]]:
        """Value → the nodes that read it."""
        found: dict[str, list[Node]] = {name: [] for name in (*self.inputs, *(node.name for node in self.nodes))}
        for node in self.nodes:
            for value in dict.fromkeys(node.inputs):
                found[value].append(node)
        return found


class _Arguments:
    """What a shape rule is given: input shapes, weight shapes and attributes, all of them checked for being there."""

    def __init__(self, node: Node, shapes: Sequence[Shape], weights: Mapping[str, Shape]) -> None:
        self.node, self.shapes, self.weights = node, shapes, weights

    def demand(self, holds: bool, expected: str, came: object) -> None:
        if not holds:
            raise GraphError(f"node {self.node.name!r} ({self.node.op}): expected {expected}, got {came}")

    def ints(self, name: str, length: int | None = None, least: int = 0) -> Shape:
        value = self.node.attributes[name]
        good = isinstance(value, tuple) and all(type(each) is int and each >= least for each in value)
        good = good and (length is None or len(value) == length)  # type: ignore[arg-type]
        self.demand(good, f"{name} to be {length or 'some'} whole numbers from {least} on", repr(value))
        assert isinstance(value, tuple)
        return value

    def number(self, name: str) -> float:
        value = self.node.attributes[name]
        good = type(value) in (int, float) and abs(value) <= sys.float_info.max  # type: ignore[arg-type]
        self.demand(good, f"{name} to be a finite number", repr(value))
        return float(value)  # type: ignore[arg-type]

    def whole(self, name: str, low: int, high: int) -> int:
        value = self.node.attributes[name]
        good = type(value) is int and low <= value <= high
        self.demand(good, f"{name} in [{low}, {high}]", repr(value))
        assert isinstance(value, int)
        return value

    def planes(self) -> tuple[int, int, int]:
        shape = self.shapes[0]
        self.demand(len(shape) == 3, "an input (C, H, W)", shape)
        return shape[0], shape[1], shape[2]

    def weight(self, role: str, shape: Shape) -> None:
        if role in self.weights:
            self.demand(self.weights[role] == shape, f"{role} of shape {shape}", self.weights[role])


def _same(given: _Arguments) -> Shape:
    return given.shapes[0]


def _windows(given: _Arguments, kernel: Shape, dilation: Shape) -> tuple[int, int]:
    """Output height and width of a window that slides over padded planes; padding is (top, bottom, left, right)."""
    _, *size = given.planes()
    stride, padding = given.ints("stride", 2, 1), given.ints("padding", 4)
    found = []
    for axis in (0, 1):
        around = padding[2 * axis : 2 * axis + 2]
        given.demand(max(around) <= MOST_PADDING, f"padding of at most {MOST_PADDING}", around)
        steps = stride[axis], dilation[axis]
        given.demand(max(steps) <= MOST_STEP, f"a stride and a dilation of at most {MOST_STEP}", steps)
        room = size[axis] + sum(around) - dilation[axis] * (kernel[axis] - 1) - 1
        given.demand(room >= 0, "a window no larger than the padded input", f"kernel {kernel} on {tuple(size)}")
        found.append(room // stride[axis] + 1)
    return found[0], found[1]


def _conv2d(given: _Arguments) -> Shape:
    channels, _, _ = given.planes()
    weight = given.weights["weight"]
    given.demand(len(weight) == 4 and min(weight[2:]) > 0, "a weight (O, I/groups, kh, kw)", weight)
    groups = given.whole("groups", 1, max(1, channels))
    fits = channels == weight[1] * groups and weight[0] % groups == 0
    given.demand(fits, f"a weight for {channels} channels in {groups} groups", weight)
    given.weight("bias", weight[:1])
    return (weight[0], *_windows(given, weight[2:], given.ints("dilation", 2, 1)))


def _linear(given: _Arguments) -> Shape:
    weight, shape = given.weights["weight"], given.shapes[0]
    fits = len(weight) == 2 and len(shape) >= 1 and shape[-1] == weight[1]
    given.demand(fits, f"a weight (O, I) for an input {shape}", weight)
    given.weight("bias", weight[:1])
    return (*shape[:-1], weight[0])


def _batch_norm(given: _Arguments) -> Shape:
    shape = given.shapes[0]
    given.demand(len(shape) >= 1, "an input (C, …)", shape)
    for role in ("mean", "variance", "weight", "bias"):
        given.weight(role, shape[:1])
    given.demand(given.number("eps") >= 0, "eps of at least 0", given.node.attributes["eps"])
    return shape


def _layer_norm(given: _Arguments) -> Shape:
    shape = given.shapes[0]
    axes = given.whole("axes", 1, len(shape))
    given.weight("weight", shape[-axes:])
    given.weight("bias", shape[-axes:])
    given.demand(given.number("eps") >= 0, "eps of at least 0", given.node.attributes["eps"])
    return shape


def _softmax(given: _Arguments) -> Shape:
    given.whole("axis", 1, len(given.shapes[0]))
    return given.shapes[0]


def _gelu(given: _Arguments) -> Shape:
    form = given.node.attributes["approximate"]
    given.demand(form in ("none", "tanh"), "approximate to be 'none' or 'tanh'", repr(form))
    return given.shapes[0]


def _leaky_relu(given: _Arguments) -> Shape:
    given.number("negative_slope")
    return given.shapes[0]


def _elementwise(given: _Arguments) -> Shape:
    """NumPy's broadcasting behind the batch dimension: shapes are aligned at their last axes."""
    try:
        return np.broadcast_shapes(*given.shapes)
    except ValueError:
        given.demand(False, "shapes that broadcast", list(given.shapes))
        raise


def _max_pool2d(given: _Arguments) -> Shape:
    kernel = given.ints("kernel", 2, 1)
    _within_kernel(given, kernel)
    return (given.planes()[0], *_windows(given, kernel, given.ints("dilation", 2, 1)))


def _avg_pool2d(given: _Arguments) -> Shape:
    kernel = given.ints("kernel", 2, 1)
    _within_kernel(given, kernel)
    flag = given.node.attributes["count_include_pad"]
    given.demand(type(flag) is bool, "count_include_pad to be true or false", repr(flag))
    return (given.planes()[0], *_windows(given, kernel, (1, 1)))


def _within_kernel(given: _Arguments, kernel: Shape) -> None:
    padding = given.ints("padding", 4)
    fits = max(padding[:2]) < kernel[0] and max(padding[2:]) < kernel[1]
    given.demand(fits, "padding smaller than the kernel", f"{padding} for {kernel}")


def _adaptive_avg_pool2d(given: _Arguments) -> Shape:
    channels, height, width = given.planes()
    given.demand(height > 0 and width > 0, "planes that are not empty", (height, width))
    return (channels, *given.ints("size", 2, 1))


def _mean(given: _Arguments) -> Shape:
    shape, axes = given.shapes[0], given.ints("axes", None, 1)
    good = len(set(axes)) == len(axes) > 0 and max(axes) <= len(shape)
    given.demand(good, f"different axes of {len(shape)} (the batch is axis 0)", axes)
    given.demand(all(shape[axis - 1] > 0 for axis in axes), "axes that are not empty", shape)
    keep = given.node.attributes["keepdims"]
    given.demand(type(keep) is bool, "keepdims to be true or false", repr(keep))
    kept = [1 if axis in axes else size for axis, size in enumerate(shape, 1) if keep or axis not in axes]
    return tuple(kept)


def _reshape(given: _Arguments) -> Shape:
    shape = given.ints("shape")
    given.demand(math.prod(shape) == math.prod(given.shapes[0]), f"as many elements as {given.shapes[0]}", shape)
    return shape


def _permute(given: _Arguments) -> Shape:
    axes, shape = given.ints("axes", len(given.shapes[0]), 1), given.shapes[0]
    given.demand(sorted(axes) == list(range(1, len(shape) + 1)), "each axis once (the batch stays axis 0)", axes)
    return tuple(shape[axis - 1] for axis in axes)


def _concat(given: _Arguments) -> Shape:
    first, *others = given.shapes
    axis = given.whole("axis", 1, len(first))
    around = [shape[: axis - 1] + shape[axis:] for shape in given.shapes]
    given.demand(all(each == around[0] for each in around), f"shapes that differ in axis {axis} only", given.shapes)
    return (*first[: axis - 1], sum(shape[axis - 1] for shape in (first, *others)), *first[axis:])


def _slice(given: _Arguments) -> Shape:
    shape = given.shapes[0]
    axis = given.whole("axis", 1, len(shape))
    start = given.whole("start", 0, shape[axis - 1])
    stop = given.whole("stop", start, shape[axis - 1])
    return (*shape[: axis - 1], stop - start, *shape[axis:])


def _constant(given: _Arguments) -> Shape:
    return given.weights["value"]


@dataclass(frozen=True, slots=True)
class Operation:
    """What an operation takes, and its shape rule. inputs None: any number from 1 on."""

    rule: Callable[[_Arguments], Shape]
    inputs: int | None = 1
    needs: frozenset[str] = frozenset()
    allows: frozenset[str] = frozenset()
    attributes: frozenset[str] = frozenset()


def _operation(rule: Callable[[_Arguments], Shape], inputs: int | None = 1, **lists: str) -> Operation:
    return Operation(rule, inputs, **{name: frozenset(value.split()) for name, value in lists.items()})


OPERATIONS: Mapping[str, Operation] = {
    "conv2d": _operation(_conv2d, needs="weight", allows="bias", attributes="stride padding dilation groups"),
    "linear": _operation(_linear, needs="weight", allows="bias"),
    "batch_norm": _operation(_batch_norm, needs="mean variance", allows="weight bias", attributes="eps"),
    "layer_norm": _operation(_layer_norm, allows="weight bias", attributes="axes eps"),
    "relu": _operation(_same),
    "relu6": _operation(_same),
    "leaky_relu": _operation(_leaky_relu, attributes="negative_slope"),
    "hardswish": _operation(_same),
    "hardsigmoid": _operation(_same),
    "silu": _operation(_same),
    "sigmoid": _operation(_same),
    "tanh": _operation(_same),
    "gelu": _operation(_gelu, attributes="approximate"),
    "softmax": _operation(_softmax, attributes="axis"),
    "add": _operation(_elementwise, inputs=2),
    "mul": _operation(_elementwise, inputs=2),
    "max_pool2d": _operation(_max_pool2d, attributes="kernel stride padding dilation"),
    "avg_pool2d": _operation(_avg_pool2d, attributes="kernel stride padding count_include_pad"),
    "adaptive_avg_pool2d": _operation(_adaptive_avg_pool2d, attributes="size"),
    "mean": _operation(_mean, attributes="axes keepdims"),
    "reshape": _operation(_reshape, attributes="shape"),
    "permute": _operation(_permute, attributes="axes"),
    "concat": _operation(_concat, inputs=None, attributes="axis"),
    "slice": _operation(_slice, attributes="axis start stop"),
    "constant": _operation(_constant, inputs=0, needs="value"),
}
"""A constant has no batch dimension of its own: it is the same for every image (batch size 1, which broadcasts)."""


def infer_shape(node: Node, inputs: Sequence[Shape], weights: Mapping[str, Shape]) -> Shape:
    """The output shape of a node, without the batch. weights: role → shape. Raises GraphError as Graph does."""
    operation = OPERATIONS.get(node.op)
    if operation is None:
        raise GraphError(f"node {node.name!r}: unknown operation {node.op!r}")
    given = _Arguments(node, inputs, weights)
    many = len(inputs) >= 1 if operation.inputs is None else len(inputs) == operation.inputs
    given.demand(many, f"{operation.inputs or 'one or more'} inputs", len(inputs))
    roles = operation.needs <= weights.keys() <= operation.needs | operation.allows
    given.demand(roles, f"weights {sorted(operation.needs)} (and {sorted(operation.allows)})", sorted(weights))
    named = node.attributes.keys() == operation.attributes
    given.demand(named, f"attributes {sorted(operation.attributes)}", sorted(node.attributes))
    return operation.rule(given)


def check(graph: Graph) -> None:
    """Raises GraphError where the graph could not be run; its time is linear in the number of nodes."""
    check_shapes(graph.inputs, graph.outputs, graph.nodes, {name: each.shape for name, each in graph.weights.items()})


def check_shapes(
    inputs: Mapping[str, Shape], outputs: Sequence[str], nodes: Sequence[Node], weights: Mapping[str, Shape]
) -> None:
    """As check, of a graph whose weights are not there yet: their shapes by name."""
    shapes: dict[str, Shape] = dict(inputs)
    used: set[str] = set()
    for node in nodes:
        if node.name in shapes:
            raise GraphError(f"node {node.name!r}: the name stands twice")
        missing = [name for name in node.inputs if name not in shapes]
        missing += [name for name in node.weights.values() if name not in weights]
        if missing:
            raise GraphError(f"node {node.name!r} ({node.op}): {missing[0]!r} is no value before it and no weight")
        used.update(node.weights.values())
        held = {role: weights[name] for role, name in node.weights.items()}
        found = infer_shape(node, [shapes[name] for name in node.inputs], held)
        if found != node.shape:
            raise GraphError(f"node {node.name!r} ({node.op}): its shape is given as {node.shape} but is {found}")
        shapes[node.name] = found
    lost = [name for name in outputs if name not in shapes] or sorted(weights.keys() - used)
    if lost or not inputs or not outputs:
        raise GraphError(f"a graph needs inputs, outputs that are values and no unused weights; wrong: {lost}")


def pieces(rows: int, columns: int, most: int = 1 << 22) -> Iterator[slice]:
    """Consecutive slices of the rows of a matrix, of `most` numbers each or a row: widened one after another, they take
    little memory."""
    some = max(1, most // max(1, columns))
    for at in range(0, rows, some):
        yield slice(at, min(rows, at + some))
