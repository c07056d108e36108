"""Sums over a layer's rows, however those come."""

from __future__ import annotations

import pytest
import torch

from secateur.pruning import moments
from secateur.pruning.moments import Products


@pytest.mark.parametrize("columns", [3, 300])
def test_products_are_the_same_whatever_the_rows_come_in(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """None, few and many at once, of some of the groups, with outputs; what is handed over may change afterwards."""
    sizes = [(0, 1), (2, 0), (1, 7), (1, 900), (0, 5), (2, 0), (2, 40)]  # which groups, how many rows
    parts = [slice(0, 1), slice(1, 3), slice(0, 3)]
    for room in (1 << 26, 1 << 10):
        monkeypatch.setattr(moments, "ROWS_BYTES", room)
        products = Products(3, columns, torch.device("cpu"), outputs=2)
        gram, target = torch.zeros(3, columns, columns).double(), torch.zeros(3, 2, columns).double()
        counts = torch.zeros(3, dtype=torch.int64)
        for which, count in sizes:
            groups = parts[which].stop - parts[which].start
            x, y = torch.randn(groups, count, columns), torch.randn(groups, count, 2)
            gram[parts[which]] += x.double().transpose(1, 2) @ x.double()
            target[parts[which]] += y.double().transpose(1, 2) @ x.double()
            counts[parts[which]] += count
            products.add(x, parts[which], y)
            if count < columns and room > 1 << 20:
                x.zero_()
                y.zero_()
        assert torch.equal(products.counts, counts)
        torch.testing.assert_close(products.gram, gram, rtol=1e-5, atol=1e-3)
        torch.testing.assert_close(products.target, target, rtol=1e-5, atol=1e-3)


def test_half_precision_is_summed_in_single() -> None:
    products = Products(1, 4, torch.device("cpu"))
    products.add(torch.full((1, 8, 4), 300.0, dtype=torch.float16), slice(0, 1))  # squares beyond half's numbers
    assert torch.equal(products.gram, torch.full((1, 4, 4), 8 * 90_000.0).double())
