"""Modules that a Graph cannot hold whatever they are made of: named as such, not by an operation inside them."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

UNHELD: tuple[type[nn.Module], ...] = (
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
    nn.MultiheadAttention,
    *(nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell),
    *(nn.Embedding, nn.EmbeddingBag),
)
HELD = (
    "a graph holds convolutions, linear layers, normalisation, pooling, activations, sums, products and changes of "
    "shape"
)


def first_unheld(network: nn.Module, paths: Iterable[str] | None = None) -> str:
    """Why the first such module (of those at `paths`, outermost first) cannot be held; empty where there is none."""
    for path in paths if paths is not None else (path for path, _ in network.named_modules()):
        module = network.get_submodule(path)
        kind = next((each.__name__ for each in UNHELD if isinstance(module, each)), "")
        if kind:
            own = "" if type(module).__name__ == kind else f" ({type(module).__name__})"
            where = f"module {path!r}" if path else "the network"
            return f"{where}{own}: {kind} is not supported; {HELD}"
    return ""
