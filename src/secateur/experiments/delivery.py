"""Trained networks on their way into a file: the best of a run, or a checkpoint."""

from __future__ import annotations

import contextlib
import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secateur.errors import DamageError, ModelError, UsageError
from secateur.importing.checkpoints import classes_of, entries_of, load_weights, read_weights_file
from secateur.packfile import Metadata
from secateur.support.checksums import file_digest, read_sealed, sealed, unsealed
from secateur.support.replacing import replacing
from secateur.training.data import Dataset, fit, load_data
from secateur.training.models import Architecture, build_network, find_architecture


@dataclass(frozen=True, slots=True)
class Deliverable:
    """A network in eval mode with its weights, one image (1, …) or batch that it takes, and what else the file says.

    notes: what had to be done to load the weights, in words. model, data: of a run's network, what it was trained as
    and on. quantize: what the run's network was measured as.
    """

    network: nn.Module
    example: Any
    metadata: Metadata
    notes: tuple[str, ...] = ()
    model: str = ""
    data: str = ""
    quantize: str = "none"

    def dataset(self, data_dir: str | Path | None = None) -> Dataset | None:
        """What the network was trained on, as it takes it; None where that is not known. Raises DataError as load_data
        does."""
        if not self.data:
            return None
        architecture = find_architecture(self.model)
        return fit(load_data(self.data, data_dir), self.model, architecture.channels, architecture.size)


WEIGHTS, PACKED = ".safetensors", ".secateur"


@dataclass(frozen=True, slots=True)
class Kept:
    """The files of a network in best/: its weights, the same packed, and a card, JSON, of what it is."""

    card_path: Path

    @property
    def path(self) -> Path:
        return self.card_path.with_suffix(WEIGHTS)

    @property
    def packed(self) -> Path:
        return self.card_path.with_suffix(PACKED)

    def write_card(self, card: dict[str, Any]) -> None:
        """Last of the three, with the digests of the others and its own."""
        files = {path.suffix: _digest(path) for path in (self.path, self.packed)}
        with replacing(self.card_path) as temporary:
            temporary.write_text(sealed(card | {"files": files}))

    def holds(self, card: dict[str, Any]) -> bool:
        """Whether all is there as it was written, for this very card."""
        before = _cards(self.card_path.parent).get(self.card_path)
        if before is None or "files" not in before:
            return False
        files = before.pop("files")
        return before == card and not self._differing(files)

    def damage(self) -> Path | None:
        """A file that is not what was written, or is gone."""
        if not self.card_path.exists():
            return None
        before = _cards(self.card_path.parent).get(self.card_path)
        differing = self._differing(before.get("files", {})) if before else [self.card_path]
        return differing[0] if differing else None

    def _differing(self, files: dict[str, str | None]) -> list[Path]:
        paths = {suffix: self.path.with_suffix(suffix) for suffix in files}
        return [path for suffix, path in paths.items() if _digest(path) != files[suffix]]


def place_of(folder: Path, model: str, data: str) -> Kept:
    """Where best/ has or gets the network of a model on a data set; names that look alike in ASCII get a digest."""
    cards = _cards(folder)
    own = [path for path, card in cards.items() if (card.get("model"), card.get("data")) == (model, data)]
    if own:
        return Kept(own[0])
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{model}-{data}").strip("-")[:_LONGEST] or "network"
    if name.casefold() in {path.stem.casefold() for path in cards}:
        name += f"-{hashlib.sha256(f'{model} {data}'.encode()).hexdigest()[:8]}"
    return Kept(folder / f"{name}.json")


_LONGEST = 150


def _cards(folder: Path) -> dict[Path, dict[str, Any]]:
    """The cards that can be read."""
    cards = {}
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(DamageError):
            cards[path] = unsealed(read_sealed(path))
    return cards


def _digest(path: Path) -> str | None:
    """None where there is no file."""
    try:
        return file_digest(path)
    except OSError:
        return None


def from_run(run: str | Path, model: str | None = None) -> Deliverable:
    """The best network of a run folder; `model` says which where the run kept several, as its card's model or by the
    name of its files.

    Raises ModelError where the run kept none, or none of that name, or its files are damaged.
    """
    cards = _cards(Path(run) / "best")
    if damaged := set((Path(run) / "best").glob("*.json")) - cards.keys():
        raise ModelError(f"{min(damaged)}: is damaged; run the same sweep or search again, which makes it anew")
    wanted = {path: card for path, card in cards.items() if model in (None, card.get("model"), path.stem)}
    if not wanted:
        kept = ", ".join(sorted({str(card.get("model")) for card in cards.values()})) or "none"
        asked = f" of model {model!r}" if model else ""
        raise ModelError(f"{run}: kept no best network{asked}, but: {kept}; sweep again, with a larger --tolerance")
    if len(wanted) > 1:
        models = [str(card.get("model")) for card in wanted.values()]
        names = models if len(set(models)) == len(models) else [path.stem for path in wanted]
        raise ModelError(f"{run}: kept {len(wanted)} networks ({', '.join(names)}): say which with --model")
    ((path, card),) = wanted.items()
    if missing := {"model", "input", "classes", "mean", "std"} - card.keys():
        raise ModelError(
            f"{path}: written by an older version, or damaged: it does not say {', '.join(sorted(missing))}; run the "
            "sweep again"
        )
    weights = Kept(path).path
    if "files" in card and _digest(weights) != card["files"].get(WEIGHTS):
        raise ModelError(f"{weights}: is missing or damaged: {path.name} has another digest; run the sweep again")
    metadata = Metadata(mean=tuple(card["mean"]), std=tuple(card["std"]))
    found = _load(card["model"], weights, card["classes"], tuple(card["input"]), metadata)
    data, quantize = str(card.get("data", "")), str(card.get("quantize", "none"))
    return replace(found, model=card["model"], data=data, quantize=quantize)


def from_checkpoint(
    weights: str | Path,
    model: str,
    *,
    shape: tuple[int, ...] | None = None,
    classes: int | None = None,
    example: Any = None,
) -> Deliverable:
    """A network of models.py or a user's own ("package.module:callable") with the weights of a checkpoint.

    shape: of one image (C, H, W), where the network does not fix it. classes: by default those that make the
    network's shapes the checkpoint's. example: a batch of inputs, in place of one image of noise. Raises UsageError
    where the shape is needed, ModelError where the checkpoint does not fit.
    """
    architecture = find_architecture(model)
    shape = shape or _own_shape(architecture) or (None if example is None else (_ANY_CHANNELS,))
    if shape is None:
        raise UsageError(f"model {model!r} takes images of any size: say which with --input, as in --input 3x32x32")
    if classes is None:
        read_weights_file(weights)
        classes = _classes(architecture, shape[0], weights)
    made = _load(model, Path(weights), classes, shape, Metadata())
    return made if example is None else replace(made, example=example)


_ANY_CHANNELS = 3
"""Of a network that is handed its inputs: what a builder that asks for channels gets."""


def _own_shape(architecture: Architecture) -> tuple[int, ...] | None:
    if architecture.channels is None or architecture.size is None:
        return None
    return architecture.channels, architecture.size, architecture.size


def _classes(architecture: Architecture, channels: int, weights: str | Path) -> int:
    """Those that a checkpoint was made for, found by what changes in the network's shapes from 2 to 3 of them."""
    few, more = (_shapes(build_network(architecture, classes, channels, seed=0), weights) for classes in (2, 3))
    return classes_of(few, more, (2, 3), weights) or _CLASSES


_CLASSES = 10


def _shapes(network: nn.Module, weights: str | Path) -> dict[str, tuple[int | None, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in entries_of(network, str(weights)).items()}


def _load(model: str, weights: Path, classes: int, shape: tuple[int, ...], metadata: Metadata) -> Deliverable:
    network = build_network(find_architecture(model), classes, shape[0], seed=0)
    notes = load_weights(network, weights)
    generator = torch.Generator().manual_seed(0)
    return Deliverable(network.eval(), torch.randn(1, *shape, generator=generator), metadata, notes)


def card_fields(data: Dataset) -> dict[str, Any]:
    """What a best network's JSON has to say so that from_run can build it again."""
    return {"input": list(data.shape), "classes": data.classes, "mean": list(data.mean), "std": list(data.std)}
