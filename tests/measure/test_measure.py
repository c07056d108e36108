from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from torch import Tensor, nn

from samples import Backwards, stripes
from secateur.errors import SecateurError
from secateur.exporting.packing import graph_of
from secateur.measure import latency
from secateur.measure.correctness import accuracy
from secateur.measure.footprint import file_bytes
from secateur.measure.latency import compare_latency
from secateur.measure.macs import layer_table
from secateur.measure.plausibility import doubts
from secateur.measure.prediction import faster_predictor
from secateur.measure.rivals import PEERS
from secateur.measure.timing import median_interval
from secateur.network.graph import Graph
from secateur.training.data import from_arrays, load_data, normalise
from secateur.training.models import ARCHITECTURES, build_network


def test_accuracy_counts_right_first_choices() -> None:
    data = stripes()

    def brightest_row(images: Tensor) -> Tensor:
        return images.mean((1, 3))

    def always_three(images: Tensor) -> Tensor:
        return nn.functional.one_hot(torch.full((len(images),), 3), 10).float()

    assert accuracy(brightest_row, data, data.test, batch_size=7).value == 1
    measured = accuracy(always_three, data, data.test)
    assert measured.value == pytest.approx(float((data.test.labels == 3).float().mean()))
    assert (measured.n, measured.top5) == (100, None)


def test_logits_that_are_not_numbers_are_wrong() -> None:
    data = stripes()
    assert accuracy(lambda images: torch.full((len(images), 10), torch.nan), data, data.test).value == 0


def test_top5_is_measured_where_there_are_more_than_ten_classes() -> None:
    images, labels = torch.zeros(20, 1, 2, 2, dtype=torch.uint8), torch.arange(20)
    data = from_arrays("x", (images, labels), (images, labels), (images, labels))

    def descending(batch: Tensor) -> Tensor:
        return -torch.arange(20.0).repeat(len(batch), 1)

    measured = accuracy(descending, data, data.test)
    assert (measured.value, measured.top5) == (1 / 20, 5 / 20)


def test_multiply_adds_match_the_published_counts() -> None:
    published = {"lenet-300-100": 266_200, "lenet-5": 416_520, "resnet-18-cifar": 555_422_720}
    for name, expected in published.items():
        architecture = ARCHITECTURES[name]
        example = torch.zeros(2, architecture.channels or 3, architecture.size or 32, architecture.size or 32)
        layers = layer_table(build_network(architecture, 10, example.shape[1], 0), example)
        assert sum(layer.macs for layer in layers) == expected
    with torch.device("cpu"):
        layers = layer_table(build_network(ARCHITECTURES["resnet-50"], 1000, 3, 0), torch.zeros(1, 3, 224, 224))
    assert sum(layer.macs for layer in layers) == 4_089_184_256  # 4.1 G in torchvision's table


def test_the_layer_table_counts_what_is_not_zero() -> None:
    network = Backwards()
    network.body.weight.data[0] = 0
    body, again, head = layer_table(network, torch.zeros(1, 1, 5, 5))
    assert (body.name, body.kept, body.total, body.macs, body.nonzero_macs) == ("body", 63, 72, 648, 567)
    assert (again.name, again.macs, head.name) == ("again", 128, "head")
    assert body.sparsity == 1 / 8


def test_file_bytes_are_what_the_file_system_says(tmp_path: Path) -> None:
    assert file_bytes(lambda path: path.write_bytes(b"x" * 1234)) == 1234


MEMORY = """
import json
from secateur.measure.footprint import memory_of

def work():
    temporary = bytearray(b"y") * 40_000_000
    return [bytes(memoryview(temporary)[:10_000_000])]

found = [memory_of(work) for _ in range(3)]
print(json.dumps([[len(result[0]), peak, held] for result, peak, held in found]))
"""


def test_memory_of_sees_what_is_held_and_what_was_only_needed() -> None:
    """In a process of its own, whose memory nothing else fills or frees."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    lengths, peaks, helds = zip(*json.loads(done.stdout), strict=True)
    assert set(lengths) == {10_000_000}
    if None in (*peaks, *helds):
        pytest.skip("this system has no /proc to read memory from")
    assert 45e6 < statistics.median(peaks) < 60e6
    assert 9e6 < statistics.median(helds) < 15e6


def test_latencies_rank_engines_by_the_time_they_take() -> None:
    def slow(x: Tensor) -> Tensor:
        time.sleep(0.02)
        return x

    threads = torch.get_num_threads()
    quick, slower = compare_latency({"quick": lambda x: x, "slow": slow}, torch.zeros(3, 1))
    assert (quick.engine, quick.batch, quick.threads, slower.engine) == ("quick", 3, 1, "slow")
    assert quick.median_ms < slower.median_ms
    assert slower.low_ms <= slower.median_ms <= slower.high_ms
    assert quick.n == slower.n >= 7
    assert torch.get_num_threads() == threads


def test_engines_that_disagree_are_not_timed() -> None:
    engines = {"one": lambda x: x, "two": lambda x: x + 0.1}
    with pytest.raises(SecateurError, match=r"'one' and 'two' disagree by 0\.1"):
        compare_latency(engines, torch.zeros(1, 4), same_output=("one", "two"))


def test_the_median_interval_holds_the_median_19_times_in_20() -> None:
    generator = torch.Generator().manual_seed(3)
    draws = torch.rand(1000, 25, generator=generator)
    inside = sum(low <= 0.5 <= high for low, _, high in (median_interval(row.tolist()) for row in draws))
    assert 930 < inside < 990
    assert median_interval([3.0, 1.0]) == (1.0, 2.0, 3.0)


def test_the_faster_engine_predicts_and_pytorch_decides_ties() -> None:
    calls: list[int] = []

    def slow(images: Tensor) -> Tensor:
        calls.append(len(images))
        time.sleep(0.01)
        return images * 2

    def rounded(images: Tensor) -> Tensor:
        return images * 2 + torch.tensor([[1e-4, 0.0, 0.0]])

    logits = torch.tensor([[1.0, 3.0, 2.0], [2.0, 2.00002, 0.0], [float("nan"), 1.0, 0.0]])
    predict = faster_predictor(slow, rounded, torch.eye(3))
    calls.clear()
    found = predict(logits)
    assert calls == [2]
    assert found[:2].argmax(1).tolist() == [1, 1]
    assert rounded(logits)[1].argmax() == 0
    assert found[2].isnan().any()
    assert faster_predictor(rounded, slow, torch.eye(3)) is rounded


def test_an_engine_that_changes_its_input_spoils_no_other() -> None:
    def shifting(x: Tensor) -> Tensor:
        return x.sub_(1).sum(1)

    def plain(x: Tensor) -> Tensor:
        return (x - 1).sum(1)

    example = torch.ones(2, 3)
    compare_latency({"a": shifting, "b": plain, "c": shifting}, example, same_output=("a", "b", "c"))
    assert torch.equal(example, torch.ones(2, 3))


def test_what_a_network_keeps_from_being_timed_can_be_trained_with() -> None:
    kept: list[Tensor] = []

    def engine(x: Tensor) -> Tensor:
        if not kept:
            kept.append(torch.linspace(0, 1, 3))
        return x * kept[0]

    compare_latency({"a": engine}, torch.ones(2, 3))
    assert not kept[0].is_inference()


def test_a_network_that_no_normalisation_helps_is_said_to_be_near_chance() -> None:
    data = load_data("digits")
    (line,) = doubts(lambda images: torch.eye(10)[torch.zeros(len(images), dtype=torch.long)], data)
    assert "of 240 validation images is near chance for its 10 classes" in line


@pytest.mark.parametrize(
    ("mean", "std", "options"),
    [
        (0, 1, "--mean 0 --std 1"),
        (0.5, 0.5, "--mean 0.5 --std 0.5"),
        (0, 1 / 255, "--mean 0 --std 0.00392156862745098"),
    ],
)
def test_the_normalisation_that_a_network_learnt_with_is_found(mean: float, std: float, options: str) -> None:
    data, own = load_data("digits"), load_data("digits", mean=mean, std=std)
    known = normalise(data.validation.images, own.mean, own.std).flatten(1)

    def nearest(images: torch.Tensor) -> torch.Tensor:
        """Knows the validation images by heart, at their own scale."""
        apart, index = torch.cdist(images.flatten(1), known).min(1)
        return torch.eye(10)[data.validation.labels[index]] * (apart < 0.01)[:, None]

    (line,) = doubts(nearest, data)
    assert "it has 100.00% of 240 validation images" in line
    assert line.endswith(f"give {options}")
    assert doubts(nearest, own) == ()


def test_rivals_run_the_dense_network_and_those_that_cannot_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    example = torch.randn(2, 1, 4, 4)

    def refusing(graph: Graph, threads: int) -> NoReturn:
        raise RuntimeError("cannot open it\nat all")

    monkeypatch.setattr(latency, "RIVALS", {"torch": "float32", "openvino": "float32"})
    monkeypatch.setattr(latency, "PEERS", {"torch": PEERS["torch"], "openvino": refusing})
    found = latency.rivals_of(graph_of(network, example), [example, example[:1]])
    assert found.absent == (("openvino", "cannot open it"),)
    with torch.no_grad():
        torch.testing.assert_close(found.engines["torch"](example), network(example))
