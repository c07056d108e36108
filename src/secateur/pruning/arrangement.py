"""A network's channels in another order, in which blocks of 1×4 lose less."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from secateur.errors import ModelError
from secateur.importing.aten import structure_of, to_graph
from secateur.modules.guarding import copied, outputs
from secateur.modules.inputs import Example, Inputs, as_inputs
from secateur.network.graph import Graph
from secateur.network.operations import OPERATIONS
from secateur.network.simplification.ordering import Gain, Ties, best_order, reordered
from secateur.pruning.pruning import prune

_TOLERANCE = 1e-3
"""Of the largest output: far above rounding in float32, far below what a wrong order would do."""


def arrange(network: nn.Module, example: Example, ratio: float, *, scope: str = "layer") -> Gain:
    """Reorder a network's channels in place, before it is pruned in blocks of 1×4, so that these lose less.

    The network computes what it did, but for the order of sums: channels change places with all that is per channel
    between a layer and its readers. What a magnitude cut at `ratio` (in scope "layer" or "global") leaves of single
    weights is put into as few blocks as can be, as `order_channels` does it for graphs, so that weights which matter
    lie in blocks with each other. Pool & Yu 2021 do the like for 2:4.

    example: a batch of inputs, as inputs.as_inputs takes it. Inputs and outputs keep their order, and so does what
    meets a weight that is used twice. Returns what share of the blocks such a cut leaves, before and after.
    Raises ExportError for a network that cannot be traced, ModelError for one with parameters that evaluation does not
    use as they are, and for one that computes something else afterwards, which is put back.
    """
    inputs = as_inputs(example, network)
    structure, state = structure_of(network, inputs), network.state_dict(keep_vars=True)
    graph = structure.graph(network)
    _check_used(network, graph)
    cut = copied(network)
    prune(cut, ratio, scope=scope, example=example, allow_empty=True)
    ties = Ties(structure.graph(cut) if structure.fits(cut) else to_graph(cut, inputs))
    _fix_what_is_no_entry(ties, state)
    order, gain = best_order(ties)
    moved = reordered(Ties(graph), order)
    changed = {name: weight.values() for name, weight in moved.weights.items() if weight is not graph.weights[name]}
    _write(network, {name: (state[name], torch.from_numpy(values)) for name, values in changed.items()}, inputs)
    return gain


def _check_used(network: nn.Module, graph: Graph) -> None:
    unused = [name for name, _ in network.named_parameters() if name not in graph.weights]
    if unused:
        raise ModelError(
            f"parameter {unused[0]!r} is not used as it is in evaluation mode, so it is not known which channels it "
            "reads: arrange a network without it"
        )


def _fix_what_is_no_entry(ties: Ties, state: Mapping[str, Tensor]) -> None:
    """Nodes with weights that are not theirs alone, or no tensors of the state dict, keep the order of their values."""
    for node in ties.graph.nodes:
        if any(name not in state or name in ties.shared for name in node.weights.values()):
            for value in (node.name, *node.inputs) if OPERATIONS[node.op].matrix else (node.name,):
                ties.fix(value)


@torch.no_grad()
def _write(network: nn.Module, changes: Mapping[str, tuple[Tensor, Tensor]], inputs: Inputs) -> None:
    """changes: by name, a tensor of the network and what it becomes. Raises ModelError as arrange does."""
    expected = outputs(network, inputs)
    before = [(held, held.clone()) for held, _ in changes.values()]
    for held, values in changes.values():
        held.copy_(values)
    if not all(_are_close(*pair) for pair in zip(outputs(network, inputs), expected, strict=True)):
        for held, values in before:
            held.copy_(values)
        raise ModelError(
            f"{type(network).__name__} computes something else with its channels in another order, so it is as it was: "
            "prune it without arranging it"
        )


def _are_close(found: Tensor, expected: Tensor) -> bool:
    apart = (found.double() - expected.double()).abs()
    return bool((apart <= _TOLERANCE * expected.double().abs().max()).all())
