"""What speaks against a loaded network's having learnt on images that are given to it as these are."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from secateur.training.catalogue import Normalisation
from secateur.training.data import Dataset, Split, moments, normalise

IMAGES = 1000
_SIGMAS = 3
_LEAST = 0.01
"""A gain in accuracy, as a share, below which no normalisation is advised."""


def doubts(predict: Callable[[Tensor], Tensor], data: Dataset, device: torch.device | str = "cpu") -> tuple[str, ...]:
    """One line where validation images, normalised in another usual way, are recognised better by three standard errors
    and a point of accuracy, or else where the network does no better than chance; nothing otherwise.

    predict: (N, C, H, W) float → logits (N, classes). At most IMAGES images are looked at.
    """
    draw = torch.randperm(len(data.validation), generator=torch.Generator().manual_seed(0))[:IMAGES]
    split = data.validation.take(draw)
    now, *tried = (_right(predict, split, way, device) for way in (data.normalisation, *_usual(data)))
    others = zip(_usual(data), tried, strict=True)
    better = [(other, right) for other, right in others if _is_better(right, now)]
    if better:
        other, right = max(better, key=lambda each: int(each[1].sum()))
        return (
            f"under {other.describe()} it has {_share(right):.2%} of {len(split):,} validation images, but "
            f"{_share(now):.2%} under {data.normalisation.describe()}: give {other.options}",
        )
    chance = max(1 / data.classes, float(torch.bincount(split.labels).max()) / len(split))
    if _share(now) <= chance + _SIGMAS * math.sqrt(chance * (1 - chance) / len(split)):
        return (
            f"{_share(now):.2%} of {len(split):,} validation images is near chance for its {data.classes} classes "
            f"({chance:.2%}): was it trained on this data set, with the classes in this order, and normalised by "
            f"{data.normalisation.describe()}? --mean and --std change that",
        )
    return ()


def _usual(data: Dataset) -> list[Normalisation]:
    """Those that people train with: pixels as they are, in [-1, 1], in [0, 255], standardised, ImageNet's."""
    own = moments(data.train.images)
    channels = data.shape[0]
    listed = [((0.0,), (1.0,)), ((0.5,), (0.5,)), ((0.0,), (1 / 255,)), own]
    if channels == 3:
        listed.append(((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return [Normalisation(mean, std) for mean, std in listed]


def _right(predict: Callable[[Tensor], Tensor], split: Split, way: Normalisation, device: torch.device | str) -> Tensor:
    """Which images of a split (N,) bool are recognised."""
    channels = split.images.shape[1]
    mean, std = (values * channels if len(values) == 1 else values for values in (way.mean, way.std))
    with torch.no_grad():
        found = [
            predict(normalise(part.to(device), mean, std)).argmax(1).cpu() for part in torch.split(split.images, 250)
        ]
    return torch.cat(found) == split.labels


def _share(right: Tensor) -> float:
    return float(right.float().mean())


def _is_better(right: Tensor, now: Tensor) -> bool:
    """By McNemar's test on the images that one of the two recognises and the other does not."""
    gain, apart = int(right.sum()) - int(now.sum()), int((right != now).sum())
    return gain > _SIGMAS * math.sqrt(apart) and gain >= _LEAST * len(right)
