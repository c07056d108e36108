"""Which versions of PyTorch does Secateur work with? `python release/torch_range.py 2.15.0 2.6.0 2.4.1`

Each is installed from PyPI into an environment of its own (some gigabytes, deleted again), with this checkout and, for
all else, the packages of the Python that runs this. There release/torch_trial.py and some of the tests are run, with
warnings let through: older versions are deprecated in ways of their own. Printed is a table, and below it what went
wrong. --tests: which of them. --pip: what pip is told besides.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
TRIAL = ROOT / "release" / "torch_trial.py"
TESTS = (
    "tests/importing/test_aten.py",
    "tests/importing/test_checkpoints.py",
    "tests/modules",
    "tests/pruning/test_pruning.py",
    "tests/pruning/test_retraining.py",
    "tests/pruning/test_shrinking.py",
    "tests/runtime/test_compilation.py",
)
COLUMNS = ("imports", "prunes", "shrinks", "packs", "loads", "8 bits", "retrains", "exports", "compiles", "sweeps")
_COUNTED = re.compile(r"(\d+) (passed|failed|errors?)\b")
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.M)


@dataclass
class Found:
    """wrong: part → what went wrong, empty where nothing did. tests: how many passed, failed."""

    version: str
    wrong: dict[str, str] = field(default_factory=dict)
    tests: dict[str, int] = field(default_factory=dict)
    failed: tuple[str, ...] = ()

    def row(self) -> list[str]:
        parts = ["-" if name not in self.wrong else "no" if self.wrong[name] else "yes" for name in COLUMNS]
        return [self.version, *parts, f"{self.tests['passed']} of {sum(self.tests.values())}" if self.tests else "-"]


class Place:
    """A virtual environment whose PyTorch is its own; other packages are those of the Python that runs this."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.python = folder, folder / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)

    def install(self, *words: str) -> str:
        """What pip says where it fails."""
        pip: list[str | Path] = [self.python, "-m", "pip", "install", "-q", "--no-cache-dir", "--no-compile"]
        if shutil.which("uv"):  # it takes a quarter of the time
            pip = ["uv", "pip", "install", "-q", "--no-cache", "--python", self.python]
        done = subprocess.run([*pip, *words], capture_output=True, text=True)
        paths = "\n".join([str(ROOT / "src"), *(each for each in sys.path if each.endswith("-packages"))])
        (self.folder / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages" / "own.pth").write_text(
            paths
        )
        return done.stderr if done.returncode else ""

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        kept = {name: os.environ[name] for name in ("OMP_NUM_THREADS", "SECATEUR_DATA") if name in os.environ}
        env = {"PATH": f"{self.python.parent}:{os.environ['PATH']}", "HOME": str(self.folder), **kept}
        return subprocess.run([self.python, *words], cwd=ROOT, env=env, capture_output=True, text=True)


def try_out(version: str, tests: list[str], pip: list[str]) -> Found:
    found = Found(version)
    with tempfile.TemporaryDirectory() as name:
        place = Place(Path(name))
        if wrong := place.install(f"torch=={version}", *pip):
            found.wrong["imports"] = f"cannot be installed: {wrong.strip().splitlines()[-1]}"
            return found
        done = place.run("-W", "ignore", TRIAL)
        found.wrong = {"imports": "", **dict(json.loads(line) for line in done.stdout.splitlines())}
        if done.returncode:
            found.wrong["imports"] = done.stderr.strip().splitlines()[-1]
        elif tests:
            said = place.run(
                "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "filterwarnings=default", *tests
            ).stdout
            counted = {kind.rstrip("s"): int(count) for count, kind in _COUNTED.findall(said.splitlines()[-1])}
            found.tests = {"passed": 0, **counted}
            found.failed = tuple(_FAILED.findall(said))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("versions", nargs="+")
    parser.add_argument("--tests", nargs="*", default=TESTS)
    parser.add_argument("--pip", nargs="*", default=[])
    asked = parser.parse_args()
    print(f"Python {sys.version.split()[0]}\n")
    show(["PyTorch", *COLUMNS, "tests passed"])
    found = []
    for version in asked.versions:
        found.append(try_out(version, list(asked.tests), asked.pip))
        show(found[-1].row())
    for each in found:
        told = [f"  {part}: {wrong}" for part, wrong in each.wrong.items() if wrong]
        print(f"\n{each.version}", *told, *(f"  {name}" for name in each.failed), sep="\n")


def show(cells: list[str]) -> None:
    print(
        *(f"{cell:{len(name)}}" for cell, name in zip(cells, ("PyTorch", *COLUMNS, ""), strict=True)),
        sep="  ",
        flush=True,
    )


if __name__ == "__main__":
    main()
