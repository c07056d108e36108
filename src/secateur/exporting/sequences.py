"""Products of values, attention and recurrent layers in ONNX: what `exporting.onnx` makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from secateur.network.graph import Node

if TYPE_CHECKING:
    from secateur.exporting.onnx import Translation

Made = Callable[["Translation", Node], None]


def matmul(made: Translation, node: Node) -> None:
    left, right = (made.raised(node, name, len(node.shape)) for name in node.inputs)
    made.add("MatMul", [left, _turned(made, node, right) if node.attributes["transposed"] else right], node.name)


def _turned(made: Translation, node: Node, value: str) -> str:
    """With the last two axes exchanged."""
    rank = len(node.shape)
    return made.step("Transpose", [value], node, perm=(*range(rank - 1), rank, rank - 1))


def attention(made: Translation, node: Node) -> None:
    """As ONNX has it from operator set 23 on, by its parts."""
    rank = len(node.shape)
    query, key, value, *masks = (made.raised(node, name, rank) for name in node.inputs)
    heads, keys = node.shape[-3], made.shapes[node.inputs[1]][-3:-1]
    if heads != keys[0]:
        key, value = (_repeated(made, node, each, heads // keys[0]) for each in (key, value))
    scale = made.number(f"{node.name}.scale", node.number("scale"))
    scores = made.step("Mul", [made.step("MatMul", [query, _turned(made, node, key)], node), scale], node)
    lowest = made.number(f"{node.name}.lowest", -np.inf)
    for name, mask in zip(node.inputs[3:], masks, strict=True):
        if made.graph.value_elements[name] == "bool":
            scores = made.step("Where", [mask, scores, lowest], node)
        else:
            scores = made.step("Add", [scores, mask], node)
    if node.attributes["causal"]:
        scores = made.step("Where", [_before(made, node, node.shape[-2], keys[1]), scores, lowest], node)
    shares = made.step("Softmax", [scores], node, axis=-1)
    if masks:  # of queries that see nothing
        nothing = made.step("IsNaN", [shares], node)
        shares = made.step("Where", [nothing, made.number(f"{node.name}.nothing", 0), shares], node)
    made.add("MatMul", [shares, value], node.name)


def _repeated(made: Translation, node: Node, heads: str, times: int) -> str:
    """Each head so many times, one after another."""
    rank = len(node.shape)
    axes = made.tensor(f"{node.name}.axes", np.array([rank - 1]))
    each = made.step("Unsqueeze", [heads, axes], node)
    sizes = made.tensor(f"{node.name}.times", np.array([*(1,) * (rank - 1), times, 1, 1]))
    spread = made.step("Expand", [each, sizes], node)
    shape = [
        made.step("Shape", [heads], node, start=0, end=rank - 2),
        made.tensor(f"{node.name}.heads", np.array([-1])),
    ]
    shape.append(made.step("Shape", [heads], node, start=rank - 1))
    return made.step("Reshape", [spread, made.step("Concat", shape, node, axis=0)], node)


def _before(made: Translation, node: Node, queries: Any, keys: Any) -> str:
    """(queries, keys), whether a key does not come after the query."""
    sizes = made.step("Concat", [made.size(queries), made.size(keys)], node, axis=0)
    ones = made.step("Expand", [made.number(f"{node.name}.one", 1), sizes], node)
    return made.step("Cast", [made.step("Trilu", [ones], node, upper=0)], node, to=made.onnx.TensorProto.BOOL)


def cumsum(made: Translation, node: Node) -> None:
    made.add("CumSum", [node.inputs[0], made.tensor(f"{node.name}.axis", np.array(node.whole("axis")))], node.name)


# ---- Recurrent layers ----


def lstm(made: Translation, node: Node) -> None:
    """ONNX's own keeps no cell but the last: where another is read, step by step."""
    size = node.shape[-1] // 2
    readers = [] if node.name in made.graph.outputs else made.graph.consumers()[node.name]
    of_states = [_cuts(reader, len(node.shape), size) for reader in readers]
    lasting = all(fits or _is_last_cell(made, node, reader) for fits, reader in zip(of_states, readers, strict=True))
    if not (readers and lasting and _is_plain(made, node)):
        _scanned(made, node, 2, _lstm_step)
        return
    cell = "" if all(of_states) else made.fresh(f"{node.name}.cell")
    hidden = _native(made, node, "LSTM", (0, 3, 1, 2), last=["", cell] if cell else [])
    made.add("Concat", [hidden, _at_every_step(made, node, cell, hidden) if cell else hidden], node.name, axis=-1)


def _cuts(reader: Node, axis: int, size: int) -> bool:
    """Whether a node takes the first numbers along an axis and no more."""
    stop = reader.attributes.get("stop")
    return reader.op == "slice" and reader.attributes["axis"] == axis and isinstance(stop, int) and stop <= size


def _is_last_cell(made: Translation, node: Node, reader: Node) -> bool:
    """Whether a node takes cells of which others only take that of the last step."""
    rank, size = len(node.shape), node.shape[-1] // 2
    start = reader.attributes.get("start")
    if reader.op != "slice" or reader.attributes["axis"] != rank or not isinstance(start, int) or start < size:
        return False
    if reader.name in made.graph.outputs:
        return bool(node.shape[-2] == 1)
    last = 0 if node.attributes["reverse"] else node.shape[-2] - 1
    return node.shape[-2] == 1 or all(
        each.op == "slice" and (each.attributes["axis"], each.attributes["start"]) == (rank - 1, last)
        and each.attributes["stop"] == last + 1
        for each in made.graph.consumers()[reader.name]
    )  # fmt: skip


def _at_every_step(made: Translation, node: Node, cell: str, hidden: str) -> str:
    """The last cell (1, N, H) as if it had been there all the time, as only the last is read."""
    turned = made.step("Transpose", [cell], node, perm=(1, 0, 2))
    return made.step("Expand", [turned, made.step("Shape", [hidden], node)], node)


def gru(made: Translation, node: Node) -> None:
    if _is_plain(made, node):
        made.add("Identity", [_native(made, node, "GRU", (1, 0, 2), linear_before_reset=1)], node.name)
        return
    _scanned(made, node, 1, _gru_step)


def rnn(made: Translation, node: Node) -> None:
    activation = {"tanh": "Tanh", "relu": "Relu"}[str(node.attributes["activation"])]
    if _is_plain(made, node):
        made.add("Identity", [_native(made, node, "RNN", (0,), activations=[activation])], node.name)
        return

    def step(body: _Body, x: str, fed: str, states: Sequence[str]) -> list[str]:
        return [body(activation, body("Add", x, fed))]

    _scanned(made, node, 1, step)


def _is_plain(made: Translation, node: Node) -> bool:
    """Whether there is one sequence an image, whose numbers are images' own."""
    return len(node.shape) == 2 and not made.fixed.intersection(node.inputs)


def _native(
    made: Translation, node: Node, op: str, order: tuple[int, ...], last: Sequence[str] = (), **attributes: Any
) -> str:
    """The states (N, T, H) of an operation of ONNX's. order: its gates, by their places here. last: names of its
    outputs behind the first."""
    size = made.graph.weights[node.weights["weight"]].shape[1]
    source, given, bias = _given(made, node)

    def ordered(rows: Any) -> Any:
        return np.concatenate([rows.reshape(len(order), size, -1)[gate] for gate in order])

    fed = _values(made, node, "bias", np.zeros(len(order) * size))
    weight = made.graph.weights[node.weights["weight"]].values()
    biases = np.concatenate([ordered(bias)[:, 0], ordered(fed)[:, 0]])
    tensors = [made.tensor(f"{node.name}.{name}", each[None]) for name, each in (
        ("given", ordered(given)), ("fed", ordered(weight)), ("biases", biases))]  # fmt: skip
    steps = made.step("Transpose", [source], node, perm=(1, 0, 2))
    before = node.inputs[1:]
    front = made.tensor(f"{node.name}.front", np.array([0])) if before else ""
    states = [made.step("Unsqueeze", [name, front], node) for name in before]
    direction = "reverse" if node.attributes["reverse"] else "forward"
    inputs = [steps, *tensors, "", *states]
    hidden = made.fresh(f"{node.name}.{op.lower()}")
    own = {"hidden_size": size, "direction": direction, **attributes}
    made.nodes.append(made.onnx.helper.make_node(op, inputs, [hidden, *last], name=hidden, **own))
    flat = made.step("Squeeze", [hidden, made.tensor(f"{node.name}.one", np.array([1]))], node)
    return made.step("Transpose", [flat], node, perm=(1, 0, 2))


def _given(made: Translation, node: Node) -> tuple[str, Any, Any]:
    """What is multiplied before the recurrence, with what weights and biases: the layer before it, or nothing yet."""
    width = made.shapes[node.inputs[0]][-1]
    layer = next((each for each in made.graph.nodes if each.name == node.inputs[0]), None)
    if layer is None or layer.op != "linear":
        return node.inputs[0], np.eye(width), np.zeros(width)
    weight = made.graph.weights[layer.weights["weight"]].values()
    return layer.inputs[0], weight, _values(made, layer, "bias", np.zeros(width))


def _values(made: Translation, node: Node, role: str, default: Any) -> Any:
    name = node.weights.get(role)
    return default if name is None else made.graph.weights[name].values()


class _Body:
    """What makes an operation of a step, and gives the name of its output."""

    def __init__(self, made: Translation, node: Node) -> None:
        self.made, self.node = made, node

    def __call__(self, op: str, *inputs: str, **attributes: Any) -> str:
        return self.made.step(op, inputs, self.node, **attributes)

    def parts(self, value: str, count: int) -> list[str]:
        """So many along the last axis."""
        names = [self.made.fresh(f"{self.node.name}.part") for _ in range(count)]
        make = self.made.onnx.helper.make_node
        self.made.nodes.append(make("Split", [value], names, name=names[0], axis=-1, num_outputs=count))
        return names


Step = Callable[[_Body, str, str, Sequence[str]], list[str]]
"""The states after a step, for what it is given, what is fed back, and the states before."""


def _lstm_step(body: _Body, x: str, fed: str, states: Sequence[str]) -> list[str]:
    enter, forget, new, out = body.parts(body("Add", x, fed), 4)
    kept = body("Mul", body("Sigmoid", forget), states[1])
    cell = body("Add", kept, body("Mul", body("Sigmoid", enter), body("Tanh", new)))
    return [body("Mul", body("Sigmoid", out), body("Tanh", cell)), cell]


def _gru_step(body: _Body, x: str, fed: str, states: Sequence[str]) -> list[str]:
    (reset, update, new), (of_reset, of_update, of_new) = body.parts(x, 3), body.parts(fed, 3)
    gate = body("Sigmoid", body("Add", reset, of_reset))
    kept = body("Sigmoid", body("Add", update, of_update))
    fresh = body("Tanh", body("Add", new, body("Mul", gate, of_new)))
    return [body("Add", fresh, body("Mul", kept, body("Sub", states[0], fresh)))]


def _scanned(made: Translation, node: Node, states: int, step: Step) -> None:
    """Step by step, by a graph for one of them. states: how many a step hands to the next."""
    body, rank, alike = _Body(made, node), len(node.shape), not made.fixed.issuperset(node.inputs)
    x, *first = [made.spread(name) if alike else name for name in node.inputs]
    first = first or [_zeros(made, node, x)] * states
    weight = body("Transpose", made.weight(node, "weight"), perm=(1, 0))
    bias = made.weight(node, "bias")
    outer, made.nodes = made.nodes, []
    names = [made.fresh(f"{node.name}.{name}") for name in [*("state",) * states, "step"]]
    fed = body("MatMul", names[0], weight)
    found = step(body, names[-1], body("Add", fed, bias) if bias else fed, names[:-1])
    last = [*(body("Identity", each) for each in found), body("Concat", *found, axis=-1)]
    inner, made.nodes = made.nodes, outer
    helper = made.onnx.helper

    def values(these: Sequence[str]) -> list[Any]:
        return [helper.make_tensor_value_info(name, made.onnx.TensorProto.FLOAT, None) for name in these]

    finals = [made.fresh(f"{node.name}.final") for _ in range(states)]
    axis, backwards = rank - 1, int(bool(node.attributes["reverse"]))
    attributes: dict[str, Any] = {f"scan_{side}_axes": [axis] for side in ("input", "output")}
    attributes |= {f"scan_{side}_directions": [backwards] for side in ("input", "output")}
    graph = helper.make_graph(inner, made.fresh(f"{node.name}.body"), values(names), values(last))
    made.nodes.append(
        helper.make_node(
            "Scan", [*first, x], [*finals, node.name], name=node.name, body=graph, num_scan_inputs=1, **attributes
        )
    )


def _zeros(made: Translation, node: Node, x: str) -> str:
    """The first state of sequences (N, …, T, gates · H): (N, …, H)."""
    rank, size = len(node.shape), made.graph.weights[node.weights["weight"]].shape[1]
    around = made.step("Shape", [x], node, start=0, end=rank - 1)
    sizes = made.step("Concat", [around, made.tensor(f"{node.name}.size", np.array([size]))], node, axis=0)
    return made.step("Expand", [made.number(f"{node.name}.zero", 0), sizes], node)
