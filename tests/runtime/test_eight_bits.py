"""Quantised graphs run in the native core: the same bits in every kernel, for any batch and number of threads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph_strategies import inputs
from quantised_strategies import quantised_graphs
from secateur.network.graph import Graph
from secateur.runtime import Session, available_kernels, reference


@pytest.mark.parametrize("kernel", available_kernels())
@given(graph=quantised_graphs(), batch=st.sampled_from((1, 2, 5, 16, 17, 35)), threads=st.sampled_from((1, 2)))
def test_every_kernel_gives_the_bits_of_the_reference(kernel: str, graph: Graph, batch: int, threads: int) -> None:
    x = inputs(graph, batch)
    made = Session(graph, threads, kernel)(x)
    found = made if isinstance(made, tuple) else (made,)
    for each, expected in zip(found, reference.run_all(graph, {"x": x}), strict=True):
        np.testing.assert_array_equal(each, expected)
