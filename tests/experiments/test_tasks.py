"""Live modules searched and swept by their own tasks: regression, segmentation, tokens, two inputs."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from sklearn.datasets import load_diabetes, load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import secateur
from secateur import Task
from secateur.errors import DataError, UsageError
from secateur.pruning.retraining import retrain
from secateur.records.recipes import Retraining
from secateur.records.store import Store
from secateur.support.progress import ConsoleReporter
from secateur.training.train import resolve_device

QUICK: dict[str, Any] = {"minimize": "weights", "images": 40, "rounds": 0, "repair": "none"}


def loaders(*tensors: Tensor) -> dict[str, Any]:
    """Train, validation and test as three, one and one fifths."""
    fifth = len(tensors[0]) // 5
    parts = {"train": slice(0, 3 * fifth), "validation": slice(3 * fifth, 4 * fifth), "test": slice(4 * fifth, None)}
    return {
        name: DataLoader(TensorDataset(*(each[part] for each in tensors)), 32, shuffle=name == "train")
        for name, part in parts.items()
    }


def taught(network: nn.Module, task: Task, epochs: int) -> nn.Module:
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(epochs):
        for batch in task.train:
            inputs, target = task.pair(batch, "train")
            told = network(*inputs) if isinstance(inputs, tuple) else network(inputs)
            optimizer.zero_grad()
            task.loss_of(told, target).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return network


def regression() -> tuple[nn.Module, Task]:
    """How far diabetes will go, from ten measurements."""
    x, y = (torch.tensor(each, dtype=torch.float32) for each in load_diabetes(return_X_y=True, scaled=True))
    task = Task(**loaders(20 * x, y[:, None] / 100), loss=F.mse_loss, metric="rmse", name="diabetes")
    return taught(
        nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1)), task, 8
    ), task


class SmallUNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.up, self.head = nn.ConvTranspose2d(16, 8, 2, 2), nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = F.relu(self.down(x))
        coarse = F.relu(self.deep(F.max_pool2d(fine, 2)))
        return self.head(torch.cat([fine, F.relu(self.up(coarse))], 1))


def segmentation() -> tuple[nn.Module, Task]:
    """Which pixels of noisy digits are ink."""
    images = torch.tensor(load_digits().images[:400], dtype=torch.float32)[:, None] / 16
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    task = Task(**loaders(images + 0.3 * noise, (images[:, 0] > 0.4).long()), metric="mean-iou", name="ink")
    return taught(SmallUNet(), task, 4), task


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.mix, self.head = nn.Embedding(12, 16), nn.Linear(32, 32), nn.Linear(32, 3)

    def forward(self, tokens: Tensor, mask: Tensor) -> dict[str, Tensor]:
        known = self.table(tokens) * mask.unsqueeze(2)
        before = F.pad(known, (0, 0, 1, -1))
        return {"logits": self.head(F.relu(self.mix(torch.cat([known, before], 2))))}


def tokens() -> tuple[nn.Module, Task]:
    """Is a token like the one before it, smaller, or greater? Of two inputs by name, with tokens that do not count."""
    drawn = torch.randint(0, 12, (300, 10), generator=torch.Generator().manual_seed(0))
    target = 1 + (drawn - F.pad(drawn, (1, -1))).sign()
    mask = torch.ones_like(drawn).float()
    target[:, 0] = -100

    def as_words(tensors: list[Tensor]) -> dict[str, Tensor]:
        return dict(zip(("tokens", "mask", "labels"), tensors, strict=True))

    made = {name: [as_words(batch) for batch in each] for name, each in loaders(drawn, mask, target).items()}

    def loss(outputs: dict[str, Tensor], target: Tensor) -> Tensor:
        return F.cross_entropy(outputs["logits"].movedim(2, 1), target)

    network = Tagger()
    task = Task(**made, loss=loss, name="order")  # type: ignore[arg-type]
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(6):
        for batch in made["train"]:
            optimizer.zero_grad()
            loss(network(batch["tokens"], batch["mask"]), batch["labels"]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return network, task


class Matching(nn.Module):
    """Do two pictures show the same digit?"""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.head = nn.Linear(64, 32), nn.Linear(32, 1)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return self.head((F.relu(self.seen(one)) - F.relu(self.seen(other))).square()).squeeze(1)


def two_inputs() -> tuple[nn.Module, Task]:
    digits = load_digits()
    pictures = torch.tensor(digits.data[:800], dtype=torch.float32) / 16
    shown = torch.tensor(digits.target[:800])
    same = (shown[:400] == shown[400:]).float()

    def balanced(predict: Any, batches: Any) -> float:
        told = [((predict(inputs) > 0).float(), target) for inputs, target in batches]
        guessed, wanted = (torch.cat([each[place] for each in told]) for place in (0, 1))
        return sum(float((guessed == wanted)[wanted == each].float().mean()) for each in (0, 1)) / 2

    def loss(outputs: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(outputs, target, pos_weight=torch.tensor(9.0))

    task = Task(**loaders(pictures[:400], pictures[400:], same), loss=loss, metric=balanced, name="pairs")
    return taught(Matching(), task, 6), task


@pytest.mark.parametrize(
    ("made", "max_drop", "metric"),
    [(regression, 10, "RMSE"), (segmentation, 5, "mean IoU"), (tokens, 5, "accuracy"), (two_inputs, 10, "balanced")],
    ids=["regression", "segmentation", "tokens", "two inputs"],
)
def test_a_live_module_is_searched_by_its_own_metric(tmp_path: Path, made: Any, max_drop: float, metric: str) -> None:
    network, task = made()
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    result = secateur.search(network, task, out=tmp_path / "run", max_drop=max_drop, **QUICK)
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    outcome = result.record.outcome
    assert outcome is not None
    dense, chosen = outcome.contender("dense"), outcome.contender(outcome.chosen)
    assert dense.validation.metric.name == metric
    assert chosen.validation.lost_from(dense.validation) <= max_drop + 1e-9
    assert chosen.kept < dense.kept
    kept = copy.deepcopy(network)
    kept.load_state_dict(load_file(result.best.path))
    assert outcome.contender("dense").test.value == pytest.approx(_score(network, task), rel=1e-5)
    assert chosen.test.value == pytest.approx(_score(kept, task), rel=1e-3)
    assert metric in str(result)
    again = secateur.search(network, task, out=tmp_path / "run", max_drop=max_drop, **QUICK)
    assert again.record.outcome == outcome


def test_where_parts_of_the_validation_data_tell_nothing_what_is_lost_on_average_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, task = regression()
    pairs = [(inputs, target) for inputs, target in task.batches("validation")]
    inputs, targets = (torch.cat([each[place] for each in pairs]) for place in (0, 1))
    single = [(inputs[place : place + 1], targets[place : place + 1]) for place in range(20)]
    for number, (validation, metric) in enumerate([(single, "r2"), (pairs[:1], "rmse")]):
        alone = Task(task.train, validation, metric=metric, name=f"alone {number}")
        result = secateur.search(
            network, alone, out=tmp_path / str(number), max_drop=20, reporter=ConsoleReporter(), **QUICK
        )
        outcome = result.record.outcome
        assert outcome is not None
        assert {each.bound for each in outcome.contenders} == {None}
        assert "on average counts" in capsys.readouterr().err
        assert "confidence" not in str(result)


def test_parts_of_a_task_are_gone_through_once() -> None:
    """Batches of 3, 3, 3, 3 and 2 examples in three parts."""
    given: list[int] = []

    class Counted:
        def __iter__(self) -> Any:
            for place in range(5):
                given.append(place)
                yield torch.ones(3 if place < 4 else 2, 1) * place, torch.zeros(3 if place < 4 else 2, 1)

        def __len__(self) -> int:
            return 5

    task = Task([(torch.ones(1, 1), torch.ones(1, 1))], Counted(), metric="rmse", name="counted")
    scores = task.score_parts(lambda inputs: inputs, "validation", 3)
    assert given == [0, 1, 2, 3, 4]
    assert [each.n for each in scores] == [6, 6, 2]
    assert [each.value for each in scores] == pytest.approx([0.5**0.5, (13 / 2) ** 0.5, 4.0])


def _score(network: nn.Module, task: Task) -> float:
    def predict(inputs: Any) -> Any:
        if isinstance(inputs, dict):
            return network(**inputs)
        return network(*inputs) if isinstance(inputs, tuple) else network(inputs)

    network.eval()
    return task.score(predict, "test").value


def test_a_sweep_of_a_module_quantises_and_retrains_and_its_page_can_be_read(tmp_path: Path) -> None:
    network, task = regression()
    options: dict[str, Any] = {"ratios": (0, 0.6), "repairs": ("reconstruct",), "calibration_images": 64, "name": "net"}
    result = secateur.sweep(network, task, out=tmp_path / "run", quantize=("none", "int8"), tolerance=100, **options)
    assert not result.failures
    rows = {(row.cell.ratio, row.cell.quantize): row for row in result.rows}
    plain, eight, pruned, both = (rows[ratio, how] for ratio in (0, 0.6) for how in ("none", "int8"))
    assert eight.quantised is not None
    assert eight.test.value == pytest.approx(plain.test.value, rel=0.05)
    assert both.bytes < pruned.bytes < plain.bytes
    assert result.rows[0].cell.model.startswith("net#")
    options |= {"repairs": ("none",), "ratios": (0.6,), "retrainings": (secateur.Retraining("one-shot", epochs=2),)}
    (learnt,) = secateur.sweep(network, task, out=tmp_path / "run", **options).rows
    assert learnt.retrained is not None
    page = result.write_page().read_text()
    assert "RMSE" in page
    with Store.open(tmp_path / "run") as store:
        assert [row.test.metric.name for row in store.rows()] == ["RMSE"] * 5
    with pytest.raises(UsageError, match="expected one-shot, iterative, gradual"):
        secateur.sweep(network, task, out=tmp_path / "run", retrainings=(secateur.Retraining("scratch"),))


TASK = """
import torch
from torch import nn
import secateur

torch.manual_seed(0)
X = torch.randn(60, 4)
network = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))

def trained():
    return network

batches = [(X, X.sum(1, keepdim=True))]
task = secateur.Task(batches, batches, loss=nn.functional.mse_loss, metric="r2", name="sum")
"""


def test_the_command_line_takes_a_task_of_ones_own(tmp_path: Path, run_cli: Any) -> None:
    (tmp_path / "ours.py").write_text(TASK)
    words = ("--model", "ours:trained", "--task", "ours:task", "--calibration", "32", "--repairs", "none")
    done = run_cli("sweep", *words, "--ratios", "0,0.5", "--out", "run", "--tolerance", "100", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "R²" in done.stdout
    twice = run_cli("sweep", *words, "--data", "mnist", PYTHONPATH=str(tmp_path))
    assert twice.returncode == 2
    assert "expected one of the two" in twice.stderr
    assert resolve_device("cpu").type == "cpu"


def test_batches_of_no_example_are_left_out(tmp_path: Path) -> None:
    torch.manual_seed(0)
    batches = [(torch.randn(8, 8), torch.randint(4, (8,))) for _ in range(3)]
    empty = (torch.randn(0, 8), torch.zeros(0, dtype=torch.long))
    network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))

    def swept(name: str, through: list[Any]) -> list[tuple[float, int, float]]:
        task = Task(through, through, loss=F.cross_entropy, metric="top-1")
        result = secateur.sweep(network, task, ratios=(0.5,), out=tmp_path / name)
        return [(row.test.value, row.test.n, row.validation.value) for row in result.rows]

    assert swept("with", [empty, batches[0], empty, *batches[1:], empty]) == swept("without", batches)
    task = Task([empty], [empty], loss=F.cross_entropy, metric="top-1")
    with pytest.raises(DataError, match="its train split has no batches"):
        secateur.sweep(network, task, ratios=(0.5,), out=tmp_path / "none")
    parted = Task(batches, [empty, *batches, empty], loss=F.cross_entropy, metric="top-1")
    assert parted.pieces("validation") == 3
    assert [each.n for each in parted.score_parts(network, "validation", 2)] == [16, 8]


def test_a_limit_that_is_no_number_and_one_beside_a_goal_are_said_in_a_line(tmp_path: Path) -> None:
    batches = [(torch.randn(8, 8), torch.zeros(8, dtype=torch.long))] * 2
    network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    task = Task(batches, batches, loss=F.cross_entropy, metric="top-1")
    limits: dict[str, Any] = {"max_bytes": "4k"}
    with pytest.raises(UsageError, match="max bytes '4k': expected a number above 0"):
        secateur.search(network, task, out=tmp_path / "search", **limits)
    with pytest.raises(UsageError, match="minimize 'macs' goes with max_drop: within max bytes the network"):
        secateur.search(network, task, out=tmp_path / "search", minimize="macs", max_bytes=4000)
    assert not (tmp_path / "search").exists()


class Deciding(nn.Module):
    """What runs depends on values: only an example shows which layer gives the outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.first = nn.Linear(16, 4), nn.Linear(8, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        return self.last(torch.relu(x) if bool((x > 0).any()) else torch.tanh(x))


def test_retraining_by_a_task_knows_the_outputs_by_its_examples() -> None:
    batches = [(torch.randn(8, 8), torch.zeros(8, dtype=torch.long))] * 2
    network = Deciding()
    task = Task(batches, batches, loss=F.cross_entropy, metric="top-1")
    retrain(network, task, 0.5, Retraining("one-shot", epochs=1))
    zeros = {name: int((parameter == 0).sum()) for name, parameter in network.named_parameters()}
    assert zeros["first.weight"] == 64
    assert zeros["last.weight"] == 0


class Dropping(nn.Module):
    """Drops at random in evaluation mode, too."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(8, 32), nn.Linear(32, 32), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.dropout(torch.relu(self.second(torch.relu(self.first(x)))), 0.3))


@pytest.mark.parametrize("repair", ["reconstruct", "moments"])
def test_networks_that_draw_at_random_are_measured_alike_each_time(tmp_path: Path, repair: str) -> None:
    torch.manual_seed(0)
    batches = [(torch.randn(32, 8), torch.randint(4, (32,))) for _ in range(4)]
    task = Task(batches, batches, metric="top-1")
    network = Dropping()
    once = secateur.sweep(network, task, ratios=(0.5,), repairs=(repair,), tolerance=100, out=tmp_path / "run")
    more = secateur.sweep(network, task, ratios=(0.5, 0.8), repairs=(repair,), tolerance=100, out=tmp_path / "run")
    again = secateur.sweep(network, task, ratios=(0.5, 0.8), repairs=(repair,), tolerance=100, out=tmp_path / "other")
    scores = [{row.cell.ratio: row.validation.value for row in each.rows} for each in (once, more, again)]
    assert scores[0].items() <= scores[1].items()
    assert scores[1] == scores[2]
