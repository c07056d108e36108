"""Scores, a ratio and a scope become zeros, in place. No mask is kept: a weight that is zero is pruned."""

from __future__ import annotations

import fnmatch
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from secateur.errors import PruneError, UsageError
from secateur.layers import norm_layers, output_layer, weighted_layers
from secateur.score import PART, Scores, score
from secateur.spec import SCOPES

_DIGIT_BITS = 11
_BINS = 1 << _DIGIT_BITS


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
    allow_empty: bool = False,
    norms: bool = False,
) -> PruneLog:
    """Zero the `ratio` least important weights of a network, in place, and say what is left.

    ratio: the share of a layer's (scope "layer") or of all (scope "global") original weights that are zero
    afterwards; zeros already there count, so calling twice with 0.5 leaves half. The cut is that of
    torch.nn.utils.prune.l1_unstructured: the round(ratio × n) weights of smallest score; of equal scores the
    first go first. The output layer, the last weighted one executed, stays whole unless keep_output is False;
    `example`, a batch of inputs, makes sure of the order, or keep_output names the layer. exclude: names or
    patterns ("layer1.*") of layers or of their weights. norms: prune the scales of normalisations too, as a
    loop over every module that has a weight would; a channel whose scale is zero is gone. At most one layer's
    worth of memory is used beside the network.

    Raises UsageError for a ratio outside [0, 1) or a name that matches nothing, PruneError for weights that
    are not finite or not plain parameters, and where a layer would lose every weight, unless allow_empty (a
    network with shortcuts may live on without a layer). Nothing is changed then.
    Han et al. 2015, §3.
    """
    if not 0 <= ratio < 1:
        raise UsageError(f"ratio {ratio!r}: expected in [0, 1): the share of weights to zero, so 0.9 for 90 %")
    if scope not in SCOPES:
        raise UsageError(f"scope {scope!r}: expected one of {', '.join(SCOPES)}")
    output = output_layer(network, example) if keep_output is True else keep_output or None
    weights = {name: weight_of(layer) for name, layer in prunable_layers(network, exclude, output, norms).items()}
    scores = score(weights, method)
    for name in weights:
        _check_finite(scores, name, method)
    groups = [[name] for name in weights] if scope == "layer" else [list(weights)]
    cuts = {name: cut for group in groups for name, cut in _cuts(scores, group, ratio)}
    for name, cut in cuts.items():
        if not allow_empty:
            _check_not_emptied(name, weights[name], cut, ratio, scope)
    for name, cut in cuts.items():
        _zero(weights[name], scores, name, cut)
    return PruneLog(
        {name: int(torch.count_nonzero(weight)) for name, weight in weights.items()},
        {name: weight.numel() for name, weight in weights.items()},
    )


def sparsity(network: nn.Module) -> float:
    """The share of weights that are zero, over all linear and convolution layers (the output layer too)."""
    total = sum(weight_of(layer).numel() for layer in weighted_layers(network).values())
    return sum(zero_counts(network).values()) / total if total else 0.0


def layer_sparsity(network: nn.Module) -> dict[str, float]:
    """The share of weights that are zero, of each linear and convolution layer by name."""
    layers = weighted_layers(network)
    return {name: zeros / max(1, weight_of(layers[name]).numel()) for name, zeros in zero_counts(network).items()}


def zero_counts(network: nn.Module, norms: bool = False) -> dict[str, int]:
    """How many weights are zero, of each linear and convolution layer (and, if asked, normalisation) by name."""
    weights = {name: weight_of(layer) for name, layer in scored_layers(network, norms).items()}
    return {name: weight.numel() - int(torch.count_nonzero(weight)) for name, weight in weights.items()}


def scored_layers(network: nn.Module, norms: bool = False) -> dict[str, nn.Module]:
    """Linear and convolution layers by name, and after them, if asked, the normalisations that have a scale."""
    return weighted_layers(network) | (norm_layers(network) if norms else {})


def prunable_layers(
    network: nn.Module, exclude: Sequence[str], output: str | None, norms: bool = False
) -> dict[str, nn.Module]:
    """The layers that may be pruned, by name. Raises as prune does."""
    layers = scored_layers(network, norms)
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
        name for name in layers if fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(f"{name}.weight", pattern)
    ]
    if not found:
        raise UsageError(f"exclude {pattern!r} matches no layer: expected one of {', '.join(layers)}, or a pattern")
    return found


def weight_of(layer: nn.Module) -> Tensor:
    """A weighted layer's weight, outside of autograd; writing to it writes to the layer."""
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


def _check_finite(scores: Scores, name: str, method: str) -> None:
    bad = sum(int((~torch.isfinite(part)).sum()) for part in scores.parts(name))
    if bad:
        raise PruneError(
            f"layer {name!r}: {bad} of its {method} scores are not finite, so its weights cannot be ranked; "
            "mend the checkpoint or exclude the layer"
        )


@dataclass(frozen=True, slots=True)
class _Cut:
    """Of a layer's scores, all below `key` go, and the first `ties` that equal it. `goes` counts both.

    dtype is the precision in which keys are read.
    """

    dtype: torch.dtype
    key: int
    ties: int
    goes: int


def _cuts(scores: Scores, group: list[str], ratio: float) -> Iterator[tuple[str, _Cut]]:
    """The cut of each layer such that the group loses its round(ratio × n) lowest scores."""
    count = round(ratio * sum(scores.values_by_layer[name].numel() for name in group))
    if count == 0:
        return
    double = any(scores.values_by_layer[name].dtype == torch.float64 for name in group)
    dtype = torch.float64 if double else torch.float32
    key, left = _kth_smallest(scores, group, count, dtype)
    for name in group:
        below, equal = _count(scores, name, key, dtype)
        ties = min(left, equal)
        left -= ties
        if below + ties:
            yield name, _Cut(dtype, key, ties, below + ties)


def _count(scores: Scores, name: str, key: int, dtype: torch.dtype) -> tuple[int, int]:
    """How many scores of a layer lie below a key, and how many are equal to it."""
    below = equal = 0
    for part in scores.parts(name):
        keys = _keys(part, dtype)
        below += int((keys < key).sum())
        equal += int((keys == key).sum())
    return below, equal


def _kth_smallest(scores: Scores, group: list[str], k: int, dtype: torch.dtype) -> tuple[int, int]:
    """(key, rank): the k-th smallest key of a group (from 1), and how many of the keys equal to it are in.

    An exact selection by radix: each pass counts one 11-bit digit of the scores' bit patterns, so nothing is
    copied and nothing sorted.
    """
    prefix, rank = 0, k
    bits = 63 if dtype == torch.float64 else 32
    for level in reversed(range(-(-bits // _DIGIT_BITS))):
        counts = torch.zeros(_BINS, dtype=torch.int64)
        for name in group:
            counts += _histogram(scores, name, level * _DIGIT_BITS, prefix, dtype)
        upto = counts.cumsum(0)
        digit = int(torch.searchsorted(upto, rank))
        rank -= int(upto[digit - 1]) if digit else 0
        prefix = prefix << _DIGIT_BITS | digit
    return prefix, rank


def _histogram(scores: Scores, name: str, shift: int, prefix: int, dtype: torch.dtype) -> Tensor:
    """How often each digit at `shift` occurs among a layer's keys whose higher bits are `prefix`."""
    counts = torch.zeros(_BINS, dtype=torch.int64)
    for part in scores.parts(name):
        keys = _keys(part, dtype)
        digits = keys[keys >> (shift + _DIGIT_BITS) == prefix] >> shift & (_BINS - 1)
        counts += torch.bincount(digits, minlength=_BINS).cpu()
    return counts


def _keys(part: Tensor, dtype: torch.dtype) -> Tensor:
    """int64 keys, 0 or more, that order as finite values do: IEEE bit patterns, negative ones turned over.

    Doubles lose their last bit, which keeps their keys positive.
    """
    if dtype == torch.float64:
        bits = (part.double() + 0.0).view(torch.int64)
        return (torch.where(bits < 0, bits ^ 0x7FFFFFFFFFFFFFFF, bits) >> 1) + (1 << 62)
    bits = (part.float() + 0.0).view(torch.int32).long()
    return torch.where(bits < 0, -1 - (bits & 0x7FFFFFFF), bits) + (1 << 31)


def _check_not_emptied(name: str, weight: Tensor, cut: _Cut, ratio: float, scope: str) -> None:
    if cut.goes == weight.numel():
        raise PruneError(
            f"layer {name!r} would lose all of its {cut.goes} weights at ratio {ratio:g} (scope {scope}), and the "
            f"network perhaps its use; lower the ratio, exclude the layer ({name!r}) or allow it (allow empty)"
        )


def _zero(weight: Tensor, scores: Scores, name: str, cut: _Cut) -> None:
    """Zero the cut's weights part by part; a weight in another memory layout takes its marks all at once."""
    marks = torch.empty(0 if weight.is_contiguous() else weight.numel(), dtype=torch.bool, device=weight.device)
    left = cut.ties
    for start, part in zip(itertools.count(0, PART), scores.parts(name), strict=False):
        keys = _keys(part, cut.dtype)
        equal = keys == cut.key
        goes = (keys < cut.key) | (equal & (equal.cumsum(0) <= left))
        left -= min(left, int(equal.sum()))
        if marks.numel():
            marks[start : start + PART] = goes
        else:
            weight.view(-1)[start : start + PART].masked_fill_(goes, 0)
    if marks.numel():
        weight.masked_fill_(marks.view(weight.shape), 0)
