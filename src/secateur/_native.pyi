"""The C++ core (native/bindings). Nothing is checked here: secateur.runtime does that."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

def kernels() -> list[str]:
    """Names of the kernels that this processor can run, fastest first; "scalar" is always among them."""

class Session:
    def __init__(
        self,
        inputs: Sequence[Sequence[int]],
        nodes: Sequence[tuple[str, str, Sequence[int], dict[str, Floats], dict[str, Any], Sequence[int]]],
        outputs: Sequence[int],
        kernel: str,
        threads: int,
    ) -> None: ...
    def run(self, input: Floats, output: Floats) -> None: ...
    def run_many(self, inputs: Sequence[Floats], outputs: Sequence[Floats]) -> None: ...
    def divide(self, images: int) -> list[tuple[int, int]]: ...
    def steps(self, block: int, rounds: int) -> list[dict[str, Any]]: ...
    def arena_bytes(self, block: int) -> int: ...
