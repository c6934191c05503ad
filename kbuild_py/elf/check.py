# SPDX-License-Identifier: GPL-2.0-or-later
"""What must hold in an object before anyone computes with it.

Reader and writer both call `check_object`: what it lets through has no index that points nowhere, no
symbol or relocation outside its section, and no size that lies.  Later stages therefore slice and look
up without asking again.
"""

from __future__ import annotations

import struct

from kbuild_py.elf import constants as elf
from kbuild_py.elf.arch import architecture
from kbuild_py.elf.object import NULL_SYMBOL, ObjectFile, Section
from kbuild_py.errors import Problems

MAX_PROBLEMS = 20  # a damaged file has thousands of the same kind
COMPRESSION_HEADER = 24  # bytes of Elf64_Chdr


def check_object(obj: ObjectFile) -> None:
    """Raise one `UserError` with what is inconsistent in `obj` (at most `MAX_PROBLEMS` problems)."""
    problems = Problems()
    arch = architecture(obj.machine, obj.path)
    _check_sections(obj, problems)
    _check_symbols(obj, problems)
    types = arch.relocations
    count = len(obj.symbols)
    for section in obj.sections:
        if not section.relocations:
            continue
        if section.type in (elf.SHT_NULL, elf.SHT_NOBITS):
            problems.add(_at(obj, section), "relocations apply to a section without bytes")
            continue
        size = _unpacked_size(obj, obj.sections[section.info] if section.type == elf.SHT_RELA else section)
        for relocation in section.relocations:
            kind = types.get(relocation.type)
            if kind is None and arch.complete:
                problems.add(
                    f"{obj.path}({section.name}+{relocation.offset:#x})",
                    f"relocation type {relocation.type} does not exist on {arch.name}",
                )
            # A type that fills nothing may stand at the very end; of an unknown type one byte is expected.
            width = kind.width if kind is not None else 1
            if not 0 <= relocation.offset <= size - width:
                problems.add(
                    f"{obj.path}({section.name}+{relocation.offset:#x})",
                    f"relocation lies outside of its section of {size} bytes",
                )
            if not 0 <= relocation.symbol < count:
                problems.add(
                    f"{obj.path}({section.name}+{relocation.offset:#x})",
                    f"relocation names symbol {relocation.symbol} of {count}",
                )
            if len(problems) >= MAX_PROBLEMS:
                problems.raise_if_any()
    problems.raise_if_any()


def _at(obj: ObjectFile, section: Section) -> str:
    return f"{obj.path}({section.name or f'section {section.index}'})"


def _unpacked_size(obj: ObjectFile, section: Section) -> int:
    """The size that relocation offsets refer to: of a compressed section, the size when unpacked."""
    if section.flags & elf.SHF_COMPRESSED and len(section.data) >= COMPRESSION_HEADER:
        unpacked: int = struct.unpack_from(">Q" if obj.big_endian else "<Q", section.data, 8)[0]
        return unpacked
    if section.name.startswith(".zdebug_") and section.data[:4] == b"ZLIB":
        return int.from_bytes(section.data[4:12], "big")
    return section.size


def _check_sections(obj: ObjectFile, problems: Problems) -> None:
    count = len(obj.sections)
    if not count or obj.sections[0].type != elf.SHT_NULL:
        problems.add(obj.path, "section 0 is not the null section")
    for index, section in enumerate(obj.sections):
        at = _at(obj, section)
        if section.index != index:
            problems.add(at, f"section {index} says that its index is {section.index}")
        if section.align & (section.align - 1):
            problems.add(at, f"alignment {section.align} is not a power of two")
        if section.type == elf.SHT_NOBITS:
            if section.data:
                problems.add(at, "a section of type NOBITS has bytes")
            if section.size and section.flags & elf.SHF_EXECINSTR:
                problems.add(
                    at, "instructions without bytes (NOBITS)", "give the object, not its separate debug file"
                )
        elif section.size != len(section.data):
            problems.add(at, f"size is {section.size} but there are {len(section.data)} bytes")
        if section.type == elf.SHT_GROUP:
            _check_group(obj, section, problems)
        if section.flags & elf.SHF_LINK_ORDER and section.link >= count:
            problems.add(at, f"is linked to section {section.link} of {count}")
        if section.flags & elf.SHF_INFO_LINK and section.info >= count:
            problems.add(at, f"belongs to section {section.info} of {count}")
        if len(problems) >= MAX_PROBLEMS:
            problems.raise_if_any()


def _check_group(obj: ObjectFile, section: Section, problems: Problems) -> None:
    at = _at(obj, section)
    if not 0 < section.info < len(obj.symbols):
        problems.add(at, f"the group's signature is symbol {section.info} of {len(obj.symbols)}")
    if len(section.data) % 4 or not section.data:
        problems.add(at, f"a section group of {len(section.data)} bytes is not a list of words")
        return
    for member in group_members(obj, section):
        if not 0 < member < len(obj.sections):
            problems.add(at, f"the group's member is section {member} of {len(obj.sections)}")
            return


def group_members(obj: ObjectFile, section: Section) -> tuple[int, ...]:
    """The section indices that a SHT_GROUP section lists (without its flag word)."""
    order = ">" if obj.big_endian else "<"
    return struct.unpack(f"{order}{len(section.data) // 4}I", section.data)[1:]


def _check_symbols(obj: ObjectFile, problems: Problems) -> None:
    if not obj.symbols or obj.symbols[0] != NULL_SYMBOL:
        problems.add(obj.path, "symbol 0 is not the null symbol")
    sizes = [section.size for section in obj.sections]
    count = len(sizes)
    for index, symbol in enumerate(obj.symbols):
        if symbol.index != index:
            problems.add(obj.path, f"symbol {index} '{symbol.name}' says that its index is {symbol.index}")
        where = symbol.section
        if where > 0:
            if where >= count:
                problems.add(obj.path, f"symbol {index} '{symbol.name}' is in section {where} of {count}")
            elif obj.sections[where].type == elf.SHT_NULL:
                problems.add(obj.path, f"symbol {index} '{symbol.name}' is in section {where}, a table")
            elif not 0 <= symbol.value <= sizes[where] - symbol.size:
                problems.add(
                    f"{obj.path}({obj.sections[where].name}+{symbol.value:#x})",
                    f"symbol '{symbol.name}' of {symbol.size} bytes ends outside of its section of "
                    f"{sizes[where]} bytes",
                )
        elif where < -0x100:
            problems.add(obj.path, f"symbol {index} '{symbol.name}' has the section index {where}")
        if len(problems) >= MAX_PROBLEMS:
            problems.raise_if_any()
