"""A network called as DeepSparse's users call theirs (docs/migration.md)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from secateur.errors import RunError
from secateur.records.environment import available_cores
from secateur.runtime.loading import load
from secateur.runtime.session import Floats, Images


class Engine:
    """A file for batches of one size, on num_cores threads (None: all cores). Raises as load and Session do."""

    def __init__(self, model: str | Path, batch_size: int = 1, num_cores: int | None = None) -> None:
        self.batch_size, self.session = batch_size, load(model, available_cores() if num_cores is None else num_cores)

    def run(self, inputs: Sequence[Images]) -> list[Floats]:
        """The outputs in order for the inputs in order, (batch_size, …) each."""
        if wrong := [len(x) for x in inputs if len(x) != self.batch_size]:
            raise RunError(
                f"a batch of {wrong[0]}: expected {self.batch_size}; make an Engine with batch_size={wrong[0]}"
            )
        return list(self.session.run_all(*inputs))
