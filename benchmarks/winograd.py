"""Winograd's transform beside direct kernels, 3×3 layers of ResNet-18's sizes: `python benchmarks/winograd.py`.

Times: one thread, of the layer alone, the fastest of several runs, the two kernels in turns. Errors: against PyTorch in
float64, of outputs of variance near 1 (He's weights, inputs rectified): root mean square and largest of 16 images. The
cost model's constants are made up so that it chooses one or the other. Needs `pip install 'secateur[torch]'`.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from secateur.measure.timing import on_cores
from secateur.network.graph import Attribute, Graph, Node, Weight
from secateur.records.environment import environment
from secateur.runtime import PlanStep, Session
from secateur.runtime.calibration import Costs

LAYERS = ((64, 32), (128, 16), (256, 8), (512, 4))  # channels, height and width
BATCHES = (64, 1)
# As native/include/secateur/costs.hpp orders them: direct tiles as built in, or too dear to be chosen.
DIRECT = Costs((1.1, 0.15, 2.9, 2.4, 1e9, 1e9, 1.0, 1.03, 1.16, 1.4, 1.6, 1.8), "direct kernels only")
WINOGRAD = Costs((1e6, 0.15, 2.9, 2.4, 1e9, 5.2, *6 * (1e6,)), "Winograd's transform only")


def layer(channels: int, size: int, density: float) -> Graph:
    random = np.random.default_rng(0)
    shape = (channels, channels, 3, 3)
    weight = random.normal(0, np.sqrt(2 / (9 * channels * density)), shape) * (random.random(shape) < density)
    same: dict[str, Attribute] = {"stride": (1, 1), "padding": (1, 1, 1, 1), "dilation": (1, 1), "groups": 1}
    nodes = (Node("y", "conv2d", ("x",), {"weight": "w"}, same, (channels, size, size)),)
    return Graph({"x": (channels, size, size)}, ("y",), nodes, {"w": Weight.of(weight.astype(np.float32))})


def errors(session: Session, x: np.ndarray, weight: np.ndarray, batch: int) -> str:
    inputs, weights = torch.from_numpy(x).double(), torch.from_numpy(weight).double()
    right = torch.nn.functional.conv2d(inputs, weights, padding=1).numpy()
    step = min(batch, len(x))
    wrong = np.concatenate([session(x[i : i + step]) for i in range(0, len(x), step)]) - right
    return f"error {np.sqrt((wrong**2).mean()):.1e}, at most {np.abs(wrong).max():.1e}"


def layer_step(session: Session, batch: int, rounds: int) -> PlanStep:
    (step,) = (step for step in session.plan(batch, rounds=rounds).steps if step.layer)
    return step


def measure(channels: int, size: int, density: float, batch: int, turns: int) -> None:
    graph = layer(channels, size, density)
    sessions = {"direct": Session(graph, costs=DIRECT), "winograd": Session(graph, costs=WINOGRAD)}
    best = dict.fromkeys(sessions, float("inf"))
    with on_cores(1):
        for _ in range(turns):
            for name, session in sessions.items():
                step = layer_step(session, batch, rounds=5)
                best[name] = min(best[name], (step.seconds or 0) / step.images)
    x = np.maximum(np.random.default_rng(1).normal(size=(16, channels, size, size)), 0).astype(np.float32)
    weight = graph.weights["w"].bits.view(np.float32)
    for name, session in sessions.items():
        rate = channels * channels * 9 * size * size / best[name] / 1e9
        print(
            f"{channels:3} channels, {size:2}×{size:<2}, {density:4.0%} dense, batch {batch:2}: {rate:6.1f} GMAC/s, "
            f"×{best['direct'] / best[name]:5.2f}, {errors(session, x, weight, batch)}  "
            f"{layer_step(session, batch, rounds=0).kernel}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=6)
    given = parser.parse_args()
    print(f"{environment().cpu}, 1 thread; multiply-adds are those of a direct, dense convolution")
    for batch in BATCHES:
        for channels, size in LAYERS:
            for density in (1.0, 0.5):
                measure(channels, size, density, batch, given.turns)


if __name__ == "__main__":
    main()
