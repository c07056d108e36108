"""Graphs around given weights, and .secateur files made by hand: what several suites need."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from secateur.network.formats import FLOAT_FORMATS
from secateur.network.graph import Graph, Node, Weight
from secateur.packfile import container, document

SPECIAL = [0x00000000, 0x80000000, 0x7F800000, 0xFF800000, 0x7FC00001, 0xFFABCDEF, 0x00000001, 0x807FFFFF, 0x3F800000]


def graph_of(weights: Mapping[str, Weight]) -> Graph:
    """A graph that has these weights, of whatever shapes."""
    nodes = tuple(
        Node(f"node{i}", "constant", (), {"value": name}, {}, weight.shape)
        for i, (name, weight) in enumerate(weights.items())
    )
    return Graph({"x": (2,)}, tuple(node.name for node in nodes) or ("x",), nodes, dict(weights))


def linear(values: np.ndarray, bias: np.ndarray | None = None) -> Graph:
    """A fully connected layer."""
    held = {"fc.weight": Weight.of(values)} | ({} if bias is None else {"fc.bias": Weight.of(bias)})
    roles = {name.removeprefix("fc."): name for name in held}
    node = Node("fc", "linear", ("x",), roles, {}, (values.shape[0],), "fc")
    return Graph({"x": (values.shape[1],)}, ("fc",), (node,), held)


_SETTINGS: dict[str, Any] = {
    "element": "int8",
    "input_scale": 0.05,
    "input_zero_point": -3,
    "output_scale": 0.25,
    "output_zero_point": -5,
    "low": -128,
    "high": 127,
    "residual_scale": 1.0,
    "residual_zero_point": 0,
}


def quantised_linear(weight: np.ndarray, bias: np.ndarray) -> Graph:
    """x → quantise → quantised_linear → dequantise."""
    out, width = weight.shape
    roles = {"weight": "w", "bias": "b", "scale": "s"}
    weights = {"w": weight, "b": bias, "s": np.linspace(1e-3, 2e-3, out, dtype=np.float32)}
    nodes = (
        Node("q", "quantise", ("x",), {}, {"element": "int8", "scale": 0.05, "zero_point": -3}, (width,)),
        Node("l", "quantised_linear", ("q",), roles, _SETTINGS, (out,)),
        Node("d", "dequantise", ("l",), {}, {"scale": 0.25, "zero_point": -5}, (out,)),
    )
    return Graph({"x": (width,)}, ("d",), nodes, {name: Weight.of(each) for name, each in weights.items()})


def pruned(*shape: int, density: float = 0.1, seed: int = 0) -> np.ndarray:
    """Normal weights whose smallest are zero."""
    values = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    cut = np.quantile(np.abs(values), 1 - density)
    return np.where(np.abs(values) < cut, np.float32(0), values)


def same_weights(one: Graph, other: Graph) -> bool:
    return one.weights.keys() == other.weights.keys() and all(
        weight.dtype == other.weights[name].dtype and np.array_equal(weight.bits, other.weights[name].bits)
        for name, weight in one.weights.items()
    )


@st.composite
def weights(draw: st.DrawFn) -> Weight:
    """Any dtype of floating point, any shape (scalars and empty ones too), any density; layers, or any bits."""
    dtype = draw(st.sampled_from(sorted(FLOAT_FORMATS)))
    shape = draw(npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=12))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["layer", "bits", "special", "few"]))
    if kind == "bits":
        wide = random.integers(0, 2**32, shape, dtype=np.uint32)
    elif kind == "special":
        wide = random.choice(np.array(SPECIAL, np.uint32), shape)
    else:
        values = random.normal(size=shape).astype(np.float32)
        wide = np.asarray(values if kind == "layer" else np.rint(values * 2)).astype(np.float32).view(np.uint32)
    density = draw(st.sampled_from([0.0, 0.02, 0.3, 0.9, 1.0]))
    wide = np.where(random.random(shape) < density, wide, np.uint32(0)).astype(np.uint32)
    bits = wide if dtype == "float32" else wide >> np.uint32(16)
    return Weight(dtype, np.ascontiguousarray(bits, FLOAT_FORMATS[dtype].carrier).reshape(shape))


def squeeze(text: bytes) -> bytes:
    """A document's text as it stands in a file."""
    made = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=document.DICTIONARY)
    return made.compress(text) + made.flush()


def forge(path: Path, described: Any, pool: bytes = b"") -> Path:
    """A file whose checksums are right, whatever it says. described: a JSON value, or the document's text.

    pool: sealed weights, one behind the other.
    """
    text = described if isinstance(described, bytes) else json.dumps(described).encode()
    sections = {"secateur.graph": container.seal(squeeze(text))} | ({"secateur.pool": pool} if pool else {})
    header = container.header({name: len(section) for name, section in sections.items()})
    path.write_bytes(header + b"".join(sections.values()))
    return path


def reseal(header: bytes) -> bytes:
    """A header's JSON with a checksum that fits, after something in it was changed; its length before it."""
    start = header.index(b" ") + 1
    blank = header[:start] + b"00000000" + header[start + 8 :]
    text = header[:start] + f"{zlib.crc32(blank):08x}".encode() + header[start + 8 :]
    return len(text).to_bytes(8, "little") + text
