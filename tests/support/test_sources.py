"""Which files a callable's digest depends on, and which it was loaded from."""

from __future__ import annotations

import functools
import hashlib
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from secateur.errors import CallableError
from secateur.pruning.score import find_method
from secateur.support.references import check_unedited, import_callable, planned_source
from secateur.support.sources import source_digest

PARTS = (
    "WIDTH = 8\n\n\ndef part():\n    return 8\n\n\nclass Base:\n    def forward(self):\n        return 8\n\n\n"
    "class Factory:\n    def __call__(self):\n        return 8\n\n    def make(self):\n        return 8\n\n\n"
    "def logged(function):\n    def wrapper(*given):\n        return function(*given)\n    return wrapper\n"
)
MODELS = {
    "import": "import parts\ndef net(): return parts.part()",
    "from import": "from parts import part\ndef net(): return part()",
    "star": "from parts import *\ndef net(): return part()",
    "within a function": "def net():\n    from parts import part\n    return part()",
    "importlib": "import importlib\ndef net(): return importlib.import_module('parts').part()",
    "a computed name": "import importlib\nm = importlib.import_module('par' + 'ts')\ndef net(): return m.part()",
    "partial": "import functools, parts\nnet = functools.partial(parts.part)",
    "decorator": "import parts\n@parts.logged\ndef net(): return 1",
    "base class": "from parts import Base\nclass net(Base): pass",
    "another name": "from parts import part as net",
    "instance": "import parts\nnet = parts.Factory()",
    "method": "import parts\nnet = parts.Factory().make",
    "fallback": "try:\n    import missing_one\nexcept ImportError:\n    import parts as other\nnet = other.part",
    "two steps": "import between\ndef net(): return between.parts.part()",
    "path": "import importlib.util, pathlib\n"
    "found = importlib.util.spec_from_file_location('by_path', pathlib.Path(__file__).with_name('parts.py'))\n"
    "module = importlib.util.module_from_spec(found)\nfound.loader.exec_module(module)\nnet = module.part",
    "registry": "import between\nfrom parts import part\nbetween.TABLE[0] = part\ndef net(): return between.TABLE[0]()",
}
ROOMS = ("own", "parts", "between", "lab", "lab.own", "lab.parts", "lab.deep", "lab.deep.own", "by_path", "parts_two")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "parts.py").write_text(PARTS)
    (tmp_path / "between.py").write_text("import parts\nTABLE = {}\n")
    yield tmp_path
    forget()


def forget() -> None:
    """As a fresh process has it."""
    for name in ROOMS:
        sys.modules.pop(name, None)
    importlib.invalidate_caches()


def digest_of(reference: str) -> str:
    forget()
    found = import_callable(reference, "model")
    assert planned_source(reference, "model") == source_digest(reference, found)
    check_unedited(reference, "model")
    return source_digest(reference, found)


def edit(path: Path) -> None:
    path.write_text(path.read_text().replace("8", "9"))


@pytest.mark.parametrize("way", MODELS)
def test_an_edited_file_of_ones_own_changes_the_digest_however_it_is_imported(folder: Path, way: str) -> None:
    (folder / "own.py").write_text(MODELS[way])
    before = digest_of("own:net")
    assert digest_of("own:net") == before
    edit(folder / "parts.py")
    assert digest_of("own:net") != before


@pytest.mark.parametrize(
    ("reference", "text", "edited"),
    [
        ("lab.own:net", "from . import parts\ndef net(): return parts.part()", "lab/parts.py"),
        ("lab.own:net", "from .parts import part as net", "lab/parts.py"),
        ("lab.own:net", "from . import WIDTH\ndef net(): return WIDTH", "lab/__init__.py"),
        ("lab.own:net", "import lab.parts\ndef net(): return lab.WIDTH", "lab/__init__.py"),
        ("lab.deep.own:net", "from ..parts import part\ndef net(): return part()", "lab/parts.py"),
    ],
)
def test_packages_are_followed_by_relative_imports(folder: Path, reference: str, text: str, edited: str) -> None:
    (folder / "lab" / "deep").mkdir(parents=True)
    for package in ("lab", "lab/deep"):
        (folder / package / "__init__.py").write_text("WIDTH = 8\n")
    (folder / "lab" / "parts.py").write_text(PARTS)
    path = folder / Path(*reference.partition(":")[0].split(".")).with_suffix(".py")
    path.write_text(text)
    before = digest_of(reference)
    (folder / "parts.py").write_text("# another file of that name\n")
    assert digest_of(reference) == before
    edit(folder / edited)
    assert digest_of(reference) != before


@pytest.mark.parametrize(
    "text",
    [
        "def net(): return 8",
        "import functools\ndef make(width): return width\nnet = functools.partial(make, 8)",
        "import parts\n@parts.logged\ndef net(): return 8",
        "from parts import part\nWIDTH = 8\nnet = part",
    ],
)
def test_the_file_that_names_a_callable_counts_whatever_the_callable_is(folder: Path, text: str) -> None:
    (folder / "own.py").write_text(text)
    before = digest_of("own:net")
    edit(folder / "own.py")
    assert digest_of("own:net") != before


def test_the_digest_of_a_file_that_needs_no_other_is_that_of_its_bytes(folder: Path) -> None:
    text = "import os\nimport torch\nfrom torch import nn\nclass net(nn.Linear): pass\n"
    (folder / "own.py").write_text(text)
    assert digest_of("own:net") == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_a_file_that_nothing_imports_does_not_count(folder: Path) -> None:
    (folder / "own.py").write_text("def net(): return 8")
    before = digest_of("own:net")
    edit(folder / "parts.py")
    assert digest_of("own:net") == before


@pytest.mark.parametrize("edited", ["own.py", "parts.py"])
@pytest.mark.parametrize("imported_first", [False, True])
def test_what_was_edited_after_python_loaded_it_is_refused_until_it_is_loaded_again(
    folder: Path, edited: str, imported_first: bool
) -> None:
    (folder / "own.py").write_text("import parts\ndef net(): return 8, parts.part()")
    forget()
    if imported_first:
        importlib.import_module("own")
    else:
        digest = source_digest("own:net", import_callable("own:net", "model"))
    edit(folder / edited)
    with pytest.raises(
        CallableError, match=rf"model 'own:net': .*{edited} was edited after Python had loaded it: start"
    ):
        check_unedited("own:net", "model")
    if not imported_first:
        assert source_digest("own:net", import_callable("own:net", "model")) == digest
        assert planned_source("own:net", "model") != digest
    importlib.reload(sys.modules[edited.removesuffix(".py")])
    check_unedited("own:net", "model")
    assert planned_source("own:net", "model") == digest_of("own:net")


def test_a_constant_that_a_program_sets_is_another_network(folder: Path) -> None:
    (folder / "own.py").write_text("import parts\ndef net(): return parts.WIDTH")
    before = digest_of("own:net")
    vars(sys.modules["parts"])["WIDTH"] = 16
    assert planned_source("own:net", "model") != before
    vars(sys.modules["parts"])["WIDTH"] = 8
    assert planned_source("own:net", "model") == before


def test_code_of_no_file_has_a_digest_too() -> None:
    def made(body: str) -> Callable[..., Any]:
        names: dict[str, Any] = {"__name__": "nowhere_at_all"}
        exec(f"def net(x):\n    return {body}\n", names)
        return names["net"]

    one, same, other = (source_digest("nowhere_at_all:net", made(body)) for body in ("x + 1", "x + 1", "x + 2"))
    assert one == same != other
    assert len({source_digest("nowhere_at_all:net", functools.partial(made("x"), 1)), one, other, ""}) == 4


def test_a_method_that_is_a_value_of_another_file_follows_that_file(folder: Path) -> None:
    (folder / "own.py").write_text(
        "from secateur.pruning.score.method import INPUTS, Method\n"
        "from parts import part\nbest = Method(part, INPUTS, '', '')"
    )
    forget()
    before = find_method("own:best").source
    edit(folder / "parts.py")
    forget()
    assert find_method("own:best").source != before
