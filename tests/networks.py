"""Small networks of many families in plain PyTorch, written as people write them: fixtures of several suites."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.importing.aten import Structure, structure_of, to_graph
from secateur.network.graph import Graph
from secateur.pruning.pruning import prune
from secateur.training.models import ARCHITECTURES, BasicBlock, Bottleneck, ResNet, build_network


class VGG(nn.Module):
    """Convolutions in nn.Sequential with in-place ReLU, a classifier with dropout (Simonyan & Zisserman 2015)."""

    def __init__(self, batch_norm: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in (8, "pool", 16, 16, "pool"):
            if isinstance(width, str):
                layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
                continue
            layers.append(nn.Conv2d(channels, width, kernel_size=3, padding=1))
            layers += [nn.BatchNorm2d(width)] if batch_norm else []
            layers.append(nn.ReLU(inplace=True))
            channels = width
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((3, 3))
        self.classifier = nn.Sequential(
            nn.Linear(16 * 9, 32), nn.ReLU(True), nn.Dropout(), nn.Linear(32, 32), nn.ReLU(True), nn.Dropout(),
            nn.Linear(32, 10),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.features(x))
        return self.classifier(torch.flatten(x, 1))


class InvertedResidual(nn.Module):
    def __init__(self, channels: int, out_channels: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = channels * expand
        self.use_shortcut = stride == 1 and channels == out_channels
        self.conv = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(inplace=True),
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(inplace=True),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.use_shortcut else self.conv(x)


class MobileNetV2(nn.Module):
    """Depthwise convolutions between 1×1 ones, linear bottlenecks (Sandler et al. 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6(inplace=True)),
            InvertedResidual(8, 8, 1, 2),
            InvertedResidual(8, 12, 2, 3),
            InvertedResidual(12, 12, 1, 3),
        )
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(12, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.features(x), (1, 1))
        return self.classifier(torch.flatten(x, 1))


class SqueezeExcite(nn.Module):
    """One factor per channel from the whole plane (Hu et al. 2018); gate: what ends it."""

    def __init__(self, channels: int, squeezed: int, activation: nn.Module, gate: nn.Module) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.activation = activation
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        scale = self.gate(self.fc2(self.activation(self.fc1(self.avgpool(x)))))
        return scale * x


class MobileNetV3(nn.Module):
    """Hardswish, hardsigmoid and squeeze-and-excitation (Howard et al. 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8, eps=1e-3), nn.Hardswish(True))
        self.block = nn.Sequential(
            nn.Conv2d(8, 24, 1, bias=False),
            nn.BatchNorm2d(24, eps=1e-3),
            nn.Hardswish(inplace=True),
            nn.Conv2d(24, 24, 5, 1, 2, groups=24, bias=False),
            nn.BatchNorm2d(24, eps=1e-3),
            nn.Hardswish(inplace=True),
            SqueezeExcite(24, 8, nn.ReLU(), nn.Hardsigmoid()),
            nn.Conv2d(24, 8, 1, bias=False),
            nn.BatchNorm2d(8, eps=1e-3),
        )
        self.head = nn.Sequential(nn.Linear(8, 16), nn.Hardswish(inplace=True), nn.Dropout(0.2), nn.Linear(16, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.block(x)
        return self.head(x.mean([2, 3]))


class DenseLayer(nn.Module):
    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(channels), nn.Conv2d(channels, 2 * growth, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(2 * growth), nn.Conv2d(2 * growth, growth, 3, padding=1, bias=False)

    def forward(self, features: list[Tensor]) -> Tensor:
        x = self.conv1(F.relu(self.norm1(torch.cat(features, 1))))
        return self.conv2(F.relu(self.norm2(x), inplace=True))


class DenseNet(nn.Module):
    """BatchNorm before convolutions, every layer reads all before it (Huang et al. 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.layers = nn.ModuleList(DenseLayer(8 + 4 * index, 4) for index in range(3))
        self.transition = nn.Sequential(
            nn.BatchNorm2d(20), nn.ReLU(inplace=True), nn.Conv2d(20, 10, 1, bias=False), nn.AvgPool2d(2, 2)
        )
        self.norm = nn.BatchNorm2d(10)
        self.classifier = nn.Linear(10, 10)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.conv0(x)]
        for layer in self.layers:
            features.append(layer(features))
        out = F.relu(self.norm(self.transition(torch.cat(features, 1))), inplace=True)
        out = F.adaptive_avg_pool2d(out, (1, 1)).view(out.size(0), -1)
        return self.classifier(out)


class ResNeXtBlock(nn.Module):
    def __init__(self, channels: int, width: int, groups: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 2 * width, 1, bias=False), nn.BatchNorm2d(2 * width)
        self.shortcut = nn.Sequential(nn.Conv2d(channels, 2 * width, 1, stride, bias=False), nn.BatchNorm2d(2 * width))

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += self.shortcut(x)
        return F.relu(out)


class ResNeXt(nn.Module):
    """Grouped 3×3 convolutions (Xie et al. 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding="same")
        self.blocks = nn.Sequential(ResNeXtBlock(8, 8, 4, 1), ResNeXtBlock(16, 12, 4, 2))
        self.fc = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(torch.relu(self.stem(x)))
        x = F.avg_pool2d(x, x.shape[-1])
        return self.fc(x.view(x.size(0), -1))


class EfficientNet(nn.Module):
    """SiLU, depthwise convolutions, squeeze-and-excitation with a sigmoid (Tan & Le 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.SiLU(inplace=True))
        self.expand = nn.Sequential(nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16))
        self.depthwise = nn.Sequential(nn.Conv2d(16, 16, 3, 1, 1, groups=16, bias=False), nn.BatchNorm2d(16))
        self.squeeze = SqueezeExcite(16, 4, nn.SiLU(), nn.Sigmoid())
        self.project = nn.Sequential(nn.Conv2d(16, 8, 1, bias=False), nn.BatchNorm2d(8))
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2, inplace=True), nn.Linear(8, 10)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = F.silu(self.expand(x))
        y = self.depthwise(y)
        y = y * torch.sigmoid(y)
        return self.head(x + self.project(self.squeeze(y)))


class MixerBlock(nn.Module):
    def __init__(self, tokens: int, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.tokens = nn.Sequential(nn.Linear(tokens, 2 * tokens), nn.GELU(), nn.Linear(2 * tokens, tokens))
        self.channels = nn.Sequential(
            nn.Linear(channels, 2 * channels), nn.GELU(approximate="tanh"), nn.Linear(2 * channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


class Mixer(nn.Module):
    """Patches as tokens, mixed along and across (Tolstikhin et al. 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 4, 4)
        self.blocks = nn.Sequential(MixerBlock(16, 12), MixerBlock(16, 12))
        self.norm = nn.LayerNorm(12)
        self.head = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).permute(0, 2, 1)
        return self.head(self.norm(self.blocks(x)).mean(dim=1))


class ShuffleUnit(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branch = nn.Sequential(
            nn.Conv2d(half, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU(inplace=True),
            nn.Conv2d(half, half, 3, 1, 1, groups=half, bias=False), nn.BatchNorm2d(half),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        kept, changed = x.chunk(2, dim=1)
        out = torch.cat((kept, self.branch(changed)), dim=1)
        batch, channels, height, width = out.size()
        out = out.view(batch, 2, channels // 2, height, width)
        return torch.transpose(out, 1, 2).contiguous().view(batch, -1, height, width)


class ShuffleNet(nn.Module):
    """Halves of the channels, shuffled (Ma et al. 2018), and the odds and ends that people write."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 4, padding="same"), nn.LeakyReLU(0.1), nn.Identity())
        self.units = nn.Sequential(ShuffleUnit(8), ShuffleUnit(8))
        self.scale: Tensor
        self.register_buffer("scale", torch.linspace(0.5, 1.5, 8).view(1, 8, 1, 1))
        self.shift = nn.Parameter(torch.linspace(-1, 1, 8).view(8, 1, 1))
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.fc = nn.Linear(32, 32)
        self.out = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.units(self.stem((x - 0.5) / 0.25))
        x *= self.scale
        x = self.pool(torch.tanh(x) + self.shift)
        first, second = torch.split(x, [3, 5], dim=1)
        x = torch.cat([2 * second, F.relu6(first) - 1], dim=1)
        x = F.adaptive_avg_pool2d(F.pad(x, (1, 0, 1, 0)), 2).reshape(x.shape[0], -1)
        x = F.dropout(self.fc(x), training=self.training).clamp(min=0)
        return F.softmax(self.out(x), dim=-1)


class TiedAutoencoder(nn.Module):
    """One weight at work twice, and a second time transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.inner, self.again = nn.Linear(192, 24), nn.Linear(24, 24), nn.Linear(24, 24, bias=False)
        self.again.weight = self.inner.weight
        self.bias = nn.Parameter(torch.zeros(192))

    def forward(self, x: Tensor) -> Tensor:
        shape = x.shape
        hidden = torch.sigmoid(self.enter(x.flatten(1)))
        hidden = torch.relu(self.again(torch.relu(self.inner(hidden))))
        return F.linear(hidden, self.enter.weight.t(), self.bias).view(shape)


@dataclass(frozen=True, slots=True)
class Family:
    """A network to build, and the shape of one input without the batch."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]


FAMILIES: dict[str, Family] = {
    "vgg": Family(VGG, (3, 16, 16)),
    "vgg-plain": Family(lambda: VGG(batch_norm=False), (3, 16, 16)),
    "mobilenet-v2": Family(MobileNetV2, (3, 16, 16)),
    "mobilenet-v3": Family(MobileNetV3, (3, 16, 16)),
    "densenet": Family(DenseNet, (3, 12, 12)),
    "resnext": Family(ResNeXt, (3, 12, 12)),
    "efficientnet": Family(EfficientNet, (3, 16, 16)),
    "mixer": Family(Mixer, (3, 16, 16)),
    "shufflenet": Family(ShuffleNet, (3, 12, 12)),
    "tied-autoencoder": Family(TiedAutoencoder, (3, 8, 8)),
}


def _built_in(name: str) -> Family:
    architecture = ARCHITECTURES[name]
    channels, size = architecture.channels or 3, architecture.size or 32
    return Family(lambda: build_network(architecture, 10, channels, seed=0), (channels, size, size))


def _slim(block: type[BasicBlock | Bottleneck], depth: int, cifar_stem: bool) -> Family:
    return Family(lambda: ResNet(block, (depth, 2, 2, 2), cifar_stem=cifar_stem, width=16), (3, 32, 32))


OWN: dict[str, Family] = {name: _built_in(name) for name in ARCHITECTURES} | {
    "slim-resnet-18": _slim(BasicBlock, 2, cifar_stem=False),
    "slim-resnet-18-cifar": _slim(BasicBlock, 2, cifar_stem=True),
    "slim-resnet-50-cifar": _slim(Bottleneck, 3, cifar_stem=True),
}
"""The project's own networks, each on an input of its usual size; slim: of a quarter of the channels, and fewer blocks
of ResNet-50."""


def make_network(name: str, ratio: float = 0.0, seed: int = 0) -> nn.Module:
    """A network of FAMILIES or OWN in eval mode: random weights, BatchNorm as after training, pruned at ratio."""
    family = FAMILIES.get(name) or OWN[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = family.build().eval()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                _randomise(module)
    if ratio > 0:
        prune(network, ratio, allow_empty=True)
    return network


def _randomise(norm: nn.BatchNorm2d) -> None:
    """Statistics and an affine part that no folding can get right by luck."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.normal_(0, 0.3)
    norm.running_var.uniform_(0.5, 1.5)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.normal_(0, 0.3)


def make_example(name: str, batch: int = 2, seed: int = 0) -> Tensor:
    family = FAMILIES.get(name) or OWN[name]
    return torch.randn(batch, *family.shape, generator=torch.Generator().manual_seed(seed))


@functools.cache
def _structure(name: str) -> Structure:
    return structure_of(make_network(name), make_example(name))


def make_graph(name: str, ratio: float = 0.0, seed: int = 0) -> Graph:
    """What to_graph gives for make_network(name, ratio, seed): traced once, its weights filled in each time."""
    network, structure = make_network(name, ratio, seed), _structure(name)
    return structure.graph(network) if structure.fits(network) else to_graph(network, make_example(name))


def run_network(network: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return network(x)
