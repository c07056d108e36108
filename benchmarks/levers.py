"""What keeps accuracy without retraining: `python benchmarks/levers.py [repairs|lenets|steps|images|scopes|order …]`.

resnet-18 of 14 epochs on CIFAR-10, and lenet-5 and lenet-300-100 on MNIST over three seeds, from the cache (trained
where they are missing), with zeros made by magnitude. repairs, lenets: each cut as it is, after `reconstruct`, after
`distill` on top, and then in eight bits. steps: twice as many at a third of the rate. images: calibration images of
both repairs. scopes: thresholds for all weights beside shares by measured harm: each layer alone at each ratio, the
divergence of the outputs, and the multiple-choice knapsack. order: blocks of 1×4 with the channels as they were and
arranged. Losses are points of validation and test accuracy below the dense network. Goes on where it was interrupted:
rows are kept in levers.jsonl, in the folder where it is run; `table` prints what is there.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.experiments.cache import NetworkCache
from secateur.experiments.searching.knapsack import best_combinations
from secateur.modules.candidates import prunable_layers
from secateur.modules.heads import output_layers
from secateur.pruning.allocation import scaled_densities
from secateur.pruning.arrangement import arrange
from secateur.pruning.distillation import distill
from secateur.pruning.pruning import prune
from secateur.pruning.repairing import Shown, repair
from secateur.records.recipes import recipe_for
from secateur.records.spec import Cell
from secateur.training.data import Calibration

KEPT = Path("levers.jsonl")
LEVERS = ("lenets", "repairs", "steps", "scopes", "order", "images")
EPOCHS = {"resnet-18": 14, "lenet-5": 20, "lenet-300-100": 20}
LENETS = [(model, seed) for model in ("lenet-5", "lenet-300-100") for seed in (0, 1, 2)]
RESNET = ("resnet-18", 0)
CUTS = (
    ("unstructured", "global", 0.98), ("unstructured", "layer", 0.9), ("1x4", "global", 0.9),
    ("unstructured", "global", 0.99), ("unstructured", "global", 0.95), ("1x4", "layer", 0.9),
    ("unstructured", "global", 0.9), ("1x4", "global", 0.95),
)  # fmt: skip
IMAGES = (1024, 2048, 4096, 8192)
LEVELS = tuple(1 - 2.0**-step for step in range(9))
HARM_IMAGES = 256
Ask = dict[str, Any]
Row = dict[str, Any]


def asks(lever: str) -> Iterator[Ask]:
    """What is measured of a lever, what tells most first."""
    if lever == "repairs":
        for pattern, scope, ratio in CUTS:
            yield _ask(lever, RESNET, pattern=pattern, scope=scope, ratio=ratio, repairs=["reconstruct", "distill"])
    elif lever == "lenets":
        for network in LENETS:
            yield _ask(lever, network, ratio=0.97, repairs=["reconstruct", "distill"])
    elif lever == "steps":
        for network, ratio in ((RESNET, 0.98), *((each, 0.97) for each in LENETS)):
            yield _ask(lever, network, ratio=ratio, repairs=["reconstruct", "distill"], steps=300, rate=1e-3)
    elif lever == "images":
        for images in IMAGES[1:]:
            yield _ask(lever, RESNET, ratio=0.98, images=images, repairs=["reconstruct", "distill"])
    elif lever == "scopes":
        for network in (RESNET, *LENETS):
            for ratio in (0.98, 0.95, 0.9) if network == RESNET else (0.97, 0.95, 0.9):
                for scope in ("global", "lamp", "harm"):
                    how = "batchnorm" if network == RESNET else "reconstruct"
                    yield _ask(lever, network, scope=scope, ratio=ratio, repairs=[how])
    elif lever == "order":
        for how in ("batchnorm", "reconstruct"):
            for arranged in (False, True):
                yield _ask(lever, RESNET, pattern="1x4", ratio=0.9, arranged=arranged, repairs=[how])


def _ask(lever: str, network: tuple[str, int], **changes: Any) -> Ask:
    usual: Ask = {"pattern": "unstructured", "scope": "global", "images": 1024, "arranged": False}
    return {"lever": lever, "model": network[0], "seed": network[1], **usual, **changes}


class Bench:
    """Trained networks, and the ratios by harm of the last one that was asked for."""

    def __init__(self) -> None:
        self._cache = NetworkCache(os.environ.get("SECATEUR_DATA"), "cpu")
        self._harms: tuple[tuple[str, int], dict[str, list[float]]] | None = None

    def measure(self, ask: Ask) -> Row:
        """By what was done, in order: the processor seconds that it took, and points lost (validation, test)."""
        data = "cifar-10" if ask["model"] == "resnet-18" else "mnist"
        recipe = recipe_for(ask["model"], epochs=EPOCHS[ask["model"]])
        cell = Cell(ask["model"], data, "magnitude", "layer", 0.0, ask["seed"], recipe)
        dense, trained = self._cache.trained(cell)
        calibration = Calibration(self._cache.dataset(cell), ask["images"], ask["seed"])
        row: Row = {"dense": [trained.validation.value, trained.test.value]}

        def take(name: str, step: Callable[[], object], quantize: str = "none") -> None:
            started = time.process_time()
            step()
            seconds = time.process_time() - started
            held = Cell(**{**_fields(cell), "quantize": quantize, "calibration_images": 1024})
            found = self._cache.accuracies(network, held, self._cache.graph(network, held))
            lost = [100 * (was - now.value) for was, now in zip(row["dense"], found, strict=True)]
            row[name] = [seconds, *lost]

        network = copy.deepcopy(dense)
        if ask["arranged"]:
            arrange(network, self._cache.dataset(cell).example(2), ask["ratio"], scope=ask["scope"])
        aim = copy.deepcopy(network)
        take("cut", lambda: self._cut(network, ask, calibration))
        for how in ask["repairs"]:
            take(how, lambda how=how: self._repair(network, how, calibration, aim, ask))  # type: ignore[misc]
        if ask["lever"] in ("repairs", "lenets"):
            take("int8", lambda: None, "int8")
        return row

    def _repair(self, network: nn.Module, how: str, calibration: Calibration, aim: nn.Module, ask: Ask) -> None:
        if how == "distill" and "steps" in ask:
            distill(network, aim, Shown(network, calibration, augmented=True), steps=ask["steps"], rate=ask["rate"])
        else:
            repair(network, how, calibration, aim)

    def _cut(self, network: nn.Module, ask: Ask, calibration: Calibration) -> None:
        ratio: float | Mapping[str, float] = ask["ratio"]
        scope = ask["scope"]
        if scope == "harm":
            key = (ask["model"], ask["seed"])
            if self._harms is None or self._harms[0] != key:
                self._harms = (key, harms(network, calibration))
            ratio, scope = ratios_by_harm(network, self._harms[1], ask["ratio"]), "layer"
        prune(
            network, ratio, scope=scope, pattern=ask["pattern"], allow_empty=True,
            example=calibration.dataset.example(),
        )  # fmt: skip


def _fields(cell: Cell) -> dict[str, Any]:
    return {name: getattr(cell, name) for name in cell.__dataclass_fields__}


def harms(network: nn.Module, calibration: Calibration) -> dict[str, list[float]]:
    """Layer → at each of LEVELS the divergence of the outputs where it alone is cut, statistics set right."""
    few = Calibration(calibration.dataset, HARM_IMAGES, calibration.seed)
    aim = F.log_softmax(_outputs(network, few), 1)

    def harm(layer: str, ratio: float) -> float:
        cut = copy.deepcopy(network)
        prune(cut, {layer: ratio}, allow_empty=True)
        repair(cut, "batchnorm", few)
        told = F.log_softmax(_outputs(cut, few), 1)
        return float(F.kl_div(told, aim, reduction="batchmean", log_target=True))

    return {
        name: [0.0, *(harm(name, ratio) for ratio in LEVELS[1:])]
        for name in prunable_layers(network, (), output_layers(network))
    }


@torch.no_grad()
def _outputs(network: nn.Module, calibration: Calibration) -> Tensor:
    return torch.cat([network.eval()(images) for images, _ in calibration]).double()


def ratios_by_harm(network: nn.Module, found: Mapping[str, list[float]], ratio: float) -> dict[str, float]:
    """Each layer's ratio, such that harms add up to least and `ratio` of all weights go."""
    layers = prunable_layers(network, (), output_layers(network))
    sizes = {name: layers[name].weight.numel() for name in found}
    kept = (1 - ratio) * sum(sizes.values())
    costs = [[size * (1 - level) for level in LEVELS] for size in sizes.values()]
    allowed = [each for each in best_combinations(costs, list(found.values())) if each.cost <= kept]
    best = min(allowed, key=lambda each: each.harm)
    densities = {name: 1 - LEVELS[level] for name, level in zip(sizes, best.levels, strict=True)}
    return {name: 1 - density for name, density in scaled_densities(densities, sizes, kept).items()}


def measure(levers: list[str]) -> None:
    torch.set_num_threads(1)
    done = {json.dumps(row["ask"]) for row in rows()}
    bench = Bench()
    for ask in (ask for lever in levers for ask in asks(lever)):
        if json.dumps(ask) not in done:
            row = {"ask": ask, **bench.measure(ask)}
            with KEPT.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print_row(row)


def rows() -> list[Row]:
    return [json.loads(line) for line in KEPT.read_text().splitlines()] if KEPT.exists() else []


def print_row(row: Row) -> None:
    ask = row["ask"]
    order = " arranged" if ask["arranged"] else ""
    told = f"{ask['model']:<13} {ask['seed']} {ask['pattern'] + order:<13} {ask['scope']:<6} {ask['ratio']:>4.0%}"
    parts = [
        f"{name} {seconds:.0f} s {validation:+.2f} {test:+.2f}"
        for name, (seconds, validation, test) in ((name, row[name]) for name in row if name not in ("ask", "dense"))
    ]
    print(f"{told} {ask['images']:>5}  {';  '.join(parts)}", flush=True)


def print_tables() -> None:
    every = rows()
    for lever in dict.fromkeys(row["ask"]["lever"] for row in every):
        print(f"\n{lever}: network, seed, pattern, scope, zeros, calibration images;")
        print("after each step: processor seconds, points lost on validation and on test data")
        for row in every:
            if row["ask"]["lever"] == lever:
                print_row(row)


if __name__ == "__main__":
    words = sys.argv[1:] or list(LEVERS)
    if words == ["table"]:
        print_tables()
    elif set(words) <= set(LEVERS):
        measure(words)
    else:
        sys.exit(__doc__)
