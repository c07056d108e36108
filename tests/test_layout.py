"""The house keeps its floors: imports go down only, and the torch-free rooms stay so."""

from __future__ import annotations

import ast
import graphlib
import itertools
import re
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import secateur

ROOT = Path(secateur.__file__).parent
DESIGN = (Path(__file__).parents[1] / "docs" / "design.md").read_text()


def floors() -> tuple[tuple[str, ...], ...]:
    """Top first: the list in the design."""
    _, _, after = DESIGN.partition("Imports go down only")
    lines = after.splitlines()[2:]
    return tuple(tuple(line.split()) for line in itertools.takewhile(str.strip, lines))


def torch_free_modules() -> list[str]:
    """What the design says never imports torch: rooms stand for all of their modules."""
    _, _, after = DESIGN.partition("No module of ")
    whole, _, single = after[: after.index(", so that")].partition(" imports torch, nor do ")
    rooms, modules = (re.findall(r"`([\w.]+)`", text) for text in (whole, single))
    for room in rooms:
        modules += [_dotted(path) for path in (ROOT / room).rglob("*.py")]
    return sorted(modules)


def _dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """The rooms that a file names in its imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("secateur."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {each.name.split(".")[1] for each in node.names if each.name.startswith("secateur.")}
    return found - {room_of(path)}


def test_imports_go_down_only() -> None:
    floor = {room: height for height, rooms in enumerate(floors()) for room in rooms}
    files = [path for path in ROOT.rglob("*.py") if room_of(path) not in ("__init__", "__main__")]
    assert {room_of(path) for path in files} | {"_native"} == floor.keys()
    wrong = [
        f"{room_of(path)} imports {room}"
        for path in files
        for room in imports_of(path)
        if floor[room] <= floor[room_of(path)]
    ]
    assert wrong == []


def test_the_torch_free_modules_import_where_torch_is_blocked() -> None:
    modules = torch_free_modules()
    assert {"network.graph", "runtime", "records.store", "report.page", "cli", "exporting.onnx"} <= set(modules)
    names = ", ".join(f"secateur.{name}" for name in modules)
    code = f"import sys; sys.modules['torch'] = None; import secateur, {names}; print(secateur.Sweep.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("Sweep\n", "")


def test_annotations_are_read_where_python_is_as_strict_as_3_10() -> None:
    """It takes only what can be called for a type, and dataclasses.KW_ONLY cannot."""
    code = """
import types, typing
was = typing._type_check
passing = typing.ForwardRef, types.UnionType, typing.TypeVar, typing.ParamSpec

def strict(arg, msg, *rest, **named):
    made = was(arg, msg, *rest, **named)
    if not callable(made) and not isinstance(made, passing):
        raise TypeError(f'{msg} Got {arg!r}')
    return made

typing._type_check = strict
from secateur.cli import main
main(['sweep', '--help'])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--ratios" in done.stdout


def test_the_corridor_has_few_doors() -> None:
    doors = {path.name for path in ROOT.iterdir() if path.name != "__pycache__" and path.suffix != ".so"}
    assert len(doors) <= 20, sorted(doors)


def test_names_that_need_torch_say_what_to_install() -> None:
    code = """
import sys; sys.modules['torch'] = None
import secateur
try:
    secateur.prune
except secateur.MissingExtraError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "secateur.prune needs PyTorch: pip install 'secateur[torch]'\n", done.stderr


def test_every_public_name_exists() -> None:
    for name in secateur.__all__:
        assert getattr(secateur, name) is not None


def test_no_module_imports_itself_through_others() -> None:
    modules = {_dotted(path): path for path in ROOT.rglob("*.py")}
    graph = {name: _modules_imported(path, modules.keys()) - {name} for name, path in modules.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names them


def _modules_imported(path: Path, modules: Collection[str]) -> set[str]:
    """The modules of the package that a file imports where it is loaded."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("secateur."):
            name = node.module.removeprefix("secateur.")
            inside = {f"{name}.{each.name}" for each in node.names}
            found |= {each if each in modules else name for each in inside}
    return found & set(modules)
