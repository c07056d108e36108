"""Checkpoint files of strangers → the tensors in them. Nothing in a file is executed, whatever it says."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import stat
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from secateur.errors import ModelError
from secateur.escaping import printable
from secateur.records.spec import WeightsFile
from secateur.support.machine import memory_bytes

PICKLED = (".pt", ".pth", ".ckpt", ".tar", ".bin", ".th", ".pkl")
SAFETENSORS = ".safetensors"
_UNSAFE = "not a checkpoint that can be opened safely"
_SAVE = "load it yourself, where its code is, and save network.state_dict()"
_DEPTH = 8
_PICKLE_BYTES = 32 << 20
_UNKNOWN = 200
"""Classes beside PyTorch's own that a file may name: a training's arguments and the like, which stay unopened."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file holds. tensors: by their dotted path through dictionaries and lists.

    groups: of each, the path of the innermost dictionary, dot included. devices: those that it was saved on.
    modules: the classes of whole networks that were pickled.
    """

    tensors: Mapping[str, Tensor]
    groups: Mapping[str, str]
    devices: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()


def read_weights_file(path: str | Path) -> WeightsFile:
    """Name a checkpoint by its path and digest. Raises ModelError where it cannot be one."""
    if Path(path).suffix not in (*PICKLED, SAFETENSORS):
        raise ModelError(
            f"weights {path}: expected a .pt, .pth or .safetensors file (or {', '.join(PICKLED[2:])}); "
            "what `secateur unpack` makes of a .secateur file is one"
        )
    digest = hashlib.sha256()
    try:
        _check_kind(Path(path))
        with open(path, "rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise ModelError(f"weights {path}: cannot be read: {error.strerror or error}") from error
    return WeightsFile(str(Path(path).absolute()), digest.hexdigest())


def _check_kind(path: Path) -> None:
    """Before anything is read of it: pipes and devices never end, and a disk image is no checkpoint."""
    facts = os.stat(path)
    if not stat.S_ISREG(facts.st_mode):
        raise ModelError(f"weights {path}: expected a file, got {_kind(facts.st_mode)}")
    memory = memory_bytes()
    if facts.st_size > memory:
        raise ModelError(
            f"weights {path}: its {facts.st_size / 1e9:,.1f} GB do not fit in this machine's memory "
            f"({memory / 1e9:,.1f} GB); save the state dict alone, without the optimizer"
        )
    with open(path, "rb") as file:
        start = file.read(16)
    if not _looks_right(path, start, facts.st_size):
        kind = "safetensors" if path.suffix == SAFETENSORS else "PyTorch"
        raise ModelError(
            f"weights {path}: {_UNSAFE}: it begins with {start!r}, which no {kind} "
            f"file of {facts.st_size:,} bytes does; is the download complete, and no pointer or page in its place?"
        )


def _kind(mode: int) -> str:
    kinds = {stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a named pipe", stat.S_ISSOCK: "a socket"}
    return next((name for test, name in kinds.items() if test(mode)), "a device")


def _looks_right(path: Path, start: bytes, size: int) -> bool:
    if path.suffix == SAFETENSORS:
        return len(start) > 8 and int.from_bytes(start[:8], "little") <= size - 8 and start[8:9] == b"{"
    zipped, pickled = start.startswith(b"PK\x03\x04"), start[:1] == b"\x80"
    return zipped or pickled or _is_tar(path)


def _is_tar(path: Path) -> bool:
    """The format of PyTorch before 0.1.10."""
    with open(path, "rb") as file:
        file.seek(257)
        return file.read(5) == b"ustar"


def read_contents(path: str | Path) -> Contents:
    """The tensors of a .safetensors file or of one that torch.save made, on the CPU, and where in it they lie.

    Classes that PyTorch does not know are not looked up: objects of them are left out. Raises ModelError where the
    file cannot be opened that way.
    """
    path = Path(path)
    devices: set[str] = set()
    try:
        loaded = _read_safetensors(path) if path.suffix == SAFETENSORS else _read_pickled(path, devices)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"weights {path}: {_UNSAFE}: {_reason(error)}") from error
    found = _Walk()
    for name, group, tensor in found.through(loaded, ""):
        if name in found.tensors:
            raise ModelError(f"weights {path}: two of its tensors are named {name!r}; save one state dict alone")
        found.tensors[name], found.groups[name] = tensor, group
    if not found.tensors:
        raise ModelError(f"weights {path}: {_without_tensors(loaded, found.modules)}")
    return Contents(found.tensors, found.groups, tuple(sorted(devices)), tuple(found.modules))


def _reason(error: Exception) -> str:
    """One line of what PyTorch says in many."""
    text = str(error)
    if named := re.search(r"GLOBAL (\S+)", text):
        return f"it holds a {_shown(named[1])}, and opening that would run code; {_SAVE}"
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("Weights only load failed")]
    return _shown(lines[0]) if lines else type(error).__name__


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def _read_pickled(path: Path, devices: set[str]) -> object:
    unknown = _check_archive(path) if zipfile.is_zipfile(path) else []
    stubs = {name: _stub(name) for name in unknown}

    def place(storage: Any, location: str) -> Any:
        devices.update({location} - {"cpu"})
        return storage

    while True:
        named: list[Any] = [(stub, name) for name, stub in stubs.items()]
        try:
            with warnings.catch_warnings(), safe_globals(named):
                warnings.simplefilter("ignore")
                return torch.load(path, map_location=place, weights_only=True)
        except (pickle.UnpicklingError, TypeError) as error:
            filled = [name for name, stub in stubs.items() if _is_filled(stub, str(error))]
            if not filled:
                raise
            stubs[filled[0]] = _dictionary(filled[0])


def _is_filled(stub: Any, told: str) -> bool:
    """Whether an error says that its objects were to hold items: PyTorch's own from 2.7 on, before that Python's."""
    return ("Can only SETITEM" in told and repr(stub) in told) or f"{stub.__name__!r} object does not support" in told


def _check_archive(path: Path) -> list[str]:
    """The names of the classes in it that PyTorch does not know. Raises ModelError for what no checkpoint needs."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    names = {Path(each.filename).name for each in members}
    if "constants.pkl" in names:
        raise ModelError(
            f"weights {path}: holds a TorchScript program, no state dict: torch.jit.load it, and save its state_dict()"
        )
    if any(each.compress_type != zipfile.ZIP_STORED for each in members) or sum(
        each.file_size for each in members
    ) > os.path.getsize(path):
        raise ModelError(f"weights {path}: is a compressed archive, which torch.save never makes; unzip it first")
    largest = max((each.file_size for each in members if each.filename.endswith(".pkl")), default=0)
    unknown = get_unsafe_globals_in_checkpoint(path) if largest <= _PICKLE_BYTES else []
    if largest > _PICKLE_BYTES or len(unknown) > _UNKNOWN:
        raise ModelError(f"weights {path}: holds more than tensors and their names; save the state dict alone")
    return unknown


class _Unopened:
    """Stands for an object of a class that is not looked up; keeps what the file says of it."""

    name = ""
    state: object = None

    def __new__(cls, *_: object, **__: object) -> _Unopened:
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        return None

    def __setstate__(self, state: object) -> None:
        self.state = state


def _stub(name: str) -> Any:
    return type(f"unopened {name}", (_Unopened,), {"name": name})


def _dictionary(name: str) -> Any:
    """For a class whose objects are filled as dictionaries are: a plain one takes their place."""
    return type(f"unopened {name}", (), {"__new__": lambda *_, **__: OrderedDict()})


def _shown(text: str) -> str:
    """What a file says, as far as a message needs it."""
    return printable(text[:200])


class _Walk:
    """Through dictionaries and lists, each once, however often it is referred to."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.groups: dict[str, str] = {}
        self.modules: list[str] = []
        self._seen: set[int] = set()

    def through(self, value: object, path: str, depth: int = 0) -> Iterator[tuple[str, str, Tensor]]:
        """(path, path of what it lies in, tensor) of each tensor."""
        if isinstance(value, _Unopened) and isinstance(value.state, dict) and "_parameters" in value.state:
            self.modules.append(value.name)
        if depth > _DEPTH or id(value) in self._seen or not isinstance(value, dict | list | tuple):
            return
        self._seen.add(id(value))
        for key, held in value.items() if isinstance(value, dict) else enumerate(value):
            name = f"{path}{key.decode(errors='replace') if isinstance(key, bytes) else key}"
            if isinstance(held, Tensor):
                yield name, path, held
            else:
                yield from self.through(held, f"{name}.", depth + 1)


def _without_tensors(loaded: object, modules: list[str]) -> str:
    if modules:
        return f"{_UNSAFE}: it is a pickled {_shown(modules[0])}, and opening it would run code; {_SAVE}"
    if isinstance(loaded, dict | list | tuple) and not loaded:
        return "is empty: expected a state dict (names to tensors)"
    kind = (
        f"a pickled {_shown(loaded.name)}"
        if isinstance(loaded, _Unopened)
        else f"{type(loaded).__name__} without tensors"
    )
    return f"expected a state dict (names to tensors), got {kind}; {_SAVE}"
