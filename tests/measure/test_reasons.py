"""What is said of a layer follows from its numbers."""

from __future__ import annotations

import pytest

from secateur.measure.reasons import Facts, reason_of

BASE = {"seconds": 1e-3, "moved": 1e6, "bandwidth": 10e9, "peak": 50e9, "done": 10e6, "zeros": 0.0}
"""A tenth of the time is what its bytes take, a fifth is what its multiply-adds would take at the peak."""


@pytest.mark.parametrize(
    ("changed", "kind", "text"),
    [
        ({}, "dense", "no zeros to skip; 20% of the peak"),
        ({"floats_among_bytes": True}, "falls to float", "its neighbours are in eight bits"),
        ({"tapped": 9}, "depthwise", "10 MAC a byte, the peak needs 5"),
        ({"moved": 8e6}, "memory-bound", "8 MB at 10 GB/s are 80% of it"),
        ({"moved": 40e6}, "memory-bound", "40 MB at 10 GB/s are 100% of it"),
        ({"done": 45e6}, "near the peak", "90% of the peak"),
        ({"zeros": 0.43, "pays": 0.62}, "too dense", "43% zeros, skipping pays from 62%"),
        ({"zeros": 0.43}, "too dense", "43% zeros, skipping pays never"),
        ({"zeros": 0.9, "skips": True, "idle": 0.61}, "too small", "61% of it stays without any weight"),
        ({"zeros": 0.9, "skips": True, "idle": 0.25}, "sparse", "75% of it goes with its non-zeros"),
        ({"zeros": 0.9, "skips": True}, "sparse", "90% zeros skipped; 20% of the peak"),
        ({"zeros": None}, "no weights", "a product of values; 20% of the peak"),
        ({"zeros": None, "done": 0}, "moves values", "no multiply-adds; 1 MB at 1 GB/s"),
        ({"zeros": None, "done": 0, "moved": 9e6}, "memory-bound", "9 MB at 10 GB/s are 90% of it"),
        ({"zeros": None, "done": 0, "seconds": 0.0}, "moves values", "no multiply-adds; 1 MB at 0 GB/s"),
    ],
)
def test_the_reason_is_the_first_that_the_numbers_bear_out(changed: dict[str, float], kind: str, text: str) -> None:
    found = reason_of(Facts(**{**BASE, **changed}))  # type: ignore[arg-type]
    assert (found.kind, found.text) == (kind, text)
