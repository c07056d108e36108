"""Where this process runs: versions, processor, cores. Needs no PyTorch."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path

import secateur
from secateur import _native
from secateur.records.results import Environment

_FEATURES = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "sve")
_PACKAGES = ("torch", "numpy", "safetensors", "zstandard")


def environment() -> Environment:
    """This machine and what is installed on it; among the versions, the kernels that it can run."""
    versions = {"secateur": secateur.__version__, "python": platform.python_version()}
    versions |= {name: found for name in _PACKAGES if (found := installed_version(name))}
    versions["kernels"] = "+".join(_native.kernels())
    return Environment(
        host=platform.node(),
        machine=f"{platform.system()} {platform.machine()}",
        cpu=cpu_name(),
        cores=available_cores(),
        versions=versions,
    )


def installed_version(package: str) -> str:
    """The version of an installed distribution, or "" where it is absent."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_features() -> tuple[str, ...]:
    """Of the instruction sets that matter here, those that the processor says it has (Linux only)."""
    words = set(_cpuinfo("flags").split()) | set(_cpuinfo("Features").split())
    return tuple(feature for feature in _FEATURES if feature in words)


def cpu_name() -> str:
    """The processor's model, as the system names it."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(field: str) -> str:
    path = Path("/proc/cpuinfo")
    if not sys.platform.startswith("linux") or not path.exists():
        return ""
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return ""
