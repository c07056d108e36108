"""One cell, from a trained network to a measured row. The file to read first."""

from __future__ import annotations

import statistics
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone

import torch
from safetensors.torch import save_model
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune

from secateur.experiments.cache import NetworkCache
from secateur.experiments.calling import given_of, in_pytorch, in_runtime
from secateur.experiments.delivery import metadata_of
from secateur.experiments.graphs import calibration_of, float_layers
from secateur.experiments.recent import Made
from secateur.measure.footprint import file_bytes, memory_of
from secateur.measure.latency import compare_latency
from secateur.measure.macs import layer_table
from secateur.measure.timing import alone, on_cores
from secateur.modules.candidates import dense_left, scored_layers
from secateur.modules.guarding import copied, drawing_from
from secateur.modules.heads import output_layers
from secateur.modules.inputs import copied_to
from secateur.modules.matrices import Matrix
from secateur.modules.standardised import zeros_undone
from secateur.modules.weight_norms import remove_weight_norms
from secateur.network.graph import Graph
from secateur.network.limits import NO_LIMITS
from secateur.packfile import packed_size
from secateur.pruning.pruning import Pruning, cut, zero_counts
from secateur.pruning.repairing import repair
from secateur.pruning.retraining import CutTo
from secateur.pruning.structures import Family
from secateur.records.environment import environment
from secateur.records.patterns import UNSTRUCTURED, is_of_channels
from secateur.records.results import Footprint, Latency, Layer, Quantised, Retrained, Row
from secateur.records.scores import Score
from secateur.records.spec import Cell
from secateur.runtime import Session
from secateur.support.progress import SILENT, Reporter, Task
from secateur.training.data import Data
from secateur.training.tasks import loss_of

CPU = torch.device("cpu")
BATCHES = (1, 64)
LAYER_ROUNDS = 15
STAGES = ("trained", "pruned", "accuracy measured", "latency measured")
"""What run_cell tells the task that it is given, in this order."""


def run_cell(
    cell: Cell,
    cache: NetworkCache,
    task: Task = SILENT,
    *,
    timed: bool = True,
    weigh: bool = True,
    judged: Mapping[Cell, Score | None] | None = None,
) -> Row:
    """Prune the cell's network and measure what that bought, beside what PyTorch's pruning makes of the same cut.

    Without `timed` latencies are left out, for measure_latency. weigh: as in prune_cell. judged: what cells are known
    to score on validation data, by Cell.
    """
    started, known = time.perf_counter(), judged or {}
    dense, trained = cache.trained(cell)
    data = cache.data(cell)
    task.advance(1, lambda: STAGES[0])
    pruned, retrained, peak, held = make_network(cell, cache, weigh)
    masked, masked_footprint = prune_as_pytorch(dense, pruned, cell.norms, cell.include)
    task.advance(1, lambda: STAGES[1])
    graph = cache.graph(pruned, cell)
    validation, test = cache.accuracies(pruned, cell, graph, known.get(cell))
    quantised = _quantised(pruned, cell, cache, graph, known) if graph and cell.quantize != "none" else None
    task.advance(1, lambda: STAGES[2])
    layers = layer_table(pruned, data.example(), cell.norms, cell.include)
    session = Session(graph, threads=1, limits=NO_LIMITS) if graph and timed else None
    latencies = _latencies(cell, cache, dense, pruned, masked, session) if timed else ()
    task.advance(1, lambda: STAGES[3])
    return Row(
        cell=cell,
        trained=trained,
        validation=validation,
        test=test,
        layers=_with_times(layers, session),
        ours=Footprint(file_bytes(lambda path: save_model(pruned, str(path))), peak, held),
        pytorch=masked_footprint,
        latencies=latencies,
        environment=environment(),
        seconds=time.perf_counter() - started,
        measured_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        packed_bytes=packed_size(graph, meta=metadata_of(data)) if graph else None,
        retrained=retrained,
        left=_left(pruned, cell, data),
        quantised=quantised,
    )


def _quantised(
    network: nn.Module, cell: Cell, cache: NetworkCache, graph: Graph, known: Mapping[Cell, Score | None]
) -> Quantised:
    """What the cell's network was in float32, and which of its layers still are."""
    before = cell.in_float32
    validation, test = cache.accuracies(network, before, cache.graph(network, before), known.get(before))
    return Quantised(validation, test, float_layers(graph))


def _left(network: nn.Module, cell: Cell, data: Data) -> tuple[tuple[str, str], ...]:
    """What stayed dense, and what has zeros that do not last, with the reason."""
    example = data.example()
    left = dense_left(network, cell.exclude, output_layers(network, example, cell.include), cell.include)
    undone = zeros_undone(network, scored_layers(network), example)
    return (*left.items(), *((name, "its zeros do not last: forward computes another weight") for name in undone))


def measure_latency(row: Row, cache: NetworkCache) -> Row:
    """The row of a cell that was run without, with its latencies: its network is pruned again."""
    cell = row.cell
    dense, _ = cache.trained(cell)
    pruned, *_ = make_network(cell, cache)
    masked, _ = prune_as_pytorch(dense, pruned, cell.norms, cell.include)
    graph = cache.graph(pruned, cell)
    session = Session(graph, threads=1, limits=NO_LIMITS) if graph else None
    latencies = _latencies(cell, cache, dense, pruned, masked, session)
    return replace(row, latencies=latencies, layers=_with_times(row.layers, session), timed_on=environment())


def make_network(
    cell: Cell, cache: NetworkCache, weigh: bool = True, keep: bool = False
) -> tuple[nn.Module, Retrained | None, int | None, int | None]:
    """The cell's network, its retraining if it had any, and the memory that pruning took at most and still holds.

    weigh: as in prune_cell. keep: it will be asked for again soon.
    """
    made = cache.recent.find(cell)
    if made is None or (weigh and made.peak is None):
        with drawing_from(cell.seed):
            made = _made(cell, cache, weigh)
        if keep:
            cache.recent.keep(cell, made)
        return made.network, made.retrained, made.peak, made.held
    return copied(made.network), made.retrained, made.peak, made.held


def _made(cell: Cell, cache: NetworkCache, weigh: bool) -> Made:
    dense, _ = cache.trained(cell)
    families = cache.families(cell) if is_of_channels(cell.pattern) else None
    network, peak, held = prune_cell(
        cell, dense, cache.data(cell), cache.device, cache.reporter, weigh, families, cache.outputs(cell)
    )
    if not cell.learns_again:
        return Made(network, None, peak, held)
    network, retrained = cache.retrained(cell, _cut_to(cell, cache.data(cell)))
    return Made(network, retrained, peak, held)


def _pruning(cell: Cell, data: Data, device: torch.device, families: Sequence[Family] | None = None) -> Pruning:
    """How the cell's weights go; cell.cut says what share of them. families: as Pruning has them."""
    return Pruning(
        method=cell.method,
        pattern=cell.patterns,
        exclude=cell.exclude,
        example=copied_to(data.example(), device),
        allow_empty=cell.allow_empty,
        norms=cell.norms,
        calibration=calibration_of(cell, data),
        loss=loss_of(data),
        seed=cell.draw,
        include=cell.include,
        families=families,
    )


def _cut_to(cell: Cell, data: Data) -> CutTo:
    """Prune as the cell says, but to another ratio."""

    def cut_to(network: nn.Module, ratio: float) -> None:
        device = next(network.parameters()).device
        outputs = output_layers(network, copied_to(data.example(), device), cell.include)
        cut(network, cell.cut.to(ratio), _pruning(cell, data, device), outputs)

    return cut_to


def prune_cell(
    cell: Cell,
    dense: nn.Module,
    data: Data,
    device: torch.device = CPU,
    reporter: Reporter | None = None,
    weigh: bool = True,
    families: Sequence[Family] | None = None,
    outputs: Collection[str] | None = None,
) -> tuple[nn.Module, int | None, int | None]:
    """A pruned and repaired copy of the cell's dense network, and the memory that this took at most and still holds.

    weigh: without, the memory is None; measuring it can take longer than pruning, as garbage is collected twice.
    families: as Pruning has them. outputs: the layers that give the network's, where they are known.
    The work is done on the device, and the copy ends on the CPU.
    """
    network = copied(dense)
    if cell.is_dense and "batchnorm" not in cell.repair.split("+"):  # other repairs aim at what it is
        return network, 0, 0
    outputs = output_layers(network, data.example(), cell.include) if outputs is None else outputs
    network.to(device)
    original = dense if device == CPU or cell.repair == "none" else copied(dense).to(device)
    calibration = calibration_of(cell, data)

    def work() -> None:
        cut(network, cell.cut, _pruning(cell, data, device, families), outputs)
        repair(network, cell.repair, calibration, original, reporter, include=cell.include)

    if not weigh:
        work()
        return network.to(CPU), None, None
    _, peak, held = memory_of(work)
    return network.to(CPU), peak, held


def prune_as_pytorch(
    dense: nn.Module, pruned: nn.Module, norms: bool = False, include: Sequence[str] = ()
) -> tuple[nn.Module | None, Footprint | None]:
    """The same zeros made by torch.nn.utils.prune: a mask and an original per pruned weight, masked at each run.

    Per layer as many weights go as in `pruned`; weight normalisation is taken off first. None where nothing is pruned.
    """
    masked = copied(dense)
    remove_weight_norms(masked)
    layers = scored_layers(masked, norms, include)
    zeros = zero_counts(pruned, norms, include)
    before = zero_counts(masked, norms, include)
    grown = [name for name in layers if zeros[name] > before[name]]
    if not grown:
        return None, None

    def work() -> None:
        for name in grown:
            torch_prune.l1_unstructured(layers[name].module, layers[name].parameter, zeros[name])  # type: ignore[no-untyped-call]

    _, peak, held = memory_of(work)
    for name, layer in scored_layers(pruned, norms, include).items():
        if name in grown:
            _settle_ties(layers[name], layer.weight)
    size = file_bytes(lambda path: torch.save(masked.state_dict(), path))
    return masked, Footprint(size, peak, held)


def _settle_ties(masked: Matrix, pruned: Tensor) -> None:
    """Of weights equal in magnitude, let PyTorch's mask take those that `pruned` lost, so that outputs agree.

    A mask that differs in more than ties (of another method) stays as it is.
    """
    module, parameter = masked.module, masked.parameter
    mask, original = module.get_buffer(f"{parameter}_mask"), module.get_parameter(f"{parameter}_orig").detach()
    differing = original[(mask == 0) != (pruned == 0)].abs()
    if differing.numel() and bool((differing == differing[0]).all()):
        mask.copy_(pruned != 0)
        setattr(module, parameter, mask * original)  # attention reads that of its output projection as it is


def _latencies(
    cell: Cell,
    cache: NetworkCache,
    dense: nn.Module,
    pruned: nn.Module,
    masked: nn.Module | None,
    session: Session | None,
) -> tuple[Latency, ...]:
    """Batch 1 and 64 on one thread. In PyTorch: the dense network, the pruned, and PyTorch's masked one; then the
    pruned network in Secateur's runtime. Where nothing is pruned, also in what people would pick instead."""
    networks = {"dense": copied(dense), "pruned": pruned} | ({"masked": masked} if masked else {})
    channels_last = cache.channels_last(cell)
    engines = {name: in_pytorch(network, channels_last) for name, network in networks.items()}
    same = ("pruned", "masked") if masked and _is_pytorchs_cut(cell) else ()
    if session:
        engines["secateur"] = in_runtime(session)
        same = (*(same or ("pruned",)), "secateur") if cell.quantize == "none" else same
    if cell.is_dense:
        engines |= cache.rivals(cell, BATCHES).engines
    example = cache.data(cell).example
    return tuple(
        latency
        for batch in BATCHES
        for latency in compare_latency(engines, given_of(example(batch), dense), same_output=same)
    )


def _is_pytorchs_cut(cell: Cell) -> bool:
    """Are the zeros those of l1_unstructured, and the other weights as they were?"""
    untouched = cell.repair == "none" and cell.retraining is None
    return untouched and (cell.method, cell.patterns) == ("magnitude", UNSTRUCTURED)


def _with_times(layers: Sequence[Layer], session: Session | None) -> tuple[Layer, ...]:
    times = _layer_times(session) if session else {}
    return tuple(replace(layer, milliseconds=times.get(layer.name)) for layer in layers)


def _layer_times(session: Session) -> dict[str, float]:
    """Layer → milliseconds of one image, the median of several; a layer that runs twice counts its first time."""
    with alone(), on_cores(1):
        plans = [session.plan(1, rounds=1) for _ in range(LAYER_ROUNDS)]
    return {
        steps[0].name: 1000 * statistics.median(step.seconds or 0.0 for step in steps)
        for steps in zip(*(plan.steps for plan in plans), strict=True)
    }
