"""torch.compile(model, backend="secateur") beside eager and inductor: `python benchmarks/compiled.py [--batches 1,64]`.

Networks with random weights, pruned per layer by magnitude; every engine runs the same network on the same input, in
turns in one run, and has to give the same first. "session" is the runtime without PyTorch in front of it,
where it holds the whole network: attention it does not.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

import secateur
from secateur.errors import ExportError
from secateur.importing.aten import to_graph
from secateur.measure.timing import interleave, median_interval, on_cores
from secateur.network.simplification import simplify
from secateur.records.environment import environment
from secateur.runtime import Session
from secateur.training.models import build_network, find_architecture

BUILT_IN = {"lenet-5": (1, 28, 28), "resnet-18": (3, 32, 32)}


class Block(nn.Module):
    """A transformer's, as vision transformers have it: (N, T, width) → the same."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.first, self.second = heads, nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        images, tokens, width = x.shape
        split = self.qkv(self.first(x)).reshape(images, tokens, 3, self.heads, width // self.heads)
        seen = functional.scaled_dot_product_attention(*split.permute(2, 0, 3, 1, 4).unbind(0))
        x = x + self.proj(seen.transpose(1, 2).reshape(images, tokens, width))
        found: Tensor = x + self.mlp(self.second(x))
        return found


class Tokens(nn.Module):
    """Planes become tokens, blocks look at them, their mean is classified."""

    def __init__(self, planes: nn.Module, width: int, blocks: int) -> None:
        super().__init__()
        self.planes, self.blocks = planes, nn.Sequential(*(Block(width) for _ in range(blocks)))
        self.fc = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.fc(self.blocks(self.planes(x).flatten(2).transpose(1, 2)).mean(1))
        return found


def _convolutions() -> nn.Module:
    layers = [nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 128, 3, 2, 1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(128, 128, 3, 2, 1), nn.ReLU(), nn.Conv2d(128, 128, 3, 2, 1), nn.ReLU())


def networks() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    """Networks and the shapes of their images."""
    found: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
        name: (build_network(find_architecture(name), 10, shape[0], seed=0), shape) for name, shape in BUILT_IN.items()
    }
    torch.manual_seed(0)
    found["vit"] = Tokens(nn.Conv2d(3, 192, 4, 4), 192, 4), (3, 32, 32)
    found["conv+attn"] = Tokens(_convolutions(), 128, 1), (3, 32, 32)
    return found


def engines(network: nn.Module, x: Tensor) -> dict[str, Callable[[], object]]:
    ours, inductor = (torch.compile(network, backend=backend) for backend in (secateur.compile_backend, "inductor"))
    runs: dict[str, Callable[[], object]] = {
        "secateur": lambda: ours(x),
        "eager": lambda: network(x),
        "inductor": lambda: inductor(x),
    }
    with contextlib.suppress(ExportError):  # what a graph cannot hold whole
        session, array = Session(simplify(to_graph(network, x)), threads=1), x.numpy()
        runs["session"] = lambda: torch.from_numpy(session(array))
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
    for name, (network, shape) in networks().items():
        secateur.prune(network.eval(), given.ratio, example=torch.randn(1, *shape))
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
