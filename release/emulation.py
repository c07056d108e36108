"""A Python from Debian's packages: of another kind of machine, run by qemu, or of another suite than this system's."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

DEBIAN = {"aarch64": "arm64", "x86_64": "amd64"}
LOADERS = {"aarch64": "lib/ld-linux-aarch64.so.1", "x86_64": "lib64/ld-linux-x86-64.so.2"}
ADDRESSES = ("indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian")


class Unpacked:
    """Python of a machine, below a folder. Nothing of this system is changed.

    suite: of Debian, from trixie on (such as "sid"); empty: this system's own.
    """

    def __init__(self, machine: str, folder: Path, suite: str = "") -> None:
        self.machine, self.folder, self.suite = machine, folder, suite
        self.root = folder / "root"
        if not (self.root / "usr").exists():
            self._fetch()

    @staticmethod
    def missing(machine: str) -> list[str]:
        """The programs that this takes and that there are not."""
        emulator = [f"qemu-{machine}"] * (machine != platform.machine())
        return [name for name in (*emulator, "apt-get", "dpkg") if shutil.which(name) is None]

    def run(self, *words: str | Path, site: Path | None = None) -> str:
        """What Python prints. Raises subprocess.CalledProcessError where it fails."""
        env = {} if site is None else {"PYTHONPATH": str(site)}
        command = [*self._loader(), (self.root / "usr" / "bin" / "python3").resolve(), *words]
        return _output(command, {"PATH": "/usr/bin:/bin", "HOME": str(self.folder), **env})

    def version(self) -> tuple[int, int]:
        major, minor = self.run("-c", "import sys; print(*sys.version_info[:2])").split()
        return int(major), int(minor)

    def _loader(self) -> list[str | Path]:
        """What starts a program with its own C library, instead of this system's."""
        if self.machine != platform.machine():
            return [f"qemu-{self.machine}", "-L", self.root]
        libraries = self.root / "usr" / "lib" / f"{self.machine}-linux-gnu"
        return [self.root / "usr" / LOADERS[self.machine], "--library-path", libraries]

    def _fetch(self) -> None:
        """Ask apt for that machine's packages as if nothing were installed, and unpack them."""
        state, cache = self.folder / "state", self.folder / "cache"
        for folder in (state / "lists" / "partial", cache / "archives" / "partial", self.root):
            folder.mkdir(parents=True, exist_ok=True)
        (state / "status").touch()
        architecture = DEBIAN[self.machine]
        places = {"Dir::State": state, "Dir::State::status": state / "status", "Dir::Cache": cache, **self._source()}
        options = {**places, "APT::Architecture": architecture, "APT::Architectures": architecture}
        apt = ["apt-get", "-qq", "-y", *(f"-o{name}={value}" for name, value in options.items())]
        _output([*apt, "update"])
        _output(
            [*apt, "install", "--download-only", "--no-install-recommends", "python3", "libstdc++6"]
        )  # which NumPy takes
        for package in sorted((cache / "archives").glob("*.deb")):
            _output(["dpkg", "-x", package, self.root])

    def _source(self) -> dict[str, str | Path]:
        """Where apt looks for another suite: where it finds this system's."""
        if not self.suite:
            return {}
        address = _output(["apt-get", *ADDRESSES]).splitlines()[0]
        listed = self.folder / "sources.list"
        listed.write_text(f"deb {address} {self.suite} main\n")
        return {"Dir::Etc::sourcelist": listed, "Dir::Etc::sourceparts": os.devnull}


def _output(words: Sequence[str | Path], env: dict[str, str] | None = None) -> str:
    return subprocess.run([str(word) for word in words], env=env, check=True, stdout=subprocess.PIPE, text=True).stdout
