"""What products of values and operations along sequences mean, in NumPy and float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from secateur.network.nodes import Node
from secateur.network.operations.declaration import Array, Weights
from secateur.network.operations.meanings import pieces, sigmoid


def _aligned(node: Node, inputs: Sequence[Array]) -> list[Array]:
    """Inputs with as many axes as the output."""
    return [x.reshape(len(x), *(1,) * (len(node.shape) + 1 - x.ndim), *x.shape[1:]) for x in inputs]


def matmul(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    left, right = _aligned(node, inputs)
    return left @ (right.swapaxes(-1, -2) if node.attributes["transposed"] else right)


def attention(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    """Vaswani et al. 2017, equation 1; of several queries for each key and value, Ainslie et al. 2023.

    So many queries at a time that their scores take little memory.
    """
    query, key, value, *masks = _aligned(node, inputs)
    shared = query.shape[-3] // key.shape[-3]
    key, value = (np.repeat(each, shared, axis=-3) for each in (key, value))
    around = np.broadcast_shapes(
        query.shape[:-2], key.shape[:-2], value.shape[:-2], *(mask.shape[:-2] for mask in masks)
    )
    made = np.empty((*around, query.shape[-2], value.shape[-1]))
    seen = [*masks, np.tri(query.shape[-2], key.shape[-2], dtype=bool)] if node.attributes["causal"] else masks
    for part in pieces(query.shape[-2], math.prod(around) * key.shape[-2]):
        scores = node.number("scale") * (query[..., part, :] @ key.swapaxes(-1, -2))
        for mask in seen:
            mask = mask if mask.shape[-2] == 1 else mask[..., part, :]
            scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
        made[..., part, :] = _attended(scores, value)
    return made


def _attended(scores: Array, value: Array) -> Array:
    """Values in the shares of a softmax of the last axis; zeros where all scores are −∞."""
    most = scores.max(axis=-1, keepdims=True, initial=-np.inf)
    risen = np.exp(scores - np.where(np.isneginf(most), 0, most))
    total = risen.sum(axis=-1, keepdims=True)
    made: Array = (risen @ value) / np.where(total == 0, 1, total)
    return made


def lstm(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    """Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000; gates in the order i, f, g, o."""

    def step(given: Array, fed: Array, states: Sequence[Array]) -> tuple[Array, ...]:
        enter, forget, new, out = np.split(given + fed, 4, axis=-1)
        cell = sigmoid(forget) * states[1] + sigmoid(enter) * np.tanh(new)
        return sigmoid(out) * np.tanh(cell), cell

    return _recurrence(node, inputs, weights, 2, step)


def gru(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    """Cho et al. 2014, with the reset gate behind the matrix; gates in the order r, z, n."""

    def step(given: Array, fed: Array, states: Sequence[Array]) -> tuple[Array, ...]:
        reset, update, new = np.split(given, 3, axis=-1)
        of_reset, of_update, of_new = np.split(fed, 3, axis=-1)
        kept = sigmoid(update + of_update)
        return ((1 - kept) * np.tanh(new + sigmoid(reset + of_reset) * of_new) + kept * states[0],)

    return _recurrence(node, inputs, weights, 1, step)


def rnn(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    """Elman 1990."""
    linear = node.attributes["activation"] == "relu"

    def step(given: Array, fed: Array, states: Sequence[Array]) -> tuple[Array, ...]:
        return (np.maximum(given + fed, 0) if linear else np.tanh(given + fed),)

    return _recurrence(node, inputs, weights, 1, step)


Step = Callable[[Array, Array, Sequence[Array]], tuple[Array, ...]]
"""The states after a step, for its own numbers, W h + b, and the states before it."""


def _recurrence(node: Node, inputs: Sequence[Array], weights: Weights, states: int, step: Step) -> Array:
    """The states (N, …, H) after each step, side by side. states: how many there are."""
    given, matrix = inputs[0], weights["weight"].astype(np.float64)
    bias = weights.get("bias", np.zeros(len(matrix)))
    batch = np.broadcast_shapes(*((len(x),) for x in inputs))[0]
    now: Sequence[Array] = inputs[1:] or [np.zeros((batch, *given.shape[1:-2], matrix.shape[1]))] * states
    made = np.empty((batch, *node.shape))
    for at in _steps(node, given.shape[-2]):
        now = step(given[..., at, :], now[0] @ matrix.T + bias, now)
        made[..., at, :] = np.concatenate(now, axis=-1)
    return made


def _steps(node: Node, count: int) -> Iterator[int]:
    return iter(range(count - 1, -1, -1) if node.attributes["reverse"] else range(count))


def cumsum(node: Node, inputs: Sequence[Array], weights: Weights) -> Array:
    return np.cumsum(inputs[0], axis=node.whole("axis"), dtype=inputs[0].dtype)
