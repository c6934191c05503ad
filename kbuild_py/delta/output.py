# SPDX-License-Identifier: GPL-2.0-or-later
"""The patch object: the chosen pieces, laid out anew, and their relocations.

Every section that ships something appears once, under its own name and with its own attributes, and holds
the chosen pieces in their order.  A piece keeps its alignment: its new offset is congruent to the old one.

A relocation keeps its form where it can (symbol or section and offset), because objtool expects section
symbols in the tables that it reads.  It must change in three cases: what stays in the kernel becomes an
undefined symbol; an address of a function's start names the function; and a branch that the assembler had
resolved by itself gets the relocation that it now needs.

Names: a paired piece has the original's name, which is what the kernel knows.  A new static function or
variable whose name is already taken by something else in the object (the compiler's numbers start anew in
each compile) gets a suffix; no two things in the output share a name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kbuild_py.delta import modinfo, names
from kbuild_py.delta.anatomy import NOWHERE, Anatomy, Kind, Link, Piece
from kbuild_py.delta.compare import Comparison
from kbuild_py.delta.machine import Machine
from kbuild_py.delta.model import Reference
from kbuild_py.delta.sections import module_section
from kbuild_py.delta.select import Selection, shipped_sections
from kbuild_py.elf import constants as elf
from kbuild_py.elf.object import (
    NULL_SECTION,
    NULL_SYMBOL,
    SHN_ABS,
    SHN_UNDEF,
    ObjectFile,
    Relocation,
    Section,
    Symbol,
)

_DROPPED_FLAGS = elf.SHF_GROUP | elf.SHF_LINK_ORDER


@dataclass(frozen=True, slots=True)
class Output:
    """The object; the name that each included function or variable has in it; what it refers to."""

    object: ObjectFile
    names: Mapping[int, str]
    references: tuple[Reference, ...]


@dataclass(frozen=True, slots=True)
class _External:
    """A symbol that stays undefined: its name and what offsets count from in the patched object."""

    reference: Reference
    value: int
    bind: int


def build(
    comparison: Comparison,
    selection: Selection,
    path: str,
    code: Mapping[int, bytes] | None = None,
    renamed: Mapping[int, str] | None = None,
) -> Output:
    """Lay out the patch object.  The selection must have passed `judge`.

    code:    piece -> bytes to ship instead of its own (keys.py)
    renamed: section -> its name in the output, where it is another
    """
    return _Builder(comparison, selection, code or {}, renamed or {}).run(path)


def with_imports(output: Output, namespaces: Sequence[str]) -> Output:
    """The output with a .modinfo section that imports these namespaces, if there are any."""
    if not namespaces:
        return output
    obj = output.object
    section = modinfo.section_of(namespaces, len(obj.sections))
    return replace(output, object=replace(obj, sections=(*obj.sections, section)))


class _Builder:
    """The steps of `build`, which share the maps from old to new indices."""

    def __init__(
        self,
        comparison: Comparison,
        selection: Selection,
        code: Mapping[int, bytes],
        renamed: Mapping[int, str],
    ) -> None:
        self.comparison, self.selection, self.code, self.renamed = comparison, selection, code, renamed
        self.patched: Anatomy = comparison.patched
        self.layout = shipped_sections(self.patched, selection.included)
        self.section_index = {section: i for i, (section, _) in enumerate(self.layout, 1)}
        self.moved: dict[int, int] = {}  # piece -> its new start
        self.symbols: list[Symbol] = [NULL_SYMBOL]
        self.section_symbols: dict[int, int] = {}
        self.symbol_index: dict[int, int] = {0: 0}  # symbol of the patched object -> of the output
        self.undefined: dict[str, int] = {}
        original = comparison.original
        self.original_names = {
            original.object.symbols[i].name: original.object.symbols[i] for i in original.homes
        }

    def run(self, path: str) -> Output:
        obj = self.patched.object
        blank = [self._section(section, pieces) for section, pieces in self.layout]
        externals = self._externals()
        final = self._names({external.reference.name for external in externals.values()})
        self._define_symbols(final)
        for external in sorted(externals.values(), key=lambda e: e.reference.name):
            name = external.reference.name
            if name not in self.undefined:
                self.undefined[name] = self._add(name, 0, 0, elf.STT_NOTYPE, external.bind, 0, SHN_UNDEF)
        sections = [NULL_SECTION]
        for (_, pieces), section in zip(self.layout, blank, strict=True):
            relocations = tuple(
                self._relocation(self.patched.pieces[number], link, externals)
                for number in pieces
                for link in self.patched.links_of(self.patched.pieces[number])
            )
            sections.append(_with_relocations(section, relocations, self.patched.machine))
        sections.append(_stack_note(len(sections)))
        output = ObjectFile(
            path, obj.machine, obj.flags, obj.big_endian, tuple(sections), tuple(self.symbols)
        )
        by_name = {external.reference.name: external.reference for external in externals.values()}
        return Output(output, final, tuple(by_name[name] for name in sorted(by_name)))

    # --- sections -------------------------------------------------------------------------------------

    def _section(self, index: int, pieces: list[int]) -> Section:
        """The section with its pieces; remembers where each of them went."""
        source = self.patched.object.sections[index]
        align = max(source.align, 1)
        code = bool(source.flags & elf.SHF_EXECINSTR)
        content = bytearray()
        size = 0
        for number in pieces:
            piece = self.patched.pieces[number]
            if piece.kind is not Kind.ENTRY:  # A table is an array: no holes.
                size += (piece.start - size) % align
            self.moved[number] = size
            if source.type != elf.SHT_NOBITS:
                hole = size - len(content)
                content += self.patched.machine.padding(hole) if code else bytes(hole)
                content += self._content(piece)
            size += piece.size
        link = self._ordered_by(source, pieces) if source.flags & elf.SHF_LINK_ORDER else 0
        dropped = elf.SHF_GROUP if link else _DROPPED_FLAGS
        return Section(
            index=self.section_index[index],
            name=self.renamed.get(index, module_section(source.name)),
            type=source.type,
            flags=source.flags & ~dropped,
            data=bytes(content),
            size=size,
            align=source.align,
            entsize=source.entsize,
            link=link,
        )

    def _ordered_by(self, source: Section, pieces: list[int]) -> int:
        """The section (of the output) whose place decides about that of a SHF_LINK_ORDER section.

        An assembler makes one table of all functions' entries, tied to the first function's section.  Where
        that one is not shipped, the first entry that is names the next: with no tie at all, a linker could
        not join the table with those of other objects.
        """
        if source.link in self.section_index:
            return self.section_index[source.link]
        targets = (
            self.patched.pieces[link.piece].section
            for number in pieces
            for link in self.patched.links_of(self.patched.pieces[number])
            if link.piece in self.selection.included
        )
        return next((self.section_index[section] for section in targets), 0)

    def _content(self, piece: Piece) -> bytes:
        return self.code.get(piece.number) or self.patched.bytes_of(piece)

    # --- names ----------------------------------------------------------------------------------------

    def _names(self, taken: set[str]) -> dict[int, str]:
        """The final name of each included piece that has one."""
        to_original, original = self.comparison.correlation.to_original, self.comparison.original
        named = [
            self.patched.pieces[number]
            for number in sorted(self.selection.included)
            if self.patched.pieces[number].kind in (Kind.FUNCTION, Kind.OBJECT)
        ]
        final: dict[int, str] = {}
        copies: list[Piece] = []
        for piece in named:
            old = to_original.get(piece.number)
            if piece.kind is Kind.FUNCTION and old is not None:
                final[piece.number] = original.pieces[old].name
            elif not self.patched.is_local(piece):
                final[piece.number] = piece.name
            else:
                copies.append(piece)
        used = taken | set(final.values())
        for piece in copies:
            name, count = piece.name, 0
            while name in used:
                count += 1
                name = f"{piece.name}.new" + (f".{count}" if count > 1 else "")
            used.add(name)
            final[piece.number] = name
        self._name_unlikely_parts(final)
        return final

    def _name_unlikely_parts(self, final: dict[int, str]) -> None:
        """objtool finds the parent of `f.cold` by its name, so the two are renamed together."""
        for number, others in self.selection.families.items():
            name = self.patched.pieces[number].name
            parent = names.cold_parent(name)
            if number not in final or parent is None:
                continue
            for other in others:
                if other in final:
                    final[number] = final[other] + name[len(parent) :]

    def _define_symbols(self, final: Mapping[int, str]) -> None:
        """File and section symbols, then the symbols of the included pieces."""
        obj = self.patched.object
        needed = {
            link.symbol
            for number in self.selection.included
            for link in self.patched.links_of(self.patched.pieces[number])
        }
        homes: dict[int, list[Symbol]] = defaultdict(list)
        for symbol in obj.symbols:
            home = self.patched.homes.get(symbol.index, NOWHERE)
            if symbol.type == elf.STT_FILE:
                self._add(symbol.name, 0, 0, symbol.type, symbol.bind, symbol.visibility, SHN_ABS)
            elif home in self.selection.included and self._is_kept(symbol, home, symbol.index in needed):
                homes[home].append(symbol)
            elif symbol.section == SHN_ABS and symbol.index in needed:
                self.symbol_index[symbol.index] = self._copy(symbol, symbol.name, symbol.value, SHN_ABS)
        for section, _ in self.layout:
            self.section_symbols[section] = self._add(
                "", 0, 0, elf.STT_SECTION, elf.STB_LOCAL, 0, self.section_index[section]
            )
        for section, pieces in self.layout:
            for number in pieces:
                piece = self.patched.pieces[number]
                for symbol in homes.get(number, ()):
                    name = final.get(number, symbol.name) if symbol.index == piece.symbol else symbol.name
                    value = symbol.value - piece.start + self.moved[number]
                    index = self.section_index[section]
                    self.symbol_index[symbol.index] = self._copy(symbol, name, value, index)

    def _is_kept(self, symbol: Symbol, home: int, needed: bool) -> bool:
        if needed or symbol.index == self.patched.pieces[home].symbol:
            return True
        if self.patched.pieces[home].kind in (Kind.FUNCTION, Kind.OBJECT):
            made_by_objtool = symbol.name.startswith("__pfx_")
            return symbol.type != elf.STT_NOTYPE and bool(symbol.name) and not made_by_objtool
        return False

    def _copy(self, symbol: Symbol, name: str, value: int, section: int) -> int:
        return self._add(name, value, symbol.size, symbol.type, symbol.bind, symbol.visibility, section)

    def _add(
        self, name: str, value: int, size: int, kind: int, bind: int, visibility: int, section: int
    ) -> int:
        self.symbols.append(Symbol(len(self.symbols), name, value, size, kind, bind, visibility, section))
        return len(self.symbols) - 1

    # --- references -----------------------------------------------------------------------------------

    def _externals(self) -> dict[tuple[int, int, str], _External]:
        """What shipped pieces refer to and do not bring along, by (piece, symbol, name) of the link."""
        found: dict[tuple[int, int, str], _External] = {}
        for number in sorted(self.selection.included):
            for link in self.patched.links_of(self.patched.pieces[number]):
                key = (link.piece, link.symbol, link.name)
                if key in found or link.piece in self.selection.included:
                    continue
                if link.piece == NOWHERE:
                    symbol = self.patched.object.symbols[link.symbol]
                    if symbol.section == SHN_UNDEF and symbol.index:
                        found[key] = _External(self._foreign(symbol.name), 0, symbol.bind)
                else:
                    found[key] = self._existing(link)
        return found

    def _foreign(self, name: str) -> Reference:
        """A symbol that the patched object does not define."""
        symbol = self.original_names.get(name)
        if symbol is None:
            return Reference(name, False, "unknown", "", 0, False)
        section = self.comparison.original.object.sections[symbol.section].name
        return Reference(name, symbol.bind == elf.STB_LOCAL, "unknown", section, symbol.value, True)

    def _existing(self, link: Link) -> _External:
        """A piece that both objects have: it stays in the kernel, under the original's name."""
        original, target = self.comparison.original, self.patched.pieces[link.piece]
        old = original.pieces[self.comparison.correlation.to_original[link.piece]]
        symbol, value = original.symbol_of(old), target.base
        ours = self.patched.object.symbols[link.symbol]
        if ours.type != elf.STT_SECTION and ours.name != self.patched.symbol_of(target).name:
            # Another name of the same place, which the original has as well.
            other = self.original_names.get(ours.name)
            same = other is not None and original.homes[other.index] == old.number
            if same and other is not None and other.value - old.base == ours.value - target.base:
                symbol, value = other, ours.value
        kind = "function" if old.kind is Kind.FUNCTION else "object"
        section, local = original.section_of(old).name, symbol.bind == elf.STB_LOCAL
        reference = Reference(symbol.name, local, kind, section, symbol.value, True)
        return _External(reference, value, elf.STB_GLOBAL)

    def _relocation(
        self, piece: Piece, link: Link, externals: Mapping[tuple[int, int, str], _External]
    ) -> Relocation:
        offset = link.offset - piece.start + self.moved[piece.number]
        if link.piece not in self.selection.included:
            external = externals.get((link.piece, link.symbol, link.name))
            if external is None:  # an absolute symbol, or none at all
                return Relocation(offset, link.type, self.symbol_index[link.symbol], link.raw)
            index = self.undefined[external.reference.name]
            return Relocation(offset, link.type, index, link.raw - external.value)
        target, ours = self.patched.pieces[link.piece], self.patched.object.symbols[link.symbol]
        # To objtool a jump to a section is one within a function and its unlikely part, a jump to a symbol
        # leaves the function.
        starts_function = target.kind is Kind.FUNCTION and not link.at and piece.kind is not Kind.ENTRY
        starts_function = starts_function and names.cold_parent(target.name) is None
        if ours.type != elf.STT_SECTION and link.symbol:
            return Relocation(offset, link.type, self.symbol_index[link.symbol], link.raw - ours.value)
        if (starts_function or not link.symbol) and target.symbol:
            index = self.symbol_index[target.symbol]
            return Relocation(offset, link.type, index, link.raw - target.base)
        shift = self.moved[target.number] - target.start
        return Relocation(offset, link.type, self.section_symbols[target.section], link.raw + shift)


def _with_relocations(section: Section, relocations: tuple[Relocation, ...], machine: Machine) -> Section:
    """The section with its relocations, and the relocated fields empty.

    A branch that the assembler had resolved has its old distance in the code.  The addend stands in the
    relocation, and the module loader refuses a field that already holds something
    (arch/x86/kernel/module.c, "Skipping invalid relocation target").
    """
    content = bytearray(section.data)
    for relocation in relocations if content else ():
        machine.clear(content, relocation.offset, relocation.type)
    return replace(
        section,
        data=bytes(content),
        relocations=tuple(sorted(relocations, key=lambda relocation: relocation.offset)),
    )


def _stack_note(index: int) -> Section:
    """Tells the linker that the code needs no executable stack."""
    return Section(index, ".note.GNU-stack", elf.SHT_PROGBITS, 0, b"", 0, 1)
