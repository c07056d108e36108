"""Rivals, in float32 and in eight bits, and how they are timed."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from networks import make_graph
from secateur.errors import BenchError, UsageError
from secateur.exporting.onnx import to_onnx
from secateur.measure import timing
from secateur.measure.bench import PEERS, Bench, BenchRow, Spread, bench
from secateur.measure.rivals import onnxruntime_engine, openvino_engine, quantised_by_onnxruntime
from secateur.measure.timing import run_on_end, time_twice
from secateur.network.building import Builder
from secateur.network.graph import Graph, Weight
from secateur.network.sizes import named
from secateur.runtime import Session, reference

onnx: Any = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'secateur[onnx]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'secateur[bench]'")


def recorded(names: str) -> tuple[dict[str, Callable[[], object]], list[str]]:
    """An engine for each letter, which writes it down where it runs."""
    calls: list[str] = []

    def engine(name: str) -> Callable[[], object]:
        return lambda: calls.append(name)

    return {name: engine(name) for name in names}, calls


def test_a_warm_engine_runs_among_its_own_runs() -> None:
    engines, calls = recorded("ab")
    times = run_on_end(engines, seconds=0.003)
    assert [name for name, _ in itertools.groupby(calls)] == ["a", "b"] * timing.STRETCHES
    assert all(timing.MIN_ROUNDS <= len(each) <= timing.MAX_ROUNDS for each in times.values())


def test_only_short_runs_are_timed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    engines, _ = recorded("ab")
    assert all(each.in_turns and each.warm for each in time_twice(engines, seconds=0.003).values())
    monkeypatch.setattr(timing, "SHORT_MS", 0.0)
    assert all(each.in_turns and not each.warm for each in time_twice(engines, seconds=0.003).values())


def of_several() -> Graph:
    """Tokens, floats and truth values of a free length, and two outputs."""
    build, length = Builder(), named("length")
    tokens, x, mask = (
        build.input("tokens", (length,), "int64"),
        build.input("x", (length, 4)),
        build.input("mask", (length, 1), "bool"),
    )
    table = Weight.of(np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32))
    weight = Weight.of(np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32))
    held = build.emit(
        "where", mask, build.emit("add", build.emit("embedding", tokens, weights={"weight": table}), x), x
    )
    return build.graph([build.emit("linear", held, weights={"weight": weight}), build.emit("relu", held)])


def test_every_rival_is_given_all_inputs_and_gives_all_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    peers = ["torch", "onnxruntime", "onnxruntime-int8"]
    if importlib.util.find_spec("openvino") is not None:
        peers += ["openvino", "openvino-int8"]
    found = bench(of_several(), batches=(1, 3), peers=peers, seconds=0.001, lengths={"length": 6})
    assert found.missing == {}
    assert {row.engine for row in found.rows} == {"secateur", *peers}
    assert all(row.max_abs_diff < 1e-5 for row in found.rows if not row.engine.endswith("-int8"))

    def second_is_wrong(graph: Graph, threads: int) -> Any:
        def run(*given: np.ndarray) -> tuple[np.ndarray, ...]:
            first, second = Session(graph).run_all(*given)
            return first, second + 1

        return run

    monkeypatch.setitem(PEERS, "torch", second_is_wrong)
    with pytest.raises(BenchError, match="torch and secateur differ by 1 on the same input of 2 images"):
        bench(of_several(), batches=(2,), peers=("torch",), seconds=0.001, lengths={"length": 6})
    for lengths, message in (
        ({}, "lengths not given; expected length: give them as in --lengths length=16"),
        ({"length": -1}, "lengths length=-1: "),
    ):
        with pytest.raises(UsageError, match=message):
            bench(of_several(), lengths=lengths)


def test_onnx_runtime_quantises_every_layer_for_its_rival() -> None:
    model = to_onnx(make_graph("lenet-5"))
    random = np.random.default_rng(0)
    batches = [random.standard_normal((8, 1, 28, 28), np.float32) for _ in range(2)]
    made = quantised_by_onnxruntime(model, batches)
    graph = onnx.load_from_string(made).graph
    makers = {output: node.op_type for node in graph.node for output in node.output}
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    assert len(layers) == 5
    assert all({makers[name] for name in node.input} == {"DequantizeLinear"} for node in layers)
    held = [onnx.numpy_helper.to_array(each) for each in graph.initializer]
    assert {each.dtype.name for each in held if each.ndim > 1} == {"int8"}
    exact, rough = (onnxruntime_engine(each, 1)(batches[0]) for each in (model, made))
    assert 0 < np.abs(rough - exact).max() < 0.05 * np.abs(exact).max()


def test_openvino_takes_any_batch_and_runs_what_onnx_runtime_quantised() -> None:
    pytest.importorskip("openvino", reason="openvino is not installed: pip install 'secateur[bench]'")
    model = to_onnx(make_graph("lenet-5"))
    random = np.random.default_rng(0)
    made = quantised_by_onnxruntime(model, [random.standard_normal((8, 1, 28, 28), np.float32)])
    floating, eight = openvino_engine(model, 1), openvino_engine(made, 1, precision=None)
    for batch in (1, 5):
        x = random.standard_normal((batch, 1, 28, 28), np.float32)
        exact = onnxruntime_engine(model, 1)(x)
        np.testing.assert_allclose(floating(x), exact, rtol=1e-4, atol=1e-5)
        assert 0 < np.abs(eight(x) - exact).max() < 0.05 * np.abs(exact).max()


def test_rivals_in_eight_bits_are_timed_beside_those_in_float32(capfd: pytest.CaptureFixture[str]) -> None:
    found = bench(make_graph("lenet-5"), batches=(1,), peers=("onnxruntime", "onnxruntime-int8"), seconds=0.01)
    ours, floating, eight = found.rows
    assert (ours.engine, floating.engine, eight.engine) == ("secateur", "onnxruntime", "onnxruntime-int8")
    assert floating.relative_error < 1e-5 < eight.relative_error < 0.05
    assert eight.same_choice == 1
    assert all(row.warm is not None and row.warm.n >= timing.MIN_ROUNDS for row in found.rows)
    assert [(each.element, each.fastest_other) for each in found.verdicts()] == [
        ("float32", "onnxruntime"), ("int8", "onnxruntime-int8"),
    ]  # fmt: skip
    assert found.quantisers["onnxruntime-int8"].startswith("ONNX Runtime ")
    assert found.to_json()["rows"][0]["warm"].keys() == {"median_ms", "low_ms", "high_ms", "n"}
    assert capfd.readouterr() == ("", "")


def test_eight_bits_that_compute_something_else_are_no_rival(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PEERS, "onnxruntime-int8", lambda graph, threads: lambda x: np.full((len(x), 10), 9e9))
    monkeypatch.setitem(PEERS, "openvino-int8", lambda graph, threads: lambda x: np.full((len(x), 10), np.nan))
    found = bench(make_graph("lenet-5"), batches=(2,), peers=("onnxruntime-int8", "openvino-int8"), seconds=0.01)
    assert [row.engine for row in found.rows] == ["secateur"]
    assert "that computes something else" in found.missing["onnxruntime-int8"]
    assert found.missing["openvino-int8"] == (
        "in eight bits outputs are off by nan% of their norm: that computes something else"
    )


def test_verdicts_name_the_fastest_of_each_element_in_turns_and_warm() -> None:
    def row(engine: str, turns: float, warm: float) -> BenchRow:
        return BenchRow(engine, 1, 1, turns, turns, turns, 9, 0.0, warm=Spread(warm, warm, warm, 9))

    rows = (
        row("secateur", 1, 0.5), row("torch", 9, 1), row("onnxruntime", 7, 3),
        row("onnxruntime-int8", 3, 2), row("openvino-int8", 4, 1),
    )  # fmt: skip
    floating, eight = Bench(rows, {}).verdicts()
    assert (floating.fastest_other, floating.times_faster, floating.warm) == ("onnxruntime", 7, ("torch", 2))
    assert (eight.fastest_other, eight.times_faster, eight.warm) == ("onnxruntime-int8", 3, ("openvino-int8", 2))
    assert (floating.untimed, eight.untimed) == (("openvino",), ())


def test_rivals_of_a_network_in_eight_bits_are_given_the_float_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which the integers -2 … 2 of a scale of ½ stand for; noise is kept where the input's scale has numbers, before
    flattening too."""
    build = Builder()
    flat = build.emit("reshape", build.input("x", (2, 2)), shape=(4,))
    x = build.emit("quantise", flat, element="int8", scale=0.01, zero_point=0)
    numbers, ones = np.arange(-2, 2).reshape(1, 4).astype(np.int8), np.array([0.5], np.float32)
    held = {"weight": Weight.of(numbers), "scale": Weight.of(ones)}
    out: dict[str, Any] = {"element": "float32", "output_scale": 1.0, "output_zero_point": 0, "low": 0, "high": 0}
    y = build.emit(
        "quantised_linear", x, weights=held, input_scale=0.01, input_zero_point=0, **out,
        residual_scale=1.0, residual_zero_point=0,
    )  # fmt: skip
    given: list[np.ndarray] = []

    def reference_engine(graph: Graph, threads: int, kernel: str | None = None) -> Callable[[Any], Any]:
        return lambda x: given.append(x) or reference.run(graph, x)  # type: ignore[func-returns-value]

    def floating(graph: Graph, threads: int) -> Callable[[Any], Any]:
        (weight,) = graph.weights.values()
        return lambda x: x.reshape(len(x), 4) @ weight.values().T

    monkeypatch.setattr("secateur.measure.bench._engine", reference_engine)
    monkeypatch.setitem(PEERS, "torch", floating)
    found = bench(build.graph([y]), batches=(8,), peers=("torch",), seconds=0.01)
    assert found.dequantised
    assert found.to_json()["dequantised"]
    ours, torch = found.rows
    assert 0 < ours.max_abs_diff < 0.005 * np.abs(numbers / 2).sum()
    assert torch.max_abs_diff < 1e-6
    assert np.abs(given[0]).max() <= 1.28
