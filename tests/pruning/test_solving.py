"""Weights that minimise what a layer loses, given which stay, or chosen with them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import combinations

import pytest
import torch
from torch import Tensor, nn

from least_squares import least_squares
from secateur.pruning import reconstruction
from secateur.pruning.moments import Products
from secateur.pruning.pruning import prune
from secateur.pruning.reconstruction import (
    Regression,
    _by_cholesky,
    _by_complement,
    _by_gradients,
    _quickest,
    choose,
    reconstruct,
    solve,
)


@pytest.mark.parametrize("way", [_by_cholesky, _by_complement, _by_gradients])
def test_a_layer_with_its_mask_given_is_the_constrained_least_squares_optimum(
    way: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secateur.pruning.reconstruction._quickest", lambda *_: way)
    monkeypatch.setattr("secateur.pruning.reconstruction.TOLERANCE", 1e-8)
    x, before = torch.randn(50, 12).double(), torch.randn(4, 12).double()
    keep = torch.rand(4, 12) > 0.6
    keep[2] = False
    y = x @ before.T + 0.1 * torch.randn(50, 4).double()
    sums = Regression((x.T @ x / 50)[None], (y.T @ x / 50)[None])
    level = 0.01 * float(sums.gram[0].diagonal().mean())
    fitted = solve(before[None], sums, keep[None], 0.01)[0]
    expected = least_squares(x, y, keep, before, level)
    torch.testing.assert_close(fitted, expected, rtol=1e-6, atol=1e-8)
    assert bool((fitted[~keep] == 0).all())
    assert not bool(fitted[~keep].signbit().any())  # -0.0 is a weight in a file


@pytest.mark.parametrize("share", [0.1, 0.5, 0.98])
def test_wide_layers_are_solved_for_in_single_precision_as_well(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of fewer rows than columns, which depend on each other, in scales from 1 to 1,000; against double precision."""
    monkeypatch.setattr(reconstruction, "TOLERANCE", 1e-6)  # gradients leave nothing undone
    x = (torch.randn(300, 40) @ torch.randn(40, 600) + 0.01 * torch.randn(300, 600)) * torch.logspace(0, 3, 600)
    before = torch.randn(1, 16, 600)
    gram = (x.double().T @ x.double() / 300)[None]
    sums = Regression(gram, before.double() @ gram)
    keep = torch.rand(1, 16, 600) < share
    level = 0.01 * float(gram[0].diagonal().mean())

    def lost(fitted: Tensor) -> float:
        apart = (fitted - before).double()[0]
        return float(((apart @ gram[0]) * apart).sum() + level * apart.square().sum())

    single, double = (lost(solve(given, sums, keep)) for given in (before, before.double()))
    assert double <= single <= 1.0001 * double
    for scale in (1e-12, 1e12):  # of the inputs, whose squares single precision would not hold
        scaled = Regression(sums.gram * scale**2, sums.target * scale**2)
        assert lost(solve(before, scaled, keep)) <= 1.0001 * double
    assert solve(before, sums, keep).dtype == torch.float32


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_a_singular_matrix_is_solved_for_too(share: float) -> None:
    """Of fewer rows than columns, undamped."""
    x, before = torch.randn(20, 64), torch.randn(64, 64)
    sums = Regression((x.T @ x / 20)[None], (before @ x.T @ x / 20)[None])
    keep = torch.arange(64).expand(1, 64, 64) < share * 64
    fitted = _by_complement(sums.gram[0], sums.target[0], keep[0])
    assert bool(torch.isfinite(fitted).all())


def test_each_way_to_solve_is_taken_where_it_is_the_quickest() -> None:
    def keeping(share: float) -> Tensor:
        return torch.arange(4608).expand(512, 4608) < share * 4608

    ways = [_quickest(keeping(share)) for share in (0.99, 0.8, 0.4, 0.1)]
    assert ways == [_by_complement, _by_gradients, _by_gradients, _by_cholesky]
    assert _quickest(torch.rand(5, 20) > 0.9) is _by_cholesky


def test_conjugate_gradients_need_no_definite_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secateur.pruning.reconstruction._quickest", lambda *_: _by_gradients)
    x, before = torch.randn(5, 12).double(), torch.randn(3, 12).double()  # fewer rows than columns
    sums = Regression((x.T @ x / 5)[None], (before @ x.T @ x / 5)[None])
    keep = torch.rand(1, 3, 12) > 0.3
    fitted = solve(before[None], sums, keep, 0.0)[0]
    assert float((x @ (fitted - before).T).abs().max()) < 1e-2 * float((x @ before.T).abs().max())


def test_conjugate_gradients_stop_within_a_hundred_thousandth_of_the_optimum(monkeypatch: pytest.MonkeyPatch) -> None:
    x, before = torch.randn(400, 60) @ torch.randn(60, 60), torch.randn(8, 60)
    sums = Regression((x.T @ x / 400)[None], (before @ x.T @ x / 400)[None])
    keep = torch.rand(1, 8, 60) > 0.7

    def remaining(fitted: Tensor) -> float:
        return float((x @ (fitted[0] - before).T).square().sum())

    best = remaining(solve(before[None], sums, keep))
    monkeypatch.setattr("secateur.pruning.reconstruction._quickest", lambda *_: _by_gradients)
    assert remaining(solve(before[None], sums, keep)) < 1.00001 * best


def test_the_joint_choice_is_as_good_as_the_best_subset_of_a_tiny_layer() -> None:
    """Against all subsets, on strongly correlated inputs: the largest weights are far from the best."""
    generator = torch.Generator().manual_seed(5)
    base = torch.randn(200, 2, generator=generator).double()
    x = torch.cat([base, base + 0.05 * torch.randn(200, 2, generator=generator).double()], 1)
    before = torch.tensor([[1.0, 0.3, 0.9, 0.4]]).double()
    y = x @ before.T
    sums = Regression((x.T @ x / 200)[None], (y.T @ x / 200)[None])

    def error(keep: Tensor) -> float:
        fitted = solve(before[None], sums, keep[None], 1e-6)[0]
        return float((x @ fitted.T - y).square().mean())

    subsets = [torch.tensor([[i in pair for i in range(4)]]) for pair in ((a, b) for a in range(4) for b in range(a))]
    best = min(subsets, key=error)
    two = torch.tensor([[True, False, True, False]])
    chosen = choose(before[None], sums, two[None], torch.ones(1, 1).double(), dampening=1e-6)[0]
    assert error(chosen) < 1.2 * error(best)
    assert error(chosen) < 0.2 * error(two)


def test_exchanging_weights_beats_the_given_ones_and_comes_near_the_best_of_all_subsets() -> None:
    generator = torch.Generator().manual_seed(7)
    mixed = torch.randn(9, 9, generator=generator).double()
    for _ in range(5):
        x = torch.randn(100, 9, generator=generator).double() @ mixed
        before = torch.randn(1, 9, generator=generator).double()
        sums = Regression((x.T @ x / 100)[None], (before @ x.T @ x / 100)[None])

        def error(keep: Tensor, x: Tensor = x, before: Tensor = before, sums: Regression = sums) -> float:
            fitted = solve(before[None], sums, keep[None], 1e-6)[0]
            return float((x @ (fitted - before).T).square().mean())

        subsets = [
            torch.zeros(1, 9).bool().index_fill(1, torch.tensor(each), True) for each in combinations(range(9), 4)
        ]
        errors = sorted(error(each) for each in subsets)
        given = torch.zeros(1, 9).bool().index_fill(1, before[0].abs().topk(4).indices, True)
        chosen = choose(before[None], sums, given[None], torch.ones(1, 1).double(), dampening=1e-6)[0]
        assert int(chosen.sum()) == 4
        assert error(chosen) <= error(given)
        assert error(chosen) <= errors[len(errors) // 8]


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_outputs_are_solved_for_side_by_side_as_one_after_the_other(share: float) -> None:
    x, before = torch.randn(600, 300), torch.randn(1, 7, 300)
    sums = Regression((x.T @ x / 600)[None], (before[0] @ x.T @ x / 600)[None])
    keep = torch.rand(1, 7, 300) < share
    keep[0, 3] = False
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            found.append(solve(before, sums, keep))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)
    assert torch.equal(found[1] != 0, keep)


def test_a_singular_matrix_is_no_end_of_threads_either() -> None:
    x, before = torch.randn(4, 300).double(), torch.randn(1, 5, 300).double()
    sums = Regression((x.T @ x)[None], (before[0] @ x.T @ x)[None])
    keep = torch.rand(1, 5, 300) < 0.1
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        fitted = solve(before, sums, keep, 0.0)[0]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert float((x @ (fitted - before[0]).T).square().mean()) < 1e-9


@pytest.mark.parametrize("size", [(), (9, 9)])
def test_of_many_rows_some_are_enough(size: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of images with their positions, and of rows alone: nearly what all of them give, from a part of them."""
    layer = (lambda: nn.Conv2d(2, 6, 3)) if size else (lambda: nn.Linear(2, 6))
    dense = nn.Sequential(layer(), nn.Conv2d(6, 3, 3) if size else nn.Linear(6, 3)).double()
    batches = [torch.randn(200, 2, *size).double() for _ in range(4)]
    summed: list[int] = []
    add = Products.add

    def counting(self: Products, x: Tensor, part: slice, y: Tensor | None = None) -> None:
        summed.append(x.shape[1])
        add(self, x, part, y)

    monkeypatch.setattr(Products, "add", counting)
    errors, rows = [], []
    for free in (5e9, 0.0):
        monkeypatch.setattr(reconstruction, "FREE_PRODUCTS", free)
        summed.clear()
        network = copy.deepcopy(dense)
        prune(network, 0.5, keep_output=False)
        reconstruct(network, dense, batches)
        rows.append(sum(summed))
        with torch.no_grad():
            errors.append(float((network(batches[0]) - dense(batches[0])).square().mean()))
    columns = 6 * 9 if size else 6
    first = 4 * 200 * (7 * 7 if size else 1)  # not known yet, in the first layer, how many batches there are
    each_image = 5 * 5 if size else 1
    assert rows[0] == first + 4 * 200 * each_image
    assert first + 32 * columns <= rows[1] <= first + 32 * columns + 4 * each_image
    assert errors[1] < 1.1 * errors[0]
