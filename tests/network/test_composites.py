"""What a Graph spells with several operations, held against NumPy on arrays alone."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import composite_cases
from secateur.network import composites
from secateur.network.building import Builder
from secateur.network.composites import CompositeError
from secateur.network.sizes import named


def test_every_composite_is_what_numpy_says_where_torch_is_blocked() -> None:
    code = """
import sys; sys.modules["torch"] = None
import composite_cases
print({name: far for name in composite_cases.CASES if not (far := composite_cases.distance(name)) < 1e-5})
"""
    paths = [str(Path(composite_cases.__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert (done.stdout, done.stderr) == ("{}\n", "")


def test_no_composite_is_missing_from_the_cases() -> None:
    public = inspect.getmembers(composites, inspect.isfunction)
    own = {name for name, _ in public}
    assert own == {name for name in composites.__all__ if name[0].islower()}
    assert {word for name in own for case in composite_cases.CASES if (word := name) in case} == own


@pytest.mark.parametrize(
    ("spell", "message"),
    [
        (lambda build: composites.flip(build, "y", (1,)), r"is not supported along a length \(n\)"),
        (lambda build: composites.every(build, "y", 1, 2), r"with step 2 is not supported along a length \(n\)"),
    ],
)
def test_what_no_operations_make_is_said(spell, message: str) -> None:  # type: ignore[no-untyped-def]
    build = Builder()
    build.input("x", (2, 3, 4))
    build.input("y", (named("n"),))
    with pytest.raises(CompositeError, match=message):
        spell(build)
