"""Images of which a vector holds the same pixel of several parts: borders, strides, residuals and conversions."""

from __future__ import annotations

import numpy as np
import pytest

from kernels import float_kernels
from secateur import _native
from secateur.network.graph import Attribute, Graph, Node, Weight
from secateur.runtime import Costs, Session, available_kernels, calibration, reference


def conv(size: int, stride: int = 1) -> dict[str, Attribute]:
    pad = size // 2
    return {"stride": (stride, stride), "padding": (pad,) * 4, "dilation": (1, 1), "groups": 1}


def stages(side: int, density: float) -> Graph:
    """A stem, a residual block, one with stride and a shortcut of 1×1, a sigmoid (f(0) ≠ 0) before a convolution."""
    random = np.random.default_rng(side)
    weights: dict[str, Weight] = {}

    def weight(name: str, *shape: int) -> dict[str, str]:
        values = np.where(random.random(shape) < density, random.normal(0, 0.3, shape), 0)
        weights[name], weights[f"{name}.b"] = (
            Weight.of(values.astype(np.float32)),
            Weight.of(random.normal(size=shape[0]).astype(np.float32)),
        )
        return {"weight": name, "bias": f"{name}.b"}

    half = side // 2
    nodes = (
        Node("stem", "conv2d", ("x",), weight("w0", 32, 3, 3, 3), conv(3), (32, side, side)),
        Node("relu0", "relu", ("stem",), {}, {}, (32, side, side)),
        Node("c1", "conv2d", ("relu0",), weight("w1", 32, 32, 3, 3), conv(3), (32, side, side)),
        Node("sum1", "add", ("c1", "relu0"), {}, {}, (32, side, side)),
        Node("relu1", "relu", ("sum1",), {}, {}, (32, side, side)),
        Node("c2", "conv2d", ("relu1",), weight("w2", 64, 32, 3, 3), conv(3, 2), (64, half, half)),
        Node("short", "conv2d", ("relu1",), weight("w3", 64, 32, 1, 1), conv(1, 2), (64, half, half)),
        Node("sum2", "add", ("c2", "short"), {}, {}, (64, half, half)),
        Node("sigmoid", "sigmoid", ("sum2",), {}, {}, (64, half, half)),
        Node("c3", "conv2d", ("sigmoid",), weight("w4", 64, 64, 3, 3), conv(3), (64, half, half)),
        Node("c4", "conv2d", ("c3",), weight("w5", 16, 64, 1, 1), conv(1), (16, half, half)),
    )  # fmt: skip
    return Graph({"x": (3, side, side)}, ("c4",), nodes, weights)


@pytest.fixture(scope="module")
def planar_is_slow() -> Costs:
    """Costs by which everything that can be is folded."""
    values = list(_native.measure_costs(available_kernels()[0]))
    values[calibration.ROWS] *= 1000
    return Costs(tuple(values))


@pytest.mark.parametrize("kernel", float_kernels())
@pytest.mark.parametrize(("side", "density"), [(32, 0.1), (16, 0.5), (8, 1.0), (24, 0.2)])
def test_folded_images_agree_with_the_reference(kernel: str, side: int, density: float, planar_is_slow: Costs) -> None:
    graph = stages(side, density)
    x = np.random.default_rng(2).normal(size=(3, 3, side, side)).astype(np.float32)
    right = reference.run(graph, x)
    alone = Session(graph, kernel=kernel, costs=planar_is_slow)
    shared = Session(graph, 3, kernel, costs=planar_is_slow)
    assert "border" in [step.name for step in alone.plan().steps]
    found = np.concatenate([alone(image[None]) for image in x])
    np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-4 * np.abs(right).max())
    np.testing.assert_array_equal(np.concatenate([shared(image[None]) for image in x]), found)
