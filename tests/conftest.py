"""Fixtures: every test has a cache of its own, so nothing trained elsewhere is seen."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers share two cores; read when torch is loaded

import torch

from secateur.measure import timing

RunCli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "cache"
    monkeypatch.setenv("SECATEUR_CACHE", str(cache))
    return cache


@pytest.fixture(autouse=True)
def short_timings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test asserts a time, and workers that time wait for each other."""
    monkeypatch.setattr(timing, "SECONDS_PER_ENGINE", 0.04)


@pytest.fixture(autouse=True)
def own_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def real_data() -> Path | None:
    """The folder of real data sets that SECATEUR_DATA names, if any."""
    named = os.environ.get("SECATEUR_DATA")
    return Path(named) if named else None


@pytest.fixture
def run_cli(tmp_path: Path) -> RunCli:
    """Run the command line in a fresh process and an empty folder."""

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
