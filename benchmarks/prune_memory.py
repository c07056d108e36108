"""Memory that pruning takes, each time in a fresh process: `python benchmarks/prune_memory.py [network …]`.

Ours, and torch.nn.utils.prune.l1_unstructured on the same layers at the same ratio.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from torch import nn
from torch.nn.utils import prune as torch_prune

from secateur.measure.footprint import memory_of
from secateur.modules.layers import weighted_layers
from secateur.pruning.pruning import prune
from secateur.training.models import build_network, find_architecture

RATIO, RUNS = 0.9, 5


def ours(network: nn.Module, scope: str) -> Callable[[], object]:
    return lambda: prune(network, RATIO, scope=scope, keep_output="fc")


def theirs(network: nn.Module) -> Callable[[], object]:
    layers = [layer.module for name, layer in weighted_layers(network).items() if name != "fc"]
    return lambda: [torch_prune.l1_unstructured(layer, "weight", RATIO) for layer in layers]  # type: ignore[no-untyped-call]


def measure_once(name: str, way: str) -> None:
    """In the fresh process: print peak bytes, held bytes and seconds."""
    architecture = find_architecture(name)
    prune(build_network(find_architecture("lenet-300-100"), 10, 1, 0), 0.5)  # load what any use would have loaded
    network = build_network(architecture, 10, architecture.channels or 3, seed=0)
    work = theirs(network) if way == "pytorch" else ours(network, way)
    started = time.perf_counter()
    _, peak, held = memory_of(work)
    print(peak, held, time.perf_counter() - started)


def measure(name: str, way: str) -> tuple[float, float, float]:
    """Medians over fresh processes."""
    command = [sys.executable, __file__, "--once", name, way]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() for _ in range(RUNS)]
    peak, held, seconds = (statistics.median(float(run[column]) for run in runs) for column in range(3))
    return peak, held, seconds


def main(names: list[str]) -> None:
    print(f"extra memory of pruning at {RATIO:.0%}, medians of {RUNS} fresh processes, MB = 10^6 bytes")
    print(f"{'network':<16} {'weights':>9} {'largest':>9}  {'way':<16} {'peak':>9} {'held':>9} {'time':>8}")
    for name in names:
        architecture = find_architecture(name)
        network = build_network(architecture, 10, architecture.channels or 3, seed=0)
        sizes = [4 * layer.weight.numel() for layer in weighted_layers(network).values()]
        head = f"{name:<16} {sum(sizes) / 1e6:>6.1f} MB {max(sizes) / 1e6:>6.1f} MB"
        for way in ("layer", "global", "pytorch"):
            peak, held, seconds = measure(name, way)
            label = "l1_unstructured" if way == "pytorch" else f"ours, {way}"
            print(f"{head}  {label:<16} {peak / 1e6:>6.1f} MB {held / 1e6:>6.1f} MB {seconds:>6.2f} s", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--once"]:
        measure_once(*sys.argv[2:])
    else:
        main(sys.argv[1:] or ["resnet-18", "resnet-50"])
