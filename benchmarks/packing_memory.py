"""How much memory `secateur.pack` takes beside the network that it packs, and how long.

    python benchmarks/packing_memory.py [vgg-11] [alexnet] [wide] [pool]

Each network is made and packed in a process of its own. "in all" is the most that the process held while pack ran, less
what it held before the network was made (Python, PyTorch and Secateur imported), as a multiple of the network.
"""

from __future__ import annotations

import multiprocessing
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from secateur.exporting.packing import pack

MIB = 1 << 20


def vgg11() -> nn.Module:
    """Simonyan & Zisserman 2015, configuration A: 132.9 million weights."""
    layers: list[nn.Module] = []
    channels = 3
    for wide in (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0):
        layers += [nn.Conv2d(channels, wide, 3, padding=1), nn.ReLU()] if wide else [nn.MaxPool2d(2)]
        channels = wide or channels
    head = [nn.Linear(25088, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(7), nn.Flatten(), *head, nn.Linear(4096, 1000))


def alexnet() -> nn.Module:
    """Krizhevsky 2014, "One weird trick": 61.1 million weights."""
    features = [
        *(nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2), nn.AdaptiveAvgPool2d(6), nn.Flatten()),
    ]
    head = [nn.Dropout(), nn.Linear(9216, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU()]
    return nn.Sequential(*features, *head, nn.Linear(4096, 1000))


def wide() -> nn.Module:
    """Nearly all weights in one layer, folded with what follows: 67 million."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 224 * 224, 444), nn.BatchNorm1d(444), nn.ReLU(), nn.Linear(444, 9))


def pool() -> nn.Module:
    """What transformers' EfficientNet ends in: an average over more than there is."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, 112), nn.AvgPool2d(1280, ceil_mode=True), nn.Flatten(), nn.Linear(64, 1000)
    )


NETWORKS: dict[str, Callable[[], nn.Module]] = {"vgg-11": vgg11, "alexnet": alexnet, "wide": wide, "pool": pool}


def held(field: str) -> int:
    """VmRSS or VmHWM (the most of it so far) of this process, in bytes."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def measure(name: str) -> tuple[int, int, int, int, float, int]:
    """Bytes of the network, held before it was made, before pack, at most in it; seconds; bytes of the file."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    example = torch.randn(1, 3, 224, 224)
    with tempfile.TemporaryDirectory() as folder:
        pack(
            nn.Conv2d(3, 2, 3), Path(folder) / "first.secateur", example=example
        )  # what PyTorch imports when it traces
        empty = held("VmRSS")
        network = NETWORKS[name]().eval()
        size = sum(each.numel() * each.element_size() for each in network.state_dict().values())
        before = held("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the most so far is what it is now
        started = time.perf_counter()
        pack(network, path := Path(folder) / "net.secateur", example=example)
        return size, empty, before, held("VmHWM"), time.perf_counter() - started, path.stat().st_size


def main() -> None:
    print(
        f"{'network':8} {'its size':>9} {'before':>9} {'at most':>9} {'in all':>7} {'seconds':>8} {'file':>9}   (MiB)"
    )
    for name in sys.argv[1:] or NETWORKS:
        with multiprocessing.get_context("spawn").Pool(1) as process:
            size, empty, before, most, seconds, file = process.apply(measure, (name,))
        print(
            f"{name:8} {size / MIB:9.1f} {(before - empty) / MIB:9.1f} {(most - empty) / MIB:9.1f} "
            f"{(most - empty) / size:6.2f}x {seconds:8.1f} {file / MIB:9.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
