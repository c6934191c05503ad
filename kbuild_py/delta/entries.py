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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kbuild_py.delta.sections import table_of
from kbuild_py.elf.object import Relocation, Section


@dataclass(frozen=True, slots=True)
class EntrySizes:
    """The sizes that the user gave: section name -> bytes."""

    given: Mapping[str, int] = field(default_factory=dict)

    def of(self, section: Section, relocations: Sequence[Relocation], notes: list[str]) -> int:
        """The entry size of a table in bytes; 0 when the table is empty.

        `relocations` are ordered by offset.  A given size that the object contradicts is reported in
        `notes`, and the object wins.
        """
        if not section.size:
            return 0
        offsets = [relocation.offset for relocation in relocations]
        given = self.given.get(section.name)
        if given is not None and not fits(given, section.size, offsets):
            found = self._found(section, offsets)
            notes.append(
                f"{section.name}: the entry size {given} given for it contradicts the object, whose "
                f"relocations repeat every {found} bytes; {found} is used"
            )
            given = None
        return given if given is not None else self._found(section, offsets)

    @staticmethod
    def _found(section: Section, offsets: Sequence[int]) -> int:
        table = table_of(section.name)
        for size in table.sizes if table is not None else ():
            if fits(size, section.size, offsets):
                return size
        repeat = period(offsets)
        return repeat if fits(repeat, section.size, offsets) else section.size


def period(offsets: Sequence[int]) -> int:
    """The shortest distance with which the pattern of `offsets` repeats; 0 when it does not."""
    count = len(offsets)
    for group in range(1, min(count // 2, 8) + 1):
        size = offsets[group] - offsets[0]
        if size > 0 and all(offsets[i + group] - offsets[i] == size for i in range(count - group)):
            return size
    return 0


def fits(size: int, total: int, offsets: Sequence[int]) -> bool:
    """An array of entries of `size` bytes, `total` bytes in all, can have relocations at `offsets`.

    Each entry must begin with a relocated field and have the fields that the first one has; a table that
    is nothing but relocated fields may be grouped in any way, another one only as its pattern repeats.
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
    if not pattern or pattern[0] != 0:
        return False
    expected = 0
    for base in range(0, total, size):
        for place in pattern:
            if expected == len(offsets) or offsets[expected] != base + place:
                return False
            expected += 1
    return expected == len(offsets)
