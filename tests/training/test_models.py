from __future__ import annotations

import pytest
import torch

from samples import build
from secateur.errors import CallableError, ModelError, UsageError
from secateur.training.models import (
    ARCHITECTURES,
    build_network,
    find_architecture,
)

PARAMETERS = {
    "lenet-300-100": 266_610,
    "lenet-5": 61_706,
    "lenet-5-caffe": 431_080,
    "resnet-18": 11_181_642,
    "resnet-50": 23_528_522,
    "resnet-18-cifar": 11_173_962,
    "resnet-50-cifar": 23_520_842,
}


def test_every_network_has_its_published_number_of_parameters() -> None:
    assert PARAMETERS.keys() == ARCHITECTURES.keys()
    for name, expected in PARAMETERS.items():
        with torch.device("meta"):
            network = ARCHITECTURES[name].build(10, 3)
        assert sum(parameter.numel() for parameter in network.parameters()) == expected, name


def test_the_imagenet_resnets_have_the_parameter_counts_of_torchvision() -> None:
    for name, expected in (("resnet-18", 11_689_512), ("resnet-50", 25_557_032)):
        with torch.device("meta"):
            network = ARCHITECTURES[name].build(1000, 3)
        assert sum(parameter.numel() for parameter in network.parameters()) == expected


def test_resnet_state_dicts_use_the_names_of_torchvision() -> None:
    with torch.device("meta"):
        names = set(ARCHITECTURES["resnet-50"].build(1000, 3).state_dict())
    expected = {
        "conv1.weight", "bn1.running_var", "bn1.num_batches_tracked", "layer1.0.conv3.weight", "layer1.0.bn3.bias",
        "layer1.0.downsample.0.weight", "layer1.0.downsample.1.running_mean", "layer3.5.conv2.weight",
        "layer4.2.bn1.weight", "fc.weight", "fc.bias",
    }  # fmt: skip
    assert expected <= names
    assert len(names) == 320  # entries in torchvision's resnet50 state dict


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_network_maps_its_images_to_logits(name: str) -> None:
    architecture = ARCHITECTURES[name]
    channels, size = architecture.channels or 3, architecture.size or 32
    network = build_network(architecture, 10, channels, seed=0).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, channels, size, size)).shape == (2, 10)


def test_the_same_seed_builds_the_same_network_and_leaves_the_global_seed_alone() -> None:
    before = torch.random.get_rng_state()
    one, two, other = (build("lenet-5", seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one.state_dict()["fc1.weight"], two.state_dict()["fc1.weight"])
    assert not torch.equal(one.state_dict()["fc1.weight"], other.state_dict()["fc1.weight"])


def test_a_users_own_network_is_found_by_module_and_name() -> None:
    network = build_network(find_architecture("samples:tiny"), 7, 1, seed=0)
    assert network(torch.zeros(1, 1, 8, 8)).shape == (1, 7)


def test_unknown_networks_are_refused_with_the_choices() -> None:
    with pytest.raises(UsageError, match=r"model 'vgg': expected one of lenet-300-100, .*package\.module:callable"):
        find_architecture("vgg")
    with pytest.raises(CallableError, match=r"model 'nowhere:net': cannot be imported"):
        find_architecture("nowhere:net")
    with pytest.raises(CallableError, match=r"cannot be imported.*no attribute 'absent'"):
        find_architecture("samples:absent")
    with pytest.raises(ModelError, match=r"expected an nn\.Module from it, got Dataset"):
        build_network(find_architecture("samples:stripes"), 10, 1, 0)
