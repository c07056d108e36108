"""Dead channels and units leave for good: a smaller network of ordinary modules, with the same outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from secateur.dependencies import (
    ChannelSet,
    Slot,
    channel_classes,
    channel_sets,
    columns,
    filters,
    rows_of,
    set_columns,
)
from secateur.errors import ShrinkError
from secateur.guarding import copied, outputs
from secateur.inputs import Inputs
from secateur.layers import input_of

_ROUNDING = {torch.float64: 1e-10, torch.float32: 1e-4}


def shrink(network: nn.Module, example: Tensor) -> nn.Module:
    """A copy of a network without its dead channels: fewer filters, units and columns, the same outputs.

    example: a batch of inputs (N, …), of floats. A channel is dead where nothing reads it (its columns in every layer
    that could are zero), or where it is constant (every filter that makes it is zero). A constant goes into the
    biases of its readers; where zero padding forbids that, all constants of a set become one channel. Holds
    for evaluation mode, in which the outputs on `example` and on noise are compared with the network's own before
    the copy is returned: equal within rounding. What the network takes and gives keeps its shape, every
    layer keeps one channel at least, and channels that an operation in between counts or mixes stay.

    The network itself is left as it was. Raises MissingExtraError without Torch-Pruning, ShrinkError where the
    network cannot be traced.
    """
    sets = [each for each in channel_sets(network, example[:2]) if each.removable]
    probe = _probe(example)
    expected = _outputs(network, probe)
    small = _tried(network, sets, probe, expected)
    if small is None:
        sets = [each for each in sets if _tried(network, [each], probe, expected)]
        small = _tried(network, sets, probe, expected)
    if small is None:
        raise ShrinkError(
            f"{type(network).__name__}: each of its {len(sets)} sets of channels can be shrunk, but not all together"
        )
    return small


def _tried(
    network: nn.Module, sets: Sequence[ChannelSet], probe: Tensor, expected: Sequence[Tensor]
) -> nn.Module | None:
    """The network without the dead channels of some sets, or None where its outputs are not the expected ones."""
    try:
        small = _without_dead_channels(network, sets, probe)
    except ShrinkError:
        return None
    try:
        outputs = _outputs(small, probe)
    except Exception:  # whatever a forward raises that counted on the number of channels
        return None
    return small if len(outputs) == len(expected) and all(map(_close, outputs, expected)) else None


def _probe(example: Tensor) -> Tensor:
    """Inputs that tell a constant from what only looks like one: the example, noise of its scale, and nothing."""
    some = example[:8]
    generator = torch.Generator(device=some.device).manual_seed(0)
    noise = torch.randn(some.shape, generator=generator, dtype=some.dtype, device=some.device)
    return torch.cat([some, noise * some.std() * 2 if some.numel() > 1 else noise, torch.zeros_like(some[:1])])


def _outputs(network: nn.Module, probe: Tensor) -> list[Tensor]:
    return outputs(network, Inputs((probe,)))


def _close(one: Tensor, other: Tensor) -> bool:
    """Equal within rounding, which is a share of the largest of the values however small they are."""
    if one.shape != other.shape:
        return False
    share = _ROUNDING.get(other.dtype, 2e-2)
    return bool(((one - other).abs() <= share * other.abs().max()).all())


@torch.no_grad()
def _without_dead_channels(network: nn.Module, sets: Sequence[ChannelSet], probe: Tensor) -> nn.Module:
    small = copied(network)
    for parameter in small.parameters():
        parameter.data = parameter.data.contiguous()
    while sum(_silence(small, each) for each in sets) or _fold_constants(small, sets, probe):
        continue
    drops: dict[tuple[str, str], set[int]] = {}
    for each in sets:
        gone = _balanced(small, each, _unread(small, each))
        for slot in each.slots:
            drops.setdefault((slot.name, slot.side), set()).update(i for channel in gone for i in slot.places[channel])
    for (name, side), indices in drops.items():
        if indices:
            _drop(small.get_submodule(name), side, indices)
    return small


def _silence(network: nn.Module, each: ChannelSet) -> bool:
    """Zero what makes the channels that nobody reads, so that those which only they read are unread in turn."""
    changed = False
    unread = _unread(network, each)
    for slot in (*each.writers, *each.carriers):
        module = network.get_submodule(slot.name)
        indices = [i for channel in unread for i in slot.places.get(channel, ())]
        for tensor in rows_of(module):
            if indices and tensor[indices].any():
                tensor[indices] = 0
                changed = True
    return changed


def _unread(network: nn.Module, each: ChannelSet) -> list[int]:
    """The channels whose columns are zero in every layer that reads them."""
    read = {slot.name: columns(network.get_submodule(slot.name)).flatten(1).any(1).tolist() for slot in each.readers}
    return [channel for channel in each.channels if not _touches(each.readers, channel, read)]


def _touches(slots: Sequence[Slot], channel: int, used: Mapping[str, list[bool]]) -> bool:
    return any(used[slot.name][i] for slot in slots for i in slot.places.get(channel, ()))


def _fold_constants(network: nn.Module, sets: Sequence[ChannelSet], probe: Tensor) -> bool:
    """Make unread the channels that are constant for sure, as nothing but zero filters makes them."""
    dead = [(each, channels) for each in sets if (channels := _unmade(network, each))]
    levels = _constant_levels(network, {slot.name for each, _ in dead for slot in each.readers}, probe)
    return sum(_fold(network, each, channels, levels) for each, channels in dead) > 0


def _unmade(network: nn.Module, each: ChannelSet) -> list[int]:
    """The channels that are read, though every filter that makes them is zero."""
    if not each.writers:
        return []
    made = {slot.name: filters(network.get_submodule(slot.name)).flatten(1).any(1).tolist() for slot in each.writers}
    unread = set(_unread(network, each))
    return [c for c in each.channels if c not in unread and not _touches(each.writers, c, made)]


def _constant_levels(network: nn.Module, names: set[str], probe: Tensor) -> dict[str, Tensor]:
    """For each named layer (inputs,): the value of each of its inputs where it is constant over the probe, else NaN."""
    levels: dict[str, Tensor] = {}
    if not names:
        return levels

    def look(name: str, module: nn.Module) -> object:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> None:
            given = input_of(inputs, named)
            flat = given.movedim(-1 if isinstance(module, nn.Linear) else 1, 0).flatten(1)
            low, high = flat.amin(1), flat.amax(1)
            slack = 16 * torch.finfo(flat.dtype).eps * torch.maximum(low.abs(), high.abs())
            levels[name] = torch.where(high - low <= slack, flat[:, 0], torch.nan)

        return module.register_forward_pre_hook(hook, with_kwargs=True)

    hooks = [look(name, network.get_submodule(name)) for name in names]
    try:
        _outputs(network, probe)
    finally:
        for hook in hooks:
            hook.remove()  # type: ignore[attr-defined]
    return levels


def _fold(network: nn.Module, each: ChannelSet, channels: Sequence[int], levels: Mapping[str, Tensor]) -> bool:
    """Move constants into biases, or into one channel where a layer pads its input with zeros."""
    known = [c for c in channels if not any(level.isnan().any() for level in _levels_of(each.readers, c, levels))]
    pads = [slot for slot in each.readers if not _folds(network.get_submodule(slot.name))]
    free = [c for c in known if not any(level.any() for level in _levels_of(pads, c, levels))]
    others = sorted(set(known) - set(free))
    keeper = _keeper(network, others, pads, levels)
    merged = [c for c in others if c != keeper] if keeper is not None else []
    for slot in each.readers if free or merged else ():
        module, own = network.get_submodule(slot.name), levels[slot.name]
        if slot not in pads:
            _into_bias(module, _places(slot, [*free, *merged]), own)
        elif keeper is not None:
            _into_column(module, _places(slot, merged), own, *slot.places[keeper])
        weights = columns(module).clone()
        weights[_places(slot, [*free, *merged])] = 0
        set_columns(module, weights)
    return bool(free or merged)


def _places(slot: Slot, channels: Sequence[int]) -> list[int]:
    return [i for channel in channels for i in slot.places.get(channel, ())]


def _levels_of(slots: Sequence[Slot], channel: int, levels: Mapping[str, Tensor]) -> Iterator[Tensor]:
    return (levels[slot.name][_places(slot, [channel])] for slot in slots)


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
    if isinstance(module, nn.Linear):
        return True
    assert isinstance(module, _ConvNd)
    padded = module.padding not in ("valid", (0,) * len(module.kernel_size))
    return not module.transposed and (not padded or module.padding_mode != "zeros")


def _into_bias(module: nn.Module, indices: list[int], levels: Tensor) -> None:
    """Add what constant inputs contribute to each output to the layer's bias, which is made where there is none."""
    if not indices or not levels[indices].any():
        return
    weight, groups = module._parameters["weight"], _groups(module)
    assert weight is not None
    if module._parameters["bias"] is None:
        zeros = weight.new_zeros(filters(module).shape[0])
        module._parameters["bias"] = nn.Parameter(zeros, requires_grad=weight.requires_grad)
    bias = module._parameters["bias"]
    assert bias is not None
    added = (columns(module)[indices] * levels[indices, None, None]).sum(2)
    group = torch.tensor(indices, device=weight.device) // (len(levels) // groups)
    bias.view(groups, -1).index_add_(0, group, added)


def _into_column(module: nn.Module, indices: list[int], levels: Tensor, home: int) -> None:
    """Let the constant input `home` contribute what others did."""
    weights = columns(module).clone()
    weights[home] += (weights[indices] * (levels[indices, None, None] / levels[home])).sum(0)
    set_columns(module, weights)


def _groups(module: nn.Module) -> int:
    return module.groups if isinstance(module, _ConvNd) else 1


def _balanced(network: nn.Module, each: ChannelSet, gone: Sequence[int]) -> list[int]:
    """Of the channels that may go, so many that one stays and grouped convolutions keep groups of equal size."""
    members = channel_classes(network, each)
    going = [[channel for channel in some if channel in set(gone)] for some in members]
    if len({len(some) for some in members}) > 1:
        return []
    count = min(len(members[0]) - 1, *map(len, going))
    return [channel for some in going for channel in some[:count]]


def _drop(module: nn.Module, side: str, indices: set[int]) -> None:
    """Take rows, columns or channels out of one module."""
    if isinstance(module, nn.Linear):
        _drop_of_linear(module, side, indices)
    elif isinstance(module, _ConvNd):
        _drop_of_convolution(module, side, indices)
    elif not isinstance(module, nn.PReLU):
        _slice(module, "weight", 0, indices)
        _slice(module, "bias", 0, indices)
        for name in ("running_mean", "running_var"):
            statistics = module._buffers.get(name)
            if statistics is not None:
                module._buffers[name] = statistics[_kept(len(statistics), indices)]
        module.num_features -= len(indices)  # type: ignore[operator, assignment]
    elif module.num_parameters > 1:
        _slice(module, "weight", 0, indices)
        module.num_parameters -= len(indices)


def _drop_of_linear(module: nn.Linear, side: str, indices: set[int]) -> None:
    if side == "in":
        _slice(module, "weight", 1, indices)
        module.in_features -= len(indices)
        return
    _slice(module, "weight", 0, indices)
    _slice(module, "bias", 0, indices)
    module.out_features -= len(indices)


def _drop_of_convolution(module: _ConvNd, side: str, indices: set[int]) -> None:
    if side == "in":
        _drop_inputs(module, indices)
        return
    _check_equal(Counter(i // (module.out_channels // module.groups) for i in indices), module, side)
    _slice(module, "weight", 1 if module.transposed else 0, indices)
    _slice(module, "bias", 0, indices)
    module.out_channels -= len(indices)
    if side == "both":
        module.in_channels -= len(indices)
        module.groups -= len(indices)


def _drop_inputs(module: _ConvNd, indices: set[int]) -> None:
    width = module.in_channels // module.groups
    _check_equal(Counter(i // width for i in indices), module, "in")
    if module.groups == 1:
        _slice(module, "weight", 0 if module.transposed else 1, indices)
    else:
        weight = module.weight
        kept = torch.tensor(_kept(module.in_channels, indices)).view(module.groups, -1) % width
        parts = [part[:, own] for part, own in zip(weight.detach().chunk(module.groups), kept, strict=True)]
        module.weight = nn.Parameter(torch.cat(parts), requires_grad=weight.requires_grad)
    module.in_channels -= len(indices)


def _check_equal(per_group: Counter[int], module: _ConvNd, side: str) -> None:
    if side != "both" and module.groups > 1 and (len(per_group) != module.groups or len(set(per_group.values())) > 1):
        raise ShrinkError(f"a convolution of {module.groups} groups would lose channels of {len(per_group)} only")


def _slice(module: nn.Module, name: str, dimension: int, indices: set[int]) -> None:
    parameter = module._parameters.get(name)
    if parameter is not None:
        kept = torch.tensor(_kept(parameter.shape[dimension], indices), device=parameter.device)
        sliced = parameter.detach().index_select(dimension, kept)
        module._parameters[name] = nn.Parameter(sliced, requires_grad=parameter.requires_grad)


def _kept(count: int, gone: set[int]) -> list[int]:
    return [i for i in range(count) if i not in gone]
