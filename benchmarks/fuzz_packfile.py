"""Fuzz the reader of .secateur files with atheris (pip install atheris), guided by the coverage of its Python.

    python benchmarks/fuzz_packfile.py [-max_total_time=600] [any option of libFuzzer]

An input's first byte says how deep it goes in: as a whole file, as a header with a checksum that fits, as a description
with weights, or as the bytes of one weight. Whatever comes: a network whose weights have the promised shapes and
survive being packed again, or FormatError; nothing else, within 10 seconds and 1 GiB.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["secateur.packfile", "secateur.network"]):
    from secateur import packfile
    from secateur.packfile import codecs, container, document

import numpy as np

from secateur.errors import FormatError, SecateurError
from secateur.network.formats import FLOAT_FORMATS, WEIGHT_FORMATS
from secateur.network.graph import Weight

LIMIT = 64 << 20
GOLDEN = sorted((Path(__file__).parents[1] / "tests" / "golden").glob("*.secateur"))
SHAPES: tuple[list[int], ...] = ([8, 5], [1, 40], [40], [2, 2, 2, 5], [5, 0], [], [2000], [1 << 40, 0], [0, 1 << 40])
seen = {"executions": 0, "networks": 0, "refused": 0}


class InMemory:
    """A path whose file is in memory."""

    def __init__(self) -> None:
        self.handle = os.memfd_create("fuzz")
        self.path = Path(f"/proc/self/fd/{self.handle}")

    def fill(self, data: bytes) -> Path:
        os.ftruncate(self.handle, 0)
        os.pwrite(self.handle, data, 0)
        return self.path


FIRST, SECOND = InMemory(), tempfile.mkdtemp()


def whole(data: bytes) -> bytes:
    return data


def resealed(data: bytes) -> bytes:
    """Two bytes of length, a header's list of tensors, the data of the tensors."""
    length = int.from_bytes(data[:2], "little")
    start = b'{"__metadata__":{"secateur":"1.1 '
    rest = b'"},' + data[2 : 2 + length]
    checksum = f"{zlib.crc32(start + b'00000000' + rest):08x}".encode()
    text = start + checksum + rest
    return len(text).to_bytes(8, "little") + text + data[2 + length :]


def described(data: bytes) -> bytes:
    """A description's text, a zero byte, the pool."""
    text, _, pool = data.partition(b"\0")
    made = zlib.compressobj(1, zlib.DEFLATED, -15, zdict=document.DICTIONARY)
    sections = {"secateur.graph": container.seal(made.compress(text) + made.flush())}
    if pool:
        sections["secateur.pool"] = pool
    return container.header({name: len(each) for name, each in sections.items()}, 1) + b"".join(sections.values())


def coded(data: bytes) -> bytes:
    """Three bytes that choose codec, dtype and shape, the content of one weight."""
    if len(data) < 3:
        return described(b"{}")
    dtypes = sorted(WEIGHT_FORMATS)
    codec, dtype, shape = data[0] % 3, dtypes[data[1] % len(dtypes)], SHAPES[data[2] % len(SHAPES)]
    content = data[3:]
    stored = {"name": "w", "dtype": dtype, "shape": shape, "codec": codec, "bytes": len(content)}
    if dtype in FLOAT_FORMATS:
        node = {"name": "c", "op": "constant", "inputs": [], "weights": {"value": "w"}, "shape": shape}
        text = {"producer": "", "inputs": {"x": [1]}, "outputs": ["c"], "nodes": [node], "weights": [stored]}
        return described(json.dumps(text).encode() + b"\0" + container.seal(content))
    return quantised(stored, content)


QUANTISED = {"scale": 0.5, "zero_point": 0}
LAYER: dict[str, object] = {"element": "float32", "low": 0, "high": 0} | {
    f"{prefix}_{name}": value
    for prefix, scale in (("input", 0.5), ("output", 1.0), ("residual", 1.0))
    for name, value in (("scale", scale), ("zero_point", 0))
}


def quantised(stored: dict[str, Any], content: bytes) -> bytes:
    """A layer with these integers for its weight or its bias, where they have its shape."""
    shape = stored["shape"]
    rows, columns = (*shape, 1, 1)[:2]
    zeros, ones = bytes(min(rows, 1 << 16)), np.ones(min(rows, 1 << 16), "<f4").tobytes()
    others = [("s", "float32", [rows], ones)] + ([("v", "int8", [rows, 1], zeros)] if len(shape) != 2 else [])
    weights = [stored] + [
        {"name": name, "dtype": dtype, "shape": size, "codec": 0, "bytes": len(raw)}
        for name, dtype, size, raw in others
    ]
    roles = {"weight": "w", "scale": "s"} if len(shape) == 2 else {"weight": "v", "bias": "w", "scale": "s"}
    nodes = [
        {"name": "q", "op": "quantise", "inputs": ["x"], "attributes": {"element": "int8", **QUANTISED}},
        {"name": "l", "op": "quantised_linear", "inputs": ["q"], "weights": roles, "attributes": LAYER},
    ]
    sizes = ([columns], [rows])
    nodes = [{**node, "shape": size} for node, size in zip(nodes, sizes, strict=True)]
    text = {"producer": "", "inputs": {"x": [columns]}, "outputs": ["l"], "nodes": nodes, "weights": weights}
    pool = b"".join(map(container.seal, (content, *(raw for *_, raw in others))))
    return described(json.dumps(text).encode() + b"\0" + pool)


LAYERS = (whole, resealed, described, coded)


def test_one(data: bytes) -> None:
    seen["executions"] += 1
    if seen["executions"] % 10_000 == 0:
        print(", ".join(f"{count} {name}" for name, count in seen.items()), flush=True)
    if not data:
        return
    path = FIRST.fill(LAYERS[data[0] % len(LAYERS)](data[1:]))
    try:
        found = packfile.read_packed(path, limit=LIMIT)
    except FormatError as error:
        seen["refused"] += 1
        if not str(error).startswith(f"{path}: ") or "\n" in str(error):
            raise AssertionError(f"not one line with the path: {error!r}") from error
        return
    seen["networks"] += 1
    for stored in found.stored:
        weight = found.graph.weights[stored.name]
        assert (weight.shape, weight.dtype) == (stored.shape, stored.dtype)
        again = codecs.encode(weight)
        back = codecs.decode(again.codec, again.content, weight.dtype, weight.shape)
        assert np.array_equal(back.bits, weight.bits)
    if seen["networks"] % 16 == 0:
        packfile.write(found.graph, Path(SECOND) / "again", force=True, meta=found.metadata)


def seeds(folder: Path) -> None:
    """What the golden files give each way in."""
    for number, path in enumerate(GOLDEN):
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        text, body = data[8 : 8 + length], data[8 + length :]
        listing = text[text.index(b'"},') + 3 :]
        (folder / f"{number}-0").write_bytes(b"\0" + data)
        (folder / f"{number}-1").write_bytes(b"\1" + len(listing).to_bytes(2, "little") + listing + body)
        with container.opened(path) as held:
            squeezed = held.read(held.sections["secateur.graph"])
            pool = held.sections.get("secateur.pool")
            pooled = data[pool.start :] if pool else b""
        json_text = zlib.decompressobj(-15, zdict=document.DICTIONARY).decompress(squeezed)
        (folder / f"{number}-2").write_bytes(b"\2" + json_text + b"\0" + pooled)
    random = np.random.default_rng(0)
    for number, shape in enumerate(SHAPES[:7]):
        for codec, coder in enumerate((None, "floats", "levels")):
            weight = Weight.of(np.rint(random.normal(size=shape) * 2).astype(np.float32))
            made = codecs.encode(weight) if coder != "levels" else codecs.encode_lossy(weight, 4, "uniform")[0]
            (folder / f"weight-{number}-{codec}").write_bytes(bytes([3, made.codec, 2, number]) + made.content)
    for place, kind, number in ((4, np.int8, 0), (3, np.int32, 2)):
        made = codecs.encode(Weight.of(np.rint(random.normal(size=SHAPES[number]) * 30).astype(kind)))
        (folder / f"integers-{place}").write_bytes(bytes([3, made.codec, place, number]) + made.content)


def main() -> None:
    with tempfile.TemporaryDirectory() as corpus:
        seeds(Path(corpus))
        options = ["-max_len=30000", "-timeout=10", "-rss_limit_mb=1024", *sys.argv[1:]]
        atheris.Setup([sys.argv[0], *options, corpus], test_one)
        try:
            atheris.Fuzz()
        except SecateurError as error:
            sys.exit(f"an error that is no FormatError: {error!r}")


if __name__ == "__main__":
    main()
