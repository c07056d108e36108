"""Networks as people write them by hand, small, each with something of its own."""

from __future__ import annotations

import itertools
import math
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from architectures import Build, Case, images
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


class Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def resnet(norm: Callable[[int], nn.Module]) -> nn.Module:
    def stage(inputs: int, outputs: int) -> list[nn.Module]:
        return [
            conv(inputs, outputs, stride=2),
            norm(outputs),
            Residual(
                nn.Sequential(conv(outputs, outputs), norm(outputs), nn.ReLU(), conv(outputs, outputs), norm(outputs))
            ),
            nn.ReLU(),
        ]

    return nn.Sequential(
        *stage(3, 16), *stage(16, 32), *stage(32, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)
    )


class UNet(nn.Module):
    """Ronneberger et al. 2015, of two levels."""

    def __init__(self, up: Callable[[int, int], nn.Module], norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        self.down = nn.ModuleList([block(3, 16, norm), block(16, 32, norm), block(32, 64, norm)])
        self.up = nn.ModuleList([up(64, 32), up(32, 16)])
        self.join = nn.ModuleList([block(64, 32, norm), block(32, 16, norm)])
        self.head = nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        seen = [self.down[0](x)]
        for each in list(self.down)[1:]:
            seen.append(each(F.max_pool2d(seen[-1], 2)))
        x = seen[-1]
        for up, join, other in zip(self.up, self.join, seen[-2::-1], strict=True):
            x = join(torch.cat([up(x), other], 1))
        return self.head(x)


def upsampling(**options: Any) -> Callable[[int, int], nn.Module]:
    return lambda inputs, outputs: nn.Sequential(nn.Upsample(scale_factor=2, **options), conv(inputs, outputs))


def transposed(inputs: int, outputs: int) -> nn.Module:
    return nn.ConvTranspose2d(inputs, outputs, 2, 2)


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


class Generator(nn.Module):
    """Zhu et al. 2017: CycleGAN's, of two residual blocks."""

    def __init__(self) -> None:
        super().__init__()
        norm = nn.InstanceNorm2d

        def same(channels: int) -> nn.Module:
            return Residual(
                nn.Sequential(
                    nn.ReflectionPad2d(1),
                    nn.Conv2d(channels, channels, 3),
                    norm(channels),
                    nn.ReLU(),
                    nn.ReflectionPad2d(1),
                    nn.Conv2d(channels, channels, 3),
                    norm(channels),
                )
            )

        self.net = nn.Sequential(
            nn.ReflectionPad2d(3),
            nn.Conv2d(3, 16, 7),
            norm(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2, 1),
            norm(32),
            nn.ReLU(),
            same(32),
            same(32),
            nn.ConvTranspose2d(32, 16, 3, 2, 1, output_padding=1),
            norm(16),
            nn.ReLU(),
            nn.ReflectionPad2d(3),
            nn.Conv2d(16, 3, 7),
            nn.Tanh(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class RRDB(nn.Module):
    """Wang et al. 2018: dense convolutions, then nearest upsampling."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.ModuleList([conv(16 + 8 * each, 8) for each in range(3)])
        self.join, self.first, self.last = conv(40, 16), conv(3, 16), conv(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        seen = [x]
        for each in self.dense:
            seen.append(F.leaky_relu(each(torch.cat(seen, 1)), 0.2))
        x = x + 0.2 * self.join(torch.cat(seen, 1))
        return self.last(F.interpolate(x, scale_factor=2, mode="nearest"))


class CBAM(nn.Module):
    """Woo et al. 2018: attention by channel, then by place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.mlp, self.place, self.head = conv(3, 16), mlp(16, 4, 16), conv(2, 1, 7), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        x = x * torch.sigmoid(self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3))))[..., None, None]
        seen = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], 1)
        return self.head((x * torch.sigmoid(self.place(seen))).mean((2, 3)))


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


class VectorQuantiser(nn.Module):
    """van den Oord et al. 2017: the code nearest to each place, by distances."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = conv(3, 8, stride=2), nn.ConvTranspose2d(8, 3, 4, 2, 1)
        self.codes = nn.Parameter(torch.randn(16, 8))

    def forward(self, x: Tensor) -> Tensor:
        found = self.encoder(x).permute(0, 2, 3, 1)
        far = (found**2).sum(-1, keepdim=True) - 2 * found @ self.codes.T + (self.codes**2).sum(1)
        return self.decoder((F.softmax(-far, -1) @ self.codes).permute(0, 3, 1, 2))


class Mixture(nn.Module):
    """Jacobs et al. 1991: every expert, weighted."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(16, 4), nn.ModuleList([mlp(16, 32, 8) for _ in range(4)])

    def forward(self, x: Tensor) -> Tensor:
        made = torch.stack([each(x) for each in self.experts], 1)
        return (self.gate(x).softmax(-1).unsqueeze(-1) * made).sum(1)


class Convolved(nn.Module):
    """Yang et al. 2019: a kernel mixed anew for each image."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels, self.gate, self.head = nn.Parameter(torch.randn(3, 8 * 4 * 9)), nn.Linear(4, 3), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        kernels = (torch.sigmoid(self.gate(x.mean((2, 3)))) @ self.kernels).view(-1, 4, 3, 3)
        made = F.conv2d(x.reshape(1, -1, *x.shape[2:]), kernels, padding=1, groups=x.shape[0])
        return self.head(made.view(x.shape[0], 8, *x.shape[2:]).mean((2, 3)))


class Moving(nn.Module):
    """Lin et al. 2019: some channels of each frame taken from its neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = conv(3, 16), conv(16, 16, stride=2), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        images, frames = x.shape[:2]
        found = F.relu(self.first(x.flatten(0, 1))).view(images, frames, 16, *x.shape[3:])
        moved = torch.zeros_like(found)
        moved[:, :-1, :4], moved[:, 1:, 4:8], moved[:, :, 8:] = found[:, 1:, :4], found[:, :-1, 4:8], found[:, :, 8:]
        made = self.second(moved.flatten(0, 1)).mean((2, 3))
        return self.head(made.view(images, frames, -1).mean(1))


class NonLocal(nn.Module):
    """Wang et al. 2018: every place sees every other."""

    def __init__(self) -> None:
        super().__init__()
        self.theta, self.phi, self.g, self.out = (nn.Conv2d(8, 8, 1) for _ in range(4))
        self.first = conv(3, 8, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        images = x.size(0)
        g = self.g(x).view(images, 8, -1).permute(0, 2, 1)
        seen = torch.matmul(self.theta(x).view(images, 8, -1).permute(0, 2, 1), self.phi(x).view(images, 8, -1))
        made = torch.matmul(F.softmax(seen, -1), g).permute(0, 2, 1).contiguous().view(images, 8, *x.shape[2:])
        return x + self.out(made)


class Capsules(nn.Module):
    """Sabour et al. 2017: routing by agreement, three rounds."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.weight = conv(1, 32, 9, stride=2), nn.Parameter(torch.randn(1, 4, 50, 8, 8) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        found = squash(
            F.avg_pool2d(self.first(x), 2)[..., :5, :5].reshape(x.shape[0], 1, -1, 8)[:, :, :50].unsqueeze(-1)
        )
        votes = (self.weight @ found.expand(-1, 4, -1, -1, -1)).squeeze(-1)
        logits = torch.zeros(x.shape[0], 4, 50, 1)
        for _ in range(3):
            made = squash((logits.softmax(1) * votes).sum(2, keepdim=True))
            logits = logits + (votes * made).sum(-1, keepdim=True)
        return made.squeeze(2).norm(dim=-1)


def squash(x: Tensor) -> Tensor:
    size = x.norm(dim=-1, keepdim=True) + 1e-6
    return size / (1 + size**2) * x


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


class Deformed(nn.Module):
    """Jaderberg et al. 2015: a grid that the image itself says."""

    def __init__(self) -> None:
        super().__init__()
        self.where, self.what = (
            nn.Sequential(conv(1, 4, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 6)),
            nn.Linear(64, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        theta = self.where(x).view(-1, 2, 3) + torch.eye(2, 3)
        grid = F.affine_grid(theta, [x.size(0), 1, 8, 8], align_corners=False)
        return self.what(F.grid_sample(x, grid, align_corners=False).flatten(1))


class Frequencies(nn.Module):
    """Mildenhall et al. 2020: positions as waves."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(39, 64, 64, 4)

    def forward(self, x: Tensor) -> Tensor:
        waves = [function(2.0**each * x) for each in range(6) for function in (torch.sin, torch.cos)]
        return self.net(torch.cat([x, *waves], -1))


class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(conv(1, 8, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(512, 16))

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return F.cosine_similarity(self.net(one), self.net(other))


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


SERIES = images(24, 8)
TOKENS = images(16, 32)
PLANES = images(3, 32, 32)
NETWORKS: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    "mlp": lambda: (mlp(16, 64, 64, 5), images(16)),
    "mlp_mish": lambda: (mlp(16, 64, 5, act=nn.Mish), images(16)),
    "mlp_selu_elu_softplus": lambda: (
        nn.Sequential(
            mlp(16, 32, 32, act=nn.SELU), nn.ELU(), mlp(32, 32, act=nn.Softplus), nn.Softplus(), nn.Linear(32, 4)
        ),
        images(16),
    ),
    "mlp_logsoftmax_output": lambda: (nn.Sequential(mlp(16, 64, 5), nn.LogSoftmax(1)), images(16)),
    "mlp_glu_celu_softsign": lambda: (
        nn.Sequential(
            nn.Linear(16, 64),
            nn.GLU(),
            nn.CELU(),
            nn.Linear(32, 32),
            nn.Softsign(),
            nn.Linear(32, 4),
            nn.Hardtanh(-2, 2),
        ),
        images(16),
    ),
    "mlp_softshrink_threshold": lambda: (
        nn.Sequential(
            nn.Linear(16, 32),
            nn.Softshrink(),
            nn.Linear(32, 32),
            nn.Threshold(0.1, 0.0),
            nn.Linear(32, 4),
            nn.LogSigmoid(),
        ),
        images(16),
    ),
    "swiglu": lambda: (Written(gated, nn.Linear(32, 64), nn.Linear(32, 64), nn.Linear(64, 32)), TOKENS),
    "resnet_groupnorm": lambda: (resnet(lambda channels: nn.GroupNorm(8, channels)), PLANES),
    "resnet_instancenorm": lambda: (resnet(lambda channels: nn.InstanceNorm2d(channels, affine=True)), PLANES),
    "resnet_rmsnorm_head": lambda: (nn.Sequential(resnet(nn.BatchNorm2d), nn.RMSNorm(10), nn.Linear(10, 5)), PLANES),
    "resnet_weight_standardised": lambda: (
        nn.Sequential(
            standardised(3, 16),
            nn.GroupNorm(4, 16),
            nn.ReLU(),
            standardised(16, 16),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(16, 5),
        ),
        PLANES,
    ),
    "resnet_localresponse": lambda: (
        nn.Sequential(
            conv(3, 16),
            nn.LocalResponseNorm(5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            conv(16, 16),
            nn.Flatten(),
            nn.Linear(4096, 5),
        ),
        PLANES,
    ),
    "unet_transposed": lambda: (UNet(transposed), PLANES),
    "unet_instancenorm": lambda: (UNet(transposed, nn.InstanceNorm2d), PLANES),
    "unet_upsample_nearest": lambda: (UNet(upsampling()), PLANES),
    "unet_upsample_bilinear": lambda: (UNet(upsampling(mode="bilinear")), PLANES),
    "unet_upsample_bilinear_aligned": lambda: (UNet(upsampling(mode="bilinear", align_corners=True)), PLANES),
    "unet_upsample_bicubic": lambda: (UNet(upsampling(mode="bicubic")), PLANES),
    "unet_3d": lambda: (
        nn.Sequential(
            nn.Conv3d(1, 8, 3, padding=1),
            nn.InstanceNorm3d(8),
            nn.LeakyReLU(),
            nn.Conv3d(8, 16, 3, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose3d(16, 8, 2, 2),
            nn.ReLU(),
            nn.Conv3d(8, 2, 1),
        ),
        images(1, 8, 16, 16),
    ),
    "c3d": lambda: (
        nn.Sequential(
            nn.Conv3d(3, 16, 3, padding=1),
            nn.BatchNorm3d(16),
            nn.ReLU(),
            nn.MaxPool3d((1, 2, 2)),
            nn.Conv3d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
            nn.Linear(32, 5),
        ),
        images(3, 8, 16, 16),
    ),
    "tcn": lambda: (tcn(), images(4, 32)),
    "tcn_weight_norm": lambda: (tcn(nn.utils.parametrizations.weight_norm), images(4, 32)),
    "wavenet": lambda: (WaveNet(), images(1, 128)),
    "conv_tasnet": lambda: (ConvTasNet(), images(1, 256)),
    "m5_raw_audio": lambda: (
        nn.Sequential(
            nn.Conv1d(1, 16, 80, 16),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.MaxPool1d(4),
            nn.Conv1d(16, 32, 3),
            nn.BatchNorm1d(32),
            nn.ReLU(),
            nn.MaxPool1d(4),
            nn.AvgPool1d(2),
            nn.Flatten(),
            nn.Linear(96, 10),
            nn.LogSoftmax(1),
        ),
        images(1, 2000),
    ),
    "ecg_resnet1d": lambda: (
        nn.Sequential(
            nn.Conv1d(2, 16, 15, 2, 7),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.MaxPool1d(3, 2, 1),
            Residual(
                nn.Sequential(
                    nn.Conv1d(16, 16, 7, padding=3), nn.BatchNorm1d(16), nn.ReLU(), nn.Conv1d(16, 16, 7, padding=3)
                )
            ),
            nn.AdaptiveMaxPool1d(1),
            nn.Flatten(),
            nn.Linear(16, 5),
        ),
        images(2, 200),
    ),
    "unet_1d": lambda: (
        nn.Sequential(
            nn.Conv1d(2, 16, 5, 2, 2),
            nn.ReLU(),
            nn.ConvTranspose1d(16, 8, 5, 2, 2, output_padding=1),
            nn.ReLU(),
            nn.Upsample(scale_factor=2, mode="linear"),
            nn.Conv1d(8, 1, 1),
        ),
        images(2, 64),
    ),
    "hifigan_block": lambda: (
        nn.Sequential(
            nn.Conv1d(8, 32, 7, padding=3),
            nn.LeakyReLU(0.1),
            nn.utils.parametrizations.weight_norm(nn.ConvTranspose1d(32, 16, 16, 8, 4)),
            nn.LeakyReLU(0.1),
            nn.Conv1d(16, 1, 7, padding=3),
            nn.Tanh(),
        ),
        images(8, 16),
    ),
    "x_vector": lambda: (Written(statistics_pooling, nn.Conv1d(8, 32, 5, dilation=2), nn.Linear(64, 5)), images(8, 40)),
    "kws_dscnn": lambda: (
        nn.Sequential(
            nn.Conv2d(1, 16, (10, 4), (2, 2), (4, 1)),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            conv(16, 16, groups=16),
            nn.Conv2d(16, 16, 1),
            nn.AvgPool2d((24, 5)),
            nn.Flatten(),
            nn.Linear(16, 12),
        ),
        images(1, 49, 10),
    ),
    "dcgan_generator": lambda: (
        nn.Sequential(
            nn.ConvTranspose2d(16, 32, 4, 1, 0, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 4, 2, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 3, 4, 2, 1),
            nn.Tanh(),
        ),
        images(16, 1, 1),
    ),
    "dcgan_discriminator": lambda: (
        nn.Sequential(
            nn.Conv2d(3, 16, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(16, 32, 4, 2, 1),
            nn.BatchNorm2d(32),
            nn.LeakyReLU(0.2),
            nn.Conv2d(32, 1, 8),
            nn.Sigmoid(),
        ),
        PLANES,
    ),
    "cyclegan_generator": lambda: (Generator(), PLANES),
    "esrgan_rrdb": lambda: (RRDB(), PLANES),
    "srcnn": lambda: (
        nn.Sequential(conv(1, 32, 9), nn.ReLU(), conv(32, 16, 1), nn.ReLU(), conv(16, 1, 5)),
        images(1, 24, 24),
    ),
    "espcn": lambda: (nn.Sequential(conv(1, 32, 5), nn.Tanh(), conv(32, 9), nn.PixelShuffle(3)), images(1, 24, 24)),
    "fsrcnn_prelu_deconv": lambda: (
        nn.Sequential(
            conv(1, 16, 5),
            nn.PReLU(16),
            nn.Conv2d(16, 8, 1),
            nn.PReLU(8),
            conv(8, 16),
            nn.PReLU(16),
            nn.ConvTranspose2d(16, 1, 9, 3, 4, output_padding=2),
        ),
        images(1, 16, 16),
    ),
    "vae_decoder": lambda: (
        nn.Sequential(
            nn.Linear(8, 512),
            nn.ReLU(),
            nn.Unflatten(1, (32, 4, 4)),
            nn.ConvTranspose2d(32, 16, 3, 2, 1, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 1, 3, 2, 1, 1),
            nn.Sigmoid(),
        ),
        images(8),
    ),
    "vq_soft": lambda: (VectorQuantiser(), PLANES),
    "squeeze_excitation": lambda: (Written(squeezed, conv(3, 16), nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)), PLANES),
    "cbam": lambda: (CBAM(), PLANES),
    "non_local": lambda: (NonLocal(), PLANES),
    "global_max_pool": lambda: (
        nn.Sequential(conv(3, 16), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(16, 5)),
        PLANES,
    ),
    "conditional_convolution": lambda: (Convolved(), images(4, 8, 8)),
    "temporal_shift": lambda: (Moving(), images(4, 3, 16, 16)),
    "time_distributed_cnn": lambda: (
        Written(
            time_distributed,
            nn.Sequential(conv(3, 8, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(512, 16)),
            nn.Linear(16, 5),
        ),
        images(4, 3, 16, 16),
    ),
    "spatial_transformer": lambda: (Deformed(), images(1, 16, 16)),
    "flow_correlation": lambda: (Written(correlated, conv(1, 8)), pairs((1, 12, 12), (1, 12, 12))),
    "capsules": lambda: (Capsules(), images(1, 28, 28)),
    "attention_by_hand": lambda: (nn.Sequential(Attention(), nn.LayerNorm(32), nn.Linear(32, 8)), TOKENS),
    "linear_attention": lambda: (Written(linear_attention, nn.Linear(32, 96)), TOKENS),
    "attention_pooling": lambda: (Written(pooled_attention, nn.Linear(32, 1), nn.Linear(32, 5)), TOKENS),
    "fourier_mixing": lambda: (Written(fourier, nn.Linear(32, 32), nn.Linear(32, 4)), TOKENS),
    "soft_mixture_of_experts": lambda: (
        Written(soft_experts, nn.Linear(32, 8, bias=False), *(mlp(32, 64, 32) for _ in range(4))),
        TOKENS,
    ),
    "mixture_of_experts": lambda: (Mixture(), images(16)),
    "nn_multihead_attention": lambda: (
        Written(lambda x, layer: layer(x, x, x, need_weights=False)[0], nn.MultiheadAttention(32, 4, batch_first=True)),
        TOKENS,
    ),
    "nn_multihead_attention_weights": lambda: (
        Written(lambda x, layer: layer(x, x, x), nn.MultiheadAttention(32, 4, batch_first=True)),
        TOKENS,
    ),
    "nn_transformer_encoder": lambda: (encoder(True), TOKENS),
    "nn_transformer_encoder_time_first": lambda: (
        Written(lambda x, net: net(x.transpose(0, 1)).mean(0), encoder(False)),
        TOKENS,
    ),
    "nn_transformer_seq2seq": lambda: (nn.Transformer(32, 4, 1, 1, 64, batch_first=True), pairs((12, 32), (6, 32))),
    "ft_transformer": lambda: (FTTransformer(), images(8)),
    "lstm_classifier": lambda: (Recurrent(nn.LSTM(8, 32, batch_first=True)), SERIES),
    "lstm_two_layers_both_ways": lambda: (Recurrent(nn.LSTM(8, 32, 2, batch_first=True, bidirectional=True)), SERIES),
    "lstm_time_first": lambda: (Recurrent(nn.LSTM(8, 32), first=False), SERIES),
    "gru_classifier": lambda: (Recurrent(nn.GRU(8, 32, batch_first=True)), SERIES),
    "gru_no_bias_both_ways": lambda: (
        Recurrent(nn.GRU(8, 32, batch_first=True, bias=False, bidirectional=True)),
        SERIES,
    ),
    "rnn_classifier": lambda: (Recurrent(nn.RNN(8, 32, batch_first=True, nonlinearity="relu")), SERIES),
    "crnn_ocr_ctc": lambda: (CRNN(), images(1, 32, 64)),
    "pointnet_vanilla": lambda: (
        nn.Sequential(
            nn.Conv1d(3, 32, 1),
            nn.BatchNorm1d(32),
            nn.ReLU(),
            nn.Conv1d(32, 64, 1),
            Written(lambda x: torch.max(x, 2)[0]),
            nn.Linear(64, 5),
        ),
        images(3, 50),
    ),
    "pointnet_linear_amax": lambda: (
        Written(lambda x, net, head: head(net(x).amax(1)), mlp(3, 32, 64), nn.Linear(64, 5)),
        images(50, 3),
    ),
    "pointnet_transform": lambda: (PointNet(), images(3, 50)),
    "graph_convolution": lambda: (
        Written(graph_convolution, nn.Linear(8, 16), nn.Linear(16, 3)),
        pairs((10, 8), (10, 10)),
    ),
    "normalising_flow": lambda: (Flow(), images(8)),
    "nerf_positional_encoding": lambda: (Frequencies(), images(3)),
    "denoiser_told_the_time": lambda: (Timed(), pairs((3, 16, 16), ())),
    "siamese_cosine": lambda: (Siamese(), pairs((1, 16, 16), (1, 16, 16))),
    "siamese_none": lambda: (
        Written(
            lambda x, y, net: (net(x), None, net(y)),
            nn.Sequential(conv(1, 8), nn.ReLU(), nn.Flatten(), nn.Linear(2048, 8)),
        ),
        pairs((1, 16, 16), (1, 16, 16)),
    ),
    "image_and_metadata": lambda: (
        Written(
            lambda x, more, net, head: head(torch.cat([net(x).mean((2, 3)), more], 1)), conv(3, 8), nn.Linear(12, 5)
        ),
        pairs((3, 16, 16), (4,)),
    ),
    "double_weights": lambda: (Doubled(), images(8)),
    "bilinear_fusion": lambda: (
        nn.Sequential(
            Written(lambda x, layer: layer(x[:, :8], x[:, 8:]), nn.Bilinear(8, 8, 16)), nn.ReLU(), nn.Linear(16, 4)
        ),
        images(16),
    ),
    "normalises_inside": lambda: (
        Written(
            lambda x, net: net(
                (x - torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1)) / torch.tensor([0.2, 0.2, 0.3]).view(1, 3, 1, 1)
            ),
            resnet(nn.BatchNorm2d),
        ),
        PLANES,
    ),
    "yolo_head_view_permute": lambda: (
        Written(
            lambda x, net: net(x).view(x.shape[0], 3, 7, 16, 16).permute(0, 1, 3, 4, 2).contiguous(),
            conv(3, 21, stride=2),
        ),
        PLANES,
    ),
    "dqn_dueling": lambda: (
        Written(
            lambda x, net, value, gain: value(net(x)) + gain(net(x)) - gain(net(x)).mean(1, keepdim=True),
            mlp(8, 32, 32),
            nn.Linear(32, 1),
            nn.Linear(32, 4),
        ),
        images(8),
    ),
    "heads_tuple": lambda: (Headed("tuple"), PLANES),
    "heads_dict": lambda: (Headed("dict"), PLANES),
    "heads_namedtuple": lambda: (Headed("named"), PLANES),
    "heads_none": lambda: (Headed("none"), PLANES),
    "heads_same": lambda: (Headed("same"), PLANES),
    "heads_nested": lambda: (Headed("nested"), PLANES),
    "heads_with_input": lambda: (Headed("input"), PLANES),
}


def _case(name: str) -> Build:
    return lambda: Case(*NETWORKS[name]())


HANDWRITTEN: dict[str, Build] = {name: _case(name) for name in NETWORKS}
