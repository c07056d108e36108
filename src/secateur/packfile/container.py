"""The outermost layer of a .secateur file: a safetensors file of named byte strings, every one with a checksum.

docs/format.md says what each byte is. What is read here may come from anyone.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from secateur.errors import FormatError
from secateur.packfile import strict
from secateur.support.replacing import open_regular

MAJOR = 1
MOST_HEADER = 16 << 20
_MAGIC = b'{"__metadata__":{"secateur":"'
_NO_CHECKSUM = b"00000000"


SEAL = 4
"""Bytes of a checksum."""


@dataclass(frozen=True, slots=True)
class Section:
    """Where a byte string lies in a file: it starts at `start`, and a checksum follows its `size` bytes."""

    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Container:
    """An open file whose header holds: sections by name, the size of the whole."""

    path: Path
    file: BinaryIO
    size: int
    sections: Mapping[str, Section]

    def read(self, section: Section) -> bytes:
        """A section's bytes, without their checksum. Raises FormatError where they are damaged."""
        content = _read_exactly(self.file, section.start, section.size)
        if checksum(content) != _read_exactly(self.file, section.start + section.size, SEAL):
            raise FormatError("a checksum does not match: the file is damaged, get it again")
        return content


def checksum(content: bytes) -> bytes:
    """CRC-32, as it follows the bytes of a section."""
    return zlib.crc32(content).to_bytes(SEAL, "little")


def seal(content: bytes) -> bytes:
    """Bytes and their checksum."""
    return content + checksum(content)


def header(sizes: Mapping[str, int], minor: int = 0) -> bytes:
    """The header of a file with sections of these sizes (checksums counted in), in this order.

    minor: the minor version that has all that is in them.
    """
    entries: dict[str, Any] = {}
    at = 0
    for name, size in sizes.items():
        entries[name] = {"dtype": "U8", "shape": [size], "data_offsets": [at, at + size]}
        at += size
    listed = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    start = _MAGIC + f"{MAJOR}.{minor} ".encode()
    text = start + _NO_CHECKSUM + b'"},' + listed[1:]
    checked = start + f"{zlib.crc32(text):08x}".encode() + text[len(start) + 8 :]
    return len(checked).to_bytes(8, "little") + checked


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[Container]:
    """Open a file and check its header. Every FormatError in the body gets the path put before it."""
    path = Path(path)
    try:
        with open_regular(path) as file:
            yield _checked(path, file)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error.__cause__
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror or error}") from error


def _checked(path: Path, file: BinaryIO) -> Container:
    size = os.fstat(file.fileno()).st_size
    if size < 8:
        raise FormatError(f"not a .secateur file: {size} bytes are too few")
    length = int.from_bytes(_read_exactly(file, 0, 8), "little")
    start = _read_exactly(file, 8, min(len(_MAGIC), size - 8))
    if start != _MAGIC:
        raise FormatError("not a .secateur file: its first bytes are others; make one with: secateur pack")
    if length > min(size - 8, MOST_HEADER):
        raise FormatError(f"a header of {length} bytes in a file of {size}: it is cut short or damaged, get it again")
    text = _read_exactly(file, 8, length)
    return Container(path, file, size, _sections(strict.parse(_listing(text)), 8 + length, size))


def _listing(text: bytes) -> bytes:
    """The header without its metadata: a JSON object of tensors. Refuses another version and a damaged header."""
    space = text.find(b" ", len(_MAGIC), len(_MAGIC) + 12)
    version = text[len(_MAGIC) : space].split(b".") if space > 0 else []
    if len(version) != 2 or not all(part.isdigit() for part in version):
        raise FormatError("its version cannot be read: the file is damaged, get it again")
    if int(version[0]) != MAJOR:
        raise FormatError(
            f"format version {int(version[0])}, but this Secateur reads {MAJOR}: use the Secateur that wrote the file"
        )
    blank = text[: space + 1] + _NO_CHECKSUM + text[space + 9 :]
    if text[space + 1 : space + 9] != f"{zlib.crc32(blank):08x}".encode() or text[space + 9 : space + 12] != b'"},':
        raise FormatError("the header does not match its checksum: the file is damaged, get it again")
    return b"{" + text[space + 12 :]


def _sections(listed: Any, start: int, size: int) -> dict[str, Section]:
    """Sections that follow each other from `start` to the end of the file without a gap."""
    found: dict[str, Section] = {}
    at = start
    for name, entry in strict.mapping(listed).items():
        fields = strict.fields(entry, "dtype", "shape", "data_offsets")
        shape, offsets = strict.shape(fields["shape"], 1), strict.shape(fields["data_offsets"], 2)
        fits = fields["dtype"] == "U8" and offsets == (at - start, at - start + shape[0])
        if not fits or shape[0] < 4 or at + shape[0] > size:
            raise FormatError(f"tensor {name!r} is not the next run of bytes in the file")
        found[name] = Section(at, shape[0] - 4)
        at += shape[0]
    if at != size:
        raise FormatError(f"{size} bytes, but its header describes {at}: it is cut short or something was added")
    return found


def _read_exactly(file: BinaryIO, start: int, size: int) -> bytes:
    file.seek(start)
    content = file.read(size)
    if len(content) != size:
        raise FormatError("the file ends too early: it is cut short, get it again")
    return content
