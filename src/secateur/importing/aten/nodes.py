"""What a node of a traced program says of itself: its operation, its arguments, the module that it is of."""

from __future__ import annotations

import re
from typing import Any

from torch import fx, nn


def are_alike(one: Any, other: Any, depth: int = 4) -> bool:
    """Whether two arguments are one node, or nodes that do the same with the same, so many deep."""
    if one is other or not (isinstance(one, fx.Node) and isinstance(other, fx.Node)):
        return one is other or (not isinstance(one, fx.Node) and bool(one == other))
    if depth == 0 or one.target is not other.target or one.kwargs != other.kwargs or len(one.args) != len(other.args):
        return False
    pairs = zip(one.args, other.args, strict=True)
    return one.op == "call_function" and all(are_alike(*pair, depth - 1) for pair in pairs)


def arguments_of(node: fx.Node) -> dict[str, Any]:
    """What an operation is called with, nodes or plain values, by the names of its schema, defaults included."""
    schema = getattr(node.target, "_schema", None)
    expected = schema.arguments if schema else []
    given = dict(zip((each.name for each in expected), node.args, strict=False)) | dict(node.kwargs)
    return {each.name: given.get(each.name, each.default_value) for each in expected}


def describe(network: nn.Module, node: fx.Node) -> str:
    """An operation and the module that it is of, for messages."""
    path, module = module_of(node, network)
    where = f"module {path!r} ({module})" if path else f"{module}'s forward"
    return f"{where}: {operation_of(node)}"


def operation_of(node: fx.Node) -> str:
    """The name of the operation that a node calls, without its namespace and overload."""
    schema = getattr(node.target, "_schema", None)
    return schema.name.split("::")[-1] if schema else str(node.target)


def module_of(node: fx.Node, network: nn.Module) -> tuple[str, str]:
    """The path of the innermost module that ran the node, and its type."""
    stack = _stack(node)
    traced = "the network" if isinstance(network, fx.GraphModule) else type(network)
    path, kind = stack[-1] if stack else ("", traced)
    name = kind if isinstance(kind, str) else kind.__name__
    return path, name.split(".")[-1]


def _stack(node: fx.Node) -> list[tuple[str, Any]]:
    """(path, type) of the modules that ran a node, outermost first. Dynamo says L['self'] for the network."""
    held = [each for each in (node.meta.get("nn_module_stack") or {}).values() if isinstance(each, tuple)]
    return [(re.sub(r"^L\['\w+'\]\.?|@\d+", "", str(path)), kind) for path, kind in held]
