"""Graph → Graph: less to store and less to run, the same results within the rounding of float32.

Nothing here changes a graph's inputs, its outputs or their names. Whatever cannot be shown to be safe stays.
"""

from __future__ import annotations

from secateur.network.graph import Graph
from secateur.network.simplification.folding import fold_scales
from secateur.network.simplification.fusing import fuse
from secateur.network.simplification.lines import lay_down
from secateur.network.simplification.ordering import Gain, order_channels
from secateur.network.simplification.settling import settle
from secateur.network.simplification.tidying import share_equal_weights, tidy
from secateur.network.simplification.units import remove_units

__all__ = [
    "Gain",
    "fold_scales",
    "fuse",
    "order_channels",
    "remove_units",
    "settle",
    "share_equal_weights",
    "simplify",
    "tidy",
]


def simplify(graph: Graph, *, widen: bool = False) -> Graph:
    """All simplifications, each of them a function of this package.

    tidy: operations that change nothing go, x·sigmoid(x) becomes silu, -0.0 in weights becomes 0. settle: what no input
    changes becomes a constant, and masks and states that say nothing go. fuse: layer norm, GELU and attention that are
    written out become the operations that they are. fold_scales: batch norm, and products and sums with constants, go
    into the convolution or linear layer before them. remove_units: output channels that are constant, or that nothing
    reads, leave with every weight that fed them or was fed by them. lay_down: convolutions of lines go along rows.
    share_equal_weights: equal weights are stored once.

    Folding needs more digits than float16 and bfloat16 have. With widen, such weights become float32 where
    something is folded into them; without, they keep their bits and what follows them stays a node of its own.
    """
    graph = settle(tidy(graph))
    fused = fuse(graph)
    graph = fold_scales(graph if fused is graph else settle(fused), widen=widen)
    return share_equal_weights(tidy(lay_down(remove_units(graph))))
