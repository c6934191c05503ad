# SPDX-License-Identifier: GPL-2.0-or-later
"""Late relocations: what makes a linked module one for the kernel's livepatch.

A livepatch module names what the kernel does not export by symbols `.klp.sym.OBJECT.NAME,POSITION`.  Their
section index is SHN_LIVEPATCH, and the relocations against them stand apart, in sections
`.klp.rela.OBJECT.SECTION`.  The kernel looks the symbols up and applies these relocations itself: those of
vmlinux while it loads the module, before alternatives, jump labels and static calls, so that these find
finished code (Documentation/livepatch/module-elf-format.rst; kernel/livepatch/core.c,
klp_apply_section_relocs).

Neither the linker nor modpost knows such sections and symbols.  So the module is linked with weak undefined
symbols of these names, about which nobody complains, and this pass rewrites the finished file.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import replace

from kbuild_py.elf import constants as elf
from kbuild_py.elf.object import SHN_LIVEPATCH, SHN_UNDEF, ObjectFile, Relocation, Section
from kbuild_py.elf.read import RELA_ENTRY
from kbuild_py.symbols import LATE_PREFIX, LATE_USER

# What patch.c (templates/livepatch-module.c.j2) itself takes from the kernel: C knows no name with a comma.
OF_PATCH_C = {
    "notes_begin": f"{LATE_PREFIX}vmlinux.__start_notes,0",
    "notes_end": f"{LATE_PREFIX}vmlinux.__stop_notes,0",
}
FLAGS = elf.SHF_ALLOC | elf.SHF_INFO_LINK | elf.SHF_RELA_LIVEPATCH


def with_late_relocations(module: ObjectFile, names: Mapping[str, str] = OF_PATCH_C) -> ObjectFile:
    """The linked module with its late symbols marked, and their relocations in sections of their own.

    names: undefined symbol -> the late symbol that it stands for, beside those that have such a name
    """
    late = {
        symbol.index: names.get(symbol.name, symbol.name)
        for symbol in module.symbols
        if symbol.section == SHN_UNDEF and (symbol.name in names or symbol.name.startswith(LATE_PREFIX))
    }
    symbols = tuple(
        replace(symbol, name=shown(late[symbol.index]), bind=elf.STB_GLOBAL, section=SHN_LIVEPATCH)
        if symbol.index in late
        else symbol
        for symbol in module.symbols
    )
    sections, apart = [], []
    for section in module.sections:
        moved: dict[str, list[Relocation]] = {}
        for item in section.relocations if section.flags & elf.SHF_ALLOC else ():
            if item.symbol in late:
                moved.setdefault(object_of(late[item.symbol]), []).append(item)
        kept = tuple(item for item in section.relocations if item.symbol not in late or not moved)
        sections.append(replace(section, relocations=kept))
        apart += [(name, section, tuple(items)) for name, items in sorted(moved.items())]
    entry = struct.calcsize(f"<{RELA_ENTRY}")
    for name, section, items in apart:
        # The section's own name begins with a dot: .klp.rela.vmlinux.text
        title, index = f".klp.rela.{name}{section.name}", len(sections)
        sections.append(Section(index, title, elf.SHT_RELA, FLAGS, b"", 0, 8, entry, 0, section.index, items))
    return replace(module, sections=tuple(sections), symbols=symbols)


def object_of(symbol: str) -> str:
    """The object with which a late symbol is written: the one that has it, or the module that uses it."""
    return re.split(rf"[.{LATE_USER}]", symbol.removeprefix(LATE_PREFIX), maxsplit=1)[0]


def shown(symbol: str) -> str:
    """A late symbol's name in the finished module."""
    _, found, rest = symbol.removeprefix(LATE_PREFIX).partition(LATE_USER)
    return f"{LATE_PREFIX}{rest}" if found else symbol
