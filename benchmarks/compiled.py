"""torch.compile(model, backend="secateur") beside eager and inductor: `python benchmarks/compiled.py [--batches 1,64]`.

Networks with random weights, pruned per layer by magnitude; every engine runs the same network on the same input, in
turns in one run, and has to give the same first. "session" is the runtime without PyTorch in front of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn

import secateur
from secateur.environment import environment
from secateur.export import to_graph
from secateur.models import build_network, find_architecture
from secateur.runtime import Session
from secateur.simplification import simplify
from secateur.timing import interleave, median_interval, on_cores

NETWORKS = {"lenet-5": (1, 28, 28), "resnet-18": (3, 32, 32)}


def engines(network: nn.Module, x: Tensor) -> dict[str, Callable[[], object]]:
    session = Session(simplify(to_graph(network, x)), threads=1)
    array = x.numpy()
    ours, inductor = (torch.compile(network, backend=backend) for backend in (secateur.compile_backend, "inductor"))
    runs: dict[str, Callable[[], object]] = {
        "secateur": lambda: ours(x),
        "session": lambda: torch.from_numpy(session(array)),
        "eager": lambda: network(x),
        "inductor": lambda: inductor(x),
    }
    expected = network(x)
    for name, run in runs.items():
        found = run()
        assert isinstance(found, Tensor)
        if float((found - expected).abs().max()) > 1e-3 * max(1.0, float(expected.abs().max())):
            raise SystemExit(f"{name} computes something else")
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", default="1,64")
    parser.add_argument("--ratio", type=float, default=0.9)
    parser.add_argument("--seconds", type=float, default=2.0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"{environment().cpu}, one thread, PyTorch {torch.__version__}, {given.ratio:.0%} pruned")
    print(f"{'network':<12}{'batch':>6}  {'engine':<10}{'median':>11}{'95 % interval':>22}{'n':>5}{'÷ secateur':>12}")
    for name, shape in NETWORKS.items():
        network = build_network(find_architecture(name), 10, shape[0], seed=0).eval()
        secateur.prune(network, given.ratio)
        for batch in map(int, given.batches.split(",")):
            torch.compiler.reset()
            with on_cores(1), torch.inference_mode():
                times = interleave(engines(network, torch.randn(batch, *shape)), seconds=given.seconds)
            medians = {engine: median_interval(values) for engine, values in times.items()}
            for engine, (low, middle, high) in medians.items():
                interval = f"{low:.4f} – {high:.4f}"
                share = middle / medians["secateur"][1]
                count = len(times[engine])
                print(
                    f"{name:<12}{batch:>6}  {engine:<10}{middle:>8.4f} ms{interval:>22}{count:>5}{share:>12.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
