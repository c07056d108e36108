"""Fixtures: every test has a cache of its own, so nothing trained elsewhere is seen."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis  # here, as it looks for referrers, which are not found once they are frozen
import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers share two cores; read when torch is loaded
if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):  # the many processes that tests start would each compile everything
    sys.dont_write_bytecode = False

import torch

from secateur.cli import main
from secateur.experiments.searching import comparing, laboratory, plan
from secateur.measure import footprint, latency, timing

hypothesis.settings.register_profile("random")
hypothesis.settings.register_profile("repeatable", derandomize=True)
hypothesis.settings.load_profile("repeatable")  # the same examples in each run; others by make test-random

RunCli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "cache"
    monkeypatch.setenv("SECATEUR_CACHE", str(cache))
    return cache


@pytest.fixture(autouse=True)
def short_timings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test asserts a time, and workers that time wait for each other."""
    monkeypatch.setattr(timing, "SECONDS_PER_ENGINE", 0.002)
    monkeypatch.setattr(comparing, "LONGER", 1.0)
    monkeypatch.setattr(laboratory, "_SECONDS_A_TURN", 0.001)


@pytest.fixture(autouse=True)
def small_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few ratios of each layer, few turns and few networks measured whole: the rules are the same."""
    monkeypatch.setattr(laboratory, "TURNS", 2)
    monkeypatch.setattr(comparing, "SHOWN", 2)
    monkeypatch.setattr(plan, "RATIOS", (*plan.RATIOS[::3], plan.RATIOS[-1]))


@pytest.fixture(autouse=True)
def no_rivals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other engines, whose tools take seconds to quantise a network, are timed where a test is about them."""
    monkeypatch.setattr(latency, "RIVALS", {})


@pytest.fixture(autouse=True)
def quickly_weighed(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Memory as the kernel's own count has it, not page by page, but where a test is marked as weighing."""
    if "weighing" not in request.keywords and footprint._STATUS.exists():
        monkeypatch.setattr(footprint, "_anonymous", lambda: footprint._kilobytes(footprint._STATUS)["RssAnon"])


@pytest.fixture(autouse=True, scope="session")
def listed_once() -> Iterator[None]:
    """What torch.export goes through the whole of PyTorch for at each trace: the operations that are made of others."""
    with pytest.MonkeyPatch.context() as patch:
        with contextlib.suppress(ImportError, AttributeError):
            exported = importlib.import_module("torch.export.exported_program")
            patch.setattr(exported, "_collect_all_valid_cia_ops", functools.cache(exported._collect_all_valid_cia_ops))
        yield


@pytest.fixture(autouse=True)
def own_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def real_data() -> Path | None:
    """The folder of real data sets that SECATEUR_DATA names, if any."""
    named = os.environ.get("SECATEUR_DATA")
    return Path(named) if named else None


def pytest_collection_finish() -> None:
    """What was imported stays: collecting garbage, which measuring memory does often, need not go through it."""
    for name in ("torch._dynamo", "torch.export", "sklearn.datasets"):  # what tests would import one by one
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()


@pytest.fixture
def run_cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> RunCli:
    """Run the command line in an empty folder: in this process, since another one takes seconds to import PyTorch."""

    def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        known = set(sys.modules)
        capfd.readouterr()
        with monkeypatch.context() as changed:
            changed.chdir(tmp_path)
            changed.setattr(sys, "argv", ["secateur", *words])
            changed.setattr(sys, "path", [*environment.pop("PYTHONPATH", "").split(os.pathsep), *sys.path])
            for name, value in {"COLUMNS": "200", **environment}.items():
                changed.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                main(words)
        for name in set(sys.modules) - known:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
                del sys.modules[name]
        said = capfd.readouterr()
        return subprocess.CompletedProcess(words, int(ended.value.code or 0), said.out, said.err)

    return run


@pytest.fixture
def run_cli_apart(tmp_path: Path) -> RunCli:
    """As run_cli, in a process of its own."""

    def run(*words: str, timeout: float = 120, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "secateur", *words],
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "200", **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run
