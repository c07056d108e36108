"""Searches that minimize several costs at once, or keep to limits on several."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

import secateur
from samples import contender
from secateur.errors import UsageError
from secateur.experiments.cache import NetworkCache
from secateur.experiments.searching import SearchResult, plan_search
from secateur.experiments.searching.comparing import measured_front
from secateur.experiments.searching.laboratory import Laboratory
from secateur.records.patterns import is_of_channels
from secateur.records.selection import Budget
from secateur.records.store import Store
from secateur.report import front_grid, search_record
from secateur.report.fronts import fronts_of
from secateur.support.progress import SilentReporter

ASKED: dict[str, Any] = {
    "epochs": 3, "repair": "none", "images": 100, "max_drop": 4.0, "confidence": 0, "rounds": 1,
}  # fmt: skip


def small_search(out: Path, **options: Any) -> SearchResult:
    return secateur.search("samples:tiny", "digits", out=out, **(ASKED | options))


def words(result: SearchResult) -> str:
    """What it prints, on one line."""
    return " ".join(str(result).split())


def test_the_mean_of_what_is_left_is_least_and_the_front_is_that_of_all(tmp_path: Path) -> None:
    """In files and multiply-adds, which are the same each time."""
    result = small_search(tmp_path / "run", minimize=["bytes", "macs"])
    outcome = result.record.outcome
    assert outcome is not None
    assert json.loads(result.record.spec)["minimize"] == "bytes,macs"
    dense = outcome.contender("dense")

    def left(costs: tuple[float, ...]) -> float:
        return (costs[0] / dense.bytes + costs[1] / dense.macs) / 2

    held = [each for each in outcome.contenders if each.lost(dense) <= 4]
    chosen = outcome.contender(outcome.chosen)
    assert left((chosen.bytes, chosen.macs)) == min(left((each.bytes, each.macs)) for each in held) < 1
    for point in outcome.front:
        assert point.cost == pytest.approx(left(point.costs))
        others = [each for each in outcome.front if each != point and each.validation.rank >= point.validation.rank]
        assert not any(other.costs[0] <= point.costs[0] and other.costs[1] <= point.costs[1] for other in others)
    grid = front_grid(result.record)
    assert grid.columns == ("network", "file", "non-zero MACs", "validation", "lost")
    assert [line[1] for line in grid.lines] == [f"{point.costs[0] / dense.bytes:.2%}" for point in outcome.front]
    assert "least file and non-zero MACs on average within 4 points" in words(result)
    (drawn,) = fronts_of(result.record)  # multiply-adds have no axis
    assert [each.cost for each in drawn.found] == sorted(each.cost for each in drawn.found)
    scores = [each.score for each in drawn.found]
    assert scores == sorted(scores)
    assert {each.cost for each in drawn.found} <= {point.costs[0] for point in outcome.front}
    assert search_record(result.record)["minimize"] == "bytes,macs"
    with Store.open(tmp_path / "run") as store:
        assert store.searches()[0].outcome == outcome
    assert small_search(tmp_path / "run", minimize="bytes,macs") == result


def test_a_network_keeps_to_limits_on_both_its_file_and_its_time(tmp_path: Path) -> None:
    loose = small_search(tmp_path / "run", max_bytes=2500, max_latency_ms=1e3)
    assert loose.record.outcome is not None
    chosen, dense = (loose.record.outcome.contender(name) for name in (loose.record.outcome.chosen, "dense"))
    assert chosen.bytes <= 2500 < dense.bytes
    held = [each for each in loose.record.outcome.contenders if each.bytes <= 2500]
    assert chosen.validation.rank == max(each.validation.rank for each in held)
    assert "within 1,000 ms and 2,500 bytes" in words(loose)
    tight = small_search(tmp_path / "run", max_bytes=10**6, max_latency_ms=1e-9, rounds=0)
    assert tight.record.outcome is not None
    assert "Nothing was found that costs 1e-09 ms and 1,000,000 bytes or less" in words(tight)


def test_where_all_is_within_the_limit_the_cheapest_of_the_best_is_taken(tmp_path: Path) -> None:
    result = small_search(tmp_path / "run", max_bytes=10**9)
    outcome = result.record.outcome
    assert outcome is not None
    chosen, dense = outcome.contender(outcome.chosen), outcome.contender("dense")
    best = max(each.validation.rank for each in outcome.contenders)
    assert chosen.validation.rank == best >= dense.validation.rank
    assert chosen.bytes == min(each.bytes for each in outcome.contenders if each.validation.rank == best) < dense.bytes


def test_the_front_has_the_chosen_one_though_another_beats_it() -> None:
    """The other may lose too much elsewhere."""
    dense = dataclasses.replace(contender("dense", 2.0, 0.9), bytes=2000)
    chosen = contender("search", 1.0, 0.89)
    other = dataclasses.replace(contender("uniform", 1.0, 0.895), bytes=chosen.bytes - 1)
    budget = Budget("bytes", 1.0)
    found = measured_front([dense, chosen, other], dense, budget, chosen.cell)
    assert [each.cell for each in found] == [other.cell, chosen.cell, dense.cell]
    assert [each.cell for each in measured_front([dense, chosen, other], dense, budget, dense.cell)] == [
        other.cell, dense.cell,
    ]  # fmt: skip


@pytest.mark.parametrize("pattern", ["unstructured", "channel-l1"])
def test_costs_are_means_of_shares_of_the_dense_network(tmp_path: Path, pattern: str) -> None:
    recipe = {"epochs": 0}
    plans = {
        minimize: plan_search("lenet-300-100", "digits", minimize=minimize, pattern=pattern, recipe=recipe)
        for minimize in ("bytes", "macs", "bytes,macs")
    }
    cache = NetworkCache(device="cpu")
    costs, prices = {}, {}
    for minimize, plan in plans.items():
        with Store.create(tmp_path / minimize.replace(",", "-")) as store:
            laboratory = Laboratory(plan, cache, store)
            names = laboratory.groups if is_of_channels(pattern) else laboratory.sizes
            cut = plan.cell(dict.fromkeys(names, 0.5), names, "none")
            if is_of_channels(pattern):
                costs[minimize] = laboratory.totals([plan.dense, cut], SilentReporter())
            else:
                found = laboratory.costs([plan.dense, cut], SilentReporter())
                assert all(sum(each.by_layer.values()) + each.rest == each.total for each in found)
                costs[minimize] = [each.total for each in found]
            prices[minimize] = laboratory.price(cut)
    assert prices == {minimize: pytest.approx(each[1]) for minimize, each in costs.items()}
    assert costs["bytes,macs"][1] < costs["bytes,macs"][0] == pytest.approx(1, rel=0.01)  # a file's head counts or not
    if pattern == "unstructured":
        shares = [costs[minimize][1] / costs[minimize][0] for minimize in ("bytes", "macs")]
        assert costs["bytes,macs"][1] == pytest.approx(sum(shares) / 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"minimize": "bytes,speed"}, "minimize 'speed': expected one of latency, bytes, macs, weights"),
        ({"minimize": "bytes,bytes"}, "minimize 'bytes,bytes': expected several, each once"),
        ({"minimize": []}, "minimize .*: expected a word, or several"),
        ({"max_bytes": 5, "max_latency_ms": 0}, "max latency 0.*: expected a number above 0"),
    ],
)
def test_targets_that_make_no_sense_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        small_search(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
