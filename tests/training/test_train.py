from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from samples import Interrupting, stripes
from secateur.errors import TrainingError, UsageError
from secateur.measure.correctness import accuracy
from secateur.records.recipes import Recipe
from secateur.support.progress import SilentReporter
from secateur.training.models import ARCHITECTURES, build_network
from secateur.training.train import TrainingLog, resolve_device, resolve_precision, train

CPU = torch.device("cpu")
RECIPE = Recipe(epochs=6, batch_size=50, learning_rate=0.1)


def learner() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Dropout(0.1), nn.Flatten(), nn.Linear(400, 10))


def run(network: nn.Module, recipe: Recipe = RECIPE, seed: int = 0, **options: object) -> TrainingLog:
    settings: dict[str, object] = {"device": CPU, "precision": "fp32", "channels_last": False, "checkpoint": None}
    return train(network, stripes(), recipe, seed, reporter=SilentReporter(), label="", **(settings | options))  # type: ignore[arg-type]


def weights(network: nn.Module) -> torch.Tensor:
    return torch.cat([value.flatten() for value in network.state_dict().values()])


@pytest.mark.parametrize(("precision", "channels_last"), [("fp32", False), ("fp32", True), ("bf16", True)])
def test_training_learns(precision: str, channels_last: bool) -> None:
    network = learner()
    run(network, precision=precision, channels_last=channels_last)
    network.eval()
    assert all(parameter.is_contiguous() for parameter in network.parameters())
    assert accuracy(network, stripes(), stripes().test).value > 0.9


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not() -> None:
    one, two, other = learner(), learner(), learner()
    run(one)
    run(two)
    run(other, seed=1)
    assert torch.equal(weights(one), weights(two))
    assert not torch.equal(weights(one), weights(other))


def test_an_interrupted_training_resumes_at_its_last_epoch_with_the_same_bits(tmp_path: Path) -> None:
    whole, broken = learner(), learner()
    run(whole)
    checkpoint = tmp_path / "net.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        train(
            broken, stripes(), RECIPE, 0, device=CPU, precision="fp32", channels_last=False,
            reporter=Interrupting(after=20), label="", checkpoint=checkpoint,
        )  # fmt: skip
    resumed = learner()
    log = run(resumed, checkpoint=checkpoint)
    assert log.resumed_from == (2,)
    assert torch.equal(weights(resumed), weights(whole))
    assert [path.name for path in tmp_path.iterdir()] == ["net.checkpoint"]


class Telling(SilentReporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str, *, loud: bool = False) -> None:
        self.lines.append(line)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "text", "another network's"])
def test_a_damaged_checkpoint_is_said_and_training_starts_anew_with_the_same_bits(tmp_path: Path, damage: str) -> None:
    whole, checkpoint, telling = learner(), tmp_path / "net.checkpoint", Telling()
    run(whole, checkpoint=checkpoint)
    content = bytearray(checkpoint.read_bytes())
    content[content.index(weights(whole).numpy().tobytes()[:16])] ^= 4  # not in what pads between tensors
    if damage == "another network's":
        torch.save({"network": nn.Linear(2, 2).state_dict()}, checkpoint)
    else:
        damaged = {"truncated": bytes(content[:900]), "flipped": bytes(content), "text": b"text"}
        checkpoint.write_bytes(damaged[damage])
    again = learner()
    train(
        again, stripes(), RECIPE, 0, device=CPU, precision="fp32", channels_last=False, reporter=telling, label="",
        checkpoint=checkpoint,
    )  # fmt: skip
    (line,) = telling.lines
    assert line.startswith(f"{checkpoint}: damaged (")
    assert line.endswith("): training starts anew")
    assert torch.equal(weights(again), weights(whole))


def test_a_network_that_needs_more_than_one_image_says_so() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(100, 10), nn.BatchNorm1d(10))
    with pytest.raises(
        TrainingError, match="Sequential cannot be trained on batches of 1 images: Expected more than 1"
    ):
        train(
            network, stripes(), Recipe(epochs=1, batch_size=1), 0, device=CPU, precision="fp32", channels_last=False,
            reporter=SilentReporter(), label="",
        )  # fmt: skip


def test_label_smoothing_weight_decay_and_augmentation_change_the_result() -> None:
    plain = learner()
    run(plain)
    for change in ({"label_smoothing": 0.1}, {"weight_decay": 0.0}, {"augment": "crop-flip"}, {"momentum": 0.5}):
        network = learner()
        run(network, Recipe(**{"epochs": 6, "batch_size": 50, **change}))  # type: ignore[arg-type]
        assert not torch.equal(weights(network), weights(plain)), change


def test_zero_epochs_leave_the_initial_weights() -> None:
    network = learner()
    run(network, Recipe(epochs=0))
    assert torch.equal(weights(network), weights(learner()))


def test_a_loss_that_is_not_a_number_stops_training_with_advice() -> None:
    with pytest.raises(TrainingError, match=r"diverged: .* after epoch 1 of 6 at learning rate 1e\+30; lower it"):
        run(learner(), Recipe(epochs=6, learning_rate=1e30))


def test_batches_larger_than_the_data_are_cut_to_it() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(100, 10))
    before = weights(network).clone()
    run(network, Recipe(epochs=1, batch_size=100_000))
    assert not torch.equal(before, weights(network))


def test_devices_that_are_not_there_are_refused() -> None:
    with pytest.raises(UsageError, match="device 'tpu': expected auto, cpu or cuda"):
        resolve_device("tpu")
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device, so asking for one is no error")
    with pytest.raises(UsageError, match="sees no CUDA device"):
        resolve_device("cuda")


def test_precision_is_automatic_only_where_the_network_gains() -> None:
    assert resolve_precision("bf16", False, CPU) == "bf16"
    assert resolve_precision("auto", False, CPU) == "fp32"
    assert ARCHITECTURES["resnet-18"].autocast
    assert not ARCHITECTURES["lenet-5"].autocast


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_training_on_cuda_learns_and_comes_back_to_the_cpu() -> None:
    network = learner()
    run(network, device=torch.device("cuda"), precision="bf16", channels_last=True)
    assert accuracy(network.eval(), stripes(), stripes().test).value > 0.9


def test_networks_with_batch_norm_train_in_channels_last() -> None:
    network = build_network(ARCHITECTURES["resnet-18-cifar"], 10, 1, seed=0)
    before = weights(network).clone()
    run(network, Recipe(epochs=1, batch_size=200), channels_last=True)
    assert not torch.equal(before, weights(network))
