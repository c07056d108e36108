"""What looking at all weights costs a call of torch.compile(backend="secateur"): `python benchmarks/weight_watch.py`.

Networks with random weights, pruned per layer by magnitude, one image, one thread. In turns: a call, which looks at the
weights first; that look alone, with pages marked by the system where it marks any ("marks"); and the same where all
bytes are read ("reads"). Beside them the versions and addresses, which alone are not enough ("versions").
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

import secateur
from secateur import _native
from secateur.measure.timing import interleave, median_interval, on_cores
from secateur.records.environment import environment
from secateur.runtime.snapshots import Snapshot, _place, _state
from secateur.training.models import build_network, find_architecture

NETWORKS = {"lenet-5": (1, 28, 28), "resnet-18": (3, 32, 32)}


def looks(network: nn.Module) -> tuple[dict[str, Callable[[], object]], float]:
    """The ways to look, and the share of bytes that lie in marked pages."""
    weights = [*network.parameters(), *network.buffers()]
    taken = Snapshot(weights)
    places = [_place(each) for each in weights]
    reading = _native.Watch([], places)
    runs: dict[str, Callable[[], object]] = {
        "marks": lambda: taken.holds(weights),
        "reads": lambda: [_state(each) for each in weights] and reading.changed(),
        "versions": lambda: [_state(each) for each in weights],
    }
    return runs, taken._watch.marked / sum(bytes_ for _, bytes_ in places)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ratio", type=float, default=0.9)
    parser.add_argument("--seconds", type=float, default=2.0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"{environment().cpu}, one thread, PyTorch {torch.__version__}, {given.ratio:.0%} pruned, one image")
    print(f"{'network':<12}{'what':<10}{'median':>11}{'95 % interval':>22}{'n':>5}{'share of a call':>17}")
    for name, shape in NETWORKS.items():
        network = build_network(find_architecture(name), 10, shape[0], seed=0).eval()
        secateur.prune(network, given.ratio)
        torch.compiler.reset()
        compiled, x = torch.compile(network, backend=secateur.compile_backend), torch.randn(1, *shape)
        with on_cores(1), torch.inference_mode():
            compiled(x)
            ways, share = looks(network)
            times = interleave({"call": partial(compiled, x), **ways}, seconds=given.seconds)
        medians = {what: median_interval(values) for what, values in times.items()}
        for what, (low, middle, high) in medians.items():
            interval, of_call = f"{low:.4f} – {high:.4f}", middle / medians["call"][1]
            print(
                f"{name:<12}{what:<10}{middle:>8.4f} ms{interval:>22}{len(times[what]):>5}{of_call:>17.1%}", flush=True
            )
        print(f"{name:<12}{share:.0%} of the bytes lie in marked pages")


if __name__ == "__main__":
    main()
