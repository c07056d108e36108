"""Our training beside a plain hand-written loop: `python benchmarks/training_loop.py [--data-dir DIR]`.

Same network, recipe and images; the plain loop holds normalised float images, shuffles by index and takes no
care of memory layout or precision. The two run in turns, and ratios are taken pair by pair.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.optim import SGD
from torch.optim.lr_scheduler import OneCycleLR

from secateur.records.recipes import Recipe, recipe_for
from secateur.support.progress import SilentReporter
from secateur.training.data import Dataset, Split, crop_and_flip, fit, load_data, normalise
from secateur.training.models import Architecture, build_network, find_architecture
from secateur.training.train import resolve_precision, train

PAIRS = 5
CPU = torch.device("cpu")


def plain_loop(architecture: Architecture, data: Dataset, recipe: Recipe) -> float:
    network = build_network(architecture, data.classes, data.shape[0], seed=0).train()
    images, labels = normalise(data.train.images, data.mean, data.std), data.train.labels
    augments = data.augment == "crop-flip"
    generator = torch.Generator().manual_seed(0)
    optimizer = SGD(
        network.parameters(), lr=recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    steps = recipe.epochs * (len(images) // recipe.batch_size)
    schedule = OneCycleLR(optimizer, recipe.learning_rate, total_steps=steps + 1)
    started = time.perf_counter()
    for _ in range(recipe.epochs):
        order = torch.randperm(len(images))
        for start in range(0, len(images) - recipe.batch_size + 1, recipe.batch_size):
            index = order[start : start + recipe.batch_size]
            batch = images[index]
            if augments:
                batch = crop_and_flip(batch, generator)
            loss = F.cross_entropy(network(batch), labels[index])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    return time.perf_counter() - started


def our_loop(architecture: Architecture, data: Dataset, recipe: Recipe) -> float:
    network = build_network(architecture, data.classes, data.shape[0], seed=0)
    started = time.perf_counter()
    train(
        network, data, recipe, 0, device=CPU, precision=resolve_precision("auto", architecture.autocast, CPU),
        channels_last=architecture.convolutional, reporter=SilentReporter(), label="",
    )  # fmt: skip
    return time.perf_counter() - started


def compare(model: str, data: Dataset, images: int, epochs: int) -> None:
    architecture = find_architecture(model)
    data = fit(data, model, architecture.channels, architecture.size)
    few = Split(data.train.images[:images], data.train.labels[:images])
    data = dataclasses.replace(data, train=few)
    recipe = recipe_for(model, epochs=epochs)
    pairs = [(our_loop(architecture, data, recipe), plain_loop(architecture, data, recipe)) for _ in range(PAIRS)]
    ours, plain = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
    ratios = sorted(first / second for first, second in pairs)
    print(
        f"{model:<16} {data.name:<9} {epochs} × {len(few):>6} images  ours {ours:6.2f} s  plain {plain:6.2f} s  "
        f"ours/plain {statistics.median(ratios):.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f}), n = {PAIRS} pairs",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path)
    folder = parser.parse_args().data_dir
    print(f"{torch.get_num_threads()} threads, PyTorch {torch.__version__}")
    mnist = load_data("mnist", folder)
    compare("lenet-300-100", mnist, 55_000, 2)
    compare("lenet-5", mnist, 55_000, 1)
    compare("lenet-5-caffe", mnist, 12_800, 1)
    compare("resnet-18", load_data("cifar-10", folder), 3_200, 1)


if __name__ == "__main__":
    main()
