"""Layer-by-layer reconstruction: the weights that stay are moved so that each layer gives again what it gave.

Layers are taken in the order in which they run, so each one sees what the pruned ones before it make of the
calibration images, and aims at what it gave in the dense network. Beside the two networks and what `walking` holds,
the moments of one layer are held at a time.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from secateur.errors import PruneError, UsageError
from secateur.modules.guarding import run, watched
from secateur.modules.inputs import Example, Inputs, as_inputs
from secateur.modules.layers import executed_layers, norms_behind, tied, weighted_layers
from secateur.modules.matrices import Matrix
from secateur.modules.uses import Use, listening, oriented
from secateur.pruning.moments import (
    MOST_COLUMNS,
    Products,
    as_matrices,
    check_supported,
    columns_of,
    from_matrices,
    moment_dtype,
    outputs_by_position,
    rows,
)
from secateur.pruning.walking import Pair, walking, widest
from secateur.support.progress import Reporter, SilentReporter

DAMPENING = 0.01
DIRECT_FLOPS = 1e11
"""Of factorisations, up to which zeros are chosen by what each weight of every output would cost."""
TOLERANCE = 3e-3
"""Of conjugate gradients. What that leaves undone is some 0.005 % of what a layer gives, squared: a few hundredths of
what its zeros lose where that is 1 %. A third of it takes twice the steps, and a ResNet-18 scores the same."""
SOLVED_IN_DOUBLE = 512
"""Up to here layers are solved for in double precision. Beyond, single takes less than half as long, and what is added
to the diagonal bounds what rounding does: some 1e-7 of what zeros would lose. Not where most columns are kept, which
loses next to nothing, and not for weights in double precision."""
SLOWER, GATHERING = 3, 30
"""How much longer a multiplication of many small factorisations takes than one of a large product, and to find a number
of the columns that an output keeps."""
STEPS = 40
"""Of conjugate gradients that are reckoned with: 4 to 37 for the layers of a ResNet-18, least of all where there are
fewer rows than columns."""
APART = 256
"""Columns of a layer from which its outputs are solved for in threads of their own."""
ROWS_A_COLUMN, FREE_PRODUCTS = 32, 5e9
"""Where the calibration inputs give a layer more rows than so many for each of its columns, and their products are more
than these, some inputs are drawn for it by a fixed seed: all of them would tell it little more."""
EXCHANGES, LARGEST_SHARE, SMALLEST_SHARE = 12, 0.25, 0.02


@dataclass(slots=True)
class Regression:
    """Sums over a layer's rows X, a column of ones behind the inputs where there is a bias, and the outputs Y aimed at.

    gram: (groups, columns, columns), XᵀX / n. target: (groups, outputs, columns), YᵀX / n. biased: whether there is the
    column of ones.
    """

    gram: Tensor
    target: Tensor
    biased: bool = False


def reconstruct(
    network: nn.Module,
    dense: nn.Module,
    inputs: Iterable[Example],
    *,
    joint: bool = False,
    dampening: float = DAMPENING,
    include: Sequence[str] = (),
    reporter: Reporter | None = None,
) -> None:
    """Refit every layer of a pruned network, in place, to the outputs of the dense one.

    The zeros stay where they are, or (joint) as many in each layer are chosen anew among the dense weights, together
    with the values of the others. inputs: batches (N, C, H, W) on the networks' device, the same whenever they are gone
    through. Of a recurrent layer each matrix is refitted by itself, to the part of the gates that it gave in the dense
    network, from the hidden states that the pruned one has. include: as in weighted_layers.
    Raises PruneError for a pruned layer whose inputs form no matrix, UsageError where there are no inputs; nothing is
    changed then.
    Frantar & Alistarh 2022 and 2023, with outputs in place of the pruned network's own as the aim.
    """
    batch = next(iter(inputs), None)
    if batch is None:
        raise UsageError("reconstruction: expected at least one batch of calibration images, got none")
    first = as_inputs(batch, network).first(2)
    order = [each.name for each in executed_layers(network, first, include)]
    layers = oriented(network, weighted_layers(network, include), first)
    originals = {name: replace(each, kind=layers[name].kind) for name, each in weighted_layers(dense, include).items()}
    single = {name: layers[name] for name in order if len(tied(network, layers[name])) == 1}
    counts, between = _surveyed(network, single, first)
    norms = norms_behind(dense, first) if joint else {}
    refitted = {name: counts[name] for name in order if name in counts and _can_be_refitted(name, layers[name])}
    with (
        (reporter or SilentReporter()).task("reconstructing layers", len(refitted), brief=True) as task,
        walking((network, dense), (layers, originals), inputs, refitted, between) as walk,
    ):
        batches: int | None = None  # not known before they were gone through
        for name, count in refitted.items():
            layer, original = layers[name], originals[name]
            with contextlib.closing(walk.at(name, count)) as pairs:
                sums, batches = gather(layer, pairs, batches)
            gains = _gains(original, norms.get(name)) if joint else None
            _refit_layer(layer, original, sums, gains, dampening)
            task.advance(1, lambda name=name: name)  # type: ignore[misc]


def _can_be_refitted(name: str, layer: Matrix) -> bool:
    """False for a whole layer of another kind. Raises PruneError for a pruned one."""
    try:
        check_refittable(name, layer)
    except PruneError:
        if bool((layer.weight == 0).any()):
            raise
        return False
    return True


def check_refittable(name: str, layer: Matrix) -> None:
    """Raises PruneError for a layer that cannot be refitted once it is pruned."""
    try:
        check_supported(name, layer)
    except PruneError as error:
        raise PruneError(
            f"layer {name!r}: expected a linear layer or a convolution of at most {MOST_COLUMNS} inputs an output to "
            f"refit, got a pruned {type(layer.module).__name__}; prune without it (exclude), or repair by moments"
        ) from error


def _surveyed(network: nn.Module, layers: Mapping[str, Matrix], example: Inputs) -> tuple[dict[str, int], float]:
    """How often each layer runs for a batch, of those that run, and what `widest` says of all."""
    found: dict[str, int] = {}
    widths = [0.0]

    def note(name: str, use: Use) -> None:
        found[name] = found.get(name, 0) + 1
        widths.append(widest([use], len(example)))

    with watched(network), listening(network, layers, note):
        run(network, example)
    return found, max(widths)


def _refit_layer(layer: Matrix, original: Matrix, sums: Regression, gains: Tensor | None, dampening: float) -> None:
    """gains: as in `choose`, where zeros are to be chosen."""
    before = with_bias(original, original.weight, sums.biased)
    keep = with_bias(layer, layer.weight, sums.biased) != 0
    if sums.biased:
        keep[..., -1] = True
    if gains is not None:
        keep = choose(before, sums, keep, gains, sums.biased, dampening)
    write_fitted(layer, solve(before, sums, keep, dampening), sums.biased)


def write_fitted(layer: Matrix, fitted: Tensor, biased: bool) -> None:
    """Weights and, as the last column, the bias become those of `with_bias`'s form."""
    layer.weight.copy_(from_matrices(layer, fitted[..., : columns_of(layer)]))
    if biased and layer.bias is not None:
        layer.bias.copy_(fitted[..., -1].flatten())


def _gains(layer: Matrix, norm: _BatchNorm | None) -> Tensor:
    """(groups, outputs): by how much the BatchNorm behind a layer multiplies each output; 1 where there is none."""
    gains = torch.ones_like(as_matrices(layer, layer.weight)[..., 0])
    if norm is not None:
        variance = norm.get_buffer("running_var") + norm.eps
        scale = norm.weight.detach().abs() if norm.affine else torch.ones_like(variance)
        gains = (scale / variance.sqrt()).view(gains.shape)
    return gains


def with_bias(layer: Matrix, weight: Tensor, biased: bool) -> Tensor:
    """(groups, outputs, columns): the weights as matrices with the bias, if any, as a last column."""
    matrices = as_matrices(layer, weight)
    if not biased or layer.bias is None:
        return matrices
    return torch.cat([matrices, layer.bias.view(*matrices.shape[:2], 1)], 2)


def gather(layer: Matrix, pairs: Iterable[Pair], expected: int | None = None) -> tuple[Regression, int]:
    """The sums of one layer over batches, and how many of those there were: X is what it is given in the network, Y
    what it gives in the dense one. expected: how many there will be, where that is known."""
    sums: Sums | None = None
    count = 0
    for given, wanted in pairs:
        count += 1
        if sums is None:
            sums = Sums(layer, all(use.biased for use in (*given, *wanted)), aimed=True)
        enough = math.ceil(_enough_rows(columns_of(layer)) / expected / len(given)) if expected else None
        for one, aim in zip(given, wanted, strict=True):
            sums.add(one, aim, enough)
    assert sums is not None
    return sums.regression(), count


def _enough_rows(columns: int) -> float:
    return max(ROWS_A_COLUMN * columns, FREE_PRODUCTS / columns**2)


class Sums:
    """What a Regression of a layer is made of, summed over what it is given. aimed: with the outputs aimed at."""

    def __init__(self, layer: Matrix, bias_added: bool, aimed: bool = False) -> None:
        groups, outputs, columns = as_matrices(layer, layer.weight).shape
        self.biased = bias_added and layer.bias is not None
        device = layer.weight.device
        single = columns > SOLVED_IN_DOUBLE and layer.weight.dtype != torch.float64
        dtype = torch.float32 if single else None
        self._products = Products(groups, columns + self.biased, device, outputs if aimed else 0, dtype)
        self._draws = torch.Generator().manual_seed(0)

    @staticmethod
    def size(layer: Matrix) -> int:
        """Bytes that a layer's take, or a little less."""
        return Products.bytes_of(layer.axes.groups, columns_of(layer))

    def add(self, given: Use, wanted: Use | None = None, enough: int | None = None) -> None:
        """The rows of a use, with what another use of the layer gives for them; about `enough` of those at most."""
        if wanted is not None and enough is not None:
            given, wanted = _some(given, wanted, enough, self._draws)
        outputs = None if wanted is None else outputs_by_position(wanted)
        first = 0
        for x in rows(given):
            behind = first + x.shape[1]
            y = None if outputs is None else outputs[:, first:behind]
            self._products.add(self._with_ones(x), slice(*given.groups), y)
            first = behind

    def regression(self) -> Regression:
        """Once: the sums become it. target is empty where no outputs were aimed at."""
        counts = self._products.counts
        gram, target = self._products.gram, self._products.target
        for each in (gram, target):
            each /= counts.clamp(min=1).to(each).view(-1, 1, 1)
        return Regression(gram, target, self.biased)

    def _with_ones(self, x: Tensor) -> Tensor:
        return torch.cat([x, x.new_ones(*x.shape[:2], 1)], 2) if self.biased else x


def _some(given: Use, wanted: Use, enough: int, draws: torch.Generator) -> tuple[Use, Use]:
    """Both for as many images (rows, steps) of the batch as give the layer `enough` rows."""
    whole = len(given.given[0])
    count = math.ceil(whole * enough / wanted.positions)
    tensors = (*given.given, *wanted.given, *(() if wanted.output is None else (wanted.output,)))
    if count >= whole or any(len(each) != whole for each in tensors):
        return given, wanted
    drawn = torch.randperm(whole, generator=draws)[:count].sort().values.to(tensors[0].device)
    return given.at(drawn), wanted.at(drawn)


def solve(before: Tensor, sums: Regression, keep: Tensor, dampening: float = DAMPENING) -> Tensor:
    """(groups, outputs, columns) where keep is False zero, elsewhere what minimises, for each output,
    ‖Y − Xw‖²/n + λ‖w − before‖², λ being `dampening` times the mean of the Gram matrix's diagonal.

    Each output has a system of its own, over the columns that it keeps. It is solved in the way that should be the
    quickest: by Cholesky, for the columns kept or for those that are not, or by conjugate gradients for all outputs at
    once.
    """
    fitted = torch.zeros_like(before)
    for group in range(len(before)):
        way = _quickest(keep[group])
        wide = keep.shape[2] > SOLVED_IN_DOUBLE and before.dtype != torch.float64
        single = wide and way is not _by_complement and dampening >= DAMPENING
        gram, right = _system(before[group], sums.gram[group], sums.target[group], dampening, single)
        fitted[group] = way(gram, right, keep[group]).to(before.dtype)
    return fitted.masked_fill_(~keep, 0)  # and no -0.0, which is no zero of a file


def _system(
    before: Tensor, gram: Tensor, target: Tensor, dampening: float, single: bool = False
) -> tuple[Tensor, Tensor]:
    """(A, B) of one group, such that the weights W (outputs, columns) of what `solve` minimises obey W A = B. The mean
    of A's diagonal is 1, but for what is added to it; single: in float32, which has fewer exponents.

    Raises PruneError where the Gram matrix is not finite.
    """
    level = gram.diagonal().mean()
    if not bool(torch.isfinite(level)):  # no sum of squares but of numbers is, nor what lies beside it
        raise PruneError("the second moments of a layer's inputs are not finite: mend the network or its images")
    level = torch.where(level > 0, level, torch.ones_like(level))
    scaled = torch.empty_like(gram, dtype=torch.float32 if single else moment_dtype(len(gram)))
    torch.div(gram, level, out=scaled)
    scaled.diagonal().add_(dampening)
    return scaled, (target / level + dampening * before.to(target.dtype)).to(scaled.dtype)


def _fit(gram: Tensor, right: Tensor, keep: Tensor) -> Tensor:
    return _quickest(keep)(gram, right, keep)


def _is_affordable(keep: Tensor) -> bool:
    """Whether a Cholesky factorisation for each output is, again and again."""
    return float(keep.sum(1).double().pow(3).sum()) / 3 <= DIRECT_FLOPS


def _quickest(keep: Tensor) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Of the ways to solve for these columns (outputs, columns), by the multiplications that each takes."""
    outputs, columns = keep.shape
    kept = keep.sum(1).double()

    def apart(each: Tensor) -> float:
        return float((SLOWER * each.pow(3) / 3 + GATHERING * columns * each).sum())

    costs = {
        _by_cholesky: apart(kept),
        _by_complement: apart(columns - kept) + columns**3,
        _by_gradients: STEPS * outputs * columns**2 + columns**3 / 3,
    }
    return min(costs, key=costs.__getitem__)


def _among(gram: Tensor, columns: Tensor) -> Tensor:
    """The rows and columns of these."""
    return gram.index_select(0, columns).index_select(1, columns)


def _by_cholesky(gram: Tensor, right: Tensor, keep: Tensor) -> Tensor:
    found = torch.zeros_like(right)

    def fit(output: int) -> None:
        columns = keep[output].nonzero()[:, 0]
        if len(columns):
            factor = _factor(_among(gram, columns))
            found[output, columns] = torch.cholesky_solve(right[output, columns, None], factor)[:, 0]

    try:
        _for_each(len(right), fit, gram)
    except _Singular:
        return _by_gradients(gram, right, keep)
    return found


def _by_complement(gram: Tensor, right: Tensor, keep: Tensor) -> Tensor:
    """From the solution that keeps all columns, each output takes away those that are not its own, at the least loss
    (the optimal brain surgeon for several weights at once, Kurtic et al. 2022)."""
    try:
        factor = _factor(gram)
        inverse = torch.cholesky_inverse(factor)
        found = torch.cholesky_solve(right.T, factor).T

        def take(output: int) -> None:
            lost = (~keep[output]).nonzero()[:, 0]
            if len(lost):
                rows = inverse.index_select(0, lost)
                root = _factor(rows.index_select(1, lost))
                found[output] -= torch.cholesky_solve(found[output, lost, None], root)[:, 0] @ rows

        _for_each(len(right), take, gram)
    except _Singular:
        return _by_gradients(gram, right, keep)
    return found


class _Singular(Exception):
    """Of a matrix that is not positive definite, as far as rounding tells."""


def _factor(gram: Tensor) -> Tensor:
    """Cholesky's. Raises _Singular."""
    factor, failed = torch.linalg.cholesky_ex(gram)
    if failed:
        raise _Singular
    return factor


def _for_each(count: int, work: Callable[[int], None], gram: Tensor) -> None:
    """work(output) of so many outputs, with PyTorch's threads side by side: more come of many small factorisations
    than of each of them in parts."""
    threads = torch.get_num_threads() if gram.device.type == "cpu" and len(gram) >= APART else 1
    if threads == 1:
        for output in range(count):
            work(output)
        return

    def some(first: int) -> None:
        torch.set_num_threads(1)
        with torch.no_grad():
            for output in range(first, count, threads):
                work(output)

    try:
        with ThreadPoolExecutor(threads) as pool:
            for each in [pool.submit(some, first) for first in range(threads)]:
                each.result()
    finally:
        torch.set_num_threads(threads)  # they are the whole process's


def _by_gradients(gram: Tensor, right: Tensor, keep: Tensor, steps: int = 300) -> Tensor:
    """Conjugate gradients with the diagonal as preconditioner, every row with its own columns (Hestenes & Stiefel).

    They begin with the solution that keeps all columns (zeros where the Gram matrix has none), and end where the
    residual is TOLERANCE times that of zeros.
    """
    mask = keep.to(gram.dtype)
    scale = 1 / gram.diagonal()
    enough = TOLERANCE**2 * ((right * mask).square() * scale).sum(1, keepdim=True)
    factor, singular = torch.linalg.cholesky_ex(gram)
    found = torch.zeros_like(right) if singular else torch.cholesky_solve(right.T, factor).T * mask
    residual = (right - found @ gram) * mask
    direction = residual * scale
    energy = (residual * direction).sum(1, keepdim=True)
    for _ in range(steps):
        if bool((energy <= enough).all()):
            break
        ahead = (direction @ gram) * mask
        length = energy / (direction * ahead).sum(1, keepdim=True).clamp(min=torch.finfo(gram.dtype).tiny)
        found += length * direction
        residual -= length * ahead
        softened = residual * scale
        before, energy = energy, (residual * softened).sum(1, keepdim=True)
        direction = softened + energy / before.clamp(min=torch.finfo(gram.dtype).tiny) * direction
    return found


def choose(
    before: Tensor,
    sums: Regression,
    keep: Tensor,
    gains: Tensor,
    biased: bool = False,
    dampening: float = DAMPENING,
) -> Tensor:
    """Which weights stay, as many in each group as `keep` says, chosen together with the values of the others.

    Beginning with `keep`, weights are exchanged: those come in whose slope promises most, all are refitted, and as
    many go whose loss would cost least, by w²/[H⁻¹]ⱼⱼ (the optimal brain surgeon, Hassibi & Stork 1993). Only what
    lowers the error is taken; after a failure fewer are exchanged. (Subspace pursuit, Dai & Milenkovic 2009, for all
    outputs at once.) gains (groups, outputs): what an output's errors are multiplied by. The last column stays where
    it is the bias.
    """
    chosen = keep.clone()
    for group in range(len(before)):
        gram, right = _system(before[group], sums.gram[group], sums.target[group], dampening)
        gain = gains[group].to(gram.dtype).square()[:, None] * (sums.gram[group].diagonal() > 0)
        chosen[group] = _exchange(gram, right, keep[group], gain, biased)
    return chosen


def _exchange(gram: Tensor, right: Tensor, keep: Tensor, gains: Tensor, biased: bool) -> Tensor:
    """`choose` for one group; gains (outputs, columns) are squared, and 0 for inputs that are always zero."""
    total = int(keep.sum())
    if not 0 < total < keep.numel():
        return keep
    count = min(max(1, int(LARGEST_SHARE * total)), keep.numel() - total)
    weights = _fit(gram, right, keep)
    error = _error(gram, right, weights, gains)
    for _ in range(EXCHANGES if _is_affordable(keep) else 1):
        if count < max(1, SMALLEST_SHARE * total):
            break
        gain = gains * (right - weights @ gram).square() / gram.diagonal()
        more = keep | _highest(gain.masked_fill(keep, -torch.inf), count)
        scores = (gains * _saliencies(gram, right, more)).masked_fill(~more, -torch.inf)
        if biased:
            scores[:, -1] = torch.inf
        other = _highest(scores, total)
        refitted = _fit(gram, right, other)
        found = _error(gram, right, refitted, gains)
        if found < error:
            keep, weights, error = other, refitted, found
        else:
            count //= 2
    return keep


def _error(gram: Tensor, right: Tensor, weights: Tensor, gains: Tensor) -> float:
    """What `solve` minimises, but for a constant, summed over the outputs with their gains."""
    return float((gains * weights * (weights @ gram - 2 * right)).sum())


def _highest(scores: Tensor, count: int) -> Tensor:
    marks = torch.zeros_like(scores, dtype=torch.bool)
    marks.view(-1)[scores.flatten().topk(count).indices] = True
    return marks


def _saliencies(gram: Tensor, right: Tensor, keep: Tensor) -> Tensor:
    """(outputs, columns): w²/[H⁻¹]ⱼⱼ of every kept weight after the refit of its output, or where the inverses are too
    much work w²·Hⱼⱼ, which is more."""
    if not _is_affordable(keep):
        return _by_gradients(gram, right, keep).square() * gram.diagonal()
    scores = torch.zeros_like(right)
    for output in range(len(right)):
        columns = keep[output].nonzero()[:, 0]
        if len(columns):
            inverse = torch.cholesky_inverse(torch.linalg.cholesky(_among(gram, columns)))
            scores[output, columns] = (inverse @ right[output, columns]).square() / inverse.diagonal()
    return scores
