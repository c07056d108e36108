"""Which layers may be pruned, and what stays dense because it is none of them: said, never silent."""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]

from secateur.errors import PruneError, UsageError
from secateur.modules.layers import NORMS, is_computed, learning_layers, norm_layers, weight_of, weighted_layers
from secateur.modules.weight_norms import normed

_COMPUTED = "its weight is computed from other tensors"
_FROZEN = "does not learn"


def scored_layers(network: nn.Module, norms: bool = False) -> dict[str, nn.Module]:
    """Linear and convolution layers by name, and after them, if asked, the normalisations that have a scale."""
    return weighted_layers(network) | (norm_layers(network) if norms else {})


def prunable_layers(
    network: nn.Module, exclude: Sequence[str], outputs: Collection[str], norms: bool = False
) -> dict[str, nn.Module]:
    """The layers that may be pruned, by name: neither those that give the outputs, nor excluded, nor left dense (as
    layers_left says). Raises as prune does."""
    layers, left = scored_layers(network, norms), layers_left(network)
    names = [*layers, *matrices_left(network)]
    _check_patterns(names, exclude)
    excluded = set(matched(names, exclude))
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


def dense_left(network: nn.Module, exclude: Sequence[str], outputs: Collection[str]) -> dict[str, str]:
    """What stays dense beside the output layers and the excluded ones, by name, and why."""
    left = layers_left(network) | matrices_left(network)
    excused = {*matched(list(left), exclude), *outputs}
    return {name: reason for name, reason in left.items() if name not in excused}


def layers_left(network: nn.Module) -> dict[str, str]:
    """Linear and convolution layers that are not pruned, and why."""
    learning = learning_layers(network)
    return {
        name: reason
        for name, layer in weighted_layers(network).items()
        if (reason := _FROZEN if name not in learning else _why_not(layer))
    }


def _why_not(layer: nn.Module) -> str | None:
    if is_computed(layer):
        return None if normed(layer) else _COMPUTED
    weight = weight_of(layer)
    return None if weight.is_floating_point() or weight.is_complex() else f"its weight holds {weight.dtype}"


def matrices_left(network: nn.Module) -> dict[str, str]:
    """The learnt matrices that belong to no linear or convolution layer, by name, and what they belong to.

    They are neither pruned nor counted: of recurrent layers, attention's joint projection, embeddings, bilinear layers,
    parameters of one's own. Vectors, as biases and scales are, are none.
    """
    counted = {id(each) for layer in weighted_layers(network).values() for each in _of_its_weight(layer)}
    counted |= {id(each) for module in network.modules() if isinstance(module, NORMS) for each in module.parameters()}
    found = {name: each for name, each in network.named_parameters() if id(each) not in counted and _is_matrix(each)}
    learning = {name: each for name, each in found.items() if each.requires_grad}
    if not any(each.requires_grad for each in network.parameters()):
        learning = found
    return {name: type(network.get_submodule(name.rpartition(".")[0])).__name__ for name in learning}


def _of_its_weight(layer: nn.Module) -> Iterator[nn.Parameter]:
    """What a layer's weight is, or is computed from."""
    for name, each in layer.named_parameters():
        if name in ("weight", "weight_orig", "weight_g", "weight_v") or name.startswith("parametrizations.weight."):
            yield each


def _is_matrix(tensor: Tensor) -> bool:
    return sum(size > 1 for size in tensor.shape) > 1


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


def _check_unmasked(name: str, layer: nn.Module) -> None:
    if is_computed(layer) and "weight_mask" in layer._buffers:
        raise PruneError(
            f"layer {name!r}: {_COMPUTED} (a mask of torch.nn.utils.prune), so zeros would be counted twice; remove "
            "that first, as with prune.remove"
        )


def matched(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The names that some pattern matches, as they are or with ".weight" behind them."""
    return [name for name in names if any(_matches(name, each) for each in patterns)]


def _check_patterns(names: Sequence[str], patterns: Sequence[str]) -> None:
    for pattern in patterns:
        if not any(_matches(name, pattern) for name in names):
            raise UsageError(f"exclude {pattern!r} matches no layer: expected one of {', '.join(names)}, or a pattern")


def _matches(name: str, pattern: str) -> bool:
    return any(fnmatch.fnmatchcase(each, pattern) for each in (name, f"{name}.weight", name.removesuffix(".weight")))


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
