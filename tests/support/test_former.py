"""What was written against the former names of modules goes on working."""

from __future__ import annotations

import importlib

import pytest

from secateur.support.former import FORMER


@pytest.mark.parametrize("name", [*FORMER, "export.tracing", "score.method"])
def test_a_former_name_gives_the_very_module_that_is_there_now(name: str) -> None:
    first, _, deeper = name.partition(".")
    now = ".".join(filter(None, ("secateur", FORMER[first], deeper)))
    module = importlib.import_module(f"secateur.{name}")
    assert module is importlib.import_module(now)
    assert module.__name__ == now
    assert module.__spec__ is not None
    assert module.__spec__.name == now


def test_a_name_that_never_was_is_still_none() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'secateur\.nothing'"):
        importlib.import_module("secateur.nothing")
