"""What was kept, and is damaged, of an earlier version or of something that was changed since."""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import secateur
from samples import stripes
from secateur.errors import CallableError, ModelError, StoreError, SweepError
from secateur.experiments import cache as cache_module
from secateur.experiments.cache import NetworkCache
from secateur.experiments.pipeline import make_network
from secateur.experiments.sweeping import SweepResult, keep_best
from secateur.records.recipes import Recipe, retraining_for
from secateur.records.spec import Cell
from secateur.records.store import FILE_NAME, Store

RATIOS = (0.0, 0.5, 0.9)


def small_sweep(out: Path, **options: object) -> SweepResult:
    settings: dict[str, object] = {"ratios": RATIOS, "epochs": 3, "repairs": "none", "out": out}
    return secateur.sweep("samples:tiny", "digits", **(settings | options))  # type: ignore[arg-type]


def test_exchanged_data_files_do_not_mix_in_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secateur.sweep("lenet-300-100", "samples:stripes", ratios=(0.0,), epochs=1, out=tmp_path / "run")
    changed = dataclasses.replace(stripes(), digest="other")
    monkeypatch.setattr(cache_module, "find_data", lambda *_: changed)
    with pytest.raises(SweepError, match=r"'samples:stripes' rows were measured on other files .*name another --out"):
        secateur.sweep("lenet-300-100", "samples:stripes", ratios=(0.5,), epochs=1, out=tmp_path / "run")


def test_rows_of_a_method_that_was_edited_do_not_mix_in_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "edited.py"
    path.write_text(
        "def scores(context):\n    return {name: weight.abs() for name, weight in context.weights.items()}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    chosen: dict[str, Any] = {"ratios": (0.5,), "epochs": 0, "out": tmp_path / "run", "latency_on": "none"}
    once = secateur.sweep("samples:tiny", "digits", methods=("edited:scores",), **chosen)
    assert (once.computed, once.failures) == (1, ())
    assert secateur.sweep("samples:tiny", "digits", methods=("edited:scores",), **chosen).computed == 0
    path.write_text(path.read_text().replace("weight.abs()", "-weight.abs()"))
    with pytest.raises(SweepError, match=r"its 'edited:scores/layer' rows .* before the file of 'edited:scores' was"):
        secateur.sweep("samples:tiny", "digits", methods=("edited:scores",), **chosen)


def test_rows_of_a_model_that_was_edited_do_not_mix_in_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "drafts.py"
    path.write_text("from torch import nn\n\n\ndef net():\n    return nn.Linear(3, 10)\n")
    monkeypatch.syspath_prepend(tmp_path)
    chosen: dict[str, Any] = {"ratios": (0.5,), "epochs": 0, "out": tmp_path / "run", "latency_on": "none"}
    failed = secateur.sweep("drafts:net", "digits", **chosen)
    assert len(failed.failures) == 1

    path.write_text(
        "from torch import nn\n\n\ndef net():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 10))\n"
    )
    importlib.reload(sys.modules["drafts"])
    mended = secateur.sweep("drafts:net", "digits", **chosen)
    assert (mended.computed, mended.failures) == (1, ())
    with Store.open(tmp_path / "run") as store:
        assert store.failures() == []
    assert secateur.sweep("drafts:net", "digits", **chosen).computed == 0

    path.write_text(path.read_text().replace("20", "24"))
    with pytest.raises(SweepError, match=r"its rows of 'drafts:net' were measured before that file was edited"):
        secateur.sweep("drafts:net", "digits", **chosen)


def flip(path: Path) -> None:
    """One bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


@pytest.mark.parametrize("ending", [".pt", ".json"])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "broken"])
def test_a_damaged_cached_network_is_said_and_made_anew(
    own_cache: Path, ending: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    cell = Cell("samples:tiny", "digits", "magnitude", "layer", 0.5, 0, Recipe(epochs=1))
    network, trained = NetworkCache(device="cpu").trained(cell)
    assert NetworkCache(device="cpu").trained(cell)[1] == trained
    assert "made anew" not in caplog.text
    (path,) = (own_cache / "networks").glob(f"*{ending}")
    content = path.read_bytes()
    if damage == "flipped":
        flip(path)
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"broken")
    again, described = NetworkCache(device="cpu").trained(cell)
    assert str(path.with_suffix("")) in caplog.text
    assert "the network is made anew" in caplog.text
    assert (described.validation, described.test) == (trained.validation, trained.test)
    assert all(torch.equal(one, other) for one, other in zip(network.parameters(), again.parameters(), strict=True))


def test_a_network_that_an_earlier_version_kept_is_compared_by_its_accuracy_and_sealed(
    own_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cell = Cell("samples:tiny", "digits", "magnitude", "layer", 0.5, 0, Recipe(epochs=1))
    _, trained = NetworkCache(device="cpu").trained(cell)
    (path,) = (own_cache / "networks").glob("*.json")
    content = json.loads(path.read_text())
    for name in ("checksum", "outputs"):
        del content[name]
    for name in ("mean", "std", "augment"):
        del content["trained"][name]
    path.write_text(json.dumps(content))
    assert NetworkCache(device="cpu").trained(cell)[1].test == trained.test
    assert "made anew" not in caplog.text
    assert {"checksum", "outputs"} <= json.loads(path.read_text()).keys()
    content["trained"]["validation"]["top1"] -= 0.1
    path.write_text(json.dumps(content))
    assert NetworkCache(device="cpu").trained(cell)[1].test == trained.test
    assert "on validation data where it had" in caplog.text


def test_a_network_whose_forward_changed_in_a_way_that_nothing_follows_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "reading.py").write_text(
        "from pathlib import Path\nfrom torch import nn\nclass Net(nn.Module):\n    def __init__(self):\n"
        "        super().__init__()\n        self.fc = nn.Sequential(nn.Linear(64, 16), nn.Linear(16, 10))\n"
        "    def forward(self, x):\n"
        "        return self.fc((x * float(Path(__file__).with_name('scale.txt').read_text())).tanh().flatten(1))\n"
    )
    (tmp_path / "scale.txt").write_text("1")
    monkeypatch.syspath_prepend(tmp_path)
    chosen: dict[str, Any] = {"epochs": 1, "out": tmp_path / "run", "latency_on": "none"}
    secateur.sweep("reading:Net", "digits", ratios=(0.5,), **chosen)
    (tmp_path / "scale.txt").write_text("-3")
    with pytest.raises(
        StoreError, match=r"started from a network .* made anew and came out otherwise; name another --out"
    ):
        secateur.sweep("reading:Net", "digits", ratios=(0.6,), **chosen)
    assert "its outputs are off by" in caplog.text


def test_early_weights_and_retrained_networks_that_are_damaged_are_made_anew(
    own_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    retraining = retraining_for("rewind-weights", epochs=1)
    cell = Cell("samples:tiny", "digits", "magnitude", "layer", 0.5, 0, Recipe(epochs=2), retraining=retraining)
    before, *_ = make_network(cell, NetworkCache(device="cpu"))
    for path in (own_cache / "networks").glob("*.pt"):
        flip(path)
    again, *_ = make_network(cell, NetworkCache(device="cpu"))
    assert caplog.text.count("made anew") == 3
    assert all(torch.equal(one, other) for one, other in zip(before.parameters(), again.parameters(), strict=True))


def test_a_helper_of_a_model_that_was_edited_is_another_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "whole.py").write_text("import piece\ndef net():\n    return piece.net()\n")
    helper = tmp_path / "piece.py"
    helper.write_text("from torch import nn\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n")
    monkeypatch.syspath_prepend(tmp_path)
    chosen: dict[str, Any] = {"ratios": (0.0,), "epochs": 0, "latency_on": "none"}
    first = secateur.sweep("whole:net", "digits", out=tmp_path / "run", **chosen)
    helper.write_text(helper.read_text().replace("nn.Flatten()", "nn.Flatten(), nn.Tanh()"))
    with pytest.raises(SweepError, match="its rows of 'whole:net' were measured before that file was edited"):
        secateur.sweep("whole:net", "digits", out=tmp_path / "run", **chosen)
    with pytest.raises(CallableError, match=r"piece\.py was edited after Python had loaded it: start Python again"):
        secateur.sweep("whole:net", "digits", out=tmp_path / "other", **chosen)
    assert not (tmp_path / "other" / FILE_NAME).exists()
    importlib.reload(sys.modules["piece"])
    second = secateur.sweep("whole:net", "digits", out=tmp_path / "other", **chosen)
    assert first.rows[0].trained.key != second.rows[0].trained.key
    stale = Cell(
        "whole:net", "digits", "magnitude", "layer", 0.0, 0, Recipe(), model_source=first.rows[0].cell.model_source
    )
    with pytest.raises(ModelError, match="its files are not those that this was planned with"):
        NetworkCache(device="cpu").trained(stale)


def test_data_that_were_exchanged_are_noticed_where_every_cell_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: dict[str, Any] = {"ratios": (0.0, 0.5), "epochs": 1, "out": tmp_path / "run", "latency_on": "none"}
    result = secateur.sweep("lenet-300-100", "samples:stripes", tolerance=0, **chosen)
    same = stripes()
    for changed, told in (
        (dataclasses.replace(same, digest="other"), "were measured on other files"),
        (dataclasses.replace(same, mean=(0.1,)), r"are of images given with mean .* not \(0\.1,\)"),
        (dataclasses.replace(same, augment="crop-flip"), "augmentation none, not .* crop-flip; name another --out"),
    ):
        monkeypatch.setattr(cache_module, "find_data", lambda *_, changed=changed: changed)
        with pytest.raises(SweepError, match=told):
            secateur.sweep("lenet-300-100", "samples:stripes", tolerance=100, **chosen)
    assert len(result.rows) == 2


def test_damaged_files_of_the_best_network_are_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    chosen: dict[str, Any] = {"tolerance": 100, "ratios": (0.5,), "epochs": 1, "latency_on": "none"}
    (best,) = small_sweep(tmp_path / "run", **chosen).best
    assert best.packed is not None
    whole = {path.name: path.read_bytes() for path in best.path.parent.iterdir()}
    for path in (best.path, best.packed, best.path.with_suffix(".json")):
        flip(path)
        small_sweep(tmp_path / "run", **chosen)
        assert f"{path} is missing or damaged: it is made anew" in caplog.text
        assert {each.name: each.read_bytes() for each in best.path.parent.iterdir()} == whole


def test_a_best_network_that_is_not_the_one_measured_is_refused(tmp_path: Path) -> None:
    chosen: dict[str, Any] = {"tolerance": 100, "ratios": (0.5,), "epochs": 1, "latency_on": "none"}
    row = small_sweep(tmp_path / "run", **chosen).rows[0]
    other = dataclasses.replace(row, validation=dataclasses.replace(row.validation, value=row.validation.value - 0.1))
    with pytest.raises(SweepError, match=r"made again its network has .* where its row says .*; name another --out"):
        keep_best(other, tmp_path / "run", "a test", NetworkCache(device="cpu"))
