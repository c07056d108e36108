"""How large the package is: `python benchmarks/wheel_size.py` builds its wheel in a temporary folder.

Needs pip, and for --no-build-isolation (taken where they are installed) scikit-build-core and nanobind.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = [sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps", "--quiet", "-w", name]
        if find_spec("scikit_build_core") and find_spec("nanobind"):
            words.append("--no-build-isolation")
        subprocess.run([*words, f"--config-settings=build-dir={folder / 'build'}"], check=True)
        (wheel,) = folder.glob("*.whl")
        print(f"{wheel.name}: {wheel.stat().st_size:,} bytes")
        with zipfile.ZipFile(wheel) as held:
            members = sorted(held.infolist(), key=lambda member: -member.file_size)
            (native,) = (member for member in members if member.filename.endswith(".so"))
            others = [member for member in members if member is not native]
            print(f"  {native.filename}: {native.file_size:,} bytes, {native.compress_size:,} of them in the wheel")
            print(f"  {len(others)} other files: {sum(each.file_size for each in others):,} bytes")
            held.extract(native, folder)
        if shutil.which("strip"):
            subprocess.run(["strip", "-s", str(folder / native.filename)], check=True)
            print(f"  the native code stripped of all symbols: {(folder / native.filename).stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
