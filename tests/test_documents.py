"""What the README, the pages and the docstrings show is run: a page's Python blocks one after another.

A comment above a block says what else is done with it: <!-- not run: why --> or <!-- file: name.py -->.
"""

from __future__ import annotations

import doctest
import functools
import importlib
import re
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import secateur
from secateur import packfile
from secateur.experiments.searching import running
from secateur.experiments.searching.plan import Search

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^(?:<!-- (?P<what>not run|file): (?P<told>.+) -->\n\n)?```python\n(?P<code>.*?)^```$", re.M | re.S)
PACKAGE = ROOT / "src" / "secateur"


class Block(NamedTuple):
    line: int
    code: str
    file: str | None


def blocks(page: Path) -> list[Block]:
    """What of a page is run, or is a file that it uses."""
    text = page.read_text()
    found = [each for each in BLOCK.finditer(text) if each["what"] != "not run"]
    return [Block(text[: each.start("code")].count("\n"), each["code"], each["told"]) for each in found]


class Pictures(nn.Module):
    """Layers by the names that docs/commands.md has."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, 2), nn.ReLU())
        self.conv2 = nn.Conv2d(8, 8, 3, 2)
        self.embeddings = nn.Embedding(4, 8)
        self.fc1 = nn.Linear(8, 32)
        self.fc2 = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.conv2(self.stem(x)).mean((2, 3)).relu() + self.embeddings.weight[0]
        out: Tensor = self.fc2(self.fc1(seen).relu())
        return out


def of_commands() -> dict[str, Any]:
    model, original = Pictures(), Pictures()
    original.load_state_dict(model.state_dict())
    images, labels = torch.randn(40, 1, 28, 28), torch.randint(10, (40,))
    meta = packfile.Metadata(mean=(0.5,), std=(0.5,))
    secateur.pack(model, "net.secateur", example=images, meta=meta)
    given = {"model": model, "original": original, "images": images, "labels": labels, "x": images, "torch": torch}
    return {**given, "x": images.numpy(), "pixels": np.zeros((2, 1, 28, 28), np.uint8)}


def of_readme() -> dict[str, Any]:
    x = torch.randn(600, 16)
    data = TensorDataset(x, x[:, :4].argmax(1))
    parts = [DataLoader(torch.utils.data.Subset(data, range(200 * part, 200 * part + 200)), 50) for part in range(3)]
    names = ("train_loader", "validation_loader", "test_loader")
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
    return {"model": model, "loss": nn.functional.cross_entropy, **dict(zip(names, parts, strict=True))}


def of_deploy() -> dict[str, Any]:
    return {"torch": torch, "model": nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)), "x": torch.ones(3, 8)}


GIVEN: dict[str, Callable[[], dict[str, Any]]] = {
    "README.md": of_readme,
    "commands.md": of_commands,
    "deploy.md": of_deploy,
}
"""What a page speaks of and takes for given; everything else it makes itself."""

PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if blocks(page)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty one to work in, whose modules can be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def sweep_instead(plan: Search, out: Path, **_: Any) -> SimpleNamespace:
    """What a search gives, of one ratio; tests/experiments has searches."""
    cell = plan.template
    found = secateur.sweep(
        cell.model, cell.data, ratios=(0, 0.5), repairs=("none",), tolerance=100, out=out,
        epochs=cell.recipe.epochs, learning_rate=cell.recipe.learning_rate,
    )  # fmt: skip
    return SimpleNamespace(best=found.best[0], write_page=found.write_page)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches are planned, and only that; sweeps measure no latency."""
    monkeypatch.setattr(secateur, "sweep", functools.partial(secateur.sweep, latency_on="none"))
    monkeypatch.setattr(running, "run_search", sweep_instead)


@pytest.mark.usefixtures("hurried")
@pytest.mark.filterwarnings("ignore::secateur.errors.PruneWarning")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_shows_runs(page: Path, folder: Path) -> None:
    names = GIVEN.get(page.name, dict)()
    for block in blocks(page):
        if block.file is not None:
            (folder / block.file).write_text(block.code)
        exec(compile("\n" * block.line + block.code, str(page), "exec"), names)


def test_every_page_that_shows_python_is_run_or_says_why_not() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        assert len(BLOCK.findall(page.read_text())) == page.read_text().count("```python\n"), page
    assert {"README", "commands", "quickstart", "tasks", "adding-a-method"} <= {page.stem for page in PAGES}


@pytest.mark.usefixtures("hurried")
@pytest.mark.filterwarnings("ignore::secateur.errors.PruneWarning")
@pytest.mark.parametrize("script", sorted((ROOT / "docs" / "examples").glob("*.py")), ids=lambda script: script.stem)
def test_an_example_runs(script: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(script))
    assert "← best" in capsys.readouterr().out
    for shown in ("docs/examples.md", "mkdocs.yml"):
        assert f"examples/{script.stem}.md" in (ROOT / shown).read_text()


SHOWING = [path for path in PACKAGE.rglob("*.py") if ">>>" in path.read_text()]


@pytest.mark.parametrize("path", SHOWING, ids=lambda path: path.stem)
def test_what_a_docstring_shows_is_what_comes(path: Path, folder: Path) -> None:
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    given = {"secateur": secateur, "torch": torch, "nn": nn, "np": np}
    tried = doctest.testmod(importlib.import_module(name), extraglobs=given, raise_on_error=True)
    assert tried.attempted > 0
