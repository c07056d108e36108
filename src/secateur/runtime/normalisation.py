"""uint8 images become what a network was trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from secateur.network.graph import Shape


class Normalisation:
    """(N, C, H, W) uint8 → float32: (pixel / 255 - mean) / std, mean and std as a packed file has them."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        deviations = np.array(std, np.float64)
        self._scale = (1 / (255 * deviations)).astype(np.float32).reshape(1, -1, 1, 1)
        self._shift = (-np.array(mean, np.float64) / deviations).astype(np.float32).reshape(1, -1, 1, 1)

    def fits(self, shape: Shape) -> bool:
        """Whether images of that shape, (C, H, W), are of as many channels."""
        return len(shape) == 3 and shape[0] == self._scale.size

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        scaled: NDArray[np.float32] = np.multiply(images, self._scale, dtype=np.float32, order="C")
        scaled += self._shift
        return scaled
