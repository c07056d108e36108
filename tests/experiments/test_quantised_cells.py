"""Cells that compute in eight bits: quantised after pruning, measured as what is delivered."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import secateur
from conftest import RunCli
from secateur.errors import SearchError, UsageError
from secateur.experiments.cache import NetworkCache
from secateur.experiments.pipeline import make_network
from secateur.experiments.searching import Search, comparing, finding, plan_search
from secateur.experiments.searching.laboratory import Laboratory
from secateur.experiments.searching.plan import Way
from secateur.experiments.sweeping import SweepResult
from secateur.exporting import quantising
from secateur.packfile import read
from secateur.records.recipes import Retraining
from secateur.records.results import Row
from secateur.records.store import Store
from secateur.runtime import reference
from secateur.support.progress import SilentReporter
from secateur.training.data import load_data, normalise

OPTIONS: dict[str, Any] = {
    "epochs": 4,
    "calibration_images": 128,
    "device": "cpu",
    "latency_on": "none",
    "repairs": "none",
}


def small_sweep(out: Path, **options: Any) -> SweepResult:
    return secateur.sweep("samples:tiny", "digits", out=out, **(OPTIONS | options))


def by_cell(rows: tuple[Row, ...]) -> dict[tuple[float, str], Row]:
    return {(row.cell.ratio, row.cell.quantize): row for row in rows}


def accuracy_of(path: Path) -> float:
    """On test data, by the reference's integers."""
    data, graph = load_data("digits"), read(path)
    images = normalise(data.test.images, data.mean, data.std).numpy()
    return float((reference.run(graph, images).argmax(1) == data.test.labels.numpy()).mean())


def test_a_cell_in_eight_bits_measures_and_delivers_integers(tmp_path: Path) -> None:
    result = small_sweep(tmp_path / "run", ratios=(0.0, 0.5), quantize=("none", "int8"), tolerance=100)
    assert result.failures == ()
    rows = by_cell(result.rows)
    assert len(rows) == 4
    for ratio in (0.0, 0.5):
        plain, quantised = rows[ratio, "none"], rows[ratio, "int8"]
        assert plain.quantised is None
        assert quantised.quantised is not None
        assert (quantised.quantised.validation, quantised.quantised.test) == (plain.validation, plain.test)
        assert quantised.quantised.float_layers == ()
        assert abs(quantised.validation.value - plain.validation.value) <= 0.02
        assert quantised.bytes < plain.bytes / 2
        assert quantised.layers == plain.layers
    (best,) = result.best
    assert best.row == rows[0.5, "int8"]
    assert best.packed is not None
    assert best.packed.stat().st_size == best.row.packed_bytes
    elements = {weight.dtype for weight in read(best.packed).weights.values()}
    assert "int8" in elements
    assert accuracy_of(best.packed) == best.row.test.value
    assert json.loads(best.path.with_suffix(".json").read_text())["quantize"] == "int8"
    assert small_sweep(tmp_path / "run", ratios=(0.5,), quantize="int8").computed == 0


def test_scales_are_chosen_on_training_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray[Any, Any]] = []
    quantise = quantising.quantise

    def watching(graph: Any, batches: Any, **options: Any) -> Any:
        given = list(batches)
        seen.extend(given)
        return quantise(graph, given, **options)

    monkeypatch.setattr("secateur.experiments.graphs.quantise", watching)
    small_sweep(tmp_path / "run", ratios=(0.5,), quantize="int8", calibration_seed=3)
    data = load_data("digits")
    known = {image.tobytes() for image in normalise(data.train.images, data.mean, data.std).numpy()}
    given = np.concatenate([images for (images,) in seen])
    assert len(given) % 128 == 0
    assert all(image.tobytes() in known for image in given)


def test_a_retrained_network_is_shared_by_all_that_it_computes_in(tmp_path: Path, own_cache: Path) -> None:
    options: dict[str, Any] = {"ratios": (0.8,), "retrainings": (Retraining("one-shot", epochs=2),)}
    result = small_sweep(tmp_path / "run", quantize=("none", "int8"), **options)
    plain, quantised = result.rows
    assert plain.retrained == quantised.retrained
    assert len(list((own_cache / "networks").glob("*.pt"))) == 2
    assert quantised.quantised is not None
    assert quantised.quantised.test == plain.test


@pytest.mark.parametrize("options", [{"patterns": ("2:4",)}, {"patterns": ("1x4",), "repairs": ("reconstruct",)}])
def test_every_pattern_can_compute_in_eight_bits(tmp_path: Path, options: dict[str, Any]) -> None:
    (row,) = small_sweep(tmp_path / "run", ratios=(0.5,), quantize="int8", **options).rows
    assert row.quantised is not None
    assert abs(row.test.value - row.quantised.test.value) <= 0.02


class Unpackable(nn.Module):
    """Runs, but is no Graph."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(64, 8), nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(torch.special.bessel_j0(x).flatten(1)))


def test_what_cannot_compute_in_eight_bits_says_why(tmp_path: Path, run_cli: RunCli) -> None:
    with pytest.raises(UsageError, match="quantize 'int4': expected one of none, int8"):
        small_sweep(tmp_path / "run", quantize=("int4",))
    said = run_cli("sweep", "--quantize", "int4", "--out", "run")
    assert (said.returncode, said.stderr.count("\n")) == (2, 1)
    with pytest.raises(UsageError, match="quantize 'none,int4': expected one of none, int8, or several, each once"):
        plan_search("samples:tiny", "digits", quantize="none,int4")
    model = f"{__name__}:Unpackable"
    with pytest.raises(SearchError, match="runs in PyTorch only: expected --quantize none"):
        secateur.search(model, "digits", out=tmp_path / "run", quantize="none,int8", minimize="macs")
    assert not (tmp_path / "run").exists()
    result = secateur.sweep(model, "digits", ratios=(0.5,), quantize="int8", out=tmp_path / "torch", **OPTIONS)
    (failure,) = result.failures
    assert "runs in PyTorch only, so it cannot compute in int8: expected --quantize none" in failure.error


def laboratory(tmp_path: Path, **options: Any) -> tuple[Search, Laboratory, Store]:
    plan = plan_search("samples:tiny", "digits", images=100, repair="none", recipe={"epochs": 3}, **options)
    store = Store.create(tmp_path / "run")
    return plan.among(Way(plan.template.pattern, "int8")), Laboratory(plan, NetworkCache(device="cpu"), store), store


def test_a_search_may_prune_in_blocks_each_of_which_goes_as_a_whole(tmp_path: Path) -> None:
    plan, lab, store = laboratory(tmp_path, quantize="int8", pattern="1x16")
    with store:
        last = lab.levels("1", "1x16")[-1]
        assert (plan.template.pattern, lab.sizes, last) == ("1x16", {"1": 2048}, 0.994476)
        cell = plan.cell({"1": last}, lab.sizes, "none")
        weight = make_network(cell, NetworkCache(device="cpu"), weigh=False)[0].get_parameter("1.weight")
        assert int((weight != 0).sum()) == 16
    with pytest.raises(UsageError, match="pattern '2:4': expected unstructured, or blocks as in 1x4"):
        plan_search("samples:tiny", "digits", pattern="2:4")
    with pytest.raises(UsageError, match="repair 'joint': expected reconstruct, say: pattern 1x4 has no single"):
        plan_search("samples:tiny", "digits", pattern="1x4", repair="joint")


def test_a_search_prices_bytes_of_integers_and_harms_in_float(tmp_path: Path) -> None:
    plan, lab, store = laboratory(tmp_path, minimize="bytes", quantize="int8")
    with store:
        cells = [plan.cell(dict.fromkeys(lab.sizes, ratio), lab.sizes, "none") for ratio in (0.0, 0.5)]
        assert [cell.quantize for cell in cells] == ["int8", "int8"]
        eight = [each.total for each in lab.costs(cells, SilentReporter())]
        plain = [
            each.total for each in lab.costs([dataclasses.replace(c, quantize="none") for c in cells], SilentReporter())
        ]
        assert all(small < large / 2 for small, large in zip(eight, plain, strict=True))
        assert eight[1] < eight[0]
        assert lab.harm(cells[1]) == lab.harm(dataclasses.replace(cells[1], quantize="none"))


def test_a_search_finds_networks_in_eight_bits_beside_those_in_float(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "SHOWN", 2)
    monkeypatch.setattr(finding, "FINALISTS", 1)
    options: dict[str, Any] = {"minimize": "bytes", "repair": "none", "rounds": 0, "images": 100, "epochs": 4}
    options |= {"max_drop": 4.0, "calibration_images": 128, "device": "cpu"}
    result = secateur.search("samples:tiny", "digits", out=tmp_path / "run", quantize="none,int8", **options)
    outcome = result.record.outcome
    assert outcome is not None
    kinds = ["dense", "uniform", "global", "search"]
    assert [each.name for each in outcome.contenders] == [*kinds, *(f"{kind}, int8" for kind in kinds), "mixed"]
    assert outcome.chosen == "mixed" or outcome.chosen.endswith(", int8")
    assert result.best.row.cell.quantize == "int8"
    assert result.best.packed is not None
    assert accuracy_of(result.best.packed) == outcome.contender(outcome.chosen).test.value
    with Store.open(tmp_path / "run") as store:
        rows = {row.cell.id: row for row in store.rows()}
    pure = [each for each in outcome.contenders if each.name != "mixed"]
    assert all((rows[each.cell].quantised is not None) == each.name.endswith("int8") for each in pure)
