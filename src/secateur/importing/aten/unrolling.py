"""Recurrent layers traced as one operation each: PyTorch's stand-ins run every step, for one number of steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import _VF, Tensor

_LIBRARY = torch.library.Library("secateur", "DEF")  # type: ignore[no-untyped-call]
_STATES = {"lstm": 2, "gru": 1, "rnn_tanh": 1, "rnn_relu": 1}


def _schema(name: str) -> str:
    given = "Tensor[] hx" if _STATES[name] > 1 else "Tensor hx"
    made = ", ".join(["Tensor"] * (1 + _STATES[name]))
    return (
        f"{name}(Tensor input, {given}, Tensor[] params, bool has_biases, int num_layers, float dropout, bool train, "
        f"bool bidirectional, bool batch_first) -> ({made})"
    )


def _shapes(name: str) -> Callable[..., tuple[Tensor, ...]]:
    """What PyTorch's own operation gives, without its numbers."""

    def made(input: Tensor, hx: Any, *rest: Any) -> tuple[Tensor, ...]:
        states = list(hx) if _STATES[name] > 1 else [hx]
        width = states[0].shape[-1] * (2 if rest[5] else 1)
        return (input.new_empty((*input.shape[:-1], width)), *(torch.empty_like(each) for each in states))

    return made


for _name in _STATES:
    _LIBRARY.define(_schema(_name))  # type: ignore[no-untyped-call]
    _LIBRARY.impl(_name, getattr(torch.ops.aten, _name).input, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"secateur::{_name}", _shapes(_name), lib=_LIBRARY)


@contextmanager
def whole_layers() -> Iterator[None]:
    """Inside, nn.LSTM, nn.GRU and nn.RNN call one operation, however many steps there are."""
    for name in _STATES:
        setattr(_VF, name, _calling(name))
    try:
        yield
    finally:
        for name in _STATES:
            delattr(_VF, name)


def _calling(name: str) -> Callable[..., Any]:
    own, whole = getattr(_VF, name), getattr(torch.ops.secateur, name)

    def call(input: Tensor, second: Any, *rest: Any) -> Any:
        packed = isinstance(second, Tensor) and not isinstance(rest[0], Sequence)  # of several lengths
        return own(input, second, *rest) if packed else whole(input, second, *rest)

    return call
