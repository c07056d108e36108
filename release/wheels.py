"""Wheels for every Linux from glibc 2.28 on, and an sdist: checked, tried out, and compared with a second build.

    python release/wheels.py [--twice] [--machine aarch64] [--suite sid] [python3.10 python3.11 python3.12 python3.13]

The sdist is made first, of what was committed last, and the wheels from what it holds. They are compiled by clang as
zig brings it, which links for a glibc that is named, compiles for other machines than this one, and puts its own C++
library in; release/tools.txt has the versions of all tools. From Python 3.12 on one wheel is for all versions (abi3):
later Pythons only try it out. Each wheel of this machine's kind is installed into environments without compiler and
PyTorch, with the oldest and the newest NumPy, and runs packed networks there; of other machines' wheels one is tried
out under qemu, in Debian's Python, and for a Python that is not installed there is --suite. Needs a git checkout and
binutils.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from emulation import Unpacked

ROOT = Path(__file__).parents[1]
DIST, WORK = ROOT / "dist", ROOT / "build" / "wheels"
TOOLS, TRIAL, GOLDEN = ROOT / "release" / "tools.txt", ROOT / "release" / "trial.py", ROOT / "tests" / "golden"
PYTHONS = ("python3.10", "python3.11", "python3.12", "python3.13", "python3.14")
STABLE = (3, 12)
"""The first version of Python whose wheel is for all after it."""
GLIBC = (2, 28)
OLDEST_NUMPY, KNOWS_IT = "numpy==1.26.*", (3, 12)
"""… and the last version of Python that it is for."""


def run(*words: str | Path, env: Mapping[str, str] | None = None, quiet: bool = False) -> str:
    """Output of a command. Raises where it fails, after showing what it said."""
    done = subprocess.run([str(word) for word in words], cwd=ROOT, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))}\n{done.stdout}{done.stderr}")
    if not quiet:
        print(done.stdout, end="", flush=True)
    return done.stdout


def environment(python: str, folder: Path, *packages: str | Path) -> Path:
    """A fresh virtual environment's folder of programs."""
    shutil.rmtree(folder, ignore_errors=True)
    run(python, "-m", "venv", folder, quiet=True)
    run(folder / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages, quiet=True)
    return folder / "bin"


def unpack(archive: Path, folder: Path) -> None:
    folder.mkdir()
    run("tar", "-xf", archive, "-C", folder, quiet=True)


def with_first(folder: Path) -> dict[str, str]:
    """The environment, with a folder's programs before all others."""
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def version_of(python: str) -> tuple[int, int]:
    major, minor = run(python, "-c", "import sys; print(*sys.version_info[:2])", quiet=True).split()
    return int(major), int(minor)


def runs(python: str) -> bool:
    """Whether there is one by that name; some names only tell which version to ask for."""
    return bool(shutil.which(python)) and not subprocess.run([python, "-c", ""], capture_output=True).returncode


def builders(pythons: Sequence[str]) -> list[str]:
    """Those that a wheel is built for: all before the stable interface, and the first that has it."""
    ordered = sorted(pythons, key=version_of)
    stable = [python for python in ordered if version_of(python) >= STABLE]
    return [python for python in ordered if version_of(python) < STABLE] + stable[:1]


def tools_for(python: str) -> Path:
    """The programs of release/tools.txt, and what of it a build imports."""
    folder, wanted = WORK / f"tools{named(python)}", TOOLS.read_text()
    stamp = folder / "tools.txt"
    if not stamp.exists() or stamp.read_text() != wanted:
        environment(python, folder, "-r", TOOLS)
        stamp.write_text(wanted)
    return folder / "bin"


def auditwheel(machine: str, tools: Path, *words: str | Path) -> str:
    """What auditwheel says, which knows the tags of one kind of machine only: that which Python says it runs on."""
    there = f"import platform, sys; platform.machine = lambda: {machine!r}"
    return run(
        tools / "python",
        "-c",
        f"{there}; from auditwheel.main import main; sys.exit(main())",
        *words,
        env=with_first(tools),
        quiet=True,
    )


class Building:
    """One build of everything, in a folder of its own; of others it shares the tools, and zig's libraries."""

    def __init__(self, folder: Path, machine: str, commit: str) -> None:
        self.folder, self.machine, self.commit = folder, machine, commit
        self.epoch = int(run("git", "log", "-1", "--format=%ct", commit, quiet=True))
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    @property
    def foreign(self) -> bool:
        return self.machine != platform.machine()

    def sdist(self, tools: Path) -> Path:
        run("git", "archive", "-o", self.folder / "committed.tar", self.commit, quiet=True)
        unpack(self.folder / "committed.tar", self.folder / "committed")
        env = {**with_first(tools), "SOURCE_DATE_EPOCH": str(self.epoch)}
        words = ("-m", "build", "--sdist", "--no-isolation", "-o", self.folder, self.folder / "committed")
        run(tools / "python", *words, env=env, quiet=True)
        (made,) = self.folder.glob("*.tar.gz")
        unpack(made, self.folder / "source")
        return made

    def wheel(self, python: str, tools: Path) -> Path:
        """A finished wheel, from what the sdist holds."""
        (source,) = (self.folder / "source").iterdir()
        raw, repaired = self.folder / f"raw{named(python)}", self.folder / f"repaired{named(python)}"
        words: list[str | Path] = ["--wheel", "--no-isolation", *self.choices(python, tools), "-o", raw, source]
        run(tools / "python", "-m", "build", *words, env=self.settings(python, tools, source), quiet=True)
        (wheel,) = raw.glob("*.whl")
        tag = f"manylinux_{GLIBC[0]}_{GLIBC[1]}_{self.machine}"
        auditwheel(self.machine, tools, "repair", "--only-plat", "--plat", tag, "-w", repaired, wheel)
        (made,) = repaired.glob("*.whl")
        pack_again(made, self.epoch, licence_of_nanobind(tools))
        return made

    def choices(self, python: str, tools: Path) -> list[str]:
        """What the build is told. zig's linker writes no list of what it read."""
        system = {"SYSTEM_NAME": "Linux", "SYSTEM_PROCESSOR": self.machine} if self.foreign else {}
        defined = {
            **system,
            "LINK_DEPENDS_USE_LINKER": "OFF",
            "AR": self.program("ar", tools),
            "RANLIB": self.program("ranlib", tools),
        }
        chosen = [f"build-dir={self.folder / f'cmake{named(python)}'}", "install.strip=false"]
        chosen += [f"cmake.define.CMAKE_{name}={value}" for name, value in defined.items()]
        chosen += [f"wheel.py-api=cp{named(python)}"] * (version_of(python) >= STABLE)
        return [f"-C{each}" for each in chosen]

    def settings(self, python: str, tools: Path, source: Path) -> dict[str, str]:
        """What the build sees: nothing of it tells when or where it was."""
        target = f"-target {self.machine}-linux-gnu.{GLIBC[0]}.{GLIBC[1]}"
        flags = f"-g0 -ffile-prefix-map={source}=. -ffile-prefix-map={tools.parent}=tools"
        compilers = {"CC": self.program("cc", tools, target), "CXX": self.program("c++", tools, target)}
        caches = {"ZIG_GLOBAL_CACHE_DIR": str(WORK / "zig"), "ZIG_LOCAL_CACHE_DIR": str(self.folder / "zig")}
        own = {"CFLAGS": flags, "CXXFLAGS": flags, "LDFLAGS": "-s", "SOURCE_DATE_EPOCH": str(self.epoch)}
        return {**with_first(tools), **compilers, **caches, **own, **self.platform(python)}

    def platform(self, python: str) -> dict[str, str]:
        """Names of another machine's files."""
        if not self.foreign:
            return {}
        suffix = f".cpython-{named(python)}-{self.machine}-linux-gnu.so"
        return {"_PYTHON_HOST_PLATFORM": f"linux-{self.machine}", "SETUPTOOLS_EXT_SUFFIX": suffix}

    def program(self, name: str, tools: Path, more: str = "") -> str:
        """One of zig's programs, as one word."""
        script = self.folder / "programs" / name
        script.parent.mkdir(exist_ok=True)
        (zig,) = tools.parent.glob("lib/python*/site-packages/ziglang/zig")
        script.write_text(f'#!/bin/sh\nexec "{zig}" {name} {more} "$@"\n')
        script.chmod(0o755)
        return str(script)


def named(python: str) -> str:
    return "".join(map(str, version_of(python)))


def licence_of_nanobind(tools: Path) -> bytes:
    (held,) = tools.parent.glob("lib/python*/site-packages/nanobind-*.dist-info/licenses/LICENSE")
    return held.read_bytes()


def bill_of_materials(name: str, version: str) -> bytes:
    """What is in the native code, in CycloneDX's form."""
    pinned = dict(line.split("==") for line in TOOLS.read_text().split())
    inside = [
        ("nanobind", pinned["nanobind"], "BSD-3-Clause", f"pkg:pypi/nanobind@{pinned['nanobind']}"),
        ("libc++ and compiler-rt of ziglang", pinned["ziglang"], "Apache-2.0 WITH LLVM-exception", ""),
    ]
    described = [
        {"type": "library", "name": name, "version": version, "licenses": [{"expression": licence}]}
        | ({"purl": purl} if purl else {})
        for name, version, licence, purl in inside
    ]
    subject = {"type": "library", "name": name, "version": version, "purl": f"pkg:pypi/{name}@{version}"}
    held = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "metadata": {"component": subject}}
    return json.dumps({**held, "components": described}, indent=1).encode() + b"\n"


def pack_again(wheel: Path, epoch: int, nanobind: bytes) -> None:
    """With a bill of materials (PEP 770) and the licence of what was linked in; in one order and with one time, so that
    the same contents are the same bytes."""
    name, version, *_ = wheel.name.split("-")
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(wheel) as held:
        contents = {each.filename: held.read(each) for each in held.infolist() if not each.is_dir()}
    contents[f"{info}/sboms/{name}.cdx.json"] = bill_of_materials(name, version)
    contents[f"{info}/licenses/nanobind/LICENSE"] = nanobind
    record = f"{info}/RECORD"
    contents.pop(record)
    lines = [f"{path},{digest(content)},{len(content)}" for path, content in sorted(contents.items())]
    contents[record] = "\n".join([*lines, f"{record},,"]).encode() + b"\n"
    moment = time.gmtime(epoch)[:6]
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as made:
        for path in sorted(contents, key=lambda path: (path.startswith(info), path)):
            entry = zipfile.ZipInfo(path, moment)
            entry.external_attr = (0o100755 if path.endswith(".so") else 0o100644) << 16
            made.writestr(entry, contents[path], zipfile.ZIP_DEFLATED, 9)


def digest(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def try_out(python: str, wheel: Path) -> None:
    """In environments with nothing else, and no compiler on the path: with the oldest and the newest NumPy."""
    for numpy in [OLDEST_NUMPY] * (version_of(python) <= KNOWS_IT) + ["numpy>=2"]:
        with tempfile.TemporaryDirectory() as name:
            bare = environment(python, Path(name) / "bare", wheel, numpy)
            run(bare / "python", "-I", TRIAL, GOLDEN, env={"PATH": str(bare), "HOME": name})


def wheel_for(version: tuple[int, int], made: Mapping[Path, str]) -> Path:
    """The wheel that was built for a version of Python, or the one for all after some."""
    of = {version_of(builder): path for path, builder in made.items() if builder}
    return of.get(version) or of[max(of)]


def try_unpacked(machine: str, suite: str, made: Mapping[Path, str], tools: Path) -> None:
    """Of the wheels the one for a suite's Python on that kind of machine, in that."""
    if lacking := Unpacked.missing(machine):
        print(f"  nothing was tried out on {machine} {suite}: that takes {', '.join(lacking)}")
        return
    python = Unpacked(machine, WORK / f"python-{machine}{suite}", suite)
    version = python.version()
    wheel = wheel_for(version, made)
    with tempfile.TemporaryDirectory() as name:
        platforms = [f"--platform=manylinux_2_{minor}_{machine}" for minor in range(17, GLIBC[1] + 1)]
        fitting = [f"--python-version={version[0]}.{version[1]}", "--only-binary=:all:", *platforms]
        pip = ("-m", "pip", "install", "-q", "--disable-pip-version-check", "--target", name)
        run(tools / "python", *pip, *fitting, wheel, quiet=True)
        told = python.run(TRIAL, GOLDEN, site=Path(name)).rstrip()
        print(f"{told}, Debian's {suite or 'own'} for {machine}: {wheel.name}")


def build_all(building: Building, pythons: Sequence[str]) -> dict[Path, str]:
    """The sdist and the wheels, and which Python each is of."""
    tools = {python: tools_for(python) for python in builders(pythons)}
    made = {building.sdist(tools[builders(pythons)[-1]]): ""}
    for python in builders(pythons):
        made[building.wheel(python, tools[python])] = python
    return made


def keep(made: Sequence[Path]) -> list[Path]:
    """Copies in dist/, with their sizes and digests on the screen."""
    DIST.mkdir(exist_ok=True)
    for path in made:
        shutil.copy2(path, DIST / path.name)
        content = path.read_bytes()
        print(f"{path.name}: {len(content):,} bytes, sha256 {hashlib.sha256(content).hexdigest()}", flush=True)
    return [DIST / path.name for path in made]


def check(machine: str, tools: Path, made: Sequence[Path]) -> None:
    run(tools / "twine", "check", "--strict", *made)
    wheels = [each for each in made if each.suffix == ".whl"]
    run(tools / "check-wheel-contents", *wheels)
    for wheel in wheels:
        print(auditwheel(machine, tools, "show", wheel), end="", flush=True)


def compare(first: Sequence[Path], second: Sequence[Path]) -> None:
    others = [one.name for one, two in zip(first, second, strict=True) if one.read_bytes() != two.read_bytes()]
    print(f"built again in another folder: {'the same bytes' if not others else 'OTHER BYTES: ' + ', '.join(others)}")
    if others:
        sys.exit(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pythons", nargs="*", help="what to build for and to try out with; all that are found")
    parser.add_argument("--machine", default=platform.machine(), choices=("x86_64", "aarch64"))
    parser.add_argument("--suite", default="", help="of Debian, such as sid, whose Python they are tried out in too")
    parser.add_argument("--twice", action="store_true", help="build all again elsewhere, and compare the bytes")
    asked = parser.parse_args()
    pythons = asked.pythons or [each for each in PYTHONS if runs(each)]
    commit = run("git", "rev-parse", "HEAD", quiet=True).strip()
    if run("git", "status", "--porcelain", quiet=True):
        print(f"built is what was committed, {commit[:9]}, and nothing of what was changed since")
    building = Building(WORK / f"first-{asked.machine}", asked.machine, commit)
    made = build_all(building, pythons)
    kept = keep(list(made))
    check(asked.machine, tools_for(builders(pythons)[-1]), kept)
    if not building.foreign:
        for python in sorted(pythons, key=version_of):
            try_out(python, wheel_for(version_of(python), made))
    if building.foreign or asked.suite:
        try_unpacked(asked.machine, asked.suite, made, tools_for(builders(pythons)[-1]))
    if asked.twice:
        compare(kept, list(build_all(Building(WORK / f"again-{asked.machine}", asked.machine, commit), pythons)))


if __name__ == "__main__":
    main()
