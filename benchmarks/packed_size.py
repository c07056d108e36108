"""Bytes of pruned networks: as PyTorch saves them, compressed, and packed.

    python benchmarks/packed_size.py [--data-dir DIR] [--run FOLDER …]

LeNets are trained on MNIST with their recipe (or taken from the cache) and pruned per layer by magnitude without
retraining, so accuracies are those of one-shot pruning, over all test images. --run: the folder of a sweep whose
trained ResNets are used. ResNets have random weights otherwise, which says nothing about accuracy.

Networks are packed as they are: batch norm is not folded and dead units stay, so that the weights are those of the
state dict. The bound is the sum over tensors of n · (H(density) + density · 32) / 8. Decoding is timed in CPU seconds
of one thread, the median of several, as bytes of dense weights per second.
"""

from __future__ import annotations

import argparse
import copy
import gzip
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import zstandard
from safetensors.torch import save_model
from torch import nn
from torch.nn.utils import prune as torch_prune

import secateur
from secateur import packfile
from secateur.experiments.cache import NetworkCache
from secateur.exporting.rebuilding import GraphNetwork
from secateur.importing.aten import to_graph
from secateur.measure.correctness import accuracy
from secateur.network.graph import Graph, Weight
from secateur.records.environment import environment
from secateur.records.recipes import recipe_for
from secateur.records.spec import Cell
from secateur.records.store import Store
from secateur.training.data import Dataset
from secateur.training.models import build_network, find_architecture

RATIOS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99)
BITS = (8, 5, 4)
LENETS = ("lenet-300-100", "lenet-5")
RESNETS = ("resnet-18", "resnet-50", "resnet-18-cifar", "resnet-50-cifar")


@dataclass(frozen=True)
class Subject:
    """A dense network and its graph; data: what its accuracy is measured on, None where it was not trained."""

    name: str
    network: nn.Module
    graph: Graph
    data: Dataset | None

    def pruned(self, ratio: float) -> tuple[nn.Module, Graph]:
        network = copy.deepcopy(self.network).eval()
        if ratio:
            secateur.prune(network, ratio)
        state = network.state_dict()
        weights = {name: Weight.of(state[name].numpy()) for name in self.graph.weights}
        return network, replace(self.graph, weights=weights)


def subjects(data_dir: str | None, runs: list[str], only: str | None) -> Iterator[Subject]:
    cache = NetworkCache(data_dir)
    trained = {row.cell.model: row.cell for run in runs for row in Store.open(run).rows()}
    for name in LENETS:
        trained[name] = Cell(name, "mnist", "magnitude", "layer", 0.0, 0, recipe_for(name))
    for name in (*LENETS, *RESNETS):
        if only and name not in only.split(","):
            continue
        if name in trained:
            data = cache.dataset(trained[name])
            network, _ = cache.trained(trained[name])
            yield Subject(name, network, to_graph(network, data.test.images[:1].float()), data)
        else:
            network = build_network(find_architecture(name), 10, 3, seed=0).eval()
            yield Subject(name, network, to_graph(network, torch.rand(1, 3, 32, 32)), None)


def saved(network: nn.Module, folder: Path) -> tuple[int, bytes]:
    path = folder / "dense.safetensors"
    save_model(network, str(path))
    return path.stat().st_size, path.read_bytes()


def masked_size(network: nn.Module, ratio: float, folder: Path) -> int:
    """What torch.save takes for the network pruned with torch.nn.utils.prune."""
    masked = copy.deepcopy(network)
    layers = [module for module in masked.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    for layer in layers[:-1]:
        torch_prune.l1_unstructured(layer, "weight", ratio)  # type: ignore[no-untyped-call]
    torch.save(masked.state_dict(), folder / "masked.pt")
    return (folder / "masked.pt").stat().st_size


def top1(graph: Graph, data: Dataset | None) -> str:
    if data is None:
        return "     -"
    found = accuracy(GraphNetwork(graph), data, data.test, device=torch.device("cpu"))
    return f"{100 * found.value:6.2f}"


def megabytes_per_second(path: Path, dense: int) -> float:
    packfile.read(path)
    times = []
    for _ in range(21 if dense < 20_000_000 else 3):
        start = time.process_time()
        packfile.read(path)
        times.append(time.process_time() - start)
    return dense / statistics.median(times) / 1e6


def report(subject: Subject, ratio: float, folder: Path) -> None:
    network, graph = subject.pruned(ratio)
    dense, checkpoint = saved(network, folder)
    masked = masked_size(subject.network, ratio, folder) if ratio else 0
    zipped = len(gzip.compress(checkpoint, 6))
    standard = len(zstandard.ZstdCompressor(level=9).compress(checkpoint))
    path = folder / "net.secateur"
    packfile.write(graph, path, force=True)
    found = packfile.describe(path)
    speed = megabytes_per_second(path, found.dense_bytes)
    kept = top1(packfile.read(path), subject.data)
    print(f"{subject.name:16} {ratio:4.0%} {dense:11,} {masked:11,} {zipped:11,} {standard:11,}", end="")
    print(f" {found.bytes:11,} {found.share:6.3f} {dense / found.bytes:6.1f} {speed:5.0f} {kept}", end="")
    for bits in BITS:
        packfile.write(graph, path, bits=bits, force=True)
        size = path.stat().st_size
        print(f" | {size:10,} {dense / size:6.1f} {top1(packfile.read(path), subject.data)}", end="")
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir")
    parser.add_argument("--run", action="append", default=[], help="a sweep's folder whose trained ResNets are used")
    parser.add_argument("--only", help="these networks, separated by commas")
    parser.add_argument("--ratios", default=",".join(map(str, RATIOS)))
    given = parser.parse_args()
    torch.set_num_threads(1)
    where = environment()
    print(f"{where.cpu}, {where.cores} cores; one thread; PyTorch {torch.__version__}")
    print("Bytes of files. acc: top-1 % on the test data. MB/s: dense weights decoded per CPU second. x: times smaller")
    head = f"{'':16} {'zero':>4} {'dense':>11} {'torch.prune':>11} {'gzip -6':>11} {'zstd -9':>11} "
    head += f"{'lossless':>11} {'/bound':>6} {'x':>6} {'MB/s':>5} {'acc':>6}"
    print(head + "".join(f" | {f'{bits} bits':>10} {'x':>6} {'acc':>6}" for bits in BITS))
    with tempfile.TemporaryDirectory() as folder:
        for subject in subjects(given.data_dir, given.run, given.only):
            for ratio in map(float, given.ratios.split(",")):
                report(subject, ratio, Path(folder))


if __name__ == "__main__":
    main()
