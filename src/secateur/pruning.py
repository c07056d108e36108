"""Scores, a ratio and a scope become zeros, in place. No mask is kept: a weight that is zero is pruned."""

from __future__ import annotations

import contextlib
import fnmatch
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from secateur.allocation import cuts_by_layer, cuts_by_scope
from secateur.blocks import LOWEST, patterned, spread_over
from secateur.errors import PruneError, UsageError
from secateur.guarding import copied
from secateur.layers import TRANSPOSED, norm_layers, output_layer, weight_of, weighted_layers
from secateur.patterns import (
    UNSTRUCTURED,
    Blocks,
    KeepNOfM,
    Pattern,
    WholeSets,
    check_pattern,
    check_pattern_in_scope,
    parse_pattern,
)
from secateur.ranking import Cut, marked
from secateur.score import PART, Batch, Context, Scores, check_scores, find_method, score
from secateur.spec import LIKE, check_scope
from secateur.structures import Family, channel_families, cut_sets, filter_families


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
    ratio: float | Mapping[str, float],
    *,
    method: str | Scores = "magnitude",
    scope: str = "layer",
    pattern: str = UNSTRUCTURED,
    exclude: Sequence[str] = (),
    example: Tensor | None = None,
    keep_output: bool | str = True,
    allow_empty: bool = False,
    norms: bool = False,
    calibration: Iterable[Batch] | None = None,
    seed: int = 0,
) -> PruneLog:
    """Zero the `ratio` least important weights of a network, in place, and say what is left.

    ratio: the share of a layer's (scope "layer") or of all (the other scopes) original weights that are zero
    afterwards; zeros already there count, so calling twice with 0.5 leaves half. Or a ratio for each layer by name,
    layers without one staying whole (1 empties one, if allow_empty); no scope is needed then. Magnitude's cut is that
    of torch.nn.utils.prune.l1_unstructured: the round(ratio × n) weights of smallest score; of equal scores the
    first go first. The output layer, the last weighted one executed, stays whole unless keep_output is False;
    `example`, a batch of inputs, makes sure of the order, or keep_output names the layer. exclude: names or
    patterns ("layer1.*") of layers or of their weights. norms: prune the scales of normalisations too, as a
    loop over every module that has a weight would; a channel whose scale is zero is gone.

    method: one of secateur.score.METHODS, "package.module:callable", or scores made before. scope: layer, global,
    erk, lamp, or "like:METHOD/SCOPE": each layer loses the share that it would lose to that method in that scope.
    pattern: "unstructured"; blocks as in "1x4" (outputs × inputs), the ratio being a share of the blocks; "2:4";
    whole sets by the L1 or L2 norm of what they score, so many that the share of weights that are zero comes nearest
    to the ratio: "filter-l1" (the weights of one output of one layer) or "channel-l2" (all that a channel has in the
    network, on every side of additions and concatenations, biases and normalisations too, so that shrink can take it
    out; `example` or calibration shows how it runs). One set of each kind stays.
    calibration: batches of images and labels, for methods that need them; seed is for those that draw. Magnitude
    without a pattern takes at most one layer's worth of memory beside the network, other methods some copies of all
    weights.

    Raises UsageError for a ratio outside [0, 1), a name that matches nothing or calibration of another form, PruneError
    for weights that are not finite or not plain parameters, and where a layer would lose every weight, unless
    allow_empty (a network with shortcuts may live on without a layer; where fewer whole sets can go than should, all
    that can).
    Nothing is changed then. For channels ShrinkError where the network cannot be run, PruneError where none can go.
    Han et al. 2015, §3.
    """
    _check_request(ratio, method, scope, pattern)
    output = _output(network, keep_output, example)
    layers = prunable_layers(network, exclude, output, norms)
    weights = {name: weight_of(layer) for name, layer in layers.items()}
    if isinstance(ratio, Mapping):
        _check_layers(ratio, weights)
    elif scope.startswith(LIKE):
        ratio = _ratios_like(network, ratio, scope, pattern, exclude, output, norms, calibration, seed)
    context = Context(network, weights, calibration, seed=seed)
    shape = parse_pattern(pattern)
    families = _families(context, shape, example, output)
    transposed = {name: layer.groups for name, layer in layers.items() if isinstance(layer, TRANSPOSED)}
    rounds = 1 if isinstance(method, Scores) else find_method(method).rounds
    with _unchanged_on_error(network) if rounds > 1 else contextlib.nullcontext():
        for part in range(1, rounds + 1):
            scores, share = _scores(method, context), _partly(ratio, part / rounds)
            if isinstance(shape, WholeSets):
                cut_sets(network, families, scores, weights, shape, scope, share, allow_empty)
            else:
                _cut_weights(scores, weights, shape, scope, share, allow_empty, transposed)
    return PruneLog(
        {name: int(torch.count_nonzero(weight)) for name, weight in weights.items()},
        {name: weight.numel() for name, weight in weights.items()},
    )


def _families(context: Context, shape: Pattern | None, example: Tensor | None, output: str | None) -> list[Family]:
    """What is cut as a whole, for patterns of whole sets."""
    if not isinstance(shape, WholeSets):
        return []
    if shape.kind == "filter":
        return filter_families(context.network, context.weights)
    if example is None and context.calibration is None:
        raise UsageError(
            "whole channels are followed through the network as it runs: expected a batch of inputs as example=…, "
            "or calibration batches, got none"
        )
    images = example if example is not None else next(iter(context.batches()))[0]
    return channel_families(context.network, images, context.weights, output)


def _cut_weights(
    scores: Scores,
    weights: Mapping[str, Tensor],
    shape: Blocks | KeepNOfM | None,
    scope: str,
    ratio: float | Mapping[str, float],
    allow_empty: bool,
    transposed: Mapping[str, int],
) -> None:
    """Zero single weights, or blocks of them. transposed: as in patterned."""
    asked = f"ratio {ratio:g} (scope {scope})" if isinstance(ratio, float | int) else "the ratio of the layer"
    scores = patterned(scores, weights, shape, transposed)
    cuts = dict(_cuts(scores, weights, scope, ratio))
    for name, cut in cuts.items():
        if not allow_empty:
            _check_not_emptied(name, weights[name], cut, scores.values_by_layer[name].numel(), asked)
    for name, cut in cuts.items():
        _zero(weights[name], scores, name, cut, shape, transposed.get(name))
    if isinstance(shape, KeepNOfM):
        _hold_n_of_m(weights, scores, ratio)


def _output(network: nn.Module, keep_output: bool | str, example: Tensor | None) -> str | None:
    """The name of the layer that stays whole, None for none."""
    if keep_output is True:
        return output_layer(network, example)
    if keep_output and keep_output not in (names := weighted_layers(network)):
        raise UsageError(f"keep_output {keep_output!r} names no layer: expected one of {', '.join(names)}")
    return keep_output or None


def _check_request(ratio: float | Mapping[str, float], method: str | Scores, scope: str, pattern: str) -> None:
    if not isinstance(method, str | Scores):
        raise UsageError(
            f"method {type(method).__name__}: expected a name, your own as 'package.module:callable', or Scores"
        )
    check_scope(scope)
    several = isinstance(ratio, Mapping)
    for share in ratio.values() if isinstance(ratio, Mapping) else (ratio,):
        number = isinstance(share, Real) and not isinstance(share, bool)
        if not number or not (0 <= share < 1 or (several and share == 1)):
            whole = ", or 1 for a layer that may be emptied" if several else ""
            raise UsageError(
                f"ratio {share!r}: expected in [0, 1){whole}: the share of weights to zero, so 0.9 for 90 %"
            )
        check_pattern(pattern, share)
    check_pattern_in_scope(pattern, "ratios by layer" if isinstance(ratio, Mapping) else scope)


def _check_layers(ratios: Mapping[str, float], weights: Mapping[str, Tensor]) -> None:
    for name in ratios:
        if name not in weights:
            raise UsageError(f"ratio of {name!r}: expected the name of a layer to prune, one of {', '.join(weights)}")


def _ratios_like(
    network: nn.Module,
    ratio: float,
    scope: str,
    pattern: str,
    exclude: Sequence[str],
    output: str | None,
    norms: bool,
    calibration: Iterable[Batch] | None,
    seed: int,
) -> dict[str, float]:
    """The share that each layer would lose to another method and scope, found on a copy."""
    method, _, inner = scope.removeprefix(LIKE).rpartition("/")
    log = prune(
        copied(network),
        ratio,
        method=method,
        scope=inner,
        pattern=pattern,
        exclude=exclude,
        keep_output=output or False,
        allow_empty=True,
        norms=norms,
        calibration=calibration,
        seed=seed,
    )
    return {name: 1 - kept / max(1, log.total[name]) for name, kept in log.kept.items()}


def _scores(method: str | Scores, context: Context) -> Scores:
    if isinstance(method, str):
        return score(method, context)
    for name, weight in context.weights.items():
        check_scores(method, name, weight, "given")
    return method


def _partly(ratio: float | Mapping[str, float], part: float) -> float | dict[str, float]:
    """The ratio after a part of an exponential schedule of densities (Tanaka et al. 2020, algorithm 1)."""
    if isinstance(ratio, Mapping):
        return {name: share if part == 1 else 1 - (1 - share) ** part for name, share in ratio.items()}
    return ratio if part == 1 else 1 - (1 - ratio) ** part


def _cuts(
    scores: Scores, weights: Mapping[str, Tensor], scope: str, ratio: float | Mapping[str, float]
) -> Iterator[tuple[str, Cut]]:
    if isinstance(ratio, Mapping):
        return cuts_by_layer(scores, ratio)
    return cuts_by_scope(scores, scope, ratio, {name: weight.shape for name, weight in weights.items()})


def _hold_n_of_m(weights: Mapping[str, Tensor], scores: Scores, ratio: float | Mapping[str, float]) -> None:
    """Zero what N:M alone forbids, also in layers of which the scope would have left more."""
    for name, weight in weights.items():
        share = ratio.get(name, 0.0) if isinstance(ratio, Mapping) else ratio
        if share > 0:
            weight.masked_fill_(scores.values_by_layer[name] == LOWEST, 0)


@contextlib.contextmanager
def _unchanged_on_error(network: nn.Module) -> Iterator[None]:
    """Where the block raises, the parameters get their former values back."""
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    try:
        yield
    except BaseException:
        for name, parameter in network.named_parameters():
            parameter.detach().copy_(before[name])
        raise


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


def _check_plain(name: str, layer: nn.Module) -> None:
    weight = layer._parameters.get("weight")
    if weight is None:
        raise PruneError(
            f"layer {name!r}: its weight is computed from other tensors (a mask of torch.nn.utils.prune, weight "
            "norm or a parametrization), so zeros would not last; remove that first, as with prune.remove"
        )
    if isinstance(weight, UninitializedParameter) or weight.is_meta:
        raise PruneError(f"layer {name!r}: its weight has no values yet; run or load the network first")


def _check_not_emptied(name: str, weight: Tensor, cut: Cut, size: int, asked: str) -> None:
    if cut.goes == size:
        raise PruneError(
            f"layer {name!r} would lose all of its {weight.numel()} weights at {asked}, and the "
            f"network perhaps its use; lower the ratio, exclude the layer ({name!r}) or allow it (allow empty)"
        )


def _zero(
    weight: Tensor,
    scores: Scores,
    name: str,
    cut: Cut,
    pattern: Blocks | KeepNOfM | None,
    transposed: int | None,
) -> None:
    """Zero what is cut, part by part; blocks and weights in another memory layout take their marks all at once."""
    values = scores.values_by_layer[name]
    if not isinstance(pattern, Blocks) and weight.is_contiguous():
        for start, marks in zip(itertools.count(0, PART), marked(scores, name, cut), strict=False):
            weight.view(-1)[start : start + PART].masked_fill_(marks, 0)
    else:
        marks = torch.cat(list(marked(scores, name, cut))).view(values.shape)
        weight.masked_fill_(spread_over(marks, weight.shape, pattern, transposed), 0)
