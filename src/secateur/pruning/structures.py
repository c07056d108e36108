"""Whole filters, units and channels: sets of weights that stay or go together, by the norm of each set.

The importance of a set S is Σ|wᵢ| over i in S (Han et al. 2015; Li et al. 2017), or the L2 norm; with any other method
its scores stand in the place of |w|. Sets of different sizes are compared by their mean, the root of the mean square.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from secateur.errors import PruneError
from secateur.modules.inputs import Example
from secateur.modules.matrices import NAMED, WEIGHTED, Matrix, is_linear_transposed, module_or_matrix
from secateur.pruning.allocation import erk_ratios, lamp
from secateur.pruning.blocks import LOWEST
from secateur.pruning.dependencies import ChannelSet, Slot, channel_classes, columns, filters, rows_of, set_columns
from secateur.pruning.removal import removable_sets
from secateur.pruning.score import Scores
from secateur.records.cuts import Cut
from secateur.records.patterns import WholeSets


@dataclass(frozen=True, slots=True)
class Family:
    """Sets of one build, which can stand for each other: the filters of a layer, or channels that exist together.

    slots: where their weights lie. classes: the channels by the groups that they belong to, as many in each, since one
    of every class goes at a time. whole: whether biases and normalisations go too.
    """

    name: str
    slots: tuple[Slot, ...]
    classes: tuple[tuple[int, ...], ...]
    whole: bool


@dataclass(frozen=True, slots=True)
class _Ranked:
    """The sets of a family from the least important on: channels (sets, classes) and scores (sets,), ascending."""

    family: Family
    channels: Tensor
    scores: Tensor


def filter_families(network: nn.Module, weights: Mapping[str, Tensor]) -> list[Family]:
    """The filters or units of each layer, biases and normalisations staying as they are. Raises PruneError for what has
    none."""

    def family(name: str, weight: Tensor) -> Family:
        layer = module_or_matrix(network, name)
        if isinstance(layer, Matrix) and layer.kind.role == NAMED:
            raise PruneError(
                f"layer {name!r}: expected a layer with filters or units, got a matrix of "
                f"{type(layer.module).__name__}; leave it out (include), or prune it unstructured"
            )
        count = len(filters(layer, weight))
        slot = Slot(name, "out", {each: (each,) for each in range(count)})
        return Family(name, (slot,), (tuple(range(count)),), whole=False)

    return [family(name, weight) for name, weight in weights.items()]


def channel_families(
    network: nn.Module, example: Example, weights: Mapping[str, Tensor], outputs: Collection[str]
) -> list[Family]:
    """The channels of a network that can leave it, found by running it on `example` and trying.

    Layers that are not in `weights` keep their own weights; but of the output layers, what they read of a channel
    goes with the channel. Raises ShrinkError where the network cannot be run, PruneError where no channel can go.
    """
    sets = removable_sets(network, example)
    found = []
    for each in sets:
        classes = channel_classes(network, each)
        even = len({len(members) for members in classes}) == 1
        kept = {slot.name for slot in each.writers} & set(outputs)
        if each.removable and even and not kept and _layers_of(network, each) <= {*weights, *outputs}:
            found.append(Family(each.writers[0].name, each.slots, tuple(map(tuple, classes)), whole=True))
    if not found:
        reasons = [f"{each.writers[0].name!r} ({each.stays})" for each in reversed(sets) if each.stays]
        raise PruneError(
            f"{type(network).__name__} has no channel that can go: expected layers between its input and its output "
            f"whose channels nothing counts or mixes, beside the excluded ones; those of {', '.join(reasons[:3])} stay"
        )
    return found


def _layers_of(network: nn.Module, each: ChannelSet) -> set[str]:
    held = (slot.name for slot in each.slots if slot.side != "bare")
    modules = {name: network.get_submodule(name) for name in held}
    return {name for name, each in modules.items() if isinstance(each, WEIGHTED) or is_linear_transposed(each)}


def cut_sets(
    network: nn.Module,
    families: Sequence[Family],
    scores: Scores,
    weights: Mapping[str, Tensor],
    pattern: WholeSets,
    asked: Cut,
    allow_less: bool = False,
) -> None:
    """Zero the least important sets, so many that the share of weights that are zero comes nearest to what is
    asked.

    layer: the same share of each family's sets. global: the lowest of all together. lamp: by LAMP scores of the sets.
    Filters also take erk. By layer: of filters as close to the layer's ratio; of channels that share of the family that
    the layer makes. Of every family one set stays at least.
    Raises PruneError, before anything is changed, where fewer weights can go than should, unless allow_less.
    """
    ranked = [_rank(network, family, scores, weights, pattern.norm) for family in families]
    scope = asked.scope.kind
    if pattern.kind == "channel" and asked.by_layer is not None:
        for family, gone in _shares_going(ranked, dict(asked.by_layer), allow_less):
            _zero(network, family, gone.tolist())
        return
    if asked.by_layer is None and (pattern.kind == "channel" or scope in ("global", "lamp")):
        problems = [(_ordered(ranked, scope), dict(weights), asked.ratio)]
    else:
        ratios = _ratios_by_layer(weights, asked)
        problems = [
            (_ordered([each], "layer"), {name: weights[name]}, ratios.get(name, 0.0))
            for each in ranked
            for name in (each.family.name,)
        ]
    going = [each for problem in problems for each in _going(network, *problem, allow_less)]
    for family, channels in going:
        _zero(network, family, channels.tolist())


def makers(family: Family) -> list[str]:
    """The layers that make the sets of a family."""
    return [slot.name for slot in family.slots if slot.side == "out"]


def _shares_going(
    ranked: Sequence[_Ranked], ratios: Mapping[str, float], allow_less: bool
) -> list[tuple[Family, Tensor]]:
    """The families' channels that go where shares are given by the layers that make them."""
    known = {name: each.family for each in ranked for name in makers(each.family)}
    for name, ratio in ratios.items():
        if ratio and name not in known:
            raise PruneError(
                f"layer {name!r}: makes no channels that can go: expected shares of what {', '.join(known)} make"
            )
    return [(each.family, _share_of(each, ratios, allow_less)) for each in ranked]


def _share_of(each: _Ranked, ratios: Mapping[str, float], allow_less: bool) -> Tensor:
    given = {name: ratios[name] for name in makers(each.family) if name in ratios}
    if len(set(given.values())) > 1:
        told = ", ".join(f"{name!r} {ratio:g}" for name, ratio in given.items())
        raise PruneError(f"ratios of {told}: expected one, as these layers make the same channels")
    name, ratio = next(iter(given.items()), ("", 0.0))
    count, most = round(ratio * len(each.scores)), len(each.scores) - 1
    if count > most and not allow_less:
        raise PruneError(
            f"layer {name!r} would lose all of its {len(each.scores)} channels at ratio {ratio:g}, and one of each "
            "kind stays; lower the ratio or take what can go (allow empty)"
        )
    return each.channels[: min(count, most)].flatten()


def _ratios_by_layer(weights: Mapping[str, Tensor], asked: Cut) -> Mapping[str, float]:
    if asked.by_layer is not None:
        return dict(asked.by_layer)
    if asked.scope.kind == "erk":
        return erk_ratios({name: weight.shape for name, weight in weights.items()}, asked.ratio)
    return dict.fromkeys(weights, asked.ratio)


def _rank(network: nn.Module, family: Family, scores: Scores, weights: Mapping[str, Tensor], norm: int) -> _Ranked:
    """Sets by their mean score (norm 1) or the root of the mean square (norm 2); those of zeros alone come first."""
    last = max(channel for members in family.classes for channel in members)
    total, count, alive = (torch.zeros(last + 1, dtype=torch.float64) for _ in range(3))
    for slot in family.slots:
        if slot.name not in weights:
            continue
        module, weight = module_or_matrix(network, slot.name), weights[slot.name]
        values = scores[slot.name].double() ** norm
        for sums, of in ((total, values), (count, torch.ones_like(values)), (alive, (weight != 0).double())):
            per_index = _view(module, slot, of).flatten(1).sum(1).cpu()
            channels, places = _pairs(slot)
            sums.index_add_(0, channels, per_index[places])
    members = torch.tensor(family.classes).t()
    means = (total / count.clamp(min=1)).where(alive > 0, torch.tensor(LOWEST).double())
    order = means[members].argsort(dim=0, stable=True)
    channels = members.gather(0, order)
    empty = (alive[channels] == 0).all(1)
    combined = total[channels].sum(1) / count[channels].sum(1).clamp(min=1)
    score = combined if norm == 1 else combined.sqrt()
    return _Ranked(family, channels, score.where(~empty, torch.tensor(LOWEST).double()))


def _view(module: nn.Module | Matrix, slot: Slot, values: Tensor) -> Tensor:
    """Values shaped as the module's weight, with the indices of a slot's places first."""
    if values.dim() == 1:
        return values[:, None]
    return columns(module, values) if slot.side == "in" else filters(module, values)


def _pairs(slot: Slot) -> tuple[Tensor, Tensor]:
    pairs = [(channel, index) for channel, places in slot.places.items() for index in places]
    both = torch.tensor(pairs).t()
    return both[0], both[1]


@dataclass(frozen=True, slots=True)
class _Order:
    """Which sets go first: of the i-th to go, its family's position in `ranked` and its rank there."""

    ranked: Sequence[_Ranked]
    family: Tensor
    rank: Tensor


def _ordered(ranked: Sequence[_Ranked], scope: str) -> _Order:
    """All sets but the best of each family, in the order in which a scope lets them go."""
    keys = [_keys(each, scope)[:-1] for each in ranked]
    family = torch.cat([torch.full((len(each),), position) for position, each in enumerate(keys)])
    rank = torch.cat([torch.arange(len(each)) for each in keys])
    order = torch.cat(keys).argsort(stable=True)
    return _Order(ranked, family[order], rank[order])


def _keys(each: _Ranked, scope: str) -> Tensor:
    if scope == "layer":
        return (torch.arange(len(each.scores)) + 0.5).double() / len(each.scores)
    return lamp(Scores({"": each.scores}))[""] if scope == "lamp" else each.scores


def _going(
    network: nn.Module, order: _Order, weights: Mapping[str, Tensor], ratio: float, allow_less: bool
) -> Iterator[tuple[Family, Tensor]]:
    """The families' channels that go, so that the share of zeros among `weights` comes nearest to the ratio."""
    steps = len(order.rank)
    total = sum(weight.numel() for weight in weights.values())
    zeros = total - _kept_after(network, order, weights)
    wanted = ratio * total
    half_a_step = float(zeros.diff().max()) / 2 if steps else 0.0
    if int(zeros[-1]) < wanted - half_a_step and not allow_less:
        raise PruneError(
            f"ratio {ratio:g}: at most {int(zeros[-1]) / total:.2%} of the weights of {_named(weights)} can go in "
            "whole sets, as one of each kind stays; lower the ratio or take what can go (allow empty)"
        )
    count = int((zeros - wanted).abs().argmin()) if ratio else 0
    gone = torch.arange(steps) < count
    for position, each in enumerate(order.ranked):
        ranks = order.rank[gone & (order.family == position)]
        if len(ranks):
            yield each.family, each.channels[ranks].flatten()


def _named(weights: Mapping[str, Tensor]) -> str:
    return f"layer {next(iter(weights))!r}" if len(weights) == 1 else f"{len(weights)} layers"


def _kept_after(network: nn.Module, order: _Order, weights: Mapping[str, Tensor]) -> Tensor:
    """(sets + 1,): how many of `weights` are not zero after the first 0, 1, 2 … sets have gone."""
    steps = len(order.rank)
    leaving = torch.zeros(steps + 1, dtype=torch.int64)
    goes_at = _goes_at(order, steps)
    for name, weight in weights.items():
        when = torch.full(weight.shape, steps, dtype=torch.int64, device=weight.device)
        for slot, at in goes_at.get(name, ()):
            _lower(module_or_matrix(network, name), slot, when, at.to(weight.device))
        leaving += torch.bincount(when[weight != 0], minlength=steps + 1).cpu()
    return leaving.flip(0).cumsum(0).flip(0)


def _goes_at(order: _Order, steps: int) -> dict[str, list[tuple[Slot, Tensor]]]:
    """Layer → its slots, each with the step at which every index of it goes, `steps` where it stays."""
    found: dict[str, list[tuple[Slot, Tensor]]] = {}
    for position, each in enumerate(order.ranked):
        of_family = (order.family == position).nonzero()[:, 0]
        step_of_channel = torch.full((int(each.channels.max()) + 1,), steps)
        for column in each.channels[order.rank[of_family]].t():
            step_of_channel[column] = of_family
        for slot in each.family.slots:
            channels, places = _pairs(slot)
            at = torch.full((int(places.max()) + 1,), steps)
            at[places] = step_of_channel[channels]
            found.setdefault(slot.name, []).append((slot, at))
    return found


def _lower(module: nn.Module | Matrix, slot: Slot, when: Tensor, at: Tensor) -> None:
    """Let `when`, shaped as the weight, be at most the step at which its row or column goes."""
    view = _view(module, slot, when)
    part = torch.minimum(view[: len(at)], at.view(-1, *[1] * (view.dim() - 1)))
    if slot.side == "in":
        set_columns(module, torch.cat([part, view[len(at) :]]), when)
    else:
        view[: len(at)] = part


@torch.no_grad()
def _zero(network: nn.Module, family: Family, channels: Sequence[int]) -> None:
    for slot in family.slots:
        if slot.side == "bare":  # what is added or divided by need not be zero for a channel that nobody reads
            continue
        module = module_or_matrix(network, slot.name)
        indices = [index for channel in channels for index in slot.places.get(channel, ())]
        if slot.side == "in":
            values = columns(module).clone()
            values[indices] = 0
            set_columns(module, values)
            continue
        rows = list(rows_of(module))
        for tensor in rows if family.whole else rows[:1]:
            tensor[indices] = 0
