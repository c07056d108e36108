from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

import secateur
from samples import Backwards, Fragile, Tied, build
from secateur.errors import PruneError, UsageError
from secateur.layers import norm_layers, output_layer, weight_of, weighted_layers
from secateur.pruning import layer_sparsity, prune, scored_layers, sparsity, zero_counts
from secateur.spec import PAPER_RATIOS


def same_cut(weight: Tensor, ours: Tensor, mask: Tensor) -> bool:
    """Our zeroed set equals PyTorch's but for weights tied at the threshold, and has its size."""
    zeroed, theirs = ours == 0, weight * mask == 0
    if int(zeroed.sum()) != int(theirs.sum()):
        return False
    magnitudes = weight.abs()
    threshold = magnitudes[theirs].max() if theirs.any() else 0
    return bool((magnitudes[zeroed != theirs] == threshold).all())


@pytest.mark.parametrize("name", ["lenet-300-100", "lenet-5", "resnet-18", "resnet-50"])
def test_the_zeroed_sets_are_those_of_pytorch_at_all_of_the_papers_ratios(name: str) -> None:
    network = build(name, seed=5)
    weights = {layer: weight_of(module).clone() for layer, module in weighted_layers(network).items()}
    output = output_layer(network)
    assert output in ("fc", "fc2", "fc3")
    for ratio in PAPER_RATIOS:
        prune(network, ratio)
        for layer, module in weighted_layers(network).items():
            amount = 0 if layer == output else ratio
            mask = torch_prune.L1Unstructured(amount).compute_mask(weights[layer], torch.ones_like(weights[layer]))  # type: ignore[no-untyped-call]
            assert same_cut(weights[layer], weight_of(module), mask), (layer, ratio)
            weight_of(module).copy_(weights[layer])


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    ratio=st.floats(0, 0.9),
    levels=st.integers(1, 6),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
)
def test_a_global_cut_takes_the_lowest_whatever_the_ties(
    sizes: list[int], ratio: float, levels: int, dtype: torch.dtype
) -> None:
    layers = [nn.Linear(size, 7, dtype=dtype) for size in sizes]
    for layer in layers:
        layer.weight.data = torch.randint(-levels, levels + 1, layer.weight.shape).to(dtype) / 3
    network = nn.Sequential(*layers)
    before = torch.cat([layer.weight.detach().abs().flatten() for layer in layers]).double()
    try:
        prune(network, ratio, scope="global", keep_output=False)
    except PruneError:
        assert any(layer.weight.detach().abs().max() <= before.quantile(ratio) for layer in layers)
        return
    after = torch.cat([layer.weight.detach().flatten() for layer in layers])
    cut = round(ratio * len(before))
    assert int((after == 0).sum()) == max(cut, int((before == 0).sum()))
    changed = (after == 0) & (before > 0)
    if changed.any():
        assert before[changed].max() <= before[after != 0].min()


def test_a_global_cut_over_mixed_precisions_ranks_by_value() -> None:
    network: Any = nn.Sequential(nn.Linear(50, 4), nn.Linear(4, 50, dtype=torch.float64))
    values = torch.linspace(1, 2, 400, dtype=torch.float64)[torch.randperm(400)]
    network[0].weight.data = values[:200].reshape(4, 50).float()
    network[1].weight.data = values[200:].reshape(50, 4)
    prune(network, 0.5, scope="global", keep_output=False)
    kept = torch.cat([weight_of(layer).double().flatten() for layer in network])
    assert kept[kept != 0].min() > 1.5
    assert int((kept == 0).sum()) == 200


def test_pruning_twice_does_not_compound() -> None:
    once, twice = (build("lenet-300-100") for _ in range(2))
    prune(once, 0.5)
    prune(twice, 0.25)
    prune(twice, 0.5)
    assert torch.equal(once.fc1.weight, twice.fc1.weight)
    assert prune(twice, 0.3).sparsity == pytest.approx(0.5, abs=1e-4)


def test_scales_of_normalisations_are_pruned_where_asked_and_as_pytorch_would() -> None:
    network = build("resnet-18")
    for layer in norm_layers(network).values():
        nn.init.uniform_(weight_of(layer), 0.1, 1)
    before = {name: weight_of(layer).clone() for name, layer in scored_layers(network, norms=True).items()}
    kept = copy.deepcopy(network)
    prune(kept, 0.5)
    assert sum(zero_counts(kept, norms=True).values()) == sum(zero_counts(kept).values())
    log = prune(network, 0.5, norms=True, exclude=["layer4.1.bn2"])
    assert len(log.total) == len(before) - 2
    for name, layer in scored_layers(network, norms=True).items():
        amount = 0 if name in ("fc", "layer4.1.bn2") else 0.5
        mask = torch_prune.L1Unstructured(amount).compute_mask(before[name], torch.ones_like(before[name]))  # type: ignore[no-untyped-call]
        assert same_cut(before[name], weight_of(layer), mask), name


def test_pruning_is_in_place_and_leaves_no_mask() -> None:
    network = build("lenet-5")
    pointer, names = network.fc1.weight.data_ptr(), set(network.state_dict())
    log = prune(network, 0.9)
    assert network.fc1.weight.data_ptr() == pointer
    assert set(network.state_dict()) == names
    assert (
        log.kept["fc1"] == log.total["fc1"] - round(0.9 * log.total["fc1"]) == int(network.fc1.weight.count_nonzero())
    )
    assert layer_sparsity(network)["fc3"] == 0
    assert sparsity(network) == pytest.approx(0.9 * (1 - 840 / 61_470), abs=1e-4)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_memory_layout_does_not_change_the_cut(layout: torch.memory_format) -> None:
    network = build("resnet-18-cifar")
    expected = copy.deepcopy(network)
    prune(expected, 0.8)
    network.to(memory_format=layout)
    prune(network, 0.8)
    for name, weight in expected.state_dict().items():
        assert torch.equal(network.state_dict()[name], weight), name


@pytest.mark.parametrize("example", [None, torch.zeros(2, 1, 9, 9)])
def test_the_output_layer_is_the_last_one_executed_not_the_last_registered(example: Tensor | None) -> None:
    network = Backwards()
    log = prune(network, 0.5, example=example)
    assert set(log.kept) == {"again", "body"}
    assert sparsity(network.head) == 0


def test_tied_weights_are_pruned_once() -> None:
    network = Tied()
    log = prune(network, 0.5)
    assert log.total == {"first": 36}
    assert network.first.weight is network.second.weight
    assert int((network.first.weight == 0).sum()) == 18


def test_excluded_layers_stay_whole() -> None:
    network = build("resnet-18-cifar")
    log = prune(network, 0.9, exclude=["conv1", "layer1.*", "layer2.0.conv1.weight"])
    pruned = {name for name, share in layer_sparsity(network).items() if share > 0}
    assert pruned == set(log.kept)
    assert not {name for name in pruned if name == "conv1" or name.startswith("layer1.")}
    assert "layer2.0.conv1" not in pruned
    assert "layer2.0.conv2" in pruned


@pytest.mark.parametrize("ratio", [1.0, -0.1, float("nan"), 90, True, None, "0.5", torch.tensor(0.5), {"": "half"}])
def test_ratios_outside_the_range_are_refused(ratio: Any) -> None:
    with pytest.raises(UsageError, match=r"expected in \[0, 1\)"):
        prune(nn.Linear(2, 2), ratio)


def test_unknown_names_are_refused_with_the_choices() -> None:
    network = build("lenet-5")
    with pytest.raises(UsageError, match=r"exclude 'conv9' matches no layer: expected one of conv1, conv2"):
        prune(network, 0.5, exclude=["conv9"])
    with pytest.raises(UsageError, match=r"keep_output 'fc9' names no layer: expected one of conv1, conv2"):
        prune(network, 0.5, keep_output="fc9")
    with pytest.raises(UsageError, match=r"scope 'world': expected one of layer, global"):
        prune(network, 0.5, scope="world")
    with pytest.raises(UsageError, match=r"method 'luck': expected one of magnitude"):
        prune(network, 0.5, method="luck")


def test_a_layer_that_would_be_emptied_is_an_error_and_nothing_changes() -> None:
    network: Any = nn.Sequential(nn.Linear(100, 100), nn.Linear(2, 2), nn.Linear(2, 2))
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(PruneError, match=r"layer '1' would lose all of its 4 weights at ratio 0.95 \(scope layer\)"):
        prune(network, 0.95, keep_output=False)
    spared = copy.deepcopy(network)
    prune(spared, 0.95, keep_output=False, allow_empty=True)
    assert layer_sparsity(spared) == {"0": 0.95, "1": 1.0, "2": 1.0}
    network[1].weight.data.fill_(1e-9)
    before["1.weight"].fill_(1e-9)
    with pytest.raises(PruneError, match=r"layer '1' would lose all .* \(scope global\)"):
        prune(network, 0.5, scope="global", keep_output=False)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_weights_that_cannot_be_ranked_or_held_are_refused() -> None:
    with pytest.raises(PruneError, match=r"layer 'body': 1024 of its magnitude scores are not finite"):
        prune(Fragile(), 0.5)
    masked = Tied()
    torch_prune.l1_unstructured(masked.first, "weight", 0.5)  # type: ignore[no-untyped-call]
    with pytest.raises(PruneError, match=r"layer 'first': its weight is computed from other tensors"):
        prune(masked, 0.5)
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    with pytest.raises(PruneError, match="computed from other tensors"):
        prune(nn.Sequential(normed, nn.Linear(4, 2)), 0.5)
    with pytest.raises(PruneError, match="no values yet"), torch.device("meta"):
        prune(Tied(), 0.5)
    with pytest.raises(PruneError, match="has no layer to prune"):
        prune(nn.Sequential(nn.ReLU(), nn.Linear(3, 3)), 0.5)


def test_ratio_zero_changes_nothing() -> None:
    network = Tied()
    before = copy.deepcopy(network.state_dict())
    assert prune(network, 0.0).sparsity == 0
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_the_public_names_work_on_any_module() -> None:
    model = nn.Sequential(nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 4))
    assert secateur.prune(model, 0.9).sparsity == pytest.approx(0.9)
    assert secateur.sparsity(model) == pytest.approx(0.9 * 1600 / 1760)
