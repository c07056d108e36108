"""Layer-by-layer reconstruction: the weights that stay are moved so that each layer gives again what it gave.

Layers are taken in the order in which they run, so each one sees what the pruned ones before it make of the
calibration images, and aims at what it gave in the dense network. Beside the two networks and a batch, the moments
of one layer are held at a time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from secateur.errors import PruneError, UsageError
from secateur.layers import WEIGHTED, evaluating, executed_layers
from secateur.moments import (
    as_matrices,
    check_supported,
    columns_of,
    groups_of,
    moment_dtype,
    rows_and_outputs,
)
from secateur.progress import Reporter, SilentReporter

DAMPENING = 0.01
DIRECT_FLOPS = 1e11
STEP = 0.85


@dataclass(slots=True)
class Regression:
    """Sums over a layer's rows X, a column of ones behind the inputs where there is a bias, and the outputs Y aimed at.

    gram: (groups, columns, columns), XᵀX / n. target: (groups, outputs, columns), YᵀX / n.
    """

    gram: Tensor
    target: Tensor


def reconstruct(
    network: nn.Module,
    dense: nn.Module,
    inputs: Iterable[Tensor],
    *,
    joint: bool = False,
    dampening: float = DAMPENING,
    reporter: Reporter | None = None,
) -> None:
    """Refit every linear and convolution layer of a pruned network, in place, to the outputs of the dense one.

    The zeros stay where they are, or (joint) as many in each layer are chosen anew among the dense weights, together
    with the values of the others. inputs: batches (N, C, H, W) on the networks' device, gone through once a layer.
    Raises PruneError for a pruned layer whose inputs form no matrix, UsageError where there are no inputs.
    Frantar & Alistarh 2022 and 2023, with outputs in place of the pruned network's own as the aim.
    """
    first = next(iter(inputs), None)
    if first is None:
        raise UsageError("reconstruction: expected at least one batch of calibration images, got none")
    order = [each.name for each in executed_layers(network, first[:2])]
    uses = _uses(network, order, first[:2])
    with (reporter or SilentReporter()).task("reconstructing layers", len(order), brief=True) as task:
        for name in order:
            if uses[name] and _can_be_refitted(name, network.get_submodule(name)):
                sums = gather(network, dense, name, inputs, uses[name])
                _refit_layer(network.get_submodule(name), dense.get_submodule(name), sums, joint, dampening)
            task.advance(1, lambda name=name: name)  # type: ignore[misc]


def _can_be_refitted(name: str, layer: nn.Module) -> bool:
    """False for a whole layer of another kind. Raises PruneError for a pruned one."""
    try:
        check_supported(name, layer)
    except PruneError:
        if bool((_weight(layer) == 0).any()):
            raise
        return False
    return True


def _weight(layer: nn.Module) -> Tensor:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight.detach()


def _uses(network: nn.Module, names: list[str], example: Tensor) -> dict[str, int]:
    """How often each layer runs for a batch; 0 where another module has the same weight, which cannot be refitted."""
    uses: dict[str, int] = {}
    for name in names:
        weight = network.get_submodule(name).weight
        owners = [module for module in network.modules() if isinstance(module, WEIGHTED) and module.weight is weight]
        uses[name] = len(_calls(network, name, example)) if len(owners) == 1 else 0
    return uses


def _refit_layer(layer: nn.Module, original: nn.Module, sums: Regression, joint: bool, dampening: float) -> None:
    before = with_bias(original, _weight(original))
    keep = with_bias(layer, _weight(layer)) != 0
    biased = isinstance(layer.bias, Tensor)
    if biased:
        keep[..., -1] = True
    if joint:
        keep = choose(before, sums, keep, biased, dampening)
    fitted = solve(before, sums, keep, dampening)
    columns = columns_of(layer)
    _weight(layer).copy_(fitted[..., :columns].reshape(_weight(layer).shape))
    if isinstance(layer.bias, Tensor):
        layer.bias.detach().copy_(fitted[..., -1].flatten())


def with_bias(layer: nn.Module, weight: Tensor) -> Tensor:
    """(groups, outputs, columns): the weights as matrices with the bias, if any, as a last column."""
    matrices = as_matrices(layer, weight)
    if not isinstance(layer.bias, Tensor):
        return matrices
    return torch.cat([matrices, layer.bias.detach().view(*matrices.shape[:2], 1)], 2)


def gather(network: nn.Module, dense: nn.Module, name: str, inputs: Iterable[Tensor], uses: int = 1) -> Regression:
    """The sums of one layer: X is what it is given in the network, Y what it gives in the dense network."""
    layer = network.get_submodule(name)
    groups, extra = groups_of(layer), int(isinstance(layer.bias, Tensor))
    columns = columns_of(layer) + extra
    dtype, device = moment_dtype(columns), _weight(layer).device
    sums = Regression(
        torch.zeros(groups, columns, columns, dtype=dtype, device=device),
        torch.zeros(groups, _weight(layer).shape[0] // groups, columns, dtype=dtype, device=device),
    )
    count = 0
    with torch.inference_mode():
        for batch in inputs:
            given = [call[0] for call in _calls(network, name, batch, uses)]
            wanted = [call[1] for call in _calls(dense, name, batch, uses)]
            for one, aim in zip(given, wanted, strict=True):
                for x, y in rows_and_outputs(layer, one, aim):
                    x = torch.cat([x, x.new_ones(*x.shape[:2], 1)], 2) if extra else x
                    sums.gram += x.transpose(1, 2) @ x
                    sums.target += y.transpose(1, 2) @ x
                    count += x.shape[1]
    sums.gram /= max(1, count)
    sums.target /= max(1, count)
    return sums


class _Enough(Exception):
    """The layer has run; what follows it is not needed."""


def _calls(network: nn.Module, name: str, batch: Tensor, uses: int | None = None) -> list[tuple[Tensor, Tensor]]:
    """What a layer is given and gives, at each of its uses; the network stops after the last one that is counted."""
    calls: list[tuple[Tensor, Tensor]] = []

    def hook(_: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        calls.append((given[0], output.clone()))  # what follows may change it in place
        if len(calls) == uses:
            raise _Enough

    handle = network.get_submodule(name).register_forward_hook(hook)
    try:
        with evaluating(network), torch.inference_mode(), contextlib.suppress(_Enough):
            network(batch)
    finally:
        handle.remove()
    return calls


def solve(before: Tensor, sums: Regression, keep: Tensor, dampening: float = DAMPENING) -> Tensor:
    """(groups, outputs, columns) where keep is False zero, elsewhere what minimises, for each output,
    ‖Y − Xw‖²/n + λ‖w − before‖², λ being `dampening` times the mean of the Gram matrix's diagonal.

    Each output has a system of its own, over the columns that it keeps: solved by Cholesky, or where that is too much
    work by conjugate gradients for all outputs at once.
    """
    fitted = torch.zeros_like(before)
    for group in range(len(before)):
        gram = damped(sums.gram[group], dampening)
        level = gram[0, 0] - sums.gram[group][0, 0]
        right = sums.target[group] + level * before[group].to(gram.dtype)
        kept = keep[group]
        work = float(kept.sum(1).double().pow(3).sum()) / 3
        found = _by_cholesky(gram, right, kept) if work <= DIRECT_FLOPS else _by_gradients(gram, right, kept)
        fitted[group] = found.to(before.dtype)
    return fitted


def damped(gram: Tensor, dampening: float) -> Tensor:
    """A Gram matrix plus `dampening` times the mean of its diagonal."""
    if not bool(torch.isfinite(gram).all()):
        raise PruneError("the second moments of a layer's inputs are not finite: mend the network or its images")
    level = gram.diagonal().mean()
    raised = gram.clone()
    raised.diagonal().add_(dampening * (level if level > 0 else torch.ones_like(level)))
    return raised


def _by_cholesky(gram: Tensor, right: Tensor, keep: Tensor) -> Tensor:
    found = torch.zeros_like(right)
    for output in range(len(right)):
        columns = keep[output].nonzero()[:, 0]
        if len(columns):
            factor = torch.linalg.cholesky(gram[columns][:, columns])
            found[output, columns] = torch.cholesky_solve(right[output, columns, None], factor)[:, 0]
    return found


def _by_gradients(gram: Tensor, right: Tensor, keep: Tensor, steps: int = 300, tolerance: float = 1e-6) -> Tensor:
    """Conjugate gradients with the diagonal as preconditioner, every row with its own columns (Hestenes & Stiefel)."""
    mask = keep.to(gram.dtype)
    scale = 1 / gram.diagonal()
    found = torch.zeros_like(right)
    residual = right * mask
    direction = residual * scale
    energy = (residual * direction).sum(1, keepdim=True)
    enough = tolerance**2 * energy
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
    before: Tensor, sums: Regression, keep: Tensor, biased: bool = False, dampening: float = DAMPENING
) -> Tensor:
    """Which weights stay, as many in each group as `keep` says, chosen together with the values of the others.

    The optimal brain surgeon in rounds: refit, score each weight by w²/[H⁻¹]ⱼⱼ over the columns that its output still
    keeps, cut some more, until as many are left as should be. The last column stays where it is the bias.
    """
    return torch.stack(
        [_choose(before[g], sums.gram[g], sums.target[g], keep[g], biased, dampening) for g in range(len(before))]
    )


def _choose(before: Tensor, gram: Tensor, target: Tensor, keep: Tensor, biased: bool, dampening: float) -> Tensor:
    wanted = int(keep.sum())
    chosen = torch.ones_like(keep)
    raised = damped(gram, dampening)
    right = target + (raised[0, 0] - gram[0, 0]) * before.to(gram.dtype)
    for count in _counts(keep.numel(), wanted, keep.shape[1]):
        scores = _saliencies(raised, right, chosen)
        scores[~chosen] = -torch.inf
        if biased:
            scores[:, -1] = torch.inf
        best = scores.flatten().topk(count).indices
        chosen = torch.zeros_like(keep)
        chosen.view(-1)[best] = True
    return chosen


def _counts(total: int, wanted: int, columns: int) -> Iterator[int]:
    """How many weights stay after each round: less by a share each time, from what exact rounds can afford on."""
    rows = total // columns
    affordable = rows * (DIRECT_FLOPS / max(1, rows)) ** (1 / 3)
    count = min(total * STEP, affordable)
    while count > wanted:
        yield int(count)
        count *= STEP
    yield wanted


def _saliencies(gram: Tensor, right: Tensor, keep: Tensor) -> Tensor:
    """(outputs, columns): w²/[H⁻¹]ⱼⱼ of every kept weight after the refit of its output."""
    scores = torch.zeros_like(right)
    if bool(keep.all()):
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
        return (right @ inverse).square() / inverse.diagonal()
    for output in range(len(right)):
        columns = keep[output].nonzero()[:, 0]
        if len(columns):
            inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram[columns][:, columns]))
            scores[output, columns] = (inverse @ right[output, columns]).square() / inverse.diagonal()
    return scores
