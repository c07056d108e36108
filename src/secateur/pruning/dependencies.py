"""Which rows and columns of which layers make one channel: through residual additions, concatenations and groups."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils import _pytree

from secateur.errors import SecateurError, ShrinkError
from secateur.modules.guarding import check_values, first_line, watched
from secateur.modules.inputs import Example, Inputs, as_inputs
from secateur.modules.layers import weight_of
from secateur.modules.matrices import LAYER, WEIGHTED, Matrix
from secateur.pruning.channel_tracing import Place, Trace


@dataclass(frozen=True, slots=True)
class Slot:
    """Where the channels of a set lie in the module of this name.

    side "out": filters or units of a convolution or linear layer; "in": what it reads; "both": of a depthwise
    convolution or of a module with one value a channel; "bare": along an axis of the parameter or buffer of this name.
    places: channel → the module's own indices (several after flattening).
    """

    name: str
    side: str
    places: Mapping[int, tuple[int, ...]]
    axis: int = 0


@dataclass(frozen=True, slots=True)
class ChannelSet:
    """Channels that exist together: removing channel c means removing slot.places[c] of every slot.

    They cannot go, and `stays` says why, where that would change what the network takes or gives, or where an operation
    in between mixes channels or counts on their number.
    """

    channels: tuple[int, ...]
    slots: tuple[Slot, ...]
    stays: str = ""
    unseen: bool = False
    """Whether that is only because a module that did not run could read them."""

    @property
    def removable(self) -> bool:
        return not self.stays

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


def channel_sets(network: nn.Module, example: Example) -> list[ChannelSet]:
    """Every set of coupled channels of a network, those of the layers that run last first.

    example: a batch, as as_inputs takes it. The network is run on it, in evaluation mode and, where it can, in training
    mode, and on noise. What a layer that never ran may read stays. Raises ShrinkError where the network cannot be run,
    ModelError for parameters without values.
    """
    inputs = as_inputs(example, network)
    check_values(network)
    _check_form(network)
    trace = Trace(network)
    with _slow_attention():
        _follow_runs(trace, network, inputs)
    return _sets(network, trace, inputs)


def _check_form(network: nn.Module) -> None:
    for name, module in network.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise ShrinkError(
                f"{name or type(network).__name__} is a ScriptModule, whose modules cannot be changed: expected the "
                "nn.Module that it was made of"
            )
    for name, held in (*network.named_parameters(), *network.named_buffers()):
        if type(held) not in (nn.Parameter, nn.Buffer, Tensor):
            raise ShrinkError(
                f"{name!r} is a {type(held).__name__}: channels can leave plain tensors only; gather what is sharded, "
                "or shrink before it is quantized or distributed"
            )


@contextlib.contextmanager
def _slow_attention() -> Iterator[None]:
    """Attention as the operations that it is made of, not as one."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _follow_runs(trace: Trace, network: nn.Module, inputs: Inputs) -> None:
    try:
        with watched(network):
            trace.follow(inputs)
    except SecateurError as error:
        raise ShrinkError(
            f"{type(network).__name__}: its channels cannot be traced on an input of shape {inputs.describe()}: "
            f"{first_line(error.__cause__ or error)}"
        ) from error
    noise, opposite, _ = probes(inputs)
    for other, training in ((inputs, True), (noise, False), (opposite, False)):
        with contextlib.suppress(SecateurError), watched(network):
            network.train(training)
            trace.follow(other)


def probes(inputs: Inputs) -> list[Inputs]:
    """Other inputs of the same shapes, which take other branches and tell a constant from what only looks like one:
    noise of the inputs' scale, its opposite and nothing; whole numbers are drawn from those that are there."""
    generator = torch.Generator().manual_seed(0)

    def noise(each: Tensor) -> Tensor:
        if not each.is_floating_point():
            return each.flatten()[torch.randperm(each.numel(), generator=generator).to(each.device)].view(each.shape)
        drawn = torch.randn(each.shape, generator=generator).to(each)
        return drawn * each.std() * 2 if each.numel() > 1 and bool(each.std() > 0) else drawn

    drawn = _changed(inputs, noise)
    return [
        drawn,
        _changed(drawn, lambda each: -each if each.is_floating_point() else each),
        _changed(inputs, _nothing),
    ]


def _nothing(each: Tensor) -> Tensor:
    return torch.zeros_like(each) if each.is_floating_point() else each


def _changed(inputs: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    arguments, named = _pytree.tree_map_only(Tensor, change, (inputs.arguments, inputs.named))
    return Inputs(arguments, named)


def _sets(network: nn.Module, trace: Trace, inputs: Inputs) -> list[ChannelSet]:
    """Channels of one build, those that lie in the same places, are a set."""
    components = trace.coupling.components()
    reasons = trace.coupling.reasons(components)
    order = {tensor: -number for number, tensor in enumerate(trace.ran)}
    places = sorted(trace.places, key=lambda place: order.get(place.tensor, 1))
    held: dict[int, dict[int, list[int]]] = {}
    for number, place in enumerate(places):
        for index, component in enumerate(components[place.labels].tolist()):
            held.setdefault(component, {}).setdefault(number, []).append(index)
    builds: dict[tuple[tuple[int, ...], bool], list[int]] = {}
    for component, where in held.items():
        builds.setdefault((tuple(where), component in reasons), []).append(component)
    unread = _Unseen(network, trace, inputs)
    return [
        _channel_set([(places[number], [held[each][number] for each in of]) for number in numbers], of, reasons, unread)
        for (numbers, _), of in builds.items()
        if any(places[number].side == "out" for number in numbers)
    ]


def _channel_set(
    where: Sequence[tuple[Place, list[list[int]]]],
    components: Sequence[int],
    reasons: Mapping[int, str],
    unseen: _Unseen,
) -> ChannelSet:
    """where: for each place the indices of each component there."""
    rows = next(indices for place, indices in where if place.side == "out")
    channels = [each[0] for each in rows]
    slots = tuple(
        Slot(place.name, place.side, dict(zip(channels, map(tuple, indices), strict=True)), place.axis)
        for place, indices in where
    )
    stays = reasons.get(components[0], "")
    if not any(slot.side == "in" for slot in slots):
        stays = stays or "no layer reads it"
    could = "" if stays else unseen.reading([place for place, _ in where])
    return ChannelSet(tuple(sorted(channels)), slots, stays or could, unseen=bool(could))


class _Unseen:
    """Modules that no run came through, and so could read any channels of their width."""

    def __init__(self, network: nn.Module, trace: Trace, inputs: Inputs) -> None:
        unseen = {
            name: module
            for name, module in network.named_modules()
            if (own := [each for each in module._parameters.values() if each is not None])
            and not any(id(each) in trace.ran for each in own)
        }
        self._widths = {name: _read_widths(module) for name, module in unseen.items()}
        self._linear = {name for name, module in unseen.items() if isinstance(module, nn.Linear)}
        widths = {len(place.labels) for place in trace.places if place.side != "in"}
        self._known = widths | {size for each in inputs.tensors for size in each.shape[1:]}
        self._sums = self._known | {one + other for one in self._known for other in self._known}

    def reading(self, places: Sequence[Place]) -> str:
        """Why channels at these places stay, "" where no such module could read them."""
        own = {len(place.labels) for place in places}
        for name, widths in self._widths.items():
            if any(self._reads(name, width, own) or not self._reads(name, width, self._known) for width in widths):
                return f"{name!r} does not run on the example and could read it"
        return ""

    def _reads(self, name: str, width: int, some: set[int]) -> bool:
        """Whether a module that reads so many channels could read one of some widths: alone, flattened, or with up to
        two others."""
        flat = name in self._linear
        return any(width == each or (flat and width % each == 0) or width - each in self._sums for each in some)


def _read_widths(module: nn.Module) -> set[int]:
    """How many channels a module reads; of one that says nothing of it, how long its parameters are."""
    if isinstance(module, WEIGHTED):
        return {module.in_features if isinstance(module, nn.Linear) else module.in_channels}
    return {size for each in module._parameters.values() if each is not None for size in each.shape if size > 1}


def filters(module: nn.Module | Matrix, values: Tensor | None = None) -> Tensor:
    """The weight of a layer, or values shaped like it, as (outputs, …): a view, so that what is written to it is
    written to the layer."""
    values = weight_of(module) if values is None else values
    if isinstance(module, Matrix):
        return module.axes.turned(values)
    return values.transpose(0, 1) if isinstance(module, _ConvNd) and module.transposed else values


def columns(module: nn.Module | Matrix, values: Tensor | None = None) -> Tensor:
    """The weight of a layer, or values shaped like it, as (inputs, outputs that read one, taps): a copy where no view
    has that shape."""
    values = weight_of(module) if values is None else values
    if isinstance(module, Matrix):
        return module.axes.turned(values).t()[:, :, None]
    if isinstance(module, nn.Linear):
        return values.t()[:, :, None]
    assert isinstance(module, _ConvNd)
    if module.transposed:
        return values.flatten(2)
    groups = module.groups
    parted = values.reshape(groups, values.shape[0] // groups, values.shape[1], -1)
    return parted.transpose(1, 2).flatten(0, 1)


def set_columns(module: nn.Module | Matrix, values: Tensor, into: Tensor | None = None) -> None:
    """The inverse of columns: (inputs, outputs that read one, taps) into the layer's weight, or a tensor like it."""
    into = weight_of(module) if into is None else into
    if isinstance(module, Matrix):
        into.copy_(module.axes.turned_back(values[:, :, 0].t(), into.shape))
    elif isinstance(module, nn.Linear):
        into.copy_(values[:, :, 0].t())
    elif isinstance(module, _ConvNd) and not module.transposed:
        groups = module.groups
        parted = values.view(groups, -1, *values.shape[1:]).transpose(1, 2)
        into.copy_(parted.reshape(into.shape))
    else:
        into.copy_(values.reshape(into.shape))


def rows_of(module: nn.Module | Matrix) -> Iterator[Tensor]:
    """What a module has for each of its outputs, as views with the outputs first."""
    if isinstance(module, Matrix):
        yield filters(module)
        if module.kind.role == LAYER and module.bias is not None:
            yield module.bias
        return
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
