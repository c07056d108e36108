"""Networks: the paper's four, their usual variants, or anyone's own as "package.module:callable".

The ResNets use torchvision's state-dict names, so checkpoints trained there load here.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import ModelError, UsageError
from secateur.references import import_callable, source_digest
from secateur.spec import WeightsFile


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
    for 32×32 images.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, int, int, int],
        classes: int = 10,
        channels: int = 3,
        cifar_stem: bool = False,
    ) -> None:
        super().__init__()
        stem = (3, 1, 1) if cifar_stem else (7, 2, 3)
        self.conv1 = nn.Conv2d(channels, 64, *stem, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if cifar_stem else nn.MaxPool2d(3, 2, 1)
        expansion = block.expansion
        self.layer1 = _stage(block, 64, 64, depths[0], stride=1)
        self.layer2 = _stage(block, 64 * expansion, 128, depths[1], stride=2)
        self.layer3 = _stage(block, 128 * expansion, 256, depths[2], stride=2)
        self.layer4 = _stage(block, 256 * expansion, 512, depths[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512 * expansion, classes)
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
    if ":" not in model:
        raise UsageError(
            f"model {model!r}: expected one of {', '.join(ARCHITECTURES)}, or your own as package.module:callable"
        )
    return _own_architecture(model)


def _own_architecture(model: str) -> Architecture:
    factory = import_callable(model, "model")
    accepted = _keywords(factory)

    def build(classes: int, channels: int) -> nn.Module:
        offered = {"num_classes": classes, "in_channels": channels}
        network = factory(**{name: value for name, value in offered.items() if name in accepted})
        if not isinstance(network, nn.Module):
            raise ModelError(f"model {model!r}: expected an nn.Module from it, got {type(network).__name__}")
        return network

    channels, size = _declared_input(factory)
    return Architecture(model, build, channels, size, source=source_digest(factory))


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


def _declared_input(factory: Callable[..., Any]) -> tuple[int | None, int | None]:
    declared = getattr(factory, "input_shape", None)
    if declared is None:
        return None, None
    channels, height, width = declared
    if height != width:
        raise ModelError(f"input_shape {tuple(declared)}: expected height and width to be equal")
    return int(channels), int(height)


def build_network(architecture: Architecture, classes: int, channels: int, seed: int) -> nn.Module:
    """A freshly initialised network in training mode; the global random state is left as it was.

    Raises ModelError where the user's callable fails.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return architecture.build(classes, channels)
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(f"model {architecture.name!r}: building it failed: {error!r}") from error


def read_weights_file(path: str | Path) -> WeightsFile:
    """Name a checkpoint by its path and digest. Raises ModelError where it cannot be read."""
    if Path(path).suffix not in (".pt", ".pth", ".safetensors"):
        raise ModelError(f"weights {path}: expected a .pt, .pth or .safetensors file")
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise ModelError(f"weights {path}: cannot be read: {error.strerror or error}") from error
    return WeightsFile(str(Path(path).absolute()), digest.hexdigest())


def load_weights(network: nn.Module, weights: WeightsFile) -> None:
    """Copy a checkpoint into a network: every name and shape has to match.

    A .pt file may hold a state dict, or one under "state_dict" or "model"; nothing in it is executed.
    Raises ModelError where the file changed, cannot be read, or does not fit.
    """
    if read_weights_file(weights.path) != weights:
        raise ModelError(f"weights {weights.path}: the file changed while it was in use; start the sweep again")
    state = read_state_dict(Path(weights.path))
    _check_fit(network, state, weights.path)
    network.load_state_dict(state, strict=False)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"weights {path}: not a checkpoint that can be opened safely: {reason}") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise ModelError(f"weights {path}: expected a state dict (names to tensors), got {type(loaded).__name__}")
    return loaded


def _check_fit(network: nn.Module, state: dict[str, Tensor], path: str) -> None:
    own = network.state_dict()
    tied = _tied_names(own)
    missing = [name for name in own if name not in state and not tied[name] & state.keys()]
    unknown = [name for name in state if name not in own]
    if missing or unknown:
        raise ModelError(
            f"weights {path}: {_first(missing, 'is missing')}{_first(unknown, 'is not in the network')}"
            "name the network that it was saved from with --model"
        )
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            raise ModelError(
                f"weights {path}: {name!r} has shape {tuple(tensor.shape)} but the network expects "
                f"{tuple(own[name].shape)}: is it the same network with the same number of classes?"
            )


def _tied_names(state: dict[str, Tensor]) -> dict[str, set[str]]:
    """For each name, all names that share its memory: a safetensors file holds one of them."""
    by_memory: dict[tuple[int, tuple[int, ...]], set[str]] = {}
    for name, tensor in state.items():
        by_memory.setdefault((tensor.data_ptr(), tuple(tensor.shape)), set()).add(name)
    return {name: by_memory[tensor.data_ptr(), tuple(tensor.shape)] for name, tensor in state.items()}


def _first(names: list[str], problem: str) -> str:
    if not names:
        return ""
    more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    return f"{names[0]!r}{more} {problem}; "
