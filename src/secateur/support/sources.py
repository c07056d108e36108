"""Which files of a user's own a callable's behaviour depends on, and what was in them when Python loaded them."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import hashlib
import importlib.machinery
import importlib.util
import inspect
import itertools
import marshal
import site
import sys
import sysconfig
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from typing import Any

_DIGITS = 16
_MANY = 10_000
_DEEP = 12
"""Wrappers within wrappers, or containers within containers, that are looked into."""


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A file as it was when Python loaded its module; token changes when the module is loaded again.

    source: its bytes then. current: whether they are known to be what was loaded.
    """

    token: object
    path: Path
    source: bytes
    current: bool
    constants: tuple[tuple[str, Any], ...]
    imports: tuple[str, ...]


class _Namespace:
    """A module that is not in sys.modules, by its names: one loaded from a path, say."""

    def __init__(self, names: dict[str, Any]) -> None:
        self.__dict__ = names


_LOADED: dict[str, _Loaded] = {}
_UNLISTED: dict[str, _Namespace] = {}
_DIGESTS: dict[str, tuple[Any, tuple[tuple[str, object], ...], str]] = {}


def loaded_now(modules: Iterable[str]) -> None:
    """Remember the files of modules that were imported this moment, those that are a user's own."""
    for name in modules:
        _look(name)


def source_digest(reference: str, found: Callable[..., Any]) -> str:
    """Sixteen hex digits of the code behind "package.module:callable": of its file, and of every other file of the
    user's own that it imports or refers to; as they were when they were loaded. "" where there is no code.

    Files of installed packages and of Python are not followed. The digest of one file that needs no other is that of
    its bytes.
    """
    if reference in _DIGESTS:
        known, tokens, digest = _DIGESTS[reference]
        if known is found and all(_token(name) is token for name, token in tokens):
            return digest
    modules = _reachable(reference, found)
    digest = _digest(modules, found)
    _DIGESTS[reference] = found, tuple((name, loaded.token) for name, loaded in modules.items()), digest
    return digest


def former_digest(found: Callable[..., Any]) -> str:
    """What source_digest was in earlier versions, which looked at one file."""
    try:
        source = Path(inspect.getsourcefile(found) or "").read_bytes()
    except (OSError, TypeError):
        return ""
    return _hashed(source)


def planned_digest(reference: str, found: Callable[..., Any]) -> str:
    """What source_digest will be once Python has loaded the files as they are now."""
    _DIGESTS.pop(reference, None)  # what a program has set in modules meanwhile is looked at again
    return source_digest(reference, found) if not edited_files(reference, found) else _digest(
        {name: dataclasses.replace(loaded, source=_bytes(loaded.path) or b"", current=True)
         for name, loaded in _reachable(reference, found).items()},
        found,
    )  # fmt: skip


def edited_files(reference: str, found: Callable[..., Any]) -> list[Path]:
    """The files behind a callable that hold something else now than what Python has loaded."""
    return [
        loaded.path
        for loaded in _reachable(reference, found).values()
        if not loaded.current or _bytes(loaded.path) != loaded.source
    ]


def _digest(modules: dict[str, _Loaded], found: Any) -> str:
    parts = {name: _part(name, loaded) for name, loaded in modules.items()}
    if not parts:
        return former_digest(found) or _code_digest(found)
    if len(parts) == 1:
        return next(iter(parts.values()))
    return _hashed("\n".join(f"{name} {part}" for name, part in sorted(parts.items())).encode())


def _part(name: str, loaded: _Loaded) -> str:
    """Of a file's bytes; and of the constants that a program has set to something else than the file does."""
    module = _module(name)
    differing = [
        f"{constant} = {now!r}"
        for constant, then in loaded.constants
        if type(now := getattr(module, constant, then)) is type(then) and now != then
    ]
    if loaded.current and not differing:
        return _hashed(loaded.source)
    return _hashed("\n".join([_hashed(loaded.source), *differing, *([] if loaded.current else ["not this"])]).encode())


def _hashed(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGITS]


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _reachable(reference: str, found: Any) -> dict[str, _Loaded]:
    """The user's own modules that a callable needs, by name, the one that names it among them."""
    _UNLISTED.clear()
    left = [reference.partition(":")[0], *_modules_of(found)]
    modules: dict[str, _Loaded] = {}
    while left:
        name = left.pop()
        if name in modules or (loaded := _look(name)) is None:
            continue
        modules[name] = loaded
        left += loaded.imports
        if module := _module(name):
            left += _modules_of(list(vars(module).values()))
    return modules


def _modules_of(value: Any, seen: dict[int, Any] | None = None, depth: int = 0) -> Iterator[str]:
    """The modules in which the parts of a callable are defined: what a partial, a decorator, a method, an instance or a
    class holds."""
    seen = {} if seen is None else seen
    if id(value) in seen or depth > _DEEP:
        return
    seen[id(value)] = value  # kept alive, so that no id comes twice
    if isinstance(value, types.ModuleType):
        yield _noted(vars(value))
        return
    other = _other_file(value) if isinstance(value, types.FunctionType) else None
    for name in (getattr(value, "__module__", None), getattr(type(value), "__module__", None), other):
        if isinstance(name, str):
            yield name
    for part in _parts(value):
        yield from _modules_of(part, seen, depth + 1)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, types.MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, (staticmethod, classmethod)):
        return [value.__func__]
    if isinstance(value, property):
        return [value.fget, value.fset]
    if isinstance(value, types.FunctionType):
        _noted(value.__globals__)
        return [*_closed_over(value), *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values(),
                getattr(value, "__wrapped__", None)]  # fmt: skip
    if isinstance(value, type):
        own = [] if is_foreign(value.__module__) else list(vars(value).values())
        return [*value.__mro__[1:], type(value), *own]
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)[:_MANY]
    if isinstance(value, dict):
        return list(value.values())[:_MANY]
    if dataclasses.is_dataclass(value):
        return [type(value), *(getattr(value, field.name, None) for field in dataclasses.fields(value))]
    if is_foreign(type(value).__module__):
        return [getattr(value, "__wrapped__", None)]
    return [type(value), *getattr(value, "__dict__", {}).values()]


def _noted(names: dict[str, Any]) -> str:
    """The name of the module that a function's globals are."""
    name = str(names.get("__name__", ""))
    if name not in sys.modules:
        _UNLISTED[name] = _Namespace(names)
    return name


def _other_file(function: types.FunctionType) -> str | None:
    """The name of a file that was run in a function's module and is not that module's own."""
    path = function.__code__.co_filename
    if path == function.__globals__.get("__file__") or not _is_file(path):
        return None
    name = f"({Path(path).name})"
    _UNLISTED.setdefault(name, _ran_file(name, path))
    return name


@functools.cache
def _ran_file(name: str, path: str) -> _Namespace:
    return _Namespace({"__name__": name, "__file__": path})


@functools.cache
def _is_file(path: str) -> bool:
    return path.endswith(".py") and Path(path).is_file()


def _module(name: str) -> types.ModuleType | _Namespace | None:
    return sys.modules.get(name) or _UNLISTED.get(name)


def _closed_over(function: types.FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:
            continue


def is_foreign(module: str) -> bool:
    return _own_path(_spec(module), _module(module)) is None


def _look(name: str) -> _Loaded | None:
    """A module's file as it was when it was first seen here, None where it is none of the user's own."""
    module, token = _module(name), _token(name)
    known = _LOADED.get(name)
    if known and known.token is token and module is not None:
        return known
    path = _own_path(_spec(name), module)
    source = _bytes(path) if path else None
    if path is None or source is None:
        return None
    if known and module is None and (known.path, known.source) == (path, source):
        return known
    tree = _parsed(source)
    current = module is None or _is_loaded_from(module, source, path)
    imports = tuple(_imports(tree, _package(name, _spec(name)))) if tree else ()
    _LOADED[name] = _Loaded(token, path, source, current, tuple(_constants(tree)) if tree else (), imports)
    return _LOADED[name]


def _token(name: str) -> object:
    """Another object whenever a module is loaded again; None where it is not loaded."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__spec__", None)
    return vars(_UNLISTED[name]) if name in _UNLISTED else None


def _spec(name: str) -> ModuleSpec | None:
    """Of a module that is loaded, else what an import would find; nothing is imported for it."""
    if _module(name):
        return getattr(_module(name), "__spec__", None)
    path: Any = None
    found = None
    steps = name.split(".")
    for end in range(1, len(steps) + 1):
        found = _find(".".join(steps[:end]), path)
        if found is None:
            return None
        path = found.submodule_search_locations
    return found


def _find(name: str, path: Any) -> ModuleSpec | None:
    if name in sys.modules and (spec := getattr(sys.modules[name], "__spec__", None)):
        return spec
    for finder in sys.meta_path:
        try:
            found = finder.find_spec(name, path)
        except Exception:
            continue
        if found:
            return found
    return None


def _package(name: str, spec: ModuleSpec | None) -> str:
    if spec is not None:
        return spec.parent or ""
    return getattr(_module(name), "__package__", None) or name.rpartition(".")[0]


def _own_path(spec: ModuleSpec | None, module: object) -> Path | None:
    """The file of a module that is neither Python's, nor installed, nor Secateur's."""
    origin = spec.origin if spec is not None and spec.has_location else getattr(module, "__file__", None)
    if not isinstance(origin, str):
        return None
    path = Path(origin).absolute()
    return None if _is_installed(path) else path


@functools.cache
def _is_installed(path: Path) -> bool:
    if {"site-packages", "dist-packages"} & set(path.parts):
        return True
    return any(folder in (path.resolve().parents if resolved else path.parents)
               for folder in _installed_folders() for resolved in (False, True))  # fmt: skip


@functools.cache
def _installed_folders() -> frozenset[Path]:
    named = [*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()]
    python = {Path(each) for each in named if Path(each) != Path(sys.prefix)}
    return frozenset(each for each in python if len(each.parts) > 1) | {Path(__file__).absolute().parents[1]}


def _parsed(source: bytes) -> ast.Module | None:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError):
        return None


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    """The modules that a file names in imports, wherever in it, and as texts for importlib."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                yield from itertools.accumulate(each.name.split("."), "{}.{}".format)
        elif isinstance(node, ast.ImportFrom):
            yield from _imported_from(node, package)
        elif isinstance(node, ast.Call) and (named := _imported_by_call(node)):
            yield from filter(None, [_resolved(named, package)])


def _imported_from(node: ast.ImportFrom, package: str) -> Iterator[str]:
    """Of `from package import names` the submodules that are named, and the package itself for all other names."""
    base = _resolved("." * node.level + (node.module or ""), package)
    if base is None:
        return
    submodules = {f"{base}.{each.name}" for each in node.names if _is_module(f"{base}.{each.name}")}
    yield from submodules
    if len(submodules) < len(node.names):
        yield base


def _is_module(name: str) -> bool:
    return name in sys.modules or (not is_foreign(name.rpartition(".")[0]) and _spec(name) is not None)


def _resolved(name: str, package: str) -> str | None:
    try:
        return importlib.util.resolve_name(name, package)
    except ImportError:
        return None


def _imported_by_call(node: ast.Call) -> str | None:
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    named = node.args[0] if called in ("import_module", "__import__") and node.args else None
    return named.value if isinstance(named, ast.Constant) and isinstance(named.value, str) else None


def _constants(tree: ast.Module) -> Iterator[tuple[str, Any]]:
    """Numbers, texts and the like that a module gives a name once, and that no function of it changes."""
    changed = {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}
    stored = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    for node in tree.body:
        target, value = _assigned(node)
        if target is None or value is None or target in changed or stored.count(target) > 1:
            continue
        with contextlib.suppress(ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            if isinstance(found := ast.literal_eval(value), (int, float, complex, str, bytes)):
                yield target, found


def _assigned(node: ast.stmt) -> tuple[str | None, ast.expr | None]:
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id, node.value
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return node.target.id, node.value
    return None, None


def _is_loaded_from(module: types.ModuleType | _Namespace, source: bytes, path: Path) -> bool:
    """Whether the functions of a module are those that its file holds now. What another than Python's own loader has
    changed cannot be told."""
    if type(getattr(module, "__loader__", None)) is not SourceFileLoader or path.suffix != ".py":
        return True
    try:
        fresh = compile(source, str(path), "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    known = set(_codes(fresh))
    return all(code in known for code in _loaded_codes(module, path))


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            yield each
            yield from _codes(each)


def _loaded_codes(module: types.ModuleType | _Namespace, path: Path) -> Iterator[types.CodeType]:
    for value in list(vars(module).values()):
        members = (
            list(vars(value).values())
            if isinstance(value, type) and value.__module__ == vars(module)["__name__"]
            else []
        )
        for member in [value, *members]:
            for function in functions_of(member):
                if Path(function.__code__.co_filename).absolute() == path:
                    yield function.__code__


def functions_of(value: Any) -> Iterator[types.FunctionType]:
    if isinstance(value, property):
        for part in (value.fget, value.fset, value.fdel):
            yield from functions_of(part)
        return
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    while isinstance(value, types.FunctionType):
        yield value
        value = getattr(value, "__wrapped__", None)


def _code_digest(found: Any) -> str:
    """Of code that lies in no file: what a notebook or exec defined."""
    codes = [*_all_codes(found)]
    return _hashed(marshal.dumps([bare_code(code) for code in codes])) if codes else ""


def _all_codes(value: Any) -> Iterator[types.CodeType]:
    for function in functions_of(value):
        yield function.__code__
    if isinstance(value, type) and is_foreign(value.__module__):
        for member in vars(value).values():
            for function in functions_of(member):
                yield function.__code__
    elif isinstance(value, (functools.partial, types.MethodType)):
        yield from _all_codes(value.func if isinstance(value, functools.partial) else value.__func__)


def bare_code(code: types.CodeType) -> tuple[Any, ...]:
    """What code does, without where it stands."""
    constants = tuple(
        bare_code(each) if isinstance(each, types.CodeType) else _constant(each) for each in code.co_consts
    )
    return code.co_name, code.co_code, constants, code.co_names, code.co_varnames


def _constant(value: Any) -> str:
    """Its text, the same in every process: a set's members in order."""
    return f"frozenset({sorted(map(repr, value))})" if isinstance(value, frozenset) else repr(value)
