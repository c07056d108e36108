from __future__ import annotations

import copy
import warnings
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

import secateur
from networks import make_network
from samples import Backwards, Fragile, Tied, build
from secateur.errors import PruneError, PruneWarning, UsageError
from secateur.modules.candidates import scored_layers
from secateur.modules.heads import output_layers
from secateur.modules.layers import norm_layers, weight_of, weighted_layers
from secateur.pruning.pruning import layer_sparsity, prune, sparsity, zero_counts
from secateur.records.spec import PAPER_RATIOS


def same_cut(weight: Tensor, ours: Tensor, mask: Tensor) -> bool:
    """Our zeroed set equals PyTorch's but for weights tied at the threshold, and has its size."""
    zeroed, theirs = ours == 0, weight * mask == 0
    if int(zeroed.sum()) != int(theirs.sum()):
        return False
    magnitudes = weight.abs()
    threshold = magnitudes[theirs].max() if theirs.any() else 0
    return bool((magnitudes[zeroed != theirs] == threshold).all())


@pytest.mark.parametrize("name", ["lenet-300-100", "lenet-5", "resnet-18", "slim-resnet-50-cifar"])
def test_the_zeroed_sets_are_those_of_pytorch_at_the_papers_ratios(name: str) -> None:
    network = make_network(name, seed=5)
    weights = {layer: weight_of(module).clone() for layer, module in weighted_layers(network).items()}
    (output,) = output_layers(network)
    assert output in ("fc", "fc2", "fc3")
    order = {layer: weight.abs().flatten().argsort() for layer, weight in weights.items()}
    for ratio in PAPER_RATIOS if name.startswith("lenet") else (0.5, 0.99):  # millions to sort
        prune(network, ratio)
        for layer, module in weighted_layers(network).items():
            mask = torch.ones_like(weights[layer]).flatten()
            mask[order[layer][: 0 if layer == output else round(ratio * mask.numel())]] = 0
            if ratio == PAPER_RATIOS[-1]:  # PyTorch's own hand; the others are sorted once for all
                amount = 0 if layer == output else ratio
                mask = torch_prune.L1Unstructured(amount).compute_mask(weights[layer], torch.ones_like(weights[layer]))  # type: ignore[no-untyped-call]
            assert same_cut(weights[layer], weight_of(module), mask.view_as(weights[layer])), (layer, ratio)
            weight_of(module).copy_(weights[layer])


@settings(max_examples=30, deadline=None)
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
    network = make_network("slim-resnet-18")
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
    network: Any = make_network("slim-resnet-18-cifar")
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
    network = make_network("slim-resnet-18-cifar")
    log = prune(network, 0.9, exclude=["conv1", "layer1.*", "layer2.0.conv1.weight"])
    pruned = {name for name, share in layer_sparsity(network).items() if share > 0}
    assert pruned == set(log.kept)
    assert not {name for name in pruned if name == "conv1" or name.startswith("layer1.")}
    assert "layer2.0.conv1" not in pruned
    assert "layer2.0.conv2" in pruned
    assert "conv1" not in prune(build("lenet-5"), 0.5, exclude="conv1").kept


@pytest.mark.parametrize("ratio", [1.0, -0.1, float("nan"), 90, True, None, "0.5", torch.full((2,), 0.5), {"": "half"}])
def test_ratios_outside_the_range_are_refused(ratio: Any) -> None:
    with pytest.raises(UsageError, match=r"expected in \[0, 1\)"):
        prune(nn.Linear(2, 2), ratio)


def test_unknown_names_are_refused_with_the_choices() -> None:
    network = build("lenet-5")
    with pytest.raises(UsageError, match=r"exclude 'conv9' matches no layer: expected one of conv1, conv2"):
        prune(network, 0.5, exclude=["conv9"])
    with pytest.raises(UsageError, match=r"include 'nope' matches no layer"):
        prune(network, 0.5, include="nope")
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
    spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4))
    with pytest.raises(PruneError, match=r"has no layer to prune.* left dense \(0: its weight is computed from other"):
        prune(nn.Sequential(spectral, nn.Linear(4, 2)), 0.5)
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


NUMBERS = (
    np.float32(0.7), np.float64(0.7), np.float16(0.7), Fraction(7, 10), Decimal("0.7"), torch.tensor(0.7),
    torch.tensor(0.7, dtype=torch.float64), np.array(0.7),
)  # fmt: skip


@pytest.mark.parametrize("ratio", NUMBERS, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("pattern", ["unstructured", "filter-l2", "channel-l2", "1x2"])
def test_a_ratio_of_any_kind_of_number_is_the_ratio_that_it_is_written_as(ratio: Any, scope: str, pattern: str) -> None:
    plain, other = Backwards(), Backwards()
    other.load_state_dict(plain.state_dict())
    given: dict[str, Any] = {"scope": scope, "pattern": pattern, "example": torch.zeros(2, 1, 9, 9)}
    assert prune(other, ratio, **given) == prune(plain, 0.7, **given)
    assert all(torch.equal(one, two) for one, two in zip(plain.parameters(), other.parameters(), strict=True))


def test_every_layer_may_have_a_pattern_of_its_own_beside_its_ratio() -> None:
    network = nn.Sequential(
        nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 8), nn.Linear(8, 2)
    )
    alone = [copy.deepcopy(network) for _ in range(3)]
    ratios, patterns = {"0": 0.5, "2": 0.75, "4": 0.5}, {"2": "1x4", "4": "2:4"}
    prune(network, ratios, pattern=patterns)
    for each, (name, ratio) in zip(alone, ratios.items(), strict=True):
        prune(each, {name: ratio}, pattern=patterns.get(name, "unstructured"))
        assert torch.equal(weight_of(network.get_submodule(name)), weight_of(each.get_submodule(name)))
    blocks = (weight_of(network.get_submodule("2")) != 0).view(16, 4, 4).sum(2)
    assert set(blocks.flatten().tolist()) == {0, 4}
    assert bool(((weight_of(network.get_submodule("0")) != 0).view(16, 2, 4).sum(2) % 4).any())


@pytest.mark.parametrize(
    ("ratio", "pattern", "message"),
    [
        (0.5, {"0": "1x4"}, "patterns by layer: expected a ratio for each layer too"),
        ({"0": 0.5}, {"2": "1x4"}, "pattern of '2': expected the name of a layer with a ratio, one of 0"),
        ({"0": 0.5}, {"0": "channel-l2"}, "pattern channel-l2 of '0': whole sets go in all layers alike"),
        ({"0": 0.3}, {"0": "2:4"}, "ratio 0.3 with pattern 2:4: expected 0, or at least the 0.5"),
        ({"0": 0.5}, {"0": "blocky"}, "pattern 'blocky': expected unstructured, blocks"),
        ({}, {"0": "1x4"}, "patterns by layer: expected a ratio for each of them too, got none"),
        ({"0": 0.5}, {"0": None}, "pattern {'0': None}: expected a text such as 1x4, or one for each layer"),
        (0.5, None, "pattern None: expected a text"),
        (0.5, ["1x4"], r"pattern \['1x4'\]: expected a text"),
        (0.5, 4, "pattern 4: expected a text"),
    ],
)
def test_patterns_by_layer_that_make_no_sense_are_refused_and_nothing_changes(
    ratio: Any, pattern: Any, message: str
) -> None:
    network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    with pytest.raises(UsageError, match=message):
        prune(network, ratio, pattern=pattern)
    assert sparsity(network) == 0


def test_ratios_by_layer_are_numbers_of_any_kind_and_none_is_one_too() -> None:
    network = Backwards()
    log = prune(network, {"body": np.float32(0.5), "again": np.int64(0)})
    assert (log.kept["body"], log.kept["again"]) == (36, 64)
    wrong: Any
    for wrong in (np.float32(1), np.bool_(True), Fraction(3, 2), torch.tensor(float("nan")), 0.5j):
        with pytest.raises(UsageError, match=r"expected in \[0, 1\)"):
            prune(network, wrong)


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.rnn = nn.Embedding(9, 8), nn.GRU(8, 8, batch_first=True)
        self.cell, self.attention = nn.LSTMCell(8, 8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.pair, self.mix = nn.Bilinear(8, 8, 8), nn.Parameter(torch.randn(8, 8))
        self.norm, self.scale, self.start = nn.LayerNorm((5, 8)), nn.Parameter(torch.ones(8)), nn.Parameter(
            torch.ones(1, 1, 8))  # fmt: skip
        self.hidden, self.out = nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.rnn(self.words(x) + self.start)[0]
        x = self.norm(self.attention(x, x, x)[0] * self.scale)[:, -1]
        x = self.pair(x, self.cell(x)[0]) @ self.mix
        return self.out(self.hidden(x).relu())


COUNTED = {
    "rnn.weight_ih_l0", "rnn.weight_hh_l0", "cell.weight_ih", "cell.weight_hh", "attention.in_proj_weight",
    "attention.out_proj", "pair", "hidden",
}  # fmt: skip
UNCOUNTED = {"mix": "Tagger", "words.weight": "Embedding"}


def test_matrices_that_are_neither_pruned_nor_counted_are_said() -> None:
    network, x = Tagger(), torch.zeros(2, 5).long()
    share = (64 + 72) / sum(each.numel() for each in network.parameters())
    left = rf"mix \(Tagger\), words.weight \(Embedding\), {share:.1%} of the parameters$"
    with pytest.warns(PruneWarning, match=rf"^Tagger: left dense: {left}"):
        log = prune(network, 0.5, example=x)
    assert log.left == UNCOUNTED
    assert log.left_share == pytest.approx(share)
    assert set(log.total) == COUNTED
    for measure in (sparsity, layer_sparsity):
        with pytest.warns(PruneWarning, match=rf"neither pruned nor counted: {left}"):
            measure(network)
    assert not prune(network, 0.6, example=x, exclude=["mix", "words"]).left  # what was excluded goes without saying
    whole = prune(network, 0.6, example=x, exclude=["mix", "words", "rnn.*", "attention.in_proj*"])
    assert set(whole.total) == COUNTED - {"rnn.weight_ih_l0", "rnn.weight_hh_l0", "attention.in_proj_weight"}


class Standardised(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return nn.functional.conv2d(input, weight / weight.std((1, 2, 3), keepdim=True), self.bias)


class Scaled(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return nn.functional.conv2d(input, self.weight * 0.1, self.bias)


class Outside(nn.Module):
    """Standardises a plain layer's weight itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.other, self.out = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.conv.weight - self.conv.weight.mean((1, 2, 3), keepdim=True)
        return self.out(self.other(nn.functional.conv2d(x, weight).relu()).mean((2, 3)))


def test_zeros_that_a_forward_undoes_are_said_and_not_counted() -> None:
    network = nn.Sequential(Standardised(3, 4, 3), Scaled(4, 4, 3), nn.Flatten(), nn.Linear(64, 2))
    with pytest.warns(PruneWarning, match=r"^Sequential: zeros that do not last, .*: 0$"):
        log = prune(network, 0.5)
    assert log.undone == ("0",)
    assert layer_sparsity(network) == {"0": 0, "1": 0.5, "3": 0}
    assert sparsity(network) == pytest.approx(72 / (108 + 144 + 128))
    with pytest.warns(PruneWarning, match="do not last"):
        assert prune(Outside(), 0.5, example=torch.ones(2, 3, 5, 5)).undone == ("conv",)


@pytest.mark.parametrize("method", ["magnitude", "random", "taylor", "wanda", "synflow"])
def test_a_lone_layer_and_one_without_outputs_are_pruned_as_any(method: str) -> None:
    layer = nn.Linear(8, 4)
    calibration = [(torch.randn(6, 8), torch.arange(6) % 4)]
    with pytest.raises(PruneError, match=r"Linear has no layer to prune: .* the output layer \(the network itself\)"):
        prune(layer, 0.5, method=method, calibration=calibration)
    assert prune(layer, 0.5, method=method, keep_output=False, calibration=calibration).kept == {"": 16}
    assert layer_sparsity(layer) == {"": 0.5}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, of initialising nothing
        network = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 0))
        assert prune(network, 0.5, keep_output=False).kept == {"0": 12}  # a layer without a weight is none
        assert sparsity(network) == 0.5


def test_a_lazy_network_gets_its_weights_from_the_example_and_is_pruned() -> None:
    network: Any = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(2))
    with pytest.raises(PruneError, match=r"parameter '0.weight' has no values yet; run or load the network first"):
        prune(network, 0.5)
    assert prune(network, 0.5, example=np.zeros((2, 6), np.float32)).kept == {"0": 24}
    network(torch.ones(2, 6)).sum().backward()


def test_what_cannot_be_written_into_is_refused_in_one_line() -> None:
    plain: Any = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is deprecated
        scripted = torch.jit.trace(plain, torch.ones(2, 4))  # type: ignore[no-untyped-call]
    with torch.inference_mode():
        inferred = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    sparse = copy.deepcopy(plain)
    sparse[0].weight = nn.Parameter(sparse[0].weight.detach().to_sparse())
    refused: list[tuple[nn.Module, str]] = [
        (scripted, "is a ScriptModule"),
        (inferred, "parameter '0.weight' was made in inference mode"),
        (sparse, "parameter '0.weight' is sparse"),
        (nn.Linear(2, 2, device="meta"), "parameter 'weight' has no values yet"),
    ]
    for network, message in refused:
        for act in (lambda network: prune(network, 0.5, keep_output=False), sparsity, layer_sparsity):
            with pytest.raises(PruneError, match=message):
                act(network)


def test_inputs_of_any_form_show_the_order_and_score() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out, self.a, self.b = nn.Linear(8, 2), nn.Linear(6, 8), nn.Linear(4, 8)

        def forward(self, x: Tensor, z: Tensor) -> Tensor:
            return self.out((self.a(x) + self.b(z)).relu())

    x, z = torch.randn(3, 6), torch.randn(3, 4)
    forms: list[Any] = [(x, z), [x.numpy(), z], {"z": z, "x": x.numpy()}]
    for form in forms:
        assert set(prune(Two(), 0.5, example=form).total) == {"a", "b"}
        for method in ("taylor", "fisher", "grasp", "synflow", "wanda", "second-order"):
            log = prune(Two(), 0.5, method=method, calibration=[(form, np.array([0, 1, 1]))])
            assert log.sparsity == 0.5, method
    empty: Any
    for empty in ((x[:0], z[:0]), {}, np.zeros((0, 6))):
        with pytest.raises(UsageError, match="example"):
            prune(Two(), 0.5, example=empty)
