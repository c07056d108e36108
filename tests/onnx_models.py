"""Small models of ONNX, written as text, and what other engines make of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secateur.exporting.judging import session_of
from secateur.importing.onnx import read_whole
from secateur.network.graph import Graph
from secateur.network.signature import leaves
from secateur.runtime import reference

onnx: Any = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'secateur[onnx]'")

Arrays = Mapping[str, Any]


def model_of(inputs: str, body: str, opset: int = 17, outputs: str = "y", **weights: Any) -> Any:
    """A ModelProto of ONNX's textual form. weights: initializers; a shape stands for noise of that shape."""
    import onnx.parser

    domains = f'["": {opset}, "com.microsoft": 1, "ai.onnx.preview": 1]'
    text = f"<ir_version: 8, opset_import: {domains}> net ({inputs}) => ({outputs}) {{ {body} }}"
    model = onnx.parser.parse_model(text)
    random = np.random.default_rng(0)
    for name, held in weights.items():
        array = random.normal(size=held).astype(np.float32) if isinstance(held, tuple) else np.asarray(held)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


def saved(model: Any, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def by_runtime(model: Any, feeds: Arrays) -> list[Any]:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    made: list[Any] = session_of(model.SerializeToString()).run(None, dict(feeds))
    return made


def by_definition(model: Any, feeds: Arrays) -> list[Any]:
    """By ONNX's own reference, where ONNX Runtime has not the operation yet."""
    import onnx.reference

    return list(onnx.reference.ReferenceEvaluator(model).run(None, dict(feeds)))


def by_graph(graph: Graph, feeds: Arrays) -> list[Any]:
    """What the graph means, for inputs as the file takes them."""
    called = graph.called
    values = called.arrays((), feeds)
    made = reference.run_all(graph, dict(zip(graph.inputs, values, strict=True)))
    places = {each.place: each for _, each in leaves(called.outputs)}
    return [places[at].back(each) for at, each in enumerate(made)]


def assert_reads_as_it_runs(
    model: Any,
    feeds: Arrays,
    folder: Path,
    *,
    batch_free: bool = True,
    tolerance: float = 1e-5,
    by: Callable[[Any, Arrays], list[Any]] = by_runtime,
    **asked: Any,
) -> Graph:
    """The graph gives what ONNX Runtime does, or another engine. Returns it."""
    reading = read_whole(saved(model, folder), **asked)
    bound = {name: np.asarray(value) for name, value in asked.get("bind", {}).items()}
    for found, wanted in zip(by_graph(reading.graph, feeds), by(model, {**feeds, **bound}), strict=True):
        assert found.shape == wanted.shape
        if wanted.dtype.kind == "f":
            np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)
        else:
            np.testing.assert_array_equal(found, wanted)
    assert (reading.graph.images is None) == batch_free
    return reading.graph
