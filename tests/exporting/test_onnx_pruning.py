"""What has no source but an ONNX file is pruned: as a module, and by one command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import secateur
from onnx_models import by_runtime, model_of, onnx, saved
from secateur.cli import main
from secateur.errors import RunError, UsageError
from secateur.exporting.onnx_pruning import prune_onnx

BODY = """
    a = Conv <pads = [1, 1, 1, 1]> (x, first__weight, first__bias)
    b = Relu (a)
    c = Conv <pads = [0, 0, 1, 1]> (b, second)
    d = GlobalAveragePool (c)
    e = Flatten (d)
    y = Gemm <transB = 1> (e, head__weight, head__bias)
"""
WEIGHTS = {
    "first.weight": (8, 3, 3, 3),
    "first.bias": (8,),
    "second": (16, 8, 3, 3),
    "head.weight": (5, 16),
    "head.bias": (5,),
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    weights: dict[str, Any] = {name.replace(".", "__"): shape for name, shape in WEIGHTS.items()}
    made = model_of("float[n, 3, 8, 8] x", BODY, outputs="float[n, 5] y", **weights)
    for node in made.graph.node:
        node.input[:] = [name.replace("__", ".") for name in node.input]
    for each in made.graph.initializer:
        each.name = each.name.replace("__", ".")
    return saved(made, tmp_path)


X = np.random.default_rng(1).normal(size=(32, 3, 8, 8)).astype(np.float32)


def outputs(path: Path) -> np.ndarray:
    return np.asarray(by_runtime(onnx.load(path), {"x": X})[0])


def test_a_file_becomes_layers_that_compute_what_onnx_runtime_does(model: Path) -> None:
    network = secateur.from_onnx(model)
    found = network(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_allclose(found, outputs(model), rtol=1e-4, atol=1e-4)
    kinds = {name: type(each) for name, each in network.named_modules() if isinstance(each, (nn.Conv2d, nn.Linear))}
    assert kinds == {"first": nn.Conv2d, "c": nn.Conv2d, "head": nn.Linear}
    assert network.state_dict()["first.weight"].shape == (8, 3, 3, 3)
    log = secateur.prune(network, 0.5)
    assert log.kept == {"first": 108, "c": 576}
    assert secateur.layer_sparsity(network)["head"] == 0


def test_a_module_is_called_and_answers_by_the_names_of_the_file(tmp_path: Path) -> None:
    body = """
        a = Conv <pads = [1, 1, 1, 1]> (x, w)
        n = Relu (a)
        scores = BatchNormalization (n, s, b, m, v)
        t = Mul (scores, gain)
        total = ReduceSum <keepdims = 0> (t, axes)
    """
    shapes = {"w": (4, 3, 3, 3), "s": (4,), "b": (4,), "m": (4,), "v": np.array([1, 2, 3, 4], np.float32)}
    given = "float[n, 3, height, 6] x, float[n, 1, 1, 1] gain"
    model = model_of(given, body, 13, outputs="scores, total", axes=np.array([1, 3]), **shapes)
    network = secateur.from_onnx(saved(model, tmp_path))
    assert [type(each) for each in network.children()][:2] == [nn.Conv2d, nn.BatchNorm2d]
    x, gain = (np.random.default_rng(0).normal(size=size).astype(np.float32) for size in ((2, 3, 5, 6), (2, 1, 1, 1)))
    made = network(gain=torch.from_numpy(gain), x=torch.from_numpy(x))
    secateur.pack(network, tmp_path / "net.secateur", example={"x": x, "gain": gain})
    packed = secateur.load(tmp_path / "net.secateur")(gain=gain, x=x)
    for name, wanted in zip(("scores", "total"), by_runtime(model, {"x": x, "gain": gain}), strict=True):
        np.testing.assert_allclose(made[name].detach().numpy(), wanted, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(packed[name], wanted, rtol=1e-4, atol=1e-4)
    assert secateur.packfile.read(tmp_path / "net.secateur").lengths == ("height",)
    statistics = network.get_submodule("scores").get_buffer("running_mean")
    network.train()(torch.from_numpy(x), torch.from_numpy(gain))
    assert not np.allclose(statistics.numpy(), onnx.numpy_helper.to_array(model.graph.initializer[4]))


def test_a_file_in_half_precision_stays_one(tmp_path: Path) -> None:
    body = "h = MatMul(x, first) r = Relu(h) y = MatMul(r, second)"
    random = np.random.default_rng(0)
    weights = {
        name: random.normal(size=shape).astype(np.float16) for name, shape in (("first", (4, 8)), ("second", (8, 2)))
    }
    model = model_of("float16[n, 4] x", body, 13, outputs="float16[n, 2] y", **weights)
    found = prune_onnx(saved(model, tmp_path), tmp_path / "pruned.onnx", 0.5)
    assert found.log.sparsity == 0.5
    x = random.normal(size=(3, 4)).astype(np.float16)
    (made,) = by_runtime(onnx.load(tmp_path / "pruned.onnx"), {"x": x})
    first = np.where(np.abs(weights["first"]) > np.sort(np.abs(weights["first"]), None)[15], weights["first"], 0)
    wanted = np.maximum(x.astype(np.float32) @ first, 0) @ weights["second"].astype(np.float32)
    assert made.dtype == np.float16
    np.testing.assert_allclose(made, wanted, rtol=2e-3, atol=2e-3)


def test_a_pruned_file_is_called_as_the_one_it_came_from(tmp_path: Path) -> None:
    body = "h = MatMul(x, first) r = Relu(h) m = Mul(r, rows) y = MatMul(m, second) t = Add(y, state)"
    weights = {"first": (4, 8), "second": (8, 4), "rows": (3, 1, 8)}
    model = model_of("float[3, n, 4] x, float[3, 1, 4] state", body, 13, outputs="y, t", **weights)
    prune_onnx(saved(model, tmp_path), tmp_path / "pruned.onnx", 0.0)
    found = onnx.load(tmp_path / "pruned.onnx")
    onnx.checker.check_model(found, full_check=True)
    x, state = (np.random.default_rng(0).normal(size=(3, n, 4)).astype(np.float32) for n in (5, 1))
    assert [each.name for each in found.graph.output] == ["y", "t"]
    for one, other in zip(*(by_runtime(each, {"x": x, "state": state}) for each in (found, model)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_pruned_zeros_are_in_the_file_and_repair_lowers_the_error(model: Path, tmp_path: Path) -> None:
    expected, errors = outputs(model), []
    for repair in ("none", "reconstruct"):
        path = tmp_path / f"{repair}.onnx"
        found = prune_onnx(model, path, 0.7, repair=repair, calibration={"x": X})
        weights = {each.name: onnx.numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}
        assert np.mean(weights["first.weight"] == 0) == pytest.approx(0.7, abs=0.01)
        errors.append(np.linalg.norm(outputs(path) - expected) / np.linalg.norm(expected))
        assert found.moved is not None
        assert found.moved.repaired == pytest.approx(errors[-1], rel=0.01)
    assert errors[1] < 0.8 * errors[0]


def half_of(path: Path) -> Path:
    """The same model with weights of float16, cast where they are used."""
    made = onnx.load(path)
    names = [each.name for each in made.graph.initializer]
    for node in made.graph.node:
        node.input[:] = [f"{name}.wide" if name in names else name for name in node.input]
    for each in made.graph.initializer:
        each.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(each).astype(np.float16), each.name))
        made.graph.node.insert(0, onnx.helper.make_node("Cast", [each.name], [f"{each.name}.wide"], to=1))
    return saved(made, path.parent)


@pytest.mark.parametrize("half", [False, True])
def test_sparse_initializers_hold_the_weights_that_are_left(half: bool, model: Path, tmp_path: Path) -> None:
    model = half_of(model) if half else model
    sizes = {}
    for sparse in (False, True):
        path = tmp_path / f"{sparse}.onnx"
        assert prune_onnx(model, path, 0.9, sparse=sparse).log.kept == {"first": 22, "c": 115}
        onnx.checker.check_model(path)
        sizes[sparse] = path.stat().st_size
    held = onnx.load(tmp_path / "True.onnx").graph.sparse_initializer
    assert sorted(tuple(each.dims) for each in held) == [(8, 3, 3, 3), (16, 8, 3, 3)]
    assert sizes[True] < sizes[False]
    np.testing.assert_array_equal(outputs(tmp_path / "True.onnx"), outputs(tmp_path / "False.onnx"))
    again = secateur.load(tmp_path / "True.onnx")(X)
    np.testing.assert_allclose(again, outputs(tmp_path / "True.onnx"), rtol=1e-4, atol=1e-4)


def test_the_ending_says_what_is_written(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for ending in ("secateur", "safetensors"):
        with pytest.raises(SystemExit) as left:
            main(["prune", str(model), "--ratio", "0.5", "-o", str(tmp_path / f"net.{ending}")])
        assert left.value.code == 0
    told = capsys.readouterr().out
    assert "50.0% of the weights of 2 layers are zero" in told
    from safetensors.numpy import load_file

    assert np.count_nonzero(load_file(tmp_path / "net.safetensors")["first.weight"]) == 108
    network = secateur.from_onnx(model)
    secateur.prune(network, 0.5, example=X)
    with torch.no_grad():
        expected = network(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(secateur.load(tmp_path / "net.secateur")(X), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_recurrent_layer_that_gives_its_last_cell_is_one_again(reverse: bool, tmp_path: Path) -> None:
    direction = "reverse" if reverse else "forward"
    body = f'y, h, c = LSTM<hidden_size=6, direction="{direction}">(x, w, r, b)'
    weights = {"w": (1, 24, 4), "r": (1, 24, 6), "b": (1, 48)}
    made = model_of("float[5, n, 4] x", body, 14, outputs="y, h, c", **weights)
    path, again = saved(made, tmp_path), tmp_path / "again.onnx"
    prune_onnx(path, again, 0.5)
    assert [node.op_type for node in onnx.load(again).graph.node].count("LSTM") == 1
    x = np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32)
    pruned = secateur.load(again)(x=x)
    for name, wanted in zip("yhc", by_runtime(onnx.load(again), {"x": x}), strict=True):
        np.testing.assert_allclose(pruned[name], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("shape", "axis"), [("2, n, 4", 1), ("2, 4", None)])
def test_calibration_has_its_images_where_the_file_has_them(shape: str, axis: int | None, tmp_path: Path) -> None:
    body = "h = MatMul(x, w1) r = Relu(h) m = Mul(r, rows) y = MatMul(m, w2)"
    rows = (2, 1, 8) if axis else (2, 8)
    made = model_of(f"float[{shape}] x", body, 13, outputs=f"float[{shape}] y", w1=(4, 8), w2=(8, 4), rows=rows)
    path, given = saved(made, tmp_path), np.random.default_rng(0).normal(size=(12, 2, 4)).astype(np.float32)
    x = {"x": given if axis is None else np.moveaxis(given, 0, axis)}
    found = prune_onnx(path, tmp_path / "pruned.onnx", 0.5, repair="reconstruct", calibration=x)
    assert found.moved is not None
    assert 0 < found.moved.repaired < found.moved.pruned
    if axis == 1:
        with pytest.raises(RunError, match=r"expected \(2, N, 4\), got float32 of \(12, 2, 4\)"):
            prune_onnx(path, tmp_path / "again.onnx", 0.5, repair="reconstruct", calibration={"x": given})


@pytest.mark.parametrize(
    ("name", "asked", "error", "message"),
    [
        ("net.pt", {}, UsageError, "expected a name that ends in .onnx, .secateur, .safetensors"),
        ("net.secateur", {"sparse": True}, UsageError, "sparse initializers are ONNX's"),
        ("net.onnx", {"repair": "joint"}, UsageError, "looks at inputs: expected some as calibration"),
        ("net.onnx", {"method": "snip"}, UsageError, "needs labels"),
        ("net.onnx", {"calibration": X[:, :2]}, RunError, r"'x': expected \(N, 3, 8, 8\), got float32 of \(32, 2"),
        ("net.onnx", {"exclude": ["nobody"]}, UsageError, "nobody"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_leaves_no_file(
    model: Path, tmp_path: Path, name: str, asked: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as said:
        prune_onnx(model, tmp_path / name, 0.5, **asked)  # type: ignore[arg-type]
    assert "\n" not in str(said.value)
    assert {each.name for each in tmp_path.iterdir()} == {"model.onnx"}
