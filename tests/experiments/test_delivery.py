from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import secateur
from secateur.errors import ModelError
from secateur.experiments.delivery import Kept, from_checkpoint, from_run, place_of

NET = """from torch import nn


def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, {0}), nn.Linear({0}, 10))
"""


def kept_sweep(out: Path, model: str | list[str] = "samples:tiny", **options: Any) -> secateur.SweepResult:
    settings: dict[str, Any] = {"ratios": (0.5,), "epochs": 0, "tolerance": 100, "latency_on": "none"}
    return secateur.sweep(model, "digits", out=out, **({"repairs": "none"} | settings | options))


def flipped(path: Path) -> None:
    """One bit of the last byte, where a safetensors file holds numbers."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_whatever_is_missing_or_damaged_in_best_is_not_packed_but_made_anew(tmp_path: Path) -> None:
    (best,) = kept_sweep(tmp_path).best
    flipped(best.path)
    with pytest.raises(ModelError, match=r"tiny-digits\.safetensors: is missing or damaged: .*; run the sweep again"):
        from_run(tmp_path)
    (best,) = kept_sweep(tmp_path).best
    for suffix, harm in ((".safetensors", Path.unlink), (".secateur", Path.unlink), (".json", flipped)):
        harmed = best.path.with_suffix(suffix)
        before = harmed.read_bytes()
        harm(harmed)
        (again,) = kept_sweep(tmp_path).best
        assert again.packed == best.packed
        assert harmed.read_bytes() == before
    from_run(tmp_path)


def test_networks_whose_names_look_alike_have_files_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("net\u00e4", "net\u00f6", "net-", "NET\u00e4")
    for width, name in enumerate(names, 20):
        (tmp_path / f"{name}.py").write_text(NET.format(width))
    monkeypatch.syspath_prepend(tmp_path)
    models = [f"{name}:net" for name in names if name.isidentifier()]
    result = kept_sweep(tmp_path / "run", models)
    assert len({best.path.name.casefold() for best in result.best}) == len(models) == 3
    for width, model in zip((20, 21, 23), models, strict=True):
        network = from_run(tmp_path / "run", model).network
        assert isinstance(network, nn.Sequential)
        assert network[1].out_features == width
    again = kept_sweep(tmp_path / "run", models[1])
    assert again.best[0].path in {best.path for best in result.best if best.row.cell.model == models[1]}


def test_a_run_of_before_digests_and_digested_names_is_read_and_kept_in_its_place(tmp_path: Path) -> None:
    (best,) = kept_sweep(tmp_path).best
    old = {suffix: best.path.with_name(f"old-name{suffix}") for suffix in (".safetensors", ".secateur", ".json")}
    for suffix, path in old.items():
        best.path.with_suffix(suffix).rename(path)
    card = json.loads(old[".json"].read_text())
    del card["files"], card["checksum"]
    old[".json"].write_text(json.dumps(card))
    made = from_run(tmp_path).network.state_dict()
    assert all(torch.equal(made[name], tensor) for name, tensor in load_file(old[".safetensors"]).items())
    (again,) = kept_sweep(tmp_path).best
    assert again.path == old[".safetensors"]
    assert [path.name for path in sorted((tmp_path / "best").iterdir())] == [
        "old-name.json", "old-name.safetensors", "old-name.secateur",
    ]  # fmt: skip


def test_one_model_on_two_data_sets_is_told_apart_by_its_files(tmp_path: Path) -> None:
    kept_sweep(tmp_path)
    kept_sweep(tmp_path, mean=0, std=1)
    with pytest.raises(ModelError, match=r"2 networks \(samples-tiny-digits-mean-0-std-1, samples-tiny-digits\): say"):
        from_run(tmp_path)
    assert from_run(tmp_path, "samples-tiny-digits-mean-0-std-1").metadata.std == (1.0,)


@pytest.mark.parametrize("text", ["", "[]", "{", "nonsense", '{"model": "samples:tiny", "data": "digits"}'])
def test_a_card_that_is_none_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "net.json").write_text(text)
    with pytest.raises(
        ModelError, match=r"is damaged; run the same sweep|does not say classes, input, mean, std; run the sweep"
    ):
        from_run(tmp_path)


def test_names_in_best_are_short_and_plain(tmp_path: Path) -> None:
    assert place_of(tmp_path, "lenet-5", "mnist").path == tmp_path / "lenet-5-mnist.safetensors"
    assert len(place_of(tmp_path, "x" * 300, "digits").path.name) < 200
    assert place_of(tmp_path, "\u00e4", "\u00f6").path.name == "network.safetensors"
    assert Kept(tmp_path / "a.json").packed == tmp_path / "a.secateur"


def test_the_number_of_classes_is_that_of_the_checkpoint_whatever_comes_last_in_it(tmp_path: Path) -> None:
    def network(classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, classes))

    masked = network(7)
    torch.nn.utils.prune.l1_unstructured(masked[3], "weight", 0.5)  # type: ignore[no-untyped-call, index]
    state = network(4).state_dict()
    for held, classes in (
        ({"model": state, "epoch": 3}, 4),
        ({"a": torch.ones(2), **{f"module.{name}": state[name] for name in reversed(state)}}, 4),
        (masked.state_dict(), 7),
    ):
        torch.save(held, tmp_path / "net.pt")
        made = from_checkpoint(tmp_path / "net.pt", "samples:tiny", shape=(1, 8, 8))
        with torch.no_grad():
            assert made.network(made.example).shape == (1, classes)
        assert made.notes
    torch.save([network(3).state_dict(), network(5).state_dict()], tmp_path / "net.pt")
    with pytest.raises(ModelError, match=r"different numbers of classes \(3 and 5\): say which with --classes"):
        from_checkpoint(tmp_path / "net.pt", "samples:tiny", shape=(1, 8, 8))
    made = from_checkpoint(tmp_path / "net.pt", "samples:tiny", shape=(1, 8, 8), classes=5)
    assert made.notes == ("found under '1.'",)
