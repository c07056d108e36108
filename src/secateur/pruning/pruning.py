"""Scores, a ratio and a scope become zeros, in place. No mask is kept: a weight that is zero is pruned."""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import SupportsFloat

import torch
from torch import Tensor, nn

from secateur.errors import PruneError, PruneWarning, UsageError
from secateur.modules.candidates import (
    check_names,
    check_network,
    dense_left,
    few,
    is_lazy,
    matrices_left,
    prunable_layers,
    scored_layers,
)
from secateur.modules.guarding import copied, run
from secateur.modules.heads import output_layers
from secateur.modules.inputs import Example, as_inputs
from secateur.modules.layers import TRANSPOSED, evaluating, weight_of, weighted_layers
from secateur.modules.standardised import shares_used, zeros_undone
from secateur.modules.weight_norms import plain_weights
from secateur.pruning.allocation import cuts_by_layer, cuts_by_scope
from secateur.pruning.blocks import LOWEST, patterned, spread_over
from secateur.pruning.ranking import Cut, marked
from secateur.pruning.score import (
    PART,
    Batch,
    Context,
    Loss,
    Scores,
    check_scores,
    cross_entropy,
    find_method,
    gone_through,
    score,
)
from secateur.pruning.structures import Family, channel_families, cut_sets, filter_families
from secateur.records.patterns import (
    UNSTRUCTURED,
    Blocks,
    KeepNOfM,
    Pattern,
    WholeSets,
    check_pattern,
    check_pattern_in_scope,
    parse_pattern,
)
from secateur.records.spec import LIKE, check_scope
from secateur.support.quantities import as_float, is_share


@dataclass(frozen=True, slots=True)
class PruneLog:
    """What pruning left: weights kept and weights in all, of each layer that was pruned.

    left: what stayed dense because it is no layer that is pruned, by name, and why: the matrices of recurrent layers,
    attention, embeddings and parameters of one's own, which are not counted either; layers that do not learn, or whose
    weight is computed. undone: layers whose forward computes another weight, in which the zeros do not survive.
    """

    kept: Mapping[str, int]
    total: Mapping[str, int]
    left: Mapping[str, str] = field(default_factory=dict)
    undone: tuple[str, ...] = ()

    @property
    def sparsity(self) -> float:
        total = sum(self.total.values())
        return 1 - sum(self.kept.values()) / total if total else 0.0


def prune(
    network: nn.Module,
    ratio: SupportsFloat | Mapping[str, SupportsFloat],
    *,
    method: str | Scores = "magnitude",
    scope: str = "layer",
    pattern: str = UNSTRUCTURED,
    exclude: Sequence[str] = (),
    example: Example | None = None,
    keep_output: bool | str | Sequence[str] = True,
    allow_empty: bool = False,
    norms: bool = False,
    calibration: Iterable[Batch] | None = None,
    loss: Loss | None = None,
    seed: int = 0,
) -> PruneLog:
    """Zero the `ratio` least important weights of a network, in place, and say what is left.

    ratio: the share of a layer's (scope "layer") or of all (the other scopes) original weights that are zero
    afterwards; zeros already there count, so calling twice with 0.5 leaves half. Or a ratio for each layer by name,
    layers without one staying whole (1 empties one, if allow_empty); no scope is needed then. Magnitude's cut is that
    of torch.nn.utils.prune.l1_unstructured: the round(ratio × n) weights of smallest score; of equal scores the
    first go first. The layers that give the outputs stay whole (heads.output_layers says which) unless keep_output is
    False or names others; `example`, a batch of inputs as inputs.as_inputs takes it, makes sure of them and gives a
    lazy network its weights. exclude: names or patterns ("layer1.*") of layers or of their weights. norms: prune the
    scales of normalisations too, as a loop over every module that has a weight would; a channel whose scale is zero is
    gone. Layers that do not learn stay as they are, unless none learns. What else stays dense is in the log, and said
    in one PruneWarning.

    method: one of score.METHODS, "package.module:callable", or scores made before. scope: layer, global,
    erk, lamp, or "like:METHOD/SCOPE": each layer loses the share that it would lose to that method in that scope.
    pattern: "unstructured"; blocks as in "1x4" (outputs × inputs), the ratio being a share of the blocks; "2:4";
    whole sets by the L1 or L2 norm of what they score, so many that the share of weights that are zero comes nearest
    to the ratio: "filter-l1" (the weights of one output of one layer) or "channel-l2" (all that a channel has in the
    network, on every side of additions and concatenations, biases and normalisations too, so that shrink can take it
    out; `example` or calibration shows how it runs). One set of each kind stays.
    calibration: batches of inputs and targets, for methods that need them; loss: (outputs, targets) → the mean over a
    batch, by default the cross-entropy of classes; seed is for methods that draw. Magnitude without a pattern takes at
    most one layer's worth of memory beside the network, other methods some copies of all weights.

    Raises UsageError for a ratio outside [0, 1), a name that matches nothing, calibration of another form, targets
    that do not fit the loss, and where it is open which layer gives the output; PruneError for weights that are not
    finite or cannot be written, and where a layer would lose every weight, unless allow_empty (a network with shortcuts
    may live on without a layer; where fewer whole sets can go than should, all that can).
    Nothing is changed then. For channels ShrinkError where the network cannot be run, PruneError where none can go.
    Han et al. 2015, §3.
    """
    ratio = _asked(ratio, method, scope, pattern)
    shown = _shown(example, calibration)
    if is_lazy(network) and shown is not None:
        _initialise(network, shown)
    check_network(network)
    outputs = _outputs(network, keep_output, example, shown)
    log = cut(
        network,
        ratio,
        method=method,
        scope=scope,
        pattern=pattern,
        exclude=exclude,
        example=example,
        outputs=outputs,
        allow_empty=allow_empty,
        norms=norms,
        calibration=calibration,
        loss=loss,
        seed=seed,
    )
    left = dense_left(network, exclude, outputs)
    undone = zeros_undone(network, log.kept, shown)
    _warn(network, {"left dense": _named(left), "zeros that do not last, as forward computes another weight": undone})
    return replace(log, left=left, undone=undone)


def cut(
    network: nn.Module,
    ratio: SupportsFloat | Mapping[str, SupportsFloat],
    *,
    method: str | Scores = "magnitude",
    scope: str = "layer",
    pattern: str = UNSTRUCTURED,
    exclude: Sequence[str] = (),
    example: Example | None = None,
    outputs: Collection[str] = (),
    allow_empty: bool = False,
    norms: bool = False,
    calibration: Iterable[Batch] | None = None,
    loss: Loss | None = None,
    seed: int = 0,
) -> PruneLog:
    """As prune, but `outputs` are what stays whole, and what stays dense is neither looked for nor said."""
    ratio = _asked(ratio, method, scope, pattern)
    layers = prunable_layers(network, exclude, outputs, norms)
    if isinstance(ratio, Mapping):
        _check_layers(ratio, layers)
    with plain_weights(network):
        weights = {name: weight_of(layer) for name, layer in layers.items()}
        if not isinstance(ratio, Mapping) and scope.startswith(LIKE):
            ratio = _ratios_like(network, ratio, scope, pattern, exclude, outputs, norms, calibration, loss, seed)
        context = Context(network, weights, calibration, loss or cross_entropy, seed)
        shape = parse_pattern(pattern)
        families = _families(context, shape, example, outputs)
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


def _shown(example: Example | None, calibration: Iterable[Batch] | None) -> Example | None:
    """A batch of inputs, of those that were given, on which the network can be run."""
    if example is not None or calibration is None:
        return example
    return next(gone_through(calibration))[0]


def _initialise(network: nn.Module, example: Example) -> None:
    """Run a lazy network, which gives it its weights."""
    with evaluating(network), torch.no_grad():
        run(network, as_inputs(example, network))


def _outputs(
    network: nn.Module, keep_output: bool | str | Sequence[str], example: Example | None, shown: Example | None
) -> tuple[str, ...]:
    """The names of the layers that stay whole."""
    if isinstance(keep_output, bool):
        return _found_outputs(network, example, shown) if keep_output else ()
    names = (keep_output,) if isinstance(keep_output, str) else tuple(keep_output)
    check_names(names, weighted_layers(network), "keep_output")
    return names


def _found_outputs(network: nn.Module, example: Example | None, shown: Example | None) -> tuple[str, ...]:
    try:
        return output_layers(network, example)
    except UsageError:
        if example is not None or shown is None:
            raise
        return output_layers(network, shown)


def _warn(network: nn.Module, said: Mapping[str, Sequence[str]]) -> None:
    """One PruneWarning of all that was said, for the caller's caller."""
    told = [f"{what}: {few(names)}" for what, names in said.items() if names]
    if told:
        warnings.warn(f"{type(network).__name__}: {'; '.join(told)}", PruneWarning, stacklevel=3)


def _named(reasons: Mapping[str, str]) -> list[str]:
    return [f"{name} ({reason})" for name, reason in reasons.items()]


def _families(
    context: Context, shape: Pattern | None, example: Example | None, outputs: Collection[str]
) -> list[Family]:
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
    return channel_families(context.network, images, context.weights, outputs)


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
    for name, each in cuts.items():
        if not allow_empty:
            _check_not_emptied(name, weights[name], each, scores.values_by_layer[name].numel(), asked)
    for name, each in cuts.items():
        _zero(weights[name], scores, name, each, shape, transposed.get(name))
    if isinstance(shape, KeepNOfM):
        _hold_n_of_m(weights, scores, ratio)


def _asked(
    ratio: SupportsFloat | Mapping[str, SupportsFloat], method: str | Scores, scope: str, pattern: str
) -> float | dict[str, float]:
    """The ratio in Python's own numbers. Raises UsageError where what is asked for makes no sense."""
    if not isinstance(method, str | Scores):
        raise UsageError(
            f"method {type(method).__name__}: expected a name, your own as 'package.module:callable', or Scores"
        )
    check_scope(scope)
    several = isinstance(ratio, Mapping)
    shares = {name: as_float(each) for name, each in (ratio.items() if isinstance(ratio, Mapping) else [("", ratio)])}
    for share in shares.values():
        if not is_share(share) and not (several and share == 1 and not isinstance(share, bool)):
            whole = ", or 1 for a layer that may be emptied" if several else ""
            raise UsageError(
                f"ratio {share!r}: expected in [0, 1){whole}: the share of weights to zero, so 0.9 for 90 %"
            )
        check_pattern(pattern, share)
    check_pattern_in_scope(pattern, "ratios by layer" if several else scope)
    return shares if several else shares[""]


def _check_layers(ratios: Iterable[str], layers: Iterable[str]) -> None:
    for name in ratios:
        if name not in layers:
            raise UsageError(f"ratio of {name!r}: expected the name of a layer to prune, one of {', '.join(layers)}")


def _ratios_like(
    network: nn.Module,
    ratio: float,
    scope: str,
    pattern: str,
    exclude: Sequence[str],
    outputs: Collection[str],
    norms: bool,
    calibration: Iterable[Batch] | None,
    loss: Loss | None,
    seed: int,
) -> dict[str, float]:
    """The share that each layer would lose to another method and scope, found on a copy."""
    method, _, inner = scope.removeprefix(LIKE).rpartition("/")
    log = cut(
        copied(network),
        ratio,
        method=method,
        scope=inner,
        pattern=pattern,
        exclude=exclude,
        outputs=outputs,
        allow_empty=True,
        norms=norms,
        calibration=calibration,
        loss=loss,
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
    """The share of weights that are zero, over all linear and convolution layers (the output layers too).

    Of a layer whose forward computes another weight, in that one. Matrices that are neither pruned nor counted are said
    in a PruneWarning, as by prune. Raises PruneError for weights without values.
    """
    shares = _shares(network)
    _warn(network, {"neither pruned nor counted": _named(matrices_left(network))})
    sizes = {name: weight_of(layer).numel() for name, layer in weighted_layers(network).items()}
    return sum(share * sizes[name] for name, share in shares.items()) / max(1, sum(sizes.values()))


def layer_sparsity(network: nn.Module) -> dict[str, float]:
    """The share of weights that are zero, of each linear and convolution layer by name; otherwise as sparsity."""
    shares = _shares(network)
    _warn(network, {"neither pruned nor counted": _named(matrices_left(network))})
    return shares


def _shares(network: nn.Module) -> dict[str, float]:
    check_network(network)
    layers = weighted_layers(network)
    own = {name: zeros / max(1, weight_of(layers[name]).numel()) for name, zeros in zero_counts(network).items()}
    return own | {name: min(own[name], share) for name, share in shares_used(network, layers).items()}


def zero_counts(network: nn.Module, norms: bool = False) -> dict[str, int]:
    """How many weights are zero, of each linear and convolution layer (and, if asked, normalisation) by name."""
    weights = {name: weight_of(layer) for name, layer in scored_layers(network, norms).items()}
    return {name: weight.numel() - int(torch.count_nonzero(weight)) for name, weight in weights.items()}


def _check_not_emptied(name: str, weight: Tensor, gone: Cut, size: int, asked: str) -> None:
    if gone.goes == size > 0:
        raise PruneError(
            f"layer {name!r} would lose all of its {weight.numel()} weights at {asked}, and the "
            f"network perhaps its use; lower the ratio, exclude the layer ({name!r}) or allow it (allow empty)"
        )


def _zero(
    weight: Tensor,
    scores: Scores,
    name: str,
    gone: Cut,
    pattern: Blocks | KeepNOfM | None,
    transposed: int | None,
) -> None:
    """Zero what is cut, part by part; blocks and weights in another memory layout take their marks all at once."""
    values = scores.values_by_layer[name]
    if not isinstance(pattern, Blocks) and weight.is_contiguous():
        for start, marks in zip(itertools.count(0, PART), marked(scores, name, gone), strict=False):
            weight.view(-1)[start : start + PART].masked_fill_(marks, 0)
    else:
        marks = torch.cat(list(marked(scores, name, gone))).view(values.shape)
        weight.masked_fill_(spread_over(marks, weight.shape, pattern, transposed), 0)
