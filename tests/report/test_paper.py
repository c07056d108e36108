from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

from conftest import RunCli
from samples import make_row, paper_row
from secateur.errors import UsageError
from secateur.modules.layers import weight_of
from secateur.pruning.pruning import prune
from secateur.records.recipes import recipe_for
from secateur.records.spec import expand
from secateur.records.store import Store
from secateur.report import STUDY_FORMATS, study_grids
from secateur.report.paper import PRUNED_RATIOS, READINGS, claims, compare, compounded, plan_study, published


def test_what_the_paper_printed_is_whole() -> None:
    assert [(each.table, each.model, each.epochs) for each in published()] == [
        (1, "lenet-5", 20), (1, "lenet-300-100", 20), (2, "resnet-18", 200), (2, "resnet-50", 200)
    ]  # fmt: skip
    assert all(tuple(each.accuracy) == PRUNED_RATIOS for each in published())
    by_model = {each.model: each for each in published()}
    assert (by_model["lenet-5"].accuracy[0.8], by_model["resnet-18"].accuracy[0.5]) == (0.9, 0.1739)
    assert [round(100 * each.dense, 2) for each in published()] == [97.94, 97.91, 89.36, 89.90]


def test_compounded_shares_follow_the_closed_formula() -> None:
    assert compounded((0.25, 0.5, 0.6, 0.7)) == (0.25, 0.625, 0.85, 0.955)
    for count in range(1, 10):
        left = math.prod(1 - amount for amount in PRUNED_RATIOS[:count])
        assert compounded(PRUNED_RATIOS)[count - 1] == pytest.approx(1 - left, abs=1e-14)


@pytest.mark.parametrize("shape", [(300, 784), (16, 6, 5, 5), (64,)])
def test_calling_pytorch_again_and_again_cuts_what_one_call_at_the_compounded_ratio_cuts(
    shape: tuple[int, ...],
) -> None:
    module = nn.Module()
    weight = torch.randn(shape)
    module.weight = nn.Parameter(weight.clone())
    for calls, (amount, ratio) in enumerate(zip(PRUNED_RATIOS, compounded(PRUNED_RATIOS), strict=True), start=1):
        torch_prune.l1_unstructured(module, "weight", amount)  # type: ignore[no-untyped-call]
        again = zeros_of(module)
        once = nn.Module()
        once.weight = nn.Parameter(weight.clone())
        torch_prune.l1_unstructured(once, "weight", ratio)  # type: ignore[no-untyped-call]
        single = zeros_of(once)
        assert int(torch.ne(again, single).sum()) <= calls  # PyTorch rounds each call to whole weights
        assert bool((again & single).sum() == min(again.sum(), single.sum()))  # one set holds the other


def test_our_cut_at_the_compounded_ratio_is_pytorchs_after_many_calls() -> None:
    network = nn.Sequential(nn.Linear(784, 300), nn.Linear(300, 10))
    ours = nn.Sequential(nn.Linear(784, 300), nn.Linear(300, 10))
    for amount, ratio in itertools.islice(READINGS["compounded"].ratios().items(), 4):
        ours.load_state_dict(dict(zip(ours.state_dict(), originals(network), strict=True)))
        prune(ours, ratio)
        torch_prune.l1_unstructured(network[0], "weight", amount)  # type: ignore[no-untyped-call]
        assert int(torch.ne(weight_of(ours[0]) == 0, zeros_of(network[0])).sum()) <= 4


def zeros_of(masked: nn.Module) -> torch.Tensor:
    """Which weights a mask of torch.nn.utils.prune zeroes."""
    mask = masked.weight_mask
    assert isinstance(mask, torch.Tensor)
    return mask == 0


def originals(network: nn.Sequential) -> list[torch.Tensor]:
    first = getattr(network[0], "weight_orig", network[0].weight)
    return [first, network[0].bias, network[1].weight, network[1].bias]  # type: ignore[list-item]


def test_the_study_is_sweeps_with_the_papers_networks() -> None:
    plans = plan_study(epochs={"resnet-18": 30}, weight_decays=(5e-4, 0.0), seeds=(0,))
    assert [(plan.models, plan.norms) for plan in plans if dict(plan.overrides)["weight_decay"] == 0] == [
        (("lenet-5",), False), (("lenet-300-100",), False), (("resnet-18",), False), (("resnet-18",), True),
        (("resnet-50",), False), (("resnet-50",), True),
    ]  # fmt: skip
    cells = [cell for plan in plans for cell in expand(plan)]
    assert len({cell.id for cell in cells}) == len(cells)
    assert {cell.recipe.epochs for cell in cells if cell.model == "resnet-18"} == {30}
    assert {cell.recipe.epochs for cell in cells if cell.model == "resnet-50"} == {200}
    plain = plan_study((1,), ("lenet-5",), readings=("as-said",), seeds=(0, 1, 2))
    assert [cell.recipe for cell in expand(plain[0])] == [recipe_for("lenet-5")] * 30


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tables": (3,)}, "table 3: expected one of 1, 2"),
        ({"tables": (1,), "models": ("resnet-18",)}, "model 'resnet-18': expected one of lenet-5, lenet-300-100"),
        ({"readings": ("luck",)}, "reading 'luck': expected one of as-said, compounded, norms, norms-compounded"),
        ({"epochs": {"vgg": 3}}, "epochs for 'vgg': expected one of lenet-5"),
        ({"seeds": ()}, "seeds: expected at least one value"),
        ({"weight_decays": (-1.0,)}, "weight decay -1.0: expected 0 or more"),
    ],
)
def test_studies_that_make_no_sense_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        [list(expand(plan)) for plan in plan_study(**options)]  # type: ignore[arg-type]


def test_rows_stand_beside_the_paper_with_the_interval_of_their_mean() -> None:
    rows = [paper_row(ratio, seed, 0.9 + seed / 100) for ratio in (0.0, 0.8) for seed in range(3)]
    (comparison,) = compare(rows)
    assert comparison.reading.key == "as-said"
    dense, *pruned = comparison.lines
    assert dense.ours is not None
    assert (dense.published, round(dense.ours.mean, 9)) == (0.9794, 0.95)
    (line,) = [each for each in pruned if each.ours]
    assert line.nominal == 0.8
    assert line.ours is not None
    assert line.ours.n == 3
    assert line.ours.half == pytest.approx(0.024843, abs=1e-6)  # t(0.975, 2) × 0.01 / √3
    assert line.difference == pytest.approx(1.0)
    assert comparison.distance == pytest.approx(1.0)


def test_each_reading_reads_its_own_ratios() -> None:
    rows = [paper_row(ratio, accuracy=ratio, model="resnet-18") for ratio in (0.0, 0.25, 0.5, 0.625)]
    rows += [paper_row(ratio, accuracy=ratio / 10, model="resnet-18", norms=True) for ratio in (0.25, 0.5)]
    found = {
        each.reading.key: {line.nominal: line.ours and line.ours.mean for line in each.lines} for each in compare(rows)
    }
    assert found.keys() == {"as-said", "compounded", "norms"}
    assert found["as-said"][0.5] == 0.5
    assert found["compounded"][0.5] == 0.625
    assert found["compounded"][0.25] == 0.25
    assert found["norms"][0.5] == 0.05


def test_a_reading_explains_where_the_network_falls_apart_as_the_papers_did() -> None:
    rows = [paper_row(ratio, accuracy=0.9 if ratio < 0.5 else 0.2, model="resnet-18") for ratio in (0.0, 0.25, 0.5)]
    rows += [paper_row(ratio, accuracy=0.9, model="resnet-18", norms=True) for ratio in (0.25, 0.5)]
    said, norms = compare(rows)
    assert (said.collapse, said.published_collapse, said.explains) == (0.5, 0.5, True)
    assert (norms.collapse, norms.explains) == (None, False)


def test_a_table_half_measured_says_how_far_it_goes() -> None:
    rows = [paper_row(ratio, accuracy=0.9, model="resnet-18") for ratio in (0.0, 0.25, 0.5, 0.6)]
    (note,) = [note for note in study_grids(rows)[0].notes if note.startswith("as-said")]
    assert "keeps more than half of the dense accuracy up to 60 %, the paper falls at 50 %" in note
    assert "over the 3 ratios measured" in note


def test_rows_of_another_kind_do_not_stand_beside_the_paper() -> None:
    row = paper_row(0.5)
    for change in ({"scope": "global"}, {"exclude": ("conv1",)}, {"model": "other"}, {"data": "fashion-mnist"}):
        assert compare([dataclasses.replace(row, cell=dataclasses.replace(row.cell, **change))]) == ()


def test_the_claims_are_factors_of_the_dense_network() -> None:
    (claim,) = claims([paper_row(ratio) for ratio in (0.0, 0.5, 0.9)])
    assert claim.rows == 2
    saved, memory, time = (claim.pytorch[name] for name in ("saved size", "memory", "time, 1 image"))
    assert saved is not None
    assert saved.median == 1.99  # 1990 bytes instead of 1000
    assert memory is not None
    assert memory.median == pytest.approx((440 + 200) / 440)
    assert time is None  # the rows hold no masked network
    ours = claim.ours["time, 1 image"]
    assert ours is not None
    assert ours.median == 0.5


def test_a_title_names_what_is_not_the_networks_own_recipe() -> None:
    row = paper_row(0.5)
    changed = dataclasses.replace(row.cell.recipe, learning_rate=0.01, epochs=5, weight_decay=0.0)
    odd = dataclasses.replace(row, cell=dataclasses.replace(row.cell, recipe=changed))
    titles = [grid.title for grid in study_grids([row, odd])]
    assert titles[0] == "Table 1: lenet-5 on mnist, 20 epochs (paper 20), weight decay 0.0005, 1 seed"
    assert titles[1] == ("Table 1: lenet-5 on mnist, 5 epochs (paper 20), weight decay 0, learning rate 0.01, 1 seed")


def test_every_format_holds_the_same_numbers() -> None:
    rows = [paper_row(ratio, seed, 0.9 + seed / 100) for ratio in (0.0, 0.8) for seed in range(3)]
    parsed = json.loads(STUDY_FORMATS["json"](rows))
    entry = next(each for each in parsed["accuracies"] if each["nominal_ratio"] == 0.8)
    assert (entry["paper_accuracy"], entry["seeds"], entry["paper_epochs"]) == (0.9, 3, 20)
    assert "Muheeb" in parsed["source"]
    flat = next(
        each for each in csv.DictReader(io.StringIO(STUDY_FORMATS["csv"](rows))) if each["nominal_ratio"] == "0.8"
    )
    assert float(flat["accuracy"]) == entry["accuracy"]
    for form in ("markdown", "latex"):
        text = STUDY_FORMATS[form](rows)
        assert "91.00" in text
        assert "+1.00" in text
    assert r"91.00 $\pm$ 2.48" in STUDY_FORMATS["latex"](rows)
    assert study_grids([make_row(0.5)]) == []


def test_one_command_reruns_the_study_and_again_does_nothing(
    run_cli: RunCli, tmp_path: Path, real_data: Path | None
) -> None:
    if real_data is None or not (real_data / "mnist").is_dir():
        pytest.skip("needs MNIST: set SECATEUR_DATA")
    words = ("paper", "--tables", "1", "--models", "lenet-300-100", "--epochs", "lenet-300-100=0", "--seeds", "1",
             "--readings", "as-said", "--out", "p")  # fmt: skip
    done = run_cli(*words)
    assert done.returncode == 0, done.stderr
    assert "Table 1: lenet-300-100 on mnist, 0 epochs (paper 20), weight decay 0.0005, 1 seed" in done.stdout
    assert "10 cells computed" in done.stdout
    assert "0 cells computed" in run_cli(*words).stdout
    for name in ("paper.json", "paper.csv", "paper.md", "paper.tex"):
        assert (tmp_path / "p" / name).stat().st_size > 0
    with Store.open(tmp_path / "p") as store:
        assert store.commands()[0] == f"secateur {' '.join(words)}"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--tables", "3"), "table 3: expected one of 1, 2"),
        (("--epochs", "many"), "--epochs 'many': expected a whole number, or as in resnet-18=30"),
        (("--epochs", "3,4"), "--epochs '3,4': expected a whole number"),
        (("--epochs", "lenet-5="), "--epochs 'lenet-5=': expected a whole number"),
        (("--epochs", "vgg=3"), "epochs for 'vgg': expected one of lenet-5"),
        (("--weight-decay", "-1"), "weight decay -1.0: expected 0 or more"),
        (("--readings", "luck"), "reading 'luck': expected one of as-said"),
    ],
)
def test_a_misread_paper_is_one_line(run_cli: RunCli, words: tuple[str, ...], message: str) -> None:
    done = run_cli("paper", *words)
    assert message in done.stderr
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
