"""What was found out about how a network runs, which holds for its copies with other weights: remembered as long as it
lives and is made of the same modules."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from torch import nn

Found = TypeVar("Found")

_PLAIN = (bool, int, float, str, type(None))
_FOUND: WeakKeyDictionary[nn.Module, dict[Hashable, Any]] = WeakKeyDictionary()


def habit(network: nn.Module, question: Hashable, find: Callable[[], Found]) -> Found:
    """What find() gives, asked once for a question and the network's modules and nature as they are now."""
    known = _FOUND.setdefault(network, {})
    key = question, nature(network), *(id(each) for each in network.modules())
    if key not in known:
        known[key] = find()
    found: Found = known[key]
    return found


def nature(network: nn.Module) -> Hashable:
    """What a forward may go by beside values of tensors: the types of modules, their hooks and plain attributes."""
    return tuple(
        (
            type(each),
            len(each._forward_hooks),
            len(each._forward_pre_hooks),
            *((name, value) for name, value in vars(each).items() if isinstance(value, _PLAIN) and name != "training"),
        )
        for each in network.modules()
    )
