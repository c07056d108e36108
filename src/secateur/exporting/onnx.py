"""Graph → ONNX, for the engines that people already have. Needs the package onnx, not PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from secateur.errors import ExportError, MissingExtraError
from secateur.exporting import onnx_moves, qdq, sequences
from secateur.exporting.examples import bound_somewhere, example_of
from secateur.exporting.judging import least_sizes, session_of
from secateur.exporting.onnx_calling import Called, as_called, name_as_called, rounded
from secateur.network.building import unused_name
from secateur.network.formats import FORMATS, WEIGHT_FORMATS
from secateur.network.graph import Attribute, Graph, Node, Shape
from secateur.network.operations import OPERATIONS, Real
from secateur.network.quantisation import Quantisation
from secateur.network.signature import leaves
from secateur.network.sizes import BATCH, Dimension, Floor, Product, Size, is_whole
from secateur.network.tabulating import as_function
from secateur.runtime import reference
from secateur.runtime.agreement import largest_difference
from secateur.support.replacing import replacing

OPSET, IR_VERSION = 20, 9
"""Of ONNX 1.15: the first operator set with Gelu."""

_TOLERANCE, _STEPS = 1e-3, 0.05
"""Shares of the largest output. In eight bits an integer that is rounded the other way moves all that follows."""
_LIMIT = 2**31 - 1
"""Protocol buffers hold no more bytes."""


def to_onnx(graph: Graph, *, sparse: bool = False, called: Called | None = None) -> bytes:
    """An ONNX model that computes what the graph does, its batch dimension free (named "batch"), and its lengths.

    Inputs keep their names and number formats, outputs are named after where they are in what the network gives
    (Graph.output_names). Narrow weights stay narrow, and are cast where they are used; what is quantised is so there,
    by QuantizeLinear and DequantizeLinear. sparse: weights that take fewer bytes as their non-zeros and the places of
    these are written so; other engines make them dense again. called: the model is then called as the network is
    (Graph.called), with its batch where that has it, by these names and formats.
    Raises MissingExtraError without the package onnx, ExportError for axes of length 0 and for more than 2 GB.
    """
    return Translation(graph).model(sparse=sparse, called=called)


def write_onnx(
    graph: Graph, path: str | Path, *, force: bool = False, sparse: bool = False, called: Called | None = None
) -> float | None:
    """Write to_onnx's model to a file, which is there whole or not at all.

    Where ONNX Runtime is installed, both run first on two images of noise; returned is their largest difference over
    the largest output, None without ONNX Runtime. force: replace an existing file. sparse, called: as
    to_onnx has them.
    Raises as to_onnx, and ExportError where the file exists or cannot be written, or where the results are apart.
    """
    path = Path(path)
    if path.exists() and not force:
        raise ExportError(f"{path} exists: choose another name, or replace it with --force (force=True)")
    model = to_onnx(graph, sparse=sparse, called=called)
    apart = _distance(graph, model, called)
    if apart is not None and not apart <= (_STEPS if graph.quantisations else _TOLERANCE):
        raise ExportError(
            f"{path}: ONNX Runtime's results are off by {apart:.2g}: report this as a bug; nothing was kept"
        )
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(model)
    except OSError as error:
        raise ExportError(f"{path}: cannot be written: {error.strerror or error}; name another place") from error
    return apart


def _distance(graph: Graph, model: bytes, called: Called | None) -> float | None:
    try:
        session = session_of(model)
    except ImportError:
        return None
    x = example_of(bound_somewhere(graph))
    x = x if called is None else rounded(graph, x, called)
    expected = reference.run_all(graph, x)
    if called is None:
        return largest_difference(session.run(None, x), expected, least_sizes(graph))
    places = {each.place: each for _, each in leaves(graph.called.outputs)}
    return largest_difference(
        session.run(None, as_called(graph, x, called)),
        [places[at].back(each) for at, each in enumerate(expected)],
        least_sizes(graph),
    )


def _terms(size: Dimension) -> tuple[tuple[Product, int], ...]:
    return size.terms if isinstance(size, Size) else (((), size),)


class Translation:
    """nodes and initializers so far. fixed: values that have a batch of 1, constants and what is made of them.

    quantised: value → what its integers stand for.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph, self.onnx = graph, _import_onnx()
        self.shapes: dict[str, Shape] = {**graph.inputs, **{node.name: node.shape for node in graph.nodes}}
        self.nodes: list[Any] = []
        self.initializers: dict[str, Any] = {}
        self.taken = {*self.shapes}
        self.weight_names: dict[str, str] = {}
        self.widened: dict[str, str] = {}
        self.scales: dict[Quantisation, tuple[str, str]] = {}
        self.fixed = {*graph.ordinary}
        self.quantised = graph.quantisations
        self.sizes: dict[Dimension, str] = {}
        self.lengths: dict[str, str] = {}

    def model(self, *, sparse: bool = False, called: Called | None = None) -> bytes:
        self._refuse()
        for node in self.graph.nodes:
            _CONVERSIONS[node.op](self, node)
        named = zip(self.graph.outputs, self.graph.output_names, strict=True)
        given = [self._output(name, wanted) for name, wanted in named]
        helper = self.onnx.helper
        inputs = [self._described(name, name) for name in self.graph.inputs]
        spread = self._sparse() if sparse else {}
        dense = [each for name, each in self.initializers.items() if name not in spread]
        made = helper.make_graph(self.nodes, "secateur", inputs, given, dense, sparse_initializer=[*spread.values()])
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(made, opset_imports=opsets, ir_version=IR_VERSION, producer_name="secateur")
        if called is not None:
            name_as_called(model, self.graph, called, self.onnx)
        return bytes(model.SerializeToString(deterministic=True))

    def _sparse(self) -> dict[str, Any]:
        """By name the initializers that take fewer bytes as non-zeros, each with its place of eight bytes."""
        found = {}
        for name, stored in self.weight_names.items():
            bits = self.graph.weights[name].bits
            places = np.flatnonzero(bits.reshape(-1))
            if places.size * (bits.itemsize + 8) < bits.nbytes:
                found[stored] = self._spread(self.initializers[stored], bits.reshape(-1)[places], places)
        return found

    def _spread(self, dense: Any, bits: Any, places: Any) -> Any:
        kind = self.onnx.TensorProto
        values = kind(dims=bits.shape, data_type=dense.data_type, name=dense.name, raw_data=bits.tobytes())
        indices = kind(dims=places.shape, data_type=kind.INT64, raw_data=places.astype("<i8").tobytes())
        return self.onnx.SparseTensorProto(values=values, indices=indices, dims=dense.dims)

    def _refuse(self) -> None:
        empty = [name for name, shape in self.shapes.items() if 0 in shape]
        if empty:
            raise ExportError(f"value {empty[0]!r} has shape {self.shapes[empty[0]]}: ONNX engines refuse empty axes")
        size = sum(weight.bits.nbytes for weight in self.graph.weights.values())
        if size > _LIMIT:
            raise ExportError(f"the weights have {size:,} bytes: an ONNX file holds no more than {_LIMIT:,}")

    def _described(self, name: str, value: str) -> Any:
        """An input or output of that name, which is a value of the graph."""
        kind = getattr(self.onnx.TensorProto, FORMATS[self.graph.value_elements[value]].onnx)
        sizes = [size if is_whole(size) else str(size) for size in self.shapes[value]]
        images = BATCH if self.graph.images is None else self.graph.images
        return self.onnx.helper.make_tensor_value_info(name, kind, [images, *sizes])

    def _output(self, name: str, wanted: str) -> Any:
        """Outputs need names of their own, and every image's part of them. wanted: what the network calls it."""
        final, several = name, self.graph.outputs.count(name) > 1
        if name in self.fixed or name in self.graph.inputs or several or (self.graph.signature and wanted != name):
            final = self.fresh(wanted if self.graph.signature and wanted != name else f"{name}.output")
            self.add("Identity", [self.spread(name)], final)
        return self._described(final, name)

    def fresh(self, wanted: str) -> str:
        name = unused_name(wanted, self.taken)
        self.taken.add(name)
        return name

    def add(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(self.onnx.helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def step(self, op: str, inputs: Sequence[str], node: Node, **attributes: Any) -> str:
        """An intermediate value of a node."""
        return self.add(op, inputs, self.fresh(f"{node.name}.{op.lower()}"), **attributes)

    def tensor(self, name: str, values: Any) -> str:
        """A constant of this translation's own: float32, or of the whole numbers that it is given in."""
        name = self.fresh(name)
        array = np.asarray(values)
        array = np.asarray(array, array.dtype if array.dtype.kind in "iu" else np.float32, order="C")
        self.initializers[name] = self.onnx.numpy_helper.from_array(array, name)
        return name

    def number(self, name: str, value: float) -> str:
        """A float32 constant of one number; beyond float32 it is infinite, as in the runtime."""
        with np.errstate(over="ignore"):
            return self.tensor(name, np.float32(value))

    def size(self, size: Dimension) -> str:
        """A size as a tensor (1,) of int64; of lengths it is computed from the inputs' shapes."""
        if size not in self.sizes:
            parts = [self._product(product, factor) for product, factor in _terms(size)]
            self.sizes[size] = self._folded("Add", parts or [self.tensor("size", np.array([0]))])
        return self.sizes[size]

    def shape(self, shape: Shape, name: str) -> str:
        """A shape behind the batch as Reshape takes it, the batch as it is."""
        if is_whole(shape):
            return self.tensor(name, np.array([0, *shape]))
        parts = [self.tensor(name, np.array([0])), *(self.size(size) for size in shape)]
        return self.add("Concat", parts, self.fresh(name), axis=0)

    def _product(self, product: Product, factor: int) -> str:
        parts = [self._length(each) if isinstance(each, str) else self._floor(each) for each in product]
        return self._folded(
            "Mul", [*parts, *([self.tensor("size", np.array([factor]))] if factor != 1 or not parts else [])]
        )

    def _floor(self, floor: Floor) -> str:
        divisor = self.tensor("size", np.array([floor.divisor]))
        return self.add("Div", [self.size(floor.numerator), divisor], self.fresh("size"))

    def _length(self, name: str) -> str:
        """A length by the first input that tells it, as a·length + b."""
        if name == BATCH:
            return self.batch()
        if name not in self.lengths:
            found, axis, line = next(
                (value, axis, size.line)
                for value, shape in self.graph.inputs.items()
                for axis, size in enumerate(shape, 1)
                if isinstance(size, Size) and size.line is not None and size.line[1] == name
            )
            told = self.add("Shape", [found], self.fresh(name), start=axis, end=axis + 1)
            less = (
                self.add("Sub", [told, self.tensor("size", np.array([line[2]]))], self.fresh(name)) if line[2] else told
            )
            slope = self.tensor("size", np.array([line[0]]))
            self.lengths[name] = self.add("Div", [less, slope], self.fresh(name)) if line[0] != 1 else less
        return self.lengths[name]

    def batch(self) -> str:
        """The number of images."""
        if BATCH not in self.lengths:
            first = next(iter(self.graph.inputs))
            self.lengths[BATCH] = self.add("Shape", [first], self.fresh(BATCH), start=0, end=1)
        return self.lengths[BATCH]

    def _folded(self, op: str, parts: Sequence[str]) -> str:
        return reduce(lambda left, right: self.add(op, [left, right], self.fresh("size")), parts)

    def weight(self, node: Node, role: str) -> str:
        """The name of a weight as float32, "" for a node that has none of this role."""
        name = node.weights.get(role)
        if name is None:
            return ""
        stored = self.stored(name)
        if self.graph.weights[name].dtype == "float32":
            return stored
        if name not in self.widened:
            wide = self.fresh(f"{name}.float32")
            self.widened[name] = self.add("Cast", [stored], wide, to=self.onnx.TensorProto.FLOAT)
        return self.widened[name]

    def stored(self, name: str) -> str:
        """The name of a weight of the graph, in its own format."""
        if name not in self.weight_names:
            stored, weight = self.fresh(name), self.graph.weights[name]
            kind = getattr(self.onnx.TensorProto, WEIGHT_FORMATS[weight.dtype].onnx)
            self.initializers[stored] = self.onnx.TensorProto(
                dims=weight.shape, data_type=kind, name=stored, raw_data=weight.bits.tobytes()
            )
            self.weight_names[name] = stored
        return self.weight_names[name]

    def raised(self, node: Node, value: str, rank: int) -> str:
        """A value with axes of length 1 behind the batch, so that there are as many behind it as `rank`."""
        missing = rank - len(self.shapes[value])
        if not missing:
            return value
        axes = self.tensor(f"{node.name}.axes", np.arange(1, 1 + missing))
        return self.step("Unsqueeze", [value, axes], node)

    def aligned(self, node: Node) -> list[str]:
        """A node's inputs with as many axes as its output."""
        return [self.raised(node, name, len(node.shape)) for name in node.inputs]

    def of_one_batch(self, node: Node) -> list[str]:
        """A node's inputs, constants among them repeated for every image, unless all are constant."""
        return list(node.inputs) if node.name in self.fixed else [self.spread(name) for name in node.inputs]

    def spread(self, value: str) -> str:
        """A value with one row per image: a constant is repeated."""
        if value not in self.fixed:
            return value
        ones = self.tensor(f"{value}.ones", np.ones(len(self.shapes[value]), np.int64))
        sizes = self.add("Concat", [self.batch(), ones], self.fresh(f"{value}.sizes"), axis=0)
        return self.add("Expand", [value, sizes], self.fresh(f"{value}.spread"))


def _import_onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("writing ONNX needs the package onnx: pip install 'secateur[onnx]'") from error
    return onnx


def _onnx_pads(node: Node) -> list[int]:
    top, bottom, left, right = node.numbers("padding")
    return [top, left, bottom, right]


def _conv2d(made: Translation, node: Node) -> None:
    _convolve(made, node, made.weight(node, "weight"), made.weight(node, "bias"))


def _convolve(made: Translation, node: Node, weight: str, bias: str) -> None:
    made.add(
        "Conv",
        [node.inputs[0], weight, *([bias] if bias else [])],
        node.name,
        strides=node.numbers("stride"),
        pads=_onnx_pads(node),
        dilations=node.numbers("dilation"),
        group=node.attributes["groups"],
    )


def _linear(made: Translation, node: Node) -> None:
    _multiply(made, node, made.weight(node, "weight"), made.weight(node, "bias"))


def _multiply(made: Translation, node: Node, weight: str, bias: str) -> None:
    """Gemm for rows of features, MatMul where there are more axes."""
    if len(node.shape) == 1:
        made.add("Gemm", [node.inputs[0], weight, *([bias] if bias else [])], node.name, transB=1)
        return
    turned = made.step("Transpose", [weight], node, perm=(1, 0))
    if not bias:
        made.add("MatMul", [node.inputs[0], turned], node.name)
        return
    made.add("Add", [made.step("MatMul", [node.inputs[0], turned], node), bias], node.name)


def _batch_norm(made: Translation, node: Node) -> None:
    size = node.shape[0]
    scale = made.weight(node, "weight") or made.tensor(f"{node.name}.ones", np.ones(size))
    shift = made.weight(node, "bias") or made.tensor(f"{node.name}.zeros", np.zeros(size))
    inputs = [node.inputs[0], scale, shift, made.weight(node, "mean"), made.weight(node, "variance")]
    made.add("BatchNormalization", inputs, node.name, epsilon=node.attributes["eps"])


def _layer_norm(made: Translation, node: Node) -> None:
    axes = node.whole("axes")
    scale = made.weight(node, "weight") or made.tensor(f"{node.name}.ones", np.ones(node.shape[-axes:]))
    bias = made.weight(node, "bias")
    inputs = [node.inputs[0], scale, *([bias] if bias else [])]
    made.add("LayerNormalization", inputs, node.name, axis=-axes, epsilon=node.attributes["eps"])


def _relu6(made: Translation, node: Node) -> None:
    bounds = [made.number(f"{node.name}.{name}", bound) for name, bound in (("least", 0), ("most", 6))]
    made.add("Clip", [node.inputs[0], *bounds], node.name)


def _silu(made: Translation, node: Node) -> None:
    gate = made.step("Sigmoid", [node.inputs[0]], node)
    made.add("Mul", [node.inputs[0], gate], node.name)


def _elementwise(op: str, **attributes: Any) -> Callable[[Translation, Node], None]:
    def convert(made: Translation, node: Node) -> None:
        made.add(op, node.inputs, node.name, **attributes)

    return convert


def _theirs(node: Node, name: str) -> Attribute:
    """An attribute as ONNX wants it, which takes no whole number where it expects a real one."""
    real = isinstance(OPERATIONS[node.op].attributes[name], Real)
    return node.number(name) * 1.0 if real else node.attributes[name]


def _renamed(op: str, **names: str) -> Callable[[Translation, Node], None]:
    """An operation that takes attributes of ours under other names."""

    def convert(made: Translation, node: Node) -> None:
        made.add(op, node.inputs, node.name, **{theirs: _theirs(node, ours) for theirs, ours in names.items()})

    return convert


def _softplus(made: Translation, node: Node) -> None:
    """ONNX has neither beta nor threshold."""
    (x,), beta, threshold = node.inputs, node.number("beta"), node.number("threshold")
    if beta == 1 and threshold >= _LINEAR_FROM:
        made.add("Softplus", [x], node.name)
        return
    factor = made.number(f"{node.name}.beta", beta)
    scaled = made.step("Mul", [x, factor], node)
    curved = made.step("Div", [made.step("Softplus", [scaled], node), factor], node)
    above = made.step("Greater", [scaled, made.number(f"{node.name}.threshold", threshold)], node)
    made.add("Where", [above, x, curved], node.name)


_LINEAR_FROM = 18
"""From here on log(1 + eˣ) is x in float32."""


def _rsqrt(made: Translation, node: Node) -> None:
    made.add("Reciprocal", [made.step("Sqrt", node.inputs, node)], node.name)


def _pow(made: Translation, node: Node) -> None:
    exponent = made.number(f"{node.name}.exponent", node.number("exponent"))
    made.add("Pow", [node.inputs[0], exponent], node.name)


def _pairwise(op: str) -> Callable[[Translation, Node], None]:
    def convert(made: Translation, node: Node) -> None:
        made.add(op, made.aligned(node), node.name)

    return convert


def _max_pool2d(made: Translation, node: Node) -> None:
    made.add(
        "MaxPool",
        node.inputs,
        node.name,
        kernel_shape=node.numbers("kernel"),
        strides=node.numbers("stride"),
        pads=_onnx_pads(node),
        dilations=node.numbers("dilation"),
    )


def _avg_pool2d(made: Translation, node: Node) -> None:
    made.add(
        "AveragePool",
        node.inputs,
        node.name,
        kernel_shape=node.numbers("kernel"),
        strides=node.numbers("stride"),
        pads=_onnx_pads(node),
        count_include_pad=int(bool(node.attributes["count_include_pad"])),
    )


def _adaptive_avg_pool2d(made: Translation, node: Node) -> None:
    """One window, windows of one size, or a product with the matrices of their shares."""
    _, *size = made.shapes[node.inputs[0]]
    _, *wanted = node.shape
    if wanted == [1, 1]:
        made.add("GlobalAveragePool", node.inputs, node.name)
    elif all(have % want == 0 for have, want in zip(size, wanted, strict=True)):
        windows = [have // want for have, want in zip(size, wanted, strict=True)]
        made.add("AveragePool", node.inputs, node.name, kernel_shape=windows, strides=windows)
    else:
        rows, columns = (_shares(have, want) for have, want in zip(size, wanted, strict=True))
        across = made.step("MatMul", [node.inputs[0], made.tensor(f"{node.name}.columns", columns.T)], node)
        made.add("MatMul", [made.tensor(f"{node.name}.rows", rows), across], node.name)


def _shares(have: int, want: int) -> Any:
    """(want, have): how much of each position each window takes."""
    found = np.zeros((want, have))
    for window in range(want):
        start, stop = window * have // want, -(-(window + 1) * have // want)
        found[window, start:stop] = 1 / (stop - start)
    return found


def _reduction(op: str) -> Callable[[Translation, Node], None]:
    def convert(made: Translation, node: Node) -> None:
        axes = made.tensor(f"{node.name}.axes", np.array(node.numbers("axes")))
        made.add(op, [node.inputs[0], axes], node.name, keepdims=int(bool(node.attributes["keepdims"])))

    return convert


def _function(made: Translation, node: Node) -> None:
    """A table as the function that it stands for."""
    function = as_function(node)
    _CONVERSIONS[function.op](made, function)


def _reshape(made: Translation, node: Node) -> None:
    shape = made.shape(node.shape, f"{node.name}.shape")
    made.add("Reshape", [node.inputs[0], shape], node.name)


def _permute(made: Translation, node: Node) -> None:
    made.add("Transpose", node.inputs, node.name, perm=(0, *node.numbers("axes")))


def _concat(made: Translation, node: Node) -> None:
    """Constants are repeated for every image, unless all are constant."""
    made.add("Concat", made.of_one_batch(node), node.name, axis=node.attributes["axis"])


def _slice(made: Translation, node: Node) -> None:
    bounds = [
        made.tensor(f"{node.name}.{name}", np.array([size])) if is_whole(size) else made.size(size)  # type: ignore[arg-type]
        for name, size in ((name, node.attributes[name]) for name in ("start", "stop", "axis"))
    ]
    made.add("Slice", [node.inputs[0], *bounds], node.name)


def _constant(made: Translation, node: Node) -> None:
    axes = made.tensor(f"{node.name}.axes", np.array([0]))
    floating = made.graph.value_elements[node.name] == "float32"
    value = made.weight(node, "value") if floating else made.stored(node.weights["value"])
    made.add("Unsqueeze", [value, axes], node.name)


def _fill(made: Translation, node: Node) -> None:
    value = made.tensor(f"{node.name}.value", np.float32(node.number("value")))
    sizes = [made.tensor(f"{node.name}.one", np.array([1])), *(made.size(size) for size in node.shape)]
    made.add("Expand", [value, made.step("Concat", sizes, node, axis=0)], node.name)


def _range(made: Translation, node: Node) -> None:
    """Counted in whole numbers, which engines agree on."""
    first, many, every = (made.step("Squeeze", [made.size(size)], node) for size in (0, node.shape[0], 1))
    counted = made.step("Range", [first, many, every], node)
    numbers = made.step("Cast", [counted], node, to=made.onnx.TensorProto.FLOAT)
    step, start = (made.tensor(f"{node.name}.{name}", np.float32(node.number(name))) for name in ("step", "start"))
    placed = made.step("Add", [made.step("Mul", [numbers, step], node), start], node)
    made.add("Unsqueeze", [placed, made.tensor(f"{node.name}.front", np.array([0]))], node.name)


def _with_front(op: str) -> Callable[[Translation, Node], None]:
    """An axis in front, made or taken away: all images' values are (1, N, …)."""

    def convert(made: Translation, node: Node) -> None:
        made.add(op, [node.inputs[0], made.tensor(f"{node.name}.axes", np.array([0]))], node.name)

    return convert


_CONVERSIONS: Mapping[str, Callable[[Translation, Node], None]] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "relu": _elementwise("Relu"),
    "relu6": _relu6,
    "leaky_relu": _renamed("LeakyRelu", alpha="negative_slope"),
    "hardswish": _elementwise("HardSwish"),
    "hardsigmoid": _elementwise("HardSigmoid", alpha=1 / 6, beta=0.5),
    "silu": _silu,
    "sigmoid": _elementwise("Sigmoid"),
    "tanh": _elementwise("Tanh"),
    "gelu": _renamed("Gelu", approximate="approximate"),
    "elu": _renamed("Elu", alpha="alpha"),
    "selu": _elementwise("Selu"),
    "softplus": _softplus,
    "mish": _elementwise("Mish"),
    "abs": _elementwise("Abs"),
    "exp": _elementwise("Exp"),
    "log": _elementwise("Log"),
    "sqrt": _elementwise("Sqrt"),
    "rsqrt": _rsqrt,
    "sin": _elementwise("Sin"),
    "cos": _elementwise("Cos"),
    "erf": _elementwise("Erf"),
    "pow": _pow,
    "neg": _elementwise("Neg"),
    "reciprocal": _elementwise("Reciprocal"),
    "softmax": _renamed("Softmax", axis="axis"),
    "add": _pairwise("Add"),
    "mul": _pairwise("Mul"),
    "maximum": _pairwise("Max"),
    "minimum": _pairwise("Min"),
    "sub": _pairwise("Sub"),
    "div": _pairwise("Div"),
    "max_pool2d": qdq.in_numbers(_max_pool2d),
    "avg_pool2d": _avg_pool2d,
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "mean": _reduction("ReduceMean"),
    "reshape": qdq.in_numbers(_reshape),
    "permute": qdq.in_numbers(_permute),
    "concat": qdq.in_numbers(_concat),
    "slice": qdq.in_numbers(_slice),
    "constant": _constant,
    "fill": _fill,
    "range": _range,
    "take": onnx_moves.take,
    "embedding": onnx_moves.embedding,
    "gather": onnx_moves.gather,
    "resize": onnx_moves.resize,
    "grid_sample": onnx_moves.grid_sample,
    "sum": _reduction("ReduceSum"),
    "prod": _reduction("ReduceProd"),
    "amax": _reduction("ReduceMax"),
    "amin": _reduction("ReduceMin"),
    "argmax": onnx_moves.place_of("ArgMax"),
    "argmin": onnx_moves.place_of("ArgMin"),
    "topk": onnx_moves.topk,
    "equal": _pairwise("Equal"),
    "less": _pairwise("Less"),
    "less_equal": _pairwise("LessOrEqual"),
    "logical_and": _pairwise("And"),
    "logical_or": _pairwise("Or"),
    "logical_not": _elementwise("Not"),
    "where": onnx_moves.where,
    "cast": onnx_moves.cast,
    "floor": _elementwise("Floor"),
    "ceil": _elementwise("Ceil"),
    "round": _elementwise("Round"),
    "sign": _elementwise("Sign"),
    "floor_div": onnx_moves.floor_div,
    "remainder": onnx_moves.remainder,
    "gather_images": _with_front("Unsqueeze"),
    "scatter_images": _with_front("Squeeze"),
    "matmul": sequences.matmul,
    "attention": sequences.attention,
    "lstm": sequences.lstm,
    "gru": sequences.gru,
    "rnn": sequences.rnn,
    "cumsum": sequences.cumsum,
    "quantise": qdq.quantise,
    "dequantise": qdq.dequantise,
    "quantised_conv2d": qdq.in_numbers(qdq.layer(_convolve)),
    "quantised_linear": qdq.in_numbers(qdq.layer(_multiply)),
    "quantised_add": qdq.in_numbers(_pairwise("Add")),
    "quantised_mul": qdq.in_numbers(_pairwise("Mul")),
    "quantised_avg_pool2d": qdq.in_numbers(_avg_pool2d),
    "quantised_adaptive_avg_pool2d": qdq.in_numbers(_adaptive_avg_pool2d),
    "quantised_mean": qdq.in_numbers(_reduction("ReduceMean")),
    "quantised_table": qdq.in_numbers(_function),
}
