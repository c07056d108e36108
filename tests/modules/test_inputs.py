from __future__ import annotations

from collections import UserDict
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from secateur.errors import ModelError, UsageError
from secateur.modules.guarding import run
from secateur.modules.inputs import as_inputs


class Two(nn.Module):
    def forward(self, x: Tensor, z: Tensor, scale: float = 1.0) -> Tensor:
        return x * scale + z


class OfMapping(nn.Module):
    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return batch["x"] + batch["z"]


X, Z = torch.arange(6.0).view(2, 3), torch.ones(2, 3)


@pytest.mark.parametrize(
    ("network", "example"),
    [
        (Two(), (X, Z)),
        (Two(), [X.numpy(), Z.numpy()]),
        (Two(), {"x": X, "z": Z}),
        (Two(), UserDict(z=Z.numpy(), x=X)),
        (OfMapping(), {"x": X, "z": Z}),
        (OfMapping(), ({"x": X, "z": Z},)),
    ],
)
def test_inputs_reach_forward_as_it_takes_them(network: nn.Module, example: Any) -> None:
    inputs = as_inputs(example, network)
    assert len(inputs) == 2
    assert torch.equal(inputs.call(network), X + Z)
    assert torch.equal(inputs.first(1).call(network), (X + Z)[:1])
    assert torch.equal(inputs.doubled().call(network), torch.cat([X + Z, X + Z]))
    assert [len(each) for each in inputs.singly()] == [1, 1]


def test_what_is_not_as_long_as_the_batch_stays_whole() -> None:
    inputs = as_inputs((X, torch.ones(3)), Two()).first(1)
    assert inputs.describe() == "(1, 3), (3,)"


def test_arrays_of_any_order_and_byte_order_are_numbers() -> None:
    for array in (X.numpy()[::-1], X.numpy().astype(">f4"), X.numpy().T.copy().T):
        assert np.array_equal(as_inputs(array, nn.ReLU()).arguments[0].numpy(), array)


def test_a_copy_is_no_part_of_the_callers_graph() -> None:
    x = X.clone().requires_grad_()
    as_inputs(x, nn.ReLU()).copied().arguments[0].requires_grad_().sum().backward()
    assert x.grad is None


def test_a_copy_shares_nothing() -> None:
    x = X.clone()
    as_inputs(x, nn.ReLU()).copied().arguments[0].zero_()
    assert torch.equal(x, X)


@pytest.mark.parametrize(
    ("example", "said"),
    [
        (X[:0], r"example of shape \(0, 3\): expected a batch \(N, …\) with one input at least"),
        (torch.tensor(1.0), r"example of shape \(\): expected a batch"),
        ("x", "example of type str: expected a tensor"),
        ({}, "example of type dict: expected a tensor"),
        (None, "example of type NoneType: expected a tensor"),
        (X.to_sparse(), "example is sparse .*: expected a dense tensor"),
        (torch.empty(2, 3, device="meta"), "example is on the meta device"),
        (np.array(["a"]), "example: an array of <U1 is no tensor: expected numbers"),
    ],
)
def test_what_is_no_batch_of_inputs_is_refused(example: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        as_inputs(example, nn.ReLU())


def test_a_name_that_forward_does_not_have_is_told_those_that_it_has() -> None:
    inputs = as_inputs({"wrong": X}, nn.Linear(3, 2))
    with pytest.raises(ModelError, match=r"; forward has no arguments 'wrong' but 'input': call them by these names"):
        run(nn.Linear(3, 2), inputs)
    assert as_inputs({"input": X}, nn.Linear(3, 2)).strangers(nn.Linear(3, 2)) == ""
