"""Operations that ONNX itself says in terms of others, put in their place."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import TYPE_CHECKING, Any

from secateur.importing.onnx.loading import DEFAULT_DOMAINS, graphs_of
from secateur.importing.onnx.tensors import Constant, kind_of
from secateur.importing.onnx.values import Held, Tensor
from secateur.network.sizes import is_whole

if TYPE_CHECKING:
    from secateur.importing.onnx.translation import Translation


def expanded(translation: Translation, node: Any, held: Sequence[Held | None]) -> list[Any] | None:
    """The nodes that a node stands for, None where ONNX knows none. Inner names are its own."""
    onnx = translation.onnx
    version = translation.version_of(node.domain)
    try:
        schema = onnx.defs.get_schema(node.op_type, version, "" if node.domain in DEFAULT_DOMAINS else node.domain)
    except onnx.defs.SchemaError:
        return None
    if not (schema.has_function or schema.has_context_dependent_function):
        return None
    alone = _alone(translation, _with_defaults(translation, node, schema), held, version)
    try:
        inlined = onnx.inliner.inline_selected_functions(
            alone, [(node.domain, node.op_type)], inline_schema_functions=True
        )
    except Exception:  # of functions that ask for more than is known of their inputs
        return None
    nodes = list(inlined.graph.node)
    if any(each.op_type == node.op_type and each.domain == node.domain for each in nodes):
        return None
    return _with_own_names(translation, node, nodes)


def _with_defaults(translation: Translation, node: Any, schema: Any) -> Any:
    """The node with every attribute that it leaves out and that has a default."""
    made = translation.onnx.NodeProto()
    made.CopyFrom(node)
    own = {each.name for each in node.attribute}
    for name, declared in schema.attributes.items():
        if name not in own and declared.default_value.name:
            made.attribute.append(declared.default_value)
    return made


def _alone(translation: Translation, node: Any, held: Sequence[Held | None], version: int) -> Any:
    """A model of one node, whose inputs are said as far as they are known."""
    helper = translation.onnx.helper
    inputs = [
        _described(translation, name, each)
        for name, each in dict(zip(node.input, held, strict=False)).items()
        if isinstance(each, (Constant, Tensor))
    ]
    if "" in node.input:  # ONNX asks of what kind it is, though nothing reads it
        inputs.append(helper.make_tensor_value_info("", translation.onnx.TensorProto.FLOAT, None))
    outputs = [translation.onnx.ValueInfoProto(name=name) for name in node.output if name]
    graph = helper.make_graph([node], "function", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(node.domain, version)])


def _described(translation: Translation, name: str, held: Constant | Tensor) -> Any:
    sizes = [size if is_whole(size) else None for size in held.shape]
    return translation.onnx.helper.make_tensor_value_info(name, kind_of(held.format), sizes)


def _with_own_names(translation: Translation, node: Any, nodes: Sequence[Any]) -> list[Any]:
    outer = {"", *node.input, *node.output}
    before = f"{node.name or node.output[0]}."
    made = []
    for each in nodes:
        copy = translation.onnx.NodeProto()
        copy.CopyFrom(each)
        copy.name = f"{before}{each.name or each.op_type}"
        _rename(copy, before, outer)
        made.append(copy)
    return made


def _rename(node: Any, before: str, outer: Set[str]) -> None:
    """Values are called otherwise, but for outer ones: those of graphs inside of a node as well."""
    for names in (node.input, node.output):
        names[:] = [name if name in outer else f"{before}{name}" for name in names]
    for graph in graphs_of(node):
        for value in (*graph.input, *graph.output, *graph.initializer):
            value.name = value.name if value.name in outer else f"{before}{value.name}"
        for each in graph.node:
            _rename(each, before, outer)
