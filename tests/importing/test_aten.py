"""A network in PyTorch and the Graph that is made of it compute the same."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

import derived
from networks import FAMILIES, make_example, make_graph, make_network, run_network
from secateur.errors import ExportError, SecateurError
from secateur.importing.aten import structure_of, to_graph
from secateur.network.graph import Graph
from secateur.runtime import reference


def distance(found: np.ndarray, expected: Tensor) -> float:
    """The largest difference over the largest value."""
    assert found.shape == tuple(expected.shape)
    assert found.dtype == np.float32
    largest = max(
        float(expected.abs().max()), float(np.finfo(np.float32).tiny)
    )  # where nothing is left, all is to be 0
    return float(np.abs(found - expected.numpy()).max()) / largest


def agrees(network: nn.Module, *shape: int, graph: Graph | None = None) -> Graph:
    """Export a network, run both on five images and on one; returns the graph."""
    graph = graph or to_graph(network.eval(), torch.randn(2, *shape))
    for batch in (5, 1):
        x = torch.randn(batch, *shape)
        assert distance(reference.run(graph, x.numpy()), run_network(network, x)) < 1e-5
    return graph


RESNETS = ("resnet-18", "slim-resnet-50-cifar")


@pytest.mark.parametrize(
    ("name", "ratio"),
    [
        *itertools.product([*FAMILIES, "lenet-300-100", "lenet-5", "lenet-5-caffe"], [0, 0.9, 0.99]),
        *((name, 0.9) for name in RESNETS),
    ],
)
def test_a_graph_computes_what_its_network_does(name: str, ratio: float) -> None:
    network, graph = make_network(name, ratio), make_graph(name, ratio)
    for batch in (1, 5) if name in FAMILIES else (2,):
        x = make_example(name, batch)
        assert distance(reference.run(graph, x.numpy()), run_network(network, x)) < 1e-5


def test_no_image_gives_no_result() -> None:
    graph = make_graph("vgg")
    assert reference.run(graph, np.zeros((0, 3, 16, 16), np.float32)).shape == (0, 10)


@pytest.mark.parametrize("name", ["vgg", "lenet-5", "slim-resnet-18-cifar"])
def test_weights_keep_their_names_and_their_bits(name: str) -> None:
    network, graph = make_network(name, 0.5), make_graph(name, 0.5)
    state = {key: value for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    assert graph.weights.keys() == state.keys()
    for key, value in state.items():
        assert np.array_equal(graph.weights[key].bits, value.numpy().view(np.uint32))


def test_nodes_are_named_after_modules() -> None:
    graph = make_graph("lenet-5")
    names = ["conv1", "relu", "pool", "conv2", "relu_1", "pool.max_pool2d", "reshape", "fc1", "relu_2"]
    assert [node.name for node in graph.nodes][:9] == names
    assert graph.nodes[0].source == "conv1"
    assert [*graph.inputs] == ["x"]


class Scaled(nn.Module):
    """Weights in a narrow format, -0.0 and a denormal among them."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3).to(dtype)
        self.fc.weight.data.view(-1)[:3] = torch.tensor([-0.0, 0.0, 1e-7], dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_weights_keep_their_format_and_bits(dtype: torch.dtype) -> None:
    network = Scaled(dtype)
    graph = to_graph(network, torch.randn(1, 4))
    kept = graph.weights["fc.weight"]
    assert kept.dtype == str(dtype).removeprefix("torch.")
    assert np.array_equal(kept.bits, network.fc.weight.detach().view(torch.int16).numpy().view(np.uint16))
    agrees(network.float(), 4, graph=graph)


def test_exporting_leaves_mode_weights_and_gradients_alone() -> None:
    network = make_network("vgg").train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    graph = to_graph(network, make_example("vgg"))
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    with torch.no_grad():
        network.get_parameter("features.0.weight").zero_()
    assert graph.weights["features.0.weight"].nonzero > 0


def test_tied_weights_are_stored_once() -> None:
    graph = make_graph("tied-autoencoder")
    assert "inner.weight" in graph.weights
    assert "again.weight" not in graph.weights
    users = [node.name for node in graph.nodes if "inner.weight" in node.weights.values()]
    assert users == ["inner", "again"]


def test_pytorchs_own_pruning_is_folded_into_the_weight() -> None:
    network = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    torch_prune.l1_unstructured(network[0], "weight", 0.5)  # type: ignore[no-untyped-call]
    graph = agrees(network, 6)
    assert graph.weights["0.weight"].nonzero == 15
    assert type(network[0].weight) is Tensor


class Written(nn.Module):
    """A network given by a function, for one-line cases."""

    def __init__(self, function: object, *modules: nn.Module) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(modules)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.layers)  # type: ignore[operator]


PLANES = {
    "in-place on a view": lambda x: x.clone().flatten(1).mul_(2).relu_().view(x.shape) + x,
    "scalars": lambda x: 1 - (2 * x + 1) / 3 - x * 0.5,
    "negation and squares": lambda x: -x + x**2,
    "torch.add with alpha": lambda x: torch.add(x, x.tanh(), alpha=0.25) - torch.rsub(x, 1.0),
    "elu and selu": lambda x: F.elu(x, 0.7) * F.selu(x) + F.elu_(x.clone()),
    "softplus and mish": lambda x: F.softplus(x) + F.softplus(x, 2.0, 1.0) + F.mish(x),
    "logarithms and powers": lambda x: (x.abs() + 1).log() + x.exp() + (x * x + 0.5) ** -1.5 + (x + 9).pow(1),
    "roots": lambda x: torch.sqrt(x * x + 1) - torch.rsqrt(x.abs().add_(1)) + (x.abs() + 1) ** 0.5,
    "waves": lambda x: x.sin() * torch.cos(x) + torch.erf(x.clone().sin_()),
    "quotients": lambda x: x / (x * x + 1) + 1 / (x.abs() + 1) + torch.ones(6) / (x * x + 1) + x.exp().reciprocal_(),
    "differences": lambda x: x - x.tanh() - torch.sub(x.abs(), x.sin(), alpha=2) - (torch.arange(6) - x),
    "the larger and the smaller": lambda x: torch.maximum(x, x.sin()) + torch.min(x, torch.full((6,), 0.25)),
    "values of images and of channels": lambda x: torch.maximum(x, x.mean((2, 3), keepdim=True)) / (1 + x.abs()),
    "swish by hand": lambda x: x * torch.sigmoid(x),
    "clamps": lambda x: x.clamp(0, 6) + F.hardtanh(x, 0.0, 6.0) + torch.clamp_min(x, 0),
    "padding that nothing takes in": lambda x: F.pad(F.pad(x, (1, 2)), (0, 0, 2, 1)).sigmoid(),
    "padding of channels": lambda x: F.pad(x[:, :, ::2, ::3], (0, 0, 0, 0, 2, 1)),
    "stack and select": lambda x: torch.stack([x[:, 0], x[:, -1]], dim=1),
    "unbind": lambda x: sum(x.unbind(1)),
    "slices": lambda x: x[:, 1:, :-2, 3:5],
    "split by sizes": lambda x: torch.cat(torch.split(x, [1, 3], 1)[::-1], 1),
    "chunks of uneven size": lambda x: torch.cat([part.relu() for part in x.chunk(3, 2)], 2),
    "squeeze and unsqueeze": lambda x: x.mean(3, keepdim=True).squeeze(3).unsqueeze(1),
    "sums": lambda x: x.sum(dim=(2, 3)) + x.sum(-1).sum(-1),
    "expand": lambda x: x.mean((2, 3), keepdim=True).expand(-1, -1, 5, 3) + 1,
    "global max": lambda x: F.adaptive_max_pool2d(x, (2, 1)).flatten(1),
    "pixel shuffles": lambda x: (
        F.pixel_shuffle(F.pixel_unshuffle(x, 2).relu(), 2) + F.pixel_shuffle(x, 2)[:, :, 8:, :6]
    ),
    "a gated unit": lambda x: F.glu(x, 1),
    "channel shuffle": lambda x: F.channel_shuffle(x, 2),
    "average pooling, padded": lambda x: F.avg_pool2d(x, 3, 2, 1) + F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "average pooling, ceil": lambda x: F.avg_pool2d(x, 3, 2, ceil_mode=True),
    "max pooling, ceil and padded": lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True),
    "max pooling, dilated": lambda x: F.max_pool2d(x, (2, 3), (1, 2), (1, 0), dilation=2),
    "uneven adaptive average": lambda x: F.adaptive_avg_pool2d(x, (3, 5)),
    "softmax over channels": lambda x: F.softmax(x, 1) + x.softmax(dim=-1),
    "a matrix on the right": lambda x: x @ torch.linspace(-1, 1, 18).view(6, 3),
    "a constant per image": lambda x: torch.cat([x, torch.ones(x.size(0), 1, 8, 6)], 1),
    "a token for every image": lambda x: torch.cat([torch.full((1, 4, 1, 6), 0.5).expand(x.size(0), -1, -1, -1), x], 2),
    "the input itself": lambda x: x,
    "dropout when evaluating": lambda x: F.dropout(x, 0.5, training=False) * 1,
    "dtype given": lambda x: x.to(torch.float32).float().type_as(x).contiguous().detach() + 1,
    "unflatten": lambda x: x.flatten(1).unflatten(1, (8, 24)).permute(0, 2, 1),
    "a pooling with the batch moved": lambda x: F.avg_pool2d(x.transpose(0, 1), 2).transpose(0, 1),
    "movedim and swapaxes": lambda x: x.movedim(1, -1).swapaxes(1, 2).mT,
}


@pytest.mark.parametrize("case", PLANES)
def test_what_people_write_is_understood(case: str) -> None:
    agrees(Written(PLANES[case]), 4, 8, 6)


LAYERS: dict[str, tuple[Any, ...]] = {
    "asymmetric padding of a convolution": (lambda x, conv: conv(F.pad(x, (0, 1, 2, 1))), nn.Conv2d(4, 4, 3)),
    "zero padding as a module": (lambda x, pad, conv: conv(pad(x)), nn.ZeroPad2d((1, 0, 2, 0)), nn.Conv2d(4, 2, 2)),
    "same padding, even kernel, dilated": (
        lambda x, conv: conv(x),
        nn.Conv2d(4, 6, (2, 4), padding="same", dilation=(3, 1)),
    ),
    "valid padding": (lambda x, conv: conv(x), nn.Conv2d(4, 6, 3, padding="valid", groups=2)),
    "one slope": (lambda x, act: act(x), nn.PReLU(init=0.3)),
    "a module called twice": (lambda x, conv: conv(conv(x).relu_()), nn.Conv2d(4, 4, 3, padding=1)),
    "layer norm of planes": (lambda x, norm: norm(x), nn.LayerNorm((8, 6))),
    "layer norm without weights": (lambda x, norm: norm(x), nn.LayerNorm(6, elementwise_affine=False)),
    "batch norm without weights": (lambda x, norm: norm(x), nn.BatchNorm2d(4, affine=False)),
    "batch norm of vectors": (lambda x, norm: norm(x.mean((2, 3))), nn.BatchNorm1d(4)),
    "linear on the last axis": (lambda x, fc: fc(x), nn.Linear(6, 2, bias=False)),
    "a bilinear layer": (lambda x, layer: layer(x, x.sin()), nn.Bilinear(6, 6, 3)),
    "doubles inside": (lambda x, fc: fc(x.double()).float(), nn.Linear(6, 2).double()),
    "standardised weights": (
        lambda x, conv: F.conv2d(x, (conv.weight - conv.weight.mean()) / conv.weight.std(), conv.bias),
        nn.Conv2d(4, 4, 3),
    ),
}


@pytest.mark.parametrize("case", LAYERS)
def test_layers_as_people_use_them(case: str) -> None:
    function, *modules = LAYERS[case]
    agrees(Written(function, *modules), 4, 8, 6)


def windows_of(x: Tensor, size: int) -> Tensor:
    """(N, H, W, C) as the windows of all images, (N·windows, size², C), as Swin has them."""
    images, height, width, channels = x.shape
    parts = x.view(images, height // size, size, width // size, size, channels).permute(0, 1, 3, 2, 4, 5)
    return parts.reshape(-1, size * size, channels)


def from_windows(x: Tensor, size: int, height: int, width: int) -> Tensor:
    parts = x.view(-1, height // size, width // size, size, size, x.shape[-1]).permute(0, 1, 3, 2, 4, 5)
    return parts.reshape(-1, height, width, x.shape[-1])


def mixed_heads(x: Tensor, qkv: nn.Module, out: nn.Module) -> Tensor:
    """What vision transformers do around their products: (3, N, heads, T, d) for a while."""
    tokens = x.flatten(2).transpose(1, 2)
    images, count, channels = tokens.shape
    q, k, v = qkv(tokens).reshape(images, count, 3, 2, channels // 2).permute(2, 0, 3, 1, 4).unbind(0)
    return out(((q * k).softmax(-1) + v).transpose(1, 2).reshape(images, count, channels))


def in_heads(x: Tensor, fc: nn.Module) -> Tensor:
    """What nn.MultiheadAttention does around its products: sequences first, then (N·heads, T, d)."""
    tokens = x.flatten(2).permute(2, 0, 1)
    count, images, channels = tokens.shape
    heads = fc(tokens).contiguous().view(count, images * 2, channels // 2).transpose(0, 1)
    mixed = heads.softmax(1) + heads.mean(-1, keepdim=True)
    return (
        mixed.view(images, 2, count, channels // 2).permute(2, 0, 1, 3).reshape(count, images, channels).transpose(0, 1)
    )


def patches_in_rows(x: Tensor, norm: nn.Module, fc: nn.Module) -> Tensor:
    """The pixels at one place of all 2×2 patches in a row, (N·4, patches, C), as MobileViT has them."""
    images, channels, height, width = x.shape
    high, wide = height // 2, width // 2
    parts = x.reshape(images * channels * high, 2, wide, 2).transpose(1, 2)
    rows = parts.reshape(images, channels, high * wide, 4).transpose(1, 3).reshape(images * 4, high * wide, channels)
    rows = rows + fc(norm(rows))
    parts = rows.contiguous().view(images, 4, high * wide, channels).transpose(1, 3)
    return parts.reshape(images * channels * high, wide, 2, 2).transpose(1, 2).reshape(images, channels, height, width)


BATCH_ELSEWHERE: dict[str, tuple[Any, ...]] = {
    "heads and their kinds in front": (mixed_heads, nn.Linear(4, 12), nn.Linear(4, 4)),
    "sequences first, heads folded into the batch": (in_heads, nn.Linear(4, 4)),
    "windows folded into the batch": (
        lambda x, fc, norm: from_windows(norm(fc(windows_of(x.permute(0, 2, 3, 1), 2)).relu()), 2, 8, 6),
        nn.Linear(4, 5),
        nn.LayerNorm(5),
    ),
    "patches in rows": (patches_in_rows, nn.LayerNorm(4), nn.Linear(4, 4)),
    "the batch folded behind the sequence": (
        lambda x, fc: fc(x.flatten(2).permute(2, 0, 1).reshape(-1, 4)).view(48, -1, 3).permute(1, 2, 0),
        nn.Linear(4, 3),
    ),
    "constants beside sequences": (
        lambda x, fc: (fc(x.flatten(2).permute(2, 0, 1)) + torch.linspace(0, 1, 48)[:, None, None]).transpose(0, 1),
        nn.Linear(4, 3),
    ),
    "zeros for every image, in time": (
        lambda x, _: torch.cat([x.flatten(2).permute(2, 0, 1), torch.zeros(2, x.size(0), 4)]).transpose(0, 1),
        nn.Identity(),
    ),
    "stacked in front": (lambda x, _: torch.stack([x, x * 2, x.relu()]).mean(0), nn.Identity()),
    "stacked behind": (lambda x, _: torch.stack([x, x * 2], -1).flatten(1), nn.Identity()),
    "stacked in sequences": (
        lambda x, _: torch.stack([x.flatten(2).permute(2, 0, 1)] * 2, 2).select(2, 1)[3].unsqueeze(0)[0],
        nn.Identity(),
    ),
    "parts of sequences": (
        lambda x, _: torch.cat(x.flatten(2).permute(2, 0, 1).split([8, 40])[::-1]).sum((0, 2)),
        nn.Identity(),
    ),
    "a gate in time": (lambda x, _: F.glu(x.flatten(2).permute(2, 0, 1), 0).permute(1, 2, 0), nn.Identity()),
    "a product with what is in front": (
        lambda x, _: (x.permute(2, 0, 1, 3) * x.mean(2)).permute(1, 2, 0, 3),
        nn.Identity(),
    ),
}


@pytest.mark.parametrize("case", BATCH_ELSEWHERE)
def test_the_batch_may_stand_elsewhere_for_a_while(case: str) -> None:
    function, *modules = BATCH_ELSEWHERE[case]
    agrees(Written(function, *modules), 4, 8, 6)


class Windows(nn.Module):
    """Convolutions and poolings side by side on one input; each is exported with the others at the cost of one."""

    def __init__(self, branches: list[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [branch(x) for branch in self.branches]


@st.composite
def windows(draw: Any, height: int, width: int) -> nn.Module:
    """A convolution or pooling of 4 channels that PyTorch accepts on planes of a size."""
    kernel = (draw(st.integers(1, min(3, height))), draw(st.integers(1, min(4, width))))
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    padding = (draw(st.integers(0, kernel[0] // 2)), draw(st.integers(0, kernel[1] // 2)))
    kind = draw(st.sampled_from(["conv", "same", "max", "average", "adaptive"]))
    if kind in ("conv", "same"):
        groups, bias = draw(st.sampled_from([1, 2, 4])), draw(st.booleans())
        where: Any = {"stride": stride, "padding": padding} if kind == "conv" else {"padding": "same", "dilation": 2}
        return nn.Conv2d(4, 4 * draw(st.integers(1, 2)), kernel, groups=groups, bias=bias, **where)
    if kind == "adaptive":
        return nn.AdaptiveAvgPool2d((draw(st.integers(1, 5)), draw(st.integers(1, 5))))
    ceil = draw(st.booleans())
    if kind == "max":
        return nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil)
    counted = draw(st.booleans()) and not (ceil and any(padding))
    return nn.AvgPool2d(kernel, stride, padding, ceil_mode=ceil, count_include_pad=counted)


@given(data=st.data(), height=st.integers(1, 9), width=st.integers(1, 9))
@settings(max_examples=12, deadline=None)
def test_windows_of_all_kinds_agree(data: st.DataObject, height: int, width: int) -> None:
    network = Windows([data.draw(windows(height, width)) for _ in range(8)]).eval()
    x = torch.randn(2, 4, height, width)
    found = reference.run_all(to_graph(network, x), {"x": x.numpy()})
    for mine, theirs in zip(found, run_network(network, x), strict=True):
        np.testing.assert_allclose(mine, theirs.numpy(), rtol=1e-5, atol=1e-5)


def test_padding_goes_into_the_convolution() -> None:
    function, *modules = LAYERS["asymmetric padding of a convolution"]
    graph = to_graph(Written(function, *modules), torch.randn(1, 4, 8, 6))
    assert [(node.op, node.attributes["padding"]) for node in graph.nodes] == [("conv2d", (2, 1, 0, 1))]


class TwoInTwoOut(nn.Module):
    def forward(self, left: Tensor, right: Tensor) -> dict[str, Tensor]:
        return {"sum": left + right, "left": left * 2}


def test_several_inputs_and_outputs() -> None:
    graph = to_graph(TwoInTwoOut(), (torch.randn(1, 3), torch.randn(1, 3)))
    left, right = np.ones((2, 3), np.float32), np.full((2, 3), 2, np.float32)
    found = reference.run_all(graph, {"left": left, "right": right})
    assert [each.tolist() for each in found] == [[[3] * 3] * 2, [[2] * 3] * 2]


@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")  # torch.compile's own
@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_wrappers_are_looked_into(wrap: Any) -> None:
    network = make_network("vgg")
    graph = to_graph(wrap(network), make_example("vgg"))
    assert graph.weights.keys() == make_graph("vgg").weights.keys()


REFUSED = {
    "an operation that is missing": (
        lambda x, _: torch.linalg.det(x[..., :6, :]),
        nn.Identity(),
        r"Written's forward: \w*det is not supported; a graph holds",
    ),
    "a division of sums that are rounded up": (
        lambda x, pool: pool(x),
        nn.AvgPool2d(3, ceil_mode=True, divisor_override=2),
        r"module 'layers.0' \(AvgPool2d\): avg_pool2d with divisor_override and ceil_mode is not supported",
    ),
    "statistics of the batch": (
        lambda x, norm: norm(x),
        nn.BatchNorm2d(4, track_running_stats=False),
        r"module 'layers.0' \(BatchNorm2d\): .* the statistics of the batch",
    ),
    "control flow": (
        lambda x, _: x if x.sum() > 0 else -x,
        nn.Identity(),
        "Written: its control flow depends on values",
    ),
    "a mean of images": (lambda x, _: x.mean(0, keepdim=True), nn.Identity(), "works across the batch"),
    "softmax of images": (lambda x, _: x.softmax(0), nn.Identity(), "works across the batch"),
    "a linear layer over images": (
        lambda x, fc: fc(x.permute(1, 2, 3, 0)[..., :1]),
        nn.Linear(1, 2),
        "mixes the batch with other dimensions",
    ),
    "a norm over images": (
        lambda x, _: F.layer_norm(x.permute(1, 2, 0, 3), x[:, 0, 0].shape),
        nn.Identity(),
        "works across the batch",
    ),
    "each image with each": (
        lambda x, _: x[:, :1].transpose(0, 1) * x[:, :1],
        nn.Identity(),
        "mul combines values that have the batch in different dimensions",
    ),
    "division by zero": (lambda x, _: x / 0, nn.Identity(), "div is supported by what is not zero"),
    "dropout that never ends": (lambda x, _: F.dropout(x), nn.Identity(), "random in eval mode too"),
    "an exception of its own": (lambda x, _: x.nothing(), nn.Identity(), "Written: torch.export cannot trace it"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_graph_cannot_hold_is_refused_in_one_line(case: str) -> None:
    function, module, text = REFUSED[case]
    network = Written(function, module).eval()
    with pytest.raises(ExportError, match=text) as caught:
        to_graph(network, torch.randn(2, 4, 8, 6))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("example", [torch.zeros(0, 4), torch.zeros(()), torch.zeros(2, 4, dtype=torch.complex64)])
def test_an_example_has_to_be_a_batch_of_numbers(example: Tensor) -> None:
    with pytest.raises(SecateurError, match=r"^example of shape .*: expected (a batch|real inputs)"):
        to_graph(nn.Linear(4, 2), example)


@pytest.mark.parametrize("name", derived.MAKERS)
def test_a_trace_serves_every_network_of_its_kind(name: str) -> None:
    """Only what is an entry of the state dict, bit for bit, has its name."""
    first = derived.MAKERS[name]()
    structure = structure_of(first, torch.randn(1, 1, 8, 8))
    for seed in (1, 2):
        other = derived.varied(first, seed)
        assert structure.fits(other)
        graph, state = agrees(other, 1, 8, 8, graph=structure.graph(other)), other.state_dict()
        for weight in graph.weights.keys() & state.keys():
            assert np.array_equal(graph.weights[weight].bits, state[weight].numpy().view(np.uint32))


def test_an_entry_keeps_its_name_through_what_changes_nothing() -> None:
    assert "b.weight" in to_graph(derived.MAKERS["a copy"](), torch.randn(1, 1, 8, 8)).weights


class SignedToo(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + F.linear(x, self.weight.sign())


def test_a_weight_is_stored_raw_and_derived_where_both_are_used() -> None:
    graph = agrees(nn.Sequential(SignedToo(3, 2)), 3)
    assert graph.weights.keys() == {"0.weight", "0.bias", "0.weight.derived"}


class Noisy(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight + torch.rand_like(self.weight), self.bias)


def test_weights_with_random_numbers_are_refused() -> None:
    with pytest.raises(ExportError, match=r"module '0' \(Noisy\): rand_like draws random numbers"):
        to_graph(nn.Sequential(Noisy(3, 2)), torch.randn(1, 3))
