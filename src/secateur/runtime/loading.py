"""A .secateur file, or one of ONNX, becomes a Session."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from secateur import packfile
from secateur.network.limits import Limits
from secateur.runtime.normalisation import Normalisation
from secateur.runtime.opening import open_file
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

        >>> apart = secateur.pack(nn.Linear(8, 4), "net.secateur", example=torch.zeros(1, 8))
        >>> net = secateur.load("net.secateur")
        >>> net(np.zeros((5, 8), np.float32)).shape
        (5, 4)

    uint8 images are taken too where the file says how the network's were normalised (as those of a run's best do).
    threads, kernel, calibrate, limits: see Session. Raises FormatError for a file that is damaged, of another version
    or no such file, or that asks for more than the limits, RunError for threads or a kernel that make no sense.
    shapes, bind: of an ONNX file, whose inputs and outputs keep their names, as importing.onnx.read takes them; it
    raises ExportError for what a Graph cannot hold.
    """
    opened = open_file(path, limits=limits, shapes=shapes, bind=bind)
    normalisation = normalisation_of(opened.packed.metadata) if opened.packed else None
    return Session(opened.graph, threads, kernel, normalisation, calibrate, limits)


def normalisation_of(metadata: packfile.Metadata) -> Normalisation | None:
    return Normalisation(metadata.mean, metadata.std) if metadata.mean else None
