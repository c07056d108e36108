"""Graph → Graph: less to store and to run, the same results within rounding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from secateur.graph import Node


def without_dead_nodes(nodes: Sequence[Node], outputs: Iterable[str]) -> list[Node]:
    """Those nodes that an output depends on, in their order."""
    wanted = set(outputs)
    kept = []
    for node in reversed(nodes):
        if node.name in wanted:
            kept.append(node)
            wanted.update(node.inputs)
    return kept[::-1]
