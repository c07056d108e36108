"""What a command line or a caller names as a network: a .secateur file, or a run folder with its best network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secateur import packfile
from secateur.errors import ModelError
from secateur.network.graph import Graph
from secateur.network.limits import Limits
from secateur.records.kept import PACKED, Kept, checked, find_kept


@dataclass(frozen=True, slots=True)
class Opened:
    """A network, what it is called, and bytes: of its file, and in it of each weight, None where no file says."""

    name: str
    graph: Graph
    file_bytes: int | None = None
    sizes: Mapping[str, int] | None = None


def open_network(path: str | Path, *, model: str | None = None, limits: Limits | None = None) -> Opened:
    """The network that a path names. model: of a run that kept several, which.

    Raises FormatError for a file that is damaged, none, or asks for more than the limits, ModelError for a folder that
    is no run, or a run that kept no such network.
    """
    path = Path(path)
    if path.is_dir():
        return _of_run(path, model, limits)
    return _of_file(path, path.name, limits)


def _of_run(run: Path, model: str | None, limits: Limits | None) -> Opened:
    if not (run / "best").is_dir():
        raise ModelError(f"{run}: a folder without a best network: expected a run that kept one, or a .secateur file")
    return open_kept(*find_kept(run, model), limits=limits)


def open_kept(kept: Kept, card: Mapping[str, Any], *, limits: Limits | None = None) -> Opened:
    """A network that a run kept, with its card. Raises as open_network does."""
    name = f"{card.get('model', kept.card_path.stem)} on {card.get('data', 'its data')}"
    return _of_file(checked(kept, card, PACKED), name, limits)


def _of_file(path: Path, name: str, limits: Limits | None) -> Opened:
    packed = packfile.read_packed(path, limits=limits)
    return Opened(name, packed.graph, packed.size, {each.name: each.size for each in packed.stored})
