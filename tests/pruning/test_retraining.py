from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur
from samples import Interrupting, stripes
from secateur.errors import UsageError
from secateur.measure.correctness import accuracy
from secateur.modules.inputs import Inputs
from secateur.modules.layers import weight_of
from secateur.pruning.pruning import prune, zero_counts
from secateur.pruning.retraining import _loss, retrain, set_back
from secateur.records.recipes import SCHEDULES, Recipe, Retraining, retraining_for
from secateur.support.progress import SilentReporter
from secateur.training.schedules import cubic_ratio
from secateur.training.train import recipe_course, train

CPU = torch.device("cpu")
RECIPE = Recipe(epochs=6, batch_size=50, learning_rate=0.1)
STEPS = 8


def fresh(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(100, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))


def learn(network: nn.Sequential, **options: Any) -> nn.Sequential:
    settings: dict[str, Any] = {
        "device": CPU,
        "precision": "fp32",
        "channels_last": False,
        "reporter": SilentReporter(),
        "label": "",
    }
    train(network, stripes(), RECIPE, 0, **(settings | options))
    return network.eval()


@pytest.fixture(scope="module")
def dense() -> nn.Sequential:
    return learn(fresh())


def early(epochs: int) -> Mapping[str, Tensor]:
    return learn(fresh(), course=recipe_course(RECIPE, epochs)).state_dict()


def plan(schedule: str, **changes: Any) -> Retraining:
    return retraining_for(schedule, **{"epochs": 4, "rounds": 2 if schedule == "iterative" else 1, **changes})


def start_of(schedule: str, epochs: int = 4) -> Mapping[str, Tensor] | None:
    if schedule == "rewind-weights":
        return early(RECIPE.epochs - epochs)
    return fresh(1).state_dict() if schedule == "scratch" else None


def again(network: nn.Sequential, retraining: Retraining, **options: Any) -> nn.Sequential:
    retrained = copy.deepcopy(network)
    settings: dict[str, Any] = {"recipe": RECIPE, "device": "cpu", "start": start_of(retraining.schedule)}
    retrain(retrained, stripes(), 0.8, retraining, **(settings | options))
    return retrained


def same(one: nn.Module, two: nn.Module) -> bool:
    return all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_ends_with_the_ratio_and_a_network_that_works(dense: nn.Sequential, schedule: str) -> None:
    network = again(dense, plan(schedule))
    assert zero_counts(network) == {"1": round(0.8 * 3200), "4": 0}
    assert not network.training
    pruned = copy.deepcopy(dense)
    prune(pruned, 0.8)
    data = stripes()
    assert accuracy(network, data, data.test).value >= max(0.9, accuracy(pruned, data, data.test).value - 0.02)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_an_interrupted_retraining_resumes_with_the_same_bits(
    dense: nn.Sequential, schedule: str, tmp_path: Path
) -> None:
    retraining = plan(schedule, distill=0.5)
    if schedule == "gradual":
        retraining = plan(schedule, distill=0.5, every=3)
    whole = again(dense, retraining)
    checkpoint = tmp_path / "net.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        again(dense, retraining, checkpoint=checkpoint, reporter=Interrupting(after=2 * STEPS + 3))
    resumed = copy.deepcopy(dense)
    log = retrain(
        resumed, stripes(), 0.8, retraining, recipe=RECIPE, device="cpu", checkpoint=checkpoint,
        start=start_of(schedule),
    )  # fmt: skip
    assert (log.epochs, log.resumed_from) == (4, (2,))
    assert same(whole, resumed)


def test_gradual_pruning_follows_the_formula_step_by_step(dense: nn.Sequential) -> None:
    seen: list[tuple[float, int]] = []

    def cut(network: nn.Module, ratio: float) -> None:
        prune(network, ratio)
        seen.append((ratio, zero_counts(network)["1"]))

    again(dense, plan("gradual", ramp=0.75, every=5), cut=cut)
    times = 24 // 5
    expected = [0.8 + (0 - 0.8) * (1 - k / times) ** 3 for k in range(1, times + 1)]
    assert [ratio for ratio, _ in seen] == pytest.approx(expected)
    assert [ratio for ratio, _ in seen] == [cubic_ratio(5 * k, 0, 5, times, 0.0, 0.8) for k in range(1, times + 1)]
    assert [zeros for _, zeros in seen] == [round(ratio * 3200) for ratio, _ in seen]


def test_iterative_pruning_removes_the_same_share_in_every_round(dense: nn.Sequential) -> None:
    seen: list[float] = []

    def cut(network: nn.Module, ratio: float) -> None:
        prune(network, ratio)
        seen.append(ratio)

    again(dense, plan("iterative", rounds=4), cut=cut)
    assert seen == pytest.approx([1 - 0.2 ** (k / 4) for k in (1, 2, 3, 4)])


class Watching(SilentReporter):
    """Keeps a copy of a network's weights as they are at its first forward pass, after pruning."""

    def __init__(self, network: nn.Module) -> None:
        self.first: dict[str, Tensor] = {}
        self.hook = network.register_forward_pre_hook(self._look)

    def _look(self, network: nn.Module, _: object) -> None:
        self.first = {name: value.clone() for name, value in network.state_dict().items()}
        self.hook.remove()


@pytest.mark.parametrize("rounds", [1, 2])
def test_weight_rewinding_starts_from_the_early_weights(dense: nn.Sequential, rounds: int) -> None:
    retraining = plan("rewind-weights", rounds=rounds)
    state = early(RECIPE.epochs - 4 // rounds)
    network = copy.deepcopy(dense)
    watching = Watching(network)
    retrain(network, stripes(), 0.8, retraining, recipe=RECIPE, device="cpu", start=state)
    pruned = copy.deepcopy(dense)
    prune(pruned, 0.8 if rounds == 1 else 1 - 0.2**0.5)
    kept = weight_of(pruned[1]) != 0
    assert torch.equal(watching.first["1.weight"], state["1.weight"] * kept)
    assert not torch.equal(state["1.weight"] * kept, weight_of(pruned[1]))
    others = [name for name in state if name != "1.weight"]
    assert all(torch.equal(watching.first[name], state[name]) for name in others)


def test_the_early_weights_are_those_that_the_whole_training_passed_through(tmp_path: Path) -> None:
    checkpoint = tmp_path / "net.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        learn(fresh(), checkpoint=checkpoint, reporter=Interrupting(after=2 * STEPS + 1))
    passed = torch.load(checkpoint, weights_only=True)
    assert passed["epoch"] == 2
    state = early(2)
    assert all(torch.equal(value, state[name]) for name, value in passed["network"].items())
    assert not torch.equal(state["1.weight"], fresh().state_dict()["1.weight"])


def test_the_rates_of_rewinding_are_the_last_of_the_recipes(dense: nn.Sequential) -> None:
    from secateur.pruning.retraining import _rate

    recipe_rate = recipe_course(RECIPE).rate
    rate = _rate(plan("rewind-rate", rounds=2), plan("rewind-rate", rounds=2).recipe(RECIPE))
    tail = [recipe_rate(4 * STEPS + step, STEPS) for step in range(2 * STEPS)]
    assert [rate(step, STEPS) for step in range(4 * STEPS)] == tail * 2
    whole = plan("scratch").recipe(RECIPE)
    assert (whole.epochs, whole.learning_rate) == (4, 0.1)
    assert max(_rate(plan("one-shot"), plan("one-shot").recipe(RECIPE))(s, STEPS) for s in range(32)) <= 0.01


def test_from_scratch_means_from_other_weights_with_the_same_zeros(dense: nn.Sequential) -> None:
    network = copy.deepcopy(dense)
    watching = Watching(network)
    retrain(network, stripes(), 0.8, plan("scratch"), recipe=RECIPE, device="cpu", start=fresh(7).state_dict())
    pruned = copy.deepcopy(dense)
    prune(pruned, 0.8)
    kept = weight_of(pruned[1]) != 0
    assert torch.equal(watching.first["1.weight"], fresh(7).state_dict()["1.weight"] * kept)


def test_distillation_is_hintons_loss(dense: nn.Sequential) -> None:
    images, labels = torch.randn(20, 1, 10, 10), torch.arange(20) % 10
    student = fresh(3).eval()
    loss = _loss(plan("one-shot", distill=0.7, temperature=3.0), RECIPE, dense, CPU, "fp32", False)
    assert loss is not None
    logits, told = student(images), dense(images)
    teacher, own = (told / 3.0).softmax(1), (logits / 3.0).softmax(1)
    divergence = (teacher * (teacher.log() - own.log())).sum(1).mean()
    expected = 0.3 * F.cross_entropy(logits, labels) + 0.7 * 9.0 * divergence
    torch.testing.assert_close(loss(Inputs((images,)), logits, labels), expected)
    assert _loss(plan("one-shot"), RECIPE, dense, CPU, "fp32", False) is None


def test_distillation_changes_what_is_learnt(dense: nn.Sequential) -> None:
    assert not same(again(dense, plan("one-shot")), again(dense, plan("one-shot", distill=0.9)))


def test_setting_back_keeps_zeros_and_nothing_else(dense: nn.Sequential) -> None:
    network, state = copy.deepcopy(dense), fresh(5).state_dict()
    prune(network, 0.8)
    zeros = weight_of(network[1]) == 0
    set_back(network, state)
    assert torch.equal(weight_of(network[1]), state["1.weight"].masked_fill(zeros, 0))
    assert torch.equal(weight_of(network[4]), state["4.weight"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "luck"}, "schedule 'luck': expected one of one-shot, iterative"),
        ({"epochs": 0}, "retraining epochs 0: expected 1 or more"),
        ({"schedule": "iterative", "rounds": 11}, "rounds 11: expected 1 to 10"),
        ({"schedule": "iterative", "rounds": 3}, "rounds 3: expected a divisor of the 10 epochs"),
        ({"schedule": "gradual", "rounds": 2}, "rounds 2: expected 1, as 'gradual' has one"),
        ({"learning_rate": 0.0}, "learning rate 0.0: expected above 0"),
        ({"schedule": "scratch", "learning_rate": 0.1}, "learning rate 0.1: expected none, as 'scratch'"),
        ({"ramp": 0.0}, r"ramp 0.0: expected in \(0, 1\]"),
        ({"every": 0}, "every 0: expected 1 step or more"),
        ({"distill": 1.5}, r"distill 1.5: expected in \[0, 1\]"),
        ({"temperature": 0.0}, "temperature 0.0: expected above 0"),
    ],
)
def test_retrainings_that_make_no_sense_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Retraining(**changes)


def test_what_a_schedule_lacks_is_said_before_anything_is_done(dense: nn.Sequential) -> None:
    before = copy.deepcopy(dense)
    with pytest.raises(UsageError, match="schedule 'scratch' needs `start`"):
        retrain(dense, stripes(), 0.8, Retraining("scratch"), recipe=RECIPE)
    with pytest.raises(UsageError, match=r"goes back 10 epochs a round, but .* trained for 6: expected 6 or fewer"):
        retrain(dense, stripes(), 0.8, Retraining("rewind-rate"), recipe=RECIPE)
    assert same(before, dense)


def test_the_public_names_are_these() -> None:
    assert secateur.retrain is retrain
    assert secateur.Retraining is Retraining
