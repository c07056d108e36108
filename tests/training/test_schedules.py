from __future__ import annotations

import itertools

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import OneCycleLR

from secateur.training.schedules import cubic_ratio, one_cycle, round_ratio


@pytest.mark.parametrize(("peak", "total"), [(0.1, 2), (0.05, 3), (1.7, 101), (0.03, 2001)])
def test_one_cycle_is_pytorchs_to_the_last_bit(peak: float, total: int) -> None:
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=1)
    schedule = OneCycleLR(optimizer, peak, total_steps=total, cycle_momentum=False)
    for step in range(total - 1):
        assert one_cycle(step, total, peak) == optimizer.param_groups[0]["lr"]
        optimizer.step()
        schedule.step()


def test_the_cubic_schedule_is_equation_1_of_zhu_and_gupta() -> None:
    begin, every, times, initial, final = 200, 50, 8, 0.1, 0.9
    for k in range(times + 1):
        t = begin + k * every
        expected = final + (initial - final) * (1 - (t - begin) / (times * every)) ** 3
        assert cubic_ratio(t, begin, every, times, initial, final) == pytest.approx(expected, rel=1e-12)
    assert cubic_ratio(begin, begin, every, times, initial, final) == pytest.approx(initial)
    assert cubic_ratio(begin + every * times // 2, begin, every, times, initial, final) == pytest.approx(0.8)
    assert cubic_ratio(begin + times * every, begin, every, times, initial, final) == final
    assert cubic_ratio(10**6, begin, every, times, initial, final) == final
    assert cubic_ratio(0, begin, every, times, initial, final) == pytest.approx(initial)


def test_rounds_remove_the_same_share_of_what_is_left_and_end_at_the_ratio() -> None:
    densities = [1 - round_ratio(done, 5, 0.9) for done in range(6)]
    shares = [after / before for before, after in itertools.pairwise(densities)]
    assert densities[0] == 1
    assert round_ratio(5, 5, 0.9) == 0.9
    assert shares == pytest.approx([0.1 ** (1 / 5)] * 5)
