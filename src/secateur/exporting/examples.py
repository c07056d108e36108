"""Inputs to compare engines on, where nobody gave any."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.errors import ExportError, GraphError
from secateur.network.formats import FORMATS
from secateur.network.graph import Graph


def example_of(graph: Graph, images: int = 2) -> dict[str, NDArray[Any]]:
    """Random numbers, 1 and true: a token that tables have, and one that no mask hides."""
    random = np.random.default_rng(0)
    made = {}
    for name, shape in graph.inputs.items():
        held, size = FORMATS[graph.elements.get(name, "float32")], (graph.images or images, *shape)
        made[name] = (random.normal(size=size) if held.mantissa else np.ones(size)).astype(held.numbers)
    return made


def bound_somewhere(graph: Graph) -> Graph:
    """A graph at lengths that it has a result for. Raises ExportError where none of a few is one."""
    for length in (16, 17, 32, 64, 224, 1):
        with contextlib.suppress(GraphError):
            return graph.bind(dict.fromkeys(graph.lengths, length))
    raise ExportError(f"no lengths {', '.join(graph.lengths)} are known for which the network could be compared")
