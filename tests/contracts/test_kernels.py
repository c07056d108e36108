"""What every kernel owes: the reference's outputs, for any graph, any batch size and any number of threads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph_strategies import graphs, inputs, layers
from secateur.graph import OPERATIONS, Graph
from secateur.runtime import Session, available_kernels, reference

KERNELS = available_kernels()
BATCHES = st.sampled_from([0, 1, 2, 3, 7, 15, 16, 17, 33, 64, 70])


def outputs_of(session: Session, x: np.ndarray) -> tuple[np.ndarray, ...]:
    found = session(x)
    return found if isinstance(found, tuple) else (found,)


def check_against_reference(graph: Graph, batch: int, kernel: str, threads: int) -> None:
    x = inputs(graph, batch)
    found = outputs_of(Session(graph, threads=threads, kernel=kernel), x)
    for name, mine, right in zip(graph.outputs, found, reference.run_all(graph, {"x": x}), strict=True):
        assert mine.shape == right.shape
        scale = max(1.0, float(np.abs(right).max(initial=0)))
        np.testing.assert_allclose(mine, right, rtol=2e-5, atol=1e-5 * scale, err_msg=name)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_operation_is_the_references(operation: str, kernel: str) -> None:
    @given(graph=layers(operation), batch=BATCHES)
    @settings(max_examples=15, deadline=None, database=None)
    def check(graph: Graph, batch: int) -> None:
        check_against_reference(graph, batch, kernel, threads=1)

    check()


@pytest.mark.parametrize("kernel", KERNELS)
def test_whole_graphs_are_the_references(kernel: str) -> None:
    @given(graph=graphs(dtype="mixed"), batch=BATCHES, threads=st.integers(1, 3))
    @settings(max_examples=80, deadline=None, database=None)
    def check(graph: Graph, batch: int, threads: int) -> None:
        check_against_reference(graph, batch, kernel, threads)

    check()
