"""Ray clusters on this machine, closed to whoever lacks their token, of processes that end with who started them."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from secateur.experiments.executors import Executor

NO_RAY = "Ray is not installed, so nothing was tested on a cluster: pip install 'secateur[ray]'"
SECONDS_TO_START = 60
TOKEN = secrets.token_hex(32)


@contextlib.contextmanager
def local_ray(cache: Path) -> Iterator[Executor]:
    """The executor on a Ray of its own, whose workers have that cache."""
    with ray_environment(cache):
        from secateur.experiments.executors.ray import RayExecutor

        with RayExecutor("local") as executor:
            yield executor


@contextlib.contextmanager
def ray_environment(cache: Path) -> Iterator[None]:
    """What Ray reads from the environment, some of it when it is first imported; skips where it is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment_of(cache).items():
            patch.setenv(name, value)
        pytest.importorskip("ray", reason=NO_RAY)
        yield


def environment_of(cache: Path) -> dict[str, str]:
    """Of Ray's processes: they import what tests import, and keep networks in a cache of their own."""
    return {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "SECATEUR_CACHE": str(cache),
        "PYTHONPATH": str(Path(__file__).parent),
    }


class Node:
    """A node of one CPU, started by `ray start`; a head where no address is given. Its cache is its own."""

    def __init__(self, name: str, folder: Path, address: str = "", client_port: int = 0) -> None:
        self.name, self.cache = name, folder / name
        self.address = address or f"127.0.0.1:{free_port()}"
        folder.mkdir(parents=True, exist_ok=True)
        self._log = (folder / f"{name}.log").open("w")
        # Sockets have short names, so not below a test's folder.
        self._sessions = Path(tempfile.mkdtemp(prefix="ray-")) if not address else None
        role = ["--address", address] if address else ["--head", "--port", self.address.rpartition(":")[2]]
        if self._sessions:
            role += ["--temp-dir", str(self._sessions), "--include-dashboard", "false"]
            role += ["--ray-client-server-port", str(client_port or free_port())]
        # Ray's own choice for the agent is the same for every node.
        ports = ["--min-worker-port", "0", "--max-worker-port", "0", "--dashboard-agent-listen-port", str(free_port())]
        size = ["--num-cpus", "1", "--object-store-memory", str(10**8)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--node-ip-address", "127.0.0.1",
             "--node-name", name, *role, *ports, *size],
            env={**os.environ, **environment_of(self.cache)},
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + SECONDS_TO_START
        while "Ray runtime started" not in Path(self._log.name).read_text():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"node {self.name} did not start:\n{Path(self._log.name).read_text()}")
            time.sleep(0.1)

    def kill(self) -> None:
        """As if the machine were gone: every process of the node, workers too, at once."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """End the node, in good order if it can still do that."""
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()
        if self._sessions:
            shutil.rmtree(self._sessions, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
