# SPDX-License-Identifier: GPL-2.0-or-later
"""An `ObjectFile` -> its `Anatomy`: cut sections into pieces, turn relocations into links.

The steps depend on each other in this order.  Symbols name pieces.  Code is decoded from the start of each
named function, which tells what pc-relative relocations reach (machine/).  What they reach tells where
unnamed stretches begin.  Only then is every piece known, and every relocation can be resolved.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kbuild_py.delta import names
from kbuild_py.delta.anatomy import NOWHERE, Anatomy, Kind, Link, Piece
from kbuild_py.delta.entries import EntrySizes
from kbuild_py.delta.machine import Branch, Machine, machine
from kbuild_py.delta.pieces import (
    Locator,
    constant_starts,
    entries_by_owner,
    string_starts,
    without_label_tables,
)
from kbuild_py.delta.sections import Role, has_code, role_of
from kbuild_py.delta.tables import PATCHABLE, REPLACEMENTS, Base, Table
from kbuild_py.elf import constants as elf
from kbuild_py.elf.object import SHN_ABS, ObjectFile, Relocation, Section, Symbol

_MAPPED = 1 << 31  # x86: -__START_KERNEL_map, as far as it fits into 32 bits


def dissect(obj: ObjectFile, sizes: EntrySizes) -> Anatomy:
    """Cut `obj` into pieces and resolve its relocations.  `UserError` for a processor that is not known."""
    processor = machine(obj)
    return _Dissection(processor.settle(obj), processor, sizes).run()


@dataclass(slots=True)
class _Extent:
    """A stretch while it is being found: `symbol` names it."""

    start: int
    end: int
    symbol: int
    base: int


class _Dissection:
    """The steps of `dissect`, which share what they have found so far."""

    def __init__(self, obj: ObjectFile, processor: Machine, sizes: EntrySizes) -> None:
        self.obj = obj
        self.machine = processor
        # Type of a pc-relative relocation -> bias of a field that no instruction was found for.
        self.pc_relative = {
            kind: known.width if processor.from_end else 0
            for kind, known in processor.relocations.items()
            if known.pc_relative
        }
        self.sizes = sizes
        self.roles = tuple(role_of(section, processor.tables) for section in obj.sections)
        self.symbols_in: dict[int, list[Symbol]] = defaultdict(list)
        for symbol in obj.symbols:
            if symbol.section > 0 and symbol.type not in (elf.STT_SECTION, elf.STT_FILE):
                self.symbols_in[symbol.section].append(symbol)
        self.relocations: dict[int, list[Relocation]] = {}
        self.branches: dict[int, list[Branch]] = {}
        self.bias: dict[int, dict[int, int]] = {}
        self.patchable: dict[int, set[int]] = defaultdict(set)
        self.undecoded: set[int] = set()
        self.notes: list[str] = []
        self.entry_sizes: dict[int, int] = {}
        self.first: dict[int, int] = {}  # section -> its first piece
        self.empty: dict[tuple[int, int], int] = {}  # (section, field) with an empty target -> its section
        self.named: dict[int, tuple[_Extent, ...]] = {}
        self.gap_branches: set[tuple[int, int]] = set()  # (section, field) of branches in unnamed code
        self.ends: set[tuple[int, int]] = set()  # (section, field) that names the end of a stretch

    def run(self) -> Anatomy:
        processor, ignored = self.machine, self.machine.ignored
        for section in self.obj.sections:
            if self.roles[section.index] is Role.IGNORED:
                continue
            kept = [relocation for relocation in section.relocations if relocation.type not in ignored]
            self.relocations[section.index] = sorted(kept, key=lambda relocation: relocation.offset)
            if self.roles[section.index] is Role.TABLE and section.size:
                table, relocations = processor.table(section.name), self.relocations[section.index]
                size = self.sizes.of(section, relocations, self.notes, self.obj, table)
                self.entry_sizes[section.index] = size
                if table is not None:
                    self._find_bases(section, table, size)
        self._find_patchable()
        extents = {
            index: self._named(index)
            for index, role in enumerate(self.roles)
            if role in (Role.CODE, Role.INIT, Role.DATA, Role.BSS, Role.RODATA, Role.REGISTRY, Role.MARKER)
        }
        for index, section in enumerate(self.obj.sections):
            if section.flags & elf.SHF_EXECINSTR and index in extents:
                self._decode(section, extents[index])
        self.named = {index: tuple(found) for index, found in extents.items()}
        self._add_stretches(extents)
        return without_label_tables(self._anatomy(extents))

    def _find_bases(self, section: Section, table: Table, size: int) -> None:
        """Remember by how much the addends of a table's fields are larger than what they reach."""
        relocations = self.relocations[section.index]
        if table.base is Base.ENTRY or (table.base is Base.EITHER and self._counts_from_entry(section, size)):
            self.bias[section.index] = {r.offset: -(r.offset % size) for r in relocations}
        self.ends.update((section.index, r.offset) for r in relocations if r.offset % size in table.ends)

    def _counts_from_entry(self, section: Section, size: int) -> bool:
        """Whether fields point to the beginnings of strings only if distances count from the entry."""
        starts: dict[int, set[int]] = {}
        votes = 0
        for relocation in self.relocations[section.index]:
            column, symbol = relocation.offset % size, self.obj.symbols[relocation.symbol]
            if not column or symbol.section <= 0 or not self.machine.is_pc_relative(relocation.type):
                continue
            place = symbol.value + relocation.addend
            if self.roles[symbol.section] is not Role.STRINGS:
                continue
            if symbol.section not in starts:
                starts[symbol.section] = set(string_starts(self.obj.sections[symbol.section]))
            known = starts[symbol.section]
            votes += (place - column in known) - (place in known)
        return votes > 0

    def _find_patchable(self) -> None:
        """Where ftrace's own padding starts, which may be before the function's symbol."""
        for section in self.obj.sections:
            if section.name == PATCHABLE:
                for relocation in self.relocations.get(section.index, ()):
                    symbol = self.obj.symbols[relocation.symbol]
                    self.patchable[symbol.section].add(symbol.value + relocation.addend)

    # --- named pieces ---------------------------------------------------------------------------------

    def _named(self, index: int) -> list[_Extent]:
        """The stretches that symbols name.  A symbol inside another's stretch names nothing new."""
        section = self.obj.sections[index]
        code = bool(section.flags & elf.SHF_EXECINSTR)
        makers = [symbol for symbol in self.symbols_in[index] if self._makes_piece(symbol, code)]
        # Sized before unsized, long before short: an alias or inner label never cuts a function in two.
        # Of several names of one place, the one that the compiler named the section after.
        makers.sort(
            key=lambda symbol: (symbol.value, -symbol.size, not section.name.endswith(f".{symbol.name}"))
        )
        values = [symbol.value for symbol in makers]
        extents: list[_Extent] = []
        for symbol in makers:
            if extents and (
                symbol.value < extents[-1].end or (symbol.value == extents[-1].start and not symbol.size)
            ):
                continue
            end = symbol.value + symbol.size
            if not symbol.size and symbol.type != elf.STT_OBJECT:
                later = bisect_right(values, symbol.value)
                end = values[later] if later < len(values) else section.size
            extents.append(_Extent(symbol.value, end, symbol.index, symbol.value))
        if code:
            self._add_padding(index, extents)
        return extents

    def _makes_piece(self, symbol: Symbol, code: bool) -> bool:
        if not symbol.name or symbol.name.startswith(".L") or self.machine.label(symbol.name):
            return False
        if not code:
            return True
        function = symbol.type in (elf.STT_FUNC, elf.STT_GNU_IFUNC)
        entry_point = symbol.type == elf.STT_NOTYPE and symbol.bind != elf.STB_LOCAL  # written in assembly
        return (function or entry_point) and not names.is_padding_symbol(symbol.name)

    def _add_padding(self, index: int, extents: list[_Extent]) -> None:
        """Give functions the bytes before them that belong to them (call padding, CFI hash)."""
        named = {s.value for s in self.symbols_in[index] if names.is_padding_symbol(s.name)}
        marks = sorted(named | self.patchable.get(index, set()))
        previous = 0
        for extent in extents:
            if not previous:
                extent.start = 0
            else:
                low = bisect_left(marks, previous)
                if low < len(marks) and marks[low] < extent.start:
                    extent.start = marks[low]
            previous = extent.end

    # --- code -----------------------------------------------------------------------------------------

    def _decode(self, section: Section, extents: list[_Extent]) -> None:
        """Find where instructions with relocated fields end, and branches between functions."""
        fields = [relocation.offset for relocation in self.relocations.get(section.index, ())]
        bias: dict[int, int] = {}
        branches: list[Branch] = []
        decode, unnamed = self.machine.decode, self.machine.subsections
        stretches = [(extent.start, extent.end) for extent in extents] or [(0, section.size)]
        for start, end in stretches:
            inner = fields[bisect_left(fields, start) : bisect_left(fields, end)]
            decoded = decode(section.data, start, end, inner, branches=unnamed or len(extents) > 1)
            bias.update(decoded.bias)
            branches += decoded.branches
            if not decoded.complete:
                self.undecoded.add(section.index)
        for start, end in self._gaps(section, extents) if unnamed and extents else ():
            inner = fields[bisect_left(fields, start) : bisect_left(fields, end)]
            for place in range(start, end - 3, 4):  # Each alone, so that every branch leaves its stretch.
                if place not in inner:
                    found = decode(section.data, place, place + 4, (), branches=True).branches
                    self.gap_branches.update((section.index, branch.field) for branch in found)
                    branches += found
        self.bias[section.index] = bias
        self.branches[section.index] = [b for b in branches if 0 <= b.target < section.size]

    def _bias(self, section: int, relocation: Relocation) -> int:
        """What to add to the addend of a pc-relative field to get its target (see machine/kinds.py)."""
        if section not in self.bias or relocation.type not in self.pc_relative:
            return 0
        return self.bias[section].get(relocation.offset, self.pc_relative[relocation.type])

    def _within(self, section: int, offset: int) -> int:
        """Where in the section the thing lies that code means with `offset`.

        A physical address is a symbol's less where the kernel is mapped, and what is left of that is an
        addend of 2^31.
        """
        size = self.obj.sections[section].size
        return offset - _MAPPED if offset > size and _MAPPED <= offset <= _MAPPED + size else offset

    # --- unnamed pieces -------------------------------------------------------------------------------

    def _is_about(self, section: int, offset: int) -> bool:
        """The field is the first one of a table's entry: the instruction that the entry is about."""
        size = self.entry_sizes.get(section, 0)
        table = self.machine.table(self.obj.sections[section].name) if size else None
        return table is not None and offset % size == table.first

    def _targets(self, *, about: bool) -> Iterator[tuple[int, int]]:
        """(section, offset) of everything that relocations reach in this object.

        about: only what the entries of tables are about, which may be in the middle of something; otherwise
        everything else
        """
        symbols = self.obj.symbols
        for index, relocations in self.relocations.items():
            for relocation in relocations:
                symbol = symbols[relocation.symbol]
                if symbol.section > 0 and self._is_about(index, relocation.offset) is about:
                    if symbol.type == elf.STT_SECTION:
                        reach = relocation.addend + self._bias(index, relocation)
                        yield symbol.section, self._within(symbol.section, symbol.value + reach)
                    else:
                        yield symbol.section, symbol.value
        for index, branches in self.branches.items():
            for branch in () if about else branches:
                if (index, branch.field) not in self.gap_branches or self._is_named(index, branch.target):
                    yield index, branch.target

    def _replacements(self) -> Iterator[tuple[int, int]]:
        """(section, offset) at which replacements of alternatives end; remembers the empty ones."""
        for index, size in self.entry_sizes.items():
            section = self.obj.sections[index]
            table = self.machine.table(section.name)
            if table is not None and size in table.lengths:
                yield from self._by_length(section, size, table.lengths[size])
            elif table is not None and table.ends:
                self._by_ends(section)

    def _by_length(self, section: Section, size: int, place: int) -> Iterator[tuple[int, int]]:
        for relocation in self.relocations[section.index]:
            symbol = self.obj.symbols[relocation.symbol]
            start, field = divmod(relocation.offset, size)
            if not field or start * size + place >= section.size or symbol.section not in self.named:
                continue
            if symbol.section == section.index:
                continue  # the field's own place, which is subtracted
            length = section.data[start * size + place]
            if length:
                yield symbol.section, symbol.value + relocation.addend + length
            elif self.obj.sections[symbol.section].name.startswith(REPLACEMENTS):
                self.empty[section.index, relocation.offset] = symbol.section

    def _by_ends(self, section: Section) -> None:
        """A field that names an end follows the one that names the beginning."""
        previous, previous_field = (0, 0), 0
        for relocation in self.relocations[section.index]:
            symbol = self.obj.symbols[relocation.symbol]
            reached = symbol.section, symbol.value + relocation.addend + self._bias(section.index, relocation)
            field = section.index, relocation.offset
            replaced = reached[0] in self.named and self.obj.sections[reached[0]].name.startswith(
                REPLACEMENTS
            )
            if field in self.ends and reached == previous and replaced:
                self.empty[field] = self.empty[section.index, previous_field] = reached[0]
            previous, previous_field = reached, relocation.offset

    def _is_named(self, index: int, offset: int) -> bool:
        """A symbol's stretch has this offset of the section."""
        named = self.named[index]
        position = bisect_right(named, offset, key=lambda extent: extent.start) - 1
        return position >= 0 and offset < named[position].end

    def _add_stretches(self, extents: dict[int, list[_Extent]]) -> None:
        """Make pieces of what references reach and no symbol names."""
        cuts: dict[int, set[int]] = defaultdict(set)
        for index, role in enumerate(self.roles):
            if role is Role.REGISTRY:
                cuts[index] = set()  # all of it counts, whether this object refers to it or not
        for index, offset in (*self._targets(about=False), *self._replacements()):
            if index in extents:
                cuts[index].add(offset)
        inside: dict[int, list[int]] = defaultdict(list)
        for index, offset in self._targets(about=True):
            if index in extents:
                inside[index].append(offset)
                cuts.setdefault(index, set())
        empty = set(self.empty.values())
        for index, offsets in cuts.items():
            section = self.obj.sections[index]
            code = has_code(section)
            named = extents[index]
            ordered, places = sorted(offsets), sorted(inside[index])
            found: list[_Extent] = []
            for start, end in self._gaps(section, named):
                inner = ordered[bisect_left(ordered, start) : bisect_left(ordered, end)]
                first = bisect_left(places, start)
                if first < len(places) and places[first] < (inner[0] if inner else end):
                    inner = [places[first], *inner]
                if self.roles[index] is Role.REGISTRY or (inner and not code):
                    inner = [start]
                for position, cut in enumerate(inner):
                    stop = inner[position + 1] if position + 1 < len(inner) else end
                    found.append(_Extent(cut, stop, 0, cut))
            if index in empty:
                found.append(_Extent(0, 0, 0, 0))
            extents[index] = sorted([*named, *found], key=lambda extent: (extent.start, extent.end))

    def _gaps(self, section: Section, named: Sequence[_Extent]) -> Iterator[tuple[int, int]]:
        """Stretches between named pieces, without those that are only padding."""
        previous = 0
        for start, end in [*((extent.start, extent.end) for extent in named), (section.size, section.size)]:
            if start > previous and not (previous and self._is_padding(section, previous, start)):
                yield previous, start
            previous = max(previous, end)

    @staticmethod
    def _is_padding(section: Section, start: int, end: int) -> bool:
        if section.flags & elf.SHF_EXECINSTR:
            return False  # Padding in code is never referenced, and what is not referenced makes no piece.
        return end - start < max(section.align, 1) and not any(section.data[start:end])

    # --- the result -----------------------------------------------------------------------------------

    def _anatomy(self, extents: Mapping[int, list[_Extent]]) -> Anatomy:
        pieces: list[Piece] = []
        by_section: list[tuple[int, ...]] = []
        starts: list[tuple[int, ...]] = []
        for index, section in enumerate(self.obj.sections):
            role, first = self.roles[index], len(pieces)
            self.first[index] = first
            if index in extents:
                for extent in extents[index]:
                    pieces.append(self._piece(len(pieces), section, extent))
            elif role is Role.STRINGS:
                self._cut(pieces, section, Kind.STRING, string_starts(section))
            elif role is Role.CONSTANTS:
                self._cut(pieces, section, Kind.CONSTANT, constant_starts(section))
            elif index in self.entry_sizes:
                self._cut(pieces, section, Kind.ENTRY, range(0, section.size, self.entry_sizes[index]))
            by_section.append(tuple(range(first, len(pieces))))
            starts.append(tuple(piece.start for piece in pieces[first:]))
        locate = Locator(pieces, by_section, starts)
        homes = {
            symbol.index: found
            for symbols in self.symbols_in.values()
            for symbol in symbols
            if (found := locate(symbol.section, symbol.value)) != NOWHERE
        }
        for piece in pieces:  # A symbol that made a piece is at home there, whatever else starts there.
            if piece.symbol:
                homes[piece.symbol] = piece.number
        links = tuple(tuple(self._links(index, pieces, locate, homes)) for index in range(len(self.roles)))
        link_offsets = tuple(tuple(link.offset for link in row) for row in links)
        return Anatomy(
            object=self.obj,
            machine=self.machine,
            roles=self.roles,
            pieces=tuple(pieces),
            by_section=tuple(by_section),
            starts=tuple(starts),
            links=links,
            link_offsets=link_offsets,
            homes=homes,
            entries=entries_by_owner(pieces, links, link_offsets),
            entry_sizes=self.entry_sizes,
            undecoded=frozenset(self.undecoded),
            notes=tuple(self.notes),
        )

    def _piece(self, number: int, section: Section, extent: _Extent) -> Piece:
        symbol = self.obj.symbols[extent.symbol]
        if not extent.symbol or names.is_anonymous(symbol.name):
            kind = Kind.STRETCH
        elif section.flags & elf.SHF_EXECINSTR:
            kind = Kind.FUNCTION
        else:
            kind = Kind.OBJECT
        name = symbol.name if extent.symbol else ""
        return Piece(number, section.index, extent.start, extent.end, kind, name, extent.symbol, extent.base)

    @staticmethod
    def _cut(pieces: list[Piece], section: Section, kind: Kind, starts: Sequence[int]) -> None:
        for position, start in enumerate(starts):
            end = starts[position + 1] if position + 1 < len(starts) else section.size
            pieces.append(Piece(len(pieces), section.index, start, end, kind, "", 0, start))

    def _links(
        self, index: int, pieces: Sequence[Piece], locate: Locator, homes: Mapping[int, int]
    ) -> Iterator[Link]:
        symbols = self.obj.symbols
        found: list[Link] = []
        for relocation in self.relocations.get(index, ()):
            symbol = symbols[relocation.symbol]
            bias = self._bias(index, relocation)
            offset, kind, addend = relocation.offset, relocation.type, relocation.addend
            if symbol.section <= 0:
                name = f"={symbol.value:#x}" if symbol.section == SHN_ABS else symbol.name
                found.append(Link(offset, kind, symbol.index, addend, NOWHERE, name, addend + bias))
                continue
            raw = symbol.value + addend
            empty = self.empty.get((index, offset))
            if empty is not None and empty == symbol.section:
                number = self.first[empty]
                found.append(Link(offset, kind, 0, pieces[number].start - bias, number, "", 0))
                continue
            if (index, offset) in self.ends:
                target = locate(symbol.section, raw + bias - 1)
            elif symbol.type == elf.STT_SECTION:
                target = locate(symbol.section, self._within(symbol.section, raw + bias))
            else:
                target = homes.get(symbol.index, NOWHERE)
            if target == NOWHERE:
                section = self.obj.sections[symbol.section]
                found.append(
                    Link(offset, kind, symbol.index, raw, NOWHERE, f"section {section.name}", raw + bias)
                )
            else:
                at = raw + bias - pieces[target].base
                found.append(Link(offset, kind, symbol.index, raw, target, "", at))
        for branch in self.branches.get(index, ()):
            target = locate(index, branch.target)
            if target in (NOWHERE, locate(index, branch.field)):
                continue
            at = branch.target - pieces[target].base
            # Who applies the relocation adds the way to the local entry point by itself.
            if at and at == self.machine.local_entry(symbols[pieces[target].symbol].visibility):
                at = 0
            raw = pieces[target].base + at + branch.addend
            found.append(Link(branch.field, branch.type, 0, raw, target, "", at))
        found.sort(key=lambda link: link.offset)
        return iter(found)
