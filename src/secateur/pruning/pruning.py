"""Scores, a ratio and a scope become zeros, in place. No mask is kept: a weight that is zero is pruned."""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, SupportsFloat

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
    share_of,
)
from secateur.modules.guarding import copied, run
from secateur.modules.heads import output_layers
from secateur.modules.inputs import Example, as_inputs, own_example
from secateur.modules.layers import evaluating, in_a_row, weighted_layers
from secateur.modules.matrices import Axes, Matrix, every_matrix
from secateur.modules.standardised import shares_used, zeros_undone
from secateur.modules.uses import oriented
from secateur.modules.weight_norms import plain_weights
from secateur.pruning.allocation import cuts_by_layer, cuts_by_scope
from secateur.pruning.blocks import LOWEST, patterned, spread_over
from secateur.pruning.ranking import Lost, marked
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
from secateur.records.cuts import Cut, Scope, asked_cut
from secateur.records.patterns import (
    UNSTRUCTURED,
    Blocks,
    KeepNOfM,
    Pattern,
    WholeSets,
    parse_pattern,
)
from secateur.training.tasks import loss_of


@dataclass(frozen=True, slots=True)
class PruneLog:
    """What pruning left: weights kept and weights in all, of each layer that was pruned.

    left: what stayed dense because it is no layer that is pruned, by name, and why: embeddings and parameters of one's
    own, which are not counted either; layers that do not learn, or whose weight is computed. left_share: what share of
    the network's parameters they are. undone: layers whose forward computes another weight, in which the zeros do not
    survive.
    """

    kept: Mapping[str, int]
    total: Mapping[str, int]
    left: Mapping[str, str] = field(default_factory=dict)
    left_share: float = 0.0
    undone: tuple[str, ...] = ()

    @property
    def sparsity(self) -> float:
        total = sum(self.total.values())
        return 1 - sum(self.kept.values()) / total if total else 0.0


@dataclass(frozen=True, slots=True)
class Pruning:
    """How weights go, whatever their share: the options of prune that a cut needs, as prune has them.

    families: the network's channels, as channel_families finds them, where that is known already.
    """

    method: str | Scores = "magnitude"
    pattern: str | Mapping[str, str] = UNSTRUCTURED
    exclude: Sequence[str] = ()
    example: Example | None = None
    allow_empty: bool = False
    norms: bool = False
    calibration: Iterable[Batch] | None = None
    loss: Loss | None = None
    seed: int = 0
    include: Sequence[str] = ()
    families: Sequence[Family] | None = None


def prune(
    network: nn.Module,
    ratio: SupportsFloat | Mapping[str, SupportsFloat],
    *,
    method: str | Scores = "magnitude",
    scope: str = "layer",
    pattern: str | Mapping[str, str] = UNSTRUCTURED,
    exclude: Sequence[str] = (),
    include: Sequence[str] = (),
    example: Example | None = None,
    keep_output: bool | str | Sequence[str] = True,
    allow_empty: bool = False,
    norms: bool = False,
    calibration: Iterable[Batch] | None = None,
    loss: Loss | None = None,
    seed: int = 0,
) -> PruneLog:
    """Zero the `ratio` least important weights of a network, in place, and say what is left.

        >>> network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
        >>> secateur.prune(network, 0.75).sparsity
        0.75

    ratio: the share of a layer's (scope "layer") or of all (the other scopes) original weights that are zero
    afterwards; zeros already there count, so calling twice with 0.5 leaves half. Or a ratio for each layer by name,
    layers without one staying whole (1 empties one, if allow_empty); no scope is needed then. Magnitude's cut is that
    of torch.nn.utils.prune.l1_unstructured: the round(ratio × n) weights of smallest score; of equal scores the
    first go first. The layers that give the outputs stay whole (heads.output_layers says which) unless keep_output is
    False or names others; `example`, a batch of inputs as inputs.as_inputs takes it, makes sure of them and gives a
    lazy network its weights. Layers are linear and convolutional ones, bilinear ones, and each matrix of recurrent
    layers and attention ("rnn.weight_hh_l0", "attention.in_proj_weight"). exclude: names or patterns ("layer1.*") of
    layers or of their weights. include: likewise, of embeddings and parameters of one's own, which stay whole unless
    they are named here or have a ratio; what is tied to an output layer goes with that. norms: prune the scales of
    normalisations too, as a loop over every module that has a weight would; a channel whose scale is zero is
    gone. Layers that do not learn stay as they are, unless none learns. What else stays dense is in the log, and said
    in one PruneWarning.

    method: one of score.METHODS, "package.module:callable", or scores made before. scope: layer, global,
    erk, lamp, or "like:METHOD/SCOPE": each layer loses the share that it would lose to that method in that scope.
    pattern: "unstructured"; blocks as in "1x4" (outputs × inputs), the ratio being a share of the blocks; "2:4";
    whole sets by the L1 or L2 norm of what they score, so many that the share of weights that are zero comes nearest
    to the ratio: "filter-l1" (the weights of one output of one layer) or "channel-l2" (all that a channel has in the
    network, on every side of additions and concatenations, biases and normalisations too, so that shrink can take it
    out; `example` or calibration shows how it runs). One set of each kind stays. Of channels a ratio by layer is the
    share of the channels that the layer makes, for all that make them with it. Or, beside a ratio by layer, a pattern
    for each layer by name, but for whole sets; layers without one are unstructured.
    calibration: batches of inputs and targets, or a Task, for methods that need them; loss: (outputs, targets) → the
    mean over a batch, by default a task's own or the cross-entropy of classes; seed is for methods that draw. Magnitude
    without a pattern takes at most one layer's worth of memory beside the network, other methods some copies of all
    weights.

    Raises UsageError for a ratio outside [0, 1), a name that matches nothing, calibration of another form, targets
    that do not fit the loss, and where it is open which layer gives the output; PruneError for weights that are not
    finite or cannot be written, and where a layer would lose every weight, unless allow_empty (a network with shortcuts
    may live on without a layer; where fewer whole sets can go than should, all that can).
    Nothing is changed then. For channels ShrinkError where the network cannot be run, PruneError where none can go.
    Han et al. 2015, §3.
    """
    example = own_example(network) if example is None else example
    asked = asked_cut(ratio, scope)
    include = (*in_a_row(include), *_named_in(network, asked))
    how = Pruning(
        method, pattern, exclude, example, allow_empty, norms, calibration, loss or loss_of(calibration), seed, include
    )
    _check(asked, how)
    shown = _shown(example, calibration)
    if is_lazy(network) and shown is not None:
        _initialise(network, shown)
    check_network(network)
    outputs = _outputs(network, keep_output, example, shown, include)
    log = cut(network, asked, how, outputs)
    left = dense_left(network, exclude, outputs, include)
    undone = zeros_undone(network, log.kept, shown)
    _warn(network, {"left dense": left, "zeros that do not last, as forward computes another weight": undone})
    return replace(log, left=left, left_share=share_of(network, left), undone=undone)


def cut(network: nn.Module, asked: Cut, how: Pruning, outputs: Collection[str] = ()) -> PruneLog:
    """As prune, but `outputs` are what stays whole, and what stays dense is neither looked for nor said."""
    _check(asked, how)
    layers = prunable_layers(network, how.exclude, outputs, how.norms, how.include)
    if asked.by_layer is not None:
        _check_layers(dict(asked.by_layer), layers)
    with plain_weights(network):
        weights = {name: layer.weight for name, layer in layers.items()}
        if asked.by_layer is None and asked.scope.like:
            asked = _cut_like(network, asked, how, outputs)
        context = Context(network, weights, how.calibration, how.loss or cross_entropy, how.seed)
        shapes = _shapes(how.pattern, layers)
        whole = parse_pattern(how.pattern) if isinstance(how.pattern, str) else None
        families = _families(context, whole, how.example, outputs) if how.families is None else how.families
        axes = _axes(network, layers, shapes, _shown(how.example, how.calibration))
        rounds = 1 if isinstance(how.method, Scores) else find_method(how.method).rounds
        with _unchanged_on_error(network) if rounds > 1 else contextlib.nullcontext():
            for part in range(1, rounds + 1):
                scores, share = _scores(how.method, context), asked.part(part / rounds)
                if isinstance(whole, WholeSets):
                    cut_sets(network, families, scores, weights, whole, share, how.allow_empty)
                else:
                    _cut_weights(scores, _losing(weights, share), shapes, share, how.allow_empty, axes)
    return PruneLog(
        {name: int(torch.count_nonzero(weight)) for name, weight in weights.items()},
        {name: weight.numel() for name, weight in weights.items()},
    )


def _losing(weights: Mapping[str, Tensor], asked: Cut) -> Mapping[str, Tensor]:
    """The weights of layers that lose any."""
    if asked.by_layer is None:
        return weights
    losing = {name for name, ratio in asked.by_layer if ratio > 0}
    return {name: weight for name, weight in weights.items() if name in losing}


def _shown(example: Example | None, calibration: Iterable[Batch] | None) -> Example | None:
    """A batch of inputs, of those that were given, on which the network can be run."""
    if example is not None or calibration is None:
        return example
    return next(gone_through(calibration))[0]


def _initialise(network: nn.Module, example: Example) -> None:
    """Run a lazy network, which gives it its weights."""
    with evaluating(network), torch.no_grad():
        run(network, as_inputs(example, network))


def _named_in(network: nn.Module, asked: Cut) -> list[str]:
    """The matrices that a ratio is given for, which names them."""
    ratios = dict(asked.by_layer or ())
    return [each.name for each in every_matrix(network) if each.name in ratios]


def _outputs(
    network: nn.Module,
    keep_output: bool | str | Sequence[str],
    example: Example | None,
    shown: Example | None,
    include: Sequence[str],
) -> tuple[str, ...]:
    """The names of the layers that stay whole."""
    if isinstance(keep_output, bool):
        return _found_outputs(network, example, shown, include) if keep_output else ()
    names = (keep_output,) if isinstance(keep_output, str) else tuple(keep_output)
    check_names(names, weighted_layers(network, include), "keep_output")
    return names


def _found_outputs(
    network: nn.Module, example: Example | None, shown: Example | None, include: Sequence[str]
) -> tuple[str, ...]:
    try:
        return output_layers(network, example, include)
    except UsageError:
        if example is not None or shown is None:
            raise
        return output_layers(network, shown, include)


def _shapes(pattern: str | Mapping[str, str], layers: Iterable[str]) -> dict[str, Any]:
    """Each layer's pattern, None for unstructured."""
    texts = dict.fromkeys(layers, pattern) if isinstance(pattern, str) else pattern
    return {name: parse_pattern(texts.get(name, UNSTRUCTURED)) for name in layers}


def _axes(
    network: nn.Module, layers: Mapping[str, Matrix], shapes: Mapping[str, Pattern | None], shown: Example | None
) -> dict[str, Axes]:
    """How each layer's axes lie. Raises PruneError where a pattern runs along them and nothing says so."""
    if any(shapes.values()) and shown is not None:
        layers = oriented(network, layers, as_inputs(shown, network))
    for name, each in layers.items():
        if shapes[name] is not None and not each.axes.known:
            what = (
                "no product of it as a whole shows which" if shown is not None else "nothing was run that shows which"
            )
            raise PruneError(
                f"layer {name!r}: its inputs may lie along either axis ({what}): expected pattern unstructured for it, "
                "or an example of inputs that a product shows it on"
            )
    return {name: each.axes for name, each in layers.items()}


def _warn(network: nn.Module, said: Mapping[str, Mapping[str, str] | Sequence[str]]) -> None:
    """One PruneWarning of all that was said, for the caller's caller. What has reasons is said with its share, too."""
    told = [f"{what}: {_listed(network, names)}" for what, names in said.items() if names]
    if told:
        warnings.warn(f"{type(network).__name__}: {'; '.join(told)}", PruneWarning, stacklevel=3)


def _listed(network: nn.Module, names: Mapping[str, str] | Sequence[str]) -> str:
    if not isinstance(names, Mapping):
        return few(names)
    reasons = few(f"{name} ({reason})" for name, reason in names.items())
    return f"{reasons}, {share_of(network, names):.1%} of the parameters"


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
    shapes: Mapping[str, Blocks | KeepNOfM | None],
    asked: Cut,
    allow_empty: bool,
    axes: Mapping[str, Axes],
) -> None:
    """Zero single weights, or blocks of them. shapes, axes: as in patterned."""
    scores = patterned(scores, weights, shapes, axes)
    cuts = dict(_cuts(scores, weights, asked))
    for name, each in cuts.items():
        if not allow_empty:
            _check_not_emptied(name, weights[name], each, scores.values_by_layer[name].numel(), str(asked))
    for name, each in cuts.items():
        _zero(weights[name], scores, name, each, shapes[name], axes[name])
    _hold_n_of_m({name: each for name, each in weights.items() if isinstance(shapes[name], KeepNOfM)}, scores, asked)


def _check(asked: Cut, how: Pruning) -> None:
    """Raises UsageError where what is asked for makes no sense."""
    if not isinstance(how.method, str | Scores):
        raise UsageError(
            f"method {type(how.method).__name__}: expected a name, your own as 'package.module:callable', or Scores"
        )
    asked.check(how.pattern)


def _check_layers(ratios: Iterable[str], layers: Iterable[str]) -> None:
    for name in ratios:
        if name not in layers:
            raise UsageError(f"ratio of {name!r}: expected the name of a layer to prune, one of {', '.join(layers)}")


def _cut_like(network: nn.Module, asked: Cut, how: Pruning, outputs: Collection[str]) -> Cut:
    """The share that each layer would lose to the method that the scope is like, found on a copy."""
    other = replace(how, method=asked.scope.like, example=None, allow_empty=True)
    log = cut(copied(network), replace(asked, scope=Scope(asked.scope.kind)), other, outputs)
    shares = tuple((name, 1 - kept / max(1, log.total[name])) for name, kept in log.kept.items())
    return replace(asked, by_layer=shares)


def _scores(method: str | Scores, context: Context) -> Scores:
    if isinstance(method, str):
        return score(method, context)
    for name, weight in context.weights.items():
        check_scores(method, name, weight, "given")
    return method


def _cuts(scores: Scores, weights: Mapping[str, Tensor], asked: Cut) -> Iterator[tuple[str, Lost]]:
    if asked.by_layer is not None:
        return cuts_by_layer(scores, dict(asked.by_layer))
    return cuts_by_scope(scores, asked.scope.kind, asked.ratio, {name: each.shape for name, each in weights.items()})


def _hold_n_of_m(weights: Mapping[str, Tensor], scores: Scores, asked: Cut) -> None:
    """Zero what N:M alone forbids, also in layers of which the scope would have left more."""
    shares = dict.fromkeys(weights, asked.ratio) if asked.by_layer is None else dict(asked.by_layer)
    for name, weight in weights.items():
        if shares.get(name, 0.0) > 0:
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


def sparsity(network: nn.Module, *, include: Sequence[str] = ()) -> float:
    """The share of weights that are zero, over all layers that prune may prune (the output layers too).

        >>> network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
        >>> log = secateur.prune(network, 0.75)
        >>> secateur.sparsity(network)
        0.5

    Of a layer whose forward computes another weight, in that one. include: as in prune. Matrices that are neither
    pruned nor counted are said in a PruneWarning, as by prune. Raises PruneError for weights without values.
    """
    shares = _shares(network, include)
    _warn(network, {"neither pruned nor counted": matrices_left(network, include)})
    sizes = {name: layer.weight.numel() for name, layer in weighted_layers(network, include).items()}
    return sum(share * sizes[name] for name, share in shares.items()) / max(1, sum(sizes.values()))


def layer_sparsity(network: nn.Module, *, include: Sequence[str] = ()) -> dict[str, float]:
    """The share of weights that are zero, of each layer by name.

        >>> network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
        >>> log = secateur.prune(network, 0.75)
        >>> secateur.layer_sparsity(network)
        {'0': 0.75, '2': 0.0}

    Otherwise as sparsity.
    """
    shares = _shares(network, include)
    _warn(network, {"neither pruned nor counted": matrices_left(network, include)})
    return shares


def _shares(network: nn.Module, include: Sequence[str]) -> dict[str, float]:
    check_network(network)
    layers = weighted_layers(network, include)
    zeros = zero_counts(network, include=include)
    own = {name: count / max(1, layers[name].weight.numel()) for name, count in zeros.items()}
    return own | {name: min(own[name], share) for name, share in shares_used(layers).items()}


def zero_counts(network: nn.Module, norms: bool = False, include: Sequence[str] = ()) -> dict[str, int]:
    """How many weights are zero, of each layer (and, if asked, normalisation) by name."""
    weights = {name: layer.weight for name, layer in scored_layers(network, norms, include).items()}
    return {name: weight.numel() - int(torch.count_nonzero(weight)) for name, weight in weights.items()}


def _check_not_emptied(name: str, weight: Tensor, gone: Lost, size: int, asked: str) -> None:
    if gone.goes == size > 0:
        raise PruneError(
            f"layer {name!r} would lose all of its {weight.numel()} weights at {asked}, and the "
            f"network perhaps its use; lower the ratio, exclude the layer ({name!r}) or allow it (allow empty)"
        )


def _zero(
    weight: Tensor,
    scores: Scores,
    name: str,
    gone: Lost,
    pattern: Blocks | KeepNOfM | None,
    axes: Axes,
) -> None:
    """Zero what is cut, part by part; blocks and weights in another memory layout take their marks all at once."""
    values = scores.values_by_layer[name]
    if not isinstance(pattern, Blocks) and weight.is_contiguous():
        for start, marks in zip(itertools.count(0, PART), marked(scores, name, gone), strict=False):
            weight.view(-1)[start : start + PART].masked_fill_(marks, 0)
    else:
        marks = torch.cat(list(marked(scores, name, gone))).view(values.shape)
        weight.masked_fill_(spread_over(marks, weight.shape, pattern, axes), 0)
