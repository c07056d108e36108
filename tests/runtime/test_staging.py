"""Networks that mix images, run by every engine: PyTorch computes the same on the whole batch."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from graph_strategies import FLOATING, graphs, inputs
from kernels import float_kernels
from secateur import packfile
from secateur.errors import RunError
from secateur.exporting.onnx import to_onnx
from secateur.exporting.rebuilding import GraphNetwork
from secateur.network.building import Builder
from secateur.network.graph import Graph, Weight
from secateur.network.limits import Limits
from secateur.network.operations import OPERATIONS
from secateur.network.simplification import simplify
from secateur.network.sizes import named
from secateur.runtime import Session, reference

BATCH, LENGTH = named("batch"), named("length")
MATRIX = np.random.default_rng(0).normal(0, 0.5, (4, 3)).astype(np.float32)


def linear(build: Builder, value: str) -> str:
    return build.emit("linear", value, weights={"weight": Weight.of(MATRIX)})


def all_of(build: Builder, value: str) -> str:
    return build.emit("gather_images", value, images=BATCH)


def centred() -> Graph:
    """Tokens less their mean over images; that is an output too."""
    build = Builder()
    hidden = linear(build, build.input("x", (LENGTH, 3)))
    mean = build.emit("mean", all_of(build, hidden), axes=(1,), keepdims=False)
    return build.graph([build.emit("relu", build.emit("sub", hidden, mean)), mean])


def on_centred(x: Tensor) -> list[Tensor]:
    hidden = x @ torch.from_numpy(MATRIX).T
    return [(hidden - hidden.mean(0)).relu(), hidden.mean(0).expand_as(hidden)]


def attending() -> Graph:
    """Of each image, how much of each other one it takes, and what it takes; then each one's share among all."""
    build = Builder()
    x = build.input("x", (LENGTH, 3))
    mine = build.emit("mean", linear(build, x), axes=(1,), keepdims=False)
    others = all_of(build, mine)
    scores = build.emit("mean", build.emit("mul", mine, others), axes=(2,), keepdims=False)
    weights = build.emit("reshape", build.emit("softmax", scores, axis=1), shape=(BATCH, 1))
    taken = build.emit("mean", build.emit("mul", weights, others), axes=(1,), keepdims=False)
    share = build.emit("scatter_images", build.emit("softmax", all_of(build, taken), axis=1), images=BATCH)
    return build.graph([taken, build.emit("add", share, mine)])


def on_attending(x: Tensor) -> list[Tensor]:
    mine = (x @ torch.from_numpy(MATRIX).T).mean(1)
    taken = (mine @ mine.T / 4).softmax(1) @ mine / len(x)
    return [taken, taken.softmax(0) + mine]


def placed() -> Graph:
    """Tokens with their place in the row, and images with theirs in the batch."""
    build = Builder()
    x = build.input("x", (LENGTH, 3))
    places = build.emit("reshape", build.emit("range", start=0.5, step=-0.25, length=LENGTH), shape=(LENGTH, 1))
    filled = build.emit("concat", places, build.emit("fill", value=2.0, shape=(LENGTH, 2)), axis=2)
    numbers = build.emit("range", start=0.0, step=1.0, length=BATCH)
    number = build.emit("scatter_images", numbers, images=BATCH)
    return build.graph([build.emit("mul", x, filled), build.emit("add", x, number), numbers])


def on_placed(x: Tensor) -> list[Tensor]:
    places = 0.5 - 0.25 * torch.arange(x.shape[1])[:, None]
    numbers = torch.arange(len(x), dtype=torch.float32)
    by = torch.cat([places, torch.full((x.shape[1], 2), 2.0)], 1)
    return [x * by, x + numbers[:, None, None], numbers.expand(len(x), -1)]


CASES: dict[str, tuple[Graph, Callable[[Tensor], list[Tensor]]]] = {
    "centred": (centred(), on_centred),
    "attending": (attending(), on_attending),
    "placed": (placed(), on_placed),
}
SIZES = [(1, 4), (2, 1), (5, 3), (17, 6)]


def images(batch: int, length: int) -> np.ndarray:
    return np.random.default_rng(batch).normal(size=(batch, length, 3)).astype(np.float32)


def agree(found: Any, expected: Sequence[Tensor]) -> None:
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.shape == tuple(theirs.shape)
        np.testing.assert_allclose(mine, theirs.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_every_engine_computes_what_pytorch_does_on_the_whole_batch(case: str, tmp_path: Path) -> None:
    graph, on_tensors = CASES[case]
    packfile.write(graph, tmp_path / "net.secateur")
    read, small = packfile.read(tmp_path / "net.secateur"), simplify(graph)
    sessions = [Session(graph, kernel=kernel) for kernel in float_kernels()]
    sessions += [Session(read, threads=2), Session(small), pickle.loads(pickle.dumps(sessions[0]))]
    onnx = onnxruntime.InferenceSession(to_onnx(graph), providers=["CPUExecutionProvider"])
    for size in SIZES:
        x = images(*size)
        expected = on_tensors(torch.from_numpy(x))
        for session in sessions:
            agree(session(x), expected)
        for each in (graph, read, small):
            agree(reference.run_all(each, {"x": x}), expected)
        agree(GraphNetwork(graph)(torch.from_numpy(x)), expected)
        agree(onnx.run(None, {"x": x}), expected)


CROSSING = tuple(op for op, operation in OPERATIONS.items() if operation.ordinary is not None)


@given(graph=graphs(operations=(*FLOATING, *CROSSING * 8), most=8), batch=st.integers(0, 4))
@settings(max_examples=30, deadline=None)
def test_random_graphs_that_mix_images_are_the_references_and_pytorchs(graph: Graph, batch: int) -> None:
    x = inputs(graph, batch)
    expected = reference.run_all(graph, {"x": x})
    for found in (Session(graph)(x), Session(simplify(graph))(x), GraphNetwork(graph)(torch.from_numpy(x))):
        for mine, right in zip(found if isinstance(found, tuple) else (found,), expected, strict=True):
            assert mine.shape == right.shape
            scale = max(1.0, float(np.abs(right).max(initial=0)))
            np.testing.assert_allclose(np.asarray(mine), right, rtol=1e-3, atol=1e-4 * scale)


def test_a_plan_says_the_stages() -> None:
    plan = Session(centred()).plan(5, lengths={"length": 4})
    assert [kind for kind, _ in plan.stages] == ["image by image", "once for all images", "image by image"]
    ran = [sum(count * block for block, _, count in each.parts) for _, each in plan.stages]
    assert (5 <= ran[0] <= 16, ran[1], 5 <= ran[2] <= 16) == (True, 1, True)  # images side by side fill vectors
    assert str(plan).splitlines()[0].startswith("image by image: ")
    assert {"linear", "mean", "sub"} <= {step.name for step in plan.steps}


def test_what_does_not_depend_on_the_batch_is_compiled_once() -> None:
    session = Session(centred())
    five, three = (session.bind({"length": 4, "batch": batch}) for batch in (5, 3))
    assert [one is other for one, other in zip(five._parts.values(), three._parts.values(), strict=True)] == [
        True,
        False,
        True,
    ]


def test_a_graph_of_each_image_alone_has_no_stages() -> None:
    build = Builder()
    session = Session(build.graph([linear(build, build.input("x", (3,)))]))
    assert session._single
    assert session.plan(5).stages == ()


def test_a_graph_bound_to_a_number_of_images_refuses_others() -> None:
    bound, x = centred().bind({"batch": 5, "length": 4}), images(4, 4)
    with pytest.raises(RunError, match="4 images: expected the 5 that the graph is bound to"):
        Session(bound)(x)
    with pytest.raises(RunError, match="inputs of 4 images: expected the 5 that the graph is bound to"):
        reference.run_all(bound, {"x": x})
    agree(Session(bound)(images(5, 4)), on_centred(torch.from_numpy(images(5, 4))))


def test_no_images_have_a_result_but_no_mean() -> None:
    for found, shape in zip(Session(placed())(images(0, 4)), [(0, 4, 3), (0, 4, 3), (0, 0)], strict=True):
        assert found.shape == shape
    with pytest.raises(RunError, match=r"node 'mean' \(mean\): expected axes that are not empty, got \(0, 4, 4\)"):
        Session(centred())(images(0, 4))


def test_a_thousand_stages_follow_one_another() -> None:
    build = Builder()
    value = build.input("x", (3,))
    for _ in range(500):
        value = build.emit("abs", build.emit("scatter_images", all_of(build, value), images=BATCH))
        value = build.emit("add", value, 1.0)
    session = Session(build.graph([value]))
    np.testing.assert_array_equal(session(np.ones((2, 3), np.float32)), np.full((2, 3), 501))


def test_the_array_to_write_to_may_be_given() -> None:
    build = Builder()
    x = build.input("x", (3,))
    mean = build.emit("mean", all_of(build, x), axes=(1,), keepdims=False)
    session, given = Session(build.graph([build.emit("sub", x, mean)])), images(5, 1)[:, 0]
    out = np.empty_like(given)
    assert session(given, out=out) is out
    np.testing.assert_allclose(out, given - given.mean(0), rtol=1e-5, atol=1e-6)
    assert session(given, out=given) is given
    np.testing.assert_array_equal(given, out)


def test_constants_made_of_sizes_are_limited() -> None:
    build = Builder()
    x = build.input("x", (LENGTH,))
    wide = build.emit("fill", value=1.0, shape=(1 << 18, LENGTH))
    session = Session(build.graph([build.emit("mean", build.emit("mul", x, wide), axes=(1, 2), keepdims=False)]))
    with pytest.raises(RunError, match="numbers out of each that fill 'fill' is given: more than the limit"):
        session(np.ones((1, 64), np.float32))
    many = Limits(memory=1 << 20)
    with pytest.raises(RunError, match="bytes of values for one image: more than the limit of 1,048,576"):
        Session(session._graph, limits=many)(np.ones((1, 2), np.float32))
