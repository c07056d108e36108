"""Ready metrics: functions of what a network gives for batches and what it should have given.

Each is called with predict(inputs) → outputs and batches of (inputs, target), which it goes through once. Outputs are a
tensor, or a tuple, list or mapping whose logits or first tensor is meant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import _pytree

from secateur.errors import DataError, MissingExtraError
from secateur.modules.inputs import opened
from secateur.records.scores import Metric

Predict = Callable[[Any], Any]
Batches = Iterable[tuple[Any, Any]]
Measure = Callable[[Predict, Batches], float]

IGNORED = -100
"""A class of the target that counts for nothing, as in PyTorch's cross-entropy."""


def top1(predict: Predict, batches: Batches) -> float:
    """The share of targets, classes (N, …), that have the largest logit of (N, classes, …) or (N, …, classes)."""
    return _share(predict, batches, 1)


def top5(predict: Predict, batches: Batches) -> float:
    """Likewise of those among the five largest."""
    return _share(predict, batches, 5)


def cross_entropy(predict: Predict, batches: Batches) -> float:
    """Its mean over all targets, in nats."""
    total, count = 0.0, 0
    for logits, classes in _classified(predict, batches):
        total += float(F.cross_entropy(logits, classes, reduction="sum"))
        count += len(classes)
    return total / max(1, count)


def perplexity(predict: Predict, batches: Batches) -> float:
    """e to the mean cross-entropy."""
    return math.exp(min(700.0, cross_entropy(predict, batches)))


def rmse(predict: Predict, batches: Batches) -> float:
    """The root of the mean squared difference of outputs and target, over all numbers of both."""
    total, count = 0.0, 0
    for outputs, target in _numbers(predict, batches):
        total += float((outputs - target).square().sum())
        count += target.numel()
    return math.sqrt(total / max(1, count))


def r2(predict: Predict, batches: Batches) -> float:
    """1 - Σ(y - ŷ)² / Σ(y - mean)², the coefficient of determination, over all numbers together."""
    pairs = list(_numbers(predict, batches))
    outputs, target = (torch.cat([each[place].flatten() for each in pairs]) for place in (0, 1))
    spread = float((target - target.mean()).square().sum())
    return 1 - float((outputs - target).square().sum()) / spread if spread else math.nan


def mean_iou(predict: Predict, batches: Batches) -> float:
    """The mean over classes of |intersection| / |union| of what is predicted and what is there (Everingham et al.
    2010). Classes that neither has count for nothing; of one logit per place, above 0 is class 1."""
    both = torch.zeros(0, dtype=torch.int64)
    found, there = both.clone(), both.clone()
    for logits, classes in _classified(predict, batches):
        guessed = logits.argmax(1)
        size = max(len(both), *(1 + int(each.max()) for each in (guessed, classes) if len(each)), 0)
        both, found, there = (
            F.pad(counts, (0, size - len(counts))) + torch.bincount(of, minlength=size)
            for counts, of in ((both, classes[guessed == classes]), (found, guessed), (there, classes))
        )
    union = found + there - both
    return float((both[union > 0] / union[union > 0]).mean())


def spearman(predict: Predict, batches: Batches) -> float:
    """Spearman's correlation of the ranks of outputs and target; ties have their mean rank."""
    try:
        from scipy.stats import rankdata
    except ImportError as error:
        raise MissingExtraError("the metric 'spearman' needs SciPy: pip install 'secateur[torch]'") from error
    pairs = list(_numbers(predict, batches))
    outputs, target = (rankdata(torch.cat([each[place].flatten() for each in pairs]).numpy()) for place in (0, 1))
    return _correlation(outputs, target)


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    one, other = one - one.mean(), other - other.mean()
    wide = math.sqrt(float(one @ one) * float(other @ other))
    return float(one @ other) / wide if wide else 0.0


METRICS: Mapping[str, tuple[Measure, Metric]] = {
    "top-1": (top1, Metric("accuracy")),
    "top-5": (top5, Metric("top-5 accuracy")),
    "cross-entropy": (cross_entropy, Metric("cross-entropy", higher=False, share=False)),
    "perplexity": (perplexity, Metric("perplexity", higher=False, share=False)),
    "rmse": (rmse, Metric("RMSE", higher=False, share=False)),
    "r2": (r2, Metric("R²")),
    "mean-iou": (mean_iou, Metric("mean IoU")),
    "spearman": (spearman, Metric("Spearman's ρ")),
}


def tensor_of(outputs: Any) -> Tensor:
    """The logits, else the first tensor, of what a network gives. Raises DataError where there is none."""
    named = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", None)
    for each in (named, *_pytree.tree_leaves(opened(outputs))):
        if isinstance(each, Tensor):
            return each
    raise DataError(f"the network gives a {type(outputs).__name__} without a tensor: give a metric of your own")


def class_axis(logits: Tensor, classes: Tensor) -> int | None:
    """Which axis of logits has the classes of a target: the second (N, classes, …), else the last; None for neither."""
    if logits.dim() != classes.dim() + 1:
        return None
    shape = tuple(logits.shape)
    fitting = (axis for axis in (1, logits.dim() - 1) if (*shape[:axis], *shape[axis + 1 :]) == tuple(classes.shape))
    return next(fitting, None)


def _share(predict: Predict, batches: Batches, first: int) -> float:
    right = count = 0
    for logits, classes in _classified(predict, batches):
        answered = torch.isfinite(logits.amax(1))
        among = logits.topk(min(first, logits.shape[1]), 1).indices == classes[:, None]
        right += int((among.any(1) & answered).sum())
        count += len(classes)
    return right / max(1, count)


def _classified(predict: Predict, batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits (M, classes) without what is no number, and classes (M,), of every target that counts. One logit is that
    of class 1, against 0."""
    for inputs, target in batches:
        logits, classes = tensor_of(predict(inputs)).detach().cpu().float(), _target(target)
        if logits.shape == classes.shape:
            logits = logits.unsqueeze(1)
        axis = class_axis(logits, classes)
        if axis is None or classes.is_floating_point():
            raise DataError(
                f"outputs {tuple(logits.shape)} and target {tuple(classes.shape)} of {classes.dtype}: expected logits "
                "(N, classes, …) and whole numbers (N, …); give another metric"
            )
        flat = logits.movedim(axis, -1).reshape(-1, logits.shape[axis])
        if flat.shape[1] == 1:  # the other class has none
            flat = torch.cat([torch.zeros_like(flat), flat], 1)
        held = classes.reshape(-1).long()
        counts = held != IGNORED
        yield flat[counts].nan_to_num(nan=-math.inf), held[counts]


def _numbers(predict: Predict, batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    """Outputs and target in double precision, of one shape."""
    for inputs, target in batches:
        outputs, wanted = tensor_of(predict(inputs)).detach().cpu().double(), _target(target).double()
        if outputs.numel() != wanted.numel() or len(outputs) != len(wanted):
            raise DataError(
                f"outputs {tuple(outputs.shape)} and target {tuple(wanted.shape)}: expected as many numbers in both; "
                "give another metric"
            )
        yield outputs.reshape(wanted.shape), wanted


def _target(target: Any) -> Tensor:
    if target is None:
        raise DataError("a batch has no target: expected (inputs, target), or a metric of your own that needs none")
    return target.detach().cpu() if isinstance(target, Tensor) else torch.as_tensor(np.asarray(target))
