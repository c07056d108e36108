"""Networks against the engines people have: `python benchmarks/runtime.py [--networks …] [--batches 64,1] [--peers …]`.

Random weights, pruned by magnitude per layer (the output layer is left whole). Every engine runs on the same number of
threads, bound to as many cores; outputs are compared before anything is timed. The rivals run the dense network: they
take as long for zeros. In eight bits it is as their own tools quantise it (`secateur.measure.rivals`), calibrated on
noise. Times are taken in turns, and where runs are short once more warm, each engine among its own runs. Reported:
median milliseconds with a 95 % interval, and the ratio to ONNX Runtime's float32 in the same run, of medians and of
each engine's fastest run, and to the faster of the rivals in eight bits; then, by type of layer, the multiply-adds of
non-zeros a second and their share of the peak, which is that of the fastest dense loop from L1. Rivals that are not
installed are named. Printed as it comes, so that parts can be appended to one file. Needs
`pip install 'secateur[torch,bench]'`.

`--quantize int8`: ours in eight bits too, pruned by blocks (`--pattern 1x4`) and calibrated on the same noise, beside
ours in float32. `--isa avx512_core_vnni` keeps OpenVINO from wider products than ours (AMX), which it takes else.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from secateur import _native
from secateur.importing.aten import to_graph
from secateur.measure.rivals import (
    in_eight_bits,
    onnxruntime_engine,
    openvino_engine,
    quantised_by_onnxruntime,
    quantised_for_openvino,
    quantiser,
)
from secateur.measure.timing import median_interval, on_cores, time_twice
from secateur.network.graph import Graph
from secateur.pruning.pruning import prune
from secateur.records.environment import environment
from secateur.runtime import PlanStep, Session
from secateur.training.models import ARCHITECTURES, build_network

NETWORKS = ("resnet-18-cifar", "resnet-50-cifar", "resnet-18", "lenet-5", "lenet-300-100")
RATIOS = {"none": "0,0.5,0.8,0.9,0.95,0.99", "int8": "0,0.8,0.9,0.95"}
PEERS = {
    "none": "onnxruntime,openvino,torch,torch-compile",
    "int8": "onnxruntime,openvino,onnxruntime-int8,openvino-int8",
}
CALIBRATION = (4, 16)
"""Batches, images in each."""
ROUGHLY = 0.5
"""How far outputs in eight bits may be off, as a share of the norm."""

Run = Callable[[np.ndarray], Any]


def network_of(name: str, ratio: float, pattern: str) -> tuple[nn.Module, tuple[int, int, int]]:
    shape = (1, 28, 28) if name.startswith("lenet") else (3, 32, 32)
    network = build_network(ARCHITECTURES[name], 10, shape[0], seed=0).eval()
    if ratio > 0:
        prune(network, ratio, pattern=pattern, example=torch.zeros(1, *shape))
    return network, shape


def noise(shape: tuple[int, int, int]) -> list[np.ndarray]:
    batches, images = CALIBRATION
    random = np.random.default_rng(1)
    return [random.standard_normal((images, *shape), np.float32) for _ in range(batches)]


def onnx_file(network: nn.Module, shape: tuple[int, ...]) -> bytes:
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        path = Path(folder) / "network.onnx"
        torch.onnx.export(
            network, (torch.zeros(2, *shape),), str(path), dynamo=True, dynamic_shapes=({0: batch},), verbose=False,
            external_data=False,
        )  # fmt: skip
        return path.read_bytes()


def torch_engine(network: nn.Module) -> Run:
    def run(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(x)).numpy()

    return run


def rivals(network: nn.Module, shape: tuple[int, int, int], threads: int, peers: list[str]) -> dict[str, Run]:
    torch.set_num_threads(threads)
    model = onnx_file(network, shape) if any(not peer.startswith("torch") for peer in peers) else b""
    made: Mapping[str, Callable[[], Run]] = {
        "onnxruntime": lambda: onnxruntime_engine(model, threads),
        "openvino": lambda: openvino_engine(model, threads),
        "onnxruntime-int8": lambda: onnxruntime_engine(quantised_by_onnxruntime(model, noise(shape)), threads),
        "openvino-int8": lambda: openvino_engine(quantised_for_openvino(model, noise(shape)), threads, precision=None),
        "torch": lambda: torch_engine(network),
        "torch-compile": lambda: torch_engine(torch.compile(network)),  # type: ignore[arg-type]
    }
    return {peer: made[peer]() for peer in peers}


@lru_cache(maxsize=8)
def ours(name: str, ratio: float, pattern: str, quantize: str) -> dict[str, Graph]:
    """What we run at a ratio, by what it is called."""
    network, shape = network_of(name, ratio, pattern)
    graph = to_graph(network, torch.zeros(1, *shape))
    found = {f"secateur, {ratio:.0%} zeros": graph}
    if quantize == "int8":
        from secateur.exporting.quantising import quantise

        found[f"secateur int8, {ratio:.0%} zeros"], _ = quantise(graph, noise(shape))
    return found


def check(engine: str, found: np.ndarray, expected: np.ndarray) -> None:
    if "int8" not in engine:
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3, err_msg=engine)
        return
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    same = np.mean(found.argmax(1) == expected.argmax(1))
    print(f"  {engine}: outputs off by {error:.1%} of their norm, the same choice for {same:.0%} of images", flush=True)
    assert error <= ROUGHLY, engine


def measure(name: str, batch: int, threads: int, peers: list[str], given: argparse.Namespace) -> None:
    dense, shape = network_of(name, 0.0, given.pattern)
    x = np.random.default_rng(0).standard_normal((batch, *shape)).astype(np.float32)
    print(f"\n{name}, batch {batch}, {threads} thread(s)", flush=True)
    engines = rivals(dense, shape, threads, peers)
    for engine, run in engines.items():
        check(engine, run(x), torch_engine(dense)(x))
    for ratio in given.ratios:
        expected = torch_engine(network_of(name, ratio, given.pattern)[0])(x)
        for engine, graph in ours(name, ratio, given.pattern, given.quantize).items():
            engines[engine] = Session(graph, threads=threads)
            check(engine, engines[engine](x), expected)
    with on_cores(threads):
        times = time_twice({engine: partial(run, x) for engine, run in engines.items()}, seconds=given.seconds)
    report("in turns", {engine: each.in_turns for engine, each in times.items()})
    if all(each.warm for each in times.values()):
        report("warm", {engine: each.warm for engine, each in times.items()})


def measure_layers(name: str, batch: int, given: argparse.Namespace) -> None:
    """The share of the peak, on one thread, of each type of layer."""
    print(f"\n{name}, batch {batch}, 1 thread: GMAC/s of non-zeros (share of the peak, share of the time)")
    for ratio in given.ratios:
        for engine, graph in ours(name, ratio, given.pattern, given.quantize).items():
            session = Session(graph)
            with on_cores(1):
                peak = _native.peak_rate(session.kernel, *([True] if graph.quantisations else []))
                steps = session.plan(batch, rounds=7).steps
            print(f"  {engine}, peak {peak / 1e9:.1f}: {'; '.join(_by_layer(steps, peak))}", flush=True)


def _by_layer(steps: tuple[PlanStep, ...], peak: float) -> list[str]:
    stem = next(step for step in steps if step.layer)
    work: dict[str, float] = {}
    seconds: dict[str, float] = {}
    for step in steps:
        kind = "other" if not step.layer else step.layer
        if step is stem and "convolution" in kind:
            kind = f"stem ({kind})"
        work[kind] = work.get(kind, 0) + step.nonzero_multiply_adds
        seconds[kind] = seconds.get(kind, 0) + (step.seconds or 0) / step.images
    total = sum(seconds.values())
    rates = {kind: work[kind] / seconds[kind] for kind in seconds}
    return [f"{kind} {rate / 1e9:.1f} ({rate / peak:.0%}, {seconds[kind] / total:.0%})" for kind, rate in rates.items()]


def report(way: str, times: dict[str, list[float]]) -> None:
    print(f" {way}, n = {min(len(values) for values in times.values())}")
    base = times.get("onnxruntime")
    eight = [values for engine, values in times.items() if in_eight_bits(engine)]
    for engine, values in times.items():
        low, median, high = median_interval(values)
        line = f"  {engine:<24} {median:10.4f} ms [{low:.4f}, {high:.4f}], fastest {min(values):10.4f}"
        if base is not None:
            line += f"   ×{median_interval(base)[1] / median:6.2f}, fastest ×{min(base) / min(values):6.2f}"
        if eight:
            best, fastest = min(median_interval(each)[1] for each in eight), min(map(min, eight))
            line += f"   int8 ×{best / median:6.2f}, fastest ×{fastest / min(values):6.2f}"
        print(line, flush=True)


def print_header(asked: list[str], peers: list[str], given: argparse.Namespace) -> None:
    print(f"{environment().cpu}, PyTorch {torch.__version__}")
    if given.isa:
        print(f"OpenVINO confined to {given.isa}")
    for peer in filter(in_eight_bits, peers):
        print(f"{peer}: quantised by {quantiser(peer)}")
    if missing := sorted(set(asked) - set(peers)):
        print(f"not installed: {', '.join(missing)}")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--batches", default="64,1")
    parser.add_argument("--threads", default="1")
    parser.add_argument("--quantize", default="none", choices=[*RATIOS], help="int8: ours in eight bits too")
    parser.add_argument("--pattern", default=None, help="of zeros; 1x4 with int8, else single weights")
    parser.add_argument("--ratios", default=None)
    parser.add_argument("--peers", default=None)
    parser.add_argument("--isa", default="", help="what OpenVINO may use at most, such as avx512_core_vnni")
    parser.add_argument("--no-layers", action="store_true", help="only compare engines")
    parser.add_argument("--seconds", type=float, default=1.0, help="of measuring, per engine")
    given = parser.parse_args()
    given.ratios = [float(each) for each in (given.ratios or RATIOS[given.quantize]).split(",")]
    given.pattern = given.pattern or ("1x4" if given.quantize == "int8" else "unstructured")
    return given


def main() -> None:
    logging.disable(logging.WARNING)
    given = parsed()
    if given.isa:
        os.environ["ONEDNN_MAX_CPU_ISA"] = given.isa.upper()
    asked = [each for each in (PEERS[given.quantize] if given.peers is None else given.peers).split(",") if each]
    peers = [peer for peer in asked if peer.startswith("torch") or find_spec(peer.removesuffix("-int8"))]
    print_header(asked, peers, given)
    for name in given.networks.split(","):
        for batch in map(int, given.batches.split(",")):
            for threads in map(int, given.threads.split(",")):
                measure(name, batch, threads, peers, given)
            if not given.no_layers:
                measure_layers(name, batch, given)


if __name__ == "__main__":
    main()
