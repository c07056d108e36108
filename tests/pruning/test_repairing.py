"""Repairs against independent computations: least squares by lstsq, statistics by a plain loop."""

from __future__ import annotations

import copy
import dataclasses
import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from least_squares import least_squares
from samples import Keeping, Plain, build
from secateur.errors import DataError, ModelError, PruneError, UsageError
from secateur.modules.layers import norms_behind, weight_of, weighted_layers
from secateur.pruning.pruning import prune, zero_counts
from secateur.pruning.reconstruction import (
    reconstruct,
)
from secateur.pruning.repairing import correct_moments, recalibrate, repair
from secateur.training.data import Calibration, load_data


class Small(nn.Module):
    """A strided grouped convolution, one with a bias, and two linear layers, one of them run twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1, groups=2, bias=False)
        self.second = nn.Conv2d(4, 6, 3, stride=2, padding="valid", dilation=2)
        self.again = nn.Linear(24, 24)
        self.out = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu_(self.second(torch.relu_(self.first(x)))).flatten(1)
        return self.out(torch.relu(self.again(torch.relu(self.again(x)))))


@pytest.fixture
def small() -> Small:
    return Small().double()


INPUTS = [torch.randn(count, 2, 8, 8, generator=torch.Generator().manual_seed(count)).double() for count in (40, 25)]


def test_with_all_weights_kept_nothing_changes(small: Small) -> None:
    fitted = copy.deepcopy(small)
    reconstruct(fitted, small, INPUTS)
    for name, value in small.state_dict().items():
        torch.testing.assert_close(fitted.state_dict()[name], value, rtol=1e-8, atol=1e-9)


def test_the_error_of_a_whole_layer_is_the_optimum_of_what_it_sees(small: Small) -> None:
    """Reconstruct a network, then each layer anew by hand from the outputs of both networks."""
    pruned = copy.deepcopy(small)
    prune(pruned, 0.6, keep_output="out")
    zeros = {name: weight_of(layer) == 0 for name, layer in weighted_layers(pruned).items()}
    reconstruct(pruned, small, INPUTS)
    for name, layer in weighted_layers(pruned).items():
        assert torch.equal(weight_of(layer) == 0, zeros[name]), name
    images = torch.cat(INPUTS)
    with torch.no_grad():
        seen, wanted = torch.relu(pruned.first(images)), small.second(torch.relu(small.first(images)))
    x = nn.functional.unfold(seen, 3, dilation=2, stride=2).transpose(1, 2).reshape(-1, 36)
    x = torch.cat([x, torch.ones(len(x), 1).double()], 1)
    y = wanted.flatten(2).transpose(1, 2).reshape(-1, 6)
    before = torch.cat([small.second.weight.detach().flatten(1), small.second.bias.detach()[:, None]], 1)  # type: ignore[union-attr]
    keep = torch.cat([~zeros["second"].flatten(1), torch.ones(6, 1).bool()], 1)
    level = 0.01 * float(x.square().mean(0).mean())
    expected = least_squares(x, y, keep, before, level)
    torch.testing.assert_close(pruned.second.weight.detach().flatten(1), expected[:, :-1], rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(pruned.second.bias.detach(), expected[:, -1], rtol=1e-6, atol=1e-8)  # type: ignore[union-attr]


def output_error(network: nn.Module, dense: nn.Module) -> float:
    with torch.no_grad():
        return float((network(torch.cat(INPUTS)) - dense(torch.cat(INPUTS))).square().mean())


def test_reconstruction_lowers_the_error_and_choosing_jointly_that_of_a_layer_more(small: Small) -> None:
    plain, fitted, joint = (copy.deepcopy(small) for _ in range(3))
    for each in (plain, fitted, joint):
        prune(each, 0.7, keep_output="out")
    before = zero_counts(joint)
    reconstruct(fitted, small, INPUTS)
    reconstruct(joint, small, INPUTS, joint=True)
    assert zero_counts(joint) == before
    assert not torch.equal(joint.again.weight == 0, plain.again.weight == 0)
    for each in (fitted, joint):
        assert output_error(each, small) < output_error(plain, small)
    aim = outputs_of(small, "first")  # the layer whose inputs are the same in all of them
    errors = [float((outputs_of(each, "first") - aim).square().mean()) for each in (joint, fitted, plain)]
    assert errors[0] <= errors[1] < errors[2]


def test_zeros_are_chosen_where_the_batchnorm_behind_multiplies_least() -> None:
    network: Any = nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3)).double().eval()
    network[1].weight.data = torch.tensor([1.0, 3.0, 0.0]).double()
    assert norms_behind(network, INPUTS[0]) == {"0": network[1]}
    joint, plain = copy.deepcopy(network), copy.deepcopy(network)
    for each, zeros_too in ((joint, True), (plain, False)):
        prune(each, 0.6, keep_output=False)
        reconstruct(each, network, INPUTS, joint=zeros_too)
    assert zero_counts(joint) == zero_counts(plain)
    assert int(torch.count_nonzero(joint[0].weight[2])) == 0
    assert output_error(joint, network) < output_error(plain, network)


def test_layers_that_cannot_be_refitted_are_named_or_left_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secateur.pruning.moments.MOST_COLUMNS", 199)
    network = nn.Sequential(nn.ConvTranspose2d(2, 2, 3), nn.Flatten(), nn.Linear(200, 3)).double()
    dense = copy.deepcopy(network)
    prune(network, 0.5, exclude=["2"], keep_output=False)
    pruned = copy.deepcopy(network)
    reconstruct(network, dense, INPUTS)
    assert torch.equal(network[2].weight, dense[2].weight)  # type: ignore[arg-type]
    assert zero_counts(network) == zero_counts(pruned)
    assert output_error(network[:1], dense[:1]) < output_error(pruned[:1], dense[:1])
    prune(network, 0.5, keep_output=False)
    with pytest.raises(PruneError, match=r"layer '2': expected a linear layer or a convolution"):
        reconstruct(network, dense, INPUTS)


def test_moments_become_those_of_the_dense_network(small: Small) -> None:
    pruned = copy.deepcopy(small)
    prune(pruned, 0.6, keep_output="out")
    zeros = zero_counts(pruned)
    correct_moments(pruned, small, INPUTS)
    assert zero_counts(pruned) == zeros
    for name in ("first", "second", "out"):
        wanted, got = (outputs_of(network, name) for network in (small, pruned))
        torch.testing.assert_close(got.std(0), wanted.std(0), rtol=1e-6, atol=1e-9)
        if name != "first":  # which has no bias
            torch.testing.assert_close(got.mean(0), wanted.mean(0), rtol=1e-6, atol=1e-9)


def outputs_of(network: nn.Module, name: str) -> Tensor:
    heard: list[Tensor] = []
    handle = network.get_submodule(name).register_forward_hook(lambda _, __, output: heard.append(output.clone()))
    with torch.no_grad():
        for batch in INPUTS:
            network(batch)
    handle.remove()
    return torch.cat([each.movedim(1, -1).reshape(-1, each.shape[1]) for each in heard])


def test_moments_of_a_transposed_convolution() -> None:
    dense = nn.Sequential(nn.ConvTranspose2d(2, 6, 3, groups=2)).double()
    pruned = copy.deepcopy(dense)
    prune(pruned, 0.5, keep_output=False)
    correct_moments(pruned, dense, INPUTS)
    wanted, got = (outputs_of(network, "0") for network in (dense, pruned))
    torch.testing.assert_close(got.std(0), wanted.std(0), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(got.mean(0), wanted.mean(0), rtol=1e-6, atol=1e-9)


def test_batchnorm_statistics_become_those_of_the_batches_weighted_by_size() -> None:
    network: Any = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, momentum=0.3), nn.Dropout(0.5)).double()
    network.train()
    network[2].eval()
    recalibrate(network, INPUTS)
    assert [module.training for module in network] == [True, True, False]
    assert network[1].momentum == 0.3
    with torch.no_grad():
        outputs = [network[0](batch).transpose(0, 1).flatten(1) for batch in INPUTS]
    torch.testing.assert_close(network[1].running_mean, torch.cat(outputs, 1).mean(1))
    expected = (40 * outputs[0].var(1) + 25 * outputs[1].var(1)) / 65
    torch.testing.assert_close(network[1].running_var, expected)


def test_joint_keeps_no_pattern_and_dense_is_needed() -> None:
    network = build("lenet-5")
    with pytest.raises(UsageError, match="repair 'reconstruct' aims at the dense network: expected it as dense="):
        repair(network, "reconstruct", [])
    with pytest.raises(UsageError, match="reconstruction: expected at least one batch"):
        reconstruct(network, network, [])
    with pytest.raises(UsageError, match="moments correction: expected at least one batch"):
        correct_moments(network, network, [])
    with pytest.raises(UsageError, match="repair 'prayer'"):
        repair(network, "prayer", [])


@pytest.mark.parametrize("how", ["batchnorm", "moments", "reconstruct", "joint"])
def test_calibration_that_cannot_be_gone_through_is_refused_and_nothing_changes(how: str) -> None:
    network: Any = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3))
    dense = copy.deepcopy(network)
    prune(network, 0.5)
    before = copy.deepcopy(network.state_dict())
    images, labels = torch.randn(6, 1, 8, 8), torch.arange(6) % 3
    given: list[tuple[Any, str]] = [
        ([], "no calibration batches: expected some batches of images and labels"),
        (
            (batch for batch in [(images, labels)]),
            "calibration can be gone through only once, as a generator: expected",
        ),
        ((images, labels), "calibration batch 1 is a Tensor: expected some batches of images and labels"),
        (images, "calibration Tensor: expected some batches of images and labels"),
    ]
    for calibration, message in given:
        with pytest.raises(UsageError, match=message):
            repair(network, how, calibration, dense)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("how", ["moments", "reconstruct", "joint"])
def test_a_shrunk_network_has_no_dense_one_to_aim_at(how: str) -> None:
    dense, small = (nn.Sequential(nn.Linear(5, width), nn.ReLU(), nn.Linear(width, 3)) for width in (8, 6))
    with pytest.raises(UsageError, match=rf"repair '{how}': expected layer '0' in the dense .* \(6, 5\), got \(8, 5\)"):
        repair(small, how, [(torch.randn(9, 5), torch.zeros(9))], dense)


class Whole(nn.Module):
    """A layer that runs twice around additions in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 8, 3, padding=1)
        self.again = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x += self.again(x)
        x += self.again(x)
        return x


def test_what_a_layer_is_given_may_be_changed_in_place_behind_it() -> None:
    dense = Whole().double()
    fitted = copy.deepcopy(dense)
    reconstruct(fitted, dense, INPUTS)
    for name, value in dense.state_dict().items():
        torch.testing.assert_close(fitted.state_dict()[name], value, rtol=1e-8, atol=1e-9)


class Named(nn.Module):
    """Layers that are called by keyword, the first by another module that shares its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 6, 3)
        self.instead = nn.Conv2d(2, 6, 3)
        self.instead.weight, self.instead.bias = self.first.weight, self.first.bias
        self.out = nn.Linear(216, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(input=torch.relu(self.instead(input=x)).flatten(1))


def test_moments_of_a_weight_that_another_module_runs_with() -> None:
    dense = Named().double()
    pruned = copy.deepcopy(dense)
    prune(pruned, 0.5, example=INPUTS[0])
    correct_moments(pruned, dense, INPUTS)
    wanted, got = (outputs_of(network, "instead") for network in (dense, pruned))
    torch.testing.assert_close(got.std(0), wanted.std(0), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(got.mean(0), wanted.mean(0), rtol=1e-6, atol=1e-9)
    reconstruct(pruned, dense, INPUTS)
    wanted, got = (outputs_of(network, "out") for network in (dense, pruned))
    assert (got - wanted).norm() < 0.5 * wanted.norm()


def test_a_last_batch_of_one_image_joins_the_one_before() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(9, 4), nn.BatchNorm1d(4))
    expected = copy.deepcopy(network)
    images = torch.randn(8, 1, 3, 3)
    recalibrate(network, [images[:1], images[1:4], images[4:7], images[7:]])
    recalibrate(expected, [images[:4], images[4:]])
    torch.testing.assert_close(network.state_dict(), expected.state_dict())
    with pytest.raises(UsageError, match=r"BatchNorm recalibration: expected two calibration images .* got 1"):
        recalibrate(network, [images[:1]])
    with pytest.raises(UsageError, match=r"BatchNorm recalibration: expected two calibration images .* got none"):
        recalibrate(network, [])
    with pytest.raises(ModelError, match=r"Sequential fails on inputs of shape \(8, 1, 2, 3\): mat1 and mat2"):
        recalibrate(network, [images[:4], images[:, :, :2]])
    torch.testing.assert_close(network.state_dict(), expected.state_dict(), msg="changed although it failed")


def test_batchnorm_sees_calibration_images_as_training_does() -> None:
    digits = load_data("digits")
    data = dataclasses.replace(digits, augment="crop-flip")
    calibration = Calibration(data, 50, 3)
    plain = torch.cat([images for images, _ in calibration])
    moved, again = (torch.cat([images for images, _ in calibration.augmented()]) for _ in range(2))
    assert torch.equal(moved, again)
    assert not torch.equal(moved, plain)
    untouched = torch.cat([images for images, _ in Calibration(data, 50, 3, augment="none").augmented()])
    assert torch.equal(untouched, plain)
    network, expected = (nn.Sequential(nn.BatchNorm2d(1)) for _ in range(2))
    repair(network, "batchnorm", calibration)
    recalibrate(expected, [moved])
    torch.testing.assert_close(network.state_dict(), expected.state_dict())


def test_calibration_images_are_training_images_drawn_by_seed() -> None:
    data = load_data("digits")
    first, again, other = (
        torch.cat([images for images, _ in Calibration(data, 100, seed, batch_size=30)]) for seed in (1, 1, 2)
    )
    assert first.shape == (100, 1, 8, 8)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    pixels = (first * data.std[0] + data.mean[0]).mul(255).round().to(torch.uint8)
    training = {bytes(image.flatten().tolist()) for image in data.train.images}
    assert {bytes(image.flatten().tolist()) for image in pixels} <= training
    assert len({bytes(image.flatten().tolist()) for image in pixels}) > 95
    with pytest.raises(DataError, match="calibration with 1198 images: expected 1 to 1197, as many as the training"):
        next(iter(Calibration(data, 1198, 0)))


@pytest.mark.parametrize("how", ["reconstruct", "joint", "moments"])
def test_a_network_that_changes_its_input_is_repaired_as_one_that_does_not(how: str) -> None:
    torch.manual_seed(0)
    dense, images = Plain(), torch.rand(64, 1, 8, 8)
    shifting = Keeping()
    shifting.load_state_dict(dense.state_dict())
    repaired = []
    for network in (dense, shifting):
        pruned = copy.deepcopy(network)
        prune(pruned, 0.6)
        repair(pruned, how, [(images, torch.zeros(64))], dense=network)
        repaired.append(pruned.state_dict())
    torch.testing.assert_close(*repaired, rtol=0, atol=0)


@pytest.mark.parametrize("how", ["reconstruct", "joint"])
def test_a_layer_that_cannot_be_refitted_is_found_before_any_is(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secateur.pruning.moments.MOST_COLUMNS", 15)
    dense = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 4, 2), nn.ReLU(), nn.Conv2d(4, 2, 1))
    network = copy.deepcopy(dense)
    prune(network, 0.5)
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(PruneError, match=r"layer '2': .* to refit, got a pruned ConvTranspose2d; prune without it"):
        repair(network, how, [(torch.randn(4, 1, 6, 6), torch.zeros(4))], dense=dense)
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)


class Normed(nn.Module):
    """Layers whose vectors of spectral normalisation take a step whenever their weight is asked for in training."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.out = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        nn.utils.parametrizations.spectral_norm(self.first)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.second(torch.relu(self.first(x)))))


@pytest.mark.parametrize("how", ["reconstruct", "moments", "distill"])
def test_weights_that_are_asked_for_do_not_change_what_they_are_made_of(how: str) -> None:
    dense = Normed().train()
    pruned = copy.deepcopy(dense)
    before = copy.deepcopy(dense.state_dict())
    batches = [(torch.randn(16, 6), torch.zeros(16))]
    prune(pruned, 0.5, example=batches[0][0], exclude=["first"])
    repair(pruned, how, batches, dense=dense)
    assert all(torch.equal(value, dense.state_dict()[name]) for name, value in before.items())
    vectors = [name for name in before if name.endswith(("._u", "._v"))]
    assert vectors
    assert all(torch.equal(before[name], pruned.state_dict()[name]) for name in vectors)


def test_threads_repair_by_one_dense_network_as_each_would_alone() -> None:
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
    batches = [(torch.randn(64, 32), torch.zeros(64)) for _ in range(4)]
    pruned = [copy.deepcopy(dense) for _ in range(4)]
    for number, each in enumerate(pruned):
        prune(each, 0.3 + 0.15 * number)
    alone = copy.deepcopy(pruned)
    for each in alone:
        repair(each, "reconstruct", batches, dense=dense)
    threads = [threading.Thread(target=repair, args=(each, "reconstruct", batches, dense)) for each in pruned]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(pruned, alone, strict=True):
        assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
