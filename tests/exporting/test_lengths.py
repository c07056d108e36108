"""Networks with lengths that are free, in files and in other forms: PyTorch computes the same at several lengths."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import plain_reader
from secateur import packfile
from secateur.errors import PackError, QuantiseError, RunError
from secateur.exporting.judging import session_of
from secateur.exporting.onnx import to_onnx, write_onnx
from secateur.exporting.packing import pack
from secateur.exporting.quantising import quantise
from secateur.exporting.rebuilding import GraphNetwork
from secateur.importing.aten import to_graph
from secateur.network.graph import Graph
from secateur.packfile import document
from secateur.runtime import load, reference


class Neighbours(nn.Module):
    """Each token beside the one before it, and pairs of tokens in one row."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.fc = nn.LayerNorm(8), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        beside = torch.cat([x[:, 1:], x[:, :-1]], 2)
        return torch.cat([self.fc(beside), self.fc(x.reshape(x.shape[0], -1, 16))], 1)


class Planes(nn.Module):
    """Strided windows, and the planes behind them in one row."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.pool, self.fc = nn.MaxPool2d(3, 2, 1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.fc(self.pool(self.norm(self.conv(x)).relu()).flatten(2).transpose(1, 2))
        return made


CASES: dict[str, tuple[Any, tuple[Any, ...], list[tuple[int, ...]]]] = {
    "planes": (Planes, ("batch", 3, "height", "width"), [(1, 3, 12, 14), (2, 3, 9, 33), (3, 3, 8, 8)]),
    "tokens": (Neighbours, ("batch", "2·length", 8), [(1, 10, 8), (2, 4, 8), (3, 64, 8)]),
}


def made(case: str) -> tuple[nn.Module, Graph, list[Tensor]]:
    kind, sizes, shapes = CASES[case]
    torch.manual_seed(0)
    network = kind().eval()
    return (
        network,
        to_graph(network, torch.randn(shapes[0]), sizes={"x": sizes}),
        [torch.randn(each) for each in shapes],
    )


@pytest.mark.parametrize("case", CASES)
def test_a_file_keeps_lengths_free(case: str, tmp_path: Path) -> None:
    network, _, inputs = made(case)
    path = tmp_path / "net.secateur"
    assert pack(network, path, example=inputs[0], sizes={"x": CASES[case][1]}) < 1e-5
    session = load(path)
    for x in inputs:
        with torch.no_grad():
            np.testing.assert_allclose(session(x.numpy()), network(x), rtol=1e-3, atol=1e-5)
    assert packfile.describe(path).version == "1.1"
    described, _ = plain_reader.read(path, document.DICTIONARY)
    assert described["inputs"] == {"x": [size for size in CASES[case][1] if size != "batch"]}


def test_a_file_without_free_lengths_is_what_it_was(tmp_path: Path) -> None:
    network, _, inputs = made("planes")
    pack(network, tmp_path / "net.secateur", example=inputs[0])
    assert (tmp_path / "net.secateur").read_bytes()[8:].startswith(b'{"__metadata__":{"secateur":"1.0 ')


@pytest.mark.parametrize("case", CASES)
def test_a_rebuilt_network_runs_at_other_lengths(case: str) -> None:
    network, graph, inputs = made(case)
    again = GraphNetwork(graph)
    for x in inputs:
        torch.testing.assert_close(again(x), network(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_an_onnx_model_runs_at_other_lengths(case: str, tmp_path: Path) -> None:
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    network, graph, inputs = made(case)
    model = to_onnx(graph)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == [size if isinstance(size, int) else str(size) for size in CASES[case][1]]
    for x in inputs:
        with torch.no_grad():
            np.testing.assert_allclose(session.run(None, {"x": x.numpy()})[0], network(x), rtol=1e-4, atol=1e-5)
    apart = write_onnx(graph, tmp_path / "net.onnx")
    assert apart is not None
    assert apart < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_eight_bits_with_free_lengths_are_those_of_each_length(case: str, tmp_path: Path) -> None:
    """What is quantised with lengths free and bound afterwards is what is bound first, bit by bit, where calibration
    data has these alone; and near PyTorch at all lengths that it has."""
    network, graph, inputs = made(case)
    known = [x.repeat(20, *(1,) * (x.dim() - 1)) + 0.3 * torch.randn(20 * len(x), *x.shape[1:]) for x in inputs]
    lengths = graph.lengths_of({"x": inputs[0].shape[1:]}, 1)
    alone = [known[0].numpy()]
    free, bound = (quantise(each, alone)[0] for each in (graph, graph.bind(lengths)))
    (found,), (expected,) = (reference.run_all(each, {"x": alone[0]}) for each in (free, bound))
    np.testing.assert_array_equal(found, expected)
    path = tmp_path / "net.secateur"
    pack(network, path, example=inputs[0], sizes={"x": CASES[case][1]}, quantize="int8", calibration=known)
    session, packed = load(path), packfile.read(path)
    onnx = to_onnx(packed)
    for x in known:
        made_of, (right,) = session(x.numpy()), reference.run_all(packed, {"x": x.numpy()})
        np.testing.assert_array_equal(made_of, right)
        with torch.no_grad():
            wanted = network(x).numpy()
        assert np.square(made_of - wanted).mean() < 1e-3 * wanted.var()
        if importlib.util.find_spec("onnxruntime") is not None:
            run = session_of(onnx)
            # ONNX Runtime may round a sum to the next step, of which some forty are a standard deviation
            np.testing.assert_allclose(run.run(None, {"x": x.numpy()})[0], right, atol=0.05 * float(wanted.std()))


@pytest.mark.parametrize("case", CASES)
def test_one_image_of_each_length_calibrates_as_well_as_many_of_one(case: str) -> None:
    """What the report says of the error is what it is on other images; weights are fitted to all lengths."""
    _, graph, inputs = made(case)
    axis = 1 if case == "tokens" else 2
    sizes = [list(inputs[0].shape[1:]) for _ in range(24)]
    for number, size in enumerate(sizes):
        size[axis - 1] += 2 * number
    several = [np.random.default_rng(number).normal(size=(1, *size)) for number, size in enumerate(sizes)]
    same = [np.random.default_rng(50 + number).normal(size=(1, *sizes[12])) for number in range(24)]
    x = np.random.default_rng(99).normal(size=(16, *sizes[12])).astype(np.float32)
    (exact,) = reference.run_all(graph, {"x": x})
    for batches in (several, same):
        quantised, report = quantise(graph, batches)
        (found,) = reference.run_all(quantised, {"x": x})
        error = float(np.square(found - exact).sum() / np.square(exact - np.median(exact, 0)).sum())
        assert report.compared == report.images == 24
        assert 0.2 < report.error / error < 5
        assert error < 2e-3


def test_calibration_data_of_lengths_that_cannot_be_is_refused(tmp_path: Path) -> None:
    network, _, inputs = made("tokens")
    for given, message in (
        ([torch.randn(4, 7, 8)], "calibration batch 0: input 'x', dimension 1: "),
        ([inputs[0], torch.randn(4, 0, 8)], r"calibration batch 1: .*"),
        ([inputs[0], torch.randn(4, 6, 7)], r"calibration batch 1, input 'x': expected shape \(N, 2·length, 8\), got"),
    ):
        with pytest.raises(QuantiseError, match=message):
            pack(
                network, tmp_path / "net.secateur", example=inputs[0], sizes={"x": CASES["tokens"][1]},
                quantize="int8", calibration=given,
            )  # fmt: skip
    assert not (tmp_path / "net.secateur").exists()


class Otherwise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.shape[1] > 8 else x


class Upwards(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.shape[1] < 20 else x


def test_a_network_that_asks_for_its_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        PackError, match=r"for an input of \(1, 6, 4\) the network does something else than for the example"
    ):
        pack(Otherwise(), tmp_path / "net.secateur", example=torch.randn(1, 10, 4), sizes={"x": ("batch", "length", 4)})
    assert not (tmp_path / "net.secateur").exists()
    pack(Upwards(), tmp_path / "net.secateur", example=torch.randn(1, 10, 4), sizes={"x": ("batch", "length", 4)})
    with pytest.raises(RunError, match="19"):
        load(tmp_path / "net.secateur")(np.zeros((1, 20, 4), np.float32))
