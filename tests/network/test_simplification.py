"""A simplified graph computes the same; what cannot matter is gone."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from graph_strategies import dead_graphs, graphs, inputs
from networks import FAMILIES, make_example, make_graph, make_network, run_network
from secateur.importing.aten import to_graph
from secateur.network.building import Builder
from secateur.network.graph import Attribute, Graph, Node, Weight
from secateur.network.simplification import fold_scales, remove_units, share_equal_weights, simplify, tidy
from secateur.runtime import reference


def count(graph: Graph) -> int:
    return sum(weight.count for weight in graph.weights.values())


def assert_same_results(left: Graph, right: Graph, batch: int = 3) -> None:
    assert (left.inputs, left.outputs) == (right.inputs, right.outputs)
    x = {name: inputs(left, batch) for name in left.inputs}
    for name, mine, theirs in zip(left.outputs, reference.run_all(left, x), reference.run_all(right, x), strict=True):
        scale = max(1.0, float(np.abs(theirs).max(initial=0)))
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5 * scale, err_msg=name)


@given(graph=graphs(most=8), batch=st.integers(0, 2))
@settings(max_examples=100, deadline=None)
def test_random_graphs_keep_their_results(graph: Graph, batch: int) -> None:
    simple = simplify(graph)
    assert_same_results(simple, graph, batch)
    made = {name for node in simple.nodes for role, name in node.weights.items() if role in ("bias", "value")}
    assert count(simple) <= count(graph) + sum(simple.weights[name].count for name in made)


@given(graph=dead_graphs())
@settings(max_examples=150, deadline=None)
def test_removing_units_keeps_results(graph: Graph) -> None:
    assert_same_results(remove_units(graph), graph)


@given(
    graph=graphs(("conv2d", "linear", "batch_norm", "mul", "add", "relu"), least=2, dtype="mixed"), widen=st.booleans()
)
@settings(max_examples=100, deadline=None)
def test_folding_keeps_results(graph: Graph, widen: bool) -> None:
    assert_same_results(fold_scales(graph, widen=widen), graph)


@pytest.mark.parametrize(
    ("name", "ratio"),
    [*itertools.product([*FAMILIES, "lenet-300-100", "lenet-5"], [0, 0.9, 0.99]), ("slim-resnet-18", 0.9)],
)
def test_simplified_networks_agree_with_pytorch(name: str, ratio: float) -> None:
    network, graph = make_network(name, ratio), simplify(make_graph(name, ratio))
    for batch in (1, 5) if name in FAMILIES else (2,):
        x = make_example(name, batch)
        found, expected = reference.run(graph, x.numpy()), run_network(network, x).numpy()
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def dense_units(*sizes: int) -> list[nn.Linear]:
    return [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]


def zero_rows(layer: nn.Module, rows: list[int], bias: float = 0.0) -> None:
    with torch.no_grad():
        layer.get_parameter("weight")[rows] = 0
        layer.get_parameter("bias")[rows] = bias


def shapes(graph: Graph) -> dict[str, tuple[int, ...]]:
    return {name: weight.shape for name, weight in graph.weights.items()}


def simplified(network: nn.Module, *shape: int) -> Graph:
    """The simplified graph of a network, checked against it."""
    graph = simplify(to_graph(network.eval(), torch.randn(2, *shape)))
    x = torch.randn(3, *shape)
    expected = run_network(network, x).numpy()
    assert np.abs(reference.run(graph, x.numpy()) - expected).max() / np.abs(expected).max() < 1e-5
    return graph


def test_a_dead_hidden_unit_leaves_with_all_its_weights() -> None:
    first, second, third = dense_units(6, 5, 4, 3)
    zero_rows(first, [1, 3], bias=0.5)
    graph = simplified(nn.Sequential(first, nn.ReLU(), second, nn.Sigmoid(), third), 6)
    assert shapes(graph)["0.weight"] == (3, 6)
    assert shapes(graph)["2.weight"] == (4, 3)
    assert shapes(graph)["4.weight"] == (3, 4)


def test_a_chain_of_dead_units_leaves_at_once() -> None:
    """The second layer's unit reads nothing but the first layer's dead one."""
    first, second, third = dense_units(6, 5, 4, 3)
    zero_rows(first, [2], bias=1.0)
    with torch.no_grad():
        second.weight[1, [0, 1, 3, 4]] = 0
    graph = simplified(nn.Sequential(first, nn.Tanh(), second, nn.GELU(), third), 6)
    assert shapes(graph) == {"0.weight": (4, 6), "0.bias": (4,), "2.weight": (3, 4), "2.bias": (3,)} | {
        "4.weight": (3, 3),
        "4.bias": (3,),
    }


def test_a_unit_that_nothing_reads_leaves() -> None:
    first, second = dense_units(6, 5, 3)
    with torch.no_grad():
        second.weight[:, 4] = 0
    graph = simplified(nn.Sequential(first, nn.ReLU(), second), 6)
    assert (shapes(graph)["0.weight"], shapes(graph)["2.weight"]) == ((4, 6), (3, 4))


@pytest.mark.parametrize(("padding", "bias", "left"), [(1, 0.5, 4), (1, 0.0, 3), (1, -0.5, 3), (0, 0.5, 3)])
def test_a_constant_leaves_before_padding_only_where_it_is_zero(padding: int, bias: float, left: int) -> None:
    first, second = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 3, 3, padding=padding)
    zero_rows(first, [1], bias)
    graph = simplified(nn.Sequential(first, nn.ReLU(), second), 2, 7, 7)
    assert (shapes(graph)["0.weight"], shapes(graph)["2.weight"]) == ((left, 2, 3, 3), (3, left, 3, 3))


def test_dead_channels_leave_through_pooling_and_flattening() -> None:
    conv, fc = nn.Conv2d(1, 4, 3), nn.Linear(4 * 9, 5)
    zero_rows(conv, [0, 2], bias=0.3)
    graph = simplified(nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), fc), 1, 8, 8)
    assert shapes(graph) == {"0.weight": (2, 1, 3, 3), "0.bias": (2,), "4.weight": (5, 18), "4.bias": (5,)}


class Shortcut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.head = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, padding=1), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        return self.head((x + self.inner(x)).mean((2, 3)))


def test_a_sum_loses_a_channel_only_where_both_sides_do() -> None:
    network = Shortcut()
    zero_rows(network.stem, [0, 1], bias=-1.0)
    zero_rows(network.inner, [1, 2])
    held = shapes(simplified(network, 3, 5, 5))
    assert held["stem.weight"] == (5, 3, 1, 1)
    assert held["inner.weight"] == (5, 5, 3, 3)
    assert held["head.weight"] == (2, 5)


def test_depthwise_channels_leave_with_their_group() -> None:
    expand, depthwise, project = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.Conv2d(6, 2, 1)
    zero_rows(expand, [2])
    zero_rows(depthwise, [4])
    graph = simplified(nn.Sequential(expand, nn.ReLU6(), depthwise, nn.ReLU6(), project), 3, 5, 5)
    assert shapes(graph)["2.weight"] == (4, 1, 3, 3)
    assert [node.attributes["groups"] for node in graph.nodes if node.op == "conv2d"] == [1, 4, 1]


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 5, 1), nn.Conv2d(9, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(torch.cat([self.left(x), self.right(x)], 1)))


def test_dead_channels_leave_through_concatenation() -> None:
    network = Dense()
    zero_rows(network.left, [3], bias=2.0)
    zero_rows(network.right, [0, 4])
    graph = simplified(network, 3, 4, 4)
    assert shapes(graph)["head.weight"] == (2, 6, 1, 1)
    assert count(graph) == (3 * 4) + (3 * 4) + (2 * 6 + 2)


@pytest.mark.parametrize(("counted", "left"), [(True, 4), (False, 3)])
def test_an_average_that_counts_padding_is_no_constant(counted: bool, left: int) -> None:
    conv, fc = nn.Conv2d(2, 4, 1), nn.Linear(4 * 9, 3)
    zero_rows(conv, [2], bias=0.7)
    pool = nn.AvgPool2d(3, 2, 1, count_include_pad=counted)
    graph = simplified(nn.Sequential(conv, pool, nn.Flatten(), fc), 2, 5, 5)
    assert shapes(graph)["0.weight"] == (left, 2, 1, 1)


def test_a_dilated_maximum_over_padding_is_no_constant() -> None:
    """Of 2 rows, padded to 4, the taps 0 and 3 see padding only: -inf, whatever the channel holds."""
    nodes = (
        Node(
            "conv", "conv2d", ("x",), {"weight": "w", "bias": "b"}, _window(padding=(0, 0, 0, 0), groups=1), (2, 2, 1)
        ),
        Node(
            "pool",
            "max_pool2d",
            ("conv",),
            {},
            _window(kernel=(2, 1), padding=(1, 1, 0, 0), dilation=(3, 1)),
            (2, 1, 1),
        ),
        Node("sigmoid", "sigmoid", ("pool",), {}, {}, (2, 1, 1)),
        Node("head", "conv2d", ("sigmoid",), {"weight": "h"}, _window(padding=(0, 0, 0, 0), groups=1), (1, 1, 1)),
    )
    weights = {
        "w": Weight.of(np.array([0, 1], np.float32).reshape(2, 1, 1, 1)),
        "b": Weight.of(np.array([1, 1], np.float32)),
        "h": Weight.of(np.array([1, 1], np.float32).reshape(1, 2, 1, 1)),
    }
    graph = Graph({"x": (1, 2, 1)}, ("head",), nodes, weights)
    assert_same_results(remove_units(graph), graph)


def _window(**attributes: Attribute) -> dict[str, Attribute]:
    return {"stride": (1, 1), "dilation": (1, 1)} | attributes


class Stacked(nn.Module):
    """Rows of one convolution below those of another: a channel is constant where both agree on it."""

    def __init__(self) -> None:
        super().__init__()
        self.upper, self.lower, self.head = nn.Conv2d(2, 4, 1), nn.Conv2d(2, 4, 1), nn.Linear(4 * 6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.cat([self.upper(x), self.lower(x)], 2).flatten(1))


def test_channels_side_by_side_are_constant_where_all_agree() -> None:
    network = Stacked()
    for layer, values in ((network.upper, (0.5, -1.0)), (network.lower, (0.5, 2.0))):
        zero_rows(layer, [1], bias=values[0])
        zero_rows(layer, [3], bias=values[1])
    held = shapes(simplified(network, 2, 1, 3))
    assert (held["upper.weight"], held["lower.weight"], held["head.weight"]) == ((3, 2, 1, 1), (3, 2, 1, 1), (3, 18))


class Skip(nn.Module):
    """The input itself beside channels of it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(7, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.cat([x, self.conv(x)], 1))


def test_channels_of_the_input_stay() -> None:
    network = Skip()
    zero_rows(network.conv, [1])
    with torch.no_grad():
        network.head.weight[:, [0, 6]] = 0
    held = shapes(simplified(network, 3, 4, 4))
    assert (held["conv.weight"], held["head.weight"]) == ((2, 3, 1, 1), (2, 5, 1, 1))


def test_one_unit_is_left_where_all_are_dead() -> None:
    first, second = dense_units(6, 5, 3)
    zero_rows(first, [0, 1, 2, 3, 4], bias=1.0)
    assert shapes(simplified(nn.Sequential(first, second), 6))["0.weight"] == (1, 6)


def test_a_matrix_at_work_twice_stays_whole() -> None:
    first, middle, last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
    zero_rows(middle, [1])
    graph = simplified(nn.Sequential(first, middle, nn.ReLU(), middle, last), 4)
    assert shapes(graph)["1.weight"] == (4, 4)


def test_batch_norm_folds_into_convolution_and_linear() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 5), nn.BatchNorm1d(5),
    )  # fmt: skip
    for norm in (network[1], network[6]):
        nn.init.uniform_(norm.get_buffer("running_var"), 0.5, 2)
        nn.init.normal_(norm.get_buffer("running_mean"))
        nn.init.normal_(norm.get_parameter("weight"))
        nn.init.normal_(norm.get_parameter("bias"))
    graph = simplified(network, 3, 6, 6)
    assert [node.op for node in graph.nodes] == ["conv2d", "relu", "adaptive_avg_pool2d", "reshape", "linear"]
    assert [*graph.weights] == ["0.weight", "0.bias", "5.weight", "5.bias"]
    assert graph.outputs == to_graph(network, torch.randn(1, 3, 6, 6)).outputs


class Knotted(nn.Module):
    """A convolution read by a batch norm and by a sum, and one at work before two batch norms."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(3))
        for norm in self.norms:
            nn.init.uniform_(norm.get_buffer("running_var"), 0.5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        x = x + self.norms[0](x)
        return self.norms[2](self.twice(torch.relu(self.norms[1](self.twice(x)))))


def test_a_layer_with_several_readers_or_two_places_is_not_folded_into() -> None:
    assert [node.op for node in simplified(Knotted(), 3, 2, 2).nodes].count("batch_norm") == 3


def test_folding_keeps_zeros() -> None:
    graph, dense = simplify(make_graph("slim-resnet-18", 0.9)), make_graph("slim-resnet-18", 0.9)
    for name in ("conv1.weight", "layer1.0.conv1.weight"):
        assert graph.weights[name].nonzero == dense.weights[name].nonzero


def test_a_batch_norm_without_a_layer_before_it_stays() -> None:
    graph = simplify(make_graph("densenet"))
    assert [node.source for node in graph.nodes if node.op == "batch_norm"][:1] == ["layers.0.norm1"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_weights_are_folded_only_when_they_may_widen(dtype: torch.dtype) -> None:
    graph = to_graph(make_network("vgg").to(dtype), make_example("vgg"))
    kept, widened = simplify(graph), simplify(graph, widen=True)
    assert [node.op for node in kept.nodes].count("batch_norm") == 3
    assert [node.op for node in widened.nodes].count("batch_norm") == 0
    assert {weight.dtype for weight in kept.weights.values()} == {str(dtype).removeprefix("torch.")}
    assert widened.weights["features.0.weight"].dtype == "float32"
    assert_same_results(kept, graph)
    assert_same_results(widened, graph)


def test_swish_by_hand_is_one_operation() -> None:
    graph = simplify(make_graph("efficientnet"))
    assert [node.op for node in graph.nodes].count("silu") == 4
    assert [node.op for node in graph.nodes].count("sigmoid") == 1


class HardByHand(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = torch.nn.functional.relu6(x + 3) / 6
        y = x - 1
        return y * torch.nn.functional.relu6(y + 3) / 6 + 0.5 * gate


def test_hard_gates_by_hand_are_operations() -> None:
    graph = simplified(HardByHand(), 2, 3, 3)
    ops = [node.op for node in graph.nodes if node.op not in ("add", "mul", "constant")]
    assert ops == ["hardsigmoid", "hardswish"]


class Idle(nn.Module):
    """Half of what this does changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d((4, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(torch.relu(self.pool(x) * 1 + 0))
        x = x.permute(0, 2, 3, 1).permute(0, 3, 1, 2)
        return x.reshape(-1, 2, 8).flatten(1) - 1


def test_what_changes_nothing_is_removed() -> None:
    graph = simplified(Idle(), 1, 4, 4)
    assert [node.op for node in graph.nodes] == ["relu", "reshape", "constant", "add"]


def test_minus_zero_in_a_matrix_becomes_zero() -> None:
    graph = to_graph(nn.Linear(2, 2), torch.zeros(1, 2))
    signed = replace(
        graph, weights={**graph.weights, "weight": Weight.of(np.array([[-0.0, 1], [2, -0.0]], np.float32))}
    )
    assert tidy(signed).weights["weight"].nonzero == 2


def test_equal_weights_are_stored_once() -> None:
    network = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    network[2].load_state_dict(network[0].state_dict())
    graph = share_equal_weights(to_graph(network, torch.zeros(1, 3)))
    assert [*graph.weights] == ["0.weight", "0.bias"]
    assert_same_results(graph, to_graph(network, torch.zeros(1, 3)))


def test_simplifying_again_changes_nothing() -> None:
    for name in ("vgg", "resnext", "shufflenet"):
        once = simplify(make_graph(name, 0.9))
        again = simplify(once)
        assert again.nodes == once.nodes
        assert all(np.array_equal(again.weights[key].bits, weight.bits) for key, weight in once.weights.items())


def test_infinite_weights_pass_through() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 1)).eval()
    with torch.no_grad():
        network[0].get_parameter("bias")[0] = torch.inf
        network[1].get_buffer("running_var")[1] = -1.0
    graph = to_graph(network, torch.zeros(1, 2, 3, 3))
    x = np.ones((1, 2, 3, 3), np.float32)
    np.testing.assert_allclose(reference.run(simplify(graph), x), reference.run(graph, x), rtol=1e-5)


@pytest.mark.parametrize("kernel", [1, 5])
def test_convolutions_of_lines_that_stand_upright_go_along_rows(kernel: int) -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, (kernel, 1), stride=(2, 1), padding=(1, 0)), nn.ReLU(), nn.Conv2d(4, 4, (3, 1), dilation=(2, 1))
    )
    x = torch.randn(2, 3, 20, 1)
    graph = simplify(to_graph(network.eval(), x))
    assert [node.op for node in graph.nodes] == ["reshape", "conv2d", "relu", "conv2d", "reshape"]
    assert {node.shape[1] for node in graph.nodes if node.op != "reshape"} == {1}
    found = reference.run_all(graph, {"input": x.numpy()})[0]
    np.testing.assert_allclose(found, run_network(network, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("hides", [False, True])
def test_attention_reads_a_mask_as_it_was_before_it_was_joined_with_one_that_hides_nothing(
    swapped: bool, hides: bool
) -> None:
    build = Builder()
    query, key = build.input("query", (1, 4, 3)), build.input("key", (1, 5, 3))
    seen = build.input("seen", (1, 1, 5), element="bool")
    all_of_them = np.ones((1, 4, 1), bool)
    all_of_them[0, 0] = not hides
    other = build.emit("constant", weights={"value": Weight.of(all_of_them)})
    joined = build.emit("logical_and", *((seen, other) if swapped else (other, seen)))
    graph = build.graph([build.emit("attention", query, key, key, joined, scale=1.0, causal=False)])
    simple = simplify(graph)
    assert simple.nodes[-1].inputs[3] == ("seen" if not hides else joined)
    generator = np.random.default_rng(3)
    given: dict[str, Any] = {
        "query": generator.normal(size=(2, 1, 4, 3)).astype(np.float32),
        "key": generator.normal(size=(2, 1, 5, 3)).astype(np.float32),
        "seen": generator.random((2, 1, 1, 5)) < 0.6,
    }
    (found,), (right,) = reference.run_all(simple, given), reference.run_all(graph, given)
    np.testing.assert_array_equal(found, right)
