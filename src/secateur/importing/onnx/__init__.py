"""A file of ONNX becomes a Graph, without PyTorch: what no input changes is computed here, weights keep their bits.

Each operation is spelt in the Graph's own (`conversions`), functions of the file are put in place (`loading`), shape
arithmetic is done with sizes that may have names (`folding`). Where the batch is follows from the inputs
(`dimensions`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secateur.errors import ExportError, FormatError, GraphError, SecateurError, UsageError
from secateur.importing.onnx.conversions import CONVERSIONS
from secateur.importing.onnx.dimensions import Declared, Shapes, inputs_of, plans_of, with_shapes
from secateur.importing.onnx.loading import load_model
from secateur.importing.onnx.tensors import WIDER, Constant, format_of
from secateur.importing.onnx.translation import Translation, Unheld
from secateur.network.graph import Graph
from secateur.network.sizes import written

__all__ = ["Bound", "Reading", "Shapes", "read", "read_whole"]

Bound = Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What a file came to. images: how many the file itself takes, None where it takes any number of them.

    bound: inputs that are constants. formats: of each of the other inputs, in the file, in NumPy's words. notes: what
    is not computed as the file says it. outputs: likewise formats of these, "" where the file says none.
    """

    graph: Graph
    images: int | None
    bound: Mapping[str, NDArray[Any]]
    formats: Mapping[str, str]
    notes: tuple[str, ...] = ()
    outputs: Mapping[str, str] = field(default_factory=dict)


def read(path: str | os.PathLike[str], *, shapes: Shapes | None = None, bind: Bound | None = None) -> Graph:
    """The Graph that computes what a model does, its inputs and outputs by the file's names.

    Operator sets from 7 on. shapes: of inputs by name, whole numbers or names of lengths; "batch" is the number of
    images, and what stands where the file has the batch is not kept. bind: inputs that are to be constants, numbers or
    arrays. The batch is free where it can be told from the inputs and every image is treated on its own; else the
    graph's signature says how many images it takes, or that all is one image's. Weights have their names and bits;
    numbers of float64 come as float32.
    Raises FormatError for a file that is damaged or asks for more than its bytes pay for, UsageError for shapes and
    values of what are no inputs, ExportError, in one line, for all nodes that a Graph cannot hold, MissingExtraError
    without the package onnx.
    """
    return read_whole(path, shapes=shapes, bind=bind).graph


def read_whole(path: str | os.PathLike[str], *, shapes: Shapes | None = None, bind: Bound | None = None) -> Reading:
    """As read, with what the file says beside the graph."""
    path = Path(path)
    try:
        return _read_whole(path, shapes, bind)
    except SecateurError:
        raise
    except Exception as error:  # whatever texts, kinds and numbers of a stranger's make of Python
        raise FormatError(f"{path}: does not make sense as ONNX: {type(error).__name__}: {error}") from error


def _read_whole(path: Path, shapes: Shapes | None, bind: Bound | None) -> Reading:
    model = load_model(path)
    declared, bound = _bound(inputs_of(model, path), bind or {}, path)
    if not declared:
        raise ExportError(f"{path}: has no inputs left: expected one at least; bind others, or none")
    found = with_shapes(declared, shapes or {}, path)
    translation = _read(model, found, bound, path)
    graph, plan = translation.made, translation.plan
    first = declared[0]
    axis = plan.inputs[first.name].axis
    size = first.shape[axis] if axis is not None and axis < len(first.shape) else None
    arrays = {name: each.array for name, each in bound.items()}
    formats = {each.name: each.format for each in found}
    notes = tuple(sorted(translation.notes))
    outputs = {each.name: _format(each) for each in model.graph.output}
    return Reading(graph, size if isinstance(size, int) else None, arrays, formats, notes, outputs)


def _format(info: Any) -> str:
    kind = info.type.tensor_type.elem_type
    return format_of(kind, f"output {info.name[:80]!r}") if kind else ""


def _read(model: Any, declared: Sequence[Declared], bound: Mapping[str, Constant], path: Path) -> Translation:
    """By the first plan that holds all; else what is said is what hinders the plan that comes nearest."""
    failures: list[SecateurError] = []
    for plan in plans_of(declared):
        try:
            found = Translation(model, plan, CONVERSIONS, bound)
            found.translate()
            return found
        except (ExportError, GraphError) as error:
            failures.append(error)
    nearest = min(failures, key=lambda error: error.count if isinstance(error, Unheld) else 0)
    raise ExportError(f"{path}: cannot be held: {nearest}") from nearest


def _bound(declared: Sequence[Declared], bind: Bound, path: Path) -> tuple[list[Declared], dict[str, Constant]]:
    known = {each.name: each for each in declared}
    if lost := [name for name in bind if name not in known]:
        raise UsageError(f"{path}: bind {lost[0]!r}: expected one of the inputs {', '.join(known)}")
    return [each for each in declared if each.name not in bind], {
        name: _constant(known[name], value, path) for name, value in bind.items()
    }


def _constant(declared: Declared, value: Any, path: Path) -> Constant:
    """A number stands for as many as an input has, where that is known."""
    array, whole = np.asarray(value), all(isinstance(size, int) for size in declared.shape)
    unknown = declared.labels == ("?",) and not declared.shape
    pairs = zip(declared.shape, array.shape, strict=False)
    fits = unknown or (len(declared.shape) == array.ndim and all(a == b or not isinstance(a, int) for a, b in pairs))
    numeric = array.dtype.kind in "fiub" or array.dtype.name in WIDER
    if not numeric or not (fits or (array.ndim == 0 and whole)):
        raise UsageError(
            f"{path}: bind {declared.name!r}: expected {declared.format} of shape {written(declared.shape)}, got "
            f"{array.dtype} of shape {array.shape}"
        )
    kind = np.dtype(WIDER.get(declared.format, declared.format))
    array = array if fits else np.broadcast_to(array, declared.shape)
    return Constant(np.ascontiguousarray(array.astype(kind)).reshape(array.shape), declared.format)
