"""Which matrices of a network are layers that may be pruned, and in which order they run."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from secateur.modules.guarding import run, watched
from secateur.modules.inputs import Example, as_inputs
from secateur.modules.matrices import NAMED, SCALE, WEIGHTED, Matrix, every_matrix, parameter_of
from secateur.modules.uses import Use, listening


@dataclass(frozen=True, slots=True)
class Execution:
    """A weighted layer at work: each of its weights is used `uses` times for one image, on average.

    So weight.numel() × uses is its multiply-adds, taps that fall on padding counted in.
    """

    name: str
    matrix: Matrix
    uses: float


def weighted_layers(network: nn.Module, include: Sequence[str] = ()) -> dict[str, Matrix]:
    """The matrices of layers by name, in order of registration: linear, convolutional, recurrent, of attention; and
    those that are left alone otherwise where `include` names them (names or patterns). Tied ones by their first name
    only."""
    held = [each for each in every_matrix(network) if each.kind.role != SCALE]
    layers = [each for each in held if each.kind.role != NAMED]
    seen = {each.identity for each in layers}
    known = {id(each) for each in layers}
    known |= {id(each) for each in held if each.identity not in seen and matches([each.name], include)}
    found: dict[tuple[int, str], Matrix] = {}
    for each in held:
        if id(each) in known:
            found.setdefault(each.identity, each)
    return {each.name: each for each in found.values()}


def matches(names: Iterable[str], patterns: Sequence[str]) -> bool:
    """Whether some pattern matches some name, as it is, with ".weight" behind it or without."""
    return any(
        fnmatch.fnmatchcase(each, pattern)
        for name in names
        for pattern in in_a_row(patterns)
        for each in (name, f"{name}.weight", name.removesuffix(".weight"))
    )


def in_a_row(patterns: Sequence[str]) -> Sequence[str]:
    """Names or patterns, of which a text alone is one."""
    return (patterns,) if isinstance(patterns, str) else patterns


def weight_of(layer: Matrix | nn.Module) -> Tensor:
    """A matrix, or a module's `weight`, outside of autograd; writing to it writes to the module, if not computed."""
    if isinstance(layer, Matrix):
        return layer.weight
    return parameter_of(layer, "weight")


def learning_layers(network: nn.Module, include: Sequence[str] = ()) -> dict[str, Matrix]:
    """The weighted layers whose weight learns; all of them where none does, as when a network is only evaluated."""
    layers = weighted_layers(network, include)
    learning = {name: layer for name, layer in layers.items() if any(each.requires_grad for each in layer.sources)}
    return learning or layers


def sources(layers: Mapping[str, Matrix]) -> dict[Tensor, str]:
    """The parameters that the weights of some layers are, or are computed from, and the layer of each."""
    return {tensor: name for name, layer in layers.items() for tensor in layer.sources}


def norm_layers(network: nn.Module) -> dict[str, Matrix]:
    """The scales of normalisations that have some, by name, in order of registration."""
    return {each.name: each for each in every_matrix(network) if each.kind.role == SCALE}


def input_of(arguments: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> Tensor:
    """What a layer was given, by position or by name, as a hook that sees keywords is told."""
    return arguments[0] if arguments else named["input"]


def tied(network: nn.Module, matrix: Matrix) -> list[Matrix]:
    """The matrices of a network that are this one, itself among them: the modules of any may run in its stead."""
    return [each for each in every_matrix(network) if each.identity == matrix.identity]


def executed_layers(network: nn.Module, example: Example, include: Sequence[str] = ()) -> list[Execution]:
    """The weighted layers in the order in which they last ran on `example` (as as_inputs takes it), with their uses per
    image. The network is run once and is as it was afterwards.
    """
    inputs = as_inputs(example, network)
    layers = weighted_layers(network, include)
    uses: dict[str, Fraction] = {}

    def record(name: str, use: Use) -> None:
        uses[name] = uses.pop(name, Fraction(0)) + use.positions / len(inputs)

    with watched(network), listening(network, layers, record):
        run(network, inputs)
    return [Execution(name, layers[name], float(count)) for name, count in uses.items()]


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
