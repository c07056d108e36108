"""What a user gets: `python benchmarks/decide.py NETWORK DATA EPOCHS [--retrain N] [--out FOLDER]`, or, for the
sentences of the STS benchmark, `python benchmarks/decide.py minilm DIR` (DIR: stsb-en-train.csv, -dev and -test).

The same trained network, as it is in ONNX Runtime and OpenVINO, in float32 and in the eight bits of their own tools
(1,024 training examples for the scales); with channels taken off by Torch-Pruning (its group magnitude, one global
threshold or the same share of every layer, whichever keeps more accuracy; BatchNorm's statistics set right afterwards)
and run in ONNX Runtime, in float32 and eight bits; and the file that `secateur search --pattern 1x4` ships, in float32
and in eight bits. At no loss that the validation data can tell, half a point and one point, by one rule: the cheapest
that loses no more on validation data on average. What is told of accuracy is on test data. --retrain: pruned networks
of both learn for so many epochs more, by one schedule. Times: one run, in turns, one thread, medians. Memory: what a
fresh process takes at most, beside Python and NumPy, to load the file and run batches of 1 and of 64.

Needs the extra [bench] and Torch-Pruning; minilm what benchmarks/minilm.py needs. Goes on where it was interrupted:
what was made lies in FOLDER. What the networks and data are stands in subjects.py.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from subjects import Predict, Subject, images, sentences
from torch import nn

import secateur
from secateur.measure.rivals import onnxruntime_engine, openvino_engine, quantised_for_openvino
from secateur.measure.timing import alone, interleave, median_interval, on_cores
from secateur.support.progress import ConsoleReporter

BUDGETS = (0.5, 1.0)
"""Points, beside what the validation data cannot tell from no loss."""
BATCHES = (1, 64)
BASE = "dense fp32, ONNX Runtime"


@dataclass(frozen=True)
class Way:
    """A file, and how a fresh process reads it: by one of READERS."""

    name: str
    budget: float | None
    path: Path
    reader: str


READERS: dict[str, Callable[[str], Predict]] = {
    "onnxruntime": lambda path: onnxruntime_engine(Path(path).read_bytes(), 1),
    "openvino": lambda path: openvino_engine(_openvino_model(path), 1),
    "secateur": lambda path: secateur.load(path, threads=1),
}


def _openvino_model(path: str) -> Any:
    import openvino

    return openvino.Core().read_model(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network")
    parser.add_argument("data")
    parser.add_argument("epochs", type=int, nargs="?", default=0)
    parser.add_argument("--retrain", type=int, default=0)
    parser.add_argument("--minimize", default="latency")
    parser.add_argument("--out", type=Path, default=Path("decide"))
    parser.add_argument("--known", action="store_true", help="search for nothing more: print what FOLDER holds")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    folder = asked.out / asked.network
    folder.mkdir(parents=True, exist_ok=True)
    subject = sentences(Path(asked.data)) if asked.network == "minilm" else images(asked)
    ways = [*_dense(subject, folder), *_channels(subject, folder, asked.retrain), *_ours(subject, asked, folder)]
    print(f"{subject.title}: {subject.told(subject.test)}")
    _print(ways, subject, folder)


def _dense(subject: Subject, folder: Path) -> Iterator[Way]:
    """The network as it is, in what people run it in."""
    plain = _written(folder / "dense.onnx", lambda: subject.onnx(subject.dense))
    yield Way(BASE, None, plain, "onnxruntime")
    yield Way("dense fp32, OpenVINO", None, plain, "openvino")
    eight = _written(folder / "dense-int8.onnx", lambda: subject.in_eight_bits(plain.read_bytes()))
    yield Way("dense int8, ONNX Runtime", None, eight, "onnxruntime")
    whole = folder / "dense-int8.xml"
    if not whole.exists():
        import openvino

        made = quantised_for_openvino(plain.read_bytes(), subject.calibration)
        if isinstance(made, bytes):  # without NNCF
            made = openvino.Core().read_model(made)
        openvino.save_model(made, str(whole), compress_to_fp16=False)
    yield Way("dense int8, OpenVINO", None, whole, "openvino")


def _written(path: Path, made: Callable[[], bytes]) -> Path:
    if not path.exists():
        path.write_bytes(made())
    return path


def _channels(subject: Subject, folder: Path, epochs: int) -> Iterator[Way]:
    """Torch-Pruning's networks: the highest ratio of channels that holds, of each budget."""
    judged: dict[tuple[float, int], tuple[float, nn.Module]] = {}

    def lost(ratio: float, learning: int) -> float:
        if (ratio, learning) not in judged:
            judged[ratio, learning] = max(
                (_pruned(subject, ratio, learning, everywhere) for everywhere in (False, True)),
                key=lambda found: found[0],
            )
        return 100 * (subject.validation - judged[ratio, learning][0])

    for learning in sorted({0, epochs}):
        for budget in (subject.untold, *BUDGETS):
            path = folder / f"channels-{budget:g}-{learning}.onnx"
            if not path.exists():
                ratio = _highest(partial(lost, learning=learning), budget)
                path.write_bytes(subject.onnx(judged[ratio, learning][1] if ratio else subject.dense))
            after = f", {learning} epochs more" if learning else ""
            yield Way(f"channels, Torch-Pruning{after}, fp32", budget, path, "onnxruntime")
            eight = path.with_name(f"{path.stem}-int8.onnx")
            _written(eight, partial(_in_eight_bits, subject, path))
            yield Way(f"channels, Torch-Pruning{after}, int8", budget, eight, "onnxruntime")


def _pruned(subject: Subject, ratio: float, learning: int, everywhere: bool) -> tuple[float, nn.Module]:
    """Its score on validation data, and a network without channels that learnt for some epochs more."""
    network = subject.without_channels(ratio, everywhere)
    if learning:
        subject.learn(network, learning)
    return subject.score(network.eval(), "validation"), network


def _in_eight_bits(subject: Subject, path: Path) -> bytes:
    return subject.in_eight_bits(path.read_bytes())


def _highest(lost: Callable[[float], float], budget: float) -> float:
    """By bisection among hundredths; 0 where none holds."""
    low, high = 0, 96
    while high - low > 2:
        middle = (low + high) // 2
        low, high = (middle, high) if lost(middle / 100) <= budget else (low, middle)
    return low / 100


def _ours(subject: Subject, asked: argparse.Namespace, folder: Path) -> Iterator[Way]:
    """The files that a search ships, of each budget and precision."""
    budgets = (subject.untold, *BUDGETS)
    for quantize, epochs, budget in itertools.product(("int8", "none"), sorted({0, asked.retrain}), budgets):
        path = folder / f"ours-{quantize}-{budget:g}-{epochs}.secateur"
        if not path.exists() and asked.known:
            continue
        if not path.exists():
            result = subject.search(
                out=folder / "search", max_drop=budget, confidence=0, pattern="1x4", minimize=asked.minimize,
                quantize=quantize, retrain=epochs, trials=2, device="cpu", reporter=ConsoleReporter(),
            )  # fmt: skip
            assert result.best.packed is not None
            shutil.copy(result.best.packed, path)
        after = f", {epochs} epochs more" if epochs else ""
        yield Way(f"Secateur{after}, {'fp32' if quantize == 'none' else quantize}", budget, path, "secateur")


def _print(ways: Sequence[Way], subject: Subject, folder: Path) -> None:
    engines = {way: READERS[way.reader](str(way.path)) for way in ways}
    scores = {way: _score(way, run, subject, folder) for way, run in engines.items()}
    times = {batch: _times(engines, subject, batch) for batch in BATCHES}
    columns = {
        "kB": {way: _bytes(way) / 1000 for way in ways},
        **{f"ms, {batch}": each for batch, each in times.items()},
        "MiB": {way: _memory(way, subject) / 2**20 for way in ways},
    }
    print(f"{'':<48}{'budget':>7}{'test':>9}{'lost':>7}" + "".join(f"{name:>20}" for name in columns))
    for way in ways:
        rivals = [each for each in ways if each.budget == way.budget]
        told = [
            f"{each[way]:.4g}{'*' if each[way] == min(map(each.__getitem__, rivals)) else ''} "
            f"({each[ways[0]] / each[way]:.1f} ×)"
            for each in columns.values()
        ]
        budget = "" if way.budget is None else f"{way.budget:.2g}"
        lost = 100 * (subject.test - scores[way])
        print(f"{way.name:<48}{budget:>7}{scores[way]:>9.2%}{lost:>7.2f}" + "".join(f"{each:>20}" for each in told))
    print(f"× : times less than {ways[0].name}; * : the least of its budget")


def _score(way: Way, run: Predict, subject: Subject, folder: Path) -> float:
    kept = folder / f"{way.path.name}-{way.reader}.json"
    if not kept.exists():
        kept.write_text(json.dumps(subject.score(run, "test")))
    found: float = json.loads(kept.read_text())
    return found


def _times(engines: Mapping[Way, Predict], subject: Subject, batch: int) -> dict[Way, float]:
    """Milliseconds, medians in turns."""
    x = subject.shown(batch)
    with alone(), on_cores(1):
        runs = {str(number): partial(run, *x) for number, run in enumerate(engines.values())}
        samples = interleave(runs, seconds=1.0)
    return {way: median_interval(each)[1] for way, each in zip(engines, samples.values(), strict=True)}


def _bytes(way: Way) -> int:
    weights = way.path.with_suffix(".bin")
    return way.path.stat().st_size + (weights.stat().st_size if way.path.suffix == ".xml" else 0)


def _memory(way: Way, subject: Subject) -> int:
    """The highest resident memory of a fresh process beside what Python and NumPy take, in bytes."""
    inputs = json.dumps([[each.dtype.name, each.shape[1:]] for each in subject.shown(1)])
    words = [sys.executable, "-c", _FRESH, way.reader, str(way.path), inputs]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return int(done.stdout)


_FRESH = """
import json, sys, numpy as np
_, reader, path, inputs = sys.argv
peak = lambda: next(1024 * int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
before = peak()
if reader == "onnxruntime":
    import onnxruntime
    options = onnxruntime.SessionOptions(); options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    run = lambda *x: session.run(None, {each.name: array for each, array in zip(session.get_inputs(), x)})
elif reader == "openvino":
    import openvino
    core = openvino.Core(); settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    def run(*x):
        model = core.read_model(path); model.reshape({place: list(each.shape) for place, each in enumerate(x)})
        core.compile_model(model, "CPU", settings).create_infer_request().infer(dict(enumerate(x)))
else:
    import secateur
    run = secateur.load(path, threads=1)
for batch in (1, 64):
    run(*(np.ones((batch, *shape), element) for element, shape in json.loads(inputs)))
print(peak() - before)
"""


if __name__ == "__main__":
    main()
