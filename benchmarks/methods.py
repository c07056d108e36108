"""Methods × ratios without retraining: `python benchmarks/methods.py accuracy|table|cost [network …]`.

accuracy: every method at 80, 90, 95 and 97 % in several scopes, as it is and after each repair, over three seeds, on
networks of the cache (trained where they are missing): lenet-300-100 and lenet-5 on MNIST by default; resnet-18 is
that of 30 epochs on CIFAR-10, one seed, also at 98 %, most methods at 90 and 95 % alone. The scope "global, 2 steps"
cuts to 2.5 times as many weights as in the end, reconstructs, and goes on from there. Goes on where it was
interrupted: rows are kept in methods.jsonl, in the folder where it is run. table: prints what is there. cost: time
and peak memory of every method and repair on resnet-50 with random weights and 64 images, each in a fresh process;
`cost resnet-50 synflow moments` takes these alone.
"""

from __future__ import annotations

import copy
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secateur.experiments.cache import NetworkCache
from secateur.measure.footprint import memory_of
from secateur.modules.candidates import prunable_layers
from secateur.modules.heads import output_layers
from secateur.modules.layers import weight_of
from secateur.pruning.pruning import PruneLog, prune
from secateur.pruning.repairing import repair
from secateur.pruning.score import METHODS, Context, Scores, score
from secateur.records.recipes import recipe_for
from secateur.records.spec import REPAIRS, Cell
from secateur.training.data import Calibration, from_arrays
from secateur.training.models import build_network, find_architecture

RATIOS, SEEDS = (0.8, 0.9, 0.95, 0.97), (0, 1, 2)
IMAGES, MORE_IMAGES = 1024, 2048
SCOPES = ("global", "layer", "lamp")
IN_STEPS, WIDER = "global, 2 steps", 2.5
KEPT = Path("methods.jsonl")
DATA = {"resnet-18": "cifar-10"}
COST_IMAGES = 64


Way = tuple[str, str, str]


def ways(model: str) -> dict[Way, tuple[float, ...]]:
    """(method, scope, repair) and the ratios, what tells most first."""
    if model in DATA:
        return ways_of_resnet()
    plain = [("magnitude", "global"), ("magnitude", "layer"), ("random", "like:magnitude/global")]
    first = [(method, scope, how) for method, scope in plain for how in ("reconstruct", "none")]
    joint = [("magnitude", scope, "joint") for scope in ("global", IN_STEPS)]
    every = [(method, scope, how) for scope in SCOPES for method in METHODS for how in ("none", "reconstruct")]
    others = [("magnitude", scope, how) for scope in ("lamp", "erk") for how in ("none", "reconstruct")]
    return dict.fromkeys([*joint, *first, *others, *every], tuple(reversed(RATIOS)))


def ways_of_resnet() -> dict[Way, tuple[float, ...]]:
    best = dict.fromkeys([("magnitude", IN_STEPS, "joint")], (0.98, 0.97, 0.95))
    scopes = [("magnitude", scope, how) for how in ("batchnorm", "none") for scope in (*SCOPES, "erk")]
    methods = [(method, "global", how) for how in ("batchnorm", "none") for method in METHODS if method != "magnitude"]
    control = ("random", "like:magnitude/global", "batchnorm")
    simple = dict.fromkeys([*scopes, control, *methods], (0.95, 0.9))
    fitted = dict.fromkeys([("magnitude", "global", how) for how in ("joint", "reconstruct")], (0.98, 0.97, 0.95))
    return best | simple | fitted | {("magnitude", "global", "batchnorm"): (0.98, 0.97, 0.95, 0.9)}


def cells(models: list[str]) -> list[tuple[str, int, str, str, str, float]]:
    """The first way of every model, then the second, …"""
    every = [
        (place, (model, seed, *way, ratio))
        for model in models
        for place, (way, ratios) in enumerate(ways(model).items())
        for seed in (SEEDS if model not in DATA else SEEDS[:1])
        for ratio in ratios
    ]
    return [cell for _, cell in sorted(every, key=lambda each: each[0])]


def images_for(model: str) -> int:
    return MORE_IMAGES if model in DATA else IMAGES


def ratios_of(model: str) -> tuple[float, ...]:
    return RATIOS if model not in DATA else (*RATIOS[1:], 0.98)


def measure_accuracy(models: list[str]) -> None:
    known = [json.loads(line) for line in KEPT.read_text().splitlines()] if KEPT.exists() else []
    done = {tuple(row["cell"]) for row in known}
    bench = Bench()
    for cell in cells(models):
        if cell not in done:
            with KEPT.open("a") as file:
                file.write(json.dumps({"cell": cell, **bench.measure(*cell)}) + "\n")
    print_tables(models)


class Bench:
    """Networks, and the scores of one network, kept while cells that share them are measured."""

    def __init__(self) -> None:
        self._cache = NetworkCache(os.environ.get("SECATEUR_DATA"), "cpu")
        self._scores: dict[tuple[str, int, str], Scores] = {}

    def measure(self, model: str, seed: int, method: str, scope: str, how: str, ratio: float) -> dict[str, Any]:
        cell = Cell(model, DATA.get(model, "mnist"), method, scope, ratio, seed, _recipe(model))
        dense, trained = self._cache.trained(cell)
        data = self._cache.dataset(cell)
        network, calibration = copy.deepcopy(dense), Calibration(data, images_for(model), seed)

        def cut(ratio: float, scored: str | Scores, scope: str) -> PruneLog:
            return prune(
                network,
                ratio,
                method=scored,
                scope=scope,
                keep_output=output_layers(network),
                allow_empty=True,
                calibration=calibration,
                seed=seed,
            )

        if scope == IN_STEPS:
            cut(1 - WIDER * (1 - ratio), method, "global")
            repair(network, "reconstruct", calibration, dense)
            log = cut(ratio, method, "global")
        else:
            log = cut(ratio, self._scored(model, seed, method, dense, calibration), scope)
        repair(network, how, calibration, dense)
        validation, test = self._cache.accuracies(network, cell, self._cache.graph(network, cell))
        shown = {"accuracy": test.value, "validation": validation.value, "dense": trained.test.value}
        return {**shown, "sparsity": log.sparsity}

    def _scored(self, model: str, seed: int, method: str, dense: nn.Module, calibration: Calibration) -> str | Scores:
        """Scores are the same at every ratio; SynFlow's are not, since it scores on the way."""
        if METHODS[method].rounds > 1:
            return method
        key = (model, seed, method)
        if key not in self._scores:
            self._scores = {known: scores for known, scores in self._scores.items() if known[0] == model}
            layers = prunable_layers(dense, (), output_layers(dense))
            weights = {name: weight_of(layer) for name, layer in layers.items()}
            self._scores[key] = score(method, Context(dense, weights, calibration, seed=seed))
        return self._scores[key]


def _recipe(model: str) -> Any:
    return recipe_for(model, epochs=30) if model in DATA else recipe_for(model)


def print_tables(models: list[str]) -> None:
    rows = [json.loads(line) for line in KEPT.read_text().splitlines()] if KEPT.exists() else []
    for model in models:
        if found := {tuple(row["cell"]): row for row in rows if row["cell"][0] == model}:
            print_table(model, found)


def print_table(model: str, rows: dict[tuple[Any, ...], dict[str, Any]]) -> None:
    dense = {cell[1]: row["dense"] for cell, row in rows.items()}
    ratios = ratios_of(model)
    print(f"\n{model}, dense {', '.join(f'{100 * value:.2f}' for value in dense.values())} % (a seed each);")
    print(
        f"test accuracy in %, mean over n seeds [lowest, highest], {images_for(model)} calibration images, "
        "no retraining"
    )
    print(f"{'method':<15} {'scope':<22} {'repair':<21} {'n':>2}" + "".join(f"{ratio:>23.0%}" for ratio in ratios))
    for way in dict.fromkeys(cell[2:5] for cell in rows):
        found = [[rows[cell]["accuracy"] for seed in dense if (cell := (model, seed, *way, r)) in rows] for r in ratios]
        seeds = max(len(values) for values in found)
        print("{:<15} {:<22} {:<21} ".format(*way) + f"{seeds:>2}" + "".join(_spread(values) for values in found))


def _spread(values: list[float]) -> str:
    if not values:
        return f"{'–':>23}"
    low, high = 100 * min(values), 100 * max(values)
    return f"{100 * statistics.fmean(values):>8.2f} [{low:5.2f}, {high:5.2f}]"


def measure_cost(model: str, wanted: Sequence[str]) -> None:
    print(f"{model} with random weights, {COST_IMAGES} images of 32×32, one thread, each in a fresh process")
    print(f"{'':<28} {'time':>9} {'peak memory':>12}")
    ways = [("method", name) for name in METHODS] + [("repair", how) for how in REPAIRS if how != "none"]
    for kind, name in ways:
        if wanted and name not in wanted:
            continue
        command = [sys.executable, __file__, "--once", model, kind, name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{kind + ' ' + name:<28} failed: {done.stderr.strip().splitlines()[-1]}", flush=True)
            continue
        seconds, peak = (float(word) for word in done.stdout.split())
        print(f"{kind + ' ' + name:<28} {seconds:>7.1f} s {peak / 1e6:>9.0f} MB", flush=True)


def measure_once(model: str, kind: str, name: str) -> None:
    """In the fresh process: print processor seconds and peak bytes."""
    torch.set_num_threads(1)
    network = build_network(find_architecture(model), 10, 3, seed=0).eval()
    dense = copy.deepcopy(network) if kind == "repair" else None
    images = torch.randint(0, 256, (COST_IMAGES, 3, 32, 32), dtype=torch.uint8)
    data = from_arrays(
        "noise", (images, torch.arange(COST_IMAGES) % 10), (images[:2], torch.arange(2)), (images[:2], torch.arange(2))
    )
    calibration = Calibration(data, COST_IMAGES, 0, batch_size=32)
    if kind == "repair":
        prune(network, 0.9, scope="global", keep_output="fc", allow_empty=True)
    started = time.process_time()
    if kind == "repair":
        _, peak, _ = memory_of(lambda: repair(network, name, calibration, dense))
    else:
        _, peak, _ = memory_of(
            lambda: prune(network, 0.9, method=name, keep_output="fc", allow_empty=True, calibration=calibration)
        )
    print(time.process_time() - started, peak)


if __name__ == "__main__":
    verb, words = sys.argv[1] if sys.argv[1:] else "", sys.argv[2:]
    if verb == "--once":
        measure_once(*words)
    elif verb == "accuracy":
        measure_accuracy(words or ["lenet-300-100", "lenet-5"])
    elif verb == "table":
        print_tables(words or ["lenet-300-100", "lenet-5", "resnet-18"])
    elif verb == "cost":
        measure_cost(words[0] if words else "resnet-50", words[1:])
    else:
        sys.exit(__doc__)
