"""Which rows and columns of which layers make one channel: through residual additions, concatenations and groups.

The dependencies come from Torch-Pruning's graph (Fang et al. 2023, "DepGraph"); this is the only file that names it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

from secateur.errors import MissingExtraError, ShrinkError
from secateur.guarding import first_line, run, watched
from secateur.inputs import Inputs
from secateur.layers import WEIGHTED, weight_of

PER_CHANNEL = (_BatchNorm, _InstanceNorm, nn.PReLU)


@dataclass(frozen=True, slots=True)
class Slot:
    """Where the channels of a set lie in the module of this name.

    side "out": filters or units of a convolution or linear layer; "in": what it reads; "both": of a depthwise
    convolution or of a module with one value a channel. places: channel → the module's own indices (several after
    flattening).
    """

    name: str
    side: str
    places: Mapping[int, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class ChannelSet:
    """Channels that exist together: removing channel c means removing slot.places[c] of every slot.

    removable is False where that would change what the network takes or gives, or where an operation in between
    mixes channels or counts on their number.
    """

    channels: tuple[int, ...]
    slots: tuple[Slot, ...]
    removable: bool

    @property
    def writers(self) -> list[Slot]:
        """The layers whose filters or units make the channels, depthwise ones left out."""
        return [slot for slot in self.slots if slot.side == "out"]

    @property
    def readers(self) -> list[Slot]:
        """The layers that take the channels as input, depthwise ones left out."""
        return [slot for slot in self.slots if slot.side == "in"]

    @property
    def carriers(self) -> list[Slot]:
        """The modules in between that have something of their own for each channel."""
        return [slot for slot in self.slots if slot.side == "both"]


def channel_sets(network: nn.Module, example: Tensor) -> list[ChannelSet]:
    """Every set of coupled channels of a network that runs on `example` (N, …), found by running it once.

    Raises MissingExtraError without Torch-Pruning, ShrinkError where the network cannot be traced.
    """
    if len(example) == 1:  # of which Torch-Pruning takes a linear layer's output for a vector without channels
        example = torch.cat([example, example])
    graph = _graph(network, example)
    names = {module: name for name, module in network.named_modules()}
    fixed = _fixed_modules(network, example)
    covered: dict[str, set[int]] = {}
    sets = []
    for module in [module for module in graph.module2node if module in names and isinstance(module, WEIGHTED)]:
        count = _out_channels(module)
        left = [row for row in range(count) if row not in covered.get(names[module], set())]
        if not left:
            continue
        group = graph.get_pruning_group(module, graph.get_pruner_of_module(module).prune_out_channels, left)
        found = _channel_set(graph, group, names, fixed)
        for slot in found.slots:
            if slot.side != "in":
                covered.setdefault(slot.name, set()).update(i for places in slot.places.values() for i in places)
        sets.append(found)
    return sets


def _graph(network: nn.Module, example: Tensor) -> Any:
    try:
        import torch_pruning
    except ImportError as error:
        raise MissingExtraError(f"channels need Torch-Pruning ({error}): pip install 'secateur[structured]'") from error
    with watched(network), torch.enable_grad():
        network.requires_grad_(True)  # tracing follows gradients
        try:
            graph = torch_pruning.DependencyGraph().build_dependency(network, example.clone(), verbose=False)
        except Exception as error:
            raise ShrinkError(
                f"{type(network).__name__}: its channels cannot be traced on an input of shape {tuple(example.shape)}: "
                f"{first_line(error)}"
            ) from error
    _map_concatenations(graph)
    return graph


@dataclass(frozen=True, slots=True)
class _Shift:
    """Indices into one part of a concatenation, which holds [start, stop) of the whole, from or to the whole's."""

    start: int
    stop: int
    to_whole: bool

    def __call__(self, indices: list[Any]) -> list[Any]:
        if self.to_whole:
            return [each._replace(idx=each.idx + self.start) for each in indices]
        return [each._replace(idx=each.idx - self.start) for each in indices if self.start <= each.idx < self.stop]


def _map_concatenations(graph: Any) -> None:
    """Say where the parts of each concatenation begin, by the shapes that autograd recorded.

    Torch-Pruning infers them from the layers around, which misleads it where a flattening follows or the
    network's input is a part.
    """
    for node in graph.module2node.values():
        if node.type != graph.ops.OPTYPE.CONCAT:
            continue
        node.enable_index_mapping = False
        parts = [(function, place) for function, place in node.grad_fn.next_functions if function is not None]
        shapes = [function._input_metadata[place].shape for function, place in parts]
        node.module.mapped = len(parts) == len(node.grad_fn.next_functions) == len(node.inputs)
        if not node.module.mapped or _dimension(node.grad_fn._saved_dim, len(shapes[0])) != 1:
            continue
        left = list(node.dependencies)
        start = 0
        for source, shape in zip(node.inputs, shapes, strict=True):
            stop = start + shape[1]
            back = next(edge for edge in left if edge.target is source)
            left.remove(back)
            back.index_mapping[1] = _Shift(start, stop, to_whole=False)
            forth = next(
                e for e in source.dependencies if e.target is node and not isinstance(e.index_mapping[1], _Shift)
            )
            forth.index_mapping[1] = _Shift(start, stop, to_whole=True)
            start = stop


def _dimension(saved: int, dimensions: int) -> int:
    """A dimension as autograd keeps it, negative ones as unsigned 64-bit numbers."""
    return (saved - 2**64 if saved >= 2**63 else saved) % dimensions


def _fixed_modules(network: nn.Module, example: Tensor) -> set[nn.Module]:
    """Modules that must keep their channels: used twice, not at all, or with a weight that others share or compute."""
    runs: dict[nn.Module, int] = {}

    def count(module: nn.Module, *_: object) -> None:
        runs[module] = runs.get(module, 0) + 1

    with watched(network):
        for module in network.modules():
            module.register_forward_hook(count)
        run(network, Inputs((example,)))
    owners: dict[int, list[nn.Module]] = {}
    for module in network.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                owners.setdefault(id(parameter), []).append(module)
    shared = {module for modules in owners.values() if len(modules) > 1 for module in modules}
    computed = {module for module in network.modules() if isinstance(module, WEIGHTED) and not _plain(module)}
    return shared | computed | {module for module in network.modules() if runs.get(module, 0) != 1}


def _plain(module: nn.Module) -> bool:
    return module._parameters.get("weight") is not None


def _channel_set(graph: Any, group: Any, names: Mapping[nn.Module, str], fixed: set[nn.Module]) -> ChannelSet:
    removable = True
    slots = []
    for item in group:
        node, module = item.dep.target, item.dep.target.module
        if node.type in _passing(graph):
            removable &= bool(node.outputs) and _is_followed(graph, node)
            continue
        side = _side(graph, item.dep.handler, module)
        removable &= side != "" and module not in fixed and (side == "in" or bool(node.outputs))
        if side:
            slots.append(Slot(names[module], side, _places(item.root_idxs, item.idxs)))
    channels = sorted({channel for slot in slots for channel in slot.places})
    return ChannelSet(tuple(channels), tuple(slots), removable)


def _passing(graph: Any) -> tuple[Any, ...]:
    """Operations that hand channels on as they are, whatever their number."""
    kinds = graph.ops.OPTYPE
    return (kinds.ELEMENTWISE, kinds.CONCAT, kinds.RESHAPE)


def _is_followed(graph: Any, node: Any) -> bool:
    """Whether indices are traced through a concatenation or a change of shape: flattening, and what keeps channels."""
    if node.type == graph.ops.OPTYPE.CONCAT:
        return bool(node.module.mapped)
    if node.type != graph.ops.OPTYPE.RESHAPE:
        return True
    ((function, place), *_) = node.grad_fn.next_functions
    given, made = function._input_metadata[place].shape, node.grad_fn._input_metadata[0].shape
    flattened = len(made) == 2 and len(given) == 4 and made[0] == given[0]
    return flattened or (len(given) > 1 and len(made) > 1 and given[:2] == made[:2])


def _side(graph: Any, handler: Any, module: nn.Module) -> str:
    """Which side of a module a dependency touches, "" for modules whose channels cannot go."""
    if isinstance(module, PER_CHANNEL) or is_depthwise(module):
        return "both"
    if not isinstance(module, WEIGHTED):
        return ""
    odd = (
        isinstance(module, _ConvNd)
        and module.groups > 1
        and (module.transposed or module.groups == module.out_channels)
    )
    if odd:
        return ""
    return "out" if graph.is_out_channel_pruning_fn(handler) else "in"


def is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, _ConvNd) and module.groups == module.out_channels == module.in_channels > 1


def _places(channels: list[int], indices: list[int]) -> dict[int, tuple[int, ...]]:
    places: dict[int, tuple[int, ...]] = {}
    for channel, index in zip(channels, indices, strict=True):
        places[channel] = (*places.get(channel, ()), index)
    return places


def _out_channels(module: nn.Module) -> int:
    if isinstance(module, nn.Linear):
        return module.out_features
    assert isinstance(module, _ConvNd)
    return module.out_channels


def filters(module: nn.Module, values: Tensor | None = None) -> Tensor:
    """The weight of a layer, or values shaped like it, as (outputs, …): a view, so that what is written to it is
    written to the layer."""
    values = weight_of(module) if values is None else values
    return values.transpose(0, 1) if isinstance(module, _ConvNd) and module.transposed else values


def columns(module: nn.Module, values: Tensor | None = None) -> Tensor:
    """The weight of a layer, or values shaped like it, as (inputs, outputs that read one, taps): a copy where no view
    has that shape."""
    values = weight_of(module) if values is None else values
    if isinstance(module, nn.Linear):
        return values.t()[:, :, None]
    assert isinstance(module, _ConvNd)
    if module.transposed:
        return values.flatten(2)
    groups = module.groups
    parted = values.reshape(groups, values.shape[0] // groups, values.shape[1], -1)
    return parted.transpose(1, 2).flatten(0, 1)


def set_columns(module: nn.Module, values: Tensor, into: Tensor | None = None) -> None:
    """The inverse of columns: (inputs, outputs that read one, taps) into the layer's weight, or a tensor like it."""
    into = weight_of(module) if into is None else into
    if isinstance(module, nn.Linear):
        into.copy_(values[:, :, 0].t())
    elif isinstance(module, _ConvNd) and not module.transposed:
        groups = module.groups
        parted = values.view(groups, -1, *values.shape[1:]).transpose(1, 2)
        into.copy_(parted.reshape(into.shape))
    else:
        into.copy_(values.reshape(into.shape))


def rows_of(module: nn.Module) -> Iterator[Tensor]:
    """What a module has for each of its outputs, as views with the outputs first."""
    if isinstance(module, nn.Linear | _ConvNd):
        yield filters(module)
    elif module._parameters.get("weight") is not None and len(module._parameters["weight"]) > 1:  # type: ignore[arg-type]
        yield module._parameters["weight"].detach()  # type: ignore[union-attr]
    if module._parameters.get("bias") is not None:
        yield module._parameters["bias"].detach()  # type: ignore[union-attr]


def channel_classes(network: nn.Module, each: ChannelSet) -> list[list[int]]:
    """The channels of a set by which group of each grouped convolution they belong to.

    Channels of one class can stand for each other; as many have to go from every class.
    """
    widths: list[tuple[Slot, int]] = []
    for slot in (*each.writers, *each.readers):
        module = network.get_submodule(slot.name)
        if isinstance(module, _ConvNd) and module.groups > 1:
            whole = module.out_channels if slot.side == "out" else module.in_channels
            widths.append((slot, whole // module.groups))
    classes: dict[tuple[int, ...], list[int]] = {}
    for channel in each.channels:
        groups = tuple(i // width for slot, width in widths for i in slot.places.get(channel, (-1,)))
        classes.setdefault(groups, []).append(channel)
    return list(classes.values())
