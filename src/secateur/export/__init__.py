"""An nn.Module becomes a Graph: torch.export traces it, each ATen operation is spelt in the Graph's own.

Whatever does not depend on the input is computed here and becomes a weight; dropout and copies vanish. Weights keep
their names of the state dict, and their bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from secateur.export.conversions import CONVERSIONS
from secateur.export.exported import exported_program
from secateur.export.regions import Region, Survey, find_regions, is_impure, why_not_in_parts
from secateur.export.tracing import trace
from secateur.export.translation import Translation, to_weight
from secateur.graph import Graph

__all__ = ["Region", "Survey", "find_regions", "is_impure", "refill", "to_graph", "why_not_in_parts"]


def to_graph(network: nn.Module, example: Tensor | Sequence[Tensor]) -> Graph:
    """The Graph that computes what the network computes in eval mode, with its batch dimension free.

    example: one input (N, …), or a sequence of them for a network that takes several; N is not kept. The network is
    left in the mode that it was in. Weights are copies, named as in the state dict; what is stored under two names
    (tied weights) stands once, under the first. An input is named after forward's argument. Where forward asks whether
    there is more than one image, the graph does what it does for several.
    Raises ExportError for control flow that depends on values, an operation that Graph lacks (the text names the
    module), a batch dimension that is mixed with others, weights that are not float32, float16 or bfloat16.
    """
    network = _unwrapped(network)
    examples = (example,) if isinstance(example, Tensor) else tuple(example)
    program = exported_program(network, trace(network, examples))
    return Translation(program, CONVERSIONS).graph()


def _unwrapped(network: nn.Module) -> nn.Module:
    """The network inside torch.compile's or (Distributed)DataParallel's wrapper."""
    while isinstance(inner := getattr(network, "_orig_mod", None) or _parallel(network), nn.Module):
        network = inner
    return network


def _parallel(network: nn.Module) -> nn.Module | None:
    kinds = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    return network.module if isinstance(network, kinds) else None


def refill(structure: Graph, network: nn.Module) -> Graph | None:
    """to_graph of a network whose structure is known: another network's graph with this one's weights.

    None where a weight of the graph is none of the state dict, so that only to_graph can make it.
    """
    state = network.state_dict()
    if not structure.weights.keys() <= state.keys():
        return None
    return replace(structure, weights={name: to_weight(state[name], name) for name in structure.weights})
