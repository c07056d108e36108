"""A Python of another kind of machine, from Debian's packages, run by qemu: to try out what was compiled across."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

DEBIAN = {"aarch64": "arm64", "x86_64": "amd64"}


class Emulated:
    """Python of a machine, below a folder. Nothing of this system is changed."""

    def __init__(self, machine: str, folder: Path) -> None:
        self.machine, self.folder = machine, folder
        if not (folder / "root" / "usr").exists():
            self._fetch()

    @staticmethod
    def missing(machine: str) -> list[str]:
        """The programs that this takes and that there are not."""
        return [name for name in (f"qemu-{machine}", "apt-get", "dpkg") if shutil.which(name) is None]

    def run(self, *words: str | Path, site: Path | None = None) -> str:
        """What Python prints. Raises subprocess.CalledProcessError where it fails."""
        root = self.folder / "root"
        env = {} if site is None else {"PYTHONPATH": str(site)}
        command = [f"qemu-{self.machine}", "-L", root, root / "usr" / "bin" / "python3", *words]
        return _output(command, {"PATH": "/usr/bin:/bin", "HOME": str(self.folder), **env})

    def version(self) -> tuple[int, int]:
        major, minor = self.run("-c", "import sys; print(*sys.version_info[:2])").split()
        return int(major), int(minor)

    def _fetch(self) -> None:
        """Ask apt for that machine's packages as if nothing were installed, and unpack them."""
        state, cache = self.folder / "state", self.folder / "cache"
        for folder in (state / "lists" / "partial", cache / "archives" / "partial", self.folder / "root"):
            folder.mkdir(parents=True, exist_ok=True)
        (state / "status").touch()
        architecture = DEBIAN[self.machine]
        places = {"Dir::State": state, "Dir::State::status": state / "status", "Dir::Cache": cache}
        options = {**places, "APT::Architecture": architecture, "APT::Architectures": architecture}
        apt = ["apt-get", "-qq", "-y", *(f"-o{name}={value}" for name, value in options.items())]
        _output([*apt, "update"])
        _output(
            [*apt, "install", "--download-only", "--no-install-recommends", "python3", "libstdc++6"]
        )  # which NumPy takes
        for package in sorted((cache / "archives").glob("*.deb")):
            _output(["dpkg", "-x", package, self.folder / "root"])


def _output(words: Sequence[str | Path], env: dict[str, str] | None = None) -> str:
    return subprocess.run([str(word) for word in words], env=env, check=True, stdout=subprocess.PIPE, text=True).stdout
