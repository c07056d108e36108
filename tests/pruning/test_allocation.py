"""Scopes against their papers' formulas, computed another way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import secateur
from samples import build
from secateur.errors import PruneError, UsageError
from secateur.experiments.layer_ratios import split_scopes
from secateur.modules.layers import weight_of, weighted_layers
from secateur.pruning.allocation import erk_ratios, lamp
from secateur.pruning.pruning import layer_sparsity, prune, sparsity
from secateur.pruning.score import Scores

SHAPES = {"conv": torch.Size((64, 3, 7, 7)), "wide": torch.Size((512, 512, 3, 3)), "fc": torch.Size((10, 512))}


def test_erk_densities_follow_the_dimensions() -> None:
    """Evci et al. 2020: density ∝ (outputs + inputs + kernel's sides) / (their product)."""
    ratios = erk_ratios(SHAPES, 0.9)
    densities = {name: 1 - ratio for name, ratio in ratios.items()}
    kept = sum(densities[name] * shape.numel() for name, shape in SHAPES.items())
    assert kept == pytest.approx(0.1 * sum(shape.numel() for shape in SHAPES.values()))
    # sums over products: conv 81/9408, wide 1030/2359296, fc 522/5120; the first and the last would exceed 1
    assert densities["fc"] == densities["conv"] == 1
    assert densities["wide"] == pytest.approx((0.1 * (9408 + 2359296 + 5120) - 9408 - 5120) / 2359296)
    few = {name: 1 - ratio for name, ratio in erk_ratios(SHAPES, 0.9995).items()}
    assert max(few.values()) < 1
    assert few["conv"] / few["wide"] == pytest.approx((81 / 9408) / (1030 / 2359296))
    assert few["fc"] / few["wide"] == pytest.approx((522 / 5120) / (1030 / 2359296))


def test_lamp_scores_follow_their_definition() -> None:
    """Lee et al. 2021, equation 3, by its double loop."""
    values = torch.rand(3, 4)
    expected = torch.tensor(
        [[float(u**2 / sum(v**2 for v in values.flatten() if v >= u)) for u in row] for row in values]
    )
    torch.testing.assert_close(lamp(Scores({"a": values}))["a"].float(), expected)
    assert float(lamp(Scores({"a": values}))["a"].max()) == pytest.approx(1)


def test_lamp_keeps_the_order_of_scores_that_may_be_negative() -> None:
    values = torch.randn(50)
    adapted = lamp(Scores({"a": values}))["a"]
    assert torch.equal(adapted.argsort(), values.argsort())


def test_lamp_never_empties_a_layer_that_magnitude_would() -> None:
    network: Any = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 10))
    network[0].weight.data *= 1e-6
    prune(network, 0.6, scope="lamp", keep_output=False)
    assert 0 < layer_sparsity(network)["0"] < 1
    assert sparsity(network) == pytest.approx(0.6)


@pytest.mark.parametrize("scope", ["global", "erk", "lamp", "like:random/global", "like:magnitude/erk"])
def test_every_scope_over_all_layers_prunes_the_share_of_all(scope: str) -> None:
    network = build("lenet-5")
    log = prune(network, 0.9, scope=scope)
    assert log.sparsity == pytest.approx(0.9, abs=1e-4)


def test_random_takes_another_methods_proportions() -> None:
    chance, magnitude = build("lenet-5"), build("lenet-5")
    prune(magnitude, 0.9, scope="global")
    prune(chance, 0.9, method="random", scope="like:magnitude/global", seed=3)
    assert layer_sparsity(chance) == layer_sparsity(magnitude)
    assert not torch.equal(chance.fc1.weight == 0, magnitude.fc1.weight == 0)


def test_ratios_layer_by_layer() -> None:
    network = build("lenet-5")
    log = prune(network, {"conv2": 0.5, "fc1": 0.95})
    assert layer_sparsity(network) == {"conv1": 0, "conv2": 0.5, "fc1": 0.95, "fc2": 0, "fc3": 0}
    assert set(log.kept) == {"conv1", "conv2", "fc1", "fc2"}
    with pytest.raises(UsageError, match=r"ratio of 'fc3': expected the name of a layer to prune, one of conv1, conv2"):
        prune(network, {"fc3": 0.5})
    with pytest.raises(UsageError, match=r"ratio 1.5: expected in \[0, 1\)"):
        prune(network, {"fc1": 1.5})


def test_a_file_of_ratios_is_a_scope_of_a_sweep(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"fc1": 0.9, "fc2": 0.5}))
    result = secateur.sweep(
        "lenet-300-100",
        "digits",
        scopes=[f"file:{path}"],
        epochs=0,
        repairs=("none",),
        latency_on="none",
        out=tmp_path / "run",
    )
    (row,) = result.rows
    assert row.cell.scope == "file:mine.json"
    assert row.cell.ratio == pytest.approx((0.9 * 235_200 + 0.5 * 30_000) / 265_200, abs=1e-6)
    assert [layer.sparsity for layer in row.layers] == pytest.approx([0.9, 0.5, 0])
    path.write_text(json.dumps({"fc1": 0.8, "fc2": 0.5}))
    changed = secateur.sweep(
        "lenet-300-100",
        "digits",
        scopes=[f"file:{path}"],
        epochs=0,
        repairs=("none",),
        latency_on="none",
        out=tmp_path / "run",
    )
    assert (changed.computed, len(changed.rows)) == (1, 1)
    for content, message in (
        ("[1]", "expected an object of layers"),
        ("{", "cannot be read as JSON"),
        ('{"fc9": 0.5}', "has no layer 'fc9' to prune; expected one of fc1, fc2"),
        ('{"fc1": "half"}', r"layer 'fc1': expected a ratio in \[0, 1\), got 'half'"),
        ('{"fc1": 0.5, "fc2": 0.1, "fc1": 0.9}', "layer 'fc1' has several ratios; name each layer once"),
        ("[" * 100_000, "cannot be read as JSON: maximum recursion depth exceeded"),
    ):
        path.write_text(content)
        with pytest.raises(UsageError, match=message):
            split_scopes([f"file:{path}"], ["lenet-300-100"], ["digits"], [0], [0.5])


def test_proportions_are_copied_from_another_run(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"ratios": (0.5, 0.9), "epochs": 0, "repairs": "none", "latency_on": "none"}
    first = secateur.sweep("lenet-300-100", "digits", scopes=("global", "erk"), out=tmp_path / "first", **settings)
    source = tmp_path / "first"
    copied = secateur.sweep(
        "lenet-300-100", "digits", methods=("random",), scopes=(f"copy:{source}@magnitude/global",),
        out=tmp_path / "second", **settings,
    )  # fmt: skip
    wanted = [row for row in first.rows if row.cell.scope == "global"]
    assert [row.cell.ratio for row in copied.rows] == [0.5, 0.9]
    for row, other in zip(copied.rows, wanted, strict=True):
        assert (row.cell.method, row.cell.scope) == ("random", "copy:magnitude/global")
        assert [layer.kept for layer in row.layers] == [layer.kept for layer in other.layers]
    with pytest.raises(UsageError, match=r"is there as magnitude/erk and as magnitude/global; name one as copy:"):
        split_scopes([f"copy:{source}"], ["lenet-300-100"], ["digits"], [0], [0.5])
    with pytest.raises(UsageError, match="has no row for these networks, seeds and ratios; it has lenet-300-100 mag"):
        split_scopes([f"copy:{source}"], ["lenet-300-100"], ["digits"], [7], [0.5])


def test_emptied_layers_and_whole_channels_are_copied_too(tmp_path: Path) -> None:
    chosen = {layer: torch.rand_like(weight_of(module)) for layer, module in weighted_layers(build("lenet-5")).items()}
    assert prune(build("lenet-5"), {"conv2": 1.0}, method=Scores(chosen), allow_empty=True).kept["conv2"] == 0
    with pytest.raises(PruneError, match=r"layer 'conv2' would lose all of its \d+ weights at the ratio of the layer"):
        prune(build("lenet-5"), {"conv2": 1.0})
    settings: dict[str, Any] = {"data": "digits", "epochs": 0, "repairs": "none", "latency_on": "none"}
    emptied = secateur.sweep(
        "lenet-300-100", methods=("samples:last_layers_first",), scopes=("global",), ratios=(0.5,), allow_empty=True,
        out=tmp_path / "emptied", **settings,
    )  # fmt: skip
    assert [layer.kept for layer in emptied.rows[0].layers][1] == 0
    channels = secateur.sweep(
        "lenet-300-100", patterns=("channel-l1",), ratios=(0.5,), out=tmp_path / "channels", **settings
    )
    assert [layer.sparsity > 0 for layer in channels.rows[0].layers] == [True, True, True]
    for name, source in (("emptied", emptied), ("channels", channels)):
        again = secateur.sweep(
            "lenet-300-100", methods=("random",), scopes=(f"copy:{tmp_path / name}",), ratios=(0.5,), allow_empty=True,
            out=tmp_path / f"{name} again", **settings,
        )  # fmt: skip
        assert not again.failures
        (row,), (other,) = again.rows, source.rows
        assert [layer.kept for layer in row.layers][:2] == [layer.kept for layer in other.layers][:2]


def test_scopes_do_not_change_what_is_kept_within_a_layer() -> None:
    """However many a layer loses, they are its smallest."""
    for scope in ("erk", "lamp", "like:random/global"):
        network = build("lenet-5")
        before = {name: weight_of(layer).abs().clone() for name, layer in weighted_layers(network).items()}
        prune(network, 0.8, scope=scope)
        for name, layer in weighted_layers(network).items():
            gone = weight_of(layer) == 0
            if gone.any():
                assert before[name][gone].max() <= before[name][~gone].min()
