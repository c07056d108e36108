"""libsecateur by ctypes, where it was built: what several suites need to hold it to Python."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
_NAMES = {"linux": "libsecateur.so", "darwin": "libsecateur.dylib", "win32": "secateur.dll"}
OK, ARGUMENT, FILE, FORMAT, UNSUPPORTED, MEMORY, RUN = range(7)
_NUMBERS = [np.dtype(each) for each in (np.float32, np.int64, np.int32, np.bool_)]


class Value(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("element", ctypes.c_int),
        ("rank", ctypes.c_size_t),
        ("sizes", ctypes.POINTER(ctypes.c_int64)),
        ("count", ctypes.c_size_t),
    )

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.sizes[axis] for axis in range(self.rank))


LIMITS = (
    *("weight_bytes", "nodes", "inputs", "outputs", "links", "names"),
    *("multiply_adds", "window_elements", "memory", "growth"),
)


class Options(ctypes.Structure):
    _fields_ = (
        ("threads", ctypes.c_int),
        ("calibrate", ctypes.c_int),
        ("kernel", ctypes.c_char_p),
        *((name, ctypes.c_int64) for name in LIMITS),
    )


def found() -> Path | None:
    """The library that was built last, in whichever folder."""
    name = _NAMES.get(sys.platform, "libsecateur.so")
    built = [path for folder in ("native", "editable") for path in (ROOT / "build" / folder).rglob(name)]
    return max(built, key=lambda path: path.stat().st_mtime, default=None)


def load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    for name in ("version", "error", "kernel", "class", "length"):
        getattr(library, f"secateur_{name}").restype = ctypes.c_char_p
    for name in ("input", "output"):
        getattr(library, f"secateur_{name}").restype = ctypes.POINTER(Value)
        getattr(library, f"secateur_{name}_count").restype = ctypes.c_size_t
    library.secateur_images.restype = ctypes.c_int64
    library.secateur_defaults.restype = Options
    library.secateur_close.restype = None
    return library


class Refused(Exception):
    """A status that is not OK, and the text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Model:
    """A secateur_model."""

    def __init__(self, library: ctypes.CDLL, handle: ctypes.c_void_p) -> None:
        self.library, self.handle = library, handle
        self.inputs = self._values("input")
        self.outputs = self._values("output")

    def __del__(self) -> None:
        self.library.secateur_close(self.handle)

    def _values(self, kind: str) -> list[Value]:
        count = getattr(self.library, f"secateur_{kind}_count")(self.handle)
        return [
            getattr(self.library, f"secateur_{kind}")(self.handle, ctypes.c_size_t(i)).contents for i in range(count)
        ]

    @property
    def lengths(self) -> list[str]:
        return self._texts("length")

    @property
    def classes(self) -> list[str]:
        return self._texts("class")

    def _texts(self, kind: str) -> list[str]:
        found: list[str] = []
        while (text := getattr(self.library, f"secateur_{kind}")(self.handle, ctypes.c_size_t(len(found)))) is not None:
            found.append(text.decode())
        return found

    def bind(self, lengths: Mapping[str, int]) -> Model:
        given = (ctypes.c_int64 * len(self.lengths))(*(lengths[name] for name in self.lengths))
        handle = ctypes.c_void_p()
        count = ctypes.c_size_t(len(given))
        _check(self.library, self.library.secateur_bind(self.handle, given, count, ctypes.byref(handle)))
        return Model(self.library, handle)

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        images = len(inputs[0])
        made = [np.empty((images, *value.shape), _NUMBERS[value.element]) for value in self.outputs]
        status = self.library.secateur_run(self.handle, _pointers(inputs), _pointers(made), ctypes.c_int64(images))
        _check(self.library, status)
        return made

    def normalise(self, pixels: np.ndarray) -> np.ndarray:
        made = np.empty(pixels.shape, np.float32)
        (to,), (of,) = _pointers([made]), _pointers([pixels])
        images = ctypes.c_int64(len(pixels))
        status = self.library.secateur_normalise(self.handle, ctypes.c_void_p(of), ctypes.c_void_p(to), images)
        _check(self.library, status)
        return made


def _pointers(arrays: Sequence[np.ndarray]) -> Any:
    return (ctypes.c_void_p * len(arrays))(*(each.ctypes.data for each in arrays))


def _check(library: ctypes.CDLL, status: int) -> None:
    if status != OK:
        raise Refused(status, library.secateur_error().decode())


def open_model(library: ctypes.CDLL, held: Path | bytes, **options: Any) -> Model:
    """Raises Refused."""
    chosen = library.secateur_defaults()
    for name, value in options.items():
        setattr(chosen, name, value)
    handle = ctypes.c_void_p()
    if isinstance(held, bytes):
        size = ctypes.c_size_t(len(held))
        status = library.secateur_open_memory(held, size, ctypes.byref(chosen), ctypes.byref(handle))
    else:
        status = library.secateur_open(str(held).encode(), ctypes.byref(chosen), ctypes.byref(handle))
    _check(library, status)
    return Model(library, handle)
