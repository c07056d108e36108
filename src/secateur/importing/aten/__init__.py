"""An nn.Module becomes a Graph: torch.export traces it, each ATen operation is spelt in the Graph's own.

Whatever does not depend on the input is computed here and becomes a weight; dropout and copies vanish. Weights keep
their names of the state dict, and their bits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn
from torch.optim.swa_utils import AveragedModel

from secateur.importing.aten.conversions import CONVERSIONS
from secateur.importing.aten.decomposing import spelled_out
from secateur.importing.aten.exported import Trace, traced
from secateur.importing.aten.kinds import Kind, kind_of
from secateur.importing.aten.lengths import Dynamic, Sizes, at_lengths, declared, placed, sizes_of
from secateur.importing.aten.nesting import outputs_of
from secateur.importing.aten.regions import Region, Survey, find_regions, is_impure, why_not_in_parts
from secateur.importing.aten.tracing import check_traceable, like_weights, trace
from secateur.importing.aten.translation import Translation
from secateur.modules.inputs import Example, as_inputs
from secateur.network.graph import Graph

__all__ = [
    "Dynamic",
    "Region",
    "Sizes",
    "Structure",
    "Survey",
    "at_lengths",
    "check_traceable",
    "find_regions",
    "is_impure",
    "like_weights",
    "outputs_of",
    "placed",
    "sizes_of",
    "structure_of",
    "to_graph",
    "why_not_in_parts",
]


def to_graph(network: nn.Module, example: Example, *, sizes: Sizes | None = None, copied: bool = True) -> Graph:
    """The Graph that computes what the network computes in eval mode, with its batch dimension free.

    example: one batch of inputs (N, …), as inputs.as_inputs takes it; N is not kept, unless torch.export fails where it
    is free: then the Graph's signature says how many images it takes. The network is left as it was.
    sizes: of inputs by name, where more than the batch is free: {"x": ("batch", 3, "height", "width")}; a length is two
    at least in the example, and an expression of one (`2·length`) says what forward needs of it.
    Weights are copies; without `copied`, those that the network holds as they are share its memory. A weight has a name
    of the state dict where it is that entry, bit for bit; what is stored under two names (tied weights) stands once,
    under the first; what forward computes from entries has another name. An input is named after forward's argument.
    Where forward asks whether there is more than one image, the graph does what it does for several.
    Raises ExportError for control flow that depends on values, an operation that Graph lacks (the text names the
    module), a batch dimension that is mixed with others, weights that are not float32, float16 or bfloat16.
    """
    network = _unwrapped(network)
    inputs = as_inputs(example, network)
    wanted = declared(sizes, inputs, network) if sizes else ()
    inputs = placed(inputs, network, sizes)
    program, called = trace(network, inputs, wanted, fixed=True)
    return _graph(traced(spelled_out(program), called, wanted), network, copied)


@dataclass(frozen=True, slots=True, eq=False)
class Structure:
    """A network as it was traced once, without its weights: what makes the Graph of every network of its kind."""

    trace: Trace
    kind: Kind | None

    def fits(self, network: nn.Module) -> bool:
        """Whether the network is of this kind: the same but for the values in its state dict."""
        return self.kind is not None and kind_of(_unwrapped(network)) == self.kind

    def graph(self, network: nn.Module) -> Graph:
        """to_graph of a network that fits: whatever is computed from its weights is computed anew."""
        return _graph(self.trace, _unwrapped(network))


def structure_of(network: nn.Module, example: Example) -> Structure:
    """Raises ExportError as to_graph does, for what cannot be traced."""
    network = _unwrapped(network)
    kind, (program, called) = kind_of(network), trace(network, as_inputs(example, network))
    found = traced(spelled_out(program), called)
    constants = {name: each.detach().clone() for name, each in found.constants.items()}
    return Structure(replace(found, constants=constants), kind)


def _graph(found: Trace, network: nn.Module, copied: bool = True) -> Graph:
    return Translation(found.program(network), CONVERSIONS, copied).graph()


def _unwrapped(network: nn.Module) -> nn.Module:
    """The network inside torch.compile's, (Distributed)DataParallel's or AveragedModel's wrapper."""
    while isinstance(inner := getattr(network, "_orig_mod", None) or _wrapped(network), nn.Module):
        network = inner
    return network


def _wrapped(network: nn.Module) -> nn.Module | None:
    kinds = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)
    return network.module if isinstance(network, kinds) else None
