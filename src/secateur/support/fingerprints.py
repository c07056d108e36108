"""What tells one live object's code from another's: functions and classes by what they do, wherever they stand."""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Iterator
from typing import Any

import numpy as np

from secateur.support.sources import bare_code, functions_of, is_foreign

_DEEP = 12
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_DIGITS = 16
_HELD = ("_parameters", "_buffers", "_modules")
"""Where a PyTorch module keeps what it computes with."""


def code_digest(value: Any) -> str:
    """Sixteen hex digits of a function, class or instance: of its code, of what that closes over, and of the user's own
    functions, classes and constants that it names. What lies in installed packages counts by its name, arrays and
    tensors by their bytes, an instance by what it holds."""
    told = hashlib.sha256()
    for part in _told(value, {}, 0):
        told.update(part.encode())
        told.update(b"\n")
    return told.hexdigest()[:_DIGITS]


def has_code(kind: type, method: str) -> bool:
    """Whether a class's method is Python, or lies in an installed package: whether versions of it can be told apart."""
    found = getattr(kind, method, None)
    return is_foreign(kind.__module__) or any(functions_of(found))


def _told(value: Any, seen: dict[int, Any], depth: int) -> Iterator[str]:
    if isinstance(value, _PLAIN):
        yield repr(value)
        return
    if id(value) in seen or depth > _DEEP:
        return
    seen[id(value)] = value  # kept alive, so that no id comes twice
    if isinstance(value, (set, frozenset)):  # in an order that is every process's
        yield repr(sorted(map(code_digest, value)))
        return
    if hasattr(value, "__array__") and not isinstance(value, type):
        yield _numbers(value)
        return
    yield from _told_of_parts(value, seen, depth)


def _told_of_parts(value: Any, seen: dict[int, Any], depth: int) -> Iterator[str]:
    if isinstance(value, (tuple, list)):
        parts: list[Any] = list(value)
    elif isinstance(value, dict):
        parts = [each for pair in value.items() for each in pair]
    else:
        yield _name(value)
        parts = _parts(value)
    yield str(len(parts))
    for part in parts:
        yield from _told(part, seen, depth + 1)


def _numbers(value: Any) -> str:
    """Of an array, or a tensor of PyTorch: type, shape and a digest of its values."""
    held = value.detach().cpu() if hasattr(value, "detach") else value
    try:
        found = np.asarray(held)
    except (TypeError, RuntimeError):  # bfloat16, sparse
        return repr((str(held.dtype), held.to_dense().tolist()))
    content = repr(found.tolist()).encode() if found.dtype.hasobject else np.ascontiguousarray(found).tobytes()
    return repr((str(held.dtype) if hasattr(held, "dtype") else "", found.shape, hashlib.sha256(content).hexdigest()))


def _name(value: Any) -> str:
    named = value if hasattr(value, "__qualname__") else type(value)
    return str(getattr(named, "__qualname__", ""))


def _parts(value: Any) -> list[Any]:
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, types.FunctionType):
        return _parts_of_function(value)
    if isinstance(value, type):
        if is_foreign(value.__module__):
            return [value.__module__]
        own = [member for name, member in vars(value).items() if name not in ("__dict__", "__weakref__", "__doc__")]
        return [*value.__bases__, *(function for member in own for function in functions_of(member)),
                *(member for member in own if isinstance(member, _PLAIN))]  # fmt: skip
    if isinstance(value, types.ModuleType | types.BuiltinFunctionType):
        return []
    return [type(value), *_attributes(value)]


def _attributes(value: Any) -> Iterator[Any]:
    """What an instance holds; of one of an installed class nothing that is private, and no further instances."""
    if not hasattr(value, "__dict__"):
        told = repr(value)
        yield from () if " at 0x" in told else [told]  # an address is another in each process
        return
    foreign, bare = is_foreign(type(value).__module__), (*_PLAIN, tuple, list, dict, set, frozenset)
    for name, each in sorted(vars(value).items(), key=lambda pair: str(pair[0])):
        if hasattr(value, "_modules") and (name == "training" or "hook" in name):
            continue
        open_to_all = not name.startswith("_") and (isinstance(each, bare) or hasattr(each, "__array__"))
        if not foreign or name in _HELD or open_to_all or isinstance(each, _PLAIN):
            yield from (name, each)


def _parts_of_function(function: types.FunctionType) -> list[Any]:
    if is_foreign(function.__module__ or ""):
        return [function.__module__]
    named = [function.__globals__[name] for name in _names(function.__code__) if name in function.__globals__]
    closed = [cell.cell_contents for cell in function.__closure__ or () if _is_full(cell)]
    return [repr(bare_code(function.__code__)), *closed, function.__defaults__, function.__kwdefaults__, *named]


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            yield from _names(each)


def _is_full(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
