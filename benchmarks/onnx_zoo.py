"""PyTorch → ONNX → Secateur → ONNX: do the networks of the zoo that torch.onnx exports come back as they were?

    python benchmarks/onnx_zoo.py [--only PATTERN] [--family FAMILY] [--exporter old|new] [--jobs N] [--limit SECONDS]

Each network (benchmarks/architectures.py, handwritten.py; random weights, evaluation mode) is exported by torch.onnx
with a free batch, or for two images where that fails: by its exporter of today, or by the old one, which many files
come from (operator set 14, which has no LayerNormalization and no Gelu). The file is read, run, written as ONNX again
and run by ONNX Runtime; "there" is how far the runtime's outputs are from PyTorch's, relative to the largest, "back"
how far those of the second file are. A network that is not as near is compared in float64, as zoo.py does. What
torch.onnx does not export is no case.
"""

from __future__ import annotations

import argparse
import copy
import inspect
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from architectures import Case, Given
from torch import nn
from zoo import AGREES, FAMILIES, Outcome, _distance, _doubled, _run, _settled, chosen, outcomes

from secateur.errors import SecateurError
from secateur.exporting.onnx import to_onnx
from secateur.importing.onnx import read_whole
from secateur.network.graph import Graph
from secateur.network.signature import leaves
from secateur.network.simplification import simplify
from secateur.runtime import Session

LARGEST = 120_000_000
"""Weights of what is tried: a file of ONNX in one piece has 2 GB."""


class Positional(nn.Module):
    """A network whose arguments are given one by one, and whose outputs are tensors in a row."""

    def __init__(self, network: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, *given: torch.Tensor) -> Any:
        made = self.network(**dict(zip(self.names, given, strict=True))) if self.names else self.network(*given)
        return tuple(_tensors(made))


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict) or hasattr(value, "keys"):
        value = [value[key] for key in value]
    elif hasattr(value, "__dataclass_fields__"):
        value = [getattr(value, name) for name in value.__dataclass_fields__]
    return [leaf for each in value for leaf in _tensors(each)] if isinstance(value, (list, tuple)) else []


def measured(family: str, name: str, exporter: str) -> Iterator[Outcome]:
    outcome = Outcome(family, name)
    try:
        case = FAMILIES[family][name]()
    except ImportError as error:
        yield replace(outcome, state="missing", reason=f"{error.name or error} is not installed")
        return
    network = _settled(case)
    outcome = replace(outcome, weights=sum(each.numel() for each in network.parameters()))
    yield outcome
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        try:
            free = _export(network, case, path, exporter)
        except Exception as error:
            text = " ".join(str(error).split())[:80]
            yield replace(
                outcome, state="missing", reason=f"torch.onnx does not export it: {type(error).__name__} {text}"
            )
            return
        try:
            yield replace(outcome, **_there_and_back(network, case, path, free))
        except SecateurError as error:
            yield replace(outcome, state="refused", reason=str(error).replace(str(path), "model.onnx"))


def _export(network: nn.Module, case: Case, path: Path, exporter: str) -> bool:
    """Returns whether the file takes any number of images."""
    given = case.example(2)
    names = tuple(given) if isinstance(given, dict) else ()
    arguments = tuple(given.values()) if isinstance(given, dict) else given
    wrapped = Positional(network, names).eval()
    logging.disable(logging.CRITICAL)
    try:
        _by(exporter, wrapped, arguments, path, free=True)
        _session(path)
        return True
    except Exception:
        _by(exporter, wrapped, arguments, path, free=False)
        _session(path)
        return False


def _by(exporter: str, network: nn.Module, given: tuple[torch.Tensor, ...], path: Path, *, free: bool) -> None:
    names = [f"x{at}" for at in range(len(given))]
    if exporter == "old":
        axes = {name: {0: "batch"} for name in names} if free else None
        torch.onnx.export(
            network, given, str(path), dynamo=False, opset_version=14, input_names=names, dynamic_axes=axes
        )
        return
    batch = torch.export.Dim("batch", min=1, max=64)
    shapes = {"given": tuple({0: batch} for _ in given)} if free else None
    torch.onnx.export(
        network, given, str(path), dynamo=True, input_names=names, dynamic_shapes=shapes, verbose=False,
        external_data=False,
    )  # fmt: skip


def _session(path_or_bytes: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    held = str(path_or_bytes) if isinstance(path_or_bytes, Path) else path_or_bytes
    return onnxruntime.InferenceSession(held, options, providers=["CPUExecutionProvider"])


def _there_and_back(network: nn.Module, case: Case, path: Path, free: bool) -> dict[str, Any]:
    reading = read_whole(path)
    graph = simplify(reading.graph)
    session, again = Session(graph), _session(to_onnx(graph))
    worst, back = 0.0, 0.0
    for count in (1, 2, 5) if graph.images is None and free else (2,):
        given = case.example(count)
        arrays = [each.numpy() for each in (given.values() if isinstance(given, dict) else given)]
        expected = _run(network, given)
        names = [name for name, _ in graph.called.arguments]
        values = graph.called.arrays((), dict(zip(names, arrays, strict=True)))
        feeds = dict(zip(graph.inputs, values, strict=True))
        there = _returned(graph, list(session.run_all(*values)))
        returned = _returned(graph, again.run(None, {each.name: feeds[each.name] for each in again.get_inputs()}))
        worst = max(worst, _far(network, given, there, expected))
        back = max(back, _far(network, given, returned, expected))
    kept = "" if graph.images is None else ", read for two images" if free else ", exported for two images"
    said = f"back {back:.1e}{kept}"
    return {"error": worst, "state": "agrees" if max(worst, back) <= AGREES else "differs", "reason": said}


def _returned(graph: Graph, arrays: list[np.ndarray]) -> list[np.ndarray]:
    places = {each.place: each for _, each in leaves(graph.called.outputs)}
    return [places[at].back(each) for at, each in enumerate(arrays)]


def _far(network: nn.Module, given: Given, found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    far = _distance(found, expected)
    if far <= AGREES or not np.isfinite(far):
        return far
    exact = _run(copy.deepcopy(network).double(), _doubled(given))
    own, theirs = _distance(found, exact), _distance(expected, exact)
    return own if own > 3 * theirs else min(far, own, AGREES)


def main() -> None:
    parser = argparse.ArgumentParser(description=inspect.cleandoc(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="*", metavar="PATTERN")
    parser.add_argument("--family", choices=FAMILIES)
    parser.add_argument("--exporter", choices=("new", "old"), default="new")
    parser.add_argument("--names", default="", help="several, by comma")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--limit", type=float, default=300)
    arguments = parser.parse_args()
    asked = chosen(arguments)
    if arguments.names:
        asked = [each for each in asked if each[1] in arguments.names.split(",")]
    print(f"torch {torch.__version__}, its {arguments.exporter} exporter; onnxruntime {onnxruntime.__version__}")
    print(f"{'family':12} {'network':34} {'million':>8} {'there':>9}", flush=True)
    found = []
    for outcome in outcomes(partial(measured, exporter=arguments.exporter), asked, arguments.limit, arguments.jobs):
        found.append(outcome)
        error = f"{outcome.error:9.1e}" if outcome.state in ("agrees", "differs") else " " * 9
        print(
            f"{outcome.family:12} {outcome.name:34} {outcome.weights / 1e6:8.2f} {error} {outcome.state:8} "
            f"{outcome.reason}",
            flush=True,
        )
    tried = [each for each in found if each.state != "missing"]
    print(f"{sum(each.state == 'agrees' for each in tried)} of {len(tried)} that torch.onnx exports come back equal")


if __name__ == "__main__":
    main()
