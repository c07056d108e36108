"""Ready metrics against scikit-learn, SciPy and PyTorch."""

from __future__ import annotations

import dataclasses
import math
from collections import OrderedDict
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from secateur.errors import DataError
from secateur.training.metrics import METRICS, class_axis


def measured(name: str, batches: list[tuple[Any, Any]]) -> float:
    """A metric of a network that gives its inputs."""
    return METRICS[name][0](lambda inputs: inputs, batches)


def batches_of(outputs: Tensor, target: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Uneven ones."""
    return list(zip(torch.split(outputs, 7), torch.split(target, 7), strict=True))


@pytest.mark.parametrize("shape", [(20, 6), (20, 6, 4, 3)], ids=["images", "pixels"])
def test_metrics_of_logits_are_scikit_learns(shape: tuple[int, ...]) -> None:
    from sklearn.metrics import accuracy_score, jaccard_score, log_loss, top_k_accuracy_score

    logits = torch.randn(shape)
    target = torch.randint(0, 6, (shape[0], *shape[2:]))
    batches = batches_of(logits, target)
    flat, classes = logits.movedim(1, -1).reshape(-1, 6), target.flatten().numpy()
    guessed, probable = flat.argmax(1).numpy(), flat.double().softmax(1).numpy()
    labels = range(6)
    entropy = log_loss(classes, probable, labels=labels)
    assert measured("top-1", batches) == pytest.approx(accuracy_score(classes, guessed))
    assert measured("top-5", batches) == pytest.approx(top_k_accuracy_score(classes, probable, k=5, labels=labels))
    assert measured("cross-entropy", batches) == pytest.approx(entropy, rel=1e-5)
    assert measured("perplexity", batches) == pytest.approx(math.exp(entropy), rel=1e-5)
    present = sorted({*classes, *guessed})
    assert measured("mean-iou", batches) == pytest.approx(
        jaccard_score(classes, guessed, average="macro", labels=present)
    )


def test_tokens_have_their_classes_last_and_some_do_not_count() -> None:
    logits, target = torch.randn(5, 9, 4), torch.randint(0, 4, (5, 9))
    target[:, 6:] = -100
    expected = (logits.argmax(2) == target)[:, :6].float().mean()
    assert measured("top-1", [(logits, target)]) == pytest.approx(float(expected))
    entropy = F.cross_entropy(logits.movedim(2, 1), target)
    assert measured("cross-entropy", [({"logits": logits}, target)]) == pytest.approx(float(entropy), rel=1e-5)


@dataclasses.dataclass
class Told:
    loss: None
    found: OrderedDict[str, Any]


def test_logits_are_found_in_mappings_and_dataclasses() -> None:
    logits, target = torch.randn(6, 4), torch.randint(0, 4, (6,))
    told = Told(None, OrderedDict(scores=[logits]))
    assert measured("top-1", [(told, target)]) == measured("top-1", [(logits, target)])


def test_one_logit_is_that_of_class_one() -> None:
    logits = torch.tensor([[2.0], [-1.0], [0.5], [-3.0]])
    assert measured("top-1", [(logits, torch.tensor([1, 0, 0, 0]))]) == 0.75
    planes = logits.reshape(1, 1, 2, 2)
    found = measured("mean-iou", [(planes, torch.tensor([[[1, 0], [0, 0]]]))])
    assert found == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert measured("top-1", [(logits, torch.tensor([[1], [0], [0], [0]]))]) == 0.75


def test_metrics_of_numbers_are_scikit_learns_and_scipys() -> None:
    from scipy.stats import spearmanr
    from sklearn.metrics import r2_score, root_mean_squared_error

    outputs, target = torch.randn(33, 1), torch.randn(33).round(decimals=1)
    batches = batches_of(outputs, target)
    flat = outputs.flatten().numpy()
    assert measured("rmse", batches) == pytest.approx(root_mean_squared_error(target, flat), rel=1e-6)
    assert measured("r2", batches) == pytest.approx(r2_score(target, flat), rel=1e-6)
    assert measured("spearman", batches) == pytest.approx(spearmanr(flat, target).statistic, rel=1e-9)
    assert measured("rmse", [(np_out, y.numpy()) for np_out, y in batches]) == pytest.approx(measured("rmse", batches))


def test_logits_that_are_no_numbers_are_wrong() -> None:
    logits = torch.tensor([[math.nan, math.nan], [math.nan, 0.0], [0.0, 1.0]])
    assert measured("top-1", [(logits, torch.tensor([0, 0, 1]))]) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("name", "outputs", "target", "text"),
    [
        ("top-1", torch.ones(4, 3), torch.ones(4), "expected logits"),
        ("top-1", torch.ones(4, 3), torch.ones(5).long(), "expected logits"),
        ("mean-iou", torch.ones(4, 3), None, "no target"),
        ("rmse", torch.ones(4, 3), torch.ones(4), "as many numbers"),
        ("rmse", "words", torch.ones(4), "without a tensor"),
    ],
)
def test_what_does_not_fit_a_metric_is_told(name: str, outputs: Any, target: Any, text: str) -> None:
    with pytest.raises(DataError, match=text):
        measured(name, [(outputs, target)])


@pytest.mark.parametrize(
    ("logits", "target", "axis"),
    [((4, 5), (4,), 1), ((4, 5, 6), (4, 6), 1), ((4, 6, 5), (4, 6), 2), ((4, 5), (4, 5), None)],
)
def test_the_axis_of_classes_is_found(logits: tuple[int, ...], target: tuple[int, ...], axis: int | None) -> None:
    assert class_axis(torch.empty(logits), torch.empty(target)) == axis
