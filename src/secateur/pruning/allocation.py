"""Scopes: how many weights each layer loses, and therefore which."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from secateur.pruning.ranking import Lost, lowest
from secateur.pruning.score import Scores

Sizes = Mapping[str, torch.Size]


def cuts_by_scope(scores: Scores, scope: str, ratio: float, shapes: Sizes) -> Iterator[tuple[str, Lost]]:
    """What goes of each layer. scores: of weights or of blocks; shapes: of the weights.

    layer: round(ratio × n) of each. global: the lowest of all together. erk: densities by the layers' shapes
    (Evci et al. 2020). lamp: the lowest LAMP scores of all together (Lee et al. 2021).
    """
    count = round(ratio * sum(values.numel() for values in scores.values_by_layer.values()))
    if scope == "global":
        yield from lowest(scores, list(scores), count)
    elif scope == "lamp":
        for name, cut in lowest(lamp(scores), list(scores), count):
            yield from lowest(scores, [name], cut.goes)
    else:
        ratios = dict.fromkeys(scores, ratio) if scope == "layer" else erk_ratios(shapes, ratio)
        yield from cuts_by_layer(scores, ratios)


def cuts_by_layer(scores: Scores, ratios: Mapping[str, float]) -> Iterator[tuple[str, Lost]]:
    """The lowest round(ratio × n) of each layer that has a ratio."""
    for name, ratio in ratios.items():
        if ratio > 0:
            yield from lowest(scores, [name], round(ratio * scores.values_by_layer[name].numel()))


def erk_ratios(shapes: Sizes, ratio: float) -> dict[str, float]:
    """Each layer's ratio by the Erdős–Rényi kernel rule: its density is proportional to the sum of its weight's
    dimensions over their product, the factor such that `ratio` of all weights go; layers that this would fill
    beyond themselves stay dense, and the others make up for them.

    Evci et al. 2020, §3.2; Mocanu et al. 2018 for linear layers.
    """
    sizes = {name: shape.numel() for name, shape in shapes.items()}
    raw = {name: sum(shape) / max(1, shape.numel()) for name, shape in shapes.items()}
    kept = (1 - ratio) * sum(sizes.values())
    densities = scaled_densities(raw, sizes, kept)
    return {name: 1 - density for name, density in densities.items()}


def scaled_densities(raw: Mapping[str, float], sizes: Mapping[str, int], kept: float) -> dict[str, float]:
    """Densities proportional to `raw` but at most 1, which keep `kept` weights in all."""
    dense: set[str] = set()
    while True:
        rest = [name for name in raw if name not in dense]
        weighted = sum(raw[name] * sizes[name] for name in rest)
        factor = (kept - sum(sizes[name] for name in dense)) / weighted if weighted else 0.0
        full = {name for name in rest if factor * raw[name] > 1}
        if not full:
            return {name: 1.0 if name in dense else factor * raw[name] for name in raw}
        dense |= full


def lamp(scores: Scores) -> Scores:
    """Layer-adaptive scores: s² over the sum of s² of all that score as high in the same layer (equation 3).

    With magnitudes this is the paper's; any other score stands in the place of |w|. Scores below zero keep their
    order and come first.
    """
    return Scores({name: _lamp(scores[name]) for name in scores})


def _lamp(values: Tensor) -> Tensor:
    flat = values.double().flatten()
    order = flat.argsort(stable=True)
    ranked = flat[order]
    squares = ranked.clamp(min=0).square()
    above = squares.flip(0).cumsum(0).flip(0).clamp(min=torch.finfo(torch.float64).tiny)
    adapted = torch.where(ranked < 0, ranked, squares / above)
    return torch.empty_like(flat).scatter_(0, order, adapted).view(values.shape)
