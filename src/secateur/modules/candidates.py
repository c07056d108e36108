"""Which layers may be pruned, and what stays dense because it is none of them: said, never silent."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping, Sequence

import torch
from torch import nn
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from secateur.errors import PruneError, UsageError
from secateur.modules.layers import in_a_row, learning_layers, matches, norm_layers, weighted_layers
from secateur.modules.matrices import NAMED, Matrix, every_matrix
from secateur.modules.weight_norms import normed

_COMPUTED = "its weight is computed from other tensors"
_FROZEN = "does not learn"


def scored_layers(network: nn.Module, norms: bool = False, include: Sequence[str] = ()) -> dict[str, Matrix]:
    """Weighted layers by name, with matrices that are named, and after them, if asked, the scales of normalisations."""
    return weighted_layers(network, include) | (norm_layers(network) if norms else {})


def prunable_layers(
    network: nn.Module,
    exclude: Sequence[str],
    outputs: Collection[str],
    norms: bool = False,
    include: Sequence[str] = (),
) -> dict[str, Matrix]:
    """The layers that may be pruned, by name: neither those that give the outputs, nor excluded, nor left dense (as
    layers_left says). Raises as prune does."""
    layers, left = scored_layers(network, norms, include), layers_left(network, include)
    known = _names(network, layers)
    others = _names(network, {each.name: each for each in every_matrix(network) if each.kind.role == NAMED})
    _check_patterns("include", others | known, include)
    _check_patterns("exclude", known | others, exclude)
    excluded = set(matched(known, exclude))
    chosen = {name: layer for name, layer in layers.items() if name not in {*outputs, *excluded, *left}}
    for name, layer in layers.items():
        if name not in excluded and name not in outputs:
            _check_unmasked(name, layer)
    if not chosen:
        raise PruneError(
            f"{type(network).__name__} has no layer to prune: expected linear or convolution layers beside the output "
            f"layer ({few(outputs)}), the excluded ones ({few(sorted(excluded))}) and those left dense "
            f"({few(f'{name}: {reason}' for name, reason in left.items())}); keep_output=False prunes the output too"
        )
    return chosen


def _names(network: nn.Module, layers: Mapping[str, Matrix]) -> dict[str, list[str]]:
    """What each of some layers is called: by its own name, and by those of the matrices that are tied to it."""
    called: dict[tuple[int, str], list[str]] = {}
    for each in every_matrix(network):
        called.setdefault(each.identity, []).append(each.name)
    return {name: [name, *called.get(layer.identity, ())] for name, layer in layers.items()}


def dense_left(
    network: nn.Module, exclude: Sequence[str], outputs: Collection[str], include: Sequence[str] = ()
) -> dict[str, str]:
    """What stays dense beside the output layers and the excluded ones, by name, and why."""
    left = layers_left(network, include) | matrices_left(network, include)
    excused = {*matched({name: [name] for name in left}, exclude), *outputs}
    return {name: reason for name, reason in left.items() if name not in excused}


def layers_left(network: nn.Module, include: Sequence[str] = ()) -> dict[str, str]:
    """Weighted layers that are not pruned, and why."""
    learning = learning_layers(network, include)
    return {
        name: reason
        for name, layer in weighted_layers(network, include).items()
        if (reason := _FROZEN if name not in learning else _why_not(layer))
    }


def _why_not(layer: Matrix) -> str | None:
    if layer.is_computed:
        return None if layer.parameter == "weight" and normed(layer.module) else _COMPUTED
    weight = layer.weight
    return None if weight.is_floating_point() or weight.is_complex() else f"its weight holds {weight.dtype}"


def matrices_left(network: nn.Module, include: Sequence[str] = ()) -> dict[str, str]:
    """The learnt matrices that are left alone unless they are named, by name, and what they belong to: embeddings and
    parameters of one's own. They are neither pruned nor counted."""
    counted = {each.identity for each in weighted_layers(network, include).values()}
    found = {each.name: each for each in every_matrix(network) if each.kind.role == NAMED}
    held = {name: each for name, each in found.items() if each.identity not in counted}
    learning = {name: each for name, each in held.items() if any(own.requires_grad for own in each.sources)}
    if not any(each.requires_grad for each in network.parameters()):
        learning = held
    return {name: type(each.module).__name__ for name, each in learning.items()}


def share_of(network: nn.Module, names: Iterable[str]) -> float:
    """The share of a network's parameters that matrices of these names hold."""
    named = set(names)
    sizes = {each.identity: each.weight.numel() for each in every_matrix(network) if each.name in named}
    return sum(sizes.values()) / max(1, sum(each.numel() for each in network.parameters()))


def check_network(network: nn.Module) -> None:
    """Raises PruneError for what holds no weights that could be read and written: scripted, lazy, on the meta device,
    sharded, sparse, made in inference mode."""
    for name, module in network.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            where = f"module {name!r}" if name else type(network).__name__
            raise PruneError(f"{where} is a ScriptModule, whose layers cannot be told apart: prune before scripting")
    for name, parameter in network.named_parameters():
        if reason := _unreadable(parameter):
            raise PruneError(f"parameter {name!r} {reason}")


def is_lazy(network: nn.Module) -> bool:
    """Whether the network has parameters that get their shape when it first runs."""
    return any(isinstance(each, UninitializedTensorMixin) for each in network.parameters())


def _unreadable(parameter: nn.Parameter) -> str | None:
    if isinstance(parameter, UninitializedTensorMixin) or parameter.is_meta:
        return "has no values yet; run or load the network first"
    if _is_sharded(parameter):
        return "is sharded over processes (DTensor); prune the whole network before it is sharded"
    if parameter.layout is not torch.strided:
        return f"is sparse ({parameter.layout}): expected a dense tensor with zeros; take to_dense() of it"
    if parameter.is_inference():
        return "was made in inference mode, so nothing can be written into it: make or load the network outside of it"
    return None


def _is_sharded(parameter: nn.Parameter) -> bool:
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(parameter, module.DTensor)


def _check_unmasked(name: str, layer: Matrix) -> None:
    if layer.is_computed and f"{layer.parameter}_mask" in layer.module._buffers:
        raise PruneError(
            f"layer {name!r}: {_COMPUTED} (a mask of torch.nn.utils.prune), so zeros would be counted twice; remove "
            "that first, as with prune.remove"
        )


def matched(names: Mapping[str, Sequence[str]], patterns: Sequence[str]) -> list[str]:
    """Those of some layers, each with what it is called, of which some pattern matches a name, as it is or with
    ".weight" behind it."""
    return [name for name, called in names.items() if matches(called, patterns)]


def _check_patterns(option: str, names: Mapping[str, Sequence[str]], patterns: Sequence[str]) -> None:
    for pattern in in_a_row(patterns):
        if not matched(names, [pattern]):
            raise UsageError(f"{option} {pattern!r} matches no layer: expected one of {', '.join(names)}, or a pattern")


def few(names: Iterable[str], most: int = 8) -> str:
    """Names in a row, the last ones counted where there are many; the empty one is that of the network itself."""
    listed = [name or "the network itself" for name in names]
    rest = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {rest} more" if rest > 0 else "") or "none"


def check_names(names: Iterable[str], layers: Iterable[str], what: str) -> None:
    """Raises UsageError for a name of no layer."""
    for name in names:
        if name not in layers:
            raise UsageError(f"{what} {name!r} names no layer: expected one of {', '.join(layers)}")
