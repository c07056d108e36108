"""Networks: the paper's four, their usual variants, or anyone's own as "package.module:callable".

The ResNets use torchvision's state-dict names, so checkpoints trained there load here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import ModelError, UsageError
from secateur.modules.guarding import copied
from secateur.support.references import import_callable, is_object, own_code
from secateur.support.sources import source_digest
from secateur.training.objects import find_module


class LeNet300100(nn.Module):
    """784-300-100-classes with ReLU (LeCun et al. 1998). Input (N, 1, 28, 28)."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 300)
        self.fc2 = nn.Linear(300, 100)
        self.fc3 = nn.Linear(100, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.fc1(x.flatten(1)))
        x = torch.relu(self.fc2(x))
        return self.fc3(x)


class LeNet5(nn.Module):
    """6 and 16 filters of 5×5, then 120-84-classes, with ReLU and max pooling. Input (N, 1, 28, 28), padded by 2."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, classes)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(torch.relu(self.conv1(x)))
        x = self.pool(torch.relu(self.conv2(x)))
        x = torch.relu(self.fc1(x.flatten(1)))
        x = torch.relu(self.fc2(x))
        return self.fc3(x)


class LeNet5Caffe(nn.Module):
    """20 and 50 filters of 5×5, then 500-classes: the LeNet-5 of the pruning literature (Han et al. 2015)."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.fc1 = nn.Linear(800, 500)
        self.fc2 = nn.Linear(500, classes)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.conv1(x))
        x = self.pool(self.conv2(x))
        x = torch.relu(self.fc1(x.flatten(1)))
        return self.fc2(x)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut (He et al. 2016, figure 5 left)."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolutions and a shortcut (He et al. 2016, figure 5 right); stride on the 3×3."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)


def _projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))


class ResNet(nn.Module):
    """He et al. 2016, table 1. Input (N, channels, H, W).

    cifar_stem replaces the 7×7 stride-2 convolution and the max pooling by one 3×3 convolution, as is usual
    for 32×32 images. width: channels of the first stage, which each next one doubles.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, int, int, int],
        classes: int = 10,
        channels: int = 3,
        cifar_stem: bool = False,
        width: int = 64,
    ) -> None:
        super().__init__()
        stem = (3, 1, 1) if cifar_stem else (7, 2, 3)
        self.conv1 = nn.Conv2d(channels, width, *stem, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if cifar_stem else nn.MaxPool2d(3, 2, 1)
        expansion = block.expansion
        self.layer1 = _stage(block, width, width, depths[0], stride=1)
        self.layer2 = _stage(block, width * expansion, 2 * width, depths[1], stride=2)
        self.layer3 = _stage(block, 2 * width * expansion, 4 * width, depths[2], stride=2)
        self.layer4 = _stage(block, 4 * width * expansion, 8 * width, depths[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8 * width * expansion, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


def _stage(
    block: type[BasicBlock] | type[Bottleneck], in_channels: int, width: int, depth: int, stride: int
) -> nn.Sequential:
    out_channels = width * block.expansion
    return nn.Sequential(block(in_channels, width, stride), *(block(out_channels, width, 1) for _ in range(depth - 1)))


@dataclass(frozen=True, slots=True)
class Architecture:
    """How to build a network and what it takes.

    channels and size fix the images (None: any). convolutional networks run in channels_last on a CPU, which
    is faster there; autocast says that bf16 pays on devices that compute in it. source identifies the code
    of a user's own network.
    """

    name: str
    build: Callable[[int, int], nn.Module]  # (classes, channels)
    channels: int | None = None
    size: int | None = None
    convolutional: bool = False
    autocast: bool = False
    source: str = ""


def _lenet(name: str, network: Callable[[int], nn.Module], convolutional: bool) -> Architecture:
    return Architecture(name, lambda classes, _: network(classes), 1, 28, convolutional=convolutional)


def _resnet(
    name: str,
    block: type[BasicBlock] | type[Bottleneck],
    depths: tuple[int, int, int, int],
    cifar_stem: bool,
) -> Architecture:
    def build(classes: int, channels: int) -> nn.Module:
        return ResNet(block, depths, classes, channels, cifar_stem)

    return Architecture(name, build, convolutional=True, autocast=True)


ARCHITECTURES = {
    each.name: each
    for each in (
        _lenet("lenet-300-100", LeNet300100, convolutional=False),
        _lenet("lenet-5", LeNet5, convolutional=True),
        _lenet("lenet-5-caffe", LeNet5Caffe, convolutional=True),
        _resnet("resnet-18", BasicBlock, (2, 2, 2, 2), cifar_stem=False),
        _resnet("resnet-50", Bottleneck, (3, 4, 6, 3), cifar_stem=False),
        _resnet("resnet-18-cifar", BasicBlock, (2, 2, 2, 2), cifar_stem=True),
        _resnet("resnet-50-cifar", Bottleneck, (3, 4, 6, 3), cifar_stem=True),
    )
}


def find_architecture(model: str) -> Architecture:
    """A built-in network by name, or a user's own as "package.module:callable".

    The callable returns an nn.Module; it is called with the keywords `num_classes` and `in_channels` where it
    takes them. A module attribute `input_shape = (channels, height, width)` is respected.
    Raises UsageError for an unknown name, ModelError where the callable cannot be imported.
    """
    if model in ARCHITECTURES:
        return ARCHITECTURES[model]
    if is_object(model):
        return _held_architecture(model)
    if ":" not in model:
        raise UsageError(
            f"model {model!r}: expected one of {', '.join(ARCHITECTURES)}, or your own as package.module:callable"
        )
    return _own_architecture(model)


def _held_architecture(model: str) -> Architecture:
    """Of a module that a program holds: building it is copying it."""
    network = find_module(model)
    planes = any(isinstance(module, nn.Conv2d) for module in network.modules())
    return Architecture(model, lambda *_: copied(network), convolutional=planes)


def _own_architecture(model: str) -> Architecture:
    factory = import_callable(model, "model")
    accepted = _keywords(factory)

    def build(classes: int, channels: int) -> nn.Module:
        offered = {"num_classes": classes, "in_channels": channels}
        network = factory(**{name: value for name, value in offered.items() if name in accepted})
        if not isinstance(network, nn.Module):
            raise ModelError(f"model {model!r}: expected an nn.Module from it, got {type(network).__name__}")
        return network

    channels, size = _declared_input(factory, model)
    return Architecture(model, build, channels, size, source=source_digest(model, factory))


def _keywords(factory: Callable[..., Any]) -> set[str]:
    """Which keywords a callable takes; a module class without a constructor of its own takes none."""
    if inspect.isclass(factory) and factory.__init__ is nn.Module.__init__:
        return set()
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return set()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return {"num_classes"}  # torchvision's factories forward their keywords to such a constructor
    return {parameter.name for parameter in parameters}


def _declared_input(factory: Callable[..., Any], model: str) -> tuple[int | None, int | None]:
    declared = getattr(factory, "input_shape", None)
    if declared is None:
        return None, None
    shape = tuple(declared) if isinstance(declared, list | tuple) else ()
    if len(shape) != 3 or not all(isinstance(each, int) and each > 0 for each in shape):
        raise ModelError(f"model {model!r}: its input_shape {declared!r}: expected (channels, height, width)")
    channels, height, width = shape
    if height != width:
        raise ModelError(f"input_shape {shape}: expected height and width to be equal")
    return channels, height


def build_network(architecture: Architecture, classes: int, channels: int, seed: int) -> nn.Module:
    """A freshly initialised network in training mode; the global random state is left as it was.

    Raises ModelError where the user's callable fails.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with own_code(ModelError, f"model {architecture.name!r}: building it failed"):
            return architecture.build(classes, channels)
