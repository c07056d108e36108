"""Products of values, attention and recurrent layers: what PyTorch makes of the same numbers, on every kernel."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels import float_kernels
from secateur.errors import GraphError, RunError
from secateur.importing.aten import to_graph
from secateur.network.building import Builder
from secateur.network.graph import Attribute, Graph, Weight
from secateur.network.limits import Limits
from secateur.network.sizes import named
from secateur.runtime import Session, reference

KERNELS = float_kernels()
BATCHES = (1, 17)
RANDOM = np.random.default_rng(0)


def numbers(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def graph_of(op: str, *shapes: tuple[int, ...], **attributes: Attribute) -> Graph:
    """A graph of one operation on inputs a, b, …"""
    build = Builder()
    names = [build.input(name, shape) for name, shape in zip("abcd", shapes, strict=False)]
    return build.graph([build.emit(op, *names, weights={}, **attributes)])


def assert_runs_as(graph: Graph, inputs: list[np.ndarray], expected: Tensor, kernel: str) -> None:
    """On one thread, on three, which give the same bits, and by the reference."""
    found = Session(graph, kernel=kernel, calibrate=False)(*inputs)
    assert isinstance(found, np.ndarray)
    scale = max(1.0, float(expected.abs().max()))
    np.testing.assert_allclose(found, expected.numpy(), rtol=2e-5, atol=1e-5 * scale)
    np.testing.assert_array_equal(Session(graph, threads=3, kernel=kernel, calibrate=False)(*inputs), found)
    (right,) = reference.run_all(graph, dict(zip(graph.inputs, inputs, strict=True)))
    np.testing.assert_allclose(right, expected.numpy(), rtol=2e-5, atol=1e-5 * scale)


PRODUCTS = [((37, 21), (21, 45)), ((2, 3, 9, 40), (3, 40, 70)), ((1, 33), (33, 50)), ((2, 1, 4, 3), (5, 3, 2))]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("left", "right"), PRODUCTS)
def test_products_of_two_values_are_pytorchs(
    left: tuple[int, ...], right: tuple[int, ...], transposed: bool, kernel: str
) -> None:
    for batch in BATCHES:
        a, b = numbers(batch, *left), numbers(batch, *right)
        aligned = (1,) * (len(left) - len(right)), (1,) * (len(right) - len(left))
        expected = torch.from_numpy(a.reshape(batch, *aligned[1], *left)) @ torch.from_numpy(
            b.reshape(batch, *aligned[0], *right)
        )
        given = np.ascontiguousarray(b.swapaxes(-1, -2)) if transposed else b
        graph = graph_of("matmul", left, given.shape[1:], transposed=transposed)
        assert_runs_as(graph, [a, given], expected, kernel)


MASKS = [None, (37, 50), (6, 1, 50), (1, 50), (37, 1)]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask", MASKS)
def test_attention_is_pytorchs(mask: tuple[int, ...] | None, causal: bool, kernel: str) -> None:
    """Six heads of 37 queries read three of 50 keys. PyTorch takes no mask where it is causal: it is added to ours."""
    shapes = [(6, 37, 9), (3, 50, 9), (3, 50, 21)]
    for batch in BATCHES:
        given = [numbers(batch, *shape) for shape in shapes]
        added = np.zeros((1, 1), np.float32) if mask is None else numbers(batch, *mask)
        if mask is not None:
            given.append(added)
        seen = torch.from_numpy(added).reshape(len(added), *(1,) * (4 - added.ndim), *added.shape[1:])
        if causal:
            seen = seen.broadcast_to(batch, 6, 37, 50) + torch.full((37, 50), -torch.inf).triu(1)
        q, k, v = map(torch.from_numpy, given[:3])
        expected = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=0.4, enable_gqa=True)
        graph = graph_of("attention", *(each.shape[1:] for each in given), scale=0.4, causal=causal)
        assert_runs_as(graph, given, expected, kernel)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_query_that_sees_no_key_attends_to_nothing(kernel: str) -> None:
    seen = np.array([[True, False, True], [False, False, False]])
    build = Builder()
    query, key = build.input("query", (1, 2, 4)), build.input("key", (1, 3, 4))
    mask = build.emit("constant", weights={"value": Weight.of(seen)})
    graph = build.graph([build.emit("attention", query, key, key, mask, scale=1.0, causal=False)])
    for batch in BATCHES:
        given = [numbers(batch, 1, 2, 4), numbers(batch, 1, 3, 4)]
        q, k = map(torch.from_numpy, given)
        expected = F.scaled_dot_product_attention(q, k, k, attn_mask=torch.from_numpy(seen), scale=1.0)
        assert not expected[:, :, 1].any()
        assert_runs_as(graph, given, expected, kernel)


def test_the_reference_never_holds_all_scores_of_many_queries() -> None:
    shapes = [(1, 6000, 4), (1, 2000, 4), (1, 2000, 4)]
    given = [numbers(1, *shape) for shape in shapes]
    graph = graph_of("attention", *shapes, scale=0.5, causal=True)
    tracemalloc.start()
    (found,) = reference.run_all(graph, dict(zip(graph.inputs, given, strict=True)))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    query, key, value = map(torch.from_numpy, given)
    expected = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)
    assert most < 2 * 8 * 6000 * 2000


LAYERS: dict[str, Any] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


def recurrent(op: str, layer: nn.RNNBase, started: bool, reverse: bool) -> Graph:
    """One direction of a layer over 7 steps of 5 numbers: a linear layer, and what is fed back."""
    build = Builder()
    end = "_l0_reverse" if reverse else "_l0"
    held = {name: Weight.of(getattr(layer, name + end).detach().numpy()) for name in
            ("weight_ih", "bias_ih", "weight_hh", "bias_hh")}  # fmt: skip
    x = build.input("x", (7, 5))
    states = [build.input(name, (layer.hidden_size,)) for name in ("h", "c")[: 2 if op == "lstm" else 1] if started]
    given = build.emit("linear", x, weights={"weight": held["weight_ih"], "bias": held["bias_ih"]})
    attributes: dict[str, Attribute] = {"activation": "tanh"} if op == "rnn" else {}
    weights = {"weight": held["weight_hh"], "bias": held["bias_hh"]}
    made = build.emit(op, given, *states, weights=weights, reverse=reverse, **attributes)
    return build.graph([made])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("density", [1.0, 0.2])
@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("op", LAYERS)
def test_recurrent_layers_are_pytorchs_in_both_directions(op: str, started: bool, density: float, kernel: str) -> None:
    torch.manual_seed(0)
    layer = LAYERS[op](5, 19, batch_first=True, bidirectional=True)
    with torch.no_grad():
        for name, weight in layer.named_parameters():
            if name.startswith("weight_hh"):
                weight.mul_(torch.rand(weight.shape) < density)
    for batch in BATCHES:
        x, first = numbers(batch, 7, 5), [numbers(batch, 19) for _ in range(2 if op == "lstm" else 1)]
        states = [torch.from_numpy(each).expand(2, batch, 19).contiguous() for each in first]
        with torch.no_grad():
            expected = layer(torch.from_numpy(x), (tuple(states) if op == "lstm" else states[0]) if started else None)
        for reverse in (False, True):
            graph = recurrent(op, layer, started, reverse)
            found = Session(graph, kernel=kernel, calibrate=False)(x, *(first if started else []))
            side = slice(19, None) if reverse else slice(0, 19)
            np.testing.assert_allclose(found[:, :, :19], expected[0][:, :, side].numpy(), rtol=2e-5, atol=2e-6)
            if op == "lstm":
                last = found[:, 0 if reverse else -1, 19:]
                np.testing.assert_allclose(last, expected[1][1][int(reverse)].numpy(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("density", [0.2, 1.0])
def test_what_goes_through_a_layer_together_gives_the_bits_that_each_gives_alone(density: float, kernel: str) -> None:
    """Sequences of one value and of several images, and rows behind them: alone, six at a time, and on two threads."""
    torch.manual_seed(2)
    layer, head = nn.LSTM(9, 37, batch_first=True), nn.Linear(37, 70)
    with torch.no_grad():
        for each in (layer.all_weights[0][1], head.weight):
            each.mul_(torch.rand_like(each) < density)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = layer, head

        def forward(self, x: Tensor) -> Tensor:
            last = self.layer(x.flatten(0, 1))[0][:, -1]
            return self.head(last.unflatten(0, x.shape[:2]))

    graph = to_graph(Network().eval(), torch.zeros(2, 3, 5, 9))
    x = numbers(2, 3, 5, 9)
    alone, together, threads = (Session(graph, threads=count, kernel=kernel, calibrate=False) for count in (1, 1, 2))
    assert all(block == 1 for block, _, _ in together.plan(2).parts)
    found = np.concatenate([alone(x[i : i + 1]) for i in range(2)])
    np.testing.assert_array_equal(together(x), found)
    np.testing.assert_array_equal(threads(x), found)


def test_lengths_may_be_free_in_all_of_them() -> None:
    length, width = named("length"), 4
    build = Builder()
    x = build.input("x", (1, length, width))
    scores = build.emit("matmul", x, x, transposed=True)
    mixed = build.emit("matmul", scores, x, transposed=False)
    seen = build.emit("attention", mixed, x, x, scale=0.5, causal=True)
    rows = build.emit("reshape", seen, shape=(length, width))
    weight = Weight.of(numbers(width, width))
    made = build.emit("rnn", build.emit("cumsum", rows, axis=1), weights={"weight": weight}, reverse=False,
                      activation="tanh")  # fmt: skip
    graph = build.graph([made])
    session = Session(graph)
    for count in (1, 6):
        value = 0.3 * numbers(2, 1, count, width)
        np.testing.assert_allclose(session(value), reference.run(graph, value), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("op", "shapes", "attributes", "text"),
    [
        ("matmul", [(3, 4), (5, 6)], {"transposed": False}, r"expected a right matrix for rows of 4, got \(5, 6\)"),
        ("matmul", [(4,), (4, 6)], {"transposed": False}, r"expected matrices \(…, M, K\) and \(…, K, N\)"),
        ("matmul", [(2, 3, 4), (3, 4, 5)], {"transposed": False}, "expected shapes that broadcast"),
        ("attention", [(4, 3, 8), (3, 3, 8), (3, 3, 8)], {"scale": 1.0, "causal": False}, "as many heads as divide 4"),
        ("attention", [(3, 8), (3, 8), (3, 8)], {"scale": 1.0, "causal": False}, r"expected queries \(…, H, L, E\)"),
        ("attention", [(2, 3, 8), (2, 5, 8), (2, 4, 8)], {"scale": 1.0, "causal": False}, r"expected keys"),
        (
            "attention",
            [(2, 3, 8)] * 3 + [(2, 2, 3)],
            {"scale": 1.0, "causal": False},
            "expected a mask that broadcasts",
        ),
        ("cumsum", [(3, 4)], {"axis": 3}, r"expected axis in \[1, 2\], got 3"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    op: str, shapes: list[tuple[int, ...]], attributes: dict[str, Attribute], text: str
) -> None:
    with pytest.raises(GraphError, match=text):
        graph_of(op, *shapes, **attributes)


def test_an_lstm_is_given_both_states_or_none() -> None:
    build = Builder()
    x, h = build.input("x", (2, 8)), build.input("h", (2,))
    with pytest.raises(GraphError, match="expected initial states for both h and c, or none, got 2"):
        build.emit("lstm", x, h, weights={"weight": Weight.of(numbers(8, 2))}, reverse=False)


@pytest.mark.parametrize(
    ("graph", "count"),
    [
        (graph_of("matmul", (2, 3, 4), (4, 5), transposed=False), 2 * 3 * 4 * 5),
        (graph_of("attention", (2, 3, 4), (1, 5, 4), (1, 5, 6), scale=1.0, causal=False), 2 * 3 * 5 * (4 + 6)),
        (recurrent("gru", nn.GRU(5, 4, bidirectional=True), False, False), 7 * (3 * 4 * 5 + 3 * 4 * 4)),
    ],
)
def test_their_multiply_adds_are_counted(graph: Graph, count: int) -> None:
    Session(graph, limits=Limits(multiply_adds=count))
    with pytest.raises(RunError, match=f"{count:,} multiply-adds"):
        Session(graph, limits=Limits(multiply_adds=count - 1))
    assert sum(step.multiply_adds for step in Session(graph).plan(16).steps) == count
