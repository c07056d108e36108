"""What was found out about how a network runs, which holds for its copies with other weights: remembered as long as it
lives and is made of the same modules."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from weakref import WeakKeyDictionary

from torch import nn

_FOUND: WeakKeyDictionary[nn.Module, dict[Hashable, bool]] = WeakKeyDictionary()


def habit(network: nn.Module, question: Hashable, find: Callable[[], bool]) -> bool:
    """What find() gives, asked once for a question and the network's modules and hooks as they are now."""
    made_of = tuple(
        (id(each), type(each), len(each._forward_hooks), len(each._forward_pre_hooks)) for each in network.modules()
    )
    known = _FOUND.setdefault(network, {})
    key = question, made_of
    if key not in known:
        known[key] = find()
    return known[key]
