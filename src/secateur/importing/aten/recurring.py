"""LSTM, GRU and RNN: for each layer and direction a linear layer over all steps, and what runs from step to step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from secateur.importing.aten.calls import Call, Conversion
from secateur.importing.aten.held import Constant
from secateur.importing.aten.reading import anywhere
from secateur.importing.placing import Place, Placed
from secateur.network import composites
from secateur.network.graph import Weight
from secateur.network.sizes import is_whole

_STATES = {"lstm": 2}
_ACTIVATIONS = {"rnn_tanh": "tanh", "rnn_relu": "relu"}


@dataclass(frozen=True, slots=True)
class _Run:
    """h and c (…, T, H) after each step of a layer in one direction, and after the last (…, H); c of an LSTM only."""

    steps: tuple[str, ...]
    last: tuple[str, ...]


def _recurrent(call: Call) -> list[str | Placed]:
    """The output, and the last states of all layers and directions (layers · directions, …, H)."""
    value, place = call.anywhere()
    first = bool(call["batch_first"])
    if place.rank(call.size(value)) != 3 or place.right != (3 if first else 2):
        raise call.error("takes sequences with the batch as its second dimension, or its first with batch_first=True")
    swapped = bool(place.fold) and not first  # (T, m, C) for each image
    value = composites.permute(call.build, value, (2, 1, 3)) if swapped else value
    last: list[tuple[str, ...]] = []
    directions = 2 if call["bidirectional"] else 1
    parameters, states = list(_parameters(call, directions)), _states(call)
    for layer in range(int(call["num_layers"])):
        runs = []
        for reverse in range(directions):
            at = layer * directions + reverse
            runs.append(_run(call, value, parameters[at], [each[at] for each in states], bool(reverse)))
        outputs = [run.steps[0] for run in runs]
        value = outputs[0] if directions == 1 else call.emit("concat", *outputs, axis=len(call.size(outputs[0])))
        last += [run.last for run in runs]
    value = composites.permute(call.build, value, (2, 1, 3)) if swapped else value
    ends = [composites.stack(call.build, list(each), 1) for each in zip(*last, strict=True)]
    return [call.placed(value, place), *(call.placed(each, Place(2, place.fold)) for each in ends)]


def _parameters(call: Call, directions: int) -> Iterator[Sequence[Constant]]:
    """Of each layer and direction: both matrices, both biases where there are any, and what projects the state."""
    held = list(call["params"])
    each = len(held) // (int(call["num_layers"]) * directions)
    if not all(isinstance(parameter, Constant) for parameter in held):
        raise call.error("has weights that depend on the input")
    return (held[at : at + each] for at in range(0, len(held), each))


def _states(call: Call) -> list[Any]:
    """The states that it begins with, for each kind those of each layer and direction; none where all are zero."""
    given = call["hx"]
    held = given if isinstance(given, (list, tuple)) else [given]
    if all(isinstance(each, Constant) and not bool(each.tensor.any()) for each in held):
        return []
    return [_unstacked(call, each) for each in held]


def _unstacked(call: Call, held: Any) -> list[str]:
    if isinstance(held, Placed) and held.place.right == 2:
        return composites.unbind(call.build, held.base, 1)
    if isinstance(held, Constant) and held.tensor.shape[1] == 1:
        parts = held.tensor[:, 0]
        return [call.build.value(call.bits(Constant(part.clone()), "state")) for part in parts]
    raise call.error("takes initial states with the batch elsewhere than in their second dimension")


def _run(call: Call, value: str, parameters: Sequence[Constant], states: Sequence[str], reverse: bool) -> _Run:
    if len(parameters) % 2:
        return _projected(call, value, parameters, states, reverse)
    inward, matrix, *biases = parameters
    outer, inner = _biases(call, biases)
    given = call.emit("linear", value, weights={"weight": call.bits(inward, "weight_ih"), **outer})
    weights = {"weight": call.bits(matrix, "weight_hh"), **inner}
    made = call.emit(_op(call), given, *states, weights=weights, reverse=reverse, **_attributes(call))
    size, axis = matrix.tensor.shape[1], len(call.size(made))
    parts = [size] * _STATES.get(call.name, 1)
    steps = tuple(composites.split(call.build, made, axis, parts))
    count = call.size(made)[axis - 2]
    return _Run(
        steps, tuple(composites.select(call.build, each, axis - 1, 0 if reverse else count - 1) for each in steps)
    )


def _projected(call: Call, value: str, parameters: Sequence[Constant], states: Sequence[str], reverse: bool) -> _Run:
    """An LSTM whose h is a product of a matrix with what it would be: step by step, as many as the example has."""
    inward, matrix, *biases, projection = parameters
    bias = {"bias": call.bits(Constant(biases[0].tensor + biases[1].tensor), "bias")} if biases else {}
    given = call.emit("linear", value, weights={"weight": call.bits(inward, "weight_ih"), **bias})
    axis = len(call.size(given)) - 1
    if not is_whole((count := call.size(given)[axis - 1],)):
        raise call.error(f"with proj_size along a length ({count}) is not supported: expected one number of steps")
    inputs = composites.unbind(call.build, given, axis)
    hidden, cell = states or (None, None)
    found: list[str] = []
    for gates in reversed(inputs) if reverse else inputs:
        if hidden is not None:
            fed = call.emit("linear", hidden, weights={"weight": call.bits(matrix, "weight_hh")})
            gates = call.emit("add", gates, fed)
        made, cell = _lstm_step(call, gates, cell)
        hidden = call.emit("linear", made, weights={"weight": call.bits(projection, "weight_hr")})
        found.append(hidden)
    assert hidden is not None
    assert cell is not None
    steps = composites.stack(call.build, found[::-1] if reverse else found, axis)
    return _Run((steps,), (hidden, cell))


def _op(call: Call) -> str:
    return "rnn" if call.name in _ACTIVATIONS else call.name


def _attributes(call: Call) -> dict[str, str]:
    return {"activation": _ACTIVATIONS[call.name]} if call.name in _ACTIVATIONS else {}


def _biases(call: Call, biases: Sequence[Constant]) -> tuple[dict[str, Weight], dict[str, Weight]]:
    """What is added to the linear layer, and what inside: of a GRU its new state's own, as it stands behind a gate."""
    if not biases:
        return {}, {}
    one, other = (each.tensor for each in biases)
    if call.name != "gru":
        return {"bias": call.bits(Constant(one + other), "bias")}, {}
    gates = 2 * len(one) // 3
    apart = torch.cat([torch.zeros_like(other[:gates]), other[gates:]])
    return {"bias": call.bits(Constant(one + other - apart), "bias")}, {"bias": call.bits(Constant(apart), "bias_hh")}


def _lstm_cell(call: Call) -> tuple[str, str]:
    """One step: new h and c."""
    hidden, cell = call["hx"]
    return _lstm_step(call, call.emit("add", *_fed(call, hidden)), call.value_of(cell))


def _lstm_step(call: Call, gates: str, before: str | None) -> tuple[str, str]:
    """before: c, none where it is zeros."""
    axis = len(call.size(gates))
    enter, forget, new, out = composites.split(call.build, gates, axis, [call.size(gates)[-1] // 4] * 4)
    cell = call.emit("mul", call.emit("sigmoid", enter), call.emit("tanh", new))
    if before is not None:
        cell = call.emit("add", call.emit("mul", call.emit("sigmoid", forget), before), cell)
    return call.emit("mul", call.emit("sigmoid", out), call.emit("tanh", cell)), cell


def _gru_cell(call: Call) -> str:
    before = call.value("hx")
    given, fed = _fed(call, call["hx"])
    size, axis = call.size(before)[-1], len(call.size(given))
    (reset, update, new), inner = (composites.split(call.build, each, axis, [size] * 3) for each in (given, fed))
    gates = [call.emit("sigmoid", call.emit("add", *pair)) for pair in ((reset, inner[0]), (update, inner[1]))]
    made = call.emit("tanh", call.emit("add", new, call.emit("mul", gates[0], inner[2])))
    return call.emit("add", made, call.emit("mul", gates[1], call.emit("sub", before, made)))


def _rnn_cell(call: Call) -> str:
    return call.emit("tanh" if call.name == "rnn_tanh_cell" else "relu", call.emit("add", *_fed(call, call["hx"])))


def _fed(call: Call, state: Any) -> tuple[str, str]:
    """The linear layers of what comes in and of the state."""
    inward = {**call.weight("w_ih", "weight"), **call.weight("b_ih", "bias")}
    matrix = {**call.weight("w_hh", "weight"), **call.weight("b_hh", "bias")}
    given = call.emit("linear", call.value("input"), weights=inward)
    return given, call.emit("linear", call.value_of(state), weights=matrix)


CONVERSIONS: dict[str, Conversion] = {
    **dict.fromkeys(("lstm", "gru", *_ACTIVATIONS), _recurrent),
    "lstm_cell": anywhere(lambda call: list(_lstm_cell(call))),
    "gru_cell": anywhere(_gru_cell),
    **dict.fromkeys(("rnn_tanh_cell", "rnn_relu_cell"), anywhere(_rnn_cell)),
}
