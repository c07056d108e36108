"""Zeros in weights: the pattern that they lie in, and graphs with more of them, of which only the cost is asked.

A weight here is (outputs, inputs, …taps), as a Graph holds those of layers; words are those of `words`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.network.graph import Graph, Node, Weight
from secateur.network.operations import OPERATIONS
from secateur.network.words import WORD

Mask = NDArray[np.bool_]

NONE, SINGLE, WORDS, CHANNELS = "none", "unstructured", "1×4", "channels"
_FEW = 0.01
"""Zeros up to this share are no pattern's: trained weights have some."""
_MIXED = 0.05
"""Of the words that are not zero, up to this share may hold zeros where whole words were cut."""
_MOST = 0.9


def pattern_of(nonzero: Mask) -> str:
    """How the zeros of a weight lie: NONE, CHANNELS, WORDS, "2:4" (or with 1 or 3), else SINGLE.

    CHANNELS: nearly all zeros are those of outputs and inputs that are zero as a whole; WORDS: of four consecutive
    inputs; N:4: of four consecutive inputs no more than N are left, and mostly as many.
    """
    if nonzero.size == 0 or 1 - nonzero.mean() <= _FEW:
        return NONE
    planes = nonzero.reshape(len(nonzero), nonzero.shape[1] if nonzero.ndim > 1 else 1, -1)
    left = planes[planes.any(axis=(1, 2))][:, planes.any(axis=(0, 2))]
    if left.size < planes.size and np.count_nonzero(left) >= (1 - _FEW) * left.size:
        return CHANNELS
    counts, sizes = _counted(planes)
    held = counts > 0
    whole = planes.shape[1] >= WORD and held.any() and not held.all()
    if whole and np.mean(counts[held] < sizes[held]) <= _MIXED:
        return WORDS
    most = int(counts.max(initial=0))
    if 0 < most < WORD and np.mean(counts == most) >= _MOST:
        return f"{most}:{WORD}"
    return SINGLE


def _counted(planes: Mask) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Of every word its weights that are not zero, and how many it has: the last of an output may be shorter."""
    edges = np.arange(0, planes.shape[1], WORD)
    counts = np.add.reduceat(planes, edges, axis=1, dtype=np.intp)
    sizes = np.minimum(WORD, planes.shape[1] - edges)
    return counts, np.broadcast_to(sizes[None, :, None], counts.shape)


def matrix_of(node: Node) -> str:
    """The name of the weight that a node multiplies and sums over, "" where it has none."""
    return node.weights.get(OPERATIONS[node.op].matrix, "")


def cut(graph: Graph, ratio: float, whole_words: bool = False) -> Graph:
    """The graph with that share of each layer's weights zero, those of smallest magnitude, or of whole words by theirs.

    Every layer is cut, whatever it makes; zeros that are there count. 1 leaves none.
    """
    names = {name for node in graph.nodes if (name := matrix_of(node))}
    return replace(graph, weights=dict(graph.weights) | {name: _cut(graph.weights[name], ratio, whole_words)
                                                         for name in names})  # fmt: skip


def _cut(weight: Weight, ratio: float, whole_words: bool) -> Weight:
    if ratio == 1:
        return Weight(weight.dtype, np.zeros_like(weight.bits))
    size = np.abs(weight.numbers().astype(np.float32))
    if whole_words and size.ndim > 1:
        planes = size.reshape(*size.shape[:2], -1)
        sums = np.add.reduceat(planes, np.arange(0, planes.shape[1], WORD), axis=1)
        spread = np.repeat(_smallest(sums, ratio), WORD, axis=1)[:, : planes.shape[1]]
        gone = spread.reshape(size.shape)
    else:
        gone = _smallest(size, ratio)
    return Weight(weight.dtype, np.where(gone, weight.bits.dtype.type(0), weight.bits))


def _smallest(size: NDArray[Any], ratio: float) -> Mask:
    """That share of all, the smallest; of those that tie the first."""
    gone = np.zeros(size.size, np.bool_)
    count = round(ratio * size.size)
    if count:
        gone[np.argpartition(size, count - 1, axis=None)[:count]] = True
    return gone.reshape(size.shape)
