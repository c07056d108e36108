"""Tasks: batches of any form, identity, calibration, scores; and the names of what a program holds."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import secateur
from secateur.errors import DataError, UsageError
from secateur.modules.layers import weight_of
from secateur.records.scores import Metric, Score, plain, score_from
from secateur.training.objects import find_module, find_task, name_of, presented
from secateur.training.tasks import Task

X, Y = torch.randn(30, 4, generator=torch.Generator().manual_seed(3)), torch.arange(30) % 3


def loader(shuffle: bool = False, batch: int = 8) -> DataLoader[Any]:
    return DataLoader(TensorDataset(X, Y), batch, shuffle=shuffle)


def task_of(**changed: Any) -> Task:
    return Task(**{"train": loader(True), "validation": loader(), **changed})


@pytest.mark.parametrize(
    ("batch", "inputs", "target"),
    [
        ((X, Y), X, Y),
        ([X, Y], X, Y),
        ((X, X, Y), (X, X), Y),
        ({"a": X, "b": X, "labels": Y}, {"a": X, "b": X}, Y),
        (X, X, None),
    ],
)
def test_a_batch_is_inputs_and_a_target(batch: Any, inputs: Any, target: Any) -> None:
    assert task_of().pair(batch, "train") == (inputs, target) if target is None else True
    found, wanted = task_of().pair(batch, "train")
    assert wanted is target
    assert type(found) is type(inputs)
    own = task_of(split=lambda batch: (batch, 5)).pair(batch, "train")
    assert own[1] == 5


def test_calibration_is_a_seeded_pass_and_leaves_the_random_state() -> None:
    task = task_of()
    before = torch.get_rng_state()
    first, again, other = (list(each.calibration(11, seed)) for each, seed in ((task, 0), (task_of(), 0), (task, 1)))
    assert torch.equal(torch.get_rng_state(), before)
    assert [len(inputs) for inputs, _ in first] == [8, 3]
    for one, two in zip(first, again, strict=True):
        assert torch.equal(one[0], two[0])
        assert torch.equal(one[1], two[1])
    assert not torch.equal(first[0][0], other[0][0])
    assert sum(len(inputs) for inputs, _ in task.calibration(31, 0)) == 30
    assert sum(len(inputs) for inputs, _ in task) == 30


def test_identity_is_of_code_and_bytes_and_a_shuffled_training_split_keeps_it() -> None:
    def mean(predict: Any, batches: Any) -> float:
        return float(torch.cat([predict(inputs) for inputs, _ in batches]).mean())

    def largest(predict: Any, batches: Any) -> float:
        return float(torch.cat([predict(inputs) for inputs, _ in batches]).max())

    assert task_of().digest == task_of().digest
    others = [
        task_of(name="other"), task_of(metric="top-5"), task_of(metric=mean), task_of(metric=largest),
        task_of(metric=mean, higher_is_better=False), task_of(loss=nn.functional.mse_loss),
        task_of(validation=loader(batch=5)), task_of(validation=[(X + 1, Y)]), task_of(train=loader(True, 5)),
    ]  # fmt: skip
    digests = [each.digest for each in (task_of(), *others)]
    assert len(set(digests)) == len(digests)
    with pytest.raises(DataError, match="validation batches differ from pass to pass"):
        assert task_of(validation=loader(shuffle=True)).digest


def test_examples_are_the_first_ones_over_and_over() -> None:
    assert torch.equal(task_of().example(19), torch.cat([X[:8]] * 3)[:19])
    mapping = task_of(validation=[{"a": X.numpy(), "b": X, "labels": Y}]).example(2)
    assert mapping.keys() == {"a", "b"}
    assert torch.equal(mapping["a"], X[:2])


def test_a_metric_of_ones_own_is_given_predictions_and_pairs() -> None:
    def share(predict: Any, batches: Any) -> Tensor:
        told = [(predict(inputs).argmax(1) == target).float() for inputs, target in batches]
        return torch.cat(told).mean()

    found = task_of(metric=share).score(lambda inputs: nn.functional.one_hot(Y[: len(inputs)], 3), "validation")
    assert (found.metric.name, found.n) == ("share", 30)
    assert 0 < found.value < 1

    def broken(predict: Any, batches: Any) -> float:
        raise RuntimeError("no such thing")

    with pytest.raises(DataError, match="its metric failed on test data: RuntimeError: no such thing"):
        task_of(metric=broken).score(lambda inputs: inputs, "test")
    with pytest.raises(DataError, match="gave a str: expected a number"):
        task_of(metric=lambda predict, batches: "good").score(lambda inputs: inputs, "test")


def test_points_are_hundredths_of_a_share_or_of_what_dense_has() -> None:
    share, error = Metric("IoU"), Metric("RMSE", higher=False, share=False)
    assert Score(0.7, 5, metric=share).lost_from(Score(0.75, 5, metric=share)) == pytest.approx(5)
    assert Score(2.2, 5, metric=error).lost_from(Score(2.0, 5, metric=error)) == pytest.approx(10)
    assert Score(1.9, 5, metric=error).rank > Score(2.0, 5, metric=error).rank
    for each in (Score(0.5, 7, 0.9), Score(2.0, 5, metric=error)):
        assert score_from(plain(each)) == each


def endless() -> Iterator[Any]:
    yield X, Y


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"train": endless()}, "can be gone through several times"),
        ({"validation": X}, "can be gone through several times"),
        ({"train": 5}, "can be gone through several times"),
        ({"metric": "bleu"}, "expected one of top-1"),
        ({"metric": 3}, "expected a name or a function"),
        ({"name": "a/b"}, "without / and #"),
        ({"name": "a#b"}, "without / and #"),
        ({"name": "a" * 81}, "at most 80"),
    ],
)
def test_what_is_no_task_is_told(changed: Any, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        task_of(**changed)


def test_splits_without_batches_or_tensors_are_told() -> None:
    with pytest.raises(DataError, match="validation split has no batches"):
        task_of(validation=[]).check()
    with pytest.raises(DataError, match="a batch is a str without tensors"):
        task_of(validation=["words"]).check()

    class Broken:
        def __iter__(self) -> Iterator[Any]:
            raise OSError("disk gone")

    with pytest.raises(DataError, match="train batches cannot be had: OSError: disk gone"):
        task_of(train=Broken()).check()


class Scaled(nn.Module):
    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * self.scale


class Shifted(Scaled):
    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.scale


def test_networks_of_other_weights_settings_or_code_have_other_names() -> None:
    def same(network: nn.Module) -> nn.Module:
        nn.init.constant_(network.layer.weight, 0.5)  # type: ignore[arg-type, union-attr]
        nn.init.zeros_(network.layer.bias)  # type: ignore[arg-type, union-attr]
        return network

    first = name_of(same(Scaled()))
    assert first == name_of(same(Scaled()).eval())
    assert first.startswith("Scaled#")
    other = Scaled()
    assert len({first, name_of(same(Scaled(2.0))), name_of(same(Shifted())), name_of(other)}) == 4
    assert name_of(same(Scaled()), "mine").startswith("mine#")
    with pytest.raises(UsageError, match="expected a short text"):
        name_of(other, "a/b")


class Holder(nn.Module):
    def __init__(self, held: Any, buffer: Tensor | None = None) -> None:
        super().__init__()
        self.held = held
        self.register_buffer("beside", buffer, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_modules_that_differ_in_what_they_hold_beside_weights_never_share_a_name() -> None:
    held: list[Any] = [
        torch.relu, torch.tanh, [1, 2], [1, 3], [[1], 2], {"a": 1}, {"a": 2}, SimpleNamespace(a=1),
        SimpleNamespace(a=2), torch.zeros(2), torch.ones(2), torch.ones(2, dtype=torch.bfloat16), np.ones(3),
        torch.float16, torch.float32, lambda x: x, lambda x: x + 1, {"a", "b"}, {"a", "c"}, torch.eye(2).to_sparse(),
    ]  # fmt: skip
    modules = [*map(Holder, held), Holder(1, torch.zeros(2)), Holder(1, torch.ones(2)), Holder(1)]
    modules[-1].register_forward_hook(lambda module, inputs, output: 2 * output)
    names = [name_of(module) for module in modules]
    assert len(set(names)) == len(names)
    assert names == [name_of(module.eval()) for module in modules]


def test_tasks_that_differ_in_what_their_functions_hold_never_share_a_name() -> None:
    def weighted(by: Any) -> Any:
        return lambda outputs, target: by * nn.functional.cross_entropy(outputs, target)

    def classes(weights: list[float]) -> nn.Module:
        return nn.CrossEntropyLoss(weight=torch.tensor(weights))

    losses = [weighted(torch.tensor(1.0)), weighted(torch.tensor(2.0)), weighted(np.float32(3)), weighted(np.ones(2)),
              weighted(np.zeros(2)), classes([1, 2, 3]), classes([1, 2, 4])]  # fmt: skip
    digests = [task_of(loss=loss).digest for loss in losses]
    assert len(set(digests)) == len(digests)
    assert task_of(loss=weighted(torch.tensor(1.0))).digest == digests[0]


def test_a_digest_is_the_same_in_every_process() -> None:
    code = """
from secateur.support.fingerprints import code_digest
WORDS = {"one", "two", "three"}
print(code_digest(lambda x: x in {"a", "b", "c"} or x in WORDS))
"""
    told = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, check=True, capture_output=True
        ).stdout
        for seed in "123"
    }
    assert len(told) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_metric_that_gives_no_finite_number_is_refused(value: float) -> None:
    task = task_of(metric=lambda predict, batches: value)
    with pytest.raises(DataError, match=f"its metric gave {value} on test data: expected a finite number"):
        task.score(lambda inputs: inputs, "test")


def test_objects_are_found_by_name_while_they_are_presented() -> None:
    network, task = Scaled(), task_of()
    with presented(network, task) as (model, data):
        assert find_module(model) is network
        assert find_task(data) is task
    with pytest.raises(UsageError, match="a module that a program held: run that program again"):
        find_module(model)
    with pytest.raises(UsageError, match="is for a module"), presented("lenet-5", task, "mine"):
        pass


def test_a_task_stands_where_calibration_is_asked_for() -> None:
    network, task = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), task_of(loss=_weighted)
    _weighted.calls = 0  # type: ignore[attr-defined]
    dense = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    dense.load_state_dict(network.state_dict())
    secateur.prune(network, 0.5, method="taylor", calibration=task)
    assert _weighted.calls > 0  # type: ignore[attr-defined]
    before = weight_of(network[0]).clone()
    secateur.repair(network, "reconstruct", task, dense)
    assert not torch.equal(before, weight_of(network[0]))
    assert torch.equal(before == 0, weight_of(network[0]) == 0)
    found = secateur.retrain(network, task, 0.75, secateur.Retraining("one-shot", epochs=2), device="cpu")
    assert found.epochs == 2
    assert secateur.layer_sparsity(network)["0"] == pytest.approx(0.75)


def test_cross_entropy_is_the_usual_loss_and_refuses_what_is_no_classification() -> None:
    task = task_of()
    logits, target = torch.randn(4, 6, 3), torch.randint(0, 3, (4, 6))
    expected = nn.functional.cross_entropy(logits.movedim(2, 1), target)
    torch.testing.assert_close(task.loss_of({"logits": logits}, target), expected)
    for outputs, wanted in ((torch.randn(4, 1), torch.randn(4, 1)), (torch.randn(4, 3), None)):
        with pytest.raises(DataError, match="give the loss that the network was trained with"):
            task.loss_of(outputs, wanted)


def _weighted(outputs: Tensor, target: Tensor) -> Tensor:
    _weighted.calls += 1  # type: ignore[attr-defined]
    return 2 * nn.functional.cross_entropy(outputs, target)


def test_values_are_read_as_they_come() -> None:
    found = list(task_of(validation=[(np.ones((2, 4), np.float32), np.array([0, 1]))]).batches("validation"))
    assert isinstance(found[0][0], np.ndarray)
    assert not math.isnan(found[0][0].sum())
