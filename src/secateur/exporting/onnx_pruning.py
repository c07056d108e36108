"""ONNX file → pruned file, in the form that its name says: ONNX again, .secateur or safetensors."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from secateur import packfile
from secateur.errors import PackError, PruneWarning, RunError, UsageError
from secateur.exporting.examples import bound_somewhere, example_of
from secateur.exporting.onnx import write_onnx
from secateur.exporting.rebuilding import GraphNetwork, from_onnx
from secateur.importing.onnx import Bound, Shapes
from secateur.modules.guarding import run
from secateur.modules.inputs import as_inputs
from secateur.network.formats import FORMATS
from secateur.network.graph import Graph
from secateur.network.signature import leaves
from secateur.network.simplification import settle, simplify
from secateur.packfile import to_safetensors
from secateur.pruning.pruning import PruneLog, prune
from secateur.pruning.repairing import repair as repaired
from secateur.pruning.score import find_method
from secateur.pruning.score.method import GRADIENTS
from secateur.records.spec import check_repair
from secateur.runtime import reference
from secateur.runtime.agreement import largest_difference
from secateur.support.replacing import replacing

Batch = tuple[tuple[torch.Tensor, ...], None]
_IMAGES = 64
"""Of calibration that are run at once, where a network takes any number."""
_TOLERANCE = 1e-3
"""Of the largest output."""


@dataclass(frozen=True, slots=True)
class Moved:
    """How far the outputs for the calibration inputs are from those of the dense network, as shares of their norm."""

    pruned: float
    repaired: float


@dataclass(frozen=True, slots=True)
class PrunedFile:
    """log: as prune gives it, of the network that was written. moved: None without calibration. notes: what is not as
    in the file that was read."""

    log: PruneLog
    moved: Moved | None
    notes: tuple[str, ...] = ()


def prune_onnx(
    source: str | os.PathLike[str],
    path: str | os.PathLike[str],
    ratio: float,
    *,
    shapes: Shapes | None = None,
    bind: Bound | None = None,
    method: str = "magnitude",
    scope: str = "layer",
    pattern: str = "unstructured",
    exclude: Sequence[str] = (),
    include: Sequence[str] = (),
    repair: str = "none",
    calibration: Any = None,
    seed: int = 0,
    force: bool = False,
    sparse: bool = False,
) -> PrunedFile:
    """Prune what an ONNX file computes, and write it: to NAME.onnx dense (sparse: with sparse initializers, as to_onnx
    has it), to NAME.secateur, or the weights alone to NAME.safetensors, by the Graph's names.

    shapes, bind: as importing.onnx.read takes them; method to include: as prune does; repair: as repairing.repair, by
    calibration: arrays by the inputs' names, or one, of many images where the file has its batch, in front where it has
    none. A .secateur file is compared with PyTorch on noise, one of
    ONNX with ONNX Runtime where that is installed; all are there whole or not at all.
    Raises UsageError for words that make no sense, RunError for calibration that does not fit, PackError or ExportError
    where the file exists or cannot be written.
    """
    path = Path(path)
    write = _writer(path, sparse)
    packfile.check_free(path, force)
    _check(method, repair, calibration)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        network = from_onnx(source, shapes=shapes, bind=bind)
    given = example_of(bound_somewhere(network.graph))
    batches = None if calibration is None else _batches(network.graph, calibration)
    dense = deepcopy(network) if batches else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PruneWarning)
        log = prune(
            network, ratio, method=method, scope=scope, pattern=pattern, exclude=exclude, include=include, seed=seed,
            calibration=batches,
        )  # fmt: skip
    moved = None
    if dense is not None and batches is not None:
        pruned = _distance(network, dense, batches)
        repaired(network, repair, batches, dense, include=include)
        moved = Moved(pruned, _distance(network, dense, batches))
    write(network, given, path, force)
    return PrunedFile(log, moved, tuple(str(each.message).partition(": ")[2] for each in said))


def _check(method: str, repair: str, calibration: Any) -> None:
    check_repair(repair)
    if find_method(method).needs == GRADIENTS:
        raise UsageError(f"method {method!r} needs labels, which no file of inputs has: expected one that needs none")
    if calibration is None and (repair != "none" or find_method(method).needs_calibration):
        what = f"repair {repair!r}" if repair != "none" else f"method {method!r}"
        raise UsageError(
            f"{what} looks at inputs: expected some as calibration (--calibration, a .npy or .npz), got none"
        )


def _tensors(arrays: Mapping[str, NDArray[Any]]) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(np.ascontiguousarray(each)) for each in arrays.values())


def _batches(graph: Graph, calibration: Any) -> list[Batch]:
    """Calibration as the network takes it, as many images at once as it does. Raises RunError where it does not fit."""
    named = calibration if isinstance(calibration, Mapping) else {}
    arrays = graph.called.arrays(() if named else (np.asarray(calibration),), named)
    axes = {each.place: each.axis for _, tree in graph.called.arguments for _, each in leaves(tree)}
    made = {
        name: _fitted(graph, name, np.asarray(each), axes.get(place))
        for place, (name, each) in enumerate(zip(graph.inputs, arrays, strict=True))
    }
    counts = {name: len(each) for name, each in made.items()}
    count, size = min(counts.values()), graph.images or _IMAGES
    if len({*counts.values()}) > 1 or (count < size and graph.images):
        raise RunError(f"calibration of {counts} images: expected as many of every input, {size} at least")
    starts = range(0, count - count % size if graph.images else count, size)
    return [(_tensors({name: each[start : start + size] for name, each in made.items()}), None) for start in starts]


def _fitted(graph: Graph, name: str, given: NDArray[Any], axis: int | None) -> NDArray[Any]:
    """axis: where the file has the batch; where it has none, runs are one behind the other."""
    shape, held = graph.inputs[name], FORMATS[graph.elements.get(name, "float32")]
    given = given[0] if axis is None and given.ndim == len(shape) + 2 else given
    sizes = zip(given.shape[1:], shape, strict=False)
    fits = given.ndim == len(shape) + 1 and all(a == b or not isinstance(b, int) for a, b in sizes)
    if given.dtype.kind not in "fiub" or not fits or not len(given):
        at = axis or 0
        wanted = ", ".join(map(str, (*shape[:at], "N", *shape[at:])))
        came = np.moveaxis(given, 0, at).shape if given.ndim > at else given.shape
        raise RunError(f"calibration for input {name!r}: expected ({wanted}), got {given.dtype} of {came}")
    return given.astype(held.numbers)


def _outputs(network: GraphNetwork, batch: Sequence[torch.Tensor]) -> list[NDArray[Any]]:
    with torch.no_grad():
        made = run(network, as_inputs(tuple(batch), network))
    return [each.numpy() for each in (made.values() if isinstance(made, dict) else (made,))]


def _distance(network: GraphNetwork, dense: GraphNetwork, batches: Sequence[Batch]) -> float:
    """Over all outputs with fractions, as a share of their norm."""
    apart = whole = 0.0
    for batch, _ in batches:
        for found, expected in zip(_outputs(network, batch), _outputs(dense, batch), strict=True):
            if expected.dtype.kind == "f":
                known = np.isfinite(found) & np.isfinite(expected)
                apart += float(np.square(found[known] - expected[known], dtype=np.float64).sum())
                whole += float(np.square(expected[known], dtype=np.float64).sum())
    return float(np.sqrt(apart / whole)) if whole else 0.0


# ---- What is written ----

Writer = Callable[[GraphNetwork, Mapping[str, NDArray[Any]], Path, bool], None]


def _writer(path: Path, sparse: bool) -> Writer:
    ending = path.suffix.lower()
    if ending not in WRITERS:
        raise UsageError(f"{path}: expected a name that ends in {', '.join(WRITERS)}")
    if sparse and ending != ".onnx":
        raise UsageError(f"{path}: sparse initializers are ONNX's: expected a name that ends in .onnx")
    return functools.partial(_write_onnx, sparse=True) if sparse else WRITERS[ending]


def _write_onnx(
    network: GraphNetwork, _: Mapping[str, NDArray[Any]], path: Path, force: bool, *, sparse: bool = False
) -> None:
    write_onnx(network.now(), path, force=force, sparse=sparse, called=network.called)


def _write_packed(network: GraphNetwork, given: Mapping[str, NDArray[Any]], path: Path, force: bool) -> None:
    expected = _outputs(network, _tensors(given))

    def verify(packed: Graph) -> None:
        named = dict(zip(packed.inputs, given.values(), strict=True))
        shapes = {name: each.shape[1:] for name, each in named.items()}
        bound = settle(packed.bind(packed.lengths_of(shapes, len(next(iter(named.values()))))))
        apart = largest_difference(reference.run_all(bound, named), expected)
        mantissas = [FORMATS[each.dtype].mantissa for each in packed.weights.values() if FORMATS[each.dtype].mantissa]
        if not apart <= _TOLERANCE * 2.0 ** max(0, 14 - min(mantissas, default=14)):
            raise PackError(
                f"{path}: outputs are off by {apart:.2g} of the largest from PyTorch's: report this as a bug; nothing "
                "was kept"
            )

    packfile.write(simplify(network.now()), path, force=force, verify=verify)


def _write_weights(network: GraphNetwork, _: Mapping[str, NDArray[Any]], path: Path, force: bool) -> None:
    made = to_safetensors(network.now().weights)
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(made)
    except OSError as error:
        raise PackError(f"{path}: cannot be written: {error.strerror or error}; nothing was kept") from error


WRITERS: Mapping[str, Writer] = {".onnx": _write_onnx, ".secateur": _write_packed, ".safetensors": _write_weights}
