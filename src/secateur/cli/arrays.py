"""Arrays that users hand over in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from secateur.errors import RunError
from secateur.escaping import one_line


def read_arrays(path: Path) -> Any:
    """The array of a .npy file, or those of a .npz file by name."""
    import numpy as np

    from secateur.support.replacing import open_regular

    try:
        with open_regular(path) as stream:
            held = np.load(stream, allow_pickle=False)
            if isinstance(held, np.ndarray):
                return np.ascontiguousarray(held)
            return {name: np.ascontiguousarray(held[name]) for name in held.files}
    except OSError as error:
        raise RunError(f"{path}: expected a .npy file of images: {error.strerror or error}") from error
    except (ValueError, EOFError, MemoryError, SyntaxError, BadZipFile) as error:
        raise RunError(f"{path}: expected a .npy file of images: {one_line(str(error))}") from error
