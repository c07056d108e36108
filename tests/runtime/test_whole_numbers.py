"""Whole numbers and truth values as inputs, inside and as outputs: as PyTorch has them, or one line why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from kernels import float_kernels
from secateur import packfile
from secateur.errors import GraphError, RunError
from secateur.exporting.quantising import quantise
from secateur.network import composites
from secateur.network.building import Builder
from secateur.network.graph import Graph, Node, Weight
from secateur.network.sizes import Dimension, named
from secateur.runtime import Session, reference

RANDOM = np.random.default_rng(11)
TABLE, PLACES = RANDOM.normal(size=(9, 6)).astype(np.float32), RANDOM.normal(size=(40, 6)).astype(np.float32)
BATCHES = (1, 2, 17)


def ids(images: int, length: int, rows: int = len(TABLE)) -> np.ndarray:
    return RANDOM.integers(0, rows, (images, length))


def text_encoder(length: Dimension) -> Graph:
    """Tokens and a mask → their rows and those of their places, no more than the mask says, and what it counts."""
    build = Builder()
    tokens, mask = build.input("tokens", (length,), "int64"), build.input("mask", (length,), "bool")
    counted = build.emit("cast", build.emit("range", start=0.0, step=1.0, length=length), element="int64")
    rows = build.emit("embedding", tokens, weights={"weight": Weight.of(TABLE)})
    places = build.emit("embedding", counted, weights={"weight": Weight.of(PLACES)})
    seen = build.emit("reshape", mask, shape=(length, 1))
    hidden = build.emit("where", seen, build.emit("add", rows, places), -1.0)
    many = build.emit("sum", build.emit("cast", mask, element="int32"), axes=(1,), keepdims=False)
    best = build.emit("argmax", build.emit("amax", hidden, axes=(2,), keepdims=False), axis=1, keepdims=False)
    return build.graph([hidden, many, best, build.emit("logical_not", mask)])


def encoded(tokens: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
    rows = functional.embedding(tokens, torch.from_numpy(TABLE)) + torch.from_numpy(PLACES)[: tokens.shape[1]]
    hidden = torch.where(mask[..., None], rows, -1.0)
    return hidden, mask.sum(1, dtype=torch.int32), hidden.amax(2).argmax(1), ~mask


@pytest.mark.parametrize("kernel", float_kernels())
@pytest.mark.parametrize("length", [7, named("length")], ids=str)
def test_tokens_and_masks_give_what_pytorch_gives_in_the_formats_that_it_has(length: Dimension, kernel: str) -> None:
    session = Session(text_encoder(length), kernel=kernel)
    for images in BATCHES:
        tokens, mask = ids(images, 7), RANDOM.random((images, 7)) < 0.7
        expected = encoded(torch.from_numpy(tokens), torch.from_numpy(mask))
        for found, right in zip(session(tokens, mask), expected, strict=True):
            assert found.dtype == right.numpy().dtype
            np.testing.assert_allclose(found, right.numpy(), rtol=1e-6)


def test_whole_numbers_may_come_in_any_format_of_these() -> None:
    session = Session(text_encoder(7))
    tokens, mask = ids(2, 7), np.ones((2, 7), bool)
    for kind in (np.int32, np.uint8, np.int16):
        np.testing.assert_array_equal(session(tokens.astype(kind), mask)[0], session(tokens, mask)[0])


@pytest.mark.parametrize(
    ("tokens", "mask", "message"),
    [
        (np.full((1, 7), 9), np.ones((1, 7), bool), "embedding 'embedding': index 9: expected indices from 0 to 8"),
        (np.full((1, 7), -1), np.ones((1, 7), bool), "index -1: expected indices from 0 to 8"),
        (
            np.full((1, 7), (1 << 24) + 1),
            np.ones((1, 7), bool),
            "input 'tokens': expected whole numbers from -16777216 to 16777216, which float32 has, got 16777217",
        ),
        (np.zeros((1, 7)), np.ones((1, 7), bool), "expected int64 .N, 7., got float64 .1, 7.; x.astype.numpy.int64."),
        (np.zeros((1, 7), int), np.ones((1, 7)), "input 'mask': expected bool"),
        (np.zeros((1, 7), int), np.ones((1, 7), int), "input 'mask': expected bool .N, 7., got int64"),
    ],
)
def test_what_is_no_token_or_no_mask_is_refused_in_one_line(tokens: object, mask: object, message: str) -> None:
    with pytest.raises(RunError, match=message):
        Session(text_encoder(7))(tokens, mask)


def test_fractions_of_64_bits_are_refused_with_what_makes_them_fit() -> None:
    build = Builder()
    graph = build.graph([build.emit("abs", build.input("x", (2,)))])
    with pytest.raises(RunError, match=r"expected float32 \(N, 2\), got float64 \(1, 2\); x.astype\(numpy.float32\)"):
        Session(graph)(np.zeros((1, 2)))


def test_the_reference_refuses_the_same_index() -> None:
    build = Builder()
    x = build.input("x", (2,), "int64")
    graph = build.graph([build.emit("gather", Weight.of(np.arange(3, dtype=np.float32)), x, axis=1)])
    for run in (Session(graph), lambda x: reference.run(graph, x)):
        with pytest.raises(RunError, match="gather 'gather': index 3: expected indices from 0 to 2"):
            run(np.array([[0, 3]]))


def test_images_that_fill_up_a_block_have_no_index_that_could_be_wrong() -> None:
    """17 images run as a block of 16 and another that is mostly empty; 1 below nothing is no row."""
    build = Builder()
    x = build.input("x", (3,), "int64")
    less = build.emit("sub", x, build.number(1, "int64"))
    rows = build.emit("embedding", less, weights={"weight": Weight.of(TABLE)})
    graph = build.graph([build.emit("linear", rows, weights={"weight": Weight.of(PLACES)})])
    x_ = 1 + ids(17, 3)
    np.testing.assert_allclose(Session(graph)(x_), TABLE[x_ - 1] @ PLACES.T, rtol=1e-4, atol=1e-5)


WHOLE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "floor_div": torch.floor_divide,
    "remainder": torch.remainder,
    "equal": torch.eq,
    "less": torch.lt,
    "less_equal": torch.le,
}


@pytest.mark.parametrize("element", ["int64", "int32"])
def test_arithmetic_of_whole_numbers_is_exact(element: str) -> None:
    build = Builder()
    left, right = build.input("left", (500,), element), build.input("right", (500,), element)
    graph = build.graph([build.emit(op, left, right) for op in WHOLE])
    x, y = RANDOM.integers(-4000, 4000, (2, 1, 500)).astype(element)
    y[y == 0] = 7
    expected = [function(torch.from_numpy(x), torch.from_numpy(y)).numpy() for function in WHOLE.values()]
    for found in (Session(graph)(x, y), reference.run_all(graph, {"left": x, "right": y})):
        for mine, theirs in zip(found, expected, strict=True):
            assert mine.dtype == theirs.dtype
            np.testing.assert_array_equal(mine, theirs)


def test_quotients_of_whole_numbers_are_exact_as_far_as_float32_has_them() -> None:
    build = Builder()
    left, right = build.input("left", (4000,), "int64"), build.input("right", (4000,), "int64")
    graph = build.graph([build.emit(op, left, right) for op in ("floor_div", "remainder")])
    y = RANDOM.integers(1, 1 << 12, (1, 4000)) * RANDOM.choice([-1, 1], (1, 4000))
    x = np.clip(y * RANDOM.integers(-4000, 4000, y.shape) + RANDOM.integers(-1, 2, y.shape), -(1 << 24), 1 << 24)
    quotient, left_over = Session(graph)(x, y)
    np.testing.assert_array_equal(quotient, x // y)
    np.testing.assert_array_equal(left_over, x % y)


def test_whole_numbers_that_come_out_beyond_what_float32_has_are_refused() -> None:
    build = Builder()
    x = build.input("x", (1,), "int64")
    session = Session(build.graph([build.emit("mul", x, x)]))
    assert session(np.array([[4096]])).tolist() == [[1 << 24]]
    with pytest.raises(RunError, match="output 'mul': whole numbers came out beyond 16777216"):
        session(np.array([[4097]]))


def test_whole_numbers_cross_images_and_come_back() -> None:
    """Each image's tokens sorted among all images'."""
    build = Builder()
    x = build.input("x", (2,), "int64")
    of_all = build.emit("gather_images", x, images=named("batch"))
    order = build.emit("topk", of_all, axis=1, count=named("batch"), largest=False)
    ranked = build.emit("gather", of_all, order, axis=1)
    graph = build.graph([build.emit("scatter_images", ranked, images=named("batch")), x])
    x_ = np.array([[5, 1], [2, 8], [2, 0]])
    ranks, same = Session(graph)(x_)
    assert ranks.dtype == same.dtype == np.int64
    np.testing.assert_array_equal(ranks, np.sort(x_, 0))
    np.testing.assert_array_equal(same, x_)


def test_constants_of_whole_numbers_are_worked_out_once() -> None:
    """A causal mask of places: comparing them takes no step of a run."""
    build = Builder()
    x = build.input("x", (5, 5))
    counted = build.emit("cast", build.emit("range", start=0.0, step=1.0, length=5), element="int64")
    later = build.emit("less", build.emit("reshape", counted, shape=(5, 1)), counted)
    graph = build.graph([composites.masked_fill(build, x, later, -1)])
    session, x_ = Session(graph), RANDOM.normal(size=(3, 5, 5)).astype(np.float32)
    np.testing.assert_array_equal(session(x_), np.where(np.triu(np.ones((5, 5)), 1) > 0, np.float32(-1), x_))
    assert [step.operations for step in session.plan().steps] == ["input", "where", "output"]


@pytest.mark.parametrize(
    "values", [np.arange(-3, 3), np.array([1 << 40, -5]), np.array([True, False]), np.arange(5, dtype=np.int32)]
)
def test_constants_and_indices_survive_a_file_in_their_format(values: np.ndarray, tmp_path: Path) -> None:
    build = Builder()
    build.input("x", (len(values),), str(values.dtype))
    op = "logical_and" if values.dtype == bool else "add"
    graph = build.graph([build.emit(op, "x", Weight.of(values))])
    packfile.write(graph, tmp_path / "net.secateur")
    found = packfile.read(tmp_path / "net.secateur")
    (name,) = graph.weights
    assert found.weights[name].dtype == values.dtype.name
    np.testing.assert_array_equal(found.weights[name].numbers(), values)
    assert packfile.describe(tmp_path / "net.secateur").version == "1.3"


def test_many_indices_take_few_bytes(tmp_path: Path) -> None:
    build = Builder()
    build.input("x", (64,))
    graph = build.graph([composites.take(build, "x", 1, [*range(63, -1, -1)] * 64)])
    packfile.write(graph, tmp_path / "net.secateur")
    assert (tmp_path / "net.secateur").stat().st_size < 4096 * 4 / 3


def test_a_table_is_rounded_as_matrices_are_and_indices_are_not(tmp_path: Path) -> None:
    build = Builder()
    x = build.input("x", (3,), "int64")
    rows = build.emit("embedding", x, weights={"weight": Weight.of(RANDOM.normal(size=(50, 20)).astype(np.float32))})
    graph = build.graph([composites.take(build, rows, 2, RANDOM.integers(0, 20, 500))])
    packfile.write(graph, tmp_path / "net.secateur", bits=4)
    found = packfile.read(tmp_path / "net.secateur").weights
    assert len(np.unique(found["weight"].bits)) <= 16
    np.testing.assert_array_equal(found["indices"].bits, graph.weights["indices"].bits)


def test_a_lookup_stays_in_float_in_a_network_of_eight_bits() -> None:
    build = Builder()
    x = build.input("x", (4,), "int64")
    rows = build.emit("embedding", x, weights={"weight": Weight.of(TABLE)})
    hidden = build.emit("relu", build.emit("linear", rows, weights={"weight": Weight.of(PLACES)}))
    last = Weight.of(RANDOM.normal(size=(3, 40)).astype(np.float32))
    graph = build.graph([build.emit("linear", hidden, weights={"weight": last})])
    made, _ = quantise(graph, [ids(64, 4)])
    assert [node.op for node in made.nodes if node.weights] == ["embedding", "quantised_linear", "quantised_linear"]
    x_ = ids(5, 4)
    found, expected = Session(made)(x_), reference.run(graph, x_)
    assert np.abs(found - expected).max() < 0.03 * np.abs(expected).max()
    np.testing.assert_array_equal(found, reference.run(made, x_))


@pytest.mark.parametrize(
    ("op", "values", "message"),
    [
        ("take", np.array([0, 3]), r"node 'y' \(take\): expected indices of an axis of 3, got 0 to 3"),
        ("take", np.array([-1, 0]), "expected indices of an axis of 3, got -1 to 0"),
        ("take", np.zeros((1, 1), int), "expected indices along one axis"),
        ("take", np.zeros(2, np.float32), "expected indices of int64 or int32, got float32"),
    ],
)
def test_indices_of_nothing_are_no_graph(op: str, values: np.ndarray, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        Graph(
            {"x": (3,)},
            ("y",),
            (Node("y", op, ("x",), {"indices": "i"}, {"axis": 1}, values.shape[:1]),),
            {"i": Weight.of(values)},
        )


def test_names_that_the_runtime_would_give_may_be_a_networks_own() -> None:
    """Of what it makes two operations of, the inner value needs a name that nothing else has."""
    nodes = (
        Node("best with its axis", "relu", ("x",), {}, {}, (3,)),
        Node("best", "argmax", ("x",), {}, {"axis": 1, "keepdims": False}, ()),
        Node("out", "neg", ("best with its axis",), {}, {}, (3,)),
    )
    graph = Graph({"x": (3,)}, ("best", "out"), nodes, {})
    x = RANDOM.normal(size=(2, 3)).astype(np.float32)
    for found, expected in zip(Session(graph)(x), reference.run_all(graph, {"x": x}), strict=True):
        np.testing.assert_array_equal(found, expected)
