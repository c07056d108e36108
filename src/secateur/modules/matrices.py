"""The weight matrices of a network: which parameters of which modules are scored, cut, counted and repaired, each as
one, and how their axes lie.

Most modules hold one, which goes by the module's name; recurrent layers and attention hold several, which go by their
own. Embeddings and parameters of one's own are matrices that are left alone unless they are named.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import is_lazy

from secateur.modules.guarding import watched
from secateur.modules.weight_norms import normed

LINEAR = (nn.Linear,)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
WEIGHTED = (*LINEAR, *CONVOLUTIONS, *TRANSPOSED)
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
LAYER, INNER, NAMED, SCALE = "layer", "inner", "named", "scale"
"""What a matrix is: the weight of a module that is called with its inputs; one of several inside of a module; one that
is left alone unless it is named; the scales of a normalisation, a vector."""


@dataclass(frozen=True, slots=True)
class Axes:
    """How the axes of a weight become (outputs, inputs of a group, taps …).

    groups: parts of the outputs that have inputs of their own. transposed: the inputs come first, (inputs, outputs of a
    group, taps …). flat: whatever is behind the outputs are inputs. known: whether anything says so at all.
    """

    groups: int = 1
    transposed: bool = False
    flat: bool = False
    known: bool = True

    def turned(self, values: Tensor) -> Tensor:
        """Values shaped as the weight as (outputs, inputs of a group, taps …), a view where possible."""
        if self.transposed:
            return torch.unflatten(values, 0, (self.groups, -1)).transpose(1, 2).flatten(0, 1)
        return values.flatten(1) if self.flat else values

    def turned_back(self, values: Tensor, shape: torch.Size) -> Tensor:
        """The inverse of turned, for a weight of this shape."""
        return (self.turned(values) if self.transposed else values).reshape(shape)


@dataclass(frozen=True, slots=True)
class Kind:
    """What modules of a class hold.

    parameters: the names of their matrices. axes and bias: of one of those. role: LAYER, INNER, NAMED or SCALE.
    """

    role: str
    parameters: Callable[[nn.Module], Sequence[str]]
    axes: Callable[[nn.Module, str], Axes] = lambda *_: Axes()
    bias: Callable[[nn.Module, str], Tensor | None] = lambda *_: None


@dataclass(frozen=True, slots=True)
class Matrix:
    """A parameter of a module that is cut, counted and repaired as one layer. path: its name in the state dict."""

    name: str
    path: str
    module: nn.Module
    parameter: str
    kind: Kind

    @property
    def weight(self) -> Tensor:
        """Outside of autograd; writing to it writes to the module, unless it is computed, and then it is what it is in
        evaluation mode."""
        return parameter_of(self.module, self.parameter)

    @property
    def bias(self) -> Tensor | None:
        """What is added to each of its outputs, likewise."""
        bias = self.kind.bias(self.module, self.parameter)
        return None if bias is None else bias.detach()

    @property
    def axes(self) -> Axes:
        return self.kind.axes(self.module, self.parameter)

    @property
    def is_computed(self) -> bool:
        """Whether it is no parameter of its own but made of others: a mask, a normalisation, a parametrization."""
        return self.module._parameters.get(self.parameter) is None

    @property
    def sources(self) -> list[nn.Parameter]:
        """The parameters that it is, or is computed from."""
        own = self.module._parameters.get(self.parameter)
        if own is not None:
            return [own]
        if self.kind.role in (LAYER, SCALE):
            bias = self.module._parameters.get("bias")
            return [each for each in self.module.parameters() if each is not bias]
        made_of = (*(f"{self.parameter}{end}" for end in ("_orig", "_g", "_v")), f"parametrizations.{self.parameter}.")
        return [each for name, each in self.module.named_parameters() if name.startswith(made_of)]

    @property
    def identity(self) -> tuple[int, str]:
        """What matrices have in common that are one and the same parameter; a computed one is its module's alone."""
        own = self.module._parameters.get(self.parameter)
        return (id(self.module), self.parameter) if own is None else (id(own), "")


def parameter_of(module: nn.Module, name: str) -> Tensor:
    """A parameter outside of autograd, or what is computed in its place: without a step of what learns there whenever
    it is asked for in training mode, as the vectors of a spectral normalisation do."""
    found = normed(module) if name == "weight" else None
    if found:
        return found.weight
    if name in module._parameters or name in vars(module):
        value = getattr(module, name)
    else:
        with watched(module):
            value = getattr(module, name)
    assert isinstance(value, Tensor)
    return value.detach()


def _of_convolution(module: nn.Module, _: str) -> Axes:
    assert isinstance(module, _ConvNd)
    return Axes(module.groups, module.transposed)


def _own_bias(module: nn.Module, _: str) -> Tensor | None:
    return module._parameters.get("bias")


def _of_recurrent(module: nn.Module) -> list[str]:
    assert isinstance(module, nn.RNNBase)
    return [name for names in module._all_weights for name in names if name.startswith("weight")]


def _recurrent_bias(module: nn.Module, parameter: str) -> Tensor | None:
    return module._parameters.get(parameter.replace("weight", "bias", 1))


_PROJECTIONS = ("q_proj_weight", "k_proj_weight", "v_proj_weight")


def _of_attention(module: nn.Module) -> Sequence[str]:
    assert isinstance(module, nn.MultiheadAttention)
    return ("in_proj_weight",) if module._qkv_same_embed_dim else _PROJECTIONS


def _of_projection(_: nn.Module, parameter: str) -> Axes:
    """The joint projection of queries, keys and values is three, which may be given different things."""
    return Axes(1 if parameter in _PROJECTIONS else len(_PROJECTIONS))


def _projection_bias(module: nn.Module, parameter: str) -> Tensor | None:
    bias = module._parameters.get("in_proj_bias")
    if bias is None or parameter not in _PROJECTIONS:
        return bias
    return bias.chunk(len(_PROJECTIONS))[_PROJECTIONS.index(parameter)]


def _weight_alone(_: nn.Module) -> Sequence[str]:
    return ("weight",)


def is_linear_transposed(module: nn.Module) -> bool:
    """Whether it is a linear layer whose weight is (inputs, outputs)."""
    return isinstance(module, _of_transformers())


def _of_transformers() -> tuple[type, ...]:
    """The Conv1D of Hugging Face's transformers, a linear layer whose weight is (inputs, outputs), once it is there."""
    held = getattr(sys.modules.get("transformers.pytorch_utils"), "Conv1D", None)
    return () if held is None else (held,)


_KINDS: tuple[tuple[Callable[[], tuple[type, ...]], Kind], ...] = (
    (lambda: LINEAR, Kind(LAYER, _weight_alone, bias=_own_bias)),
    (lambda: (*CONVOLUTIONS, *TRANSPOSED), Kind(LAYER, _weight_alone, _of_convolution, _own_bias)),
    (_of_transformers, Kind(LAYER, _weight_alone, lambda *_: Axes(transposed=True), _own_bias)),
    (lambda: (nn.Bilinear,), Kind(LAYER, _weight_alone, lambda *_: Axes(flat=True), _own_bias)),
    (lambda: (nn.RNNBase,), Kind(INNER, _of_recurrent, bias=_recurrent_bias)),
    (
        lambda: (nn.modules.rnn.RNNCellBase,),
        Kind(INNER, lambda _: ("weight_ih", "weight_hh"), bias=_recurrent_bias),
    ),
    (lambda: (nn.MultiheadAttention,), Kind(INNER, _of_attention, _of_projection, _projection_bias)),
    (lambda: (nn.Embedding, nn.EmbeddingBag), Kind(NAMED, _weight_alone)),
    (lambda: NORMS, Kind(SCALE, _weight_alone)),
)
"""Every kind of module whose matrices are known; a seam: what holds another matrix gets a line here."""
_BARE = Kind(NAMED, lambda module: list(module._parameters), lambda *_: Axes(known=False))


def every_matrix(network: nn.Module) -> list[Matrix]:
    """Of every module, in order of registration, those of empty weights left out; tied ones under all their names."""
    known = list(_known(network))
    taken = {id(each) for matrix in known for each in matrix.sources}
    taken |= {id(each) for module in network.modules() if isinstance(module, NORMS) for each in module.parameters()}
    bare = [
        _matrix(path, module, name, _BARE)
        for path, module in network.named_modules()
        for name, each in module._parameters.items()
        if each is not None and id(each) not in taken and _is_matrix(each)
    ]
    place = {id(module): number for number, module in enumerate(network.modules())}
    return sorted([*known, *bare], key=lambda each: place[id(each.module)])


def _known(network: nn.Module) -> Iterator[Matrix]:
    for path, module in network.named_modules():
        kind = _kind_of(module)
        for parameter in kind.parameters(module) if kind else ():
            if kind and _holds(module, parameter):
                yield _matrix(path, module, parameter, kind)


def _kind_of(module: nn.Module) -> Kind | None:
    return next((kind for classes, kind in _KINDS if isinstance(module, classes())), None)


def module_or_matrix(network: nn.Module, name: str) -> nn.Module | Matrix:
    """What goes by a name: the module itself where PyTorch's classes say how it lies, else the matrix."""
    owner, _, parameter = name.rpartition(".")
    try:
        module = network.get_submodule(name)
    except AttributeError:
        module = network.get_submodule(owner)
        return _matrix(owner, module, parameter, _kind_of(module) or _BARE)
    kind = _kind_of(module)
    if kind is None or kind.role == SCALE or isinstance(module, WEIGHTED):
        return module
    return _matrix(name, module, "weight", kind)


def _matrix(path: str, module: nn.Module, parameter: str, kind: Kind) -> Matrix:
    full = f"{path}.{parameter}".lstrip(".")
    return Matrix(path if kind.role in (LAYER, SCALE) else full, full, module, parameter, kind)


def _holds(module: nn.Module, parameter: str) -> bool:
    if (
        parameter not in module._parameters
    ):  # computed, perhaps: it is not asked for, which may change what it is made of
        return parameter in vars(module) or hasattr(type(module), parameter)
    weight = module._parameters[parameter]
    return weight is not None and (is_lazy(weight) or weight.numel() > 0)


def _is_matrix(tensor: Tensor) -> bool:
    """Vectors, as biases and scales are, are none."""
    return not is_lazy(tensor) and sum(size > 1 for size in tensor.shape) > 1


def siblings(matrix: Matrix, matrices: Sequence[Matrix]) -> list[Matrix]:
    """Those that give what a matrix gives, itself among them: of a recurrent layer all of the same place in the stack,
    since its outputs come from the sums of several."""
    if not isinstance(matrix.module, (nn.RNNBase, nn.modules.rnn.RNNCellBase)):
        return [matrix]
    place = _place_in_stack(matrix)
    return [each for each in matrices if each.module is matrix.module and _place_in_stack(each) == place]


def _place_in_stack(matrix: Matrix) -> str:
    return matrix.parameter.removesuffix("_reverse").rpartition("_")[2] if "_l" in matrix.parameter else ""
