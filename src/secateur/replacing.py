"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Another name beside `path` to write to: the file gets its own name when the block ends well.

    Otherwise what was there stays, and nothing else. The file is as readable as any new file is, whatever the writer
    chose. Raises OSError where the place cannot be written, or holds what is no regular file (a folder, a device).
    """
    if os.path.lexists(path) and not path.is_file():
        raise FileExistsError(errno.EEXIST, "something is there that is no regular file", str(path))
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
