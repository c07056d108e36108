"""A report shows where the time of the network goes that its run kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from samples import make_row
from secateur import packfile
from secateur.cli import main
from secateur.network.graph import Graph, Node, Weight
from secateur.records.kept import Kept
from secateur.records.store import Store


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two rows, and a best network of one layer with the name of no module."""
    node = Node("</script><b>", "linear", ("x",), {"weight": "w"}, {}, (3,))
    weights = {"w": Weight.of(np.ones((3, 4), np.float32))}
    with Store.create(tmp_path / "run") as store:
        for ratio in (0.0, 0.9):
            store.add(make_row(ratio))
    kept = Kept(tmp_path / "run" / "best" / "net-data.json")
    kept.packed.parent.mkdir()
    packfile.write(Graph({"x": (4,)}, (node.name,), (node,), weights), kept.packed)
    kept.write_card({"model": "net", "data": "data"})
    return tmp_path / "run"


def test_a_report_shows_where_the_time_of_the_best_goes(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["report", str(run)])
    page = (run / "report.html").read_text()
    assert "<h2>Layer by layer: net on data</h2>" in page
    assert "&lt;/script&gt;&lt;b&gt;" in page
    assert "</script><b>" not in page
    assert "not analysed" not in capsys.readouterr().err


def test_a_report_without_a_whole_network_is_written_all_the_same(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "best" / "net-data.secateur").write_bytes(b"else")
    with pytest.raises(SystemExit, match="0"):
        main(["report", str(run)])
    assert "Layer by layer" not in (run / "report.html").read_text()
    assert "net-data.secateur: is missing or damaged" in capsys.readouterr().err
