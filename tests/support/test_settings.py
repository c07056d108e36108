from __future__ import annotations

import ast
from pathlib import Path

import pytest

import secateur
from secateur.support import settings
from secateur.support.settings import CACHE, DATA, KERNEL, VARIABLES, XDG_CACHE, user_cache

ROOT = Path(secateur.__file__).parent


def reads_the_environment(path: Path) -> bool:
    """Whether a file names os.environ or os.getenv, however it is imported."""
    tree = ast.parse(path.read_text())
    named = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    named |= {each.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for each in node.names}
    return bool(named & {"environ", "environb", "getenv", "getenvb"})


def test_environment_variables_are_read_in_one_place() -> None:
    readers = [path for path in ROOT.rglob("*.py") if reads_the_environment(path)]
    assert readers == [ROOT / "support" / "settings.py"]


def test_every_variable_says_in_a_line_what_it_is_for() -> None:
    assert all(each.about.endswith(".") and "\n" not in each.about for each in VARIABLES)
    known = [each for each in vars(settings).values() if isinstance(each, settings.Variable)]
    assert len(known) == len(VARIABLES) == len({each.name for each in VARIABLES})


def test_the_cache_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(CACHE.name, "~/mine")
    assert user_cache() == Path.home() / "mine"
    monkeypatch.delenv(CACHE.name)
    monkeypatch.setenv(XDG_CACHE.name, str(tmp_path))
    assert user_cache() == tmp_path / "secateur"
    monkeypatch.delenv(XDG_CACHE.name)
    assert user_cache() == Path.home() / ".cache" / "secateur"


def test_a_variable_is_set_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    for before in ("before", ""):
        monkeypatch.setenv(KERNEL.name, before)
        with KERNEL.during("scalar"):
            assert KERNEL.value == "scalar"
        assert KERNEL.value == before
    monkeypatch.delenv(KERNEL.name)
    with KERNEL.during("scalar"):
        pass
    assert KERNEL.value == ""


def test_a_default_gives_way_to_what_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATA.name, "given")
    DATA.default("other")
    assert DATA.value == "given"
