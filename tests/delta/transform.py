# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes of an object that change nothing in it: other numbers, another order."""

from __future__ import annotations

import random
import re
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
