"""Operations that PyTorch spells with others, and rarer ones that a Graph does: what PyTorch computes, a Graph does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.errors import ExportError
from secateur.exporting.packing import pack
from secateur.importing.aten import to_graph
from secateur.runtime import reference
from secateur.runtime.loading import load


class Several(nn.Module):
    """The outputs of several functions of one input, in one trace."""

    def __init__(self, functions: Iterable[Callable[[Tensor], Any]]) -> None:
        super().__init__()
        self.functions = list(functions)

    def forward(self, x: Tensor) -> list[Any]:
        return [function(x) for function in self.functions]


def masked(x: Tensor) -> Tensor:
    made = x.clone()
    made[x < 0] = 0.5
    made[:, [0, 2]] = x[:, :2] * 3
    return made


def volume(x: Tensor) -> Tensor:
    return torch.stack([x, x * 2], 1).view(-1, 2, 4, 2, 2)


def places(x: Tensor) -> Tensor:
    return x[:, :3].reshape(-1, 2, 2, 1, 3)


def scaled_where_negative(x: Tensor) -> Tensor:
    """What masks pick is put back where the same masks are true."""
    made = x.clone()
    made[x < 0] *= 0.1
    made[made > 1] = x[made > 1] - 1
    rows = x[:, :, 0] > 0
    made[rows] = x[rows].sin()
    return made


def neighbours(x: Tensor) -> Tensor:
    """Rows of all images, one under the other, looked up by places plus where each image's begin."""
    images, count, _ = x.shape
    places, starts = x.topk(2, 1)[1], torch.arange(images).view(-1, 1, 1) * count
    found = x.reshape(images * count, -1)[(places + starts).view(-1)].view(images, 2, 4, 4)
    rows = torch.index_select(x.reshape(-1, 4), 0, (starts + places).flatten()).view(images, 2, 4, 4)
    return found + rows.sin() + x[torch.arange(images).view(-1, 1).repeat(1, 2), places[:, :, 0]].unsqueeze(2)


def bags(mode: str) -> Callable[[Tensor], Tensor]:
    """One of whose numbers is padding."""
    table = torch.arange(6.0).view(3, 2) - 2
    return lambda x: F.embedding_bag((x[:, 0] > 0).long() + (x[:, 1] > 0), table, mode=mode, padding_idx=1)


SPELLED = (
    lambda x: torch.multiply(x, 2.0),
    lambda x: torch.hstack([x, x]),
    F.hardshrink,
    torch.diag_embed,
    lambda x: (x / (x > 0)).nan_to_num(),
    lambda x: F.one_hot(x.argmax(1), 4),
    lambda x: x.index_fill(1, torch.tensor([0, 2]), 7.0),
    lambda x: torch.count_nonzero(x > 0, 1),
)
MOVED = (
    lambda x: torch.zeros_like(x).scatter(1, x.argmax(1, keepdim=True), 1.0),
    lambda x: x.scatter(-1, x.topk(2, -1)[1], x[..., :2] * 5),
    lambda x: x.scatter(1, torch.tensor([[[0, 1, 0, 1], [0, 2, 3, 1]]]).expand(x.shape[0], 2, 4), x[:, :2]),
    lambda x: x.scatter_add(1, torch.tensor([0, 0, 2]).view(1, 3, 1).expand(x.shape[0], 3, 4), x[:, :3]),
    masked,
    scaled_where_negative,
    lambda x: x.repeat_interleave(3, 0).view(-1, 3, 4, 4),
    lambda x: x[:, :2].flatten(0, 1).repeat_interleave(2, 0).view(-1, 2, 2, 4),
    lambda x: x.transpose(0, 1).repeat_interleave(2, 1).transpose(0, 1).reshape(-1, 8, 4),
    lambda x: x.repeat(2, 1, 1).view(2, -1, 4, 4).transpose(0, 1),
    lambda x: x[:, 0].repeat(3, 2).view(3, -1, 8).transpose(0, 1),
    neighbours,
    *map(bags, ("sum", "mean", "max")),
    lambda x: x.index_add(1, torch.tensor([0, 2, 0]), x[:, :3], alpha=2),
    *(
        lambda x, how=how, own=own: x.scatter_reduce(1, x.argsort(-1)[:, :3], x[:, 1:], how, include_self=own)
        for how in ("sum", "mean", "amax", "amin", "prod")
        for own in (True, False)
    ),
    lambda x: torch.cat([torch.tensor([]), x, x], -2),
    lambda x: torch.cat([torch.tensor([]), x.permute(1, 0, 2)], 0).permute(1, 0, 2),
    lambda x: F.max_unpool2d(*F.max_pool2d(x[:, None, :, :3], (2, 1), return_indices=True), (2, 1)),
    lambda x: F.max_unpool2d(*F.max_pool2d(x[:, None], 3, return_indices=True), (3, 3), output_size=(4, 4)),
    lambda x: F.embedding_bag((x[:, 0] > 0).long(), torch.arange(6.0).view(2, 3), mode="mean"),
    lambda x: F.embedding_bag(
        (x[:, 0] > 0).long(), torch.arange(6.0).view(2, 3), mode="sum", per_sample_weights=x[:, 1]
    ),
    lambda x: torch.chunk(torch.cat([x, x.sin()]), chunks=2, dim=0)[1],
    lambda x: torch.split(torch.cat([x, x.relu(), x.cos()]), x.size(0))[2],
    lambda x: (lambda both: both[x.size(0) :] - both[: x.size(0)])(
        F.conv1d(torch.cat([x, x * x]), torch.ones(2, 4, 3))
    ),
    lambda x: torch.cat([torch.cat([x, x + 1]), x.exp()]).tensor_split(3)[1],
    lambda x: torch.diagonal(x, 1, 1, 2),
    lambda x: torch.diagonal(x.permute(1, 0, 2), -1, 0, 2),
    lambda x: x.median(1)[0],
    lambda x: x.kthvalue(2, -1, keepdim=True)[0],
)


def rotated(x: Tensor) -> Tensor:
    turns = torch.polar(torch.ones(4, 2), torch.linspace(0, 3, 8).view(4, 2))
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turns * 2j + 1j).flatten(-2) + torch.view_as_real(x * (1 - 2j))[..., 1]


def transformed(norm: str | None) -> Callable[[Tensor], list[Tensor]]:
    """There and back, of other numbers than came, of real and complex numbers, along one dimension and several."""

    def run(x: Tensor) -> list[Tensor]:
        first, half = torch.fft.fft(x, norm=norm), torch.fft.rfft(x, dim=1, norm=norm)
        planes = torch.fft.rfft2(x, norm=norm)
        return [
            torch.view_as_real(torch.fft.ifft(first * first.conj() / 2, norm=norm)),
            torch.fft.irfft(half * half, n=4, dim=1, norm=norm),
            torch.fft.irfft(half, n=3, dim=1, norm=norm),
            torch.fft.irfft2(planes.roll(1, 1) - first[..., :3], norm=norm) + torch.fft.rfft(x, n=6, norm=norm).imag,
            torch.fft.fft2(x.transpose(0, 1), dim=(0, 2), norm=norm).abs().transpose(0, 1),
            torch.fft.fft(x, n=3, norm=norm).real,
        ]

    return run


def of_complex(x: Tensor) -> Tensor:
    one, other = torch.complex(x, x.sin()), torch.polar(x.abs(), x)
    made = (one @ other.transpose(1, 2) - 2) * torch.exp(other)
    return made.angle() + torch.stack([made.real, other.imag]).sum(0)


WAVES = (rotated, of_complex, *map(transformed, (None, "ortho", "forward")))
COMPUTED = (
    lambda x: torch.cdist(x, x + 1),
    lambda x: torch.cdist(x, torch.arange(12.0).view(3, 4), p=1),
    lambda x: torch.cdist(x[:, 0], torch.arange(20.0).view(5, 4)),
    lambda x: torch.cdist(x[:, 0], torch.arange(120.0).view(30, 4)),
    lambda x: torch.cdist(x, torch.cat([x] * 8, 1) + 3),
    lambda x: x.cumprod(1),
    lambda x: x.logcumsumexp(-1),
    lambda x: x.round().cummax(1)[0],
    lambda x: x.round().cummin(-1)[1],
    lambda x: torch.acos(x.tanh()) + torch.asin(x.tanh()) * torch.atan(3 * x),
    lambda x: torch.asin(x.sign()) + torch.acos(x.sign()) + torch.atan(x / x.relu()),
    lambda x: torch.atan2(x, x.flip(-1)) + torch.atan2(x.relu(), x.sign().relu()),
    lambda x: torch.sinh(x) + torch.cosh(x) + torch.asinh(x) + torch.acosh(x.abs() + 1) + torch.atanh(x.tanh()),
    lambda x: torch.hypot(x, x.flip(-1)) + torch.copysign(x, x.flip(-1)) + torch.ldexp(x, x.round()),
    lambda x: torch.fmax(x, x.log()) + torch.fmin(x.log(), x) + torch.signbit(x) + F.rrelu(x),
    lambda x: (x.abs() + 0.1) ** x + x ** (3 * x).round() + x.round() ** torch.tensor([0.0, 2, 3, 5]),
    lambda x: torch.bucketize(x, torch.tensor([-0.5, 0.0, 0.5])),
    lambda x: torch.searchsorted(torch.tensor([-0.5, 0.0, 0.5]), x, right=True),
    lambda x: torch.where((1 / (x * 0)).isinf(), 1.0, x),
    lambda x: torch.isfinite(x / (x > 0)),
    lambda x: torch.tan(x / 4),
    lambda x: torch.fmod(x, 0.7),
    lambda x: x.abs() ** torch.tensor([0.5, 1.5, -0.5, 2.5]),
    lambda x: F.grid_sample(volume(x), places(x), align_corners=False),
    lambda x: F.grid_sample(volume(x), places(x), align_corners=True, padding_mode="border"),
    lambda x: F.grid_sample(volume(x), places(x), mode="nearest", align_corners=False),
    lambda x: F.grid_sample(volume(x), 2 * places(x), padding_mode="reflection", align_corners=False),
    lambda x: F.grid_sample(volume(x), 2 * places(x), padding_mode="reflection", align_corners=True),
    *(
        lambda x, padding=padding, aligned=aligned: F.grid_sample(
            x[:, None], x.tanh().view(-1, 2, 4, 2) * 1.5, "bicubic", padding, align_corners=aligned
        )
        for padding in ("zeros", "border", "reflection")
        for aligned in (True, False)
    ),
    lambda x: F.grid_sample(
        x.reshape(-1, 1, 2, 2), x.tanh().reshape(-1, 1, 2, 2), align_corners=True, padding_mode="border"
    ).view(-1, 4, 2),
    lambda x: F.interpolate(x[:, None], (2, 3), mode="bilinear", antialias=True),
    lambda x: F.interpolate(x[:, None], scale_factor=0.6, mode="bicubic", antialias=True),
)


@pytest.mark.parametrize("functions", [SPELLED, MOVED, WAVES, COMPUTED], ids=["spelled", "moved", "waves", "computed"])
def test_rarer_operations_give_what_pytorch_gives(functions: Iterable[Callable[[Tensor], Any]]) -> None:
    network, x = Several(functions).eval(), torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0))
    graph = to_graph(network, x)
    outputs = [part for each in network(x) for part in (each if isinstance(each, list) else [each])]
    for made, wanted in zip(reference.run_all(graph, {"x": x.numpy()}), outputs, strict=True):
        assert made.shape == wanted.shape
        np.testing.assert_allclose(made, wanted.numpy(), rtol=1e-5, atol=1e-5)


class Siamese(nn.Module):
    """Both inputs through one network at once."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5))

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        one, other = self.net(torch.cat([left, right])).chunk(2)
        return one * other, one - other


def test_batches_of_two_inputs_go_through_a_network_one_under_the_other() -> None:
    network, (left, right) = Siamese().eval(), torch.randn(2, 3, 3, 4, 4)
    graph = to_graph(network, (left, right))
    assert graph.called.images is None
    found = reference.run_all(graph, dict(zip(graph.inputs, (left.numpy(), right.numpy()), strict=True)))
    for made, wanted in zip(found, network(left, right), strict=True):
        np.testing.assert_allclose(made, wanted.detach().numpy(), rtol=1e-5, atol=1e-5)


def test_what_pytorch_cannot_spell_either_is_refused_by_the_name_that_the_network_calls() -> None:
    with pytest.raises(ExportError, match="linalg_inv is not supported"):
        to_graph(Several([torch.linalg.inv]), torch.randn(2, 4, 4))


def test_constants_are_viewed_as_if_they_lay_as_those_that_were_traced() -> None:
    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(3, 4))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.table.t().contiguous().view(12)

    network, x = Table().eval(), torch.randn(2, 12)
    (found,) = reference.run_all(to_graph(network, x), {"x": x.numpy()})
    np.testing.assert_array_equal(found, network(x).detach().numpy())


class Counting(nn.Module):
    """It counts its calls, and remembers a mean."""

    calls: Tensor
    mean: Tensor

    def __init__(self, reads: bool) -> None:
        super().__init__()
        self.reads = reads
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("mean", torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x / self.calls if self.reads else x - self.mean


def test_a_buffer_that_forward_changes_is_left_out_where_no_output_depends_on_it() -> None:
    network, x = Counting(reads=False).eval(), torch.randn(2, 4)
    (found,) = reference.run_all(to_graph(network, x), {"x": x.numpy()})
    np.testing.assert_array_equal(found, network(x).numpy())
    with pytest.raises(ExportError, match="its forward changes buffer 'calls'; a graph has no state"):
        to_graph(Counting(reads=True).eval(), x)


def test_what_a_mask_picks_is_read_only_to_be_put_back() -> None:
    with pytest.raises(ExportError, match="takes numbers that a mask picks: how many there are is not known"):
        to_graph(Several([lambda x: x[x > 0].mean()]), torch.randn(2, 4))


class Pairs(nn.Module):
    """How alike each is to each of others, as networks that see and read end with."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.read = nn.Linear(8, 6), nn.Linear(5, 6)
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, image: Tensor, text: Tensor) -> dict[str, Tensor]:
        seen, read = F.normalize(self.seen(image), dim=-1), F.normalize(self.read(text), dim=-1)
        logits = seen @ read.t() * self.scale.exp()
        return {
            "images": logits.softmax(-1),
            "texts": logits.t().contiguous(),
            "found": logits.softmax(1) @ read,
            "letters": torch.einsum("nd,md->mn", seen, read),
            "seen": seen,
        }


def test_each_of_a_batch_is_compared_with_each(tmp_path: Path) -> None:
    network = Pairs().eval()
    pack(network, tmp_path / "net.secateur", example=(torch.randn(2, 8), torch.randn(2, 5)))
    session = load(tmp_path / "net.secateur")
    for count in (1, 3, 4):
        image, text = torch.randn(count, 8), torch.randn(count, 5)
        made, wanted = session(image.numpy(), text.numpy()), network(image, text)
        for name, each in wanted.items():
            np.testing.assert_allclose(made[name], each.detach().numpy(), rtol=1e-5, atol=1e-5)
