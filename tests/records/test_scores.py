import numpy as np
import pytest

from secateur.records.scores import Metric, Score, on_all, student


@pytest.mark.parametrize(
    ("confidence", "degrees", "tabled"),
    [(0.95, 7, 1.895), (0.95, 19, 1.729), (0.975, 10, 2.228), (0.99, 19, 2.539), (0.9, 30, 1.310)],
)
def test_students_quantile_is_that_of_the_tables(confidence: float, degrees: int, tabled: float) -> None:
    assert student(confidence, degrees) == pytest.approx(tabled, rel=1e-3)


def test_what_is_lost_at_most_holds_as_often_as_it_says() -> None:
    """A network that loses 1 point of 80 on all data, judged on 2,000 examples of which 6 % are decided otherwise."""
    draws = np.random.default_rng(0)
    held = 0
    for _ in range(600):
        dense = draws.random(2000) < 0.8
        better, worse = draws.random(2000) < 0.1, draws.random(2000) < 0.0375
        pruned = np.where(dense, ~worse, better)
        parts = [[(float(each[number::20].mean()), 100) for number in range(20)] for each in (pruned, dense)]
        score, whole = Score(float(pruned.mean()), 2000), Score(float(dense.mean()), 2000)
        held += score.lost_at(0.95, whole, *parts) >= 1.0
    assert 0.92 <= held / 600 <= 0.98


def test_an_error_is_lost_in_hundredths_of_the_dense_networks() -> None:
    error = Metric("RMSE", higher=False, share=False)
    own, dense = Score(2.2, 40, metric=error), Score(2.0, 40, metric=error)
    alike = own.lost_at(0.95, dense, [(2.2, 5)] * 8, [(2.0, 5)] * 8)
    assert alike == pytest.approx(10.0)
    assert own.lost_at(0.95, dense, [(2.1, 5), (2.3, 5)] * 4, [(2.0, 5)] * 8) == pytest.approx(
        10 + student(0.95, 7) * 5.345 / 8**0.5, rel=1e-3
    )


def test_a_small_part_counts_for_as_little_as_it_has() -> None:
    own, dense = [(1.0, 64)] * 8 + [(0.0, 1)], [(1.0, 64)] * 9
    lost = Score(512 / 513, 513).lost_at(0.95, Score(1.0, 513), own, dense)
    assert 0.19 < lost < 0.7


def test_accuracies_of_parts_are_that_of_all_images() -> None:
    parts = [Score(right / n, n, five / n) for right, five, n in ((2, 3, 7), (5, 9, 11), (0, 1, 3))]
    assert on_all(parts) == Score(7 / 21, 21, 13 / 21)
    assert on_all([Score(each.value, each.n) for each in parts]) == Score(7 / 21, 21)
