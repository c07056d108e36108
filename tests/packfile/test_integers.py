"""Weights of eight and of 32 bits in a file: every one comes back, and zeros cost next to nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import plain_reader
from packed import pruned, quantised_linear, same_weights
from quantised_strategies import quantised_graphs
from secateur import _native, packfile
from secateur.errors import FormatError
from secateur.network.graph import Graph, Weight
from secateur.packfile import codecs, document
from secateur.packfile.codecs import FLOATS, LEVELS, RAW


def sparse(*shape: int, density: float = 0.1) -> np.ndarray:
    """Normal weights, the smallest of which are zero, as multiples of a step."""
    values = pruned(*shape, density=density)
    return np.asarray(np.rint(values * (127 / np.abs(values).max())), np.int8)


@settings(max_examples=30, deadline=None)
@given(
    weight=st.sampled_from([np.int8, np.int32, np.int64, np.bool_]).flatmap(
        lambda kind: npst.arrays(kind, npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9))
    ),
    kept=st.sampled_from([0.0, 0.1, 1.0]),
)
def test_every_integer_comes_back(weight: np.ndarray, kept: float) -> None:
    held = Weight.of(
        np.asarray(np.where(np.random.default_rng(0).random(weight.shape) < kept, weight, 0), weight.dtype)
    )
    made = codecs.encode(held)
    found = codecs.decode(made.codec, made.content, held.dtype, held.shape)
    assert (found.dtype, found.numbers().tolist()) == (held.dtype, held.numbers().tolist())
    assert len(made.content) <= held.bits.nbytes


@pytest.mark.parametrize("density", [0.5, 0.1, 0.02])
def test_sparse_weights_cost_what_their_entropy_says(density: float) -> None:
    weight = sparse(256, 512, density=density)
    _, counts = np.unique(weight, return_counts=True)
    entropy = float(-(counts * np.log2(counts / weight.size)).sum() / 8)
    assert len(codecs.encode(Weight.of(weight)).content) < 1.02 * entropy + 64


def test_biases_cost_less_than_their_bits() -> None:
    bias = np.rint(np.random.default_rng(0).normal(size=512) * 12_000).astype(np.int32)
    assert len(codecs.encode(Weight.of(bias)).content) < 0.62 * bias.nbytes


@pytest.mark.parametrize("bits", [None, 4])
def test_a_quantised_layer_is_never_rounded_and_its_file_is_of_version_1_2(bits: int | None, tmp_path: Path) -> None:
    graph, path = quantised_linear(sparse(30, 40), np.arange(-15, 15, dtype=np.int32) * 1000), tmp_path / "net.secateur"
    packfile.write(graph, path, bits=bits)
    found = packfile.read(path)
    assert same_weights(found, graph)
    assert (found.nodes, found.value_elements) == (graph.nodes, graph.value_elements)
    described = packfile.describe(path)
    assert (described.version, described.error) == ("1.2", 0)
    assert {each.dtype for each in described.weights} == {"int8", "int32", "float32"}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(graph=quantised_graphs())
def test_every_quantised_graph_survives(graph: Graph, tmp_path: Path) -> None:
    path = tmp_path / "graph.secateur"
    packfile.write(graph, path, force=True)
    found = packfile.read(path)
    assert (found.inputs, found.outputs, found.nodes) == (graph.inputs, graph.outputs, graph.nodes)
    assert found.quantisations == graph.quantisations
    assert same_weights(found, graph)


@pytest.mark.parametrize("bias", [np.array([2**24 + 1, -(2**31) + 2**22], np.int32), np.array([0, -7], np.int32)])
def test_another_reader_finds_the_same_integers(bias: np.ndarray, tmp_path: Path) -> None:
    weight = np.array([[-128, 0, 0, 127], [0, 0, 0, 0]], np.int8).repeat(40, axis=1)
    graph, path = quantised_linear(weight, bias), tmp_path / "net.secateur"
    packfile.write(graph, path)
    _, found = plain_reader.read(path, document.DICTIONARY)
    for name, each in graph.weights.items():
        assert found[name] == each.bits.reshape(-1).tolist(), name


def test_numbers_are_never_written_to_a_copy_of_another_width() -> None:
    weight = sparse(8, 8)
    coded = np.frombuffer(codecs.encode(Weight.of(weight)).content, np.uint8)[1:]
    words, book = np.zeros(64, np.float64), np.zeros(255, "<u1")
    with pytest.raises(TypeError):
        _native.decode_levels(coded, words, 8, 8, book, 127, 128)  # type: ignore[arg-type]


def content(values: np.ndarray) -> bytes:
    """Of the codec that a weight gets."""
    made = codecs.encode(Weight.of(values))
    assert made.codec != codecs.RAW
    return made.content


def single(*values: float) -> bytes:
    return content(np.array([*values, *[0.0] * 60], np.float32))


@pytest.mark.parametrize(
    ("codec", "made", "dtype", "text"),
    [
        (FLOATS, lambda: single(1.0), "int8", "codec floats, which no weight of int8 has"),
        (LEVELS, lambda: content(sparse(8, 8)), "int32", "codec levels, which no weight of int32 has"),
        (LEVELS, lambda: b"\x00" + bytes(4), "int8", "a codebook of kind 0, which no weight of int8 has"),
        (LEVELS, lambda: content(sparse(8, 8)), "float32", "a codebook of kind 3, which no weight of float32 has"),
        (FLOATS, lambda: single(0.5), "int32", "it has numbers that are no whole ones of 32 bits"),
        (FLOATS, lambda: single(2.0**31), "int32", "it has numbers that are no whole ones of 32 bits"),
        (FLOATS, lambda: single(np.nan), "int32", "it has numbers that are no whole ones of 32 bits"),
        (FLOATS, lambda: single(-np.inf), "int32", "it has numbers that are no whole ones of 32 bits"),
        (FLOATS, lambda: single(2.0**63), "int64", "it has numbers that are no whole ones of 64 bits"),
        (LEVELS, lambda: content(sparse(8, 8)), "bool", "it has truth values that are neither true nor false"),
        (RAW, lambda: b"\1\2" * 32, "bool", "it has truth values that are neither true nor false"),
        (FLOATS, lambda: single(-0.0), "int32", "it has a zero with a sign, which whole numbers have not"),
    ],
)
def test_integers_that_are_none_are_refused(codec: int, made: Callable[[], bytes], dtype: str, text: str) -> None:
    coded = made()
    size = 61 if codec == FLOATS else 64
    with pytest.raises(FormatError, match=text):
        codecs.decode(codec, coded, dtype, (8, 8) if size == 64 else (61,))
