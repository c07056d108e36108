"""What a graph may ask for: refused with the figure before anything is allocated, allowed where the caller says so."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from packed import forge
from secateur import packfile
from secateur.cli import main
from secateur.errors import FormatError, RunError
from secateur.importing.aten import to_graph
from secateur.network.graph import Graph, Node, Shape, Weight
from secateur.network.limits import NO_LIMITS, Limits
from secateur.network.quantisation import Quantisation
from secateur.runtime import Session, load
from secateur.training.models import build_network, find_architecture


def single(op: str, given: Shape, made: Shape, **attributes: Any) -> Graph:
    return Graph({"x": given}, ("n",), (Node("n", op, ("x",), {}, attributes, made),), {})


def convolved(given: Shape, weight: Shape, made: Shape, **attributes: Any) -> Graph:
    settings = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1, **attributes}
    node = Node("n", "conv2d", ("x",), {"weight": "w"}, settings, made)
    return Graph({"x": given}, ("n",), (node,), {"w": Weight.of(np.zeros(weight, np.float32))})


def quantised(op: str, given: Shape, made: Shape, weight: Shape = (), **attributes: Any) -> Graph:
    """An operation in eight bits between quantise and dequantise."""
    of = Quantisation("uint8", 0.5, 0)
    settings = {"element": "uint8", **of.stated("input_"), **of.stated("output_"), **attributes}
    first = Node("q", "quantise", ("x",), {}, {"element": "uint8", **of.stated()}, given)
    held = {"w": Weight.of(np.zeros(weight, np.int8)), "s": Weight.of(np.ones(weight[:1], np.float32))}
    weights = held if weight else {}
    roles = {"weight": "w", "scale": "s"} if weight else {}
    nodes = (
        first,
        Node("n", op, ("q",), roles, settings, made),
        Node("d", "dequantise", ("n",), {}, of.stated(), made),
    )
    return Graph({"x": given}, ("d",), nodes, weights)


def chain(length: int) -> Graph:
    nodes = [Node(f"n{i}", "relu", (f"n{i - 1}" if i else "x",), {}, {}, (1,)) for i in range(length)]
    return Graph({"x": (1,)}, (f"n{length - 1}",), tuple(nodes), {})


def widened(graph: Graph, **changes: Any) -> Graph:
    return Graph(**{"inputs": graph.inputs, "outputs": graph.outputs, "nodes": graph.nodes, "weights": {}, **changes})


POOL = {"stride": (1, 1), "padding": (4000,) * 4}
DEAR: dict[str, tuple[Graph, str, str]] = {
    "max pool": (
        single("max_pool2d", (1, 1000, 1000), (1, 1001, 1001), kernel=(8000, 8000), dilation=(1, 1), **POOL),
        "window_elements",
        "1,002,001,000,000 elements that pooling and means look at for one image",
    ),
    "average pool": (
        single("avg_pool2d", (1, 1000, 1000), (1, 1001, 1001), kernel=(8000, 8000), count_include_pad=True, **POOL),
        "window_elements",
        "1,002,001,000,000 elements",
    ),
    "adaptive": (
        single("adaptive_avg_pool2d", (1, 8, 8), (1, 8192, 8192), size=(8192, 8192)),
        "growth",
        "1,048,576 numbers out of each that adaptive_avg_pool2d 'n' is given",
    ),
    "padding": (
        convolved((1, 1, 1), (1, 1, 1, 1), (1, 8193, 8193), padding=(4096,) * 4),
        "growth",
        "numbers out of each that conv2d 'n' is given",
    ),
    "input": (single("relu", (1 << 28,), (1 << 28,)), "memory", "4,294,967,296 bytes of values for one image"),
    "convolution": (
        convolved((8, 3000, 3000), (1, 8, 512, 512), (1, 2489, 2489)),
        "multiply_adds",
        "12,992,110,395,392 multiply-adds for one image",
    ),
    "average in eight bits": (
        quantised(
            "quantised_avg_pool2d",
            (1, 1000, 1000),
            (1, 1001, 1001),
            kernel=(2800, 2800),
            stride=(1, 1),
            padding=(1400,) * 4,
            count_include_pad=True,
        ),
        "window_elements",
        "1,002,001,000,000 elements",
    ),
    "convolution in eight bits": (
        quantised(
            "quantised_conv2d",
            (8, 3000, 3000),
            (1, 2489, 2489),
            (1, 8, 512, 512),
            stride=(1, 1),
            padding=(0, 0, 0, 0),
            dilation=(1, 1),
            groups=1,
            low=0,
            high=255,
            residual_scale=1.0,
            residual_zero_point=0,
        ),
        "multiply_adds",
        "12,992,110,395,392 multiply-adds for one image",
    ),
    "operations": (chain(20_000), "nodes", "20,000 operations"),
    "inputs": (widened(chain(1), inputs={"x": (1,)} | {f"x{i}": (1,) for i in range(1999)}), "inputs", "2,000 inputs"),
    "outputs": (widened(chain(9), outputs=tuple(f"n{i % 9}" for i in range(3000))), "outputs", "3,000 outputs"),
    "links": (
        Graph({"x": (1,)}, ("n",), (Node("n", "concat", ("x",) * 200_000, {}, {"axis": 1}, (200_000,)),), {}),
        "links",
        "200,000 values read by its operations",
    ),
    "names": (
        Graph({"x": (1,)}, ("n",), (Node("n", "relu", ("x",), {}, {}, (1,), "a" * 5_000_000),), {}),
        "names",
        "5,000,004 characters in its names",
    ),
}


@pytest.mark.parametrize("name", DEAR)
def test_a_graph_that_asks_for_too_much_is_refused_with_the_figure(name: str) -> None:
    graph, limit, figure = DEAR[name]
    tracemalloc.start()
    with pytest.raises(RunError, match="more than the limit of") as caught:
        Session(graph)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert figure in str(caught.value)
    assert f"limits=Limits({limit}=…)" in str(caught.value)
    assert peak < 32 << 20


NOT_IN_FILES = ("convolution", "convolution in eight bits", "names")
"""Those whose files, or whose claims of weights, would be too large."""


@pytest.mark.parametrize("name", [name for name in DEAR if name not in NOT_IN_FILES])
def test_a_file_that_asks_for_too_much_is_refused_before_its_weights_are_read(name: str, tmp_path: Path) -> None:
    graph, _, figure = DEAR[name]
    packfile.write(graph, tmp_path / "net", verify=None)
    assert (tmp_path / "net").stat().st_size < 400_000
    for open_it in (packfile.read, packfile.describe, packfile.unpack, load):
        with pytest.raises(FormatError, match="more than the limit of") as caught:
            open_it(tmp_path / "net")
        assert figure in str(caught.value)


def test_the_caller_can_allow_more(tmp_path: Path) -> None:
    graph, _, _ = DEAR["outputs"]
    packfile.write(graph, tmp_path / "net")
    for limits in (Limits(outputs=3000), Limits(outputs=None), NO_LIMITS):
        assert len(packfile.read(tmp_path / "net", limits=limits).outputs) == 3000
        outputs = load(tmp_path / "net", limits=limits)(np.ones((2, 1), np.float32))
        assert len(outputs) == 3000


def test_the_command_line_can_allow_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "net"
    packfile.write(DEAR["outputs"][0], path)

    def said(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["inspect", str(path), "--format", "json", *words])
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, captured.out + captured.err

    code, text = said()
    assert code == 1
    assert "3,000 outputs: more than the limit of 1,024; if you trust it" in text
    for asked in ("outputs=3e3", "outputs=none,nodes=9", "none"):
        code, text = said("--limits", asked)
        assert (code, json.loads(text)["operations"]) == (0, 9)
    for wrong in ("outputs", "outputs=many", "apples=3", "=3"):
        code, text = said("--limits", wrong)
        assert (code, "expected NAME=NUMBER" in text) == (2, True)


def test_limits_are_checked_on_what_a_file_only_claims(tmp_path: Path) -> None:
    """A description that is wrong besides: counts come first, costs only where shapes hold."""
    node = {"name": "n", "op": "max_pool2d", "inputs": ["x"], "attributes": {"kernel": "x"}, "shape": [1]}
    described = {"producer": "", "inputs": {"x": [1]}, "outputs": ["n"], "nodes": [node], "weights": []}
    with pytest.raises(FormatError, match="attributes"):
        packfile.read(forge(tmp_path / "net", described))
    with pytest.raises(FormatError, match="20,000 operations"):
        packfile.read(forge(tmp_path / "net", {**described, "nodes": [node] * 20_000}))


@pytest.mark.parametrize("groups", [16_384, 4096])
def test_many_groups_are_planned_and_right(groups: int) -> None:
    """A plan takes no time for the products of channels that groups keep apart."""
    random = np.random.default_rng(0)
    layer = nn.Conv2d(groups, groups, 1, groups=groups, bias=False)
    graph = convolved((groups, 1, 1), (groups, 1, 1, 1), (groups, 1, 1), groups=groups)
    weight = layer.weight.detach().numpy()
    graph = widened(graph, weights={"w": Weight.of(weight)})
    x = random.normal(size=(3, groups, 1, 1)).astype(np.float32)
    session = Session(graph)
    assert session.plan().steps[1].multiply_adds == groups
    assert np.allclose(session(x), layer(torch.from_numpy(x)).detach(), atol=1e-6)
    assert np.allclose(session(x[:1]), layer(torch.from_numpy(x[:1])).detach(), atol=1e-6)


def test_networks_in_use_are_far_below() -> None:
    network = build_network(find_architecture("resnet-18"), 10, 3, 0)
    tenth = {each.name: getattr(Limits(), each.name) // 10 for each in fields(Limits)}
    Session(to_graph(network, torch.zeros(1, 3, 224, 224)), limits=Limits(**tenth), calibrate=False).plan()
