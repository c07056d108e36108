"""How many of the cases that ship with the package onnx are held, and right: `python benchmarks/onnx_cases.py`.

Every node test, and the models of `simple`, `pytorch-converted`, `pytorch-operator` and `light`. A case passes where
the runtime's outputs are those that come with it, within its tolerance (that of its number format where numbers are
float16 or bfloat16: such are read, and computed with in float32). Node tests give weights as inputs; where a Graph
needs them constant, inputs but for one are bound to what the case gives. A case that is refused says why; one whose
numbers are others is wrong. Apart is said which are right in float64 and beyond the tolerance in float32 (a softmax of
numbers of ten digits that differ in the last).
"""

from __future__ import annotations

import argparse
import collections
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.backend.test
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

from secateur.errors import SecateurError
from secateur.importing.onnx import read
from secateur.network.graph import Graph
from secateur.runtime import Session, reference

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator", "light")
_LARGEST = float(np.finfo(np.float32).max)
_HALF = {"float16": 2e-3, "bfloat16": 2e-2}


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A model with what goes in and has to come out, several times perhaps."""

    name: str
    kind: str
    model: Any
    data: Sequence[tuple[Sequence[Any], Sequence[Any]]]
    rtol: float
    atol: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """what: passed, bound, rounded, refused or wrong. formats: of inputs and outputs. reason: why not."""

    name: str
    kind: str
    what: str
    reason: str = ""
    formats: tuple[str, ...] = ()


def cases(kind: str) -> Iterator[Case]:
    if kind == "light":
        yield from _light()
        return
    for each in load_model_tests(kind=kind):
        if each.model is not None:
            data = [([*map(_plain, given)], [*map(_plain, wanted)]) for given, wanted in each.data_sets or []]
            yield Case(each.name, kind, each.model, data, each.rtol, each.atol)
        else:
            folder = Path(str(each.model_dir))
            yield Case(each.name, kind, onnx.load(folder / "model.onnx"), _stored(folder), each.rtol, each.atol)


def _plain(value: Any) -> Any:
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, (np.generic, int, float)) else value


def _stored(folder: Path) -> list[tuple[list[Any], list[Any]]]:
    sets = sorted(folder.glob("test_data_set_*"))
    return [(_arrays(each, "input"), _arrays(each, "output")) for each in sets]


def _arrays(folder: Path, what: str) -> list[Any]:
    return [_array(path) for path in sorted(folder.glob(f"{what}_*.pb"), key=_number)]


def _number(path: Path) -> int:
    return int(re.findall(r"\d+", path.stem)[-1])


def _array(path: Path) -> Any:
    content = path.read_bytes()
    try:
        return numpy_helper.to_array(onnx.TensorProto.FromString(content))
    except Exception:
        return content  # a sequence, or an optional


def _light() -> Iterator[Case]:
    """Networks whose weights are one number each; what comes in is as the backend's tests make it."""
    folder = Path(onnx.backend.test.__file__).parent / "data" / "light"
    for path in sorted(folder.glob("*.onnx")):
        model = onnx.load(path)
        stored = {each.name for each in model.graph.initializer}
        inputs = [each for each in model.graph.input if each.name not in stored]
        shapes = [[dim.dim_value for dim in each.type.tensor_type.shape.dim] for each in inputs]
        given = [np.arange(np.prod(shape), dtype=np.float32).reshape(shape) / np.prod(shape) for shape in shapes]
        expected = _array(path.with_name(f"{path.stem}_output_0.pb"))
        yield Case(path.stem, "light", model, [(given, [expected])], 2e-3, 1e-7)


def outcome(case: Case, folder: Path) -> Outcome:
    path = folder / "case.onnx"
    path.write_bytes(case.model.SerializeToString())
    stored = {each.name for each in case.model.graph.initializer}
    names = [each.name for each in case.model.graph.input if each.name not in stored]
    plain = [each for given, wanted in case.data for each in (*given, *wanted)]
    if not case.data or not all(isinstance(each, np.ndarray) for each in plain):
        return Outcome(case.name, case.kind, "refused", "takes or gives what is no tensor")
    formats = tuple(sorted({each.dtype.name for each in plain}))
    if any(each.dtype == np.float64 and np.abs(each[np.isfinite(each)]).max(initial=0) > _LARGEST for each in plain):
        return Outcome(case.name, case.kind, "refused", "has numbers that float32 has not", formats)
    first = ""
    for bound in _bindings(names):
        try:
            found = {
                _verdict(path, case, dict(zip(names, given, strict=False)), wanted, bound)
                for given, wanted in case.data
            }
        except SecateurError as error:
            first = first or _reason(str(error))
            continue
        worst = next(each for each in ("wrong", "rounded", "passed") if each in found)
        what = "bound" if bound and worst == "passed" else worst
        return Outcome(case.name, case.kind, what, "", formats)
    return Outcome(case.name, case.kind, "refused", first, formats)


def _bindings(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """None bound, then all but one."""
    yield ()
    if len(names) > 1:
        for free in names:
            yield tuple(name for name in names if name != free)


def _verdict(path: Path, case: Case, given: Mapping[str, Any], wanted: Sequence[Any], bound: Sequence[str]) -> str:
    shapes = {name: list(map(int, each.shape)) for name, each in given.items() if name not in bound}
    graph = read(path, shapes=_shapes(case, shapes), bind={name: given[name] for name in bound})
    elements = {
        name: graph.elements.get(value, "float32")
        for (name, _), value in zip(graph.called.arguments, graph.inputs, strict=True)
    }
    feeds = {name: np.ascontiguousarray(given[name].astype(elements[name])) for name in elements}
    feeds = {name: each.reshape(given[name].shape) for name, each in feeds.items()}
    if _agrees(Session(graph), feeds, wanted, case):
        return "passed"
    return "rounded" if _agrees(lambda **given: _meant(graph, given), feeds, wanted, case) else "wrong"


def _agrees(run: Any, feeds: Mapping[str, Any], wanted: Sequence[Any], case: Case) -> bool:
    made = run(**feeds)
    found = list(made.values()) if isinstance(made, dict) else [made]
    return all(_agree(np.asarray(one), other, case) for one, other in zip(found, wanted, strict=True))


def _meant(graph: Graph, feeds: Mapping[str, Any]) -> Any:
    """By the NumPy reference, in float64."""
    values = graph.called.arrays((), feeds)
    return graph.called.result(reference.run_all(graph, dict(zip(graph.inputs, values, strict=True))))


def _shapes(case: Case, shapes: Mapping[str, list[int]]) -> dict[str, list[int]]:
    """Of inputs whose shapes are not all numbers in the file."""
    free = {
        each.name
        for each in case.model.graph.input
        if not all(dim.dim_value > 0 for dim in each.type.tensor_type.shape.dim)
    }
    return {name: shape for name, shape in shapes.items() if name in free}


def _agree(found: Any, wanted: Any, case: Case) -> bool:
    if found.shape != wanted.shape:
        return False
    kind = wanted.dtype.name
    if kind == "bool" or wanted.dtype.kind in "iu":
        return bool(np.array_equal(found.astype(np.float64), wanted.astype(np.float64)))
    tolerance = _HALF.get(kind, 0.0)
    rtol, atol = max(case.rtol, tolerance), max(case.atol, tolerance, 1e-6)
    return bool(np.allclose(found.astype(np.float64), wanted.astype(np.float64), rtol, atol, equal_nan=True))


def _reason(text: str) -> str:
    """Without names, so that alike ones are one."""
    text = text.partition("cannot be held: ")[2] or re.sub(r"^\S*case\.onnx: ", "", text)
    text = re.sub(r"'[^']*'", "…", text)
    found = re.findall(r"\((\w+)\) ([^;]*)", text)
    op, reason = found[-1] if found else ("", text)
    plain = "is not supported" if reason.startswith("is not supported") else reason
    return f"{op}: {plain}"[:150]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--match", default="", help="only names with this in them")
    parser.add_argument("--verbose", action="store_true")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    found: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in asked.kinds.split(","):
            for case in cases(kind):
                if asked.match in case.name:
                    found.append(outcome(case, Path(folder)))
                    if asked.verbose:
                        print(found[-1].name, found[-1].what, found[-1].reason)
    _print(found)
    sys.exit(any(each.what == "wrong" for each in found))


def _print(found: Sequence[Outcome]) -> None:
    print(f"onnx {onnx.__version__}")
    for kind in dict.fromkeys(each.kind for each in found):
        own = [each for each in found if each.kind == kind]
        counts = collections.Counter(each.what for each in own)
        print(
            f"{kind}: {len(own)} cases: {counts['passed'] + counts['bound']} passed "
            f"({counts['bound']} of them with inputs bound), {counts['refused']} refused, {counts['wrong']} wrong"
        )
    print("of those with numbers in a format, passed:")
    for form in sorted({form for each in found for form in each.formats}):
        own = [each for each in found if form in each.formats]
        print(f"  {form}: {sum(each.what in ('passed', 'bound') for each in own)} of {len(own)}")
    for what in ("wrong", "rounded"):
        print(f"{what}: {', '.join(each.name for each in found if each.what == what) or 'none'}")
    print("refused, by reason:")
    for reason, count in collections.Counter(each.reason for each in found if each.what == "refused").most_common():
        print(f"{count:5} {reason}")


if __name__ == "__main__":
    main()
