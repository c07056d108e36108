"""Files that are written whole or not at all, beside others who write and who were killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from secateur.support.replacing import open_regular, replacing

WRITING = """
import sys, time
from pathlib import Path
from secateur.support.replacing import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("theirs")
    print("writing", flush=True)
    sys.stdin.readline()
"""


def writer(path: Path) -> subprocess.Popen[str]:
    """Another process in the middle of writing."""
    pipe = subprocess.PIPE
    other = subprocess.Popen([sys.executable, "-c", WRITING, str(path)], stdin=pipe, stdout=pipe, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "writing\n"
    return other


def ended(other: subprocess.Popen[str], word: str = "\n") -> int:
    other.communicate(word)
    return other.returncode


def write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text)


@pytest.mark.parametrize("other", ["net", "another"])
def test_what_a_killed_writer_left_is_gone_after_the_next(other: str, tmp_path: Path) -> None:
    killed = writer(tmp_path / other)
    killed.send_signal(signal.SIGKILL)
    assert ended(killed) == -signal.SIGKILL
    assert len(list(tmp_path.glob(".*.writing"))) == 1
    (tmp_path / ".net.4711.writing").touch()  # an earlier version's
    write(tmp_path / "net", "ours")
    assert [each.name for each in tmp_path.iterdir()] == ["net"]


def test_a_writer_who_lives_is_let_be(tmp_path: Path) -> None:
    path = tmp_path / "net"
    other = writer(path)
    write(path, "ours")
    assert path.read_text() == "ours"
    assert len(list(tmp_path.glob(".*.writing"))) == 1
    assert ended(other) == 0
    assert path.read_text() == "theirs"
    assert [each.name for each in tmp_path.iterdir()] == ["net"]


def test_writers_in_one_process_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "net"
    with replacing(path) as one, replacing(path) as other:
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"
    assert [each.name for each in tmp_path.iterdir()] == ["net"]


def test_files_of_ones_own_are_let_be(tmp_path: Path) -> None:
    for name in ("my.writing", ".hidden", "a.writing.txt"):
        (tmp_path / name).touch()
    (tmp_path / ".folder.writing").mkdir()
    os.mkfifo(tmp_path / ".pipe.writing")
    write(tmp_path / "net", "ours")
    assert {"my.writing", ".hidden", "a.writing.txt", ".folder.writing", "net"} <= set(os.listdir(tmp_path))


def test_pipes_devices_and_folders_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(OSError, match="it is a pipe or a device, expected a regular file"):
            open_regular(path)
    with pytest.raises(OSError, match="it is a folder"):
        open_regular(tmp_path)
