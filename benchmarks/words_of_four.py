"""Words of four weights, which kernels of eight bits multiply or skip: `python benchmarks/words_of_four.py order`.

order [network[=checkpoint] …]: of networks pruned by magnitude, weight by weight and in blocks of 1×4, the share of
words that are multiplied before and after `order_channels`: in the whole network, as often as each is used in one
image, and layer by layer at 90 % of each layer's. accuracy [network …]: what blocks of 1×4 lose beside single weights,
as they are and in a network that was arranged for them, reconstructed and not retrained, in float32, and the words that
are left of either; over three seeds.
Networks come from the cache (trained where they are missing; lenet-300-100 and lenet-5 on MNIST by default) or from a
checkpoint; resnet-18 is on CIFAR-10. The layer that gives the outputs is left whole.
"""

from __future__ import annotations

import copy
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from secateur.experiments.cache import NetworkCache
from secateur.exporting.packing import graph_of
from secateur.importing.checkpoints import load_weights
from secateur.modules.heads import output_layers
from secateur.network.graph import Graph
from secateur.network.simplification import Gain, order_channels
from secateur.pruning.arrangement import arrange
from secateur.pruning.pruning import prune
from secateur.pruning.repairing import repair
from secateur.records.recipes import recipe_for
from secateur.records.spec import Cell
from secateur.training.data import Calibration
from secateur.training.models import build_network, find_architecture

RATIOS, SEEDS, IMAGES = (0.8, 0.9, 0.95), (0, 1, 2), 1024
WAYS = (("global", "unstructured"), ("layer", "unstructured"), ("global", "1x4"), ("layer", "1x4"))
ARRANGED = "arranged 1x4"


def cell_of(name: str, seed: int = 0) -> Cell:
    data = "cifar-10" if name.startswith("resnet") else "mnist"
    return Cell(name, data, "magnitude", "global", 0.0, seed, recipe_for(name))


def example_of(name: str) -> torch.Tensor:
    return torch.zeros(1, *((1, 28, 28) if name.startswith("lenet") else (3, 32, 32)))


def network_of(name: str, checkpoint: str) -> nn.Module:
    """From the cache, where there is no checkpoint."""
    if not checkpoint:
        return NetworkCache().trained(cell_of(name))[0].eval()
    network = build_network(find_architecture(name), 10, 3, seed=0)
    load_weights(network, Path(checkpoint))
    return network.eval()


def pruned_graph(network: nn.Module, example: torch.Tensor, ratio: float, scope: str, pattern: str) -> Graph:
    cut = copy.deepcopy(network)
    prune(cut, ratio, scope=scope, pattern=pattern, keep_output=True, example=example)
    return graph_of(cut, example)


def show_layers(gain: Gain) -> None:
    print("\n  90 % of each layer's, unstructured, layer by layer\n")
    for layer in gain.layers:
        before, after = (f"{count / layer.words:.1%}" for count in (layer.before, layer.after))
        print(f"    {layer.node:24} {layer.words:8,} words × {layer.uses:5,}   {before:>6} → {after:>6}")


def show_order(names: Sequence[str]) -> None:
    for wanted in names:
        name, _, checkpoint = wanted.partition("=")
        network, layers = network_of(name, checkpoint), None
        print(f"\n{name}\n\n  scope   pattern       ratio   words before → after   seconds")
        for scope, pattern in WAYS:
            for ratio in RATIOS:
                graph = pruned_graph(network, example_of(name), ratio, scope, pattern)
                start = time.perf_counter()
                _, gain = order_channels(graph)
                seconds = time.perf_counter() - start
                shares = f"{gain.before:6.1%} → {gain.after:6.1%}"
                print(f"  {scope:7} {pattern:13} {ratio:5.0%} {shares:>22} {seconds:9.1f}", flush=True)
                layers = gain if (scope, pattern, ratio) == ("layer", "unstructured", 0.9) else layers
        if layers is not None:
            show_layers(layers)


def show_accuracy(names: Sequence[str]) -> None:
    cache = NetworkCache(os.environ.get("SECATEUR_DATA"), "cpu")
    for name in names:
        dense = [cache.trained(cell_of(name, seed))[1].test for seed in SEEDS]
        shown = ", ".join(f"{100 * each.value:.2f}" for each in dense if each is not None)
        print(f"\n{name}, dense {shown} % (a seed each); test accuracy in %, mean of three seeds [lowest, highest],")
        print(f"{IMAGES} calibration images; words: the share that is multiplied, channels in order\n")
        print("  scope   pattern      " + "".join(f"{ratio:>20.0%}  words" for ratio in RATIOS))
        for scope, pattern in (*WAYS, ("global", ARRANGED), ("layer", ARRANGED)):
            found = [[reconstructed(cache, name, seed, scope, pattern, ratio) for seed in SEEDS] for ratio in RATIOS]
            print(f"  {scope:7} {pattern:13}" + "".join(_spread(each) for each in found), flush=True)


def reconstructed(
    cache: NetworkCache, name: str, seed: int, scope: str, pattern: str, ratio: float
) -> tuple[float, float]:
    """(test accuracy, share of words that are multiplied)."""
    cell = cell_of(name, seed)
    dense, data = cache.trained(cell)[0], cache.dataset(cell)
    dense = copy.deepcopy(dense)
    if pattern == ARRANGED:
        arrange(dense, example_of(name), ratio, scope=scope)
    network = copy.deepcopy(dense)
    prune(network, ratio, scope=scope, pattern=pattern.split()[-1], keep_output=output_layers(network))
    repair(network, "reconstruct", Calibration(data, IMAGES, seed), dense)
    _, test = cache.accuracies(network, cell, cache.graph(network, cell))
    _, gain = order_channels(graph_of(network, example_of(name)))
    return test.value, gain.after


def _spread(found: Sequence[tuple[float, float]]) -> str:
    accuracies, words = ([100 * value for value in values] for values in zip(*found, strict=True))
    low, high = min(accuracies), max(accuracies)
    return f"{statistics.fmean(accuracies):>6.2f} [{low:5.2f}, {high:5.2f}] {statistics.fmean(words):>5.1f} "


if __name__ == "__main__":
    torch.set_num_threads(1)
    verb, asked = sys.argv[1] if sys.argv[1:] else "", sys.argv[2:] or ["lenet-300-100", "lenet-5"]
    if verb == "order":
        show_order(asked)
    elif verb == "accuracy":
        show_accuracy(asked)
    else:
        sys.exit(__doc__)
