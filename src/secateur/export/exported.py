"""What torch.export traced, as a Program: which nodes are inputs, which are weights, and by which name."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind, OutputKind

from secateur.errors import ExportError
from secateur.export.translation import Constant, Program


def exported_program(network: nn.Module, program: Any) -> Program:
    """program: an ExportedProgram of the network. Raises ExportError where it has state or gives more than tensors."""
    graph, specs = program.graph, {spec.arg.name: spec for spec in program.graph_signature.input_specs}
    inputs, known = [], {}
    first_names = _first_names(network)
    constants: dict[str, Constant] = {}
    for node in graph.find_nodes(op="placeholder"):
        spec = specs[node.name]
        if spec.kind is InputKind.USER_INPUT:
            inputs.append(node)
            continue
        held = program.state_dict.get(spec.target)
        tensor = (program.constants[spec.target] if held is None else held).detach()
        name = first_names.get(_memory(tensor), spec.target)
        known[node] = constants.setdefault(name, Constant(tensor, name))
    operations = [node for node in graph.nodes if node.op == "call_function"]
    return Program(network, operations, inputs, _outputs(network, program), known)


def _outputs(network: nn.Module, program: Any) -> list[fx.Node]:
    (output,) = program.graph.find_nodes(op="output")
    found, name = [], type(network).__name__
    for spec, each in zip(program.graph_signature.output_specs, output.args[0], strict=True):
        if spec.kind is OutputKind.USER_OUTPUT:
            if not isinstance(each, fx.Node) or not isinstance(each.meta.get("val"), Tensor):
                raise ExportError(f"{name}'s forward: output is {each}: expected tensors only")
            found.append(each)
        elif spec.kind is not OutputKind.USER_INPUT_MUTATION:
            raise ExportError(f"{name}: its forward changes buffer {spec.target!r}; a graph has no state")
    return found


def _first_names(network: nn.Module) -> dict[tuple[Any, ...], str]:
    """Memory → the first name in the state dict that stands for it."""
    names: dict[tuple[Any, ...], str] = {}
    for name, tensor in network.state_dict(keep_vars=True).items():
        if isinstance(tensor, Tensor) and tensor.numel() > 0:
            names.setdefault(_memory(tensor), name)
    return names


def _memory(tensor: Tensor) -> tuple[Any, ...]:
    return (tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype)
