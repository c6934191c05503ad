# SPDX-License-Identifier: GPL-2.0-or-later
"""An object cut into pieces: functions, variables, strings, constants, table entries.

`-ffunction-sections -fdata-sections` gives most functions and variables sections of their own, but not
all: `__sched` functions share `.sched.text`, `__read_mostly` variables share `.data..read_mostly`, all
entries of `__bug_table` share one section.  So the unit of the diff is the *piece*, a stretch of a
section, and a section is cut by rules that depend on its role:

- code and data at the symbols that name functions and objects;
- mergeable strings at their terminators, mergeable constants at their entry size;
- tables at their entry size, one piece an entry;
- what no symbol names (switch tables, `.altinstr_replacement`) into stretches: data whole, because code
  may reach a table from outside its bounds (`table[i - 8]`); code where a reference points, because a
  reference to code is exact.

A relocation then becomes a `Link`: from a place in one piece to a place in another.  It does not matter
any more whether the assembler wrote a symbol's name or its section's.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from kbuild_py.delta.machine import Machine
from kbuild_py.delta.sections import Role
from kbuild_py.elf import constants as elf
from kbuild_py.elf.object import ObjectFile, Section, Symbol

NOWHERE = -1


class Kind(Enum):
    """What a piece is."""

    FUNCTION = "function"
    OBJECT = "object"
    STRING = "string"
    CONSTANT = "constant"
    STRETCH = "stretch"  # without a name
    ENTRY = "entry"  # of a table


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes start..end of a section.

    name:   of the symbol that made the piece, empty without one
    symbol: that symbol's index, 0 without one
    base:   what offsets within the piece count from: the symbol's value (a function's padding may stand
            before it), otherwise `start`
    """

    number: int
    section: int
    start: int
    end: int
    kind: Kind
    name: str
    symbol: int
    base: int

    @property
    def size(self) -> int:
        return self.end - self.start


class Link(NamedTuple):
    """A relocation by its meaning.

    offset:   of the field in its section
    type:     relocation type as in the file
    symbol:   index of the symbol as in the file (0 for a branch that had no relocation)
    raw:      the addend, plus the symbol's value where the target is a section of this object
    piece:    number of the target piece; NOWHERE when the target is not in this object
    name:     the symbol's name when the target is not in this object
    at:       the place in the target, counted from the piece's base or from the symbol
    """

    offset: int
    type: int
    symbol: int
    raw: int
    piece: int
    name: str
    at: int


@dataclass(frozen=True, slots=True)
class Place:
    """A byte of an object, as messages show it: `fork.o(.text.f+0x1c)`."""

    object: ObjectFile = field(repr=False, compare=False)
    section: int
    offset: int
    path: str = ""

    def __str__(self) -> str:
        name = self.object.sections[self.section].name or self.section
        return f"{self.object.path}({name}+{self.offset:#x})"


@dataclass(frozen=True, slots=True)
class Anatomy:
    """An object with its pieces and links.

    roles, by_section (numbers of its pieces, ordered by start) and links (ordered by offset) are indexed
    by section; homes maps a symbol to its piece; entries maps a piece to the table entries about it.
    undecoded: sections (index) with code that could not be decoded whole.
    notes: what was noticed on the way, for the user.
    """

    object: ObjectFile
    machine: Machine
    roles: tuple[Role, ...]
    pieces: tuple[Piece, ...]
    by_section: tuple[tuple[int, ...], ...]
    starts: tuple[tuple[int, ...], ...]
    links: tuple[tuple[Link, ...], ...]
    link_offsets: tuple[tuple[int, ...], ...]
    homes: Mapping[int, int]
    entries: Mapping[int, tuple[int, ...]]
    entry_sizes: Mapping[int, int]
    undecoded: frozenset[int]
    notes: tuple[str, ...]

    def section_of(self, piece: Piece) -> Section:
        return self.object.sections[piece.section]

    def role(self, piece: Piece) -> Role:
        return self.roles[piece.section]

    def bytes_of(self, piece: Piece) -> bytes:
        """The piece's content; empty for a section without bytes (.bss)."""
        return self.object.sections[piece.section].data[piece.start : piece.end]

    def links_of(self, piece: Piece) -> tuple[Link, ...]:
        """The relocations within a piece, ordered by offset."""
        offsets = self.link_offsets[piece.section]
        if not offsets:
            return ()
        low = bisect_left(offsets, piece.start)
        return self.links[piece.section][low : bisect_left(offsets, piece.end, low)]

    def is_branch(self, piece: Piece, link: Link) -> bool:
        """The link is that of a call or jump, and not of an address that code computes."""
        code = self.object.sections[piece.section].data
        return self.machine.is_pc_relative(link.type) and self.machine.is_branch(code, link.offset)

    def needs_toc(self, piece: Piece, link: Link) -> bool:
        """The link is a branch that a register must be restored behind, and there is no room for that."""
        machine = self.machine
        if not machine.needs_toc(self.object.sections[piece.section].data, link.offset):
            return False
        name = self.pieces[link.piece].name if link.piece != NOWHERE else link.name
        # Code for newer processors does without the register.
        without = machine.arch.names.get(link.type, "").endswith("_NOTOC")
        return not (without or name in machine.fentry or machine.supplied(name))

    def inside(self, piece: Piece) -> Iterator[int]:
        """The functions (pieces) that the piece has addresses in, other than that of their start."""
        for link in self.links_of(piece):
            if link.piece != NOWHERE and link.at > 0:
                target = self.pieces[link.piece]
                if target.kind is Kind.FUNCTION and target.base + link.at < target.end:
                    yield link.piece

    def symbol_of(self, piece: Piece) -> Symbol:
        return self.object.symbols[piece.symbol]

    def is_local(self, piece: Piece) -> bool:
        return self.object.symbols[piece.symbol].bind == elf.STB_LOCAL

    def place(self, piece: Piece, offset: int = 0) -> Place:
        """Where `offset` (of the section) is."""
        return Place(self.object, piece.section, offset, self.object.path)
