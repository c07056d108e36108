"""Hand-written networks for sequences and sets, and such as are odd in what they take or give."""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from handwritten.parts import conv, mlp


class Causal(nn.Module):
    """Bai et al. 2018: two dilated convolutions that see the past only."""

    def __init__(
        self, channels: int, dilation: int, wrap: Callable[[nn.Module], nn.Module] = lambda layer: layer
    ) -> None:
        super().__init__()
        self.first = wrap(nn.Conv1d(channels, channels, 3, padding=2 * dilation, dilation=dilation))
        self.second = wrap(nn.Conv1d(channels, channels, 3, padding=2 * dilation, dilation=dilation))
        self.cut = 2 * dilation

    def forward(self, x: Tensor) -> Tensor:
        made = F.relu(self.first(x)[:, :, : -self.cut].contiguous())
        return F.relu(x + F.relu(self.second(made)[..., : -self.cut]))


def tcn(wrap: Callable[[nn.Module], nn.Module] = lambda layer: layer) -> nn.Module:
    return nn.Sequential(
        wrap(nn.Conv1d(4, 32, 1)),
        *(Causal(32, 2**each, wrap) for each in range(3)),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(32, 5),
    )


class WaveNet(nn.Module):
    """van den Oord et al. 2016: gated dilated convolutions with skip connections."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Conv1d(1, 16, 1)
        self.gated = nn.ModuleList([nn.Conv1d(16, 32, 2, dilation=2**each) for each in range(6)])
        self.skip = nn.ModuleList([nn.Conv1d(16, 24, 1) for _ in range(6)])
        self.stay = nn.ModuleList([nn.Conv1d(16, 16, 1) for _ in range(6)])
        self.end = nn.Sequential(nn.ReLU(), nn.Conv1d(24, 24, 1), nn.ReLU(), nn.Conv1d(24, 8, 1))

    def forward(self, x: Tensor) -> Tensor:
        x, total = self.start(x), torch.zeros(1)
        for each, (gated, skip, stay) in enumerate(zip(self.gated, self.skip, self.stay, strict=True)):
            one, other = gated(F.pad(x, (2**each, 0))).chunk(2, 1)
            made = torch.tanh(one) * torch.sigmoid(other)
            total = total + skip(made)
            x = x + stay(made)
        return self.end(total)


class ConvTasNet(nn.Module):
    """Luo & Mesgarani 2019: an encoder, masks by separable convolutions, a decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Conv1d(1, 32, 16, 8, bias=False), nn.ConvTranspose1d(32, 1, 16, 8, bias=False)
        self.norm, self.narrow = nn.GroupNorm(1, 32, 1e-8), nn.Conv1d(32, 16, 1)
        self.blocks = nn.ModuleList(
            [
                nn.Sequential(
                    nn.Conv1d(16, 32, 1),
                    nn.PReLU(),
                    nn.GroupNorm(1, 32),
                    nn.Conv1d(32, 32, 3, padding=2**each, dilation=2**each, groups=32),
                    nn.PReLU(),
                    nn.GroupNorm(1, 32),
                    nn.Conv1d(32, 16, 1),
                )
                for each in range(4)
            ]
        )
        self.masks = nn.Conv1d(16, 64, 1)

    def forward(self, x: Tensor) -> Tensor:
        coded = self.encoder(x)
        made = self.narrow(self.norm(coded))
        for each in self.blocks:
            made = made + each(made)
        masks = torch.sigmoid(self.masks(made)).view(x.shape[0], 2, 32, -1)
        found = (coded.unsqueeze(1) * masks).flatten(0, 1)
        return self.decoder(found).view(x.shape[0], 2, -1)


class Attention(nn.Module):
    """Vaswani et al. 2017, written out."""

    def __init__(self, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        images, length, width = x.shape
        query, key, value = self.qkv(x).view(images, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-2, -1) / math.sqrt(width // self.heads)
        return self.out((scores.softmax(-1) @ value).transpose(1, 2).reshape(images, length, width))


class Recurrent(nn.Module):
    def __init__(self, layer: nn.RNNBase, first: bool = True) -> None:
        super().__init__()
        self.layer, self.first = layer, first
        self.head = nn.Linear(layer.hidden_size * (2 if layer.bidirectional else 1), 5)

    def forward(self, x: Tensor) -> Tensor:
        if self.first:
            return self.head(self.layer(x)[0][:, -1])
        return self.head(self.layer(x.transpose(0, 1))[0][-1])


class CRNN(nn.Module):
    """Shi et al. 2015: columns of an image as a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            conv(1, 16), nn.ReLU(), nn.MaxPool2d(2), conv(16, 32), nn.ReLU(), nn.MaxPool2d((4, 2))
        )
        self.layer, self.head = nn.LSTM(128, 32, bidirectional=True), nn.Linear(64, 12)

    def forward(self, x: Tensor) -> Tensor:
        found = self.features(x)
        columns = found.flatten(1, 2).permute(2, 0, 1)
        return F.log_softmax(self.head(self.layer(columns)[0]), -1).transpose(0, 1)


class FTTransformer(nn.Module):
    """Gorishniy et al. 2021: a token for each feature."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias, self.token = (
            nn.Parameter(torch.randn(*shape)) for shape in ((8, 32), (8, 32), (1, 1, 32))
        )
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.unsqueeze(-1) * self.weight + self.bias
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), tokens], 1)
        return self.head(self.encoder(tokens)[:, 0])


class PointNet(nn.Module):
    """Qi et al. 2017, with a transform of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.local = nn.Sequential(nn.Conv1d(3, 16, 1), nn.BatchNorm1d(16), nn.ReLU())
        self.turn, self.rest, self.head = nn.Linear(16, 9), nn.Conv1d(3, 32, 1), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        turn = self.turn(torch.max(self.local(x), 2)[0]).view(-1, 3, 3) + torch.eye(3)
        turned = torch.bmm(x.transpose(2, 1), turn).transpose(2, 1)
        return self.head(torch.max(F.relu(self.rest(turned)), 2, keepdim=True)[0].view(-1, 32))


class Mixture(nn.Module):
    """Jacobs et al. 1991: every expert, weighted."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(16, 4), nn.ModuleList([mlp(16, 32, 8) for _ in range(4)])

    def forward(self, x: Tensor) -> Tensor:
        made = torch.stack([each(x) for each in self.experts], 1)
        return (self.gate(x).softmax(-1).unsqueeze(-1) * made).sum(1)


class Flow(nn.Module):
    """Dinh et al. 2017: affine coupling."""

    def __init__(self) -> None:
        super().__init__()
        self.nets = nn.ModuleList([mlp(4, 32, 8) for _ in range(3)])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        total = torch.zeros(x.shape[0])
        for net in self.nets:
            one, other = x.chunk(2, 1)
            scale, shift = net(one).chunk(2, 1)
            scale = torch.tanh(scale)
            x = torch.cat([other * scale.exp() + shift, one], 1)
            total = total + scale.sum(1)
        return x, total


class Doubled(nn.Module):
    """Computes in double precision inside."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 16).double(), nn.Linear(16, 4).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x.double()).relu()).float()


Heads = namedtuple("Heads", ["boxes", "classes"])


class Headed(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.first, self.boxes, self.classes = (
            kind,
            conv(3, 8, stride=2),
            nn.Conv2d(8, 4, 1),
            nn.Conv2d(8, 6, 1),
        )

    def forward(self, x: Tensor) -> Any:
        found = F.relu(self.first(x))
        boxes, classes = self.boxes(found), self.classes(found)
        kinds = {
            "tuple": (boxes, classes),
            "dict": {"boxes": boxes, "classes": classes},
            "named": Heads(boxes, classes),
            "none": (boxes, None, classes),
            "same": (boxes, boxes),
            "nested": {"a": [boxes, (classes,)]},
            "input": (classes, x),
        }
        return kinds[self.kind]


class Timed(nn.Module):
    """Ho et al. 2020: a denoiser told how noisy its input is."""

    def __init__(self) -> None:
        super().__init__()
        self.time, self.first, self.norm, self.last = (
            mlp(32, 64, 32, act=nn.SiLU),
            conv(3, 32),
            nn.GroupNorm(8, 32),
            conv(32, 3),
        )

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        rates = torch.exp(torch.arange(16) * (-math.log(10000) / 15))
        angles = time[:, None] * rates[None]
        told = self.time(torch.cat([angles.sin(), angles.cos()], -1))
        return self.last(F.silu(self.norm(self.first(x)) + told[:, :, None, None]))
