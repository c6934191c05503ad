# SPDX-License-Identifier: GPL-2.0-or-later
"""Entry sizes of tables: what the object says, what is known, what the user says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from kbuild_py.delta.entries import EntrySizes, fits, may_skip, period
from kbuild_py.delta.machine.x86_64 import x86_64
from kbuild_py.elf.object import NULL_SECTION, NULL_SYMBOL, ObjectFile, Relocation, Section, Symbol


def size_of(
    sizes: EntrySizes,
    section: Section,
    relocations: Sequence[Relocation],
    notes: list[str],
    obj: ObjectFile | None = None,
) -> int:
    return sizes.of(section, relocations, notes, obj, x86_64().table(section.name))


def table(name: str, size: int, offsets: list[int]) -> tuple[Section, list[Relocation]]:
    section = Section(1, name, 1, 2, bytes(size), size, 1)
    return section, [Relocation(offset, 2, 1, 0) for offset in offsets]


def pattern(size: int, count: int, *places: int) -> list[int]:
    return [base * size + place for base in range(count) for place in places]


@pytest.mark.parametrize(
    ("name", "size", "total", "places"),
    [
        ("__bug_table", 12, 36, (0, 4)),
        ("__bug_table", 16, 48, (0, 4, 8)),
        ("__jump_table", 16, 64, (0, 4, 8)),
        ("__jump_table", 24, 72, (0, 8, 16)),
        (".altinstructions", 12, 36, (0, 4)),
        (".altinstructions", 13, 39, (0, 4)),
        (".altinstructions", 14, 42, (0, 4)),
        (".smp_locks", 4, 12, (0,)),
        ("__mcount_loc", 8, 24, (0,)),
        (".parainstructions", 16, 42, (0,)),  # the last entry is shorter
        (".discard.unheard_of", 20, 60, (0, 8)),
    ],
)
def test_the_pattern_of_relocations_is_the_size(
    name: str, size: int, total: int, places: tuple[int, ...]
) -> None:
    count = -(-total // size)
    notes: list[str] = []
    assert size_of(EntrySizes(), *table(name, total, pattern(size, count, *places)), notes) == size
    assert not notes


def test_a_single_entry_has_the_size_that_kernels_have() -> None:
    assert size_of(EntrySizes(), *table("__jump_table", 16, [0, 4, 8]), []) == 16
    assert size_of(EntrySizes(), *table(".altinstructions", 13, [0, 4]), []) == 13
    assert size_of(EntrySizes(), *table("__bug_table", 8, [0]), []) == 8
    assert size_of(EntrySizes(), *table(".parainstructions", 10, [0]), []) == 16
    assert size_of(EntrySizes(), *table(".discard.unheard_of", 20, [0, 8]), []) == 20


def test_a_size_that_fits_is_taken_from_the_user() -> None:
    sizes = EntrySizes({"__ex_table": 8})
    notes: list[str] = []
    assert size_of(sizes, *table("__ex_table", 16, [0, 4, 8, 12]), notes) == 8
    assert not notes


@pytest.mark.parametrize("wrong", [4, 8, 16, 24, 36, 1000])
def test_a_size_that_contradicts_the_object_loses(wrong: int) -> None:
    notes: list[str] = []
    section, relocations = table("__bug_table", 36, pattern(12, 3, 0, 4))
    assert size_of(EntrySizes({"__bug_table": wrong}), section, relocations, notes) == 12
    assert len(notes) == 1 and str(wrong) in notes[0] and "12" in notes[0]


def test_period_and_fit() -> None:
    assert period([0, 4, 12, 16, 24, 28]) == 12
    assert period([0]) == 0 and period([]) == 0
    assert fits(12, 36, [0, 4, 12, 16, 24, 28]) and not fits(12, 36, [0, 4, 12, 16, 24])
    assert not fits(12, 36, [4, 16, 28])
    assert not fits(0, 36, [0]) and not fits(-4, 36, [0])


def test_an_empty_table_has_no_entries() -> None:
    assert size_of(EntrySizes(), *table("__bug_table", 0, []), []) == 0


def dense(name: str, size: int, total: int, width: int, code: set[int]) -> tuple[ObjectFile, Section]:
    """A table in which every word is a relocated field; those at `code` of an entry reach code."""
    table_, text = Section(1, name, 1, 2, bytes(total), total, 1), Section(2, ".text", 1, 6, b"", 0, 1)
    symbols = (NULL_SYMBOL, Symbol(1, "", 0, 0, 3, 0, 0, 2), Symbol(2, "far", 0, 0, 0, 1, 0, 0))
    relocations = tuple(
        Relocation(offset, 2, 1 if offset % size in code else 2, 0) for offset in range(0, total, width)
    )
    section = replace(table_, relocations=relocations)
    return ObjectFile("x.o", 62, 0, False, (NULL_SECTION, section, text), symbols), section


@pytest.mark.parametrize(
    ("name", "size", "total", "width", "code"),
    [
        ("__ex_table", 12, 24, 4, {0, 4}),  # instruction, fixup, handler
        ("__ex_table", 12, 48, 4, {0, 4}),
        ("__jump_table", 24, 48, 8, {0, 8}),  # before 4.20: three addresses
        ("__jump_table", 24, 96, 8, {0, 8}),
    ],
)
def test_where_every_word_is_a_field_what_they_reach_decides(
    name: str, size: int, total: int, width: int, code: set[int]
) -> None:
    obj, section = dense(name, size, total, width, code)
    notes: list[str] = []
    assert size_of(EntrySizes(), section, section.relocations, notes, obj) == size and not notes
    wrong = EntrySizes({name: 16 if name == "__jump_table" else 8})
    assert size_of(wrong, section, section.relocations, notes, obj) == size and len(notes) == 1


def test_two_fields_that_reach_code_are_8_bytes() -> None:
    obj, section = dense("__ex_table", 8, 48, 4, {0, 4})  # before 4.6: instruction, fixup
    notes: list[str] = []
    assert size_of(EntrySizes(), section, section.relocations, notes, obj) == 8
    assert size_of(EntrySizes({"__ex_table": 8}), section, section.relocations, notes, obj) == 8 and not notes


def test_a_given_size_that_is_larger_than_the_table_loses() -> None:
    notes: list[str] = []
    assert size_of(EntrySizes({"__bug_table": 24}), *table("__bug_table", 12, [0, 4]), notes) == 12
    assert len(notes) == 1
    # The last entry may be shorter, and is the only one here.
    assert size_of(EntrySizes({".parainstructions": 16}), *table(".parainstructions", 12, [0]), notes) == 16
    assert len(notes) == 1
    assert size_of(EntrySizes({".parainstructions": 32}), *table(".parainstructions", 12, [0]), notes) == 16
    assert len(notes) == 2


def test_a_field_that_some_entries_leave_out() -> None:
    """s390x, 5.8 to 5.17: instruction, fixup, and a handler of 8 bytes or a zero."""
    notes: list[str] = []
    section, relocations = table("__ex_table", 64, [0, 4, 16, 20, 24, 32, 36, 48, 52])
    assert size_of(EntrySizes(), section, relocations, notes) == 16
    assert size_of(EntrySizes({"__ex_table": 16}), section, relocations, notes) == 16
    assert not notes
    assert size_of(EntrySizes({"__ex_table": 8}), section, relocations, notes) == 16
    assert len(notes) == 1
    # An entry without an instruction is none.
    assert not may_skip(16, 64, [0, 4, 16, 20, 24, 36, 48, 52], [])
    assert not may_skip(16, 60, [0, 4, 16, 20, 24], [])


@pytest.mark.parametrize(
    ("name", "size", "width", "code"),
    [
        ("__mcount_loc", 8, 8, {0}),
        (".smp_locks", 4, 4, {0}),
        ("__bug_table", 8, 8, {0}),  # without a file and a line
        ("__ex_table", 8, 4, {0, 4}),
        ("__ex_table", 12, 4, {0, 4}),
        ("__ex_table", 16, 8, {0, 8}),  # ppc64 before 4.10: two addresses
        ("__jump_table", 24, 8, {0, 8}),
    ],
)
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_entries_are_never_joined(name: str, size: int, width: int, code: set[int], count: int) -> None:
    """One entry that is taken for two would not be shipped with the second one's function."""
    obj, section = dense(name, size, size * count, width, code)
    for given in (size * 2, size * 4, size // 2):
        notes: list[str] = []
        found = size_of(EntrySizes({name: given}), section, section.relocations, notes, obj)
        assert found == size and len(notes) == 1, given
    notes = []
    assert size_of(EntrySizes(), section, section.relocations, notes, obj) == size and not notes


def test_an_entry_begins_with_an_instruction() -> None:
    """No table has entries of 32 bytes now; two halves of one are not two entries."""
    obj, section = dense("__bug_table", 32, 64, 8, {0})
    section = replace(section, relocations=tuple(r for r in section.relocations if r.offset % 32 != 24))
    assert size_of(EntrySizes(), section, section.relocations, [], obj) == 32
