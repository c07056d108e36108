"""File → Graph, a weight at a time; nothing is allocated before the file has shown that it may ask for it."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from secateur.errors import FormatError, GraphError
from secateur.network.dequantising import dequantised_weights
from secateur.network.formats import WEIGHT_FORMATS
from secateur.network.graph import Graph, Weight, check_shapes
from secateur.network.limits import Limits, check_costs, check_parts
from secateur.packfile import container
from secateur.packfile.codecs import decode
from secateur.packfile.container import Container, Section
from secateur.packfile.document import Document, Metadata, Stored, from_bytes

GRAPH, POOL = "secateur.graph", "secateur.pool"
LIMIT = Limits().weight_bytes
"""Bytes of decoded weights that a file may ask for, unless its reader allows more."""
_FREE, _RATIO = 16 << 20, 4096
"""Besides, this much and so many times the file: decoding takes time, and hardly any file says more with less."""


@dataclass(frozen=True, slots=True)
class Packed:
    """What a file holds, how each weight is stored in it, and its size in bytes."""

    graph: Graph
    metadata: Metadata
    stored: tuple[Stored, ...]
    size: int

    @property
    def error(self) -> float:
        """No weight is further than this from what was packed; 0: every bit is the same."""
        return max((each.error for each in self.stored), default=0.0)


def read(path: str | Path, *, limit: int | None = LIMIT, limits: Limits | None = None) -> Graph:
    """The network of a .secateur file, every bit checked.

    limit: the most bytes that its decoded weights may take. Opening takes no more memory than those and the largest
    tensor once more. limits: what else it may ask for (limits.Limits), its weight_bytes in place of limit.
    Raises FormatError for a file that is damaged, of another version, or asks for too much.
    """
    return read_packed(path, limit=limit, limits=limits).graph


def read_packed(path: str | Path, *, limit: int | None = LIMIT, limits: Limits | None = None) -> Packed:
    """As read does, with the facts about the network that the file records."""
    limits = limits or replace(Limits(), weight_bytes=limit)
    with container.opened(path) as held:
        document = from_bytes(held.read(held.sections[GRAPH])) if GRAPH in held.sections else _no_graph()
        check_sizes(document.weights, held.size, limits.weight_bytes)
        places = list(_places(held, document.weights))
        _check_graph(document, limits)
        weights = {each.name: _weight(held, each, place) for each, place in places}
        return Packed(_graph(document, weights), document.metadata, document.weights, held.size)


def _graph(document: Document, weights: Mapping[str, Weight]) -> Graph:
    """With what its weights turn out to be."""
    try:
        return Graph(document.inputs, document.outputs, document.nodes, weights, document.elements, document.signature)
    except GraphError as error:
        raise FormatError(f"its graph cannot be used: {error}") from error


def _check_graph(document: Document, limits: Limits) -> None:
    """That the graph makes sense and what it asks for, before any weight is decoded."""
    inputs, outputs, nodes = document.inputs, document.outputs, document.nodes
    weights = {each.name: each for each in document.weights}
    shapes = {name: each.shape for name, each in weights.items()}
    try:
        check_parts(inputs, outputs, nodes, weights, limits)
        check_shapes(inputs, outputs, nodes, weights, document.elements)
        check_costs(inputs, outputs, nodes, shapes, limits)
    except GraphError as error:
        raise FormatError(f"its graph cannot be used: {error}") from error


def _no_graph() -> NoReturn:
    raise FormatError("it has no graph: it was not written by secateur pack")


def _weight(held: Container, stored: Stored, place: Section) -> Weight:
    try:
        return decode(stored.codec, held.read(place), stored.dtype, stored.shape)
    except FormatError as error:
        raise FormatError(f"weight {stored.name!r}: {error}") from error


def unpack(
    path: str | Path, *, raw: bool = False, limit: int | None = LIMIT, limits: Limits | None = None
) -> dict[str, NDArray[np.generic]]:
    """The weights of a .secateur file as ordinary arrays, dense, by name.

    float32 and float16 weights come in their own dtype. NumPy has no bfloat16: such weights come as float32, which
    holds each of their values exactly. Those of quantised layers come as the float32 numbers that they stand for: a
    weight times its scale, a bias times that and the input's; raw: the integers and scales as they are.
    Raises FormatError as read does.
    """
    weights = dense_weights(read(path, limit=limit, limits=limits), raw=raw)
    return {name: weight.numbers() for name, weight in weights.items()}


def dense_weights(graph: Graph, *, raw: bool = False) -> Mapping[str, Weight]:
    """By name; those of quantised layers as the numbers that they stand for, unless raw. Raises FormatError."""
    try:
        return graph.weights if raw else dequantised_weights(graph)
    except GraphError as error:
        raise FormatError(f"{error}: take the integers as they are (raw=True, or --raw)") from error


def to_safetensors(weights: Mapping[str, Weight]) -> bytes:
    """Weights as a dense safetensors file, each in its own format, bit for bit.

    Raises FormatError for a weight of the one name that such a file keeps for itself.
    """
    if "__metadata__" in weights:
        raise FormatError(
            "a weight is named '__metadata__', which safetensors keeps for itself: "
            "take the weights with secateur.unpack in Python"
        )
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, weight in weights.items():
        end = at + weight.bits.nbytes
        header[name] = {
            "dtype": WEIGHT_FORMATS[weight.dtype].safetensors,
            "shape": list(weight.shape),
            "data_offsets": [at, end],
        }
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *(each.bits.tobytes() for each in weights.values())])


def check_sizes(weights: Sequence[Stored], file_size: int, limit: int | None) -> None:
    """Refuse weights that decode to more than the limit, or to more than a file of this size could mean."""
    wanted = sum(each.decoded_bytes for each in weights)
    if limit is not None and wanted > limit:
        raise FormatError(
            f"{wanted} bytes of weights: more than the limit of {limit}; raise it if you trust the file "
            "(limit=…, or --limits weight-bytes=…)"
        )
    if wanted > _FREE + _RATIO * file_size:
        raise FormatError(f"{wanted} bytes of weights in a file of {file_size}: too good to be true")


def own_sections(weights: Iterable[Stored], from_size: int) -> list[str]:
    """Names of the weights that get a tensor of their own in the file; the others share the pool."""
    return [each.name for each in weights if each.size >= from_size and not _reserved(each.name)]


def _reserved(name: str) -> bool:
    return name.startswith("secateur.") or name == "__metadata__"


def _places(held: Container, weights: Sequence[Stored]) -> Iterable[tuple[Stored, Section]]:
    """Each weight with its section, or its part of the pool; all of the file is used, and once."""
    left = {name: section for name, section in held.sections.items() if name not in (GRAPH, POOL)}
    pool = held.sections.get(POOL)
    at, end = (pool.start, pool.start + pool.size + 4) if pool else (0, 0)
    seen: set[str] = set()
    for each in weights:
        if each.name in seen:
            raise FormatError(f"weight {each.name!r} stands twice in its description")
        seen.add(each.name)
        place = left.pop(each.name, None)
        if place is None:
            place, at = Section(at, each.size), at + each.size + 4
        if place.size != each.size or at > end:
            raise FormatError(f"weight {each.name!r}: the {each.size} bytes of its description are not in the file")
        yield each, place
    if left or at != end:
        raise FormatError(f"it has bytes that belong to no weight: {sorted(left) or POOL}")
