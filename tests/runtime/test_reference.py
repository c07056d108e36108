"""The NumPy reference means by each operation what PyTorch means."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from graph_strategies import FLOATING, graphs, inputs, layers
from secateur.errors import RunError
from secateur.exporting.rebuilding import GraphNetwork
from secateur.importing.aten import to_graph
from secateur.network.graph import Graph, Node
from secateur.runtime import reference


def check_against_torch(graph: Graph, batch: int) -> None:
    x = inputs(graph, batch)
    found = reference.run_all(graph, {"x": x})
    with torch.inference_mode():
        expected = GraphNetwork(graph).double()(torch.tensor(x).double())
    expected = [expected] if len(graph.outputs) == 1 else expected
    for name, mine, theirs in zip(graph.outputs, found, expected, strict=True):
        assert mine.shape == (batch, *graph.shape_of(name))
        assert mine.dtype == np.float32
        np.testing.assert_allclose(mine, theirs.numpy(), rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("operation", FLOATING)
def test_each_operation_is_pytorchs(operation: str) -> None:
    @given(graph=layers(operation), batch=st.integers(1, 3))
    @settings(max_examples=20, deadline=None, database=None)
    def check(graph: Graph, batch: int) -> None:
        check_against_torch(graph, batch)

    check()


@given(graph=graphs(dtype="mixed"), batch=st.integers(0, 3))
@settings(max_examples=75, deadline=None)
def test_whole_graphs_are_pytorchs(graph: Graph, batch: int) -> None:
    check_against_torch(graph, batch)


IDENTITY = Graph({"x": (2,)}, ("relu",), (Node("relu", "relu", ("x",), shape=(2,)),), {})


def test_infinities_and_nan_are_results_like_others() -> None:
    x = np.array([[np.inf, -np.inf], [np.nan, 1]], np.float32)
    found = reference.run(IDENTITY, x)
    np.testing.assert_array_equal(found, [[np.inf, 0], [np.nan, 1]])


def test_an_input_of_another_shape_is_refused() -> None:
    with pytest.raises(RunError, match=r"input 'x': expected shape \(N, 2\), got \(1, 3\)"):
        reference.run(IDENTITY, np.zeros((1, 3), np.float32))
    with pytest.raises(RunError, match=r"input 'x' is missing: expected \['x'\], got \['y'\]"):
        reference.run_all(IDENTITY, {"y": np.zeros((1, 2), np.float32)})


def test_one_input_and_one_output_are_asked_for_by_run() -> None:
    two = Graph({"x": (2,), "y": (2,)}, ("x", "y"), (), {})
    with pytest.raises(RunError, match="use run_all"):
        reference.run(two, np.zeros((1, 2), np.float32))
    with pytest.raises(RunError, match=r"inputs of \[1, 2\] images"):
        reference.run_all(two, {"x": np.zeros((1, 2)), "y": np.zeros((2, 2))})


@pytest.mark.parametrize(
    ("pool", "size"),
    [
        (nn.AvgPool2d(1280, ceil_mode=True), (2, 2)),
        (nn.AvgPool2d((1280, 3), stride=2, padding=(640, 1), count_include_pad=False), (5, 7)),
        (nn.AvgPool2d(1280, padding=640, stride=1280), (9, 3)),
        (nn.MaxPool2d(1001, padding=500, stride=2), (6, 5)),
        (nn.MaxPool2d(3, dilation=40, padding=1, stride=3), (81, 90)),
        (nn.Conv2d(2, 2, 3, padding=500, dilation=500, groups=2, stride=700), (4, 3)),
    ],
)
def test_windows_far_larger_than_the_plane_cost_no_more_than_what_they_see(
    pool: nn.Module, size: tuple[int, int]
) -> None:
    x = torch.randn(2, 2, *size)
    graph = to_graph(pool, x)
    tracemalloc.start()
    found = reference.run(graph, x.numpy())
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    with torch.no_grad():
        assert np.allclose(found, pool(x), rtol=1e-5, atol=1e-6)
    assert most < 3 * 8 * (x.numel() + found.size) + (1 << 19)
