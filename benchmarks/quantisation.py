"""What eight bits cost pruned networks in accuracy: `python benchmarks/quantisation.py [network …]`.

Networks are those of the cache (trained where they are missing): lenet-300-100 and lenet-5 on MNIST over three seeds by
default, resnet-18 on CIFAR-10 after 14 epochs, one seed. Each is pruned by magnitude, globally, to 0, 80, 90 and 95 %,
and reconstructed; nothing is retrained. It is quantised by 1,024 training images, and both run on all test images in
the runtime. Printed: test accuracies, by how much that in eight bits is lower, the share of images whose class stayed
the same, the outputs' signal to noise on calibration images, bytes of the files, layers left in float32, and seconds.
"""

from __future__ import annotations

import copy
import os
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from secateur.experiments.cache import NetworkCache
from secateur.exporting.quantising import quantise
from secateur.exporting.quantising.reporting import decibels
from secateur.importing.aten import to_graph
from secateur.modules.heads import output_layers
from secateur.network.graph import Graph
from secateur.network.simplification import simplify
from secateur.packfile.writing import packed_size
from secateur.pruning.pruning import prune
from secateur.pruning.repairing import repair
from secateur.records.recipes import recipe_for
from secateur.records.spec import Cell
from secateur.runtime import Session
from secateur.training.data import Calibration, Dataset, normalise

RATIOS, SEEDS, IMAGES = (0.0, 0.8, 0.9, 0.95), (0, 1, 2), 1024
DATA, EPOCHS = {"resnet-18": "cifar-10"}, {"resnet-18": 14}


@dataclass(frozen=True, slots=True)
class Measured:
    """Of one pruned network: shares of test images, decibels, bytes, layers, seconds."""

    before: float
    after: float
    same: float
    noise: float
    float_bytes: int
    bytes: int
    left: int
    seconds: float


def main(models: list[str]) -> None:
    torch.set_num_threads(1)
    cache = NetworkCache(os.environ.get("SECATEUR_DATA"), "cpu")
    for model in models:
        print(
            f"\n{model}: pruned by magnitude, global, reconstructed, nothing retrained; {IMAGES:,} calibration images"
        )
        print("ratio seed  float32    int8  points    same      dB  float32 bytes   int8 bytes  in float  seconds")
        for ratio in RATIOS:
            found = []
            for seed in SEEDS if model not in DATA else SEEDS[:1]:
                found.append(measure(cache, model, seed, ratio))
                print(_line(ratio, seed, found[-1]), flush=True)
            points = [100 * (each.after - each.before) for each in found]
            print(
                f"{ratio:>5.0%}  all: {statistics.fmean(points):+.2f} points, {min(points):+.2f} at worst", flush=True
            )


def _line(ratio: float, seed: int, found: Measured) -> str:
    return (
        f"{ratio:>5.0%} {seed:>4} {found.before:>8.2%} {found.after:>7.2%} {100 * (found.after - found.before):>+7.2f} "
        f"{found.same:>7.2%} {found.noise:>7.1f} {found.float_bytes:>14,} {found.bytes:>12,} {found.left:>9} "
        f"{found.seconds:>8.1f}"
    )


def measure(cache: NetworkCache, model: str, seed: int, ratio: float) -> Measured:
    recipe = recipe_for(model, epochs=EPOCHS.get(model))
    cell = Cell(model, DATA.get(model, "mnist"), "magnitude", "global", ratio, seed, recipe)
    dense, data = cache.trained(cell)[0], cache.dataset(cell)
    calibration = Calibration(data, IMAGES, seed)
    graph = to_graph(pruned(dense, ratio, calibration), data.example())
    batches = [images.numpy() for images, _ in calibration]
    started = time.perf_counter()
    quantised, report = quantise(graph, batches)
    seconds = time.perf_counter() - started
    whole = simplify(graph)
    labels = data.test.labels.numpy()
    before, after = (classes(each, data) for each in (whole, quantised))
    return Measured(
        float((before == labels).mean()),
        float((after == labels).mean()),
        float((after == before).mean()),
        decibels(1.0, report.error),
        packed_size(whole),
        packed_size(quantised),
        len(report.left_float),
        seconds,
    )


def pruned(dense: nn.Module, ratio: float, calibration: Calibration) -> nn.Module:
    network = copy.deepcopy(dense)
    if ratio:
        prune(network, ratio, scope="global", keep_output=output_layers(network), allow_empty=True)
        repair(network, "reconstruct", calibration, dense)
    return network


def classes(graph: Graph, data: Dataset) -> NDArray[np.int64]:
    """Of every test image, by the runtime."""
    session = Session(graph, calibrate=False)
    return np.concatenate([np.asarray(session(images)).argmax(1) for images in _images(data)])


def _images(data: Dataset) -> Iterator[NDArray[np.float32]]:
    for images in torch.split(data.test.images, 500):
        yield normalise(images, data.mean, data.std).numpy()


if __name__ == "__main__":
    main(sys.argv[1:] or ["lenet-300-100", "lenet-5"])
