"""What of a traced program a Graph can hold: its largest connected parts, where it cannot hold all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.passes.infra.partitioner import CapabilityBasedPartitioner
from torch.fx.passes.operator_support import OperatorSupportBase

from secateur.errors import ExportError, GraphError
from secateur.importing.aten.conversions import CONVERSIONS
from secateur.importing.aten.held import BATCH, Batch, Constant, Foreign, Masked, Shifted
from secateur.importing.aten.nodes import arguments_of, describe
from secateur.importing.aten.translation import Program, Translation
from secateur.importing.placing import Mixed, Placed
from secateur.network.graph import Graph
from secateur.network.operations import OPERATIONS

_HELD = (torch.float32, torch.int64, torch.int32, torch.bool)
"""Types of tensors that go in and out of regions."""
_NORMALISING_BATCHES = {"aten::_native_batch_norm_legit_functional", "aten::_batch_norm_with_update_functional"}


@dataclass(frozen=True, slots=True)
class Region:
    """Operations of a program that one Graph computes, and the nodes that its inputs and outputs are.

    weights: the nodes that its constants were made from.
    """

    graph: Graph
    operations: tuple[fx.Node, ...]
    inputs: tuple[fx.Node, ...]
    outputs: tuple[fx.Node, ...]
    weights: frozenset[fx.Node]


@dataclass(frozen=True, slots=True)
class Survey:
    """values: what each node is, as in a Translation. problems: why an operation is none of the Graph's, by node.

    batch: its size in traced shapes.
    """

    values: Mapping[fx.Node, Any]
    supported: frozenset[fx.Node]
    problems: Mapping[fx.Node, str]
    batch: Any


def find_regions(module: fx.GraphModule, constants: Mapping[fx.Node, Tensor]) -> tuple[list[Region], Survey]:
    """The regions with a convolution or linear layer in them: for less, leaving PyTorch does not pay.

    module: functional ATen operations, as AOTAutograd traces them, for which why_not_in_parts gives no reason.
    constants: placeholders that are weights. Impure operations are in no region, and regions do not stand in the way
    of their order: each can run between two of them.
    """
    surveyed = survey(module, constants)
    partitioner = CapabilityBasedPartitioner(module, _Supported(surveyed.supported), allows_single_node_partition=True)
    order = {node: place for place, node in enumerate(module.graph.nodes)}
    whole = [sorted(each.nodes, key=order.__getitem__) for each in partitioner.propose_partitions()]
    behind = _impure_before(module)
    parts = [list(part) for each in whole for _, part in groupby(sorted(each, key=behind.__getitem__), behind.get)]
    found = [_region(module, surveyed, part) for part in sorted(parts, key=lambda part: order[part[0]])]
    return [region for region in found if region is not None], surveyed


def why_not_in_parts(module: fx.GraphModule) -> str:
    """Why other hands must not run parts of a graph, nothing where they may: it writes to what other parts read."""
    for node in module.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if node.op != "call_function" or schema is None:
            continue
        if schema.name in _NORMALISING_BATCHES:
            return f"{describe(module, node)} changes its statistics (is the network in eval mode?)"
        if schema.is_mutable:
            return f"{describe(module, node)} changes its arguments in place"
    return ""


def is_impure(node: fx.Node) -> bool:
    """Whether it does something besides giving a result, in this very call: draw random numbers, check, print."""
    return node.op == "call_function" and (_draws(node) or node.is_impure(**_DRAWING_APART))


_DRAWING_APART = {"impure_random": False} if "impure_random" in signature(fx.Node.is_impure).parameters else {}
"""Older versions of PyTorch do not count drawing anyway."""


def _draws(node: fx.Node) -> bool:
    """Whether it takes numbers from a generator. A dropout of nothing, and one out of training, takes none."""
    if torch.Tag.nondeterministic_seeded not in getattr(node.target, "tags", ()):
        return False
    given = arguments_of(node)
    idle = any(given.get(name, 1) == 0 for name in ("dropout_p", "dropout"))
    return not idle and not any(given.get(name) is False for name in ("train", "training"))


def _why_impure(module: fx.GraphModule, node: fx.Node) -> str:
    if not _draws(node):
        return f"{describe(module, node)} has side effects"
    trains = arguments_of(node).keys() & {"train", "training", "dropout_p"}
    return f"{describe(module, node)} draws random numbers{' (is the network in eval mode?)' * bool(trains)}"


def _impure_before(module: fx.GraphModule) -> dict[fx.Node, int]:
    """How many impure operations have to run before each node, as it reads them, however indirectly."""
    count, before = 0, dict[fx.Node, int]()
    for node in module.graph.nodes:
        before[node] = max((before[each] for each in node.all_input_nodes), default=0)
        if is_impure(node):
            count += 1
            before[node] = count
    return before


class _Supported(OperatorSupportBase):
    def __init__(self, nodes: frozenset[fx.Node]) -> None:
        self.nodes = nodes

    def is_node_supported(self, submodules: Mapping[str, torch.nn.Module], node: fx.Node) -> bool:
        return node in self.nodes


def survey(module: fx.GraphModule, constants: Mapping[fx.Node, Tensor]) -> Survey:
    """Try to translate every operation; what one that fails gives is an input of those behind it."""
    known: dict[fx.Node, Any] = {node: Constant(each.detach(), node.name) for node, each in constants.items()}
    for node in module.graph.find_nodes(op="get_attr"):
        held = getattr(module, str(node.target))
        known[node] = Constant(held) if isinstance(held, Tensor) else Foreign(f"{node.target}")
    translation = Translation(Program(module, (), (), (), known), CONVERSIONS)
    for node in sorted(module.graph.find_nodes(op="placeholder"), key=_rank, reverse=True):
        if node not in known:
            translation.values[node] = _given(translation, node)
    problems: dict[fx.Node, str] = {}
    for node in module.graph.nodes:
        if node.op == "call_function":
            problem = _why_impure(module, node) if is_impure(node) else _try(translation, node)
            if problem:
                problems[node] = problem
                translation.values[node] = _given(translation, node)
    values = translation.values
    whole = {node for node in values if node.op == "call_function" and node not in problems and _is_value(values[node])}
    return Survey(values, frozenset(whole - _with_lost_results(values, whole)), problems, translation.images)


def _given(translation: Translation, node: fx.Node) -> Any:
    """What a node is that something other than the Graph computes. The first that fits says what the batch is."""
    value = node.meta.get("val")
    if isinstance(value, (list, tuple)):
        return [_foreign(each) for each in value]
    if isinstance(value, torch.SymInt):
        return BATCH
    if not isinstance(value, Tensor):
        return value if isinstance(value, (int, float)) else _foreign(value)
    batched = value.dtype in _HELD and value.layout is torch.strided and value.ndim > 0 and _fixed(value)
    if not batched or not (translation.images is None or translation.share(value.shape[0])):
        return _foreign(value)
    translation.take_input(node)
    return translation.values[node]


def _foreign(value: Any) -> Foreign:
    if not isinstance(value, Tensor):
        return Foreign(f"a {type(value).__name__}")
    return Foreign(f"{value.dtype} ({', '.join(map(str, value.shape))})")


def _rank(node: fx.Node) -> int:
    """Dimensions of a placeholder: that of the most has the batch in front, if any has."""
    value = node.meta.get("val")
    return value.ndim if isinstance(value, Tensor) else 0


def _fixed(value: Tensor) -> bool:
    """Whether all sizes but the batch are numbers."""
    return all(isinstance(size, int) for size in value.shape[1:])


def _try(translation: Translation, node: fx.Node) -> str:
    """Translate an operation; why that fails, or nothing."""
    try:
        translation.translate(node)
    except (ExportError, GraphError) as error:
        return str(error)
    except Exception as error:  # of PyTorch, from an operation on constants that it may run all the same
        return f"{node.target}: {error}"
    made = translation.values[node]
    if isinstance(made, Foreign):
        return f"{node.target} gives {made.what}"
    if isinstance(made, (Masked, Mixed, Shifted)):
        return f"{node.target} gives what is a value only together with what reads it"
    value = node.meta.get("val")
    if any(isinstance(each, Placed) and not each.is_rows(len(shape)) for each, shape in _results(made, value)):
        return f"{node.target} moves the batch: what others may read has it in front"
    if isinstance(made, str) and isinstance(value, Tensor) and value.dtype not in _HELD:
        return f"{node.target} gives {value.dtype}: expected {', '.join(map(str, _HELD))}"
    return ""


def _results(made: Any, value: Any) -> list[tuple[Any, Sequence[Any]]]:
    """What each result of an operation became, with its traced shape."""
    pairs = zip(made, value, strict=False) if isinstance(made, list) else [(made, value)]
    return [(each, traced.shape) for each, traced in pairs if isinstance(traced, Tensor)]


def _is_value(held: Any) -> bool:
    """Whether it depends on an input: constants and numbers are no operations of a region."""
    parts = held if isinstance(held, list) else [held]
    return any(part is not None and not isinstance(part, (Constant, Batch, int, float, Foreign)) for part in parts)


def _with_lost_results(values: Mapping[fx.Node, Any], held: set[fx.Node]) -> set[fx.Node]:
    """Operations one result of which the Graph does not have, as the places of maxima, though somebody reads it."""
    lost = set()
    for node in held:
        if isinstance(values[node], list):
            for user in node.users:
                index = user.args[1] if len(user.args) > 1 else None
                if not isinstance(index, int) or values[node][index] is None:
                    lost |= {node, *node.users}
    return lost


def _region(module: fx.GraphModule, surveyed: Survey, operations: Sequence[fx.Node]) -> Region | None:
    """None where it has no weighted layer, or mixes what must stay apart."""
    inside = set(operations)
    around = dict.fromkeys(node for each in operations for node in each.all_input_nodes if node not in inside)
    known = {node: surveyed.values[node] for node in around if not _is_value(surveyed.values[node])}
    inputs = [node for node in around if node not in known and isinstance(node.meta.get("val"), Tensor)]
    known |= {node: surveyed.values[node] for node in around if node not in known and node not in inputs}
    outputs = [node for node in operations if any(user not in inside for user in node.users)]
    try:
        graph = Translation(
            Program(module, operations, inputs, outputs, known, batch=surveyed.batch), CONVERSIONS
        ).graph()
    except (ExportError, GraphError):
        return None
    if not any(OPERATIONS[node.op].matrix for node in graph.nodes):
        return None
    return Region(graph, tuple(operations), tuple(inputs), tuple(outputs), _sources(known))


def _sources(nodes: Iterable[fx.Node]) -> frozenset[fx.Node]:
    """The placeholders and attributes that nodes are made from."""
    found: set[fx.Node] = set()
    waiting = [*nodes]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += node.all_input_nodes
    return frozenset(node for node in found if node.op in ("placeholder", "get_attr"))
