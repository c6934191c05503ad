# SPDX-License-Identifier: GPL-2.0-or-later
"""How large the entries of a table are.

A table is an array of a C structure whose size depends on the kernel's version and configuration, and the
object does not say it.  But each entry has its relocations at the same places, so the pattern of their
offsets repeats with the entry's size: 0, 4, 12, 16, 24, 28 is a table of 12-byte entries with two
relocated fields.  The object itself is thus the best witness; a size that the user gives (`--entry-size`)
and the sizes that kernels are known to have decide only where the object leaves a choice: a table with one
entry, or one that is nothing but relocated fields.

The last entry may be shorter than the others: the assembler aligns the beginning of an entry, not its
end (`.parainstructions`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kbuild_py.delta.tables import Table
from kbuild_py.elf import constants as elf
from kbuild_py.elf.object import ObjectFile, Relocation, Section


@dataclass(frozen=True, slots=True)
class EntrySizes:
    """The sizes that the user gave: section name -> bytes."""

    given: Mapping[str, int] = field(default_factory=dict)

    def of(
        self,
        section: Section,
        relocations: Sequence[Relocation],
        notes: list[str],
        obj: ObjectFile | None = None,
        table: Table | None = None,
    ) -> int:
        """The entry size of a table in bytes; 0 when the table is empty.

        `relocations` are ordered by offset; `table` is what is known of such tables.  A given size that the
        object contradicts is reported in `notes`, and the object wins.
        """
        if not section.size:
            return 0
        relocations = _one_a_place(relocations)
        offsets = [relocation.offset for relocation in relocations]
        columns = [_reaches_code(obj, relocation) for relocation in relocations] if obj is not None else []
        given = self.given.get(section.name)
        known, first = (table.sizes, table.first) if table is not None else ((), 0)
        likely = [size for size in known if _is_likely(size, offsets, columns, table)]
        fitting = [size for size in likely if fits(size, section.size, offsets, first)]
        if not fitting:
            fitting = [size for size in likely if may_skip(size, section.size, offsets, columns, first)][:1]
        if not fitting:
            repeat = period(offsets)
            fitting = [repeat if fits(repeat, section.size, offsets, first) else section.size]
        found = min(fitting, key=lambda size: (_mixed(size, offsets, columns), size))
        if given is None:
            return found
        possible = (fits(given, section.size, offsets, first) or given == found) and (
            given <= section.size or (given in known and found > section.size)
        )
        if possible and not _is_likely(given, offsets, columns, table):
            possible = not _is_likely(found, offsets, columns, table)
        if possible and _mixed(given, offsets, columns) <= _mixed(found, offsets, columns):
            return given
        notes.append(
            f"{section.name}: the entry size {given} given for it contradicts the object, whose entries have "
            f"{found} bytes; {found} is used"
        )
        return found


def _one_a_place(relocations: Sequence[Relocation]) -> list[Relocation]:
    """The first relocation of each place: a difference has two."""
    return list({relocation.offset: relocation for relocation in reversed(relocations)}.values())[::-1]


def _reaches_code(obj: ObjectFile, relocation: Relocation) -> bool:
    where = obj.symbols[relocation.symbol].section
    return where > 0 and bool(obj.sections[where].flags & elf.SHF_EXECINSTR)


def _is_likely(size: int, offsets: Sequence[int], columns: Sequence[bool], table: Table | None) -> bool:
    """Every entry has as many relocated fields, and as many that reach code, as such entries have.

    Two entries together have all their fields at the places where one of twice the size may have them.
    """
    if table is None or size <= 0:
        return size > 0
    fields = Counter(offset // size for offset in offsets)
    codes = Counter(offset // size for offset, code in zip(offsets, columns, strict=False) if code)
    least, most = table.fields
    return all(least <= count <= most and codes[entry] <= table.codes for entry, count in fields.items())


def _mixed(size: int, offsets: Sequence[int], columns: Sequence[bool]) -> int:
    """How badly a size groups a table's fields: fields that reach code where most in their column do not.

    Where every word is a relocated field, any grouping has the right offsets.  But in one of 8 bytes for
    (instruction, fixup, handler) the handlers wander through both columns.
    """
    if not columns:
        return 0
    total: Counter[int] = Counter()
    code: Counter[int] = Counter()
    for offset, reaches in zip(offsets, columns, strict=True):
        total[offset % size] += 1
        code[offset % size] += reaches
    return sum(min(code[place], count - code[place]) for place, count in total.items())


def period(offsets: Sequence[int]) -> int:
    """The shortest distance with which the pattern of `offsets` repeats; 0 when it does not."""
    count = len(offsets)
    for group in range(1, min(count // 2, 8) + 1):
        size = offsets[group] - offsets[0]
        if size > 0 and all(offsets[i + group] - offsets[i] == size for i in range(count - group)):
            return size
    return 0


def fits(size: int, total: int, offsets: Sequence[int], first: int = 0) -> bool:
    """An array of entries of `size` bytes, `total` bytes in all, can have relocations at `offsets`.

    Each entry must have its first relocated field at `first`, and the fields that the first entry has; a
    table that is nothing but relocated fields may be grouped in any way, another one only as its pattern
    repeats.
    """
    if size <= 0 or (total > size and not offsets):
        return False
    if not offsets:
        return size >= total or total % size == 0
    repeat = period(offsets)
    if repeat and size != repeat:
        dense = len(offsets) > 1 and all(offset % repeat == 0 for offset in offsets) and repeat in (4, 8)
        if not (dense and size % repeat == 0):
            return False
    pattern = [offset for offset in offsets if offset < size]
    if not pattern or pattern[0] != first:
        return False
    expected = 0
    for base in range(0, total, size):
        for place in pattern:
            if expected == len(offsets) or offsets[expected] != base + place:
                return False
            expected += 1
    return expected == len(offsets)


def may_skip(size: int, total: int, offsets: Sequence[int], columns: Sequence[bool], first: int = 0) -> bool:
    """As `fits`, where some entries leave out fields: an exception without a handler has a 0 there.

    What is left out must not be anything else: each entry has its first field, which reaches code, and some
    entry has all that any of them has.
    """
    if size <= 0 or total % size or not offsets:
        return False
    entries: dict[int, set[int]] = {base: set() for base in range(0, total, size)}
    for offset in offsets:
        entries[offset - offset % size].add(offset % size)
    every = set().union(*entries.values())
    code = {offset for offset, reaches in zip(offsets, columns, strict=False) if reaches}
    begins = not columns or all(base + first in code for base in entries)
    complete = all(first in found for found in entries.values()) and every in entries.values()
    return min(every) == first and begins and complete
