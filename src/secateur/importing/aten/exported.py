"""What torch.export traced, without the weights: with any network of the same kind it is a Program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from torch import Tensor, fx, nn
from torch.export.graph_signature import ExportGraphSignature, InputKind, OutputKind
from torch.utils._sympy.numbers import int_oo

from secateur.errors import ExportError
from secateur.importing.aten.held import Constant
from secateur.importing.aten.lengths import Declared, symbols_of
from secateur.importing.aten.translation import Program, needed
from secateur.network.signature import Signature
from secateur.network.sizes import Dimension, Size

_ENTRIES = (InputKind.PARAMETER, InputKind.BUFFER)


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Traced operations. constants: tensors that forward reads and the state dict lacks, by their place in it.

    called: how forward is called. symbols: in traced sizes, as lengths with names.
    """

    graph: fx.Graph
    signature: ExportGraphSignature
    constants: Mapping[str, Tensor]
    called: Signature
    symbols: Mapping[Any, Dimension] = field(default_factory=dict)

    def program(self, network: nn.Module) -> Program:
        """The operations over this network's weights. Raises ExportError for state and outputs that are no tensors."""
        specs = {spec.arg.name: spec for spec in self.signature.input_specs}
        state = network.state_dict(keep_vars=True)
        names, constants = _first_names(state), dict[str, Constant]()
        inputs: list[fx.Node] = []
        known: dict[fx.Node, Any] = {}
        for node in self.graph.find_nodes(op="placeholder"):
            spec: Any = specs[node.name]
            if spec.kind is not InputKind.USER_INPUT:
                tensor = self._tensor(network, spec)
                own = spec.target if spec.target not in state or spec.kind in _ENTRIES else ""
                name = names.get(_memory(tensor), own)
                known[node] = constants.setdefault(name or node.name, Constant(tensor, name))
            elif isinstance(node.meta.get("val"), Tensor):
                inputs.append(node)
            else:
                known[node] = spec.arg.value
        operations = [node for node in self.graph.nodes if node.op == "call_function"]
        outputs = _outputs(network, self.graph, self.signature)
        return Program(
            network, operations, inputs, outputs, known, frozenset(state), symbols=self.symbols, signature=self.called
        )

    def _tensor(self, network: nn.Module, spec: Any) -> Tensor:
        if spec.target in self.constants:
            return self.constants[spec.target].detach()
        if spec.kind not in _ENTRIES:
            raise ExportError(f"{type(network).__name__}'s forward uses {spec.target!r}, which is no tensor")
        held: Any = network
        for name in spec.target.split("."):
            held = getattr(held, name)
        return cast("Tensor", held).detach()


def traced(program: Any, called: Signature, sizes: Declared = ()) -> Trace:
    """program: a torch.export.ExportedProgram. The constants are its own, not copies. Raises ExportError for sizes that
    the network does not take."""
    constants = {name: each for name, each in program.constants.items() if isinstance(each, Tensor)}
    symbols = _symbols(program, sizes) if sizes else {}
    called = replace(called, most=_longest(program, symbols))
    return Trace(program.graph, program.graph_signature, constants, called, symbols)


def _longest(program: Any, symbols: Mapping[Any, Dimension]) -> tuple[tuple[str, int], ...]:
    """Of lengths that are no longer than a table, or where the network does something else."""
    found: dict[str, int] = {}
    for symbol, length in symbols.items():
        most = program.range_constraints[symbol].upper if symbol in program.range_constraints else int_oo
        if most != int_oo:
            slope, name, offset = _line(length)
            found[name] = min(found.get(name, int(most)), (int(most) - offset) // slope)
    return tuple(found.items())


def _symbols(program: Any, sizes: Declared) -> dict[Any, Dimension]:
    own = {spec.arg.name for spec in program.graph_signature.input_specs if spec.kind is InputKind.USER_INPUT}
    inputs = [node for node in program.graph.find_nodes(op="placeholder") if node.name in own]
    tensors = [(node.name, node.meta["val"].shape) for node in inputs if isinstance(node.meta.get("val"), Tensor)]
    return symbols_of(sizes, tensors)


def _line(length: Dimension) -> tuple[int, str, int]:
    """(a, name, b) of a·name + b."""
    line = length.line if isinstance(length, Size) else None
    if line is None or line[0] < 1:
        raise ExportError(f"the network does something else where {length} is long, which a graph cannot")
    return line


def _outputs(network: nn.Module, graph: fx.Graph, signature: ExportGraphSignature) -> list[fx.Node]:
    """What the network returns. Raises ExportError where that depends on a buffer that forward changes."""
    (output,) = graph.find_nodes(op="output")
    specs = list(zip(signature.output_specs, output.args[0], strict=True))
    found = [each for spec, each in specs if spec.kind is OutputKind.USER_OUTPUT]
    unchanged = (OutputKind.USER_OUTPUT, OutputKind.USER_INPUT_MUTATION)
    read = {node.name for node in needed(list(graph.nodes), found)}
    targets = {spec.target for spec in signature.input_specs if spec.arg.name in read}
    for spec, _ in specs:
        if spec.kind not in unchanged and spec.target in targets:
            name = type(network).__name__
            raise ExportError(f"{name}: its forward changes buffer {spec.target!r}; a graph has no state")
    return found


def _first_names(state: Mapping[str, Any]) -> dict[tuple[Any, ...], str]:
    """Memory → the first name in the state dict that stands for it."""
    names: dict[tuple[Any, ...], str] = {}
    for name, tensor in state.items():
        if isinstance(tensor, Tensor) and tensor.numel() > 0:
            names.setdefault(_memory(tensor), name)
    return names


def _memory(tensor: Tensor) -> tuple[Any, ...]:
    return (tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype)
