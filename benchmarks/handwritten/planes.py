"""Hand-written networks for images."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from handwritten.parts import block, conv, mlp


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
