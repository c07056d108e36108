"""Constants of the cost model: timed once, kept, and done without where that is asked for or impossible."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from secateur import _native
from secateur.errors import RunError
from secateur.network.graph import Graph, Node, Weight
from secateur.runtime import Costs, Session, available_kernels, reference


def linear(outputs: int) -> Graph:
    random = np.random.default_rng(0)
    weight = np.where(random.random((outputs, 1000)) < 0.1, random.normal(size=(outputs, 1000)), 0).astype(np.float32)
    nodes = (Node("y", "linear", ("x",), {"weight": "w"}, {}, (outputs,)),)
    return Graph({"x": (1000,)}, ("y",), nodes, {"w": Weight.of(weight)})


LARGE, SMALL = linear(1001), linear(10)


def costs_of(session: Session) -> str:
    return session.plan().costs


def test_a_large_network_is_planned_by_costs_that_are_timed_once_and_kept(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = available_kernels()[0]
    assert costs_of(Session(LARGE)) == "measured"
    held = json.loads((own_cache / "costs" / f"{kernel}.json").read_text())
    assert held["kernel"] == kernel
    assert len(held["values"]) == _native.cost_count()
    monkeypatch.setattr(_native, "measure_costs", lambda kernel: pytest.fail("timed again"))
    assert costs_of(Session(LARGE)) == "measured"


def test_a_small_network_is_not_worth_the_timing(own_cache: Path) -> None:
    assert costs_of(Session(SMALL)) == "built in"
    assert not own_cache.exists()


def test_timing_can_be_switched_off(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert costs_of(Session(LARGE, calibrate=False)) == "built in"
    monkeypatch.setenv("SECATEUR_CALIBRATE", "0")
    assert costs_of(Session(LARGE)) == "built in"
    assert not own_cache.exists()


@pytest.mark.parametrize(
    "damage",
    ["", "[]", "{}", "values", "another processor", "a value that is no number", "a huge value", "[" * 200_000],
    ids=lambda damage: damage[:30],
)
def test_a_cache_that_is_damaged_or_of_another_machine_is_written_anew(own_cache: Path, damage: str) -> None:
    Session(LARGE)
    (path,) = (own_cache / "costs").iterdir()
    good = path.read_text()
    held = json.loads(good)
    if damage == "another processor":
        damage = json.dumps({**held, "cpu": "another"})
    elif damage == "a value that is no number":
        damage = json.dumps({**held, "values": [*held["values"][1:], float("nan")]})
    elif damage == "a huge value":
        damage = json.dumps({**held, "values": [*held["values"][1:], 10**400]})
    path.write_text(damage)
    assert costs_of(Session(LARGE)) == "measured"
    again = json.loads(path.read_text())
    assert again.keys() == held.keys()
    assert again["cpu"] == held["cpu"]


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / "file"))
    assert costs_of(Session(LARGE)) == "measured"


def test_costs_that_are_given_are_what_a_network_is_planned_by(own_cache: Path) -> None:
    values = tuple(_native.measure_costs("scalar"))
    dear, cheap = (Costs((factor * values[0], *values[1:]), "made up") for factor in (1000, 0.001))
    singly, together = (Session(LARGE, kernel="scalar", costs=costs).plan(16) for costs in (dear, cheap))
    assert (singly.costs, together.costs) == ("made up", "made up")
    assert ([images for images, _, _ in singly.parts], [images for images, _, _ in together.parts]) == ([1], [16])
    assert not own_cache.exists()


@pytest.mark.parametrize("values", [(1.0,), 26 * (0.0,), 26 * (float("nan"),), 26 * (float("inf"),)])
def test_costs_that_no_model_has_are_refused(values: tuple[float, ...]) -> None:
    with pytest.raises(RunError, match=r"^costs: expected 26 numbers above 0, or none for those built in, got \("):
        Costs(values)


def test_costs_that_are_none_are_refused() -> None:
    with pytest.raises(RunError, match=r"^costs \(1,\): expected a runtime.calibration.Costs, or None$"):
        Session(LARGE, costs=(1,))  # type: ignore[arg-type]


@pytest.mark.parametrize("kernel", available_kernels())
def test_measured_costs_are_of_the_order_of_those_built_in(kernel: str) -> None:
    values = _native.measure_costs(kernel)
    assert len(values) == _native.cost_count()
    assert all(0 < value < 20 for value in values)
    x = np.random.default_rng(1).normal(size=(17, 1000)).astype(np.float32)
    for batch in (x[:1], x):
        found = Session(LARGE, kernel=kernel)(batch)
        np.testing.assert_allclose(found, reference.run(LARGE, batch), rtol=1e-4, atol=1e-4)
