"""torch.export, with its batch dimension free and its errors in one line."""

from __future__ import annotations

import contextlib
import inspect
import linecache
import os
import re
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from torch.utils._pytree import tree_leaves

from secateur.errors import ExportError
from secateur.importing.aten.lengths import Declared, free_dimensions
from secateur.importing.aten.nesting import arguments_of, nested
from secateur.importing.aten.quiet import quiet
from secateur.importing.aten.unrolling import whole_layers
from secateur.modules.guarding import first_line, untouched
from secateur.modules.inputs import Inputs
from secateur.modules.layers import evaluating
from secateur.network.signature import Signature, Tree

_TORCH = os.path.dirname(torch.__file__)
_LONGEST_LINE = 80
_FREE = re.compile(r"L\['(\w+)'\]\.size\(\)\[(\d+)\]")


def trace(network: nn.Module, inputs: Inputs, sizes: Declared = (), *, fixed: bool = False) -> tuple[Any, Signature]:
    """A functional torch.export.ExportedProgram, its batch dimension a symbol, and those of `sizes` with names.

    It gives the tensors in what forward returns, one after another: the signature says how they are nested.
    fixed: where that fails, the batch is the example's, and the signature says so.
    """
    check_traceable(network)
    _check_inputs(network, inputs)
    try:
        return _traced(network, inputs.pairs(like_weights(network)), sizes, torch.export.Dim("batch", min=1))
    except UntraceableError:
        if not fixed:
            raise
        with contextlib.suppress(UntraceableError):
            program, signature = _traced(network, inputs.like(like_weights(network)), sizes, None)
            return program, replace(signature, images=len(inputs))
        raise


class UntraceableError(ExportError):
    """torch.export failed, or what the network does."""


def _traced(network: nn.Module, inputs: Inputs, sizes: Declared, batch: Any) -> tuple[Any, Signature]:
    """batch: a torch.export.Dim, None for that of the inputs."""
    free = torch.export.ShapesCollection()  # type: ignore[no-untyped-call]
    for each, axis, own in zip_longest(inputs.tensors, inputs.batch_axes, sizes):
        free[each] = {axis: batch, **dict.fromkeys(free_dimensions(own), torch.export.Dim.DYNAMIC)}
    arguments = arguments_of(network, inputs)
    with (
        untouched(network, copy_on_write=False),  # the tracer works on stand-ins for the tensors
        evaluating(network),
        torch.no_grad(),
        warnings.catch_warnings(),
        whole_layers(),
        _one_batch(network, inputs.batch_axes),
        _flat_outputs(network) as outputs,
    ):
        warnings.simplefilter("ignore")  # of what torch deprecates inside itself, and of attributes set in forward
        try:
            with quiet(), _EvenParts():
                program = torch.export.export(
                    network,
                    inputs.arguments,
                    dict(inputs.named or {}),
                    dynamic_shapes=free,  # type: ignore[arg-type]
                    strict=False,
                ).run_decompositions({})
        except ExportError:
            raise
        except Exception as error:  # whatever the network's own code raises, and many kinds of torch.export's own
            raise UntraceableError(_why_untraceable(network, error)) from error
    return program, Signature(arguments, outputs[-1])


class _EvenParts(TorchFunctionMode):
    """Parts of a dimension that is a multiple of their number or size, whatever the batch, are those of sizes that are
    said: how many there are is then no question about the batch."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        made = _PARTS[func](*args, *(named[each] for each in _SAID if each in named)) if func in _PARTS else None
        return func(*args, **named) if made is None else made


def _in_parts(value: Tensor, count: Any, dim: int = 0) -> Any:
    """So many parts, None where PyTorch has to ask."""
    size: Any = value.shape[dim]
    symbolic = isinstance(size, torch.SymInt)
    even = symbolic and count > 0 and statically_known_true(size % count == 0)
    return torch.split_with_sizes(value, [size // count] * count, dim) if even else None


def _of_size(value: Tensor, size: Any, dim: int = 0) -> Any:
    """Parts of a size that depends on the batch, None where PyTorch has to ask."""
    if not isinstance(size, torch.SymInt):
        return None
    whole: Any = value.shape[dim]
    count = whole // size
    even = statically_known_true(whole % size == 0) and count.node.expr.is_number
    return torch.split_with_sizes(value, [size] * int(count), dim) if even else None


_SAID = ("chunks", "split_size", "split_size_or_sections", "dim")
_PARTS: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys((torch.chunk, Tensor.chunk), _in_parts),
    **dict.fromkeys((torch.split, Tensor.split), _of_size),
}


@contextlib.contextmanager
def _one_batch(network: nn.Module, axes: Sequence[int]) -> Iterator[None]:
    """Inside, a tracer knows from the start that all inputs are of as many images. axes: where those are, in order."""

    def compare(module: nn.Module, arguments: Any, named: Any) -> None:
        tensors = [each for each in tree_leaves((arguments, named)) if isinstance(each, Tensor)]
        if len(tensors) == len(axes):
            counts = [each.shape[axis] for each, axis in zip(tensors, axes, strict=True)]
            for count in counts[1:]:
                if isinstance(count, torch.SymInt):
                    torch._check(counts[0] == count)

    handle = network.register_forward_pre_hook(compare, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def _flat_outputs(network: nn.Module) -> Iterator[list[Tree]]:
    """Inside, the network gives the tensors in what its forward returns; the list gets how they were nested."""
    found: list[Tree] = []

    def flatten(module: nn.Module, arguments: Any, given: Any) -> tuple[Tensor, ...]:
        tensors: list[Tensor] = []
        found.append(nested(given, tensors, f"{type(network).__name__}'s forward: output"))
        return tuple(tensors)

    handle = network.register_forward_hook(flatten)
    try:
        yield found
    finally:
        handle.remove()


def like_weights(network: nn.Module) -> Tensor:
    """A tensor of the type and on the device of the network's first weights."""
    return next((each for each in network.parameters() if each.is_floating_point()), torch.empty(0))


def check_traceable(network: nn.Module) -> None:
    """Raises ExportError for modules and weights that torch.export does not take."""
    for path, module in network.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            where = f"module {path!r}" if path else "the network"
            raise ExportError(f"{where} is a ScriptModule, which cannot be traced: expected it as before torch.jit")
    for name, each in (*network.named_parameters(), *network.named_buffers()):
        if is_traceable_wrapper_subclass(each):
            kind = type(each).__name__
            raise ExportError(f"weight {name!r} is a {kind}: expected plain tensors; gather or unwrap it first")


def _check_inputs(network: nn.Module, inputs: Inputs) -> None:
    for each in inputs.tensors:
        if each.ndim == 0 or len(each) == 0 or each.is_complex():
            raise ExportError(
                f"example of shape {tuple(each.shape)}, {each.dtype}: expected real inputs with a batch dimension that "
                "is not empty"
            )
    parameters = inspect.signature(network.forward).parameters.values()
    free = next((each.name for each in parameters if each.kind is each.VAR_KEYWORD), "")
    if free and (inputs.named or {}).keys() - {each.name for each in parameters}:
        raise ExportError(f"{type(network).__name__}'s forward takes **{free}: expected arguments with names")


def _why_untraceable(network: nn.Module, error: Exception) -> str:
    text, first = str(error), first_line(error)
    where, line = _place(network, error)
    if "data-dependent" in text or "GuardOnDataDependent" in type(error).__name__ or "bool(" in first:
        return f"{where}: its control flow depends on values, which a graph cannot hold: {line or first}"
    if "batch" in text and ("onstraint" in text or "specialized" in text or "inferred to be a constant" in text):
        return f"{where}: it works for one batch size only; write x.size(0) for len(x) or a number: {first}"
    if "onstraint" in text and (place := _FREE.search(first)):
        return f"{where}: it works for one size of dimension {place[2]} of {place[1]!r} only: {first}"
    return f"{where}: torch.export cannot trace it: {first}"


def _place(network: nn.Module, error: BaseException) -> tuple[str, str]:
    """The innermost module that ran when the error was raised, and the user's line there, empty where none was."""
    paths = {id(module): path for path, module in network.named_modules()}
    path, line = "", ""
    for frame, number in _frames(error):
        code = frame.f_code
        owner = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
        path = paths.get(id(owner), path)
        if not code.co_filename.startswith(_TORCH) and id(owner) in paths:
            line = linecache.getline(code.co_filename, number).strip()
    kind = type(network.get_submodule(path)).__name__
    return f"module {path!r} ({kind})" if path else kind, line[:_LONGEST_LINE]


def _frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    """Of the error that began it all, outermost first."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return traceback.walk_tb(error.__traceback__)
