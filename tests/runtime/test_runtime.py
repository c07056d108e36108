"""A Session as its callers see it. That its outputs are right is tests/contracts/test_kernels.py's business."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from secateur import packfile
from secateur.errors import RunError
from secateur.network.graph import Attribute, Graph, Node, Weight
from secateur.runtime import Costs, Normalisation, Session, available_kernels, load, reference
from secateur.training.data import fit, from_arrays


def small_network(seed: int = 0) -> Graph:
    """3×3 convolution, batch norm, ReLU, residual add, pooling, fully connected; half of the weights are zero."""
    random = np.random.default_rng(seed)

    def weight(*shape: int) -> Weight:
        return Weight.of(np.where(random.random(shape) < 0.5, random.normal(0, 0.2, shape), 0).astype(np.float32))

    conv: dict[str, Attribute] = {"stride": (1, 1), "padding": (1, 1, 1, 1), "dilation": (1, 1), "groups": 1}
    pool = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0, 0, 0), "dilation": (1, 1)}
    norm = {"mean": "mean", "variance": "variance"}
    nodes = (
        Node("one", "conv2d", ("x",), {"weight": "w1"}, conv, (8, 12, 10)),
        Node("norm", "batch_norm", ("one",), norm, {"eps": 1e-5}, (8, 12, 10)),
        Node("relu", "relu", ("norm",), {}, {}, (8, 12, 10)),
        Node("two", "conv2d", ("relu",), {"weight": "w2"}, conv, (8, 12, 10)),
        Node("sum", "add", ("relu", "two"), {}, {}, (8, 12, 10)),
        Node("relu2", "relu", ("sum",), {}, {}, (8, 12, 10)),
        Node("pool", "max_pool2d", ("relu2",), {}, pool, (8, 6, 5)),
        Node("flat", "reshape", ("pool",), {}, {"shape": (240,)}, (240,)),
        Node("out", "linear", ("flat",), {"weight": "w3", "bias": "b3"}, {}, (10,)),
    )
    weights = {"w1": weight(8, 3, 3, 3), "w2": weight(8, 8, 3, 3), "w3": weight(10, 240), "b3": weight(10)}
    weights["mean"] = Weight.of(random.normal(0, 0.1, 8).astype(np.float32))
    weights["variance"] = Weight.of(random.uniform(0.5, 1.5, 8).astype(np.float32))
    return Graph({"x": (3, 12, 10)}, ("out",), nodes, weights)


def images(count: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, 3, 12, 10)).astype(np.float32)


def test_fused_steps_are_few_and_say_what_they_do() -> None:
    session = Session(small_network())
    plan = session.plan(batch=64, rounds=1)
    assert [step.operations for step in plan.steps] == [
        "input", "conv2d+batch_norm+relu", "conv2d+add+relu", "max_pool2d", "linear", "output",
    ]  # fmt: skip
    assert [step.name for step in plan.steps] == ["input", "one", "two", "pool", "out", "output"]
    assert plan.kernel == available_kernels()[0]
    assert all(step.seconds is not None and step.seconds > 0 for step in plan.steps)
    convolution = plan.steps[1]
    assert convolution.multiply_adds == 8 * 3 * 9 * 120
    assert 0.3 < convolution.density < 0.7
    assert convolution.nonzero_multiply_adds < convolution.multiply_adds
    assert "conv2d+batch_norm+relu" in str(plan)


@pytest.mark.parametrize("kernel", available_kernels())
def test_results_do_not_depend_on_the_number_of_threads(kernel: str) -> None:
    graph = small_network()
    for batch in (1, 5, 16, 50, 64):
        alone, *others = [Session(graph, threads, kernel)(images(batch)) for threads in (1, 2, 3, 5)]
        for other in others:
            np.testing.assert_array_equal(alone, other)


@pytest.mark.parametrize("kernel", available_kernels())
def test_rows_of_features_may_have_gaps_between_them(kernel: str) -> None:
    """(3, 4, 8) by 16 images: planes a power of two apart are moved apart, also behind a fully connected layer."""
    random = np.random.default_rng(0)
    weights = {"w": Weight.of(random.normal(size=(8, 3)).astype(np.float32))}
    graph = Graph({"x": (3, 4, 3)}, ("y",), (Node("y", "linear", ("x",), {"weight": "w"}, {}, (3, 4, 8)),), weights)
    x = random.normal(size=(16, 3, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(Session(graph, kernel=kernel)(x), reference.run(graph, x), rtol=1e-4, atol=1e-5)


def test_a_session_serves_several_threads_at_once() -> None:
    graph = small_network()
    session = Session(graph, threads=2)
    batches = [images(count) for count in (1, 3, 16, 40, 1, 64)] * 5
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(session, batches))
    for x, y in zip(batches, found, strict=True):
        np.testing.assert_allclose(y, reference.run(graph, x), rtol=1e-4, atol=1e-5)


def test_out_is_written_and_returned() -> None:
    session, x = Session(small_network()), images(5)
    out = np.full((5, 10), np.nan, np.float32)
    assert session(x, out=out) is out
    np.testing.assert_array_equal(out, session(x))


def test_a_wrong_input_is_named_with_what_was_expected() -> None:
    session, x = Session(small_network()), images(2)
    with pytest.raises(RunError, match=r"input 'x': expected float32 \(N, 3, 12, 10\), got float64 \(2, 3, 12, 10\)"):
        session(x.astype(np.float64))
    with pytest.raises(RunError, match=r"expected float32 \(N, 3, 12, 10\), got float32 \(3, 12, 10\)"):
        session(x[0])
    with pytest.raises(RunError, match=r"expected float32 \(N, 3, 12, 10\), got list"):
        session([1.0])
    with pytest.raises(RunError, match="C-contiguous"):
        session(x.transpose(0, 1, 3, 2).copy().transpose(0, 1, 3, 2))
    with pytest.raises(RunError, match="expected 1 input, got 2"):
        session(x, x)


def test_pixels_are_normalised_as_the_file_says(tmp_path: Path) -> None:
    graph, pixels = small_network(), np.random.default_rng(2).integers(0, 256, (3, 3, 12, 10), np.uint8)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)
    packfile.write(graph, tmp_path / "known.secateur", meta=packfile.Metadata(mean, std))
    packfile.write(graph, tmp_path / "unknown.secateur")
    known, unknown = load(tmp_path / "known.secateur"), load(tmp_path / "unknown.secateur")
    whitened = (pixels / 255 - np.reshape(mean, (1, 3, 1, 1))) / np.reshape(std, (1, 3, 1, 1))
    expected = known(whitened.astype(np.float32))
    for given in (pixels, pixels.transpose(0, 1, 3, 2).copy().transpose(0, 1, 3, 2)):
        np.testing.assert_allclose(known(given), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(RunError, match=r"float32 \(N, 3, 12, 10\), got uint8 .*; how uint8 would be normalised is not"):
        unknown(pixels)
    with pytest.raises(RunError, match=r"expected float32 or uint8 \(N, 3, 12, 10\), got uint8 \(3, 12, 10\)"):
        known(pixels[0])


def test_a_wrong_out_is_named_with_what_was_expected() -> None:
    session, x = Session(small_network()), images(2)
    with pytest.raises(RunError, match=r"out: expected float32 \(2, 10\), got float32 \(3, 10\)"):
        session(x, out=np.empty((3, 10), np.float32))
    fixed = np.empty((2, 10), np.float32)
    fixed.flags.writeable = False
    with pytest.raises(RunError, match="can be written to"):
        session(x, out=fixed)


def test_out_is_the_input_or_apart_from_it() -> None:
    session = Session(Graph({"x": (4,)}, ("y",), (Node("y", "relu", ("x",), {}, {}, (4,)),), {}))
    numbers = np.arange(-20, 20, dtype=np.float32).reshape(10, 4)
    for given, out in ((numbers[:9], numbers[1:]), (numbers[1:], numbers[:9])):
        before = numbers.copy()
        with pytest.raises(RunError, match="out: overlaps the input"):
            session(given, out=out)
        np.testing.assert_array_equal(numbers, before)
    expected = np.maximum(numbers, 0)
    np.testing.assert_array_equal(session(numbers[:5], out=numbers[5:]), expected[:5])
    np.testing.assert_array_equal(session(numbers[:5], out=numbers[:5]), expected[:5])


def test_what_the_core_throws_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Core:
        def run(self, *arrays: object) -> None:
            raise RuntimeError("Resource temporarily unavailable")

        def divide(self, images: int) -> None:
            raise ValueError("too long")

    session = Session(small_network(), threads=7, kernel="scalar")
    monkeypatch.setattr(session, "_native", Core())
    with pytest.raises(
        RunError, match=r"^2 images on 7 threads \(kernel scalar\): the runtime stopped: Resource .*: try f"
    ):
        session(images(2))
    with pytest.raises(RunError, match=r"^3 images on 7 threads .*: too long: try fewer threads"):
        session.plan(3)


def test_a_kernel_that_is_missing_is_an_error_that_lists_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = small_network()
    with pytest.raises(RunError, match=f"kernel=sse9: this processor runs {', '.join(available_kernels())}"):
        Session(graph, kernel="sse9")
    monkeypatch.setenv("SECATEUR_KERNEL", "mmx")
    with pytest.raises(RunError, match="SECATEUR_KERNEL=mmx: this processor runs"):
        Session(graph)
    monkeypatch.setenv("SECATEUR_KERNEL", "scalar")
    assert Session(graph).kernel == "scalar"


@pytest.mark.parametrize("threads", [0, -1, 1.5, 1025, 2**31 - 1, 10**14])
def test_threads_are_counted_from_one_and_are_not_without_end(threads: int) -> None:
    with pytest.raises(RunError, match=f"threads: expected a whole number from 1 to 1024, got {threads}"):
        Session(small_network(), threads=threads)


@pytest.mark.parametrize("number", [-1, 1.5, 2**70, "2"])
def test_a_plan_is_for_a_whole_number_of_images(number: int) -> None:
    session = Session(small_network())
    with pytest.raises(RunError, match=f"batch: expected a whole number from 0 to {2**63 - 1}, got {number!r}"):
        session.plan(number)
    with pytest.raises(RunError, match=f"rounds: expected a whole number from 0 to 1000000, got {number!r}"):
        session.plan(1, rounds=number)
    assert sum(size * count for size, _, count in session.plan(2**63 - 1).parts) >= 2**63 - 1
    assert session.plan(0).parts == ()


def test_numbers_of_numpy_are_numbers() -> None:
    session = Session(small_network(), threads=np.int64(2))  # type: ignore[arg-type]
    assert session.threads == 2
    assert session.plan(np.int64(3)) == session.plan(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(2**41,), (0, 2**62), (2**70,)])
def test_images_that_nobody_could_count_are_refused(shape: tuple[int, ...]) -> None:
    graph = Graph({"x": shape}, ("y",), (Node("y", "relu", ("x",), {}, {}, shape),), {})
    with pytest.raises(RunError, match=r"value 'x': expected at most \d+ numbers an image, got shape"):
        Session(graph)


@pytest.mark.parametrize("kernel", available_kernels())
@pytest.mark.parametrize("pool", ["max_pool2d", "avg_pool2d"])
def test_the_widest_strides_and_dilations_are_run(kernel: str, pool: str) -> None:
    wide = {"kernel": (1, 1), "stride": (2**24, 2**24), "padding": (0, 0, 0, 0)}
    own: dict[str, Attribute] = {"dilation": (2**24, 2**24)} if pool == "max_pool2d" else {"count_include_pad": False}
    graph = Graph({"x": (1, 5, 5)}, ("y",), (Node("y", pool, ("x",), {}, {**wide, **own}, (1, 1, 1)),), {})
    for batch in (1, 20):
        x = np.random.default_rng(0).normal(size=(batch, 1, 5, 5)).astype(np.float32)
        np.testing.assert_array_equal(Session(graph, kernel=kernel)(x), reference.run(graph, x))


def test_several_inputs_and_outputs() -> None:
    nodes = (Node("sum", "add", ("x", "y"), {}, {}, (4,)), Node("product", "mul", ("x", "y"), {}, {}, (4,)))
    session = Session(Graph({"x": (4,), "y": (4,)}, ("sum", "product"), nodes, {}))
    x, y = np.arange(12, dtype=np.float32).reshape(3, 4), np.full((3, 4), 2, np.float32)
    total, product = session(x, y)
    np.testing.assert_array_equal(total, x + y)
    np.testing.assert_array_equal(product, x * y)
    with pytest.raises(RunError, match=r"as many images in every input, got \[3, 2\]"):
        session(x, y[:2])


def test_more_images_than_memory_holds_are_one_line() -> None:
    graph = Graph(
        {"x": (0,)}, ("y",), (Node("y", "linear", ("x",), {"weight": "w"}, {}, (1024,)),),
        {"w": Weight.of(np.zeros((1024, 0), np.float32))},
    )  # fmt: skip
    with pytest.raises(RunError, match="images take more memory than there is: run fewer at once"):
        Session(graph)(np.empty((1 << 45, 0), np.float32))
    with pytest.raises(RunError, match="images take more memory than there is: run fewer at once"):
        Session(graph)(np.empty((1 << 60, 0), np.float32))


FORKS = """
import os, threading, time
import numpy as np
from secateur.network.graph import Graph, Node
from secateur.runtime import Session

graph = Graph({"x": (4,)}, ("y",), (Node("y", "relu", ("x",), {}, {}, (4,)),), {})
session, x, stop = Session(graph), np.ones((64, 4), np.float32), threading.Event()
session(x)

def use():
    while not stop.is_set():
        session(x)

threads = [threading.Thread(target=use) for _ in range(3)]
for each in threads:
    each.start()
for _ in range(400):
    child = os.fork()
    if child == 0:
        session(x)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
def test_a_forked_child_runs_a_session_that_was_in_use() -> None:
    subprocess.run([sys.executable, "-c", FORKS], check=True, timeout=60)


SHORT_OF_MEMORY = """
import resource
import numpy as np
from secateur.training.data import fit, from_arrays
from secateur.errors import RunError
from secateur.network.graph import Graph, Node, Weight
from secateur.runtime import Session

conv = {"stride": (1, 1), "padding": (1, 1, 1, 1), "dilation": (1, 1), "groups": 1}
nodes = (
    Node("conv", "conv2d", ("x",), {"weight": "w"}, conv, (8, 2048, 2048)),
    Node("y", "mean", ("conv",), {}, {"axes": (2, 3), "keepdims": False}, (8,)),
)
graph = Graph({"x": (1, 2048, 2048)}, ("y",), nodes, {"w": Weight.of(np.ones((8, 1, 3, 3), np.float32))})
session, x = Session(graph, threads=2), np.ones((2, 1, 2048, 2048), np.float32)
session.plan(2)
other = Graph({"x": (4,)}, ("y",), (Node("y", "relu", ("x",), {}, {}, (4,)),), {})
Session(other, threads=2)(np.ones((99, 4), np.float32))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
for more in range(20, 400, 20):
    resource.setrlimit(resource.RLIMIT_AS, (used + more * 2**20, resource.RLIM_INFINITY))
    try:
        session(x)
    except RunError as error:
        assert "more memory than there is" in str(error)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not say what a process takes")
def test_threads_that_find_no_memory_are_an_error_not_an_abort() -> None:
    subprocess.run([sys.executable, "-c", SHORT_OF_MEMORY], check=True, timeout=60)


BUSY = """
import os, signal, sys, threading, time
import numpy as np
from secateur.network.graph import Graph, Node, Weight
from secateur.runtime import Session
weight = Weight.of(np.ones((64, 64, 3, 3), np.float32))
settings = {"stride": (1, 1), "padding": (1,) * 4, "dilation": (1, 1), "groups": 1}
node = Node("n", "conv2d", ("x",), {"weight": "w"}, settings, (64, 64, 64))
graph = Graph({"x": (64, 64, 64)}, ("n",), (node,), {"w": weight})
session, x = Session(graph, int(sys.argv[1]), calibrate=False), np.zeros((4, 64, 64, 64), np.float32)
session(x)
"""

ENDING = (
    BUSY
    + """
def work():
    while True:
        session(x)
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.2)
"""
)

INTERRUPTED = (
    BUSY
    + """
long = np.zeros((2000, 64, 64, 64), np.float32)
out = np.empty((2000, 64, 64, 64), np.float32)
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs have not
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    session(long, out=out)
except KeyboardInterrupt:
    print("interrupted", session(x).shape)
"""
)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_signal_ends_a_long_run(threads: int) -> None:
    """Of 2,000 images, which take some twenty seconds, most are never begun: their outputs are never touched."""
    ended = subprocess.run([sys.executable, "-c", INTERRUPTED, str(threads)], capture_output=True, text=True)
    assert (ended.stdout, ended.stderr) == ("interrupted (4, 64, 64, 64)\n", "")


@pytest.mark.parametrize("threads", [1, 2])
def test_python_ends_in_peace_while_daemon_threads_are_in_a_session(threads: int) -> None:
    ended = subprocess.run([sys.executable, "-c", ENDING, str(threads)], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda session: pickle.loads(pickle.dumps(session))])
def test_copies_and_pickles_of_a_session_compute_the_same(copied: Callable[[Session], Session]) -> None:
    normalisation = Normalisation((0.5,), (0.25,))
    session = Session(small_network(), 2, "scalar", normalisation, calibrate=False)
    other = copied(session)
    assert (other.threads, other.kernel) == (2, "scalar")
    x = images(3)
    assert np.array_equal(other(x), session(x))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda session: pickle.loads(pickle.dumps(session))])
def test_copies_and_pickles_of_a_session_are_planned_by_its_costs(copied: Callable[[Session], Session]) -> None:
    session = Session(
        small_network(), kernel="scalar", costs=Costs(2 * (1e4, 0.15, 2.9, 3.2, 2.4, 1, 5.2, *6 * (1e4,)), "made up")
    )
    assert copied(session).plan(16) == session.plan(16) != Session(small_network(), kernel="scalar").plan(16)


def test_processes_are_given_a_session() -> None:
    session = Session(small_network())
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert np.array_equal(pool.apply(session, (images(3),)), session(images(3)))


def test_images_of_another_size_are_refused_with_what_to_do() -> None:
    conv: dict[str, Attribute] = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1}
    node = Node("y", "conv2d", ("x",), {"weight": "w"}, conv, (2, 27, 27))
    graph = Graph({"x": (1, 28, 28)}, ("y",), (node,), {"w": Weight.of(np.ones((2, 1, 2, 2), np.float32))})
    session = Session(graph, normalisation=Normalisation([0.5], [0.25]))
    for images in (np.zeros((3, 1, 8, 8), np.uint8), np.zeros((3, 1, 8, 8), np.float32)):
        with pytest.raises(RunError, match=r"resize the images first.*interpolate\(images.float\(\), \(28, 28\)"):
            session(images)
    with pytest.raises(RunError) as other:
        session(np.zeros((3, 2, 8, 8), np.uint8))
    assert "resize" not in str(other.value)
    small = np.random.default_rng(0).integers(0, 256, (3, 1, 8, 8), np.uint8)
    grown = torch.nn.functional.interpolate(torch.from_numpy(small).float(), (28, 28), mode="bilinear").round()
    upscaled = fit(from_arrays("small", *[(small, np.arange(3))] * 3), "net", 1, 28)
    assert np.array_equal(grown.to(torch.uint8).numpy(), upscaled.test.images.numpy())
    assert np.shape(session(grown.to(torch.uint8).numpy())) == (3, 2, 27, 27)
