"""ONNX file → verified .secateur file, without PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur import packfile
from secateur.errors import PackError
from secateur.exporting.examples import bound_somewhere, example_of
from secateur.exporting.judging import least_sizes, session_of
from secateur.exporting.quantising import Report, quantise
from secateur.importing.onnx import Bound, Reading, Shapes, read_whole
from secateur.network.formats import FORMATS
from secateur.network.graph import Graph
from secateur.network.signature import leaves
from secateur.network.simplification import settle, simplify
from secateur.runtime import reference
from secateur.runtime.agreement import largest_difference

Arrays = dict[str, NDArray[Any]]
ORT, ONNX = "ONNX Runtime", "onnx.reference"
_TOLERANCE, _STEPS = 1e-3, 0.05
"""Shares of the largest output, of floats and where integers may be rounded the other way."""


@dataclass(frozen=True, slots=True)
class Verified:
    """apart: the largest difference from what another engine made of the same file, as a share of the largest output.

    by: that engine. rounding: likewise of what bits or integers cost, 0 where all bits are kept. notes: what is not
    computed as the file says it.
    """

    apart: float
    by: str
    rounding: float = 0.0
    notes: tuple[str, ...] = ()


def pack_onnx(
    source: str | Path,
    path: str | Path,
    *,
    shapes: Shapes | None = None,
    bind: Bound | None = None,
    bits: int | None = None,
    codebook: str = "uniform",
    simplified: bool = True,
    force: bool = False,
    quantize: str | None = None,
    calibration: Any = None,
    keep_float: Collection[str] = (),
    tell: Callable[[Report], None] | None = None,
) -> Verified:
    """Write what an ONNX file computes to a .secateur file.

    shapes, bind: as importing.onnx.read takes them. quantize: "int8", with calibration: arrays (N, …) by the inputs'
    names, or one. The rest as exporting.packing.pack has it.
    The network as it is read back is compared on noise with ONNX Runtime on the file itself, where that is installed
    and runs it, else with onnx.reference. Raises PackError where they disagree, and what read and packfile.write raise.
    """
    packfile.check_free(path, force)
    reading = read_whole(source, shapes=shapes, bind=bind)
    graph = simplify(reading.graph) if simplified else reading.graph
    given = example_of(bound_somewhere(graph), reading.images or 2)
    expected, by = expected_of(Path(source), reading, given)
    found = Verified(_checked(reading, given, expected, by), by, notes=reading.notes)
    if quantize is not None:
        graph, report = quantise(graph, [calibration], keep_float=keep_float, each_alone=True)
        if tell is not None:
            tell(report)
    exact = bits is None and quantize is None

    def verify(packed: Graph) -> None:
        nonlocal found
        if exact:
            found = replace(found, apart=_checked(replace(reading, graph=packed), given, expected, by))
        else:
            found = replace(found, rounding=_distance(packed, given, expected))

    packfile.write(graph, path, bits=bits, codebook=codebook, force=force, verify=verify)
    return found


def expected_of(source: Path, reading: Reading, given: Arrays) -> tuple[list[NDArray[Any]], str]:
    """What another engine makes of a file for the inputs of its graph, and which engine that was."""
    feeds = {**_as_the_file_has_them(reading, given), **reading.bound}
    try:
        return _by_runtime(source, feeds), ORT
    except Exception:  # not installed, or of an operator set or operations that it has not
        return _by_reference(source, feeds), ONNX


def _as_the_file_has_them(reading: Reading, given: Arrays) -> Arrays:
    values = dict(zip(reading.graph.inputs, given.values(), strict=True))
    names = list(values)
    made = {name: value.back(values[names[value.place]]) for name, tree in reading.graph.called.arguments
            for _, value in leaves(tree)}  # fmt: skip
    kinds = {name: np.dtype("float32" if format == "bfloat16" else format) for name, format in reading.formats.items()}
    return {name: array.astype(kinds[name]) for name, array in made.items()}


def _by_runtime(source: Path, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    return [np.asarray(each) for each in session_of(source).run(None, dict(feeds))]


def _by_reference(source: Path, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    from onnx.reference import ReferenceEvaluator

    try:
        with np.errstate(all="ignore"):
            made = ReferenceEvaluator(str(source)).run(None, dict(feeds))
    except Exception as error:
        raise PackError(
            f"{source}: no engine runs it to compare with ({error}): pip install onnxruntime; nothing was kept"
        ) from error
    return [np.asarray(each) for each in made]


def _checked(reading: Reading, given: Arrays, expected: list[NDArray[Any]], by: str) -> float:
    graph = reading.graph
    apart = _distance(graph, given, expected)
    if not apart <= (_STEPS if reading.notes else _tolerance(graph)):
        raise PackError(
            f"the network's output is off by {apart:.2g} of the largest from that of {by}: report this as a bug; "
            "nothing was kept"
        )
    return apart


def _tolerance(graph: Graph) -> float:
    """Other engines compute in the weights' own format."""
    mantissas = [FORMATS[each.dtype].mantissa for each in graph.weights.values() if FORMATS[each.dtype].mantissa]
    return _STEPS if graph.quantisations else _TOLERANCE * 2.0 ** max(0, 14 - min(mantissas, default=14))


def _distance(graph: Graph, given: Arrays, expected: list[NDArray[Any]]) -> float:
    named = dict(zip(graph.inputs, given.values(), strict=True))
    shapes = {name: each.shape[1:] for name, each in named.items()}
    bound = settle(graph.bind(graph.lengths_of(shapes, len(next(iter(named.values()))))))
    found = reference.run_all(bound, named)
    made = {each.place: each for _, each in leaves(graph.called.outputs)}
    return largest_difference([made[at].back(each) for at, each in enumerate(found)], expected, least_sizes(graph))
