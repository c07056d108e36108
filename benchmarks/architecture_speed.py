"""Networks of other kinds beside ONNX Runtime: `python benchmarks/architecture_speed.py [--only NAME]`.

Each is made with random weights, pruned by magnitude (every layer by the same ratio, output layers kept), traced and
run by one thread; ONNX Runtime runs what `torch.onnx.export` makes of the dense network, PyTorch the network itself.
All are timed in turns, and warm too (each in a run of its own calls) where one takes less than ten milliseconds.
Reported: median milliseconds with their 95 % interval, and the ratio of medians to ONNX Runtime's. Before anything is
timed the outputs are compared. What is not installed is named.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from architectures import Case, images, library
from numpy.typing import NDArray
from torch import Tensor, nn
from zoo import _settled as settled

import secateur
from secateur.importing.aten import to_graph
from secateur.measure.timing import median_interval, on_cores, time_twice
from secateur.records.environment import environment
from secateur.runtime import Session

Array = NDArray[np.float32]
Predict = Callable[[Array], Array]


class Sequences(nn.Module):
    """Two LSTM layers over (N, T, 128), and classes of the last state."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(128, 256, 2, batch_first=True), nn.Linear(256, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


class Separation(nn.Module):
    """Conv-TasNet (Luo & Mesgarani 2019) without skips: N 256, B 128, H 256, P 3, two repeats of six blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Conv1d(1, 256, 16, 8, bias=False), nn.ConvTranspose1d(256, 1, 16, 8, bias=False)
        self.norm, self.narrow = nn.GroupNorm(1, 256, 1e-8), nn.Conv1d(256, 128, 1)
        self.blocks = nn.ModuleList([self._block(2**each) for _ in range(2) for each in range(6)])
        self.masks = nn.Sequential(nn.PReLU(), nn.Conv1d(128, 512, 1))

    @staticmethod
    def _block(apart: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv1d(128, 256, 1), nn.PReLU(), nn.GroupNorm(1, 256),
            nn.Conv1d(256, 256, 3, padding=apart, dilation=apart, groups=256), nn.PReLU(), nn.GroupNorm(1, 256),
            nn.Conv1d(256, 128, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        coded = self.encoder(x)
        made = self.narrow(self.norm(coded))
        for each in self.blocks:
            made = made + each(made)
        masks = torch.sigmoid(self.masks(made)).view(x.shape[0], 2, 256, -1)
        return self.decoder((coded.unsqueeze(1) * masks).flatten(0, 1)).view(x.shape[0], 2, -1)


def _timm(name: str) -> Case:
    return Case(library("timm").create_model(name, pretrained=False), images(3, 224, 224))


def _yolo() -> Case:
    """With its boxes decoded, as it is exported."""
    network = library("ultralytics.nn.tasks").DetectionModel("yolov8n.yaml", verbose=False)
    head = network.model[-1]
    head.export, head.format = True, "onnx"
    return Case(network, images(3, 320, 320))


def _unet() -> Case:
    made = library("segmentation_models_pytorch").Unet("resnet18", encoder_weights=None, classes=2)
    return Case(made, images(3, 256, 256))


NETWORKS: Mapping[str, Callable[[], Case]] = {
    "vit-tiny, 224×224": partial(_timm, "vit_tiny_patch16_224"),
    "swin-tiny, 224×224": partial(_timm, "swin_tiny_patch4_window7_224"),
    "yolov8n, 320×320": _yolo,
    "unet of resnet-18, 256×256": _unet,
    "lstm, two layers of 256, 128 steps": lambda: Case(Sequences(), images(128, 128)),
    "conv-tasnet, 4000 samples": lambda: Case(Separation(), images(1, 4000)),
}


def onnx_engine(network: nn.Module, x: Tensor, threads: int) -> Predict:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        path = Path(folder) / "network.onnx"
        torch.onnx.export(copy.deepcopy(network), (x,), str(path), dynamo=True, verbose=False, external_data=False)
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda given: session.run(None, {name: given})[0]


def runtime_engine(network: nn.Module, ratio: float, example: Callable[[int], Tensor], threads: int) -> Predict:
    """Pruned, and traced for batches of any size."""
    network = copy.deepcopy(network)
    if ratio > 0:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", secateur.errors.PruneWarning)
            secateur.prune(network, ratio, example=example(2))
    session = Session(to_graph(network, example(2)), threads=threads)
    return lambda given: session.run_all(given)[0]


def torch_engine(network: nn.Module) -> Predict:
    def run(given: Array) -> Array:
        with torch.inference_mode():
            made = network(torch.from_numpy(given))
        first = made if isinstance(made, Tensor) else cast(Tensor, made[0])
        return first.numpy()

    return run


def report(name: str, case: Case, given: argparse.Namespace) -> None:
    network = settled(case)

    def example(count: int) -> Tensor:
        (x,) = case.example(count)
        assert isinstance(x, Tensor)
        return x

    shared: dict[str, Predict] = {"torch": torch_engine(network)}
    for ratio in given.ratios:
        shared[f"secateur, {ratio:.0%} zeros"] = runtime_engine(network, ratio, example, given.threads)
    for batch in given.batches:
        x = example(batch)
        engines = {"onnxruntime": onnx_engine(network, x, given.threads), **shared}
        expected, found = engines["torch"](x.numpy()), engines["secateur, 0% zeros"](x.numpy())
        far = float(np.abs(found - expected).max() / np.abs(expected).max())
        assert far < 1e-3, f"{name}: outputs are apart by {far:.1e} of the largest"
        with on_cores(given.threads):
            runs = {key: partial(run, x.numpy()) for key, run in engines.items()}
            times = time_twice(runs, seconds=given.seconds, clock=time.thread_time_ns if given.processor else None)
        print(f"\n{name}, batch {batch}, {given.threads} thread(s)", flush=True)
        print_times("in turns", {key: each.in_turns for key, each in times.items()})
        if any(each.warm for each in times.values()):
            print_times("warm", {key: each.warm for key, each in times.items()})


def print_times(title: str, times: Mapping[str, list[float]]) -> None:
    base = median_interval(times["onnxruntime"])[1]
    print(f"  {title}: ms (95 %), times onnxruntime, n")
    for name, each in times.items():
        low, median, high = median_interval(each)
        print(f"    {name:24} {median:9.3f} ({low:.3f} to {high:.3f})  {base / median:6.2f}×  {len(each)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="names with this in them")
    parser.add_argument("--ratios", default="0,0.8")
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--processor", action="store_true", help="time that the thread ran, where others compute; for one thread"
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="of each engine, in turns and warm")
    given = parser.parse_args()
    given.ratios = [float(ratio) for ratio in given.ratios.split(",")]
    given.batches = [int(batch) for batch in given.batches.split(",")]
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    print(environment(), flush=True)
    for name, build in NETWORKS.items():
        if given.only not in name:
            continue
        try:
            case = build()
        except ImportError as error:
            print(f"\n{name}: {error.name} is not installed")
            continue
        report(name, case, given)


if __name__ == "__main__":
    main()
