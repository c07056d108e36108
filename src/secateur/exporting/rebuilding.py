"""A Graph becomes an nn.Module again: PyTorch as a rival, as an oracle, and for whoever wants to go on there."""

from __future__ import annotations

import functools
import inspect
import keyword
import math
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.exporting.examples import bound_somewhere, example_of
from secateur.exporting.onnx_calling import Called
from secateur.importing.onnx import Bound, Shapes, read_whole
from secateur.network.dequantising import to_floats
from secateur.network.graph import Graph, Node, Shape, Weight
from secateur.network.signature import Nest, Signature, Value

Weights = Mapping[str, Tensor]


class _ByName:
    """A method whose arguments are called as a network's inputs, for whoever asks it for its signature."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __get__(self, network: GraphNetwork | None, kind: type | None = None) -> Callable[..., Any]:
        if network is None:
            return self.function
        bound = functools.partial(self.function, network)
        names = list(network.graph.inputs)
        if all(name.isidentifier() and not keyword.iskeyword(name) for name in names):
            named = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
            bound.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
        return bound


class GraphNetwork(nn.Module):
    """Computes what the Graph computes; its state dict has the Graph's formats and bits.

    What multiplies by a weight is a layer of PyTorch's (nn.Conv2d, nn.Linear; nn.Embedding where rows are looked up),
    called as the weight is where that is NAME.weight, and its bias NAME.bias, else as its node. All else keeps the
    Graph's names. In names / and :: stand for dots, and what is taken, or no name for PyTorch, is made one with
    underscores.
    Of a Graph in eight bits it is the float network that this approximates (network.dequantising): weights are times
    their scales, nothing is rounded, and outputs are near those of the Graph rather than the same.
    Takes the Graph's inputs in order, (N, …) each, or by their names; gives a tensor, or a tuple where the Graph has
    several outputs, by their names where `called` says them. In evaluation mode.
    """

    def __init__(self, graph: Graph, called: Called | None = None) -> None:
        super().__init__()
        self.called, self.output_names = called, tuple(called.outputs) if called is not None else ()
        self.graph = graph = to_floats(graph)
        self.lengths = graph.lengths
        self._held: dict[str, tuple[str, str]] = {}
        """Weight → the module that holds it, and its name there."""
        self._called: dict[str, str] = {}
        """Node → the layer that computes it."""
        same: dict[tuple[Any, ...], str] = {}
        for node in graph.nodes:
            if node.op in _LAYERS and _has_layer(node):
                key = (node.op, *node.weights.values(), *_fixed(node))
                if key not in same:
                    same[key] = self._add_layer(node)
                self._called[node.name] = same[key]
        for name, weight in graph.weights.items():
            if name not in self._held:
                owner, leaf = _free_place(self, name)
                module = self.get_submodule(owner)
                module.register_parameter(leaf, nn.Parameter(to_tensor(weight), requires_grad=False))
                self._held[name] = owner, leaf
        self.eval()

    def _add_layer(self, node: Node) -> str:
        """A node's layer, which shares with those before it what weights they hold. Returns its name."""
        layer = _LAYERS[node.op][0](node, self.graph.weights)
        owner, leaf = _free_place(self, self._name_of(node), is_module=True)
        path = f"{owner}.{leaf}".lstrip(".")
        _put(self.get_submodule(owner), leaf, layer)
        for role, name in node.weights.items():
            known, leaf = name in self._held, _LEAVES.get(role, role)
            tensor = self.held(name) if known else to_tensor(self.graph.weights[name])
            if role in _LEAVES:
                layer.register_buffer(leaf, tensor.detach())
            else:
                parameter = tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor, requires_grad=False)
                layer.register_parameter(leaf, parameter)
            self._held.setdefault(name, (path, leaf))
        return path

    def _name_of(self, node: Node) -> str:
        """What the weights are called together, where they are and nobody else holds them; else the node."""
        endings = {name: f".{_LEAVES.get(role, role)}" for role, name in node.weights.items()}
        names = {name.removesuffix(ending) for name, ending in endings.items()}
        alone = len(names) == 1 and all(
            name.endswith(ending) and name not in self._held for name, ending in endings.items()
        )
        return names.pop() if alone else node.name

    def held(self, name: str) -> Tensor:
        """The parameter that holds a weight of the Graph, or the buffer that holds a statistic."""
        owner, leaf = self._held[name]
        found = getattr(self.get_submodule(owner), leaf)
        assert isinstance(found, Tensor)
        return found

    def in_front(self) -> Graph | None:
        """As now, called as the module is, with the batch in front of all; None where layers have other shapes now."""
        if any(self.held(name).shape != weight.shape for name, weight in self.graph.weights.items()):
            return None
        called = Signature.plain(self.graph.inputs, len(self.graph.outputs))
        if len(self.output_names) > 1:
            parts = tuple((name, Value(place)) for place, name in enumerate(self.output_names))
            called = replace(called, outputs=Nest("dict", parts))
        return replace(self.now(), signature=replace(called, images=self.graph.called.images))

    def secateur_example(self) -> tuple[Tensor, ...]:
        """Noise that it takes, which verbs show it where nobody gives an example."""
        return tuple(map(torch.from_numpy, example_of(bound_somewhere(self.graph)).values()))

    def now(self) -> Graph:
        """The Graph with the weights as they are by now, each in the Graph's format."""
        weights = {name: _as_weight(self.held(name), before) for name, before in self.graph.weights.items()}
        return replace(self.graph, weights=weights)

    @_ByName
    def forward(self, *given: Tensor, **named: Tensor) -> Any:
        values = self._values(given, named)
        first, precision = next(iter(values.values())), self._precision([*values.values()])
        graph = self._bound(values)
        for node in graph.nodes:
            read = [values[name] for name in node.inputs]
            made = self._made(node, read)
            made = made if read or node.weights else made.to(first.device)
            values[node.name] = made.to(precision) if made.is_floating_point() else made
        outputs = tuple(self._whole(values[name], graph.shape_of(name), len(first)) for name in graph.outputs)
        if len(self.output_names) > 1:
            return dict(zip(self.output_names, outputs, strict=True))
        return outputs[0] if len(outputs) == 1 else outputs

    def _values(self, given: Sequence[Tensor], named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = {**dict(zip(self.graph.inputs, given, strict=False)), **named}
        if len(given) + len(named) != len(found) or found.keys() != self.graph.inputs.keys():
            came = ", ".join([*map(str, named), *(["others by position"] if given else [])]) or "none"
            raise TypeError(f"expected the inputs {', '.join(self.graph.inputs)}, got {came}")
        return {name: found[name] for name in self.graph.inputs}

    def _made(self, node: Node, given: Sequence[Tensor]) -> Tensor:
        if node.name in self._called:
            return _LAYERS[node.op][1](node.attributes, given, self.get_submodule(self._called[node.name]))
        return _OPERATIONS[node.op](
            node.attributes, given, {role: self.held(name) for role, name in node.weights.items()}
        )

    def _precision(self, inputs: Sequence[Tensor]) -> torch.dtype:
        """That of numbers with fractions: the inputs', else the weights'."""
        tensors = (*inputs, *self.parameters())
        return next((each.dtype for each in tensors if each.is_floating_point()), torch.float32)

    def _bound(self, inputs: Mapping[str, Tensor]) -> Graph:
        """The Graph at the lengths that the inputs have."""
        if not self.lengths:
            return self.graph
        images = len(next(iter(inputs.values())))
        return self.graph.bind(self.graph.lengths_of({name: value.shape[1:] for name, value in inputs.items()}, images))

    def _whole(self, value: Tensor, shape: Shape, batch: int) -> Tensor:
        """A constant is the same for every image; everything else has its batch already."""
        return value if len(value) == batch else value.expand(batch, *shape)


def from_onnx(path: str | os.PathLike[str], *, shapes: Shapes | None = None, bind: Bound | None = None) -> GraphNetwork:
    """The network of an ONNX file as a module that prune, repair, retrain, pack and every other verb take.

    shapes, bind: as importing.onnx.read takes them. Its layers, their biases and the scales of normalisations learn;
    what the file has as BatchNormalization is PyTorch's. Weights of half precision become float32. A file in eight bits
    becomes the float network that it approximates, with a UserWarning.
    Inputs are in the file's order, or by its names, the batch in front; several outputs are a dictionary by its names.
    Lengths that are free stay so when it is packed. Raises what importing.onnx.read does.
    """
    reading = read_whole(path, shapes=shapes, bind=bind)
    graph = reading.graph
    if graph.quantisations:
        warnings.warn(
            f"{path}: is in eight bits, so this is the float network that it approximates: its weights times their "
            "scales; quantise it again when it is packed",
            stacklevel=2,
        )
    network = GraphNetwork(graph, Called(reading.formats, reading.outputs)).float().eval()
    for node in network.graph.nodes:
        for role, name in node.weights.items():
            held = network.held(name)
            if role in ("weight", "bias") and held.is_floating_point():
                held.requires_grad_(True)
    return network


def to_tensor(weight: Weight) -> Tensor:
    """A copy with the same format and bits."""
    signed = torch.from_numpy(weight.bits.view(np.dtype(f"<i{weight.bits.itemsize}")).copy())
    return signed.view(getattr(torch, weight.dtype))


def _as_weight(held: Tensor, before: Weight) -> Weight:
    """A parameter in the format of a weight; the weight itself where nothing changed."""
    tensor = held.detach().cpu().to(getattr(torch, before.dtype)).contiguous()
    bits = tensor.view(getattr(torch, f"int{8 * tensor.element_size()}")).numpy().view(before.bits.dtype)
    return before if np.array_equal(bits, before.bits) else Weight(before.dtype, bits.copy())


def _free_place(network: nn.Module, name: str, *, is_module: bool = False) -> tuple[str, str]:
    """Where what goes by a name is held: a module, made where it is missing, and a name that is free in it.

    A module may take the place of one that only holds others.
    """
    *path, leaf = [re.sub(r"\W", "_", part) for part in re.split(r"[./]|::", name) if part] or ["_"]
    owner, names = network, []
    for part in path:
        while part not in owner._modules and hasattr(owner, part):
            part += "_"
        if part not in owner._modules:
            owner.add_module(part, nn.Module())
        owner = owner.get_submodule(part)
        names.append(part)
    while hasattr(owner, leaf) and not (is_module and type(owner._modules.get(leaf)) is nn.Module):
        leaf += "_"
    return ".".join(names), leaf


def _put(owner: nn.Module, leaf: str, layer: nn.Module) -> None:
    """Register a layer, with the modules that are held under its name so far."""
    before = owner._modules.get(leaf)
    for name, module in before.named_children() if before is not None else ():
        layer.add_module(name, module)
    owner._modules[leaf] = layer


_LEAVES = {"mean": "running_mean", "variance": "running_var"}
"""Roles of weights that are statistics, as PyTorch calls them."""


def _has_layer(node: Node) -> bool:
    """Whether PyTorch has a layer for values of that many axes."""
    return node.op != "batch_norm" or len(node.shape) <= len(_BATCH_NORMS)


def _fixed(node: Node) -> tuple[Any, ...]:
    """What of a node is the layer's, beside its weights."""
    if node.op == "batch_norm":
        return len(node.shape), node.attributes["eps"]
    if node.op != "conv2d":
        return ()
    own: Mapping[str, Any] = node.attributes
    return tuple(own["stride"]), tuple(own["padding"]), tuple(own["dilation"]), own["groups"]


def _new_convolution(node: Node, weights: Mapping[str, Weight]) -> nn.Module:
    """Of no numbers yet, as all of these are."""
    outputs, inputs, *kernel = weights[node.weights["weight"]].shape
    own: Mapping[str, Any] = node.attributes
    top, bottom, left, right = own["padding"]
    return nn.Conv2d(
        inputs * own["groups"],
        outputs,
        tuple(kernel),
        own["stride"],
        (top, left) if (top, left) == (bottom, right) else 0,
        own["dilation"],
        own["groups"],
        bias="bias" in node.weights,
        device="meta",
    )


def _new_linear(node: Node, weights: Mapping[str, Weight]) -> nn.Module:
    outputs, inputs = weights[node.weights["weight"]].shape
    return nn.Linear(inputs, outputs, bias="bias" in node.weights, device="meta")


def _new_embedding(node: Node, weights: Mapping[str, Weight]) -> nn.Module:
    rows, columns = weights[node.weights["weight"]].shape
    return nn.Embedding(rows, columns, device="meta")


_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
"""By the axes of each image's value."""


def _new_batch_norm(node: Node, weights: Mapping[str, Weight]) -> nn.Module:
    (channels,) = weights[node.weights["mean"]].shape
    layer = _BATCH_NORMS[len(node.shape) - 1](channels, eps=node.number("eps"), affine=False)
    layer.register_buffer("num_batches_tracked", None)
    return layer


def _convolved(attributes: Mapping[str, Any], inputs: Sequence[Tensor], layer: nn.Module) -> Tensor:
    """x is padded beforehand only where the sides differ."""
    x, (top, bottom, left, right) = inputs[0], attributes["padding"]
    differ = (top, left) != (bottom, right)
    made: Tensor = layer(F.pad(x, (left, right, top, bottom)) if differ else x)
    return made


def _multiplied(attributes: Mapping[str, Any], inputs: Sequence[Tensor], layer: nn.Module) -> Tensor:
    made: Tensor = layer(inputs[0])
    return made


def _batch_norm(attributes: Mapping[str, Any], inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    mean, variance, scale, shift = (weights.get(role) for role in ("mean", "variance", "weight", "bias"))
    return F.batch_norm(inputs[0], mean, variance, scale, shift, eps=attributes["eps"])


def _layer_norm(attributes: Mapping[str, Any], inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    shape = inputs[0].shape[-attributes["axes"] :]
    return F.layer_norm(inputs[0], shape, weights.get("weight"), weights.get("bias"), attributes["eps"])


def _max_pool2d(attributes: Mapping[str, Any], inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    top, bottom, left, right = attributes["padding"]
    x = F.pad(inputs[0], (left, right, top, bottom), value=-torch.inf)
    return F.max_pool2d(x, attributes["kernel"], attributes["stride"], 0, attributes["dilation"])


def _avg_pool2d(attributes: Mapping[str, Any], inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    top, bottom, left, right = attributes["padding"]
    around, kernel, stride = (left, right, top, bottom), attributes["kernel"], attributes["stride"]
    total = F.avg_pool2d(F.pad(inputs[0], around), kernel, stride)
    if attributes["count_include_pad"] or not any(around):
        return total
    return total / F.avg_pool2d(F.pad(torch.ones_like(inputs[0]), around), kernel, stride)


def _aligned(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Shapes are aligned at their last axes behind the batch, which stays in front."""

    def operation(attributes: Mapping[str, Any], inputs: Sequence[Tensor], weights: Weights) -> Tensor:
        return function(*_raised(inputs))

    return operation


def _of_one_batch(inputs: Sequence[Tensor]) -> list[Tensor]:
    """Constants repeated for every image."""
    batch = next((len(x) for x in inputs if len(x) != 1), 1)
    return [x.expand(batch, *x.shape[1:]) for x in inputs]


def _reduced(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Over several axes, one after another where that is all that PyTorch takes; whole numbers stay of their format."""

    def operation(attributes: Mapping[str, Any], inputs: Sequence[Tensor], weights: Weights) -> Tensor:
        made = inputs[0]
        for axis in sorted(attributes["axes"], reverse=True):
            made = function(made, axis, attributes["keepdims"])
        return made.to(inputs[0].dtype)

    return operation


def _topk(attributes: Mapping[str, Any], inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    axis = attributes["axis"]
    order = inputs[0].argsort(dim=axis, descending=attributes["largest"], stable=True)
    return order.narrow(axis, 0, attributes["count"])


def _gather(attributes: Mapping[str, Any], inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    data, indices = _of_one_batch(inputs)
    return data.gather(attributes["axis"], indices.long())


def _resize(attributes: Mapping[str, Any], inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    x, size = inputs[0], attributes["size"]
    ratios = [1 / step for step in attributes["steps"]] or [None] * len(size)
    around = x.shape[1 : x.ndim - len(size)]
    planes = x.reshape(len(x), math.prod(around), *x.shape[x.ndim - len(size) :])
    if attributes["mode"] == "cubic":
        made = _cubic(planes, size, attributes["aligned"], ratios)
    else:
        name = _RESIZED[attributes["mode"]][len(size) - 1]
        aligned = (attributes["aligned"],) if attributes["mode"] == "linear" else ()
        made = getattr(torch.ops.aten, name)(planes, size, *aligned, *ratios)
    return made.reshape(len(x), *around, *size)


_RESIZED = {
    "nearest": [f"upsample_nearest{rank}d" for rank in (1, 2, 3)],
    "nearest_exact": [f"_upsample_nearest_exact{rank}d" for rank in (1, 2, 3)],
    "linear": ["upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d"],
}


def _cubic(x: Tensor, size: Shape, aligned: bool, ratios: Sequence[float | None]) -> Tensor:
    """Axis by axis: PyTorch has it for planes alone."""
    for place, (new, ratio) in enumerate(zip(size, ratios, strict=True)):
        rows, after = x.shape[2 + place], x.shape[3 + place :]
        planes = x.reshape(*x.shape[:1], math.prod(x.shape[1 : 2 + place]), rows, math.prod(after))
        made = torch.ops.aten.upsample_bicubic2d(planes, (new, planes.shape[3]), aligned, ratio, None)
        x = made.reshape(*x.shape[: 2 + place], new, *after)
    return x


def _grid_sample(attributes: Mapping[str, Any], inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    mode = "bilinear" if attributes["mode"] == "linear" else attributes["mode"]
    planes, grid = _of_one_batch(inputs)
    return F.grid_sample(planes, grid, mode, attributes["padding"], attributes["aligned"])


def _concat(attributes: Mapping[str, Any], inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    return torch.cat(_of_one_batch(inputs), attributes["axis"])


def _raised(inputs: Sequence[Tensor]) -> list[Tensor]:
    """With as many axes as the one that has most, behind the batch."""
    rank = max(x.ndim for x in inputs)
    places = [(slice(None), *(None,) * (rank - x.ndim)) for x in inputs]
    return [x[place] for x, place in zip(inputs, places, strict=True)]


def _matmul(attributes: Mapping[str, Any], inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    left, right = _raised(inputs)
    return left @ (right.mT if attributes["transposed"] else right)


def _attention(attributes: Mapping[str, Any], inputs: Sequence[Tensor], weights: Weights) -> Tensor:
    query, key, value, *masks = _raised(inputs)
    shared = query.shape[-3] // key.shape[-3]
    key, value = (x.repeat_interleave(shared, -3) for x in (key, value))
    scores = attributes["scale"] * (query @ key.mT)
    for mask in masks:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    if attributes["causal"]:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), -torch.inf)
    shares = F.softmax(scores, -1)
    return shares.masked_fill((scores == -torch.inf).all(-1, keepdim=True), 0) @ value


def _lstm_step(given: Tensor, fed: Tensor, states: Sequence[Tensor], attributes: Mapping[str, Any]) -> list[Tensor]:
    enter, forget, new, out = (given + fed).chunk(4, -1)
    cell = forget.sigmoid() * states[1] + enter.sigmoid() * new.tanh()
    return [out.sigmoid() * cell.tanh(), cell]


def _gru_step(given: Tensor, fed: Tensor, states: Sequence[Tensor], attributes: Mapping[str, Any]) -> list[Tensor]:
    (reset, update, new), (of_reset, of_update, of_new) = given.chunk(3, -1), fed.chunk(3, -1)
    kept = (update + of_update).sigmoid()
    return [(1 - kept) * (new + (reset + of_reset).sigmoid() * of_new).tanh() + kept * states[0]]


def _rnn_step(given: Tensor, fed: Tensor, states: Sequence[Tensor], attributes: Mapping[str, Any]) -> list[Tensor]:
    return [F.relu(given + fed) if attributes["activation"] == "relu" else (given + fed).tanh()]


def _recurrence(step: Callable[..., list[Tensor]], states: int) -> Callable[..., Tensor]:
    """states: how many a step hands to the next, those of a step side by side in the output."""

    def operation(attributes: Mapping[str, Any], inputs: Sequence[Tensor], layer: nn.Module) -> Tensor:
        assert isinstance(layer, nn.Linear)
        x = inputs[0]
        now = [*inputs[1:]] or [x.new_zeros((*x.shape[:-2], layer.in_features))] * states
        made = []
        for given in reversed(x.unbind(-2)) if attributes["reverse"] else x.unbind(-2):
            now = step(given, layer(now[0]), now, attributes)
            made.append(torch.cat(now, -1))
        return torch.stack(made[::-1] if attributes["reverse"] else made, -2)

    return operation


def _plain(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function that takes the attributes by the names that they have here."""
    return lambda attributes, inputs, weights: function(inputs[0], **attributes)


_LAYERS: Mapping[
    str,
    tuple[
        Callable[[Node, Mapping[str, Weight]], nn.Module],
        Callable[[Mapping[str, Any], Sequence[Tensor], nn.Module], Tensor],
    ],
] = {
    "conv2d": (_new_convolution, _convolved),
    "linear": (_new_linear, _multiplied),
    "embedding": (_new_embedding, _multiplied),
    "batch_norm": (_new_batch_norm, _multiplied),
    "lstm": (_new_linear, _recurrence(_lstm_step, 2)),
    "gru": (_new_linear, _recurrence(_gru_step, 1)),
    "rnn": (_new_linear, _recurrence(_rnn_step, 1)),
}
"""Operations that are layers of PyTorch's: how one is made, and how it is called."""

_OPERATIONS: Mapping[str, Callable[[Mapping[str, Any], Sequence[Tensor], Weights], Tensor]] = {
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "relu": _plain(F.relu),
    "relu6": _plain(F.relu6),
    "leaky_relu": _plain(F.leaky_relu),
    "hardswish": _plain(F.hardswish),
    "hardsigmoid": _plain(F.hardsigmoid),
    "silu": _plain(F.silu),
    "sigmoid": _plain(torch.sigmoid),
    "tanh": _plain(torch.tanh),
    "gelu": _plain(F.gelu),
    "elu": _plain(F.elu),
    "selu": _plain(F.selu),
    "softplus": _plain(F.softplus),
    "mish": _plain(F.mish),
    "abs": _plain(torch.abs),
    "exp": _plain(torch.exp),
    "log": _plain(torch.log),
    "sqrt": _plain(torch.sqrt),
    "rsqrt": _plain(torch.rsqrt),
    "sin": _plain(torch.sin),
    "cos": _plain(torch.cos),
    "erf": _plain(torch.erf),
    "pow": _plain(torch.pow),
    "neg": _plain(torch.neg),
    "reciprocal": _plain(torch.reciprocal),
    "softmax": lambda attributes, inputs, _: F.softmax(inputs[0], attributes["axis"]),
    "add": _aligned(torch.add),
    "mul": _aligned(torch.mul),
    "maximum": _aligned(torch.maximum),
    "minimum": _aligned(torch.minimum),
    "sub": _aligned(torch.sub),
    "div": _aligned(torch.div),
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "adaptive_avg_pool2d": lambda attributes, inputs, _: F.adaptive_avg_pool2d(inputs[0], attributes["size"]),
    "mean": lambda attributes, inputs, _: inputs[0].mean(attributes["axes"], attributes["keepdims"]),
    "reshape": lambda attributes, inputs, _: inputs[0].reshape(len(inputs[0]), *attributes["shape"]),
    "permute": lambda attributes, inputs, _: inputs[0].permute(0, *attributes["axes"]),
    "concat": _concat,
    "slice": lambda attributes, inputs, _: inputs[0].narrow(
        attributes["axis"], attributes["start"], attributes["stop"] - attributes["start"]
    ),
    "constant": lambda attributes, _, weights: weights["value"][None],
    "fill": lambda attributes, *_: torch.full((1, *attributes["shape"]), attributes["value"]),
    "range": lambda attributes, *_: (
        attributes["start"] + attributes["step"] * torch.arange(attributes["length"], dtype=torch.float64)
    )[None],
    "matmul": _matmul,
    "attention": _attention,
    "cumsum": lambda attributes, inputs, _: inputs[0].cumsum(attributes["axis"], dtype=inputs[0].dtype),
    "take": lambda attributes, inputs, weights: inputs[0].index_select(attributes["axis"], weights["indices"]),
    "gather": _gather,
    "resize": _resize,
    "grid_sample": _grid_sample,
    "sum": _reduced(torch.sum),
    "prod": _reduced(torch.prod),
    "amax": _reduced(torch.amax),
    "amin": _reduced(torch.amin),
    "argmax": lambda attributes, inputs, _: inputs[0].argmax(attributes["axis"], attributes["keepdims"]),
    "argmin": lambda attributes, inputs, _: inputs[0].argmin(attributes["axis"], attributes["keepdims"]),
    "topk": _topk,
    "equal": _aligned(torch.eq),
    "less": _aligned(torch.lt),
    "less_equal": _aligned(torch.le),
    "logical_and": _aligned(torch.logical_and),
    "logical_or": _aligned(torch.logical_or),
    "logical_not": _plain(torch.logical_not),
    "where": _aligned(torch.where),
    "cast": lambda attributes, inputs, _: inputs[0].to(getattr(torch, attributes["element"])),
    "floor": _plain(torch.floor),
    "ceil": _plain(torch.ceil),
    "round": _plain(torch.round),
    "sign": _plain(torch.sign),
    "floor_div": _aligned(torch.floor_divide),
    "remainder": _aligned(torch.remainder),
    "gather_images": lambda attributes, inputs, _: inputs[0][None],
    "scatter_images": lambda attributes, inputs, _: inputs[0][0],
}
