"""A Graph made into a module again is the network that it came from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from networks import FAMILIES, make_example, make_graph, make_network, run_network
from secateur import packfile
from secateur.exporting.rebuilding import GraphNetwork, to_tensor
from secateur.network.graph import Graph, Node, Weight
from secateur.runtime import reference


@pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel lengths")
@pytest.mark.parametrize("name", FAMILIES)
def test_a_rebuilt_network_computes_what_its_origin_does(name: str) -> None:
    expected = run_network(make_network(name), make_example(name))
    found = run_network(GraphNetwork(make_graph(name)), make_example(name))
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


def test_its_state_dict_has_the_names_and_bits_of_the_graph() -> None:
    graph = make_graph("slim-resnet-18-cifar", 0.9)
    state = GraphNetwork(graph).state_dict()
    assert state.keys() == graph.weights.keys()
    assert all(np.array_equal(state[name].numpy().view("<u4"), graph.weights[name].bits) for name in state)


def test_narrow_formats_keep_their_bits() -> None:
    weight = Weight("bfloat16", np.array([0x3FC0, 0x8000, 0x7FC1], np.uint16))
    tensor = to_tensor(weight)
    assert tensor.dtype == torch.bfloat16
    assert tensor.view(torch.int16).numpy().view(np.uint16).tolist() == [0x3FC0, 0x8000, 0x7FC1]


def test_a_network_in_eight_bits_is_rebuilt_as_the_float_network_that_it_approximates() -> None:
    graph = packfile.read(Path(__file__).parents[1] / "golden" / "1.2-quantised.secateur")
    network = GraphNetwork(graph)
    bound = "conv2.minimum.constant"
    assert set(network.state_dict()) - {bound} == {name for name in graph.weights if not name.endswith("scale")}
    assert {each.dtype for each in network.state_dict().values()} == {torch.float32}
    x = np.random.default_rng(0).uniform(-3, 3, (4, 3, 8, 8)).astype(np.float32)
    found, expected = network(torch.from_numpy(x)).numpy(), reference.run(graph, x)
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()


def test_several_outputs_and_constants_come_back_whole() -> None:
    nodes = (Node("c", "constant", (), {"value": "w"}, {}, (2,)), Node("y", "relu", ("x",), {}, {}, (2,)))
    network = GraphNetwork(Graph({"x": (2,)}, ("c", "y"), nodes, {"w": Weight.of(np.ones(2, np.float32))}))
    constant, y = network(torch.tensor([[-1.0, 2.0], [3.0, -4.0]]))
    assert constant.tolist() == [[1, 1], [1, 1]]
    assert y.tolist() == [[0, 2], [3, 0]]
