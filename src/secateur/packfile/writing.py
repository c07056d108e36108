"""Graph → file: encoded weight by weight, read back and compared, and only then given its name."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import secateur
from secateur.errors import FormatError, PackError
from secateur.network.formats import FLOAT_FORMATS
from secateur.network.graph import Graph, Node, Shape, Weight
from secateur.network.limits import NO_LIMITS
from secateur.network.operations import OPERATIONS, Role
from secateur.packfile import container
from secateur.packfile.codecs import Encoded, encode, encode_lossy
from secateur.packfile.document import Metadata, Stored, document_of, minor_version, to_bytes
from secateur.packfile.quantisation import check_choice
from secateur.packfile.reading import GRAPH, POOL, check_sizes, own_sections, read
from secateur.support.replacing import replacing

Outline = tuple[Mapping[str, Shape], tuple[str, ...], tuple[Node, ...]]
"""A graph without its weights: inputs, outputs, nodes."""
POOLED_BELOW = 16 << 10
_VECTOR_BITS = 8
_ROUNDED = {Role.MATRIX, Role.TABLE, Role.VECTOR}


def check_free(path: str | Path, force: bool = False) -> None:
    """Raises PackError where a file would not be written because there is one: for who has long work to do before."""
    path = Path(path)
    with _errors_of(path):
        if path.exists() and not force:
            raise PackError(f"{path} exists: choose another name, or replace it with --force (force=True)")


def write(
    graph: Graph,
    path: str | Path,
    *,
    bits: int | None = None,
    codebook: str = "uniform",
    force: bool = False,
    meta: Metadata | None = None,
    verify: Callable[[Graph], None] | None = None,
) -> None:
    """Write a network to a .secateur file; whoever writes the same network twice gets the same bytes.

    bits: None keeps every bit of every weight. 8, 6, 5 or 4 rounds the weights of convolutions and fully connected
    layers to 2**bits values besides zero (their biases to 2**8) where that is smaller; other weights, and integers,
    stay exact.
    codebook: which values, see quantisation.quantise. force: replace an existing file. verify is called with the
    network as it is read back, before the file gets its name; what it raises stops that.
    Raises PackError where the file exists or cannot be written, UsageError for bits or a codebook that do not exist.
    """
    check_choice(bits, codebook)
    path = Path(path)
    check_free(path, force)
    kept, expected = _encode_all(graph, bits, codebook)
    pieces, minor = _pieces(graph, kept, _complete(meta)), minor_version(graph)
    wanted = _digests(graph, expected)
    outline = (graph.inputs, graph.outputs, graph.nodes)
    del graph, kept, expected  # who hands the graph over holds its weights no longer
    with _named_when_done(path) as temporary:
        _write_pieces(temporary, pieces, minor)
        del pieces
        _check(temporary, outline, wanted, verify)


def packed_size(
    graph: Graph, *, bits: int | None = None, codebook: str = "uniform", meta: Metadata | None = None
) -> int:
    """How many bytes write would make of a network. Raises as write does."""
    check_choice(bits, codebook)
    kept, _ = _encode_all(graph, bits, codebook)
    sizes = {name: sum(len(part) for part in parts) for name, parts in _pieces(graph, kept, _complete(meta)).items()}
    return len(container.header(sizes, minor_version(graph))) + sum(sizes.values())


def packed_sizes(graph: Graph) -> dict[str, int]:
    """How many bytes each weight would take in the file, by name, every bit kept; headers and the graph left out."""
    return {name: len(encode(weight).content) + container.SEAL for name, weight in graph.weights.items()}


def _complete(meta: Metadata | None) -> Metadata:
    meta = meta or Metadata()
    return replace(meta, producer=meta.producer or f"secateur {secateur.__version__}")


def _encode_all(graph: Graph, bits: int | None, codebook: str) -> tuple[dict[str, Encoded], dict[str, Weight]]:
    """Every weight as bytes; and those that will read back as others."""
    kept: dict[str, Encoded] = {}
    changed: dict[str, Weight] = {}
    roles = _roles(graph)
    for name, weight in graph.weights.items():
        expected = weight
        if bits is not None and weight.dtype in FLOAT_FORMATS and roles[name] <= _ROUNDED:
            few = _VECTOR_BITS if roles[name] == {Role.VECTOR} else bits
            kept[name], expected = encode_lossy(weight, few, codebook)
        else:
            kept[name] = encode(weight)
        if expected is not weight:
            changed[name] = expected
    return kept, changed


def _roles(graph: Graph) -> dict[str, set[Role]]:
    """What each weight is to those that use it."""
    found: dict[str, set[Role]] = {name: set() for name in graph.weights}
    for node in graph.nodes:
        for role, name in node.weights.items():
            found[name].add(OPERATIONS[node.op].weights[role].role)
    return found


def _digests(graph: Graph, changed: Mapping[str, Weight]) -> dict[str, bytes]:
    """What each weight is to be read back as."""
    return {name: _digest(changed.get(name, weight)) for name, weight in graph.weights.items()}


def _digest(weight: Weight) -> bytes:
    digest = hashlib.sha256(f"{weight.dtype} {weight.shape} ".encode())
    digest.update(weight.bits.data)
    return digest.digest()


def _pieces(graph: Graph, kept: Mapping[str, Encoded], meta: Metadata) -> dict[str, list[bytes]]:
    """Sections by name, each in the parts that it is written from, checksums included."""
    stored = tuple(
        Stored(name, weight.dtype, weight.shape, kept[name].codec, len(kept[name].content), kept[name].error)
        for name, weight in graph.weights.items()
    )
    own = own_sections(stored, POOLED_BELOW)
    pooled = [container.seal(kept[each.name].content) for each in stored if each.name not in own]
    pieces = {GRAPH: [container.seal(to_bytes(document_of(graph, stored, meta)))]}
    pieces |= {name: [kept[name].content, container.checksum(kept[name].content)] for name in own}
    if pooled:
        pieces[POOL] = pooled
    size = sum(len(part) for parts in pieces.values() for part in parts)
    try:
        check_sizes(stored, size, None)
    except FormatError as error:
        raise PackError(f"no reader would open this network: {error}") from error
    return pieces


def _write_pieces(path: Path, pieces: Mapping[str, Sequence[bytes]], minor: int) -> None:
    sizes = {name: sum(len(part) for part in parts) for name, parts in pieces.items()}
    with open(path, "wb") as file:
        file.write(container.header(sizes, minor))
        for parts in pieces.values():
            for part in parts:
                file.write(part)
        file.flush()
        os.fsync(file.fileno())


def _check(path: Path, outline: Outline, wanted: Mapping[str, bytes], verify: Callable[[Graph], None] | None) -> None:
    found = read(path, limits=NO_LIMITS)
    if (found.inputs, found.outputs, found.nodes) != outline or found.weights.keys() != wanted.keys():
        raise PackError("the graph did not read back as it was written: report this as a bug; nothing was kept")
    for name, weight in found.weights.items():
        if _digest(weight) != wanted[name]:
            raise PackError(
                f"weight {name!r} did not read back as it was written: report this as a bug; nothing was kept"
            )
    if verify is not None:
        verify(found)


@contextlib.contextmanager
def _named_when_done(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, which gets its name when the body ends well and is gone otherwise."""
    with _errors_of(path), replacing(path) as temporary:
        yield temporary


@contextlib.contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise PackError(f"{path}: cannot be written: {error.strerror or error}; nothing was kept") from error
