"""What was written against the former names of modules goes on working."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from secateur.support.former import FORMER


@pytest.mark.parametrize("name", [*FORMER, "export.tracing", "score.method"])
def test_a_former_name_gives_the_very_module_that_is_there_now(name: str) -> None:
    former = name if name in FORMER else name.partition(".")[0]
    now = f"secateur.{FORMER[former]}{name.removeprefix(former)}"
    module = importlib.import_module(f"secateur.{name}")
    assert module is importlib.import_module(now)
    assert module.__name__ == now
    assert module.__spec__ is not None
    assert module.__spec__.name == now


def test_public_names_that_moved_to_another_module_are_found_in_the_former_one() -> None:
    code = """
from secateur.spec import Retraining, retraining_for
from secateur.catalogue import user_cache
import secateur.measure.correctness
from secateur.measure import accuracy, compare_latency, doubts, faster_predictor, file_bytes, layer_table
from secateur.measure import largest_difference, memory_of
print(isinstance(retraining_for("gradual", epochs=2), Retraining), *map(callable, (user_cache, accuracy, doubts)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("True True True True\n", "")


def test_a_name_that_never_was_is_still_none() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'secateur\.nothing'"):
        importlib.import_module("secateur.nothing")
