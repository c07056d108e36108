"""A network followed as it runs, operation by operation: which rows, columns and entries hold one and the same channel.

Each parameter's axes begin with labels of their own. An operation that works channel by channel ties the labels that
meet in it, a convolution or linear layer ties what it is given to its columns and gives its rows, and whatever mixes,
counts or picks channels, or is not known here, makes the channels that it sees stay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

from secateur.errors import ModelError
from secateur.modules.guarding import run
from secateur.modules.inputs import Inputs
from secateur.modules.layers import input_of
from secateur.modules.matrices import WEIGHTED, is_linear_transposed
from secateur.pruning.axes import Coupling, Labels
from secateur.pruning.channel_operations import Followed, Layer, Tensors, apply

PER_CHANNEL = (_BatchNorm, _InstanceNorm, nn.PReLU)
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


@dataclass(frozen=True, slots=True)
class Place:
    """A label for each index that a side ("in", "out", "both") of the module of this name has, or (side "bare") for
    each index along an axis of the parameter or buffer of this name."""

    name: str
    side: str
    axis: int
    labels: Labels
    tensor: int
    """The id of the parameter or buffer."""


class Trace:
    """The labels of a network, and what running it shows about them; as many runs as one likes."""

    def __init__(self, network: nn.Module) -> None:
        self.coupling = Coupling()
        self.places: list[Place] = []
        self.ran: dict[int, None] = {}
        """The ids of the parameters that some run used, in the order of their first use."""
        self._network = network
        self._leaves: dict[int, Followed] = {}
        self._counted: dict[nn.Module, Labels] = {}
        """Of a normalisation that holds no tensor, but how many channels there are."""
        owners = Counter(
            id(held)
            for module in network.modules()
            for held in (*module._parameters.values(), *module._buffers.values())
        )
        for name, module in network.named_modules():
            self._label(name, module, {key for key, count in owners.items() if count > 1})

    def follow(self, inputs: Inputs) -> None:
        """Run the network, in its mode, inside of `watched` or `untouched`. Raises ModelError where it fails."""
        with _Following(self._leaves, self.coupling, self.ran, self._network) as following:
            for module, labels in self._counted.items():
                module.register_forward_pre_hook(following.counts(labels), with_kwargs=True)
            given = run(self._network, inputs)
            for leaf in _pytree.tree_leaves(given):
                _check_output(self._network, leaf)
                if isinstance(leaf, Tensor):
                    following.tensors.fix(following.tensors.of(leaf), "the network gives it")

    def _label(self, name: str, module: nn.Module, shared: set[int]) -> None:
        """Labels for what the module holds itself."""
        weight = module._parameters.get("weight")
        if weight is not None and id(weight) in shared:
            return
        if isinstance(module, WEIGHTED) or is_linear_transposed(module):
            self._label_layer(name, module)
        elif isinstance(module, PER_CHANNEL):
            self._label_channels(name, module)
        elif not _is_of_pytorch(module):
            for held_name, held in (*module._parameters.items(), *module._buffers.items()):
                if held is not None and id(held) not in shared:
                    self._label_bare(f"{name}.{held_name}".lstrip("."), held)

    def _label_layer(self, name: str, module: nn.Module) -> None:
        weight, bias = module._parameters.get("weight"), module._parameters.get("bias")
        if weight is None or weight.numel() == 0:
            return
        if isinstance(module, nn.Linear):
            outputs, inputs = self._sides(name, module.out_features, module.in_features, weight)
            self._leaves[id(weight)] = Followed(tuple(weight.shape), (outputs, inputs), Layer(outputs, inputs, None))
        elif is_linear_transposed(module):
            outputs, inputs = self._sides(name, weight.shape[1], weight.shape[0], weight)
            self._leaves[id(weight)] = Followed(tuple(weight.shape), (inputs, outputs), Layer(outputs, inputs, None))
        elif isinstance(module, _ConvNd) and not _is_odd(module):
            if is_depthwise(module):
                outputs = inputs = self._place(name, "both", module.out_channels, weight)
            else:
                outputs, inputs = self._sides(name, module.out_channels, module.in_channels, weight)
            layer = Layer(outputs, inputs, (module.transposed, module.groups))
            self._leaves[id(weight)] = Followed(tuple(weight.shape), (None,) * weight.dim(), layer)
        else:
            return
        if bias is not None:
            self._leaves[id(bias)] = Followed(tuple(bias.shape), (outputs,))

    def _label_channels(self, name: str, module: nn.Module) -> None:
        held = [each for each in (*module._parameters.values(), *module._buffers.values()) if each is not None]
        held = [each for each in held if each.dim() == 1 and len(each) > 1]
        if held:
            labels = self._place(name, "both", len(held[0]), held[0])
            self._leaves |= {id(each): Followed(tuple(each.shape), (labels,)) for each in held}
        elif isinstance(module, (_BatchNorm, _InstanceNorm)):
            self._counted[module] = self.coupling.fresh(module.num_features)
            self.places.append(Place(name, "both", 0, self._counted[module], id(module)))

    def _label_bare(self, name: str, held: Tensor) -> None:
        axes = [
            self._place(name, "bare", size, held, axis) if size > 1 else None for axis, size in enumerate(held.shape)
        ]
        self._leaves[id(held)] = Followed(tuple(held.shape), tuple(axes))

    def _sides(self, name: str, outputs: int, inputs: int, weight: Tensor) -> tuple[Labels, Labels]:
        return self._place(name, "out", outputs, weight), self._place(name, "in", inputs, weight)

    def _place(self, name: str, side: str, count: int, held: Tensor, axis: int = 0) -> Labels:
        labels = self.coupling.fresh(count)
        self.places.append(Place(name, side, axis, labels, id(held)))
        return labels


def _check_output(network: nn.Module, leaf: object) -> None:
    """Raises ModelError for an output into which nobody can look."""
    if not isinstance(leaf, (Tensor, int, float, complex, str, type(None), torch.Size, torch.dtype, torch.device)):
        raise ModelError(
            f"{type(network).__name__} gives a {type(leaf).__name__}: expected tensors, or tuples, lists or "
            "dictionaries of them"
        )


def is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, _ConvNd) and module.groups == module.out_channels == module.in_channels > 1


def _is_odd(module: _ConvNd) -> bool:
    """Groups whose channels cannot go: transposed ones, and those of one output that read several inputs."""
    if module.groups == 1:
        return False
    return module.transposed or (module.groups == module.out_channels and not is_depthwise(module))


def _is_of_pytorch(module: nn.Module) -> bool:
    """Whether a class of PyTorch (a recurrent layer, attention, an embedding) says what the parameters mean."""
    known = [each for each in type(module).__mro__ if each.__module__.startswith("torch.")]
    return any(each is not nn.Module and each not in _CONTAINERS for each in known)


class _Following(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation of a run, and says of each tensor which channels lie along its axes."""

    supports_higher_order_operators = True

    def __init__(self, leaves: dict[int, Followed], coupling: Coupling, ran: dict[int, None], network: nn.Module):
        super().__init__()  # type: ignore[no-untyped-call]
        self.tensors = Tensors(leaves, coupling)
        self._ran = ran
        self._held = {id(each) for each in (*network.parameters(), *network.buffers())}
        self._inside: list[str] = [type(network).__name__]
        for name, module in network.named_modules():
            module.register_forward_pre_hook(lambda _, __, name=name: self._inside.append(name))
            module.register_forward_hook(self._leave)

    def _leave(self, *_: object) -> None:
        self._inside.pop()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = _bound(function, args, kwargs or {})
        for tensor in _tensors(given):
            if id(tensor) in self._held:
                self._ran.setdefault(id(tensor))
        followed = _pytree.tree_map_only(Tensor, self.tensors.of, given)
        out = function(*args, **(kwargs or {}))
        made = _tensors(out)
        name = function._schema.name.removeprefix("aten::") if hasattr(function, "_schema") else str(function)
        where = f" in {self._inside[-1]!r}" if self._inside[-1] else ""
        self.tensors.doing = f"{name.strip('_')}{where}"
        apply(name, torch.Tag.pointwise in getattr(function, "tags", ()), self.tensors, followed, made)
        return out

    def counts(self, channels: Labels) -> Callable[..., None]:
        """A hook that ties what a module is given to the channels that it counts."""

        def hook(_: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
            axes = self.tensors.of(input_of(inputs, named)).axes
            self.tensors.together([channels, *(labels for labels in axes if labels is not None)])

        return hook


def _bound(function: Any, args: Sequence[Any], named: dict[str, Any]) -> dict[str, Any]:
    """The arguments by name, defaults included."""
    schema = getattr(function, "_schema", None)
    if schema is None:
        return {"args": tuple(args), **named}
    given = dict(zip((each.name for each in schema.arguments), args, strict=False)) | named
    defaults = {each.name: each.default_value for each in schema.arguments if each.has_default_value()}
    return given | {name: value for name, value in defaults.items() if name not in given}


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in _pytree.tree_leaves(value) if isinstance(leaf, Tensor)]
