"""Top-1 and top-5 accuracy of anything that maps images to logits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from secateur.records.scores import Score
from secateur.training.data import Dataset, Split, normalise


def accuracy(
    predict: Callable[[Tensor], Tensor],
    dataset: Dataset,
    split: Split,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 500,
) -> Score:
    """How often predict, (N, C, H, W) float → (N, classes), puts the label first (and among the first five).

    Logits that are not a number count as wrong. top5 is measured where there are more than ten classes.
    """
    right = among_five = 0
    many = dataset.classes > 10
    with torch.no_grad():
        for start in range(0, len(split), batch_size):
            part = slice(start, start + batch_size)
            images = normalise(split.images[part].to(device), dataset.mean, dataset.std)
            logits = predict(images).float().nan_to_num(nan=-torch.inf)
            labels = split.labels[part].to(device)
            answered = torch.isfinite(logits.amax(1))
            right += int(((logits.argmax(1) == labels) & answered).sum())
            if many:
                among_five += int((logits.topk(5, 1).indices == labels[:, None]).any(1).logical_and(answered).sum())
    return Score(right / len(split), len(split), among_five / len(split) if many else None)
