"""A .secateur file, or one of ONNX, becomes a Session."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from secateur import packfile
from secateur.errors import UsageError
from secateur.importing.onnx import Bound, Shapes
from secateur.network.limits import Limits
from secateur.network.simplification import simplify
from secateur.runtime.normalisation import Normalisation
from secateur.runtime.session import Session

if TYPE_CHECKING:
    from secateur.importing.onnx import Bound, Shapes


def load(
    path: str | Path,
    threads: int = 1,
    kernel: str | None = None,
    calibrate: bool = True,
    limits: Limits | None = None,
    *,
    shapes: Shapes | None = None,
    bind: Bound | None = None,
) -> Session:
    """The network of a .secateur or .onnx file as a function: float32 array (N, …) in, float32 array out.

    uint8 images are taken too where the file says how the network's were normalised (as those of a run's best do).
    threads, kernel, calibrate, limits: see Session. Raises FormatError for a file that is damaged, of another version
    or no such file, or that asks for more than the limits, RunError for threads or a kernel that make no sense.
    shapes, bind: of an ONNX file, whose inputs and outputs keep their names, as importing.onnx.read takes them; it
    raises ExportError for what a Graph cannot hold.
    """
    if Path(path).suffix.lower() == ".onnx":
        from secateur.importing.onnx import read

        graph = simplify(read(path, shapes=shapes, bind=bind), widen=True)
        return Session(graph, threads, kernel, None, calibrate, limits)
    if shapes or bind:
        raise UsageError(f"{path}: shapes and bind are for ONNX files: leave them out")
    packed = packfile.read_packed(path, limits=limits)
    return Session(packed.graph, threads, kernel, normalisation_of(packed.metadata), calibrate, limits)


def normalisation_of(metadata: packfile.Metadata) -> Normalisation | None:
    return Normalisation(metadata.mean, metadata.std) if metadata.mean else None
