from __future__ import annotations

import copy
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import secateur
from networks import make_network
from samples import build
from secateur.errors import ModelError, ShrinkError, UsageError
from secateur.modules.layers import weight_of, weighted_layers
from secateur.pruning.dependencies import channel_sets


def lively(network: nn.Module) -> Any:
    """In double precision, with normalisations that do something and biases that are not zero."""
    generator = torch.Generator().manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean):
                assert tensor is not None
                nn.init.normal_(tensor, generator=generator)
    return network.double().eval()


def kill_filters(layer: nn.Module, rows: list[int]) -> None:
    assert isinstance(layer.weight, Tensor)
    layer.weight.data[rows] = 0


def kill_columns(layer: nn.Module, inputs: list[int]) -> None:
    assert isinstance(layer.weight, Tensor)
    layer.weight.data[:, inputs] = 0


def size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def shrunk(network: nn.Module, images: Tensor) -> Any:
    return secateur.shrink(network, images)


def check_same(network: nn.Module, small: nn.Module, images: Tensor) -> None:
    for batch in (images, torch.randn(5, *images.shape[1:], dtype=torch.float64) * 3):
        torch.testing.assert_close(small(batch), network(batch), rtol=1e-10, atol=1e-10)


class Residual(nn.Module):
    """A stem, a block with a projection, a block without, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.a1 = nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=False)
        self.a1bn = nn.BatchNorm2d(12)
        self.a2 = nn.Conv2d(12, 12, 3, padding=1, bias=False)
        self.a2bn = nn.BatchNorm2d(12)
        self.project = nn.Conv2d(8, 12, 1, stride=2)
        self.b1 = nn.Conv2d(12, 12, 3, padding=1)
        self.b2 = nn.Conv2d(12, 12, 3, padding=1)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.stem(x)).relu()
        x = (self.a2bn(self.a2(self.a1bn(self.a1(x)).relu())) + self.project(x)).relu()
        x = (self.b2(self.b1(x).relu()) + x).relu()
        return self.head(x.mean((2, 3)))


class Concat(nn.Module):
    """A dense block: each layer reads all before it."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 6, 3, padding=1)
        self.two = nn.Conv2d(6, 5, 3, padding=1)
        self.three = nn.Conv2d(11, 4, 1)
        self.head = nn.Linear(15 * 64, 5)

    def forward(self, x: Tensor) -> Tensor:
        one = self.one(x).relu()
        two = self.two(one).relu()
        three = self.three(torch.cat([one, two], 1)).relu()
        return self.head(torch.cat([one, two, three], 1).flatten(1))


class Groups(nn.Module):
    """A grouped convolution of four groups between pointwise ones, and a depthwise one."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Conv2d(3, 16, 1)
        self.grouped = nn.Conv2d(16, 12, 3, padding=1, groups=4)
        self.mix = nn.Conv2d(12, 8, 1)
        self.deep = nn.Conv2d(8, 8, 3, groups=8)
        self.out = nn.Conv2d(8, 6, 1)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mix(self.grouped(self.into(x).relu()).relu()).relu()
        return self.head(self.out(self.deep(x).relu()).mean((2, 3)))


IMAGES = torch.randn(4, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_units_of_a_plain_network() -> None:
    network: Any = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    kill_filters(network[0], [1, 2])  # constant, their biases go into the next layer's
    kill_columns(network[2], [4])  # read by nobody
    kill_columns(network[4], [0, 7])
    images = torch.randn(4, 6, dtype=torch.float64)
    small = shrunk(network, images)
    assert [tuple(weight_of(layer).shape) for layer in weighted_layers(small).values()] == [(7, 6), (6, 7), (3, 6)]
    assert (small[0].out_features, small[2].in_features, small[2].out_features) == (7, 7, 6)
    assert size(network) - size(small) == 3 * 7 + (3 * 8 + 2 * 7 + 2) + 2 * 3
    check_same(network, small, images)


def test_dead_channels_go_through_functions_of_numbers() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ELU(inplace=True), nn.Conv2d(8, 8, 3), nn.Mish(), nn.Conv2d(8, 4, 3))
    x = torch.randn(2, 3, 9, 9)
    with torch.no_grad():
        for at in (0, 2):
            network.get_parameter(f"{at}.weight")[:4] = 0
        found = secateur.shrink(network.eval(), x)
        assert [len(found.get_parameter(f"{at}.weight")) for at in (0, 2, 4)] == [4, 4, 4]
        torch.testing.assert_close(found(x), network(x), rtol=1e-4, atol=1e-5)


def test_what_dies_with_a_dead_unit_goes_too() -> None:
    network: Any = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2)).double()
    kill_columns(network[4], [0, 1, 2])
    network[2].weight.data[3:, 3:] = 0  # units 3 to 5 of the middle are all that live; they read 0 to 2 only
    images = torch.randn(4, 4, dtype=torch.float64)
    small = shrunk(network, images)
    assert [tuple(weight_of(layer).shape) for layer in weighted_layers(small).values()] == [(3, 4), (3, 3), (2, 3)]
    check_same(network, small, images)


def test_a_residual_stream_loses_what_no_layer_reads() -> None:
    network = lively(Residual())
    dead = [2, 5, 11]
    for layer in (network.b1, network.head):
        kill_columns(layer, dead)
    kill_columns(network.a2, [0, 1])
    small = shrunk(network, IMAGES)
    assert small.head.in_features == small.project.out_channels == small.b2.out_channels == 9
    assert small.a2bn.num_features == 9
    assert small.a1.out_channels == small.a1bn.num_features == 10
    assert small.stem.out_channels == 8
    of_a, of_b, rest = 2 * (8 * 9 + 2) + (12 * 12 - 9 * 10) * 9 + 3 * 2, 2 * 3 * 12 * 9 + 3, 3 * (8 + 1) + 3 * 5
    assert size(network) - size(small) == of_a + of_b + rest
    check_same(network, small, IMAGES)


def test_a_stream_with_only_some_writers_dead_stays() -> None:
    network = lively(Residual())
    kill_filters(network.project, [1, 2])
    kill_filters(network.b2, [1, 2])
    small = shrunk(network, IMAGES)
    assert size(small) == size(network)
    check_same(network, small, IMAGES)


def test_constants_before_zero_padding_become_one_channel() -> None:
    network: Any = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(4 * 36, 5),
    )  # fmt: skip
    lively(network)
    kill_filters(network[0], [0, 3, 4, 6])
    small = shrunk(network, IMAGES)
    assert (small[0].out_channels, small[2].in_channels) == (5, 5)
    check_same(network, small, IMAGES)
    network[2].padding = (0, 0)
    network[5] = nn.Linear(4 * 16, 5).double()
    small = shrunk(network, IMAGES)
    assert small[0].out_channels == 4
    check_same(network, small, IMAGES)


def test_a_constant_goes_into_a_bias_that_was_not_there() -> None:
    network: Any = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3, bias=False)).double()
    network[0].bias.data[:] = torch.tensor([1.0, 2.0, -1.0, 0.5])
    kill_filters(network[0], [0, 2])
    images = torch.randn(4, 6, dtype=torch.float64)
    small = shrunk(network, images)
    assert small[2].in_features == 2
    assert small[2].bias is not None
    check_same(network, small, images)


def test_channels_that_are_concatenated() -> None:
    network = lively(Concat())
    kill_filters(network.one, [0])
    network.one.bias.data[0] = -1  # dead behind the ReLU
    network.head.weight.data[:, 64 * 8 : 64 * 9] = 0
    kill_columns(network.three, [8])  # channel 2 of the second
    kill_filters(network.three, [1, 2])
    small = shrunk(network, IMAGES)
    assert (small.one.out_channels, small.two.out_channels, small.three.out_channels) == (5, 4, 2)
    assert (small.two.in_channels, small.three.in_channels, small.head.in_features) == (5, 9, 11 * 64)
    check_same(network, small, IMAGES)


def test_grouped_convolutions_keep_groups_of_equal_size() -> None:
    network = lively(Groups())
    for channel in (0, 1, 5, 8, 9, 10, 14):  # two, one, three and one of the groups' four
        group, own = divmod(channel, 4)
        network.grouped.weight.data[3 * group : 3 * group + 3, own] = 0
    kill_columns(network.mix, [0, 1, 4, 5, 6, 9, 11])  # two, two, one and two of the groups' three
    small = shrunk(network, IMAGES)
    assert (small.into.out_channels, small.grouped.in_channels, small.grouped.groups) == (12, 12, 4)
    assert (small.grouped.out_channels, small.mix.in_channels) == (8, 8)
    assert small.grouped.weight.shape == (8, 3, 3, 3)
    check_same(network, small, IMAGES)


def test_depthwise_convolutions_lose_their_groups() -> None:
    network = lively(Groups())
    kill_columns(network.out, [1, 6])
    kill_filters(network.mix, [3])
    network.mix.bias.data[3] = 0.5
    small = shrunk(network, IMAGES)
    assert small.deep.groups == small.deep.in_channels == small.mix.out_channels == 5
    assert small.deep.weight.shape == (5, 1, 3, 3)
    check_same(network, small, IMAGES)


@pytest.mark.parametrize("make", [Residual, Concat, Groups], ids=lambda make: make.__name__)
@pytest.mark.parametrize("seed", range(4))
def test_extreme_unstructured_ratios_on_every_wiring(make: Callable[[], nn.Module], seed: int) -> None:
    torch.manual_seed(seed)
    network = lively(make())
    secateur.prune(network, (0.9, 0.95, 0.98, 0.99)[seed], scope="global", allow_empty=True)
    small = shrunk(network, IMAGES)
    assert size(small) < size(network)
    check_same(network, small, IMAGES)


@pytest.mark.parametrize(("name", "most"), [("lenet-300-100", 0.99), ("lenet-5", 0.97)])
def test_built_in_networks(name: str, most: float) -> None:
    network = lively(build(name))
    images = torch.randn(3, 1, 28, 28, dtype=torch.float64)
    secateur.prune(network, most)
    small = shrunk(network, images)
    assert size(small) < 0.9 * size(network)
    check_same(network, small, images)


def test_resnet_18_through_its_shortcuts() -> None:
    network = make_network("slim-resnet-18")
    secateur.prune(network, 0.999, scope="global", allow_empty=True)
    images = torch.randn(2, 3, 32, 32)
    small = shrunk(network, images)
    assert size(small) < 0.2 * size(network)
    torch.testing.assert_close(small(images), network(images), rtol=1e-4, atol=1e-5)


class Awkward(nn.Module):
    """Averages over channels, counts on a number of features, runs a layer twice and ties two."""

    def __init__(self) -> None:
        super().__init__()
        self.averaged = nn.Conv2d(3, 6, 1)
        self.viewed = nn.Conv2d(3, 4, 1)
        self.twice = nn.Linear(256, 256)
        self.tied = nn.Linear(256, 256)
        self.tied.weight = self.twice.weight
        self.free = nn.Linear(256, 20)
        self.head = nn.Linear(20 + 64, 5)

    def forward(self, x: Tensor) -> Tensor:
        average = self.averaged(x).mean(1).flatten(1)
        features = self.viewed(x).view(-1, 256)
        features = self.tied(self.twice(self.twice(features).relu()).relu())
        return self.head(torch.cat([self.free(features).relu(), average], 1))


class Counting(nn.Module):
    """Divides by its number of channels, and gives outputs of any scale."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 8, 3, padding=1)
        self.fc = nn.Linear(8, 4)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x).relu()
        return self.scale * self.fc(self.conv2(x / x.shape[1]).mean((2, 3)))


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-6])
def test_a_changed_output_is_noticed_however_small_outputs_are(scale: float) -> None:
    torch.manual_seed(0)
    network, images = Counting(scale).eval(), torch.randn(4, 3, 8, 8)
    kill_filters(network.conv1, list(range(20)))
    nn.init.zeros_(network.conv1.bias)  # type: ignore[arg-type]
    small = shrunk(network, images)
    told, expected = small(images), network(images)
    assert (told - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_small_outputs_do_not_keep_dead_channels(scale: float) -> None:
    torch.manual_seed(0)
    network: Any = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    kill_filters(network[0], list(range(4)))
    network[2].weight.data *= scale
    network[2].bias.data *= scale
    assert shrunk(network, torch.randn(4, 6))[0].out_features == 12


def test_channels_that_an_operation_counts_or_mixes_stay() -> None:
    network = lively(Awkward())
    kill_filters(network.averaged, [0, 1])
    network.averaged.bias.data[:2] = 0
    kill_filters(network.viewed, [0])
    network.viewed.bias.data[0] = 0
    kill_filters(network.twice, [5])
    kill_filters(network.free, [0, 1, 2])
    small = shrunk(network, IMAGES)
    assert (small.averaged.out_channels, small.viewed.out_channels) == (6, 4)
    assert small.twice.weight is small.tied.weight
    assert small.free.out_features == 17
    check_same(network, small, IMAGES)


def test_one_channel_stays_in_a_layer_without_any_weight() -> None:
    network = lively(Residual())
    kill_filters(network.b1, list(range(12)))
    small = shrunk(network, IMAGES)
    assert small.b1.out_channels == 1
    check_same(network, small, IMAGES)


def test_the_network_itself_its_modes_and_its_flags_are_kept() -> None:
    network = lively(Residual())
    secateur.prune(network, 0.95, scope="global", allow_empty=True)
    network.train()
    network.bn.eval()
    network.stem.weight.requires_grad_(False)
    before = copy.deepcopy(network)
    small = shrunk(network, IMAGES)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.state_dict().items())
    assert [module.training for module in small.modules()] == [module.training for module in network.modules()]
    required = [parameter.requires_grad for parameter in network.parameters()]
    assert required == [parameter.requires_grad for parameter in before.parameters()]
    assert not small.stem.weight.requires_grad
    assert small.a2.weight.requires_grad


def test_a_network_without_dead_channels_comes_back_whole() -> None:
    network = lively(Residual())
    small = shrunk(network, IMAGES)
    assert small is not network
    assert size(small) == size(network)


def test_the_output_layer_is_never_cut() -> None:
    network: Any = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    kill_filters(network[2], [0, 1])
    small = shrunk(network, torch.randn(2, 6, dtype=torch.float64))
    assert small[2].out_features == 3
    assert [each.removable for each in channel_sets(network, torch.randn(2, 6).double())] == [False, True]


def test_what_cannot_run_is_one_line() -> None:
    with pytest.raises(ShrinkError, match=r"Residual: its channels cannot be traced on an input of shape \(4, 1, 8, 8"):
        shrunk(lively(Residual()), IMAGES[:, :1])


class Supervised(nn.Module):
    """A head that runs in training mode only, and one that large images alone reach."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 12, 3, padding=1)
        self.aux, self.large, self.out = nn.Conv2d(16, 4, 1), nn.Conv2d(12, 4, 1), nn.Conv2d(12, 4, 1)

    def forward(self, x: Tensor) -> Any:
        hidden = self.stem(x).relu()
        last = self.body(hidden).relu()
        if x.shape[-1] > 8:
            return self.large(last)
        return (self.out(last), self.aux(hidden)) if self.training else self.out(last)


def test_a_head_that_only_trains_loses_what_the_others_lose() -> None:
    network = Supervised().double()
    kill_columns(network.body, [0, 1, 2])
    kill_columns(network.aux, [1, 2, 3])
    network.large = nn.Identity()  # type: ignore[assignment]
    small = shrunk(network, IMAGES)
    assert (small.stem.out_channels, small.body.in_channels, small.aux.in_channels) == (14, 14, 14)
    for one, other in zip(small.train()(IMAGES), network.train()(IMAGES), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_channels_that_a_layer_which_did_not_run_could_read_stay(caplog: pytest.LogCaptureFixture) -> None:
    network = Supervised().double().eval()
    kill_columns(network.out, [0, 1])
    small = shrunk(network, IMAGES)
    assert small.body.out_channels == 12
    assert "'large' does not run on the example and could read it" in caplog.text
    large = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    torch.testing.assert_close(small(large), network(large), rtol=1e-10, atol=1e-10)


class Gate(nn.Module):
    """A map of one channel over all, slopes by channel, bare parameters and a GRU cell that reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate, self.slopes = nn.Conv2d(3, 10, 3, padding=1), nn.Conv2d(3, 1, 3, padding=1), nn.PReLU(10)
        self.scale, self.shift = nn.Parameter(torch.rand(10, 1, 1) + 1), nn.Parameter(torch.randn(10))
        self.narrow, self.cell, self.head = nn.Linear(10, 6), nn.GRUCell(6, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.slopes(self.conv(x)) / self.scale * torch.sigmoid(self.gate(x))
        return self.head(self.cell(self.narrow(hidden.mean((2, 3)) + self.shift)))


def test_gates_slopes_and_bare_parameters_go_with_their_channels() -> None:
    network = Gate().double()
    kill_columns(network.narrow, [0, 3, 9])
    small = shrunk(network, IMAGES)
    assert small.conv.out_channels == small.slopes.num_parameters == small.narrow.in_features == 7
    assert (small.scale.shape, small.shift.shape, small.gate.out_channels) == ((7, 1, 1), (7,), 1)
    assert torch.equal(small.shift, network.shift[[1, 2, 4, 5, 6, 7, 8]])
    assert small.cell.input_size == 6
    check_same(network, small, IMAGES)


@pytest.mark.filterwarnings("ignore::secateur.errors.PruneWarning")
@pytest.mark.parametrize("form", ["tuple", "mapping", "NumPy", "integers"])
def test_inputs_of_every_form(form: str) -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other, self.head = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor, z: Tensor) -> dict[str, Tensor]:
            return {"sum": self.head((self.one(x) + self.other(z)).relu())}

    x = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    network: Any = Sum() if form in ("tuple", "mapping") else nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    example: Any = {"tuple": (x, -x), "mapping": {"x": x, "z": -x}, "NumPy": x.numpy()}.get(form)
    if form == "integers":
        network, example = nn.Sequential(nn.Embedding(9, 6), *network), torch.tensor([[1, 8, 0], [3, 3, 7]])
    secateur.prune(network, 0.5, pattern="channel-l2", example=example)
    small = shrunk(network, example)
    assert weight_of(list(weighted_layers(small).values())[-1]).shape[1] < 8


@pytest.mark.filterwarnings("ignore:.*jit.script:DeprecationWarning", "ignore:Initializing zero-element:UserWarning")
def test_what_cannot_be_shrunk_is_one_line() -> None:
    plain: Any = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    x = torch.randn(2, 6)
    with pytest.raises(ShrinkError, match="RecursiveScriptModule is a ScriptModule, whose modules cannot be changed"):
        shrunk(torch.jit.script(plain), x)
    with pytest.raises(ModelError, match=r"parameter '0.weight' is on the meta device"):
        shrunk(copy.deepcopy(plain).to("meta"), x)
    with pytest.raises(ModelError, match=r"parameter '0.weight' is lazy"):
        shrunk(nn.Sequential(nn.LazyLinear(3)), x)
    with pytest.raises(UsageError, match=r"example of shape \(0, 6\): expected a batch"):
        shrunk(plain, x[:0])
    plain[0].weight.data[0, 0] = torch.nan
    with pytest.raises(ShrinkError, match=r"parameter '0.weight' is not finite"):
        shrunk(plain, x)
    for lone in (nn.Linear(6, 2), nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 0))):
        assert size(shrunk(lone, x)) == size(lone)


def test_outputs_into_which_nobody_can_look_are_refused() -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Any:
            return types.SimpleNamespace(logits=self.layer(x))

    with pytest.raises(ShrinkError, match="Wrapped gives a SimpleNamespace: expected tensors"):
        shrunk(Wrapped(), torch.randn(2, 6))


def test_a_hook_of_a_copy_leaves_nothing_in_the_network() -> None:
    """copy.deepcopy does not copy functions, so a copy's hook writes where the network's does."""
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    seen: dict[str, Tensor] = {}
    network.seen = seen  # type: ignore[assignment]
    network[0].register_forward_hook(lambda _, __, output: seen.update(first=output))
    secateur.shrink(network, torch.randn(4, 3))
    assert seen == {}
