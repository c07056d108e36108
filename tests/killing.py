"""Sweeps killed with -9 at a moment of a test's choosing, and what they had stored."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from secateur.records.store import FILE_NAME


def kill_when(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, "the sweep ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def stored(run: Path) -> dict[str, str]:
    if not (run / FILE_NAME).exists():
        return {}
    connection = sqlite3.connect(f"file:{run / FILE_NAME}?mode=ro", uri=True)
    try:
        return dict(connection.execute("SELECT cell_id, measured_at || seconds FROM rows").fetchall())
    except sqlite3.OperationalError:
        return {}
    finally:
        connection.close()
