"""torch.compile(model, backend="secateur"): a pruned network runs in Secateur's runtime, PyTorch does what that cannot.

Dynamo hands over a graph per compilation, with the weights among its arguments; AOTAutograd makes functional ATen
operations of it; export.find_regions says what of those a Graph can hold. Where gradients are required, PyTorch runs
all of it.
"""

from __future__ import annotations

import logging
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from operator import getitem
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.backends.registry import list_backends, register_backend
from torch._functorch._aot_autograd.utils import make_boxed_func
from torch._guards import TracingContext
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from secateur.errors import UsageError
from secateur.importing.aten import Region, Survey, find_regions, is_impure, why_not_in_parts
from secateur.network.graph import Shape
from secateur.network.limits import NO_LIMITS
from secateur.network.simplification import simplify
from secateur.runtime import Session
from secateur.runtime.handover import Witness
from secateur.runtime.snapshots import Snapshot, unwatchable

NAME = "secateur"
OPTIONS = ("threads", "kernel")

_log = logging.getLogger("secateur")


def compile_backend(
    module: fx.GraphModule, examples: Sequence[Any], *, options: Mapping[str, Any] | None = None
) -> Callable[..., Any]:
    """What torch.compile calls for backend="secateur"; `backend=secateur.compile_backend` is the same.

    options: threads (PyTorch's own number by default) and kernel, as Session takes them. What PyTorch runs instead,
    all of it or some operations, is said in one warning of the logger "secateur", and in another what Dynamo does not
    hand over, such as an LSTM. Weights are looked at before each call, every byte of them (see Snapshot): after any
    change, by whatever way, the call uses the new ones.
    Raises UsageError for an option that is none.
    """
    _witness.handed_over()
    chosen = dict(options or {})
    if not chosen.keys() <= set(OPTIONS):
        raise UsageError(f"torch.compile options {sorted(chosen)}: backend {NAME!r} takes {', '.join(OPTIONS)}")
    weights = [index for index, each in enumerate(examples) if _is_weight(each)]
    reason = _why_not_here(module, examples, weights)
    if reason:
        return _left_to_pytorch(module, reason)

    def compiler(traced: fx.GraphModule, _: Sequence[Any]) -> Callable[..., Any]:
        own = len([*module.parameters(), *module.buffers()])  # what the module itself holds comes first
        if len(traced.graph.find_nodes(op="placeholder")) != own + len(examples):
            return make_boxed_func(_left_to_pytorch(traced, "it changes arguments that share memory"))
        reason = why_not_in_parts(traced)
        if reason:
            return make_boxed_func(_left_to_pytorch(traced, reason))
        places = {*range(own), *(own + index for index in weights)} - _changed_arguments()
        return make_boxed_func(_Compiled(traced, sorted(places), chosen))

    return aot_autograd(fw_compiler=compiler, inference_compiler=compiler)(module, examples)


def _left_to_pytorch(module: fx.GraphModule, reason: str) -> Callable[..., Any]:
    _log.warning("torch.compile: PyTorch runs all %d operations: %s", len(_operations(module)), reason)
    return module.forward


def _changed_arguments() -> set[int]:
    """Those that the graph at hand writes to, as a buffer that counts calls."""
    context = TracingContext.try_get()
    known = context.fw_metadata if context else None
    return {index for index, each in enumerate(known.input_info) if each.mutates_data} if known else set()


def _is_weight(example: Any) -> bool:
    """Whether an argument of the graph is a module's parameter or buffer."""
    return isinstance(example, nn.Parameter) or hasattr(example, "_dynamo_static_input_type")


def _why_not_here(module: fx.GraphModule, examples: Sequence[Any], weights: Sequence[int]) -> str:
    tensors = [each for each in examples if isinstance(each, Tensor)]
    if torch.is_grad_enabled() and any(each.requires_grad for each in tensors):
        return "gradients are required; call it under torch.no_grad() or torch.inference_mode()"
    elsewhere = {str(each.device) for each in tensors} - {"cpu"}
    if elsewhere:
        return f"its tensors are on {', '.join(sorted(elsewhere))}"
    for index, each in enumerate(examples):
        reason = unwatchable(each) if isinstance(each, Tensor) else ""
        if reason and (index in weights or is_traceable_wrapper_subclass(each)):
            return f"{_name_of_argument(module, index)} {reason}: changes of it could not be noticed"
    return ""


def _name_of_argument(module: fx.GraphModule, index: int) -> str:
    """As the network calls it: 'features.0.weight'."""
    node = module.graph.find_nodes(op="placeholder")[index]
    given = node.meta.get("grapharg")
    steps = re.findall(r"_(?:modules|parameters|buffers)\['([^']+)'\]", given.source.name) if given else []
    return repr(".".join(steps) or node.name)


def _operations(module: fx.GraphModule) -> list[fx.Node]:
    """Nodes that compute something, weights' own arithmetic included."""
    return [node for node in module.graph.nodes if node.op.startswith("call") and node.target is not getitem]


@dataclass(frozen=True, slots=True)
class _Program:
    """What runs a graph as long as its weights, arguments at these places, hold what they do."""

    run: Callable[..., Any]
    places: tuple[int, ...]
    weights: Snapshot

    def fits(self, arguments: Sequence[Any]) -> bool:
        return self.weights.holds([arguments[place] for place in self.places])


class _Compiled:
    """A traced graph as a function of its arguments, the weights among them; made anew when those change.

    places: of the weights among the arguments. May be called by several threads at once.
    """

    def __init__(self, module: fx.GraphModule, places: Sequence[int], options: Mapping[str, Any]) -> None:
        self._module, self._options = module, options
        placeholders = module.graph.find_nodes(op="placeholder")
        self._places = {placeholders[place]: place for place in places}
        self._program: _Program | None = None
        self._told = False
        self._making = threading.Lock()

    def __call__(self, *arguments: Any) -> Any:
        program = self._program
        if program is None or not program.fits(arguments):
            program = self._renewed(arguments)
        return program.run(*arguments)

    def _renewed(self, arguments: Sequence[Any]) -> _Program:
        with self._making:
            if self._program is not None and self._program.fits(arguments):
                return self._program  # another thread was here first
            everything = [arguments[place] for place in self._places.values()]
            before = Snapshot(everything)
            made = self._made(arguments)
            self._program = made if before.holds(everything) else None  # written to meanwhile: for this call only
            return made

    def _made(self, arguments: Sequence[Any]) -> _Program:
        found, survey = find_regions(self._module, {node: arguments[at] for node, at in self._places.items()})
        regions = [region for region in found if _layout_is_known(region)]
        if not self._told:
            _tell(self._module, regions, survey)
            self._told = True
        run = _assembled(self._module, regions, self._options) if regions else self._module.forward
        used = {node for region in regions for node in region.weights}
        places = tuple(place for node, place in self._places.items() if node in used)
        return _Program(run, places, Snapshot([arguments[place] for place in places]))


def _tell(module: fx.GraphModule, regions: Sequence[Region], survey: Survey) -> None:
    """Where PyTorch has anything to do: how much, and every reason for it."""
    ours = {node for region in regions for node in region.operations}
    known = survey.supported | survey.problems.keys()
    others = [node for node in _operations(module) if node in known and node not in ours]
    if not others:
        return
    total = len(others) + len([node for node in ours if node.target is not getitem])
    problems = Counter(survey.problems[node] for node in others if node in survey.problems)
    reasons = [f"{reason}{f' (and {count - 1} like it)' * (count > 1)}" for reason, count in problems.items()]
    alone = len(others) - problems.total()
    if alone:
        reasons.append(_ALONE if not reasons else f"{_ALONE} ({alone} of them)")
    if len(reasons) > _MOST_REASONS:
        reasons[_MOST_REASONS:] = [f"and {len(reasons) - _MOST_REASONS} more reasons"]
    text = f" {reasons[0]}" if len(reasons) == 1 else "".join(f"\n  {reason}" for reason in reasons)
    _log.warning("torch.compile: PyTorch runs %d of %d operations:%s", len(others), total, text)


_MOST_REASONS = 12
_ALONE = "without a convolution or linear layer the way here does not pay"


class _InRuntime(nn.Module):
    """A region as a module: tensors in, a tensor out, or a tuple of them, laid out as the operations behind expect."""

    def __init__(self, region: Region, options: Mapping[str, Any]) -> None:
        super().__init__()
        threads = options.get("threads", torch.get_num_threads())
        self.session = Session(simplify(region.graph), threads, options.get("kernel"), None, True, NO_LIMITS)
        self.shapes = [region.graph.inputs[node.name] for node in region.inputs]
        self.inputs = [_extents(node) for node in region.inputs]
        self.ranks = [node.meta["val"].ndim for node in region.outputs]
        self.strides = [_strides(node) for node in region.outputs]
        self.fixed = not _symbols(region)

    def forward(self, *values: Tensor) -> Any:
        made = self.session(*[_as_images(each, shape) for each, shape in zip(values, self.shapes, strict=True)])
        strides = self.strides if self.fixed else self._strides_of(values)
        if not isinstance(made, tuple):
            return _laid_out(_as_traced(made, self.ranks[0]), strides[0])
        parts = zip(made, self.ranks, strides, strict=True)
        return tuple(_laid_out(_as_traced(each, rank), own) for each, rank, own in parts)

    def _strides_of(self, values: Sequence[Tensor]) -> list[tuple[int, ...]]:
        """Those of the outputs, sizes that were symbols when traced read off the inputs."""
        known: dict[Any, int] = {}
        for traced, value in zip(self.inputs, values, strict=True):
            known |= dict(zip(traced, (*value.shape, *value.stride()), strict=True))
        return [
            tuple(each if isinstance(each, int) else int(each.xreplace(known)) for each in own) for own in self.strides
        ]


def _as_images(tensor: Tensor, shape: Shape) -> NDArray[np.float32]:
    """(N, *shape), from that or from the rows of all images, (N·m, …)."""
    array = tensor.detach().contiguous().numpy()
    return array.reshape(len(array) // shape[0], *shape) if array.ndim == len(shape) else array


def _as_traced(array: NDArray[np.float32], rank: int) -> Tensor:
    """(N, …), or the rows of all images where that has one dimension too many."""
    return torch.from_numpy(array if array.ndim == rank else array.reshape(-1 if array.size else 0, *array.shape[2:]))


def _expression(size: Any) -> Any:
    """A number, or the formula that a torch.SymInt stands for."""
    return size if isinstance(size, int) else size.node.expr


def _strides(node: fx.Node) -> tuple[Any, ...]:
    return tuple(_expression(each) for each in node.meta["val"].stride())


def _extents(node: fx.Node) -> tuple[Any, ...]:
    """Sizes and strides."""
    return (*(_expression(each) for each in node.meta["val"].shape), *_strides(node))


def _symbols(region: Region) -> set[Any]:
    """What the strides of a region's outputs depend on."""
    return {
        symbol
        for node in region.outputs
        for each in _strides(node)
        if not isinstance(each, int)
        for symbol in each.free_symbols
    }


def _layout_is_known(region: Region) -> bool:
    """Whether its inputs will tell all that the strides of its outputs depend on."""
    return _symbols(region) <= {each for node in region.inputs for each in _extents(node)}


def _laid_out(tensor: Tensor, strides: tuple[int, ...]) -> Tensor:
    """The same numbers with other strides; where one is 0, the numbers along that axis are the same."""
    if tensor.stride() == strides:
        return tensor
    held = tuple(size if stride else min(size, 1) for size, stride in zip(tensor.shape, strides, strict=True))
    made = torch.empty_strided(held, strides, dtype=tensor.dtype)
    made.copy_(tensor[tuple(slice(size) for size in held)])
    return made.expand(tensor.shape)


def _assembled(module: fx.GraphModule, regions: Sequence[Region], options: Mapping[str, Any]) -> Callable[..., Any]:
    """The module's graph with one call in place of each region's operations; what nobody reads any more is gone."""
    owner = {node: number for number, region in enumerate(regions) for node in region.operations}
    made: dict[fx.Node, fx.Node] = {}
    graph = fx.Graph()
    for node in module.graph.find_nodes(op="placeholder"):
        made[node] = graph.node_copy(node)
    for unit in _in_order(module, regions, owner):
        if isinstance(unit, int):
            _call_region(graph, regions[unit], unit, made)
        elif unit not in made:
            made[unit] = graph.node_copy(unit, made.__getitem__)
    ours = {f"region_{number}": _InRuntime(region, options) for number, region in enumerate(regions)}
    held = {str(node.target): getattr(module, str(node.target)) for node in graph.find_nodes(op="get_attr")}
    whole = fx.GraphModule({**ours, **held}, graph)
    whole.graph.eliminate_dead_code()
    whole.recompile()
    return whole.forward


def _in_order(module: fx.GraphModule, regions: Sequence[Region], owner: Mapping[fx.Node, int]) -> list[fx.Node | int]:
    """Nodes outside of regions, and regions by number, each behind all that it reads; what is impure stays in order."""
    reads: dict[fx.Node | int, list[fx.Node | int]] = {}
    earlier: list[fx.Node | int] = []
    for node in module.graph.nodes:
        if node not in owner:
            reads[node] = [owner.get(each, each) for each in node.all_input_nodes]
            if is_impure(node):
                reads[node] += earlier
                earlier = [node]
    for number, region in enumerate(regions):
        reads[number] = [owner.get(each, each) for each in region.inputs]
    (output,) = module.graph.find_nodes(op="output")
    return [*(unit for unit in TopologicalSorter(reads).static_order() if unit is not output), output]


def _call_region(graph: fx.Graph, region: Region, number: int, made: dict[fx.Node, fx.Node]) -> None:
    call = graph.call_module(f"region_{number}", tuple(made[node] for node in region.inputs))
    if len(region.outputs) == 1:
        made[region.outputs[0]] = call
        return
    for index, node in enumerate(region.outputs):
        made[node] = graph.call_function(getitem, (call, index))


_witness = Witness(compile_backend, lambda line: _log.warning("torch.compile: %s", line))
if NAME not in list_backends(exclude_tags=()):  # there already where this package is installed, by its entry point
    register_backend(compile_backend, name=NAME)
