"""Patterns on scores: blocks share one score, N:M marks what has to go first, zeros that are there stay zeros."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from secateur.modules.matrices import Axes
from secateur.pruning.score import Scores
from secateur.records.patterns import Blocks, KeepNOfM

LOWEST = torch.finfo(torch.float32).min


def patterned(
    scores: Scores,
    weights: Mapping[str, Tensor],
    patterns: Mapping[str, Blocks | KeepNOfM | None],
    axes: Mapping[str, Axes],
) -> Scores:
    """Scores of what is cut as one: weights, or blocks. What is zero already, or must go by N:M, ranks lowest.

    patterns: of each weight. axes: how those of each weight become (outputs, inputs, taps …). A layer of one axis (a
    normalisation's scale) has no inputs, so no pattern but its own. Scores that are the weights themselves come back as
    they are where nothing is patterned.
    """
    own = all(scores.values_by_layer[name] is weight for name, weight in weights.items())
    if own and not any(patterns[name] for name in weights):
        return scores
    return Scores(
        {name: _patterned(scores[name], weight, patterns[name], axes[name]) for name, weight in weights.items()}
    )


def _patterned(values: Tensor, weight: Tensor, pattern: Blocks | KeepNOfM | None, axes: Axes) -> Tensor:
    values = values if values.dtype == torch.float64 else values.float()
    if isinstance(pattern, Blocks) and weight.dim() > 1:
        return _block_scores(axes.turned(values), axes.turned(weight), pattern)
    values = values.masked_fill(weight == 0, LOWEST)
    if isinstance(pattern, KeepNOfM) and weight.dim() > 1:
        beyond = _beyond_n(axes.turned(values), pattern)
        values = values.masked_fill(axes.turned_back(beyond, weight.shape), LOWEST)
    return values


def _block_scores(values: Tensor, weight: Tensor, blocks: Blocks) -> Tensor:
    """(outputs / block, inputs / block, taps …): the mean score of each block, at the edges of what is there."""
    there = torch.ones_like(values)
    total = _block_sums(values.masked_fill(weight == 0, 0), blocks)
    size = _block_sums(there, blocks)
    empty = _block_sums((weight != 0).to(values.dtype), blocks) == 0
    return (total / size).masked_fill(empty, LOWEST)


def _block_sums(values: Tensor, blocks: Blocks) -> Tensor:
    outputs, inputs = values.shape[:2]
    flat = values.reshape(outputs, inputs, -1)
    padded = F.pad(flat, (0, 0, 0, -inputs % blocks.inputs, 0, -outputs % blocks.outputs))
    tiles = torch.unflatten(torch.unflatten(padded, 1, (-1, blocks.inputs)), 0, (-1, blocks.outputs))
    return tiles.sum((1, 3)).reshape(tiles.shape[0], tiles.shape[2], *values.shape[2:])


def _beyond_n(values: Tensor, pattern: KeepNOfM) -> Tensor:
    """Which weights are not among the n best of their m consecutive inputs; of a shorter last group too."""
    inputs = values.shape[1]
    lined = values.movedim(1, -1)
    padded = torch.unflatten(F.pad(lined, (0, -inputs % pattern.m), value=-torch.inf), -1, (-1, pattern.m))
    best = padded.topk(pattern.n, -1).indices
    beyond = torch.ones_like(padded, dtype=torch.bool).scatter_(-1, best, False)
    return beyond.flatten(-2)[..., :inputs].movedim(-1, 1)


def spread_over(marks: Tensor, shape: torch.Size, pattern: Blocks | KeepNOfM | None, axes: Axes) -> Tensor:
    """Marks of blocks as marks of the weights in them, shaped as the weight."""
    if not isinstance(pattern, Blocks) or len(shape) == 1:
        return marks.view(shape)
    outputs, inputs = axes.turned(torch.empty(shape, device="meta")).shape[:2]
    wide = marks.repeat_interleave(pattern.outputs, 0)[:outputs].repeat_interleave(pattern.inputs, 1)[:, :inputs]
    return axes.turned_back(wide, shape)
