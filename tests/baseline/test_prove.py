# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import json
import struct
import time

import pytest

from kbuild_py.baseline import Proof, State, prove
from kbuild_py.elf import constants as elf
from kbuild_py.elf.object import ObjectFile
from kbuild_py.errors import UserError
from tests.baseline.linker import TEXT, Linked, link
from tests.elf.builder import SectionSpec, build, function, reloc, section, symbol, variable

RET = b"\xc3"
CALL = b"\xe8\0\0\0\0"  # field at +1
LOAD = b"\x8b\x05\0\0\0\0"  # mov eax, [rip+...], field at +2
MOV = b"\x48\xc7\xc7\0\0\0\0"  # mov rdi, imm32 (sign-extended), field at +3
PER_CPU = b"\x65\x48\x8b\x04\x25\0\0\0\0"  # mov rax, gs:[...], field at +5


def caller(name: str, callee: str, *, bind: str = "global", prefix: str = ".text") -> SectionSpec:
    return function(name, CALL + RET, reloc(1, callee, -4, "PLT32"), bind=bind, prefix=prefix)


def reader(name: str, target: str, *, bind: str = "global", tail: bytes = RET) -> SectionSpec:
    """A function that reads a variable by its section, as compilers refer to static ones."""
    return function(name, LOAD + tail, reloc(2, target, -4), bind=bind)


# A bit of everything: globals, statics, strings, a table, a cold part, per-CPU data.
ORDINARY = build(
    caller("entry", ".text.helper"),
    reader("helper", ".bss.counter", bind="local"),
    function("banner", MOV + RET, reloc(3, ".rodata.str1.1", 6, "32S")),
    function("percpu", PER_CPU + RET, reloc(5, ".data..percpu", 8, "32S")),
    function("rarely", b"\xe9\0\0\0\0", reloc(1, ".text.unlikely.rarely", -4, "PLT32")),
    section(".text.unlikely.rarely", CALL, reloc(1, "entry", -4, "PLT32")),
    function("dispatch", MOV + RET, reloc(3, ".rodata.table", 0, "32S")),
    function("indirect", b"\x90\x90" + RET, bind="local"),
    variable("counter", size=8),
    variable(
        "table", bytes(16), reloc(0, ".text.indirect", 0, "64"), reloc(8, "entry", 0, "64"), prefix=".rodata"
    ),
    variable("unreferenced", b"\1\2\3\4\5\6\7\10"),
    section(".data..percpu", bytes(24), align=8),
    section(".rodata.str1.1", b"hello\0world\0"),
    symbols=[
        symbol("rarely.cold", ".text.unlikely.rarely", 0, 5, type="func", bind="local"),
        symbol("first", ".data..percpu", 0, 8, type="object", bind="local"),
        symbol("second", ".data..percpu", 8, 16, type="object", bind="local"),
    ],
)
OTHER = build(
    function("unrelated", b"\x31\xc0" + RET),
    function("strings", MOV + RET, reloc(3, ".rodata.str1.1", 0, "32S")),
    section(".rodata.str1.1", b"world\0"),
    variable("filler", size=24),
    variable("more", b"12345678"),
)

OTHER_AGAIN = build(function("third", b"\x31\xd2" + RET), variable("tail", size=8), path="c.o")


def states(proof: Proof) -> dict[str, State]:
    return {one.name: one.state for one in proof.functions}


def prove_linked(linked: Linked, obj: ObjectFile) -> Proof:
    return prove(obj, linked.image, linked.names)


def function_of(proof: Proof, name: str):  # type: ignore[no-untyped-def]
    found = proof.function(name)
    assert found is not None, name
    return found


def test_every_function_of_what_was_linked_is_proven_at_the_linkers_address() -> None:
    linked = link(OTHER, ORDINARY, OTHER_AGAIN)
    proof = prove_linked(linked, ORDINARY)
    assert set(states(proof).values()) == {State.PROVEN}, proof.text()
    assert not proof.problems and not proof.causes
    for one in proof.functions:
        assert one.address == linked.addresses[1, one.name]
    expected = {name: at for (number, name), at in linked.addresses.items() if number == 1}
    assert proof.addresses == expected
    assert {one.name: one.evidence for one in proof.located}["counter"] == "referenced by helper"


def test_every_changed_byte_of_a_function_is_noticed() -> None:
    linked = link(OTHER, ORDINARY, OTHER_AGAIN)
    for one in prove_linked(linked, ORDINARY).functions:
        assert one.address is not None
        for offset in range(one.size):
            at = one.address + offset
            (original,) = linked.image.read(at, 1)
            for flip in (0x01, 0x10, 0x80):
                linked.image.change(at, bytes((original ^ flip,)))
                proof = prove_linked(linked, ORDINARY)
                wrong = function_of(proof, one.name)
                assert wrong.state is State.MISMATCH, f"{one.name}+{offset:#x} ^ {flip:#x}\n{proof.text()}"
            linked.image.change(at, bytes((original,)))


def test_the_first_difference_is_named() -> None:
    linked = link(ORDINARY, OTHER)
    address = linked.addresses[0, "indirect"]
    linked.image.change(address + 1, b"\xcc")
    wrong = function_of(prove_linked(linked, ORDINARY), "indirect")
    assert wrong.state is State.MISMATCH and wrong.address == address
    assert wrong.difference is not None and wrong.difference.offset == 1
    assert wrong.difference.ours == "nop"
    assert wrong.difference.theirs == "int3"


def test_a_reference_to_another_function_is_named() -> None:
    linked = link(build(caller("f", "good")), build(function("good", b"\x90" + RET), function("evil", RET)))
    obj = build(caller("f", "evil"))
    wrong = function_of(prove_linked(linked, obj), "f")
    assert wrong.state is State.MISMATCH
    assert wrong.difference is not None
    assert (wrong.difference.ours, wrong.difference.theirs) == ("a reference to evil", "good")


def test_another_string_is_named() -> None:
    def uses(text: bytes) -> ObjectFile:
        return build(
            function("f", MOV + RET, reloc(3, ".rodata.str1.1", 0, "32S")), section(".rodata.str1.1", text)
        )

    linked = link(uses(b"version 1\0"))
    wrong = function_of(prove_linked(linked, uses(b"version 2\0")), "f")
    assert wrong.difference is not None
    assert wrong.difference.ours == 'a reference to "version 2"'
    assert wrong.difference.theirs == '"version 1"'


def test_a_string_that_only_begins_the_same_is_another_string() -> None:
    def uses(text: bytes) -> ObjectFile:
        return build(
            function("f", MOV + RET, reloc(3, ".rodata.str1.1", 0, "32S")), section(".rodata.str1.1", text)
        )

    linked = link(uses(b"version 12\0"))
    assert states(prove_linked(linked, uses(b"version 1\0"))) == {"f": State.MISMATCH}
    assert states(prove_linked(link(uses(b"version 1\0")), uses(b"version 12\0"))) == {"f": State.MISMATCH}


def test_constants_and_wide_strings_are_compared_by_content() -> None:
    obj = build(
        function(
            "f", MOV + MOV + RET, reloc(3, ".rodata.cst16", 16, "32S"), reloc(10, ".rodata.wide", 4, "32S")
        ),
        section(".rodata.cst16", bytes(range(32)), align=16),
        section(".rodata.wide", "ab".encode("utf-16-le") + b"\0\0", flags=0x32, entsize=2, align=2),
    )
    linked = link(OTHER, obj)
    assert states(prove_linked(linked, obj)) == {"f": State.PROVEN}
    other = build(
        function(
            "f", MOV + MOV + RET, reloc(3, ".rodata.cst16", 0, "32S"), reloc(10, ".rodata.wide", 4, "32S")
        ),
        section(".rodata.cst16", bytes(range(32)), align=16),
        section(".rodata.wide", "ab".encode("utf-16-le") + b"\0\0", flags=0x32, entsize=2, align=2),
    )
    assert states(prove_linked(linked, other)) == {"f": State.MISMATCH}


def twins(path: str, number: int) -> ObjectFile:
    """Static functions with equal names and bytes in several files, told apart only by who calls them."""
    return build(
        caller(f"entry{number}", ".text.twin"), function("twin", b"\x90" + RET, bind="local"), path=path
    )


def test_namesakes_are_told_apart_by_references() -> None:
    objects = [twins(f"{number}.o", number) for number in range(4)]
    linked = link(*objects)
    for number, obj in enumerate(objects):
        twin = function_of(prove_linked(linked, obj), "twin")
        assert twin.state is State.PROVEN
        assert twin.address == linked.addresses[number, "twin"]
        assert twin.sympos == number + 1


def test_namesakes_are_told_apart_by_their_neighbours() -> None:
    objects = [
        build(
            function(f"before{number}", b"\x90" * number + RET),
            function("twin", b"\x90\x90" + RET, bind="local"),
            function("twin2", b"\x90\x90" + RET, bind="local"),
            path=f"{number}.o",
        )
        for number in range(3)
    ]
    linked = link(*objects)
    for number, obj in enumerate(objects):
        proof = prove_linked(linked, obj)
        assert proof.addresses["twin"] == linked.addresses[number, "twin"]
        assert proof.addresses["twin2"] == linked.addresses[number, "twin2"]


def test_namesakes_that_nothing_tells_apart_are_ambiguous() -> None:
    lone = build(function("twin", b"\x90" + RET, bind="local"))
    linked = link(lone, OTHER, lone)
    proof = prove_linked(linked, lone)
    assert states(proof) == {"twin": State.AMBIGUOUS}
    assert "twin" not in proof.addresses
    assert "2 functions of this name have this code" in proof.text()


def test_one_match_among_namesakes_is_not_enough() -> None:
    """Our own twin was inlined in the image; another file's happens to be equal."""
    inlined = build(function("entry", b"\x90\x90\x90\x90" + RET), path="ours.o")
    foreign = build(function("twin", b"\x90" + RET, bind="local"), function("end", RET))
    different = build(function("twin", b"\x31\xc0" + RET, bind="local"))
    ours = build(function("entry", b"\x90\x90\x90\x90" + RET), function("twin", b"\x90" + RET, bind="local"))
    proof = prove_linked(link(inlined, OTHER, foreign, different), ours)
    assert function_of(proof, "entry").state is State.PROVEN
    assert function_of(proof, "twin").state is State.AMBIGUOUS


def test_a_unique_namesake_outside_of_the_objects_code_is_refused() -> None:
    inlined = build(function("entry", b"\x90" * 4 + RET), function("last", RET), path="ours.o")
    foreign = build(function("twin", b"\x90" + RET, bind="local"))
    ours = build(
        function("entry", b"\x90" * 4 + RET),
        function("twin", b"\x90" + RET, bind="local"),
        function("last", RET),
    )
    proof = prove_linked(link(inlined, OTHER, foreign), ours)
    assert function_of(proof, "twin").state is State.MISMATCH
    assert "outside of this object's" in function_of(proof, "twin").reason
    assert "twin" not in proof.addresses


def weak_file(code: bytes, path: str) -> ObjectFile:
    return build(
        function(f"before_{path[0]}", b"\x90" + RET),
        function("arch_hook", code, bind="weak"),
        function(f"after_{path[0]}", b"\x90\x90" + RET),
        path=path,
    )


def test_weak_definition_overridden_by_a_strong_one() -> None:
    ours = weak_file(b"\x31\xc0" + RET, "a.o")
    for code in (b"\x31\xc0" + RET, b"\x31\xd2\x90" + RET):  # the very same code as well
        linked = link(ours, build(function("arch_hook", code)))
        proof = prove_linked(linked, ours)
        assert function_of(proof, "arch_hook").state is State.OVERRIDDEN_WEAK
        assert proof.addresses["arch_hook"] == linked.addresses[0, "arch_hook"]
        assert function_of(proof, "after_a").state is State.PROVEN


def test_weak_definition_overridden_by_another_files_weak_one() -> None:
    first, second = weak_file(b"\x31\xc0" + RET, "a.o"), weak_file(b"\x31\xd2" + RET, "b.o")
    linked = link(first, second)
    assert function_of(prove_linked(linked, first), "arch_hook").state is State.PROVEN
    assert function_of(prove_linked(linked, second), "arch_hook").state is State.OVERRIDDEN_WEAK
    same = weak_file(b"\x31\xc0" + RET, "b.o")
    assert function_of(prove_linked(link(first, same), same), "arch_hook").state is State.OVERRIDDEN_WEAK


def test_weak_definition_that_is_used_must_be_equal() -> None:
    linked = link(weak_file(b"\x31\xc0" + RET, "a.o"))
    proof = prove_linked(linked, weak_file(b"\x31\xd2" + RET, "a.o"))
    assert function_of(proof, "arch_hook").state is State.MISMATCH


def test_undefined_weak_symbol_is_zero() -> None:
    obj = build(function("f", MOV + RET, reloc(3, "maybe", 0, "32S")), symbols=[symbol("maybe", bind="weak")])
    linked = link(obj)
    assert states(prove_linked(linked, obj)) == {"f": State.PROVEN}
    linked.image.change(linked.addresses[0, "f"] + 3, b"\1")
    assert states(prove_linked(linked, obj)) == {"f": State.MISMATCH}


def test_function_that_the_image_does_not_have() -> None:
    linked = link(build(function("f", RET)))
    proof = prove_linked(linked, build(function("f", RET), function("brand_new", b"\x90" + RET)))
    assert states(proof) == {"f": State.PROVEN, "brand_new": State.NOT_IN_IMAGE}
    assert any("brand_new" in cause for cause in proof.causes)


def test_function_that_only_the_image_has_shows_another_source() -> None:
    def source(*names: str, code: bytes) -> ObjectFile:
        return build(*(function(name, code if name == "b" else b"\x90" + RET) for name in names))

    linked = link(source("a", "b", "gone", "c", code=b"\x31\xc0" + RET))
    proof = prove_linked(linked, source("a", "b", "c", code=b"\x31\xd2" + RET))
    assert function_of(proof, "b").state is State.MISMATCH
    assert any("the image has gone between this object's functions" in cause for cause in proof.causes)


def test_contradicting_references_are_mismatches() -> None:
    def source() -> ObjectFile:
        return build(
            reader("one", ".bss.state", tail=b"\x90" + RET),
            reader("two", ".bss.state", tail=b"\x90\x90" + RET),
            reader("three", ".bss.state", tail=b"\x90\x90\x90" + RET),
            variable("state", size=8),
        )

    linked = link(source(), build(variable("state", size=8)))
    other = linked.addresses[1, "state"]
    at = linked.addresses[0, "two"] + 2
    linked.image.change(at, struct.pack("<i", other - at - 4))
    proof = prove_linked(linked, source())
    assert states(proof) == {"one": State.PROVEN, "two": State.MISMATCH, "three": State.PROVEN}
    assert proof.addresses["state"] == linked.addresses[0, "state"]


def test_variable_with_another_content_has_no_address() -> None:
    def source(content: bytes) -> ObjectFile:
        return build(reader("f", ".data.limit"), variable("limit", content))

    linked = link(source(b"\1\0\0\0\0\0\0\0"))
    proof = prove_linked(linked, source(b"\2\0\0\0\0\0\0\0"))
    assert states(proof) == {"f": State.PROVEN}
    assert "limit" not in proof.addresses
    assert proof.problems and "limit" in proof.problems[0]


def test_binding_must_be_the_same() -> None:
    linked = link(build(function("f", RET)))
    proof = prove_linked(linked, build(function("f", RET, bind="local")))
    assert states(proof) == {"f": State.MISMATCH}
    assert "another binding" in proof.text()


def test_references_that_cannot_be_checked_are_not_proven() -> None:
    obj = build(function("f", LOAD + RET, reloc(2, "g", -4, "GOTPCREL")), function("g", b"\x90" + RET))
    linked = link(obj)
    wrong = function_of(prove_linked(linked, obj), "f")
    assert wrong.state is State.MISMATCH
    assert wrong.difference is not None and "cannot be checked" in wrong.difference.theirs


def jumps(short: bool, *, sections: bool) -> ObjectFile:
    """`to` jumps to `target`, with the short encoding that an assembler uses within one section."""
    if sections:
        code = function("to", b"\x85\xff\xe9\0\0\0\0", reloc(3, "target", -4, "PLT32"))
        return build(
            function("target", b"\x31\xc0" + RET), code, reader("uses", ".bss.v"), variable("v", size=8)
        )
    jump = b"\xeb\xec" if short else b"\xe9\0\0\0\0"
    text = (b"\x31\xc0" + RET).ljust(16, b"\x90") + (b"\x85\xff" + jump).ljust(16, b"\x90")
    return build(
        section(".text", text + LOAD + RET, reloc(34, ".bss", -4), align=16),
        section(".bss", size=8, align=8),
        symbols=[
            symbol("target", ".text", 0, 3, type="func"),
            symbol("to", ".text", 16, 4, type="func"),
            symbol("uses", ".text", 32, 7, type="func"),
            symbol("v", ".bss", 0, 8, type="object", bind="local"),
        ],
    )


def test_plain_object_proves_what_differs_in_the_encoding_of_jumps() -> None:
    plain = jumps(True, sections=False)
    linked = link(OTHER, plain)
    split = jumps(True, sections=True)
    alone = prove(split, linked.image, linked.names)
    assert function_of(alone, "to").state is State.MISMATCH
    assert "-ffunction-sections" in alone.text()
    asked = []

    def make() -> ObjectFile:
        asked.append(1)
        return plain

    proof = prove(split, linked.image, linked.names, plain=make)
    assert set(states(proof).values()) == {State.PROVEN}
    to = function_of(proof, "to")
    assert to.plain and to.size == 4 and to.section == ".text.to"
    assert not function_of(proof, "target").plain
    assert asked == [1]
    assert prove(split, linked.image, linked.names, plain=plain) == proof


def test_plain_object_is_not_made_when_it_is_not_needed() -> None:
    def never() -> ObjectFile:
        raise AssertionError("not needed")

    linked = link(ORDINARY)
    assert set(states(prove(ORDINARY, linked.image, linked.names, plain=never)).values()) == {State.PROVEN}


def test_plain_object_does_not_prove_other_code() -> None:
    linked = link(OTHER, jumps(True, sections=False))
    at = linked.addresses[1, "to"]
    linked.image.change(at, b"\x84")
    proof = prove(jumps(True, sections=True), linked.image, linked.names, plain=jumps(True, sections=False))
    assert function_of(proof, "to").state is State.MISMATCH


def test_proof_survives_json_and_reads_well() -> None:
    linked = link(ORDINARY, OTHER)
    linked.image.change(linked.addresses[0, "indirect"], b"\xcc")
    proof = prove_linked(linked, ORDINARY)
    assert Proof.from_json(json.loads(json.dumps(proof.to_json()))) == proof
    first, *rest = proof.text().splitlines()
    assert first == "test.o: 8 functions: 7 proven, 1 mismatch"
    assert any(line.startswith("  indirect: mismatch at 0x") for line in rest)
    with pytest.raises(ValueError, match="proof format 99"):
        Proof.from_json({**proof.to_json(), "format": 99})


def test_other_processors_are_refused_by_name() -> None:
    obj = build(section(".text", bytes(4)), machine=elf.EM_AARCH64)
    linked = link(ORDINARY)
    with pytest.raises(UserError, match="relocations of arm64"):
        prove(obj, linked.image, linked.names)


def test_thousand_functions_take_well_under_a_second() -> None:
    names = [f"function_{number}" for number in range(1000)]
    sections = [
        function(
            name,
            (CALL + LOAD) * 20 + RET,
            *(
                one
                for k in range(20)
                for one in (
                    reloc(11 * k + 1, names[(number + k) % 1000], -4, "PLT32"),
                    reloc(11 * k + 7, f".bss.v{(number * k) % 300}", -4),
                )
            ),
        )
        for number, name in enumerate(names)
    ]
    obj = build(*sections, *(variable(f"v{number}", size=8) for number in range(300)))
    linked = link(obj)
    start = time.perf_counter()
    proof = prove_linked(linked, obj)
    assert time.perf_counter() - start < 2, "aim: 0.5 s"
    assert set(states(proof).values()) == {State.PROVEN}
    assert proof.addresses["v7"] == linked.addresses[0, "v7"] > TEXT
