# SPDX-License-Identifier: GPL-2.0-or-later
"""Which bytes the running kernel may have changed: table by table, with entries as the kernel writes them."""

from __future__ import annotations

import struct

import pytest

from kbuild_py.baseline import prove
from tests.baseline.linker import link
from tests.elf.builder import RelocationSpec, SectionSpec, build, function, reloc, section, symbol, variable

FENTRY = b"\xe8\0\0\0\0"
NOP = b"\x90"
CALL = b"\xe8\0\0\0\0"
RETURN = b"\xe9\0\0\0\0"  # to the return thunk
ENDBR = b"\xf3\x0f\x1e\xfa"
JUMP_LABEL = b"\x0f\x1f\x44\x00\x00"
SHORT_LABEL = b"\x66\x90"
CALLEE = function("callee", b"\xc3")
TARGET = ".text.f"


def spans(
    code: bytes, *parts: SectionSpec, relocations: tuple[RelocationSpec, ...] = ()
) -> tuple[tuple[int, int], ...]:
    """The spans of a function `f` whose object has the given parts, too; another function is before it."""
    obj = build(CALLEE, function("f", code, *relocations), variable("v"), *parts)
    linked = link(obj)
    proven = prove(obj, linked.image, linked.names).function("f")
    assert proven is not None and proven.address is not None, proven
    assert proven.size == len(code)
    return proven.spans


def table(name: str, *places: int, tail: bytes = b"", type: str = "PC32") -> SectionSpec:
    """A table that names places of `f`; each entry has `tail` behind the relocated field."""
    width = 8 if type == "64" else 4
    size = width + len(tail)
    fields = [reloc(number * size, TARGET, place, type) for number, place in enumerate(places)]
    return section(name, (bytes(width) + tail) * len(places), *fields)


def test_a_function_that_nothing_changes_has_none() -> None:
    assert spans(NOP * 9 + b"\xc3") == ()


def test_distances_within_the_image_stay() -> None:
    assert spans(CALL + b"\xc3", relocations=(reloc(1, "callee", -4, "PLT32"),)) == ()


def test_addresses_move() -> None:
    code = b"\x48\xc7\xc7\0\0\0\0" + b"\xc3"
    assert spans(code, relocations=(reloc(3, "callee", 0, "32S"),)) == ((3, 4),)


def test_per_cpu_variables_stay_where_they_are_and_the_code_moves() -> None:
    percpu = section(".data..percpu", bytes(8), align=8)
    name = symbol("counter", ".data..percpu", 0, 8, type="object")
    obj = build(
        function("f", b"\x65\x8b\x05\0\0\0\0\xc3", reloc(3, "counter", -4, "PC32")), percpu, symbols=[name]
    )
    linked = link(obj)
    proven = prove(obj, linked.image, linked.names).function("f")
    assert proven is not None and proven.spans == ((3, 4),)


@pytest.mark.parametrize(
    "name",
    [".return_sites", ".retpoline_sites", ".call_sites", ".ibt_endbr_seal"],
)
def test_the_instruction_that_a_table_of_places_names(name: str) -> None:
    """Five bytes of a jump, six with a prefix."""
    assert spans(NOP + RETURN + b"\xcc", table(name, 1)) == ((1, 5),)
    assert spans(NOP + b"\x2e" + CALL + b"\xcc", table(name, 1)) == ((1, 6),)


def test_ftrace() -> None:
    assert spans(FENTRY + b"\xc3", table("__mcount_loc", 0, type="64")) == ((0, 5),)


def test_static_calls() -> None:
    key = bytes(4)
    assert spans(NOP + CALL + b"\xc3", table(".static_call_sites", 1, tail=key)) == ((1, 5),)
    assert spans(NOP + b"\x0f\x84\0\0\0\0\xc3", table(".static_call_sites", 1, tail=key)) == ((1, 6),)


def test_jump_labels_are_long_or_short() -> None:
    code = NOP + JUMP_LABEL + NOP + SHORT_LABEL + b"\xc3"
    entry = struct.pack("<iq", 0, 0)
    assert spans(code, table("__jump_table", 1, 7, tail=entry)) == ((1, 5), (7, 2))


@pytest.mark.parametrize(
    "tail",
    [
        struct.pack("<iHBB", 0, 3, 5, 2),
        struct.pack("<iHBBB", 0, 3, 5, 2, 3),
        struct.pack("<iIBB", 0, 3, 5, 2),
    ],
    ids=["12", "13", "14"],
)
def test_alternatives_are_as_long_as_they_say(tail: bytes) -> None:
    assert spans(NOP * 8 + b"\xc3", table(".altinstructions", 2, tail=tail)) == ((2, 5),)


def test_paravirt_calls_whose_last_entry_is_short() -> None:
    entry = struct.pack("<QBB", 0, 7, 6)
    fields = (reloc(0, TARGET, 1, "64"), reloc(16, TARGET, 8, "64"))
    sites = section(".parainstructions", entry + bytes(6) + entry, *fields)
    assert spans(NOP * 15 + b"\xc3", sites) == ((1, 6), (8, 6))


def test_lock_prefixes() -> None:
    assert spans(b"\xf0\xff\x00" + b"\xf0\xff\x08" + b"\xc3", table(".smp_locks", 0, 3)) == ((0, 1), (3, 1))


def test_constants_that_are_known_after_boot() -> None:
    code = b"\x48\xb8" + bytes(8) + b"\xc1\xe8\x0c" + b"\xc3"
    assert spans(code, table("runtime_ptr_place", 2), table("runtime_shift_place", 12)) == ((2, 8), (12, 1))


def test_checks_of_indirect_calls() -> None:
    check = b"\x41\xba\x01\x02\x03\x04" + b"\x45\x03\x53\xfc" + b"\x74\x02" + b"\x0f\x0b"
    assert spans(NOP + check + b"\xc3", table(".kcfi_traps", 13)) == ((1, 14),)


def test_endbr_may_be_taken_away() -> None:
    assert spans(ENDBR + b"\xc3") == ((0, 4),)
    assert spans(ENDBR + FENTRY + b"\xc3", table("__mcount_loc", 4, type="64")) == ((0, 9),)


def test_trampolines_of_static_calls() -> None:
    obj = build(
        section(".static_call.text", RETURN + b"\x0f\xb9\xcc"),
        symbols=[symbol("t", ".static_call.text", 0, 8, type="func")],
    )
    linked = link(obj)
    proven = prove(obj, linked.image, linked.names).function("t")
    assert proven is not None and proven.spans == ((0, 5),)


def test_spans_are_sorted_joined_and_end_with_the_function() -> None:
    tail = struct.pack("<iHBB", 0, 3, 4, 0)
    sites = table(".altinstructions", 6, 2, 4, tail=tail)
    assert spans(NOP * 8 + b"\xc3", sites, table(".smp_locks", 0)) == ((0, 1), (2, 7))


def test_places_of_other_functions_do_not_count() -> None:
    sites = section(".smp_locks", bytes(4), reloc(0, ".text.callee", 0))
    assert spans(NOP + b"\xc3", sites) == ()
