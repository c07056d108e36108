"""Networks for 1×8×8 images and 10 classes whose forward computes constants from parameters and buffers."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations


class StandardisedConv(nn.Conv2d):
    """Weight standardisation (Qiao et al. 2019)."""

    def forward(self, x: Tensor) -> Tensor:
        axes = (1, 2, 3)
        weight = self.weight - self.weight.mean(axes, keepdim=True)
        weight = weight / (self.weight.std(axes, keepdim=True) + 1e-5)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class Convolutional(nn.Module):
    def __init__(self, activation: Callable[[], nn.Module] = nn.ReLU, kind: type[nn.Conv2d] = nn.Conv2d) -> None:
        super().__init__()
        self.a, self.b = kind(1, 8, 3, padding=1), kind(8, 8, 3, padding=1)
        self.act, self.again, self.head = activation(), activation(), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.again(self.b(F.max_pool2d(self.act(self.a(x)), 2))).mean((2, 3)))


class Dense(nn.Module):
    """Linear layers around a square matrix that `function` uses, and parameters of awkward shapes."""

    mask: Tensor
    steps: Tensor

    def __init__(self, function: Callable[[Dense, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(64, 16), nn.Linear(16, 16), nn.Linear(16, 10)
        self.scale, self.row = nn.Parameter(torch.rand(1) + 0.5), nn.Parameter(torch.rand(1, 16) + 0.5)
        self.register_buffer("mask", (torch.rand(16, 16) > 0.5).float())
        self.register_buffer("steps", torch.rand(16) + 0.5, persistent=False)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.function(self, F.relu(self.a(x.flatten(1)))))


class Quantised(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight.abs().amax(1) / 7
        zero = torch.zeros(len(scale), dtype=torch.int32)
        return F.linear(x, torch.fake_quantize_per_channel_affine(self.weight, scale, zero, 0, -7, 7), self.bias)


class Normalised(nn.LayerNorm):
    """Gemma's and Llama's: the weight's distance from one is what is learnt."""

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, 1 + self.weight, self.bias, self.eps)


def prelu() -> nn.Module:
    return Convolutional(nn.PReLU)


def standardised() -> nn.Module:
    return Convolutional(kind=StandardisedConv)


def layer_norm() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), Normalised(16), nn.ReLU(), nn.Linear(16, 10))


def quantised() -> nn.Module:
    return nn.Sequential(nn.Flatten(), Quantised(64, 16), nn.ReLU(), nn.Linear(16, 10))


def weight_normed() -> nn.Module:
    return nn.Sequential(nn.Flatten(), parametrizations.weight_norm(nn.Linear(64, 16)), nn.ReLU(), nn.Linear(16, 10))


def raw_and_derived(self: Dense, x: Tensor) -> Tensor:
    return self.b(x) + F.linear(x, self.b.weight.sign() * self.scale, self.b.bias)


def tied(self: Dense, x: Tensor) -> Tensor:
    return F.linear(F.relu(self.b(x)), self.b.weight.t())


FUNCTIONS: dict[str, Callable[[Dense, Tensor], Tensor]] = {
    "x @ W": lambda self, x: x @ self.b.weight,
    "addmm": lambda self, x: torch.addmm(self.b.bias, x, self.b.weight),
    "equalised": lambda self, x: F.linear(x, self.b.weight * 0.5**0.5, self.b.bias),
    "sign": lambda self, x: F.linear(x, self.b.weight.sign(), self.b.bias),
    "tril": lambda self, x: F.linear(x, self.b.weight.tril(), self.b.bias),
    "masked by a buffer": lambda self, x: F.linear(x, self.b.weight * self.mask, self.b.bias),
    "scaled bias": lambda self, x: F.linear(x, self.b.weight, self.b.bias * 3),
    "a scalar of one": lambda self, x: self.b(x) * self.scale,
    "a row": lambda self, x: self.b(x) * self.row,
    "a buffer that is not saved": lambda self, x: self.b(x) + self.steps * self.scale,
    "a copy": lambda self, x: F.linear(x, self.b.weight.clone().detach(), self.b.bias),
    "raw and derived": raw_and_derived,
    "tied": tied,
}
MAKERS: dict[str, Callable[[], nn.Module]] = {
    **{each.__name__: each for each in (prelu, standardised, layer_norm, quantised, weight_normed)},
    **{name: (lambda function=function: Dense(function)) for name, function in FUNCTIONS.items()},  # type: ignore[misc]
}


def varied(network: nn.Module, seed: int) -> nn.Module:
    """A copy in evaluation mode with other parameters and saved buffers, and everything else the same."""
    other, generator = copy.deepcopy(network).eval(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for each in other.state_dict().values():
            each.add_(torch.randn(each.shape, generator=generator), alpha=0.3)
    return other


def drawn() -> nn.Module:
    """An attribute of its own for every seed."""
    return Convolutional(lambda: nn.LeakyReLU(float(torch.rand(()))))


SLOPE = 0.1


class GlobalSlope(nn.Module):
    """What it computes is not told by what it holds."""

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, SLOPE)


def with_a_global() -> nn.Module:
    return Convolutional(GlobalSlope)
