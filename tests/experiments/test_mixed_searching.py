"""Searches that choose a pattern and a precision for each layer, and whole channels."""

from __future__ import annotations

import dataclasses
import itertools
import json
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import secateur
from secateur.cli import main
from secateur.errors import PruneError, UsageError
from secateur.experiments.cache import NetworkCache
from secateur.experiments.pipeline import run_cell
from secateur.experiments.searching import SearchResult, channels, finding, plan_search
from secateur.experiments.searching import plan as planning
from secateur.experiments.searching.knapsack import Combination
from secateur.experiments.searching.laboratory import Laboratory
from secateur.experiments.searching.plan import Way
from secateur.experiments.searching.tables import LayerTables
from secateur.experiments.sweeping import keep_best
from secateur.packfile import read
from secateur.records.recipes import Recipe
from secateur.records.spec import Cell
from secateur.records.store import FILE_NAME, Store
from secateur.report import load_runs, render
from secateur.support.progress import SilentReporter

QUIET, LIVE = 32, 16
"""Of 64 inputs those that tell the class, and of 64 units of the first layer those that are ever above zero."""


class Unlike(nn.Module):
    """Its first layer needs single weights and float32; its second one needs blocks, and does well in eight bits.

    Of the first layer's weights every fourth counts, in any block of 1×4, and the inputs that it does not look at are a
    thousand times as large as the others. The second layer's blocks that count hold one large and three small weights,
    of which the small ones read units eight times as large, beside blocks of middling weights that read units which are
    always zero. What is added to all classes alike makes all else a small part of the outputs' variance.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 4)
        draw = torch.Generator().manual_seed(0)

        def drawn(*shape: int) -> Tensor:
            signs = torch.randint(0, 2, shape, generator=draw) * 2 - 1
            return signs * (0.8 + 0.4 * torch.rand(shape, generator=draw))

        places = torch.rand(64, 16, 4, generator=draw)
        counts = (places == places.amax(2, keepdim=True)).float().flatten(1)
        counts[:, QUIET:] = 0
        middling = torch.full((64, 64), 0.2)
        middling[:, :LIVE] = torch.tensor([1.0, 1 / 8, 1 / 8, 1 / 8]).repeat(LIVE // 4)
        with torch.no_grad():
            self.first.weight.copy_(counts * drawn(64, 64) * torch.tensor([1.0, 8, 8, 8]).repeat(16)[:, None])
            self.first.weight[:, :QUIET] += 0.02 * drawn(64, QUIET)
            self.first.bias.copy_(torch.where(torch.arange(64) < LIVE, 0.0, -1e4))
            self.second.weight.copy_(middling * drawn(64, 64))
            self.second.bias.zero_()
            self.third.weight.copy_(0.2 * torch.randn(4, 64, generator=draw))
            self.third.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.third(self.second(self.first(x).relu()).relu()) + 0.1 * x[:, -1:]


def task_of(network: nn.Module) -> secateur.Task:
    """To give what the network gives."""
    inputs = torch.randn(400, 64, generator=torch.Generator().manual_seed(1))
    inputs[:, QUIET:] *= 1000
    with torch.no_grad():
        network.get_parameter("third.bias").sub_((network(inputs) - 0.1 * inputs[:, -1:]).mean(0))
        labels = network(inputs).argmax(1)
    batches = [(inputs[at : at + 50], labels[at : at + 50]) for at in range(0, 400, 50)]
    return secateur.Task(batches[:4], batches[4:], name="unlike")


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few ratios, none for all layers alike, few networks that are measured whole, and timings of few samples, on which
    nothing depends."""
    monkeypatch.setattr(planning, "RATIOS", (0.0, 0.5, 0.75, 0.875))
    monkeypatch.setattr(finding, "FINALISTS", 1)
    monkeypatch.setattr(finding, "_EVEN_STEPS", 0)


def search_unlike(out: Path, **options: Any) -> SearchResult:
    network = Unlike()
    asked: dict[str, Any] = {
        "minimize": "bytes", "max_drop": 5.0, "confidence": 0, "images": 100, "calibration_images": 100,
        "repair": "none", "rounds": 1, "pattern": "unstructured,1x4", "quantize": "none,int8", "device": "cpu",
    }  # fmt: skip
    return secateur.search(network, task_of(network), out=out, name="unlike", **(asked | options))


class Interrupting(SilentReporter):
    """Stops a search, as a kill would, when it says so often that a network in eight bits with a layer of float32 was
    judged."""

    def say(self, line: str, *, loud: bool = False) -> None:
        if "int8 (float32 in first)" in line:
            raise KeyboardInterrupt


def findings(run: Path) -> dict[tuple[str, str], str]:
    with sqlite3.connect(run / FILE_NAME) as connection:
        found = connection.execute("SELECT cell_id, what, value FROM findings").fetchall()
    return {(cell, what): value for cell, what, value in found}


def test_each_layer_gets_its_own_pattern_and_precision_though_the_search_was_killed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        search_unlike(run, reporter=Interrupting())
    before = findings(run)
    result = search_unlike(run)
    outcome = result.record.outcome
    assert before.items() < findings(run).items()
    assert outcome is not None
    mixed = outcome.contender("mixed")
    pure = [each for each in outcome.contenders if each.name != "mixed"]
    assert outcome.chosen == "mixed"
    assert mixed.bytes < 0.5 * min(each.bytes for each in pure)
    assert mixed.lost(outcome.contender("dense")) <= 5.0

    cell = result.best.row.cell
    assert cell.id == mixed.cell
    assert cell.layer_ratios == (("first", 0.875), ("second", 0.75))
    assert cell.patterns == {"first": "unstructured", "second": "1x4"}
    assert (cell.quantize, cell.keep_float) == ("int8", ("first",))
    assert "1x4 (unstructured in first) in int8 (float32 in first) at 81" in cell.describe()
    assert "ratios: first 0.875, second 0.75 in 1x4\nin float32: first\n" in str(result)
    assert result.best.row.quantised is not None
    assert result.best.row.quantised.float_layers == ("first",)

    assert result.best.packed is not None
    assert result.best.packed.stat().st_size == mixed.bytes
    weights = read(result.best.packed).weights
    held = {name: weight for name, weight in weights.items() if name.endswith("weight")}
    assert {name.split(".")[0]: weight.dtype for name, weight in held.items()} == {
        "first": "float32", "second": "int8", "third": "int8",
    }  # fmt: skip
    assert held["second.weight"].shape == (64, LIVE)  # what read units that are never above zero is gone, blocks whole
    assert np.count_nonzero(held["second.weight"].values()) == 64 * LIVE

    (shown,) = [each for each in rows_shown(run) if each["cell"] == cell.id]
    assert (shown["layer_patterns"], shown["keep_float"]) == ({"second": "1x4"}, ["first"])
    card = json.loads(result.best.path.with_suffix(".json").read_text())
    assert (card["layer_patterns"], card["keep_float"]) == ({"second": "1x4"}, ["first"])
    with Store.open(run) as store:
        assert store.cell(cell.id) == cell


def rows_shown(run: Path) -> list[dict[str, Any]]:
    (loaded,) = load_runs([run])
    found: list[dict[str, Any]] = json.loads(render(loaded.rows, "json", []))
    return found


def redundant() -> nn.Sequential:
    """Six of the first layer's twelve channels, and four of the second one's sixteen, do next to nothing."""
    torch.manual_seed(0)
    first, second, last = nn.Conv2d(1, 12, 3, padding=1), nn.Conv2d(12, 16, 3, padding=1), nn.Linear(64, 5)
    idle, dull = [1, 4, 5, 8, 9, 10], [0, 3, 7, 9]
    with torch.no_grad():
        first.weight[idle] *= 0.01
        second.weight[:, idle] *= 0.01
        second.weight[dull] *= 0.01
        last.weight.view(5, 16, 4)[:, dull] *= 0.01
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), last)


def test_each_group_of_channels_loses_its_own_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "STEPS", 8)
    network = redundant()
    images = torch.randn(400, 1, 8, 8)
    with torch.no_grad():
        network.get_parameter("6.bias").sub_(network(images).mean(0))
        labels = network(images).argmax(1)
    batches = [(images[at : at + 50], labels[at : at + 50]) for at in range(0, 400, 50)]
    task = secateur.Task(batches[:4], batches[4:], name="redundant")
    result = secateur.search(
        network, task, out=tmp_path / "run", name="redundant", pattern="channel-l2", minimize="bytes", max_drop=4.0,
        confidence=0, images=100, calibration_images=100, repair="none", rounds=1, device="cpu",
    )  # fmt: skip
    outcome = result.record.outcome
    assert outcome is not None
    assert [each.name for each in outcome.contenders] == ["dense", "uniform", "global", "search"]
    assert outcome.chosen == "search"
    chosen, dense = outcome.contender("search"), outcome.contender("dense")
    assert result.ratios == (("0", 0.5), ("2", 0.25))
    assert chosen.lost(dense) <= 4.0
    assert chosen.bytes < 0.5 * dense.bytes
    held = load_file(result.best.path)
    assert [int((~held[f"{name}.weight"].flatten(1).any(1)).sum()) for name in ("0", "2")] == [6, 4]
    assert result.best.packed is not None
    assert {tuple(weight.shape) for weight in read(result.best.packed).weights.values()} >= {
        (6, 1, 3, 3),
        (12, 6, 3, 3),
        (5, 48),
    }


def test_channels_and_what_layers_may_be_are_searched_side_by_side(tmp_path: Path) -> None:
    plan = plan_search("samples:tiny", "digits", pattern="unstructured,1x4,channel-l2", quantize="none,int8")
    assert [(way.pattern, way.precision) for way in plan.ways_of_layers] == [
        ("unstructured", "none"), ("1x4", "none"), ("unstructured", "int8"), ("1x4", "int8"),
    ]  # fmt: skip
    assert len(plan.ways) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pattern": "filter-l2"}, "pattern 'filter-l2': expected unstructured, or blocks as in 1x4, where each layer"),
        ({"pattern": "1x4,2:4"}, "pattern '2:4': expected unstructured, or blocks"),
        ({"pattern": "channel-l2", "repair": "joint"}, "repair 'joint': expected reconstruct, say: pattern channel-l2"),
        ({"quantize": "none,none"}, "quantize 'none,none': expected one of none, int8, or several, each once"),
    ],
)
def test_what_cannot_be_chosen_by_layer_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan_search("samples:tiny", "digits", **options)


def layer_normed(num_classes: int = 10) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.LayerNorm(8), nn.Linear(8, num_classes))


def test_a_network_without_channels_that_can_go_leaves_no_run_behind(tmp_path: Path) -> None:
    model = f"{__name__}:layer_normed"
    with pytest.raises(PruneError, match="Sequential has no channel that can go"):
        secateur.search(model, "digits", out=tmp_path / "run", pattern="channel-l2", minimize="macs", epochs=0)
    assert not (tmp_path / "run").exists()


def test_a_layer_that_stays_in_float_does_so_wherever_the_network_is_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell = Cell(
        "samples:tiny", "digits", "magnitude", "search", 0.5, 0, Recipe(epochs=1), layer_ratios=(("1", 0.5),),
        quantize="int8", keep_float=("1", "gone"), calibration_images=64,
    )  # fmt: skip
    cache = NetworkCache(device="cpu")
    row = run_cell(cell, cache, timed=False)
    assert row.quantised is not None
    assert row.quantised.float_layers == ("1",)
    cell = dataclasses.replace(cell, keep_float=("1",))
    (tmp_path / "run").mkdir()
    best = keep_best(dataclasses.replace(row, cell=cell), tmp_path / "run", "by hand", cache)
    with pytest.raises(SystemExit) as ended:
        main(["pack", str(tmp_path / "run"), "-o", str(tmp_path / "again.secateur"), "--quantize", "int8"])
    assert ended.value.code == 0, capsys.readouterr().err
    for path in (best.packed, tmp_path / "again.secateur"):
        assert path is not None
        held = {name: weight.dtype for name, weight in read(path).weights.items() if name.endswith("weight")}
        assert held == {"1.weight": "float32", "3.weight": "int8"}


def test_tables_price_one_layer_in_float_among_others_in_eight_bits(tmp_path: Path) -> None:
    plan = plan_search("lenet-5", "digits", minimize="bytes", quantize="none,int8", recipe={"epochs": 0})
    with Store.create(tmp_path / "run") as store:
        laboratory = Laboratory(plan, NetworkCache(device="cpu"), store)
        laboratory.harm_of_eight_bits = lambda layer: 0.25  # type: ignore[method-assign]
        tables = LayerTables(plan, laboratory, plan.ways_of_layers, SilentReporter())
        prices = tables.prices()
        assert set(tables.names) <= set(laboratory.in_eight_bits)
        for precisions in itertools.product(("none", "int8"), repeat=len(tables.names)):
            levels = tuple(
                next(at for at, option in enumerate(own) if option.way.precision == precision and option.level == 1)
                for own, precision in zip(tables.options, precisions, strict=True)
            )
            options = tuple(own[level] for own, level in zip(tables.options, levels, strict=True))
            cost = sum(row[level] for row, level in zip(prices.rows, levels, strict=True))
            cell = tables.cell(options, "none")
            assert cell.quantize == ("int8" if "int8" in precisions else "none")
            floats = [name for name, each in zip(tables.names, precisions, strict=True) if each == "none"]
            assert cell.keep_float == (tuple(floats) if "int8" in precisions else ())
            expected = laboratory.price(cell)
            assert prices.total(Combination(cost, 0.0, levels)) == pytest.approx(expected, rel=0.02)
        first = tables.options[0]
        (whole, eight) = (next(each for each in first if each.way.precision == way) for way in ("none", "int8"))
        assert (tables.added(0, eight, whole), tables.added(0, whole, eight), tables.added(0, whole, whole)) == (
            0.25, -0.25, 0.0,
        )  # fmt: skip


@pytest.mark.parametrize(("how", "asked"), [("finished", {}), ("retrained", {"repair": "none", "retrain": 1})])
def test_what_is_made_of_mixed_networks_is_taken_by_what_it_costs(how: str, asked: dict[str, Any]) -> None:
    plan = plan_search(
        "lenet-5", "digits", pattern="unstructured,1x4", quantize="none,int8", max_drop=5.0, confidence=0, **asked
    )
    score = SimpleNamespace(lost_from=lambda _: 1.0, rank=1.0)
    asked_for: list[Cell] = []

    def price(cell: Cell) -> float:
        asked_for.append(cell)
        return {"int8": 1.0, "none": 5.0}[cell.quantize]

    held: Any = SimpleNamespace(
        validation=lambda _: score, trained=SimpleNamespace(validation=None), lost_at=lambda *_: None, price=price
    )
    trials = finding.Trials(plan, held, SilentReporter())
    sizes = {"conv1": 500, "fc1": 48000}
    pure = [plan.among(Way("unstructured", each)).cell(dict.fromkeys(sizes, 0.9), sizes, plan.trial_repair)
            for each in ("none", "int8")]  # fmt: skip
    patterns = {"conv1": "unstructured", "fc1": "1x4"}
    ratios = {"conv1": 0.9, "fc1": 0.875}
    eight = plan.among(Way("unstructured", "int8"))
    mixed = eight.cell(ratios, sizes, plan.trial_repair, patterns, ["conv1"])
    trials.priced |= dict(zip(pure, (4.0, 3.0), strict=True))
    find = finding.find_finished if how == "finished" else finding.find_retrained
    for cell in (*pure, mixed):
        find([cell], trials)
    (best,) = trials.finalists(finding.named_mixed(how == "retrained"))
    assert (best.keep_float, trials.priced[best]) == (("conv1",), 1.0)
    assert {trials.priced[cell] for cell in trials.judged if cell.keep_float != best.keep_float} == {3.0, 4.0, 5.0}
    assert {cell.layer_ratios for cell in asked_for} == {mixed.layer_ratios}
    assert {(cell.repair, cell.retraining) for cell in asked_for} == {("none", None)}  # as it is cut


def test_a_budget_below_what_a_layer_leaves_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ratios of baselines go on to where a layer would lose everything, which costs less than any budget."""
    monkeypatch.setattr(finding, "_EVEN_STEPS", 20)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    result = secateur.search(
        network, "digits", out=tmp_path / "run", name="small", max_bytes=60, rounds=0, images=50, repair="none"
    )
    outcome = result.record.outcome
    assert outcome is not None
    assert outcome.contender(outcome.chosen).bytes <= outcome.contender("dense").bytes
