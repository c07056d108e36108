"""A .secateur file becomes a Session."""

from __future__ import annotations

from pathlib import Path

from secateur import packfile
from secateur.runtime.session import Session


def load(path: str | Path, threads: int = 1, kernel: str | None = None) -> Session:
    """The network of a .secateur file as a function: float32 array (N, …) in, float32 array out.

    threads, kernel: see Session. Raises FormatError for a file that is damaged, of another version or no such file,
    RunError for threads or a kernel that make no sense.
    """
    return Session(packfile.read(path), threads, kernel)
