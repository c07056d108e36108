"""What an object compiled for one instruction set may offer to the linker (native/src/kernels/check.cmake)."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path(__file__).parents[2] / "native" / "src" / "kernels" / "check.cmake"
TABLE = """
namespace secateur {
struct Kernels { int lanes; };
extern const Kernels kOwnKernels;
const Kernels kOwnKernels{4};
}
"""
INLINE = "#include <algorithm>\nstatic const float& (*volatile larger)(const float&, const float&) = std::max<float>;\n"


def tool(name: str) -> str:
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def check(source: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "own.cpp").write_text(source)
    subprocess.run([tool("c++"), "-std=c++20", "-O1", "-c", "own.cpp", "-o", "own.o"], cwd=folder, check=True)
    definitions = [f"-DNM={tool('nm')}", "-DOBJECTS=own.o", "-DSTAMP=checked"]
    return subprocess.run([tool("cmake"), *definitions, "-P", CHECK], cwd=folder, capture_output=True, text=True)


def test_an_object_may_offer_its_table_of_kernels(tmp_path: Path) -> None:
    assert (
        check(
            TABLE + "namespace { int own() { return 1; } }\nstatic int (*volatile used)() = own;\n", tmp_path
        ).returncode
        == 0
    )
    assert (tmp_path / "checked").exists()


def test_an_object_with_an_inline_function_that_others_have_too_is_refused(tmp_path: Path) -> None:
    refused = check(TABLE + INLINE, tmp_path)
    assert refused.returncode != 0
    assert "must offer nothing but its table of kernels" in refused.stderr
    assert "_ZSt3max" in refused.stderr
    assert not (tmp_path / "checked").exists()
