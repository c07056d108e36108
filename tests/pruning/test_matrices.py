"""Layers whose module holds several matrices, or one that lies otherwise: pruned, counted and repaired as any."""

from __future__ import annotations

import copy
import dataclasses
import sys
import types
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

import secateur
from secateur.errors import PruneError, PruneWarning, UsageError
from secateur.modules.heads import output_layers
from secateur.modules.layers import weight_of, weighted_layers
from secateur.pruning.score import METHODS


class Tagger(nn.Module):
    """Words, looked up, through an LSTM and attention, to tags; the last layer's weight may be the table."""

    def __init__(self, tied: bool = False) -> None:
        super().__init__()
        self.words, self.rnn = nn.Embedding(12, 8), nn.LSTM(8, 8, batch_first=True)
        self.attention = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.mix, self.out = nn.Parameter(torch.randn(8, 8)), nn.Linear(8, 12, bias=False)
        if tied:
            self.out.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.attention(self.rnn(self.words(x))[0])
        given: Tensor = self.out(x @ self.mix)
        return given.transpose(1, 2)


X = torch.arange(60).view(12, 5) % 12
BATCHES = [(X, X)]
INNER = {
    "rnn.weight_ih_l0", "rnn.weight_hh_l0", "attention.self_attn.in_proj_weight", "attention.self_attn.out_proj",
    "attention.linear1", "attention.linear2",
}  # fmt: skip
LEFT = "ignore::secateur.errors.PruneWarning"


@pytest.mark.filterwarnings(LEFT)
def test_every_matrix_loses_what_pytorch_would_take() -> None:
    network = Tagger().eval()
    dense = copy.deepcopy(network)
    assert set(secateur.prune(network, 0.8, example=X).total) == INNER
    for name, layer in weighted_layers(network).items():
        module, parameter = dense.get_submodule(layer.path.rpartition(".")[0]), layer.parameter
        if name in INNER:
            kept = torch_prune.L1Unstructured(0.8)
            mask = kept.compute_mask(getattr(module, parameter), torch.ones_like(layer.weight))  # type: ignore[no-untyped-call]
            assert torch.equal(layer.weight != 0, mask.bool()), name
    for name in INNER:
        secateur.prune(dense, {name: 0.8}, keep_output=False)
    assert torch.equal(network(X), dense(X))  # also on the paths that fuse a whole layer
    with torch.no_grad():
        torch.testing.assert_close(network(X), dense.train(False)(X))


@pytest.mark.filterwarnings(LEFT)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_scores_them(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    few = dataclasses.replace(METHODS[method], rounds=min(4, METHODS[method].rounds))
    monkeypatch.setitem(METHODS, method, few)
    network = Tagger()
    log = secateur.prune(network, 0.5, method=method, calibration=[(X[:4], X[:4])], include=["mix"])
    assert set(log.total) == INNER | {"mix"}
    assert all(log.kept[name] == log.total[name] // 2 for name in log.total)


@pytest.mark.filterwarnings(LEFT)
def test_wanda_weighs_a_recurrent_matrix_by_the_hidden_states() -> None:
    network = nn.Sequential(nn.GRU(4, 4), Last(), nn.Linear(4, 2))
    x = torch.randn(6, 3, 4)
    hidden = torch.cat([torch.zeros(1, 3, 4), network[0](x)[0].detach()[:-1]])
    expected = (
        weight_of(weighted_layers(network)["0.weight_hh_l0"]).abs() * hidden.flatten(0, 1).square().mean(0).sqrt()
    )
    secateur.prune(network, 0.5, method="wanda", calibration=[(x, torch.zeros(3).long())])
    zeros = weighted_layers(network)["0.weight_hh_l0"].weight == 0
    assert expected[zeros].max() <= expected[~zeros].min()


class Last(nn.Module):
    def forward(self, given: tuple[Tensor, Tensor]) -> Tensor:
        return given[0][-1]


@pytest.mark.filterwarnings(LEFT)
@pytest.mark.parametrize("how", ["moments", "reconstruct", "joint"])
def test_repair_brings_them_nearer_to_the_dense_network_and_keeps_their_zeros(how: str) -> None:
    torch.manual_seed(0)
    network = Tagger().eval()
    dense = copy.deepcopy(network)
    secateur.prune(network, 0.6, example=X, include=["mix"])
    before, zeros = (network(X) - dense(X)).square().mean(), secateur.layer_sparsity(network, include=["mix"])
    held = {name: parameter == 0 for name, parameter in network.named_parameters()}
    secateur.repair(network, how, BATCHES, dense=dense, include=["mix"])
    assert (network(X) - dense(X)).square().mean() < (0.9 if how == "moments" else 0.7) * before
    assert secateur.layer_sparsity(network, include=["mix"]) == zeros
    if how != "joint":
        assert all(bool((each[held[name]] == 0).all()) for name, each in network.named_parameters() if each.dim() > 1)


@pytest.mark.parametrize("layer", ["rnn.weight_ih_l0", "attention.self_attn.in_proj_weight"])
@pytest.mark.filterwarnings(LEFT)
def test_a_matrix_that_lost_nothing_is_refitted_to_what_it_was(layer: str) -> None:
    """Where nothing in front of it changed, least squares find the dense weights again."""
    network = Tagger().eval()
    dense = copy.deepcopy(network)
    with torch.no_grad():
        weighted_layers(network)[layer].weight.mul_(0.5)
    secateur.repair(network, "reconstruct", BATCHES, dense=dense)
    torch.testing.assert_close(network(X), dense(X), atol=2e-2, rtol=0)


@pytest.mark.filterwarnings(LEFT)
def test_an_embedding_is_pruned_when_it_is_named() -> None:
    network = Tagger()
    with pytest.warns(PruneWarning, match=r"left dense: mix \(Tagger\), words.weight \(Embedding\), .*% of the param"):
        assert "words.weight" in secateur.prune(network, 0.5, example=X).left
    log = secateur.prune(network, 0.5, example=X, include=["words", "mix"])
    assert (log.kept["words.weight"], log.left, log.left_share) == (48, {}, 0)
    assert secateur.sparsity(network, include=["words", "mix"]) == pytest.approx(0.5 * (1 - 96 / total(network)))
    assert secateur.prune(Tagger(), {"words.weight": 0.25}, example=X).kept["words.weight"] == 72
    with pytest.raises(UsageError, match=r"include 'nope' matches no layer: expected one of mix, words.weight, rnn"):
        secateur.prune(network, 0.5, example=X, include=["nope"])


def total(network: nn.Module) -> int:
    return sum(each.numel() for each in network.parameters() if each.dim() > 1)


@pytest.mark.filterwarnings(LEFT)
def test_a_table_tied_to_the_output_layer_is_counted_once_and_goes_with_it() -> None:
    network = Tagger(tied=True)
    assert "out" not in secateur.prune(network, 0.5, example=X, include=["words"]).total
    assert not (network.words.weight == 0).any()
    assert secateur.prune(network, 0.5, example=X, keep_output=False).kept["out"] == 48
    assert "words.weight" not in secateur.layer_sparsity(network, include=["words"])
    assert not secateur.prune(Tagger(tied=True), 0.5, exclude=["words"], keep_output=False).kept.get("out")


def test_a_recurrent_layer_that_gives_the_outputs_stays_whole() -> None:
    network = nn.LSTM(4, 4, 2, bidirectional=True)
    last = {f"weight_{of}_l1{end}" for of in ("ih", "hh") for end in ("", "_reverse")}
    assert set(output_layers(network, torch.zeros(3, 2, 4))) == set(output_layers(network)) == last
    log = secateur.prune(network, 0.5, example=torch.zeros(3, 2, 4))
    assert set(log.total) == {each.replace("l1", "l0") for each in last}


@pytest.mark.filterwarnings(LEFT)
def test_zeros_of_any_matrix_stay_while_it_learns() -> None:
    network = Tagger()
    secateur.prune(network, 0.7, example=X, include=["words", "mix"])
    zeros = {name: each == 0 for name, each in network.named_parameters() if each.dim() > 1}
    optimizer = torch.optim.AdamW(network.parameters(), 0.1)
    with secateur.frozen_zeros(network, optimizer, include=["words", "mix"]):
        for _ in range(2):
            nn.functional.cross_entropy(network(X), X).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    assert all(bool((each == 0)[zeros[name]].all()) for name, each in network.named_parameters() if name in zeros)


def conv1d(monkeypatch: pytest.MonkeyPatch) -> type[nn.Module]:
    """What transformers has of that name: a linear layer whose weight is (inputs, outputs)."""

    class Conv1D(nn.Module):
        def __init__(self, nf: int, nx: int) -> None:
            super().__init__()
            self.nf, self.nx = nf, nx
            self.weight, self.bias = nn.Parameter(torch.randn(nx, nf)), nn.Parameter(torch.randn(nf))

        def forward(self, x: Tensor) -> Tensor:
            size_out = (*x.shape[:-1], self.nf)
            return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(size_out)

    module: Any = types.ModuleType("transformers.pytorch_utils")
    module.Conv1D = Conv1D
    monkeypatch.setitem(sys.modules, "transformers.pytorch_utils", module)
    return Conv1D


@pytest.mark.parametrize("options", [
    {"pattern": "1x4"}, {"pattern": "2:4"}, {"pattern": "filter-l1"}, {"method": "wanda"}, {"method": "second-order"},
    {"scope": "erk"},
], ids=str)  # fmt: skip
def test_a_linear_layer_that_lies_the_other_way_is_pruned_and_repaired_as_one(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = conv1d(monkeypatch)
    other = nn.Sequential(kind(16, 8), nn.GELU(), kind(8, 16), nn.Linear(8, 3))
    plain = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8), copy.deepcopy(other[3]))
    for mine, its in ((plain[0], other[0]), (plain[2], other[2])):
        mine.load_state_dict({"weight": its.weight.t(), "bias": its.bias})  # type: ignore[operator]
    dense, x = (copy.deepcopy(other), copy.deepcopy(plain)), torch.randn(40, 8)
    given: dict[str, Any] = {"calibration": [(x, torch.zeros(40).long())], "example": x, **options}
    assert secateur.prune(other, 0.5, **given) == secateur.prune(plain, 0.5, **given)
    torch.testing.assert_close(other(x), plain(x))
    for network, original in zip((other, plain), dense, strict=True):
        secateur.repair(network, "reconstruct", given["calibration"], dense=original)
    torch.testing.assert_close(other(x), plain(x), atol=1e-4, rtol=1e-4)


def test_channels_of_a_linear_layer_that_lies_the_other_way_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = conv1d(monkeypatch)
    network, x = nn.Sequential(kind(16, 8), nn.GELU(), kind(12, 16), nn.Linear(12, 3)), torch.randn(40, 8)
    secateur.prune(network, 0.5, pattern="channel-l2", example=x)
    with torch.no_grad():
        network[0].bias[:2], network[0].weight[:, :2] = 1.0, 0.0  # type: ignore[operator]
    small = secateur.shrink(network, x)
    widths = [tuple(layer.weight.shape) for layer in weighted_layers(small).values()]
    assert widths[0][1] == widths[1][0] < 16 > widths[1][1] == widths[2][1] < 12
    assert small(x).shape == (40, 3)
    torch.testing.assert_close(small(x), network(x), atol=1e-5, rtol=1e-4)


@pytest.mark.filterwarnings(LEFT)
def test_patterns_run_along_what_a_row_of_a_recurrent_matrix_and_a_bare_one_reads() -> None:
    network = Tagger()
    secateur.prune(network, 0.5, pattern="1x4", example=X, include=["mix"])
    layers = weighted_layers(network, ["mix"])
    for name, values in ((name, each.weight) for name, each in layers.items() if name != "out"):
        rows = values.t() if name == "mix" else values  # x @ mix
        blocks = (rows.reshape(-1, 4) == 0).sum(1)
        assert set(blocks.tolist()) == {0, 4}, name
    with pytest.raises(
        PruneError, match=r"layer 'mix': its inputs may lie along either axis .*: expected pattern unst"
    ):
        secateur.prune(Tagger(), 0.5, pattern="2:4", include=["mix"], keep_output="out")
    with pytest.raises(PruneError, match=r"layer 'words.weight': expected a layer with filters .*leave it out"):
        secateur.prune(Tagger(), 0.5, pattern="filter-l2", include=["words"], keep_output="out")


def test_recurrent_layers_whose_weights_are_computed_are_refused_or_said() -> None:
    masked = Tagger()
    torch_prune.l1_unstructured(masked.rnn, "weight_hh_l0", 0.5)  # type: ignore[no-untyped-call]
    with pytest.raises(PruneError, match=r"layer 'rnn.weight_hh_l0': its weight is computed .*; remove that first"):
        secateur.prune(masked, 0.5, keep_output="out")
    normed = Tagger()
    nn.utils.parametrizations.spectral_norm(normed.rnn, "weight_hh_l0")
    with pytest.warns(PruneWarning, match=r"rnn.weight_hh_l0 \(its weight is computed from other tensors\)"):
        assert "rnn.weight_hh_l0" not in secateur.prune(normed, 0.5, keep_output="out").total


@pytest.mark.filterwarnings(LEFT)
def test_a_network_with_recurrent_layers_and_attention_is_shrunk_around_them() -> None:
    network = Tagger().eval()
    with torch.no_grad():
        network.attention.linear1.weight[:6] = 0
        network.attention.linear1.bias[:6] = 0
    small = secateur.shrink(network, X)
    assert small.attention.linear1.out_features == 10  # type: ignore[union-attr]
    torch.testing.assert_close(small(X), network(X))
