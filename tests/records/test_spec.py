from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from secateur.errors import UsageError
from secateur.records.recipes import Recipe, Retraining, recipe_for, retraining_for
from secateur.records.spec import Cell, Sweep, WeightsFile, canonical_json, cell_from_json, expand

CELL = Cell("lenet-5", "mnist", "magnitude", "layer", 0.9, 0, Recipe())


def test_the_id_of_a_cell_is_pinned() -> None:
    assert CELL.id == "8213178699ca00eb"


def test_the_id_depends_on_every_field_defaults_included() -> None:
    recipe_changes: dict[str, Any] = {
        "epochs": 21, "batch_size": 64, "learning_rate": 0.2, "momentum": 0.8, "weight_decay": 0.0,
        "label_smoothing": 0.1, "augment": "none", "precision": "fp32",
    }  # fmt: skip
    changes: dict[str, Any] = {
        "model": "x", "data": "x", "method": "x", "scope": "global", "ratio": 0.8, "seed": 1,
        "exclude": ("conv1",), "allow_empty": True, "norms": True, "weights": WeightsFile("net.pt", "00"),
        "pattern": "2:4", "repair": "batchnorm", "calibration_images": 512, "calibration_seed": 0,
        "layer_ratios": (("conv1", 0.5),), "retraining": Retraining(), "method_source": "00", "model_source": "00",
        "quantize": "int8", "include": ("words",), "layer_patterns": (("conv1", "1x4"),), "keep_float": ("conv1",),
    }  # fmt: skip
    retraining_changes: dict[str, Any] = {
        "schedule": "gradual", "epochs": 11, "learning_rate": 0.2, "ramp": 0.5, "every": 10, "distill": 0.5,
        "temperature": 2.0,
    }  # fmt: skip
    assert recipe_changes.keys() == {field.name for field in dataclasses.fields(Recipe)}
    assert {*changes, "recipe"} == {field.name for field in dataclasses.fields(Cell)}
    variants = [dataclasses.replace(CELL, **{name: value}) for name, value in changes.items()]
    variants += [
        dataclasses.replace(CELL, recipe=dataclasses.replace(CELL.recipe, **{name: value}))
        for name, value in recipe_changes.items()
    ]
    assert {*retraining_changes, "rounds"} == {field.name for field in dataclasses.fields(Retraining)}
    variants += [
        dataclasses.replace(CELL, retraining=dataclasses.replace(Retraining(), **{name: value}))
        for name, value in retraining_changes.items()
    ]
    variants.append(dataclasses.replace(CELL, retraining=Retraining("iterative", rounds=5)))
    variants.append(dataclasses.replace(CELL, retraining=Retraining("iterative", rounds=2)))
    variants.append(dataclasses.replace(CELL, weights=WeightsFile("net.pt", "01")))
    assert len({CELL.id, *(variant.id for variant in variants)}) == len(variants) + 1


def test_a_field_that_came_later_leaves_the_ids_of_before() -> None:
    former = canonical_json(CELL)
    assert "quantize" not in former
    assert "include" not in former
    assert json.loads(canonical_json(dataclasses.replace(CELL, quantize="int8"))) == json.loads(former) | {
        "quantize": "int8"
    }


def test_a_cell_survives_json() -> None:
    cell = dataclasses.replace(
        CELL, exclude=("a", "b.*"), include=("words",), weights=WeightsFile("w.pt", "ff"), ratio=0.97
    )
    assert cell_from_json(canonical_json(cell)) == cell
    assert cell_from_json(canonical_json(CELL)) == CELL
    retrained = dataclasses.replace(cell, retraining=retraining_for("iterative", distill=0.5))
    assert cell_from_json(canonical_json(retrained)) == retrained
    assert retrained.way.endswith("retrained (iterative, 10 epochs, 5 rounds, 50 % distilled)")
    quantised = dataclasses.replace(cell, quantize="int8")
    assert cell_from_json(canonical_json(quantised)) == quantised
    assert quantised.way == f"{cell.way} in int8"


def test_cells_know_the_source_of_each_method_that_decides_on_them() -> None:
    sweep = Sweep(
        ("lenet-5",), ("mnist",), methods=("magnitude", "mine:one"), scopes=("layer", "like:mine:two/global"),
        ratios=(0.5,), sources=(("mine:one", "aa"), ("mine:two", "bb")),
    )  # fmt: skip
    assert [cell.method_source for cell in expand(sweep)] == ["", "bb", "aa", "aa+bb"]


def test_a_sweep_expands_into_the_product_of_its_lists() -> None:
    sweep = Sweep(("lenet-5", "resnet-18"), ("mnist",), scopes=("layer", "global"), ratios=(0.9, 0.0), seeds=(0, 1))
    cells = list(expand(sweep))
    assert len(cells) == len({cell.id for cell in cells}) == 16
    assert [cell.ratio for cell in cells[:2]] == [0.0, 0.9]
    assert cells[0].recipe.epochs == 20
    assert cells[-1].recipe.epochs == 200
    assert [cell.model for cell in cells] == ["lenet-5"] * 8 + ["resnet-18"] * 8


def test_overrides_change_every_networks_recipe() -> None:
    sweep = Sweep(("lenet-5", "resnet-18"), ("mnist",), overrides=(("epochs", 3),))
    assert {cell.recipe.epochs for cell in expand(sweep)} == {3}
    assert recipe_for("my:own", weight_decay=0.0, epochs=None) == Recipe(weight_decay=0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ratios": (1.0,)}, r"ratio 1.0: expected in \[0, 1\)"),
        ({"ratios": (0.5, 0.5)}, "a value appears twice"),
        ({"models": ()}, "models: expected at least one value"),
        ({"scopes": ("world",)}, "scope 'world': expected one of layer, global, erk, lamp, or like"),
        ({"scopes": ("like:magnitude",)}, "scope 'like:magnitude': expected one of layer"),
        ({"scopes": ()}, "scopes: expected at least one value"),
        ({"patterns": ("4:2",)}, "pattern '4:2': expected unstructured, blocks"),
        ({"patterns": ("2:4",), "ratios": (0.0, 0.25)}, "ratio 0.25 with pattern 2:4: expected 0, or at least the 0.5"),
        ({"repairs": ("prayer",)}, "repair 'prayer': expected some of none, batchnorm"),
        ({"repairs": ("none+batchnorm",)}, "repair 'none\\+batchnorm'"),
        ({"calibration_images": 0}, "calibration images 0: expected 1 or more"),
        ({"retrainings": ()}, "retrainings: expected at least one value"),
        (
            {"retrainings": (Retraining("rewind-weights"),), "weights": WeightsFile("w", "0")},
            "'rewind-weights' goes back in a training, but --weights loads a network",
        ),
        (
            {"retrainings": (Retraining("rewind-rate", epochs=21),)},
            "goes back 21 epochs a round, but the network was trained for 20: expected 20 or fewer",
        ),
        (
            {"retrainings": (Retraining("gradual"),), "patterns": ("2:4",), "ratios": (0.5,)},
            "pattern 2:4 has one ratio, so it cannot be cut bit by bit: retrain by one-shot",
        ),
        ({"calibration_seed": -1}, "calibration seed -1"),
        ({"seeds": (-1,)}, "seed -1"),
        ({"models": ("a", "b"), "weights": WeightsFile("w", "0")}, "--weights is one checkpoint but 2 models"),
    ],
)
def test_sweeps_that_make_no_sense_are_refused(change: dict[str, object], message: str) -> None:
    fields: dict[str, object] = {"models": ("lenet-5",), "data": ("mnist",)}
    with pytest.raises(UsageError, match=message):
        Sweep(**(fields | change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", -1), ("batch_size", 0), ("learning_rate", 0.0), ("learning_rate", float("nan")), ("momentum", 1.0),
        ("weight_decay", -1e-4), ("label_smoothing", 1.0), ("augment", "mixup"), ("precision", "fp8"),
    ],
)  # fmt: skip
def test_recipes_out_of_range_are_refused(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"{name.replace('_', ' ')} {value!r}: expected"):
        recipe_for("lenet-5", **{name: value})


def test_what_is_retrained_is_not_repaired_and_no_cell_comes_twice() -> None:
    plan = Sweep(
        models=("lenet-5",), data=("mnist",), ratios=(0.9,), retrainings=(None, Retraining()),
        repairs=("none", "reconstruct"),
    )  # fmt: skip
    found = [(cell.repair, cell.retraining) for cell in expand(plan)]
    assert sorted(found, key=str) == [("none", None), ("none", Retraining()), ("reconstruct", None)]
