"""Dead channels and units leave for good: a smaller network of ordinary modules, with the same outputs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from secateur.errors import ShrinkError
from secateur.modules.guarding import copied, outputs, untouched
from secateur.modules.inputs import Example, Inputs, as_inputs
from secateur.modules.layers import input_of
from secateur.modules.matrices import Matrix, module_or_matrix
from secateur.pruning.dependencies import ChannelSet, Slot, columns, filters, probes, rows_of, set_columns
from secateur.pruning.removal import balanced, removable_sets, runnable, same_behaviour, sample, take_out, trained


def shrink(network: nn.Module, example: Example) -> nn.Module:
    """A copy of a network without its dead channels: fewer filters, units and columns, the same outputs.

        >>> network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 2, 3))
        >>> images = torch.zeros(1, 3, 8, 8)
        >>> log = secateur.prune(network, 0.5, pattern="channel-l2", example=images)
        >>> secateur.shrink(network, images)[0]
        Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1))

    example: a batch of inputs (N, …), a tuple of several, or a mapping of forward's keywords. A channel is dead where
    nothing reads it (its columns in every layer that could are zero), or where it is constant (every filter that makes
    it is zero). A constant goes into the biases of its readers; where zero padding forbids that, all constants of a set
    become one channel. Holds for evaluation mode, in which the outputs on `example` and on noise are compared with the
    network's own before the copy is returned: equal within rounding. The copy also runs and trains in training mode
    where the network does, with layers that run in no other. What the network takes and gives keeps its shape, every
    layer keeps one channel at least, and channels that an operation in between counts or mixes stay, as do those that a
    layer which did not run could read.

    The network itself is left as it was. Raises UsageError for an example that is no batch, ModelError for a network
    without values or that cannot be copied, ShrinkError where it cannot be run or its weights are not finite.
    """
    with untouched(network):  # a hook of a copy may still write into the network
        return _shrunk(network, as_inputs(example, network))


def _shrunk(network: nn.Module, inputs: Inputs) -> nn.Module:
    sets = [each for each in removable_sets(network, inputs) if each.removable]
    some = sample(network, inputs, 4)
    runs = runnable(network, [some, *probes(some)])
    small = _tried(network, sets, runs)
    if small is None:
        sets = [each for each in sets if _tried(network, [each], runs)]
        small = _tried(network, sets, runs)
    if small is None:
        raise ShrinkError(
            f"{type(network).__name__}: each of its {len(sets)} sets of channels can be shrunk, but not all together"
        )
    return small


def _tried(network: nn.Module, sets: Sequence[ChannelSet], runs: Sequence[Inputs]) -> nn.Module | None:
    """The network without the dead channels of some sets, or None where it is not the same without them."""
    with contextlib.suppress(ShrinkError):
        small = _without_dead_channels(network, sets, runs)
        return small if same_behaviour(small, network, runs, by_value=False) else None
    return None


@torch.no_grad()
def _without_dead_channels(network: nn.Module, sets: Sequence[ChannelSet], runs: Sequence[Inputs]) -> nn.Module:
    small = copied(network)
    for parameter in small.parameters():
        parameter.data = parameter.data.contiguous()
    while sum(_silence(small, each) for each in sets) or _fold_constants(small, sets, runs):
        continue
    take_out(small, [(each, balanced(small, each, _unread(small, each))) for each in sets])
    return small


def _silence(network: nn.Module, each: ChannelSet) -> bool:
    """Zero what makes the channels that nobody reads, so that those which only they read are unread in turn."""
    changed = False
    unread = _unread(network, each)
    for slot in (*each.writers, *each.carriers):
        module = module_or_matrix(network, slot.name)
        indices = [i for channel in unread for i in slot.places.get(channel, ())]
        for tensor in rows_of(module):
            if indices and tensor[indices].any():
                tensor[indices] = 0
                changed = True
    return changed


def _unread(network: nn.Module, each: ChannelSet) -> list[int]:
    """The channels whose columns are zero in every layer that reads them."""
    read = {
        slot.name: columns(module_or_matrix(network, slot.name)).flatten(1).any(1).tolist() for slot in each.readers
    }
    return [channel for channel in each.channels if not _touches(each.readers, channel, read)]


def _touches(slots: Sequence[Slot], channel: int, used: Mapping[str, list[bool]]) -> bool:
    return any(used[slot.name][i] for slot in slots for i in slot.places.get(channel, ()))


def _fold_constants(network: nn.Module, sets: Sequence[ChannelSet], runs: Sequence[Inputs]) -> bool:
    """Make unread the channels that are constant for sure, as nothing but zero filters makes them."""
    dead = [(each, channels) for each in sets if (channels := _unmade(network, each))]
    levels = _constant_levels(network, {slot.name for each, _ in dead for slot in each.readers}, runs)
    return sum(_fold(network, each, channels, levels) for each, channels in dead) > 0


def _unmade(network: nn.Module, each: ChannelSet) -> list[int]:
    """The channels that are read, though every filter that makes them is zero."""
    if not each.writers:
        return []
    made = {
        slot.name: filters(module_or_matrix(network, slot.name)).flatten(1).any(1).tolist() for slot in each.writers
    }
    unread = set(_unread(network, each))
    return [c for c in each.channels if c not in unread and not _touches(each.writers, c, made)]


def _constant_levels(network: nn.Module, names: set[str], runs: Sequence[Inputs]) -> dict[str, Tensor]:
    """For each named layer (inputs,): the value of each of its inputs where it is constant over all runs, else NaN.

    Of a layer that runs in training mode only, the values there."""
    levels: dict[str, Tensor] = {}

    def look(name: str, module: nn.Module) -> object:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> None:
            given = input_of(inputs, named)
            channels = given.dim() - 1 - len(module.kernel_size) if isinstance(module, _ConvNd) else -1
            flat = given.detach().movedim(channels, 0).flatten(1)
            if name in levels:
                flat = torch.cat([flat, levels[name][:, None]], 1)
            low, high = flat.amin(1), flat.amax(1)
            slack = 16 * torch.finfo(flat.dtype).eps * torch.maximum(low.abs(), high.abs())
            levels[name] = torch.where(high - low <= slack, flat[:, -1], torch.nan)

        return module.register_forward_pre_hook(hook, with_kwargs=True)

    with _hooked(look(name, network.get_submodule(name)) for name in sorted(names)):
        for inputs in runs if names else ():
            outputs(network, inputs)
    left = names - levels.keys()
    with _hooked(look(name, network.get_submodule(name)) for name in sorted(left)):
        for inputs in runs if left else ():
            trained(network, inputs)
    unknown = {name: columns(module_or_matrix(network, name))[:, 0, 0] * torch.nan for name in names - levels.keys()}
    return levels | unknown


@contextlib.contextmanager
def _hooked(hooks: Iterator[object]) -> Iterator[None]:
    held = list(hooks)
    try:
        yield
    finally:
        for hook in held:
            hook.remove()  # type: ignore[attr-defined]


def _fold(network: nn.Module, each: ChannelSet, channels: Sequence[int], levels: Mapping[str, Tensor]) -> bool:
    """Move constants into biases, or into one channel where a layer pads its input with zeros."""
    known = [c for c in channels if not any(level.isnan().any() for level in _levels_of(each.readers, c, levels))]
    pads = [slot for slot in each.readers if not _folds(network.get_submodule(slot.name))]
    free = [c for c in known if not any(level.any() for level in _levels_of(pads, c, levels))]
    others = sorted(set(known) - set(free))
    keeper = _keeper(network, others, pads, levels)
    merged = [c for c in others if c != keeper] if keeper is not None else []
    for slot in each.readers if free or merged else ():
        module, own = module_or_matrix(network, slot.name), levels[slot.name]
        if slot not in pads:
            _into_bias(module, _indices(slot, [*free, *merged]), own)
        elif keeper is not None:
            _into_column(module, _indices(slot, merged), own, *slot.places[keeper])
        weights = columns(module).clone()
        weights[_indices(slot, [*free, *merged])] = 0
        set_columns(module, weights)
    return bool(free or merged)


def _indices(slot: Slot, channels: Sequence[int]) -> list[int]:
    return [i for channel in channels for i in slot.places.get(channel, ())]


def _levels_of(slots: Sequence[Slot], channel: int, levels: Mapping[str, Tensor]) -> Iterator[Tensor]:
    return (levels[slot.name][_indices(slot, [channel])] for slot in slots)


def _keeper(
    network: nn.Module, channels: Sequence[int], pads: Sequence[Slot], levels: Mapping[str, Tensor]
) -> int | None:
    """The channel that can stand for all others: not zero in any layer that pads. The one farthest from it."""

    def farness(channel: int) -> float:
        return min((float(level.abs().min()) for level in _levels_of(pads, channel, levels) if len(level)), default=0.0)

    if any(_groups(network.get_submodule(slot.name)) > 1 for slot in pads):
        return None
    able = [c for c in channels if all(len(slot.places.get(c, ())) == 1 for slot in pads) and farness(c) > 0]
    return max(able, key=farness, default=None)


def _folds(module: nn.Module) -> bool:
    """Whether a constant input adds the same to every output of a layer: no zero padding, no transposition."""
    if not isinstance(module, _ConvNd):
        return True
    padded = module.padding not in ("valid", (0,) * len(module.kernel_size))
    return not module.transposed and (not padded or module.padding_mode != "zeros")


def _into_bias(layer: nn.Module | Matrix, indices: list[int], levels: Tensor) -> None:
    """Add what constant inputs contribute to each output to the layer's bias, which is made where there is none."""
    if not indices or not levels[indices].any():
        return
    module = layer.module if isinstance(layer, Matrix) else layer
    weight, groups = module._parameters["weight"], _groups(module)
    assert weight is not None
    if module._parameters["bias"] is None:
        zeros = weight.new_zeros(filters(layer).shape[0])
        module._parameters["bias"] = nn.Parameter(zeros, requires_grad=weight.requires_grad)
    bias = module._parameters["bias"]
    assert bias is not None
    added = (columns(layer)[indices] * levels[indices, None, None]).sum(2)
    group = torch.tensor(indices, device=weight.device) // (len(levels) // groups)
    bias.view(groups, -1).index_add_(0, group, added)


def _into_column(module: nn.Module | Matrix, indices: list[int], levels: Tensor, home: int) -> None:
    """Let the constant input `home` contribute what others did."""
    weights = columns(module).clone()
    weights[home] += (weights[indices] * (levels[indices, None, None] / levels[home])).sum(0)
    set_columns(module, weights)


def _groups(module: nn.Module) -> int:
    return module.groups if isinstance(module, _ConvNd) else 1
