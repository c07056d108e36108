"""What forward takes and returns, as trees with tensors for leaves."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from secateur.errors import ExportError
from secateur.modules.guarding import run, watched
from secateur.modules.inputs import Inputs
from secateur.network.signature import Fixed, Nest, Tree, Value, replaced

Arguments = tuple[tuple[str, Tree], ...]
_MOST_DIGITS = 18


def nested(value: Any, tensors: list[Tensor], what: str = "output") -> Tree:
    """A tree whose values are the tensors in `value`, which are put behind those there are, in order.

    what: is said in messages. Raises ExportError for what is neither a tensor nor a container nor a plain value.
    """
    if isinstance(value, Tensor):
        tensors.append(value)
        return Value(len(tensors) - 1)
    if _is_plain(value):
        return Fixed(value)
    kind, name, parts = _opened(value, what)
    return Nest(kind, tuple((key, nested(part, tensors, what)) for key, part in parts), name)


def _is_plain(value: Any) -> bool:
    if type(value) is int:
        return abs(value) < 10**_MOST_DIGITS
    return type(value) in (bool, str, type(None)) or (type(value) is float and math.isfinite(value))


def _opened(value: Any, what: str) -> tuple[str, str, Iterable[tuple[Any, Any]]]:
    """A container's kind, its name, and what is in it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):  # transformers' ModelOutput is one, too
        names = [each.name for each in dataclasses.fields(value)]
        return "record", "", [(name, getattr(value, name)) for name in names]
    if isinstance(value, Mapping) and all(type(key) in (str, int) for key in value):
        return "dict", "", value.items()
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return "named tuple", type(value).__name__, zip(value._fields, value, strict=True)
    if isinstance(value, (tuple, list)):
        return "tuple" if isinstance(value, tuple) else "list", "", enumerate(value)
    if type(value) in _pytree.SUPPORTED_NODES:
        return _registered(value)
    shown = type(value).__name__ if isinstance(value, torch.SymInt) or "\n" in str(value) else value
    raise ExportError(f"{what} is {shown}: expected tensors, containers of them and plain values only")


def _registered(value: Any) -> tuple[str, str, Iterable[tuple[Any, Any]]]:
    """A class that somebody taught PyTorch to look into, as the caches of transformers are."""
    parts, context = _pytree.SUPPORTED_NODES[type(value)].flatten_fn(value)
    if isinstance(context, list) and len(context) == len(parts) and all(type(key) is str for key in context):
        return "record", "", zip(context, parts, strict=True)
    return "tuple", "", enumerate(parts)


def arguments_of(network: nn.Module, inputs: Inputs) -> Arguments:
    """Forward's arguments by name, in its order, the tensors counted as `inputs` has them; with the plain defaults of
    those that are not among the inputs."""
    tensors: list[Tensor] = []
    trees = {name: nested(value, tensors, f"argument {name!r}") for name, value in _named(network, inputs)}
    values = {place: Value(place, axis) for place, axis in enumerate(inputs.batch_axes)}
    given = {name: replaced(tree, values) for name, tree in trees.items()}
    defaults = {name: Fixed(each) for name, each in _defaults(network).items() if _is_plain(each)}
    order = [*_parameters(network), *given]
    return tuple(
        (name, (given.get(name) or defaults[name])) for name in dict.fromkeys(order) if name in given | defaults
    )


def _named(network: nn.Module, inputs: Inputs) -> Iterable[tuple[str, Any]]:
    parameters = _parameters(network).values()
    places = [each.name for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    rest = next((each.name for each in parameters if each.kind is each.VAR_POSITIONAL), "input")
    places += [f"{rest}_{place}" for place in range(len(inputs.arguments) - len(places))]
    return [*zip(places, inputs.arguments, strict=False), *(inputs.named or {}).items()]


def _defaults(network: nn.Module) -> dict[str, Any]:
    return {name: each.default for name, each in _parameters(network).items() if each.default is not each.empty}


def _parameters(network: nn.Module) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(network.forward).parameters
    except (TypeError, ValueError):
        return {}


def outputs_of(network: nn.Module, inputs: Inputs) -> list[Tensor]:
    """Every tensor of what the network gives in evaluation mode, in order, whatever containers they come in."""
    found: list[Tensor] = []
    with watched(network):
        nested(run(network, inputs), found)
        return [each.detach().clone() for each in found]
