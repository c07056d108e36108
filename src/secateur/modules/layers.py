"""Which modules of a network hold prunable weights, and in which order they run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from secateur.modules.guarding import run, watched
from secateur.modules.inputs import Example, as_inputs
from secateur.modules.weight_norms import normed

WEIGHTED = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
NORMS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True, slots=True)
class Execution:
    """A weighted layer at work: each of its weights is used `uses` times for one image.

    So weight.numel() × uses is its multiply-adds, taps that fall on padding counted in.
    """

    name: str
    module: nn.Module
    uses: int


def weighted_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Linear and convolution modules by name, in order of registration; tied ones by their first name only, and those
    that hold no weight at all (of no inputs or no outputs) not."""
    found: dict[str, nn.Module] = {}
    seen: set[int] = set()
    for name, module in network.named_modules():
        if isinstance(module, WEIGHTED) and not _is_empty(module) and _weight_id(module) not in seen:
            seen.add(_weight_id(module))
            found[name] = module
    return found


def _is_empty(module: nn.Module) -> bool:
    weight = module._parameters.get("weight")
    return weight is not None and not is_lazy(weight) and weight.numel() == 0


def weight_of(layer: nn.Module) -> Tensor:
    """A weighted layer's weight, outside of autograd; writing to it writes to the layer, unless it is computed."""
    found = normed(layer)
    weight = found.weight if found else layer.weight
    assert isinstance(weight, Tensor)
    return weight.detach()


def is_computed(layer: nn.Module) -> bool:
    """Whether its weight is no parameter of its own but made of others: a mask, a normalisation, a parametrization."""
    return layer._parameters.get("weight") is None


def learning_layers(network: nn.Module) -> dict[str, nn.Module]:
    """The weighted layers whose weight learns; all of them where none does, as when a network is only evaluated."""
    layers = weighted_layers(network)
    return {name: layer for name, layer in layers.items() if _sources(layer, learning=True)} or layers


def sources(network: nn.Module, layers: Mapping[str, nn.Module]) -> dict[Tensor, str]:
    """The parameters that the weights of some layers are, or are computed from, and the layer of each."""
    return {tensor: name for name, layer in layers.items() for tensor in _sources(layer)}


def _sources(layer: nn.Module, learning: bool = False) -> list[nn.Parameter]:
    weight = layer._parameters.get("weight")
    own = (
        [weight]
        if weight is not None
        else [each for each in layer.parameters() if each is not layer._parameters.get("bias")]
    )
    return [each for each in own if each.requires_grad or not learning]


def norm_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Normalisations that scale what they give by a weight, by name, in order of registration."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, NORMS) and isinstance(module.weight, Tensor)
    }


def sharing_weight(network: nn.Module, layer: nn.Module) -> list[nn.Module]:
    """The weighted modules of a network whose weight is the layer's: any of them may run in its stead."""
    shared = _weight_id(layer)
    return [each for each in network.modules() if isinstance(each, WEIGHTED) and _weight_id(each) == shared]


def input_of(arguments: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> Tensor:
    """What a layer was given, by position or by name, as a hook that sees keywords is told."""
    return arguments[0] if arguments else named["input"]


def _weight_id(module: nn.Module) -> int:
    """What modules that share a weight have in common; a weight that is computed anew at each use is its module's."""
    return id(module._parameters.get("weight") if "weight" in module._parameters else module)


def executed_layers(network: nn.Module, example: Example) -> list[Execution]:
    """The weighted layers in the order in which they last ran on `example` (as as_inputs takes it), with their uses per
    image. The network is run once and is as it was afterwards.
    """
    inputs = as_inputs(example, network)
    names = {_weight_id(module): name for name, module in weighted_layers(network).items()}
    modules = weighted_layers(network)
    uses: dict[str, int] = {}

    def record(module: nn.Module, given: tuple[Tensor, ...], named: Mapping[str, Tensor], output: Tensor) -> None:
        name = names[_weight_id(module)]
        uses[name] = uses.pop(name, 0) + _uses(module, input_of(given, named), output) // len(inputs)

    with watched(network):
        for module in network.modules():
            if isinstance(module, WEIGHTED) and not _is_empty(module):
                module.register_forward_hook(record, with_kwargs=True)
        run(network, inputs)
    return [Execution(name, modules[name], count) for name, count in uses.items()]


def _uses(module: nn.Module, given: Tensor, output: Tensor) -> int:
    """How often a whole weight tensor is applied: output positions, or rows for a linear layer."""
    if isinstance(module, nn.Linear):
        return output.numel() // output.shape[-1]
    channels = module.in_channels if isinstance(module, TRANSPOSED) else module.out_channels
    assert isinstance(channels, int)
    return (given if isinstance(module, TRANSPOSED) else output).numel() // channels


def norms_behind(network: nn.Module, example: Example) -> dict[str, _BatchNorm]:
    """The BatchNorm with running statistics that is given the very tensor that a weighted layer gives, by the layer's
    name, where both run once. The network is run once, in evaluation mode."""
    given: list[tuple[str, Tensor]] = []
    read: list[tuple[_BatchNorm, Tensor]] = []
    with watched(network):
        for name, module in network.named_modules():
            if isinstance(module, WEIGHTED):
                module.register_forward_hook(lambda _, __, output, name=name: given.append((name, output)))
            elif isinstance(module, _BatchNorm) and module.track_running_stats:
                module.register_forward_pre_hook(
                    lambda norm, inputs, named: read.append((norm, input_of(inputs, named))), with_kwargs=True
                )
        run(network, as_inputs(example, network))
    layers, norms = Counter(name for name, _ in given), Counter(id(norm) for norm, _ in read)
    return {
        name: norm
        for name, output in given
        for norm, x in read
        if x is output and layers[name] == 1 and norms[id(norm)] == 1
    }


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; every module's own mode comes back after it."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
