"""Lines, planes and volumes, many of them for one image too: a network and its Graph compute the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.importing.aten import to_graph
from secateur.network.graph import Graph
from secateur.runtime import reference

Function = Callable[[Tensor], Tensor]


class Several(nn.Module):
    """Functions of one input, the results side by side."""

    def __init__(self, cases: Mapping[str, Any]) -> None:
        super().__init__()
        self.layers = nn.ModuleList([each for each in cases.values() if isinstance(each, nn.Module)])
        self.cases = [None if isinstance(each, nn.Module) else each for each in cases.values()]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        layers = iter(self.layers)
        return tuple(next(layers)(x) if each is None else each(x) for each in self.cases)


def check(cases: Mapping[str, Any], *shape: int) -> Graph:
    """Every case gives what PyTorch does, for one image and for three."""
    torch.manual_seed(0)
    network = Several(cases).eval()
    graph = to_graph(network, torch.randn(2, *shape))
    for batch in (3, 1):
        x = torch.randn(batch, *shape)
        with torch.no_grad():
            expected = network(x)
        found = reference.run_all(graph, {next(iter(graph.inputs)): x.numpy()})
        far = {
            name: float(np.abs(one - other.numpy()).max() / max(1e-30, float(other.abs().max())))
            if one.shape == tuple(other.shape)
            else (one.shape, tuple(other.shape))
            for name, one, other in zip(cases, found, expected, strict=True)
        }
        assert not {name: each for name, each in far.items() if isinstance(each, tuple) or not each < 1e-5}
    return graph


LINES = {
    "convolution": nn.Conv1d(4, 6, 3, stride=2, padding=1),
    "dilated and grouped": nn.Conv1d(4, 6, 2, dilation=3, groups=2, padding="same"),
    "pointwise": nn.Conv1d(4, 5, 1, bias=False),
    "causal": nn.Sequential(nn.ConstantPad1d((4, 0), 0.0), nn.Conv1d(4, 4, 3, dilation=2, groups=4)),
    "transposed": nn.ConvTranspose1d(4, 6, 4, stride=2, padding=1, groups=2),
    "transposed, longer": nn.ConvTranspose1d(4, 3, 3, stride=3, padding=2, output_padding=2, dilation=2),
    "transposed, stride 1": nn.ConvTranspose1d(4, 3, 3, padding=3, dilation=2),
    "max": nn.MaxPool1d(3, 2, 1, ceil_mode=True),
    "mean": nn.AvgPool1d(3, 2, 1, ceil_mode=True),
    "adaptive": nn.Sequential(nn.AdaptiveAvgPool1d(5), nn.BatchNorm1d(4)),
    "adaptive max": nn.AdaptiveMaxPool1d(4),
    "nearest": lambda x: F.interpolate(x, scale_factor=1.7),
    "linear": lambda x: F.interpolate(x, size=17, mode="linear"),
    "groups": nn.GroupNorm(2, 4),
    "instances": nn.InstanceNorm1d(4, affine=True),
    "reflected": lambda x: F.pad(x, (2, 3), mode="reflect") + F.pad(x, (3, 2), mode="replicate"),
    "slopes": nn.PReLU(4, init=0.2),
}
PLANES = {
    "kept in size by a factor": lambda x: F.interpolate(x, scale_factor=(1.1, 2.2)),
    "transposed": nn.ConvTranspose2d(4, 3, (3, 4), stride=(2, 3), padding=(1, 0), output_padding=(1, 2)),
    "transposed, grouped and dilated": nn.ConvTranspose2d(4, 8, 3, stride=2, dilation=2, groups=4, padding=3),
    "transposed, kernel as stride": nn.ConvTranspose2d(4, 2, 2, stride=2),
    "transposed, lost in front": nn.ConvTranspose2d(4, 2, 5, stride=2, padding=5, bias=False),
    "means, counted and rounded up": nn.AvgPool2d(3, 2, 1, ceil_mode=True),
    "means divided": nn.AvgPool2d(2, divisor_override=3),
    "uneven maxima": nn.AdaptiveMaxPool2d((3, None)),
    "groups": nn.GroupNorm(2, 4),
    "groups unscaled": nn.GroupNorm(4, 4, affine=False),
    "instances": nn.InstanceNorm2d(4),
    "root mean squares": nn.RMSNorm(6),
    "bilinear": lambda x: F.interpolate(x, scale_factor=(1.5, 2), mode="bilinear"),
    "bilinear, aligned": lambda x: F.interpolate(x, size=(5, 13), mode="bilinear", align_corners=True),
    "bicubic": lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"),
    "nearest": lambda x: F.interpolate(x, scale_factor=2) + F.interpolate(x, size=(16, 12), mode="nearest-exact"),
    "rolled": lambda x: x.roll((3, -2), (2, 3)).flip(1, 3),
    "every second": lambda x: torch.cat([x[:, ::2, 1::2], x[:, 1::2, ::2]], 1)[:, ::3],
    "windows": lambda x: F.fold(F.unfold(x, (3, 2), padding=1, stride=2), (8, 6), (3, 2), padding=1, stride=2),
    "unfolded": lambda x: x.unfold(2, 3, 2).unfold(3, 2, 2),
    "mirrored": lambda x: F.pad(x, (1, 2, 3, 1), mode="reflect") * F.pad(x, (1, 2, 3, 1), value=2.0),
    "trimmed": lambda x: F.pad(x, (-1, 2, 0, -3)),
    "written into": lambda x: _written_into(x),
    "repeated": lambda x: x.repeat(1, 2, 1, 3).repeat_interleave(2, dim=1),
    "affine grid": lambda x: F.affine_grid(x[:, :2, 0, :3], [x.size(0), 1, 5, 4], align_corners=False),
    "grid": lambda x: F.grid_sample(x, x[:, :2].permute(0, 2, 3, 1).tanh(), align_corners=False),
}
VOLUMES = {
    "convolution": nn.Conv3d(2, 3, 3, padding=1),
    "strides": nn.Conv3d(2, 4, (3, 3, 2), stride=(2, 3, 2), padding=(1, 2, 1), groups=2),
    "dilated": nn.Conv3d(2, 3, (2, 3, 3), dilation=(2, 1, 2), padding=(0, 1, 2)),
    "of planes": nn.Conv3d(2, 3, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
    "of depth": nn.Conv3d(2, 3, (3, 1, 1), stride=(2, 1, 1), padding=(1, 0, 0)),
    "pointwise": nn.Conv3d(2, 3, 1),
    "patches": nn.Conv3d(2, 3, 2, stride=2),
    "strided pointwise": nn.Conv3d(2, 3, 1, stride=2),
    "transposed": nn.ConvTranspose3d(2, 3, (2, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1), output_padding=(0, 1, 0)),
    "normalised": nn.Sequential(nn.BatchNorm3d(2), nn.MaxPool3d(3, 2, 1)),
    "means": nn.AvgPool3d((2, 3, 2), (2, 1, 2), (0, 1, 0), count_include_pad=False),
    "adaptive": nn.AdaptiveAvgPool3d((2, 1, None)),
    "adaptive max": nn.AdaptiveMaxPool3d((2, 3, 1)),
    "nearest": lambda x: F.interpolate(x, scale_factor=2),
    "trilinear": lambda x: F.interpolate(x, size=(6, 7, 4), mode="trilinear"),
    "instances": nn.InstanceNorm3d(2, affine=True),
}


def _written_into(x: Tensor) -> Tensor:
    x = x.clone()
    x[:, 1:3] = x[:, :2] * 2
    x[..., ::2] = 1.0
    x[:, 0] = x[:, 3].exp()
    return x


CUBES = torch.linspace(-1, 1, 54).view(2, 1, 3, 3, 3)
FRAMES = {
    "convolution": nn.Conv2d(4, 6, 3, stride=2, padding=1),
    "normalised": nn.Sequential(nn.Conv2d(4, 6, (1, 3), groups=2), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2)),
    "transposed": nn.ConvTranspose2d(4, 2, 2, stride=2),
    "of volumes": lambda x: F.conv3d(x.unsqueeze(1), CUBES, padding=1, stride=(1, 2, 1)).flatten(1, 2),
    "groups": nn.GroupNorm(2, 4),
    "mean": nn.AdaptiveAvgPool2d(1),
    "resized": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "padded": lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"),
}


def with_shapes(x: Tensor) -> Tensor:
    """Constants that take shapes alone, of the batch among others."""
    count = x.shape[0]
    ones = torch.ones_like(x) + x.new_full((count, 1, 1, 6), 2.0) + torch.zeros(count, 4, 1, 1)
    rows, columns = torch.meshgrid(torch.arange(8).type_as(x), torch.arange(6.0), indexing="ij")
    ones = ones + rows * columns
    token = torch.arange(24.0).view(1, 4, 6).expand(count, -1, -1).unsqueeze(2)
    window = torch.arange(8.0).view(2, 1, 2, 2).repeat(count, 1, 1, 1).view(count, 8, 1, 1)
    return torch.cat([ones, token, x.new_zeros(count, 4, 1, 6)], 2) * window[:, 4:] + torch.full_like(x[:, :1, :1], 3)


def heads_of(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(N·heads, T, d) three times, as attention by hand has it."""
    tokens = x.flatten(2).transpose(1, 2)
    images, count, channels = tokens.shape
    found = torch.cat([tokens, tokens.sin(), tokens.cos()], 2).view(images, count, 3, 2, channels // 2)
    query, key, value = found.permute(2, 0, 3, 1, 4).flatten(1, 2)
    return query, key, value


def attention_by_hand(x: Tensor) -> Tensor:
    query, key, value = heads_of(x)
    scores = torch.baddbmm(torch.ones(1, 1, 1), query, key.transpose(1, 2), beta=0.5, alpha=0.3)
    return torch.bmm(F.softmax(scores, -1), value).view(x.shape[0], 2, -1, 2)


def own_kernels(x: Tensor) -> Tensor:
    """A convolution of each image with kernels made of it, all images as groups of one."""
    images, given = x.shape[0], torch.sigmoid(x.mean((2, 3))) @ torch.linspace(-1, 1, 144).view(4, 36)
    planes = x.reshape(1, -1, *x.shape[2:])
    made = F.conv2d(planes, given.view(-1, 2, 3, 3), padding=1, stride=2, groups=2 * images).view(images, 2, 4, 3)
    spread = F.conv_transpose2d(planes, given.view(-1, 1, 3, 3), stride=2, padding=1, groups=images)
    return made + spread.view(images, 1, *spread.shape[2:])[:, :, :4, :3]


TABLE = torch.linspace(-1, 1, 24).view(4, 6)
CUBE = torch.linspace(-1, 1, 48).view(4, 6, 2)
PRODUCTS = {
    "of values": lambda x: x @ x.transpose(-1, -2) + torch.matmul(x, x.mT.softmax(-1)),
    "with a constant on the left": lambda x: torch.linspace(-1, 1, 16).view(2, 8) @ x,
    "with constants of more dimensions": lambda x: x @ torch.linspace(-1, 1, 48).view(4, 6, 2),
    "with a vector": lambda x: x @ torch.linspace(-1, 1, 6),
    "rows of all images": lambda x: x.mean((2, 3)) @ TABLE + torch.addmm(TABLE[:1], x[:, :, 0, 0], TABLE, beta=2),
    "heads": attention_by_hand,
    "channels by einsum": lambda x: torch.einsum("bchw,oc->bohw", x, TABLE.T),
    "einsum of values": lambda x: (
        torch.einsum("bchw,bcvw->bchv", x, x.sin())
        + torch.einsum("nchw,nkhw->nck", x, x).mean((1, 2), keepdim=True)[..., None]
    ),
    "einsum of three": lambda x: torch.einsum("bchw,cw,bdhw->bd", x, TABLE, x),
    "einsum, batch inside": lambda x: torch.einsum("cbw,cw->bc", x.mean(2).transpose(0, 1), TABLE),
    "images as columns": lambda x: (TABLE @ x[:, :, 0].permute(1, 2, 0)).permute(2, 0, 1),
    "images as rows of several matrices": lambda x: torch.bmm(x[:, :, 0].transpose(0, 1), CUBE).transpose(0, 1),
    "rows of all images by several matrices": lambda x: (
        torch.matmul(x.permute(1, 0, 2, 3).reshape(4, -1, 6), CUBE).transpose(0, 1).reshape(-1, 8, 4, 2)
    ),
    "every image by several matrices": lambda x: torch.matmul(x[:, 0, 0], CUBE).transpose(0, 1),
    "a vector by images": lambda x: CUBE[0, :, 0] @ x[:, 0, 0].t(),
    "einsum of diagonals": lambda x: (
        torch.einsum("bcc->b", x[:, :, :4, 0]) + torch.einsum("bcc,c->b", x[:, 0, :6], TABLE[0])
    ),
    "einsum with dots": lambda x: torch.einsum("...hw,...vw->...hv", x, x),
    "norms": lambda x: F.normalize(x, dim=1) + x.norm(dim=(2, 3), keepdim=True) + x.norm(p=1, dim=-1, keepdim=True),
    "other norms": lambda x: torch.linalg.vector_norm(x, 3.0, dim=2) + x.norm(p=float("inf"), dim=2),
    "similarities": lambda x: (
        F.cosine_similarity(x[:, :2], x[:, 2:], dim=1) + F.cosine_similarity(x, x.sin(), -1)[:, 0, 0, None, None]
    ),
    "logarithms of shares": lambda x: F.log_softmax(30 * x, 1) + x.log_softmax(-1),
    "extremes": lambda x: (
        x.amax((2, 3), keepdim=True) + x.max(1, keepdim=True)[0] - x.min(-1).values.amin(-1)[..., None, None]
    ),
    "the largest in order": lambda x: x.topk(3, 1)[0] + x.sort(1, descending=True)[0][:, :3] + x.argsort(2)[:, :3] / 9,
    "deviations": lambda x: x.std(1) + x.var((2, 3), unbiased=False)[:, :1, None] + torch.var_mean(x, 1)[1],
    "clamps": lambda x: x.clamp(-0.5, 0.7) + x.clamp(min=x.sin()) + x.clamp_max(0.1) + F.hardtanh(x),
    "sums of products": lambda x: torch.addcmul(x, x, x.sin(), value=0.3) + torch.lerp(x, x.cos(), 0.2) + x.square(),
    "shapes alone": with_shapes,
    "kernels of each image's own": own_kernels,
    "softer functions": lambda x: F.celu(x, 0.7) + F.logsigmoid(x) + x.exp().log1p() + 2**x,
    "logarithms of sums": lambda x: x.logsumexp(1, keepdim=True) + x.logsumexp((2, 3))[..., None, None],
    "distances": lambda x: F.pairwise_distance(x, x.sin()),
}


@pytest.mark.parametrize(
    ("cases", "shape"),
    [(LINES, (4, 11)), (PLANES, (4, 8, 6)), (VOLUMES, (2, 5, 7, 6)), (PRODUCTS, (4, 8, 6))],
    ids=["lines", "planes", "volumes", "products"],
)
def test_layers_over_any_number_of_axes(cases: dict[str, Any], shape: tuple[int, ...]) -> None:
    check(cases, *shape)


def test_layers_over_frames_that_are_folded_into_the_batch() -> None:
    layers = {name: Framewise(case) for name, case in FRAMES.items()}
    check(layers, 3, 4, 8, 6)


class Framewise(nn.Module):
    """Of the frames of a video, folded into the batch for a while, as people write it."""

    def __init__(self, case: Any) -> None:
        super().__init__()
        self.case = case

    def forward(self, x: Tensor) -> Tensor:
        images, frames = x.shape[:2]
        made = self.case(x.flatten(0, 1))
        return made.view(images, frames, *made.shape[1:])
