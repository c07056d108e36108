"""Names from strangers and outputs that fail: neither does anything to the terminal or to the work."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import secateur
from packed import forge, linear, pruned
from secateur import packfile
from secateur.cli import main
from secateur.errors import FormatError, RunError, SecateurError
from secateur.escaping import one_line, printable
from secateur.network.graph import Graph, Node, Weight
from secateur.report.grid import Grid, as_markdown, as_rich
from secateur.support.progress import ConsoleReporter, PlainConsole

EVIL = "\x1b]0;title\x07\x1b[31m:ok:[bold]\u202e\x9b2J"
SHOWN = "\\x1b]0;title\\x07\\x1b[31m:ok:[bold]\\u202e\\x9b2J"


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Runs the command line: exit code, standard output and standard error."""
    monkeypatch.setenv("COLUMNS", "600")

    def run(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert isinstance(ended.value.code, int)
        return ended.value.code, *capfd.readouterr()

    return run


Cli = Callable[..., tuple[int, str, str]]


def test_what_a_terminal_would_obey_is_escaped_and_nothing_else() -> None:
    assert printable(EVIL) == SHOWN
    for same in ("conv1.weight", "Größe × 3 – ½", "層", ":ok:", "[red]", "a\\b", "it's"):
        assert printable(same) == same
    assert printable("a\nb\tc", keep="\n\t") == "a\nb\tc"
    assert printable("\udc80\u200b\r") == "\\udc80\\u200b\\r"
    assert one_line(" first \n  second\x1b ") == "first second\\x1b"


def test_every_error_is_one_printable_line() -> None:
    assert str(SecateurError(f"layer {EVIL}:\n no")) == f"layer {SHOWN}: no"
    assert str(RunError(EVIL)) == SHOWN


@pytest.mark.parametrize("field", ["op", "name", "inputs", "source", "weights", "attributes", "dtype", "producer"])
def test_no_name_in_a_file_reaches_the_terminal_raw(field: str, tmp_path: Path, cli: Cli) -> None:
    node = {"name": "n", "op": "linear", "inputs": ["x"], "weights": {"weight": "w"}, "attributes": {}, "shape": [2]}
    node |= {field: [EVIL] if field == "inputs" else {EVIL: EVIL} if field in ("weights", "attributes") else EVIL}
    stored = {"name": EVIL, "dtype": EVIL if field == "dtype" else "float32", "shape": [2, 2], "codec": 0, "bytes": 16}
    described = {"producer": EVIL, "inputs": {"x": [2]}, "outputs": [EVIL], "nodes": [node], "weights": [stored]}
    path = forge(tmp_path / "net", described, pool=packfile.container.seal(bytes(16)))
    for verb in ("inspect", "unpack"):
        code, _, error = cli(verb, str(path))
        assert code == 1
        assert error.strip().isprintable()
    with pytest.raises(FormatError) as caught:
        packfile.read(path)
    assert str(caught.value).isprintable()


def test_names_are_shown_escaped_in_tables_and_plans(tmp_path: Path, cli: Cli) -> None:
    weight = Weight.of(pruned(4, 3))
    node = Node(EVIL, "linear", ("x",), {"weight": EVIL}, {}, (4,), EVIL)
    path = tmp_path / "net"
    packfile.write(Graph({"x": (3,)}, (EVIL,), (node,), {EVIL: weight}), path)
    for words in (["inspect"], ["inspect", "--plan"], ["inspect", "--format", "json"]):
        code, out, error = cli(words[0], str(path), *words[1:])
        assert (code, error) == (0, "")
        assert all(line.isprintable() for line in out.splitlines())
        assert ":ok:[bold]" in out


def test_tables_progress_and_notes_print_names_as_they_are() -> None:
    out = io.StringIO()
    grid = Grid(EVIL, (EVIL, "b"), ((EVIL, ":ok:"),), 1, (EVIL,))
    Console(file=out, width=400).print(as_rich(grid))
    ConsoleReporter(Console(file=out, width=400)).say(EVIL)
    PlainConsole(file=out, width=400).print(EVIL)
    text = out.getvalue()
    assert text.count(SHOWN) == 6
    assert all(line.isprintable() for line in text.splitlines())
    assert "\x1b" not in as_markdown(grid)


def test_bars_show_names_as_they_are() -> None:
    out = io.StringIO()
    console = PlainConsole(file=out, width=200, force_terminal=True)
    with ConsoleReporter(console).task(EVIL, 2) as task:
        task.advance(1, lambda: EVIL)
    assert ":ok:[bold]" in out.getvalue()
    assert "title\x07" not in out.getvalue()


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    path = tmp_path / "net.secateur"
    packfile.write(linear(pruned(5, 20, density=0.3)), path)
    return path


RUN = f"{sys.executable} -m secateur"


def shell(line: str, **environment: str) -> tuple[int, str]:
    """Exit code and standard error."""
    ended = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, timeout=60, env={**os.environ, **environment}
    )
    return ended.returncode, ended.stderr


@pytest.mark.parametrize("output", ["| true", ">&-", "2>&-", ">/dev/full 2>/dev/full"])
def test_a_closed_output_is_no_failure_of_work_that_was_done(output: str, packed: Path) -> None:
    target = packed.with_suffix(".safetensors")
    code, error = shell(f"set -o pipefail; {RUN} unpack {packed} -o {target} {output}")
    assert (code, error) == (0, "")
    assert target.stat().st_size > 400


def test_a_full_disk_is_told_in_one_line(packed: Path) -> None:
    target = packed.with_suffix(".safetensors")
    told = "secateur: standard output cannot be written: No space left on device; the rest was dropped\n"
    assert shell(f"{RUN} unpack {packed} -o {target} >/dev/full") == (0, told)
    assert shell(f"{RUN} inspect {packed} >/dev/full") == (1, told)


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_what_an_encoding_lacks_is_escaped(encoding: str, packed: Path) -> None:
    code, error = shell(f"{RUN} inspect {packed} >/dev/null", PYTHONIOENCODING=encoding)
    assert (code, error) == (0, "")


def test_pipes_and_devices_are_refused_at_once(packed: Path, tmp_path: Path, cli: Cli) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for words in (["inspect"], ["inspect", "--plan"], ["unpack"], ["bench"], ["run", "--input", "x.npy"], ["export"]):
        for path in (str(pipe), "/dev/zero"):
            code, _, error = cli(words[0], path, *words[1:])
            assert code == 1
            assert "it is a pipe or a device, expected a regular file" in error
            assert error.count("\n") == 1
    code, _, error = cli("run", str(packed), "--input", str(pipe))
    assert (code, error.count("\n")) == (1, 1)
    assert "it is a pipe or a device" in error


def test_an_array_that_claims_more_than_there_is_is_refused(packed: Path, tmp_path: Path, cli: Cli) -> None:
    header = str({"descr": "<f4", "fortran_order": False, "shape": (1 << 44, 20)}).encode().ljust(117) + b"\n"
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    code, _, error = cli("run", str(packed), "--input", str(tmp_path / "x.npy"))
    assert (code, error.count("\n")) == (1, 1)
    assert "expected a .npy file of images" in error


def test_a_weight_that_safetensors_cannot_name_is_refused(tmp_path: Path, cli: Cli) -> None:
    weight = Weight.of(np.ones((2, 3), np.float32))
    node = Node("n", "linear", ("x",), {"weight": "__metadata__"}, {}, (2,))
    path = tmp_path / "net"
    packfile.write(Graph({"x": (3,)}, ("n",), (node,), {"__metadata__": weight}), path)
    code, _, error = cli("unpack", str(path), "-o", str(tmp_path / "out.safetensors"))
    assert (code, error.count("\n")) == (1, 1)
    assert "a weight is named '__metadata__', which safetensors keeps for itself" in error
    assert not (tmp_path / "out.safetensors").exists()
    assert secateur.unpack(path)["__metadata__"].shape == (2, 3)
