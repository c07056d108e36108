"""Pruning through weight normalisation, against PyTorch's own cut of the weight that it gives."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from secateur.modules.guarding import copied
from secateur.modules.layers import weight_of
from secateur.pruning.freezing import frozen_zeros
from secateur.pruning.pruning import prune, sparsity, zero_counts
from secateur.pruning.repairing import repair

INPUTS = torch.randn(16, 4, 9, generator=torch.Generator().manual_seed(3))
LABELS = torch.arange(16) % 3


def older(layer: nn.Module, dim: Any = 0) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is the older form
        return nn.utils.weight_norm(layer, dim=dim)


def newer(layer: nn.Module, dim: Any = 0) -> nn.Module:
    return nn.utils.parametrizations.weight_norm(layer, dim=dim)


FORMS: list[Callable[[nn.Module], nn.Module]] = [
    older, newer, lambda layer: newer(layer, 2), lambda layer: older(layer, None),
]  # fmt: skip


def network(form: Callable[[nn.Module], nn.Module]) -> Any:
    """As speech models have it: one normalised convolution among plain layers."""
    return nn.Sequential(
        nn.Conv1d(4, 6, 3), nn.GELU(), form(nn.Conv1d(6, 6, 3, groups=2)), nn.GELU(), nn.Flatten(), nn.Linear(30, 3)
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", ["magnitude", "taylor", "second-order"])
def test_a_weight_is_cut_through_its_normalisation_and_the_others_stay(form: Any, method: str) -> None:
    net = network(form)
    names, ids = list(net.state_dict()), [id(each) for each in net.parameters()]
    plain: Any = copied(net)
    dense = weight_of(plain[2]).clone()
    log = prune(net, 0.5, method=method, calibration=[(INPUTS, LABELS)])
    assert log.left == {}
    assert log.kept["2"] == 27
    net(INPUTS).sum().backward()
    assert (list(net.state_dict()), [id(each) for each in net.parameters()]) == (names, ids)
    weight = net[2].weight.detach()
    assert sparsity(net) == pytest.approx((36 + 27) / (72 + 54 + 90))
    torch.testing.assert_close(weight, dense.where(weight != 0, torch.zeros(())))
    if method == "magnitude":
        mask = torch_prune.L1Unstructured(0.5).compute_mask(dense, torch.ones_like(dense))  # type: ignore[no-untyped-call]
        assert torch.equal(weight != 0, mask != 0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("pattern", ["filter-l1", "channel-l2", "2x1"])
def test_whole_rows_go_and_zeros_last_while_the_network_learns(form: Any, pattern: str) -> None:
    net = network(form)
    prune(net, 0.4, pattern=pattern, example=INPUTS)
    zeros = {name: weight_of(net.get_submodule(name)) == 0 for name in zero_counts(net)}
    optimizer = torch.optim.AdamW(net.parameters(), 0.01)
    with frozen_zeros(net, optimizer):
        for _ in range(3):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(INPUTS), LABELS).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    for name, where in zeros.items():
        weight = weight_of(net.get_submodule(name))
        assert bool(torch.isfinite(weight).all())
        assert not bool(weight[where].any())


@pytest.mark.parametrize("form", [older, newer])
@pytest.mark.parametrize("how", ["reconstruct", "joint", "moments"])
def test_repairs_go_through_it(form: Any, how: str) -> None:
    dense = network(form).eval()
    net = copied(dense)
    prune(net, 0.6)
    kept = zero_counts(net)

    def error() -> float:
        with torch.no_grad():
            return float((net(INPUTS) - dense(INPUTS)).square().mean())

    before = error()
    repair(net, how, [(INPUTS, LABELS)], dense=dense)
    assert error() < before
    assert zero_counts(net) == kept


def test_where_a_block_raises_the_layer_is_as_it_was() -> None:
    net = network(newer)
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(Exception, match="would lose all"):
        prune(net, {"0": 0.5, "2": 1.0})
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert isinstance(net[2].weight, Tensor)
    net(INPUTS).sum().backward()
