# SPDX-License-Identifier: GPL-2.0-or-later
"""`ObjectFile` -> bytes of a relocatable ELF64 object.

The format wants local symbols before all others, a relocation table for each section that has
relocations, string tables, and extended indices where an object has more sections than 16 bits can
number.  `normalise` brings an object into the order that the file will have (placeholders out, locals
first, all indices re-mapped, tables where an assembler puts them); `write_object` lays that out as
bytes.  Reading the bytes gives the normalised object again, and equal objects give equal bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from kbuild_py.elf import constants as elf
from kbuild_py.elf.check import check_object, group_members
from kbuild_py.elf.object import NULL_SECTION, ObjectFile, Relocation, Section, Symbol
from kbuild_py.elf.read import (
    HEADER_SIZE,
    OSABI_GNU,
    OSABI_NONE,
    RELA_ENTRY,
    SECTION_HEADER,
    SHN_LORESERVE,
    SHN_XINDEX,
    SYMBOL_ENTRY,
)

MAX_FILE_ALIGN = 4096  # Why: a section's alignment counts in memory; in the file it is only a courtesy.
GNU_TYPES = (elf.STT_GNU_IFUNC,)
GNU_FLAGS = elf.SHF_GNU_RETAIN | elf.SHF_GNU_MBIND


def normalise(obj: ObjectFile) -> ObjectFile:
    """The object as it will be read back after `write_object`.

    Placeholders are left out and each section with relocations is followed by a new one, which stands
    for its table; at the end are those for the symbol table, its extended indices where needed, and the
    two string tables.  Local symbols come first, otherwise the order of symbols and relocations is kept.
    Raises `UserError` when the object is inconsistent.
    """
    check_object(obj)
    section_map = _section_map(obj)
    ordered = sorted(obj.symbols, key=lambda symbol: symbol.bind != elf.STB_LOCAL)  # stable
    symbol_map = {symbol.index: index for index, symbol in enumerate(ordered)}
    symbols = tuple(_symbol(symbol, symbol_map, section_map) for symbol in ordered)
    count = max(section_map.values(), default=0) + 1
    sections = [NULL_SECTION] * count
    for section in obj.sections:
        if section.index in section_map and section.index:
            moved = _moved(obj, section, section_map, symbol_map)
            sections[moved.index] = moved
            count = max(count, moved.index + (2 if _has_table(moved) else 1))
    tables = 4 if _needs_wide_indices(symbols) else 3
    sections += [NULL_SECTION] * (count + tables - len(sections))
    numbered = tuple(
        section if section.index == index else replace(NULL_SECTION, index=index)
        for index, section in enumerate(sections)
    )
    return replace(obj, sections=numbered, symbols=symbols)


def _section_map(obj: ObjectFile) -> dict[int, int]:
    """Old section index -> new one, for the sections that are not placeholders."""
    result = {0: 0}
    following = 1
    for section in obj.sections[1:]:
        if section.type != elf.SHT_NULL:
            result[section.index] = following
            following += 2 if _has_table(section) else 1
    return result


def _has_table(section: Section) -> bool:
    """A section with relocations is followed by their table, but for one that is such a table itself."""
    return bool(section.relocations) and section.type != elf.SHT_RELA


def _needs_wide_indices(symbols: tuple[Symbol, ...]) -> bool:
    return any(symbol.section >= SHN_LORESERVE for symbol in symbols)


def _symbol(symbol: Symbol, symbol_map: dict[int, int], section_map: dict[int, int]) -> Symbol:
    where = section_map[symbol.section] if symbol.section > 0 else symbol.section
    return replace(symbol, index=symbol_map[symbol.index], section=where)


def _moved(
    obj: ObjectFile, section: Section, section_map: dict[int, int], symbol_map: dict[int, int]
) -> Section:
    """The section under its new index, with everything in it that is an index re-mapped."""
    link, info, data = section.link, section.info, section.data
    if section.type == elf.SHT_GROUP:
        link, info = 0, symbol_map[info]
        order = ">" if obj.big_endian else "<"
        members = [section_map[member] for member in group_members(obj, section) if member in section_map]
        data = section.data[:4] + struct.pack(f"{order}{len(members)}I", *members)
    else:
        if section.flags & elf.SHF_LINK_ORDER or link:
            link = section_map.get(link, 0)
        if section.flags & elf.SHF_INFO_LINK:
            info = section_map.get(info, 0)
    size = section.size if section.type == elf.SHT_NOBITS else len(data)
    relocations = tuple(
        Relocation(item.offset, item.type, symbol_map[item.symbol], item.addend)
        for item in section.relocations
    )
    return replace(
        section,
        index=section_map[section.index],
        link=link,
        info=info,
        data=data,
        size=size,
        relocations=relocations,
    )


@dataclass(frozen=True, slots=True)
class _Entry:
    """One section as it goes into the file; `size` differs from the content's only for SHT_NOBITS."""

    name: str
    type: int
    flags: int
    content: bytes
    size: int
    link: int
    info: int
    align: int
    entsize: int


class _Strings:
    """A string table in the making; equal strings share an entry."""

    def __init__(self) -> None:
        self._content = bytearray(1)
        self._offsets = {"": 0}

    def add(self, text: str) -> int:
        """The offset of `text`."""
        offset = self._offsets.get(text)
        if offset is None:
            offset = self._offsets[text] = len(self._content)
            self._content += text.encode() + b"\0"
        return offset

    def content(self) -> bytes:
        return bytes(self._content)


def write_object(obj: ObjectFile) -> bytes:
    """The object as a file's bytes; `UserError` when it is inconsistent."""
    obj = normalise(obj)
    order = ">" if obj.big_endian else "<"
    count = len(obj.sections)
    wide = _needs_wide_indices(obj.symbols)
    symtab_index = count - (4 if wide else 3)
    grouped = _grouped(obj)
    entries: list[_Entry] = []
    for section in obj.sections[:symtab_index]:
        if section.index and section.type == elf.SHT_NULL:
            continue  # the place of a relocation table, which its section has filled
        entries.append(_entry(section, order, symtab_index, grouped))
        if _has_table(section):
            entries.append(_rela_entry(section, order, symtab_index, grouped))
    entries += _symbol_entries(obj, order, symtab_index, wide)
    return _layout(obj, order, entries)


def _grouped(obj: ObjectFile) -> dict[int, bool]:
    """Index of each member of a section group -> whether it has a relocation table, a member as well."""
    return {
        member: _has_table(obj.sections[member])
        for section in obj.sections
        if section.type == elf.SHT_GROUP
        for member in group_members(obj, section)
    }


def _entry(section: Section, order: str, symtab_index: int, grouped: dict[int, bool]) -> _Entry:
    content, link = section.data, section.link
    if section.type == elf.SHT_GROUP:
        link = symtab_index
        flag, *members = struct.unpack(f"{order}{len(content) // 4}I", content)
        words = [
            word for member in members for word in ((member, member + 1) if grouped[member] else (member,))
        ]
        content = struct.pack(f"{order}{1 + len(words)}I", flag, *words)
    elif section.type == elf.SHT_RELA:
        content, link = _rela_content(section, order), symtab_index
    size = section.size if section.type == elf.SHT_NOBITS else len(content)
    return _Entry(
        section.name,
        section.type,
        section.flags,
        content,
        size,
        link,
        section.info,
        section.align,
        section.entsize,
    )


def _rela_entry(section: Section, order: str, symtab_index: int, grouped: dict[int, bool]) -> _Entry:
    content = _rela_content(section, order)
    flags = elf.SHF_INFO_LINK | (elf.SHF_GROUP if section.index in grouped else 0)
    return _Entry(
        f".rela{section.name}",
        elf.SHT_RELA,
        flags,
        content,
        len(content),
        symtab_index,
        section.index,
        8,
        struct.calcsize(order + RELA_ENTRY),
    )


def _rela_content(section: Section, order: str) -> bytes:
    """The entries of the table of a section's relocations."""
    pack = struct.Struct(order + RELA_ENTRY).pack
    if order == "<":
        rows = [pack(item.offset, item.type, item.symbol, item.addend) for item in section.relocations]
    else:
        rows = [pack(item.offset, item.symbol, item.type, item.addend) for item in section.relocations]
    return b"".join(rows)


def _symbol_entries(obj: ObjectFile, order: str, symtab_index: int, wide: bool) -> list[_Entry]:
    """The symbol table, its extended section indices where needed, and its strings."""
    strings = _Strings()
    pack = struct.Struct(order + SYMBOL_ENTRY).pack
    rows, extended = [], []
    for symbol in obj.symbols:
        where = symbol.section & 0xFFFF if symbol.section < SHN_LORESERVE else SHN_XINDEX
        extended.append(symbol.section if symbol.section >= SHN_LORESERVE else 0)
        info = symbol.bind << 4 | symbol.type
        rows.append(pack(strings.add(symbol.name), info, symbol.visibility, where, symbol.value, symbol.size))
    local = sum(symbol.bind == elf.STB_LOCAL for symbol in obj.symbols)
    content = b"".join(rows)
    width = struct.calcsize(order + SYMBOL_ENTRY)
    names_index = symtab_index + (2 if wide else 1)
    entries = [
        _Entry(".symtab", elf.SHT_SYMTAB, 0, content, len(content), names_index, local, 8, width),
    ]
    if wide:
        indices = struct.pack(f"{order}{len(extended)}I", *extended)
        entries.append(
            _Entry(".symtab_shndx", elf.SHT_SYMTAB_SHNDX, 0, indices, len(indices), symtab_index, 0, 4, 4)
        )
    names = strings.content()
    entries.append(_Entry(".strtab", elf.SHT_STRTAB, 0, names, len(names), 0, 0, 1, 0))
    return entries


def _layout(obj: ObjectFile, order: str, entries: list[_Entry]) -> bytes:
    """Header, sections one after the other, section names, section headers."""
    names = _Strings()
    offsets = [names.add(entry.name) for entry in entries]
    own = names.add(".shstrtab")
    content = names.content()
    entries = [*entries, _Entry(".shstrtab", elf.SHT_STRTAB, 0, content, len(content), 0, 0, 1, 0)]
    offsets.append(own)
    count = len(entries)
    out = bytearray(HEADER_SIZE)
    pack = struct.Struct(order + SECTION_HEADER).pack
    headers = []
    for index, (entry, name) in enumerate(zip(entries, offsets, strict=True)):
        if index == 0:
            # Why: what does not fit into the ELF header's 16 bits stands in the null section's header.
            size = count if count >= SHN_LORESERVE else 0
            link = count - 1 if count - 1 >= SHN_LORESERVE else 0
            headers.append(pack(0, 0, 0, 0, 0, size, link, 0, 0, 0))
            continue
        out += bytes(-len(out) % min(max(entry.align, 1), MAX_FILE_ALIGN))
        headers.append(
            pack(
                name,
                entry.type,
                entry.flags,
                0,
                len(out),
                entry.size,
                entry.link,
                entry.info,
                entry.align,
                entry.entsize,
            )
        )
        out += entry.content
    out += bytes(-len(out) % 8)
    start = len(out)
    for header in headers:
        out += header
    out[:HEADER_SIZE] = _header(obj, order, start, count)
    return bytes(out)


def _header(obj: ObjectFile, order: str, start: int, count: int) -> bytes:
    gnu = any(symbol.type in GNU_TYPES or symbol.bind == elf.STB_GNU_UNIQUE for symbol in obj.symbols) or any(
        section.flags & GNU_FLAGS for section in obj.sections
    )
    identity = b"\x7fELF" + bytes((2, 1 if order == "<" else 2, 1, OSABI_GNU if gnu else OSABI_NONE))
    return identity.ljust(16, b"\0") + struct.pack(
        f"{order}HHIQQQIHHHHHH",
        elf.ET_REL,
        obj.machine,
        1,
        0,
        0,
        start,
        obj.flags,
        HEADER_SIZE,
        0,
        0,
        struct.calcsize(order + SECTION_HEADER),
        count if count < SHN_LORESERVE else 0,
        count - 1 if count - 1 < SHN_LORESERVE else SHN_XINDEX,
    )
