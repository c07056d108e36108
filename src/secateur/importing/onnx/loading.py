"""A file of ONNX → its model, checked from the outside in: bytes, external data, functions inlined.

A stranger's file asks for nothing that its bytes do not pay for: what lies outside of it is read only from regular
files in its folder, and no more of them than the tensors that name them hold.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from secateur.errors import FormatError, MissingExtraError
from secateur.support.replacing import open_regular

OLDEST_OPSET = 1
MOST_NODES = 1 << 18
"""After functions were inlined."""
MOST_BYTES = 1 << 31
"""Of a file, as protocol buffers have it."""
DEFAULT_DOMAINS = ("", "ai.onnx")


def load_model(path: Path) -> Any:
    """The ModelProto of a file, external data in its tensors, functions of its own inlined.

    Raises FormatError for a file that is damaged, of no operator set, or whose external data is missing, not in its
    folder or of another size; MissingExtraError without the package onnx.
    """
    onnx = import_onnx()
    model = onnx.ModelProto()
    content = _content(path)
    try:
        model.ParseFromString(content)
    except Exception as error:  # protobuf's own, whichever implementation is installed
        raise FormatError(f"{path}: not an ONNX file, or cut short: get it again") from error
    if not model.HasField("graph"):
        raise FormatError(f"{path}: holds no graph: expected an ONNX model")
    opset_of(model, path)
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _take_in(tensor, path)
    made = _inlined(model, path)
    check_names(made.graph, path)
    return made


def import_onnx() -> Any:
    try:
        import onnx
        import onnx.inliner
        import onnx.reference
        import onnx.shape_inference
    except ImportError as error:
        raise MissingExtraError("reading ONNX needs the package onnx: pip install 'secateur[onnx]'") from error
    return onnx


def opset_of(model: Any, path: Path) -> int:
    """The version of ONNX's own operators."""
    found = [each.version for each in model.opset_import if each.domain in DEFAULT_DOMAINS]
    version = max(found, default=0)
    if found and version < OLDEST_OPSET:
        raise FormatError(f"{path}: is of operator set {version}: expected {OLDEST_OPSET} or newer; export it again")
    return int(version)


def _content(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            content = file.read(min(os.fstat(file.fileno()).st_size + 1, MOST_BYTES))  # Python makes room for as many
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(content) == MOST_BYTES:
        raise FormatError(f"{path}: has {MOST_BYTES:,} bytes or more: expected its weights beside it, as external data")
    return content


def _tensors(model: Any) -> Iterator[Any]:
    """Every tensor of a model, in graphs however deep and in functions."""
    for function in model.functions:
        yield from _of_nodes(function.node)
    yield from _of_graph(model.graph)


def _of_graph(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Any) -> Iterator[Any]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
        for graph in graphs_of(node):
            yield from _of_graph(graph)


def _take_in(tensor: Any, path: Path) -> None:
    """Put the bytes of external data into the tensor."""
    said = {entry.key: entry.value for entry in tensor.external_data}
    name, location = tensor.name[:80], said.get("location", "")
    place = f"{path}: external data of {name!r}"
    beside = _beside(path, location, place)
    offset, size = _whole(said.get("offset", "0"), place), _bytes(tensor, place)
    length = _whole(said["length"], place) if "length" in said else size
    if length != size:
        raise FormatError(f"{place}: is said to have {length} bytes where its shape needs {size}")
    try:
        with open_regular(beside) as file:
            file.seek(offset)
            content = file.read(size) if offset + size <= beside.stat().st_size else b""
    except OSError as error:
        raise FormatError(f"{place}: {location!r} cannot be read: {error.strerror or error}") from error
    if len(content) != size:
        raise FormatError(f"{place}: {location!r} has no {size} bytes at {offset}: it is cut short, get it again")
    tensor.raw_data = content
    tensor.data_location = 0
    del tensor.external_data[:]


def _beside(path: Path, location: str, place: str) -> Path:
    """The file that a location names, which lies in the model's folder, links followed."""
    folder = path.parent.resolve()
    try:
        found = (folder / location).resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise FormatError(f"{place}: {location[:80]!r} is no place of a file") from error
    if not location or Path(location).is_absolute() or not found.is_relative_to(folder):
        raise FormatError(f"{place}: {location[:80]!r} lies outside of the model's folder, which is not read")
    return found


def _whole(text: str, place: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise FormatError(f"{place}: expected whole numbers for its place, got {text[:40]!r}")
    return int(text)


def _bytes(tensor: Any, place: str) -> int:
    from secateur.importing.onnx.tensors import bits_of

    if any(size < 0 for size in tensor.dims):
        raise FormatError(f"{place}: has a shape with a negative size")
    return -(-math.prod(tensor.dims) * bits_of(tensor.data_type, place) // 8)


def _inlined(model: Any, path: Path) -> Any:
    """Without calls of the model's own functions."""
    onnx = import_onnx()
    if not model.functions:
        return model
    _check_size(model, path)
    try:
        return onnx.inliner.inline_local_functions(model)
    except Exception as error:
        raise FormatError(f"{path}: its functions cannot be put in place: {error}") from error


def _check_size(model: Any, path: Path) -> None:
    """Functions that call each other can make a file of a kilobyte billions of nodes, or go round for ever."""
    functions = {(each.domain, each.name): each for each in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def counted(nodes: Any, above: tuple[tuple[str, str], ...]) -> int:
        total = 0
        for node in nodes:
            total += 1 + sum(counted(each.node, above) for each in graphs_of(node))
            key = (node.domain, node.op_type)
            if key in above or len(above) > 64:
                raise FormatError(f"{path}: function {node.op_type!r} calls itself, or others too deep")
            if key in functions:
                if key not in sizes:
                    sizes[key] = counted(functions[key].node, (*above, key))
                total += sizes[key]
            if total > MOST_NODES:
                raise FormatError(f"{path}: has more than {MOST_NODES:,} operations once its functions are in place")
        return total

    counted(model.graph.node, ())


def graphs_of(node: Any) -> Iterator[Any]:
    """The graphs in a node's attributes."""
    for attribute in node.attribute:
        yield from (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs)


def check_names(graph: Any, path: Path) -> None:
    """Raises FormatError where two nodes make values of one name."""
    made = [name for node in graph.node for name in node.output if name]
    stored = [each.name for each in graph.initializer]
    seen: set[str] = set()
    for name in (*stored, *made):
        if name in seen:
            raise FormatError(f"{path}: the name {name[:80]!r} stands twice")
        seen.add(name)
