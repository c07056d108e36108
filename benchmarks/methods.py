"""Methods × ratios without retraining: `python benchmarks/methods.py accuracy [network …]` and `… cost [network]`.

accuracy: every method at 80, 90, 95 and 97 % in several scopes, as it is and after each repair, over three seeds, on
networks of the cache (trained where they are missing): lenet-300-100 and lenet-5 on MNIST by default. Goes on where it
was interrupted (the rows are kept in a JSON Lines file). cost: time and peak memory of every method and repair on
resnet-50 with random weights and 64 images, each in a fresh process.
"""

from __future__ import annotations

import copy
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from secateur.cache import NetworkCache
from secateur.data import Calibration, from_arrays
from secateur.layers import output_layer
from secateur.measure import accuracy, memory_of
from secateur.models import build_network, find_architecture
from secateur.pruning import prune
from secateur.repairing import repair
from secateur.score import METHODS
from secateur.spec import Cell, recipe_for

RATIOS, SEEDS, IMAGES = (0.8, 0.9, 0.95, 0.97), (0, 1, 2), 1024
SCOPES = ("layer", "global", "lamp")
REPAIRS = ("none", "reconstruct")
KEPT = Path("methods.jsonl")
DATA = {"resnet-18": "cifar-10"}
COST_IMAGES = 64


def cells(models: list[str]) -> Iterator[tuple[str, int, str, str, str, float]]:
    """Neighbours share a network and, for methods that take long, little else."""
    for model in models:
        for seed in SEEDS if model not in DATA else SEEDS[:1]:
            ways = [(method, scope) for method in METHODS for scope in SCOPES]
            ways += [("random", "like:magnitude/global"), ("magnitude", "erk")]
            repairs = REPAIRS if model not in DATA else ("none", "batchnorm", "reconstruct+batchnorm")
            for method, scope in ways:
                for name in repairs + (("joint",) if (method, scope) == ("second-order", "lamp") else ()):
                    for ratio in RATIOS:
                        yield model, seed, method, scope, name, ratio


def measure_accuracy(models: list[str]) -> None:
    known = [json.loads(line) for line in KEPT.read_text().splitlines()] if KEPT.exists() else []
    done = {tuple(row["cell"]) for row in known}
    cache = NetworkCache(device="cpu")
    for cell in cells(models):
        if cell not in done:
            with KEPT.open("a") as file:
                file.write(json.dumps({"cell": cell, **measure_cell(cache, *cell)}) + "\n")
    rows = [json.loads(line) for line in KEPT.read_text().splitlines()] if KEPT.exists() else []
    for model in models:
        print_table(model, {tuple(row["cell"]): row for row in rows if row["cell"][0] == model})


def measure_cell(
    cache: NetworkCache, model: str, seed: int, method: str, scope: str, how: str, ratio: float
) -> dict[str, Any]:
    cell = Cell(model, DATA.get(model, "mnist"), method, scope, ratio, seed, _recipe(model))
    dense, trained = cache.trained(cell)
    data = cache.dataset(cell)
    network = copy.deepcopy(dense)
    calibration = Calibration(data, IMAGES, seed)
    log = prune(
        network,
        ratio,
        method=method,
        scope=scope,
        keep_output=output_layer(network) or False,
        allow_empty=True,
        calibration=calibration,
        seed=seed,
    )
    repair(network, how, calibration, dense)
    return {
        "accuracy": accuracy(network, data, data.test).top1,
        "dense": trained.test.top1,
        "sparsity": log.sparsity,
    }


def _recipe(model: str) -> Any:
    return recipe_for(model, epochs=30) if model in DATA else recipe_for(model)


def print_table(model: str, rows: dict[tuple[Any, ...], dict[str, Any]]) -> None:
    dense = {cell[1]: row["dense"] for cell, row in rows.items()}
    print(f"\n{model}, dense {' '.join(f'{100 * value:.2f}' for value in dense.values())} % (one seed each);")
    print(f"test accuracy in %, mean over seeds [lowest, highest], {IMAGES} calibration images, no retraining")
    print(f"{'method':<15} {'scope':<22} {'repair':<21}" + "".join(f"{ratio:>22.0%}" for ratio in RATIOS))
    for method, scope, how in dict.fromkeys((cell[2], cell[3], cell[4]) for cell in rows):
        found = [
            [rows[c]["accuracy"] for s in dense if (c := (model, s, method, scope, how, r)) in rows] for r in RATIOS
        ]
        print(f"{method:<15} {scope:<22} {how:<21}" + "".join(_spread(values) for values in found))


def _spread(values: list[float]) -> str:
    if not values:
        return f"{'–':>22}"
    low, high = 100 * min(values), 100 * max(values)
    return f"{100 * statistics.fmean(values):>8.2f} [{low:5.2f}, {high:5.2f}]"


def measure_cost(model: str) -> None:
    print(f"{model} with random weights, {COST_IMAGES} images of 32×32, one thread, each in a fresh process")
    print(f"{'':<28} {'time':>9} {'peak memory':>12}")
    ways = [("method", name) for name in METHODS] + [("repair", how) for how in ("batchnorm", "reconstruct")]
    for kind, name in ways:
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
    elif verb == "cost":
        measure_cost(words[0] if words else "resnet-50")
    else:
        sys.exit(__doc__)
