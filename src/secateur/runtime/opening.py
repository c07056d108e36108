"""What a command line or a caller names as a network: a .secateur file, one of ONNX, or a run with its best network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from secateur import packfile
from secateur.errors import ModelError, UsageError
from secateur.network.graph import Graph
from secateur.network.limits import Limits
from secateur.network.simplification import simplify
from secateur.records.kept import PACKED, Kept, checked, find_kept

if TYPE_CHECKING:
    from secateur.importing.onnx import Bound, Shapes


@dataclass(frozen=True, slots=True)
class Opened:
    """A network and what it is called. packed: of a .secateur file, what else that says."""

    name: str
    graph: Graph
    packed: packfile.Packed | None = None

    @property
    def file_bytes(self) -> int | None:
        """Of the .secateur file."""
        return self.packed.size if self.packed else None

    @property
    def sizes(self) -> dict[str, int] | None:
        """Bytes of each weight in the .secateur file."""
        return {each.name: each.size for each in self.packed.stored} if self.packed else None


def open_network(
    path: str | Path,
    *,
    model: str | None = None,
    limits: Limits | None = None,
    shapes: Shapes | None = None,
    bind: Bound | None = None,
) -> Opened:
    """The network that a path names. model: of a run that kept several, which. Others: as of open_file.

    Raises as open_file does, and ModelError for a folder that is no run, or a run that kept no such network.
    """
    path = Path(path)
    if not path.is_dir():
        return open_file(path, limits=limits, shapes=shapes, bind=bind)
    if not (path / "best").is_dir():
        raise ModelError(f"{path}: a folder without a best network: expected a run that kept one, or a .secateur file")
    return open_kept(*find_kept(path, model), limits=limits)


def open_kept(kept: Kept, card: Mapping[str, Any], *, limits: Limits | None = None) -> Opened:
    """A network that a run kept, with its card. Raises as open_network does."""
    name = f"{card.get('model', kept.card_path.stem)} on {card.get('data', 'its data')}"
    packed = packfile.read_packed(checked(kept, card, PACKED), limits=limits)
    return Opened(name, packed.graph, packed)


def open_file(
    path: str | Path, *, limits: Limits | None = None, shapes: Shapes | None = None, bind: Bound | None = None
) -> Opened:
    """The network of a .secateur or .onnx file. shapes, bind: of the latter, as importing.onnx.read takes them.

    Raises FormatError for a file that is damaged, none, or asks for more than the limits, ExportError for an ONNX file
    that a Graph cannot hold.
    """
    path = Path(path)
    if path.suffix.lower() == ".onnx":
        from secateur.importing.onnx import read

        return Opened(path.name, simplify(read(path, shapes=shapes, bind=bind), widen=True))
    if shapes or bind:
        raise UsageError(f"{path}: shapes and bind are for ONNX files: leave them out")
    packed = packfile.read_packed(path, limits=limits)
    return Opened(path.name, packed.graph, packed)
