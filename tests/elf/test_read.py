# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import os
import random
import shutil
import struct
import time
from dataclasses import replace
from pathlib import Path

import pytest

from kbuild_py.elf import constants as elf
from kbuild_py.elf.arch import relocation_name
from kbuild_py.elf.object import SHN_ABS, SHN_COMMON, ObjectFile, Relocation, Section, Symbol
from kbuild_py.elf.read import MAX_FILE, parse_object, read_object
from kbuild_py.elf.write import write_object
from kbuild_py.errors import UserError
from kbuild_py.run import run
from tests.elf.builder import build, function, reloc, section, section_named, symbol, symbol_named, variable
from tests.elf.readelf import listing, needs_readelf

CALLER = build(
    function("caller", b"\xe8\0\0\0\0\xc3", reloc(1, "callee", -4, "PLT32")),
    variable("counter", size=8),
    section(".rodata.str1.1", b"hello\0world\0"),
    section(".note.GNU-stack"),
    section(".debug_info", bytes(16), reloc(4, ".rodata.str1.1", 6, "32")),
    symbols=[symbol("limit", "abs", 7), symbol("shared", "common", 16, 32, type="object")],
)

C_SOURCE = r"""
static int counter;
int shared = 3;
extern int elsewhere(const char *, int *);
__attribute__((weak)) int maybe(void) { return counter++; }
static __attribute__((noinline)) int helper(int x) { static int calls; return x * 3 + calls++; }
int entry(int x) { return elsewhere("some text", &shared) + helper(x) + maybe(); }
int (*table[])(int) = { helper, entry };
"""


def compile_c(folder: Path, source: str, *flags: str) -> Path:
    """Compile a C text to an object, or skip the test where no compiler is."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    (folder / "x.c").write_text(source)
    run(["gcc", "-O2", *flags, "-c", "-o", "x.o", "x.c"], cwd=folder)
    return folder / "x.o"


def refusal(data: bytes) -> str:
    with pytest.raises(UserError) as caught:
        parse_object(data, "bad.o")
    text = str(caught.value)
    assert text.startswith("bad.o")
    return text


def test_what_was_written_is_read_back() -> None:
    assert parse_object(write_object(CALLER), "test.o") == CALLER


def test_fields_have_the_meaning_that_object_py_gives_them() -> None:
    obj = parse_object(write_object(CALLER), "test.o")
    text = section_named(obj, ".text.caller")
    callee = symbol_named(obj, "callee")
    assert text.flags == elf.SHF_ALLOC | elf.SHF_EXECINSTR and text.align == 16
    assert text.relocations == (Relocation(1, 4, callee.index, -4),)
    assert callee.section == 0 and callee.bind == elf.STB_GLOBAL
    assert symbol_named(obj, "limit").section == SHN_ABS
    assert symbol_named(obj, "shared").section == SHN_COMMON
    bss = section_named(obj, ".bss.counter")
    assert (bss.size, bss.data) == (8, b"")
    assert symbol_named(obj, "counter").section == bss.index


@needs_readelf
@pytest.mark.parametrize(
    "flags", [(), ("-g",), ("-ffunction-sections", "-fdata-sections", "-mcmodel=kernel", "-fno-pie")]
)
def test_compiled_object_agrees_with_readelf(tmp_path: Path, flags: tuple[str, ...]) -> None:
    path = compile_c(tmp_path, C_SOURCE, *flags)
    assert_agrees_with_readelf(read_object(path), path)


@needs_readelf
def test_written_object_agrees_with_readelf(tmp_path: Path) -> None:
    path = tmp_path / "test.o"
    path.write_bytes(write_object(CALLER))
    assert_agrees_with_readelf(CALLER, path)


def assert_agrees_with_readelf(obj: ObjectFile, path: Path) -> None:
    seen = listing(path)
    assert seen.complaints == ""
    assert len(seen.sections) == len(obj.sections)
    for index, name, size, align in seen.sections:
        mine = obj.sections[index]
        if mine.type != elf.SHT_NULL:
            # A group is listed with the relocation tables of its members.
            assert (mine.name, mine.align) == (name, align)
            assert mine.size == size or mine.type == elf.SHT_GROUP
    assert len(seen.symbols) == len(obj.symbols)
    special = {0: "UND", SHN_ABS: "ABS", SHN_COMMON: "COM"}
    for index, value, size, where, name in seen.symbols:
        one = obj.symbols[index]
        shown = obj.sections[one.section].name if one.type == elf.STT_SECTION else one.name
        assert (one.value, one.size, special.get(one.section, str(one.section)), shown) == (
            value,
            size,
            where,
            name,
        )
    mine_tables = {f".rela{one.name}": one.relocations for one in obj.sections if one.relocations}
    assert mine_tables.keys() == dict(seen.relocations).keys()
    for name, rows in seen.relocations:
        mine_rows = [(r.offset, relocation_name(obj.machine, r.type), r.symbol) for r in mine_tables[name]]
        # readelf -W cuts long names of relocation types.
        assert [(a, b[:17], c) for a, b, c in mine_rows] == [(a, b[:17], c) for a, b, c in rows]


def test_big_endian() -> None:
    obj = build(
        section(".text", bytes(8), reloc(2, "callee", -2, 4)), machine=elf.EM_S390, big_endian=True, flags=5
    )
    again = parse_object(write_object(obj), "test.o")
    assert again == obj
    assert again.big_endian and again.flags == 5 and again.machine == elf.EM_S390


def test_files_of_clang_linked_into_one(tmp_path: Path) -> None:
    """The linker leaves a section symbol for the list of significant addresses, which is not kept."""
    if shutil.which("clang") is None:
        pytest.skip("clang is not installed")
    for name in ("a", "b"):
        (tmp_path / f"{name}.c").write_text(f"int {name}(int *x) {{ return *x; }}\n")
        run(["clang", "-O2", "-c", "-ffunction-sections", "-faddrsig", f"{name}.c"], cwd=tmp_path)
    run(["ld", "-r", "-o", "ab.o", "a.o", "b.o"], cwd=tmp_path)
    assert ".llvm_addrsig" in run(["readelf", "-sW", "ab.o"], cwd=tmp_path).stdout
    obj = read_object(tmp_path / "ab.o")
    assert {"a", "b"} <= {one.name for one in obj.symbols if one.section > 0}
    assert parse_object(write_object(obj), obj.path).symbols == obj.symbols


def test_section_group_lists_real_sections(tmp_path: Path) -> None:
    source = (
        "inline int twice(int x) { extern int f(int); return f(x) + f(x); }\nint main() { return twice(2); }"
    )
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    (tmp_path / "x.cc").write_text(source)
    run(["g++", "-O0", "-c", "-o", "x.o", "x.cc"], cwd=tmp_path)
    obj = read_object(tmp_path / "x.o")
    (group,) = (one for one in obj.sections if one.type == elf.SHT_GROUP)
    flag, *members = struct.unpack(f"<{len(group.data) // 4}I", group.data)
    assert flag == elf.GRP_COMDAT
    assert [obj.sections[member].name for member in members] == [".text._Z5twicei"]
    assert obj.symbols[group.info].name == "_Z5twicei"


def test_more_sections_than_16_bits_count() -> None:
    many = [section(f".text.f{index}", b"\xc3") for index in range(65_600)]
    last = symbol("last", ".text.f65599", 0, 1, type="func")
    obj = build(*many, section(".data.p", bytes(8), reloc(0, "last", 0, "64")), symbols=[last])
    data = write_object(obj)
    assert struct.unpack_from("<H", data, 60)[0] == 0, "e_shnum"
    again = parse_object(data, "test.o")
    assert again == obj
    assert again.sections[symbol_named(again, "last").section].name == ".text.f65599"


def test_a_section_numbered_like_shn_abs_is_a_section() -> None:
    many = [section(f".data.v{index}", b"x") for index in range(0xFFF3)]
    names = [symbol("at_abs", ".data.v65520", 0, 1), symbol("absolute", "abs", 1)]
    obj = parse_object(write_object(build(*many, symbols=names)), "test.o")
    assert symbol_named(obj, "at_abs").section == 0xFFF1
    assert symbol_named(obj, "absolute").section == SHN_ABS


def test_unreadable_path(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read: No such file"):
        read_object(tmp_path / "missing.o")
    with pytest.raises(UserError, match="cannot read: Is a directory"):
        read_object(tmp_path)


def test_what_has_no_end_is_not_read_to_its_end() -> None:
    with pytest.raises(UserError, match="not an ELF file"):
        read_object(Path("/dev/zero"))


def test_a_file_of_more_than_any_object_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.o"
    path.write_bytes(write_object(CALLER))
    os.truncate(path, MAX_FILE + 1)
    with pytest.raises(UserError, match="more than 1073741824 bytes"):
        read_object(path)


def test_an_object_without_machine_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no machine code"):
        read_object(compile_c(tmp_path, C_SOURCE, "-flto", "-fno-fat-lto-objects"))
    fat = read_object(compile_c(tmp_path, C_SOURCE, "-flto", "-ffat-lto-objects"))
    assert symbol_named(fat, "entry").size > 0
    old = build(section(".text"), symbols=[symbol("__gnu_lto_slim", "common", 1, 1, type="object")])
    assert "no machine code" in refusal(write_object(old))


@pytest.mark.parametrize("how", ["zlib", "zlib-gnu"])
def test_compressed_debug_sections_are_read(how: str, tmp_path: Path) -> None:
    obj = read_object(compile_c(tmp_path, C_SOURCE, "-g", f"-gz={how}"))
    assert any(section.name in (".debug_info", ".zdebug_info") for section in obj.sections)


def test_the_byte_order_must_be_the_processors() -> None:
    obj = build(section(".text", bytes(8)), machine=elf.EM_PPC64, big_endian=True)
    assert "big-endian objects for powerpc64 are not supported" in refusal(write_object(obj))


def patched(offset: int, layout: str, value: int) -> bytes:
    data = bytearray(write_object(CALLER))
    struct.pack_into(layout, data, offset, value)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "the file is empty"),
        (b"int main;", "not an ELF file"),
        (b"\x7fELF", "header is truncated"),
        (b"!<arch>\nfoo", "archive"),
        (b"BC\xc0\xde", "bitcode"),
        (b"\x1f\x8b\x08", "compressed (gzip)"),
        (b"\xfd7zXZ\0", "compressed (xz)"),
        (b"\x28\xb5\x2f\xfd", "compressed (zstd)"),
        (patched(4, "B", 1), "a 32-bit object"),
        (patched(4, "B", 9), "class 9"),
        (patched(5, "B", 3), "byte order 3"),
        (patched(5, "B", 2), "its byte order is not the one that it names"),
        (patched(6, "B", 0), "version 0"),
        (patched(7, "B", 97), "OS ABI 97"),
        (patched(16, "<H", 2), "an executable"),
        (patched(16, "<H", 3), "a shared library or a position-independent executable"),
        (patched(16, "<H", 77), "ELF type 77"),
        (patched(18, "<H", 3), "machine 3"),
        (patched(40, "<Q", 0), "no sections"),
        (patched(40, "<Q", 1 << 60), "lie outside of the file"),
        (patched(58, "<H", 40), "40 bytes instead of 64"),
        (patched(60, "<H", 60000), "60000 section headers"),
        (patched(62, "<H", 200), "section 200 of"),
        (patched(62, "<H", 1), "has no section names"),
    ],
)
def test_damaged_header_is_named(data: bytes, cause: str) -> None:
    assert cause in refusal(data)


def with_table(section_name: str, **fields: int) -> bytes:
    """CALLER's bytes with fields of one section header overwritten."""
    at = {"name": (0, "<I"), "type": (4, "<I"), "offset": (24, "<Q"), "size": (32, "<Q"), "link": (40, "<I")}
    at |= {"info": (44, "<I"), "align": (48, "<Q"), "entsize": (56, "<Q")}
    data = bytearray(write_object(CALLER))
    start = header_offset(data, section_name)
    for field, value in fields.items():
        struct.pack_into(at[field][1], data, start + at[field][0], value)
    return bytes(data)


def header_offset(data: bytearray, name: str) -> int:
    (start,) = struct.unpack_from("<Q", data, 40)
    count, names = struct.unpack_from("<HH", data, 60)
    (strings,) = struct.unpack_from("<Q", data, start + names * 64 + 24)
    for index in range(count):
        offset = strings + struct.unpack_from("<I", data, start + index * 64)[0]
        if data[offset : data.index(0, offset)] == name.encode():
            return int(start + index * 64)
    raise AssertionError(name)


@pytest.mark.parametrize(
    ("name", "fields", "cause"),
    [
        (".text.caller", {"size": 1 << 40}, "lies outside of the file"),
        (".text.caller", {"type": elf.SHT_NOBITS}, "instructions without bytes"),
        (".text.caller", {"offset": 1 << 63}, "lies outside of the file"),
        (".text.caller", {"name": 1 << 30}, "no name ends"),
        (".text.caller", {"align": 3}, "not a power of two"),
        (".text.caller", {"size": 3}, "relocation lies outside of its section"),
        (".text.caller", {"type": 8}, "section without bytes"),
        (".text.caller", {"type": 9}, "SHT_REL"),
        (".rela.text.caller", {"info": 500}, "apply to section 500"),
        (".rela.text.caller", {"link": 1}, "symbol table (section 1) does not exist"),
        (".rela.text.caller", {"entsize": 16}, "expected entries of 24"),
        (".rela.text.caller", {"size": 25}, "expected entries of 24"),
        (".symtab", {"entsize": 0}, "expected entries of 24"),
        (".symtab", {"link": 300}, "symbol table's names (section 300"),
        (".symtab", {"size": 48}, "names symbol"),
        (".symtab", {"type": 1}, "symbol table (section"),
        (".strtab", {"size": 3}, "no name ends"),
        (".debug_info", {"offset": 0, "size": 1000}, "the sections overlap"),
    ],
)
def test_damaged_section_header_is_named(name: str, fields: dict[str, int], cause: str) -> None:
    assert cause in refusal(with_table(name, **fields))


def table_offset(data: bytearray, name: str) -> int:
    return int(struct.unpack_from("<Q", data, header_offset(data, name) + 24)[0])


@pytest.mark.parametrize(
    ("table", "offset", "layout", "value", "cause"),
    [
        (".rela.text.caller", 12, "<I", 9999, "relocation names symbol 9999"),
        (".rela.text.caller", 8, "<I", 200, "relocation type 200 does not exist on x86_64"),
        (".rela.text.caller", 0, "<Q", 3, "relocation lies outside"),
        (".rela.text.caller", 0, "<Q", 1 << 63, "relocation lies outside"),
        (".symtab", 24 + 0, "<I", 1 << 20, "no name ends"),
        (".symtab", 48 + 6, "<H", 0xFE00, "is in section 65024"),
        (".symtab", 48 + 6, "<H", 0xFFFF, "no entry in the table of extended"),
        (".strtab", 1, "B", 0xFF, "not UTF-8"),
    ],
)
def test_damaged_table_entry_is_named(table: str, offset: int, layout: str, value: int, cause: str) -> None:
    data = bytearray(write_object(CALLER))
    struct.pack_into(layout, data, table_offset(data, table) + offset, value)
    assert cause in refusal(bytes(data))


def test_a_symbol_that_ends_outside_of_its_section_is_named() -> None:
    data = write_object(CALLER)
    index = symbol_named(CALLER, "caller").index
    broken = bytearray(data)
    struct.pack_into("<Q", broken, table_offset(broken, ".symtab") + index * 24 + 16, 1 << 50)
    assert "symbol 'caller'" in refusal(bytes(broken))


def test_every_truncation_is_refused() -> None:
    data = write_object(CALLER)
    for length in range(len(data)):
        refusal(data[:length])


def test_mutations_are_read_or_refused_but_never_crash() -> None:
    seed = random.Random(20140722)
    data = write_object(CALLER)
    for _ in range(4000):
        broken = bytearray(data)
        for _ in range(seed.choice((1, 1, 1, 2, 4, 16))):
            at = seed.randrange(len(broken))
            if seed.random() < 0.5:
                broken[at] ^= 1 << seed.randrange(8)
            else:
                broken[at : at + 8] = seed.choice((0, 1, 0xFF, 1 << 31, 1 << 32, (1 << 64) - 1)).to_bytes(
                    8, "little"
                )
        try:
            obj = parse_object(bytes(broken), "bad.o")
        except UserError:
            continue
        assert parse_object(write_object(obj), "bad.o") is not None


def test_a_million_claimed_names_do_not_fill_memory() -> None:
    """Many symbols that share the tail of one long string would be a copy of it each."""
    strings = b"\0" + b"a" * 100_000 + b"\0"
    rows = bytes(24) + b"".join(struct.pack("<IBBHQQ", 1 + index, 0, 0, 0, 0, 0) for index in range(1000))
    data = bytearray(write_object(CALLER))
    at = header_offset(data, ".symtab"), header_offset(data, ".strtab")
    for header, content in zip(at, (rows, strings), strict=True):
        struct.pack_into("<QQ", data, header + 24, len(data), len(content))
        data += content
    assert "no name ends within 4096 bytes" in refusal(bytes(data))


def test_large_object_is_fast() -> None:
    sections = [Section(0, "", 0, 0, b"", 0, 0)]
    symbols = [Symbol(0, "", 0, 0, 0, 0, 0, 0)]
    for index in range(1, 2001):
        relocations = tuple(Relocation(8 * k, 2, 1 + (index * 7 + k) % 10_000, -4) for k in range(10))
        sections.append(
            Section(index, f".text.function_{index}", 1, 6, bytes(250), 250, 16, relocations=relocations)
        )
    for index in range(1, 10_001):
        symbols.append(Symbol(index, f"symbol_number_{index}", 0, 8, 2, 1, 0, 1 + index % 2000))
    data = write_object(ObjectFile("big.o", 62, 0, False, tuple(sections), tuple(symbols)))
    best = min(_timed(data) for _ in range(3))
    assert best < 0.3, "aim: 0.1 s; three times that for a busy machine"


def _timed(data: bytes) -> float:
    start = time.perf_counter()
    parse_object(data, "big.o")
    return time.perf_counter() - start


def test_missing_symbol_table_is_an_object_without_symbols() -> None:
    data = write_object(build(section(".data", b"x"), source=None))
    obj = parse_object(data, "test.o")
    assert len(obj.symbols) == 1
    assert replace(obj, path="") == replace(parse_object(data, "other.o"), path="")
