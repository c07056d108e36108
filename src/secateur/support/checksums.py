"""Files that say of themselves whether they are still what was written."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from secateur.errors import DamageError

_CHECKSUM = "checksum"


def sealed(content: Mapping[str, Any]) -> str:
    """JSON with a checksum of all the rest."""
    plain = json.loads(json.dumps(content))
    return json.dumps(plain | {_CHECKSUM: _checksum(plain)}, indent=1) + "\n"


def read_sealed(path: Path) -> dict[str, Any]:
    """What sealed was given. JSON of earlier versions, without a checksum, is taken as it is: see is_sealed.

    Raises DamageError where the file is no JSON object, or another than was written.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DamageError(f"{path}: cannot be read: {type(error).__name__}") from error
    if not isinstance(content, dict):
        raise DamageError(f"{path}: expected a JSON object, got {type(content).__name__}")
    if is_sealed(content) and content[_CHECKSUM] != _checksum(plain := unsealed(content)):
        raise DamageError(f"{path}: its checksum is {content[_CHECKSUM]}, expected {_checksum(plain)}")
    return content


def is_sealed(content: Mapping[str, Any]) -> bool:
    return _CHECKSUM in content


def unsealed(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name != _CHECKSUM}


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes. Raises OSError."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def check_members(path: Path) -> None:
    """Compare every member of what torch.save wrote with the CRC-32 that stands beside it in the file.

    Raises DamageError where one differs, or the file is not whole.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:
        raise DamageError(f"{path}: is not whole: {type(error).__name__}") from error
    if damaged:
        raise DamageError(f"{path}: {damaged} has another checksum than was written")
