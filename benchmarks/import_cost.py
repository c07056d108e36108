"""What it costs to start: `python benchmarks/import_cost.py [NET.secateur]`.

Each line is a fresh process, all of them in turns: the median of its wall time and of its peak resident memory. Without
a file, LeNet-5 with random weights is pruned by 90 % and packed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

ROUNDS = 9

PROGRAMS = {
    "python": ("", "pass"),
    "numpy": ("numpy", "import numpy"),
    "secateur": ("secateur", "import secateur; secateur.load"),
    "secateur, load, one image": (
        "secateur",
        "import sys, numpy, secateur; secateur.load(sys.argv[1])(numpy.zeros((1, 1, 28, 28), numpy.float32))",
    ),
    "onnxruntime": ("onnxruntime", "import onnxruntime"),
    "torch": ("torch", "import torch"),
}


def measure(program: str, path: Path) -> tuple[float, float]:
    """(seconds, peak resident MB) of a fresh process."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", program, str(path)], stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    elapsed = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"failed: {program}")
    return elapsed, usage.ru_maxrss / 1024


MAKE_LENET = """
import sys, torch, secateur
from secateur.training.models import build_network, find_architecture
network = build_network(find_architecture("lenet-5"), 10, 1, seed=0)
secateur.prune(network, 0.9)
secateur.pack(network, sys.argv[1], example=torch.zeros(1, 1, 28, 28))
"""
"""In a process of its own, as a child's peak memory is never below what its parent held when it started."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, nargs="?")
    given = parser.parse_args().file
    with tempfile.TemporaryDirectory() as folder:
        path = given or Path(folder) / "lenet-5.secateur"
        if given is None:
            measure(MAKE_LENET, path)
        programs = {name: code for name, (needs, code) in PROGRAMS.items() if not needs or find_spec(needs)}
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
        for _ in range(ROUNDS):
            for name, code in programs.items():
                found[name].append(measure(code, path))
    base = statistics.median(seconds for seconds, _ in found["python"])
    print(f"medians of {ROUNDS} fresh processes in turns; Python itself is in every line")
    print(f"{'program':<28}{'wall':>9}{'above Python':>14}{'peak memory':>13}")
    for name, values in found.items():
        seconds = statistics.median(each for each, _ in values)
        memory = statistics.median(each for _, each in values)
        print(f"{name:<28}{1000 * seconds:>6.0f} ms{1000 * (seconds - base):>11.0f} ms{memory:>10.1f} MB")
    for name in PROGRAMS.keys() - programs.keys():
        print(f"not installed: {name}")


if __name__ == "__main__":
    main()
