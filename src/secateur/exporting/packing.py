"""nn.Module → .secateur file. Everything after the export is packfile's; this needs PyTorch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from secateur import packfile
from secateur.errors import GraphError, ModelError, PackError, RunError, UsageError
from secateur.exporting.quantising import Report, quantise
from secateur.exporting.rebuilding import GraphNetwork
from secateur.importing.aten import (
    Dynamic,
    Sizes,
    at_lengths,
    check_traceable,
    like_weights,
    outputs_of,
    placed,
    sizes_of,
    to_graph,
)
from secateur.modules.inputs import Example, Inputs, as_inputs
from secateur.network.formats import WEIGHT_FORMATS
from secateur.network.graph import Graph
from secateur.network.signature import leaves
from secateur.network.simplification import settle, simplify
from secateur.runtime import reference
from secateur.runtime.agreement import largest_difference
from secateur.training.tasks import Task

_TOLERANCE = 1e-3
"""Of the largest output: far above rounding in float32, far below what a wrong graph would do."""


def pack(
    network: nn.Module,
    path: str | Path,
    *,
    example: Example,
    sizes: Sizes | None = None,
    dynamic: Dynamic | None = None,
    bits: int | None = None,
    codebook: str = "uniform",
    simplified: bool = True,
    force: bool = False,
    meta: packfile.Metadata | None = None,
    quantize: str | None = None,
    calibration: object = None,
    keep_float: Collection[str] = (),
    tell: Callable[[Report], None] | None = None,
) -> float:
    """Write a network to a .secateur file that needs neither PyTorch nor the network's class to be run.

    example: one batch of inputs, as inputs.as_inputs takes it; its first image is run through PyTorch and through the
    network as it is read back, before the file gets its name. sizes: of inputs by name, where more than the batch is to
    stay free, as to_graph takes them; both are then run at other lengths too, where the network does. dynamic: the same
    by dimensions, {"input_ids": {1: "length"}} (where "batch" is the batch), or one name for dimension 1 of all inputs
    of whole numbers. bits: None keeps
    every bit; 8, 6, 5 or 4 rounds weights, and then the two must also agree before rounding. simplified: batch norm
    folded into layers, dead units gone and the like, as simplification.simplify does it; without, the file holds weight
    by weight what the state dict does.
    quantize: "int8" makes layers, and what lies between them, compute in eight bits (quantising.quantise).
    calibration: what the network is used on, some hundred inputs: a tensor or array, or an iterable of batches as
    example takes them, or a Task; where lengths are free, of those that are met. keep_float: layers, as the modules are
    called, that stay in float32. tell: is called with what eight bits cost.
    See packfile.write for the rest.
    Returns the largest difference of the file's outputs from PyTorch's on that image, as a share of the largest output:
    without bits that is rounding in float32, with bits or in eight bits it tells what these cost.
    Raises ExportError for what cannot be exported, PackError where the file exists or the two disagree (in eight bits,
    before these), QuantiseError for calibration that does not fit.
    """
    _check_quantising(quantize, calibration, keep_float, bits=bits, simplified=simplified)
    packfile.check_free(path, force)
    check_traceable(network)
    inputs = as_inputs(example, network)
    sizes = {**(sizes or {}), **sizes_of(dynamic, inputs, network)} if dynamic else sizes
    inputs = placed(inputs, network, sizes)
    apart = 0.0
    image, expected = _first_image(network, inputs.like(like_weights(network)))
    others: list[tuple[Inputs, list[NDArray[Any]]]] = []

    def checked(graph: Graph) -> Graph:
        nonlocal image, expected
        if graph.called.images not in (None, len(image)):
            image, expected = _as_a_whole(network, inputs.like(like_weights(network)))
        others.extend(_at_other_lengths(network, image, sizes) if sizes else [])
        if bits is not None or quantize is not None:
            _check(graph, _apart(graph, image, expected))
        for other, wanted in others:
            _check_length(graph, other, wanted)
        return graph if quantize is None else quantised(graph)

    def quantised(graph: Graph) -> Graph:
        made, report = quantise(graph, _arrays(calibration, network, inputs), keep_float=keep_float, each_alone=True)
        if tell is not None:
            tell(report)
        return made

    def verify(found: Graph) -> None:
        nonlocal apart
        apart = _apart(found, image, expected)
        if bits is None and quantize is None:
            _check(found, apart)

    with _enough_memory(network):
        packfile.write(  # which is the only one to hold the graph
            checked(graph_of(network, inputs, sizes=sizes, simplified=simplified)),
            path,
            bits=bits,
            codebook=codebook,
            force=force,
            meta=meta,
            verify=verify,
        )
    return apart


def _first_image(network: nn.Module, inputs: Inputs) -> tuple[Inputs, list[NDArray[Any]]]:
    """The first image and its outputs, or those of all images where the network does not take one alone."""
    try:
        return _as_a_whole(network, inputs.first(1))
    except ModelError:
        with contextlib.suppress(ModelError):
            return _as_a_whole(network, inputs)
        raise


def _as_a_whole(network: nn.Module, inputs: Inputs) -> tuple[Inputs, list[NDArray[Any]]]:
    return inputs, [_array(each) for each in outputs_of(network, inputs)]


QUANTISED = ("int8",)


def _check_quantising(
    quantize: str | None,
    calibration: object,
    keep_float: Collection[str],
    *,
    bits: int | None,
    simplified: bool,
) -> None:
    """Raises UsageError for what does not go together."""
    if quantize is None:
        if calibration is not None or keep_float:
            raise UsageError("calibration and keep_float are for quantize='int8': give that too, or neither")
        return
    if quantize not in QUANTISED:
        raise UsageError(f"quantize {quantize!r}: expected None or {', '.join(map(repr, QUANTISED))}")
    if bits is not None:
        raise UsageError(f"quantize={quantize!r} with bits={bits}: weights are eight bits already; give one of the two")
    if not simplified:
        raise UsageError(
            f"quantize={quantize!r} with simplified=False: weights do not stay as they are; give one of the two"
        )
    if calibration is None:
        raise UsageError(
            f"quantize={quantize!r} needs calibration data: calibration=some hundred inputs of the training set, or "
            "batches of them"
        )


def _arrays(calibration: object, network: nn.Module, example: Inputs) -> Iterator[tuple[NDArray[Any], ...]]:
    """The arrays of each batch, in the order of the inputs."""
    single = isinstance(calibration, (Tensor, np.ndarray, Mapping, Inputs))
    if not single and not isinstance(calibration, Iterable):
        raise UsageError(f"calibration of type {type(calibration).__name__}: expected arrays, or batches of them")
    batches: Iterable[Any] = (calibration,) if single else calibration  # type: ignore[assignment]
    if isinstance(calibration, Task):
        batches = (inputs for inputs, _ in calibration)
    for batch in batches:
        given = as_inputs(batch, network, "calibration batch")
        if not example.strangers(network) and (strangers := given.strangers(network)):
            raise UsageError(f"calibration batch: {strangers}")
        yield tuple(_array(each) for each in given.tensors)


def _array(tensor: Tensor) -> NDArray[Any]:
    held = tensor.detach().cpu()
    found: NDArray[Any] = (held.float() if held.is_floating_point() else held).numpy()
    return found


@contextlib.contextmanager
def _enough_memory(network: nn.Module) -> Iterator[None]:
    """Raises PackError where memory does not suffice, with how much it takes."""
    try:
        yield
    except MemoryError as error:
        size = sum(each.numel() * each.element_size() for each in (*network.parameters(), *network.buffers())) >> 20
        raise PackError(
            f"packing {size} MiB of weights takes up to {3 * size} MiB of memory beside them, and there is less: "
            "nothing was kept"
        ) from error


def graph_of(network: nn.Module, example: Example, *, sizes: Sizes | None = None, simplified: bool = True) -> Graph:
    """What pack writes for a network; as long as nobody writes into that. Raises ExportError as to_graph does."""
    held = network.in_front() if isinstance(network, GraphNetwork) and not sizes else None
    graph = held or to_graph(network, example, sizes=sizes, copied=False)
    return simplify(graph) if simplified else graph


def _at_other_lengths(
    network: nn.Module, image: Inputs, sizes: Sizes
) -> list[tuple[Inputs, list[NDArray[np.floating]]]]:
    """Noise of a little more and of half the example's lengths, with what the network makes of those that it takes."""
    found = []
    for change in (lambda length: length + 1, lambda length: length // 2 + 1):
        other = at_lengths(network, image, sizes, change)
        with contextlib.suppress(Exception):  # whatever the network raises of sizes that are not for it
            found.append(_as_a_whole(network, other))
    return found


def _apart(graph: Graph, image: Inputs, expected: Sequence[NDArray[np.floating]]) -> float:
    """How far the graph's outputs for one image are from those expected, as a share of the largest of them."""
    called = graph.called
    values = sorted(called.inputs, key=lambda each: each.place)
    given = [each.in_front(_array(tensor)) for each, tensor in zip(values, image.tensors, strict=True)]
    named = dict(zip(graph.inputs, given, strict=True))
    found = reference.run_all(_settled(graph, named), named)
    made = {each.place: each for _, each in leaves(called.outputs)}
    return largest_difference([made[place].back(each) for place, each in enumerate(found)], expected)


def _settled(graph: Graph, inputs: Mapping[str, NDArray[Any]]) -> Graph:
    """As a Session runs it: at the lengths of inputs, and what follows from these computed once."""
    shapes = {name: each.shape[1:] for name, each in inputs.items()}
    try:
        return settle(graph.bind(graph.lengths_of(shapes, len(next(iter(inputs.values()))))))
    except GraphError as error:
        raise RunError(str(error)) from error


def _check(graph: Graph, apart: float) -> None:
    if not apart <= _tolerance(graph):
        raise PackError(
            f"the packed network's output is off by {apart:.2g} of the largest from PyTorch's: "
            "report this as a bug; nothing was kept"
        )


def _check_length(graph: Graph, image: Inputs, expected: Sequence[NDArray[np.floating]]) -> None:
    """Where a graph takes an image of another size at all, it has to give what the network does."""
    with contextlib.suppress(RunError):
        apart = _apart(graph, image, expected)
        if not apart <= _tolerance(graph):
            raise PackError(
                f"for an input of {image.describe()} the network does something else than for the example (its output "
                f"is off by {apart:.2g} of the largest): give it whole numbers for sizes; nothing was kept"
            )


def _tolerance(graph: Graph) -> float:
    """PyTorch computes in the weights' own format."""
    mantissas = [WEIGHT_FORMATS[each.dtype].mantissa for each in graph.weights.values()]
    return _TOLERANCE * 2.0 ** max(0, 14 - min(mantissas, default=14))
