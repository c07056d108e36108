"""A network of all functions of numbers, packed, loaded, run by every kernel, exported and compiled, is PyTorch's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur
from kernels import float_kernels
from secateur.exporting.onnx import to_onnx
from secateur.exporting.rebuilding import GraphNetwork
from secateur.importing.aten import to_graph
from secateur.network.graph import Graph
from secateur.network.operations import OPERATIONS
from secateur.network.simplification import simplify
from secateur.runtime import Session, compilation

BATCHES = (1, 2, 5)


class Functions(nn.Module):
    """Every function of numbers of version 1.1, of planes and, on rows of all images, of linear layers' outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc, self.out = nn.Conv2d(3, 4, 3), nn.Linear(6, 6), nn.Linear(4, 3)
        self.elu, self.selu, self.softplus, self.mish = nn.ELU(0.7), nn.SELU(), nn.Softplus(2.0, 3.0), nn.Mish()

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(self._rows(x))
        bent = self.elu(x) - self.selu(x)
        above = F.softplus(bent) + self.softplus(x) + x.abs() + 0.5
        waves = torch.maximum(self.mish(x), torch.sin(x)) * torch.cos(bent).erf_()
        roots = torch.log(above) / torch.sqrt(above) + torch.rsqrt(above) + above.reciprocal() + 3 / above
        powers = above.pow(-1.5) + above**0.5 + bent**2 + torch.exp(bent.neg()).sub_(1)
        return self.out(torch.minimum(roots, powers + waves).mean((2, 3)) - torch.tensor([0.5, 1, 0, 2]))

    def _rows(self, x: Tensor) -> Tensor:
        rows = self.fc(x.reshape(-1, 6))
        return torch.maximum(F.selu(rows), 1 - rows / (rows * rows + 1)).view(x.shape)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(3)
    return Functions().eval()


@pytest.fixture(scope="module")
def graph(network: nn.Module) -> Graph:
    return to_graph(network, torch.randn(2, 3, 6, 6))


def agree(found: Any, network: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        np.testing.assert_allclose(found, network(x), rtol=1e-4, atol=1e-5)


def test_each_function_is_there_but_what_a_product_says(graph: Graph) -> None:
    """-x stays the product that it was before there was a name for it."""
    functions = {name: each for name, each in OPERATIONS.items() if each.inputs and each.ordinary is None}
    added = {name for name, operation in functions.items() if operation.minor == 1}
    assert len(added) == 19
    assert added - {node.op for node in graph.nodes} == {"neg"}


@pytest.mark.parametrize("bits", [None, 8])
def test_packed_and_loaded_it_runs_in_every_kernel(bits: int | None, network: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "net.secateur"
    secateur.pack(network, path, example=torch.randn(2, 3, 6, 6), bits=bits)
    expected = GraphNetwork(secateur.packfile.read(path)) if bits else network
    for kernel in float_kernels():
        session = secateur.load(path, kernel=kernel)
        for batch in BATCHES:
            x = torch.randn(batch, 3, 6, 6)
            agree(session(x.numpy()), expected, x)


def test_simplified_it_is_the_same(network: nn.Module, graph: Graph) -> None:
    session = Session(simplify(graph))
    for batch in BATCHES:
        x = torch.randn(batch, 3, 6, 6)
        agree(session(x.numpy()), network, x)


def test_onnx_runtime_gives_the_same(network: nn.Module, graph: Graph) -> None:
    onnxruntime: Any = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    session = onnxruntime.InferenceSession(to_onnx(graph), providers=["CPUExecutionProvider"])
    for batch in BATCHES:
        x = torch.randn(batch, 3, 6, 6)
        agree(session.run(None, {"x": x.numpy()})[0], network, x)


def test_compiled_it_runs_in_one_session(network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Session] = []

    class Watched(Session):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(compilation, "Session", Watched)
    torch.compiler.reset()
    run = torch.compile(network, backend=secateur.compile_backend)
    for batch in (2, 5):
        x = torch.randn(batch, 3, 6, 6)
        with torch.no_grad():
            agree(run(x), network, x)
    torch.compiler.reset()
    assert {node.op for node in made[-1]._graph.nodes} >= {"softplus", "mish", "pow", "sub", "div", "maximum", "selu"}
