"""LSTM, GRU and RNN: for each direction a linear layer over all steps, and what runs from step to step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from secateur.importing.onnx.calls import Call, Conversion, Made, Refused
from secateur.importing.onnx.tensors import Constant
from secateur.importing.placing import Place
from secateur.network import composites
from secateur.network.graph import Weight
from secateur.network.sizes import is_whole

_ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
"""The gates of a graph by their places in ONNX."""
_MOST_STEPS = 1 << 10
"""Of what is laid out step by step."""
_USUAL = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}


@dataclass(frozen=True, slots=True)
class Run:
    """h and c (…, T, H) after each step in one direction, and after the last (…, H); c of an LSTM only."""

    steps: tuple[str, ...]
    last: tuple[str, ...]


def _recurrent(call: Call) -> Made:
    _check(call)
    value, place, swapped = _sequence(call)
    backwards = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
    direction = str(call.attribute("direction", "forward"))
    if direction not in backwards:
        raise Refused(f"has direction {direction!r}")
    runs = [_run(call, value, at, reverse) for at, reverse in enumerate(backwards[direction])]
    return _outputs(call, runs, place, swapped)


def _check(call: Call) -> None:
    """Raises Refused for what a graph's recurrent layers do not do."""
    count = 2 if call.attribute("direction", "forward") == "bidirectional" else 1
    usual = [_USUAL[call.op]] + ([["Relu"]] if call.op == "RNN" else [])
    given = [str(each, "utf-8") if isinstance(each, bytes) else each for each in call.attribute("activations", [])]
    if given and not any([each.lower() for each in given] == [own.lower() for own in some] * count for some in usual):
        raise Refused(f"has activations {', '.join(given)}, which are not supported")
    if call.attribute("clip") or call.flag("input_forget"):
        raise Refused("clips, or couples its gates, which is not supported")
    if call.has(4):
        lengths, steps = call.numbers(4, "lengths"), call.tensor(0).shape[1 if call.flag("layout") else 0]
        if not is_whole(steps) or (lengths != steps).any():
            raise Refused("has sequences of different lengths, which are not supported")


def _sequence(call: Call) -> tuple[str, Place | None, bool]:
    """(…, T, I) of what each image is, and whether another axis was put in front of the time."""
    tensor = call.tensor(0)
    if tensor.rank != 3:
        raise Refused(f"takes {tensor.rank} dimensions: expected 3")
    first = call.flag("layout")
    if tensor.place is None or tensor.place.fold:
        if tensor.place is not None and tensor.batch_axis != (0 if first else 1):
            raise Refused("has the batch elsewhere than its second dimension")
        return (tensor.base if first else composites.permute(call.build, tensor.base, (2, 1, 3))), tensor.place, True
    if tensor.batch_axis != (0 if first else 1):
        raise Refused("has the batch elsewhere than its second dimension")
    return tensor.base, tensor.place, False


def _run(call: Call, value: str, at: int, reverse: bool) -> Run:
    size = int(call.numbers(2, "weights").shape[-1])
    inward, matrix = (_ordered(call, place, at, size) for place in (1, 2))
    early = call.op == "GRU" and not call.flag("linear_before_reset")
    outer, inner = _biases(call, at, size, early)
    given = call.emit("linear", value, weights={"weight": inward, **outer})
    if early:
        return _resetting_first(call, given, matrix, _states(call, at, given), reverse)
    if call.has(7) and call.numbers(7, "peepholes").any():
        return _peeping(call, given, matrix, at, reverse)
    made = call.emit(
        call.op.lower(),
        given,
        *_states(call, at, given),
        weights={"weight": matrix, **inner},
        reverse=reverse,
        **_activation(call, at),
    )
    rank = len(call.build.shape(made))
    steps = tuple(composites.split(call.build, made, rank, [size] * (2 if call.op == "LSTM" else 1)))
    count = call.build.shape(made)[rank - 2]
    place = 0 if reverse else count - 1
    return Run(steps, tuple(composites.select(call.build, each, rank - 1, place) for each in steps))


def _resetting_first(call: Call, given: str, matrix: Weight, states: Sequence[str], reverse: bool) -> Run:
    """A GRU that resets its state before it multiplies it (Cho et al. 2014), step by step."""
    build, size = call.build, matrix.shape[1]
    rank, count = len(build.shape(given)), _steps(call, given, "resets before it multiplies")
    gates = build.variant(matrix, ("gates of", 0), lambda bits: np.ascontiguousarray(bits[: 2 * size]))
    fresh = build.variant(matrix, ("gates of", 1), lambda bits: np.ascontiguousarray(bits[2 * size :]))
    call.translation.count(12 * count)
    state, steps = states[0] if states else "", []
    for step in range(count)[:: -1 if reverse else 1]:
        now = composites.select(build, given, rank - 1, step)
        both, new = composites.split(build, now, rank - 1, [2 * size, size])
        both = call.emit("add", both, call.emit("linear", state, weights={"weight": gates})) if state else both
        reset, kept = composites.split(build, call.emit("sigmoid", both), rank - 1, [size, size])
        if state:
            left = call.emit("linear", call.emit("mul", reset, state), weights={"weight": fresh})
            new = call.emit("tanh", call.emit("add", new, left))
            state = call.emit("add", new, call.emit("mul", kept, call.emit("sub", state, new)))
        else:
            new = call.emit("tanh", new)
            state = call.emit("sub", new, call.emit("mul", kept, new))
        steps.append(state)
    return Run((composites.stack(build, steps[:: -1 if reverse else 1], rank - 1),), (state,))


def _peeping(call: Call, given: str, matrix: Weight, at: int, reverse: bool) -> Run:
    """An LSTM whose gates see its cell (Gers and Schmidhuber 2000), step by step."""
    build, size = call.build, matrix.shape[1]
    rank, count = len(build.shape(given)), _steps(call, given, "has peepholes")
    seen = call.numbers(7, "peepholes")[at].astype(np.float32).reshape(3, size)
    into, out, kept = (call.weight_of(Constant(each, "float32")) for each in seen)
    call.translation.count(24 * count)
    state, cell = _states(call, at, given) or ["", ""]
    steps = []

    def gate(part: str, peephole: Weight) -> str:
        part = call.emit("add", part, call.emit("mul", cell, peephole)) if cell else part
        return call.emit("sigmoid", part)

    for step in range(count)[:: -1 if reverse else 1]:
        now = composites.select(build, given, rank - 1, step)
        now = call.emit("add", now, call.emit("linear", state, weights={"weight": matrix})) if state else now
        enters, stays, new, leaves = composites.split(build, now, rank - 1, [size] * 4)
        added = call.emit("mul", gate(enters, into), call.emit("tanh", new))
        cell = call.emit("add", call.emit("mul", gate(stays, kept), cell), added) if cell else added
        state = call.emit("mul", gate(leaves, out), call.emit("tanh", cell))
        steps.append(state)
    return Run((composites.stack(build, steps[:: -1 if reverse else 1], rank - 1),), (state, cell))


def _steps(call: Call, given: str, why: str) -> int:
    """How many steps are laid out. why: those are."""
    count = call.build.shape(given)[-2]
    if not isinstance(count, int) or count > _MOST_STEPS:
        raise Refused(f"{why}, along {count} steps: expected a number up to {_MOST_STEPS}")
    return count


def _activation(call: Call, at: int) -> dict[str, str]:
    if call.op != "RNN":
        return {}
    given = [str(each, "utf-8") if isinstance(each, bytes) else each for each in call.attribute("activations", [])]
    return {"activation": given[at].lower() if given else "tanh"}


def _ordered(call: Call, place: int, at: int, size: int) -> Any:
    """The matrix of a direction, its gates in a graph's order."""
    weight, order = call.weight(place, "weights"), _ORDER[call.op]
    if len(weight.shape) != 3 or weight.shape[1] != len(order) * size or at >= weight.shape[0]:
        raise Refused(f"has weights {weight.shape} for states of {size}")
    return call.build.variant(weight, ("gates", at), lambda bits: _by_gate(bits[at], order))


def _by_gate(rows: Any, order: Sequence[int]) -> Any:
    parts = rows.reshape(len(order), -1, *rows.shape[1:])
    return np.ascontiguousarray(parts[list(order)].reshape(rows.shape))


def _biases(call: Call, at: int, size: int, early: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is added to the linear layer, and what inside: of a GRU its new state's own where that stands behind a gate.

    early: whether what is behind that gate is the state alone.
    """
    if not call.has(3):
        return {}, {}
    order = _ORDER[call.op]
    both = call.numbers(3, "biases")[at].astype(np.float32).reshape(2, len(order), size)[:, list(order)]
    inside = np.zeros_like(both[1])
    if call.op == "GRU" and not early:
        inside[2] = both[1, 2]
    outside = both[0] + both[1] - inside
    weights = [call.weight_of(Constant(each.reshape(-1), "float32")) for each in (outside, inside)]
    return {"bias": weights[0]}, {"bias": weights[1]} if call.op == "GRU" else {}


def _states(call: Call, at: int, given: str) -> list[str]:
    """h, and c of an LSTM, that a direction begins with: none where all are zero."""
    places = (5, 6) if call.op == "LSTM" else (5,)
    if not any(map(call.has, places)) or all(_is_zero(call, place) for place in places):
        return []
    return [_state(call, place, at, given) for place in places]


def _is_zero(call: Call, place: int) -> bool:
    held = call.held[place] if call.has(place) else None
    return held is None or (isinstance(held, Constant) and held.array.dtype != object and not held.array.any())


def _state(call: Call, place: int, at: int, given: str) -> str:
    """(…, H) of what is (directions, N, H), or (N, directions, H)."""
    around = call.build.shape(given)[:-2]
    size = int(call.numbers(2, "weights").shape[-1])
    if not call.has(place):
        return call.build.value(call.weight_of(Constant(np.zeros((*around, size), np.float32), "float32")))
    tensor = call.tensor(place)
    first = call.flag("layout")
    axis = call.axis(1 if first else 0, tensor)
    made = composites.select(call.build, tensor.base, axis, at)
    if call.build.shape(made) == (1, size) and not around:
        return composites.reshape(call.build, made, (size,))
    return made


def _outputs(call: Call, runs: Sequence[Run], place: Place | None, whole: bool) -> Made:
    """Y (T, D, N, H), Y_h and Y_c (D, N, H); with layout (N, T, D, H) and (N, D, H)."""
    first = call.flag("layout")
    steps = [run.steps[0] for run in runs]
    rank = len(call.build.shape(steps[0]))
    every = composites.stack(call.build, steps, rank)  # (…, T, D, H)
    ends = [
        composites.stack(call.build, list(each), rank - 1) for each in zip(*(run.last for run in runs), strict=True)
    ]
    if whole and not first:
        every = composites.permute(call.build, every, (2, 3, 1, 4))
        ends = [composites.permute(call.build, each, (2, 1, 3)) for each in ends]
    fold = place.fold if place is not None else ""
    places = [place and Place(right, fold) for right in ((4, 3) if first else (2, 2))]
    return [call.made(every, places[0]), *(call.made(each, places[1]) for each in ends)]


CONVERSIONS: dict[str, Conversion] = dict.fromkeys(_ORDER, _recurrent)
