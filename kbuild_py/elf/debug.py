# SPDX-License-Identifier: GPL-2.0-or-later
"""Debug sections of a relocatable object, ready to be read.

In an object that is not linked yet, a debug section has holes: every address and every offset into another
debug section is a relocation.  An address is therefore not a number but (section, offset), which is just
what a section-wise diff needs.  Some processors (LoongArch, RISC-V) relax code when linking, so that even a
distance within one function is two relocations, one that adds and one that subtracts; these are applied.

Debug information explains, it decides nothing.  Where it is damaged, or of an unknown form, there is none:
readers raise `Damaged`, which their callers turn into "not known".
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from kbuild_py.elf import constants as elf
from kbuild_py.elf.arch import relocation_name
from kbuild_py.elf.object import ObjectFile, Section

MAX_SIZE = 1 << 28  # bytes of a section when unpacked
_ZLIB = 1  # ELFCOMPRESS_ZLIB
_DIFFERENCE = re.compile(r"_(ADD|SUB)(8|16|32|64)$")

# An address in an object: section index and offset.
Address = tuple[int, int]
ByteOrder = Literal["little", "big"]


class Damaged(Exception):
    """The debug information cannot be read."""


@dataclass(frozen=True, slots=True)
class DebugSection:
    """data: the bytes, unpacked;  targets: where a relocation is -> the address that it stands for."""

    data: bytes
    targets: Mapping[int, Address]
    order: ByteOrder

    def number(self, offset: int, width: int) -> int:
        """The unsigned number of 1, 2, 4 or 8 bytes, which may be an offset into another section."""
        target = self.targets.get(offset)
        return target[1] if target is not None else self.plain(offset, width)

    def plain(self, offset: int, width: int) -> int:
        """The unsigned number of `width` bytes as it stands in the section."""
        if not 0 <= offset <= len(self.data) - width:
            raise Damaged
        return int.from_bytes(self.data[offset : offset + width], self.order)

    def text(self, offset: int) -> str:
        """The string that starts at `offset`."""
        end = self.data.find(b"\0", offset) if 0 <= offset < len(self.data) else -1
        if end < 0:
            raise Damaged
        return self.data[offset:end].decode("utf-8", "backslashreplace")

    def uleb(self, offset: int) -> tuple[int, int]:
        """An unsigned LEB128 number, and the offset behind it."""
        result = shift = 0
        while offset < len(self.data) and shift < 70:
            byte = self.data[offset]
            offset += 1
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                return result, offset
            shift += 7
        raise Damaged

    def sleb(self, offset: int) -> tuple[int, int]:
        """A signed LEB128 number, and the offset behind it."""
        value, end = self.uleb(offset)
        bits = 7 * (end - offset)
        return (value - (1 << bits) if value >> (bits - 1) else value), end


def debug_section(obj: ObjectFile, name: str) -> DebugSection | None:
    """The debug section `.debug_NAME` of an object; None when it has none that can be read."""
    order: ByteOrder = "big" if obj.big_endian else "little"
    for section in obj.sections:
        if section.name in (f".debug_{name}", f".zdebug_{name}") and section.size:
            content = _unpacked(section, order)
            if content is not None:
                return _relocated(obj, section, content, order)
    return None


def _unpacked(section: Section, order: ByteOrder) -> bytes | None:
    data, size = section.data, section.size
    if section.flags & elf.SHF_COMPRESSED:
        if len(data) < 24:
            return None
        kind, size = int.from_bytes(data[:4], order), int.from_bytes(data[8:16], order)
        data = data[24:]
        if kind != _ZLIB:
            return None
    elif section.name.startswith(".z"):
        if data[:4] != b"ZLIB" or len(data) < 12:
            return None
        size, data = int.from_bytes(data[4:12], "big"), data[12:]
    else:
        return data
    if size > MAX_SIZE:
        return None
    try:
        content = zlib.decompressobj().decompress(data, size)
    except zlib.error:
        return None
    return content if len(content) == size else None


def _relocated(obj: ObjectFile, section: Section, content: bytes, order: ByteOrder) -> DebugSection:
    symbols = obj.symbols
    targets: dict[int, Address] = {}
    differences: list[tuple[int, int, int]] = []  # (offset, width, what to add)
    kinds: dict[int, re.Match[str] | None] = {}
    for relocation in section.relocations:
        symbol = symbols[relocation.symbol]
        value = symbol.value + relocation.addend
        kind = relocation.type
        if kind not in kinds:
            kinds[kind] = _DIFFERENCE.search(relocation_name(obj.machine, kind))
        match = kinds[kind]
        if match is None:
            targets[relocation.offset] = (symbol.section, value)
        else:
            sign = 1 if match[1] == "ADD" else -1
            differences.append((relocation.offset, int(match[2]) // 8, sign * value))
    if differences:
        content = _with_differences(content, differences, order)
    return DebugSection(content, targets, order)


def _with_differences(content: bytes, differences: list[tuple[int, int, int]], order: ByteOrder) -> bytes:
    changed = bytearray(content)
    for offset, width, value in differences:
        field = int.from_bytes(changed[offset : offset + width], order) + value
        if offset + width <= len(changed):
            changed[offset : offset + width] = (field % (1 << (8 * width))).to_bytes(width, order)
    return bytes(changed)
