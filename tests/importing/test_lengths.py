"""Networks with lengths that are free: PyTorch computes the same at several lengths and batch sizes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur import packfile
from secateur.errors import SecateurError
from secateur.exporting.onnx import to_onnx
from secateur.exporting.rebuilding import GraphNetwork
from secateur.importing.aten import to_graph
from secateur.network.graph import Graph
from secateur.network.simplification import simplify
from secateur.runtime import Session, available_kernels, reference


class Written(nn.Module):
    def __init__(self, function: Any, *modules: nn.Module) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(modules)

    def forward(self, x: Tensor) -> Any:
        return self.function(x, *self.layers)


def convolutional() -> nn.Module:
    """Strides, padding, a residual, batch norms, two kinds of pooling, and each channel's mean at the end."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        nn.ZeroPad2d((0, 1, 1, 0)),
        nn.Conv2d(8, 8, 3, groups=2),
        nn.Hardswish(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )


def mixer(x: Tensor, norm: nn.Module, up: nn.Module, down: nn.Module, gate: nn.Module) -> Tensor:
    """Tokens (N, T, C): a residual block, and a gate that comes from the mean of all tokens."""
    x = x + down(F.gelu(up(norm(x))))
    return x * gate(x.mean(1)).sigmoid().unsqueeze(1)


def heads(x: Tensor, qkv: nn.Module, out: nn.Module) -> Tensor:
    """What attention does around its products, tokens (N, T, C)."""
    images, count, channels = x.shape
    q, k, v = qkv(x).reshape(images, count, 3, 2, channels // 2).permute(2, 0, 3, 1, 4)
    return out(((q * k).softmax(-2) + v).transpose(1, 2).reshape(images, count, channels))


def sequence_first(x: Tensor, fc: nn.Module) -> Tensor:
    """(T, N, C) inside, with heads folded into the batch."""
    tokens = fc(x.transpose(0, 1))
    count, images, channels = tokens.shape
    folded = tokens.contiguous().view(count, images * 2, channels // 2).transpose(0, 1).softmax(1)
    return folded.transpose(0, 1).reshape(count, images, channels).transpose(0, 1)


def windows(x: Tensor, fc: nn.Module, norm: nn.Module) -> Tensor:
    """(N, H, W, C) in windows of 2×2 that are folded into the batch, and back."""
    images, height, width, channels = x.shape
    parts = x.view(images, height // 2, 2, width // 2, 2, channels).permute(0, 1, 3, 2, 4, 5)
    made = norm(fc(parts.reshape(-1, 4, channels))).softmax(1)
    parts = made.view(images, height // 2, width // 2, 2, 2, -1).permute(0, 1, 3, 2, 4, 5)
    return parts.reshape(images, height, width, made.shape[-1])


def neighbours(x: Tensor, fc: nn.Module) -> Tensor:
    """Each token beside the one before it, and pairs of tokens in one row."""
    beside = torch.cat([x[:, 1:], x[:, :-1]], 2)
    pairs = torch.stack([x[:, :-1], x[:, 1:]], 2).flatten(1, 2)
    return torch.cat([fc(beside), fc(pairs.reshape(x.shape[0], -1, 2 * x.shape[2]))], 1)


def patches(x: Tensor, conv: nn.Module, norm: nn.Module) -> Tensor:
    """Planes into tokens, normalised, and back into planes."""
    planes = conv(x)
    tokens = norm(planes.flatten(2).transpose(1, 2))
    return tokens.transpose(1, 2).unflatten(2, planes.shape[2:])


class Positions(nn.Module):
    """Tokens with what is learned of their places added, a class token in front."""

    def __init__(self) -> None:
        super().__init__()
        self.places, self.fresh = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, 1, 8))
        self.fc = nn.Linear(8, 8)

    def forward(self, input: Tensor) -> Tensor:
        placed = input + torch.arange(input.shape[1])[None, :, None] * self.places / 10
        return self.fc(torch.cat([self.fresh.expand(input.shape[0], -1, -1), placed], 1))


def waves(x: Tensor) -> Tensor:
    """Sines and cosines of places, for tokens with the batch between."""
    places = torch.arange(1, 2 * x.shape[1] + 1, 2, dtype=torch.float32).view(-1, 1)
    rates = torch.exp(torch.arange(0, 4) * -0.5)
    table = torch.stack([torch.sin(places * rates), torch.cos(places * rates)], 2).flatten(1)
    return ((x.transpose(0, 1) + table.unsqueeze(1)).relu() * 2 - table[:, None]).transpose(0, 1)


def filled(x: Tensor, fresh: nn.LayerNorm) -> Tensor:
    """With zeros, ones and other numbers as long as the row, the batch or both."""
    images, count, _ = x.shape
    rows = torch.cat([torch.zeros(count, 3), torch.full((count, 5), -0.5)], 1)
    both = torch.ones(images, count, 2).transpose(1, 2) * 3
    repeated = fresh.weight[:, None].expand(8, count)
    return torch.cat(
        [x + rows, both.transpose(1, 2), x - repeated.transpose(0, 1) - fresh.bias.expand(images, count, 8)], 2
    )


PLANES: tuple[Any, ...] = ("batch", 3, "height", "width")
TOKENS: tuple[Any, ...] = ("batch", "length", 8)
WITHOUT_LENGTH = (((2, 5, 8), (3, 17, 8), (1, 3, 8), (2, 1, 8)), TOKENS)
CASES: dict[str, tuple[nn.Module, Any, Any]] = {
    "a fully convolutional network": (convolutional(), ((2, 3, 12, 14), (1, 3, 33, 9), (3, 3, 8, 8)), PLANES),
    "a network of tokens": (
        Written(mixer, nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(8, 8)),
        *WITHOUT_LENGTH,
    ),
    "heads in front": (Written(heads, nn.Linear(8, 24), nn.Linear(8, 4)), *WITHOUT_LENGTH),
    "sequences first": (Written(sequence_first, nn.Linear(8, 8)), *WITHOUT_LENGTH),
    "windows in the batch": (
        Written(windows, nn.Linear(6, 5), nn.LayerNorm(5)),
        ((2, 8, 4, 6), (1, 2, 4, 6), (3, 12, 4, 6)),
        ("batch", "2·rows", 4, 6),
    ),
    "neighbours": (Written(neighbours, nn.Linear(16, 4)), ((2, 5, 8), (3, 17, 8), (1, 3, 8)), TOKENS),
    "positions": (Positions(), *WITHOUT_LENGTH),
    "sines of positions": (Written(waves), *WITHOUT_LENGTH),
    "constants of its length": (Written(filled, nn.LayerNorm(8)), *WITHOUT_LENGTH),
    "as many zeros": (Written(lambda x: x + torch.zeros(x.shape[1], 8)), *WITHOUT_LENGTH),
    "whole places": (Written(lambda x: x + torch.arange(x.shape[1])[:, None]), *WITHOUT_LENGTH),
    "repeated": (
        Written(lambda x: x[:, :, :1].expand(-1, -1, 3) + x[:, :1, :3].expand(-1, x.shape[1], -1)),
        *WITHOUT_LENGTH,
    ),
    "zeros around it": (Written(lambda x: F.pad(x, (1, 0))), *WITHOUT_LENGTH),
    "patches and back": (
        Written(patches, nn.Conv2d(3, 6, 3, 2, 1), nn.LayerNorm(6)),
        ((2, 3, 12, 14), (1, 3, 33, 9), (3, 3, 8, 8)),
        PLANES,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_network_is_itself_at_every_length(case: str) -> None:
    network, shapes, sizes = CASES[case]
    name = "x" if isinstance(network, Written) else "input"
    graph = to_graph(network.eval(), torch.randn(shapes[0]), sizes={name: sizes})
    assert graph.lengths == tuple(sorted(set(re.findall(r"[a-z]+", " ".join(map(str, sizes)))) - {"batch"}))
    session = Session(simplify(graph))
    for shape in shapes:
        x = torch.randn(shape)
        with torch.no_grad():
            expected = network(x).numpy()
        np.testing.assert_allclose(reference.run(graph, x.numpy()), expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(session(x.numpy()), expected, rtol=1e-3, atol=1e-5)


def test_positions_run_in_every_engine(tmp_path: Path) -> None:
    network = Positions().eval()
    graph = to_graph(network, torch.randn(2, 5, 8), sizes={"input": TOKENS})
    assert {"range", "linear"} <= {node.op for node in graph.nodes}
    packfile.write(graph, tmp_path / "net.secateur")
    sessions = [Session(packfile.read(tmp_path / "net.secateur"), kernel=kernel) for kernel in available_kernels()]
    onnx = onnxruntime.InferenceSession(to_onnx(graph), providers=["CPUExecutionProvider"])
    for shape in ((1, 4, 8), (5, 1, 8), (17, 9, 8)):
        x = torch.randn(shape)
        with torch.no_grad():
            expected = network(x).numpy()
        found = [session(x.numpy()) for session in sessions]
        for each in (*found, onnx.run(None, {"input": x.numpy()})[0], GraphNetwork(graph)(x).numpy()):
            np.testing.assert_allclose(each, expected, rtol=1e-4, atol=1e-5)


class Two(nn.Module):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return x * mask.unsqueeze(2)


def two(sizes: dict[str, Any]) -> Graph:
    return to_graph(Two(), (torch.randn(2, 5, 3), torch.randn(2, 5)), sizes=sizes)


def test_two_inputs_share_a_length() -> None:
    graph = two({"x": ("batch", "length", 3), "mask": ("batch", "length")})
    x, mask = torch.randn(2, 9, 3), torch.randn(2, 9)
    np.testing.assert_allclose(Session(graph)(x.numpy(), mask.numpy()), Two()(x, mask), rtol=1e-6)
    assert graph.output_shapes == (graph.inputs["x"],)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"y": ("batch", 5)}, "sizes of 'y': expected one of the inputs x, mask"),
        ({"x": ("batch", "length")}, "sizes of 'x': expected 3 as the example has them, .*; got"),
        ({"x": (2, "length", 3)}, "one and only one of them 'batch'"),
        ({"x": ("batch", "batch", 3)}, "one and only one of them 'batch'"),
        ({"x": ("batch", None, 3)}, "sizes of 'x': expected numbers and texts such as 'height', got None"),
        ({"x": ("batch", 5.0, 3)}, "sizes of 'x': expected numbers and texts such as 'height', got 5.0"),
        ({"x": ("batch", "a length", 3)}, "sizes of 'x': a size written 'a length'"),
        ({"x": ("batch", "length", 4)}, "sizes of 'x': dimension 2 of the example: expected 4, got 3"),
        ({"x": ("batch", "2·length", 3)}, "expected 2·length of a whole length, got 5"),
        ({"x": ("batch", "length", 3)}, "Two: it works for one size of dimension 1 of 'x' only"),
        (
            {"x": ("batch", "a", 3), "mask": ("batch", "b")},
            "input 'mask', dimension 1: the network takes b only where it is a",
        ),
    ],
)
def test_sizes_that_are_not_the_networks_are_refused(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(SecateurError, match=message) as caught:
        two(sizes)
    assert "\n" not in str(caught.value)


REFUSED: dict[str, tuple[Any, str]] = {
    "a number of its own": (lambda x: x.reshape(x.shape[0], 5, 8), "works for one size of dimension 1 of 'x' only"),
    "pairs of an odd length": (
        lambda x: x.reshape(x.shape[0], -1, 16),
        r"has sizes that a graph cannot hold: .* as in 2·length",
    ),
    "a repeated constant": (lambda x: x + torch.ones(1, 8).repeat(x.shape[1], 1), "repeats as often as a length says"),
    "numbers of images": (
        lambda x: x + torch.arange(x.shape[0])[:, None, None],
        "depends on the number of images, which is free",
    ),
    "less the mean of all images": (lambda x: x - x.mean(0), "works across the batch"),
    "each token alone": (lambda x: x.unbind(1)[0], "works for one size of dimension 1 of 'x' only"),
}


FOLLOWED: dict[str, Any] = {
    "places from the end": lambda x: x + torch.arange(x.shape[1] - 1, -1, -1)[:, None],
    "no number everywhere": lambda x: x + torch.full((x.shape[1], 8), -torch.inf),
    "as many as true": lambda x: x * torch.ones(x.shape[1], 8, dtype=torch.bool),
    "places that are compared": lambda x: x * (torch.arange(x.shape[1]) < 3)[:, None],
    "the length as a number": lambda x: x * x.shape[1],
    "a sum over the length": lambda x: x.sum(1),
}


@pytest.mark.parametrize("case", FOLLOWED)
def test_what_is_made_of_a_length_follows_it(case: str) -> None:
    network = Written(FOLLOWED[case])
    graph = to_graph(network, torch.randn(2, 5, 8), sizes={"x": TOKENS})
    for shape in ((3, 2, 8), (1, 9, 8)):
        x = torch.randn(shape)
        np.testing.assert_allclose(reference.run(graph, x.numpy()), network(x).numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_length_cannot_be_is_refused_in_one_line(case: str) -> None:
    function, message = REFUSED[case]
    with pytest.raises(SecateurError, match=message) as caught:
        to_graph(Written(function), torch.randn(2, 6 if "pairs" in case else 5, 8), sizes={"x": TOKENS})
    assert "\n" not in str(caught.value)
