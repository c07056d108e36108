"""What the operations of PyTorch do to channels: tie those that meet, hand them on, or make them stay."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils import _pytree

from secateur.pruning.axes import Axes, Coupling, Labels, reshaped


@dataclass(frozen=True, slots=True)
class Layer:
    """A weight that a convolution or linear layer uses as it is. call: how, as _call_of says."""

    outputs: Labels
    inputs: Labels
    call: tuple[bool, int] | None


@dataclass(frozen=True, slots=True)
class Followed:
    """A tensor at one moment: its shape, its axes and, for a weight that nothing has changed yet, its layer."""

    shape: tuple[int, ...]
    axes: Axes
    layer: Layer | None = None


class Tensors:
    """The tensors of a run, with what lies along their axes as far as it is known."""

    def __init__(self, leaves: Mapping[int, Followed], coupling: Coupling) -> None:
        self.doing = ""
        """What channels that have to stay now are told of: an operation, and where it is."""
        self._leaves, self._coupling = leaves, coupling
        self._known: dict[int, tuple[Tensor, Followed]] = {}  # alive, so that no id comes twice

    def of(self, tensor: Tensor) -> Followed:
        _, known = self._known.get(id(tensor), (tensor, self._leaves.get(id(tensor))))
        if known is None or known.shape != tuple(tensor.shape):
            return Followed(tuple(tensor.shape), (None,) * tensor.dim())
        return known

    def put(self, tensor: Tensor, axes: Sequence[Labels | None], layer: Layer | None = None) -> None:
        """An axis of one index holds nothing that can go, and is left out of account."""
        shape = tuple(tensor.shape)
        if layer is None:
            axes = [self._fitting(labels, size) for labels, size in zip(axes, shape, strict=True)]
        self._known[id(tensor)] = tensor, Followed(shape, tuple(axes), layer)

    def _fitting(self, labels: Labels | None, size: int) -> Labels | None:
        if labels is not None and (size == 1 or len(labels) != size):
            self.stay(labels)
            return None
        return labels

    def stay(self, labels: Labels | None) -> None:
        self._coupling.fix(labels, self.doing)

    def fix(self, followed: Followed, why: str | None = None) -> None:
        """Whatever lies along a tensor's axes stays."""
        layer = followed.layer
        for labels in (*followed.axes, *((layer.outputs, layer.inputs) if layer else ())):
            self._coupling.fix(labels, why or self.doing)

    def fresh(self, shape: Sequence[int]) -> Axes:
        return tuple(self._coupling.fresh(size) if size > 1 else None for size in shape)

    def labelled(self, followed: Followed, axis: int) -> Labels:
        """The labels of an axis, new ones that stay where it has none."""
        labels = followed.axes[axis]
        if labels is None:
            labels = self._coupling.fresh(followed.shape[axis])
            self.stay(labels)
        return labels

    def together(self, several: Sequence[Labels | None]) -> Labels | None:
        """One axis of several tensors whose channels meet one by one."""
        labels = [each for each in several if each is not None]
        if len(labels) < len(several) or len({len(each) for each in labels}) > 1:
            for each in labels:
                self.stay(each)
            return None
        for each in labels[1:]:
            self._coupling.tie(labels[0], each)
        return labels[0] if labels else None

    def plain(self, followed: Followed) -> Followed:
        """A weight that something else than its layer reads: its channels stay."""
        if followed.layer is None:
            return followed
        self.fix(followed)
        return Followed(followed.shape, (None,) * len(followed.shape))


def _call_of(given: dict[str, Any]) -> tuple[bool, int]:
    return bool(given["transposed"]), int(given["groups"])


Rule = Callable[[Tensors, dict[str, Any], list[Tensor]], None]


def _all_followed(given: dict[str, Any]) -> list[Followed]:
    return [leaf for leaf in _pytree.tree_leaves(list(given.values())) if isinstance(leaf, Followed)]


def _first(given: dict[str, Any]) -> Followed:
    return _all_followed(given)[0]


def _unknown(self: Tensors, given: dict[str, Any], made: list[Tensor]) -> None:
    """An operation of which nothing is known: what it sees stays, and what it gives, too."""
    for followed in _all_followed(given):
        self.fix(followed)
    for tensor in made:
        self.put(tensor, (None,) * tensor.dim())


def _by_entry(self: Tensors, given: dict[str, Any], made: list[Tensor]) -> None:
    """Every entry of what is made depends on the entries of the same place, sizes of one being broadcast."""
    operands = _all_followed(given)
    for tensor in made:
        axes: list[Labels | None] = []
        for back in range(tensor.dim(), 0, -1):
            meet = [each.axes[-back] for each in operands if len(each.shape) >= back and each.shape[-back] > 1]
            axes.append(self.together(meet))
        self.put(tensor, axes)


def _same(self: Tensors, given: dict[str, Any], made: list[Tensor]) -> None:
    """The first tensor again: a weight stays one."""
    first = _first(given)
    for tensor in made:
        self.put(tensor, first.axes, first.layer)


def _filled(self: Tensors, given: dict[str, Any], made: list[Tensor]) -> None:
    """The same value, or random ones, everywhere: it would be as long as what it meets, were that shorter."""
    like = _all_followed(given)
    for tensor in made:
        follows = like and like[0].shape == tuple(tensor.shape) and like[0].layer is None
        self.put(tensor, like[0].axes if follows else self.fresh(tensor.shape))


def _reshape(self: Tensors, given: dict[str, Any], made: list[Tensor]) -> None:
    followed, tensor = _first(given), made[0]
    axes: list[Labels | None] = [None] * tensor.dim()
    for axis, labels in enumerate(followed.axes):
        if labels is None:
            continue
        found = reshaped(labels, axis, followed.shape, tensor.shape)
        if found is None or axes[found[0]] is not None:
            self.stay(labels)
        else:
            axes[found[0]] = found[1]
    self.put(tensor, axes)


def _permute(self: Tensors, given: dict[str, Any], made: list[Tensor]) -> None:
    followed = _first(given)
    dimensions = len(followed.shape)
    order = list(range(dimensions))
    if "dims" in given:
        order = [each % dimensions for each in given["dims"]]
    elif dimensions > 1:
        one, other = given.get("dim0", 0) % dimensions, given.get("dim1", 1) % dimensions
        order[one], order[other] = order[other], order[one]
    self.put(made[0], [followed.axes[each] for each in order], followed.layer)


def _expand(self: Tensors, given: dict[str, Any], made: list[Tensor]) -> None:
    followed = _first(given)
    self.put(made[0], (*(None,) * (made[0].dim() - len(followed.axes)), *followed.axes))


def _repeat(self: Tensors, given: dict[str, Any], made: list[Tensor]) -> None:
    followed, repeats = _first(given), given["repeats"]
    axes: list[Labels | None] = [None] * (len(repeats) - len(followed.axes))
    for labels, times in zip(followed.axes, repeats[len(axes) :], strict=True):
        axes.append(None if labels is None else np.tile(labels, times))
    self.put(made[0], axes)


def _dimensions(given: dict[str, Any], count: int) -> set[int]:
    """The dimensions that an operation works along, all where it names none."""
    named = given.get("dim", given.get("dims"))
    if named is None or named == []:
        return set(range(count))
    return {each % count for each in ([named] if isinstance(named, int) else named)} if count else set()


def _mixed(self: Tensors, given: dict[str, Any], made: list[Tensor]) -> None:
    """Sums, sorts, picks or counts along some dimensions; along the others entry by entry."""
    followed = _first(given)
    mixed = _dimensions(given, len(followed.shape))
    for axis in mixed:
        self.stay(followed.axes[axis])
    left = [None if axis in mixed else labels for axis, labels in enumerate(followed.axes)]
    for tensor in made:
        kept = left if tensor.dim() == len(left) else [each for axis, each in enumerate(left) if axis not in mixed]
        self.put(tensor, kept if len(kept) == tensor.dim() else [None] * tensor.dim())


def _part(self: Tensors, given: dict[str, Any], made: list[Tensor]) -> None:
    """One part or several along a dimension, of fixed places or sizes."""
    followed = _first(given)
    axis = given.get("dim", 0) % len(followed.shape)
    whole = all(tensor.shape[axis] == followed.shape[axis] for tensor in made)
    if not whole:
        self.stay(followed.axes[axis])
    for tensor in made:
        self.put(tensor, [labels if whole or each != axis else None for each, labels in enumerate(followed.axes)])


def _concatenate(self: Tensors, given: dict[str, Any], made: list[Tensor]) -> None:
    parts = [each for each in _all_followed(given) if each.shape != (0,)]
    axis = given["dim"] % made[0].dim()
    axes: list[Labels | None] = []
    for place in range(made[0].dim()):
        if place != axis:
            axes.append(self.together([each.axes[place] for each in parts]))
        elif all(each.axes[place] is None for each in parts):
            axes.append(None)
        else:
            axes.append(np.concatenate([self.labelled(each, place) for each in parts]))
    self.put(made[0], axes)


def _stack(self: Tensors, given: dict[str, Any], made: list[Tensor]) -> None:
    parts = _all_followed(given)
    axes = [self.together([each.axes[place] for each in parts]) for place in range(len(parts[0].shape))]
    axes.insert(given["dim"] % made[0].dim(), None)
    self.put(made[0], axes)


def _spatial(count: int) -> Rule:
    """Pools and resizes along the last dimensions."""

    def rule(self: Tensors, given: dict[str, Any], made: list[Tensor]) -> None:
        first, *others = _all_followed(given)
        for labels in (*first.axes[-count:], *(labels for each in others for labels in each.axes)):
            self.stay(labels)
        for tensor in made:
            fits = tensor.dim() == len(first.axes)
            self.put(tensor, (*first.axes[:-count], *(None,) * count) if fits else [None] * tensor.dim())

    return rule


def _pad(self: Tensors, given: dict[str, Any], made: list[Tensor]) -> None:
    followed = _first(given)
    amounts = list(given.get("pad", given.get("padding", ())))
    axes = list(followed.axes)
    for place, amount in enumerate(amounts):
        if amount:
            self.stay(axes[-1 - place // 2])
            axes[-1 - place // 2] = None
    self.put(made[0], axes)


def _normalise(self: Tensors, given: dict[str, Any], made: list[Tensor]) -> None:
    """Batch normalisation: each channel, axis 1, by itself."""
    x = given["input"]
    entries = [given.get(name) for name in ("weight", "bias", "running_mean", "running_var")]
    channels = self.together([x.axes[1], *(each.axes[0] for each in entries if each is not None)])
    for labels in (*x.axes[:1], *x.axes[2:]):
        self.stay(labels)
    self.put(made[0], [channels if axis == 1 else None for axis in range(len(x.axes))])


def _normalise_layer(self: Tensors, given: dict[str, Any], made: list[Tensor]) -> None:
    x, *scales = _all_followed(given)
    count = len(given["normalized_shape"])
    for labels in (*x.axes[-count:], *(labels for each in scales for labels in each.axes)):
        self.stay(labels)
    self.put(made[0], (*x.axes[:-count], *(None,) * count))


def _normalise_groups(self: Tensors, given: dict[str, Any], made: list[Tensor]) -> None:
    x, *scales = _all_followed(given)
    for labels in (x.axes[1], *(labels for each in scales for labels in each.axes)):
        self.stay(labels)
    self.put(made[0], [None if axis == 1 else labels for axis, labels in enumerate(x.axes)])


def _convolve(self: Tensors, given: dict[str, Any], made: list[Tensor]) -> None:
    x, weight, bias = given["input"], given["weight"], given["bias"]
    layer = weight.layer
    if layer is None or layer.call != _call_of(given) or x.layer is not None:
        _unknown(self, given, made)
        return
    self.together([x.axes[1], layer.inputs])
    for labels in x.axes[2:]:
        self.stay(labels)
    outputs = layer.outputs if bias is None else self.together([layer.outputs, bias.axes[0]])
    self.put(made[0], (x.axes[0], outputs, *(None,) * (made[0].dim() - 2)))


def _multiply(self: Tensors, given: dict[str, Any], made: list[Tensor]) -> None:
    """Matrices, of which the second is the transposed weight of a linear layer or some other; batches of them."""
    x: Followed = given.get("mat1") or given.get("batch1") or given["self"]
    y: Followed = given.get("mat2") or given["batch2"]
    if x.layer is not None:
        _unknown(self, given, made)
        return
    layer = y.layer
    if layer and not layer.call and y.axes[0] is layer.inputs and y.axes[1] is layer.outputs:
        self.together([x.axes[-1], layer.inputs])
    else:
        y = self.plain(y)
        self.stay(x.axes[-1])
        self.stay(y.axes[-2])
    batch = [self.together([x.axes[0], y.axes[0]])] if len(x.axes) == 3 else []
    product = Followed(tuple(made[0].shape), (*batch, x.axes[-2], y.axes[-1]))
    added = [self.plain(given["self"])] if {"mat1", "batch1"} & given.keys() else []
    _by_entry(self, {"product": product, "added": added}, made)


def _rules() -> Iterator[tuple[str, Rule]]:
    for names, rule in (
        (_BY_ENTRY, _by_entry),
        ("detach alias clone _to_copy lift_fresh lift contiguous", _same),
        (_FILLS, _filled),
        ("view _unsafe_view reshape _reshape_alias unsqueeze squeeze flatten unflatten", _reshape),
        ("permute transpose t", _permute),
        ("expand", _expand),
        ("repeat", _repeat),
        (_MIXES, _mixed),
        ("slice split split_with_sizes unsafe_split unsafe_split_with_sizes chunk narrow unsafe_chunk", _part),
        ("cat", _concatenate),
        ("stack", _stack),
        ("native_batch_norm _native_batch_norm_legit cudnn_batch_norm miopen_batch_norm", _normalise),
        ("_native_batch_norm_legit_no_training _batch_norm_with_update _batch_norm_no_update", _normalise),
        ("native_layer_norm", _normalise_layer),
        ("native_group_norm", _normalise_groups),
        ("convolution _convolution", _convolve),
        ("mm addmm bmm baddbmm", _multiply),
    ):
        for name in names.split():
            yield name, rule


_BY_ENTRY = (
    "_prelu_kernel native_dropout _fused_dropout hardswish hardsigmoid hardtanh leaky_relu relu6 masked_fill where "
    "rrelu_with_noise copy lerp bernoulli uniform normal exponential random fill zero log_sigmoid_forward"
)
_FILLS = (
    "zeros ones full empty rand randn new_zeros new_ones new_full new_empty zeros_like ones_like full_like empty_like "
    "rand_like randn_like"
)
_MIXES = (
    "mean sum nansum amax amin max min aminmax argmax argmin var std var_mean std_mean prod norm linalg_vector_norm "
    "logsumexp any all count_nonzero median nanmedian mode kthvalue cumsum cumprod cummax cummin logcumsumexp sort "
    "topk _softmax _log_softmax softmax log_softmax glu flip roll select unbind index_select"
)
_RULES = dict(_rules())
_SPATIAL = re.compile(r"_?(?:adaptive_)?(?:avg|max)_pool([123])d(?:_with_indices)?|_?upsample_.*([123])d(?:_aa)?")
_PADS = re.compile(r"constant_pad_nd|(?:reflection|replication)_pad[123]d")
_OF_WEIGHTS: frozenset[Rule] = frozenset((_same, _permute, _convolve, _multiply))


def apply(name: str, by_entry: bool, tensors: Tensors, given: dict[str, Any], made: list[Tensor]) -> None:
    """Follow one operation from its arguments, by name, to the tensors that it made.

    by_entry: whether PyTorch says that it works entry by entry.
    """
    rule = _rule_of(name, by_entry)
    if rule not in _OF_WEIGHTS:
        given = _pytree.tree_map_only(Followed, tensors.plain, given)
    rule(tensors, given, made)


def _rule_of(name: str, by_entry: bool) -> Rule:
    name = name if name in _RULES else name.removesuffix("_")
    if name in _RULES:
        return _RULES[name]
    if spatial := _SPATIAL.fullmatch(name):
        return _spatial(int(spatial[1] or spatial[2]))
    if _PADS.fullmatch(name):
        return _pad
    return _by_entry if by_entry else _unknown
