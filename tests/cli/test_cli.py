from __future__ import annotations

import csv
import io
import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import RunCli
from samples import make_row
from secateur import cli
from secateur.pruning.score import METHODS
from secateur.records.store import Store

COLUMNS = {
    "model", "data", "method", "scope", "ratio", "seed", "accuracy", "sparsity", "layers", "macs", "nonzero_macs",
    "bytes", "latency_ms",
}  # fmt: skip


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    with Store.create(tmp_path / "run") as store:
        for ratio in (0.0, 0.5, 0.9):
            store.add(make_row(ratio))
    return tmp_path / "run"


def test_a_sweep_from_the_command_line(run_cli: RunCli, tmp_path: Path) -> None:
    done = run_cli("sweep", "--epochs", "2", "--ratios", "0,0.5,0.9", "--tolerance", "100")
    assert done.returncode == 0, done.stderr
    assert "lenet-300-100, digits, magnitude, layer, repair reconstruct, 2 epochs, decay 0.0005, seed 0" in done.stdout
    assert "← best" in done.stdout
    assert "run folder: runs/lenet-300-100-digits (3 cells computed, 0 known before)" in done.stdout
    assert "open it with: secateur show runs/lenet-300-100-digits" in done.stdout
    assert "training lenet-300-100 on digits, seed 0: done" in done.stderr
    again = run_cli("sweep", "--epochs", "2", "--ratios", "0,0.5,0.9", "--tolerance", "100")
    assert "0 cells computed, 3 known before" in again.stdout
    with Store.open(tmp_path / "runs" / "lenet-300-100-digits") as store:
        assert store.commands()[0] == "secateur sweep --epochs 2 --ratios 0,0.5,0.9 --tolerance 100"
    shown = run_cli("show", "runs/lenet-300-100-digits", "--format", "json")
    rows = json.loads(shown.stdout)
    assert [row["ratio"] for row in rows] == [0.0, 0.5, 0.9]
    assert all(set(row) >= COLUMNS for row in rows)
    words = ("--epochs", "2", "--ratios", "0.9", "--retrain", "none,gradual", "--retrain-epochs", "2", "--out", "run")
    retrained = run_cli("--quiet", "sweep", *words)
    assert retrained.stderr == ""
    assert "gradual, 2 epochs" in retrained.stdout
    by_plan = {row["retraining"]: row for row in json.loads(run_cli("show", "run", "--format", "json").stdout)}
    assert by_plan["gradual, 2 epochs"]["retraining_epochs"] == 2
    assert by_plan["gradual, 2 epochs"]["retraining_seconds"] > by_plan["none"]["retraining_seconds"] == 0
    saved = tmp_path / "runs/lenet-300-100-digits/best/lenet-300-100-digits.secateur"
    assert rows[2]["bytes"] == saved.stat().st_size


@pytest.mark.parametrize("form", ["table", "json", "csv", "markdown", "latex"])
def test_show_in_every_format(run_cli: RunCli, run_folder: Path, form: str) -> None:
    done = run_cli("show", str(run_folder), "--format", form)
    assert (done.returncode, done.stderr) == (0, "")
    assert "90" in done.stdout
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(done.stdout)))
        assert [float(row["accuracy"]) for row in rows] == [0.9] * 3
        assert rows[1]["pytorch_bytes"] == "1990"
    if form == "latex":
        assert done.stdout.count(r"\\") == 4
        assert r"50 \%" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("sweep --ratios 1.5", 2, "ratio 1.5: expected in [0, 1)"),
        ("sweep --ratios 0,half", 2, "--ratios '0,half': expected numbers separated by commas"),
        ("sweep --seeds 1.5", 2, "--seeds '1.5': expected whole numbers"),
        ("sweep --ratios ,", 2, "ratios: expected at least one value"),
        ("sweep --model vgg", 2, "model 'vgg': expected one of lenet-300-100"),
        ("sweep --model nowhere:net", 1, "model 'nowhere:net': cannot be imported"),
        ("sweep --data imagenet", 2, "data 'imagenet': expected one of digits"),
        ("sweep --data mnist --data-dir .", 1, "get it with: secateur data fetch mnist"),
        ("sweep --model resnet-18 --data mnist --data-dir .", 1, "data 'mnist' not found"),
        ("sweep --methods luck", 2, "method 'luck': expected one of magnitude"),
        ("sweep --scopes world", 2, "scope 'world': expected one of layer, global"),
        ("sweep --select luck", 2, "select 'luck': expected one of validation, paper"),
        ("sweep --tolerance -1", 2, "tolerance -1.0: expected 0 to 100"),
        ("sweep --device tpu", 2, "device 'tpu': expected auto, cpu or cuda"),
        ("sweep --epochs -1", 2, "epochs -1: expected 0 or more"),
        ("sweep --lr 0", 2, "learning rate 0.0: expected above 0"),
        ("sweep --retrain luck", 2, "schedule 'luck': expected one of one-shot, iterative, gradual"),
        ("sweep --retrain iterative --retrain-epochs 12", 2, "rounds 5: expected a divisor of the 12 epochs"),
        ("sweep --retrain scratch --retrain-lr 0.1", 2, "expected none, as 'scratch' follows the recipe's"),
        ("sweep --weights absent.pt", 1, "weights absent.pt: cannot be read"),
        ("sweep --weights absent.pt --epochs 2", 2, "training options mean nothing: drop epochs"),
        ("sweep --out /proc/nowhere/run", 1, "name another --out"),
        ("show absent", 1, "absent is no folder: expected a run folder"),
        ("show . --format xml", 2, "--format 'xml': expected one of table, json"),
        ("data fetch svhn", 2, "data 'svhn': expected one of"),
        ("data fetch digits", 2, "embedded: there is nothing to fetch"),
    ],
)
def test_bad_input_is_one_line_that_helps(run_cli: RunCli, tmp_path: Path, words: str, code: int, message: str) -> None:
    done = run_cli(*shlex.split(words))
    assert message in done.stderr
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("secateur: ")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("words", ["sweep --rations 0.5", "prune", "show", "sweep --epochs many", "data get"])
def test_misspelt_commands_are_one_line_too(run_cli: RunCli, words: str) -> None:
    done = run_cli(*shlex.split(words))
    assert done.returncode == 2
    assert done.stderr.startswith("secateur: ")
    assert done.stderr.count("\n") == 1


def test_what_nobody_foresaw_is_one_line_too(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = run_cli("sweep", "--epochs", "0", "--ratios", "0", SECATEUR_CACHE=str(tmp_path / "file" / "cache"))
    assert done.returncode == 1
    assert "NotADirectoryError" in done.stderr
    assert "Traceback" not in done.stderr


def hear_interrupts() -> None:
    """A process started in the background of a shell ignores them, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_an_interrupt_says_how_to_go_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "secateur", "sweep", "--epochs", "100000", "--out", "run"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=hear_interrupts)
    while not list((tmp_path / "cache").rglob("*.checkpoint")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 130
    assert message.splitlines()[-1] == "secateur: interrupted; run the same command to go on where it stopped"


def test_debug_shows_the_traceback(run_cli_apart: RunCli) -> None:
    done = run_cli_apart("sweep", "--ratios", "1.5", "--debug")
    assert "Traceback" in done.stderr
    assert done.returncode != 0


def test_failed_cells_make_the_sweep_fail_and_can_be_shown(run_cli: RunCli) -> None:
    tests = str(Path(__file__).parents[1])
    words = ("--model", "samples:Fragile", "--ratios", "0,0.5", "--epochs", "0", "--out", "run")
    done = run_cli("sweep", *words, PYTHONPATH=tests)
    assert done.returncode == 1
    assert "1 of 2 cells failed; see them with: secateur show run --failures" in done.stderr
    assert "Traceback" not in done.stderr
    shown = run_cli("show", "run", "--failures")
    assert "PruneError: layer 'body'" in shown.stdout
    assert "Traceback" in shown.stdout
    assert (
        "failed: samples:Fragile on digits, magnitude/layer repaired by reconstruct at 50 %, seed 0: PruneError"
        in run_cli("show", "run").stdout
    )


def test_an_empty_run_says_so(run_cli: RunCli, tmp_path: Path) -> None:
    Store.create(tmp_path / "run").close()
    done = run_cli("show", "run")
    assert done.returncode == 1
    assert done.stderr == "secateur: run: it holds no results yet; run its sweep (again) to fill it\n"


def test_methods_are_listed_with_their_equations_to_the_last_sign(run_cli: RunCli) -> None:
    told = run_cli("methods").stdout
    assert all(method.equation in told for method in METHODS.values())


def test_doctor_and_data_list_tell_what_is_here(run_cli: RunCli, tmp_path: Path) -> None:
    done = run_cli("doctor", "--data-dir", str(tmp_path))
    assert done.returncode == 0, done.stderr
    for word in ("secateur", "torch", "cores", "instruction sets", "data mnist", "not found", "embedded"):
        assert word in done.stdout
    listed = run_cli("data", "list", "--data-dir", str(tmp_path))
    assert "secateur data fetch mnist" in listed.stdout


def test_version_and_help(run_cli: RunCli) -> None:
    assert run_cli("--version").stdout.startswith("secateur 0.")
    assert "sweep" in run_cli("--help").stdout


def test_how_much_is_said_is_asked_for_before_a_verb_or_behind_it(run_cli: RunCli, run_folder: Path) -> None:
    usual = run_cli("show", str(run_folder))
    for words in (("-v", "show", str(run_folder)), ("show", str(run_folder), "--verbose")):
        told = run_cli(*words)
        assert told.stdout == usual.stdout
        assert re.fullmatch(r"secateur .* python .* cores\ntook \d+\.\d s\n", told.stderr)
    assert run_cli("show", str(run_folder)).stderr == usual.stderr == ""
    both = run_cli("-q", "show", str(run_folder), "-q", "-v")
    assert (both.returncode, both.stderr) == (2, "secateur: --quiet and --verbose: expected one of the two\n")
    golden = str(Path(__file__).parents[1] / "golden" / "1.2-quantised.secateur")
    assert "took" in run_cli("methods", "-v").stderr
    assert run_cli("-q", "inspect", golden).stdout == run_cli("inspect", golden).stdout


@pytest.mark.parametrize("verb", ["demo", "sweep", "pack", "data fetch"])
def test_every_verb_takes_quiet_and_verbose(run_cli: RunCli, verb: str) -> None:
    told = run_cli(*verb.split(), "--help").stdout
    assert "--quiet" in told
    assert "--verbose" in told


def test_a_second_ctrl_c_ends_the_process_without_a_traceback(tmp_path: Path) -> None:
    """The first one is held up in a finally of the work, as by a slow disk."""
    (tmp_path / "slow.py").write_text(
        "import time\nfrom torch import nn\ndef net():\n    try:\n"
        "        print('begun', flush=True)\n        time.sleep(60)\n    finally:\n"
        "        print('unwinding', flush=True)\n        time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "secateur", "sweep", "--model", "slow:net", "--ratios", "0", "--epochs", "0"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    for word in ("begun", "unwinding"):
        assert process.stdout.readline().strip() == word
        process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in told


def test_help_shows_what_most_people_need_first_the_rest_by_subject_and_examples(run_cli: RunCli) -> None:
    told = run_cli("search", "--help", COLUMNS="100").stdout
    places = [told.index(each) for each in ("--max-drop", "─ Pruning", "─ Where to run", "Examples:")]
    assert places[0] < min(places[1:3])
    assert places[3] == max(places)
    assert told.index("--calibration-seed") > places[1]
    assert "─ Pruning" not in run_cli("unpack", "--help").stdout


def test_the_demo_sweeps_and_writes_a_report(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    whole = cli.app

    def recorded(args: list[str], **options: Any) -> Any:
        if args[0] == "demo":
            return whole(args=args, **options)
        ran.append(args)
        return 0 if args[0] == "sweep" else 1

    monkeypatch.setattr(cli, "app", recorded)
    assert run_cli("demo", "--out", "there").returncode == 1
    assert ran == [["sweep", "--out", "there"], ["report", "there"]]
