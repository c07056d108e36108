"""Architectures that people use: which of them pack, and do they then compute what PyTorch does?

    python benchmarks/zoo.py [--only PATTERN] [--family FAMILY] [--jobs N] [--ratio 0.8] [--limit SECONDS] [--list]
                             [--beyond RESULTS]

Each is built with random weights (BatchNorm's statistics made random, evaluation mode), pruned, packed, loaded and
compared with PyTorch at batch sizes 1, 2 and 5, in a process of its own. "error" is the largest difference over the
largest number of an output; where float32 is not sure of that many digits, PyTorch in float64 says how far both are
from it, and the runtime may be as far as PyTorch. "seconds" are those that a core computes in pack. "in all" is the
most that the process held while pack ran, the network among it, less what libraries and PyTorch's tracer had taken
before, over the network's own bytes. What is not installed is named.
"""

from __future__ import annotations

import argparse
import copy
import fnmatch
import multiprocessing
import queue
import re
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from architectures import SMP, TIMM, TORCHVISION, TRANSFORMERS, ULTRALYTICS, Build, Case, Given
from handwritten import HANDWRITTEN
from torch import Tensor, nn

from secateur.errors import PruneError, SecateurError
from secateur.exporting.packing import pack
from secateur.pruning.pruning import prune
from secateur.runtime.loading import load

FAMILIES: Mapping[str, Mapping[str, Build]] = {
    "torchvision": TORCHVISION,
    "timm": TIMM,
    "transformers": TRANSFORMERS,
    "ultralytics": ULTRALYTICS,
    "smp": SMP,
    "handwritten": HANDWRITTEN,
}
PRELOADED = ["zoo", "torchvision", "timm", "transformers", "ultralytics", "segmentation_models_pytorch"]
"""What is imported once for all processes; what is not installed is passed over."""
BATCHES = (1, 2, 5)
AGREES = 1e-4
"""The largest relative error of what agrees, where float32 is sure of that."""
LARGE = 16_000_000
"""Weights from which on a network takes more memory than what it computes with an image does."""


@dataclass(frozen=True)
class Outcome:
    """What became of one architecture. state: "agrees", "differs", "refused", "missing", "broken" or "slow".

    weights: of the network, how many. error: as above. seconds, memory: of packing; seconds that one core computes.
    """

    family: str
    name: str
    state: str = "slow"
    reason: str = ""
    weights: int = 0
    error: float = 0.0
    seconds: float = 0.0
    memory: float = 0.0

    def __str__(self) -> str:
        packed = self.state in ("agrees", "differs")
        figures = f"{self.error:9.1e} {self.seconds:8.1f} {self.memory:7.2f}x" if packed else " " * 27
        return (
            f"{self.family:12} {self.name:34} {self.weights / 1e6:8.2f} {figures} {self.state:8} {self.reason}".rstrip()
        )


Measure = Callable[[str, str], Iterator[Outcome]]
"""What is known of a network by family and name, more with each."""


def measured(family: str, name: str, ratio: float) -> Iterator[Outcome]:
    """What is known so far, more with each."""
    outcome = Outcome(family, name)
    _load_tracer()
    try:
        case = FAMILIES[family][name]()
    except ImportError as error:
        yield replace(outcome, state="missing", reason=f"{error.name or error} is not installed")
        return
    network = _settled(case)
    outcome = replace(outcome, weights=sum(each.numel() for each in network.parameters()))
    yield outcome
    size = sum(each.numel() * each.element_size() for each in network.state_dict().values())
    empty = _held("VmRSS") - size
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.secateur"
        try:
            _prune(network, ratio, case.example(1))
            started = time.process_time()
            Path("/proc/self/clear_refs").write_text("5")  # the most so far is what it is now
            pack(network, path, example=case.example(2))
            outcome = replace(
                outcome, seconds=time.process_time() - started, memory=(_held("VmHWM") - empty) / max(size, 1 << 20)
            )
            far = _largest_error(network, case, path)
        except SecateurError as error:
            yield replace(outcome, state="refused", reason=str(error))
            return
    yield replace(outcome, error=far, state="agrees" if far <= AGREES else "differs")


def _prune(network: nn.Module, ratio: float, example: Given) -> None:
    """What has no layer to prune is packed as it is."""
    try:
        prune(network, ratio, example=example)
    except PruneError as error:
        if "has no layer to prune" not in str(error):
            raise


def _load_tracer() -> None:
    """What the first network that is traced pays for all."""
    with tempfile.TemporaryDirectory() as folder:
        pack(nn.Linear(2, 2).eval(), Path(folder) / "net.secateur", example=torch.zeros(2, 2))


def _settled(case: Case) -> nn.Module:
    """In evaluation mode, with statistics that are not those of no data at all, and no matrix that is all zeros."""
    network = case.network.eval()
    random = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and isinstance(module.running_mean, Tensor):
            module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=random) * 0.1)
            assert module.running_var is not None
            module.running_var.copy_(torch.rand(module.running_var.shape, generator=random) * 0.5 + 0.75)
    for weight in network.parameters():
        if weight.dim() > 1 and not weight.any():  # that a head begins with says nothing
            weight.data.copy_(torch.randn(weight.shape, generator=random) * 0.05)
    return network


def _largest_error(network: nn.Module, case: Case, path: Path) -> float:
    session = load(path, threads=1)
    worst = 0.0
    for count in BATCHES:
        given = case.example(count)
        found = _called(session, given)
        expected = _run(network, given)
        far = _distance(found, expected)
        if far > AGREES:
            exact = _run(copy.deepcopy(network).double(), _doubled(given))
            own, theirs = _distance(found, exact), _distance(expected, exact)
            far = own if own > 3 * theirs else min(far, own, AGREES)
        worst = max(worst, far)
    return worst


def _called(session: Any, given: Given) -> list[np.ndarray]:
    if isinstance(given, dict):
        return _leaves(session(**{name: each.numpy() for name, each in given.items()}))
    return _leaves(session(*(each.numpy() for each in given)))


def _run(network: nn.Module, given: Given) -> list[np.ndarray]:
    with torch.no_grad():
        made = network(**given) if isinstance(given, dict) else network(*given)
    return _leaves(made)


def _doubled(given: Given) -> Given:
    def wide(each: Tensor) -> Tensor:
        return each.double() if each.is_floating_point() else each

    return {name: wide(each) for name, each in given.items()} if isinstance(given, dict) else tuple(map(wide, given))


def _leaves(value: Any) -> list[np.ndarray]:
    """The arrays in what a network or a session returns, in order."""
    if isinstance(value, Tensor):
        return [value.detach().numpy()]
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, Mapping):
        value = [value[key] for key in value]
    elif hasattr(value, "__dataclass_fields__"):
        value = [getattr(value, name) for name in value.__dataclass_fields__]
    return [leaf for each in value for leaf in _leaves(each)] if isinstance(value, (list, tuple)) else []


def _distance(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    if [each.shape for each in found] != [each.shape for each in expected]:
        return float("inf")
    worst = 0.0
    for one, other in zip(found, expected, strict=True):
        one, other = one.astype(np.float64), other.astype(np.float64)
        finite = np.isfinite(other)
        if not np.array_equal(np.where(finite, 0, one), np.where(finite, 0, other), equal_nan=True):
            return float("inf")
        apart, largest = np.abs(one - other)[finite], np.abs(other)[finite]
        worst = max(worst, float(apart.max(initial=0) / max(largest.max(initial=0), 1e-30)))
    return worst


def _held(field: str) -> int:
    """VmRSS or VmHWM (the most of it so far) of this process, in bytes."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def _child(sender: Connection, measure: Measure, family: str, name: str) -> None:
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    known = Outcome(family, name)
    try:
        for known in measure(family, name):
            sender.send(known)
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        sender.send(replace(known, state="broken", reason=f"{type(error).__name__}: {text}"))
    sender.close()


def outcome_of(measure: Measure, family: str, name: str, limit: float) -> Outcome:
    """Of a process of its own, which has so many seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, measure, family, name))
    process.start()
    sender.close()
    known, ends = Outcome(family, name), time.monotonic() + limit
    try:
        while receiver.poll(max(0, ends - time.monotonic())):
            known = receiver.recv()
        known = replace(known, reason=f"not done in {limit:.0f} s") if known.state == "slow" else known
    except EOFError:
        process.join()
        died = known.state == "slow"
        known = replace(known, state="broken", reason=f"the process ended with {process.exitcode}") if died else known
    process.kill()
    process.join()
    return known


def outcomes(measure: Measure, chosen: list[tuple[str, str]], limit: float, jobs: int) -> Iterator[Outcome]:
    """As they come."""
    waiting: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    done: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
    for each in chosen:
        waiting.put(each)

    def work() -> None:
        while True:
            try:
                family, name = waiting.get_nowait()
            except queue.Empty:
                return
            done.put(outcome_of(measure, family, name, limit))

    for _ in range(jobs):
        threading.Thread(target=work, daemon=True).start()
    for _ in chosen:
        yield done.get()


def summary(found: list[Outcome]) -> str:
    lines = [
        "",
        f"{'family':12} {'of':>4} {'agree':>6} {'differ':>7} {'refused':>8} {'broken':>7} {'slow':>5} {'missing':>8}",
    ]
    for family in [*FAMILIES, "all"]:
        own = [each for each in found if family in (each.family, "all")]
        count = Counter(each.state for each in own)
        if own:
            lines.append(
                f"{family:12} {len(own):4} "
                + " ".join(
                    f"{count[state]:8}" for state in ("agrees", "differs", "refused", "broken", "slow", "missing")
                )
            )
    packed = [each for each in found if each.state == "agrees"]
    if packed:
        longest = max(packed, key=lambda each: each.seconds)
        largest = max(packed, key=lambda each: each.memory * (each.weights >= LARGE))
        middle = sorted(each.error for each in packed)[len(packed) // 2]
        lines += [
            "",
            f"median error {middle:.1e}; longest {longest.name} {longest.seconds:.1f} s; "
            f"most memory, of those of {LARGE / 1e6:.0f} million weights or more, {largest.name} "
            f"{largest.memory:.2f} times the network",
        ]
    reasons = Counter(_kind(each.reason) for each in found if each.state in ("refused", "broken", "missing"))
    return "\n".join([*lines, "", *(f"{count:4}  {reason}" for reason, count in reasons.most_common())])


def _kind(reason: str) -> str:
    """A reason without the place, so that those of a kind are one."""
    return re.sub(r"^module '[^']*' \(\w+\): |^\w+'s forward: |^module '[^']*' \(\w+\)", "", reason)[:150]


def chosen(arguments: argparse.Namespace) -> list[tuple[str, str]]:
    pattern = arguments.only if any(each in arguments.only for each in "*?[") else f"*{arguments.only}*"
    families = [arguments.family] if arguments.family else [*FAMILIES]
    done = _rows(arguments.beyond) if arguments.beyond else set()
    every = [(family, name) for family in families for name in FAMILIES[family] if fnmatch.fnmatchcase(name, pattern)]
    return [each for each in every if each not in done]


def _rows(path: Path) -> set[tuple[str, str]]:
    """The networks that a printed table has."""
    named = {f"{family:12} {name:34}": (family, name) for family, own in FAMILIES.items() for name in own}
    return {named[line[:47]] for line in path.read_text().splitlines() if line[:47] in named}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", default="*", metavar="PATTERN")
    parser.add_argument("--family", choices=FAMILIES)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--ratio", type=float, default=0.8)
    parser.add_argument("--limit", type=float, default=600)
    parser.add_argument("--beyond", type=Path, metavar="RESULTS", help="only what this printed table has no row of")
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    asked = chosen(arguments)
    if arguments.list:
        print("\n".join(f"{family:12} {name}" for family, name in asked))
        return
    print(f"{'family':12} {'network':34} {'million':>8} {'error':>9} {'seconds':>8} {'in all':>8}", flush=True)
    measure, found = partial(measured, ratio=arguments.ratio), []
    for outcome in outcomes(measure, asked, arguments.limit, max(1, arguments.jobs)):
        found.append(outcome)
        print(outcome, flush=True)
    print(summary(found))
    sys.exit(any(each.state in ("differs", "broken") for each in found))


if __name__ == "__main__":
    main()
