# SPDX-License-Identifier: GPL-2.0-or-later
"""A relocatable ELF64 object as plain values.

`ObjectFile` is what every later stage works on: sections with their bytes and relocations, and symbols,
tied together by indices exactly as in the file (section 0 and symbol 0 are the null entries of the
format).  Reading (`read.py`) and writing (`write.py`) are the only code that knows the byte layout.

Source of all fields: System V ABI, chapters 4 (object files) and the processor supplements (relocations).
"""

from __future__ import annotations

from dataclasses import dataclass

# The format's reserved indices 0xFF00 to 0xFFFF are here the numbers -256 to -1: an object with more than
# 65,279 sections (one per function and variable gets there) has real sections under those numbers.
SHN_UNDEF = 0
SHN_ABS = 0xFFF1 - 0x10000
SHN_COMMON = 0xFFF2 - 0x10000
SHN_LIVEPATCH = 0xFF20 - 0x10000  # Linux: resolved by the kernel when a livepatch is applied
SHN_X86_64_LCOMMON = 0xFF02 - 0x10000


@dataclass(frozen=True, slots=True)
class Relocation:
    """One `Elf64_Rela`: at `offset` of its section, `type` applied to `symbol` (index) plus `addend`."""

    offset: int
    type: int
    symbol: int
    addend: int


@dataclass(frozen=True, slots=True)
class Section:
    """One section.  `data` is empty and `size` tells the length for SHT_NOBITS.

    Relocation sections (SHT_RELA), the symbol table, its strings and the section names do not appear as
    sections of their own: relocations hang on the section they apply to, and the writer makes the tables
    anew.  Their entries in `ObjectFile.sections` are placeholders: SHT_NULL, no name, no data.
    One relocation section is a section all the same, and only written, never read: that of a livepatch module
    (SHF_RELA_LIVEPATCH).  `info` is the section that it applies to; it has relocations, and no data.
    A section group (SHT_GROUP) keeps its data (a flag word, then the indices of its member sections,
    without relocation tables) and names its signature symbol's index in `info`.
    """

    index: int
    name: str
    type: int
    flags: int
    data: bytes
    size: int
    align: int
    entsize: int = 0
    link: int = 0
    info: int = 0
    relocations: tuple[Relocation, ...] = ()


@dataclass(frozen=True, slots=True)
class Symbol:
    """One symbol.  `section` is a section's index, or a (negative) SHN_* number."""

    index: int
    name: str
    value: int
    size: int
    type: int  # STT_*
    bind: int  # STB_*
    visibility: int  # STV_* with the processor's bits of st_other
    section: int


NULL_SECTION = Section(0, "", 0, 0, b"", 0, 0)
NULL_SYMBOL = Symbol(0, "", 0, 0, 0, 0, 0, SHN_UNDEF)


@dataclass(frozen=True, slots=True)
class ObjectFile:
    """A whole relocatable object.

    `sections` is indexed by section index: entries that are not sections of their own here (tables)
    are kept as empty placeholders so that indices stay those of the file.  `symbols` is indexed by
    symbol index.
    """

    path: str
    machine: int  # EM_*
    flags: int  # e_flags
    big_endian: bool
    sections: tuple[Section, ...]
    symbols: tuple[Symbol, ...]
