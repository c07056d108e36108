"""Which reading of the paper's procedure makes ResNets fall apart at 50 %: `python benchmarks/readings.py [NETWORK …]`.

NETWORK is MODEL:EPOCHS:WEIGHT-DECAY, by default resnet-18:30:0.0005. A network that is not in the cache is trained.
Only test accuracy is measured, in percent, which is a third of a cell's work; `secateur paper --tables 2` measures all.
Beside the readings stands `scales-only`: BatchNorm's scales cut at the ratio and every other weight left whole. A row
ends (…) where two ratios in a row leave no more than naming the most frequent class would (half a point above it).
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from secateur.experiments.cache import NetworkCache
from secateur.measure.correctness import accuracy
from secateur.modules.heads import output_layers
from secateur.modules.layers import norm_layers, weighted_layers
from secateur.pruning.pruning import prune
from secateur.records.recipes import recipe_for
from secateur.records.spec import Cell
from secateur.report.paper import PRUNED_RATIOS, READINGS, Reading, published
from secateur.training.data import Dataset, Split

SCALES_ONLY = Reading("scales-only", "BatchNorm's scales alone", compounds=False, norms=True)


def accuracies(dense: nn.Module, data: Dataset, test: Split, reading: Reading) -> Iterator[float]:
    """Test accuracy at each of the paper's ratios, until two in a row are those of a network that has one answer."""
    outputs = output_layers(dense, data.example())
    whole = list(weighted_layers(dense)) if reading is SCALES_ONLY else []
    gone, before = float(test.labels.bincount().max()) / len(test) + 0.005, 1.0
    for ratio in reading.ratios().values():
        network = copy.deepcopy(dense)
        prune(network, ratio, norms=reading.norms, keep_output=outputs, exclude=whole, allow_empty=True)
        now = accuracy(network.to(memory_format=torch.channels_last), data, test).value  # type: ignore[call-overload]
        yield now
        if max(before, now) <= gone:
            return
        before = now


def describe_scales(dense: nn.Module) -> str:
    scales = torch.cat([layer.weight.abs() for layer in norm_layers(dense).values()])
    points = torch.quantile(scales, torch.tensor([0.1, 0.25, 0.5, 0.75]))
    return "|scale| of BatchNorm, 10th, 25th, 50th, 75th percentile: " + ", ".join(f"{each:.3g}" for each in points)


def line(name: str, values: list[float]) -> str:
    texts = [f"{100 * value:>6.2f}" for value in values]
    return f"{name:<18}" + " ".join(texts) + (" …" if len(values) < len(PRUNED_RATIOS) else "")


def compare(network: str, cache: NetworkCache, images: int) -> None:
    model, epochs, decay = network.split(":")
    paper = next(each for each in published() if each.model == model)
    recipe = recipe_for(model, epochs=int(epochs), weight_decay=float(decay))
    cell = Cell(model, paper.data, "magnitude", "layer", 0.0, 0, recipe)
    dense, trained = cache.trained(cell)
    data = cache.dataset(cell)
    test = Split(data.test.images[:images], data.test.labels[:images])
    print(f"\n{model} on {paper.data} ({trained.data_source}), {epochs} epochs, weight decay {decay}, seed 0")
    print(f"dense {100 * trained.test.value:.2f}, the paper's {100 * paper.dense:.2f}; {describe_scales(dense)}")
    print(f"test images: the first {len(test)}")
    print(f"{'nominal ratio':<18}" + " ".join(f"{100 * ratio:>6g}" for ratio in PRUNED_RATIOS))
    print(line("paper", list(paper.accuracy.values())))
    for reading in (*READINGS.values(), SCALES_ONLY):
        print(line(reading.key, list(accuracies(dense, data, test, reading))), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=["resnet-18:30:0.0005"])
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--images", type=int, default=10_000, help="only the first so many test images")
    options = parser.parse_args()
    cache = NetworkCache(options.data_dir)
    for network in options.networks:
        compare(network, cache, options.images)


if __name__ == "__main__":
    main()
