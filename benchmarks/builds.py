"""Two builds of the runtime against each other: `python benchmarks/builds.py OTHER/src`.

OTHER is a checkout of another version with its extension built (`make native`). Networks with random weights, pruned
by magnitude per layer, are packed once; each build loads the same files in a process of its own, bound to the same
core, with the built-in costs, so that both choose for the same reasons. The two are timed in turns, a turn being as
many calls as take about ten milliseconds. Reported per cell: the median milliseconds of a call in each, and the ratio
of the medians (this build / the other; below 1: this one is faster) with n turns; beside it the ratio of a build to
itself, its even turns to its odd ones, which is the noise. Outputs are compared bit for bit, and said where they
differ. In eight bits networks are pruned in blocks of 1x4.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

WORKER = """
import hashlib, json, os, sys, time
import numpy as np
sys.meta_path = [each for each in sys.meta_path if "editable" not in type(each).__module__]
import secateur
assert os.path.realpath(secateur.__file__).startswith(SOURCE), f"{secateur.__file__} is none of {SOURCE}"
os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
for line in sys.stdin:
    path, batch = json.loads(line)
    if path:
        net = secateur.load(path, threads=1, calibrate=False)
        shape = SHAPES[os.path.basename(path).split("@")[0]]
        x = np.random.default_rng(0).standard_normal((batch, *shape)).astype("f4")
        digest = hashlib.sha256(net(x).tobytes()).hexdigest()
        net(x)
        start = time.perf_counter(); net(x); took = time.perf_counter() - start
        calls = max(1, round(0.01 / took))
        print(json.dumps(digest), flush=True)
        continue
    start = time.perf_counter()
    for _ in range(calls):
        net(x)
    print(json.dumps((time.perf_counter() - start) / calls), flush=True)
"""
SHAPES = {"lenet-300-100": (1, 28, 28), "lenet-5": (1, 28, 28)}
NETWORKS = ("resnet-18-cifar", "resnet-18", "lenet-5", "lenet-300-100")
RATIOS = (0.0, 0.8, 0.95)


class Build:
    """A process that has one build loaded."""

    def __init__(self, source: Path, networks: list[str]) -> None:
        shapes = {name: SHAPES.get(name, (3, 32, 32)) for name in networks}
        environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", f"SHAPES, SOURCE = {shapes!r}, {os.path.realpath(source)!r}\n{WORKER}"]
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, path: str = "", batch: int = 0) -> str | float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps((path, batch)) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def time(self) -> float:
        return 1e3 * float(self.ask())


def packed(name: str, ratio: float, folder: Path, quantize: str | None) -> Path:
    import torch

    import secateur
    from secateur.training.models import ARCHITECTURES, build_network

    path = folder / f"{name}@{ratio}"
    shape = SHAPES.get(name, (3, 32, 32))
    network = build_network(ARCHITECTURES[name], 10, shape[0], seed=0).eval()
    example = torch.zeros(1, *shape)
    if ratio > 0:
        secateur.prune(network, ratio, example=example, pattern="1x4" if quantize else "unstructured")
    calibration = torch.randn(64, *shape, generator=torch.Generator().manual_seed(0)) if quantize else None
    secateur.pack(network, path, example=example, quantize=quantize, calibration=calibration)
    return path


def compare(path: Path, batch: int, builds: tuple[Build, Build], turns: int) -> None:
    one, other = (build.ask(str(path), batch) for build in builds)
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(turns):
        for which in (0, 1) if turn % 2 else (1, 0):
            times[which].append(builds[which].time())
    ours, theirs = (statistics.median(each) for each in times)
    noise = max(statistics.median(each[::2]) / statistics.median(each[1::2]) for each in times)
    name, ratio = path.name.split("@")
    print(
        f"{name:<16} {float(ratio):>4.0%} zeros, batch {batch:>2}: {ours:9.4f} ms, other {theirs:9.4f} ms, "
        f"ratio {ours / theirs:.3f}, of a build to itself {noise:.3f}, n = {turns}"
        f"{'' if one == other else ', outputs differ in bits'}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, help="src/ of the other checkout")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--ratios", default=",".join(map(str, RATIOS)))
    parser.add_argument("--batches", default="64,1")
    parser.add_argument("--turns", type=int, default=60)
    parser.add_argument("--quantize", choices=("int8",))
    given = parser.parse_args()
    networks = given.networks.split(",")
    builds = tuple(Build(source, networks) for source in (Path(__file__).parents[1] / "src", given.other))
    with tempfile.TemporaryDirectory() as folder:
        for name in networks:
            for ratio in map(float, given.ratios.split(",")):
                path = packed(name, ratio, Path(folder), given.quantize)
                for batch in map(int, given.batches.split(",")):
                    compare(path, batch, (builds[0], builds[1]), given.turns)
    for build in builds:
        assert build.process.stdin is not None
        build.process.stdin.close()
        build.process.wait()


if __name__ == "__main__":
    main()
