"""How values of one image lie: rows of features as planes of them, other shapes of a value as views of it."""

from collections.abc import Callable

import numpy as np
import pytest

from secateur.exporting.quantising import quantise
from secateur.network.building import Builder
from secateur.network.graph import Graph, Weight
from secateur.runtime import Session, reference

ROWS, FEATURES = 37, 24
"""Rows that fill no whole number of vectors."""

Body = Callable[[Builder, str], str]


def weights(*shape: int) -> Weight:
    return Weight.of(np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32) / 4)


def linear(build: Builder, value: str, outputs: int) -> str:
    matrix = {"weight": weights(outputs, build.shape(value)[-1]), "bias": weights(outputs)}
    return build.emit("linear", value, weights=matrix)


def made(body: Body, shape: tuple[int, ...] = (ROWS, FEATURES)) -> Graph:
    build = Builder()
    return build.graph([body(build, build.input("x", shape))])


def check(graph: Graph, batch: int = 1) -> Session:
    (shape,) = graph.inputs.values()
    x = np.random.default_rng(1).standard_normal((batch, *shape)).astype(np.float32)
    session = Session(graph)
    np.testing.assert_allclose(session(x), reference.run(graph, x), rtol=1e-4, atol=1e-5)
    return session


def copies(session: Session) -> list[str]:
    return [step.operations for step in session.plan(1).steps if step.kernel == "copy"]


def residual_block(build: Builder, x: str) -> str:
    hidden = build.emit("gelu", linear(build, x, 40), approximate="none")
    summed = build.emit("add", x, linear(build, hidden, FEATURES))
    scales = {"weight": weights(FEATURES), "bias": weights(FEATURES)}
    return build.emit("layer_norm", summed, weights=scales, axes=1, eps=1e-5)


def two_blocks(build: Builder, x: str) -> str:
    return residual_block(build, residual_block(build, x))


def heads(build: Builder, x: str) -> str:
    """Parts of features cut out, each multiplied by another, as those of attention."""
    joint = build.emit("reshape", linear(build, x, 3 * FEATURES), shape=(ROWS, 3, 4, FEATURES // 4))
    parts = build.emit("permute", joint, axes=(2, 3, 1, 4))
    cut = [build.emit("slice", parts, axis=1, start=i, stop=i + 1) for i in range(3)]
    product = build.emit("mul", build.emit("add", cut[0], cut[1]), cut[2])
    rows = build.emit("permute", build.emit("reshape", product, shape=(4, ROWS, FEATURES // 4)), axes=(2, 1, 3))
    return linear(build, build.emit("reshape", rows, shape=(ROWS, FEATURES)), 16)


def broadcasts(build: Builder, x: str) -> str:
    value = linear(build, x, FEATURES)
    value = build.emit("mul", value, weights(FEATURES))
    value = build.emit("add", value, weights(ROWS, 1))
    return build.emit("sub", value, build.emit("softmax", linear(build, value, FEATURES), axis=2))


def joined(build: Builder, x: str) -> str:
    value = linear(build, x, FEATURES)
    first = build.emit("slice", value, axis=1, start=0, stop=3)
    return linear(build, build.emit("concat", build.emit("relu", first), value, axis=1), 8)


def pooled(build: Builder, x: str) -> str:
    value = linear(build, x, FEATURES)
    return linear(build, build.emit("mean", value, axes=(1,), keepdims=False), 5)


def attended(causal: bool, mask: tuple[int, ...] | None = None) -> Body:
    """Attention as networks have it: heads cut out of what linear layers make. mask: its shape; True may be seen."""

    def body(build: Builder, x: str) -> str:
        def parts(heads: int) -> str:
            value = build.emit("reshape", linear(build, x, 6 * heads), shape=(ROWS, heads, 6))
            return build.emit("permute", value, axes=(2, 1, 3))

        seen = (
            [] if mask is None else [Weight.of((np.random.default_rng(0).standard_normal(mask) * 3).astype(np.float32))]
        )
        made = build.emit("attention", parts(4), parts(2), parts(2), *seen, scale=0.4, causal=causal)
        rows = build.emit("reshape", build.emit("permute", made, axes=(2, 1, 3)), shape=(ROWS, FEATURES))
        return build.emit("add", linear(build, rows, FEATURES), x)

    return body


def windows(build: Builder, x: str) -> str:
    """Rows of a plane in windows, and back."""
    value = build.emit("reshape", linear(build, x, 8), shape=(3, 4, 3, 5, 8))
    value = build.emit("permute", value, axes=(1, 3, 2, 4, 5))
    value = linear(build, build.emit("reshape", value, shape=(9, 20, 8)), 8)
    value = build.emit("permute", build.emit("reshape", value, shape=(3, 3, 4, 5, 8)), axes=(1, 3, 2, 4, 5))
    return linear(build, build.emit("reshape", value, shape=(12, 15, 8)), 7)


def pixels(build: Builder, x: str) -> str:
    """Channels last for a while, as in ConvNeXt."""

    def convolved(value: str) -> str:
        return build.emit(
            "conv2d", value, weights={"weight": weights(8, 8, 3, 3)},
            stride=(1, 1), padding=(1, 1, 1, 1), dilation=(1, 1), groups=1,
        )  # fmt: skip

    value = build.emit("permute", convolved(x), axes=(2, 3, 1))
    value = build.emit("relu", linear(build, value, 16))
    return convolved(build.emit("permute", linear(build, value, 8), axes=(3, 1, 2)))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("body", "shape"),
    [
        (two_blocks, (ROWS, FEATURES)),
        (heads, (ROWS, FEATURES)),
        (broadcasts, (ROWS, FEATURES)),
        (joined, (ROWS, FEATURES)),
        (pooled, (ROWS, FEATURES)),
        (attended(causal=False), (ROWS, FEATURES)),
        (attended(causal=True), (ROWS, FEATURES)),
        (attended(causal=False, mask=(1, 1, ROWS)), (ROWS, FEATURES)),
        (attended(causal=True, mask=(4, ROWS, ROWS)), (ROWS, FEATURES)),
        (windows, (12, 15, 6)),
        (pixels, (8, 11, 13)),
        (pixels, (8, 16, 16)),
    ],
)
def test_rows_of_features_are_computed_as_planes_of_them(body: Body, shape: tuple[int, ...], batch: int) -> None:
    check(made(body, shape), batch)


def test_rows_of_features_become_planes_once() -> None:
    session = check(made(two_blocks))
    assert copies(session) == ["input", "rearrange", "output"]
    assert all("tile" in step.kernel for step in session.plan(1).steps if step.layer)


@pytest.mark.parametrize("body", [heads, attended(causal=False)])
def test_heads_are_views(body: Body) -> None:
    assert copies(check(made(body))) == ["input", "rearrange", "output"]


def test_channels_that_go_last_for_a_while_are_not_moved() -> None:
    assert copies(check(made(pixels, (8, 11, 13)))) == ["input", "output"]


def test_few_rows_are_products_of_a_matrix_and_a_vector() -> None:
    session = check(made(lambda build, x: linear(build, x, 9), (2, FEATURES)))
    assert copies(session) == ["input", "output"]


def test_rows_in_eight_bits_are_the_references_bit_for_bit() -> None:
    def body(build: Builder, x: str) -> str:
        value = build.emit("relu", linear(build, x, 30))
        value = build.emit("relu", build.emit("add", linear(build, value, FEATURES), x))
        return linear(build, value, 9)

    shown = np.random.default_rng(2).standard_normal((4, ROWS, FEATURES)).astype(np.float32)
    graph, _ = quantise(made(body), [shown])
    session = Session(graph)
    np.testing.assert_array_equal(session(shown[:1]), reference.run(graph, shown[:1]))
    assert all("int8" in step.kernel and "tile" in step.kernel for step in session.plan(1).steps if step.layer)


def seen_otherwise(build: Builder, value: str, random: np.random.Generator) -> str:
    """A part of a value, or the value with its axes exchanged or joined."""
    shape = build.shape(value)
    rank, at = len(shape), int(random.integers(len(shape)))
    kind = random.choice(["slice", "permute", "reshape"])
    if kind == "slice":
        start = int(random.integers(shape[at]))
        stop = int(random.integers(start, shape[at])) + 1
        return build.emit("slice", value, axis=at + 1, start=start, stop=stop)
    if kind == "permute":
        return build.emit("permute", value, axes=tuple(int(each) + 1 for each in random.permutation(rank)))
    joined = (*shape[:at], *map(int, [np.prod(shape[at : at + 2])]), *shape[at + 2 :])
    return build.emit("reshape", value, shape=joined)


@pytest.mark.parametrize("seed", range(100))
def test_parts_of_small_values_meet_others_that_are_repeated_along_them(seed: int) -> None:
    random = np.random.default_rng(seed)

    def body(build: Builder, value: str) -> str:
        for _ in range(random.integers(1, 4)):
            value = seen_otherwise(build, value, random)
        shape = build.shape(value)
        small = tuple(int(each) if random.integers(2) else 1 for each in shape)[int(random.integers(len(shape) + 1)) :]
        both: list[str | Weight] = [value, weights(*small)]
        both = both[:: int(random.choice([1, -1]))]
        return build.emit(str(random.choice(["add", "mul", "sub", "maximum"])), *both)

    check(made(body, tuple(map(int, random.integers(1, 9, random.integers(1, 4))))), batch=int(random.choice([1, 3])))
