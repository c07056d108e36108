"""From which ratio on something is faster than dense, and where the report says so."""

from __future__ import annotations

import dataclasses

import pytest

from samples import make_row
from secateur.records.results import Latency, Row
from secateur.records.selection import Selection
from secateur.report.break_even import BreakEven, break_evens
from secateur.report.page import render_page
from secateur.report.summary import Run


def timed_row(ratio: float, ours: float, layer: float | None) -> Row:
    """A row of a network that PyTorch runs in 0.5 ms, dense; fc1 takes `layer` ms, fc2 was not timed."""
    row = make_row(ratio)
    first, second = row.layers
    latency = Latency("secateur", 1, 1, ours, 0.9 * ours, 1.1 * ours, 50)
    layers = (dataclasses.replace(first, milliseconds=layer), second)
    return dataclasses.replace(row, latencies=(*row.latencies, latency), layers=layers)


ROWS = [timed_row(*each) for each in ((0.0, 0.6, 0.4), (0.5, 0.49, 0.4), (0.8, 0.25, 0.2), (0.9, 0.1, 0.05))]


@pytest.mark.parametrize(
    ("times", "ratio", "text"),
    [
        ((1.0, 0.9, 2.0, 4.0), 0.8, "from 80 % on"),
        ((1.0, 3.0, 1.0, 4.0), 0.9, "from 90 % on"),
        ((1.0, 1.2, 1.3, 1.4), 0.5, "from 50 % on"),
        ((1.0, 2.0, 2.0, 1.01), None, "never"),
        ((1.0, 2.0, None, 4.0), 0.5, "from 50 % on"),
        ((1.0, None, None, 4.0), 0.9, "from 90 % on"),
        ((None, None, None, None), None, "never"),
    ],
)
def test_break_even_is_where_every_higher_ratio_is_faster_too(
    times: tuple[float | None, ...], ratio: float | None, text: str
) -> None:
    line = BreakEven("fc1", (0.0, 0.5, 0.8, 0.9), times)
    assert (line.ratio, line.describe()) == (ratio, text)


def test_the_network_is_held_against_pytorch_and_itself_and_layers_against_themselves() -> None:
    beside, own, layer = break_evens(ROWS)
    assert beside.name == "whole network, 1 image, against PyTorch"
    assert beside.times == pytest.approx((0.5 / 0.6, 0.5 / 0.49, 2, 5))
    assert beside.ratio == 0.8
    assert (own.name, own.ratio) == ("whole network, 1 image, in the runtime", 0.5)
    assert own.times == pytest.approx((1, 0.6 / 0.49, 2.4, 6))
    assert layer.name == "fc1"
    assert layer.times == pytest.approx((1, 1, 2, 8))


def test_without_a_dense_row_only_pytorchs_dense_network_is_there_to_compare_with() -> None:
    (beside,) = break_evens(ROWS[1:])
    assert beside.name.endswith("against PyTorch")
    assert break_evens([make_row(0.0), make_row(0.9)]) == []


def test_the_report_says_where_each_layer_breaks_even() -> None:
    page = render_page([Run("run", tuple(ROWS), (), ())], Selection())
    assert 'id="net-data-time-1"' in page
    assert 'id="net-data-time-64"' not in page
    assert "fc1: from 80 % on" in page
    assert "whole network, 1 image, against PyTorch: from 80 % on" in page
