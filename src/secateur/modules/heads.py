"""Which layers give a network's outputs: on an example by running it, else by tracing its forward symbolically."""

from __future__ import annotations

import builtins
import functools
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

from secateur.errors import UsageError
from secateur.modules.candidates import few
from secateur.modules.dataflow import CONSTANT, INPUT, Flow, Value, follow
from secateur.modules.guarding import untouched
from secateur.modules.inputs import Example, as_inputs
from secateur.modules.layers import learning_layers, sources
from secateur.modules.matrices import WEIGHTED, Matrix, siblings

_UNKNOWN = "\0"
"""Before the name of a module that cannot be traced, in the place of the layers in it."""
_SHAPES = {"shape", "dtype", "device", "ndim", "size", "dim", "numel"}


def output_layers(network: nn.Module, example: Example | None = None, include: Sequence[str] = ()) -> tuple[str, ...]:
    """The names of the layers that give the outputs, in the order in which they run in evaluation mode.

    Of each output tensor the last layer that it comes from; and every layer whose values reach an output and no other
    layer, as the parts of detections that are concatenated. Of a recurrent layer all matrices of the same place in the
    stack come together. Layers that do not learn are passed over; include: as in weighted_layers. With an example
    (as as_inputs takes it) the network is run. Without, its forward is traced; raises UsageError where that leaves open
    which layer is the last, as the control flow depends on values.
    """
    layers = learning_layers(network, include)
    if len(layers) < 2:
        return tuple(layers)
    whole = unwrapped(network)
    weights = sources(layers)
    if example is not None:
        return _with_siblings(follow(whole, as_inputs(example, whole), weights).heads or tuple(layers)[-1:], layers)
    heads = _traced(whole, weights)
    unknown = [name.removeprefix(_UNKNOWN) for name in heads if name.startswith(_UNKNOWN)]
    if unknown:
        where = f"module {unknown[0]!r}" if unknown[0] else type(whole).__name__
        raise UsageError(
            f"{where} decides while it runs what runs, so without inputs it is open which layer gives the output and "
            f"stays whole: expected example=… (a batch of inputs), or keep_output=NAME, one or several of {few(layers)}"
        )
    return _with_siblings(heads or tuple(layers)[-1:], layers)


def _with_siblings(heads: Iterable[str], layers: Mapping[str, Matrix]) -> tuple[str, ...]:
    together = {each.name: None for name in heads for each in siblings(layers[name], list(layers.values()))}
    return tuple(together)


def unwrapped(network: nn.Module) -> nn.Module:
    """The network inside of what only hands its inputs on: parallel, averaged, compiled."""
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel, torch.optim.swa_utils.AveragedModel)
    while True:
        inner = network._modules.get("_orig_mod") or (network.module if isinstance(network, wrappers) else None)
        if not isinstance(inner, nn.Module):
            return network
        network = inner


class _Inputs(nn.Module):
    """Hands a forward as many inputs as it needs, all of them parts of the only one that fx is told of."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, given: Any) -> Any:
        needed = [
            each
            for each in inspect.signature(self.network.forward).parameters.values()
            if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
        ]
        names = [each.name for each in needed if each.kind is each.KEYWORD_ONLY]
        ordered = max(1, len(needed)) - len(names)
        return self.network(*(given[i] for i in range(ordered)), **{name: given[name] for name in names})


class _TensorProxy(fx.Proxy):
    """What a forward sees in the place of a tensor; no parameter, and no buffer."""

    _is_param = _is_buffer = False


@contextmanager
def _proxies_pass_for_tensors() -> Iterator[None]:
    """Inside the block Python's isinstance says of a proxy what it says of a tensor, since a forward may ask and then
    would take another way. (A __class__ that says so would reach C code too, which then reads memory that is none.)"""
    plain, tensor = builtins.isinstance, torch.zeros(1)

    def answer(value: object, kinds: Any) -> bool:
        return plain(value, kinds) or (type(value) is _TensorProxy and plain(tensor, kinds))

    builtins.isinstance = answer
    try:
        yield
    finally:
        builtins.isinstance = plain


class _Tracer(fx.Tracer):
    """Takes for a leaf what holds a weight, and what it cannot look into."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        if isinstance(module, WEIGHTED):
            return True
        return super().is_leaf_module(module, name) and _is_torchs(module)

    def create_arg(self, a: Any) -> Any:
        return a.node if isinstance(a, fx.Proxy) else super().create_arg(a)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _TensorProxy(node, self)

    def call_module(self, module: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        entered = dict(self.module_stack)
        try:
            return super().call_module(module, forward, args, kwargs)
        except (Exception, SystemExit):  # whatever a user's forward raises on a proxy
            self.module_stack.clear()
            self.module_stack.update(entered)
            return self.create_proxy("call_module", self.path_of_module(module), args, kwargs)


def _is_torchs(module: nn.Module) -> bool:
    return all(type(each).__module__.startswith("torch.") for each in module.modules())


def _traced(network: nn.Module, weights: Mapping[Tensor, str]) -> tuple[str, ...]:
    """The heads; in the place of layers in modules that cannot be traced, the module's name after _UNKNOWN."""
    root = _Inputs(network)
    with untouched(network, copy_on_write=False):
        network.eval()
        with _proxies_pass_for_tensors():
            graph = _Tracer().trace(root)
        flow = Flow()
        return flow.heads(_values_of_outputs(graph, root, weights, flow))


def _values_of_outputs(graph: fx.Graph, root: nn.Module, weights: Mapping[Tensor, str], flow: Flow) -> list[Value]:
    values: dict[fx.Node, Value] = {}
    for node in _in_use(graph):
        given = [values[each] for each in node.all_input_nodes]
        if node.op == "output":
            return given
        values[node] = value = _value(node, given, root, weights, flow)
        if _is_in_place(node):
            values[node.all_input_nodes[0]] = value
    return []


def _in_use(graph: fx.Graph) -> list[fx.Node]:
    """The nodes that the output depends on, or that change one of those: not what was left of failed attempts."""
    used = {node for node in graph.nodes if node.op == "output"}
    for node in reversed(graph.nodes):
        if node in used or (_is_in_place(node) and node.all_input_nodes[0] in used):
            used.update([node, *node.all_input_nodes])
    return [node for node in graph.nodes if node in used]


def _value(node: fx.Node, given: list[Value], root: nn.Module, weights: Mapping[Tensor, str], flow: Flow) -> Value:
    if node.op == "placeholder":
        return INPUT
    if node.op == "get_attr":
        return _weight_value(_attribute(root, str(node.target)), weights)
    if node.op == "call_module":
        return flow.through([*given, *_held_values(root.get_submodule(str(node.target)), str(node.target), weights)])
    name = node.args[1] if node.target is getattr else node.target
    return CONSTANT if name in _SHAPES else flow.through(given)


def _is_in_place(node: fx.Node) -> bool:
    return node.op == "call_method" and str(node.target).endswith("_") and not str(node.target).endswith("__")


def _attribute(root: nn.Module, path: str) -> Any:
    return functools.reduce(getattr, path.split("."), root)


def _weight_value(tensor: Any, weights: Mapping[Tensor, str]) -> Value:
    return Value(frozenset([weights[tensor]])) if isinstance(tensor, Tensor) and tensor in weights else CONSTANT


def _held_values(module: nn.Module, path: str, weights: Mapping[Tensor, str]) -> list[Value]:
    """The layers in a module that was not looked into, in the order of registration, in which PyTorch's own run."""
    names = dict.fromkeys(weights[each] for each in module.parameters() if each in weights)
    if len(names) > 1 and not _is_torchs(module):
        names = {_UNKNOWN + path.removeprefix("network").removeprefix("."): None}
    return [Value(frozenset([name])) for name in names]
