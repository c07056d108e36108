"""Scores, a ratio and a scope become zeros, in place. No mask is kept: a weight that is zero is pruned."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from secateur.errors import PruneError, UsageError
from secateur.layers import output_layer, weighted_layers
from secateur.score import Scores, score
from secateur.spec import SCOPES

_DIGIT_BITS = 11
_BINS = 1 << _DIGIT_BITS
_CHUNK = 1 << 14


@dataclass(frozen=True, slots=True)
class PruneLog:
    """What pruning left: weights kept and weights in all, of each layer that was pruned."""

    kept: Mapping[str, int]
    total: Mapping[str, int]

    @property
    def sparsity(self) -> float:
        total = sum(self.total.values())
        return 1 - sum(self.kept.values()) / total if total else 0.0


def prune(
    network: nn.Module,
    ratio: float,
    *,
    method: str = "magnitude",
    scope: str = "layer",
    exclude: Sequence[str] = (),
    example: Tensor | None = None,
    keep_output: bool | str = True,
) -> PruneLog:
    """Zero the `ratio` least important weights of a network, in place, and say what is left.

    ratio: the share of a layer's (scope "layer") or of all (scope "global") original weights that are zero
    afterwards; zeros already there count, so calling twice with 0.5 leaves half. The cut is that of
    torch.nn.utils.prune.l1_unstructured: round(ratio × n) weights of smallest score; of equal scores the first
    go first. The output layer (the last weighted one executed; `example`, a batch of inputs, makes sure of
    the order, or its name is given as keep_output) stays whole unless keep_output is False. exclude: names or patterns ("layer1.*") of layers or
    of their weights. At most one layer's worth of memory is used beside the network.

    Raises UsageError for a ratio outside [0, 1) or a name that matches nothing, PruneError for weights that
    are not finite or not plain parameters, and where a layer would lose every weight. Nothing is changed then.
    Han et al. 2015, §3.
    """
    if not 0 <= ratio < 1:
        raise UsageError(f"ratio {ratio!r}: expected in [0, 1): the share of weights to zero, so 0.9 for 90 %")
    if scope not in SCOPES:
        raise UsageError(f"scope {scope!r}: expected one of {', '.join(SCOPES)}")
    output = output_layer(network, example) if keep_output is True else keep_output or None
    layers = prunable_layers(network, exclude, output)
    scores = score(layers, method)
    _check_finite(scores, method)
    groups = [[name] for name in layers] if scope == "layer" else [list(layers)]
    cuts = {name: cut for group in groups if group for name, cut in _cuts(scores, group, ratio)}
    _check_none_emptied(layers, cuts, ratio, scope)
    for name, cut in cuts.items():
        _zero(_weight(layers[name]), scores[name], cut)
    return PruneLog(
        {name: int(torch.count_nonzero(_weight(layer))) for name, layer in layers.items()},
        {name: _weight(layer).numel() for name, layer in layers.items()},
    )


def sparsity(network: nn.Module) -> float:
    """The share of weights that are zero, over all linear and convolution layers (the output layer too)."""
    layers = weighted_layers(network)
    total = sum(_weight(layer).numel() for layer in layers.values())
    kept = sum(int(torch.count_nonzero(_weight(layer))) for layer in layers.values())
    return 1 - kept / total if total else 0.0


def layer_sparsity(network: nn.Module) -> dict[str, float]:
    """The share of weights that are zero, of each linear and convolution layer by name."""
    weights = {name: _weight(layer) for name, layer in weighted_layers(network).items()}
    return {name: 1 - int(torch.count_nonzero(w)) / max(1, w.numel()) for name, w in weights.items()}


def prunable_layers(network: nn.Module, exclude: Sequence[str], output: str | None) -> dict[str, nn.Module]:
    """The weighted layers that may be pruned, by name. Raises as prune does."""
    layers = weighted_layers(network)
    excluded = {name for pattern in exclude for name in _matches(layers, pattern)}
    chosen = {name: layer for name, layer in layers.items() if name != output and name not in excluded}
    for name, layer in chosen.items():
        _check_plain(name, layer)
    if not chosen:
        raise PruneError(
            f"{type(network).__name__} has no layer to prune: expected linear or convolution layers beside the "
            f"output layer ({output}) and the excluded ones ({', '.join(sorted(excluded)) or 'none'})"
        )
    return chosen


def _matches(layers: Mapping[str, nn.Module], pattern: str) -> list[str]:
    found = [
        name
        for name in layers
        if fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(f"{name}.weight", pattern)
    ]
    if not found:
        raise UsageError(f"exclude {pattern!r} matches no layer: expected one of {', '.join(layers)}, or a pattern")
    return found


def _weight(layer: nn.Module) -> Tensor:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight.detach()


def _check_plain(name: str, layer: nn.Module) -> None:
    weight = layer._parameters.get("weight")
    if weight is None:
        raise PruneError(
            f"layer {name!r}: its weight is computed from other tensors (a mask of torch.nn.utils.prune, weight "
            "norm or a parametrization), so zeros would not last; remove that first, as with prune.remove"
        )
    if isinstance(weight, UninitializedParameter) or weight.is_meta:
        raise PruneError(f"layer {name!r}: its weight has no values yet; run or load the network first")


def _check_finite(scores: Scores, method: str) -> None:
    for name in scores:
        values = scores[name]
        if not all(bool(torch.isfinite(part).all()) for part in _chunks(values)):
            bad = sum(int((~torch.isfinite(part)).sum()) for part in _chunks(values))
            raise PruneError(
                f"layer {name!r}: {bad} of {values.numel()} {method} scores are not finite, so the weights "
                "cannot be ranked; mend the checkpoint or exclude the layer"
            )


@dataclass(frozen=True, slots=True)
class _Cut:
    """Of a layer's scores, all below `key` go, and the first `ties` that equal it. `goes` counts both."""

    key: int
    ties: int
    goes: int


def _cuts(scores: Scores, group: list[str], ratio: float) -> Iterator[tuple[str, _Cut]]:
    """The cut of each layer such that the group loses its round(ratio × n) lowest scores.

    An exact selection by radix: each pass counts one 11-bit digit of the scores' bit patterns, so that no
    more than one layer's scores are ever held and nothing is sorted.
    """
    total = sum(scores[name].numel() for name in group)
    count = round(ratio * total)
    if count == 0:
        return
    key, rank = _kth_smallest(scores, group, count)
    for name in group:
        below, equal = _count(scores[name], key)
        ties = min(rank, equal)
        rank -= ties
        if below + ties:
            yield name, _Cut(key, ties, below + ties)


def _count(values: Tensor, key: int) -> tuple[int, int]:
    """How many scores lie below a key, and how many are equal to it."""
    below = equal = 0
    for part in _chunks(values):
        keys = _keys(part)
        below += int((keys < key).sum())
        equal += int((keys == key).sum())
    return below, equal


def _kth_smallest(scores: Scores, group: list[str], k: int) -> tuple[int, int]:
    """(key, rank): the k-th smallest key of a group (from 1), and how many of the keys equal to it are in."""
    prefix, rank = 0, k
    levels = -(-_key_bits(scores[group[0]]) // _DIGIT_BITS)
    for level in reversed(range(levels)):
        upto = _histogram(scores, group, level * _DIGIT_BITS, prefix).cumsum(0)
        digit = int(torch.searchsorted(upto, rank))
        rank -= int(upto[digit - 1]) if digit else 0
        prefix = prefix << _DIGIT_BITS | digit
    return prefix, rank


def _histogram(scores: Scores, group: list[str], shift: int, prefix: int) -> Tensor:
    """How often each digit at `shift` occurs among the keys whose higher bits are `prefix`."""
    counts = torch.zeros(_BINS, dtype=torch.int64)
    for name in group:
        for part in _chunks(scores[name]):
            keys = _keys(part)
            digits = keys[keys >> (shift + _DIGIT_BITS) == prefix] >> shift & (_BINS - 1)
            counts += torch.bincount(digits, minlength=_BINS).cpu()
    return counts


def _chunks(values: Tensor) -> Iterator[Tensor]:
    flat = values.reshape(-1)
    return (flat[start : start + _CHUNK] for start in range(0, flat.numel(), _CHUNK))


def _key_bits(values: Tensor) -> int:
    return 63 if values.dtype == torch.float64 else 32


def _keys(part: Tensor) -> Tensor:
    """int64 keys, 0 or more, that order as the values do: IEEE bit patterns, negative ones turned over.

    Doubles lose their last bit, so that their keys stay positive.
    """
    if part.dtype == torch.float64:
        bits = (part + 0.0).view(torch.int64)
        ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFFFFFFFFFF, bits)
        return (ordered >> 1) + (1 << 62)
    bits = (part.float() + 0.0).view(torch.int32).long()
    return torch.where(bits < 0, -1 - (bits & 0x7FFFFFFF), bits) + (1 << 31)


def _check_none_emptied(
    layers: Mapping[str, nn.Module], cuts: Mapping[str, _Cut], ratio: float, scope: str
) -> None:
    for name, cut in cuts.items():
        if cut.goes == _weight(layers[name]).numel():
            raise PruneError(
                f"layer {name!r} would lose all of its {cut.goes} weights at ratio {ratio:g} (scope {scope}), and "
                f"the network its use; lower the ratio or exclude the layer (exclude={name!r})"
            )


def _zero(weight: Tensor, scores: Tensor, cut: _Cut) -> None:
    marks = torch.empty(weight.numel(), dtype=torch.bool, device=weight.device)
    left = cut.ties
    for start, part in enumerate(_chunks(scores)):
        keys = _keys(part)
        goes = keys < cut.key
        equal = keys == cut.key
        goes |= equal & (equal.cumsum(0) <= left)
        left -= min(left, int(equal.sum()))
        marks[start * _CHUNK : (start + 1) * _CHUNK] = goes
    weight.masked_fill_(marks.view(weight.shape), 0)
