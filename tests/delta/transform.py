# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes of an object that change nothing in it: other numbers, another order."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import replace

from kbuild_py.elf import constants as elf
from kbuild_py.elf.object import ObjectFile, Symbol

_NUMBER = re.compile(r"(?<=\.)\d+$|(?<=\.)\d+(?=\.)")
_STABLE = (elf.STT_SECTION, elf.STT_FILE)


def renumbered(obj: ObjectFile, seed: int) -> ObjectFile:
    """Every number that a compiler put into a name is moved by the same random distance."""
    distance = random.Random(seed).randrange(1, 500)

    def name(symbol: Symbol) -> str:
        if symbol.type in _STABLE or symbol.bind != elf.STB_LOCAL:
            return symbol.name
        return _NUMBER.sub(lambda match: str(int(match[0]) + distance), symbol.name)

    return replace(obj, symbols=tuple(replace(symbol, name=name(symbol)) for symbol in obj.symbols))


def shuffled(obj: ObjectFile, seed: int) -> ObjectFile:
    """Sections and symbols in another order (the null entries stay first)."""
    rng = random.Random(seed)
    sections, symbols = list(obj.sections[1:]), list(obj.symbols[1:])
    rng.shuffle(sections)
    rng.shuffle(symbols)
    section_map = {section.index: i for i, section in enumerate(sections, 1)} | {0: 0}
    symbol_map = {symbol.index: i for i, symbol in enumerate(symbols, 1)} | {0: 0}
    new_sections = [obj.sections[0]]
    for section in sections:
        relocations = tuple(replace(r, symbol=symbol_map[r.symbol]) for r in section.relocations)
        linked = section.flags & (elf.SHF_LINK_ORDER | elf.SHF_INFO_LINK)
        link = section_map[section.link] if linked else section.link
        index = section_map[section.index]
        new_sections.append(replace(section, index=index, link=link, relocations=relocations))
    new_symbols = [obj.symbols[0]]
    for symbol in symbols:
        where = section_map[symbol.section] if symbol.section > 0 else symbol.section
        new_symbols.append(replace(symbol, index=symbol_map[symbol.index], section=where))
    return replace(obj, sections=tuple(new_sections), symbols=tuple(new_symbols))


def without_section_symbols(obj: ObjectFile) -> ObjectFile:
    """References to sections become references to the function or variable that begins there.

    Only those are changed for which there is such a symbol; the others keep their section symbol.
    """
    by_place: dict[tuple[int, int], Symbol] = {}
    for symbol in obj.symbols:
        if symbol.type in (elf.STT_FUNC, elf.STT_OBJECT) and symbol.section > 0:
            by_place.setdefault((symbol.section, symbol.value), symbol)
    sections = []
    for section in obj.sections:
        relocations = []
        for relocation in section.relocations:
            symbol = obj.symbols[relocation.symbol]
            named = by_place.get((symbol.section, 0)) if symbol.type == elf.STT_SECTION else None
            alone = sum(1 for where, _ in by_place if where == symbol.section) == 1
            if named is not None and alone:
                relocation = replace(relocation, symbol=named.index)
            relocations.append(relocation)
        sections.append(replace(section, relocations=tuple(relocations)))
    return replace(obj, sections=tuple(sections))


def with_changed_byte(obj: ObjectFile, section: int, offset: int, bit: int) -> ObjectFile:
    """One bit of one section is another."""
    sections = list(obj.sections)
    data = bytearray(sections[section].data)
    data[offset] ^= 1 << bit
    sections[section] = replace(sections[section], data=bytes(data))
    return replace(obj, sections=tuple(sections))


def damaged(obj: ObjectFile, seed: int) -> ObjectFile:
    """Some fields of relocations, symbols and sections hold other values; the file would still be well-formed
    or refused by `check_object`."""
    rng = random.Random(seed)
    sections, symbols = list(obj.sections), list(obj.symbols)
    for _ in range(rng.randrange(1, 8)):
        section, symbol = rng.choice(sections[1:]), rng.choice(symbols[1:])
        choice = rng.randrange(8)
        if choice < 3 and section.relocations:
            relocations = list(section.relocations)
            index = rng.randrange(len(relocations))
            relocations[index] = replace(
                relocations[index],
                type=rng.choice([0, 1, 2, 4, 9, 10, 11, 15, 24]),
                symbol=rng.randrange(len(symbols)),
                addend=rng.randrange(-64, 256),
            )
            sections[section.index] = replace(section, relocations=tuple(relocations))
        elif choice < 5:
            where = rng.randrange(len(sections))
            value, size = rng.randrange(32), rng.randrange(32)
            symbols[symbol.index] = replace(
                symbol, section=where, value=value, size=size, type=rng.randrange(5)
            )
        elif choice == 5:
            symbols[symbol.index] = replace(symbol, name=rng.choice(symbols[1:]).name, bind=rng.randrange(3))
        elif choice == 6:
            sections[section.index] = replace(section, name=rng.choice(sections[1:]).name)
        else:
            flag, size = 1 << rng.choice([0, 1, 2, 4, 5]), rng.choice([0, 1, 2, 8, section.size])
            sections[section.index] = replace(section, flags=section.flags ^ flag, entsize=size)
    return replace(obj, sections=tuple(sections), symbols=tuple(symbols))


def with_section_references(obj: ObjectFile) -> ObjectFile:
    """References to local functions and variables become section and offset, as some assemblers write them.

    Only those into the named thing itself: in front of it or behind it a section's offset means another.
    """
    symbols = list(obj.symbols)
    own = {s.section: s.index for s in symbols if s.type == elf.STT_SECTION}
    sections = []
    for section in obj.sections:
        relocations = []
        for relocation in section.relocations:
            symbol = symbols[relocation.symbol]
            named = symbol.bind == elf.STB_LOCAL and symbol.type in (elf.STT_FUNC, elf.STT_OBJECT)
            reach = relocation.addend + (4 if relocation.type in (2, 4) else 0)
            if named and symbol.section > 0 and 0 <= reach < max(symbol.size, 1):
                if symbol.section not in own:
                    own[symbol.section] = len(symbols)
                    symbols.append(Symbol(len(symbols), "", 0, 0, elf.STT_SECTION, 0, 0, symbol.section))
                relocation = replace(
                    relocation, symbol=own[symbol.section], addend=relocation.addend + symbol.value
                )
            relocations.append(relocation)
        sections.append(replace(section, relocations=tuple(relocations)))
    return replace(obj, sections=tuple(sections), symbols=tuple(symbols))


def without_unused_section_symbols(obj: ObjectFile) -> ObjectFile:
    """Section symbols that no relocation and no group names are left out, as assemblers do since 2020."""
    used = {r.symbol for section in obj.sections for r in section.relocations}
    used |= {section.info for section in obj.sections if section.type == elf.SHT_GROUP}
    kept = [s for s in obj.symbols if s.type != elf.STT_SECTION or s.index in used]
    number = {symbol.index: i for i, symbol in enumerate(kept)}
    sections = [
        replace(
            section,
            info=number[section.info] if section.type == elf.SHT_GROUP else section.info,
            relocations=tuple(replace(r, symbol=number[r.symbol]) for r in section.relocations),
        )
        for section in obj.sections
    ]
    symbols = tuple(replace(symbol, index=i) for i, symbol in enumerate(kept))
    return replace(obj, sections=tuple(sections), symbols=symbols)


def rebound(obj: ObjectFile, seed: int) -> ObjectFile:
    """Some static functions and variables are global (and the kernel's are static), under the same names."""
    rng = random.Random(seed)
    count = Counter(symbol.name for symbol in obj.symbols)

    def bound(symbol: Symbol) -> Symbol:
        known = symbol.type in (elf.STT_FUNC, elf.STT_OBJECT) and symbol.section > 0
        plain = "." not in symbol.name and not symbol.name.startswith("__") and count[symbol.name] == 1
        flip = known and plain and symbol.bind == elf.STB_LOCAL and rng.random() < 0.5
        return replace(symbol, bind=elf.STB_GLOBAL) if flip else symbol

    return replace(obj, symbols=tuple(bound(symbol) for symbol in obj.symbols))


def padded(obj: ObjectFile, seed: int) -> ObjectFile:
    """Sections of one function or variable are aligned and filled more; comments and notes are others."""
    rng = random.Random(seed)
    ends: dict[int, list[int]] = {}
    for symbol in obj.symbols:
        if symbol.type in (elf.STT_FUNC, elf.STT_OBJECT) and symbol.section > 0 and symbol.size:
            ends.setdefault(symbol.section, []).append(symbol.value + symbol.size)
    sections = []
    for section in obj.sections:
        code = bool(section.flags & elf.SHF_EXECINSTR)
        if section.name in (".comment", ".note.gnu.property") and section.data:
            data = bytes(len(section.data))
            section = replace(section, data=data)
        elif ends.get(section.index) == [section.size] and section.type == elf.SHT_PROGBITS and section.align:
            more = rng.randrange(section.align * 4)
            data = section.data + (b"\x90" if code else b"\0") * more
            section = replace(section, data=data, size=len(data), align=section.align * 4)
        sections.append(section)
    return replace(obj, sections=tuple(sections))


def with_plain_branches(obj: ObjectFile) -> ObjectFile:
    """Calls have the relocation type that assemblers wrote before 2018, and some still do."""
    sections = tuple(
        replace(
            section,
            relocations=tuple(replace(r, type=2) if r.type == 4 else r for r in section.relocations),
        )
        for section in obj.sections
    )
    return replace(obj, sections=sections)
