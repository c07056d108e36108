"""Functions of one element and of two, in every kernel, against PyTorch in float64: of any size, to a few last bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from kernels import float_kernels
from secateur import _native

Floats = np.ndarray
Node = tuple[str, str, list[int], dict[str, np.ndarray], dict[str, Any], list[int], str]
Case = tuple[str, dict[str, float], Callable[[Tensor], Tensor]]

FUNCTIONS: list[Case] = [
    ("elu", {"alpha": 1.0}, functional.elu),
    ("elu", {"alpha": 0.7}, lambda x: functional.elu(x, 0.7)),
    ("selu", {}, functional.selu),
    ("softplus", {"beta": 1.0, "threshold": 20.0}, functional.softplus),
    ("softplus", {"beta": 2.3, "threshold": 5.0}, lambda x: functional.softplus(x, 2.3, 5.0)),
    ("softplus", {"beta": 2.0, "threshold": 500.0}, lambda x: functional.softplus(x, 2.0, 500.0)),
    ("mish", {}, functional.mish),
    ("abs", {}, torch.abs),
    ("exp", {}, torch.exp),
    ("log", {}, torch.log),
    ("sqrt", {}, torch.sqrt),
    ("rsqrt", {}, torch.rsqrt),
    ("sin", {}, torch.sin),
    ("cos", {}, torch.cos),
    ("erf", {}, torch.erf),
    ("pow", {"exponent": 2.0}, lambda x: x**2),
    ("pow", {"exponent": 1 / 3}, lambda x: x ** (1 / 3)),
    ("pow", {"exponent": -3.0}, lambda x: x**-3.0),
    ("neg", {}, torch.neg),
    ("reciprocal", {}, torch.reciprocal),
]
PAIRWISE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sub": torch.sub,
    "div": torch.div,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
}
SPECIAL = (0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-45, 3.4e38, -3.4e38, 88.7, -103.9, 20.0, 20.001, 1.0, -1.0)


def numbers(count: int) -> Floats:
    """float32 of every size: any bit pattern, some around 0 and 1, and those where something happens."""
    random = np.random.default_rng(0)
    bits = random.integers(0, 2**32, count // 2, dtype=np.uint32).view(np.float32)
    usual = random.normal(size=count) * random.choice([1e-4, 1, 30], count)
    return np.concatenate([np.array(SPECIAL, np.float32), bits, usual.astype(np.float32)])[:count]


def compute(op: str, attributes: dict[str, float], kernel: str, shape: tuple[int, ...], *inputs: Floats) -> Floats:
    """inputs: (N, …) each; gives (N, *shape)."""
    node: Node = (op, op, list(range(len(inputs))), {}, dict(attributes), list(shape), "float32")
    session = _native.Session([x.shape[1:] for x in inputs], [node], [len(inputs)], kernel, 1, [])
    out = np.empty((len(inputs[0]), *shape), np.float32)
    session.run_many(inputs, [out])
    return out


def last_bits(found: Floats, right: Floats) -> Floats:
    """How many float32 lie between each number and the right one, which is of float64; NaN is far from all others."""
    with np.errstate(over="ignore"):
        single = right.astype(np.float32)
    apart = np.abs(ranks(found) - ranks(single))
    return np.where(np.isnan(found) & np.isnan(single), 0, apart)


def ranks(values: Floats) -> Floats:
    """Of float32 in ascending order, both zeros alike."""
    bits = values.view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(2**31) - bits, bits)


@pytest.mark.parametrize("kernel", float_kernels())
@pytest.mark.parametrize("case", FUNCTIONS, ids=lambda case: f"{case[0]} {case[1]}")
def test_functions_of_numbers_of_any_size_are_pytorchs_to_the_last_bits(case: Case, kernel: str) -> None:
    op, attributes, function = case
    x = numbers(40_000)
    right = function(torch.from_numpy(x).double()).numpy()
    apart = last_bits(compute(op, attributes, kernel, x.shape, x[None])[0], right)
    assert apart.max() <= 2, x[apart.argmax()]


@pytest.mark.parametrize("kernel", float_kernels())
@pytest.mark.parametrize("op", PAIRWISE)
def test_functions_of_two_numbers_are_pytorchs_bit_for_bit(op: str, kernel: str) -> None:
    x = numbers(8_192)
    y = np.random.default_rng(1).permutation(x)
    y[: len(SPECIAL)] = SPECIAL[::-1]
    right = PAIRWISE[op](torch.from_numpy(x), torch.from_numpy(y)).numpy()
    for images in (1, 16):
        found = compute(op, {}, kernel, (8_192 // images,), x.reshape(images, -1), y.reshape(images, -1))
        np.testing.assert_array_equal(found.ravel(), right)


@pytest.mark.parametrize("kernel", float_kernels())
@pytest.mark.parametrize("images", [1, 17])
@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((3, 9, 10), (10,)),
        ((3, 1, 1), (3, 9, 10)),
        ((9, 1), (3, 1, 10)),
        ((), (7,)),
        ((5, 1), (1, 1)),
        ((4, 33), (4, 1)),
    ],
)
@pytest.mark.parametrize("op", PAIRWISE)
def test_two_shapes_are_broadcast_as_in_pytorch(
    op: str, left: tuple[int, ...], right: tuple[int, ...], images: int, kernel: str
) -> None:
    random = np.random.default_rng(2)
    x, y = (random.normal(size=(images, *shape)).astype(np.float32) for shape in (left, right))
    rank = max(len(left), len(right))
    one, other = (torch.from_numpy(v).reshape(images, *(1,) * (rank + 1 - v.ndim), *v.shape[1:]) for v in (x, y))
    expected = PAIRWISE[op](one, other).numpy()
    np.testing.assert_array_equal(compute(op, {}, kernel, expected.shape[1:], x, y), expected)


@pytest.mark.parametrize("kernel", float_kernels())
@pytest.mark.parametrize("op", PAIRWISE)
def test_a_layer_adds_what_is_added_to_it_and_nothing_else(op: str, kernel: str) -> None:
    """x − Wx, Wx / x …: none of them is fused into the layer as a sum is; a clamp behind them is."""
    random = np.random.default_rng(3)
    weight, x = random.normal(size=(8, 8)).astype(np.float32), random.normal(size=(17, 8)).astype(np.float32)
    layer: Node = ("layer", "linear", [0], {"weight": weight}, {}, [8], "float32")
    product = torch.from_numpy(x) @ torch.from_numpy(weight).T
    for inputs in ([0, 1], [1, 0]):
        nodes: list[Node] = [
            layer,
            ("op", op, inputs, {}, {}, [8], "float32"),
            ("y", "relu", [2], {}, {}, [8], "float32"),
        ]
        session = _native.Session([[8]], nodes, [3], kernel, 1, [])
        found = np.empty((17, 8), np.float32)
        session.run(x, found)
        values = [torch.from_numpy(x), product]
        right = PAIRWISE[op](values[inputs[0]], values[inputs[1]]).relu()
        np.testing.assert_allclose(found, right.numpy(), rtol=1e-3, atol=1e-4)
        assert f"{op}+relu" in [step["operations"] for step in session.steps(16, 0, 0)]
