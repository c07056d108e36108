"""Networks against the engines people have: `python benchmarks/runtime.py [--networks …] [--batches 64,1] [--peers …]`.

Random weights, pruned by magnitude per layer (the output layer is left whole). Every engine runs float32 on the same
number of threads, bound to as many cores, in turns; outputs are compared before anything is timed. The rivals run the
dense network: they take as long for zeros. Reported: median milliseconds with a 95 % interval, and the ratio to ONNX
Runtime in the same run, of medians and of each engine's fastest run; then, by type of layer, the multiply-adds of
non-zeros a second and their share of the peak, which is that of the fastest dense loop from L1. Rivals that are not
installed are named. Printed as it comes, so that parts can be appended to one file. Needs
`pip install 'secateur[torch,bench]'`.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from secateur import _native
from secateur.importing.aten import to_graph
from secateur.measure.timing import interleave, median_interval, on_cores
from secateur.pruning.pruning import prune
from secateur.records.environment import environment
from secateur.runtime import PlanStep, Session
from secateur.training.models import ARCHITECTURES, build_network

NETWORKS = ("resnet-18-cifar", "resnet-50-cifar", "resnet-18", "lenet-5", "lenet-300-100")
RATIOS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99)
PEERS = ("onnxruntime", "openvino", "torch", "torch-compile")

Run = Callable[[np.ndarray], Any]


def network_of(name: str, ratio: float) -> tuple[nn.Module, tuple[int, int, int]]:
    shape = (1, 28, 28) if name.startswith("lenet") else (3, 32, 32)
    network = build_network(ARCHITECTURES[name], 10, shape[0], seed=0).eval()
    if ratio > 0:
        prune(network, ratio, example=torch.zeros(1, *shape))
    return network, shape


def onnx_file(network: nn.Module, shape: tuple[int, int, int], folder: Path) -> Path:
    path = folder / "network.onnx"
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (torch.zeros(2, *shape),), str(path), dynamo=True, dynamic_shapes=({0: batch},), verbose=False,
            external_data=False,
        )  # fmt: skip
    return path


def onnxruntime_engine(path: Path, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # Threads that go on spinning after a run would take the core from the engine that is timed next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


def openvino_engine(path: Path, threads: int, x: np.ndarray) -> Run:
    import openvino

    core = openvino.Core()
    model = core.read_model(str(path))
    model.reshape(list(x.shape))
    settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    return lambda given: request.infer({0: given})[0]


def torch_engine(network: nn.Module) -> Run:
    def run(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(x)).numpy()

    return run


def rivals(network: nn.Module, x: np.ndarray, threads: int, peers: list[str], folder: Path) -> dict[str, Run]:
    torch.set_num_threads(threads)
    found: dict[str, Run] = {}
    path = onnx_file(network, x.shape[1:], folder) if {"onnxruntime", "openvino"} & set(peers) else folder
    if "onnxruntime" in peers:
        found["onnxruntime"] = onnxruntime_engine(path, threads)
    if "openvino" in peers:
        found["openvino"] = openvino_engine(path, threads, x)
    if "torch" in peers:
        found["torch"] = torch_engine(network)
    if "torch-compile" in peers:
        found["torch-compile"] = torch_engine(torch.compile(network))  # type: ignore[arg-type]
    return found


def measure(name: str, batch: int, threads: int, ratios: list[float], peers: list[str], seconds: float) -> None:
    dense, shape = network_of(name, 0.0)
    x = np.random.default_rng(0).standard_normal((batch, *shape)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        engines = rivals(dense, x, threads, peers, Path(folder))
    expected = torch_engine(dense)(x)
    for engine, run in engines.items():
        np.testing.assert_allclose(run(x), expected, rtol=1e-3, atol=1e-3, err_msg=engine)
    for ratio in ratios:
        pruned, _ = network_of(name, ratio)
        session = Session(to_graph(pruned, torch.zeros(1, *shape)), threads=threads)
        np.testing.assert_allclose(session(x), torch_engine(pruned)(x), rtol=1e-3, atol=1e-4, err_msg=f"{ratio:.0%}")
        engines[f"{ratio:.0%}"] = session
    with on_cores(threads):
        times = interleave({engine: partial(run, x) for engine, run in engines.items()}, seconds=seconds)
    report(name, batch, threads, times)


def measure_layers(name: str, batch: int, ratios: list[float]) -> None:
    """The share of the peak, on one thread, of each type of layer."""
    print(f"\n{name}, batch {batch}, 1 thread: GMAC/s of non-zeros (share of the peak, share of the time)")
    for ratio in ratios:
        network, shape = network_of(name, ratio)
        session = Session(to_graph(network, torch.zeros(1, *shape)))
        with on_cores(1):
            peak = _native.peak_rate(session.kernel)
            steps = session.plan(batch, rounds=7).steps
        print(f"  {ratio:>4.0%} zeros, peak {peak / 1e9:.1f}: {'; '.join(_by_layer(steps, peak))}", flush=True)


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


def report(name: str, batch: int, threads: int, times: dict[str, list[float]]) -> None:
    rounds = len(next(iter(times.values())))
    print(f"\n{name}, batch {batch}, {threads} thread(s), n = {rounds}")
    base = times.get("onnxruntime")
    for engine, values in times.items():
        low, median, high = median_interval(values)
        label = engine if engine in PEERS else f"secateur, {engine} zeros"
        line = f"  {label:<22} {median:10.4f} ms [{low:.4f}, {high:.4f}], fastest {min(values):10.4f}"
        if base is not None:
            line += f"   ×{median_interval(base)[1] / median:6.2f}, fastest ×{min(base) / min(values):6.2f}"
        print(line, flush=True)


def main() -> None:
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--batches", default="64,1")
    parser.add_argument("--threads", default="1")
    parser.add_argument("--ratios", default=",".join(map(str, RATIOS)))
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--no-layers", action="store_true", help="only compare engines")
    parser.add_argument("--seconds", type=float, default=1.0, help="of measuring, per engine")
    given = parser.parse_args()
    print(f"{environment().cpu}, PyTorch {torch.__version__}")
    asked = given.peers.split(",") if given.peers else []
    peers = [peer for peer in asked if peer.startswith("torch") or find_spec(peer)]
    if missing := sorted(set(asked) - set(peers)):
        print(f"not installed: {', '.join(missing)}")
    for name in given.networks.split(","):
        for batch in map(int, given.batches.split(",")):
            for threads in map(int, given.threads.split(",")):
                ratios = [float(each) for each in given.ratios.split(",")]
                measure(name, batch, threads, ratios, peers, given.seconds)
            if not given.no_layers:
                measure_layers(name, batch, [float(each) for each in given.ratios.split(",")])


if __name__ == "__main__":
    main()
