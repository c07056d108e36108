"""Operations that ONNX itself says in terms of others, put in their place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from secateur.importing.onnx.loading import DEFAULT_DOMAINS
from secateur.importing.onnx.tensors import Constant
from secateur.importing.onnx.values import Held, Tensor
from secateur.network.sizes import is_whole

if TYPE_CHECKING:
    from secateur.importing.onnx.translation import Translation


def expanded(translation: Translation, node: Any, held: Sequence[Held | None]) -> list[Any] | None:
    """The nodes that a node stands for, None where ONNX knows none. Inner names are its own."""
    onnx = translation.onnx
    if node.domain not in (*DEFAULT_DOMAINS, "ai.onnx.preview.training"):
        return None
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
        if name and isinstance(each, (Constant, Tensor))
    ]
    outputs = [translation.onnx.ValueInfoProto(name=name) for name in node.output if name]
    graph = helper.make_graph([node], "function", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(node.domain, version)])


def _described(translation: Translation, name: str, held: Constant | Tensor) -> Any:
    helper, proto = translation.onnx.helper, translation.onnx.TensorProto
    kinds = {"float32": proto.FLOAT, "float64": proto.DOUBLE, "bool": proto.BOOL}
    kind = kinds.get(held.format) or getattr(proto, held.format.upper())
    sizes = [size if is_whole(size) else None for size in held.shape]
    return helper.make_tensor_value_info(name, kind, sizes)


def _with_own_names(translation: Translation, node: Any, nodes: Sequence[Any]) -> list[Any]:
    outer = {*node.input, *node.output}
    before = f"{node.name or node.output[0]}."
    made = []
    for each in nodes:
        copy = translation.onnx.NodeProto()
        copy.CopyFrom(each)
        copy.name = f"{before}{each.name or each.op_type}"
        for names in (copy.input, copy.output):
            for at, name in enumerate(names):
                names[at] = name if name in outer or not name else f"{before}{name}"
        made.append(copy)
    return made
