"""Whole filters and channels: which go, what goes with them, and that the smaller network is the same."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import secateur
from networks import make_example, make_network
from secateur.errors import PruneError, UsageError
from secateur.exporting.packing import graph_of
from secateur.modules.layers import weight_of, weighted_layers
from secateur.pruning.pruning import layer_sparsity, prune, sparsity
from secateur.pruning.score import Scores
from secateur.records.patterns import WholeSets, parse_pattern
from secateur.records.spec import Sweep

COUPLED = ["mixer", "densenet", "resnext", "mobilenet-v2", "shufflenet", "efficientnet"]
PATTERNS = [("channel-l1", "layer"), ("channel-l2", "global")]


def plain() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 3))


def dead_rows(weight: Tensor) -> list[int]:
    return [row for row in range(len(weight)) if not weight[row].any()]


@pytest.mark.parametrize("norm", [1, 2])
def test_the_filters_of_smallest_norm_go(norm: int) -> None:
    network = nn.Sequential(nn.Conv2d(3, 10, 3), nn.Flatten(), nn.Linear(40, 20), nn.Linear(20, 4))
    dense = copy.deepcopy(network)
    log = prune(network, 0.3, pattern=f"filter-l{norm}")
    for name, count in (("0", 3), ("2", 6)):
        norms = weight_of(dense.get_submodule(name)).flatten(1).norm(norm, 1)
        now = weight_of(network.get_submodule(name))
        assert set(dead_rows(now)) == set(norms.topk(count, largest=False).indices.tolist())
        assert torch.equal(network.get_parameter(f"{name}.bias"), dense.get_parameter(f"{name}.bias"))
    assert log.sparsity == pytest.approx(0.3)
    assert not (weight_of(network.get_submodule("3")) == 0).any()


def test_l1_and_l2_differ_where_one_weight_is_large() -> None:
    network = nn.Sequential(nn.Linear(4, 2))
    network[0].weight.data = torch.tensor([[0.0, 3.0, 0.1, 0.1], [1.0, 1.0, 1.0, 1.0]])
    for norm, gone in ((1, [0]), (2, [1])):
        each = copy.deepcopy(network)
        prune(each, 0.5, pattern=f"filter-l{norm}", keep_output=False)
        assert dead_rows(weight_of(each.get_submodule("0"))) == gone


def test_a_plain_networks_channels_go_with_their_columns_and_biases() -> None:
    network = plain()
    dense = copy.deepcopy(network)
    log = prune(network, 0.5, pattern="channel-l1", scope="global", example=torch.randn(2, 6))
    first, second, last = (weight_of(network[i]) for i in (0, 2, 4))
    gone = dead_rows(first)
    assert gone
    assert not network[0].bias[gone].any()
    assert not second[:, gone].any()
    assert dead_rows(second)
    assert not last[:, dead_rows(second)].any()
    assert not dead_rows(last)
    # independently: the mean magnitude of row, and column where it is pruned too, of each unit
    w1, w2 = weight_of(dense[0]).abs(), weight_of(dense[2]).abs()
    of_first = (w1.sum(1) + w2.sum(0)) / (6 + 8)
    of_second = w2.mean(1)
    order = sorted(
        [(float(v), 0, i) for i, v in enumerate(of_first)] + [(float(v), 1, i) for i, v in enumerate(of_second)]
    )
    taken = {(0, i) for i in gone} | {(1, i) for i in dead_rows(second)}
    assert taken == {(layer, i) for _, layer, i in order[: len(taken)]}
    assert log.sparsity == pytest.approx(0.5, abs=0.05)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(
    ("name", "pattern", "scope"),
    [*((name, *how) for name in COUPLED for how in PATTERNS), ("slim-resnet-18-cifar", *PATTERNS[1])],
)
def test_coupled_channels_leave_and_the_smaller_network_is_the_same(name: str, pattern: str, scope: str) -> None:
    network, images = make_network(name).double(), make_example(name).double()
    log = prune(network, 0.5, pattern=pattern, scope=scope, example=images)
    assert log.sparsity == pytest.approx(0.5, abs=0.06)
    small = secateur.shrink(network, images)
    noise = 2 * torch.randn(3, *images.shape[1:], dtype=torch.float64)
    torch.testing.assert_close(small(noise), network(noise), rtol=1e-9, atol=1e-9)
    before = sum(weight_of(layer).numel() for layer in weighted_layers(network).values())
    now = sum(int(weight_of(layer).count_nonzero()) for layer in weighted_layers(network).values())
    left = sum(weight_of(layer).numel() for layer in weighted_layers(small).values())
    assert left == pytest.approx(now, abs=0.03 * before), "zeros that the smaller network still carries"


def test_one_image_shows_as_much_as_two() -> None:
    network = plain()
    prune(network, 0.5, pattern="channel-l1", example=torch.zeros(1, 6))
    small: Any = secateur.shrink(network, torch.zeros(1, 6))
    assert small[0].out_features < 10
    assert small[2].out_features < 8


def test_residual_writers_lose_the_same_channels() -> None:
    network = make_network("slim-resnet-18-cifar")
    prune(network, 0.4, pattern="channel-l2", example=make_example("slim-resnet-18-cifar"))
    stem, branch = weight_of(network.get_submodule("conv1")), weight_of(network.get_submodule("layer1.0.conv2"))
    assert dead_rows(stem) == dead_rows(branch) != []
    for name in ("bn1", "layer1.0.bn2"):
        assert not network.get_parameter(f"{name}.bias")[dead_rows(stem)].any()


def test_grouped_convolutions_lose_as_many_of_each_group() -> None:
    network = make_network("resnext")
    prune(network, 0.5, pattern="channel-l1", example=make_example("resnext"))
    weight = weight_of(network.get_submodule("blocks.1.conv2"))
    per_group = [len(dead_rows(part)) for part in weight.chunk(4)]
    assert len(set(per_group)) == 1
    assert 0 < per_group[0] < 3


@pytest.mark.parametrize("pattern", ["filter-l1", "channel-l1"])
def test_one_set_of_each_family_stays_whatever_the_ratio(pattern: str) -> None:
    network, images = make_network("densenet"), make_example("densenet")
    with pytest.raises(PruneError, match=r"ratio 0.99: at most \d+.\d\d% of the weights of .* can go in whole sets"):
        prune(network, 0.99, pattern=pattern, example=images)
    assert sparsity(network) == 0, "changed although refused"
    prune(network, 0.99, pattern=pattern, scope="global", example=images, allow_empty=True)
    assert all(bool(weight_of(layer).any()) for layer in weighted_layers(network).values())


def test_a_later_layer_that_cannot_lose_so_much_leaves_the_earlier_ones_whole() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(20, 100), nn.ReLU(), nn.Linear(100, 4), nn.ReLU(), nn.Linear(4, 3))
    with pytest.raises(PruneError, match=r"ratio 0\.95: at most 75\.00% of the weights of layer '2'"):
        prune(network, 0.95, pattern="filter-l1")
    assert sparsity(network) == 0, "changed although refused"


@pytest.mark.parametrize("pattern", ["filter-l2", "channel-l1"])
@pytest.mark.parametrize("scope", ["layer", "global", "lamp"])
def test_pruning_sets_twice_does_not_compound(pattern: str, scope: str) -> None:
    network: Any = make_network("vgg")
    chosen: dict[str, Any] = {"pattern": pattern, "scope": scope, "example": make_example("vgg")}
    prune(network, 0.5, **chosen)
    once = layer_sparsity(network)
    prune(network, 0.3, **chosen)
    prune(network, 0.5, **chosen)
    assert layer_sparsity(network) == once
    before = copy.deepcopy(network.state_dict())
    prune(network, 0.0, **chosen)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_any_methods_scores_are_summed_over_the_set() -> None:
    network = plain()
    given = {name: torch.rand_like(weight_of(layer)) for name, layer in weighted_layers(network).items()}
    given["0"][[2, 5]] = 0.01
    given["2"][:, [2, 5]] = 0.01
    prune(network, 0.2, method=Scores(given), pattern="channel-l1", scope="global", example=torch.zeros(1, 6))
    assert dead_rows(weight_of(network[0])) == [2, 5]
    calibration = [(torch.randn(8, 6), torch.arange(8) % 3)]
    for method in ("random", "taylor", "grasp", "synflow", "second-order"):
        each = plain()
        log = prune(each, 0.4, method=method, pattern="channel-l2", calibration=calibration)
        assert log.sparsity == pytest.approx(0.4, abs=0.06)


def test_a_share_by_layer_takes_the_least_channels_that_the_layer_makes() -> None:
    network, dense = plain(), plain()
    example = torch.zeros(1, 6)
    prune(network, {"0": 0.3, "2": 0.5}, pattern="channel-l2", example=example)
    for name, count in (("0", 3), ("2", 4)):
        assert len(dead_rows(weight_of(network.get_submodule(name)))) == count
        other = copy.deepcopy(dense)
        prune(other, {name: {"0": 0.3, "2": 0.5}[name]}, pattern="channel-l2", example=example)
        assert dead_rows(weight_of(other.get_submodule(name))) == dead_rows(weight_of(network.get_submodule(name)))
    small = secateur.shrink(network, example)
    assert [tuple(weight_of(small.get_submodule(name)).shape) for name in ("0", "2", "4")] == [(7, 6), (4, 7), (3, 4)]


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last((x + self.second(x.relu())).relu())


def test_layers_that_make_the_same_channels_lose_the_same() -> None:
    network, example = Residual(), torch.zeros(1, 6)
    one, other = copy.deepcopy(network), copy.deepcopy(network)
    prune(one, {"second": 0.5}, pattern="channel-l1", example=example)
    prune(other, {"first": 0.5, "second": 0.5}, pattern="channel-l1", example=example)
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name])
    assert len(dead_rows(one.first.weight)) == 4
    assert dead_rows(one.first.weight) == dead_rows(one.second.weight)
    with pytest.raises(PruneError, match=r"ratios of 'second' 0.25, 'first' 0.5: expected one, as"):
        prune(network, {"first": 0.5, "second": 0.25}, pattern="channel-l1", example=example)


def test_shares_of_channels_that_cannot_go_are_refused() -> None:
    network, example = plain(), torch.zeros(1, 6)
    with pytest.raises(PruneError, match=r"layer '0' would lose all of its 10 channels at ratio 0.99"):
        prune(network, {"0": 0.99}, pattern="channel-l2", example=example)
    with pytest.raises(PruneError, match=r"layer .4.: makes no channels that can go: expected shares of what"):
        prune(network, {"4": 0.5}, pattern="channel-l2", example=example, keep_output=False)
    assert sparsity(network) == 0
    prune(network, {"0": 0.99}, pattern="channel-l2", example=example, allow_empty=True)
    assert len(dead_rows(weight_of(network.get_submodule("0")))) == 9


def test_excluded_layers_keep_every_weight() -> None:
    network, images = make_network("slim-resnet-18-cifar"), make_example("slim-resnet-18-cifar")
    prune(network, 0.5, pattern="channel-l1", exclude=["layer1.*"], example=images)
    zeros = layer_sparsity(network)
    assert all(share == 0 for name, share in zeros.items() if name.startswith("layer1"))
    assert zeros["layer3.0.conv1"] > 0.3


def test_what_is_asked_wrongly_is_said() -> None:
    network = plain()
    with pytest.raises(UsageError, match=r"pattern channel-l1 with scope erk: channels span layers"):
        prune(network, 0.5, pattern="channel-l1", scope="erk", example=torch.zeros(1, 6))
    with pytest.raises(UsageError, match="expected a batch of inputs as example"):
        prune(network, 0.5, pattern="channel-l1")
    with pytest.raises(UsageError, match="channels span layers"):
        Sweep(("lenet-5",), ("digits",), scopes=("like:magnitude/global",), patterns=("channel-l1",))
    with pytest.raises(
        PruneError, match=r"Sequential has no channel that can go: .* of '0' \(native_layer_norm in '1'\)"
    ):
        prune(
            nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 2)),
            0.5,
            pattern="channel-l1",
            example=torch.zeros(2, 6),
        )
    assert parse_pattern("filter-l2") == WholeSets("filter", 2)


def test_filters_take_ratios_by_layer_and_other_layers_proportions() -> None:
    network = plain()
    prune(network, {"0": 0.5}, pattern="filter-l1")
    assert layer_sparsity(network) == {"0": 0.5, "2": 0, "4": 0}
    like, own = plain(), plain()
    prune(own, 0.5, pattern="filter-l1", scope="global")
    prune(like, 0.5, method="random", pattern="filter-l1", scope="like:magnitude/global")
    assert layer_sparsity(like) == layer_sparsity(own)
    prune(own, 0.4, pattern="filter-l1", scope="erk")


def test_pruned_channels_leave_the_packed_network(tmp_path: Path) -> None:
    """A quarter of the multiply-adds, as in the network that shrink makes, and a file to match."""
    network, images = make_network("slim-resnet-18"), make_example("slim-resnet-18", batch=1)
    secateur.pack(network, tmp_path / "whole.secateur", example=images)
    prune(network, 0.75, pattern="channel-l1", example=images)
    small = secateur.shrink(network, images)
    graph = graph_of(network, images)
    left = sum(weight_of(layer).numel() for layer in weighted_layers(small).values())
    assert sum(weight.bits.size for weight in graph.weights.values() if len(weight.shape) > 1) == left
    secateur.pack(network, tmp_path / "small.secateur", example=images)
    sizes = [(tmp_path / name).stat().st_size for name in ("small.secateur", "whole.secateur")]
    assert sizes[0] < 0.3 * sizes[1]
    x = images.numpy()
    torch.testing.assert_close(
        torch.from_numpy(secateur.load(tmp_path / "small.secateur")(x)), network(images).detach(), rtol=1e-3, atol=1e-3
    )
