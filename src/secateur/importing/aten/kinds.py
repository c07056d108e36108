"""What a traced program depends on beside its inputs and the values in the state dict: a network's kind."""

from __future__ import annotations

import enum
import hashlib
import types
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Kind = tuple[Any, ...]

_PLAIN = (
    *(type(None), bool, int, complex, str, bytes, type, enum.Enum, types.ModuleType, types.BuiltinFunctionType),
    *(torch.dtype, torch.device, torch.layout, torch.memory_format, types.MethodDescriptorType),
)
"""Compared by their own equality."""
_NOT_TRACED = {"training", "_backward_hooks", "_backward_pre_hooks", "_is_full_backward_hook", "_state_dict_hooks"}
"""Attributes of a module that change nothing of what it computes in evaluation mode."""


class _Unknown(Exception):
    """Something of which it cannot be told whether two are alike."""


def kind_of(network: nn.Module) -> Kind | None:
    """Classes, attributes, hooks and everything else a network holds, but for the values of its state dict.

    Two networks of one kind are traced alike, and kinds are compared with ==. Tensors outside of the state dict count
    by their bytes. None where something is held that cannot be compared.
    """
    try:
        return _Description(network).of(network)
    except Exception:  # _Unknown, and whatever a user's objects raise when they are looked at
        return None


class _Description:
    def __init__(self, network: nn.Module) -> None:
        self._entries: dict[int, str] = {}
        self._memory: set[int] = set()
        self._seen: dict[int, int] = {}
        self._held: list[object] = []  # so that no id comes twice
        for name, each in network.state_dict(keep_vars=True).items():
            if isinstance(each, Tensor):
                self._entries.setdefault(id(each), name)
                self._memory.add(_storage(each))

    def of(self, value: Any) -> Kind:
        if isinstance(value, float):
            return ("float", value.hex())
        if isinstance(value, _PLAIN):
            return (type(value), value)
        if id(value) in self._seen:
            return ("again", self._seen[id(value)])
        if not isinstance(value, (tuple, frozenset)):  # equal ones may be one thing or two
            self._seen[id(value)] = len(self._seen)
            self._held.append(value)
        return (type(value), *self._parts(value))

    def _parts(self, value: Any) -> Iterable[Any]:
        for kinds, describe in self._DESCRIBED:
            if isinstance(value, kinds):
                return describe(self, value)
        return self._reduced(value)

    def _all(self, values: Iterable[Any]) -> Kind:
        return tuple(self.of(each) for each in values)

    def _mapping(self, value: Mapping[Any, Any]) -> Kind:
        return self._all(part for pair in value.items() for part in pair)

    def _set(self, value: Iterable[Any]) -> Kind:
        return tuple(sorted((self.of(each) for each in value), key=repr))

    def _tensor(self, value: Tensor) -> Kind:
        if id(value) in self._entries:
            return (self._entries[id(value)], value.dtype, tuple(value.shape), value.is_contiguous())
        if value.layout is not torch.strided or value.is_meta or _storage(value) in self._memory:
            raise _Unknown  # what shares memory with an entry changes with it
        return (value.dtype, tuple(value.shape), _digest(value.detach().cpu().contiguous().view(-1).view(torch.uint8)))

    def _array(self, value: np.ndarray[Any, Any]) -> Kind:
        if value.dtype.hasobject:
            raise _Unknown
        return (value.dtype.str, value.shape, hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest())

    def _module(self, value: nn.Module) -> Kind:
        """Hooks without the numbers that they are filed under."""
        found = []
        for name, held in vars(value).items():
            if name not in _NOT_TRACED:
                hooks = name.endswith("_hooks") and isinstance(held, Mapping)
                found.append((name, self._all(held.values()) if hooks else self.of(held)))
        return tuple(found)

    def _function(self, value: types.FunctionType) -> Kind:
        cells = [each.cell_contents for each in value.__closure__ or ()]
        return (value.__code__, self.of(value.__defaults__), self.of(value.__kwdefaults__), self._all(cells))

    def _method(self, value: types.MethodType) -> Kind:
        return (self.of(value.__func__), self.of(value.__self__))

    def _reduced(self, value: Any) -> Kind:
        """By what it would be pickled as."""
        try:
            reduced = value.__reduce_ex__(4)
        except Exception as error:  # locks, files and whatever else cannot be copied
            raise _Unknown from error
        if isinstance(reduced, str):
            raise _Unknown
        return self._all(list(each) if hasattr(each, "__next__") else each for each in reduced)

    _DESCRIBED: tuple[tuple[Any, Callable[[_Description, Any], Kind]], ...] = (
        (Tensor, _tensor),
        (np.ndarray, _array),
        (nn.Module, _module),
        (Mapping, _mapping),
        ((set, frozenset), _set),
        ((list, tuple, deque), _all),
        (types.FunctionType, _function),
        (types.MethodType, _method),
    )


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata if tensor.layout is torch.strided else 0


def _digest(flat: Tensor) -> str:
    return hashlib.sha256(flat.numpy().tobytes()).hexdigest()
