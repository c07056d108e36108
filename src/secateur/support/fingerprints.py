"""What tells one live object's code from another's: functions and classes by what they do, wherever they stand."""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Iterator
from typing import Any

from secateur.support.sources import bare_code, functions_of, is_foreign

_DEEP = 12
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_DIGITS = 16


def code_digest(value: Any) -> str:
    """Sixteen hex digits of a function, class or instance: of its code, of what that closes over, and of the user's own
    functions, classes and constants that it names. What lies in installed packages counts by its name."""
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
    if isinstance(value, (tuple, list, set, frozenset)):
        parts: list[Any] = list(value)
    elif isinstance(value, dict):
        parts = [each for pair in value.items() for each in pair]
    else:
        yield _name(value)
        parts = _parts(value)
    for part in parts:
        yield from _told(part, seen, depth + 1)


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
    return [type(value), *(each for each in getattr(value, "__dict__", {}).values() if isinstance(each, _PLAIN))]


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
