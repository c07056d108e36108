"""A second reader of .secateur files, written from docs/format.md with the standard library alone: slow and plain.

It shares nothing with Secateur but the dictionary, which the specification names.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from pathlib import Path
from typing import Any

FORMATS = {"float32": (8, 23), "float16": (5, 10), "bfloat16": (8, 7)}
LETTERS = {"float32": "I", "float16": "H", "bfloat16": "H", "int8": "B", "int32": "I", "int64": "Q", "bool": "B"}


def read(path: Path, dictionary: bytes) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """The description, and the bit patterns of each weight, row-major."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    text = data[8 : 8 + length]
    assert text.startswith(tuple(b'{"__metadata__":{"secateur":"1.%d ' % minor for minor in range(4)))
    assert zlib.crc32(text[:33] + b"00000000" + text[41:]) == int(text[33:41], 16)
    header = json.loads(text)
    del header["__metadata__"]
    tensors = {
        name: data[8 + length :][entry["data_offsets"][0] : entry["data_offsets"][1]] for name, entry in header.items()
    }
    squeezed, pool = checked(tensors.pop("secateur.graph")), tensors.pop("secateur.pool", b"")
    described = json.loads(zlib.decompressobj(-15, zdict=dictionary).decompress(squeezed))
    found = {}
    for weight in described["weights"]:
        sealed = tensors.pop(weight["name"], None)
        if sealed is None:
            sealed, pool = pool[: weight["bytes"] + 4], pool[weight["bytes"] + 4 :]
        assert len(sealed) == weight["bytes"] + 4
        found[weight["name"]] = decode(weight, checked(sealed))
    assert not tensors
    assert not pool
    return described, found


def checked(sealed: bytes) -> bytes:
    assert zlib.crc32(sealed[:-4]).to_bytes(4, "little") == sealed[-4:]
    return sealed[:-4]


def decode(weight: dict[str, Any], content: bytes) -> list[int]:
    dtype, shape = weight["dtype"], weight["shape"]
    if weight["codec"] == 0:
        return list(struct.unpack(f"<{math.prod(shape)}{LETTERS[dtype]}", content))
    if weight["codec"] == 1 and dtype in ("int32", "int64"):
        bits = {"int32": 32, "int64": 64}[dtype]
        return [whole(word, bits) for word in decode({**weight, "dtype": "float32"}, content)]
    rows = shape[0] if len(shape) > 1 else 1
    cols = math.prod(shape) // rows
    if weight["codec"] == 1:
        exponent, mantissa = FORMATS[dtype]
        words = []
        for symbol in Matrix(content, rows, cols, mantissa).symbols():
            zero, negative, level, low, plan = symbol
            sign = negative << exponent
            power = (plan.base + level) % (1 << exponent)
            words.append(0 if zero else (sign | power) << mantissa | low << plan.trimmed)
        return words
    assert weight["codec"] == 2
    meaning, content = codebook(content, rows, dtype)
    words = []
    for i, (zero, negative, level, low, plan) in enumerate(Matrix(content, rows, cols, None).symbols()):
        rank = level << plan.base | low
        words.append(0 if zero else meaning(i // cols, negative, rank))
    return words


def codebook(content: bytes, rows: int, dtype: str) -> tuple[Any, bytes]:
    kind, content = content[0], content[1:]
    if kind == 0:
        positive, negative = struct.unpack_from("<HH", content)
        layout = f"<{positive + negative}{LETTERS[dtype]}"
        table = struct.unpack_from(layout, content, 4)
        return lambda _, minus, rank: table[rank + positive * minus], content[4 + struct.calcsize(layout) :]
    if kind == 1:
        count, placed, low, step = struct.unpack_from("<HBff", content)
        places = list(content[11 : 11 + 2 * count]) if placed else [127.5] * (2 * count)

        def meaning(_: int, minus: int, rank: int) -> int:
            size = low + (rank + (places[rank + count * minus] + 0.5) / 256) * step
            return rounded(-size if minus else size, dtype)

        return meaning, content[11 + (2 * count if placed else 0) :]
    if kind == 3:
        return lambda _, minus, rank: 255 - rank if minus else rank + 1, content
    (count,) = struct.unpack_from("<H", content)
    steps = struct.unpack_from(f"<{rows}f", content, 2)
    return (
        lambda row, minus, rank: rounded((-1 if minus else 1) * (rank + 1) * steps[row], dtype),
        content[2 + 4 * rows :],
    )


def whole(word: int, bits: int) -> int:
    """The bits of the whole number that a float32 is."""
    (value,) = struct.unpack("<f", word.to_bytes(4, "little"))
    assert value == int(value)
    return int(value) % (1 << bits)


def rounded(value: float, dtype: str) -> int:
    single = struct.pack("<f", value)
    if dtype == "float32":
        return int.from_bytes(single, "little")
    if dtype == "float16":
        return int.from_bytes(struct.pack("<e", struct.unpack("<f", single)[0]), "little")
    wide = int.from_bytes(single, "little")
    return (wide + 0x7FFF + (wide >> 16 & 1)) >> 16


def stretch(i: int) -> int:
    return round(256 * math.log((i + 0.5) / (4095.5 - i)))


def squash(x: int) -> int:
    return min(max(round(65536 / (1 + math.exp(-min(max(x, -3071), 3071) / 256))), 1), 65535)


class Cell:
    def __init__(self, c: int = 1 << 21) -> None:
        self.c, self.n = c, 0

    def p(self) -> int:
        return max(self.c >> 6, 1)

    def logit(self) -> int:
        return stretch(self.c >> 10)

    def learn(self, bit: int) -> None:
        self.c += ((bit * (1 << 22) - self.c) * (655360 // (10 * self.n + 16))) >> 16
        self.n = min(self.n + 1, 1023)


class Mixer:
    def __init__(self, inputs: int) -> None:
        self.w = [24576] * inputs

    def predict(self, b: int, cells: list[Cell | None]) -> int:
        self.d = [cell.logit() - b if cell and cell.n else 0 for cell in cells]
        self.p = squash(b + (sum(w * d for w, d in zip(self.w, self.d, strict=True)) >> 16))
        return self.p

    def learn(self, bit: int) -> None:
        error = bit * 65536 - self.p
        moved = [w + ((d * error + (1 << 14)) >> 15) for w, d in zip(self.w, self.d, strict=True)]
        self.w = [min(max(w, -(1 << 20)), 1 << 20) for w in moved]


class Matrix:
    """A coded matrix. mantissa: how many bits a float's has, None for levels."""

    def __init__(self, content: bytes, rows: int, cols: int, mantissa: int | None) -> None:
        self.rows, self.cols = rows, cols
        flags, self.base, self.modelled, self.trimmed, self.lag, self.density = struct.unpack_from("<BBBBHH", content)
        self.flags = [flags >> i & 1 for i in range(8)]
        self.modelled, self.pivot = self.modelled & 3, self.modelled >> 2
        self.low = self.base if mantissa is None else mantissa - self.trimmed
        self.modelled = min(self.modelled, self.low)
        at, length, shift = 8, 0, 0
        while True:
            length |= (content[at] & 127) << shift
            at, shift = at + 1, shift + 7
            if content[at - 1] < 128:
                break
        self.decisions = content[at : at + length] + bytes(16)
        self.plain, self.plain_at = content[at + length :], 0
        self.range, self.code, self.at = 2**64 - 1, int.from_bytes(self.decisions[:8], "big"), 8
        self.columns = [Cell(self.density * 64) for _ in range(cols)]
        self.near_mask = [Cell(self.density * 64) for _ in range(128)]
        self.near_sign = [Cell() for _ in range(729)]
        self.steps = [Cell() for _ in range(20)]
        self.near_step = [[Cell() for _ in range(20)] for _ in range(16)]
        self.row_step = [[Cell() for _ in range(20)] for _ in range(16)]
        self.mask_mixer, self.step_mixers = Mixer(3), [Mixer(2) for _ in range(20)]
        self.tops = [[Cell() for _ in range(8)] for _ in range(21)]

    def decide(self, p: int) -> int:
        bound = (self.range >> 16) * p
        bit = int(self.code < bound)
        if bit:
            self.range = bound
        else:
            self.range, self.code = self.range - bound, self.code - bound
        if self.range < 2**32:
            more = (self.decisions[self.at : self.at + 4] + bytes(4))[:4]
            self.range, self.code = self.range << 32, self.code << 32 | int.from_bytes(more, "big")
            self.at += 4
        return bit

    def learned(self, cell: Cell) -> int:
        bit = self.decide(cell.p())
        cell.learn(bit)
        return bit

    def mixed(self, mixer: Mixer, b: int, cells: list[Cell | None]) -> int:
        bit = self.decide(mixer.predict(b, cells))
        mixer.learn(bit)
        for cell in cells:
            if cell:
                cell.learn(bit)
        return bit

    def plain_bits(self, count: int) -> int:
        value = 0
        for i in range(count):
            value |= (self.plain[self.plain_at // 8] >> self.plain_at % 8 & 1) << i
            self.plain_at += 1
        return value

    def symbols(self) -> list[tuple[int, int, int, int, Matrix]]:
        found = []
        for _ in range(self.rows):
            self.kept: list[int] = []
            self.sizes: list[int] = []
            self.row_cell, self.average = Cell(self.density * 64), 0
            for start in range(0, self.cols, 1024):
                run = range(start, min(start + 1024, self.cols))
                for col in run:
                    self.kept.append(self.mask(col))
                found += [self.value(col) for col in run]
        assert self.at + 16 >= len(self.decisions)
        return found

    def back(self, values: list[int], col: int, distance: int) -> int:
        return values[col - distance] if distance <= col else 0

    def mask(self, col: int) -> int:
        column, row, near, full = self.flags[:4]
        if full:
            return 1
        if not (column or row or near):
            return self.decide(self.density)
        distances = [1, 2, 3]
        if self.lag:
            distances += [self.lag - 1, self.lag, self.lag + 1, 2 * self.lag]
        context = sum(self.back(self.kept, col, distance) << i for i, distance in enumerate(distances))
        cells = [
            self.columns[col] if column else None,
            self.row_cell if row else None,
            self.near_mask[context] if near else None,
        ]
        return self.mixed(self.mask_mixer, stretch(self.density >> 4), cells)

    def value(self, col: int) -> tuple[int, int, int, int, Matrix]:
        if not self.kept[col]:
            self.sizes.append(0)
            return 1, 0, 0, 0, self
        negative = self.sign(col) if self.flags[4] else 0
        level = self.level(col)
        node, low = 1, self.low - self.modelled
        for _ in range(self.modelled):
            node = node << 1 | self.learned(self.tops[min(level, 20)][node])
        if not self.flags[4]:
            negative = self.plain_bits(1)
        bits = (node - (1 << self.modelled)) << low | self.plain_bits(low)
        size = min(level, 20) + 1
        self.sizes.append(-size if negative else size)
        return 0, negative, level, bits, self

    def sign(self, col: int) -> int:
        distances = [1, 2]
        if self.lag:
            distances += [self.lag, self.lag - 1, self.lag + 1, 2 * self.lag]
        signs = [self.back(self.sizes, col, distance) for distance in distances]
        context = sum(3**i * (0 if size == 0 else 1 if size < 0 else 2) for i, size in enumerate(signs))
        return self.learned(self.near_sign[context])

    def level(self, col: int) -> int:
        near, row = self.level_contexts(col)
        level = self.pivot
        if self.pivot and not self.step(0, near, row):
            level -= 1
            while level > 0 and self.step(level, near, row):
                level -= 1
        else:
            while level < 20 and self.step(level, near, row):
                level += 1
        size = 256 * (level + 1)
        self.average = self.average + ((size - self.average) >> 3) if self.average else size
        if level < 20:
            return level
        return sum(self.decide(32768) << i for i in range(7, -1, -1))

    def level_contexts(self, col: int) -> tuple[int, int]:
        distances = [1, 2, *([self.lag, self.lag - 1, self.lag + 1] if self.lag else [])]
        sizes = [abs(self.back(self.sizes, col, distance)) for distance in distances]
        count = sum(size > 0 for size in sizes)
        near = row = 0
        if count:
            near = 1 + min(max(2 * sum(sizes) // count - max(2 * (self.pivot + 1) - 8, 0), 0), 14)
        if self.average:
            row = 1 + min(max((3 * self.average >> 8) - max(3 * (self.pivot + 1) - 7, 0), 0), 14)
        return near, row

    def step(self, k: int, near: int, row: int) -> int:
        if not (self.flags[5] or self.flags[6]):
            return self.learned(self.steps[k])
        cells = [
            self.near_step[near][k] if self.flags[5] else None,
            self.row_step[row][k] if self.flags[6] else None,
        ]
        bit = self.mixed(self.step_mixers[k], self.steps[k].logit(), cells)
        self.steps[k].learn(bit)
        return bit
