"""What leaves with dead units: `python benchmarks/dead_units.py [--data-dir DIR]` (MNIST; trains what is not cached).

Trained LeNets, pruned by magnitude, exported and simplified. Weights are counted with zeros (what a dense engine stores
and multiplies) and without (what a sparse one does). Every test image is run through both graphs.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import torch
from torch import Tensor

from secateur.experiments.cache import NetworkCache
from secateur.exporting.rebuilding import GraphNetwork
from secateur.importing.aten import to_graph
from secateur.network.graph import Graph
from secateur.network.simplification import simplify
from secateur.pruning.pruning import prune
from secateur.records.recipes import recipe_for
from secateur.records.spec import Cell
from secateur.training.data import normalise

MODELS = ("lenet-300-100", "lenet-5")
SCOPES = ("layer", "global")
RATIOS = (0.8, 0.9, 0.95, 0.99)


def outputs(graph: Graph, images: Tensor) -> Tensor:
    network = GraphNetwork(graph)
    with torch.inference_mode():
        return torch.cat([network(batch) for batch in torch.split(images, 1000)])


def weights(graph: Graph) -> tuple[int, int]:
    """With zeros and without."""
    return sum(each.count for each in graph.weights.values()), sum(each.nonzero for each in graph.weights.values())


def measure(cell: Cell, cache: NetworkCache) -> str:
    dense, _ = cache.trained(cell)
    data = cache.dataset(cell)
    images = normalise(data.test.images, data.mean, data.std)
    network = copy.deepcopy(dense)
    prune(network, cell.ratio, scope=cell.scope, example=images[:1], allow_empty=True)
    whole = to_graph(network, images[:1])
    small = simplify(whole)
    before, after = outputs(whole, images), outputs(small, images)
    accuracy = float((before.argmax(1) == data.test.labels).float().mean())
    changed = int((before.argmax(1) != after.argmax(1)).sum())
    apart = float((before - after).abs().max() / before.abs().max())
    (total, kept), (less, left) = weights(whole), weights(small)
    return (
        f"{cell.model:<14} {cell.scope:<7} {cell.ratio:>4.0%} {accuracy:>9.2%} "
        f"{total:>8,} → {less:>8,} ({less / total:>4.0%}) "
        f"{kept:>8,} → {left:>7,} ({left / kept:>4.0%}) {apart:>8.0e} {changed:>4}"
    )


def main(data_dir: Path | None) -> None:
    cache = NetworkCache(data_dir, "cpu")
    print(
        "weights of exported networks before and after dead units leave; "
        "MNIST, seed 0, magnitude pruning, no retraining"
    )
    print(
        f"{'network':<14} {'scope':<7} {'cut':>4} {'accuracy':>9} {'weights, zeros counted':>28} "
        f"{'non-zero weights':>24} {'outputs':>9} {'other predictions of 10,000'}"
    )
    for model in MODELS:
        for scope in SCOPES:
            for ratio in RATIOS:
                print(measure(Cell(model, "mnist", "magnitude", scope, ratio, 0, recipe_for(model)), cache), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path)
    main(parser.parse_args().data_dir)
