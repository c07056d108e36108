"""A sweep beside a plain script doing the same: `python benchmarks/plain_sweep.py [--data-dir DIR]`.

The plain script trains by hand, then prunes copies with torch.nn.utils.prune and measures test accuracy. The
sweep measures test and validation accuracy, sizes, memory and latencies of each network as well, and stores them.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune as torch_prune
from torch.optim import SGD
from torch.optim.lr_scheduler import OneCycleLR

from secateur.experiments.sweeping import sweep
from secateur.records.recipes import recipe_for
from secateur.records.spec import PAPER_RATIOS
from secateur.training.data import Dataset, load_data, normalise
from secateur.training.models import build_network, find_architecture


def plain_training(model: str, data: Dataset) -> nn.Module:
    network = build_network(find_architecture(model), data.classes, data.shape[0], seed=0).train()
    recipe = recipe_for(model)
    images, labels = normalise(data.train.images, data.mean, data.std), data.train.labels
    optimizer = SGD(
        network.parameters(), lr=recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    steps = recipe.epochs * (len(images) // recipe.batch_size)
    schedule = OneCycleLR(optimizer, recipe.learning_rate, total_steps=steps + 1)
    for _ in range(recipe.epochs):
        order = torch.randperm(len(images))
        for start in range(0, len(images) - recipe.batch_size + 1, recipe.batch_size):
            index = order[start : start + recipe.batch_size]
            F.cross_entropy(network(images[index]), labels[index]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    return network.eval()


def plain_pruning(network: nn.Module, data: Dataset) -> list[float]:
    accuracies = []
    images = normalise(data.test.images, data.mean, data.std)
    for ratio in PAPER_RATIOS:
        pruned = copy.deepcopy(network)
        layers = [module for module in pruned.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
        for layer in layers[:-1]:
            torch_prune.l1_unstructured(layer, "weight", ratio)  # type: ignore[no-untyped-call]
        with torch.inference_mode():
            accuracies.append(float((pruned(images).argmax(1) == data.test.labels).float().mean()))
    return accuracies


def compare(model: str, data: Dataset, data_dir: Path | None) -> None:
    started = time.perf_counter()
    network = plain_training(model, data)
    trained = time.perf_counter()
    plain = plain_pruning(network, data)
    pruned = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        result = sweep(model, data.name, repairs="none", out=folder, data_dir=data_dir)
    swept = time.perf_counter()
    training = result.rows[0].trained.seconds
    print(f"\n{model} on {data.name} ({data.source}), {result.rows[0].trained.epochs} epochs, seed 0")
    print("ratio   " + " ".join(f"{100 * ratio:>6g}" for ratio in PAPER_RATIOS))
    print("sweep   " + " ".join(f"{100 * row.test.value:>6.2f}" for row in result.rows))
    print("plain   " + " ".join(f"{100 * each:>6.2f}" for each in plain))
    print(f"training: sweep {training:.1f} s, plain {trained - started:.1f} s")
    print(f"the rest: sweep {swept - pruned - training:.1f} s, plain {pruned - trained:.1f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path)
    folder = parser.parse_args().data_dir
    data = load_data("mnist", folder)
    print(f"{torch.get_num_threads()} threads, PyTorch {torch.__version__}; delete the cached networks to train anew")
    for model in ("lenet-300-100", "lenet-5"):
        compare(model, data, folder)


if __name__ == "__main__":
    main()
