"""Channels leave a network's modules for good, and which sets of them can: tried on a copy, not believed."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.utils import _pytree

from secateur.errors import SecateurError, ShrinkError
from secateur.modules.guarding import copied, outputs, run, untouched
from secateur.modules.inputs import Example, Inputs, as_inputs
from secateur.modules.matrices import Matrix, is_linear_transposed, module_or_matrix
from secateur.pruning.dependencies import ChannelSet, Slot, channel_classes, channel_sets, columns, probes, set_columns

_log = logging.getLogger("secateur")
_ROUNDING = {torch.float64: 1e-10, torch.float32: 1e-4}


def removable_sets(network: nn.Module, example: Example) -> list[ChannelSet]:
    """The channel sets of a network, of which those can go whose removal was tried.

    A copy whose layers read nothing of some channels of a set has to give what a copy without these channels does, in
    evaluation mode and, where the network runs in it, in training mode, and has to train. Raises ShrinkError where the
    network cannot be run or its weights are not finite, ModelError where it cannot be copied.
    """
    inputs = sample(network, as_inputs(example, network))
    found = channel_sets(network, inputs)
    _check_finite(network)
    _tell(network, found)
    runs = runnable(network, [inputs, probes(inputs)[0]])
    able = {id(each) for each in _confirmed(network, [each for each in found if each.removable], runs)}
    return [
        each
        if not each.removable or id(each) in able
        else replace(each, stays="without them the network runs differently")
        for each in found
    ]


@torch.no_grad()
def _check_finite(network: nn.Module) -> None:
    for name, parameter in network.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise ShrinkError(
                f"parameter {name!r} is not finite (NaN or infinite), so nothing can be told equal: load finite weights"
            )


def _tell(network: nn.Module, sets: Sequence[ChannelSet]) -> None:
    unseen = [each.stays for each in sets if each.unseen]
    if unseen:
        _log.warning("%s: %d sets of channels stay: %s", type(network).__name__, len(unseen), unseen[0])


def runnable(network: nn.Module, runs: Sequence[Inputs]) -> list[Inputs]:
    """Those of some inputs with which the network runs."""
    return [inputs for inputs in runs if _runs(network, inputs)]


def _runs(network: nn.Module, inputs: Inputs) -> bool:
    try:
        outputs(network, inputs)
    except SecateurError:
        return False
    return True


def sample(network: nn.Module, inputs: Inputs, count: int = 2) -> Inputs:
    """Some of the inputs, two at least, with which the network runs; all where it takes no other number."""
    for some in (inputs.first(count) if len(inputs) > 1 else inputs.doubled(), inputs.first(count)):
        if _runs(network, some):
            return some
    return inputs


def _confirmed(network: nn.Module, sets: Sequence[ChannelSet], runs: Sequence[Inputs]) -> list[ChannelSet]:
    """The sets that can go, all together."""
    if not sets or _can_go(network, sets, runs):
        return list(sets)
    if len(sets) == 1:
        return []
    half = len(sets) // 2
    each_half = [_confirmed(network, some, runs) for some in (sets[:half], sets[half:])]
    both = [*each_half[0], *each_half[1]]
    if all(each_half) and not _can_go(network, both, runs):
        both = []
        for each in (*each_half[0], *each_half[1]):
            both += [each] if _can_go(network, [*both, each], runs) else []
    return both


@torch.no_grad()
def _can_go(network: nn.Module, sets: Sequence[ChannelSet], runs: Sequence[Inputs]) -> bool:
    """Whether half of the channels of each set can be taken out, all at once."""
    unread = copied(network)
    going = [(each, balanced(unread, each, each.channels[::2])) for each in sets]
    for each, channels in going:
        for slot in each.readers:
            _zero_columns(module_or_matrix(unread, slot.name), slot, channels)
    small = copied(unread)
    try:
        take_out(small, going)
    except ShrinkError:
        return False
    return same_behaviour(small, unread, runs, by_value=True)


def _zero_columns(module: nn.Module | Matrix, slot: Slot, channels: Sequence[int]) -> None:
    values = columns(module).clone()
    values[[index for channel in channels for index in slot.places[channel]]] = 0
    set_columns(module, values)


def same_behaviour(small: nn.Module, network: nn.Module, runs: Sequence[Inputs], by_value: bool) -> bool:
    """Whether a network gives what another one does in evaluation mode, within rounding, and trains where that does.

    by_value: whether its outputs in training mode have to be the same, too, where chance has no part in them; otherwise
    their shapes. Values are compared without normalising over the batch, which blows up the rounding of what hardly
    varies.
    """
    try:
        given = [(outputs(small, inputs), outputs(network, inputs)) for inputs in runs]
    except Exception:  # whatever a forward raises that counted on the number of channels
        return False
    if not all(_all_close(one, other) for one, other in given):
        return False
    expected = trained(network, runs[0], by_statistics=by_value)
    if expected is None:
        return True
    now = trained(small, runs[0], by_statistics=by_value)
    if now is None or [each.shape for each in now.given] != [each.shape for each in expected.given]:
        return False
    return not by_value or expected.drew or _all_close(now.given, expected.given)


@dataclass(frozen=True, slots=True)
class Trained:
    """A run in training mode: its outputs, and whether it drew random numbers."""

    given: list[Tensor]
    drew: bool


def trained(network: nn.Module, inputs: Inputs, by_statistics: bool = False) -> Trained | None:
    """A run in training mode and a backward pass through all that it gives; None where the network does not train.

    by_statistics: whether BatchNorm takes its running statistics, as in evaluation mode.
    """
    with untouched(network), torch.inference_mode(False), torch.enable_grad():
        network.train()
        for module in network.modules():
            module.training &= not (by_statistics and isinstance(module, _BatchNorm))
        before = _random_states()
        try:
            given = [each for each in _pytree.tree_leaves(run(network, inputs)) if isinstance(each, Tensor)]
            drew = before != _random_states()
            losses = [each.float().sum() for each in given if each.requires_grad]
            if losses:
                torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
        except Exception:  # whatever a forward raises
            return None
        return Trained([each.detach().clone() for each in given], drew)


def _random_states() -> list[bytes]:
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    of_torch = [each.numpy().tobytes() for each in (torch.get_rng_state(), *devices)]
    return [*of_torch, np.random.get_state()[1].tobytes(), repr(random.getstate()).encode()]  # type: ignore[index]


def _all_close(some: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    return len(some) == len(others) and all(map(_close, some, others))


def _close(one: Tensor, other: Tensor) -> bool:
    """Equal within rounding, which is a share of the largest of the values however small they are."""
    if one.shape != other.shape:
        return False
    same = (one == other) | ((one != one) & (other != other))
    if not (one.is_floating_point() or one.is_complex()):
        return bool(same.all())
    scale = other[other.isfinite()].abs().amax() if other.isfinite().any() else 0.0
    return bool((same | ((one - other).abs() <= _ROUNDING.get(other.dtype, 2e-2) * scale)).all())


def take_out(network: nn.Module, going: Sequence[tuple[ChannelSet, Sequence[int]]]) -> None:
    """Take channels of sets out of every module that holds something of them, in place."""
    drops: dict[tuple[str, str, int], set[int]] = {}
    for each, channels in going:
        for slot in each.slots:
            indices = drops.setdefault((slot.name, slot.side, slot.axis), set())
            indices.update(index for channel in channels for index in slot.places[channel])
    for (name, side, axis), indices in drops.items():
        if side == "bare":
            owner, _, own = name.rpartition(".")
            _slice(network.get_submodule(owner), own, axis, indices)
        elif indices:
            _drop(network.get_submodule(name), side, indices)


def balanced(network: nn.Module, each: ChannelSet, gone: Sequence[int]) -> list[int]:
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
    elif is_linear_transposed(module):
        _drop_of_transposed(module, side, indices)
    elif isinstance(module, _ConvNd):
        _drop_of_convolution(module, side, indices)
    elif not isinstance(module, nn.PReLU):
        _slice(module, "weight", 0, indices)
        _slice(module, "bias", 0, indices)
        _slice(module, "running_mean", 0, indices)
        _slice(module, "running_var", 0, indices)
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


def _drop_of_transposed(module: nn.Module, side: str, indices: set[int]) -> None:
    """Of transformers' Conv1D, which counts its outputs as nf and, in some versions, its inputs as nx."""
    if side == "in":
        _slice(module, "weight", 0, indices)
    else:
        _slice(module, "weight", 1, indices)
        _slice(module, "bias", 0, indices)
    sizes = vars(module)
    sizes |= {name: size for name, size in zip(("nx", "nf"), module.weight.shape, strict=True) if name in sizes}  # type: ignore[arg-type]


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
    held = parameter if parameter is not None else module._buffers.get(name)
    if held is None or not indices:
        return
    kept = torch.tensor(_kept(held.shape[dimension], indices), device=held.device)
    sliced = held.detach().index_select(dimension, kept)
    if parameter is None:
        module._buffers[name] = sliced
    else:
        module._parameters[name] = nn.Parameter(sliced, requires_grad=parameter.requires_grad)


def _kept(count: int, gone: set[int]) -> list[int]:
    return [i for i in range(count) if i not in gone]
