"""The networks that a run keeps in its folder best/: their files, and the cards that say what they are. No PyTorch."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secateur.errors import DamageError, ModelError
from secateur.support.checksums import file_digest, read_sealed, sealed, unsealed
from secateur.support.replacing import replacing

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


def find_kept(run: str | Path, model: str | None = None) -> tuple[Kept, dict[str, Any]]:
    """The best network of a run folder and its card; `model` says which where the run kept several, as its card's model
    or by the name of its files.

    Raises ModelError where the run kept none, or none of that name, or its card is damaged.
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
    return Kept(path), card


def checked(kept: Kept, card: Mapping[str, Any], suffix: str) -> Path:
    """The file of a kept network with this suffix. Raises ModelError where it is not what the card says."""
    path = kept.card_path.with_suffix(suffix)
    if "files" in card and _digest(path) != card["files"].get(suffix):
        raise ModelError(
            f"{path}: is missing or damaged: {kept.card_path.name} has another digest; run the sweep again"
        )
    return path


def all_kept(run: str | Path) -> list[tuple[Kept, dict[str, Any]]]:
    """Every network that a run kept, with its card, of those whose cards can be read."""
    return [(Kept(path), card) for path, card in _cards(Path(run) / "best").items()]
