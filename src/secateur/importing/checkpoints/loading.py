"""A checkpoint file → a network, with what was done to the tensors on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from secateur.errors import ModelError
from secateur.importing.checkpoints.files import Contents, read_contents, read_weights_file
from secateur.importing.checkpoints.fitting import Match, Shape, expected_of, expected_of_shapes, find_matches
from secateur.records.spec import WeightsFile


def load_weights(network: nn.Module, weights: WeightsFile | str | Path) -> tuple[str, ...]:
    """Copy a checkpoint into a network; what had to be done for it, in words, nothing where it fitted as it is.

    The state dict may lie anywhere in a .pt or .safetensors file, under names with a prefix or a wrapper's, in another
    format or on another device; masks, weight norm and spectral norm are worked into the weights. Nothing in the file
    is executed. Every entry of the network has to be there once, in its shape, and hold numbers; counters such as
    num_batches_tracked may be absent. Raises ModelError where the file changed since it was named, cannot be read,
    does not fit, or fits in several ways; the network is then as it was.
    """
    named = weights if isinstance(weights, WeightsFile) else read_weights_file(weights)
    if read_weights_file(named.path) != named:
        raise ModelError(f"weights {named.path}: the file changed while it was in use; start again")
    contents = read_contents(named.path)
    own = entries_of(network, named.path)
    trained = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    match = _only_match(own, contents, named.path)
    tensors = {
        name: _checked(tensor, own[name], name in trained, f"weights {named.path}: {name!r}")
        for name, tensor in match.tensors.items()
    }
    _check_tied(own, tensors, named.path)
    try:
        network.load_state_dict(tensors, strict=False)
    except Exception as error:
        raise ModelError(f"weights {named.path}: the network does not take them: {error}") from error
    return (*match.notes, *_notes(match, own, tensors, contents))


def entries_of(network: nn.Module, where: str) -> dict[str, Tensor]:
    """The tensors of a network's state dict. Raises ModelError where one has no shape yet."""
    state = {name: value for name, value in network.state_dict().items() if isinstance(value, Tensor)}
    lazy = next((name for name, value in state.items() if is_lazy(value)), None)
    if lazy:
        raise ModelError(f"weights {where}: the network's {lazy!r} has no shape yet: run it once where it is made")
    return state


def classes_of(
    few: Mapping[str, Shape], more: Mapping[str, Shape], counts: tuple[int, int], weights: str | Path
) -> int | None:
    """How many classes the network of a checkpoint has, None where its shapes do not tell.

    few, more: the shapes of the network's entries with as many classes as counts say. Raises ModelError where the
    checkpoint holds several networks that differ in this.
    """
    wild = {name: _varying(shape, more[name]) for name, shape in few.items() if name in more}
    found = find_matches(expected_of_shapes(wild), read_contents(weights))
    places = [(name, dim) for name, shape in wild.items() for dim, length in enumerate(shape) if length is None]
    told = {_told(match, *places[0], few, more, counts) for match in found.complete or (found.nearest,) if places}
    if len(told) > 1:
        raise ModelError(
            f"weights {weights}: holds networks of different numbers of classes "
            f"({' and '.join(map(str, told))}): say which with --classes"
        )
    return told.pop() if told else None


def _varying(few: Shape, more: Shape) -> Shape:
    return tuple(one if one == other else None for one, other in zip(few, more, strict=True))


def _told(
    match: Match, name: str, dim: int, few: Mapping[str, Any], more: Mapping[str, Any], counts: tuple[int, int]
) -> int | None:
    """By the length of one dimension, which grows in step with the classes."""
    if name not in match.tensors or match.tensors[name].dim() != len(few[name]):
        return None
    first, second = few[name][dim], more[name][dim]
    return counts[0] + (match.tensors[name].shape[dim] - first) * (counts[1] - counts[0]) // (second - first)


def _only_match(own: Mapping[str, Tensor], contents: Contents, path: str) -> Match:
    found = find_matches(expected_of(own), contents)
    other = next((match for match in found.complete if not _same(found.nearest.tensors, match.tensors)), None)
    if other:
        raise ModelError(
            f"weights {path}: holds {len(found.complete)} state dicts that fit and differ, under "
            f"{found.nearest.prefix!r} and {other.prefix!r}: save the one that is meant, alone"
        )
    alone = [match for match in found.complete if not match.unknown]
    if not alone:
        raise ModelError(f"weights {path}: {_differences(found.nearest, own)}")
    return alone[0]


def _same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return all(name in other and _equal(tensor, other[name]) for name, tensor in one.items())


def _equal(one: Tensor, other: Tensor) -> bool:
    plain = all(each.layout == torch.strided and not each.is_meta and not each.is_quantized for each in (one, other))
    return one is other or (plain and (one.dtype, one.shape) == (other.dtype, other.shape) and torch.equal(one, other))


def _differences(match: Match, own: Mapping[str, Tensor]) -> str:
    """The first of each kind, with how many there are."""
    shapes = [
        f"{name!r} has {_shape(match.tensors[name])} but the network expects {tuple(own[name].shape)}"
        for name in match.misshapen
    ]
    where = f"under {match.prefix!r}, " if match.prefix else ""
    parts = [_first([repr(name) for name in match.missing], " is missing"),
             _first([repr(name) for name in match.unknown], " is not in the network"),
             _first(shapes, "")]  # fmt: skip
    return f"{where}{'; '.join(part for part in parts if part)}; {_advice(match)}"


def _shape(tensor: Tensor) -> str:
    return "no one shape, as it is nested," if tensor.is_nested else f"shape {tuple(tensor.shape)}"


def _first(found: Sequence[str], problem: str) -> str:
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{found[0]}{more}{problem}" if found else ""


def _advice(match: Match) -> str:
    parametrized = next((name for name in match.unknown if "parametrizations." in name or name.endswith("_orig")), None)
    if parametrized:
        return (
            f"how the weight is made of {parametrized!r} is not in the file: before saving, call "
            "torch.nn.utils.parametrize.remove_parametrizations (or prune.remove) on its module"
        )
    if match.misshapen and not match.missing and not match.unknown:
        return "is it the same network with the same number of classes?"
    return "name the network that it was saved from with --model"


def _checked(tensor: Tensor, own: Tensor, learns: bool, where: str) -> Tensor:
    """The tensor in the format of the network's own. Raises ModelError where it holds no such numbers."""
    if tensor.layout != torch.strided:
        raise ModelError(f"{where} is a sparse tensor ({tensor.layout}): save it as tensor.to_dense()")
    if tensor.is_quantized:
        raise ModelError(f"{where} is quantized ({tensor.dtype}): save the network before that, or tensor.dequantize()")
    if tensor.is_meta:
        raise ModelError(f"{where} was saved without its numbers (device meta): save it once it has some")
    converted = tensor.to(own.dtype) if _is_convertible(tensor, own.dtype) else None
    if converted is None:
        raise ModelError(f"{where} holds {tensor.dtype} where the network has {own.dtype}: save the weights themselves")
    wrong = int((~torch.isfinite(converted) if learns else torch.isnan(converted)).sum())
    if wrong:
        raise ModelError(
            f"{where}: {wrong:,} of its {tensor.numel():,} values are no finite numbers in {own.dtype}: did training "
            "diverge? take an earlier checkpoint"
        )
    return converted


def _is_convertible(tensor: Tensor, wanted: torch.dtype) -> bool:
    """Real numbers into real numbers, and back into whole ones where they are whole."""
    if tensor.dtype == wanted or (tensor.is_floating_point() and (wanted.is_floating_point or wanted.is_complex)):
        return True
    if tensor.is_complex() or wanted.is_floating_point or wanted.is_complex or torch.bool in (tensor.dtype, wanted):
        return False
    return torch.equal(tensor.to(wanted).to(tensor.dtype), tensor)


def _check_tied(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: str) -> None:
    """One parameter under two names can have one value only."""
    for name, entry in expected_of(own).items():
        for other in entry.tied & tensors.keys():
            if name in tensors and not _equal(tensors[name], tensors[other]):
                raise ModelError(f"weights {path}: {name!r} and {other!r} differ, but the network has one weight there")


def _notes(
    match: Match, own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], contents: Contents
) -> tuple[str, ...]:
    changed = Counter((match.tensors[name].dtype, tensors[name].dtype) for name in tensors)
    formats = [
        f"{count} tensor{'s' if count > 1 else ''} from {_short(before)} to {_short(after)}"
        for (before, after), count in changed.items()
        if before != after
    ]
    absent = [name for name, entry in expected_of(own).items() if not entry.tied & tensors.keys()]
    return (
        *formats,
        *([f"saved on {', '.join(contents.devices)}, loaded to the CPU"] if contents.devices else []),
        *([_first([repr(name) for name in absent], " left as built")] if absent else []),
        *([_first([repr(name) for name in match.left_out], " beside it left out")] if match.left_out else []),
    )


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
