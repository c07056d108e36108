"""What the tests of experiments share."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(autouse=True)
def young_garbage() -> None:
    """Collecting garbage, which measuring memory does often, looks at nothing that is older than the test."""
    gc.collect()
    gc.freeze()
