"""torch.compile(model, backend="secateur") gives what the network gives, whoever runs which part of it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import prune as torch_prune

import secateur
from networks import make_example, make_network
from secateur.runtime import Session, compilation

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def own_compilations() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every Session that is made, in order."""
    made: list[Any] = []

    class Watched(Session):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(compilation, "Session", Watched)
    return made


def compiled(network: nn.Module) -> Any:
    return torch.compile(network, backend=secateur.compile_backend)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "secateur"]


def layers_of(sessions: list[Any]) -> set[str]:
    """Paths of the modules whose weights are in them."""
    return {node.source for each in sessions for node in each._graph.nodes if node.weights}


def agree(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


class WithBessel(nn.Module):
    """An operation that no Graph has between two parts that are one's."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.before(x))
        x = torch.special.i0e(x)
        return self.after(torch.flatten(torch.max_pool2d(x, 4), 1))


class TwoInputs(nn.Module):
    """Inputs of different ranks; the one without channels is the first argument."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.numbers = nn.Conv2d(3, 4, 3, stride=2), nn.Linear(5, 4)

    def forward(self, numbers: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        seen = self.image(x).mean([2, 3])
        return seen + self.numbers(numbers), seen


@pytest.mark.parametrize("name", ["lenet-5", "vgg", "mobilenet-v2", "densenet"])
def test_a_network_that_a_graph_holds_runs_in_one_session(
    name: str, sessions: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    network = make_network(name, 0.9)
    with torch.no_grad():
        run, x = compiled(network), make_example(name, 3)
        agree(run(x), network(x))
    assert len(sessions) == 1
    assert warnings_of(caplog) == []


def test_any_batch_size_will_do(sessions: list[Any]) -> None:
    network = make_network("vgg", 0.5)
    with torch.inference_mode():
        run = compiled(network)
        for batch in (4, 7, 1, 0, 9):
            agree(run(make_example("vgg", batch)), network(make_example("vgg", batch)))
    assert 1 < len(sessions) < 5


def test_what_a_graph_lacks_runs_in_pytorch_and_is_named_once(
    sessions: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    network, x = WithBessel().eval(), torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        run = compiled(network)
        for _ in range(2):
            agree(run(x), network(x))
    assert len(sessions) == 2
    (warning,) = warnings_of(caplog)
    assert re.search(r"PyTorch runs 1 of 6 operations: the network's forward: special_i0e is not supported", warning)


def test_planes_come_back_in_the_layout_that_pytorch_expects(sessions: list[Any]) -> None:
    class Strided(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3)

        def forward(self, x: Tensor) -> Tensor:
            rows = self.conv(x).permute(0, 2, 3, 1)  # contiguous in channels_last, which allows the view
            return rows.view(-1, 8).cumsum(0)

    network = Strided().eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = compiled(network)
    for batch in (2, 3):  # the second time the size is a symbol
        x = torch.randn(batch, 3, 8, 8).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            agree(run(x), network(x))
        assert len(sessions) == batch - 1


class Otherwise(nn.Module):
    """A convolution and what else is done with its planes."""

    def __init__(self, behind: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.conv, self.behind = nn.Conv2d(3, 4, 3), behind

    def forward(self, x: Tensor) -> Any:
        return self.behind(self.conv(x))


@pytest.mark.parametrize(
    "behind",
    [
        lambda x: torch.erf(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).flatten(1),
        lambda x: torch.erf(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape).flatten(1),
        lambda x: (x[:, -2:, ::2, 1:-1], x.permute(0, 2, 3, 1)),
        lambda x: torch.erf(x.mean(1, keepdim=True).expand(-1, 4, -1, -1)),
    ],
)
def test_outputs_have_the_strides_that_pytorch_gives_them(sessions: list[Any], behind: Callable[[Tensor], Any]) -> None:
    network = Otherwise(behind).eval()
    run = compiled(network)
    for batch in (2, 3, 5):
        x = torch.randn(batch, 3, 8, 8)
        with torch.no_grad():
            found, expected = run(x), network(x)
        for one, other in zip(_all(found), _all(expected), strict=True):
            agree(one, other)
            assert one.stride() == other.stride()
    assert len(sessions) == 2


def _all(found: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return found if isinstance(found, tuple) else (found,)


def test_strides_that_depend_on_the_batch_are_those_of_the_batch_at_hand(sessions: list[Any]) -> None:
    class Innermost(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.fc(x), torch.relu(x)

    network = Innermost().eval()
    run = compiled(network)
    for batch in (2, 3, 5):
        x = torch.randn(4, batch).T
        with torch.no_grad():
            for one, other in zip(run(x), network(x), strict=True):
                agree(one, other)
                assert one.stride() == other.stride()
    assert len(sessions) == 2


def test_several_inputs_and_outputs(sessions: list[Any]) -> None:
    network, given = TwoInputs().eval(), (torch.randn(4, 5), torch.randn(4, 3, 9, 9))
    with torch.no_grad():
        for found, expected in zip(compiled(network)(*given), network(*given), strict=True):
            agree(found, expected)
    assert len(sessions) == 1


def test_weights_that_change_in_place_are_noticed(sessions: list[Any]) -> None:
    network, x = make_network("lenet-5"), make_example("lenet-5", 2)
    other = make_network("lenet-5", 0.9)
    with torch.no_grad():
        run = compiled(network)
        before = run(x)
        assert len(sessions) == 1
        secateur.prune(network, 0.9)
        agree(run(x), network(x))
        network.load_state_dict(other.state_dict())
        agree(run(x), network(x))
        assert len(sessions) == 3
        run(x)
        assert len(sessions) == 3
    assert not torch.allclose(before, run(x))


def _stepped(optimizer: Callable[[Any], torch.optim.Optimizer]) -> Callable[[nn.Module, Tensor], None]:
    """One step of training between two calls."""

    def step(network: nn.Module, x: Tensor) -> None:
        made = optimizer(network.parameters())
        with torch.enable_grad():
            network(x).square().sum().backward()
        made.step()

    return step


def _renormalised(network: nn.Module, x: Tensor) -> None:
    """Statistics of this batch, as BatchNorm's repair sets them."""
    network.train()(x)
    network.eval()


def _through_numpy(network: nn.Module, _: Tensor) -> None:
    for each in network.parameters():
        each.detach().numpy()[...] *= 0.9


def _through_data(network: nn.Module, _: Tensor) -> None:
    for each in [*network.parameters(), *network.buffers()]:
        each.data.mul_(2)


def _replaced(network: nn.Module, _: Tensor) -> None:
    network.get_submodule("0").weight = nn.Parameter(network.get_parameter("0.weight") * 0.5)


@pytest.mark.parametrize(
    "change",
    [
        _stepped(lambda given: torch.optim.SGD(given, 0.01, fused=True)),
        _stepped(lambda given: torch.optim.AdamW(given, 0.01, fused=True)),
        _stepped(lambda given: torch.optim.Adam(given, 0.01, foreach=True)),
        _renormalised,
        _through_numpy,
        _through_data,
        _replaced,
    ],
)
def test_changes_that_move_no_version_are_noticed_too(
    change: Callable[[nn.Module, Tensor], None], sessions: list[Any]
) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)).eval()
    run, x = compiled(network), torch.randn(3, 2, 8, 8)
    with torch.no_grad():
        before = run(x)
        assert len(sessions) == 1
        change(network, x)
        agree(run(x), network(x))
        assert not torch.allclose(before, run(x), atol=1e-3)


def test_networks_that_share_weights_and_batch_sizes_all_notice_a_change(sessions: list[Any]) -> None:
    body = nn.Linear(300, 300)
    runs = [compiled(nn.Sequential(body, head).eval()) for head in (nn.ReLU(), nn.Sigmoid())]
    with torch.no_grad():
        for factor in (1, 2, 3):
            body.weight.data.mul_(factor)
            for run in runs:
                for batch in (2, 5):
                    x = torch.randn(batch, 300)
                    agree(run(x), run._orig_mod(x))


def test_weights_made_in_inference_mode_are_watched(sessions: list[Any]) -> None:
    with torch.inference_mode():
        network, x = nn.Linear(20, 3), torch.randn(2, 20)
        run = compiled(network)
        for _ in range(2):
            agree(run(x), network(x))
            network.weight.mul_(2)
    assert len(sessions) == 2


def test_a_buffer_that_forward_counts_in_is_no_constant(sessions: list[Any]) -> None:
    class Counting(nn.Module):
        calls: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return self.fc(x) * self.calls

    network, twin, x = Counting().eval(), Counting().eval(), torch.randn(2, 4)
    twin.load_state_dict(network.state_dict())
    run = compiled(network)
    with torch.no_grad():
        for _ in range(4):
            agree(run(x), twin(x))
    assert float(network.calls) == 4
    assert len(sessions) == 1


def test_a_weight_whose_changes_cannot_be_noticed_is_refused_by_name(
    sessions: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    module = torch.fx.symbolic_trace(lambda table, x: torch.mm(table, x))
    table, x = nn.Parameter(torch.eye(4).to_sparse(), requires_grad=False), torch.randn(4, 4)
    agree(secateur.compile_backend(module, [table, x])(table, x), x)
    assert sessions == []
    assert "'table' is torch.sparse_coo: changes of it could not be noticed" in caplog.text


def test_a_mask_of_pytorchs_pruning_is_multiplied_in(sessions: list[Any]) -> None:
    network = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 4)).eval()
    torch_prune.l1_unstructured(network[0], "weight", 0.8)  # type: ignore[no-untyped-call]
    x = torch.randn(3, 20)
    with torch.no_grad():
        agree(compiled(network)(x), network(x))
    (session,) = sessions
    density = next(step.density for step in session.plan().steps if step.shape == (30,) and step.multiply_adds)
    assert density == pytest.approx(0.2)


def test_gradients_are_pytorchs(sessions: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    network, x = make_network("lenet-5", 0.9), make_example("lenet-5", 2)
    compiled(network)(x).sum().backward()
    found = network.get_parameter("conv1.weight").grad
    network.zero_grad()
    network(x).sum().backward()
    assert found is not None
    torch.testing.assert_close(found, network.get_parameter("conv1.weight").grad)
    assert sessions == []
    assert "gradients are required" in caplog.text


def test_a_network_in_training_mode_is_pytorchs(sessions: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    network, twin, x = make_network("vgg").train(), make_network("vgg").train(), make_example("vgg", 4)
    twin.load_state_dict(network.state_dict())
    with torch.no_grad():
        torch.manual_seed(1)
        found = compiled(network)(x)
        torch.manual_seed(1)
        agree(found, twin(x))
    agree(network.get_buffer("features.1.running_mean"), twin.get_buffer("features.1.running_mean"))
    assert sessions == []
    assert "is the network in eval mode?" in caplog.text


class Attention(nn.Module):
    """Convolutions, and an attention over the places of their planes."""

    def __init__(self) -> None:
        super().__init__()
        self.planes = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3))
        self.qkv, self.proj, self.fc = nn.Linear(16, 48), nn.Linear(16, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.planes(x).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(x).reshape(len(x), -1, 3, 4, 4).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.proj(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape))
        return self.fc(x.mean(1))


def test_an_attention_is_pytorchs_alone(sessions: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    network = Attention().eval()
    run = compiled(network)
    for batch in (2, 3, 6, 1):
        x = torch.randn(batch, 3, 12, 12)
        with torch.no_grad():
            agree(run(x), network(x))
    assert layers_of(sessions) == {"planes.0", "planes.3", "qkv", "proj", "fc"}
    assert "eval mode" not in caplog.text


def test_a_dropout_in_training_is_pytorchs_and_all_draw_in_their_order(
    sessions: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    class Drops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right, self.last = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 4)
            self.drop = nn.Dropout(0.3)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            first = self.drop(self.right(x))
            noise = torch.rand_like(x)
            second = self.drop(self.left(x + noise))
            return self.last(self.drop(first + second)), torch.randn(3), self.left(x)

    network, x = Drops().train(), torch.randn(5, 6)
    run = compiled(network)
    with torch.no_grad():
        torch.manual_seed(3)
        found = [*run(x), torch.rand(2)]
        torch.manual_seed(3)
        for one, other in zip(found, [*network(x), torch.rand(2)], strict=True):
            agree(one, other)
    assert layers_of(sessions) == {"left", "right", "last"}
    assert "module 'drop' (Dropout): native_dropout draws random numbers (is the network in eval mode?)" in caplog.text


def test_what_has_to_run_between_two_draws_is_not_joined_with_what_runs_before_both(sessions: list[Any]) -> None:
    class Between(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            noise = torch.rand_like(torch.relu(self.fc(x)))
            early = torch.relu(self.fc(x * 2))
            return self.fc(early + noise) + torch.bernoulli(torch.sigmoid(early))

    network, x = Between().eval(), torch.randn(3, 4)
    run = compiled(network)
    with torch.no_grad():
        torch.manual_seed(1)
        found = run(x)
        torch.manual_seed(1)
        agree(found, network(x))
    assert sessions


def test_training_and_evaluation_in_turns_give_what_pytorch_gives(sessions: list[Any]) -> None:
    network, twin = Attention(), Attention()
    twin.load_state_dict(network.state_dict())
    run = compiled(network)
    for turn in range(2):
        for mode in (True, False):
            x = torch.randn(4 + turn, 3, 12, 12)
            with torch.no_grad():
                agree(run.train(mode)(x), twin.train(mode)(x))


class Rowwise(nn.Module):
    """Linear layers on rows of all images at once, as some write them out."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.norm, self.down = nn.Linear(6, 12), nn.LayerNorm(12), nn.Linear(12, 3, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rows = self.norm(torch.relu(self.up(x.reshape(-1, 6)))) * 2
        return self.down(rows).view(len(x), 7, 3).softmax(-1), torch.cumsum(rows, 1)


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 5, bias=False)), (7, 6)),
        (nn.Linear(6, 3), (2, 3, 4, 6)),
        (nn.Linear(6, 3), (1, 6)),
        (Rowwise(), (7, 6)),
    ],
)
def test_linear_layers_on_more_dimensions_run_in_the_runtime(
    network: nn.Module, shape: tuple[int, ...], sessions: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    network.eval()
    run = compiled(network)
    for batch in (2, 3, 1, 5, 0):
        x = torch.randn(batch, *shape)
        with torch.no_grad():
            for found, expected in zip(_all(run(x)), _all(network(x)), strict=True):
                agree(found, expected)
                assert found.stride() == expected.stride()
        if batch:
            held = [node.op for node in sessions[-1]._graph.nodes]
            assert held.count("linear") == len([each for each in network.modules() if isinstance(each, nn.Linear)])
    foreign = {line for line in warnings_of(caplog) if "cumsum" not in line}
    assert len(foreign) <= 1  # of no image at all, PyTorch runs what it will


@pytest.mark.parametrize("batch_first", [True, False])
def test_the_projections_of_an_attention_of_pytorchs_run_in_the_runtime(batch_first: bool, sessions: list[Any]) -> None:
    class Projected(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.own = nn.MultiheadAttention(8, 2, batch_first=batch_first)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.own(x, x, x, need_weights=False)[0]
            return found

    network = Projected().eval()
    run = compiled(network)
    for batch in (2, 3, 4, 1):
        x = torch.randn(batch, 5, 8)
        with torch.no_grad():
            agree(run(x), network(x))
    assert len([node for each in sessions for node in each._graph.nodes if node.op == "linear"]) >= 4


def test_a_norm_over_all_images_is_not_mistaken_for_one_over_rows(sessions: list[Any]) -> None:
    class Across(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            rows = self.fc(x.reshape(-1, 4))
            return functional.layer_norm(rows, rows.shape).softmax(0) + rows.sum(0)

    network, x = Across().eval(), torch.randn(2, 3, 4)
    with torch.no_grad():
        agree(compiled(network)(x), network(x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_number_formats_are_pytorchs(
    dtype: torch.dtype, sessions: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    network, x = make_network("lenet-5", 0.9).to(dtype), make_example("lenet-5", 2).to(dtype)
    with torch.no_grad():
        agree(compiled(network)(x), network(x))
    assert sessions == []
    assert f"'conv1' (Conv2d): convolution takes {dtype} (2, 1, 28, 28): expected float32" in caplog.text


def test_autocast_is_pytorchs(sessions: list[Any]) -> None:
    network, x = make_network("lenet-5", 0.9), make_example("lenet-5", 2)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        agree(compiled(network)(x), network(x))
    assert sessions == []


def test_an_input_that_forward_changes_is_changed(sessions: list[Any]) -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x.relu_())

    network, x = InPlace().eval(), torch.randn(3, 4)
    expected, given = x.clone(), x.clone()
    with torch.no_grad():
        agree(compiled(network)(given), network(expected))
    agree(given, expected)


class Recurrent(nn.Module):
    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.before, self.own, self.after = nn.Linear(6, 8), kind(8, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.after(self.own(self.before(x))[0])
        return found


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("alone", [True, False])
def test_what_dynamo_hands_over_nothing_of_is_named(kind: Any, alone: bool, caplog: pytest.LogCaptureFixture) -> None:
    network = kind(6, 4) if alone else Recurrent(kind)
    x = torch.randn(3, 2, 6)
    with torch.no_grad():
        agree(_all(compiled(network.eval())(x))[0], _all(network(x))[0])
    (warning,) = warnings_of(caplog)
    name = type(network).__name__
    assert f"Dynamo hands over nothing of {name}, PyTorch runs it: Attempted to wrap RNN, GRU, or LSTM" in warning
    assert ("until torch.compiler.reset()" in warning) == alone


def test_a_graph_break_is_told_and_the_parts_run_in_the_runtime(
    sessions: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.after = nn.Linear(6, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.before(x)
            torch._dynamo.graph_break()
            return self.after(x)

    network, x = Broken().eval(), torch.randn(3, 6)
    with torch.no_grad():
        agree(compiled(network)(x), network(x))
        torch.compile(network, backend="eager")(x)
    assert len(sessions) == 2
    (warning,) = warnings_of(caplog)
    assert "Dynamo hands over some of Broken, PyTorch runs the rest: " in warning


def test_options_reach_the_session(sessions: list[Any]) -> None:
    network, x = make_network("lenet-5", 0.9), make_example("lenet-5", 2)
    given: dict[str, Any] = {"threads": 2, "kernel": "scalar"}
    with torch.no_grad():
        torch.compile(network, backend=secateur.compile_backend, options=given)(x)
    assert [(each.threads, each.kernel) for each in sessions] == [(2, "scalar")]
    with pytest.raises(Exception, match=r"options \['thread'\]: backend 'secateur' takes threads, kernel"):
        torch.compile(nn.Linear(2, 2), backend=secateur.compile_backend, options={"thread": 2})(torch.randn(1, 2))


PROGRAM = """
import sys, torch
sys.path += [{metadata!r}, {package!r}]
run = torch.compile(torch.nn.Linear(4, 3), backend="secateur")
with torch.no_grad():
    print(tuple(run(torch.zeros(2, 4)).shape))
print("secateur.runtime.compilation" in sys.modules)
"""


def test_the_name_is_known_where_the_package_is_installed(tmp_path: Path) -> None:
    project = (ROOT / "pyproject.toml").read_text()
    entry = re.search(r'entry-points.torch_dynamo_backends]\nsecateur = "([\w.:]+)"', project)
    assert entry is not None
    installed = tmp_path / "pruned-0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: pruned\nVersion: 0\n")
    (installed / "entry_points.txt").write_text(f"[torch_dynamo_backends]\nsecateur = {entry[1]}\n")
    code = PROGRAM.format(metadata=str(tmp_path), package=str(ROOT / "src"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "(2, 3)\nTrue\n", done.stderr


def test_the_name_is_known_once_the_backend_was_mentioned(sessions: list[Any]) -> None:
    network, x = make_network("lenet-5", 0.9), make_example("lenet-5", 2)
    assert "secateur" in torch.compiler.list_backends()
    with torch.no_grad():
        agree(torch.compile(network, backend="secateur")(x), network(x))
    assert len(sessions) == 1


class _Encoder(nn.Module):
    """Tokens in, classes out, by the layers that PyTorch has a fast path for."""

    def __init__(self, *, norm_first: bool, activation: str) -> None:
        super().__init__()
        self.table = nn.Embedding(31, 16)
        self.layer = nn.TransformerEncoderLayer(
            16, 4, 32, batch_first=True, activation=activation, norm_first=norm_first
        )
        self.head = nn.Linear(16, 5)

    def forward(self, tokens: Tensor, padding: Tensor | None = None) -> Tensor:
        seen: Tensor = self.head(self.layer(self.table(tokens), src_key_padding_mask=padding).mean(1))
        return seen


@pytest.mark.parametrize(("norm_first", "activation"), [(False, "gelu"), (True, "relu")])
def test_encoder_layers_that_pytorch_fuses_run_here_with_tokens_and_masks(
    norm_first: bool, activation: str, sessions: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    network = _Encoder(norm_first=norm_first, activation=activation).eval()
    tokens, padding = torch.randint(0, 31, (3, 7)), torch.arange(7) >= torch.tensor([[7], [4], [1]])
    with torch.no_grad():
        run = compiled(network)
        agree(run(tokens), network(tokens))
        agree(run(tokens, padding), network(tokens, padding))
    assert warnings_of(caplog) == []
    assert layers_of(sessions) == {"table", "layer", "head"}


def test_every_reason_why_pytorch_runs_something_is_said(caplog: pytest.LogCaptureFixture) -> None:
    class Between(WithBessel):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(torch.special.i0e(torch.lgamma(x)))

    network, x = Between().eval(), torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        agree(compiled(network)(x), network(x))
    (warning,) = warnings_of(caplog)
    assert "PyTorch runs 3 of 8 operations:\n" in warning
    assert "\n  the network's forward: lgamma is not supported" in warning
    assert "\n  the network's forward: special_i0e is not supported" in warning
