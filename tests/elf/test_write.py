# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbuild_py.elf import constants as elf
from kbuild_py.elf.arch import ARCHITECTURES
from kbuild_py.elf.object import NULL_SECTION, NULL_SYMBOL, SHN_ABS, ObjectFile, Relocation, Section, Symbol
from kbuild_py.elf.read import parse_object, read_object
from kbuild_py.elf.write import normalise, write_object
from kbuild_py.errors import UserError
from kbuild_py.run import run
from tests.elf.builder import build, function, reloc, section, section_named, symbol, symbol_named, variable
from tests.elf.readelf import listing, needs_ld, needs_readelf
from tests.elf.test_read import C_SOURCE, compile_c


def shuffled() -> ObjectFile:
    """Globals before locals, a placeholder in the middle, a section group."""
    code, data = elf.SHF_ALLOC | elf.SHF_EXECINSTR, elf.SHF_ALLOC | elf.SHF_WRITE
    sections = (
        NULL_SECTION,
        Section(1, ".group", elf.SHT_GROUP, 0, struct.pack("<3I", elf.GRP_COMDAT, 3, 4), 12, 4, 4, 0, 1),
        replace(NULL_SECTION, index=2),
        Section(
            3,
            ".text.f",
            1,
            code | elf.SHF_GROUP,
            b"\xe8\0\0\0\0",
            5,
            16,
            relocations=(Relocation(1, 4, 3, -4),),
        ),
        Section(4, ".data.v", 1, data | elf.SHF_GROUP, bytes(8), 8, 8),
        Section(5, "__patchable", 1, elf.SHF_ALLOC | elf.SHF_LINK_ORDER, b"", 0, 8, link=3),
    )
    symbols = (
        NULL_SYMBOL,
        Symbol(1, "f", 0, 5, elf.STT_FUNC, elf.STB_GLOBAL, 0, 3),
        Symbol(2, "v", 0, 8, elf.STT_OBJECT, elf.STB_LOCAL, 0, 4),
        Symbol(3, "callee", 0, 0, 0, elf.STB_WEAK, 0, 0),
        Symbol(4, "x.c", 0, 0, elf.STT_FILE, elf.STB_LOCAL, 0, SHN_ABS),
    )
    return ObjectFile("x.o", elf.EM_X86_64, 0, False, sections, symbols)


def test_locals_come_first_and_references_follow() -> None:
    obj = parse_object(write_object(shuffled()), "x.o")
    assert [one.name for one in obj.symbols] == ["", "v", "x.c", "f", "callee"]
    text = section_named(obj, ".text.f")
    assert obj.symbols[text.relocations[0].symbol].name == "callee"
    group = section_named(obj, ".group")
    assert obj.symbols[group.info].name == "f"
    assert [obj.sections[one].name for one in struct.unpack("<3I", group.data)[1:]] == [".text.f", ".data.v"]
    assert section_named(obj, "__patchable").link == text.index
    assert obj == normalise(shuffled())


@needs_readelf
def test_table_of_locals_ends_where_sh_info_says(tmp_path: Path) -> None:
    path = tmp_path / "x.o"
    path.write_bytes(write_object(shuffled()))
    assert listing(path).complaints == ""
    printed = run(["readelf", "-aW", path]).stdout
    (line,) = (line for line in printed.splitlines() if " .symtab " in line)
    assert line.split()[-2] == "3"
    assert "COMDAT group section [    1] `.group' [f] contains 3 sections" in printed


def test_normalise_is_idempotent_and_writing_deterministic() -> None:
    once = normalise(shuffled())
    assert normalise(once) == once
    assert (
        write_object(shuffled())
        == write_object(once)
        == write_object(parse_object(write_object(once), "x.o"))
    )


@needs_ld
def test_ld_links_what_was_written(tmp_path: Path) -> None:
    first = build(
        function("caller", b"\xe8\0\0\0\0\xc3", reloc(1, "callee", -4, "PLT32")),
        section(".note.GNU-stack"),
        path="a.o",
    )
    second = build(
        function("callee", b"\x8b\x05\0\0\0\0\xc3", reloc(2, "counter", -4)),
        variable("counter", size=4),
        section(".note.GNU-stack"),
        path="b.o",
    )
    for obj in (first, second):
        (tmp_path / obj.path).write_bytes(write_object(obj))
    result = run(["ld", "-r", "-o", "out.o", "a.o", "b.o"], cwd=tmp_path)
    assert result.stderr == ""
    linked = read_object(tmp_path / "out.o")
    assert symbol_named(linked, "callee").section == section_named(linked, ".text.callee").index
    text = section_named(linked, ".text.caller")
    assert linked.symbols[text.relocations[0].symbol].name == "callee"
    result = run(["ld", "-e", "caller", "-o", "out", "a.o", "b.o"], cwd=tmp_path)
    assert result.stderr == ""


@needs_readelf
@needs_ld
def test_more_sections_than_16_bits_count_are_read_by_others(tmp_path: Path) -> None:
    many = [section(f".text.f{index}", b"\xc3") for index in range(65_300)]
    last = symbol("last", ".text.f65299", 0, 1, type="func")
    (tmp_path / "x.o").write_bytes(write_object(build(*many, symbols=[last])))
    printed = run(["readelf", "-hsW", "x.o"], cwd=tmp_path)
    assert printed.stderr == ""
    assert "last" in printed.stdout
    result = run(["ld", "-r", "--unique=.nothing", "-o", "out.o", "x.o"], cwd=tmp_path)
    assert result.stderr == ""


@pytest.mark.parametrize("flags", [(), ("-g3",), ("-ffunction-sections", "-fdata-sections")])
def test_compiled_object_comes_back_the_same(tmp_path: Path, flags: tuple[str, ...]) -> None:
    obj = read_object(compile_c(tmp_path, C_SOURCE, *flags))
    assert parse_object(write_object(obj), obj.path) == obj == normalise(obj)


def test_inconsistent_objects_are_refused() -> None:
    obj = build(function("f", b"\xc3"), variable("v", bytes(8)))
    text = section_named(obj, ".text.f")
    dangling = replace(text, relocations=(Relocation(0, 2, 1, 0), Relocation(0, 10, 99, 0)))
    sections = tuple(dangling if one is text else one for one in obj.sections)
    with pytest.raises(UserError) as caught:
        write_object(replace(obj, sections=sections))
    assert "outside of its section" in str(caught.value)
    assert "names symbol 99" in str(caught.value)
    with pytest.raises(UserError, match="index"):
        write_object(replace(obj, sections=obj.sections[:1] + obj.sections[2:]))
    nowhere = replace(symbol_named(obj, "f"), section=len(obj.sections) - 1)
    symbols = tuple(nowhere if one.name == "f" else one for one in obj.symbols)
    with pytest.raises(UserError, match="a table"):
        write_object(replace(obj, symbols=symbols))


NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=0x17F), min_size=1, max_size=12)


@st.composite
def objects(draw: st.DrawFn) -> ObjectFile:
    """Any consistent object of moderate size."""
    machine = draw(st.sampled_from(sorted(ARCHITECTURES)))
    big = machine == elf.EM_S390
    count = draw(st.integers(0, 6))
    symbol_count = draw(st.integers(0, 8))
    sections = [NULL_SECTION]
    for index in range(1, count + 1):
        nobits = draw(st.booleans())
        content = b"" if nobits else draw(st.binary(max_size=40))
        relocations: tuple[Relocation, ...] = ()
        if not nobits and len(content) >= 8:
            relocations = tuple(
                Relocation(
                    draw(st.integers(0, len(content) - 8)),
                    draw(st.sampled_from((1, 2, 10))),
                    draw(st.integers(0, symbol_count)),
                    draw(st.integers(-(2**63), 2**63 - 1)),
                )
                for _ in range(draw(st.integers(0, 4)))
            )
        sections.append(
            Section(
                index,
                draw(NAMES),
                elf.SHT_NOBITS if nobits else elf.SHT_PROGBITS,
                draw(st.sampled_from((0, 2, 3, 0x32) if nobits else (0, 2, 3, 6, 0x32))),
                content,
                draw(st.integers(0, 2**50)) if nobits else len(content),
                2 ** draw(st.integers(0, 13)),
                draw(st.sampled_from((0, 1, 8))),
                0,
                0,
                relocations,
            )
        )
    symbols = [NULL_SYMBOL]
    for index in range(1, symbol_count + 1):
        where = draw(st.sampled_from([*range(count + 1), SHN_ABS]))
        limit = sections[where].size if where > 0 else 2**63
        value = draw(st.integers(0, limit))
        size = draw(st.integers(0, limit - value))
        bind = draw(st.sampled_from((0, 1, 2)))
        symbols.append(
            Symbol(
                index,
                draw(NAMES),
                value,
                size,
                draw(st.integers(0, 10)),
                bind,
                draw(st.integers(0, 3)),
                where,
            )
        )
    return ObjectFile("any.o", machine, draw(st.integers(0, 2**32 - 1)), big, tuple(sections), tuple(symbols))


@settings(max_examples=300, deadline=None)
@given(objects())
def test_any_object_comes_back(obj: ObjectFile) -> None:
    written = write_object(obj)
    again = parse_object(written, "any.o")
    assert again == normalise(obj)
    assert write_object(again) == written
