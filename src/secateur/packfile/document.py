"""What a .secateur file says besides weights: the graph, how each weight is stored, and facts about the network.

It is JSON, deflated with a dictionary of what such texts usually contain, since a small network is not much larger.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from secateur.errors import FormatError, GraphError
from secateur.network.formats import INTEGERS, WEIGHT_FORMATS
from secateur.network.graph import Attribute, Graph, Node, Shape
from secateur.network.operations import OPERATIONS
from secateur.network.operations.elements import ANY, ANY_FORMAT
from secateur.network.operations.ranges import Extent, Reals
from secateur.network.signature import Fixed, Nest, Signature, Tree, Value, leaves
from secateur.network.sizes import Dimension, Size, is_whole, parse
from secateur.packfile import strict

MOST_TEXT = 64 << 20
MOST_SIZES = 1 << 12
_WITH_LENGTHS = _WITH_ELEMENTS = 1
"""The minor version that has sizes with names."""
_WITH_WHOLES = 3
"""That which computes with whole numbers, and has constants of them."""
_WITH_SIGNATURES = 3
_WITHOUT_BATCH = 4
"""That which has inputs and outputs without a batch."""
_DEEPEST = 16
"""Of containers in each other."""
MOST_ELEMENTS = 1 << 28
"""Of a value in the graph, per image: 1 GiB in float32."""

DICTIONARY = (
    b'"attributes":{"axis":1,"approximate":"none","axes":[1,2],"keepdims":false,"eps":1e-05,"size":[1,1],'
    b'"start":0,"stop":1,"negative_slope":0.01}"batch_norm","layer_norm","relu6","leaky_relu","hardswish",'
    b'"hardsigmoid","silu","sigmoid","tanh","gelu","softmax","mul","permute","slice","constant","mean"'
    b'"concat","adaptive_avg_pool2d","weights":{"weight":".weight","bias":".bias","mean":".running_mean",'
    b'"variance":".running_var","value":"layer1.0.conv1.0.bn1.downsample.0.1features.0classifier.6'
    b'"dtype":"bfloat16""dtype":"float16""error":0.0,"mean":[0.1307],"std":[0.3081],'
    b'"classes":["0","1","2","3","4","5","6","7","8","9"]'
    b'{"producer":"secateur 0.1.0","inputs":{"x":[1,28,28]},"outputs":["linear_2"],"nodes":['
    b'{"name":"conv2d","op":"conv2d","inputs":["x"],"weights":{"weight":"conv1.weight","bias":"conv1.bias"},'
    b'"attributes":{"stride":[1,1],"padding":[0,0,0,0],"dilation":[1,1],"groups":1},"shape":[6,24,24],'
    b'"source":"conv1"},{"name":"max_pool2d","op":"max_pool2d","inputs":["relu"],"attributes":{"kernel":[2,2],'
    b'"stride":[2,2],"padding":[0,0,0,0],"dilation":[1,1]},"shape":[6,12,12],"source":"pool"},'
    b'{"name":"avg_pool2d","op":"avg_pool2d","inputs":["tanh"],"attributes":{"kernel":[2,2],'
    b'"stride":[2,2],"padding":[0,0,0,0],"count_include_pad":true},"shape":[16,5,5]},'
    b'{"name":"flatten","op":"reshape","inputs":["x"],"attributes":{"shape":[784]},"shape":[784]},'
    b'{"name":"add_1","op":"add","inputs":["relu_1","conv2d_1"],"shape":[64,8,8]},'
    b'{"name":"linear","op":"linear","inputs":["flatten"],"weights":{"weight":"fc1.weight","bias":"fc1.bias"},'
    b'"shape":[300],"source":"fc1"},{"name":"relu","op":"relu","inputs":["linear"],"shape":[300],"source":"relu"},'
    b'{"name":"linear_1","op":"linear","inputs":["relu"],"weights":{"weight":"fc2.weight","bias":"fc2.bias"},'
    b'"shape":[100],"source":"fc2"},{"name":"relu_1","op":"relu","inputs":["linear_1"],"shape":[100]},'
    b'{"name":"linear_2","op":"linear","inputs":["relu_1"],"weights":{"weight":"fc3.weight","bias":"fc3.bias"},'
    b'"shape":[10],"source":"fc3"}],"weights":[{"name":"fc1.weight","dtype":"float32","shape":[300,784],"codec":1,'
    b'"bytes":1024},{"name":"fc1.bias","dtype":"float32","shape":[300],"codec":0,"bytes":1200},'
)
"""The preset dictionary of the deflate stream: part of version 1 of the format, never to be changed."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """Facts about a network that its graph does not need.

    mean, std: per channel, what was subtracted from an image in [0, 1] and what it was divided by; empty where unknown.
    classes: a name per output, or none. producer: who wrote the file; empty means this Secateur.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    classes: tuple[str, ...] = ()
    producer: str = ""


@dataclass(frozen=True, slots=True)
class Stored:
    """How a weight is stored: `size` bytes of `codec`. error: no value is further than this from what was packed."""

    name: str
    dtype: str
    shape: Shape
    codec: int
    size: int
    error: float = 0.0

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def decoded_bytes(self) -> int:
        return self.count * WEIGHT_FORMATS[self.dtype].carrier.itemsize


@dataclass(frozen=True, slots=True)
class Document:
    """A Graph in which every weight is replaced by where its bits are."""

    metadata: Metadata
    inputs: Mapping[str, Shape]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    weights: tuple[Stored, ...] = field(default=())
    elements: Mapping[str, str] = field(default_factory=dict)
    signature: Signature | None = None


def document_of(graph: Graph, weights: tuple[Stored, ...], metadata: Metadata) -> Document:
    elements = _others(graph.elements)
    return Document(metadata, graph.inputs, graph.outputs, graph.nodes, weights, elements, graph.signature)


def _others(elements: Mapping[str, str]) -> dict[str, str]:
    """Those that are not float32."""
    return {name: element for name, element in elements.items() if element != "float32"}


def minor_version(graph: Graph) -> int:
    """The first minor version of the format that has all operations of a graph, its sizes, elements and signature."""
    elements = graph.value_elements
    operations = max((_minor(node, elements[node.name]) for node in graph.nodes), default=0)
    others = _WITH_LENGTHS if graph.lengths else 0, _WITH_ELEMENTS if _others(graph.elements) else 0
    return max(operations, *others, 0 if graph.signature is None else _of_signature(graph.signature))


def _of_signature(signature: Signature) -> int:
    values = [*signature.inputs, *(each for _, each in leaves(signature.outputs))]
    return _WITHOUT_BATCH if any(each.axis is None for each in values) else _WITH_SIGNATURES


def _minor(node: Node, element: str) -> int:
    """Of an operation, which may have learnt to compute with whole numbers later than it came."""
    operation = OPERATIONS[node.op]
    learnt = element in (*INTEGERS, "bool") and operation.element not in (ANY, ANY_FORMAT)
    return max(operation.minor, _WITH_WHOLES if learnt else 0)


def to_bytes(document: Document) -> bytes:
    text = json.dumps(_described(document), ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)
    return squeeze.compress(text) + squeeze.flush()


def _described(document: Document) -> dict[str, Any]:
    metadata = document.metadata
    facts = {"mean": metadata.mean, "std": metadata.std, "classes": metadata.classes}
    return {
        "producer": metadata.producer,
        **{name: list(value) for name, value in facts.items() if value},
        "inputs": {name: _written(shape) for name, shape in document.inputs.items()},
        **({"elements": dict(document.elements)} if document.elements else {}),
        "outputs": list(document.outputs),
        **({"signature": _described_signature(document.signature)} if document.signature else {}),
        "nodes": [_described_node(node) for node in document.nodes],
        "weights": [_described_weight(weight) for weight in document.weights],
    }


def _described_signature(signature: Signature) -> dict[str, Any]:
    return {
        "arguments": [[name, _described_tree(tree)] for name, tree in signature.arguments],
        "outputs": _described_tree(signature.outputs),
        **({} if signature.images is None else {"images": signature.images}),
        **({"most": [list(each) for each in signature.most]} if signature.most else {}),
    }


def _described_tree(tree: Tree) -> Any:
    """A value as its place, with the rest where there is more to say."""
    if isinstance(tree, Value):
        rest = {**({} if tree.axis == 0 else {"batch": tree.axis}), **({"rows": True} if tree.rows else {})}
        return {"value": tree.place, **rest} if rest else tree.place
    if isinstance(tree, Fixed):
        return {"is": tree.value}
    parts = [[key, _described_tree(part)] for key, part in tree.parts]
    return {"kind": tree.kind, "parts": parts, **({"name": tree.name} if tree.name else {})}


def _described_node(node: Node) -> dict[str, Any]:
    attributes = {name: _written(value) for name, value in node.attributes.items()}
    optional = {"weights": dict(node.weights), "attributes": attributes}
    return {
        "name": node.name,
        "op": node.op,
        "inputs": list(node.inputs),
        **{name: value for name, value in optional.items() if value},
        "shape": _written(node.shape),
        **({"source": node.source} if node.source else {}),
    }


def _written(value: Any) -> Any:
    """A shape or an attribute, sizes with names as their text."""
    if isinstance(value, tuple):
        return [_written(each) for each in value]
    return str(value) if isinstance(value, Size) else value


def _described_weight(weight: Stored) -> dict[str, Any]:
    return {
        "name": weight.name,
        "dtype": weight.dtype,
        "shape": list(weight.shape),
        "codec": weight.codec,
        "bytes": weight.size,
        **({"error": weight.error} if weight.error else {}),
    }


def from_bytes(squeezed: bytes) -> Document:
    """Raises FormatError for anything that to_bytes could not have written, but does not check the graph itself."""
    stretch = zlib.decompressobj(-15, zdict=DICTIONARY)
    try:
        text = stretch.decompress(squeezed, MOST_TEXT)
    except zlib.error as error:
        raise FormatError("its description cannot be decompressed") from error
    if not stretch.eof or stretch.unused_data or stretch.unconsumed_tail:
        raise FormatError(f"its description does not end where it should, or is longer than {MOST_TEXT} bytes")
    return _document(strict.parse(text))


class _Sizes:
    """Reads sizes, each text once: who may ask for any number of them may ask for any time."""

    def __init__(self) -> None:
        self.known: dict[str, Dimension] = {}

    def shape(self, value: Any) -> Shape:
        """Of a value; what is whole of it is no larger than a value may be."""
        sizes = tuple(self.size(each) for each in strict.items(value))
        shape = strict.shape([size for size in sizes if is_whole(size)])
        if len(sizes) > strict.MOST_DIMENSIONS:
            raise FormatError(f"its description has {len(sizes)} sizes where at most 8 are expected")
        if math.prod(shape) > MOST_ELEMENTS:
            raise FormatError(f"its description has a value of shape {sizes}: more than {MOST_ELEMENTS} elements")
        return sizes

    def size(self, value: Any) -> Dimension:
        if not isinstance(value, str):
            return strict.whole(value)
        if value not in self.known:
            if len(self.known) >= MOST_SIZES:
                raise FormatError(f"its description has more than {MOST_SIZES} different sizes with names")
            self.known[value] = _parsed(strict.text(value))
        return self.known[value]


def _parsed(text: str) -> Dimension:
    try:
        size = parse(text)
    except GraphError as error:
        raise FormatError(f"its description has {error}") from error
    if is_whole(size) or str(size) != text:
        raise FormatError(f"its description has a size written {text!r}: expected {size}")
    return size


def _document(value: Any) -> Document:
    sizes = _Sizes()
    found = strict.fields(
        value,
        *("producer", "inputs", "outputs", "nodes", "weights"),
        optional=("mean", "std", "classes", "elements", "signature"),
    )
    return Document(
        _metadata(found),
        {name: sizes.shape(each) for name, each in strict.mapping(found["inputs"]).items()},
        strict.texts(found["outputs"]),
        tuple(_node(each, sizes) for each in strict.items(found["nodes"])),
        tuple(_stored(each) for each in strict.items(found["weights"])),
        _elements(found),
        _signature(found["signature"]) if "signature" in found else None,
    )


def _signature(value: Any) -> Signature:
    found = strict.fields(value, "arguments", "outputs", optional=("images", "most"))
    arguments = [(strict.text(name), _tree(tree)) for name, tree in _pairs(found["arguments"])]
    images = strict.whole(found["images"]) if "images" in found else None
    most = [(strict.text(name), strict.whole(length)) for name, length in _pairs(found.get("most", []))]
    return Signature(tuple(arguments), _tree(found["outputs"]), images, tuple(most))


def _tree(value: Any, depth: int = 0) -> Tree:
    if type(value) is int:
        return Value(strict.whole(value))
    if depth > _DEEPEST:
        raise FormatError(f"its description has a signature with more than {_DEEPEST} containers in each other")
    if "value" in strict.mapping(value):
        return _value(strict.fields(value, "value", optional=("batch", "rows")))
    if "is" in value:
        return Fixed(_plain(strict.fields(value, "is")["is"]))
    found = strict.fields(value, "kind", "parts", optional=("name",))
    parts = tuple((_key(key), _tree(part, depth + 1)) for key, part in _pairs(found["parts"]))
    try:
        return Nest(strict.text(found["kind"]), parts, strict.text(found.get("name", "")))
    except GraphError as error:
        raise FormatError(f"its description has {error}") from error


def _value(found: dict[str, Any]) -> Value:
    if not isinstance(found.get("rows", False), bool):
        raise FormatError("its description has rows that are neither true nor false")
    axis = found.get("batch", 0)
    axis = None if axis is None else strict.whole(axis, strict.MOST_DIMENSIONS)
    return Value(strict.whole(found["value"]), axis, found.get("rows", False))


def _pairs(value: Any) -> list[list[Any]]:
    pairs = [strict.items(each) for each in strict.items(value)]
    if any(len(pair) != 2 for pair in pairs):
        raise FormatError("its description has a signature of lists that are no pairs")
    return pairs


def _key(value: Any) -> str | int:
    return strict.whole(value, least=-strict.MOST_SIZE) if type(value) is int else strict.text(value)


def _plain(value: Any) -> Any:
    if isinstance(value, (bool, int, float, type(None))):
        return value
    return strict.text(value)


def _elements(found: dict[str, Any]) -> dict[str, str]:
    elements = {name: strict.text(each) for name, each in strict.mapping(found.get("elements", {})).items()}
    if elements != _others(elements):
        raise FormatError("its description says that elements are float32, which goes without saying")
    return elements


def _metadata(found: dict[str, Any]) -> Metadata:
    mean, std = (tuple(strict.number(each) for each in strict.items(found.get(name, []))) for name in ("mean", "std"))
    if len(mean) != len(std) or not all(each > 0 for each in std):
        raise FormatError(f"its mean and std are {mean} and {std}: expected as many of both, and std above 0")
    return Metadata(mean, std, strict.texts(found.get("classes", [])), strict.text(found["producer"]))


def _node(value: Any, sizes: _Sizes) -> Node:
    found = strict.fields(value, "name", "op", "inputs", "shape", optional=("weights", "attributes", "source"))
    weights = strict.mapping(found.get("weights", {}))
    attributes, op = strict.mapping(found.get("attributes", {})), strict.text(found["op"])
    return Node(
        strict.text(found["name"]),
        op,
        strict.texts(found["inputs"]),
        {role: strict.text(name) for role, name in weights.items()},
        {name: _attribute(op, name, each, sizes) for name, each in attributes.items()},
        sizes.shape(found["shape"]),
        strict.text(found.get("source", "")),
    )


def _attribute(op: str, name: str, value: Any, sizes: _Sizes) -> Attribute:
    """A text is a size where the operation takes one."""
    taken = OPERATIONS[op].attributes.get(name) if op in OPERATIONS else None
    if isinstance(value, list) and isinstance(taken, Reals):
        return tuple(strict.number(each) for each in value[: strict.MOST_DIMENSIONS + 1])
    if isinstance(value, list):
        return tuple(sizes.size(each) for each in value[: strict.MOST_DIMENSIONS + 1])
    if isinstance(value, str):
        return sizes.size(value) if isinstance(taken, Extent) else strict.text(value)
    if isinstance(value, bool) or type(value) is float:
        return value
    return strict.whole(value, least=-strict.MOST_SIZE)


def _stored(value: Any) -> Stored:
    found = strict.fields(value, "name", "dtype", "shape", "codec", "bytes", optional=("error",))
    dtype = strict.text(found["dtype"])
    if dtype not in WEIGHT_FORMATS:
        raise FormatError(f"a weight of dtype {dtype!r}: expected one of {', '.join(WEIGHT_FORMATS)}")
    error = strict.number(found.get("error", 0.0))
    if error < 0:
        raise FormatError(f"a weight with a largest error of {error}: expected 0 or more")
    return Stored(
        strict.text(found["name"]),
        dtype,
        strict.shape(found["shape"]),
        strict.whole(found["codec"]),
        strict.whole(found["bytes"]),
        error,
    )
