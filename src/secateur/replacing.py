"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Another name beside `path` to write to: the file gets its own name when the block ends well.

    Otherwise what was there stays, and nothing else. The file is as readable as any new file is, whatever the writer
    chose. Raises OSError where the place cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.writing")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
