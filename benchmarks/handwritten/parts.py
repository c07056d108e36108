"""What hand-written networks are put together of."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Written(nn.Module):
    """A network that is a function of its inputs and its layers."""

    def __init__(self, function: Callable[..., Any], *layers: nn.Module) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs, *self.layers)


def conv(inputs: int, outputs: int, kernel: int = 3, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)


def block(inputs: int, outputs: int, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> nn.Sequential:
    return nn.Sequential(
        conv(inputs, outputs), norm(outputs), nn.ReLU(True), conv(outputs, outputs), norm(outputs), nn.ReLU()
    )


def mlp(*sizes: int, act: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), act()]
    return nn.Sequential(*layers[:-1])


def upsampling(**options: Any) -> Callable[[int, int], nn.Module]:
    return lambda inputs, outputs: nn.Sequential(nn.Upsample(scale_factor=2, **options), conv(inputs, outputs))


def transposed(inputs: int, outputs: int) -> nn.Module:
    return nn.ConvTranspose2d(inputs, outputs, 2, 2)


def pairs(*shapes: tuple[int, ...]) -> Callable[[int], tuple[Tensor, ...]]:
    return lambda count: tuple(torch.randn(count, *shape) for shape in shapes)


def standardised(inputs: int, outputs: int) -> nn.Module:
    layer = nn.Conv2d(inputs, outputs, 3, padding=1)

    def run(x: Tensor, layer: nn.Conv2d) -> Tensor:
        weight = layer.weight - layer.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5), layer.bias, padding=1)

    return Written(run, layer)


def encoder(first: bool, norm_first: bool = False) -> nn.Module:
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=first, norm_first=norm_first)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def soft_experts(x: Tensor, slots: nn.Module, *experts: nn.Module) -> Tensor:
    """Puigcerver et al. 2024."""
    logits = slots(x)
    given = torch.einsum("btd,bts->bsd", x, logits.softmax(1))
    made = torch.cat([each(part) for each, part in zip(experts, given.chunk(len(experts), 1), strict=True)], 1)
    return torch.einsum("bsd,bts->btd", made, logits.softmax(2))


def squeezed(x: Tensor, first: nn.Module, one: nn.Module, other: nn.Module) -> Tensor:
    x = first(x)
    return x * torch.sigmoid(other(F.relu(one(x.mean((2, 3), keepdim=True)))))


def gated(x: Tensor, gate: nn.Module, up: nn.Module, down: nn.Module) -> Tensor:
    return down(F.silu(gate(x)) * up(x))


def fourier(x: Tensor, first: nn.Module, last: nn.Module) -> Tensor:
    """Lee-Thorp et al. 2022, the transform as a matrix."""
    angles = torch.outer(torch.arange(16.0), torch.arange(16.0)) * (2 * math.pi / 16)
    return last(torch.einsum("kt,btd->bkd", angles.cos(), first(x)))


def linear_attention(x: Tensor, qkv: nn.Module) -> Tensor:
    """Katharopoulos et al. 2020."""
    query, key, value = qkv(x).chunk(3, -1)
    query, key = F.elu(query) + 1, F.elu(key) + 1
    seen = torch.einsum("btd,bte->bde", key, value)
    return torch.einsum("btd,bde->bte", query, seen) / torch.einsum("btd,bd->bt", query, key.sum(1)).unsqueeze(-1)


def graph_convolution(x: Tensor, links: Tensor, first: nn.Module, second: nn.Module) -> Tensor:
    """Kipf & Welling 2017, the adjacency as an input."""
    shares = links.abs() / links.abs().sum(-1, keepdim=True)
    return second(shares @ F.relu(first(shares @ x)))


def correlated(one: Tensor, other: Tensor, net: nn.Module) -> Tensor:
    """Dosovitskiy et al. 2015: how alike neighbouring places of two images are."""
    one, other = net(one), F.pad(net(other), (1, 1, 1, 1))
    height, width = one.shape[2:]
    return torch.cat(
        [(one * other[:, :, y : y + height, x : x + width]).mean(1, True) for y in range(3) for x in range(3)], 1
    )


def pooled_attention(x: Tensor, score: nn.Module, head: nn.Module) -> Tensor:
    return head((F.softmax(score(x), 1) * x).sum(1))


def statistics_pooling(x: Tensor, first: nn.Module, head: nn.Module) -> Tensor:
    """Snyder et al. 2018."""
    found = F.relu(first(x))
    return head(torch.cat([found.mean(2), found.std(2)], 1))


def time_distributed(x: Tensor, net: nn.Module, head: nn.Module) -> Tensor:
    images, frames = x.shape[:2]
    return head(net(x.reshape(-1, *x.shape[2:])).reshape(images, frames, -1).mean(1))
