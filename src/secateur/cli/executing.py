"""The options of `sweep` that say where its cells run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Optional

import typer

from secateur.errors import UsageError
from secateur.support.progress import Reporter

Executing = Annotated[
    str, typer.Option("--executor", help="Where cells run: local, or ray for a Ray cluster (docs/cluster.md).")
]
Address = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="The cluster: auto, HOST:PORT, ray://HOST:PORT; local starts Ray here.", show_default="auto"),
]
CpusPerCell = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(help="CPUs that a cell asks of a node, and its threads.", show_default="1"),
]
GpusPerCell = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(help="GPUs likewise; 0.5 lets two cells share one.", show_default="0"),
]
MemoryPerCell = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(help="Memory likewise, in GB.", show_default="what there is"),
]
LatencyOn = Annotated[
    str,
    typer.Option(help="Who measures latency: cell (each where it runs), driver (this process), a node's name, none."),
]
EXECUTORS = ("local", "ray")


@contextmanager
def chosen_executor(
    name: str, cluster: Mapping[str, Any], latency_on: str, reporter: Reporter
) -> Iterator[tuple[Any, str]]:
    """The executor, connected while inside, and what run_sweeps is told of latency.

    cluster: address, cpus, gpus and memory (GB) as they were given. Raises UsageError for what does not go together,
    MissingExtraError where Ray is asked for and missing, SweepError where no cluster answers.
    """
    own = latency_on in ("cell", "driver", "none")
    if name not in EXECUTORS:
        raise UsageError(f"--executor {name!r}: expected one of {', '.join(EXECUTORS)}")
    if name == "local":
        given = ["--address" if key == "address" else f"--{key}-per-cell" for key, value in cluster.items() if value]
        given += [] if own else [f"--latency-on {latency_on}"]
        if given:
            raise UsageError(f"{', '.join(given)}: for a cluster, so add --executor ray")
        yield None, latency_on
        return
    from secateur.experiments.executors.ray import RayExecutor, Share

    memory = cluster["memory"] and 1e9 * cluster["memory"]
    share = Share(1.0 if cluster["cpus"] is None else cluster["cpus"], cluster["gpus"] or 0.0, memory)
    address = cluster["address"] or "auto"
    with RayExecutor(address, share=share, latency_on="" if own else latency_on, reporter=reporter) as executor:
        yield executor, latency_on if own else "none"
