"""Each score against an independent computation on a tiny network."""

from __future__ import annotations

import copy
import importlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samples import Tied, build
from secateur.errors import CallableError, PruneError, PruneWarning, UsageError
from secateur.modules.layers import weight_of, weighted_layers
from secateur.pruning.pruning import prune, zero_counts
from secateur.pruning.score import METHODS, Context, Scores, find_method, score


class Tiny(nn.Module):
    """A convolution in two groups and two linear layers, smooth so that differences of any order make sense."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2)
        self.norm = nn.BatchNorm2d(4)
        self.hidden = nn.Linear(16, 5)
        self.out = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.norm(self.conv(x)))
        return self.out(torch.tanh(self.hidden(x.flatten(1))))


IMAGES, LABELS = torch.randn(6, 2, 4, 4, generator=torch.Generator().manual_seed(3)).double(), torch.arange(6) % 3
BATCHES = [(IMAGES[:4], LABELS[:4]), (IMAGES[4:], LABELS[4:])]


@pytest.fixture
def network() -> Tiny:
    network = Tiny().double()
    moved = {"running_mean": torch.rand(4), "running_var": 0.5 + torch.rand(4)}
    network.norm.load_state_dict(network.norm.state_dict() | moved)
    return network


def context_of(network: nn.Module, batches: Any = BATCHES) -> Context:
    return Context(network, {name: weight_of(layer) for name, layer in weighted_layers(network).items()}, batches)


def loss_of(network: nn.Module, images: Tensor = IMAGES, labels: Tensor = LABELS, temperature: float = 1.0) -> float:
    with torch.no_grad():
        return float(F.cross_entropy(network.eval()(images) / temperature, labels))


def each_weight(network: nn.Module) -> Iterator[tuple[str, Tensor, int]]:
    for name, layer in weighted_layers(network).items():
        flat = weight_of(layer).view(-1)
        yield from ((name, flat, position) for position in range(len(flat)))


def differences(network: nn.Module, value: Any, step: float = 1e-5) -> dict[str, Tensor]:
    """The derivative of value() by every weight, by central differences."""
    found = {name: torch.zeros_like(weight_of(layer)) for name, layer in weighted_layers(network).items()}
    for name, flat, position in each_weight(network):
        before = float(flat[position])
        flat[position] = before + step
        high = value()
        flat[position] = before - step
        low = value()
        flat[position] = before
        found[name].view(-1)[position] = (high - low) / (2 * step)
    return found


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: weight_of(layer) for name, layer in weighted_layers(network).items()}


def assert_scores(scores: Scores, expected: Mapping[str, Tensor], rtol: float = 1e-4, atol: float = 1e-9) -> None:
    assert set(scores) == set(expected)
    for name, values in expected.items():
        torch.testing.assert_close(scores[name].double(), values, rtol=rtol, atol=atol, msg=name)


def test_gradients_and_first_order_taylor_are_those_of_finite_differences(network: Tiny) -> None:
    slopes = differences(network, lambda: loss_of(network))
    weights = weights_of(network)
    assert_scores(score("gradient", context_of(network)), {name: g.abs() for name, g in slopes.items()})
    expected = {name: (g * weights[name]).abs() for name, g in slopes.items()}
    assert_scores(score("taylor", context_of(network)), expected)
    whole = sum(float(values.sum()) for values in expected.values())
    assert_scores(score("snip", context_of(network)), {name: values / whole for name, values in expected.items()})


def test_first_order_taylor_foretells_what_removing_a_small_weight_costs(network: Tiny) -> None:
    network.hidden.weight.data[2, 3] = 1e-4
    dense = loss_of(network)
    predicted = float(score("taylor", context_of(network))["hidden"][2, 3])
    network.hidden.weight.data[2, 3] = 0
    assert abs(loss_of(network) - dense) == pytest.approx(predicted, rel=1e-3)


def test_squared_taylor_averages_over_batches_and_fisher_over_images(network: Tiny) -> None:
    weights = weights_of(network)
    by_batch = [differences(network, lambda b=batch: loss_of(network, *b)) for batch in BATCHES]
    expected = {
        name: (4 * (by_batch[0][name] * w) ** 2 + 2 * (by_batch[1][name] * w) ** 2) / 6 for name, w in weights.items()
    }
    assert_scores(score("taylor-squared", context_of(network)), expected)
    by_image = [
        differences(network, lambda n=n: loss_of(network, IMAGES[n : n + 1], LABELS[n : n + 1])) for n in range(6)
    ]
    fisher = {name: w**2 / 2 * sum(g[name] ** 2 for g in by_image) / 6 for name, w in weights.items()}
    assert_scores(score("fisher", context_of(network)), fisher)


def test_grasp_is_the_change_of_the_gradients_norm(network: Tiny) -> None:
    """Differences of differences: w · d(½‖g‖²)/dw, the loss at the paper's temperature."""

    def half_norm() -> float:
        parameters = list(context_of(network).parameters().values())
        loss = F.cross_entropy(network.eval()(IMAGES) / 200, LABELS)
        return sum(float(g.square().sum()) for g in torch.autograd.grad(loss, parameters)) / 2

    slopes = differences(network, half_norm, step=1e-4)
    expected = {name: slopes[name] * weight for name, weight in weights_of(network).items()}
    assert_scores(score("grasp", context_of(network)), expected, rtol=1e-3, atol=1e-13)
    assert min(float(values.min()) for values in expected.values()) < 0


def test_synflow_is_conserved_from_layer_to_layer_and_sums_paths() -> None:
    """Without biases each layer's scores add up to R, the sum over all paths of the product of |w| on it."""
    network: Any = nn.Sequential(
        nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 5, bias=False), nn.Linear(5, 2, bias=False)
    )
    first, second, third = (network[n].weight.detach().double().abs() for n in (0, 2, 3))
    scores = score("synflow", context_of(network, [(torch.randn(2, 3), torch.zeros(2))]))
    through = third.sum(0) @ second  # from each unit of the first layer to all outputs
    assert_scores(scores, {
        "0": first * through[:, None],
        "2": second * third.sum(0)[:, None] * first.sum(1)[None, :],
        "3": third * (second @ first.sum(1))[None, :],
    })  # fmt: skip
    whole = float((third @ second @ first).sum())
    assert [float(values.sum()) for values in scores.values()] == pytest.approx([whole] * 3)


def test_synflow_takes_tensors_that_are_no_buffers() -> None:
    class Mixing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.mix = nn.Linear(3, 3, bias=False), torch.full((3, 3), 2.0)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) @ self.mix

    network = Mixing()
    scores = score("synflow", context_of(network, [(torch.randn(2, 3), torch.zeros(2))]))
    assert_scores(scores, {"layer": 6 * network.layer.weight.detach().double().abs()})
    assert network.mix.dtype == torch.float32


def test_synflow_cuts_no_layer_off_where_one_round_would() -> None:
    network = nn.Sequential(nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10), nn.ReLU(), nn.Linear(10, 200))
    calibration = [(torch.zeros(1, 200), torch.zeros(1))]
    before = copy.deepcopy(network.state_dict())
    log = prune(network, 0.99, method="synflow", scope="global", calibration=calibration, keep_output=False)
    assert all(log.kept.values())
    assert log.sparsity == pytest.approx(0.99, abs=1e-4)
    assert all(bool(((value == 0) | (value == before[name])).all()) for name, value in network.state_dict().items())


def unfolded(network: Tiny) -> dict[str, Tensor]:
    """(groups, rows, columns) of what each layer is given, by loops and F.unfold."""
    network.eval()
    with torch.no_grad():
        hidden = torch.tanh(network.norm(network.conv(IMAGES))).flatten(1)
        patches = [
            F.unfold(IMAGES[:, g : g + 1], 3, padding=1, stride=2).transpose(1, 2).reshape(-1, 9) for g in (0, 1)
        ]
        return {"conv": torch.stack(patches), "hidden": hidden[None], "out": torch.tanh(network.hidden(hidden))[None]}


def test_wanda_multiplies_by_the_inputs_root_mean_square(network: Tiny) -> None:
    expected = {}
    for name, rows in unfolded(network).items():
        weight = weights_of(network)[name]
        norms = rows.square().mean(1).sqrt()
        grouped = weight.reshape(len(rows), -1, rows.shape[2]).abs() * norms[:, None]
        expected[name] = grouped.reshape(weight.shape)
    assert_scores(score("wanda", context_of(network)), expected)


def test_second_order_is_what_the_best_compensation_leaves(network: Tiny) -> None:
    """For each weight of the hidden layer: the least squares error with that weight at zero, damped alike."""
    weight = weights_of(network)["hidden"]
    rows = unfolded(network)["hidden"][0]
    hessian = rows.T @ rows / len(rows)
    hessian += 0.01 * hessian.diagonal().mean() * torch.eye(16).double()
    expected = torch.zeros_like(weight)
    for column in range(16):
        rest = [each for each in range(16) if each != column]
        moved = torch.linalg.solve(hessian[rest][:, rest], hessian[rest] @ weight.T).T
        change = -weight.clone()
        change[:, rest] += moved
        expected[:, column] = ((change @ hessian) * change).sum(1)
    others = {name: by_inverse(weights_of(network)[name], unfolded(network)[name]) for name in ("conv", "out")}
    assert_scores(score("second-order", context_of(network)), {"hidden": expected, **others})


def by_inverse(weight: Tensor, rows: Tensor) -> Tensor:
    hessian = rows.transpose(1, 2) @ rows / rows.shape[1]
    hessian += 0.01 * hessian.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] * torch.eye(rows.shape[2]).double()
    diagonal = torch.stack([torch.linalg.inv(each).diagonal() for each in hessian])
    return (weight.reshape(len(rows), -1, rows.shape[2]) ** 2 / diagonal[:, None]).reshape(weight.shape)


def test_second_order_does_not_depend_on_how_many_passes_memory_allows(
    network: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = score("second-order", context_of(network))
    monkeypatch.setattr(importlib.import_module("secateur.pruning.score.second_order"), "HESSIAN_BYTES", 1)
    monkeypatch.setattr("secateur.pruning.moments.ROWS_BYTES", 1)
    assert_scores(score("second-order", context_of(network)), dict(whole), rtol=1e-9)


def test_random_scores_follow_their_seed() -> None:
    network = build("lenet-5")
    same = [score("random", Context(network, weights_of(network), seed=seed))["fc1"] for seed in (1, 1, 2)]
    assert torch.equal(same[0], same[1])
    assert not torch.equal(same[0], same[2])
    assert float(same[0].mean()) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_scores_every_weight_and_leaves_the_network_as_it_was(method: str, network: Tiny) -> None:
    network.train()
    network.conv.weight.requires_grad_(False)
    before = copy.deepcopy(network.state_dict())
    scores = score(method, context_of(network))
    for name, weight in weights_of(network).items():
        assert scores[name].shape == weight.shape
        assert bool(torch.isfinite(scores[name]).all())
        assert float(scores[name].max()) > float(scores[name].min())
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not network.conv.weight.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_every_method_prunes_to_the_same_count_and_does_not_compound(method: str, network: Tiny) -> None:
    for ratio in (0.3, 0.5, 0.5):
        prune(network, ratio, method=method, scope="global", calibration=BATCHES, keep_output="out")
    assert sum(zero_counts(network).values()) == round(0.5 * (4 * 9 + 80))


@pytest.mark.parametrize("method", [name for name, each in METHODS.items() if each.needs_calibration])
def test_methods_that_need_calibration_say_so(method: str) -> None:
    with pytest.raises(
        UsageError, match=rf"method '{method}': no calibration batches: expected some batches of images"
    ):
        prune(build("lenet-5"), 0.5, method=method)


@pytest.mark.parametrize("method", [name for name, each in METHODS.items() if each.needs_calibration])
def test_calibration_without_batches_or_for_one_time_only_is_refused(method: str) -> None:
    network = build("lenet-5")
    batch = (torch.randn(4, 1, 28, 28), torch.arange(4))
    given: list[tuple[Any, str]] = [
        ([], "no calibration batches: expected some batches"),
        (iter([batch]), "calibration can be gone through only once, as a list_iterator: expected a list"),
        (batch, "calibration batch 1 is a Tensor: expected some batches"),
        (batch[0], "calibration Tensor: expected some batches"),
    ]
    for calibration, message in given:
        with pytest.raises(UsageError, match=message):
            prune(network, 0.5, method=method, calibration=calibration)
    assert sum(zero_counts(network).values()) == 0


class Attentive(nn.Module):
    """The output projection's weight is read without that layer being run; another layer is not used at all."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.unused, self.out = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.attention(x, x, x)[0].mean(1))


class Instead(Tied):
    """Of two modules with one weight only the second runs, called by keyword."""

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.second(input=x).relu())


@pytest.mark.parametrize("method", ["wanda", "second-order"])
def test_layers_are_heard_under_any_name_or_named(method: str) -> None:
    network, images = Instead(), torch.randn(20, 6)
    scores = score(method, context_of(network, [(images, LABELS)]))
    plain = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))
    plain.load_state_dict(dict(zip(plain.state_dict(), [network.first.weight, network.second.bias,
                                                        *network.out.state_dict().values()], strict=True)))  # fmt: skip
    assert_scores(scores, {"first": score(method, context_of(plain, [(images, LABELS)]))["0"].double(),
                           "out": score(method, context_of(plain, [(images, LABELS)]))["2"].double()})  # fmt: skip
    attentive, batches = Attentive(), [(torch.randn(3, 5, 8), LABELS[:3])]
    with pytest.raises(PruneError, match=r"layer 'unused': expected it to run on the calibration images"):
        prune(attentive, 0.5, method=method, calibration=batches)
    assert sum(zero_counts(attentive).values()) == 0
    log = prune(attentive, 0.5, method=method, calibration=batches, exclude=["unused"])
    assert log.kept == {"attention.in_proj_weight": 96, "attention.out_proj": 32}


def test_ones_own_method_is_named_by_module_and_callable() -> None:
    network = build("lenet-300-100")
    before = weight_of(network.fc1).abs()
    prune(network, 0.5, method="samples:largest_first")
    assert before[weight_of(network.fc1) == 0].min() >= before[weight_of(network.fc1) != 0].max()
    with pytest.raises(PruneError, match=r"layer 'fc1': expected a samples:wrong_shape score for each weight"):
        prune(network, 0.6, method="samples:wrong_shape")
    with pytest.raises(PruneError, match=r"method 'samples:no_scores': expected Scores, or a tensor .* got NoneType"):
        prune(network, 0.6, method="samples:no_scores")
    with pytest.raises(PruneError, match=r"samples:undefined scores are not finite.*; mend the method or exclude"):
        prune(network, 0.6, method="samples:undefined")
    with pytest.raises(PruneError, match=r"wanda scores are not finite.*; mend the network or its calibration images"):
        prune(network, 0.6, method="wanda", calibration=[(torch.full((2, 784), torch.nan), torch.arange(2))])
    unranked: Any = (sum, {"fc1": before})
    for method in unranked:
        with pytest.raises(UsageError, match=r"method (builtin_function_or_method|dict): expected a name, your own as"):
            prune(network, 0.6, method=method)
    with pytest.raises(CallableError, match="method 'nowhere:score': cannot be imported"):
        find_method("nowhere:score")


def test_layers_without_a_matrix_of_inputs_are_named() -> None:
    network = nn.Sequential(nn.Embedding(4, 2), nn.Flatten(), nn.Linear(8, 6), nn.Linear(6, 3))
    with pytest.raises(
        PruneError, match=r"layer '0.weight': expected a linear layer or a convolution .* got Embedding"
    ):
        prune(
            network, 0.5, method="wanda", include=["0"],
            calibration=[(torch.zeros(1, 4).long(), torch.zeros(1).long())],
        )  # fmt: skip


def test_scores_made_before_prune_as_their_method_does(network: Tiny) -> None:
    again = copy.deepcopy(network)
    chosen = {name: weight for name, weight in weights_of(again).items() if name != "out"}
    made = score("fisher", Context(again, chosen, BATCHES))
    prune(network, 0.5, method="fisher", scope="global", calibration=BATCHES, keep_output="out")
    prune(again, 0.5, method=made, scope="global", keep_output="out")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in network.state_dict().items())
    with pytest.raises(PruneError, match=r"layer 'hidden': expected a given score for each weight"):
        prune(again, 0.6, method=Scores({"conv": made["conv"]}), keep_output="out")


REGRESSION = [(torch.randn(8, 6, generator=torch.Generator().manual_seed(seed)), torch.randn(8, 1)) for seed in (1, 2)]


def regressor(outputs: int = 1) -> Any:
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, outputs))


@pytest.mark.parametrize("method", ["taylor", "taylor-squared", "gradient", "fisher", "snip", "grasp"])
def test_targets_that_do_not_fit_cross_entropy_are_refused_until_a_loss_is_given(method: str) -> None:
    for network, targets in (
        (regressor(), torch.randn(8, 1)), (regressor(3), torch.randn(8, 3)), (regressor(3), torch.full((8,), 3)),
        (regressor(), torch.zeros(8).long()), (regressor(3), torch.zeros(4).long()), (regressor(3), torch.ones(8)),
    ):  # fmt: skip
        with pytest.raises(
            UsageError,
            match=r"targets( do not fit cross-entropy: outputs .*; give the loss .* loss=|: expected one for each)",
        ):
            prune(network, 0.5, method=method, calibration=[(REGRESSION[0][0], targets)])
        assert sum(zero_counts(network).values()) == 0
    network = regressor()
    prune(network, 0.5, method=method, calibration=REGRESSION, loss=F.mse_loss)
    rows = (weight_of(network[0]) == 0).sum(1)
    assert zero_counts(network)["0"] == 48
    assert len(set(rows.tolist())) > 2, "the first weights went"


def test_the_loss_given_is_the_one_whose_gradients_score() -> None:
    network = regressor()
    scores = score("taylor", Context(network, weights_of(network), REGRESSION, F.mse_loss))
    total = torch.cat([network(x) - y for x, y in REGRESSION]).square().mean()
    for name, layer in weighted_layers(network).items():
        (gradient,) = torch.autograd.grad(total, network.get_parameter(layer.path), retain_graph=True)
        torch.testing.assert_close(scores[name], (gradient * weight_of(layer)).abs())


def test_soft_labels_small_integers_and_several_outputs_are_taken() -> None:
    x = torch.randn(8, 6)
    soft = torch.rand(8, 3).softmax(1)
    for targets in (soft, (torch.arange(8) % 3).to(torch.uint8), torch.tensor([0, 1, 2, -100] * 2), np.arange(8) % 3):
        assert prune(regressor(3), 0.5, method="taylor", calibration=[(x, targets)]).sparsity == 0.5

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.one, self.two = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(8, 1)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            x = self.body(x).relu()
            return {"class": self.one(x), "size": self.two(x)}

    def loss(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(found["class"], wanted["class"]) + F.mse_loss(found["size"], wanted["size"])

    wanted = {"class": torch.arange(8) % 3, "size": torch.randn(8, 1)}
    for method in ("taylor", "fisher", "grasp", "synflow"):
        assert prune(Both(), 0.5, method=method, calibration=[(x, wanted)], loss=loss).kept == {"body": 24}
    with pytest.raises(UsageError, match="the network gives a dict, no tensor of logits; give the loss"):
        prune(Both(), 0.5, method="taylor", calibration=[(x, wanted["class"])])


def test_a_loss_that_fails_or_says_nothing_is_refused_in_one_line() -> None:
    cases: list[tuple[Any, type[Exception], str]] = [
        (
            lambda found, _: found,
            UsageError,
            r"loss: expected the mean over a batch, a tensor of one number, got shape",
        ),
        (
            lambda found, _: found.no_such,
            UsageError,
            r"loss fails on the calibration batch: .*no_such.*; give the loss",
        ),
        (lambda found, _: found.detach().sum(), UsageError, r"loss: does not depend on the network's weights"),
        (
            lambda found, _: found.sum() * 0,
            PruneError,
            r"in every layer all weights have one and the same score.*loss=",
        ),
    ]
    for loss, kind, message in cases:
        network = regressor()
        with pytest.raises(kind, match=message):
            prune(network, 0.5, method="taylor", calibration=REGRESSION, loss=loss)
        assert sum(zero_counts(network).values()) == 0


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.attention, self.out = (
            nn.Linear(4, 8),
            nn.MultiheadAttention(8, 2, batch_first=True),
            nn.Linear(8, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        return self.out(self.attention(x, x, x, need_weights=False)[0].mean(1))


def test_second_derivatives_go_through_attention_and_are_refused_where_pytorch_has_none() -> None:
    calibration = [(torch.randn(6, 5, 4), torch.arange(6) % 3)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PruneWarning)
        log = prune(Attending(), 0.5, method="grasp", calibration=calibration)
    assert log.kept["enter"] == 16
    hard = nn.Sequential(nn.Linear(4, 8), nn.Hardsigmoid(), nn.Linear(8, 3))
    with pytest.raises(PruneError, match=r"cannot be worked out: derivative for .*hardsigmoid.*; take another method$"):
        prune(hard, 0.5, method="grasp", calibration=[(torch.randn(6, 4), torch.arange(6) % 3)])
