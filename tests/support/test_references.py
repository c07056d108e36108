"""What a user's own modules and callables do wrong, as one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from secateur.cli import main
from secateur.errors import CallableError, DataError, ModelError, SecateurError, UsageError
from secateur.support.references import import_callable
from secateur.training.data import load_data
from secateur.training.models import build_network, find_architecture

RAISING = {
    "import sys\nsys.exit()": r"SystemExit \(raising\.py, line 2\)",
    "raise SystemExit(0)": r"SystemExit: 0 \(raising\.py, line 1\)",
    "class Stop(BaseException): pass\n\nraise Stop('now\\nthen')": r"Stop: now \(raising\.py, line 3\)",
    "def net(:": r"SyntaxError: ",
    "import nowhere_at_all": r"ModuleNotFoundError: No module named 'nowhere_at_all' \(raising\.py, line 1\)",
    "1 / 0": r"ZeroDivisionError: division by zero \(raising\.py, line 1\)",
    "def __getattr__(name): raise RuntimeError(name)": r"RuntimeError: ",
    "def deep(): deep()\ndeep()": r"RecursionError: ",
    "": r"AttributeError: module 'raising' has no attribute 'net'",
    "net = 3": r"expected a callable, got int",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("raising", None)


@pytest.mark.parametrize("source", RAISING)
@pytest.mark.parametrize("what", ["model", "data"])
def test_whatever_a_module_raises_at_import_is_one_line_of_ours(folder: Path, source: str, what: str) -> None:
    (folder / "raising.py").write_text(source)
    with pytest.raises(CallableError, match=RAISING[source]) as caught:
        find_architecture("raising:net") if what == "model" else load_data("raising:net")
    assert str(caught.value).startswith(f"{what} 'raising:net': ")
    assert "\n" not in str(caught.value)


def test_ctrl_c_is_not_taken_for_a_failure_of_the_module(folder: Path) -> None:
    (folder / "raising.py").write_text("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        import_callable("raising:net", "model")


@pytest.mark.parametrize(
    "name", [".x:Net", ":Net", "x:", "x..y:Net", "x:Net()", "dir/x.py:Net", "x:a:b", "-:Net", "x\0:y"]
)
def test_names_that_are_none_are_refused_before_anything_is_imported(name: str) -> None:
    with pytest.raises(UsageError, match=r"expected package\.module:callable"):
        import_callable(name, "model")


def test_a_callable_within_a_class_is_found() -> None:
    assert import_callable("pathlib:Path.cwd", "model") == Path.cwd


CALLS: dict[str, tuple[str, type[SecateurError], str]] = {
    "exits": (
        "def net(): raise SystemExit(0)",
        ModelError,
        r"building it failed: SystemExit: 0 \(raising\.py, line 1\)",
    ),
    "returns none": ("def net(): return None", ModelError, r"expected an nn\.Module from it, got NoneType"),
    "returns its class": ("from torch import nn\ndef net(): return nn.Linear", ModelError, "got type"),
    "strange shape": ("def net(): pass\nnet.input_shape = 'abc'", ModelError, "input_shape 'abc': expected"),
    "shape of none": ("def net(): pass\nnet.input_shape = (1, 0, 0)", ModelError, r"input_shape \(1, 0, 0\): expected"),
}


@pytest.mark.parametrize("case", CALLS)
def test_whatever_a_model_does_when_it_is_built_is_one_line_of_ours(folder: Path, case: str) -> None:
    source, kind, told = CALLS[case]
    (folder / "raising.py").write_text(source)
    with pytest.raises(kind, match=told):
        build_network(find_architecture("raising:net"), 10, 1, 0)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("def net(): raise SystemExit(0)", r"calling it failed: SystemExit: 0"),
        ("def net(): return 1", "expected a Task, a Dataset, or"),
        ("def net(): return (1, 2)", "train split: expected a pair"),
        ("def net(): return ((object(), [1]), (2, 3))", "train split: expected a pair"),
        ("def net(needed): return 1", "calling it failed: TypeError"),
    ],
)
def test_whatever_a_data_set_does_when_it_is_made_is_one_line_of_ours(folder: Path, source: str, told: str) -> None:
    (folder / "raising.py").write_text(source)
    with pytest.raises(DataError, match=told):
        load_data("raising:net")


@pytest.mark.parametrize("verb", ["sweep", "search"])
@pytest.mark.parametrize(
    ("model", "code"), [("builtins:exit", 1), ("builtins:print", 1), (".x:Net", 2), ("sys:exit", 1), ("os:abc", 1)]
)
def test_callables_that_are_no_models_end_with_one_line_and_no_run(
    folder: Path, capsys: pytest.CaptureFixture[str], verb: str, model: str, code: int
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([verb, "--model", model, "--data", "digits", "--out", "run"])
    assert ended.value.code == code
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"secateur: model {model!r}")
    assert not (folder / "run").exists()


def test_a_method_that_ends_the_process_fails_in_one_short_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in ("sweep", "search"):
        option = "--methods" if verb == "sweep" else "--method"
        with pytest.raises(SystemExit) as ended:
            main([verb, option, "builtins:exit", "--model", "samples:tiny", "--epochs", "0", "--out", verb])
        assert ended.value.code == 1
        told = [line for line in capsys.readouterr().err.splitlines() if "method 'builtins:exit': calling" in line]
        assert told
        assert all("SystemExit: Context(network=Sequential(" in line and len(line) < 450 for line in told)


def test_a_forward_that_ends_the_process_fails_its_cells_only(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "raising.py").write_text(
        "from torch import nn\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.body, self.fc = nn.Linear(64, 8), nn.Linear(8, 10)\n"
        "    def forward(self, x):\n        raise SystemExit(0)\n"
    )
    for verb, told in (("sweep", "1 of 1 cells failed"), ("search", "SystemExit")):
        words = ["--ratios", "0.5"] if verb == "sweep" else ["--minimize", "macs"]
        with pytest.raises(SystemExit) as ended:
            main([verb, "--model", "raising:Net", "--out", verb, *words])
        assert ended.value.code == 1
        assert told in capsys.readouterr().err.splitlines()[-1]
