from __future__ import annotations

import os
from pathlib import Path

import pytest

from secateur.support import machine
from secateur.support.machine import UNKNOWN_BYTES, memory_bytes


def test_memory_is_the_machines_or_less_where_a_container_has_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(machine, "_LIMITS", (limit, tmp_path / "none"))
    whole = memory_bytes()
    assert whole > 1 << 28
    for told, expected in (("max\n", whole), (f"{whole * 2}\n", whole), ("1048576\n", 1 << 20)):
        limit.write_text(told)
        assert memory_bytes() == expected


def test_where_no_system_tells_it_is_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_LIMITS", ())
    monkeypatch.delattr(os, "sysconf")
    assert memory_bytes() == UNKNOWN_BYTES
