from __future__ import annotations

import copy
import dataclasses
import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils import prune as torch_prune

import derived
import secateur
from conftest import RunCli
from killing import kill_when, stored
from samples import Interrupting, build, tiny
from secateur.errors import DataError, ModelError, SpaceError, StoreError, SweepError, UsageError
from secateur.experiments import cache as cache_module
from secateur.experiments import graphs
from secateur.experiments.cache import NetworkCache
from secateur.experiments.keys import SAID_OTHERWISE, RetrainKey
from secateur.experiments.pipeline import make_network, prune_as_pytorch, prune_cell, run_cell
from secateur.experiments.sweeping import SweepResult
from secateur.modules.layers import weight_of
from secateur.pruning.pruning import prune, sparsity
from secateur.records.recipes import Recipe, Retraining, retraining_for
from secateur.records.spec import Cell, WeightsFile
from secateur.records.store import FILE_NAME, Store
from secateur.runtime import reference
from secateur.support.progress import SilentReporter
from secateur.training.data import load_data, normalise
from secateur.training.models import find_architecture

RATIOS = (0.0, 0.5, 0.9)


def small_sweep(out: Path, **options: object) -> SweepResult:
    settings: dict[str, object] = {"ratios": RATIOS, "epochs": 3, "repairs": "none", "out": out}
    return secateur.sweep("samples:tiny", "digits", **(settings | options))  # type: ignore[arg-type]


def accuracy_in_runtime(path: Path) -> float:
    data, session = load_data("digits"), secateur.load(path)
    images = normalise(data.test.images, data.mean, data.std).numpy()
    found = session(images)
    assert isinstance(found, np.ndarray)
    return float((found.argmax(1) == data.test.labels.numpy()).mean())


def test_a_sweep_measures_every_cell_and_keeps_the_best(tmp_path: Path) -> None:
    result = small_sweep(tmp_path / "run", tolerance=100, repairs="reconstruct")
    assert [row.cell.ratio for row in result.rows] == list(RATIOS)
    assert (result.computed, result.failures) == (3, ())
    dense, half, most = result.rows
    assert dense.test.value == dense.trained.test.value > 0.5
    assert dense.pytorch is None
    assert most.sparsity == pytest.approx(0.9 * 2048 / 2368, abs=1e-3)
    assert (most.macs, most.nonzero_macs) == (2368, 2048 - round(0.9 * 2048) + 320)
    assert half.pytorch is not None
    assert half.pytorch.file_bytes > half.trained.file_bytes + 2048 * 4
    assert {(entry.engine, entry.batch) for entry in half.latencies} == {
        (engine, batch) for engine in ("dense", "pruned", "masked", "secateur") for batch in (1, 64)
    }
    assert all(layer.milliseconds for row in result.rows for layer in row.layers)
    (best,) = result.best
    assert best.row == most
    assert best.packed is not None
    assert best.packed.stat().st_size == most.packed_bytes
    assert accuracy_in_runtime(best.packed) == pytest.approx(most.test.value, abs=1 / 360)
    saved = load_file(best.path)
    assert best.path.stat().st_mode == best.path.with_suffix(".json").stat().st_mode
    assert int((saved["1.weight"] == 0).sum()) == round(0.9 * 2048)
    card = json.loads(best.path.with_suffix(".json").read_text())
    assert card["accuracy"] == most.test.value
    assert "within 100 points" in card["selected_by"]


def test_a_network_that_keeps_results_and_changes_its_input_is_measured_as_one_that_does_not(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "ratios": (0.0, 0.5, 0.8),
        "epochs": 3,
        "methods": ("grasp", "wanda"),
        "latency_on": "cell",
    }
    settings |= {"repairs": ("reconstruct",), "calibration_images": 64}
    plain, keeping = (
        secateur.sweep(f"samples:{name}", "digits", out=tmp_path / name, **settings) for name in ("Plain", "Keeping")
    )
    assert keeping.failures == ()
    assert len(plain.rows) == 6
    for one, other in zip(plain.rows, keeping.rows, strict=True):
        assert (one.validation, one.test) == (other.validation, other.test)


def test_a_sweep_that_is_not_told_reconstructs_by_as_many_images_as_there_are(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"ratios": (0.0, 0.8), "epochs": 1, "latency_on": "none"}
    usual = secateur.sweep("lenet-300-100", "samples:stripes", out=tmp_path / "usual", **settings)
    plain = secateur.sweep("lenet-300-100", "samples:stripes", out=tmp_path / "plain", repairs="none", **settings)
    assert (usual.failures, {row.cell.repair for row in usual.rows}) == ((), {"reconstruct"})
    assert usual.rows[0].test == plain.rows[0].test == usual.rows[0].trained.test
    assert usual.rows[1].test.value > plain.rows[1].test.value


def test_the_same_sweep_again_does_only_what_is_missing(tmp_path: Path) -> None:
    first = small_sweep(tmp_path / "run")
    again = small_sweep(tmp_path / "run", ratios=(*RATIOS, 0.95))
    assert (first.computed, again.computed) == (3, 1)
    assert again.rows[:3] == first.rows
    assert small_sweep(tmp_path / "run").computed == 0


def test_cells_that_share_a_training_train_once(tmp_path: Path, own_cache: Path) -> None:
    result = small_sweep(tmp_path / "run", scopes=("layer", "global"), seeds=(0, 1))
    assert len(result.rows) == 12
    assert len(list((own_cache / "networks").glob("*.pt"))) == 2
    assert len({row.trained.key for row in result.rows}) == 2


def test_the_training_key_depends_on_everything_that_determines_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Cell("samples:tiny", "digits", "magnitude", "layer", 0.5, 0, Recipe())
    cache = NetworkCache(device="cpu")
    key = cache.key(cell)
    for other in (
        dataclasses.replace(cell, seed=1),
        dataclasses.replace(cell, data="samples:stripes"),
        dataclasses.replace(cell, model="lenet-300-100"),
        dataclasses.replace(cell, recipe=Recipe(epochs=2)),
    ):
        assert cache.key(other).id != key.id
    for other in (
        dataclasses.replace(cell, ratio=0.9),
        dataclasses.replace(cell, scope="global"),
        dataclasses.replace(cell, exclude=("1",)),
    ):
        assert cache.key(other) == key
    architecture = find_architecture("samples:tiny")
    edited = dataclasses.replace(architecture, source="edited")
    monkeypatch.setattr(cache_module, "find_architecture", lambda _: edited)
    assert cache.key(cell).id != key.id


def test_a_failed_cell_is_stored_and_tried_again(tmp_path: Path) -> None:
    result = secateur.sweep("samples:Fragile", "digits", ratios=(0.0, 0.5), epochs=0, out=tmp_path / "run")
    assert [row.cell.ratio for row in result.rows] == [0.0]
    (failure,) = result.failures
    assert failure.error.startswith("PruneError: layer 'body'")
    assert "prune_cell" in failure.traceback
    assert secateur.sweep("samples:Fragile", "digits", ratios=(0.0, 0.5), epochs=0, out=tmp_path / "run").computed == 1


def test_a_checkpoint_is_loaded_instead_of_training(tmp_path: Path) -> None:
    trained = small_sweep(tmp_path / "run", tolerance=100)
    path = trained.best[0].path
    result = secateur.sweep("samples:tiny", "digits", ratios=(0.0, 0.95), weights=path, out=tmp_path / "again")
    assert result.rows[0].test == trained.rows[2].test
    assert result.rows[0].trained.epochs == 0
    assert result.rows[0].sparsity == pytest.approx(trained.rows[2].sparsity)
    with pytest.raises(UsageError, match="training options mean nothing: drop epochs"):
        small_sweep(tmp_path / "more", weights=path)


def test_what_does_not_fit_leaves_no_run_behind(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="choose another data set or network"):
        secateur.sweep("samples:Gray", "samples:stripes", out=tmp_path / "run")
    with pytest.raises(DataError, match="not found"):
        secateur.sweep("lenet-5", "cifar-10", data_dir=tmp_path, out=tmp_path / "run")
    assert not (tmp_path / "run" / FILE_NAME).exists()


def test_a_network_without_logits_is_a_clear_failure(tmp_path: Path) -> None:
    result = secateur.sweep("samples:Headless", "digits", ratios=(0.0,), epochs=0, out=tmp_path / "run")
    assert "expected logits (N, 10) for data 'digits', got (2, 1, 8, 8)" in result.failures[0].error


def test_two_sweeps_do_not_write_into_one_run(tmp_path: Path) -> None:
    from filelock import FileLock

    (tmp_path / "run").mkdir()
    with FileLock(tmp_path / "run" / ".lock"), pytest.raises(SweepError, match="another sweep is writing here"):
        small_sweep(tmp_path / "run")


def test_a_run_folder_that_is_removed_meanwhile_is_said(tmp_path: Path) -> None:
    class Removing(SilentReporter):
        def say(self, line: str, *, loud: bool = False) -> None:
            shutil.rmtree(tmp_path / "run", ignore_errors=True)

    with pytest.raises(StoreError, match=r"results\.sqlite: was removed or replaced while it was in use"):
        small_sweep(tmp_path / "run", ratios=(0.0,), epochs=0, latency_on="none", reporter=Removing())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("said", [True, False])
def test_a_full_disk_ends_a_sweep_in_one_line_and_it_goes_on_later(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch, said: bool
) -> None:
    chosen: dict[str, Any] = {"ratios": (0.5,), "epochs": 1, "latency_on": "none"}
    with monkeypatch.context() as full:

        def save(content: object, path: Path) -> None:
            Path(path).write_bytes(b"half")
            cause = OSError(errno.ENOSPC, "No space left on device") if said else None
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 2048 vs 1942") from cause

        if not said:
            full.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1000, 1000, 0))

        full.setattr(torch, "save", save)
        with pytest.raises(SpaceError, match="No space left on device; make room and run the same command again"):
            small_sweep(tmp_path / "run", **chosen)
    assert not [path for path in own_cache.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert small_sweep(tmp_path / "run", **chosen).computed == 1


def test_pytorchs_way_has_the_same_zeros_and_outputs() -> None:
    cell = Cell("lenet-300-100", "digits", "magnitude", "global", 0.9, 0, Recipe(epochs=1))
    cache = NetworkCache(device="cpu")
    dense, _ = cache.trained(cell)
    before = {name: value.clone() for name, value in dense.state_dict().items()}
    pruned, _, _ = prune_cell(cell, dense, cache.dataset(cell))
    masked, footprint = prune_as_pytorch(dense, pruned)
    assert masked is not None
    assert footprint is not None
    images = cache.dataset(cell).example(50)
    torch.testing.assert_close(masked(images), pruned(images))
    assert set(masked.state_dict()) - set(before) == {
        f"{layer}.weight_{part}" for layer in ("fc1", "fc2") for part in ("orig", "mask")
    }
    assert all(torch.equal(before[name], value) for name, value in dense.state_dict().items())
    assert sparsity(pruned) > 0.89


def test_pytorchs_way_takes_the_same_of_weights_that_tie() -> None:
    dense = build("lenet-300-100")
    weight = weight_of(dense.fc1)
    weight.copy_(torch.randint(1, 50, weight.shape) / 100 * torch.randn(weight.shape).sign())
    pruned = copy.deepcopy(dense)
    prune(pruned, 0.5)
    plain = torch_prune.L1Unstructured(0.5).compute_mask(weight, torch.ones_like(weight))  # type: ignore[no-untyped-call]
    assert bool(((plain == 0) != (weight_of(pruned.fc1) == 0)).any())  # left alone, it would take others
    masked, _ = prune_as_pytorch(dense, pruned)
    assert masked is not None
    images = torch.randn(8, 1, 28, 28)
    torch.testing.assert_close(masked(images), pruned(images))


@pytest.mark.weighing
def test_extra_memory_of_pruning_stays_below_a_layer() -> None:
    cell = Cell("samples:wide", "digits", "magnitude", "layer", 0.9, 0, Recipe(epochs=0))
    row = run_cell(cell, cache := NetworkCache(device="cpu"), timed=False)
    if row.ours.peak_memory is None:
        pytest.skip("this system has no /proc to read memory from")
    assert row.ours.peak_memory <= 4 * max(layer.total for layer in row.layers)
    dense, _ = cache.trained(cell)
    footprints = [prune_as_pytorch(dense, make_network(cell, cache)[0])[1] for _ in range(3)]
    held = [each.held_memory or 0 for each in footprints if each]  # less where another test's memory goes meanwhile
    assert max(held) > 1.9 * 4 * sum(layer.total for layer in row.layers)


def test_retrained_cells_keep_their_ratio_and_say_how_long_it_took(tmp_path: Path, own_cache: Path) -> None:
    plans = (
        None,
        retraining_for("gradual", epochs=2),
        retraining_for("rewind-weights", epochs=1),
        Retraining("scratch", 1),
    )
    result = small_sweep(tmp_path / "run", ratios=(0.0, 0.9), retrainings=plans, tolerance=100)
    assert (len(result.rows), result.failures) == (8, ())
    dense = [row for row in result.rows if not row.cell.ratio]
    assert {(row.retrained, row.test) for row in dense} == {(None, dense[0].trained.test)}
    pruned = {row.cell.retraining: row for row in result.rows if row.cell.ratio}
    assert {row.sparsity for row in pruned.values()} == {pruned[None].sparsity}
    for plan in plans[1:]:
        log = pruned[plan].retrained
        assert log is not None
        assert (log.epochs, log.resumed_from) == (plan.epochs if plan else 0, ())
        assert log.seconds > 0
    assert pruned[plans[1]].test.value > pruned[None].test.value
    assert len({row.test.value for row in pruned.values()}) > 2
    card = json.loads(result.best[0].path.with_suffix(".json").read_text())
    saved = load_file(result.best[0].path)
    assert int((saved["1.weight"] == 0).sum()) == round(0.9 * 2048)
    assert card["retraining"] in {plan.way if plan else "none" for plan in plans}
    assert len(list((own_cache / "networks").glob("*.pt"))) == 1 + 3 + 1
    again = small_sweep(tmp_path / "other", ratios=(0.9,), retrainings=plans)
    assert [row.retrained for row in again.rows] == [row.retrained for row in result.rows if row.cell.ratio]


def test_an_interrupted_retraining_of_a_sweep_takes_up_at_its_last_epoch(own_cache: Path) -> None:
    cell = Cell(
        "samples:tiny", "digits", "magnitude", "layer", 0.9, 0, Recipe(epochs=1), retraining=Retraining("gradual", 4)
    )
    cache = NetworkCache(device="cpu")
    cache.trained(cell)
    steps = len(cache.dataset(cell).train) // cell.recipe.batch_size
    with pytest.raises(KeyboardInterrupt):
        make_network(cell, NetworkCache(device="cpu", reporter=Interrupting(after=2 * steps + 3)))
    assert len(list((own_cache / "networks").glob("*.checkpoint"))) == 1
    resumed, log, *_ = make_network(cell, cache)
    assert log is not None
    assert log.resumed_from == (2,)
    assert list((own_cache / "networks").glob("*.checkpoint")) == []
    whole, *_ = make_network(cell, NetworkCache(device="cpu", folder=own_cache / "other"))
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in resumed.state_dict().items())


RETRAINED = Cell(
    "samples:tiny", "digits", "magnitude", "layer", 0.9, 0, Recipe(epochs=1), retraining=Retraining("gradual", 4)
)
CHANGES: dict[str, Any] = {
    "model": "lenet-300-100", "data": "samples:stripes", "method": "random", "scope": "global", "ratio": 0.8, "seed": 1,
    "recipe": Recipe(epochs=2), "exclude": ("3",), "allow_empty": True, "norms": True,
    "weights": WeightsFile("net.pt", "00"), "pattern": "1x4", "calibration_images": 64, "calibration_seed": 5,
    "layer_ratios": (("1", 0.5),), "retraining": Retraining("gradual", 5), "method_source": "00", "include": ("words",),
    "layer_patterns": (("1", "1x4"),),
}  # fmt: skip
WITHOUT_EFFECT = {"repair": "batchnorm", "quantize": "int8", "keep_float": ("1",)}
REFUSED = {"model_source": "00"}


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Cell)])
def test_every_field_of_a_cell_is_in_its_retrained_networks_key_or_said_to_be_without_effect(field: str) -> None:
    cache = NetworkCache(device="cpu")
    key = cache.retrain_key(RETRAINED)
    changed = dataclasses.replace(RETRAINED, **{field: {**CHANGES, **WITHOUT_EFFECT, **REFUSED}[field]})
    if field in REFUSED:
        with pytest.raises(ModelError, match="its files are not those that this was planned with"):
            cache.retrain_key(changed)
    elif field in WITHOUT_EFFECT:
        assert cache.retrain_key(changed).id == key.id
        assert "not at all" in SAID_OTHERWISE[field]
    else:
        assert cache.retrain_key(changed).id != key.id
    fields = RetrainKey("net", changed, "cpu", "fp32").fields
    assert (field in fields) == (field not in SAID_OTHERWISE)


def test_the_key_of_a_retrained_network_is_the_one_of_former_versions() -> None:
    cell = dataclasses.replace(
        RETRAINED, method="mine:one", method_source="aa", exclude=("out",), norms=True, pattern="1x4",
        calibration_images=64, calibration_seed=7, layer_ratios=(("body", 0.5),),
    )  # fmt: skip
    assert RetrainKey("net", cell, "cpu", "fp32").id == "ba50dfc35b3f93e1"


KILLED = (
    "--model", "lenet-300-100", "--data", "digits", "--epochs", "16", "--ratios", "0,0.5,0.7,0.8,0.9",
    "--latency-on", "none", "--out", "run",
)  # fmt: skip


def start(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "secateur", "sweep", *KILLED]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_a_killed_sweep_resumes_without_repeating_a_cell_or_an_epoch(tmp_path: Path, own_cache: Path) -> None:
    networks = own_cache / "networks"

    def epoch() -> int:
        for checkpoint in networks.glob("*.checkpoint"):
            return int(torch.load(checkpoint, weights_only=True)["epoch"])
        return 0

    kill_when(lambda: epoch() >= 3, start(tmp_path))
    assert list(networks.glob("*.pt")) == []
    kill_when(lambda: len(stored(tmp_path / "run")) >= 2, start(tmp_path))
    (network,) = networks.glob("*.pt")
    trained_at, before = network.stat().st_mtime_ns, stored(tmp_path / "run")
    assert start(tmp_path).wait(timeout=900) == 0
    after = stored(tmp_path / "run")
    assert network.stat().st_mtime_ns == trained_at
    assert len(after) == 5
    assert before.items() <= after.items()
    with Store.open(tmp_path / "run") as store:
        (resumed_from,) = {row.trained.resumed_from for row in store.rows()}
        rows = store.rows()
    assert len(resumed_from) == 1
    assert 3 <= resumed_from[0] < 16
    whole = secateur.sweep(
        "lenet-300-100", "digits", ratios=(0.0,), epochs=16, latency_on="none", out=tmp_path / "whole"
    )
    assert {row.trained.key for row in whole.rows} == {row.trained.key for row in rows}

    killed_weights = torch.load(network, weights_only=True)
    network.unlink()
    network.with_suffix(".json").unlink()
    unbroken, _ = NetworkCache(device="cpu").trained(rows[0].cell)
    assert all(torch.equal(killed_weights[name], value) for name, value in unbroken.state_dict().items())


def as_is_checkpoint(path: Path) -> tuple[Path, float, float]:
    """A network trained on x/255, and its accuracy on test data in a plain loop, so and as the data set advises."""
    data = load_data("digits")
    torch.manual_seed(0)
    network = tiny()
    assert isinstance(network, torch.nn.Sequential)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    labels = data.train.labels
    for _ in range(30):
        loss = torch.nn.functional.cross_entropy(network(data.train.images / 255), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        plain = float((network(data.test.images / 255).argmax(1) == data.test.labels).float().mean())
        other = normalise(data.test.images, data.mean, data.std)
        wrong = float((network(other).argmax(1) == data.test.labels).float().mean())
    torch.save({"model": network.state_dict()}, path)
    return path, plain, wrong


def test_a_checkpoint_of_another_normalisation_is_measured_under_that_or_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, plain, wrong = as_is_checkpoint(tmp_path / "net.pt")
    assert plain > wrong + 0.05
    chosen: dict[str, Any] = {"ratios": (0.0, 0.5), "latency_on": "none", "weights": path, "out": tmp_path / "run"}
    warned = secateur.sweep("samples:tiny", "digits", **chosen)
    assert [row.trained.test.value for row in warned.rows] == pytest.approx([wrong, wrong])
    first, loaded, doubt = warned.notes
    assert f"{wrong:.2%} of 360 test images, given as (x/255 - 0.30" in first
    assert loaded == "weights net.pt: found under 'model.'"
    assert doubt.startswith("warning: under x/255 as is it has ")
    assert doubt.endswith(": give --mean 0 --std 1")
    said = [each.message for each in caplog.records if each.name == "secateur"]
    assert said == [doubt.removeprefix("warning: ")]

    right = secateur.sweep("samples:tiny", "digits", **chosen, mean=0, std=1)
    assert [row.trained.test.value for row in right.rows] == pytest.approx([plain, plain])
    assert right.notes[0].startswith("dense samples:tiny on digits (mean 0, std 1): ")
    assert right.notes[0].endswith("given as x/255 as is")
    assert len(right.notes) == 2
    with Store.open(tmp_path / "run") as store:
        assert {row.cell.data for row in store.rows()} == {"digits", "digits (mean 0, std 1)"}
        assert len({row.trained.key for row in store.rows()}) == 2


@pytest.mark.parametrize("latency_on", ["none", "cell"])
@pytest.mark.parametrize("model", ["derived:prelu", "derived:standardised"])
def test_every_cells_accuracy_is_pytorchs(model: str, latency_on: str, tmp_path: Path) -> None:
    ratios = (0.0, 0.3, 0.5, 0.7)
    result = secateur.sweep(model, "digits", ratios=ratios, epochs=2, out=tmp_path, latency_on=latency_on)
    cache = NetworkCache()
    assert len(result.rows) == len(ratios)
    for row in result.rows:
        network, *_ = make_network(row.cell, cache, weigh=False)
        assert (row.validation, row.test) == cache.accuracies(network, row.cell)
        assert row.packed_bytes is not None


def test_attributes_that_a_network_draws_are_its_own(tmp_path: Path) -> None:
    result = secateur.sweep(
        "derived:drawn", "digits", ratios=(0.0,), seeds=(0, 1), epochs=1, out=tmp_path, latency_on="none"
    )
    cache = NetworkCache()
    for row in result.rows:
        assert row.test == cache.accuracies(cache.trained(row.cell)[0], row.cell)[1]


class Telling(SilentReporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str, *, loud: bool = False) -> None:
        self.said.append(line)


def test_a_trace_that_no_longer_tells_what_forward_does_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = Telling()
    cache = NetworkCache(reporter=reporter)
    cell = Cell("derived:with_a_global", "digits", "magnitude", "layer", 0.0, 0, Recipe(epochs=1))
    network, _ = cache.trained(cell)
    images = cache.dataset(cell).example(8)
    for slope in (0.1, 0.9):
        monkeypatch.setattr(derived, "SLOPE", slope)
        graph = cache.graph(network, cell)
        assert graph is not None
        with torch.no_grad():
            assert np.allclose(reference.run(graph, images.numpy()), network(images), rtol=1e-4, atol=1e-4)
    assert [each for each in reporter.said if "traced anew" in each] == reporter.said[-1:]
    monkeypatch.setattr(graphs, "largest_difference", lambda found, expected: 0.5)
    assert cache.graph(network, cell) is None
    assert "measured in PyTorch only: its graph is off by 0.5" in reporter.said[-1]


class Bessel(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.i0e(x)


def test_a_network_that_no_graph_holds_is_said_once_whatever_is_pruned() -> None:
    reporter = Telling()
    cache = NetworkCache(reporter=reporter)
    cell = Cell("derived:with_a_global", "digits", "magnitude", "layer", 0.0, 0, Recipe(epochs=1))
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), Bessel())
    assert [cache.graph(network, cell) for _ in range(3)] == [None] * 3
    (said,) = reporter.said
    assert "measured in PyTorch only" in said


def test_a_sweep_prunes_through_weight_normalisation_and_says_what_stayed_dense(
    tmp_path: Path, run_cli: RunCli
) -> None:
    anyones: Any = {"ratios": [np.float32(0.7)], "seeds": np.arange(1)}
    result = secateur.sweep(
        "samples:Spoken", "digits", out=tmp_path / "run", epochs=1, latency_on="none",
        **anyones,
    )  # fmt: skip
    assert not result.failures
    assert [row.cell.ratio for row in result.rows] == [0.7]
    left = (("fixed", "does not learn"), ("words.weight", "Embedding"))
    for row in result.rows:
        kept = {layer.name: layer.kept for layer in row.layers}
        expected = 384 - round(0.7 * 384) if row.cell.ratio else 384
        assert kept["rnn.weight_hh_l0"] == (768 - round(0.7 * 768) if row.cell.ratio else 768)
        (recurrent,) = (layer for layer in row.layers if layer.name == "rnn.weight_hh_l0")
        assert recurrent.macs == 768 * 16  # rows of an image
        assert (kept["rows"], kept["fixed"], row.left) == (expected, 64, left)
        network, *_ = make_network(row.cell, NetworkCache())
        assert int(weight_of(network.rows).count_nonzero()) == expected  # type: ignore[arg-type]
    assert "left dense in samples:Spoken: fixed (does not learn), words.weight (Embedding)" in str(result)
    with Store.open(tmp_path / "run") as store:
        assert [row.left for row in store.rows()] == [left] * len(result.rows)
    assert "note: left dense in samples:Spoken: fixed (does not learn)" in run_cli("show", "run").stdout
