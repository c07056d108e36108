"""Quantised graphs run in the native core: the same bits in every kernel, for any batch and number of threads."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graph_strategies import inputs
from quantised_strategies import quantised_graphs
from secateur.network.graph import Graph
from secateur.runtime import Session, available_kernels, reference


@given(graph=quantised_graphs(), batch=st.sampled_from((1, 2, 5, 16, 17, 35)), threads=st.sampled_from((1, 2)))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_kernel_gives_the_bits_of_the_reference(graph: Graph, batch: int, threads: int) -> None:
    """To draw a graph and to compute it by the reference take longer than all kernels do."""
    x = inputs(graph, batch)
    right = reference.run_all(graph, {"x": x})
    for kernel in available_kernels():
        made = Session(graph, threads, kernel)(x)
        found = made if isinstance(made, tuple) else (made,)
        for each, expected in zip(found, right, strict=True):
            np.testing.assert_array_equal(each, expected, err_msg=kernel)
